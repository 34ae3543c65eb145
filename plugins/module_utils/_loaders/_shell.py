# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: words of the hypervisor in files that a shell sources.
# They are programs; only the one word inside an assignment is ever touched, and a shell is asked what they give.

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils import _boot_line
from ansible_collections.xen.stubdom.plugins.module_utils._errors import Refusal
from ansible_collections.xen.stubdom.plugins.module_utils._loaders._tree import ENCODING, last_line
from ansible_collections.xen.stubdom.plugins.module_utils._xen import Runner

_ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<operator>\+?=)")
_HERE_DOCUMENT = re.compile(r"<<(?P<dash>-?)[ \t]*(?P<end>(?:[^ \t\n;&|()<>\"'\\]|\"[^\"\n]*\"|'[^'\n]*'|\\.)+)")
_DECLARERS = ("export", "readonly", "declare", "typeset", "local")
# After these words the shell reads a command, in which an assignment may stand first.
_KEYWORDS = ("if", "then", "else", "elif", "while", "until", "do", "{", "!", "time", "fi", "done", "esac", "}")
_OPENING = ("if", "while", "until", "for", "case", "{")
_CLOSING = ("fi", "done", "esac", "}")

_DROP_IN_HEAD = b"# Written by the Ansible collection xen.stubdom: words for the hypervisor, in all of its entries.\n"

