# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Ansible itself, in a process of its own, with the collection as it is in this checkout.

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping

REPOSITORY = Path(__file__).resolve().parents[2]


PLAYBOOK = str(Path(sys.executable).parent / "ansible-playbook")


def below(path: Path) -> Dict[str, str]:
    """Return the environment in which Ansible has its collections below *path*, and writes everything there."""
    return {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(path / "collections"),
        "ANSIBLE_LOCAL_TEMP": str(path / "tmp"),
        "ANSIBLE_REMOTE_TEMP": str(path / "tmp"),
        "ANSIBLE_HOME": str(path / "ansible"),
    }


def environment(path: Path) -> Dict[str, str]:
    """Return the same, where Ansible and Python find this collection."""
    namespace = path / "collections" / "ansible_collections" / "xen"
    namespace.mkdir(parents=True)
    (namespace / "stubdom").symlink_to(REPOSITORY)
    return {
        **below(path),
        "PYTHONPATH": os.pathsep.join([str(path / "collections"), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def start(command: List[str], path: Path, variables: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a command in *path*, in a session of its own."""
    return subprocess.Popen(
        command,
        cwd=path,
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def play(path: Path, module: str, arguments: Mapping[str, Any], variables: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a play of one task on this machine."""
    task = {"name": "Do it", f"xen.stubdom.{module}": dict(arguments), "register": "result"}
    shown = {"name": "Show it", "ansible.builtin.debug": {"msg": "changed {{ result.changed }}"}}
    plays = [{"hosts": "localhost", "gather_facts": False, "tasks": [task, shown]}]
    # JSON is YAML.
    (path / "play.yml").write_text(json.dumps(plays))
    return start([PLAYBOOK, "play.yml"], path, variables)
