# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's modules are no part of the collection's plugins: they are found beside the command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "lab"))

FakeQemu = Callable[[str], None]


@pytest.fixture(name="fake_qemu")
def _fake_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeQemu:
    """Puts a shell script in the place of QEMU."""
    program = tmp_path / "bin" / "qemu-system-x86_64"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    def fake(script: str) -> None:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return fake


@pytest.fixture(name="host")
def _host(tmp_path: Path, fake_qemu: FakeQemu) -> Path:
    """The directory of a host whose QEMU only waits."""
    fake_qemu("echo $$ > pid; exec sleep 60")
    directory = tmp_path / "host"
    directory.mkdir()
    return directory
