# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import efi_boot
from efi_program import XEN, program
from hypothesis import given
from hypothesis import strategies as st

CONFIGURATION = b"[global]\ndefault=xen\n[xen]\noptions=dom0_mem=1G\nkernel=vmlinuz\n"


@pytest.mark.parametrize(
    ("content", "xen", "configuration"),
    [
        (program({".text": b"\x90", ".init": XEN}), True, None),
        (program({".init": XEN, ".config": CONFIGURATION + b"\0\0", ".kernel": b"k"}), True, CONFIGURATION),
        (program({".text": b"Xen", ".linux": b"EFI loader"}), False, None),
        (program({".config": CONFIGURATION}), False, CONFIGURATION),
        (b"MZ", False, None),
        (b"MZ" + XEN, False, None),
        (b"", False, None),
        (program({".init": XEN})[:0x90], False, None),
    ],
)
def test_programs(content: bytes, xen: bool, configuration: bytes) -> None:
    assert efi_boot.is_xen(io.BytesIO(content)) is xen
    assert efi_boot.inside(io.BytesIO(content)) == configuration


@given(st.binary(max_size=300), st.integers(0, 0x500))
def test_any_bytes_are_an_answer(noise: bytes, at: int) -> None:
    content = bytearray(program({".init": XEN, ".config": CONFIGURATION}))
    content[at : at + len(noise)] = noise
    efi_boot.is_xen(io.BytesIO(bytes(content)))
    efi_boot.inside(io.BytesIO(bytes(content)))
