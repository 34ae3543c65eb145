# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: options of a command line in files that a shell sources.
# They are programs: only an option inside an assignment is edited, and a shell evaluates the result.

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line, line_edits
from ansible_collections.xen.stubdom.plugins.module_utils._boot.command_line import HYPERVISOR, Recipient
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders.scanner import Assignment, Unit, scan
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import ENCODING, Tree
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.files import Change
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner, last_line

_DROP_IN_HEAD = b"# Written by the Ansible collection xen.stubdom: options for all entries that start Xen.\n"

_EVALUATE = r"""
set -e
{prelude}
for file in "$@"; do
  . "$file" </dev/null >&2
done
printf 'xen.stubdom:{form}' {shown}
"""
_MARK = "xen.stubdom:"
# sh: 3: Syntax error (dash), sh: line 3: syntax error (bash, busybox).
_MESSAGE = re.compile(r": (?:line )?(?P<line>[0-9]+): (?P<what>.+)")
_JOINT = "\x1f"
# How an added line takes what a variable replaces where nothing has set it.
_OR_ELSE = re.compile(r"\$\{(?P<name>\w+):-\$(?P<replaced>\w+)\}", re.ASCII)
# What has a meaning between double quotes (POSIX, Shell Command Language, 2.2.3).
_SPECIAL = re.compile(r'([$`"\\])')

# Options of one name in an assignment.
Options = Sequence[Tuple[Unit, ...]]

# Gives what a variable holds after files, None where that is not known.
ValueOf = Callable[[str, Mapping[str, bytes]], Optional[str]]


def live(assignments: Sequence[Assignment]) -> List[Assignment]:
    """Leave out those whose value a later one replaces, or may replace."""
    found: List[Assignment] = []
    replaced: Set[str] = set()
    for assignment in reversed(assignments):
        if assignment.name not in replaced:
            found.append(assignment)
            if not assignment.composes:
                replaced.add(assignment.name)
    return found[::-1]


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
                raw = content[unit.start : unit.end].decode(ENCODING)
                either = _OR_ELSE.fullmatch(raw)
                names = either.groups() if either else [raw.strip("${}")]
                if any(name not in held for name in names):
                    return None
                value += next((held[name] for name in names if held[name]), "")
            else:
                value += unit.text
        held[assignment.name] = (held[assignment.name] if assignment.operator == "+=" else "") + value
    return held


