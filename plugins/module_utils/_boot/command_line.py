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
from typing import List, Mapping, Pattern, Tuple

END = "--"

_FOR_LINUX = re.compile(rf"(?:^|[ \t\r\n]){END}[ \t\r\n]+(.*)", re.DOTALL)


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
