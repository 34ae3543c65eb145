# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: GRUB 0.97, which reads menu.lst itself (get_line_from_config, stage2/stage2.c).
# Debian's update-grub keeps its own options in comments there, and generates the entries between two marks from them.

from __future__ import annotations

import functools
import os
import re
from dataclasses import replace
from typing import Dict, List, Mapping, Match, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line, line_edits
from ansible_collections.xen.stubdom.plugins.module_utils._boot.command_line import DOM0_KERNEL, HYPERVISOR, Recipient
from ansible_collections.xen.stubdom.plugins.module_utils._boot.next_boot import NO_ENTRY, WAITS, NextBoot, from_entries
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import ENCODING, MARK, Tree
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import HYPERVISOR as HYPERVISOR_FILE
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.files import Change
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner

# Debian and others; Red Hat and Gentoo.
FILES = ("/boot/grub/menu.lst", "/boot/grub/grub.conf")
# Where savedefault and grub-set-default keep the number of an entry.
SAVED = "/boot/grub/default"

BEGIN = "### BEGIN AUTOMAGIC KERNELS LIST"
END = "### END DEBIAN AUTOMAGIC KERNELS LIST"
# update-grub reads its own options between these two only, in sed's words from the one to the other.
_OPTIONS = "## ## Start Default Options ##"
_OPTIONS_END = "## ## End Default Options ##"


class Magic(NamedTuple):
    """The comment in which update-grub reads the options of one recipient (update-grub of Debian's 0.97-80).

    :param default: what it uses, and writes there, where there is no such comment.
    :param common: a comment whose options it adds to those of all entries, with Xen and without.
    """

    comment: str
    default: str = ""
    common: str = ""


_MAGIC: Mapping[Recipient, Magic] = {
    HYPERVISOR: Magic("# xenhopt="),
    DOM0_KERNEL: Magic("# xenkopt=", "console=tty0", "# kopt="),
}

# A backslash before the newline continues a line.
_CONTINUATION = re.compile(r"\\\r?\n")
_COMMAND = re.compile(r"^[ \t]*(?P<name>[a-z]+)(?:[ \t=]+(?P<rest>.*))?$", re.DOTALL)
# The commands of GRUB 0.97 (stage2/builtins.c) and of what distributions have added; other lines are passed over.
_BUILTINS = frozenset(
    {
        "background", "blocklist", "boot", "bootp", "cat", "chainloader", "clear", "cmp", "color", "configfile",
        "debug", "default", "device", "dhcp", "displayapm", "displaymem", "dump", "embed", "fallback", "find",
        "foreground", "fstest", "geometry", "gfxmenu", "halt", "help", "hiddenmenu", "hide", "ifconfig", "impsprobe",
        "initrd", "install", "ioprobe", "kernel", "lock", "makeactive", "map", "module", "modulenounzip", "pager",
        "partnew", "parttype", "password", "pause", "quiet", "quit", "rarp", "read", "reboot", "root", "rootnoverify",
        "savedefault", "serial", "setkey", "setup", "shade", "splashimage", "terminal", "terminfo", "testload",
        "testvbe", "tftpserver", "timeout", "unhide", "uppermem", "uuid", "vbeprobe", "viewport",
    }
)  # fmt: skip
# kernel [--type=TYPE] [--no-mem-option] FILE OPTIONS
_KERNEL = re.compile(r"^[ \t]*kernel[ \t=]+(?:--\S+[ \t]+)*(?P<file>[^ \t\n]+)(?P<options>[^\n]*)$", re.DOTALL)
# module FILE OPTIONS; of several in an entry the first one is dom0's kernel.
_MODULE = re.compile(r"^[ \t]*module(?:nounzip)?[ \t=]+(?P<file>[^ \t\n]+)(?P<options>[^\n]*)$", re.DOTALL)


