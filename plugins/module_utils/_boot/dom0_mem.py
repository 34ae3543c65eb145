# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the grammar of the hypervisor's dom0_mem option.
# Sources: docs/misc/xen-command-line.pandoc, xen/arch/x86/dom0_build.c and, for Arm, xen/arch/arm/domain_build.c
# @ stable-4.17.

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

OPTION = "dom0_mem"

MIB = 1 << 20

# parse_size_and_unit, xen/common/lib.c @ stable-4.17: no suffix means KiB.
_UNITS: Dict[str, int] = {"": 10, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}

# The suffix T is never written: the regular expression of autoballoon="auto" does not match it before Xen 4.16
# (tools/xl/xl.c), so xl would shrink dom0 although its size is fixed.
_CANONICAL_UNITS: Sequence[Tuple[str, int]] = (("G", 30), ("M", 20), ("K", 10), ("B", 0))

_NUMBER = r"(?:0[xX][0-9a-fA-F]+|[0-9]+)"
_AMOUNT = re.compile(
    rf"^(?P<minus>-?)(?:(?P<only>[0-9]+)%|(?P<size>{_NUMBER})(?P<unit>[bkmgt]?)(?:\+(?P<percent>[0-9]+)%)?)$",
    re.IGNORECASE | re.ASCII,
)

# What people write for an amount and Xen does not read.
_SWAPPED = re.compile(rf"^(?P<minus>-?)(?P<percent>[0-9]+%)\+(?P<size>{_NUMBER}[bkmgt]?)$", re.IGNORECASE | re.ASCII)
_WITH_B = re.compile(
    r"^(?P<number>[0-9]{1,18}(?:\.[0-9]{1,18})?)[ \t]*(?P<unit>[kmgt])(?:i?B)?$", re.IGNORECASE | re.ASCII
)

FORMS = "Write it as a number with the suffix M or G, for example 1G or 1536M."


@dataclass(frozen=True)
class Amount:
    """An amount of memory as Xen understands it; two spellings of the same amount are equal.

    :param size: bytes.
    :param percent: of the host's memory, added to the size.
    :param negative: whether it is subtracted from the host's memory.
    :param suffixed: whether a unit was written.
    """

    size: int
    percent: int = 0
    negative: bool = False
    suffixed: bool = field(default=True, compare=False)

    def __str__(self) -> str:
        parts = []
        if self.size or not self.percent:
            parts.append(_render_size(self.size))
        if self.percent:
            parts.append(f"{self.percent}%")
        return ("-" if self.negative else "") + "+".join(parts)

    @property
    def relative(self) -> bool:
        """Whether it depends on how much memory the host has."""
        return self.negative or self.percent > 0

    def resolve(self, total: Optional[int]) -> Optional[int]:
        """Return bytes on a host of *total* bytes, None where that cannot be known."""
        if not self.relative:
            return self.size
        if total is None:
            return None
        amount = self.size + total * self.percent // 100
        return total - amount if self.negative else amount


@dataclass(frozen=True)
class Dom0Mem:
    """The three components of dom0_mem, each of which may be missing."""

    size: Optional[Amount] = None
    minimum: Optional[Amount] = None
    maximum: Optional[Amount] = None

    def __str__(self) -> str:
        items = (("", self.size), ("min:", self.minimum), ("max:", self.maximum))
        return ",".join(f"{prefix}{amount}" for prefix, amount in items if amount is not None)

    @property
    def amounts(self) -> List[Tuple[str, Amount]]:
        items = (("size", self.size), ("min", self.minimum), ("max", self.maximum))
        return [(name, amount) for name, amount in items if amount is not None]

    @property
    def fixed(self) -> bool:
        """Whether dom0 starts with as much as it may ever have."""
        return self.size is not None and self.size == self.maximum


