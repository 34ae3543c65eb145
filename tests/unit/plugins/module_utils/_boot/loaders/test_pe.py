# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import struct
from typing import Dict

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import pe
from hypothesis import given
from hypothesis import strategies as st

BANNER = "Xen 4.20.1 (c/s abc) EFI loader\r\n".encode("utf-16-le")
CONFIGURATION = b"[global]\ndefault=xen\n[xen]\noptions=dom0_mem=1G\nkernel=vmlinuz\n"


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


@pytest.mark.parametrize(
    ("content", "xen", "configuration"),
    [
        (program({".text": b"\x90", ".init": BANNER}), True, None),
        (program({".init": BANNER, ".config": CONFIGURATION + b"\0\0", ".kernel": b"k"}), True, CONFIGURATION),
        (program({".text": b"Xen", ".linux": b"EFI loader"}), False, None),
        (program({".config": CONFIGURATION}), False, CONFIGURATION),
        (b"MZ", False, None),
        (b"MZ" + BANNER, False, None),
        (b"", False, None),
        (program({".init": BANNER})[:0x90], False, None),
    ],
)
def test_programs(content: bytes, xen: bool, configuration: bytes) -> None:
    assert pe.is_xen(io.BytesIO(content)) is xen
    assert pe.configuration(io.BytesIO(content)) == configuration


@given(st.binary(max_size=300), st.integers(0, 0x500))
def test_any_bytes_are_an_answer(noise: bytes, at: int) -> None:
    content = bytearray(program({".init": BANNER, ".config": CONFIGURATION}))
    content[at : at + len(noise)] = noise
    pe.is_xen(io.BytesIO(bytes(content)))
    pe.configuration(io.BytesIO(bytes(content)))
