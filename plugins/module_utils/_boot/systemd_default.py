# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: which entry of systemd-boot is the default, and how another one becomes it.
#
# loader.conf names it. What was chosen in the menu, or by `bootctl set-default`, is in a variable of the firmware,
# which wins (config_select_default_entry in src/boot/efi/boot.c @ 255) and is not changed here.

from __future__ import annotations

import re
from typing import List, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot import replaced_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import efi_boot, efi_cfg
from ansible_collections.xen.stubdom.plugins.module_utils._boot.next_boot import NextBoot
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import ENCODING, Tree
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.files import Change

_LINE = re.compile(r"^[ \t]*default[ \t][^\r\n]*", re.MULTILINE)
# What a pattern would not take as it stands.
_UNSAFE = re.compile(r"[\x00-\x20*?\[\]\\\"]")


def selected_next(tree: Tree) -> List[str]:
    """Return which entry the firmware starts next and only then, in a sentence; nothing where none is selected."""
    content = b"" if tree.foreign else efi_boot.variable(tree, "BootNext") or b""
    return [f"The firmware starts Boot{content[1]:02X}{content[0]:02X} next (BootNext)."] if content[1:] else []


class SystemdDefault:
    """The default entry where systemd-boot starts xen.efi.

    :param loader: xen.efi there.
    """

    def __init__(self, loader: efi_cfg.EfiCfg) -> None:
        self._loader = loader

    def boots(self) -> NextBoot:
        """Return what the default entry starts, whatever is selected for the next start alone."""
        return self._loader.next_boot(once=False)

    def entry(self) -> Optional[str]:
        """Return the name of the first entry of the menu that starts Xen."""
        found = self._menu()
        if found is None:
            return None
        partition, menu = found
        for name, entry in menu.entries.items():
            named = not _UNSAFE.search(name) and efi_boot.find_entry(menu.entries, name) == name
            if named and self._loader.starts_xen(entry, partition):
                return name
        return None

    def refusal(self) -> Optional[UserError]:
        """Return why the default entry is not changed: the firmware's own boot entries are not ours."""
        if self._menu() is not None:
            return None
        return UserError(
            "The firmware of this host does not start Xen first, or that is not known, and this module does not change "
            "its boot entries.",
            "Put the boot entry of xen.efi first with efibootmgr, then run again.",
        )

    def warnings(self, *, replaced: bool) -> List[str]:
        found = self._selected_once()
        _partition, menu = self._menu() or ("", None)
        if menu is not None and menu.variable:
            found.append(
                f"systemd-boot starts what the firmware's variable {menu.variable} names: bootctl set-default, or a "
                "choice in the menu, may change it at any time."
            )
        return found

    def written(self) -> List[str]:
        """Return the paths of the files that are changed."""
        return [self._loader.tree.path(efi_boot.configuration(partition)) for partition in efi_boot.PARTITIONS]

    def present(self, entry: str) -> List[Change]:
        """Return the changes after which *entry* is the default one.

        :raises UserError: a variable of the firmware decides.
        """
        partition, menu = self._menu() or ("", None)
        if menu is not None and menu.variable:
            raise UserError(
                f"The firmware's variable {menu.variable} decides which entry systemd-boot starts, not loader.conf.",
                f"Nothing was changed. Run `bootctl set-default {entry}`, or `bootctl set-default ''` and this again.",
            )
        before, text = self._texts(partition)
        places = [match.span() for match in _LINE.finditer(text)]
        start, end = places[-1] if places else (0, 0)
        return self._change(partition, before, replaced_line.put(text, start, end, f"default {entry}"))

    def absent(self) -> List[Change]:
        """Return the changes that take back those of `present`."""
        changes = []
        for partition in efi_boot.PARTITIONS:
            before, text = self._texts(partition)
            # Where nothing else is in the file, it was not there.
            changes += self._change(partition, before, (text or None) if before else before)
        return changes

    def _menu(self) -> Optional[Tuple[str, efi_boot.SystemdBoot]]:
        return self._loader.systemd_boot(once=False)

    def _selected_once(self) -> List[str]:
        """Return what selects an entry for the next start alone, in sentences."""
        tree = self._loader.tree
        found = selected_next(tree)
        once = efi_boot.systemd_variable(tree, efi_boot.ONCE)
        return [*found, f"systemd-boot starts '{once}' next ({efi_boot.ONCE})."] if once else found

    def _texts(self, partition: str) -> Tuple[Optional[str], str]:
        """Return loader.conf as it is, and as it was before our lines."""
        path = efi_boot.configuration(partition)
        before = self._loader.tree.text(path) if self._loader.tree.is_file(path) else None
        return before, replaced_line.restore(before or "")

    def _change(self, partition: str, before: Optional[str], after: Optional[str]) -> List[Change]:
        old, new = (None if text is None else text.encode(ENCODING) for text in (before, after))
        return self._loader.tree.changes([(efi_boot.configuration(partition), old, new)])
