# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: whether a UEFI firmware is one for guests of Xen.
#
# Since edk2-stable202108 only the platform OvmfXen has Xen's drivers; OvmfPkgX64, which is what most packages contain,
# had them before. A guest of Xen whose firmware has none never gets as far as its disk.

from __future__ import annotations

import re
from typing import Iterator

# The GUID of a section that is compressed by LZMA (MdeModulePkg, gLzmaCustomDecompressGuid), in a section's header: 3
# bytes length, 1 byte type, GUID, 2 bytes offset of the data.
_COMPRESSED = re.compile(
    re.escape(b"\x98\x58\x4e\xee\x14\x39\x59\x42\x9d\x6e\xdc\x7b\xd7\x94\x03\xcf") + b"(..)", re.DOTALL
)
# The driver of Xen's bus, as the section with a driver's name has it.
_DRIVER = "XenBusDxe".encode("utf-16-le")
# Twice what the largest build unpacks to.
_LONGEST = 1 << 25


def knows_xen(firmware: bytes) -> bool:
    """Whether a firmware has the drivers with which a guest of Xen reaches its devices."""
    return _DRIVER in firmware or any(_DRIVER in part for part in _unpacked(firmware))


def _unpacked(firmware: bytes) -> Iterator[bytes]:
    # Not every Python has it, and only guests with UEFI need it.
    import lzma

    for match in _COMPRESSED.finditer(firmware):
        data = firmware[match.start() - 4 + int.from_bytes(match[1], "little") :]
        try:
            yield lzma.LZMADecompressor(format=lzma.FORMAT_ALONE).decompress(data, _LONGEST)
        except lzma.LZMAError:
            # Bytes that only look like it.
            continue
