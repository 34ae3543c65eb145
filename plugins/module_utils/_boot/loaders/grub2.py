# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: GRUB 2, whose grub-mkconfig sources shell programs in /etc/default.

from __future__ import annotations

import os
from typing import Dict, List, Mapping, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line, grub
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders.shell import Sourced, Variables
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import ENCODING, HYPERVISOR, Tree
from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.files import Change
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner

MAIN = "/etc/default/grub"
DROP_IN_DIRECTORY = "/etc/default/grub.d"
DROP_IN = f"{DROP_IN_DIRECTORY}/zz-xen-stubdom.cfg"

VARIABLES = Variables(
    # Their order on the line, /etc/grub.d/20_linux_xen @ grub 2.06: recovery entries get the first one only.
    names=("GRUB_CMDLINE_XEN", "GRUB_CMDLINE_XEN_DEFAULT"),
    main=MAIN,
    drop_in=DROP_IN,
    # What grub-mkconfig has defined when it sources the files (grub-mkconfig_lib @ 2.06), without side effects.
    prelude=r"""
sysconfdir=/etc
grub_warn () { :; }
command -v gettext >/dev/null 2>&1 || gettext () { printf '%s' "$1"; }
gettext_quoted () { gettext "$@"; }
gettext_printf () { printf "$@"; }
""",
)


_MKCONFIG = ("grub-mkconfig", "grub2-mkconfig")

_BOOT_COMMANDS = ("multiboot", "multiboot2", "xen_hypervisor")


def hypervisor_line(grub_cfg: str) -> Optional[str]:
    """Return the options that the first entry for Xen passes to the hypervisor, None without such an entry.

    20_linux_xen writes the default entry first, then the same and its recovery entry in the submenu.
    """
    for line in grub_cfg.splitlines():
        fields = line.split()
        if len(fields) >= 2 and fields[0] in _BOOT_COMMANDS and HYPERVISOR.match(os.path.basename(fields[1])):
            return " ".join(command_line.configured_options(" ".join(fields[2:])))
    return None


class Grub2:
    """GRUB 2 with grub-mkconfig.

    :param run: runs a command without a shell.
    :param root: where the files are found.
    :param foreign: whether that is another tree than this host's, of which nothing may be run.
    """

    name = "grub2"
    generates = True
    # 20_linux_xen adds it, as older loaders took the first argument for the name of the image.
    first_option: Optional[str] = "placeholder"
    cannot_boot_once: Optional[str] = None

    def __init__(self, run: Runner, *, root: str = "/", foreign: bool = False) -> None:
        self._tree = Tree(root, foreign=foreign)
        self._files = Sourced(VARIABLES, self._tree, run)

    def present(self) -> bool:
        return self._tree.is_file(MAIN) or grub.layout(self._tree) is not None

    def hypervisor_installed(self) -> bool:
        return self._tree.has_hypervisor()

    def read(self) -> Dict[str, bytes]:
        # The shell sorts the names in its own locale; for names of plain letters and digits this is the same.
        drop_ins = self._tree.glob(f"{DROP_IN_DIRECTORY}/*.cfg") if self._drop_ins() else []
        return self._tree.contents([MAIN, *drop_ins])

    def plan(self, sources: Mapping[str, bytes], name: str, option: Optional[str]) -> List[Change]:
        return self._files.plan(sources, name, option, drop_ins=self._drop_ins())

    def configured(self, sources: Mapping[str, bytes]) -> str:
        return self._files.configured(sources)

    def effective(self) -> Optional[str]:
        output = self._output()
        content = self._tree.read(output) if output else None
        return None if content is None else hypervisor_line(content.decode(ENCODING))

    def generator(self) -> List[str]:
        """:raises UserError: it is not installed."""
        layout, output = grub.layout(self._tree), self._output()
        if layout is None or output is None:
            raise UserError(
                "Neither update-grub nor grub-mkconfig is installed on this host.",
                f"Install {distributions.install_hint('boot_loader')}, or set regenerate to false.",
            )
        return [layout.generator, "-o", output] if layout.names_output else [layout.generator]

    def unchecked(self, sources: Mapping[str, bytes]) -> List[str]:
        files = "GRUB's files were parsed and not run by a shell."
        if VARIABLES.read(sources) is None:
            files = "The result of GRUB's files was not checked: they are programs, and nothing of another tree is run."
        return [files, "GRUB's configuration was not generated: run update-grub or grub-mkconfig in the image."]

    def _drop_ins(self) -> bool:
        """Whether grub-mkconfig reads /etc/default/grub.d: Debian's does, the original does not."""
        if not self._tree.is_directory(DROP_IN_DIRECTORY):
            return False
        programs = (self._tree.program(name) for name in _MKCONFIG)
        program = next((found for found in programs if found), None)
        return program is None or b"default/grub.d" in (self._tree.read(program) or b"")

    def _output(self) -> Optional[str]:
        layout = grub.layout(self._tree)
        if layout is None:
            return None
        return next((path for path in layout.outputs if self._tree.is_file(path)), layout.outputs[0])
