# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what the file of a Linux kernel says of it: its release, its memory, and
# whether Xen can start it as a PV domain; and whether Linux unpacks an archive.
# Offsets: Linux Documentation/arch/x86/boot.rst.

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any, Iterator, Optional, Tuple

# How a release is written, as `uname -r` does; also a name of a directory.
RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]*\Z")

# Bytes that hold the header and what it points to in the setup code.
HEAD = 1 << 16

# Xen's notes in an ELF file are of this owner, and this one is where a PV domain starts (XEN_ELFNOTE_ENTRY,
# xen/include/public/elfnote.h); Linux has it only with CONFIG_XEN_PV (arch/x86/xen/xen-head.S).
_OWNER, _ENTRY = b"Xen", 1
_ELF, _PT_NOTE = b"\x7fELF", 4

# How an archive of cpio begins, and what it can be packed by.
_ARCHIVES = (
    b"070701", b"070702", b"\x1f\x8b", b"BZh", b"\x5d\0", b"\xfd7zXZ", b"\x89LZO", b"\x02\x21", b"\x28\xb5\x2f\xfd",
)  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What a bzImage begins with.

    :param init_size: memory that it takes while it starts, in bytes.
    :param release: its release, None where it does not say so.
    """

    init_size: int
    release: Optional[str]


def header(content: bytes) -> Header:
    """Read the header of a bzImage.

    :param content: the file, or its first HEAD bytes.
    :raises ValueError: it is none that says how much memory it takes.
    """
    # Version at 0x206; init_size at 0x260 from protocol 2.10 on.
    if len(content) < 0x264 or content[0x202:0x206] != b"HdrS" or _number("<H", content, 0x206) < 0x20A:
        raise ValueError("it is no bzImage of Linux 2.6.37 or newer")
    # Its first word is the release.
    start = _number("<H", content, 0x20E)
    words = content[start + 0x200 : start + 0x280].split(b"\0", 1)[0].decode(errors="replace").split() if start else []
    release = words[0] if words and RELEASE.match(words[0]) else None
    return Header(_number("<I", content, 0x260), release)


def bootable(content: bytes) -> bool:
    """Whether a boot loader can start a file as Linux."""
    try:
        header(content)
    except ValueError:
        return False
    return True


def payload_start(head: bytes) -> int:
    """Where the packed kernel begins in a bzImage of protocol 2.8 or later.

    :param head: at least its first 0x24C bytes.
    """
    return ((head[0x1F1] or 4) + 1) * 512 + _number("<I", head, 0x248)


def payload(content: bytes) -> bytes:
    """Return the packed kernel of a bzImage."""
    start = payload_start(content)
    return content[start : start + _number("<I", content, 0x24C)]


def unpack(packed: bytes) -> Optional[bytes]:
    """Unpack a kernel; None where it is packed in a way that Python does not know, or is damaged."""
    # Not every Python has them, and only who looks into a kernel needs them.
    import bz2
    import lzma

    unpackers = {
        b"\x1f\x8b": lambda: zlib.decompressobj(31),
        b"BZh": bz2.BZ2Decompressor,
        b"\xfd7zXZ": lzma.LZMADecompressor,
        b"\x5d\0\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE),
    }
    unpacker: Any = next((unpackers[magic] for magic in unpackers if packed.startswith(magic)), None)
    try:
        # What stands behind it, which is its size, is left.
        return None if unpacker is None else bytes(unpacker().decompress(packed))
    except (OSError, EOFError, lzma.LZMAError, zlib.error):
        return None


def starts_as_pv(unpacked: bytes) -> Optional[bool]:
    """Whether Xen can start an unpacked kernel as a PV domain; None where it is no whole program."""
    try:
        return (_OWNER, _ENTRY) in _notes(unpacked) if unpacked.startswith(_ELF) else None
    except struct.error:
        return None


def startable(content: bytes) -> bool:
    """Whether Xen can start a kernel as a PV domain, as far as that can be told from its file."""
    # Xen takes a program as it is, and a packed one (xc_dom_elfloader.c, xc_dom_try_gunzip), of any system.
    if content.startswith((_ELF, b"\x1f\x8b")):
        return True
    try:
        header(content)
    except ValueError:
        return False
    unpacked = unpack(payload(content))
    return unpacked is None or starts_as_pv(unpacked) is not False


def unpackable(content: bytes) -> bool:
    """Whether Linux unpacks a file as its root file system, by its beginning (init/initramfs.c, lib/decompress.c)."""
    return content.startswith(_ARCHIVES)


def _notes(program: bytes) -> Iterator[Tuple[bytes, int]]:
    """The owner and the type of each note of a 64-bit ELF file."""
    table, size, count = _number("<Q", program, 32), _number("<H", program, 54), _number("<H", program, 56)
    for segment in range(table, table + size * count, size):
        if _number("<I", program, segment) == _PT_NOTE:
            at = _number("<Q", program, segment + 8)
            end = at + _number("<Q", program, segment + 32)
            while at < end:
                name, length, kind = struct.unpack_from("<III", program, at)
                yield program[at + 12 : at + 12 + name].rstrip(b"\0"), kind
                # Both are padded to words.
                at += 12 + -(-name // 4) * 4 + -(-length // 4) * 4


def _number(form: str, content: bytes, at: int) -> int:
    return int(struct.unpack_from(form, content, at)[0])
