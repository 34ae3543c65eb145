# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: Xen command line options in files that a shell sources.
# They are programs: only an option inside an assignment is edited, and a shell evaluates the result.

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders.scanner import Assignment, scan
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import ENCODING, Tree
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.files import Change
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner, last_line

_DROP_IN_HEAD = b"# Written by the Ansible collection xen.stubdom: Xen command line options for all entries.\n"

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
    """The variables of a loader that hold Xen command line options.

    :param names: in their order on the line; the first one applies to every entry.
    :param main: the file that is always read.
    :param drop_in: a file of this collection that is read after all others.
    :param prelude: what the loader's tool has defined when it sources the files.
    """

    names: Tuple[str, ...]
    main: str
    drop_in: Optional[str] = None
    prelude: str = ""

    def edit(
        self,
        sources: Mapping[str, bytes],
        name: str,
        option: Optional[str],
        *,
        drop_ins: bool,
        evaluate: Optional[Callable[[Mapping[str, bytes]], Optional[str]]] = None,
    ) -> Dict[str, Optional[bytes]]:
        """Return the new contents of the files that change; None for a file to remove.

        The option stays in the assignment that takes effect, preferably of the variable that applies to every entry;
        all others of its name are removed. Without one, a new line appends it to the variable: in a file of its own, so
        that no package's file is changed, or at the end of the main file where such files are not read.

        :param option: None to remove the options called *name*.
        :param drop_ins: whether the loader's tool reads the file *drop_in*.
        :param evaluate: returns the options that files give, None where that is not known.
        :raises UserError: a file is not understood, or would not give what was asked for.
        """
        evaluate = evaluate or self.read
        place = None if option is None else self._place(sources, name)
        edited = self._edited(sources, name, option, place, drop_ins=drop_ins)
        seen = evaluate(self.order({**sources, **edited}))
        if place is not None and seen is not None and command_line.find(seen, name) != [option]:
            # Where that assignment is used twice, or not at all, a line of its own gives the option once.
            edited = self._edited(sources, name, option, None, drop_ins=drop_ins)
            seen = evaluate(self.order({**sources, **edited}))
        if edited and seen is not None:
            self._verify(evaluate(sources), seen, name, option, sources)
        return edited

    def _verify(
        self, before: Optional[str], after: str, name: str, option: Optional[str], sources: Mapping[str, bytes]
    ) -> None:
        """:raises UserError: the edited files do not give what was asked for, or other options differ too."""
        found = command_line.find(after, name)
        if found != ([] if option is None else [option]):
            raise UserError(
                f"The boot loader's files are programs, and after the edit they give "
                f"{' '.join(found) or f'no {name}'} instead of {option or f'no {name}'}.",
                f"Nothing was changed. Look for what sets {' and '.join(self.names)} in {', '.join(sources)}.",
            )
        if before is not None and _others(before, name) != _others(after, name):
            raise UserError(
                f"The boot loader's files are programs, and with the edit they would give "
                f"{' '.join(_others(after, name)) or 'nothing'} beside {name} instead of "
                f"{' '.join(_others(before, name)) or 'nothing'}.",
                f"Nothing was changed. Look for options that are composed from parts in {', '.join(sources)}.",
            )

    def _place(self, sources: Mapping[str, bytes], name: str) -> Optional[Assignment]:
        """Return the assignment whose option takes effect."""
        assignments = self.scan(sources)
        effective = [found for found in live(assignments) if found.holds(name) and not found.conditional]
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
        assignments = self.scan(sources)
        holding = [assignment for assignment in assignments if assignment.holds(name)]
        edits: Dict[str, List[command_line.Edit]] = {}
        for assignment in holding:
            wanted = option if assignment == place else None
            edits.setdefault(assignment.path, []).extend(
                self._added_line(sources[assignment.path], assignment, name, wanted)
                or _replacements(assignment, name, wanted)
            )
        result: Dict[str, Optional[bytes]] = {path: _replace(sources[path], changes) for path, changes in edits.items()}
        if option is not None and place is None:
            self._add(sources, result, option, drop_ins=drop_ins)
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
        """Return the options that the files give, None where only a shell can tell.

        :raises UserError: a file is not understood.
        """
        held = known(sources, self.scan(sources), self.names)
        return None if held is None else self._joined([held[name] for name in self.names])

    def guess(self, sources: Mapping[str, bytes]) -> str:
        """Return the options in the assignments that may take effect, whatever programs do with them."""
        alive = live(self.scan(sources))
        written = [
            "".join(unit.text for unit in found.units) for name in self.names for found in alive if found.name == name
        ]
        return self._joined(written)

    def run(self, run: Runner, sources: Mapping[str, bytes]) -> str:
        """Return the options that the files give when a shell runs copies of them.

        :raises UserError: the shell cannot run one of them.
        """
        shown = " ".join(f'"${{{name}-}}"' for name in self.names)
        script = _EVALUATE.format(prelude=self.prelude, shown=shown, form=_JOINT.join(["%s"] * len(self.names)))
        status, output, errors = _with_copies(run, ["sh", "-c", script, "sh"], sources)
        if status != 0 or _MARK not in output:
            raise UserError(
                f"The boot loader's tool cannot source its configuration: {last_line(errors)}.",
                f"Correct that file until `sh {self.main}` runs without an error, then run again.",
            )
        return self._joined(output.partition(_MARK)[2].split(_JOINT))

    def _joined(self, values: Sequence[str]) -> str:
        return " ".join(value for value in values if value.strip()).strip()

    def _line(self, option: str) -> str:
        return f'{self.names[0]}="${self.names[0]}{" " if option else ""}{option}"'

    def _added_line(
        self, content: bytes, assignment: Assignment, name: str, wanted: Optional[str]
    ) -> List[command_line.Edit]:
        """Return how to remove the whole line where this collection added it and nothing else is in it."""
        if wanted is not None:
            return []
        text = content.decode(ENCODING)
        held = ["".join(unit.text for unit in option) for option in assignment.holds(name)]
        if len(held) != 1 or text[assignment.start : assignment.end] != self._line(held[0]):
            return []
        start, end = assignment.start, assignment.end
        if start > 0 and text[start - 1] != "\n":
            return []
        if text[end : end + 1] == "\n":
            return [(start, end + 1, "")]
        # The file had no newline at its end before the line was added, and has none again.
        return [(max(start - 1, 0), end, "")] if end == len(text) else []

    def _add(
        self, sources: Mapping[str, bytes], result: Dict[str, Optional[bytes]], option: str, *, drop_ins: bool
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
        line = self._line(option).encode(ENCODING)
        result[path] = old + line + b"\n" if not old or old.endswith(b"\n") else old + b"\n" + line


def _with_copies(run: Runner, command: List[str], sources: Mapping[str, bytes]) -> Tuple[int, str, str]:
    """Run *command* with copies of the files; its messages show the names of the files themselves."""
    with tempfile.TemporaryDirectory(prefix="xen.stubdom.") as directory:
        copies: Dict[str, str] = {}
        for number, (path, content) in enumerate(sources.items()):
            copy = os.path.join(directory, f"{number:03d}-{os.path.basename(path)}")
            with open(copy, "wb") as stream:
                stream.write(content)
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
        edited = self.variables.edit(sources, name, option, drop_ins=drop_ins, evaluate=evaluate)
        if edited and self.tree.foreign:
            require_syntax(self.run, self.variables.order({**sources, **edited}))
        return [Change(self.tree.path(path), sources.get(path), content) for path, content in edited.items()]

    def configured(self, sources: Mapping[str, bytes]) -> str:
        """Return the hypervisor's options as the loader's tool would read them; a guess where nothing may be run."""
        if not self.tree.foreign:
            return self.variables.run(self.run, sources)
        held = self.variables.read(sources)
        return self.variables.guess(sources) if held is None else held


def _replacements(assignment: Assignment, name: str, wanted: Optional[str]) -> List[command_line.Edit]:
    """Return an edit for every character to replace; quotes between them stay where they are."""
    found = assignment.holds(name)
    changes: List[command_line.Edit] = []
    removed = set()
    for option in found:
        keep = wanted is not None and option is found[-1]
        if keep and "".join(unit.text for unit in option) == wanted:
            continue
        new = wanted or "" if keep else ""
        for unit in option:
            changes.append((unit.start, unit.end, new))
            new = ""
        if not keep:
            place = assignment.units.index(option[0])
            after = place + len(option)
            for neighbour in (place - 1, after):
                if 0 <= neighbour < len(assignment.units) and neighbour not in removed:
                    unit = assignment.units[neighbour]
                    if unit.text and unit.text.isspace():
                        changes.append((unit.start, unit.end, ""))
                        removed.add(neighbour)
                        break
    return changes


def _replace(content: bytes, changes: Sequence[command_line.Edit]) -> bytes:
    return command_line.apply_edits(content.decode(ENCODING), changes).encode(ENCODING)


def _others(line: str, name: str) -> List[str]:
    return [option for option in command_line.options(line) if not command_line.sets(option, name)]
