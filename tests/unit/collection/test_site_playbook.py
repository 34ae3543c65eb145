# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# How many hosts site.yml configures at a time, and what it says of each at its end.

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import pytest
import real_play

SITE = real_play.REPOSITORY / "playbooks" / "site.yml"


def play(path: Path, variables: Dict[str, Any], *extra: str) -> str:
    """Play site.yml without its roles, and return what it prints."""
    hosts = {name: {"ansible_connection": "local"} for name in ("one", "two", "three")}
    (path / "hosts.json").write_text(json.dumps({"xen_hosts": {"hosts": hosts, "vars": variables}}))
    return subprocess.run(
        [real_play.PLAYBOOK, "--inventory=hosts.json", "--tags=none", *extra, str(SITE)],
        cwd=path,
        env=real_play.environment(path),
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize(
    ("variables", "extra", "wanted"),
    [
        ({}, [], 1),
        ({"dom0_memory_reboot": False}, [], 1),
        ({"dom0_memory_reboot": True}, [], 3),
        ({"dom0_memory_reboot": "yes"}, [], 3),
        ({}, ["-edom0_memory_reboot=true"], 3),
        ({"dom0_memory_reboot": True}, ["-esite_serial=2"], 2),
    ],
)
def test_hosts_that_may_be_rebooted_are_configured_one_at_a_time(
    tmp_path: Path, variables: Dict[str, Any], extra: List[str], wanted: int
) -> None:
    assert play(tmp_path, variables, *extra).count("PLAY [Configure") == wanted


GUESTS = [{"name": "web", "actions": ["written", "started"]}, {"name": "mail", "actions": []}]


@pytest.mark.parametrize(
    ("registered", "extra", "line"),
    [
        ({}, [], "one: nothing changed; nothing needed"),
        (
            {
                "__dom0_memory_boot_line": {"changed": True},
                "__dom0_memory_rebooted": {"changed": False, "skipped": True},
                "__stubdom_build_linux": {"changed": True},
                "__stubdom_build_grub2": {"changed": True},
                "__stubdom_build_missing": ["ioemu"],
                "__pvgrub_guest_result": {"guests": GUESTS, "restart_required": ["mail"]},
                "__hvm_stubdom_result": {"guests": [], "restart_required": ["old"]},
                "dom0_memory_reboot_required": True,
            },
            [],
            "one: Xen command line, image linux, image grub2, image ioemu, guest web changed; "
            "reboot, restart of mail, restart of old needed",
        ),
        ({"__dom0_memory_rebooted": {"changed": True}}, ["--check"], "one: rebooted would be changed; nothing needed"),
    ],
)
def test_a_line_for_each_host_says_what_was_changed_and_is_needed(
    tmp_path: Path, registered: Dict[str, Any], extra: List[str], line: str
) -> None:
    assert f'"msg": "{line}"' in play(tmp_path, registered, *extra)
