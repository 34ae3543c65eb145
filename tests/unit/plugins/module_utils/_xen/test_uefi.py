# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which UEFI firmware is one for guests of Xen."""

from __future__ import annotations

import lzma
import uuid

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._xen import uefi

GUID = uuid.UUID("ee4e5898-3914-4259-9d6e-dc7bd79403cf").bytes_le
XEN, OTHER = (f"VirtioDxe\0{name}\0".encode("utf-16-le") for name in ("XenBusDxe", "PciBusDxe"))


def compressed(volume: bytes) -> bytes:
    """A section as edk2 makes it: header of 4 bytes, GUID, offset of the data, attributes."""
    packed = lzma.compress(volume, format=lzma.FORMAT_ALONE)
    return (24 + len(packed)).to_bytes(3, "little") + b"\x02" + GUID + b"\x18\x00\x01\x00" + packed


@pytest.mark.parametrize(
    ("firmware", "knows"),
    [
        (b"", False),
        (b"\xff" * 1000, False),
        (b"\0" * 100 + compressed(XEN) + b"\xff" * 100, True),
        (b"\0" * 100 + compressed(OTHER) + b"\xff" * 100, False),
        (compressed(OTHER) + compressed(XEN), True),
        # The GUID by itself, as the code that decompresses has it, and a section that is cut off.
        (GUID + b"\x18\x00\x01\x00" + b"no data" + compressed(XEN), True),
        (compressed(OTHER)[:40], False),
        (GUID + b"\x18", False),
        (XEN, True),
    ],
)
def test_a_firmware_for_guests_of_xen_has_its_drivers(firmware: bytes, knows: bool) -> None:
    assert uefi.knows_xen(firmware) is knows