@dataclass(frozen=True)
class Variables:
    """The variables of a loader that hold the options of one command line.

    :param names: in their order on the line; the first one applies to every entry.
    :param main: the file that is always read.
    :param drop_in: a file of this collection that is read after all others.
    :param prelude: what the loader's tool has defined when it sources the files.
    :param replaced: what the loader's tool takes for each of *names* that is empty. Entries without Xen get it, too,
        so that nothing is written there.
    :param shared: whether entries without Xen get *names* themselves.
    """

    names: Tuple[str, ...]
    main: str
    drop_in: Optional[str] = None
    prelude: str = ""
    recipient: Recipient = HYPERVISOR
    replaced: Tuple[str, ...] = ()
    shared: bool = False

    def edit(
        self,
        sources: Mapping[str, bytes],
        name: str,
        option: Optional[str],
        *,
        drop_ins: bool,
        evaluate: Optional[Callable[[Mapping[str, bytes]], Optional[str]]] = None,
        value_of: Optional[ValueOf] = None,
    ) -> Dict[str, Optional[bytes]]:
        """Return the new contents of the files that change; None for a file to remove.

        The option stays in the assignment that takes effect, preferably of the variable that applies to every entry;
        all others of its name are removed. Without one, a new line appends it to the variable: in a file of its own, so
        that no package's file is changed, or at the end of the main file where such files are not read.

        An option of that name in what the variables replace stays there: the new line then has the other options of it.
        Only to remove it, it is removed there, as nothing else would.

        :param option: None to remove the options called *name*; several of them with a space between.
        :param drop_ins: whether the loader's tool reads the file *drop_in*.
        :param evaluate: returns the options that files give, None where that is not known.
        :param value_of: returns what one variable holds.
        :raises UserError: a file is not understood, or would not give what was asked for.
        """
        evaluate = evaluate or self.read
        wanted = line_edits.words(option)
        if self.replaced and self._find(self._seen(sources, evaluate), name) == wanted:
            # Nothing has to be written where what is replaced gives it already.
            return {}
        place = None if option is None else self._place(sources, name)
        tried = self._tried(sources, name, option, place, evaluate, drop_ins=drop_ins)
        if place is not None and (tried is None or (tried[1] is not None and self._find(tried[1], name) != wanted)):
            # Where that assignment is used twice, or not at all, a line of its own gives the option once.
            tried = self._tried(sources, name, option, None, evaluate, drop_ins=drop_ins)
        edited, seen = tried or ({}, None)
        if self.replaced:
            left = self.guess(self.order({**sources, **edited})) if seen is None else seen
            if self._find(left, name) != wanted:
                edited = self._edited_beside(sources, name, option, value_of or self._known_value, drop_ins=drop_ins)
                seen = evaluate(self.order({**sources, **edited}))
        if edited and seen is not None:
            self._verify(evaluate(sources), seen, name, option, sources)
        return edited

    def _seen(self, sources: Mapping[str, bytes], evaluate: Callable[[Mapping[str, bytes]], Optional[str]]) -> str:
        """Return the options that files give, a guess where that is not known."""
        seen = evaluate(sources)
        return self.guess(sources) if seen is None else seen

    def _tried(
        self,
        sources: Mapping[str, bytes],
        name: str,
        option: Optional[str],
        place: Optional[Assignment],
        evaluate: Callable[[Mapping[str, bytes]], Optional[str]],
        *,
        drop_ins: bool,
    ) -> Optional[Tuple[Dict[str, Optional[bytes]], Optional[str]]]:
        """Return an edit and what it gives; None where the shell has another meaning for the option in that place."""
        edited = self._edited(sources, name, option, place, drop_ins=drop_ins)
        try:
            return edited, evaluate(self.order({**sources, **edited}))
        except UserError:
            if place is None:
                raise
            # Without quotes around it, a bracket is no part of a word.
            return None

    def _find(self, line: str, name: str) -> List[str]:
        return command_line.find(line, name, self.recipient)

    def _others(self, line: str, name: str) -> List[str]:
        return command_line.others(line, name, self.recipient)

    def _verify(
        self, before: Optional[str], after: str, name: str, option: Optional[str], sources: Mapping[str, bytes]
    ) -> None:
        """:raises UserError: the edited files do not give what was asked for, or other options differ too."""
        found = self._find(after, name)
        names = (*self.names, *self.replaced)
        if found != line_edits.words(option):
            raise UserError(
                f"The boot loader's files are programs, and after the edit they give "
                f"{' '.join(found) or f'no {name}'} instead of {option or f'no {name}'}.",
                f"Nothing was changed. Look for what sets {' and '.join(names)} in {', '.join(sources)}.",
            )
        if before is not None and self._others(before, name) != self._others(after, name):
            raise UserError(
                f"The boot loader's files are programs, and with the edit they would give "
                f"{' '.join(self._others(after, name)) or 'nothing'} beside {name} instead of "
                f"{' '.join(self._others(before, name)) or 'nothing'}.",
                f"Nothing was changed. Look for options that are composed from parts in {', '.join(sources)}.",
            )

    def _place(self, sources: Mapping[str, bytes], name: str) -> Optional[Assignment]:
        """Return the assignment whose option takes effect."""
        assignments = self.scan(sources)
        effective = [
            found for found in live(assignments) if found.holds(name, self.recipient) and not found.conditional
        ]
        everywhere = [found for found in effective if found.name == self.names[0]]
        return next(reversed(everywhere or effective), None)

    def _edited(
        self,
        sources: Mapping[str, bytes],
        name: str,
        option: Optional[str],
        place: Optional[Assignment],
        *,
        drop_ins: bool,
    ) -> Dict[str, Optional[bytes]]:
        result = self._removed(self.scan(sources), sources, name, option, place)
        if option is not None and place is None:
            self._add(sources, result, [self._line(option)], drop_ins=drop_ins)
        return self._changed(sources, result)

    def _removed(
        self,
        assignments: Sequence[Assignment],
        sources: Mapping[str, bytes],
        name: str,
        option: Optional[str] = None,
        place: Optional[Assignment] = None,
    ) -> Dict[str, Optional[bytes]]:
        """Return the files with *option* in one place and in no other."""
        edits: Dict[str, List[line_edits.Edit]] = {}
        texts = {path: content.decode(ENCODING) for path, content in sources.items()}
        for assignment in assignments:
            found = assignment.holds(name, self.recipient)
            if not found:
                continue
            held = edits.setdefault(assignment.path, [])
            if place is not None and (assignment.path, assignment.start) == (place.path, place.start):
                held += _replacements(assignment, found, option)
            else:
                held += (
                    self._added_line(texts[assignment.path], assignment, found)
                    or self._emptied(assignment, found)
                    or _replacements(assignment, found, None)
                )
        return {path: _replace(sources[path], changes) for path, changes in edits.items()}

    def _changed(self, sources: Mapping[str, bytes], result: Dict[str, Optional[bytes]]) -> Dict[str, Optional[bytes]]:
        if self.drop_in in result and result[self.drop_in] in (b"", _DROP_IN_HEAD):
            result[self.drop_in] = None
        return {path: content for path, content in result.items() if content != sources.get(path)}

    def _edited_beside(
        self, sources: Mapping[str, bytes], name: str, option: Optional[str], value_of: ValueOf, *, drop_ins: bool
    ) -> Dict[str, Optional[bytes]]:
        """Return the edits where what the variables replace has an option of that name."""
        result = self._removed(self.scan(sources), sources, name)
        after = self.order({**sources, **result})
        if option is None:
            used = tuple(other for own, other in zip(self.names, self.replaced) if not value_of(own, after))
            everything = replace(self, names=(*self.names, *used))
            return self._changed(sources, self._removed(everything.scan(sources), sources, name))
        lines: List[str] = []
        wanted: Optional[str] = option
        for own, other in zip(self.names, self.replaced):
            held = "" if value_of(own, after) else value_of(other, after)
            if held is None:
                raise UserError(
                    f"{other} is set by a program, which gives {name} to dom0's Linux.",
                    f"Nothing was changed. Set {own} in {self.main} to what dom0's Linux should get, then run again.",
                )
            if self._find(held, name):
                edits = line_edits.edits(held, name, wanted, self.recipient)
                # What is empty would be replaced again.
                kept = line_edits.apply_edits(held, edits) or " "
                escaped = _SPECIAL.sub(r"\\\1", kept)
                lines.append(f'{own}="{escaped}"')
                wanted = None
        self._add(sources, result, lines if wanted is None else [*lines, self._line(option)], drop_ins=drop_ins)
        return self._changed(sources, result)

    def written(self, sources: Mapping[str, bytes]) -> Dict[str, str]:
        """Return the options in each variable, whatever programs do with them."""
        return {name: self.only(name).guess(sources) for name in (*self.names, *self.replaced)}

    def elsewhere(self, before: Mapping[str, bytes], after: Mapping[str, bytes], name: str) -> List[str]:
        """Return what options called *name* have to do with entries that do not start Xen, in sentences."""
        sentences: List[str] = []
        for place, other in enumerate(self.names if self.shared else self.replaced):
            own = self.names[place]
            old, new = (self._find(self.only(other).guess(sources), name) for sources in (before, after))
            was, is_now = (self.shared or self._uses(own, other, sources) for sources in (before, after))
            if new and is_now:
                better = "" if self.shared else f" Set it in {own} to have it with Xen alone."
                sentences.append(f"Linux without Xen gets {' '.join(new)}, too: it is in {other}.{better}")
            elif old and was and not new:
                sentences.append(f"Linux without Xen gets no {name} any more either: it was in {other}.")
            elif old and was and not is_now:
                sentences.append(
                    f"{other} keeps {' '.join(new)} for Linux without Xen, and its other options were copied to {own}. "
                    f"What is changed in {other} later does not reach Linux with Xen."
                )
        return sentences

    def _uses(self, own: str, other: str, sources: Mapping[str, bytes]) -> bool:
        """Whether the loader's tool takes one variable for another one that is empty, or is composed from it."""
        alive = [found for found in live(self.only(own).scan(sources)) if found.units]
        written = (sources[found.path][found.start : found.end].decode(ENCODING) for found in alive)
        return not alive or any(re.search(rf"\$\{{?{other}\b", text) for text in written)

    def _known_value(self, variable: str, sources: Mapping[str, bytes]) -> Optional[str]:
        return self.only(variable).read(sources)

    def only(self, variable: str) -> Variables:
        """Return one of the variables by itself."""
        return replace(self, names=(variable,), replaced=())

    def scan(self, sources: Mapping[str, bytes]) -> List[Assignment]:
        return [found for path, content in sources.items() for found in scan(path, content, self.names)]

    def order(self, sources: Mapping[str, Optional[bytes]]) -> Dict[str, bytes]:
        """Return the files that exist in the order in which they are read."""
        kept = {path: content for path, content in sources.items() if content is not None}
        return {path: kept[path] for path in sorted(kept, key=lambda path: (path != self.main, path))}

    def read(self, sources: Mapping[str, bytes]) -> Optional[str]:
        """Return the options that the files give, None where only a shell can tell.

        :raises UserError: a file is not understood.
        """
        everything = replace(self, names=(*self.names, *self.replaced))
        held = known(sources, everything.scan(sources), everything.names)
        return None if held is None else self._joined([held[name] for name in everything.names])

    def guess(self, sources: Mapping[str, bytes]) -> str:
        """Return the options in the assignments that may take effect, whatever programs do with them."""
        everything = replace(self, names=(*self.names, *self.replaced))
        alive = live(everything.scan(sources))
        texts = {
            name: " ".join("".join(unit.text for unit in found.units) for found in alive if found.name == name)
            for name in everything.names
        }
        for own, other in zip(self.names, self.replaced):
            if texts[own] and self._uses(own, other, sources):
                texts[own] = f"{texts[other]} {texts[own]}"
        return self._joined(list(texts.values()))

    def run(self, run: Runner, sources: Mapping[str, bytes]) -> str:
        """Return the options that the files give when a shell runs copies of them.

        :raises UserError: the shell cannot run one of them.
        """
        names = (*self.names, *self.replaced)
        shown = " ".join(f'"${{{name}-}}"' for name in names)
        script = _EVALUATE.format(prelude=self.prelude, shown=shown, form=_JOINT.join(["%s"] * len(names)))
        status, output, errors = _with_copies(run, ["sh", "-c", script, "sh"], sources)
        if status != 0 or _MARK not in output:
            raise UserError(
                f"The boot loader's tool cannot source its configuration: {last_line(errors)}.",
                f"Correct that file until `sh {self.main}` runs without an error, then run again.",
            )
        return self._joined(output.partition(_MARK)[2].split(_JOINT))

    def _joined(self, values: Sequence[str]) -> str:
        """Return the line that the values of all variables give."""
        own, others = values[: len(self.names)], values[len(self.names) :]
        parts = [value or other for value, other in zip(own, others or [""] * len(own))]
        return " ".join(part for part in parts if part.strip()).strip()

    def _line(self, option: str) -> str:
        first = self.names[0]
        before = f"${{{first}:-${self.replaced[0]}}}" if self.replaced else f"${first}"
        return f'{first}="{before}{" " if option else ""}{option}"'

    def _added_line(self, text: str, assignment: Assignment, found: Options) -> List[line_edits.Edit]:
        """Return how to remove the whole line where this collection added it and nothing else is in it."""
        if text[assignment.start : assignment.end] != self._line(" ".join(map(_text, found))):
            return []
        start, end = assignment.start, assignment.end
        if start > 0 and text[start - 1] != "\n":
            return []
        if text[end : end + 1] == "\n":
            return [(start, end + 1, "")]
        # The file had no newline at its end before the line was added, and has none again.
        return [(max(start - 1, 0), end, "")] if end == len(text) else []

    def _emptied(self, assignment: Assignment, found: Options) -> List[line_edits.Edit]:
        """Return how to leave nothing but a space, where without one the loader would use what this one replaces."""
        if assignment.name not in self.names[: len(self.replaced)] or assignment.composes:
            return []
        units = assignment.units
        joined = all(one.end == other.start for one, other in zip(units, units[1:]))
        if not joined or len(assignment.options(self.recipient)) != len(found):
            return []
        quoted = units[0].start > assignment.start + len(f"{assignment.name}=")
        return [(units[0].start, units[-1].end, " " if quoted else '" "')]

    def _add(
        self, sources: Mapping[str, bytes], result: Dict[str, Optional[bytes]], lines: Sequence[str], *, drop_ins: bool
    ) -> None:
        path = self.drop_in if drop_ins and self.drop_in else self.main
        edited = result.get(path)
        old = sources.get(path, b"") if edited is None else edited
        if path == self.drop_in and not old:
            old = _DROP_IN_HEAD
        if (len(old) - len(old.rstrip(b"\\"))) % 2:
            raise UserError(
                f"{path} ends with a backslash, which would join an added line to the last one.",
                "Nothing was changed. Remove the backslash or end the line with a newline, then run again.",
            )
        added = "\n".join(lines).encode(ENCODING)
        result[path] = old + added + b"\n" if not old or old.endswith(b"\n") else old + b"\n" + added


