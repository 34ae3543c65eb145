# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import disk
import pytest


def test_the_first_sectors_hold_code_table_and_core() -> None:
    head = disk.boot_sectors(b"\xaa" * 512, b"core", "0a0b0c0d", 1000)
    assert head[:440] == b"\xaa" * 440
    assert head[440:444] == bytes.fromhex("0d0c0b0a")
    entry = head[446:462]
    assert (entry[0], entry[4]) == (0x80, 0x83)
    assert int.from_bytes(entry[8:12], "little") == 2048
    assert int.from_bytes(entry[12:16], "little") == 1000
    assert head[510:] == b"\x55\xaacore"


def test_a_core_image_that_would_reach_into_the_partition_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        disk.boot_sectors(bytes(512), bytes(disk.PARTITION_START), "0", 1)


def test_holes_stay_holes_when_the_disk_is_written(tmp_path: Path) -> None:
    partition = tmp_path / "partition"
    with partition.open("wb") as file:
        file.write(b"first")
        file.seek(8 << 20)
        file.write(b"last")
        file.truncate(64 << 20)
    whole = tmp_path / "disk"
    disk.write(whole, b"head", partition)
    content = whole.read_bytes()
    assert content[:4] == b"head"
    assert content[disk.PARTITION_START :] == partition.read_bytes()
    assert whole.stat().st_blocks * 512 < 4 << 20
