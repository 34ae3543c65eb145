# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the emulation killed a guest, or the guest failed: by the hypervisor's log.

Under emulation an HVM or PVH guest now and then dies without a cause of its own. A test may start such a guest again. A
guest that failed in any other way has failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# What the hypervisor wrote when guests died that run on hardware: (pattern with the domain's number, what happened).
# Xen: hvm_triple_fault in arch/x86/hvm/hvm.c, hvm_dump_emulation_state called from arch/x86/hvm/svm/emulate.c.
DEATHS = (
    (re.compile(r"^\(XEN\).* d(\d+)v\d+ Triple fault - "), "a triple fault"),
    (
        re.compile(r"^\(XEN\).* SVM Insn len emulation failed \(-?\d+\): d(\d+)v"),
        "an instruction the hypervisor could not take apart",
    ),
)
# Domains are numbered from 1 by every hypervisor that starts; the serial log of a host goes on.
BANNER = re.compile(r"(?:^|\r)\(XEN\)(?: \[[^\]]*\])? Xen version ", re.MULTILINE)


@dataclass(frozen=True)
class Death:
    """A domain that the emulation killed, in words, and the line of the log that says so."""

    domid: int
    what: str
    line: str


def deaths(log: str) -> Iterator[Death]:
    """All domains that the emulation killed since the hypervisor was started last; log is its whole log."""
    starts = [match.start() for match in BANNER.finditer(log)]
    seen = set()
    for line in log[starts[-1] if starts else 0 :].splitlines():
        for pattern, what in DEATHS:
            match = pattern.search(line)
            if match and int(match[1]) not in seen:
                seen.add(int(match[1]))
                yield Death(int(match[1]), what, line.strip())


def domain_numbers(toolstack_log: str) -> list[int]:
    """The numbers a guest has had, by xl's own log of it (/var/log/xen/xl-NAME.log)."""
    return [int(number) for number in re.findall(r"\(domid (\d+)\)", toolstack_log)]