def _with_copies(run: Runner, command: List[str], sources: Mapping[str, bytes]) -> Tuple[int, str, str]:
    """Run *command* with copies of the files; its messages show the names of the files themselves."""
    with files.scratch(sum(map(len, sources.values()))) as directory:
        copies: Dict[str, str] = {}
        for number, (path, content) in enumerate(sources.items()):
            copy = os.path.join(directory, f"{number:03d}-{os.path.basename(path)}")
            files.put(copy, content)
            copies[copy] = path
        status, output, errors = run([*command, *copies])
        for copy, path in copies.items():
            errors = errors.replace(copy, path)
    return status, output, errors


def require_syntax(run: Runner, sources: Mapping[str, bytes]) -> None:
    """Have a shell parse each file without running it (sh -n).

    :raises UserError: a shell cannot parse one of them.
    """
    for path, content in sources.items():
        status, _output, errors = _with_copies(run, ["sh", "-n"], {path: content})
        if status == 0:
            continue
        first = (errors.splitlines() or [""])[0]
        found = _MESSAGE.search(first)
        where, what = (f"{path} line {found['line']}", found["what"]) if found else (path, first or "no message")
        raise UserError(
            f"{where}: a shell cannot parse this: {what.rstrip('.')}.",
            "Nothing was changed. Correct that line, or the one above it, until `sh -n` accepts the file.",
        )