class Line(NamedTuple):
    """One logical line of the file; *text* has blanks where a backslash continues it, *end* is before its newline."""

    number: int
    start: int
    end: int
    text: str


class Place(NamedTuple):
    """Where the options of one recipient are: in an entry, or in a comment that Debian's update-grub reads.

    :param entry: number of the entry, None for the comment.
    :param magic: whether update-grub generates it.
    :param common: whether it is the comment whose options all entries get.
    """

    entry: Optional[int]
    magic: bool
    line: Line
    start: int
    text: str
    common: bool = False


@functools.lru_cache(maxsize=4)
def lines(text: str) -> Sequence[Line]:
    """Return the logical lines that are not empty; a backslash before the newline continues a comment, too.

    The same text is asked for several times in one run.
    """
    found: List[Line] = []
    at, number = 0, 1
    while at < len(text):
        end = at
        while True:
            newline = text.find("\n", end)
            stop = len(text) if newline < 0 else newline
            if newline < 0 or not text[end:stop].rstrip("\r").endswith("\\"):
                break
            end = newline + 1
        raw = text[at:stop]
        plain = raw if end == at else _CONTINUATION.sub(lambda match: "\f" * len(match.group()), raw)
        stripped = plain.rstrip("\r")
        if stripped:
            found.append(Line(number, at, at + len(stripped), stripped))
        number += raw.count("\n") + 1
        at = stop + 1
    return found


def generated(found: Sequence[Line]) -> Optional[Tuple[int, int]]:
    """Return the line numbers between which update-grub generates entries, None without its two marks."""
    begin = next((line.number for line in found if line.text.rstrip() == BEGIN), None)
    end = next((line.number for line in found if line.text.rstrip() == END), None)
    return None if begin is None or end is None or end < begin else (begin, end)


@functools.lru_cache(maxsize=4)
def places(text: str, recipient: Recipient = HYPERVISOR) -> Sequence[Place]:
    """Return the places where options of one recipient are, in order."""
    found: List[Place] = []
    entry = -1
    logical = lines(text)
    between = generated(logical)
    numbers = _numbers(text)
    comments = _MAGIC[recipient]
    ours = awaited = False
    for line in logical:
        magic = between is not None and between[0] < line.number < between[1]
        ours = line.text.startswith(_OPTIONS) or (ours and not line.text.startswith(_OPTIONS_END))
        for comment in (comments.comment, comments.common) if ours else ():
            if comment and line.text.startswith(comment):
                start = len(comment)
                found.append(
                    Place(None, True, line, line.start + start, line.text[start:], comment != comments.comment)
                )
        shown = line.text.replace("\f", " ")
        command = _COMMAND.match(shown)
        if command and command["name"] == "title":
            entry = numbers.get(line.number, entry)
            awaited = False
        kernel, module = _KERNEL.match(shown), _MODULE.match(shown) if awaited else None
        if kernel:
            awaited = HYPERVISOR_FILE.match(os.path.basename(kernel["file"])) is not None
        starts = kernel if recipient is HYPERVISOR else module
        if awaited and starts:
            awaited = False
            start = starts.start("options")
            found.append(Place(max(entry, 0), magic, line, line.start + start, line.text[start:]))
    return found


def default_line(text: str, name: str = "default") -> Optional[Line]:
    """Return the line that says which entry is the default, the last one before the first entry; None for none.

    Behind a title it is a command of the entry (cmain in stage2/stage2.c).

    :param name: of another command that is read in the same way.
    """
    found: Optional[Line] = None
    for line in lines(text):
        command = _COMMAND.match(line.text.replace("\f", " "))
        if command and command["name"] == "title":
            break
        if command and command["name"] == name:
            found = line
    return found


def _number(text: str, name: str) -> Tuple[str, Optional[Match[str]]]:
    """Return what follows a command that default_line finds, and the number that it begins with."""
    line = default_line(text, name)
    command = _COMMAND.match(line.text.replace("\f", " ")) if line else None
    value = (command["rest"] or "").strip() if command else ""
    return value, re.match(r"0[xX][0-9A-Fa-f]+|[0-9]+", value[:32])


