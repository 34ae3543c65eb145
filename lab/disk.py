# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk of a lab host: GRUB and a partition table before one partition. Sizes in bytes."""

from __future__ import annotations

import os
from pathlib import Path

BYTES = 10 * 1024**3
PARTITION_START = 1024**2
SECTOR = 512


def boot_sectors(boot: bytes, core: bytes, disk_id: str, sectors: int) -> bytes:
    """The first sectors of the disk: GRUB's boot code, a table of one active Linux partition, GRUB's core image.

    boot is GRUB's boot.img, which loads the sector after it; core is what grub-mkimage made, which is to fit before the
    partition. sectors is the size of the partition.
    """
    first = PARTITION_START // SECTOR
    entry = bytes([0x80, 0xFE, 0xFF, 0xFF, 0x83, 0xFE, 0xFF, 0xFF])
    entry += first.to_bytes(4, "little") + sectors.to_bytes(4, "little")
    sector = boot[:440] + int(disk_id, 16).to_bytes(4, "little") + b"\0\0" + entry + bytes(48) + b"\x55\xaa"
    if len(sector) != SECTOR or len(core) > PARTITION_START - SECTOR:
        raise ValueError("GRUB's images do not fit before the partition")
    return sector + core


def write(disk: Path, head: bytes, partition: Path) -> None:
    """Writes the disk: the head, then at PARTITION_START the partition, holes kept as holes."""
    with partition.open("rb") as source, disk.open("wb") as target:
        target.write(head)
        size = os.fstat(source.fileno()).st_size
        offset = 0
        while offset < size:
            try:
                start = os.lseek(source.fileno(), offset, os.SEEK_DATA)
            except OSError:
                break
            offset = os.lseek(source.fileno(), start, os.SEEK_HOLE)
            source.seek(start)
            target.seek(PARTITION_START + start)
            left = offset - start
            while left:
                piece = source.read(min(left, 1 << 22))
                target.write(piece)
                left -= len(piece)
        target.truncate(PARTITION_START + size)
