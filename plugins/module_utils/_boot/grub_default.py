# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: which entry of a menu of GRUB 2 is the default, and how another one becomes it.
#
# grub-mkconfig writes GRUB_DEFAULT into the menu (util/grub.d/00_header.in @ 2.06). Debian's xen.cfg sets it to a title
# where XEN_OVERRIDE_GRUB_DEFAULT is 1 or empty by the time it is read. A line that is read after it holds whatever that
# variable is, and needs no title, which depends on the language of whoever runs update-grub.

from __future__ import annotations

import re
from dataclasses import replace
from typing import Dict, Iterator, List, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot import grub_once, grub_script, last_line, replaced_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import grub2
from ansible_collections.xen.stubdom.plugins.module_utils._boot.next_boot import NextBoot
from ansible_collections.xen.stubdom.plugins.module_utils._boot.systemd_default import selected_next
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import ENCODING
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.files import Change

DROP_IN = f"{grub2.DROP_IN_DIRECTORY}/zz-xen-stubdom-default.cfg"
_DROP_IN_HEAD = "# Written by the Ansible collection xen.stubdom: the entry that GRUB starts by default.\n"
_VARIABLE = "GRUB_DEFAULT"

# A name stands between single quotes for the shell and between double ones in the menu.
_UNSAFE = re.compile(r"[\x00-\x1f'\"$`\\]")
# What 20_linux_xen begins the identities of its entries with (util/grub.d/20_linux_xen.in @ 2.06).
_WRITTEN = "xen-gnulinux-"
_SAVED = re.compile(r"^\s*set\s+default=\"?\$\{?saved_entry\}?\"?\s*$", re.MULTILINE)
_DEFAULT = re.compile(r"^[ \t]*(?:set[ \t]+)?default=[^\n\r;]*(?=\r?$)", re.MULTILINE)
_DEEPEST = 10


class GrubDefault:
    """The default entry of GRUB 2 on a host.

    :param loader: GRUB 2 there.
    """

    def __init__(self, loader: grub2.Grub2) -> None:
        self._loader = loader

    def boots(self) -> NextBoot:
        """Return what the default entry starts, whatever is selected for the next start alone."""
        another = self._loader.started_another(once=False)
        try:
            path, host = self._loader.menu()
        except UserError as error:
            return NextBoot(None, None, error.what)
        return NextBoot(None, None, another) if another else grub2.next_boot(path, grub_once.selecting(host, None))

    def entry(self) -> Optional[str]:
        """Return the name by which GRUB's `default` leads to an entry for Xen; None where there is none.

        It is the first of those that 20_linux_xen has written, else the first of all.
        """
        try:
            path, host = self._loader.menu()
        except UserError:
            return None
        return _find(path, grub_once.selecting(host, None))

    def refusal(self) -> Optional[UserError]:
        """Return why the default entry is not changed: the firmware's own boot entries are not ours."""
        another = self._loader.started_another(once=False)
        if not another:
            return None
        return UserError(
            another, "Nothing was changed. Put the boot entry of GRUB first with efibootmgr, then run again."
        )

    def warnings(self, *, replaced: bool) -> List[str]:
        try:
            path, host = self._loader.menu()
        except UserError:
            return []
        found = selected_next(self._loader.tree)
        once = grub_once.selected(host)
        if once is not None:
            found.append(f"GRUB's environment block selects '{once}' for the next start alone.")
        if _SAVED.search(host.read(path) or ""):
            found.append(
                "GRUB_DEFAULT=saved is replaced: grub-set-default, or a choice in the menu, changes the default entry "
                "no longer."
                if replaced
                else "GRUB starts the entry that was saved last (GRUB_DEFAULT=saved): grub-set-default, or a choice in "
                "the menu, may change it at any time."
            )
        return found

    def written(self) -> List[str]:
        """Return the paths of the files that are changed."""
        by_hand = self._loader.hand_kept()
        return [self._loader.tree.path(path) for path in ([DROP_IN, grub2.MAIN] if by_hand is None else [by_hand])]

    def present(self, entry: str) -> List[Change]:
        """Return the changes after which *entry* is the default one.

        :raises UserError: a file is not understood.
        """
        by_hand = self._loader.hand_kept()
        if by_hand is not None:
            return self._changes({by_hand: self._by_hand(by_hand, entry)})
        line = f"{_VARIABLE}='{entry}'"
        if self._loader.drop_ins():
            return self._changes({DROP_IN: f"{_DROP_IN_HEAD}{line}\n"})
        main = self._loader.tree.text(grub2.MAIN)
        return self._changes({grub2.MAIN: last_line.put(grub2.MAIN, main, _VARIABLE, entry)})

    def absent(self) -> List[Change]:
        """Return the changes that take back those of `present`."""
        by_hand = self._loader.hand_kept()
        if by_hand is not None:
            return self._changes({by_hand: replaced_line.restore(self._loader.tree.text(by_hand) or "")})
        main = last_line.remove(self._loader.tree.text(grub2.MAIN), _VARIABLE)
        return self._changes({DROP_IN: None, grub2.MAIN: main})

    def _by_hand(self, path: str, entry: str) -> str:
        text = replaced_line.restore(self._loader.tree.text(path) or "")
        host = grub_once.selecting(self._loader.menu()[1], None)
        places = [(match.start(), match.end()) for match in _DEFAULT.finditer(text)]
        for start, end in [*reversed(places)] if places else [(0, 0)]:
            indent = re.match(r"[ \t]*", text[start:end])
            edited = replaced_line.put(text, start, end, f'{indent.group() if indent else ""}set default="{entry}"')
            if grub2.next_boot(path, grub_once.reading(host, {path: edited})).xen:
                return edited
        raise UserError(
            f"No line `set default=` of {path}, which is kept by hand, decides alone which entry GRUB starts.",
            f"Set default there by hand to '{entry}'.",
        )

    def _changes(self, wanted: Dict[str, Optional[str]]) -> List[Change]:
        tree = self._loader.tree
        return tree.changes(
            (path, tree.read(path), None if text is None else text.encode(ENCODING)) for path, text in wanted.items()
        )


def _find(path: str, host: grub_script.Host) -> Optional[str]:
    try:
        menu = grub_script.run(path, host)
        # The entries that options are set in come before those of the administrator's own.
        for written in (True, False):
            for name, entry, place in _names(menu, host):
                if (entry.identity or "").startswith(_WRITTEN) is not written:
                    continue
                starts = grub2.passed(entry, place, host)
                if starts is None or not starts.xen:
                    continue
                chosen = replace(menu, variables={**menu.variables, "default": name})
                # Another entry may have the same name, or a number may be read from its beginning.
                if grub_script.default_entry(chosen, host) == entry:
                    return name
    except UserError:
        return None
    return None


def _names(
    menu: grub_script.Menu, host: grub_script.Host, parents: Tuple[str, ...] = ()
) -> Iterator[Tuple[str, grub_script.Entry, grub_script.Menu]]:
    """Yield every entry under each of its names, the one that no language changes first, and the menu it stands in."""
    for entry in menu.entries:
        names = [name.replace(">", ">>") for name in (entry.identity, entry.title) if name and not _UNSAFE.search(name)]
        for name in names:
            if not entry.submenu:
                yield ">".join([*parents, name]), entry, menu
            elif len(parents) < _DEEPEST:
                yield from _names(grub_script.submenu(entry, menu, host), host, (*parents, name))
