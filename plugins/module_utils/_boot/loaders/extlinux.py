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
from dataclasses import dataclass, field, replace
from typing import Callable, Dict, List, Mapping, Match, NamedTuple, Optional, Sequence, Set, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line, line_edits
from ansible_collections.xen.stubdom.plugins.module_utils._boot.command_line import DOM0_KERNEL, HYPERVISOR, Recipient
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import efi_boot
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders.shell import Sourced, Variables
from ansible_collections.xen.stubdom.plugins.module_utils._boot.next_boot import NO_ENTRY, WAITS, NextBoot, from_entries
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import EFI, ENCODING, Tree
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import HYPERVISOR as HYPERVISOR_FILE
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
# update-extlinux has no variable for dom0's Linux alone: every entry gets this one.
KERNEL_VARIABLES = Variables(names=("default_kernel_opts",), main=MAIN, recipient=DOM0_KERNEL, shared=True)
_VARIABLES: Mapping[Recipient, Variables] = {row.recipient: row for row in (VARIABLES, KERNEL_VARIABLES)}

# The first line that update-extlinux writes.
_GENERATED = re.compile(r"\A\s*#[^\n]*\bupdate-extlinux\b")
# A file is read once, and so many at most (MAX_CONFIG_FILES is not limited there).
_MOST_FILES = 64
_KEYWORD = re.compile(r"[ \t]*(?P<key>[A-Za-z0-9]+)(?:[ \t]+(?P<value>[^\r\n]*)|(?=[\r]?$))")
_FILE = re.compile(r"[ \t]*[^ \t\r]+")
_PROGRAM = ("com32", "kernel")
_MULTIBOOT = re.compile(r"[^ \t]*mboot(?:\.c32)?(?:[ \t]+|$)", re.IGNORECASE)
_MODULE = re.compile(r"(?:^|[ \t])---(?=[ \t\r]|$)")
# The program that starts other boot loaders.
_CHAIN = re.compile(r"(?:\S*/)?chain\.c32", re.IGNORECASE)
# The programs that show a menu of this very file; others choose in ways of their own.
_MENUS = ("menu", "vesamenu")
# What firmware starts, of syslinux.
_PROGRAMS = re.compile(r"(?:syslinux|boot(?:x64|ia32))[^/]*\.efi")
_ELSEWHERE = ("config", "localboot", "menu goto", "menu exit", "menu quit")
# The keywords whose lines are kept with their places.
_DECIDE = ("label", "default", "menu default", "ontimeout")


@dataclass(frozen=True)
class Place:
    """Where the options of one recipient are in a line APPEND: behind the name of its file, up to the next module."""

    path: str
    start: int
    end: int


@dataclass(frozen=True)
class Line:
    """Where a line is in a file, without what ends it."""

    path: str
    start: int
    end: int


@dataclass
class Label:
    """An entry of the menu.

    :param text: what its line APPEND or KERNEL has for the recipient; None where it starts no hypervisor.
    :param place: where that is.
    :param added: what it has elsewhere for dom0's Linux, where that is the recipient.
    :param appended: what APPEND says, there or above all entries.
    :param kernel: whether KERNEL starts the hypervisor and names it.
    :param open: whether what APPEND says continues what KERNEL has for the recipient.
    :param line: where its line LABEL is.
    :param nested: whether it stands in a submenu.
    :param hidden: whether the menu does not show it.
    :param default: whether it says MENU DEFAULT.
    :param disabled: whether nothing starts it.
    :param hands_over: whether another menu or loader chooses what starts.
    """

    name: str
    line: Line
    recipient: Recipient = HYPERVISOR
    nested: bool = False
    hidden: bool = False
    default: bool = False
    disabled: bool = False
    hands_over: bool = False
    text: Optional[str] = None
    place: Optional[Place] = None
    added: str = ""
    appended: str = ""
    kernel: bool = False
    open: bool = False

    @property
    def divided(self) -> bool:
        """Whether what it passes stands in two lines. A - switches off what is above all entries (readconfig.c)."""
        return self.open and self.appended not in ("", "-")

    @property
    def options(self) -> Optional[str]:
        if self.text is None:
            return None
        return " ".join(command_line.configured_options(f"{self.text} {self.added}", self.recipient))


