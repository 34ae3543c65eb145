# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Programs for EFI firmware, as small as they can be.

from __future__ import annotations

import struct
from typing import Dict

# What xen.efi has among its strings.
XEN = "Xen 4.20.1 (c/s abc) EFI loader\r\n".encode("utf-16-le")


def program(parts: Dict[str, bytes]) -> bytes:
    """The least that is an EFI program with these sections."""
    start = 0x400
    table, body = b"", b""
    for name, content in parts.items():
        table += struct.pack(
            "<8sIIIIIIHHI", name.encode(), len(content), 0x1000, len(content), start + len(body), 0, 0, 0, 0, 0
        )
        body += content
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x80)
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, len(parts), 0, 0, 0, 240, 0x22) + b"\0" * 240
    return (head.ljust(0x80, b"\0") + coff + table).ljust(start, b"\0") + body


SYSTEMD_BOOT = program({".text": b"", ".sdmagic": b"#### LoaderInfo: systemd-boot 255 ####\0"})
