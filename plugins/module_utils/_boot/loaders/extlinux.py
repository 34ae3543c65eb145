# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: extlinux as Alpine configures it. update-extlinux sources a file of shell
# variables and writes entries of the form APPEND xen.gz OPTIONS --- vmlinuz OPTIONS --- initramfs (its script, 6.04).

from __future__ import annotations

import os
import re
from typing import Dict, List, Mapping, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders.shell import Sourced, Variables
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import ENCODING, HYPERVISOR, Tree
from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.files import Change
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner

MAIN = "/etc/update-extlinux.conf"
PROGRAM = "update-extlinux"
OUTPUTS = ("/boot/extlinux.conf", "/boot/extlinux/extlinux.conf")

VARIABLES = Variables(names=("xen_opts",), main=MAIN)

_LABEL = re.compile(r"^\s*label\s+(?P<name>\S+)", re.IGNORECASE)
_DEFAULT = re.compile(r"^\s*(?:default|ontimeout)\s+(?P<name>\S+)", re.IGNORECASE)
_MENU_DEFAULT = re.compile(r"^\s*menu\s+default\s*$", re.IGNORECASE)
_APPEND = re.compile(r"^\s*append\s+(?P<image>\S+)(?P<options>.*)$", re.IGNORECASE)


def hypervisor_line(extlinux_conf: str) -> Optional[str]:
    """Return the options of the default entry if it boots a hypervisor, else of the first that does."""
    entries: List[Tuple[str, str]] = []
    label, default = "", ""
    for line in extlinux_conf.splitlines():
        named, chosen, append = _LABEL.match(line), _DEFAULT.match(line), _APPEND.match(line)
        if named:
            label = named["name"]
        elif _MENU_DEFAULT.match(line):
            default = label
        elif chosen and not default:
            default = chosen["name"]
        elif append and HYPERVISOR.match(os.path.basename(append["image"])):
            entries.append((label, append["options"].partition("---")[0].strip()))
    preferred = [options for name, options in entries if name == default]
    return next((options for options in preferred + [options for _name, options in entries]), None)


class Extlinux:
    """extlinux with update-extlinux.

    :param run: runs a command without a shell.
    :param root: where the files are found.
    :param foreign: whether that is another tree than this host's, of which nothing may be run.
    """

    name = "extlinux"
    generates = True
    first_option: Optional[str] = None
    cannot_boot_once: Optional[str] = (
        "Only extlinux --once selects an entry for one boot, and update-extlinux writes the same options into every "
        "entry."
    )

    def __init__(self, run: Runner, *, root: str = "/", foreign: bool = False) -> None:
        self._tree = Tree(root, foreign=foreign)
        self._files = Sourced(VARIABLES, self._tree, run)

    def present(self) -> bool:
        return self._tree.is_file(MAIN)

    def hypervisor_installed(self) -> bool:
        return self._tree.has_hypervisor()

    def read(self) -> Dict[str, bytes]:
        return self._tree.contents([MAIN])

    def plan(self, sources: Mapping[str, bytes], name: str, option: Optional[str]) -> List[Change]:
        return self._files.plan(sources, name, option)

    def configured(self, sources: Mapping[str, bytes]) -> str:
        return self._files.configured(sources)

    def effective(self) -> Optional[str]:
        output = next((path for path in OUTPUTS if self._tree.is_file(path)), None)
        content = self._tree.read(output) if output else None
        line = None if content is None else hypervisor_line(content.decode(ENCODING))
        return None if line is None else " ".join(command_line.configured_options(line))

    def generator(self) -> List[str]:
        """:raises UserError: it is not installed."""
        if self._tree.program(PROGRAM) is None:
            raise UserError(
                f"The program {PROGRAM} is not installed on this host.",
                f"Install {distributions.install_hint('update_extlinux', distributions.detect(self._tree.root))}, "
                "or set regenerate to false.",
            )
        return [PROGRAM]

    def unchecked(self, sources: Mapping[str, bytes]) -> List[str]:
        return [
            f"{MAIN} was parsed and not run by a shell.",
            f"extlinux.conf was not generated: run {PROGRAM} in the image.",
        ]
