# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: GRUB 2 of a host as a trial boot uses it: programs, default entry, environment
# block.

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Mapping, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot import grub, grub_menu, grub_once, grub_script
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import Tree
from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions, files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner, last_line


@dataclass(frozen=True)
class Grub:
    """GRUB 2 on a host with a menu.

    :param tree: the file tree of the host.
    :param run: runs a command without a shell.
    :param path: the menu that it reads.
    :param host: what the menu is run on.
    """

    tree: Tree
    run: Runner
    path: str
    host: grub_script.Host

    @property
    def directory(self) -> str:
        return self.host.directory

    @property
    def block(self) -> str:
        """Path of the environment block."""
        return self.tree.path(self.host.block)

    @property
    def custom(self) -> str:
        """The administrator's own part of the menu."""
        return f"{self.directory}/custom.cfg"

    @property
    def prefix(self) -> str:
        """What the names of its programs begin with."""
        known = distributions.grub_layouts(distributions.detect(self.tree.root))
        found = grub.layout(self.tree)
        layouts = known if found is None else (found, *known)
        return next((one.prefix for one in layouts if one.directory == self.directory), layouts[0].prefix)

    def tool(self, name: str, *arguments: str) -> str:
        """Run one of GRUB's programs and return its output.

        :raises UserError: it is not installed or fails.
        """
        command = [f"{self.prefix}{name}", *arguments]
        try:
            status, output, errors = self.run(command)
        except FileNotFoundError as error:
            raise UserError(
                f"The program {command[0]} is not installed on this host.",
                f"Install {distributions.install_hint('grub_tools')}, then run again.",
            ) from error
        if status != 0:
            raise UserError(f"`{' '.join(command)}` failed: {last_line(errors)}.", "Run that command by hand.")
        return output.strip()

    def default_entry(self) -> Tuple[grub_script.Entry, grub_script.Menu]:
        """Return the entry that boots, whatever is selected for the next start alone, and the menu that it stands in.

        :raises UserError: that is not known, or the menu is not understood.
        """
        host = grub_once.selecting(self.host, None)
        return grub_script.chosen(grub_script.run(self.path, host), host)

    def environment(self) -> Dict[str, str]:
        """Return the variables of the environment block."""
        return grub_menu.environment(self.tree.read(self.host.block))

    def set_environment(self, variables: Mapping[str, Optional[str]]) -> None:
        """Set variables of the environment block, and remove those that are None, all of them in one step.

        grub-editenv empties the file before it writes (util/grub-editenv.c, write_envblk), so it is given a copy.

        :raises UserError: it is not installed or fails, or the block cannot be written.
        """
        removed = [name for name, value in variables.items() if value is None]
        present = [f"{name}={value}" for name, value in variables.items() if value is not None]
        old = files.read(self.block)
        with files.beside(self.block, filled=True) as copy:
            if removed:
                self.tool("editenv", copy, "unset", *removed)
            if present:
                self.tool("editenv", copy, "set", *present)
            new = files.read(copy)
        files.apply([files.Change(self.block, old, new)])
