# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Which names the configurations of a directory give, and which of its files are looked at.

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._guests import config_files

LIMIT = 1 << 18


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b'name = "web"\nmemory = 256\n', "web"),
        (b"import os\nname = 'web'\n", "web"),
        (b"import os\nname = web\n", None),
        (b"name = 5\n", None),
        (b"memory = 256\n", None),
        (b"", None),
        (b"\x7fELF\0\xff", None),
    ],
)
def test_the_name_of_a_configuration(content: bytes, name: str) -> None:
    assert config_files.guest_name(content) == name


def test_a_name_is_taken_by_another_file_only(tmp_path: Path) -> None:
    own = tmp_path / "web.cfg"
    own.write_text('name = "web"\n')
    (tmp_path / "link.cfg").symlink_to("web.cfg")
    (tmp_path / "web.cfg.1~").write_text('name = "web"\n')
    # What a run that was killed has left decides nothing.
    for left in (".web.cfg.xen-stubdom-new", ".web.cfg.xen-stubdom-old", ".web.cfg.dtkq22ne"):
        (tmp_path / left).write_text('name = "web"\n')
    (tmp_path / "directory").mkdir()
    assert config_files.names(str(tmp_path), {str(own)}) == {}
    (tmp_path / "other").write_text('name = "web"\n')
    assert config_files.names(str(tmp_path), {str(own)}) == {"web": str(tmp_path / "other")}
    assert config_files.names(str(tmp_path / "none"), set()) == {}


# A disk image that lies there by mistake is not read into memory.
@pytest.mark.parametrize(("size", "taken"), [(LIMIT, True), (LIMIT + 1, False)])
def test_what_is_too_long_for_a_configuration_is_not_read(tmp_path: Path, size: int, taken: bool) -> None:
    other = tmp_path / "other"
    text = 'name = "web"\n'
    other.write_text(text + "#" * (size - len(text)))
    assert config_files.names(str(tmp_path), set()) == ({"web": str(other)} if taken else {})
