# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The playbook that takes hosts in, with what records the calls of the collection's modules; nothing is installed.

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import pytest
import recorded

LINE = {"boots_xen": True, "running": None, "configured": "2G", "effective": "2G", "memory_mib": None}
STAYS = {"changed": False, "reboot_required": False, "reboot_reason": "It stays.", "expected_mib": None}
RESULTS: Dict[str, Dict[str, Any]] = {
    "xen_info": {"running": True, "toolstack": {"version": "4.20"}, "guests": []},
    "guests": {},
    "boot_trial": {"trial_state": "none", "trial_summary": "None."},
    "guest_migrate": {},
    "boot_default": {},
    "dom0_mem": {**LINE, **STAYS, "running": "2G", "memory_mib": 2048},
    "xl_conf": {},
    "linux_stubdom": {"files": [], "manifest": {"kind": "linux"}, "reason": "It is there.", "firmware_directory": "/"},
    "grub_image": {},
    "stubdom_install": {},
}
HERE = ["-eenroll_hosts=localhost", "-edom0_memory_size=2G", "-estubdom_build_install_packages=false"]
NO_PACKAGES = '-e{"__enroll_packages": []}'


def play(path: Path, *words: str, **results: Dict[str, Any]) -> recorded.Played:
    return recorded.play(path, "enroll", *words, NO_PACKAGES, results={**RESULTS, **results})


@pytest.mark.parametrize("words", [["--check"], ["-eenroll_reboot=true"]])
def test_a_host_that_has_it_all_stays_as_it_is(tmp_path: Path, words: List[str]) -> None:
    played = play(tmp_path, *HERE, "-eenroll_bridge=lo", *words)
    assert played.status == 0, played.said
    assert "localhost: nothing needed" in played.said and "changed=0" in played.said
    names = [name for name, _given in played.calls]
    assert {"boot_default", "dom0_mem", "xl_conf", "linux_stubdom"} <= set(names)


def test_a_host_without_xen_is_configured_and_told_what_it_needs(tmp_path: Path) -> None:
    linux = {**RESULTS["xen_info"], "running": False}
    played = play(tmp_path, *HERE, xen_info=linux, dom0_mem={**LINE, **STAYS})
    assert played.status == 0, played.said
    assert "a reboot into Xen needed, then this playbook again" in played.said
    assert "no bridge xenbr0: make it" in played.said
    assert "linux_stubdom" not in [name for name, _given in played.calls]


def test_a_host_whose_next_boot_is_without_xen_is_not_rebooted(tmp_path: Path) -> None:
    linux = {**RESULTS["xen_info"], "running": False}
    line = {**LINE, **STAYS, "boots_xen": False, "reboot_reason": "The default entry is Linux."}
    played = play(tmp_path, *HERE, "-eenroll_reboot=true", xen_info=linux, dom0_mem=line)
    assert played.status == 2
    assert "was configured, and was not rebooted. The default entry is Linux." in played.said


def test_without_an_amount_of_memory_or_a_name_nothing_is_done(tmp_path: Path) -> None:
    played = play(tmp_path, "-eenroll_hosts=localhost")
    assert played.status == 2 and "Set dom0_memory_size to what dom0 needs" in played.said
    assert played.calls == [] and play(tmp_path / "other").calls == []


def test_check_mode_names_packages_that_the_package_manager_does_not_know_yet(tmp_path: Path) -> None:
    packages = '-e{"__enroll_packages": ["xen-stubdom-no-such-package"]}'
    played = recorded.play(tmp_path, "enroll", *HERE, "--check", packages, results=RESULTS)
    assert played.status == 0, played.said
    assert "localhost: xen-stubdom-no-such-package would be installed, then dom0's memory" in played.said
    assert "apt says: " in played.said and played.calls == []
