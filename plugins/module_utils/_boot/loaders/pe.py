# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: programs for EFI firmware, as far as they tell whether they are Xen or
# systemd-boot.
# Sources: Microsoft's PE format; xen/arch/x86/xen.lds.S and docs/misc/efi.pandoc ("Unified Xen kernel image") @
# stable-4.17; xen-4.17-amd64.efi of Debian 12, read; src/boot/efi/boot.c @ systemd 255.

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO, Dict, Optional

# Headers of a program lie at its beginning, and Xen's image is below 4 MiB; a unified one has dom0's kernel and
# initial file system behind it.
_HEADERS = 1 << 16
_SEARCHED = 8 << 20
_MOST_SECTIONS = 96
# Text that people write.
_LONGEST_TEXT = 1 << 20
# "Xen 4.17.7 (c/s ) EFI loader" is what xen.efi shows first, in the firmware's character set.
_BANNER = " EFI loader".encode("utf-16-le")
_NAME = "Xen ".encode("utf-16-le")
_SYSTEMD_BOOT = b"#### LoaderInfo: systemd-boot"


@dataclass(frozen=True)
class Section:
    """A part of the file: where it begins there, and how much of it is content."""

    start: int
    size: int


def sections(file: BinaryIO) -> Optional[Dict[str, Section]]:
    """Return the sections of a program by name, the first of each name; None for any other file."""
    file.seek(0)
    head = file.read(_HEADERS)
    try:
        (offset,) = struct.unpack_from("<I", head, 0x3C)
        if not head.startswith(b"MZ") or head[offset : offset + 4] != b"PE\0\0":
            return None
        (count,) = struct.unpack_from("<H", head, offset + 6)
        (optional,) = struct.unpack_from("<H", head, offset + 20)
        found: Dict[str, Section] = {}
        for number in range(min(count, _MOST_SECTIONS)):
            name, size, _address, stored, start = struct.unpack_from(
                "<8sIIII", head, offset + 24 + optional + 40 * number
            )
            # What is in memory may be shorter than what is stored, which is filled up.
            found.setdefault(name.rstrip(b"\0").decode("latin-1"), Section(start, min(size, stored)))
    except struct.error:
        return None
    return found


def is_xen(file: BinaryIO) -> bool:
    """Whether a program is Xen's hypervisor for EFI: it says so in the words that it shows when it starts."""
    if sections(file) is None:
        return False
    file.seek(0)
    content = file.read(_SEARCHED)
    at = content.find(_BANNER)
    return at >= 0 and _NAME in content[max(0, at - 256) : at]


def is_systemd_boot(file: BinaryIO) -> bool:
    """Whether a program is systemd-boot: it says so, as bootctl looks for it (get_file_version in its source).

    Only since systemd 250 does that stand in a section of its own. An image with a kernel in it may hold it, too.
    """
    parts = sections(file)
    if parts is None or ".linux" in parts:
        return False
    file.seek(0)
    return _SYSTEMD_BOOT in file.read(_LONGEST_TEXT)


def configuration(file: BinaryIO) -> Optional[bytes]:
    """Return what a unified image has as its configuration; None for an image that reads a file.

    xen.efi takes its section .config before it looks for a file (efi_start in xen/common/efi/boot.c).
    """
    return content(file, ".config")


def content(file: BinaryIO, name: str) -> Optional[bytes]:
    """Return the text in a section of a program, None where there is no such section."""
    section = (sections(file) or {}).get(name)
    if section is None:
        return None
    file.seek(section.start)
    return file.read(min(section.size, _LONGEST_TEXT)).rstrip(b"\0")
