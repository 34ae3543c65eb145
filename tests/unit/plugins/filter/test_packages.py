# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The names of packages that roles install, as the filter gives them to a template.

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.xen.stubdom.plugins.filter import packages

REPOSITORY = Path(__file__).resolve().parents[4]


def names(facts: dict[str, Any], *arguments: Any, **options: Any) -> list[str]:
    return list(packages.FilterModule().filters()["packages"](facts, *arguments, **options))


@pytest.mark.parametrize("prefix", ["", "ansible_"])
def test_facts_with_and_without_their_prefix(prefix: str) -> None:
    facts = {f"{prefix}distribution": "Debian", f"{prefix}os_family": "Debian"}
    assert names(facts, ["squashfs", "busybox"]) == ["busybox-static", "squashfs-tools"]
    assert names(facts, [], builds=["hvmloader", "ioemu"]) == ["bcc", "bin86", "gcc-multilib", "liblzma-dev"]


def test_families_and_unknown_ones() -> None:
    assert names({"distribution": "openSUSE Leap", "os_family": "Suse"}, ["squashfs"]) == ["squashfs"]
    assert names({"distribution": "Rocky", "os_family": "RedHat"}, [], ["texinfo"]) == ["texinfo"]
    for facts in ({}, {"distribution": None}, {"distribution": "XCP-ng", "os_family": "RedHat"}):
        assert names(facts, ["squashfs"], ["base"]) == []


def test_what_the_role_asks_for_is_known() -> None:
    known = packages.distributions
    asked = yaml.safe_load((REPOSITORY / "roles/stubdom_build/vars/main.yml").read_text())
    rows = [row.get("needs", []) for row in asked["__stubdom_build_rows"].values()]
    rows += asked["__stubdom_build_host_needs"].values()
    assert {purpose for row in rows for purpose in row} <= set(known.PURPOSES)
    assert names({"distribution": "Debian"}, asked["__stubdom_build_rows"]["linux"]["needs"]) == [
        "busybox-static",
        "ipxe-qemu",
        "qemu-system-xen",
        "seabios",
        "squashfs-tools",
        "xenstore-utils",
    ]
