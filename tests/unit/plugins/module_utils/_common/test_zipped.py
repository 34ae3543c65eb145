# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs made of rooms."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions, zipped

UTILS = "ansible_collections/xen/stubdom/plugins/module_utils"


def names(program: bytes) -> list[str]:
    return [name for name in zipfile.ZipFile(BytesIO(program)).namelist() if not name.endswith("__init__.py")]


def test_a_room_comes_with_all_that_it_imports_and_nothing_else() -> None:
    assert names(zipped.program(zipped.__name__)) == ["__main__.py", f"{UTILS}/_common/zipped.py"]
    assert names(zipped.program(distributions.__name__)) == [
        "__main__.py",
        f"{UTILS}/_common/distributions.py",
        f"{UTILS}/_common/version.py",
    ]


def test_every_package_on_the_way_has_a_file() -> None:
    packed = set(zipfile.ZipFile(BytesIO(zipped.program(zipped.__name__))).namelist())
    parts = f"{UTILS}/_common".split("/")
    assert {"/".join(parts[:length]) + "/__init__.py" for length in range(1, len(parts) + 1)} <= packed


def test_files_that_come_from_an_archive_are_found_too(tmp_path: Path) -> None:
    """Ansible runs a module out of an archive: a program that packs itself is itself."""
    program = zipped.program(zipped.__name__)
    (tmp_path / "packs.zip").write_bytes(program)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'packs.zip')!r})\n"
        f"from {zipped.__name__.rpartition('.')[0]} import zipped\n"
        "sys.stdout.buffer.write(zipped.program(zipped.__name__))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, check=True)
    assert done.stdout == program


def test_it_ends_with_the_status_of_main(tmp_path: Path) -> None:
    with zipfile.ZipFile(BytesIO(zipped.program(zipped.__name__))) as packed:
        assert packed.read("__main__.py").decode() == (
            f"from {zipped.__name__} import main\n\nraise SystemExit(main())\n"
        )
