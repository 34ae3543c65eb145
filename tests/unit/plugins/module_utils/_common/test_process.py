# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""That the answer of a program is never lost, with real programs."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common import process
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import last_line, run_program


def shell(script: str, **options: Any) -> tuple[int, str, str]:
    return run_program(["sh", "-c", script], **options)


def test_status_and_both_outputs() -> None:
    assert shell("echo out; echo err >&2; exit 3") == (3, "out\n", "err\n")


def test_nothing_is_lost_of_much_output() -> None:
    status, output, errors = shell("yes out | head -c 300000; yes err | head -c 300000 >&2")
    assert (status, len(output), len(errors)) == (0, 300000, 300000)


def test_an_end_between_a_look_at_the_pipes_and_one_at_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A select that timed out while the program was still silent, and a reader so slow that it has ended since."""
    real = selectors.DefaultSelector.select
    looks = []

    def select(self: Any, timeout: Any = None) -> Any:
        looks.append(timeout)
        if len(looks) > 1 or timeout == process._LINGER:
            return real(self, timeout)
        assert real(self, 10), "the program has written"
        time.sleep(0.2)
        return []

    monkeypatch.setattr(selectors.DefaultSelector, "select", select)
    assert shell("sleep 0.5; echo Domain-0") == (0, "Domain-0\n", "")
    assert len(looks) > 1


def test_an_end_that_is_noticed_late(monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen.poll

    def poll(self: Any) -> Any:
        time.sleep(0.3)
        return real(self)

    monkeypatch.setattr(subprocess.Popen, "poll", poll)
    monkeypatch.setattr(process, "_INTERVAL", 0.1)
    assert shell("sleep 0.5; echo Domain-0") == (0, "Domain-0\n", "")


def test_what_a_child_writes_after_its_parent_is_waited_for() -> None:
    assert shell("(sleep 0.3; echo late) & echo early") == (0, "early\nlate\n", "")


@pytest.mark.parametrize("left", ["sleep 20", "while sleep 0.05; do echo again; done"])
def test_what_runs_on_in_the_background_is_left_alone(monkeypatch: pytest.MonkeyPatch, left: str) -> None:
    monkeypatch.setattr(process, "_LINGER", 0.3)
    begin = time.monotonic()
    status, output, _errors = shell(f"({left}) & echo $!")
    assert time.monotonic() - begin < 10
    assert status == 0
    os.kill(int(output.splitlines()[0]), 9)


@pytest.mark.parametrize("script", ["sleep 30", "exec >&- 2>&-; sleep 30"])
def test_a_program_that_hangs_is_ended_and_the_time_is_the_measured_one(
    monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    clock = iter([0.0, *([61.7] * 100)])
    monkeypatch.setattr(process.time, "monotonic", lambda: next(clock))
    with pytest.raises(UserError, match="`sh -c .*` did not end within 62 seconds"):
        shell(script, timeout=60)


def test_a_program_that_is_not_there_and_one_that_cannot_be_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run_program(["no-such-program"])
    (tmp_path / "program").touch(0o644)
    with pytest.raises(UserError, match="cannot be run: Permission denied"):
        run_program([str(tmp_path / "program")])


def test_messages_are_english_and_nothing_waits_for_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert shell("echo $LC_ALL; cat") == (0, "C\n", "")


def test_programs_of_the_administrator_are_found_with_an_ordinary_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin:/sbin")
    assert shell("echo $PATH")[1] == "/usr/bin:/bin:/sbin:/usr/local/sbin:/usr/sbin\n"


def test_no_argument_is_expanded() -> None:
    assert run_program(["echo", "~ $HOME *"])[1] == "~ $HOME *\n"


def test_bytes_that_are_no_text_are_shown() -> None:
    assert shell(r"printf 'a\377b'")[1] == r"a\xffb"


def test_the_last_line_of_messages() -> None:
    assert last_line("a\n error: full.\n\n") == "error: full"
    assert last_line("\n") == "no message"


def test_a_program_can_finish_what_it_writes_when_the_run_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = process._read
    calls: list[object] = []

    def read(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(process, "_read", read)
    with pytest.raises(KeyboardInterrupt):
        shell(f"sleep 0.3; echo generating && echo done > {tmp_path}/grub.cfg")
    assert (tmp_path / "grub.cfg").read_text() == "done\n"