def parse_amount(text: str, *, what: str = "size") -> Amount:
    """Read one amount.

    :raises UserError: Xen would not understand it.
    """
    match = _AMOUNT.match(text)
    if match is None or "\n" in text:
        raise UserError(f"The {what} {text!r} is not an amount of memory.", _suggestion(text))
    percent = int(match["only"] or match["percent"] or 0)
    if percent >= 100:
        raise UserError(f"The {what} {text!r} is {percent} percent of the host's memory.", "Use less than 100 percent.")
    if match["size"] is None:
        return Amount(0, percent, bool(match["minus"]))
    unit = match["unit"].lower()
    number = _number(match["size"], text, what)
    if number << _UNITS[unit] >= 1 << 64:
        raise UserError(f"The {what} {text!r} does not fit into 64 bits.", FORMS)
    return Amount(number << _UNITS[unit], percent, bool(match["minus"]), bool(unit))


def _suggestion(text: str) -> str:
    """Return how an amount is written that people write in another way."""
    swapped = _SWAPPED.match(text)
    if swapped:
        return f"Write the size before the percentage: {swapped['minus']}{swapped['size']}+{swapped['percent']}."
    bytes_ = _WITH_B.match(text)
    if bytes_ and "." not in bytes_["number"]:
        return (
            f"Write the unit directly behind the number and as one letter: {bytes_['number']}{bytes_['unit'].upper()}."
        )
    if bytes_:
        shift = _UNITS[bytes_["unit"].lower()]
        whole, _point, fraction = bytes_["number"].partition(".")
        size = (int(whole + fraction) << shift) // 10 ** len(fraction)
        return f"Write a whole number: {size // MIB}M." if size >= MIB else FORMS
    return FORMS


def parse(value: str, *, arm: bool = False) -> Dom0Mem:
    """Read the value of a dom0_mem option; of items of the same kind the last one counts, as in Xen.

    :raises UserError: Xen would not understand it.
    """
    found: Dict[str, Amount] = {}
    for item in value.split(","):
        # In small letters only (strncmp in parse_dom0_mem).
        kind, colon, rest = item.partition(":")
        name = kind if colon and kind in ("min", "max") else "size"
        if arm and (name != "size" or "," in value):
            raise UserError(f"dom0_mem={value} is not supported on Arm.", "Use one size there, without min: and max:.")
        amount = parse_amount(rest if name != "size" else item, what=name)
        if arm and amount.relative:
            raise UserError(f"dom0_mem={value} is not supported on Arm.", "Use a plain size there, for example 1G.")
        found[name] = amount
    return Dom0Mem(found.get("size"), found.get("min"), found.get("max"))


def merge(values: Sequence[str]) -> Optional[Dom0Mem]:
    """Return what several dom0_mem options amount to, None for no option.

    Xen keeps size, min and max apart, so that of several options the last value of each of them counts.

    :raises UserError: one of them is not understood.
    """
    if not values:
        return None
    return parse(",".join(values))


def same(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two lists of values mean the same to Xen; values that Xen would reject are compared as text."""
    try:
        return merge(one) == merge(other)
    except UserError:
        return list(one) == list(other)


def same_options(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two lists of options dom0_mem=VALUE mean the same to Xen."""
    return same([option.partition("=")[2] for option in one], [option.partition("=")[2] for option in other])


def _number(digits: str, text: str, what: str) -> int:
    # simple_strtoull with base 0: a leading 0 is octal, 0x hexadecimal.
    try:
        if digits[:2].lower() == "0x":
            return int(digits, 16)
        return int(digits, 8 if digits.startswith("0") else 10) if len(digits) < 40 else 1 << 64
    except ValueError as error:
        raise UserError(f"The {what} {text!r} starts with 0 but is not an octal number.", FORMS) from error


def _render_size(size: int) -> str:
    for suffix, shift in _CANONICAL_UNITS:
        if size and size % (1 << shift) == 0:
            return f"{size >> shift}{suffix}"
    return "0B"
