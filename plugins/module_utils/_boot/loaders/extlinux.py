# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: extlinux as Alpine configures it, and menus of its family (syslinux) that are
# kept by hand. update-extlinux sources a file of shell variables and writes entries of the form
# APPEND xen.gz OPTIONS --- vmlinuz OPTIONS --- initramfs (its script, 6.04).

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Mapping, Match, NamedTuple, Optional, Sequence, Set, Tuple

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
OUTPUTS = (
    "/boot/extlinux.conf",
    "/boot/extlinux/extlinux.conf",
    "/boot/syslinux/syslinux.cfg",
    "/boot/syslinux.cfg",
    "/boot/syslinux/extlinux.conf",
    "/boot/efi/EFI/syslinux/syslinux.cfg",
    "/efi/EFI/syslinux/syslinux.cfg",
    "/boot/EFI/syslinux/syslinux.cfg",
    "/extlinux.conf",
    "/syslinux/syslinux.cfg",
    "/syslinux.cfg",
)

VARIABLES = Variables(names=("xen_opts",), main=MAIN)

# The first line that update-extlinux writes.
_GENERATED = re.compile(r"\A\s*#[^\n]*\bupdate-extlinux\b")
# A file is read once, and so many at most (MAX_CONFIG_FILES is not limited there).
_MOST_FILES = 64
_KEYWORD = re.compile(r"[ \t]*(?P<key>[A-Za-z0-9]+)(?:[ \t]+(?P<value>[^\r\n]*))?")
_MODULE = re.compile(r"(?:^|[ \t])---(?=[ \t\r]|$)")


@dataclass(frozen=True)
class Place:
    """Where options for a hypervisor are in a file: behind its name in a line APPEND, up to the first module."""

    path: str
    start: int
    end: int


@dataclass
class _Label:
    """An entry of the menu.

    :param text: what its line APPEND has between the hypervisor and the first module; None where it starts none.
    :param place: where that is.
    """

    name: str
    text: Optional[str] = None
    place: Optional[Place] = None

    @property
    def options(self) -> Optional[str]:
        return None if self.text is None else " ".join(command_line.configured_options(self.text))


@dataclass
class Menu:
    """What a file says, with those that it includes.

    :param labels: the entries, in order.
    :param missing: a file that is included and cannot be read.
    """

    labels: List[_Label] = field(default_factory=list)
    default: str = ""
    menu_default: str = ""
    on_timeout: str = ""
    timeout: bool = False
    asks: bool = False
    files: List[str] = field(default_factory=list)
    seen: Set[str] = field(default_factory=set)
    missing: str = ""


def parse(path: str, read: Callable[[str], Optional[str]]) -> Menu:
    """Read a configuration (com32/elflink/ldlinux/readconfig.c @ syslinux 6.03).

    :param read: returns the text of a file, None where there is none.
    """
    menu = Menu()
    _parse(path, read, menu)
    return menu


class _Statement(NamedTuple):
    """One line of a file.

    :param options: of a line APPEND that starts a hypervisor: where its options are.
    """

    key: str
    value: str
    options: Optional[Tuple[int, int]]


@functools.lru_cache(maxsize=4)
def _statements(text: str) -> Sequence[_Statement]:
    """Return what the lines of a file say; the same text is asked for several times in one run."""
    found: List[_Statement] = []
    at = 0
    while at < len(text):
        newline = text.find("\n", at)
        end = len(text) if newline < 0 else newline
        match = _KEYWORD.match(text, at, end)
        if match:
            key, value = match["key"].lower(), (match["value"] or "").strip(" \t")
            if key == "menu":
                word, _blank, value = value.partition(" ")
                key = f"menu {word.lower()}"
            found.append(_Statement(key, value, _options(match) if key == "append" else None))
        at = end + 1
    return found