@dataclass(frozen=True)
class Sourced:
    """A loader's shell files on a host, or in another tree, of which nothing may be run."""

    variables: Variables
    tree: Tree
    run: Runner

    def plan(
        self, sources: Mapping[str, bytes], name: str, option: Optional[str], *, drop_ins: bool = False
    ) -> List[Change]:
        """Return the changes after which *option* is the only one called *name*; None removes all of them.

        :raises UserError: a file is not understood, or would not give what was asked for.
        """
        if self.tree.foreign:
            # The scanner names the line at fault, which not every shell does; the shell finds every fault.
            self.variables.scan(sources)
            require_syntax(self.run, sources)
        evaluate = self.variables.read if self.tree.foreign else self.configured
        edited = self.variables.edit(
            sources,
            name,
            option,
            drop_ins=drop_ins,
            evaluate=evaluate,
            value_of=None if self.tree.foreign else self._value_of,
        )
        if edited and self.tree.foreign:
            require_syntax(self.run, self.variables.order({**sources, **edited}))
        return [Change(self.tree.path(path), sources.get(path), content) for path, content in edited.items()]

    def elsewhere(self, sources: Mapping[str, bytes], changes: Sequence[Change], name: str) -> List[str]:
        """Return what *changes* of options called *name* have to do with entries without Xen, in sentences."""
        paths = {self.tree.path(path): path for path in sources}
        edited = {paths.get(change.path, change.path): change.after for change in changes}
        after = {path: content for path, content in {**sources, **edited}.items() if content is not None}
        return self.variables.elsewhere(sources, after, name)

    def _value_of(self, variable: str, sources: Mapping[str, bytes]) -> Optional[str]:
        return self.variables.only(variable).run(self.run, sources)

    def configured(self, sources: Mapping[str, bytes]) -> str:
        """Return the options as the loader's tool would read them; a guess where nothing may be run."""
        if not self.tree.foreign:
            return self.variables.run(self.run, sources)
        held = self.variables.read(sources)
        return self.variables.guess(sources) if held is None else held


