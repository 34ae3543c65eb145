# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the hypervisor line in the source files of GRUB 2.
# grub-mkconfig sources them as shell programs; here only the one word inside an assignment is ever touched.

from __future__ import annotations

import glob
import os
import re
import tempfile
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils import _boot_line
from ansible_collections.xen.stubdom.plugins.module_utils._errors import Refusal
from ansible_collections.xen.stubdom.plugins.module_utils._files import Change, read
from ansible_collections.xen.stubdom.plugins.module_utils._xen import Runner

# Their order on the line, /etc/grub.d/20_linux_xen @ grub 2.06: recovery entries get the first one only.
VARIABLES = ("GRUB_CMDLINE_XEN", "GRUB_CMDLINE_XEN_DEFAULT")

MAIN = "/etc/default/grub"
DROP_IN_DIRECTORY = "/etc/default/grub.d"
DROP_IN = f"{DROP_IN_DIRECTORY}/zz-xen-stubdom.cfg"
_DROP_IN_HEAD = b"# Written by the Ansible collection xen.stubdom: words for the hypervisor, in all of its entries.\n"

# File names are bytes to a shell; so is everything else in these files.
_ENCODING = "latin-1"

# What generates the configuration, and where it goes: the first tool that exists names the layout.
# Debian and Ubuntu; Arch, Alpine and Gentoo; Fedora, RHEL and openSUSE.
LAYOUTS: Sequence[Tuple[Tuple[str, ...], str]] = (
    (("update-grub",), "/boot/grub/grub.cfg"),
    (("grub-mkconfig", "-o", "/boot/grub/grub.cfg"), "/boot/grub/grub.cfg"),
    (("grub2-mkconfig", "-o", "/boot/grub2/grub.cfg"), "/boot/grub2/grub.cfg"),
)
_PROGRAM_DIRECTORIES = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin")
_MKCONFIG = ("grub-mkconfig", "grub2-mkconfig")

_ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<operator>\+?=)")
_DECLARERS = ("export", "readonly", "declare", "typeset", "local")
# After these words the shell reads a command, in which an assignment may stand first.
_KEYWORDS = ("if", "then", "else", "elif", "while", "until", "do", "{", "!", "time", "fi", "done", "esac", "}")

_HYPERVISOR = re.compile(r"^xen(?!-syms)[^/]*$")
_BOOT_COMMANDS = ("multiboot", "multiboot2", "xen_hypervisor")
# Put there by 20_linux_xen, not by anybody's configuration.
_GENERATED_WORDS = ("placeholder", "${xen_rm_opts}")

# What grub-mkconfig has defined when it sources the files (grub-mkconfig_lib @ 2.06), cut down to what does no harm.
_EVALUATE = r"""
set -e
sysconfdir=/etc
grub_warn () { :; }
command -v gettext >/dev/null 2>&1 || gettext () { printf '%s' "$1"; }
gettext_quoted () { gettext "$@"; }
gettext_printf () { printf "$@"; }
for file in "$@"; do
  . "$file" </dev/null >&2
done
printf 'xen.stubdom:%s %s' "${GRUB_CMDLINE_XEN-}" "${GRUB_CMDLINE_XEN_DEFAULT-}"
"""
_MARK = "xen.stubdom:"


@dataclass(frozen=True)
class Unit:
    """One character of a value after the shell has taken its quotes away, and where it comes from.

    :param text: the character; empty for an expansion, whose outcome nobody knows before the shell runs.
    """

    start: int
    end: int
    text: str

    @property
    def opaque(self) -> bool:
        return not self.text


