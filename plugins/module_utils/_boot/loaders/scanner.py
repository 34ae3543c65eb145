# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: finds assignments in a shell program without running it.
# The grammar is that of POSIX, Shell Command Language, 2.2 to 2.10, as far as assignments are concerned.

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import List, NamedTuple, Optional, Pattern, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot.command_line import HYPERVISOR, Recipient
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import ENCODING
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

# Bytes that a program may have to be parsed; a distribution's /etc/default/grub has a hundredth of it.
LARGEST = 1 << 18
_ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<operator>\+?=)")
_HERE_DOCUMENT = re.compile(r"<<(?P<dash>-?)[ \t]*(?P<end>(?:[^ \t\n;&|()<>\"'\\]|\"[^\"\n]*\"|'[^'\n]*'|\\.)+)")
_REDIRECTION = re.compile(r"(?:<>|<&|>>|>&|>\||<|>)(?:[ \t]|\\\n)*")
_DECLARERS = ("export", "readonly", "declare", "typeset", "local")
# After these words the shell reads a command, in which an assignment may stand first.
_KEYWORDS = ("if", "then", "else", "elif", "while", "until", "do", "{", "!", "time", "fi", "done", "esac", "}")
_OPENING = ("if", "while", "until", "for", "case", "{")
_CLOSING = ("fi", "done", "esac", "}")
# What stands for itself in a word, and between double quotes.
_PLAIN = re.compile(r"""[^ \t\n;&|()<>'"\\$`]+""")
_PLAIN_IN_QUOTES = re.compile(r"""[^"\\$`]+""")
# Stands for an expansion in a value that is split into options.
_UNKNOWN = "\0"


class Unit(NamedTuple):
    """One character of a value after the shell has removed its quotes, and where it is in the file; there are many.

    :param text: the character; empty for an expansion, whose result only a shell knows.
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
    :param conditional: whether it is made only under some condition, or somewhere else than where it stands.
    """

    path: str
    line: int
    name: str
    operator: str
    start: int
    end: int
    units: Tuple[Unit, ...]
    conditional: bool = False

    @property
    def composes(self) -> bool:
        """Whether it may keep what the variable held before."""
        return self.operator == "+=" or any(unit.opaque for unit in self.units)

    def options(self, recipient: Recipient = HYPERVISOR) -> List[Tuple[Unit, ...]]:
        """Split the value into options as the recipient does."""
        text = "".join(unit.text or _UNKNOWN for unit in self.units)
        return [self.units[match.start() : match.end()] for match in recipient.word.finditer(text)]

    def holds(self, name: str, recipient: Recipient = HYPERVISOR) -> List[Tuple[Unit, ...]]:
        """Return the options called *name*.

        :raises UserError: where such an option begins or ends depends on an expansion.
        """
        found = []
        for option in self.options(recipient):
            text = "".join(unit.text for unit in option)
            if any(unit.opaque for unit in option):
                plain, key = text.replace("-", "_"), command_line.name_of(name, recipient)
                if f"{key}=" in plain or plain in (key, f"no_{key}"):
                    raise UserError(
                        f"{self.path} line {self.line}: the option {name} in {self.name} depends on an expansion.",
                        f"Nothing was changed. Write the value of {name} out in that line, or remove it.",
                    )
            elif command_line.sets(text, name, recipient):
                found.append(option)
        return found


