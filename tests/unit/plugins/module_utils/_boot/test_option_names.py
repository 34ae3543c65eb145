# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot import option_names
from ansible_collections.xen.stubdom.plugins.module_utils._boot.option_table import NEWEST, OLDEST, OPTIONS


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("dom_mem", None, "have no option dom_mem, and ignore .* Is dom0_mem meant"),
        ("dom0_max_cpus", (4, 17), "Is dom0_max_vcpus meant"),
        ("zzzzzz", None, "have no option zzzzzz, and ignore one that they do not know\\.$"),
        ("quiet", (4, 17), "quiet is an option of Linux"),
        ("root", None, "root is an option of Linux"),
        ("xen-pciback.hide", None, "xen-pciback.hide is an option of Linux"),
        ("tmem", (4, 17), "Xen 4.17 ignores tmem: 4.12 is the last release"),
        ("llc-coloring", (4, 17), "Xen 4.17 ignores llc-coloring: 4.20 is the first release"),
    ],
)
def test_what_the_hypervisor_would_ignore(name: str, version: tuple[int, int] | None, message: str) -> None:
    (warning,) = option_names.hypervisor_warnings(name, version)
    assert re.search(message, warning)


@pytest.mark.parametrize("name", ["no-smt", "dom0-mem", "no-real-mode", "ivrs_ioapic[4]", "tmem", "com1", "noreboot"])
@pytest.mark.parametrize("version", [None, (4, 12), (5, 0)])
def test_what_it_knows(name: str, version: tuple[int, int] | None) -> None:
    assert option_names.hypervisor_warnings(name, version) == []


def test_a_release_that_is_newer_than_the_table_has_what_the_newest_one_has() -> None:
    assert option_names.hypervisor_warnings("smt", (4, NEWEST + 1)) == []


def test_options_of_the_hypervisor_among_those_of_linux() -> None:
    line = "quiet dom0_mem=1G dom0_max_vcpus=2 console=hvc0 loglvl=all"
    assert [text.split()[0] for text in option_names.linux_warnings(line, "X", "smt")] == [
        "dom0_mem=1G",
        "dom0_max_vcpus=2",
    ]
    assert len(option_names.linux_warnings(line, "X", "loglvl")) == 3


def test_the_table() -> None:
    assert all(OLDEST <= first <= last <= NEWEST for first, last in OPTIONS.values())
    assert OPTIONS["dom0_mem"] == (OLDEST, NEWEST)
    assert not [name for name in OPTIONS if "-" in name]
