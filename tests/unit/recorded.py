# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# A playbook of the collection with its roles and filters as they are, and with what records the parameters of a task,
# and answers it, in place of modules. That is an action plugin, which runs in Ansible's own process, where a module
# would be packed, sent and compiled for each task.

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import real_play

_ACTION = """\
import json
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        given = {{key: value for key, value in self._task.args.items() if value is not None}}
        with open({calls!r}, "a") as stream:
            stream.write(json.dumps([{name!r}, given]) + "\\n")
        return json.loads({result!r})
"""


@dataclass(frozen=True)
class Played:
    """What a playbook has said, in one line, and what it asked of which module."""

    status: int
    said: str
    calls: List[Tuple[str, Dict[str, Any]]]


def collection(path: Path, actions: Mapping[str, str]) -> None:
    """Make a collection with these action plugins, and the roles and filters of this one."""
    place = path / "collections" / "ansible_collections" / "xen" / "stubdom"
    (place / "plugins" / "action").mkdir(parents=True)
    (place / "roles").symlink_to(real_play.REPOSITORY / "roles")
    for wing in ("filter", "module_utils", "plugin_utils"):
        (place / "plugins" / wing).symlink_to(real_play.REPOSITORY / "plugins" / wing)
    (place / "galaxy.yml").write_text("namespace: xen\nname: stubdom\nversion: 0.0.1\n")
    for name, source in actions.items():
        (place / "plugins" / "action" / f"{name}.py").write_text(source)


def host(**variables: Any) -> Dict[str, Any]:
    """Return the variables of a host that is this machine."""
    return {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        **variables,
    }


def run(path: Path, playbook: str, *words: str) -> Tuple[int, str]:
    """Run a playbook of the collection in *path*, where its inventory hosts.json is."""
    done = subprocess.run(
        [
            real_play.PLAYBOOK,
            "--inventory=hosts.json",
            *words,
            str(real_play.REPOSITORY / "playbooks" / f"{playbook}.yml"),
        ],
        cwd=path,
        env=real_play.below(path),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def play(path: Path, playbook: str, *words: str, results: Mapping[str, Mapping[str, Any]], **variables: Any) -> Played:
    """Run a playbook with this machine as the host localhost.

    :param results: what each module answers.
    :param variables: those of the host.
    """
    calls = path / "calls"
    sources = {
        name: _ACTION.format(calls=str(calls), name=name, result=json.dumps({"changed": False, **result}))
        for name, result in results.items()
    }
    collection(path, sources)
    calls.write_text("")
    (path / "hosts.json").write_text(json.dumps({"all": {"hosts": {"localhost": host(**variables)}}}))
    status, said = run(path, playbook, *words)
    return Played(status, said, [(name, given) for name, given in map(json.loads, calls.read_text().splitlines())])
