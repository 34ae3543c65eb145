# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: how options are written on a command line, and changed.

from __future__ import annotations

import re
from typing import List, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot.command_line import (
    HYPERVISOR,
    Recipient,
    name_of,
    spans,
)
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

# Start and end of the text to replace, and its replacement.
Edit = Tuple[int, int, str]

_BLANK = " \t"

# Characters that have no special meaning between quotes of a shell file, in GRUB's language and in a configuration of
# xen.efi.
_VALUE = re.compile(r"^[A-Za-z0-9_.,:+%/@=()\[\]-]+\Z", re.ASCII)


def render(name: str, value: Optional[str], recipient: Recipient = HYPERVISOR) -> str:
    """Return the option as it is written on the command line: NAME=VALUE, or NAME without a value.

    :raises UserError: a boot loader would interpret a character of it.
    """
    if not recipient.name.match(name):
        raise UserError(
            f"{name!r} is not the name of {recipient.option}.",
            f"Use a name such as {recipient.example}, without = and without a value.",
        )
    if value is None:
        return name
    if not _VALUE.match(value):
        raise UserError(
            f"The value {value!r} of the option {name} contains characters that a boot loader would interpret.",
            "Use only letters, digits and the characters . , : + % / @ = ( ) [ ] _ - in the value.",
        )
    return f"{name}={value}"


def words(wanted: Optional[str]) -> List[str]:
    """Return the options of one name that are asked for as one text; none for None."""
    return [] if wanted is None else wanted.split(" ")


def edits(line: str, name: str, wanted: Optional[str], recipient: Recipient = HYPERVISOR) -> List[Edit]:
    """Return the edits after which *wanted* are the only options called *name*; None removes all of them.

    They replace the last one of their name, or follow the last option of the line. Removing what was added to a line
    gives the line back byte for byte.

    :param wanted: the option, or several of one name with a space between them.
    """
    key = name_of(name, recipient)
    found = [span for span in spans(line, recipient) if name_of(line[slice(*span)], recipient) == key]
    if wanted is None:
        return _removals(line, found)
    if not found:
        return [_addition(line, wanted, recipient)]
    if [line[slice(*span)] for span in found] == words(wanted):
        return []
    start, end = found[-1]
    kept = [] if line[start:end] == wanted else [(start, end, wanted)]
    return _removals(line, found[:-1]) + kept


def edits_behind(text: str, name: str, wanted: Optional[str], recipient: Recipient = HYPERVISOR) -> List[Edit]:
    """Return the edits for options that stand directly behind the name of a file."""
    if wanted is not None and not spans(text, recipient):
        return [(0, 0, f" {wanted}")]
    return edits(text, name, wanted, recipient)


def apply_edits(text: str, changes: Sequence[Edit]) -> str:
    """Return *text* after *changes*, which do not overlap."""
    parts: List[str] = []
    at = 0
    for start, end, new in sorted(changes):
        parts += [text[at:start], new]
        at = end
    return "".join([*parts, text[at:]])


def put(line: str, name: str, value: Optional[str]) -> str:
    """Set the option *name* exactly once, to *value* or without a value."""
    return apply_edits(line, edits(line, name, name if value is None else f"{name}={value}"))


def remove(line: str, name: str) -> str:
    """Remove every option called *name*, each with one space beside it."""
    return apply_edits(line, edits(line, name, None))


def _removals(line: str, removed: Sequence[Tuple[int, int]]) -> List[Edit]:
    changes: List[Edit] = []
    taken = 0
    for start, end in removed:
        if start > taken and line[start - 1] in _BLANK:
            start -= 1
        elif line[end : end + 1] and line[end] in _BLANK:
            end += 1
        changes.append((start, end, ""))
        taken = end
    return changes


def _addition(line: str, wanted: str, recipient: Recipient) -> Edit:
    present = spans(line, recipient)
    if present:
        return (present[-1][1], present[-1][1], f" {wanted}")
    return (0, 0, f"{wanted} " if line else wanted)
