# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the options on the Xen command line.
# Options are separated by spaces, there is no quoting, and "--" ends them (xen/common/kernel.c, xen/arch/x86/setup.c).

from __future__ import annotations

import re
from typing import List, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

END = "--"

# Start and end of the text to replace, and its replacement.
Edit = Tuple[int, int, str]

_OPTION = re.compile(r"[^ \t\r\n]+")
_BLANK = " \t"

# Characters that have no special meaning in a shell file, in GRUB's language and in a configuration of xen.efi.
_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_.\[\]-]*\Z", re.ASCII)
_VALUE = re.compile(r"^[A-Za-z0-9_.,:+%/@=\[\]-]+\Z", re.ASCII)

# Added by boot loaders (20_linux_xen of GRUB) and not by any configuration.
GENERATED = ("placeholder", "${xen_rm_opts}", "no-real-mode", "edd=off")


def name_of(option: str) -> str:
    """Return the name of an option, in one spelling.

    Xen treats - and _ in names alike (cdiff), and "no-" before a name as its negation (xen/common/kernel.c).
    """
    name = option.partition("=")[0].replace("-", "_")
    return name[3:] if name.startswith("no_") else name


def sets(option: str, name: str) -> bool:
    """Whether *option* sets the option called *name*."""
    return name_of(option) == name_of(name)


def render(name: str, value: Optional[str]) -> str:
    """Return the option as it is written on the command line: NAME=VALUE, or NAME without a value.

    :raises UserError: a boot loader would interpret a character of it.
    """
    if not _NAME.match(name):
        raise UserError(
            f"{name!r} is not the name of a Xen command line option.",
            "Use a name such as dom0_max_vcpus, without = and without a value.",
        )
    if value is None:
        return name
    if not _VALUE.match(value):
        raise UserError(
            f"The value {value!r} of the option {name} contains characters that a boot loader would interpret.",
            "Use only letters, digits and the characters . , : + % / @ = [ ] _ - in the value.",
        )
    return f"{name}={value}"


def spans(line: str) -> List[Tuple[int, int]]:
    """Return the start and end of each option; what follows -- is not for the hypervisor."""
    found: List[Tuple[int, int]] = []
    for match in _OPTION.finditer(line):
        if match.group() == END:
            break
        found.append(match.span())
    return found


def options(line: str) -> List[str]:
    """Return the options in order."""
    return [line[start:end] for start, end in spans(line)]


def configured_options(line: str) -> List[str]:
    """Return the options in order, without those that a boot loader adds by itself."""
    return [option for option in options(line) if option not in GENERATED]


def find(line: str, name: str) -> List[str]:
    """Return every option called *name*, in order."""
    wanted = name_of(name)
    return [option for option in options(line) if name_of(option) == wanted]


def values(line: str, name: str) -> List[str]:
    """Return every value of the options called *name*, in order; empty for one without a value."""
    return [option.partition("=")[2] for option in find(line, name)]


def edits(line: str, name: str, wanted: Optional[str]) -> List[Edit]:
    """Return the edits after which *wanted* is the only option called *name*; None removes all of them.

    The option replaces the last one of its name, or follows the last option of the line. Removing what was added to a
    line gives the line back byte for byte.
    """
    key = name_of(name)
    found = [span for span in spans(line) if name_of(line[slice(*span)]) == key]
    if wanted is None:
        return _removals(line, found)
    if not found:
        return [_addition(line, wanted)]
    start, end = found[-1]
    kept = [] if line[start:end] == wanted else [(start, end, wanted)]
    return _removals(line, found[:-1]) + kept


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


def _addition(line: str, wanted: str) -> Edit:
    present = spans(line)
    if present:
        return (present[-1][1], present[-1][1], f" {wanted}")
    return (0, 0, f"{wanted} " if line else wanted)
