# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What ansible-test finds before it begins.

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sanity

GALAXY = '---\nname: x\nbuild_ignore:\n  - bin\n  # why\n  - "*.pyc"\n  - changelogs/config.yaml\nother:\n  - no\n'


def test_left_out() -> None:
    assert sanity.left_out(GALAXY) == ["bin", "*.pyc", "changelogs/config.yaml"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("plugins/modules/a.py", True),
        ("bin/test", False),
        ("plugins/bin.py", True),
        ("plugins/modules/a.pyc", False),
        ("changelogs/config.yaml", False),
        ("changelogs/changelog.yaml", True),
    ],
)
def test_packed(name: str, wanted: bool) -> None:
    assert sanity.packed(name, ["bin", "*.pyc", "changelogs/config.yaml"]) is wanted


def test_copy_follows_the_checkout(tmp_path: Path) -> None:
    checkout, target = tmp_path / "checkout", tmp_path / "target"
    (checkout / "a").mkdir(parents=True)
    for name in ("a/b", "a/c", "d"):
        (checkout / name).write_text(name)
    sanity.copy(checkout, ["a/b", "a/c", "d"], target)
    kept = (target / "d").stat().st_mtime_ns
    (target / "tests/output").mkdir(parents=True)
    (target / "tests/output/cache").touch()
    (checkout / "a/b").write_text("changed")
    (checkout / "d").touch()
    sanity.copy(checkout, ["a/b", "d"], target)
    files = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    assert files == ["a/b", "d", "tests/output/cache"]
    assert (target / "a/b").read_text() == "changed"
    assert (target / "d").stat().st_mtime_ns == kept


def test_files_are_those_that_git_would_take(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "galaxy.yml").write_text(GALAXY)
    (tmp_path / ".gitignore").write_text("ignored\n")
    for name in ("ignored", "new", "bin"):
        (tmp_path / name).touch()
    assert sanity.files(tmp_path) == [".gitignore", "galaxy.yml", "new"]


def test_stand_in_for_get_pip(tmp_path: Path) -> None:
    home = sanity.home(tmp_path)
    script = home / ".ansible" / "test" / "cache" / "get_pip_24_2.py"
    done = subprocess.run(
        [sys.executable, str(script), "--no-setuptools", "--no-wheel", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pip install" in done.stdout


def test_interpreters_of_pyenv_are_named_themselves(tmp_path: Path) -> None:
    root = tmp_path / "pyenv"
    for version in ("2.7.18", "3.8.1", "3.13.0"):
        (root / "versions" / version / "bin").mkdir(parents=True)
    inherited = {
        "HOME": str(tmp_path), "PYENV_ROOT": str(root), "PATH": f"/venv/bin:{root}/shims:/usr/bin",
        "ANSIBLE_COLLECTIONS_PATH": "/somewhere",
    }  # fmt: skip
    result = sanity.environment(inherited, tmp_path / "home")
    assert result["PATH"].split(os.pathsep) == [
        "/venv/bin", f"{root}/versions/3.13.0/bin", f"{root}/versions/3.8.1/bin", "/usr/bin",
    ]  # fmt: skip
    assert result["HOME"] == str(tmp_path / "home")
    assert result["XDG_CONFIG_HOME"] == str(tmp_path / ".config")
    assert "ANSIBLE_COLLECTIONS_PATH" not in result