def _options(match: Match[str]) -> Optional[Tuple[int, int]]:
    """Return where the options of a hypervisor are in a line APPEND, None where it starts none."""
    value = match["value"] or ""
    image = value.split(None, 1)[0] if value.strip() else ""
    if not HYPERVISOR.match(os.path.basename(image)):
        return None
    start = match.start("value") + value.index(image) + len(image)
    module = _MODULE.search(value, start - match.start("value"))
    return start, match.start("value") + module.start() if module else match.end("value")


def _parse(path: str, read: Callable[[str], Optional[str]], menu: Menu) -> None:
    menu.seen.add(path)
    text = read(path) if len(menu.seen) <= _MOST_FILES else None
    if text is None:
        menu.missing = menu.missing or path
        return
    menu.files.append(path)
    directory = os.path.dirname(menu.files[0])
    for key, value, options in _statements(text):
        if key in ("include", "menu include"):
            included = os.path.normpath(os.path.join(directory, value.split(" ")[0]))
            if included not in menu.seen:
                _parse(included, read, menu)
        elif key == "append" and menu.labels:
            # Of several in an entry the last one counts.
            label = menu.labels[-1]
            label.text = None if options is None else text[slice(*options)]
            label.place = None if options is None else Place(path, *options)
        else:
            _set(menu, key, value)


def _set(menu: Menu, key: str, value: str) -> None:
    first = value.split(" ")[0]
    if key == "label":
        menu.labels.append(_Label(first))
    elif key == "default":
        # Of several the last one counts.
        menu.default = first
        menu.asks = menu.asks or first.endswith(".c32")
    elif key == "menu default" and menu.labels:
        menu.menu_default = menu.labels[-1].name
    elif key == "ontimeout":
        menu.on_timeout = first
    elif key == "timeout":
        menu.timeout = first.isdigit() and int(first[:9]) > 0
    elif key == "ui" or (key == "prompt" and first not in ("", "0")):
        menu.asks = True


def next_boot(path: str, extlinux_conf: str, read: Callable[[str], Optional[str]] = lambda path: None) -> NextBoot:
    """Return what a menu boots: MENU DEFAULT before DEFAULT, and the first entry where neither names one.

    ONTIMEOUT comes before both where the loader waits for somebody, and only so long.

    :param read: returns the text of a file that is included.
    """
    menu = parse(path, lambda name: extlinux_conf if name == path else read(name))
    entries = [options for options in (label.options for label in menu.labels) if options is not None]
    if menu.missing:
        return NextBoot(None, None, f"{path} includes {menu.missing}, which cannot be read.", tuple(entries))
    by_name: Dict[str, _Label] = {}
    for label in menu.labels:
        by_name.setdefault(label.name, label)
    wanted = menu.menu_default or menu.default
    if menu.on_timeout and menu.timeout and menu.asks:
        wanted = menu.on_timeout
    if wanted and wanted not in by_name and not wanted.endswith(".c32"):
        return NextBoot(None, None, f"{path} starts '{wanted}', which is none of its labels.", tuple(entries))
    boots = by_name.get(wanted) or (menu.labels[0] if menu.labels else _Label(""))
    return from_entries(
        boots.options,
        entries,
        title=boots.name,
        file=path,
        remedy="Name an entry for Xen with DEFAULT there, or with default= in the file that generates it.",
    )


def edit(menu: Menu, sources: Mapping[str, str], name: str, option: Optional[str]) -> Dict[str, str]:
    """Return the files of a menu with *option* as the only one called *name* in every entry that starts Xen.

    :raises UserError: there is no such entry.
    """
    places = [label.place for label in menu.labels if label.place is not None]
    if not places and option is not None:
        raise UserError(
            f"{menu.files[0]} was not written by {PROGRAM}, and has no entry that starts Xen.",
            "Add an entry with COM32 mboot.c32 and a line such as APPEND xen.gz --- vmlinuz, then run again.",
        )
    changes: Dict[str, List[command_line.Edit]] = {path: [] for path in sources}
    for place in places:
        given = sources[place.path][place.start : place.end]
        edits = command_line.edits(given, name, option)
        if option is not None and not command_line.spans(given):
            # The name of the image precedes it.
            edits = [(0, 0, f" {option}")]
        changes[place.path] += [(place.start + first, place.start + last, new) for first, last, new in edits]
    return {path: command_line.apply_edits(text, changes[path]) for path, text in sources.items()}


