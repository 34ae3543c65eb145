# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import files
import image
import pytest
from errors import LabError
from progress import Progress


def test_the_key_follows_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    base = files.key_of(image.recipe("trixie", b"setup"))
    assert base == files.key_of(image.recipe("trixie", b"setup"))
    assert base != files.key_of(image.recipe("bookworm", b"setup"))
    assert base != files.key_of(image.recipe("trixie", b"another setup"))
    monkeypatch.setattr(image, "PACKAGES", (*image.PACKAGES, "another"))
    assert base != files.key_of(image.recipe("trixie", b"setup"))


def test_no_room_is_one_sentence_and_a_remedy() -> None:
    with pytest.raises(LabError) as caught:
        image.check_room(Path("/cache"), 3_000_000_000, 1_200_000_000)
    assert str(caught.value).splitlines() == [
        "There is no room for the lab image: /cache has 1.2 GB free, 3.0 GB are needed.",
        "Free some space there, or point XDG_CACHE_HOME and TMPDIR at a larger file system.",
    ]


def test_no_room_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(image, "tool", lambda name: name)
    monkeypatch.setattr(image, "NEEDED_CACHE", 1 << 62)
    with pytest.raises(LabError, match="no room"):
        image.ensure("trixie", Progress("xenlab", tmp_path / "durations"))
    assert [path.suffix for path in files.cache_directory().iterdir()] == [".lock"]