_EVALUATE = r"""
set -e
{prelude}
for file in "$@"; do
  . "$file" </dev/null >&2
done
printf 'xen.stubdom:{form}' {shown}
"""
_MARK = "xen.stubdom:"
_JOINT = "\x1f"


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
                plain, key = text.replace("-", "_"), _boot_line.key(option)
                if f"{key}=" in plain or plain in (key, f"no_{key}"):
                    raise Refusal(
                        f"{self.path} line {self.line}: the word {option} in {self.name} depends on an expansion.",
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
        depth, chained, grouped = 0, False, False
        documents: List[Tuple[str, bool, int]] = []
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
                    raise self.refuse(self.at, "a here-document is not understood")
                else:
                    self.at += 1
            else:
                start = self.at
                units = self.word()
                raw = self.text[start : self.at]
                match = _ASSIGNMENT.match(raw)
                if match and (command_position or declaring):
                    value = tuple(unit for unit in units if unit.start >= start + match.end())
                    line = self.text.count("\n", 0, start) + 1
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

    def documents(self, pending: Sequence[Tuple[str, bool, int]]) -> None:
        """Skip the lines of here-documents that were opened on the line before."""
        for ending, tabs, opened in pending:
            while True:
                if self.at >= len(self.text):
                    raise self.refuse(opened, "a here-document is never ended")
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


def scan(path: str, content: bytes, variables: Sequence[str]) -> List[Assignment]:
    """Return the assignments to *variables* in one file, in order.

    :raises Refusal: the file is not understood; only one that names a variable is looked at.
    """
    text = content.decode(ENCODING)
    if not any(name in text for name in variables):
        return []
    if "\0" in text:
        raise _Scanner(path, text).refuse(text.index("\0"), "there is a NUL character")
    try:
        found = _Scanner(path, text).assignments()
    except RecursionError as error:
        raise Refusal(f"{path} is nested too deeply to be understood.", "Nothing was changed; simplify it.") from error
    return [assignment for assignment in found if assignment.name in variables]


def live(assignments: Sequence[Assignment]) -> List[Assignment]:
    """Leave out those whose value a later one replaces, or may replace."""
    return [
        assignment
        for place, assignment in enumerate(assignments)
        if not any(later.name == assignment.name and not later.composes for later in assignments[place + 1 :])
    ]


def known(
    sources: Mapping[str, bytes], assignments: Sequence[Assignment], variables: Sequence[str]
) -> Optional[Dict[str, str]]:
    """Return what *variables* hold after *assignments*, None where only a shell can tell."""
    held = dict.fromkeys(variables, "")
    for assignment in assignments:
        if assignment.conditional:
            return None
        content = sources[assignment.path]
        value = ""
        for unit in assignment.units:
            if unit.opaque:
                name = content[unit.start : unit.end].decode(ENCODING).strip("${}")
                if name not in held:
                    return None
                value += held[name]
            else:
                value += unit.text
        held[assignment.name] = (held[assignment.name] if assignment.operator == "+=" else "") + value
    return held


@dataclass(frozen=True)
class Variables:
    """The variables of a loader that hold words for the hypervisor.

    :param names: in their order on the line; the first one reaches every entry.
    :param main: the file that is always read.
    :param drop_in: a file of ours that is read after all others.
    :param prelude: what the loader's tool has defined when it sources the files.
    """

    names: Tuple[str, ...]
    main: str
    drop_in: Optional[str] = None
    prelude: str = ""

    def edit(
        self,
        sources: Mapping[str, bytes],
        option: str,
        word: Optional[str],
        *,
        drop_ins: bool,
        evaluate: Optional[Callable[[Mapping[str, bytes]], Optional[str]]] = None,
    ) -> Dict[str, Optional[bytes]]:
        """Return the new contents of the files that change; None for a file to remove.

        The word stays where one stands that counts, preferably in the variable that reaches every entry; all others
        go. Without one, it gets a line of its own that adds to what the other lines say: in a file of its own, so that
        no package's file is touched, or at the end of the main file where such files are not read.

        :param word: None to remove the option.
        :param drop_ins: whether the loader's tool reads our file.
        :param evaluate: returns the words that files give, None where that is not known.
        :raises Refusal: a file is not understood.
        """
        place = None if word is None else self._place(sources, option)
        edited = self._edited(sources, option, word, place, drop_ins=drop_ins)
        if place is not None:
            # Where what stands there is used twice, or not at all, a line of its own is what gives one word.
            given = (evaluate or self.read)(self.order({**sources, **edited}))
            if given is not None and _boot_line.setting(given, option) != [word]:
                edited = self._edited(sources, option, word, None, drop_ins=drop_ins)
        return edited

    def _place(self, sources: Mapping[str, bytes], option: str) -> Optional[Assignment]:
        """Return the assignment in which a word counts."""
        assignments = self.scan(sources)
        counting = [found for found in live(assignments) if found.holds(option) and not found.conditional]
        everywhere = [found for found in counting if found.name == self.names[0]]
        return next(reversed(everywhere or counting), None)

    def _edited(
        self,
        sources: Mapping[str, bytes],
        option: str,
        word: Optional[str],
        place: Optional[Assignment],
        *,
        drop_ins: bool,
    ) -> Dict[str, Optional[bytes]]:
        assignments = self.scan(sources)
        holding = [assignment for assignment in assignments if assignment.holds(option)]
        edits: Dict[str, List[_boot_line.Edit]] = {}
        for assignment in holding:
            wanted = word if assignment == place else None
            edits.setdefault(assignment.path, []).extend(
                self._own_line(sources[assignment.path], assignment, option, wanted)
                or _replacements(assignment, option, wanted)
            )
        result: Dict[str, Optional[bytes]] = {path: _replace(sources[path], changes) for path, changes in edits.items()}
        if word is not None and place is None:
            self._add(sources, result, word, drop_ins=drop_ins)
        if self.drop_in in result and result[self.drop_in] in (b"", _DROP_IN_HEAD):
            result[self.drop_in] = None
        return {path: content for path, content in result.items() if content != sources.get(path)}

    def scan(self, sources: Mapping[str, bytes]) -> List[Assignment]:
        return [found for path, content in sources.items() for found in scan(path, content, self.names)]

    def order(self, sources: Mapping[str, Optional[bytes]]) -> Dict[str, bytes]:
        """Return the files that exist in the order in which they are read."""
        kept = {path: content for path, content in sources.items() if content is not None}
        return {path: kept[path] for path in sorted(kept, key=lambda path: (path != self.main, path))}

    def read(self, sources: Mapping[str, bytes]) -> Optional[str]:
        """Return the words that the files give, None where only a shell can tell.

        :raises Refusal: a file is not understood.
        """
        held = known(sources, self.scan(sources), self.names)
        return None if held is None else self._joined([held[name] for name in self.names])

    def guess(self, sources: Mapping[str, bytes]) -> str:
        """Return the words that are written in the assignments that may count, whatever programs do with them."""
        alive = live(self.scan(sources))
        written = [
            "".join(unit.text for unit in found.units) for name in self.names for found in alive if found.name == name
        ]
        return self._joined(written)

    def run(self, run: Runner, sources: Mapping[str, bytes]) -> str:
        """Return the words that the files give when a shell runs them, from copies.

        :raises Refusal: the shell cannot run one of them.
        """
        shown = " ".join(f'"${{{name}-}}"' for name in self.names)
        script = _EVALUATE.format(prelude=self.prelude, shown=shown, form=_JOINT.join(["%s"] * len(self.names)))
        with tempfile.TemporaryDirectory(prefix="xen.stubdom.") as directory:
            copies: Dict[str, str] = {}
            for number, (path, content) in enumerate(sources.items()):
                copy = os.path.join(directory, f"{number:03d}-{os.path.basename(path)}")
                with open(copy, "wb") as stream:
                    stream.write(content)
                copies[copy] = path
            status, output, errors = run(["sh", "-c", script, "sh", *copies])
            for copy, path in copies.items():
                errors = errors.replace(copy, path)
        if status != 0 or _MARK not in output:
            raise Refusal(
                f"The boot loader's tool cannot source its configuration: {last_line(errors)}.",
                f"Correct that file so that `sh {self.main}` runs without an error, then run again.",
            )
        return self._joined(output.partition(_MARK)[2].split(_JOINT))

    def _joined(self, values: Sequence[str]) -> str:
        return " ".join(value for value in values if value.strip()).strip()

    def _line(self, word: str) -> str:
        return f'{self.names[0]}="${self.names[0]}{" " if word else ""}{word}"'

    def _own_line(
        self, content: bytes, assignment: Assignment, option: str, wanted: Optional[str]
    ) -> List[_boot_line.Edit]:
        """Return how to take away the whole line where it is one of ours and nothing else is in it."""
        if wanted is not None:
            return []
        text = content.decode(ENCODING)
        held = ["".join(unit.text for unit in word) for word in assignment.holds(option)]
        if len(held) != 1 or text[assignment.start : assignment.end] != self._line(held[0]):
            return []
        start, end = assignment.start, assignment.end
        if start > 0 and text[start - 1] != "\n":
            return []
        if text[end : end + 1] == "\n":
            return [(start, end + 1, "")]
        # The file had no newline at its end before us, and gets back that it has none.
        return [(max(start - 1, 0), end, "")] if end == len(text) else []

    def _add(
        self, sources: Mapping[str, bytes], result: Dict[str, Optional[bytes]], word: str, *, drop_ins: bool
    ) -> None:
        path = self.drop_in if drop_ins and self.drop_in else self.main
        edited = result.get(path)
        old = sources.get(path, b"") if edited is None else edited
        if path == self.drop_in and not old:
            old = _DROP_IN_HEAD
        if (len(old) - len(old.rstrip(b"\\"))) % 2:
            raise Refusal(
                f"{path} ends with a backslash, which would join a line that follows with the last one.",
                "Nothing was changed; take the backslash away, or end the line.",
            )
        line = self._line(word).encode(ENCODING)
        result[path] = old + line + b"\n" if not old or old.endswith(b"\n") else old + b"\n" + line


def _replacements(assignment: Assignment, option: str, wanted: Optional[str]) -> List[_boot_line.Edit]:
    """Return the change of every character that has to go; quotes between them stay where they are."""
    found = assignment.holds(option)
    changes: List[_boot_line.Edit] = []
    gone = set()
    for word in found:
        keep = wanted is not None and word is found[-1]
        if keep and "".join(unit.text for unit in word) == wanted:
            continue
        new = wanted or "" if keep else ""
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


def _replace(content: bytes, changes: Sequence[_boot_line.Edit]) -> bytes:
    return _boot_line.changed(content.decode(ENCODING), changes).encode(ENCODING)


def prove(seen: str, option: str, word: Optional[str], variables: Variables, sources: Mapping[str, bytes]) -> None:
    """:raises Refusal: what the edited files give is not what was asked for."""
    found = _boot_line.setting(seen, option)
    if found == ([] if word is None else [word]):
        return
    raise Refusal(
        f"The files of the boot loader are programs, and after the edit they give {' '.join(found) or f'no {option}'} "
        f"where {word or f'no {option}'} is asked for.",
        f"Look for what sets {' and '.join(variables.names)} in {', '.join(sources)}; nothing was changed.",
    )


def generate(run: Runner, command: List[str]) -> None:
    """:raises Refusal: the loader's tool fails."""
    status, _output, errors = run(command)
    if status != 0:
        raise Refusal(
            f"`{' '.join(command)}` failed: {last_line(errors)}.",
            "Run it by hand to see why, then run this again; regenerate=false leaves it out.",
        )