def _text(option: Sequence[Unit]) -> str:
    return "".join(unit.text for unit in option)


def _replacements(assignment: Assignment, found: Options, wanted: Optional[str]) -> List[line_edits.Edit]:
    """Return an edit for every character to replace; quotes between them stay where they are."""
    if wanted is not None and list(map(_text, found)) == line_edits.words(wanted):
        return []
    changes: List[line_edits.Edit] = []
    removed = set()
    places = {unit.start: place for place, unit in enumerate(assignment.units)}
    for option in found:
        keep = wanted is not None and option is found[-1]
        if keep and _text(option) == wanted:
            continue
        new = wanted or "" if keep else ""
        for unit in option:
            changes.append((unit.start, unit.end, new))
            new = ""
        if not keep:
            place = places[option[0].start]
            after = place + len(option)
            for neighbour in (place - 1, after):
                if 0 <= neighbour < len(assignment.units) and neighbour not in removed:
                    unit = assignment.units[neighbour]
                    if unit.text and unit.text.isspace():
                        changes.append((unit.start, unit.end, ""))
                        removed.add(neighbour)
                        break
    return changes


def _replace(content: bytes, changes: Sequence[line_edits.Edit]) -> bytes:
    return line_edits.apply_edits(content.decode(ENCODING), changes).encode(ENCODING)
