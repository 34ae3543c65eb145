# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what a program says about the libraries it needs.
# The host's own `ldd` would run the program's loader; reading the file works for any file and runs nothing.

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple, Union

Content = Union[bytes, mmap.mmap]

# System V ABI, chapters 4 and 5, the values of AMD64, and for versions the Linux Standard Base, chapter 10.7.
HEADER = struct.Struct("<4sBBB9xHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
DYNAMIC = struct.Struct("<qQ")
SYMBOL = struct.Struct("<IBBHQQ")
VERSION_OF_SYMBOL = struct.Struct("<H")
PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NEEDED, DT_STRTAB, DT_SYMTAB, DT_RPATH, DT_RUNPATH = 1, 5, 6, 15, 29
DT_VERSYM = 0x6FFFFFF0
_DT_PLTRELSZ, _DT_RELA, _DT_RELASZ, _DT_JMPREL = 2, 7, 8, 23
_DT_VERNEED, _DT_VERNEEDNUM = 0x6FFFFFFE, 0x6FFFFFFF
_RELOCATION = struct.Struct("<QQq")
_NEEDED_FILE = struct.Struct("<HHIII")
_NEEDED_VERSION = struct.Struct("<IHHII")
_FUNCTION_OR_NOTHING = (0, 2)
# The highest bit of a symbol's version says whether it is hidden.
_VERSION = 0x7FFF


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


@dataclass(frozen=True)
class Imports:
    """What a program takes out of one library.

    :param versions: the versions that the library has to have.
    :param functions: the version of each function by its name.
    """

    versions: Tuple[str, ...]
    functions: Mapping[str, str]


def read(content: Content) -> Program:
    """Read an x86-64 program or library.

    :raises ValueError: it is none.
    """
    try:
        return _File(content).program()
    except (struct.error, IndexError) as error:
        raise ValueError("the file ends before its headers do") from error


def imports(content: Content, library: str) -> Optional[Imports]:
    """Read what an x86-64 program or library takes out of one that it needs.

    :return: None where that cannot be told, as nothing has a version, or where it is not only functions.
    :raises ValueError: it is no program.
    """
    try:
        return _File(content).imports(library)
    except (struct.error, IndexError) as error:
        raise ValueError("the file ends before its tables do") from error


class _File:
    """An ELF file and its dynamic section."""

    def __init__(self, data: Content) -> None:
        self._data = data
        magic, bits, order, _v, _type, _machine, _version, _entry, at, _sections, _flags, _size, size, count, *_rest = (
            HEADER.unpack_from(data)
        )
        if (magic, bits, order) != (b"\x7fELF", 2, 1):
            raise ValueError("the file is no 64-bit ELF program")
        segments: List[Sequence[int]] = [SEGMENT.unpack_from(data, at + number * size) for number in range(count)]
        self._loaded = [segment for segment in segments if segment[0] == PT_LOAD]
        self._interpreter = None
        self._tags: List[Tuple[int, int]] = []
        for kind, _flags, offset, _address, _physical, length, _memory, _align in segments:
            if kind == PT_INTERP:
                self._interpreter = bytes(data[offset : offset + length]).rstrip(b"\0").decode()
            elif kind == PT_DYNAMIC:
                self._tags = [
                    DYNAMIC.unpack_from(data, position)
                    for position in range(offset, offset + length - DYNAMIC.size + 1, DYNAMIC.size)
                ]
        self._single: Dict[int, int] = dict(reversed(self._tags))

    def program(self) -> Program:
        single = self._single
        if DT_STRTAB not in single:
            return Program(self._interpreter, (), ())
        own = single.get(DT_RUNPATH, single.get(DT_RPATH))
        return Program(
            interpreter=self._interpreter,
            needed=tuple(self._text(value) for tag, value in self._tags if tag == DT_NEEDED),
            search=tuple(self._text(own).split(":")) if own is not None else (),
        )

    def imports(self, library: str) -> Optional[Imports]:
        versions = self._versions(library)
        if not versions or DT_VERSYM not in self._single:
            return None
        symbols, version_at = self._offset(self._single[DT_SYMTAB]), self._offset(self._single[DT_VERSYM])
        functions: Dict[str, str] = {}
        for number in self._relocated():
            (version,) = VERSION_OF_SYMBOL.unpack_from(self._data, version_at + number * VERSION_OF_SYMBOL.size)
            if version & _VERSION not in versions:
                continue
            name, info, _other, section, _value, _size = SYMBOL.unpack_from(self._data, symbols + number * SYMBOL.size)
            # A variable that the program has a copy of is defined in it.
            if section != 0 or info & 0xF not in _FUNCTION_OR_NOTHING:
                return None
            functions[self._text(name)] = versions[version & _VERSION]
        return Imports(tuple(sorted(versions.values())), functions)

    def _versions(self, library: str) -> Dict[int, str]:
        """The versions of a library that are needed, by the number that symbols name them by."""
        found: Dict[int, str] = {}
        if _DT_VERNEED not in self._single:
            return found
        at = self._offset(self._single[_DT_VERNEED])
        for _file in range(self._single[_DT_VERNEEDNUM]):
            _version, count, name, first, following = _NEEDED_FILE.unpack_from(self._data, at)
            entry = at + first
            for _entry in range(count if self._text(name) == library else 0):
                _hash, _flags, number, version, after = _NEEDED_VERSION.unpack_from(self._data, entry)
                found[number & _VERSION] = self._text(version)
                entry += after
            at += following
        return found

    def _relocated(self) -> List[int]:
        """The numbers of the symbols that the loader looks up."""
        found: Set[int] = set()
        for table, size in ((_DT_RELA, _DT_RELASZ), (_DT_JMPREL, _DT_PLTRELSZ)):
            if table in self._single:
                start = self._offset(self._single[table])
                content = bytes(self._data[start : start + self._single[size]])
                found.update(info >> 32 for _offset, info, _addend in _RELOCATION.iter_unpack(content))
        return sorted(found - {0})

    def _text(self, offset: int) -> str:
        start = end = self._offset(self._single[DT_STRTAB]) + offset
        while self._data[end] != 0:
            end += 1
        return bytes(self._data[start:end]).decode()

    def _offset(self, address: int) -> int:
        """Where in the file something is that is loaded to an address."""
        for _kind, _flags, offset, start, _physical, length, _memory, _align in self._loaded:
            if start <= address < start + length:
                return offset + address - start
        raise ValueError("the file's table of names is in no segment")
