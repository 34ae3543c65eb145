# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the words of a hypervisor's boot line.
# Words are separated by spaces, there is no quoting, and "--" ends them (xen/common/kernel.c, xen/arch/x86/setup.c).

from __future__ import annotations

import re
from typing import List, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

END = "--"

# Start and end of what has to go, and what comes in its place.
Edit = Tuple[int, int, str]

_WORD = re.compile(r"[^ \t\r\n]+")
_BLANK = " \t"

# Characters that neither a shell's file nor GRUB's own language nor a configuration of xen.efi takes for its own.
_OPTION = re.compile(r"^[A-Za-z][A-Za-z0-9_.\[\]-]*\Z", re.ASCII)
_VALUE = re.compile(r"^[A-Za-z0-9_.,:+%/@=\[\]-]+\Z", re.ASCII)

# Put on the line by loaders (20_linux_xen of GRUB), not by anybody's configuration.
GENERATED = ("placeholder", "${xen_rm_opts}", "no-real-mode", "edd=off")


def key(word: str) -> str:
    """Return the name of the option that *word* sets.

    Xen takes - and _ for the same in names (cdiff), and "no-" before a name for the opposite (xen/common/kernel.c).
    """
    name = word.partition("=")[0].replace("-", "_")
    return name[3:] if name.startswith("no_") else name


def names(word: str, option: str) -> bool:
    """Whether *word* sets *option*."""
    return key(word) == key(option)


def word(option: str, value: Optional[str]) -> str:
    """Return the word that gives *option* this value, or names it alone.

    :raises UserError: a boot loader would take it for something else.
    """
    if not _OPTION.match(option):
        raise UserError(
            f"{option!r} is not the name of an option of the hypervisor.",
            "Give the name alone, for example dom0_max_vcpus, without = and a value.",
        )
    if value is None:
        return option
    if not _VALUE.match(value):
        raise UserError(
            f"The value {value!r} of {option} cannot be written for every boot loader.",
            "Use letters, digits and the characters . , : + % / @ = [ ] _ - without spaces or quotes.",
        )
    return f"{option}={value}"


def spans(line: str) -> List[Tuple[int, int]]:
    """Return where the hypervisor's words are, those after -- left out."""
    found: List[Tuple[int, int]] = []
    for match in _WORD.finditer(line):
        if match.group() == END:
            break
        found.append(match.span())
    return found


def words(line: str) -> List[str]:
    """Return the hypervisor's words in order."""
    return [line[start:end] for start, end in spans(line)]


def configured_words(line: str) -> List[str]:
    """Return the words in order, without those that a loader puts there by itself."""
    return [found for found in words(line) if found not in GENERATED]


def setting(line: str, option: str) -> List[str]:
    """Return every word that sets *option*, in order."""
    return [found for found in words(line) if names(found, option)]


def values(line: str, option: str) -> List[str]:
    """Return every value that *option* is given, in order; empty for a word without a value."""
    return [found.partition("=")[2] for found in setting(line, option)]


def edits(line: str, option: str, wanted: Optional[str]) -> List[Edit]:
    """Return what to change so that the word *wanted*, and no other one, sets *option*; None for no word at all.

    The word takes the place of the last one there, or stands behind the last word of the line. What is added to a line
    is exactly what removing it takes away again.
    """
    found = [span for span in spans(line) if names(line[slice(*span)], option)]
    if wanted is None:
        return _removals(line, found)
    if not found:
        return [_addition(line, wanted)]
    start, end = found[-1]
    kept = [] if line[start:end] == wanted else [(start, end, wanted)]
    return _removals(line, found[:-1]) + kept


def changed(line: str, changes: Sequence[Edit]) -> str:
    """Return *line* after *changes*, which do not overlap."""
    for start, end, new in sorted(changes, reverse=True):
        line = line[:start] + new + line[end:]
    return line


def put(line: str, option: str, value: Optional[str]) -> str:
    """Give *option* this value exactly once, or name it alone for None."""
    return changed(line, edits(line, option, option if value is None else f"{option}={value}"))


def remove(line: str, option: str) -> str:
    """Take every word of *option* away, each with one space beside it."""
    return changed(line, edits(line, option, None))


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


def _addition(line: str, wanted: str) -> Edit:
    present = spans(line)
    if present:
        return (present[-1][1], present[-1][1], f" {wanted}")
    return (0, 0, f"{wanted} " if line else wanted)