@dataclass
class Menu:
    """What a file says, with those that it includes.

    :param recipient: whose options are meant.
    :param above: what stands above the entries, for those that have no APPEND.
    :param labels: the entries, in order.
    :param top: the lines of the menu outside of submenus, in order; None for a separator or a submenu.
    :param default: what the last DEFAULT says, and *ui* what the last UI says.
    :param lines: where the lines of a keyword are, by the keyword.
    :param missing: a file that is included and cannot be read.
    :param unclear: what else decides which entry of a menu starts, in words; empty for nothing.
    """

    recipient: Recipient = HYPERVISOR
    above: Label = field(default_factory=lambda: Label("", Line("", 0, 0)))
    labels: List[Label] = field(default_factory=list)
    top: List[Optional[Label]] = field(default_factory=list)
    default: str = ""
    ui: str = ""
    on_timeout: str = ""
    timeouts: Dict[str, bool] = field(default_factory=dict)
    prompt: bool = False
    at_once: bool = False
    lines: Dict[str, List[Line]] = field(default_factory=dict)
    files: List[str] = field(default_factory=list)
    seen: Set[str] = field(default_factory=set)
    missing: str = ""
    unclear: str = ""
    depth: int = 0
    current: Optional[Label] = None

    def label(self, command: str) -> Optional[Label]:
        """Return the entry that a command names, the first of that name."""
        name = _first_word(command)
        return next((label for label in self.labels if label.name == name and not label.disabled), None)

    @property
    def program(self) -> str:
        """The program that shows the menu, and what is passed to it; empty where the loader starts an entry itself."""
        if self.ui or (_first_word(self.default).endswith(".c32") and self.label(self.default) is None):
            return self.ui or self.default
        return ""

    @property
    def waits(self) -> bool:
        """Whether the loader, or a program that shows a menu, waits for somebody, for a time or without a limit."""
        if self.program:
            return not self.at_once
        return self.prompt or not self.default


def _first_word(text: str) -> str:
    return (text.split(None, 1) or [""])[0]


def parse(path: str, read: Callable[[str], Optional[str]], recipient: Recipient = HYPERVISOR) -> Menu:
    """Read a configuration (com32/elflink/ldlinux/readconfig.c @ syslinux 6.03).

    :param read: returns the text of a file, None where there is none.
    """
    menu = Menu(recipient)
    _parse(path, read, menu)
    return menu


class _Statement(NamedTuple):
    """One line of a file.

    :param options: of a line that starts a hypervisor: where its options are, and those of dom0's Linux.
    """

    key: str
    value: str
    start: int
    end: int
    options: Mapping[Recipient, Tuple[int, int]]


@functools.lru_cache(maxsize=4)
def _statements(text: str) -> Sequence[_Statement]:
    """Return what the lines of a file say; the same text is asked for several times in one run."""
    found: List[_Statement] = []
    at, help_text = 0, False
    while at < len(text):
        newline = text.find("\n", at)
        end = len(text) if newline < 0 else newline
        match = _KEYWORD.match(text, at, end)
        if match:
            key, value = match["key"].lower(), (match["value"] or "").strip(" \t")
            # TEXT HELP has lines for people, up to ENDTEXT.
            if help_text or key == "text":
                help_text = key != "endtext"
                at = end + 1
                continue
            if key == "menu":
                word, value = [*value.split(None, 1), "", ""][:2]
                key = f"menu {word.lower()}"
            stop = end - 1 if text.endswith("\r", at, end) else end
            found.append(_Statement(key, value, at, stop, _options(key, match)))
        at = end + 1
    return found


def _options(key: str, match: Match[str]) -> Mapping[Recipient, Tuple[int, int]]:
    """Return where the options of a hypervisor and of the first module are in a line, nothing without one."""
    value, at = match["value"] or "", match.start("value")
    if key in _PROGRAM:
        # What APPEND says is added to what stands behind the program (record in readconfig.c).
        program = _MULTIBOOT.match(value)
        value, at = ("", at) if program is None else (value[program.end() :], at + program.end())
    elif key != "append":
        return {}
    image = _FILE.match(value)
    if image is None or not HYPERVISOR_FILE.match(os.path.basename(image.group().strip())):
        return {}
    module = _MODULE.search(value, image.end())
    if module is None:
        return {HYPERVISOR: (at + image.end(), match.end("value"))}
    found = {HYPERVISOR: (at + image.end(), at + module.start())}
    kernel, following = _FILE.match(value, module.end()), _MODULE.search(value, module.end())
    end = following.start() if following else len(value)
    if kernel is not None and kernel.end() <= end:
        found[DOM0_KERNEL] = (at + kernel.end(), at + end)
    return found