def _default(text: str, saved: int) -> int:
    """Return the number of the default entry, which ends before whatever follows it (safe_parse_maxint)."""
    value, number = _number(text, "default")
    if number is None:
        return saved if value.split()[:1] == ["saved"] else 0
    return int(number.group(), 16 if "x" in number.group().lower() else 10)


def _booting(text: str, saved: int) -> int:
    """Return the number of the entry that boots.

    Where the number of the default entry is too large, GRUB 0.97 boots the first one that `fallback` names and that is
    there, else the first of all (cmain, stage2/stage2.c).
    """
    count = len(_numbers(text))
    return next((number for number in (_default(text, saved), *_fallback(text)) if number < count), 0)


# MAX_FALLBACK_ENTRIES in stage2/shared.h.
_MOST_FALLBACKS = 8


def _fallback(text: str) -> List[int]:
    """Return the numbers that `fallback` names, up to one that is damaged (fallback_func in stage2/builtins.c)."""
    line = default_line(text, "fallback")
    command = _COMMAND.match(line.text.replace("\f", " ")) if line else None
    numbers: Dict[int, None] = {}
    for word in ((command["rest"] or "") if command else "").split():
        number = re.match(r"0[xX][0-9A-Fa-f]+|[0-9]+", word[:32])
        if number is None:
            break
        numbers[int(number.group(), 16 if "x" in number.group().lower() else 10)] = None
    return list(numbers)[:_MOST_FALLBACKS]


@functools.lru_cache(maxsize=4)
def _numbers(text: str) -> Mapping[int, int]:
    """Return the numbers of the entries by those of the lines with their titles.

    A title that no command follows is no entry (cmain, stage2/stage2.c).
    """
    found: Dict[int, int] = {}
    title: Optional[int] = None
    for line in lines(text):
        command = _COMMAND.match(line.text.replace("\f", " "))
        if command and command["name"] == "title":
            title = line.number
        elif command and command["name"] in _BUILTINS and title is not None:
            found[title], title = len(found), None
    return found


def chosen(text: str, recipient: Recipient = HYPERVISOR, saved: int = 0) -> Optional[Place]:
    """Return the place in the default entry if it boots a hypervisor, else in the first that does.

    :param saved: as for next_boot.
    """
    default = _booting(text, saved)
    entries = [place for place in places(text, recipient) if place.entry is not None]
    return next((place for place in entries if place.entry == default), entries[0] if entries else None)


def next_boot(path: str, text: str, saved: int = 0, recipient: Recipient = HYPERVISOR) -> NextBoot:
    """Return what a menu boots.

    :param saved: the entry of `default saved`, as grub-set-default has written it.
    """
    numbers, default = _numbers(text), _booting(text, saved)
    title, entry, runs = "", -1, set()
    for line in lines(text):
        command = _COMMAND.match(line.text.replace("\f", " "))
        entry = numbers.get(line.number, entry)
        if command and entry == default:
            title = title if command["name"] != "title" else (command["rest"] or "").strip()
            runs.add(command["name"])
    behind = reversed(places(text, recipient))
    entries = {place.entry: _passed(text, place, recipient) for place in behind if place.entry is not None}
    known = [entries[number] for number in sorted(entries)]
    if "password" in runs or ("lock" in runs and default_line(text, "password") is not None):
        return NextBoot(None, None, f"GRUB does not start its entry '{title}' until somebody gives a password.", known)
    if default not in entries and not runs.isdisjoint(("chainloader", "configfile")):
        return NextBoot(None, None, f"GRUB's entry '{title}' hands over to another menu or loader.", known)
    found = from_entries(
        entries.get(default),
        known,
        title=title,
        file=path,
        remedy="Set default there to the number of an entry for Xen, counted from 0.",
    )
    if _number(text, "timeout")[1] is not None:
        return found
    # grub_timeout is below 0 until that command sets it (stage2/stage2.c).
    return replace(found, waits=WAITS.format(file=path, loader="GRUB", remedy="set timeout there to some seconds."))


