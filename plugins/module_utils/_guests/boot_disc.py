# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: a CD from which the BIOS of an HVM guest starts a kernel that lies in dom0.
# QEMU in a stub domain sees no file of dom0, but it has the guest's disks.
# Sources: ECMA-119 (ISO 9660), by number of section; "El Torito" Bootable CD-ROM Format Specification 1.0;
# grub-core/boot/i386/pc/cdboot.S and grub-core/fs/iso9660.c @ grub 2.12.

from __future__ import annotations

from typing import List, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.assembled import Part, Source
from ansible_collections.xen.stubdom.plugins.module_utils._guests import menus

_SECTOR = 2048
# Where the parts lie, in sectors. The first sixteen are left to others (6.2.1).
_VOLUME, _BOOT_RECORD, _END, _PATHS_L, _PATHS_M, _ROOT, _CATALOG, _LOADER = range(16, 24)
# What a BIOS loads of the loader, in sectors of 512 bytes; the loader reads the rest.
_LOADED = 4
# Behind its first jump the loader has room for where it lies: in little endian the sector of the volume descriptor, its
# own, its length in bytes and the sum of what follows these 64 bytes, as `mkisofs -boot-info-table` writes it.
_TABLE = slice(8, 64)
# GRUB reads so many at once, and gets nothing where the disc ends among them, but no error either: a BIOS of QEMU's
# (SeaBIOS 1.16) has none (GRUB_DISK_CACHE_SIZE, include/grub/disk.h).
_AT_ONCE = 16
# A length on a disc has 32 bits (9.1.4).
_LONGEST = (1 << 32) - _SECTOR


def parts(loader: bytes, menu: bytes, kernel: Source, initrd: Optional[Source] = None) -> List[Part]:
    """Return the disc, part by part.

    :param loader: an image of GRUB 2 for i386-pc-eltorito.
    :param menu: goes by the name menus.CD_MENU there, the kernel by CD_KERNEL, and the last one by CD_INITRD.
    :raises ValueError: there is no room for a file on a disc.
    """
    sector = _LOADER + _sectors(len(loader))
    entries: List[bytes] = []
    rest: List[Part] = []
    named = ((menus.CD_MENU, menu), (menus.CD_KERNEL, kernel), (menus.CD_INITRD, initrd))
    for name, file in named:
        if file is not None:
            size = file.size if isinstance(file, Source) else len(file)
            if isinstance(file, Source) and size > _LONGEST:
                raise ValueError(f"{file.path} has {size} bytes, and a file on a disc has {_LONGEST} at most")
            entries.append(_entry(_name(name), sector, size))
            rest += [file, bytes(-size % _SECTOR)]
            sector += _sectors(size)
    left = -sector % _AT_ONCE
    # In alphabetical order (9.3).
    entries.sort(key=lambda entry: entry[33:])
    head = bytes(_VOLUME * _SECTOR) + b"".join(
        part.ljust(_SECTOR, b"\0")
        for part in (
            _volume(sector + left),
            b"\0CD001\1" + b"EL TORITO SPECIFICATION".ljust(64, b"\0") + _CATALOG.to_bytes(4, "little"),
            b"\xffCD001\1",
            *_PATHS,
            _root(b"\0") + _root(b"\1") + b"".join(entries),
            _catalog(),
        )
    )
    return [head + _placed(loader).ljust(_sectors(len(loader)) * _SECTOR, b"\0"), *rest, bytes(left * _SECTOR)]


def _name(path: str) -> bytes:
    """A path in the letters of a disc, with a full stop in any case, and a version (7.5.1)."""
    name = path[1:].upper()
    return f"{name}{'' if '.' in name else '.'};1".encode()


def _sectors(size: int) -> int:
    return -(-size // _SECTOR)


def _placed(loader: bytes) -> bytes:
    """The loader with its table filled in."""
    padded = loader[_TABLE.stop :].ljust(-(-len(loader) // 4) * 4 - _TABLE.stop, b"\0")
    total = sum(int.from_bytes(padded[at : at + 4], "little") for at in range(0, len(padded), 4)) % (1 << 32)
    table = b"".join(number.to_bytes(4, "little") for number in (_VOLUME, _LOADER, len(loader), total))
    return loader[: _TABLE.start] + table.ljust(_TABLE.stop - _TABLE.start, b"\0") + loader[_TABLE.stop :]


def _both(number: int, size: int) -> bytes:
    """A number in both orders of its bytes (7.2.3, 7.3.3)."""
    return number.to_bytes(size, "little") + number.to_bytes(size, "big")


def _entry(name: bytes, sector: int, size: int, flags: int = 0) -> bytes:
    """What a directory says of a file (9.1); it is of no date."""
    content = b"\0" + _both(sector, 4) + _both(size, 4) + bytes(7) + bytes([flags, 0, 0]) + _both(1, 2)
    content += bytes([len(name)]) + name
    # Its length is an even number.
    content += bytes((len(content) + 1) % 2)
    return bytes([len(content) + 1]) + content


def _root(name: bytes) -> bytes:
    """The only directory; it is its own parent (6.8.2)."""
    return _entry(name, _ROOT, _SECTOR, flags=2)


# The tables of directories, in each order of bytes (9.4).
_PATHS = (
    b"\1\0" + _ROOT.to_bytes(4, "little") + b"\1\0\0\0",
    b"\1\0" + _ROOT.to_bytes(4, "big") + b"\0\1\0\0",
)


def _volume(sectors: int) -> bytes:
    """The primary volume descriptor (8.4)."""
    fields: Tuple[bytes, ...] = (
        b"\1CD001\1\0",
        b" " * 32,
        b"KERNEL".ljust(32),
        bytes(8),
        _both(sectors, 4),
        bytes(32),
        _both(1, 2),
        _both(1, 2),
        _both(_SECTOR, 2),
        _both(len(_PATHS[0]), 4),
        _PATHS_L.to_bytes(4, "little"),
        bytes(4),
        _PATHS_M.to_bytes(4, "big"),
        bytes(4),
        _root(b"\0"),
        # Who made it, and three files with words about it.
        b" " * (4 * 128 + 3 * 37),
        # Four dates that are not given (8.4.26.1).
        (b"0" * 16 + b"\0") * 4,
        b"\1",
    )
    return b"".join(fields)


def _catalog() -> bytes:
    """What the BIOS reads of it: one entry for processors of its kind, which starts without emulation of a disk."""
    head = b"\1\0\0\0" + bytes(24)
    total = (-0xAA55 - sum(int.from_bytes(head[at : at + 2], "little") for at in range(0, len(head), 2))) % (1 << 16)
    return (
        head
        + total.to_bytes(2, "little")
        + b"\x55\xaa"
        + (b"\x88\0\0\0\0\0" + _LOADED.to_bytes(2, "little") + _LOADER.to_bytes(4, "little")).ljust(32, b"\0")
    )
