# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what is known about the values of the hypervisor's options.
# An option that is not in the table is written as it is given. Sources: xen/arch/x86/dom0_build.c,
# xen/arch/arm/domain_build.c and parse_bool in xen/common/kernel.c @ stable-4.17.

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable, List, Mapping, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line, dom0_mem
from ansible_collections.xen.stubdom.plugins.module_utils._boot.change import Wish, Words, spelled_alike
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


@dataclass(frozen=True)
class Judge:
    """What values are judged by.

    :param memory: what dom0_mem is judged by.
    :param processors: of the host; None where it is not known.
    """

    memory: dom0_mem.Host
    processors: Optional[int] = None


# Value and judge → warnings.
Check = Callable[[Optional[str], Judge], List[str]]

_VCPUS = re.compile(r"^(?:(?P<low>[0-9]+)(?:(?P<range>-)(?P<high>[0-9]*))?|-(?P<only>[0-9]+))$", re.ASCII)
_TRUTHS = ("", "yes", "on", "true", "enable", "1", "no", "off", "false", "disable", "0")


def _check_memory(value: Optional[str], judge: Judge) -> List[str]:
    if value is None:
        raise UserError("The option dom0_mem has no value.", "Give it one, for example 2G,max:2G, or use state absent.")
    return dom0_mem.check(dom0_mem.parse(value, arm=judge.memory.arm), judge.memory)


def _check_vcpus(value: Optional[str], judge: Judge) -> List[str]:
    match = _VCPUS.match(value or "")
    if match is None or (judge.memory.arm and match["low"] != value):
        forms = "a number" if judge.memory.arm else "N, N-, -M or N-M with whole numbers"
        raise UserError(f"The value {value!r} of dom0_max_vcpus is not understood by Xen.", f"Write it as {forms}.")
    low, high = int(match["low"] or 1), int(match["only"] or match["high"] or 0)
    if high and low > high:
        raise UserError(
            f"The least of dom0_max_vcpus={value} is above the most, and Xen would take the most for both.",
            "Write the lower number first.",
        )
    warnings = []
    if match["low"] and low == 0:
        warnings.append(f"dom0_max_vcpus={value}: Xen takes 0 for 1.")
    if judge.processors is not None and low > judge.processors:
        warnings.append(
            f"dom0_max_vcpus={value} asks for more processors than the host has, which is {judge.processors}."
        )
    return warnings


def _check_truth(value: Optional[str], judge: Judge) -> List[str]:
    if value is not None and value not in _TRUTHS:
        raise UserError(
            f"The value {value!r} of dom0_vcpus_pin is not understood by Xen.",
            "Leave it out, or write yes, on, true, enable, 1, no, off, false, disable or 0.",
        )
    return []


KNOWN: Mapping[str, Check] = {
    dom0_mem.OPTION: _check_memory,
    "dom0_max_vcpus": _check_vcpus,
    "dom0_vcpus_pin": _check_truth,
}
SAME: Mapping[str, Callable[[Words, Words], bool]] = {dom0_mem.OPTION: dom0_mem.same_words}


def judge(xen: Xen, root: str, machine: str) -> Judge:
    """Return what the hypervisor says about the host, as far as one is running; nothing for another tree."""
    if root != "/":
        return Judge(dom0_mem.Host())
    arm = machine.startswith(("arm", "aarch"))
    if not xen.is_dom0():
        return Judge(dom0_mem.Host(arm=arm))
    memory = dom0_mem.Host(total=xen.total_memory_mib() * dom0_mem.MIB, version=xen.version(), arm=arm)
    processors = xen.info().get("nr_cpus", "")
    return Judge(memory, int(processors) if processors.isdigit() else None)


def wish(name: str, value: Optional[str], present: bool, judge: Judge, warnings: List[str]) -> Wish:
    """Return what is asked for.

    :raises UserError: Xen would not understand it.
    """
    word = command_line.word(name, value if present else None)
    key = command_line.key(name)
    same = SAME.get(key, spelled_alike)
    if not present:
        return Wish(name, None, same)
    if key in KNOWN:
        warnings += KNOWN[key](value, judge)
    return Wish(name, word, same)