def configured_line(text: str, recipient: Recipient = HYPERVISOR, saved: int = 0) -> str:
    """Return what update-grub will write where it generates the entry, else the options of the entry.

    :param saved: as for next_boot.
    """
    entry = chosen(text, recipient, saved)
    comments = [place for place in places(text, recipient) if place.entry is None]
    comment = next((place for place in comments if not place.common), None)
    if comment is not None and (entry is None or entry.magic):
        common = next((place.text for place in comments if place.common), "")
        return _plain(f"{common} {comment.text}", recipient)
    return "" if entry is None else _passed(text, entry, recipient)


def _passed(text: str, place: Place, recipient: Recipient) -> str:
    """Return what an entry passes to a recipient."""
    added = "" if recipient is HYPERVISOR else _for_linux(text).get(place.entry, "")
    return _plain(f"{place.text} {added}", recipient)


@functools.lru_cache(maxsize=4)
def _for_linux(text: str) -> Mapping[Optional[int], str]:
    """Return what the hypervisor adds to the line of dom0's Linux, by the number of the entry."""
    return {place.entry: command_line.for_linux(place.text.replace("\f", " ")) for place in reversed(places(text))}


def edit(
    path: str,
    text: str,
    name: str,
    option: Optional[str],
    recipient: Recipient = HYPERVISOR,
    only: Optional[int] = None,
) -> str:
    """Return the file with *option* in every entry that boots a hypervisor, and in Debian's comment.

    :param only: number of the only entry that is edited; None for all and the comment.
    :raises UserError: there is no such entry, or update-grub would write another one.
    """
    found = [place for place in places(text, recipient) if not place.common]
    common = [place for place in places(text, recipient) if place.common]
    if only is not None:
        found = [place for place in found if place.entry == only]
        if any(place.magic for place in found):
            raise UserError(
                f"The parameter entries is default, but update-grub writes entry {only} of {path}, which boots, from "
                "options that all entries for Xen have in common.",
                "Nothing was changed. Set entries to all.",
            )
    magic = _MAGIC[recipient]
    logical = lines(text)
    marks = (line for line in logical if line.text.startswith(_OPTIONS) and "\n" in text[line.end : line.end + 2])
    begin = next(marks, None)
    if not found and begin is None:
        if option is None:
            return text
        raise UserError(
            f"{path} has no entry that boots a hypervisor.",
            "Add an entry with lines such as kernel /boot/xen.gz and module /boot/vmlinuz, then run again.",
        )
    entries = [place for place in found if place.entry is not None]
    written = not entries or any(place.magic for place in entries)
    held = next((place for place in common if command_line.find(_shown(place), name, recipient)), None)
    if written and held is not None:
        if command_line.find(configured_line(text, recipient), name, recipient) == line_edits.words(option):
            return text
        raise UserError(
            f"{path} line {held.line.number} gives {name} to every Linux, with Xen and without "
            f"({magic.common.strip('# ')}).",
            f"Nothing was changed. Move {name} from there into the line {magic.comment}, then run again.",
        )
    newline = "\r\n" if "\r\n" in text else "\n"
    changes: List[line_edits.Edit] = []
    for place in found:
        changes += _place_edits(text, place, name, option, newline, recipient)
    needed = option is not None or command_line.find(magic.default, name, recipient)
    if begin is not None and needed and written and len(entries) == len(found):
        after = text.index("\n", begin.end) + 1
        edits = line_edits.edits(magic.default, name, option, recipient)
        line = f"{magic.comment}{line_edits.apply_edits(magic.default, edits)}"
        changes.append((after, after, f"#{MARK}{newline}{line}{newline}"))
    return line_edits.apply_edits(text, changes)


