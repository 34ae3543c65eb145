# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import time
from pathlib import Path

import _playbook
import pytest

GOOD = """\
PLAY [Guests] ******************************************************************

TASK [xen.stubdom.dom0_memory : Set dom0's memory] *****************************
task path: /x/roles/dom0_memory/tasks/configure.yml:2
Using module file /x/plugins/modules/dom0_mem.py
changed: [lab] => {
    "changed": true,
    "msg": "Using module file that is only said"
}

TASK [Check what is asked for] *************************************************
ok: [lab] => {
    "changed": false
}

PLAY RECAP *********************************************************************
lab                        : ok=2    changed=1    unreachable=0    failed=0    skipped=0    rescued=0    ignored=0
"""
BAD = """\
TASK [xen.stubdom.hvm_stubdom : Start the guest] *******************************
Using module file /x/plugins/modules/guest.py
[ERROR]: Task failed: Module failed: it is dead
fatal: [lab]: FAILED! => {
    "changed": false,
    "msg": "The guest hvm1 is dead.\\nLook at its log."
}

PLAY RECAP *********************************************************************
lab                        : ok=0    changed=0    unreachable=0    failed=1    skipped=0    rescued=0    ignored=0
"""


def test_a_run_is_followed_task_by_task_and_counted() -> None:
    said: list[str] = []
    run = _playbook.follow(GOOD.splitlines(keepends=True), said.append)
    assert said == ["dom0_memory: Set dom0's memory", "Check what is asked for"]
    assert run == _playbook.Run(hosts=1, changed=1, modules=1, changes=["dom0_memory: Set dom0's memory"])


def test_a_failure_is_the_reason_the_task_gave() -> None:
    run = _playbook.follow(BAD.splitlines(keepends=True), lambda _: None)
    assert run.failure == "hvm_stubdom: Start the guest: The guest hvm1 is dead.\nLook at its log."
    assert (run.failed, run.modules) == (1, 1)


@pytest.mark.parametrize(
    ("output", "status", "failure"),
    [
        pytest.param(GOOD, 0, "", id="all went well"),
        pytest.param(
            BAD, 2, "hvm_stubdom: Start the guest: The guest hvm1 is dead.\nLook at its log.", id="a task failed"
        ),
        pytest.param("", 4, "ansible-playbook ended with status 4", id="it died without a word"),
        pytest.param("[ERROR]: no such file\n", 1, "no such file", id="it could not begin"),
        pytest.param("PLAY RECAP ****\n", 0, "the playbook met no host", id="no host matched"),
    ],
)
def test_what_a_run_comes_to(output: str, status: int, failure: str, tmp_path: Path) -> None:
    program = tmp_path / "ansible-playbook"
    (tmp_path / "output").write_text(output)
    program.write_text(f"#!/bin/sh\ncat '{tmp_path}/output'\nexit {status}\n")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    run = _playbook.play(["site.yml"], environment, tmp_path / "log", lambda _: None)
    assert run.failure == failure
    assert (tmp_path / "log").read_text() == output


def test_an_interrupted_run_does_not_go_on_alone(tmp_path: Path) -> None:
    program = tmp_path / "ansible-playbook"
    program.write_text(f"#!/bin/sh\necho $$ > '{tmp_path}/pid'\necho 'TASK [Wait] ***'\nexec sleep 60\n")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _playbook.play([], environment, tmp_path / "log", interrupt)
    pid = int((tmp_path / "pid").read_text())
    end = time.monotonic() + 5
    while time.monotonic() < end and Path(f"/proc/{pid}").exists():
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{pid}").exists()
