# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are made of others: four steps, and what happens when one of the others changes meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common import assembled, files
from ansible_collections.xen.stubdom.plugins.module_utils._common.assembled import Part
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Part]:
    (tmp_path / "lock").mkdir()
    monkeypatch.setattr(files, "LOCK_DIRECTORIES", (str(tmp_path / "lock"),))
    # Several blocks of each, of another length than theirs.
    monkeypatch.setattr(assembled, "_BLOCK", 7)
    (tmp_path / "kernel").write_bytes(bytes(range(100)))
    return [b"before", assembled.source(str(tmp_path / "kernel")), b"behind" * 3, b""]


def test_it_comes_changes_and_goes(tmp_path: Path, parts: list[Part]) -> None:
    target = tmp_path / "disc"
    for content in (bytes(range(100)), bytes(range(1, 101)), b"x" * 90):
        (tmp_path / "kernel").write_bytes(content)
        parts[1] = assembled.source(str(tmp_path / "kernel"))
        change = assembled.change(str(target), parts, mode=0o600)
        assert change.needed and b"sha256" in (change.after or b"")
        files.apply([change])
        assert target.read_bytes() == b"before" + content + b"behind" * 3
        assert target.stat().st_mode & 0o777 == 0o600
        again = assembled.change(str(target), parts)
        assert not again.needed and files.difference([again]) == []
    gone = assembled.change(str(target), None)
    assert files.difference([gone])[0]["before"].startswith("114 bytes, sha256 ")
    files.apply([gone])
    assert not target.exists() and not assembled.change(str(target), None).needed


@pytest.mark.parametrize("content", [b"before", b"before" + bytes(range(100)) + b"behind" * 3 + b"+", b""])
def test_what_begins_like_it_is_not_the_same(tmp_path: Path, parts: list[Part], content: bytes) -> None:
    (tmp_path / "disc").write_bytes(content)
    assert assembled.change(str(tmp_path / "disc"), parts).needed


@pytest.mark.parametrize("content", [b"short", b"y" * 100, b"z" * 101])
def test_a_source_that_changes_meanwhile_leaves_everything_as_it_was(
    tmp_path: Path, parts: list[Part], content: bytes
) -> None:
    (tmp_path / "disc").write_bytes(b"old")
    change = assembled.change(str(tmp_path / "disc"), parts)
    (tmp_path / "kernel").write_bytes(content)
    with pytest.raises(UserError, match="kernel was changed by another program or administrator"):
        files.apply([change])
    assert (tmp_path / "disc").read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"lock", "kernel", "disc"}


def test_a_target_that_changes_meanwhile_is_left_alone(tmp_path: Path, parts: list[Part]) -> None:
    (tmp_path / "disc").write_bytes(b"old")
    change = assembled.change(str(tmp_path / "disc"), parts)
    (tmp_path / "disc").write_bytes(b"of another")
    with pytest.raises(UserError, match="disc was changed by another program or administrator"):
        files.apply([change])
    assert (tmp_path / "disc").read_bytes() == b"of another"
