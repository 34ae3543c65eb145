# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import _playbook
import pytest


def event(kind: str, **content: Any) -> dict[str, Any]:
    return {"event": kind, "time": 0.0, **content}


def result(outcome: str = "ok", **content: Any) -> dict[str, Any]:
    usual = {"host": "lab", "changed": False, "module": True, "item": False, "loop": False, "ignored": False}
    return event("result", **{**usual, "outcome": outcome, "message": "", **content})


def stats(**counted: int) -> dict[str, Any]:
    return event("stats", hosts={"lab": {"ok": 1, "changed": 0, "failures": 0, "unreachable": 0, **counted}})


GOOD = [
    event("playbook", name="site.yml"),
    event("play", name="Guests", check=False),
    event("task", name="dom0_memory: Set dom0's memory"),
    result(changed=True),
    event("task", name="Check what is asked for"),
    result(module=False),
    stats(changed=1),
]
DEAD = "The guest hvm1 is dead.\nLook at its log."
BAD = [event("task", name="hvm_stubdom: Start the guest"), result("failed", message=DEAD), stats(failures=1)]


def test_a_run_is_followed_task_by_task_and_counted() -> None:
    said: list[str] = []
    run = _playbook.count(GOOD, said.append)
    assert said == ["dom0_memory: Set dom0's memory", "Check what is asked for"]
    assert run == _playbook.Run(hosts=1, changed=1, modules=1, changes=["dom0_memory: Set dom0's memory"])


def test_a_failure_is_the_reason_the_task_gave() -> None:
    run = _playbook.count(BAD, lambda _: None)
    assert run.failure == f"hvm_stubdom: Start the guest: {DEAD}"
    assert (run.failed, run.modules) == (1, 1)


def test_an_ignored_failure_is_none() -> None:
    assert not _playbook.count([result("failed", ignored=True, message="no")], lambda _: None).failure


def test_a_loop_counts_its_items_and_fails_with_the_reason_of_one() -> None:
    events = [
        event("task", name="Look"),
        result(changed=True, item=True),
        result("failed", item=True, message=DEAD),
        result("failed", changed=True, loop=True, module=False, message="One or more items failed"),
    ]
    run = _playbook.count(events, lambda _: None)
    assert (run.modules, run.changes, run.failure) == (2, ["Look"], f"Look: {DEAD}")


@pytest.mark.parametrize(
    ("events", "output", "status", "failure"),
    [
        pytest.param(GOOD, "", 0, "", id="all went well"),
        pytest.param([*BAD, *GOOD], "", 0, "", id="a failure was rescued"),
        pytest.param(BAD, "", 2, f"hvm_stubdom: Start the guest: {DEAD}", id="a task failed"),
        pytest.param([], "", 4, "ansible-playbook ended with status 4: it printed nothing", id="it died silently"),
        pytest.param(
            [], "loading\n[ERROR]: no such file\n\n", 1,
            "ansible-playbook ended with status 1: [ERROR]: no such file", id="it could not begin",
        ),
        pytest.param([event("stats", hosts={})], "", 0, "the playbook met no host", id="no host matched"),
    ],
)  # fmt: skip
def test_what_a_run_comes_to(
    events: list[dict[str, Any]], output: str, status: int, failure: str, tmp_path: Path
) -> None:
    program = tmp_path / "ansible-playbook"
    (tmp_path / "output").write_text(output)
    (tmp_path / "written").write_text("".join(json.dumps(event) + "\n" for event in events))
    program.write_text(f"""#!/bin/sh
        cat '{tmp_path}/output'
        cat '{tmp_path}/written' >> "$XEN_STUBDOM_EVENTS"
        exit {status}
    """)
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    run = _playbook.play(["site.yml"], environment, tmp_path / "log", lambda _: None)
    assert run.failure == failure
    assert (tmp_path / "log").read_text() == output
    assert (tmp_path / "log.events").read_text() == (tmp_path / "written").read_text()


def test_an_interrupted_run_does_not_go_on_alone(tmp_path: Path) -> None:
    program = tmp_path / "ansible-playbook"
    program.write_text(f"""#!/bin/sh
        echo $$ > '{tmp_path}/pid'
        echo '{json.dumps(event("task", name="Wait"))}' >> "$XEN_STUBDOM_EVENTS"
        exec sleep 60
    """)
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


PLAY = """
- name: Here
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Write
      ansible.builtin.copy: {content: x, dest: "{{ there }}"}
      loop: ["{{ place }}/a", "{{ place }}/b"]
      loop_control: {loop_var: there}
      notify: Tell
    - name: Be wrong without harm
      ansible.builtin.command: "false"
      ignore_errors: true
      changed_when: false
    - name: Think
      ansible.builtin.set_fact: {x: 1}
    - name: Go there
      ansible.builtin.command: {cmd: "true", chdir: "{{ item }}"}
      changed_when: false
      loop: ["/", "/nowhere/at/all"]
  handlers:
    - name: Tell
      ansible.builtin.command: "true"
"""


def test_ansible_writes_what_is_counted(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAY)
    said: list[str] = []
    words = ["-i", "localhost,", "-c", "local", "-e", f"place={tmp_path}", str(tmp_path / "play.yml")]
    environment = {**os.environ, "ANSIBLE_PYTHON_INTERPRETER": sys.executable, "ANSIBLE_HOME": str(tmp_path / "home")}
    run = _playbook.play(words, environment, tmp_path / "log", said.append)
    assert said == ["Write", "Be wrong without harm", "Think", "Go there"]
    assert (run.hosts, run.changed, run.failed, run.changes) == (1, 1, 1, ["Write"])
    # Two of copy and three of command; set_fact runs on no host.
    assert run.modules == 5
    assert run.failure == "Go there: Unable to change directory before execution."


def test_tasks_of_roles_are_followed_under_the_name_of_the_role(tmp_path: Path) -> None:
    tasks = tmp_path / "roles" / "inner" / "tasks"
    tasks.mkdir(parents=True)
    (tasks / "main.yml").write_text(
        "- name: Say it\n  ansible.builtin.debug:\n- ansible.builtin.include_role:\n    name: empty\n"
    )
    (tmp_path / "roles" / "empty" / "tasks").mkdir(parents=True)
    play = [
        {"hosts": "localhost", "gather_facts": False, "tasks": [{"name": "Go in", "include_role": {"name": "inner"}}]}
    ]
    (tmp_path / "play.yml").write_text(json.dumps(play))
    said: list[str] = []
    run = _playbook.play(
        ["-i", "localhost,", "-c", "local", str(tmp_path / "play.yml")],
        {**os.environ, "ANSIBLE_HOME": str(tmp_path / "home")}, tmp_path / "log", said.append,
    )  # fmt: skip
    assert (run.failure, said) == ("", ["Go in", "inner: Say it", "inner: ansible.builtin.include_role"])
    assert "Callback dispatch" not in (tmp_path / "log").read_text()
