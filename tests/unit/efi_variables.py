# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The variables of EFI firmware that decide what boots, as files of efivarfs.

from __future__ import annotations

import struct
import uuid
from typing import Dict, List, Mapping, Optional


def variable(content: bytes) -> bytes:
    return b"\7\0\0\0" + content


def load_option(path: str, options: str = "", *, active: bool = True, disk: str = "") -> bytes:
    """disk: the identity of the partition, of a table of GPT."""
    name = (path.replace("/", "\\") + "\0").encode("utf-16-le")
    signature = uuid.UUID(disk).bytes_le if disk else b"\0" * 16
    nodes = struct.pack("<BBHIQQ16sBB", 4, 1, 42, 1, 2048, 4096, signature, 2, 2 if disk else 0)
    nodes += struct.pack("<BBH", 4, 4, 4 + len(name)) + name if path else b""
    nodes += struct.pack("<BBH", 0x7F, 0xFF, 4)
    description = "Xen\0".encode("utf-16-le")
    passed = f"{options}\0".encode("utf-16-le") if options else b""
    return struct.pack("<IH", int(active), len(nodes)) + description + nodes + passed


# A network, as a device path of nothing that is known here.
NETWORK = struct.pack("<IH", 1, 4) + "PXE\0".encode("utf-16-le") + struct.pack("<BBH", 0x7F, 0xFF, 4)


def efivars(
    order: List[int], options: Mapping[int, bytes], following: Optional[int] = None, started: Optional[int] = None
) -> Dict[str, bytes]:
    """started: the entry that started this host."""
    content = {"BootOrder": struct.pack(f"<{len(order)}H", *order)}
    content.update({f"Boot{number:04X}": option for number, option in options.items()})
    for name, number in (("BootNext", following), ("BootCurrent", started)):
        if number is not None:
            content[name] = struct.pack("<H", number)
    suffix = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
    return {f"sys/firmware/efi/efivars/{name}-{suffix}": variable(value) for name, value in content.items()}


def systemd_variables(values: Mapping[str, str]) -> Dict[str, bytes]:
    """The variables of systemd-boot."""
    suffix = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
    return {
        f"sys/firmware/efi/efivars/{name}-{suffix}": variable(f"{value}\0".encode("utf-16-le"))
        for name, value in values.items()
    }
