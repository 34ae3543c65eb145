# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import progress
import pytest


def test_progress_says_how_long_it_took_last_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    news = progress.Progress("xenlab", tmp_path / "durations.json")
    for _ in range(2):
        with news.step("working", "work"):
            pass
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "xenlab: working ..."
    assert lines[2] == "xenlab: working (last time 0 s) ..."


def test_a_step_that_fails_is_not_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    news = progress.Progress("demo", tmp_path / "durations.json")
    with pytest.raises(ValueError, match="why"), news.step("working", "work"):
        raise ValueError("why")
    assert list(news.seconds) == ["work"]
    assert capsys.readouterr().err == "demo: working ...\n"
    assert not (tmp_path / "durations.json").exists()
