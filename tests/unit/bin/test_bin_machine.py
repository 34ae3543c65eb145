# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What the commands in bin/ install on a machine, and where they take it from.

from __future__ import annotations

import subprocess
import threading
from pathlib import Path
from typing import Any

import _machine
import files
import pytest
from errors import LabError
from progress import Progress

POLICY = "qemu-system-x86:\n  Installed: (none)\n  Candidate: {}\n  Version table:\n"


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("1:7.2+dfsg-7+deb12u16", (7, 2)),
        ("1:10.0.3+ds-0+deb13u1", (10, 0)),
        ("11.2", (11, 2)),
        ("(none)", (0, 0)),
    ],
)
def test_candidate(version: str, wanted: tuple[int, int]) -> None:
    assert _machine.candidate(POLICY.format(version)) == wanted


def test_unit_tests_need_no_qemu() -> None:
    for need in ("unit", "check", "ansible", "molecule", "chroot"):
        assert not _machine.QEMU_PACKAGES & set(_machine.NEEDS[need].packages), need
    assert set(_machine.NEEDS["lab"].packages) >= _machine.QEMU_PACKAGES


@pytest.mark.parametrize("name", sorted({need.requirements for need in _machine.NEEDS.values()} - {""}))
def test_every_python_package_has_its_release_fixed(name: str) -> None:
    lines = (_machine.REQUIREMENTS / "constraints.txt").read_text().splitlines()
    fixed = {line.partition("==")[0].lower() for line in lines if "==" in line}
    assert {package.lower() for package in _machine.wanted_packages(name)} <= fixed


def test_packages_of_an_including_file_are_counted() -> None:
    assert "ansible-core" in _machine.wanted_packages("check")
    assert "pytest" in _machine.wanted_packages("check")


def played(monkeypatch: pytest.MonkeyPatch, status: int, output: str) -> list[list[str]]:
    calls: list[list[str]] = []

    def run(words: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        calls.append(words)
        return subprocess.CompletedProcess(words, status, output, "")

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    played(monkeypatch, 1, "installed tar\nconfig-files mmdebstrap\n")
    assert _machine.missing(["mmdebstrap", "qemu-utils", "tar"]) == ["mmdebstrap", "qemu-utils"]


def test_nothing_is_said_and_done_when_nothing_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = played(monkeypatch, 0, "")
    _machine.install("bin/test", [])
    assert (calls, capsys.readouterr().err) == ([], "")


def test_apt_failure_is_said_in_two_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    played(monkeypatch, 100, "Reading package lists...\nE: Unable to locate package tra\n")
    with pytest.raises(LabError) as caught:
        _machine.install("bin/test", ["tra"])
    assert str(caught.value).splitlines()[1:] == ["E: Unable to locate package tra"]
    assert "installs the Debian packages tra" in capsys.readouterr().err


def test_two_commands_install_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = played(monkeypatch, 0, "")
    # What is written while capsys is read can be lost, so that is done when the other one has ended.
    said = threading.Event()
    say = Progress.say

    def heard(progress: Progress, text: str) -> None:
        say(progress, text)
        said.set()

    monkeypatch.setattr(Progress, "say", heard)
    with files.only_one(files.base_directory() / "apt.lock", lambda: None):
        other = threading.Thread(target=_machine.install, args=("bin/test", ["tree"]))
        other.start()
        assert said.wait(60) and other.is_alive()
        assert calls == []
    other.join()
    assert "waits for another command" in capsys.readouterr().err.splitlines()[0]
    assert [call[-1] for call in calls] == ["update", "tree"]


def test_half_made_virtual_environments_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = played(monkeypatch, 1, "ERROR: No matching distribution found\n")
    with pytest.raises(LabError, match="requirements/unit.txt could not be installed"):
        _machine.virtual_environment("bin/test", "unit")
    played(monkeypatch, 0, "")
    directory = Path(calls[0][-1])
    directory.mkdir()
    (directory / "left-over").touch()
    assert not (directory / "finished").exists()
    monkeypatch.setattr(_machine, "_pip", lambda *_: directory.mkdir(exist_ok=True))
    assert _machine.virtual_environment("bin/test", "unit") == directory
    assert not (directory / "left-over").exists()
    monkeypatch.setattr(_machine, "_pip", lambda *_: pytest.fail("made twice"))
    assert _machine.virtual_environment("bin/test", "unit") == directory