def _parse(path: str, read: Callable[[str], Optional[str]], menu: Menu) -> None:
    menu.seen.add(path)
    text = read(path) if len(menu.seen) <= _MOST_FILES else None
    if text is None:
        menu.missing = menu.missing or path
        return
    menu.files.append(path)
    directory = os.path.dirname(menu.files[0])
    for key, value, start, end, options in _statements(text):
        if key in ("include", "menu include"):
            file, title = [*value.split(None, 1), "", ""][:2]
            included = os.path.normpath(os.path.join(directory, file))
            if file and included not in menu.seen:
                # With a title it is a submenu.
                if title and not menu.depth:
                    menu.top.append(None)
                menu.depth += bool(title)
                _parse(included, read, menu)
                menu.depth -= bool(title)
        elif key == "append" or options:
            label = menu.current or menu.above
            if key == "append":
                label.appended = value
            else:
                # Behind the last module only what that gets can follow.
                label.kernel, label.open = True, menu.recipient is not HYPERVISOR or len(options) < 2
            # Of several in an entry the last one counts.
            if key != "append" or not label.kernel:
                place = options.get(menu.recipient)
                label.text = None if place is None else text[slice(*place)]
                if place is not None and menu.recipient is not HYPERVISOR:
                    label.added = command_line.for_linux(text[slice(*options[HYPERVISOR])])
                label.place = None if place is None else Place(path, *place)
        else:
            if key in _DECIDE:
                menu.lines.setdefault(key, []).append(Line(path, start, end))
            _set(menu, key, value)


def _set(menu: Menu, key: str, value: str) -> None:
    label = menu.current
    if key == "label":
        name, line = _first_word(value), menu.lines[key][-1]
        menu.current = replace(menu.above, name=name, line=line, recipient=menu.recipient, nested=menu.depth > 0)
        menu.labels.append(menu.current)
        if not menu.depth:
            menu.top.append(menu.current)
    elif key in ("menu begin", "menu end", "menu separator"):
        menu.current = None
        if not menu.depth and key != "menu end":
            menu.top.append(None)
        menu.depth = max(0, menu.depth + {"menu begin": 1, "menu end": -1, "menu separator": 0}[key])
    elif label is not None and (key in _ELSEWHERE or (key in _PROGRAM and _CHAIN.match(value))):
        label.hands_over = True
    elif label is not None and key in ("menu disable", "menu disabled"):
        label.disabled = True
    elif key == "menu hide" and label is not None:
        label.hidden = True
    elif key == "default":
        # Of several the last one counts.
        menu.default = value
    elif key == "ui":
        menu.ui = value
    elif key == "menu default" and label is not None:
        label.default = True
    elif (key == "menu default" and label is None and menu.depth) or (key == "menu start" and menu.depth):
        menu.unclear = f"begins with a submenu ({key.upper()})"
    elif key == "menu save":
        menu.unclear = "starts the entry that was chosen last (MENU SAVE)"
    elif key == "menu shiftkey":
        menu.at_once = True
    elif key == "ontimeout":
        menu.on_timeout = value
    elif key in ("timeout", "totaltimeout"):
        menu.timeouts[key] = _number(value) > 0
    elif key == "prompt":
        menu.prompt = _number(value) != 0


def _number(text: str) -> int:
    """Read as atoi does."""
    match = re.match(r"[+-]?[0-9]{1,9}", text)
    return int(match.group()) if match else 0


