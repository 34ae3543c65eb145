# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The page on architecture shows the rooms that there are, and no import runs up.

from __future__ import annotations

import re
from pathlib import Path

import pytest
import rooms

REPOSITORY = Path(__file__).resolve().parents[2]
LICENCE = "# Copyright\n\n"
UTILS = "from ansible_collections.xen.stubdom.plugins.module_utils"


def collection(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = directory / "plugins" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def test_the_map_is_up_to_date() -> None:
    """If it is not: tests/tools/rooms.py --write."""
    page = rooms.PAGE.read_text()
    assert rooms.placed(page, rooms.draw(rooms.read(REPOSITORY))) == page


def test_no_import_runs_up() -> None:
    found = rooms.read(REPOSITORY)
    assert rooms.upwards(found) == []
    assert {room.wing for room in found} == set(rooms.WINGS)


def test_every_room_says_what_it_is_for() -> None:
    assert [room for room in rooms.read(REPOSITORY) if not 10 < len(room.purpose) < 250] == []


def test_the_page_names_every_directory() -> None:
    page, _mark, _map = rooms.PAGE.read_text().partition(rooms.BEGIN)
    named = set(re.findall(r"^\| `([\w/]+)/` \|", page, re.MULTILINE))
    assert [name for name in named if not (REPOSITORY / name).is_dir()] == []
    roles = {f"roles/{path.parent.name}" for path in REPOSITORY.glob("roles/*/tasks")}
    plugins = {f"plugins/{path.name}" for path in REPOSITORY.glob("plugins/*") if any(path.glob("*.py"))}
    assert roles | plugins <= named


def test_an_import_that_runs_up_is_found(tmp_path: Path) -> None:
    files = {
        "modules/a.py": f"{LICENCE}DOCUMENTATION = 'short_description: Do it\\n'\n{UTILS}._xen import low\n",
        "module_utils/_xen/low.py": f"{LICENCE}# {rooms.PRIVATE}the\n# lowest. And more.\n\n{UTILS} import _boot\n",
        "module_utils/_xen/__init__.py": "",
    }
    module, low = rooms.read(collection(tmp_path, files))
    assert module == rooms.Room("modules", "a", "Do it", frozenset({"_xen"}))
    assert low == rooms.Room("_xen", "low", "the lowest", frozenset({"_boot"}))
    assert rooms.upwards([module, low]) == ["_xen/low imports from _boot"]
    assert "| `low` | the lowest | `_boot` |" in rooms.draw([module, low])


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no line"):
        rooms.placed("nothing", "map")