class Extlinux:
    """extlinux or syslinux, with update-extlinux or with a menu that is kept by hand.

    :param run: runs a command without a shell.
    :param root: where the files are found.
    :param foreign: whether that is another tree than this host's, of which nothing may be run.
    """

    name = "extlinux"
    first_option: Optional[str] = None
    cannot_boot_once: Optional[str] = (
        "Only extlinux --once selects an entry for one boot, and update-extlinux writes the same options into every "
        "entry."
    )

    def __init__(self, run: Runner, *, root: str = "/", foreign: bool = False) -> None:
        self._tree = Tree(root, foreign=foreign)
        self._files = Sourced(VARIABLES, self._tree, run)

    @property
    def generates(self) -> bool:
        """Whether update-extlinux writes the menu; one that is kept by hand is edited itself."""
        return self.hand_kept() is None

    def hand_kept(self) -> Optional[str]:
        """Return the path of a menu that update-extlinux did not write, None where there is none."""
        path = self._menu()
        text = None if path is None else self._tree.text(path)
        # An empty file is what an interrupted generator leaves.
        if not (text or "").strip() or _GENERATED.match(text or ""):
            return None
        return path

    def present(self) -> bool:
        return self._tree.is_file(MAIN) or self.hand_kept() is not None

    def hypervisor_installed(self) -> bool:
        return self._tree.has_hypervisor()

    def read(self) -> Dict[str, bytes]:
        by_hand = self.hand_kept()
        return self._tree.contents([MAIN] if by_hand is None else self._parsed(by_hand).files)

    def plan(self, sources: Mapping[str, bytes], name: str, option: Optional[str]) -> List[Change]:
        by_hand = self.hand_kept()
        if by_hand is None:
            return self._files.plan(sources, name, option)
        texts = {path: content.decode(ENCODING) for path, content in sources.items()}
        edited = edit(parse(by_hand, texts.get), texts, name, option)
        return self._tree.changes((path, sources[path], text.encode(ENCODING)) for path, text in edited.items())

    def configured(self, sources: Mapping[str, bytes]) -> str:
        by_hand = self.hand_kept()
        if by_hand is None:
            return self._files.configured(sources)
        texts = {path: content.decode(ENCODING) for path, content in sources.items()}
        return next_boot(by_hand, texts[by_hand], texts.get).line or ""

    def next_boot(self) -> NextBoot:
        path = self._menu()
        text = None if path is None else self._tree.text(path)
        if path is None or text is None:
            return NO_ENTRY
        return next_boot(path, text, self._tree.text)

    def output(self) -> Optional[str]:
        path = self._menu() if self.generates else None
        return None if path is None else self._tree.path(path)

    def _parsed(self, path: str) -> Menu:
        return parse(path, self._tree.text)

    def _menu(self) -> Optional[str]:
        return next((path for path in OUTPUTS if self._tree.is_file(path)), None)

    def generator(self) -> List[str]:
        """:raises UserError: it is not installed."""
        if not self.generates:
            return []
        if self._tree.program(PROGRAM) is None:
            raise UserError(
                f"The program {PROGRAM} is not installed on this host.",
                f"Install {distributions.install_hint('update_extlinux', distributions.detect(self._tree.root))}, "
                "or set regenerate to false.",
            )
        return [PROGRAM]

    def unchecked(self, sources: Mapping[str, bytes]) -> List[str]:
        if not self.generates:
            return [f"Whether the installed loader reads {self.hand_kept()} was not checked."]
        return [
            f"{MAIN} was parsed and not run by a shell.",
            f"extlinux.conf was not generated: run {PROGRAM} in the image.",
        ]
