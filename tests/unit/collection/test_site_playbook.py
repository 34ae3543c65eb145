# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# How many hosts site.yml configures at a time.

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import pytest
import real_play

SITE = real_play.REPOSITORY / "playbooks" / "site.yml"


def batches(path: Path, variables: Dict[str, Any], *extra: str) -> int:
    """Play site.yml without its roles, and count the batches."""
    hosts = {name: {"ansible_connection": "local"} for name in ("one", "two", "three")}
    (path / "hosts.json").write_text(json.dumps({"xen_hosts": {"hosts": hosts, "vars": variables}}))
    done = subprocess.run(
        [real_play.PLAYBOOK, "--inventory=hosts.json", "--tags=none", *extra, str(SITE)],
        cwd=path,
        env=real_play.environment(path),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.count("PLAY [Configure")


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
    assert batches(tmp_path, variables, *extra) == wanted
