# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import multiprocessing
import os
import subprocess
import time
from pathlib import Path

import files
import pytest


def test_an_atomic_write_leaves_one_file(tmp_path: Path) -> None:
    files.write(tmp_path / "file", b"content", 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert os.stat(tmp_path / "file").st_mode & 0o777 == 0o600


# Says what becomes of it; a shell's job in the background has Ctrl-C ignored.


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt), files.replacing(tmp_path / "file") as stream:
        stream.write(b"new")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    held = files.lock(tmp_path / "lock")
    assert held is not None
    assert files.lock(tmp_path / "lock") is None
    waited = []

    def waiting() -> None:
        waited.append(True)
        os.close(held)

    with files.only_one(tmp_path / "lock", waiting):
        assert files.lock(tmp_path / "lock") is None
    assert waited == [True]
    again = files.lock(tmp_path / "lock")
    assert again is not None
    os.close(again)


def make_slowly(target: Path) -> None:
    def make(partial: Path) -> None:
        time.sleep(0.2)
        partial.mkdir()
        (target.parent / f"made by {os.getpid()}").touch()

    files.made_once(target, lambda: None, make)


def test_two_processes_make_it_once(tmp_path: Path) -> None:
    makers = [multiprocessing.get_context("fork").Process(target=make_slowly, args=(tmp_path / "it",)) for _ in "12"]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert (tmp_path / "it").is_dir()
    assert len(list(tmp_path.glob("made by *"))) == 1


@pytest.mark.parametrize("directory", [True, False])
def test_nothing_stays_of_what_was_not_finished(tmp_path: Path, directory: bool) -> None:
    def fail(partial: Path) -> None:
        # What a process that was killed has left is gone.
        assert not partial.exists()
        if directory:
            partial.mkdir()
            (partial / "file").touch()
        else:
            partial.touch()
        raise KeyboardInterrupt

    (tmp_path / "it.partial").mkdir()
    with pytest.raises(KeyboardInterrupt):
        files.made_once(tmp_path / "it", lambda: None, fail)
    assert [path.name for path in tmp_path.iterdir()] == ["it.lock"]


def test_a_scratch_directory_goes_at_the_end_and_those_of_killed_processes_before(tmp_path: Path) -> None:
    killed = subprocess.Popen(["true"])
    killed.wait()
    left = tmp_path / f"work-{killed.pid}-x"
    (left / "deep").mkdir(parents=True)
    others = [tmp_path / f"work-{os.getppid()}-x", tmp_path / f"play-{killed.pid}-x", tmp_path / "work-a-b"]
    for other in others:
        other.mkdir()
    link = tmp_path / f"work-{killed.pid}-link"
    link.symlink_to(others[0])
    with pytest.raises(KeyboardInterrupt), files.scratch("work", tmp_path) as directory:
        (directory / "file").touch()
        assert sorted(tmp_path.iterdir()) == sorted([directory, link, *others])
        raise KeyboardInterrupt
    assert sorted(tmp_path.iterdir()) == sorted([link, *others])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_scratch_directory_of_somebody_else_stays(tmp_path: Path) -> None:
    killed = subprocess.Popen(["true"])
    killed.wait()
    left = tmp_path / f"work-{killed.pid}-x"
    left.mkdir()
    os.chown(left, 4321, 4321)
    with files.scratch("work", tmp_path):
        assert left.exists()
