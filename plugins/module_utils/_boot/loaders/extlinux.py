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
from ansible_collections.xen.stubdom.plugins.module_utils._boot.next_boot import NO_ENTRY, NextBoot, from_entries
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


def next_boot(path: str, extlinux_conf: str) -> NextBoot:
    """Return what a menu boots: MENU DEFAULT before DEFAULT, and the first entry where neither names one."""
    entries: List[Tuple[str, Optional[str]]] = []
    default = ""
    menu_default = ""
    for line in extlinux_conf.splitlines():
        named, chosen, append = _LABEL.match(line), _DEFAULT.match(line), _APPEND.match(line)
        if named:
            entries.append((named["name"], None))
        elif _MENU_DEFAULT.match(line) and entries:
            menu_default = entries[-1][0]
        elif chosen and not default:
            default = chosen["name"]
        elif append and entries and HYPERVISOR.match(os.path.basename(append["image"])):
            options = append["options"].partition("---")[0].strip()
            entries[-1] = (entries[-1][0], " ".join(command_line.configured_options(options)))
    wanted = menu_default or default
    boots = next((entry for entry in entries if entry[0] == wanted), entries[0] if entries else ("", None))
    return from_entries(
        boots[1],
        [options for _name, options in entries if options is not None],
        title=boots[0],
        file=path,
        remedy="Name an entry for Xen with DEFAULT there, or with default= in the file that generates it.",
    )


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

    def next_boot(self) -> NextBoot:
        path = self._menu()
        content = None if path is None else self._tree.read(path)
        return NO_ENTRY if path is None or content is None else next_boot(path, content.decode(ENCODING))

    def output(self) -> Optional[str]:
        path = self._menu()
        return None if path is None else self._tree.path(path)

    def _menu(self) -> Optional[str]:
        return next((path for path in OUTPUTS if self._tree.is_file(path)), None)

    def output_option(self) -> Optional[str]:
        """Return nothing: update-extlinux writes where it always does."""
        return None

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
