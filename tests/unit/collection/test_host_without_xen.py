# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# A host that does not run Xen is told so before anything else, and before a package is installed.

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Dict

import pytest
import real_play

GUEST = [{"name": "web", "memory": 256, "state": "running"}]


@pytest.mark.skipif(Path("/proc/xen/capabilities").exists(), reason="this machine runs Xen")
@pytest.mark.parametrize(
    ("role", "variables"),
    [
        ("stubdom_build", {"stubdom_build_images": ["linux"]}),
        ("stubdom_build", {"stubdom_build_images": ["pv-grub"]}),
        ("pvgrub_guest", {"pvgrub_guest_guests": GUEST}),
        ("hvm_stubdom", {"hvm_stubdom_guests": GUEST}),
    ],
)
def test_it_is_said_first(tmp_path: Path, role: str, variables: Dict[str, Any]) -> None:
    plays = [{"hosts": "localhost", "gather_facts": False, "roles": [f"xen.stubdom.{role}"], "vars": variables}]
    (tmp_path / "play.yml").write_text(json.dumps(plays))
    done = subprocess.run(
        [real_play.PLAYBOOK, "play.yml"],
        cwd=tmp_path,
        env=real_play.environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout
    assert "This host does not run Xen" in done.stdout + done.stderr
    tasks = [line for line in done.stdout.splitlines() if line.startswith("TASK")]
    assert not [task for task in tasks if "Install" in task or "Write" in task]