@dataclass(frozen=True)
class Assignment:
    """One NAME=value or NAME+=value in a file.

    :param end: where its text ends in the file.
    """

    path: str
    line: int
    name: str
    operator: str
    start: int
    end: int
    units: Tuple[Unit, ...]

    @property
    def composes(self) -> bool:
        """Whether it may keep what the variable held before."""
        return self.operator == "+=" or any(unit.opaque for unit in self.units)

    def words(self) -> List[Tuple[Unit, ...]]:
        """Split the value where the hypervisor will."""
        found: List[List[Unit]] = [[]]
        for unit in self.units:
            if unit.text and unit.text.isspace():
                found.append([])
            else:
                found[-1].append(unit)
        return [tuple(word) for word in found if word]

    def holds(self, option: str) -> List[Tuple[Unit, ...]]:
        """Return the words that set *option*.

        :raises Refusal: where such a word begins or ends depends on an expansion.
        """
        found = []
        for word in self.words():
            text = "".join(unit.text for unit in word)
            if any(unit.opaque for unit in word):
                if f"{option}=" in text.replace("-", "_"):
                    raise Refusal(
                        f"{self.path} line {self.line}: the word {option}= in {self.name} depends on an expansion.",
                        f"Write the value of {option} out in that line, or take it away.",
                    )
            elif _boot_line.names(text, option):
                found.append(word)
        return found


