# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Programs carry the licence lines themselves; REUSE.toml speaks for the rest, `reuse lint` finds what neither covers.

from __future__ import annotations

import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
# REUSE-IgnoreStart
LINES = (
    "Copyright (c) The xen.stubdom authors",
    "GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)",
    "SPDX-License-Identifier: GPL-3.0-or-later",
)
# REUSE-IgnoreEnd


def is_program(path: Path) -> bool:
    return path.suffix in (".py", ".sh", ".c") or (path.stat().st_mode & 0o100 != 0 and path.suffix == "")


def carries_the_lines(path: Path) -> bool:
    head = [line.strip("#/* ") for line in path.read_text().splitlines()[:8]]
    return any(tuple(head[start : start + len(LINES)]) == LINES for start in range(len(head)))


def without_the_lines(names: list[str], repository: Path) -> list[str]:
    return [name for name in names if is_program(repository / name) and not carries_the_lines(repository / name)]


def test_every_program_carries_the_licence_lines() -> None:
    listed = subprocess.run(
        ["git", "-C", str(REPOSITORY), "ls-files", "-z"], capture_output=True, text=True, check=True
    ).stdout
    names = [name for name in listed.split("\0") if (REPOSITORY / name).is_file() and "/fixtures/" not in name]
    assert len([name for name in names if is_program(REPOSITORY / name)]) > 20
    assert without_the_lines(names, REPOSITORY) == []


def test_a_program_without_them_is_found(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("#!/usr/bin/python\n\n" + "".join(f"# {line}\n" for line in LINES))
    (tmp_path / "bad.py").write_text("import os\n")
    (tmp_path / "command").write_text("#!/bin/sh\n")
    (tmp_path / "command").chmod(0o755)
    (tmp_path / "notes.md").write_text("notes\n")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert without_the_lines(names, tmp_path) == ["bad.py", "command"]
