# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what a program says about the libraries it needs.
# The host's own `ldd` would run the program's loader; reading the file works for any file and runs nothing.

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple, Union

Content = Union[bytes, mmap.mmap]

# System V ABI, chapter 5, and the values of AMD64.
_HEADER = struct.Struct("<4sBBB9xHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<qQ")
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29


@dataclass(frozen=True)
class Program:
    """The part of an ELF file that decides what else has to be there.

    :param interpreter: path of the dynamic loader, None for a static program and for most libraries.
    :param needed: names of libraries, in the file's order.
    :param search: directories of the file's own, `$ORIGIN` not yet replaced.
    """

    interpreter: Optional[str]
    needed: Tuple[str, ...]
    search: Tuple[str, ...]


def read(content: Content) -> Program:
    """Read an x86-64 program or library.

    :raises ValueError: it is none.
    """
    try:
        return _read(content)
    except (struct.error, IndexError) as error:
        raise ValueError("the file ends before its headers do") from error


def _read(data: Content) -> Program:
    magic, bits, order, _v, _type, _machine, _version, _entry, at, _sections, _flags, _size, size, count, *_rest = (
        _HEADER.unpack_from(data)
    )
    if (magic, bits, order) != (b"\x7fELF", 2, 1):
        raise ValueError("the file is no 64-bit ELF program")
    segments: List[Sequence[int]] = [_SEGMENT.unpack_from(data, at + number * size) for number in range(count)]
    loaded = [segment for segment in segments if segment[0] == _PT_LOAD]

    interpreter = None
    tags: List[Tuple[int, int]] = []
    for kind, _flags, offset, _address, _physical, length, _memory, _align in segments:
        if kind == _PT_INTERP:
            interpreter = bytes(data[offset : offset + length]).rstrip(b"\0").decode()
        elif kind == _PT_DYNAMIC:
            tags = [
                _DYNAMIC.unpack_from(data, position)
                for position in range(offset, offset + length - _DYNAMIC.size + 1, _DYNAMIC.size)
            ]
    single: Dict[int, int] = dict(reversed(tags))
    if _DT_STRTAB not in single:
        return Program(interpreter, (), ())
    table = _file_offset(loaded, single[_DT_STRTAB])

    def text(offset: int) -> str:
        start = end = table + offset
        while data[end] != 0:
            end += 1
        return bytes(data[start:end]).decode()

    own = single.get(_DT_RUNPATH, single.get(_DT_RPATH))
    return Program(
        interpreter=interpreter,
        needed=tuple(text(value) for tag, value in tags if tag == _DT_NEEDED),
        search=tuple(text(own).split(":")) if own is not None else (),
    )


def _file_offset(loaded: Sequence[Sequence[int]], address: int) -> int:
    for _kind, _flags, offset, start, _physical, length, _memory, _align in loaded:
        if start <= address < start + length:
            return offset + address - start
    raise ValueError("the file's table of names is in no segment")