class _Scanner:
    """Finds assignments in a shell program without running it. Positions count characters of the whole text."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self.at = 0

    def refuse(self, position: int, what: str) -> Refusal:
        line = self.text.count("\n", 0, position) + 1
        return Refusal(
            f"{self.path} line {line}: {what}.", "Nothing was changed; correct that line so that the shell can read it."
        )

    def assignments(self) -> List[Assignment]:
        found: List[Assignment] = []
        command_position = True
        declaring = False
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in " \t":
                self.at += 1
            elif char == "\\" and self.text.startswith("\\\n", self.at):
                self.at += 2
            elif char in "\n;&|()":
                self.at += 1
                command_position, declaring = True, False
            elif char == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif char in "<>":
                if self.text.startswith("<<", self.at):
                    raise self.refuse(self.at, "a here-document is not understood")
                self.at += 1
            else:
                start = self.at
                units = self.word()
                raw = self.text[start : self.at]
                match = _ASSIGNMENT.match(raw)
                if match and (command_position or declaring):
                    value = tuple(unit for unit in units if unit.start >= start + match.end())
                    line = self.text.count("\n", 0, start) + 1
                    found.append(Assignment(self.path, line, match["name"], match["operator"], start, self.at, value))
                elif command_position and raw in _DECLARERS:
                    declaring = True
                    command_position = False
                elif not (command_position and raw in _KEYWORDS):
                    command_position = False
        return found

    def word(self) -> List[Unit]:
        """Read one word of the shell; afterwards *at* is behind it."""
        units: List[Unit] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in " \t\n;&|()<>":
                break
            if char == "'":
                self.single_quoted(units)
            elif char == '"':
                self.double_quoted(units)
            elif char == "\\":
                self.escape(units, special=None)
            elif char in "$`":
                self.expansion(units)
            else:
                units.append(Unit(self.at, self.at + 1, char))
                self.at += 1
        return units

    def single_quoted(self, units: List[Unit]) -> None:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise self.refuse(self.at, "a quoted string is never closed")
        units += [Unit(place, place + 1, self.text[place]) for place in range(self.at + 1, end)]
        self.at = end + 1

    def double_quoted(self, units: List[Unit]) -> None:
        opened = self.at
        self.at += 1
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == '"':
                self.at += 1
                return
            if char == "\\":
                self.escape(units, special='$`"\\')
            elif char in "$`":
                self.expansion(units)
            else:
                units.append(Unit(self.at, self.at + 1, char))
                self.at += 1
        raise self.refuse(opened, "a quoted string is never closed")

    def escape(self, units: List[Unit], *, special: Optional[str]) -> None:
        following = self.text[self.at + 1 : self.at + 2]
        if following == "\n":
            self.at += 2
        elif following and (special is None or following in special):
            units.append(Unit(self.at, self.at + 2, following))
            self.at += 2
        else:
            units.append(Unit(self.at, self.at + 1, "\\"))
            self.at += 1

    def expansion(self, units: List[Unit]) -> None:
        start = self.at
        if self.text[start] == "`":
            self.at += 1
            while self.at < len(self.text) and self.text[self.at] != "`":
                self.at += 2 if self.text[self.at] == "\\" else 1
            if self.at >= len(self.text):
                raise self.refuse(start, "a backquote is never closed")
            self.at += 1
        elif self.text[start + 1 : start + 2] in ("(", "{"):
            self.at += 1
            self.nested()
        else:
            name = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-]").match(self.text, start + 1)
            if name is None:
                units.append(Unit(start, start + 1, "$"))
                self.at = start + 1
                return
            self.at = name.end()
        units.append(Unit(start, self.at, ""))

    def nested(self) -> None:
        """Skip $( … ) or ${ … } with everything quoted in it; *at* is on the opening bracket."""
        opened = self.at
        expected: List[str] = []
        ignored: List[Unit] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "'" and not (expected and expected[-1] == "}"):
                self.single_quoted(ignored)
            elif char == '"':
                self.double_quoted(ignored)
            elif char == "\\":
                self.at += 2
            elif char == "`":
                self.expansion(ignored)
            else:
                self.at += 1
                if char in "({":
                    expected.append(")" if char == "(" else "}")
                elif expected and char == expected[-1]:
                    expected.pop()
                    if not expected:
                        return
        raise self.refuse(opened, "a bracket is never closed")


def scan(path: str, content: bytes) -> List[Assignment]:
    """Return the assignments to the hypervisor's variables in one file, in order.

    :raises Refusal: the file is not understood; only one that names these variables is looked at.
    """
    text = content.decode(_ENCODING)
    if VARIABLES[0] not in text:
        return []
    if "\0" in text:
        raise _Scanner(path, text).refuse(text.index("\0"), "there is a NUL character")
    try:
        found = _Scanner(path, text).assignments()
    except RecursionError as error:
        raise Refusal(f"{path} is nested too deeply to be understood.", "Nothing was changed; simplify it.") from error
    return [assignment for assignment in found if assignment.name in VARIABLES]


def live(assignments: Sequence[Assignment]) -> List[Assignment]:
    """Leave out those whose value a later one replaces."""
    return [
        assignment
        for place, assignment in enumerate(assignments)
        if not any(later.name == assignment.name and not later.composes for later in assignments[place + 1 :])
    ]


def edit(
    sources: Mapping[str, bytes], option: str, value: Optional[str], *, drop_ins: bool
) -> Dict[str, Optional[bytes]]:
    """Return the new contents of the files that change; None for a file to remove.

    The word stays where one stands that counts, preferably in GRUB_CMDLINE_XEN, whose words reach every entry; all
    others go. Without one, it gets a file of its own that adds to what the other files say, so that no package's file
    is touched; where such files are not read, it goes into /etc/default/grub.

    :param value: None to remove the option.
    :param drop_ins: whether grub-mkconfig reads /etc/default/grub.d.
    :raises Refusal: a file is not understood.
    """
    assignments = [assignment for path, content in sources.items() for assignment in scan(path, content)]
    holding = [assignment for assignment in assignments if assignment.holds(option)]
    place: Optional[Assignment] = None
    if value is not None:
        alive = live(assignments)
        counting = [assignment for assignment in holding if assignment in alive]
        everywhere = [assignment for assignment in counting if assignment.name == VARIABLES[0]]
        place = next(reversed(everywhere or counting), None)
    edits: Dict[str, List[Tuple[int, int, str]]] = {}
    for assignment in holding:
        edits.setdefault(assignment.path, []).extend(
            _replacements(assignment, option, value if assignment is place else None)
        )
    result: Dict[str, Optional[bytes]] = {
        path: _replace(sources[path], replacements) for path, replacements in edits.items()
    }
    if value is not None and place is None:
        _add(sources, result, f"{option}={value}", drop_ins=drop_ins)
    if value is None:
        _take_back(result)
    return {path: content for path, content in result.items() if content != sources.get(path)}


def _replacements(assignment: Assignment, option: str, value: Optional[str]) -> List[Tuple[int, int, str]]:
    """Return (start, end, new text) for every character that has to go; quotes between them stay where they are."""
    found = assignment.holds(option)
    changes: List[Tuple[int, int, str]] = []
    gone = set()
    for word in found:
        keep = value is not None and word is found[-1]
        if keep and "".join(unit.text for unit in word) == f"{option}={value}":
            continue
        new = f"{option}={value}" if keep else ""
        for unit in word:
            changes.append((unit.start, unit.end, new))
            new = ""
        if not keep:
            place = assignment.units.index(word[0])
            after = place + len(word)
            for neighbour in (place - 1, after):
                if 0 <= neighbour < len(assignment.units) and neighbour not in gone:
                    unit = assignment.units[neighbour]
                    if unit.text and unit.text.isspace():
                        changes.append((unit.start, unit.end, ""))
                        gone.add(neighbour)
                        break
    return changes


def _replace(content: bytes, replacements: Sequence[Tuple[int, int, str]]) -> bytes:
    text = content.decode(_ENCODING)
    for start, end, new in sorted(replacements, reverse=True):
        text = text[:start] + new + text[end:]
    return text.encode(_ENCODING)


def _drop_in_line(word: str) -> str:
    return f'{VARIABLES[0]}="${VARIABLES[0]}{" " if word else ""}{word}"\n'


def _add(sources: Mapping[str, bytes], result: Dict[str, Optional[bytes]], word: str, *, drop_ins: bool) -> None:
    path = DROP_IN if drop_ins else MAIN
    old = result.get(path) or sources.get(path, b"")
    if drop_ins and not old:
        old = _DROP_IN_HEAD
    elif old and not old.endswith(b"\n"):
        old += b"\n"
    result[path] = old + _drop_in_line(word).encode(_ENCODING)


def _take_back(result: Dict[str, Optional[bytes]]) -> None:
    """Remove the line of our own that a removed word leaves without a purpose, and our file if that was all."""
    empty = _drop_in_line("").encode(_ENCODING)
    for path, content in result.items():
        if content is not None and content.endswith(empty):
            rest = content[: -len(empty)]
            result[path] = None if path == DROP_IN and rest in (b"", _DROP_IN_HEAD) else rest


def hypervisor_line(grub_cfg: str) -> Optional[str]:
    """Return the words that the first normal entry for Xen passes to the hypervisor, None without such an entry.

    20_linux_xen writes the default entry first, then the same and its recovery entry in the submenu.
    """
    for line in grub_cfg.splitlines():
        fields = line.split()
        if len(fields) >= 2 and fields[0] in _BOOT_COMMANDS and _HYPERVISOR.match(os.path.basename(fields[1])):
            return " ".join(field for field in fields[2:] if field not in _GENERATED_WORDS)
    return None


class Grub2:
    """GRUB 2 with grub-mkconfig.

    :param run: runs a command without a shell.
    :param root: where the files are found; only tests give another one.
    """

    name = "grub2"

    def __init__(self, run: Runner, *, root: str = "/") -> None:
        self._run = run
        self._root = root

    def present(self) -> bool:
        return os.path.isfile(self._path(MAIN)) or self._layout() is not None

    def hypervisor_installed(self) -> bool:
        return any(
            _HYPERVISOR.match(os.path.basename(path)) and not path.endswith(".config")
            for path in glob.glob(self._path("/boot/xen*"))
        )

    def read(self) -> Dict[str, bytes]:
        paths = [MAIN]
        if self._drop_ins():
            # The shell sorts the names in its own locale; for names of plain letters and digits this is the same.
            found = sorted(glob.glob(self._path(f"{DROP_IN_DIRECTORY}/*.cfg")))
            paths += [os.path.join(DROP_IN_DIRECTORY, os.path.basename(path)) for path in found]
        contents = ((path, read(self._path(path))) for path in paths)
        return {path: content for path, content in contents if content is not None}

    def plan(self, sources: Mapping[str, bytes], option: str, value: Optional[str]) -> List[Change]:
        edited = edit(sources, option, value, drop_ins=self._drop_ins())
        changes = [Change(self._path(path), sources.get(path), content) for path, content in edited.items()]
        if changes:
            self._prove({**sources, **edited}, option, value)
        return changes

    def configured(self, sources: Mapping[str, bytes]) -> str:
        """Run the files as grub-mkconfig does, from copies.

        :raises Refusal: the shell cannot run one of them.
        """
        with tempfile.TemporaryDirectory(prefix="xen.stubdom.") as directory:
            copies: Dict[str, str] = {}
            for number, (path, content) in enumerate(sources.items()):
                copy = os.path.join(directory, f"{number:03d}-{os.path.basename(path)}")
                with open(copy, "wb") as stream:
                    stream.write(content)
                copies[copy] = path
            status, output, errors = self._run(["sh", "-c", _EVALUATE, "sh", *copies])
            for copy, path in copies.items():
                errors = errors.replace(copy, path)
        if status != 0 or _MARK not in output:
            lines = [line.strip() for line in errors.splitlines() if line.strip()] or ["no message"]
            raise Refusal(
                f"GRUB cannot source its configuration: {lines[-1].rstrip('.')}.",
                f"Correct that file so that `sh {MAIN}` runs without an error, then run again.",
            )
        return output.partition(_MARK)[2].strip()

    def effective(self) -> Optional[str]:
        layout = self._layout()
        content = read(self._path(layout[1])) if layout else None
        return None if content is None else hypervisor_line(content.decode(_ENCODING))

    def regenerate(self) -> None:
        """:raises Refusal: the tool is missing or fails."""
        layout = self._layout()
        if layout is None:
            raise Refusal(
                "There is neither update-grub nor grub-mkconfig on this host.",
                "Install GRUB (on Debian the package grub-pc or grub-efi-amd64), or set regenerate to false.",
            )
        status, _output, errors = self._run(list(layout[0]))
        if status != 0:
            lines = [line.strip() for line in errors.splitlines() if line.strip()] or ["no message"]
            raise Refusal(
                f"`{' '.join(layout[0])}` failed: {lines[-1].rstrip('.')}.",
                "Run it by hand to see why, then run this again; regenerate=false leaves it out.",
            )

    def _prove(self, planned: Mapping[str, Optional[bytes]], option: str, value: Optional[str]) -> None:
        kept = {path: content for path, content in planned.items() if content is not None}
        order = sorted(kept, key=lambda path: (path != MAIN, path))
        seen = _boot_line.values(self.configured({path: kept[path] for path in order}), option)
        if seen != ([] if value is None else [value]):
            given = " ".join(f"{option}={text}" for text in seen) or f"no {option}"
            wanted = f"no {option}" if value is None else f"{option}={value}"
            raise Refusal(
                f"The files of GRUB are programs, and after the edit they give {given} where {wanted} is asked for.",
                f"Look for what sets {' and '.join(VARIABLES)} in {', '.join(order)}; nothing was changed.",
            )

    def _drop_ins(self) -> bool:
        """Whether grub-mkconfig reads /etc/default/grub.d: Debian's does, the original does not."""
        for name in _MKCONFIG:
            program = self._program(name)
            if program:
                return b"default/grub.d" in (read(program) or b"")
        return os.path.isdir(self._path(DROP_IN_DIRECTORY))

    def _layout(self) -> Optional[Tuple[Tuple[str, ...], str]]:
        return next((layout for layout in LAYOUTS if self._program(layout[0][0])), None)

    def _program(self, name: str) -> Optional[str]:
        candidates = (self._path(os.path.join(directory, name)) for directory in _PROGRAM_DIRECTORIES)
        return next((path for path in candidates if os.path.isfile(path)), None)

    def _path(self, path: str) -> str:
        return os.path.join(self._root, path.lstrip("/"))