def _shown(place: Place) -> str:
    """Return the text of a place; a form feed stands for a continuation there, which separates options."""
    return place.text.replace("\f", "\n")


def _place_edits(
    text: str, place: Place, name: str, option: Optional[str], newline: str, recipient: Recipient
) -> Sequence[line_edits.Edit]:
    shown = _shown(place)
    behind_file = place.entry is not None
    edits = (line_edits.edits_behind if behind_file else line_edits.edits)(shown, name, option, recipient)
    added = f"#{MARK}{newline}"
    gone = line_edits.apply_edits(shown, edits) == _MAGIC[recipient].default
    if edits and gone and option is None and not behind_file and text.endswith(added, 0, place.line.start):
        after = text.find("\n", place.line.end) + 1 or len(text)
        return [(place.line.start - len(added), after, "")]
    return [(place.start + start, place.start + end, new) for start, end, new in edits]


def _plain(text: str, recipient: Recipient) -> str:
    return " ".join(command_line.options(text.replace("\f", " "), recipient))


class GrubLegacy:
    """GRUB 0.97 with its menu.

    :param run: runs a command without a shell.
    :param root: where the files are found.
    :param foreign: whether that is another tree than this host's.
    """

    name = "grub_legacy"
    generates = False
    recipient: Recipient = HYPERVISOR
    default_only = False
    first_option: Optional[str] = None

    def __init__(self, run: Runner, *, root: str = "/", foreign: bool = False) -> None:
        self.tree = Tree(root, foreign=foreign)

    def present(self) -> bool:
        return self._file() is not None

    def hypervisor_installed(self) -> bool:
        return self.tree.has_hypervisor()

    def read(self) -> Dict[str, bytes]:
        path = self._file()
        return self.tree.contents([path]) if path else {}

    def plan(self, sources: Mapping[str, bytes], name: str, option: Optional[str]) -> List[Change]:
        return self.tree.changes(
            (path, content, self._edited(path, content.decode(ENCODING), name, option).encode(ENCODING))
            for path, content in sources.items()
        )

    def _edited(self, path: str, text: str, name: str, option: Optional[str]) -> str:
        place = chosen(text, self.recipient, self._saved()) if self.default_only else None
        return edit(path, text, name, option, self.recipient, None if place is None else place.entry)

    def configured(self, sources: Mapping[str, bytes]) -> str:
        texts = (content.decode(ENCODING) for content in sources.values())
        return next((configured_line(text, self.recipient, self._saved()) for text in texts), "")

    def written(self, sources: Mapping[str, bytes]) -> Dict[str, str]:
        return {path: self.configured({path: content}) for path, content in sources.items()}

    def elsewhere(self, sources: Mapping[str, bytes], changes: Sequence[Change], name: str) -> List[str]:
        """Return nothing: entries without Xen are never edited."""
        return []

    def next_boot(self) -> NextBoot:
        path = self._file()
        text = None if path is None else self.tree.text(path)
        if path is None or text is None:
            return NO_ENTRY
        return next_boot(path, text, self._saved(), self.recipient)

    def _saved(self) -> int:
        """Return the number of the entry that `default saved` means."""
        number = (self.tree.read(SAVED) or b"").split(b"\n", 1)[0].strip()
        return int(number) if number.isdigit() else 0

    def output(self) -> Optional[str]:
        """Return nothing: no program generates the menu."""
        return None

    def generator(self) -> List[str]:
        """Return no command: GRUB reads the file itself, and its entries hold what update-grub would write."""
        return []

    def unchecked(self, sources: Mapping[str, bytes]) -> List[str]:
        return ["Whether the installed GRUB reads this menu was not checked."]

    def _file(self) -> Optional[str]:
        return next((path for path in FILES if self.tree.is_file(path)), None)