class _Scanner:
    """Finds assignments in a shell program without running it. Positions count characters of the whole text."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self.at = 0

    def error(self, position: int, what: str) -> UserError:
        line = self.text.count("\n", 0, position) + 1
        return UserError(
            f"{self.path} line {line}: {what}.", "Nothing was changed. Correct that line so that a shell can read it."
        )

    def assignments(self) -> List[Assignment]:
        found: List[Assignment] = []
        command_position = True
        declaring = False
        depth, chained, grouped = 0, False, False
        documents: List[Tuple[str, bool, int]] = []
        line, counted = 1, 0
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in " \t":
                self.at += 1
            elif char == "\\" and self.text.startswith("\\\n", self.at):
                self.at += 2
            elif char in "\n;&|()":
                self.at += 1
                command_position, declaring = True, False
                chained = char in "&|" or (chained and char not in "\n;")
                if char == "\n":
                    self.documents(documents)
                    documents = []
                grouped = grouped or char in "()"
            elif char == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif char in "<>":
                opening = _HERE_DOCUMENT.match(self.text, self.at)
                if opening:
                    documents.append((re.sub(r"[\"'\\]", "", opening["end"]), bool(opening["dash"]), self.at))
                    self.at = opening.end()
                elif self.text.startswith("<<", self.at):
                    raise self.error(self.at, "the delimiter of a here-document is missing or invalid")
                else:
                    self.redirection()
            else:
                start = self.at
                units = self.word()
                raw = self.text[start : self.at]
                if raw.isdigit() and self.text[self.at : self.at + 1] in ("<", ">"):
                    continue
                match = _ASSIGNMENT.match(raw)
                if match and (command_position or declaring):
                    # An assignment's name and operator are plain, a character each.
                    value = tuple(units[match.end() :])
                    line += self.text.count("\n", counted, start)
                    counted = start
                    conditional = depth > 0 or chained or grouped
                    found.append(
                        Assignment(
                            self.path, line, match["name"], match["operator"], start, self.at, value, conditional
                        )
                    )
                elif command_position and raw in _DECLARERS:
                    declaring = True
                    command_position = False
                elif command_position:
                    depth += (raw in _OPENING) - (raw in _CLOSING)
                    command_position = raw in _KEYWORDS
        self.documents(documents)
        return found

    def redirection(self) -> None:
        """Skip an operator and the file that it names; an assignment may still follow."""
        operator = _REDIRECTION.match(self.text, self.at)
        opened, self.at = self.at, operator.end() if operator else self.at
        if not self.word():
            raise self.error(opened, "a redirection has no file name")

    def documents(self, pending: Sequence[Tuple[str, bool, int]]) -> None:
        """Skip the lines of here-documents that began on the line before."""
        for ending, tabs, opened in pending:
            while True:
                if self.at >= len(self.text):
                    raise self.error(opened, "a here-document has no end")
                stop = self.text.find("\n", self.at)
                stop = len(self.text) if stop < 0 else stop
                line = self.text[self.at : stop]
                self.at = min(stop + 1, len(self.text))
                if (line.lstrip("\t") if tabs else line) == ending:
                    break

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
                self.plain(units, _PLAIN)
        return units

    def plain(self, units: List[Unit], characters: Pattern[str]) -> None:
        """Read characters that stand for themselves."""
        match = characters.match(self.text, self.at)
        end = match.end() if match else self.at + 1
        units += [Unit(place, place + 1, self.text[place]) for place in range(self.at, end)]
        self.at = end

    def single_quoted(self, units: List[Unit]) -> None:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise self.error(self.at, "a quoted string is not closed")
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
                self.plain(units, _PLAIN_IN_QUOTES)
        raise self.error(opened, "a quoted string is not closed")

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
                raise self.error(start, "a backquote is not closed")
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
        raise self.error(opened, "a bracket is not closed")


def scan(path: str, content: bytes, variables: Sequence[str]) -> List[Assignment]:
    """Return the assignments to *variables* in one file, in order.

    :raises UserError: the file is not understood; one that contains none of the variables is not parsed.
    """
    text = content.decode(ENCODING)
    if not any(name in text for name in variables):
        return []
    if len(content) > LARGEST:
        raise UserError(
            f"{path} has {len(content)} bytes, which is more than the {LARGEST} that are parsed as a program.",
            "Nothing was changed. Simplify that file, then run again.",
        )
    return [assignment for assignment in _assignments(path, text) if assignment.name in variables]


@functools.lru_cache(maxsize=4)
def _assignments(path: str, text: str) -> Sequence[Assignment]:
    """Return all assignments of a file; the same text is asked for several times in one run."""
    if "\0" in text:
        raise _Scanner(path, text).error(text.index("\0"), "the line contains a NUL character")
    try:
        return _Scanner(path, text).assignments()
    except RecursionError as error:
        raise UserError(
            f"{path} is nested too deeply to be parsed.", "Nothing was changed. Simplify that file, then run again."
        ) from error
