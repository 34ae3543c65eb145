# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the options on the Xen command line, and on that of dom0's Linux.
# Options are separated by spaces, and "--" ends them (xen/common/kernel.c and xen/arch/x86/setup.c; parse_args in
# kernel/params.c of Linux). What follows it on Xen's line is added to that of dom0's Linux (create_dom0 in setup.c).
# Only Linux knows quotes, between which a space separates nothing (next_arg, lib/cmdline.c).

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import List, Mapping, Optional, Pattern, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

END = "--"

# Start and end of the text to replace, and its replacement.
Edit = Tuple[int, int, str]

_BLANK = " \t"
_FOR_LINUX = re.compile(rf"(?:^|[ \t\r\n]){END}[ \t\r\n]+(.*)", re.DOTALL)

# Characters that have no special meaning between quotes of a shell file, in GRUB's language and in a configuration of
# xen.efi.
_VALUE = re.compile(r"^[A-Za-z0-9_.,:+%/@=()\[\]-]+\Z", re.ASCII)


@dataclass(frozen=True, eq=False)
class Recipient:
    """Who reads a command line that a boot loader passes on.

    :param key: the value of the parameter target.
    :param subject: how it is called in a sentence.
    :param option: how one option is called in a sentence.
    :param example: the name of one.
    :param name: what its options are called.
    :param word: what one option is; everything between two matches is blank.
    :param negates: whether "no-" before a name is its negation (xen/common/kernel.c).
    """

    key: str
    subject: str
    option: str
    example: str
    name: Pattern[str]
    word: Pattern[str]
    negates: bool


HYPERVISOR = Recipient(
    "hypervisor",
    "the hypervisor",
    "a Xen command line option",
    "dom0_max_vcpus",
    name=re.compile(r"^[A-Za-z][A-Za-z0-9_.\[\]-]*\Z", re.ASCII),
    word=re.compile(r"[^ \t\r\n]+"),
    negates=True,
)
DOM0_KERNEL = Recipient(
    "dom0_kernel",
    "dom0's Linux",
    "an option of Linux",
    "xen-pciback.hide",
    # Some modules are called by numbers, such as 8250.
    name=re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.\[\]-]*\Z", re.ASCII),
    word=re.compile(r'(?:[^ \t\r\n"]+|"[^"]*"?)+'),
    negates=False,
)
RECIPIENTS: Mapping[str, Recipient] = {row.key: row for row in (HYPERVISOR, DOM0_KERNEL)}

# Added by boot loaders (20_linux_xen of GRUB) and not by any configuration.
GENERATED = ("placeholder", "${xen_rm_opts}", "no-real-mode", "edd=off")


def name_of(option: str, recipient: Recipient = HYPERVISOR) -> str:
    """Return the name of an option, in one spelling.

    Xen treats - and _ in names alike (cdiff, xen/common/kernel.c), and so does Linux (parameq, kernel/params.c).
    """
    name = option.lstrip('"').partition("=")[0].replace("-", "_")
    return name[3:] if recipient.negates and name.startswith("no_") else name


def sets(option: str, name: str, recipient: Recipient = HYPERVISOR) -> bool:
    """Whether *option* sets the option called *name*."""
    return name_of(option, recipient) == name_of(name, recipient)


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


def spans(line: str, recipient: Recipient = HYPERVISOR) -> List[Tuple[int, int]]:
    """Return the start and end of each option; what follows -- is for somebody else."""
    found: List[Tuple[int, int]] = []
    for match in recipient.word.finditer(line):
        if match.group() == END:
            break
        found.append(match.span())
    return found


def for_linux(line: str) -> str:
    """Return what follows -- on the hypervisor's line, which Xen adds to the line of dom0's Linux."""
    match = _FOR_LINUX.search(line)
    return "" if match is None else match.group(1)


def options(line: str, recipient: Recipient = HYPERVISOR) -> List[str]:
    """Return the options in order."""
    return [line[start:end] for start, end in spans(line, recipient)]


def configured_options(line: str, recipient: Recipient = HYPERVISOR) -> List[str]:
    """Return the options in order, without those that a boot loader adds by itself."""
    return [option for option in options(line, recipient) if option not in GENERATED]


def find(line: str, name: str, recipient: Recipient = HYPERVISOR) -> List[str]:
    """Return every option called *name*, in order."""
    wanted = name_of(name, recipient)
    return [option for option in options(line, recipient) if name_of(option, recipient) == wanted]


def others(line: str, name: str, recipient: Recipient = HYPERVISOR) -> List[str]:
    """Return every option that is not called *name*, in order."""
    excluded = name_of(name, recipient)
    return [option for option in options(line, recipient) if name_of(option, recipient) != excluded]


def values(line: str, name: str) -> List[str]:
    """Return every value of the options called *name*, in order; empty for one without a value."""
    return [option.partition("=")[2] for option in find(line, name)]


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
