# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The type of a guest with GRUB 2 for which none is asked."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._guests import guest_types
from ansible_collections.xen.stubdom.plugins.module_utils._guests.model import Host

# What `xl info` of Xen 4.20 says on a machine with hardware virtualisation, and on one without.
ABLE = {
    "version": (4, 20),
    "capabilities": frozenset(["xen-3.0-x86_64", "hvm-3.0-x86_32", "hvm-3.0-x86_32p", "hvm-3.0-x86_64"]),
    "virtualisation": frozenset(["pv", "hvm", "hap", "shadow", "gnttab-v1"]),
    "grub2_types": frozenset(("pv", "pvh")),
}
GUEST: dict[str, Any] = {"name": "web", "type": None, "flavour": "grub2", "memory": 256}


@pytest.mark.parametrize(
    ("changed", "chosen", "reason"),
    [
        ({}, "pvh", "boot kernels of every compression"),
        # Neither a hypervisor nor an image yet: what the role is for comes later.
        (dict.fromkeys(ABLE, frozenset()) | {"version": None}, "pvh", "boot kernels of every compression"),
        ({"version": (4, 9)}, "pv", "This release of Xen has no PVH guests"),
        ({"capabilities": frozenset(("xen-3.0-x86_64",))}, "pv", "virtualisation is missing or switched off"),
        ({"virtualisation": frozenset(("pv", "hvm"))}, "pv", "neither hap nor shadow paging"),
        ({"virtualisation": frozenset(("pv", "hvm", "shadow"))}, "pvh", "every compression"),
        # Releases that do not tell it.
        ({"version": (4, 12), "virtualisation": frozenset(("hvm",))}, "pvh", "every compression"),
        ({"grub2_types": frozenset(("pv",))}, "pv", "There is a GRUB 2 for PV guests on this host, and none for PVH"),
    ],
)
def test_by_what_the_host_can_do(changed: dict[str, Any], chosen: str, reason: str) -> None:
    values, why = guest_types.typed(GUEST, Host(**{**ABLE, **changed}), {})
    assert values == {**GUEST, "type": chosen}
    assert reason in why


@pytest.mark.parametrize(
    ("guest", "before", "chosen", "reason"),
    [
        ({"kernel": "/srv/grub.bin"}, {}, "pv", "A kernel is named"),
        ({"options": {"pci": ["00:1f.0"]}}, {}, "pv", "PCI devices"),
        ({}, {"name": "web", "type": "pv"}, "pv", "has a configuration with this type"),
        # Before Xen 4.10 no configuration names it.
        ({}, {"name": "web"}, "pv", "has a configuration with this type"),
        ({}, {"name": "web", "type": "pvh"}, "pvh", "has a configuration with this type"),
        ({}, {"name": "web", "type": "hvm"}, "pvh", "every compression"),
        ({}, {"name": "another", "type": "pv"}, "pvh", "every compression"),
    ],
)
def test_by_what_the_guest_is(guest: dict[str, Any], before: dict[str, Any], chosen: str, reason: str) -> None:
    values, why = guest_types.typed({**GUEST, **guest}, Host(**ABLE), before)
    assert values["type"] == chosen
    assert reason in why


def test_a_guest_whose_type_the_host_no_longer_has_gets_the_other_one() -> None:
    host = Host(**{**ABLE, "capabilities": frozenset(("xen-3.0-x86_64",))})
    values, why = guest_types.typed(GUEST, host, {"name": "web", "type": "pvh"})
    assert values["type"] == "pv" and "switched off" in why


def test_a_type_that_is_asked_for_stays() -> None:
    for kind in ("pv", "pvh", "hvm"):
        assert guest_types.typed({**GUEST, "type": kind}, Host(**ABLE), {}) == ({**GUEST, "type": kind}, "")
