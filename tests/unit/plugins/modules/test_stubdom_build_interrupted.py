# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What becomes of a build when the operator's side of it ends: real processes, a real play, and real signals.

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
import real_play
import stubdom_tree
from ansible_collections.xen.stubdom.plugins.module_utils._images import account
from open_directory import open_directory

# A watcher that sees the build once a second, for which two seconds are silence.
WATCHER = """\
import json, sys, time
from ansible_collections.xen.stubdom.plugins.module_utils._images import build_plan
from ansible_collections.xen.stubdom.plugins.module_utils._images import releases
from ansible_collections.xen.stubdom.plugins.module_utils._images import account, build_job, build_status
work, user, sources = json.loads(sys.argv[1])
build_status.SILENCE = 2.0
row = releases.find("4.17")
given = build_plan.Input(row, ("c",), {one["name"]: one["digest"] for one in sources}, (12, "gcc 12"))
job = build_job.Job(account.workshop(work), given, build_plan.plan(given, jobs=1), build_job.sources_from(sources), 100)
account.prepare(work, user)
build_job.start(job, user)
while True:
    account.as_user(user, lambda: build_status.watch(job.directory, seen=["running", "newlib"], patience=0.5))
    time.sleep(0.2)
"""


class Room:
    """A directory for a build that lasts a minute, in its stage newlib."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.work = path / "work"
        self.sources = stubdom_tree.make(path / "sources")
        (Path(self.sources[0]["path"]) / "stubdom" / "slow-cross-newlib").touch()
        self.environment = real_play.environment(path)

    @property
    def status(self) -> Dict[str, Any]:
        for path in (self.work / "build" / "jobs").glob("*/status.json"):
            with contextlib.suppress(ValueError, FileNotFoundError):
                found: Dict[str, Any] = json.loads(path.read_text())
                return found
        return {}

    def play(self) -> subprocess.Popen[str]:
        arguments = {"release": "4.17", "images": ["c"], "sources": self.sources, "work_directory": str(self.work)}
        return real_play.play(self.path, "stubdom_build", arguments, self.environment)

    def watcher(self) -> subprocess.Popen[str]:
        user = pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() else account.ACCOUNT
        command = [sys.executable, "-c", WATCHER, json.dumps([str(self.work), user, self.sources])]
        return real_play.start(command, self.path, self.environment)

    def wait_for_newlib(self, process: subprocess.Popen[str]) -> int:
        """Return the process group of the stage, when it runs."""

        def group() -> Optional[int]:
            assert process.poll() is None, process.stdout and process.stdout.read()
            return self.status.get("group") if self.status.get("stage") == "newlib" else None

        found = eventually(group, 60)
        assert found is not None and living(found) != []
        return found


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with open_directory(tmp_path.name) as path:
        yield Room(path)


def eventually(look: Callable[[], Any], seconds: float) -> Any:
    until = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def living(group: int) -> List[int]:
    """Processes of a group that run; where nobody waits for orphans, they stay listed after their end."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            words = path.read_text(errors="replace").rpartition(")")[2].split()
            if words[2] == str(group) and words[0] not in ("Z", "X"):
                found.append(int(path.parent.name))
    return found


def test_an_interrupted_play_stops_the_build(room: Room) -> None:
    play = room.play()
    group = room.wait_for_newlib(play)
    os.killpg(play.pid, signal.SIGINT)
    assert eventually(lambda: living(group) == [], 15)
    assert "User interrupted execution" in play.communicate(timeout=30)[0]
    assert eventually(lambda: room.status["state"] == "stopped", 5)


def test_a_play_that_is_killed_stops_the_build(room: Room) -> None:
    play = room.play()
    group = room.wait_for_newlib(play)
    os.kill(play.pid, signal.SIGKILL)
    assert eventually(lambda: living(group) == [], 15)


def test_a_watcher_that_is_gone_stops_the_build(room: Room) -> None:
    watcher = room.watcher()
    group = room.wait_for_newlib(watcher)
    time.sleep(3)
    assert living(group) != []
    os.killpg(watcher.pid, signal.SIGKILL)
    watcher.communicate()
    assert eventually(lambda: living(group) == [], 10)
    assert eventually(lambda: room.status.get("state") == "stopped", 5)
    assert "No play has watched the build" in room.status["message"]
