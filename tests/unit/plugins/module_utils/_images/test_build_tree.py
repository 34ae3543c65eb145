# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.xen.stubdom.plugins.module_utils._images import build_tree
from ansible_collections.xen.stubdom.plugins.module_utils._images.remedies import Edit


def test_a_newer_collection_edits_what_upstream_wrote(tmp_path: Path) -> None:
    """What an older one made of a file of the same tree is not there any more."""
    file = tmp_path / "main.c"
    file.write_text("int *number;\n")
    build_tree.apply(str(file), [Edit("main.c", r"int \*number;", "int number(void);")])
    assert file.read_text() == "int number(void);\n"
    build_tree.apply(
        str(file), [Edit("main.c", r"int \*number;", "long number(void);"), Edit("main.c", "long", "short")]
    )
    assert file.read_text() == "short number(void);\n"


def test_the_same_edits_leave_a_file_alone(tmp_path: Path) -> None:
    """Else make would make again what is made of it."""
    file = tmp_path / "Makefile"
    file.write_bytes(b"all:\r\n")
    edits = [Edit("Makefile", "all", "most")]
    build_tree.apply(str(file), edits)
    os.utime(file, (0, 0))
    build_tree.apply(str(file), edits)
    assert (file.read_bytes(), file.stat().st_mtime) == (b"most:\r\n", 0)


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    build_tree.apply(str(tmp_path / "none"), [Edit("none", "a", "b")])
    assert not list(tmp_path.iterdir())
