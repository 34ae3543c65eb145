# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import watcher
from errors import LabError

# A program that only waits stands in for QEMU (conftest.py).


def _pid(directory: Path) -> int:
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            return int((directory / "pid").read_text())
        except (OSError, ValueError):
            time.sleep(0.02)
    raise AssertionError("the program was not started")


def _alive(pid: int) -> bool:
    """A process that has ended may stay in the table until init looks at it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_host_that_was_never_ready_ends_with_the_block(host: Path) -> None:
    with watcher.Starting(host, [], None):
        pid = _pid(host)
        assert watcher.is_running(host)
    assert not watcher.is_running(host)
    assert not _alive(pid)


def test_a_ready_host_lives_on_until_it_is_stopped(host: Path) -> None:
    (host / "disk.qcow2").touch()
    with watcher.Starting(host, [], None) as starting:
        pid = _pid(host)
        starting.ready()
    assert watcher.is_running(host)
    with pytest.raises(LabError, match="already running"), watcher.Starting(host, [], None):
        pass
    watcher.stop(host)
    assert not _alive(pid)
    assert not (host / "disk.qcow2").exists()


def test_a_host_that_is_stopped_as_it_starts_leaves_nothing(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    popen = subprocess.Popen

    def late(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.5)
        return popen(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", late)
    (host / "disk.qcow2").touch()
    with watcher.Starting(host, [], None) as starting:
        while not (host / "watcher.pid").exists() or not (host / "watcher.pid").read_text():
            assert watcher.is_running(host)
        starting.ready()
        watcher.stop(host)
    assert not (host / "disk.qcow2").exists()


def test_a_host_ends_with_its_owner(host: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as owner:
        with watcher.Starting(host, [], owner.pid) as starting:
            pid = _pid(host)
            starting.ready()
        assert watcher.is_running(host)
        owner.kill()
    watcher.wait_until_ended(host, 5)
    assert not _alive(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_host_ends_when_the_caller_dies_too_early(host: Path, number: signal.Signals) -> None:
    script = (
        "import sys, time, watcher; from pathlib import Path; "
        "watcher.Starting(Path(sys.argv[1]), [], None); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(watcher.__file__).parent)}
    with subprocess.Popen([sys.executable, "-c", script, str(host)], env=environment) as caller:
        pid = _pid(host)
        caller.send_signal(number)
    watcher.wait_until_ended(host, 5)
    assert not _alive(pid)


def test_nothing_outlives_a_killed_watcher(host: Path) -> None:
    with watcher.Starting(host, [], None) as starting:
        pid = _pid(host)
        starting.ready()
    os.kill(int((host / "watcher.pid").read_text()), signal.SIGKILL)
    watcher.wait_until_ended(host, 5)
    assert not _alive(pid)
