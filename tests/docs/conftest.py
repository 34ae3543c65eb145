# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tools of tests/tools, and the checkout where Ansible finds it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "tests" / "tools")]


@pytest.fixture
def ansible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs one of Ansible's programs, which is to succeed, and gives back what it says."""
    namespace = tmp_path / "collections" / "ansible_collections" / "xen"
    namespace.mkdir(parents=True)
    (namespace / "stubdom").symlink_to(REPOSITORY)
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(tmp_path / "collections"))
    monkeypatch.setenv("ANSIBLE_NOCOLOR", "1")

    def run(*words: str, directory: Path = REPOSITORY) -> str:
        done = subprocess.run(
            words, cwd=directory, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run
