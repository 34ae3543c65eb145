# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# How many hosts site.yml configures at a time.

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


def batches(path: Path, variables: Dict[str, Any], *extra: str) -> int:
    """Play site.yml without its roles, and count the batches."""
    namespace = path / "collections" / "ansible_collections" / "xen"
    namespace.mkdir(parents=True)
    (namespace / "stubdom").symlink_to(REPOSITORY)
    hosts = {name: {"ansible_connection": "local"} for name in ("one", "two", "three")}
    (path / "hosts.json").write_text(json.dumps({"xen_hosts": {"hosts": hosts, "vars": variables}}))
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "--inventory=hosts.json", "--tags=none", *extra,
         str(REPOSITORY / "playbooks" / "site.yml")],
        cwd=path,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(path / "collections"),
            "ANSIBLE_HOME": str(path / "ansible"),
            "ANSIBLE_LOCAL_TEMP": str(path / "tmp"),
        },
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
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