def chosen(path: str, menu: Menu) -> Tuple[Optional[Label], str]:
    """Return the entry that starts when nobody chooses, or None and why that is none, or not known.

    The loader itself starts what DEFAULT names and asks nobody, unless PROMPT is set (main in
    com32/elflink/ldlinux/ldlinux.c). A program that shows a menu starts what DEFAULT names only where UI named that
    program, else the last entry with MENU DEFAULT, else the first one (parse_configs in com32/menu/readconfig.c).
    ONTIMEOUT comes before these wherever the loader waits for somebody, and only so long.
    """
    if menu.missing:
        return None, f"{path} includes {menu.missing}, which cannot be read."
    program = menu.program
    wanted = menu.default
    if program:
        named = menu.label(menu.default) if menu.ui else None
        shown = [None if label and label.disabled else label for label in menu.top if not (label and label.hidden)]
        marked = [label for label in shown if label is not None and label.default]
        first = [*reversed(marked), *shown, None][0]
        if named is not None and not named.hidden:
            first = named
        wanted = "" if first is None else first.name
    timed = menu.on_timeout if menu.waits and any(menu.timeouts.values()) else ""
    if program and not timed:
        name, *files = program.split()
        if os.path.basename(name).lower().partition(".c32")[0] not in _MENUS or files not in ([], ["~"]):
            return None, f"{path} starts {program}, which chooses an entry in a way that is not known here."
        if menu.unclear or not wanted:
            how = menu.unclear or "begins with a separator, a submenu or an entry that is switched off"
            return None, f"{path} {how}, so which entry starts is not known."
    wanted = timed or wanted
    label = menu.label(wanted)
    if not wanted:
        return None, f"{path} names no entry with DEFAULT: the loader waits until somebody chooses one."
    if label is None:
        return None, f"{path} starts '{_first_word(wanted)}', which is none of its labels."
    if label.divided:
        return None, f"{path} divides what it passes by '{label.name}' between KERNEL and APPEND."
    if label.hands_over:
        return None, f"{path} starts '{label.name}', which hands over to another menu or loader."
    return label, ""


def next_boot(path: str, read: Callable[[str], Optional[str]], recipient: Recipient = HYPERVISOR) -> NextBoot:
    """Return what a menu boots.

    :param read: returns the text of a file, None where there is none.
    """
    menu = parse(path, read, recipient)
    entries = [label.options for label in menu.labels if label.options is not None and not label.disabled]
    boots, reason = chosen(path, menu)
    if boots is None:
        waits = not menu.missing and not menu.program and not menu.default
        if waits and not entries:
            return NO_ENTRY
        return NextBoot(None, False if waits else None, reason, tuple(entries))
    found = from_entries(
        boots.options,
        entries,
        title=boots.name,
        file=path,
        remedy="Name an entry for Xen with DEFAULT there, or with default= in the file that generates it.",
    )
    if not menu.waits or any(menu.timeouts.values()):
        return found
    remedy = "set TIMEOUT there, or timeout= in the file that generates it, to some seconds."
    return replace(found, waits=WAITS.format(file=path, loader=menu.program or "the loader", remedy=remedy))


def edit(
    menu: Menu, sources: Mapping[str, str], name: str, option: Optional[str], only: Optional[Label] = None
) -> Dict[str, str]:
    """Return the files of a menu with *option* as the only one called *name* in every entry that starts Xen.

    :param only: the only entry that is edited; None for all.
    :raises UserError: there is no such entry.
    """
    labels = menu.labels if only is None else [only]
    # Several entries may have what stands above them.
    places = dict.fromkeys(label.place for label in labels if label.place is not None)
    shared = [] if only is None else [one.name for one in menu.labels if one is not only and one.place in places]
    if only is not None and shared:
        raise UserError(
            f"The parameter entries is default, but '{only.name}', which boots, passes what APPEND above all "
            f"entries says, as does '{shared[0]}'.",
            "Nothing was changed. Give the entry a line APPEND of its own, or set entries to all.",
        )
    if not places and option is not None:
        raise UserError(
            f"{menu.files[0]} was not written by {PROGRAM}, and has no entry that starts Xen.",
            "Add an entry with COM32 mboot.c32 and a line such as APPEND xen.gz --- vmlinuz, then run again.",
        )
    changes: Dict[str, List[line_edits.Edit]] = {path: [] for path in sources}
    for place in places:
        given = sources[place.path][place.start : place.end]
        edits = line_edits.edits_behind(given, name, option, menu.recipient)
        changes[place.path] += [(place.start + first, place.start + last, new) for first, last, new in edits]
    return {path: line_edits.apply_edits(text, changes[path]) for path, text in sources.items()}


