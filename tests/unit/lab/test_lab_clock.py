# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import clock
import pytest


def test_a_clock_that_was_set_late_is_set_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "told"
    for name, content in (
        ("ssh", 'for remote; do :; done; eval "$remote"'),
        ("date", f"[ -e {told} ] || sleep 1; echo $2 >> {told}"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{content}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert clock.set_on([str(tmp_path / "ssh"), "host"])
    first, second = (float(line.removeprefix("@")) for line in told.read_text().splitlines())
    assert 1 <= second - first < 5
    monkeypatch.setattr(clock, "ERROR", -1)
    assert clock.set_on([str(tmp_path / "ssh"), "host"])
    assert len(told.read_text().splitlines()) == 2 + clock.TRIES
