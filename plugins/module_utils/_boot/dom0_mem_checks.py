# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: whether a host can do what a value of dom0_mem asks for.

from __future__ import annotations

from typing import Dict, List, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._boot.dom0_mem import (
    FORMS,
    MIB,
    Amount,
    Dom0Mem,
    parse,
    parse_amount,
)
from ansible_collections.xen.stubdom.plugins.module_utils._boot.host_facts import HostFacts
from ansible_collections.xen.stubdom.plugins.module_utils._common import version
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

_KIB = 1 << 10
_PAGE = 4 << 10

# libxl never shrinks dom0 below this (LIBXL_MIN_DOM0_MEM, tools/libs/light/libxl_internal.h @ stable-4.17).
SMALLEST_BYTES = 128 * MIB

PERCENT_SINCE = (4, 12)


def from_parameters(size: Optional[str], minimum: Optional[str], maximum: Optional[str], *, arm: bool) -> Dom0Mem:
    """Return the value for the module's parameters. The maximum defaults to the size, which fixes dom0's memory.

    :raises UserError: one of them is no amount, or has no unit.
    """
    amounts: Dict[str, Optional[Amount]] = {}
    for name, text in (("size", size), ("min", minimum), ("max", maximum)):
        amounts[name] = None if text is None else parse_amount(text, what=name)
        amount = amounts[name]
        if amount is not None and not amount.suffixed:
            number, plus, percent = str(text).partition("+")
            raise UserError(
                f"The {name} {text!r} has no unit, and Xen would read it as {amount.size // _KIB} KiB.",
                f"Add the unit to {name}: write {number}M{plus}{percent} for MiB, or use one of the suffixes K and G.",
            )
    if arm:
        if amounts["min"] is not None or amounts["max"] is not None:
            raise UserError("Xen on Arm supports neither min nor max for dom0's memory.", "Use size alone.")
        return parse(str(amounts["size"]), arm=True)
    return Dom0Mem(amounts["size"], amounts["min"], amounts["max"] or amounts["size"])


def validate(wanted: Dom0Mem, facts: HostFacts) -> List[str]:
    """Validate a value against the host that it is for.

    :return: warnings, one sentence each.
    :raises UserError: Xen would not do what it says.
    """
    for name, amount in wanted.amounts:
        if amount.percent and facts.version is not None and facts.version < PERCENT_SINCE:
            raise UserError(
                f"The {name} {amount} is a percentage, which Xen {version.text(facts.version)} does not support.",
                f"Use a size such as 2G; percentages need Xen {version.text(PERCENT_SINCE)} or newer.",
            )
        resolved = amount.resolve(facts.memory)
        if resolved is None:
            continue
        if facts.memory is not None and not 0 < resolved <= facts.memory:
            raise UserError(
                f"The {name} {amount} comes to {_mib(resolved)}, but the host has {_mib(facts.memory)} of memory.",
                f"Set {name} to less than that.",
            )
        if resolved <= 0:
            raise UserError(f"The {name} {amount} leaves dom0 no memory.", FORMS)
    _check_order("min", wanted.minimum, "max", wanted.maximum, facts, "Xen would ignore min")
    _check_order("size", wanted.size, "max", wanted.maximum, facts, "Xen would start dom0 with max")
    _check_order("min", wanted.minimum, "size", wanted.size, facts, "Xen would start dom0 with min")
    return _warnings(wanted, facts)


def require_smallest(wanted: Dom0Mem, facts: HostFacts) -> None:
    """:raises UserError: dom0 would have less than libxl ever leaves it."""
    for name, amount in wanted.amounts:
        if name != "min" and _too_small(amount, facts):
            raise UserError(
                f"The {name} {amount} is less than {_mib(SMALLEST_BYTES)}, which dom0 needs at least.",
                f"Set {name} to more than that; libxl never shrinks dom0 below it (LIBXL_MIN_DOM0_MEM).",
            )


def _warnings(wanted: Dom0Mem, facts: HostFacts) -> List[str]:
    warnings = [
        f"The {name} has no unit: Xen reads it as KiB, that is {amount}."
        for name, amount in wanted.amounts
        if not amount.suffixed
    ]
    warnings += [
        f"The {name} {amount} is less than {_mib(SMALLEST_BYTES)}, below which libxl never shrinks dom0."
        for name, amount in wanted.amounts
        if name != "min" and _too_small(amount, facts)
    ]
    warnings += [
        f"The {name} {amount} is not a multiple of 4 KiB, and Xen gives dom0 whole pages only."
        for name, amount in wanted.amounts
        if amount.size % _PAGE
    ]
    if wanted.size is None and wanted.maximum is None:
        warnings.append("There is no size: dom0 starts with almost all memory of the host.")
    largest = None if wanted.size is None else wanted.size.resolve(facts.memory)
    if facts.memory is not None and largest is not None and facts.memory - _reserve(facts.memory) < largest:
        warnings.append(
            f"The size {wanted.size} leaves less than the {_mib(_reserve(facts.memory))} that Xen reserves by default: "
            "it may start dom0 with less, and no guest will start."
        )
    if wanted.maximum is None and not facts.arm:
        warnings.append("There is no max: dom0 may balloon up to all memory of the host.")
    return warnings


def _reserve(total: int) -> int:
    # default_nr_pages, xen/arch/x86/dom0_build.c @ stable-4.17: what Xen reserves for itself where no size is given.
    return min(total // 16, 128 * MIB)


def _too_small(amount: Amount, facts: HostFacts) -> bool:
    resolved = amount.resolve(facts.memory)
    return resolved is not None and resolved < SMALLEST_BYTES


def _check_order(
    low_name: str, low: Optional[Amount], high_name: str, high: Optional[Amount], facts: HostFacts, consequence: str
) -> None:
    if low is None or high is None:
        return
    low_bytes, high_bytes = low.resolve(facts.memory), high.resolve(facts.memory)
    if low_bytes is not None and high_bytes is not None and low_bytes > high_bytes:
        raise UserError(
            f"The {low_name} {low} is above the {high_name} {high}.",
            f"{consequence}; raise {high_name} or lower {low_name}.",
        )


def _mib(size: int) -> str:
    return f"{size // MIB} MiB"
