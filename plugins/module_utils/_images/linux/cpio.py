# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: archives that the Linux kernel unpacks as its first root file system.
# The format is newc (Linux Documentation/driver-api/early-userspace/buffer-format.rst); equal entries give equal bytes.

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import Iterable, Tuple

_END = "TRAILER!!!"


@dataclass(frozen=True)
class Entry:
    """One file of an archive, owned by root and of no date.

    :param name: path without a leading slash.
    :param mode: type and permission bits, as in st_mode.
    :param content: a file's bytes, or the target of a symbolic link.
    :param device: major and minor number of a device.
    """

    name: str
    mode: int
    content: bytes = b""
    device: Tuple[int, int] = (0, 0)


def directory(name: str) -> Entry:
    return Entry(name, stat.S_IFDIR | 0o755)


def file(name: str, content: bytes, mode: int = 0o644) -> Entry:
    return Entry(name, stat.S_IFREG | mode, content)


def link(name: str, target: str) -> Entry:
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def character_device(name: str, major: int, minor: int) -> Entry:
    return Entry(name, stat.S_IFCHR | 0o600, device=(major, minor))


def archive(entries: Iterable[Entry]) -> bytes:
    """Return the archive, sorted by name, so that a directory comes before what is in it.

    :raises ValueError: a name appears twice or a file's directory is not among the entries; the kernel would silently
        leave such a file out.
    """
    ordered = sorted(entries, key=lambda entry: entry.name)
    seen = {""}
    packed = bytearray()
    for number, entry in enumerate([*ordered, Entry(_END, 0)], start=1):
        parent = entry.name.rpartition("/")[0]
        if entry.name in seen or entry.name.startswith("/"):
            raise ValueError(f"{entry.name!r} appears twice or is no relative path")
        if parent not in seen:
            raise ValueError(f"there is no directory for {entry.name!r}")
        seen.add(entry.name)
        name = entry.name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        # inode, mode, uid, gid, links, mtime, size, the device it is on, its own device, length of the name, checksum
        fields = (number, entry.mode, 0, 0, links, 0, len(entry.content), 0, 0, *entry.device, len(name), 0)
        packed += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        packed += bytes(-len(packed) % 4) + entry.content
        packed += bytes(-len(packed) % 4)
    return bytes(packed)