class Extlinux:
    """extlinux or syslinux, with update-extlinux or with a menu that is kept by hand.

    :param run: runs a command without a shell.
    :param root: where the files are found.
    :param foreign: whether that is another tree than this host's, of which nothing may be run.
    """

    name = "extlinux"
    recipient: Recipient = HYPERVISOR
    default_only = False
    first_option: Optional[str] = None

    def __init__(self, run: Runner, *, root: str = "/", foreign: bool = False) -> None:
        self.tree = Tree(root, foreign=foreign)
        self._run = run

    @property
    def _files(self) -> Sourced:
        return Sourced(_VARIABLES[self.recipient], self.tree, self._run)

    @property
    def generates(self) -> bool:
        """Whether update-extlinux writes the menu; one that is kept by hand is edited itself."""
        return self.hand_kept() is None

    def hand_kept(self) -> Optional[str]:
        """Return the path of a menu that update-extlinux did not write, None where there is none."""
        path = self.menu()
        text = None if path is None else self.tree.text(path)
        # An empty file is what an interrupted generator leaves.
        if not (text or "").strip() or _GENERATED.match(text or ""):
            return None
        return path

    def present(self) -> bool:
        return self.tree.is_file(MAIN) or self.hand_kept() is not None

    def hypervisor_installed(self) -> bool:
        return self.tree.has_hypervisor()

    def read(self) -> Dict[str, bytes]:
        by_hand = self.hand_kept()
        return self.tree.contents([MAIN] if by_hand is None else parse(by_hand, self.tree.text).files)

    def plan(self, sources: Mapping[str, bytes], name: str, option: Optional[str]) -> List[Change]:
        by_hand = self.hand_kept()
        if by_hand is None:
            return self._files.plan(sources, name, option)
        if self._disagree():
            raise UserError(self._disagree(), "Nothing was changed. Remove the ones that are not used, then run again.")
        texts = {path: content.decode(ENCODING) for path, content in sources.items()}
        menu = parse(by_hand, texts.get, self.recipient)
        only, _reason = chosen(by_hand, menu) if self.default_only else (None, "")
        edited = edit(menu, texts, name, option, only)
        return self.tree.changes((path, sources[path], text.encode(ENCODING)) for path, text in edited.items())

    def configured(self, sources: Mapping[str, bytes]) -> str:
        by_hand = self.hand_kept()
        if by_hand is None:
            return self._files.configured(sources)
        texts = {path: content.decode(ENCODING) for path, content in sources.items()}
        return next_boot(by_hand, texts.get, self.recipient).line or ""

    def written(self, sources: Mapping[str, bytes]) -> Dict[str, str]:
        by_hand = self.hand_kept()
        return self._files.variables.written(sources) if by_hand is None else {by_hand: self.configured(sources)}

    def elsewhere(self, sources: Mapping[str, bytes], changes: Sequence[Change], name: str) -> List[str]:
        return self._files.elsewhere(sources, changes, name) if self.generates else []

    def next_boot(self) -> NextBoot:
        path, reason = self.menu(), efi_boot.starts_another(self.tree, _PROGRAMS) or self._disagree()
        if path is None:
            return NO_ENTRY
        boots = next_boot(path, self.tree.text, self.recipient)
        return NextBoot(None, None, reason, boots.entries) if reason else boots

    def _disagree(self) -> str:
        """Return that several menus differ, in a sentence; empty where they do not."""
        menus = self._menus() if self.hand_kept() is not None else []
        starts = {path: next_boot(path, self.tree.text, self.recipient) for path in menus}
        if len({(boots.options, boots.xen) for boots in starts.values()}) < 2:
            return ""
        return f"Several menus differ, and which of them boots is not known here: {' and '.join(starts)}."

    def output(self) -> Optional[str]:
        path = self.menu() if self.generates else None
        return None if path is None else self.tree.path(path)

    def menu(self) -> Optional[str]:
        """Return the path of the menu, None where there is none."""
        return next(iter(self._menus()), None)

    def _menus(self) -> List[str]:
        """Return the menus that the loader may read."""
        found = {os.path.realpath(self.tree.path(path)): path for path in reversed(OUTPUTS) if self.tree.is_file(path)}
        menus = [path for path in OUTPUTS if path in found.values()]
        if self.tree.foreign:
            return menus
        by_efi = self.tree.is_directory(EFI)
        return [path for path in menus if ("/EFI/" in path) is by_efi] or menus

    def generator(self) -> List[str]:
        """:raises UserError: it is not installed."""
        if not self.generates:
            return []
        if self.tree.program(PROGRAM) is None:
            raise UserError(
                f"The program {PROGRAM} is not installed on this host.",
                f"Install {distributions.install_hint('update_extlinux', distributions.detect(self.tree.root))}, "
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
