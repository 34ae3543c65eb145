# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The role as it is, with modules that record their arguments in place of the collection's own.

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

REPOSITORY = Path(__file__).resolve().parents[3]
MODULE = """\
import json, os, sys
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_text
name = {name!r}
module = AnsibleModule({{key: {{"type": "raw"}} for key in {keys!r}}}, supports_check_mode=True)
given = {{key: value for key, value in module.params.items() if value is not None}}
with open({calls!r}, "a") as stream:
    stream.write(json.dumps([name, module.check_mode, given]) + "\\n")
module.exit_json(changed=False, **{result!r})
"""
KEYS = {
    "dom0_mem": ["state", "size", "value", "min", "max", "loader", "regenerate", "backup"],
    "xl_conf": ["settings", "state", "backup"],
    "boot_trial": ["state", "options", "timeout"],
}
BOOT_LINE = {
    "reboot_required": True,
    "reboot_reason": "It has to.",
    "configured": "1G,max:1G",
    "effective": "1G,max:1G",
}
RESULTS = {
    "dom0_mem": BOOT_LINE,
    "xl_conf": {},
    "boot_trial": {"trial_state": "none", "trial_summary": "No trial was armed."},
}

Calls = List[Tuple[str, bool, Dict[str, Any]]]


def play(path: Path, *extra: str) -> Tuple[int, str, Calls]:
    """Run the role on this machine and return the exit status, the output and the calls of modules."""
    collection = path / "collections" / "ansible_collections" / "xen" / "stubdom"
    modules = collection / "plugins" / "modules"
    modules.mkdir(parents=True)
    (collection / "roles").symlink_to(REPOSITORY / "roles")
    (collection / "galaxy.yml").write_text("namespace: xen\nname: stubdom\nversion: 0.0.1\n")
    calls = path / "calls"
    for name, keys in KEYS.items():
        source = MODULE.format(name=name, keys=keys, calls=str(calls), result=RESULTS[name])
        (modules / f"{name}.py").write_text(source)
    plays = [{"hosts": "localhost", "gather_facts": False, "roles": ["xen.stubdom.dom0_memory"]}]
    (path / "play.yml").write_text(json.dumps(plays))
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "play.yml", *extra],
        cwd=path,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(path / "collections"),
            "ANSIBLE_HOME": str(path / "ansible"),
            "ANSIBLE_LOCAL_TEMP": str(path / "tmp"),
            "ANSIBLE_REMOTE_TEMP": str(path / "tmp"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    lines = calls.read_text().splitlines() if calls.exists() else []
    return (
        done.returncode,
        done.stdout + done.stderr,
        [(name, check, given) for name, check, given in map(json.loads, lines)],
    )


def test_booleans_and_numbers_may_be_strings(tmp_path: Path) -> None:
    strings = ["reboot=false", "trial=no", "regenerate=no", "backup=yes", "size=2G"]
    status, output, calls = play(tmp_path, *(f"-edom0_memory_{one}" for one in strings))
    assert status == 0, output
    assert "Reboot needed: It has to." in output
    value = {"state": "present", "size": "2G", "loader": "auto", "regenerate": False, "backup": True}
    assert calls == [
        ("boot_trial", False, {"state": "absent"}),
        ("dom0_mem", False, value),
        ("xl_conf", False, {"settings": {"autoballoon": "off"}, "state": "present", "backup": True}),
        ("dom0_mem", True, value),
    ]


def test_a_trial_without_leave_to_reboot_writes_nothing(tmp_path: Path) -> None:
    strings = ["reboot=false", "trial=true", "value=1G", "trial_timeout=120"]
    status, output, calls = play(tmp_path, *(f"-edom0_memory_{one}" for one in strings))
    assert status == 0, output
    assert "Nothing was written" in output
    assert [(name, check) for name, check, _given in calls] == [("boot_trial", False), ("dom0_mem", True)]
    assert calls[-1][2]["value"] == "1G"


def test_a_trial_with_times_that_are_strings(tmp_path: Path) -> None:
    strings = ["reboot=true", "trial=true", "size=1G", "trial_timeout=120", "reboot_timeout=60"]
    status, output, calls = play(tmp_path, "--check", *(f"-edom0_memory_{one}" for one in strings))
    # Ansible refuses to reboot the machine that it runs on, after it has understood the parameters.
    assert status == 2
    assert "would reboot the control node" in output
    assert ("boot_trial", True, {"options": {"dom0_mem": "1G,max:1G"}, "timeout": 120}) in calls


def test_a_number_without_a_unit_reaches_the_module(tmp_path: Path) -> None:
    status, output, calls = play(tmp_path, '-e{"dom0_memory_size": 2048}')
    assert status == 0, output
    assert [given["size"] for name, _check, given in calls if name == "dom0_mem"] == [2048, 2048]


def test_no_size_is_an_error_that_names_the_variable(tmp_path: Path) -> None:
    status, output, calls = play(tmp_path)
    assert (status, calls) == (2, [])
    assert "Neither dom0_memory_size nor dom0_memory_value is set." in output
