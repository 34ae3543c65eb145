# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import programs
import pytest
from errors import LabError


@pytest.mark.parametrize("name", sorted(programs.TOOLS))
def test_a_missing_tool_names_its_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs.shutil, "which", lambda *_, **__: None)
    with pytest.raises(LabError) as caught:
        programs.tool(name)
    first, second = str(caught.value).splitlines()
    assert name in first
    assert second == f"Install the Debian package {programs.TOOLS[name][0]}."


WAITS = """
import signal, sys, time
sys.path.insert(0, {lab!r})
import programs
signal.signal(signal.SIGINT, {ctrl_c})
signal.signal(signal.SIGHUP, {hang_up})
programs.end_as_by_ctrl_c()
try:
    print("waits", flush=True)
    time.sleep({seconds})
    print("went on")
except KeyboardInterrupt:
    print("cleaned up")
"""


@pytest.mark.parametrize(
    ("ctrl_c", "hang_up", "sent", "end"),
    [
        ("signal.default_int_handler", "signal.SIG_DFL", signal.SIGINT, "cleaned up"),
        ("signal.default_int_handler", "signal.SIG_DFL", signal.SIGTERM, "cleaned up"),
        ("signal.default_int_handler", "signal.SIG_DFL", signal.SIGHUP, "cleaned up"),
        ("signal.SIG_IGN", "signal.SIG_DFL", signal.SIGTERM, "cleaned up"),
        ("signal.SIG_IGN", "signal.SIG_DFL", signal.SIGINT, "went on"),
        ("signal.default_int_handler", "signal.SIG_IGN", signal.SIGHUP, "went on"),
    ],
)
def test_what_ends_a_command(ctrl_c: str, hang_up: str, sent: signal.Signals, end: str) -> None:
    seconds = 0.2 if end == "went on" else 5
    program = WAITS.format(lab=str(Path(programs.__file__).parent), ctrl_c=ctrl_c, hang_up=hang_up, seconds=seconds)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "waits\n"
        running.send_signal(sent)
        assert running.stdout.read() == f"{end}\n"


CLEANS_UP = "trap 'sleep 0.2; touch {}; exit' TERM; echo waits; while :; do sleep 0.05; done"


def test_a_program_that_was_started_ends_with_the_block_and_cleans_up(tmp_path: Path) -> None:
    command = ["sh", "-c", CLEANS_UP.format(tmp_path / "cleaned")]
    with pytest.raises(KeyboardInterrupt), programs.started(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waits\n"
        raise KeyboardInterrupt
    assert process.returncode == 0
    assert (tmp_path / "cleaned").exists()


def test_a_program_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "PATIENCE", 0.1)
    command = ["sh", "-c", "trap '' TERM; echo waits; while :; do sleep 0.05; done"]
    with pytest.raises(LabError), programs.started(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        raise LabError("No.", "Stop.")
    assert process.returncode == -signal.SIGKILL


def test_a_program_that_was_started_does_not_outlive_who_is_killed(tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(Path(programs.__file__).parent)!r})\nimport programs\n"
        f"with programs.started(['sh', '-c', {CLEANS_UP.format(tmp_path / 'cleaned')!r}]) as process:\n"
        "    process.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.kill()
        # It has the other end until it ends.
        running.stdout.read()
    assert (tmp_path / "cleaned").exists()


def test_a_program_that_fails_is_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, script in (("mmd", "echo why >&2; exit 1"), ("mcopy", "exit 3"), ("tar", "echo $1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(LabError, match=r"mmd failed: why\."):
        programs.run("mmd")
    with pytest.raises(LabError, match=r"mcopy failed: status 3\."):
        programs.run("mcopy")
    assert programs.run("tar", tmp_path) == f"{tmp_path}\n"
