# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: which label of a menu of extlinux or syslinux is the default, and how another
# one becomes it.
#
# update-extlinux writes MENU DEFAULT into the entry whose label is `default` in the file that it sources; an entry for
# Xen is called xen-FLAVOUR, as the one for Linux is called FLAVOUR (Alpine's main/syslinux/update-extlinux, read).

from __future__ import annotations

import re
from dataclasses import replace
from typing import Dict, List, Mapping, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot import last_line, replaced_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import extlinux
from ansible_collections.xen.stubdom.plugins.module_utils._boot.next_boot import NextBoot
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import ENCODING
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.files import Change

_VARIABLE = "default"
# A label stands between single quotes for the shell.
_UNSAFE = re.compile(r"[\x00-\x20']")
_KEYWORD = re.compile(r"[ \t]*[A-Za-z]+")


class ExtlinuxDefault:
    """The default entry of extlinux or syslinux.

    :param loader: extlinux there.
    """

    def __init__(self, loader: extlinux.Extlinux) -> None:
        self._loader = loader

    def boots(self) -> NextBoot:
        return self._loader.next_boot()

    def entry(self) -> Optional[str]:
        """Return the label of an entry for Xen: what starts now, else the one with that kernel, else the first."""
        path = self._loader.menu()
        if path is None:
            return None
        menu = extlinux.parse(path, self._loader.tree.text)
        now, _reason = extlinux.chosen(path, menu)
        names = [label.name for label in menu.labels if label.text is not None and menu.label(label.name) is label]
        names = [name for name in names if name and not _UNSAFE.search(name)]
        wanted = [] if now is None else [now.name, f"xen-{now.name}"]
        return next((name for name in [*wanted, *names] if name in names), None)

    def refusal(self) -> None:
        """Return nothing: each of its menus can be changed, or that is refused when it is tried."""

    def warnings(self, *, replaced: bool) -> List[str]:
        return []

    def written(self) -> List[str]:
        """Return the paths of the files that are changed."""
        return [*map(self._loader.tree.path, [extlinux.MAIN] if self._loader.generates else self._loader.read())]

    def present(self, entry: str) -> List[Change]:
        """Return the changes after which *entry* is the default one.

        :raises UserError: a file is not understood, or decides in another way.
        """
        if self._loader.generates:
            main = self._loader.tree.text(extlinux.MAIN)
            return self._changes({extlinux.MAIN: last_line.put(extlinux.MAIN, main, _VARIABLE, entry)})
        path, texts = self._by_hand()
        edited = _edited(path, texts, entry)
        boots, _reason = extlinux.chosen(path, extlinux.parse(path, edited.get))
        if boots is None or boots.name != entry:
            raise UserError(
                f"Neither DEFAULT, MENU DEFAULT nor ONTIMEOUT of {path}, which is kept by hand, decides alone which "
                "entry starts.",
                f"Nothing was changed. Make '{entry}' the default there by hand.",
            )
        return self._changes(edited)

    def absent(self) -> List[Change]:
        """Return the changes that take back those of `present`."""
        if self._loader.generates:
            main = last_line.remove(self._loader.tree.text(extlinux.MAIN), _VARIABLE)
            return self._changes({extlinux.MAIN: main})
        return self._changes(self._by_hand()[1])

    def _by_hand(self) -> Tuple[str, Dict[str, str]]:
        """Return the path of the menu, and its files by path as they are without our lines."""
        sources = self._loader.read()
        return next(iter(sources)), {
            path: replaced_line.restore(content.decode(ENCODING)) for path, content in sources.items()
        }

    def _changes(self, wanted: Mapping[str, Optional[str]]) -> List[Change]:
        tree = self._loader.tree
        return tree.changes(
            (path, tree.read(path), None if text is None else text.encode(ENCODING)) for path, text in wanted.items()
        )


def _edited(path: str, texts: Dict[str, str], entry: str) -> Dict[str, str]:
    """Return the files with *entry* as what starts by default, and after a timeout where that is another question."""
    menu = extlinux.parse(path, texts.get)
    label = menu.label(entry)
    edits: List[Tuple[extlinux.Line, str]] = []
    by_default, _reason = extlinux.chosen(path, replace(menu, on_timeout=""))
    if label is not None and (by_default is None or by_default.text is None):
        edits += _by_menu(menu, label, texts) if menu.program and not menu.ui else _by_default(path, menu, entry, texts)
    on_timeout = menu.label(menu.on_timeout)
    if menu.on_timeout and (on_timeout is None or on_timeout.text is None):
        line = menu.lines["ontimeout"][-1]
        edits.append((line, f"{_keyword(texts, line)} {entry}"))
    edited = dict(texts)
    for line, text in sorted(edits, key=lambda edit: edit[0].start, reverse=True):
        edited[line.path] = replaced_line.put(edited[line.path], line.start, line.end, text)
    return edited


def _by_default(
    path: str, menu: extlinux.Menu, entry: str, texts: Mapping[str, str]
) -> List[Tuple[extlinux.Line, str]]:
    lines = menu.lines.get("default")
    if not lines:
        return [(extlinux.Line(path, 0, 0), f"DEFAULT {entry}")]
    return [(lines[-1], f"{_keyword(texts, lines[-1])} {entry}")]


def _by_menu(menu: extlinux.Menu, label: extlinux.Label, texts: Mapping[str, str]) -> List[Tuple[extlinux.Line, str]]:
    """MENU DEFAULT in the entry and, as the last one counts, in no other one."""
    after = texts[label.line.path].find("\n", label.line.end) + 1
    return [
        *((line, "") for line in menu.lines.get("menu default", ())),
        (extlinux.Line(label.line.path, after, after), "  MENU DEFAULT"),
    ]


def _keyword(texts: Mapping[str, str], line: extlinux.Line) -> str:
    match = _KEYWORD.match(texts[line.path], line.start, line.end)
    return match.group() if match else ""
