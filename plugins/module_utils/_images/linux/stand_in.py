# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: a library in place of one that a program names and never uses. The loader
# finds every function and version that the program asks for; whoever calls one is ended by SIGILL.

from __future__ import annotations

import struct
from typing import Dict, List, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import elf

# System V ABI, chapters 4 and 5, and for versions the Linux Standard Base, chapter 10.7.
_PT_GNU_STACK = 0x6474E551
_READ, _WRITE, _EXECUTE = 4, 2, 1
_DT_HASH, _DT_STRSZ, _DT_SYMENT, _DT_SONAME = 4, 10, 11, 14
_DT_VERDEF, _DT_VERDEFNUM = 0x6FFFFFFC, 0x6FFFFFFD
_VERSION = struct.Struct("<HHHHIII")
_VERSION_NAME = struct.Struct("<II")
_BASE = 1
_SHARED_OBJECT, _AMD64 = 3, 62
_GLOBAL_FUNCTION = 0x12
# Any number but that of "undefined" and the reserved ones; there are no sections.
_SOME_SECTION = 1
_PAGE = 4096
_UD2 = b"\x0f\x0b"


def library(name: str, wanted: Sequence[elf.Imports]) -> bytes:
    """Return an x86-64 library with these functions.

    :param name: by which programs need it.
    :param wanted: what each of the programs takes out of it.
    """
    functions = {function: version for each in wanted for function, version in sorted(each.functions.items())}
    versions = sorted({version for each in wanted for version in each.versions})
    numbers = {version: number for number, version in enumerate(versions, start=_BASE + 1)}
    names = _Names()
    own_name = names.add(name)
    ordered = sorted(functions)
    version_table = _versions([name, *versions], names)
    function_names = [names.add(function) for function in ordered]

    headers = elf.HEADER.size + 4 * elf.SEGMENT.size
    places: Dict[str, int] = {}
    content = bytearray(headers)

    def place(key: str, table: bytes) -> None:
        content.extend(bytes(-len(content) % 8))
        places[key] = len(content)
        content.extend(table)

    place("code", _UD2)
    symbols = [bytes(elf.SYMBOL.size)] + [
        elf.SYMBOL.pack(function, _GLOBAL_FUNCTION, 0, _SOME_SECTION, places["code"], len(_UD2))
        for function in function_names
    ]
    place("symbols", b"".join(symbols))
    place("names", names.table)
    place("hash", _hash_table(ordered))
    place(
        "version of symbol",
        b"".join(elf.VERSION_OF_SYMBOL.pack(number) for number in (0, *(numbers[functions[one]] for one in ordered))),
    )
    place("versions", version_table)
    read_only = len(content)
    # The loader writes into the dynamic section.
    content.extend(bytes(-len(content) % _PAGE))
    tags = (
        (_DT_SONAME, own_name),
        (_DT_HASH, places["hash"]),
        (elf.DT_STRTAB, places["names"]),
        (_DT_STRSZ, len(names.table)),
        (elf.DT_SYMTAB, places["symbols"]),
        (_DT_SYMENT, elf.SYMBOL.size),
        (elf.DT_VERSYM, places["version of symbol"]),
        (_DT_VERDEF, places["versions"]),
        (_DT_VERDEFNUM, len(versions) + 1),
        (0, 0),
    )
    place("dynamic", b"".join(elf.DYNAMIC.pack(*tag) for tag in tags))
    start, length = places["dynamic"], len(content) - places["dynamic"]
    segments = (
        (elf.PT_LOAD, _READ | _EXECUTE, 0, read_only, _PAGE),
        (elf.PT_LOAD, _READ | _WRITE, start, length, _PAGE),
        (elf.PT_DYNAMIC, _READ | _WRITE, start, length, 8),
        (_PT_GNU_STACK, _READ | _WRITE, 0, 0, 16),
    )
    content[: elf.HEADER.size] = elf.HEADER.pack(
        b"\x7fELF", 2, 1, 1, _SHARED_OBJECT, _AMD64, 1, 0, elf.HEADER.size, 0, 0,
        elf.HEADER.size, elf.SEGMENT.size, len(segments), 0, 0, 0,
    )  # fmt: skip
    content[elf.HEADER.size : headers] = b"".join(
        elf.SEGMENT.pack(kind, flags, offset, offset, offset, size, size, align)
        for kind, flags, offset, size, align in segments
    )
    return bytes(content)


class _Names:
    """The table that all names stand in."""

    def __init__(self) -> None:
        self.table = b"\0"

    def add(self, name: str) -> int:
        at = len(self.table)
        self.table += name.encode() + b"\0"
        return at


def _versions(versions: Sequence[str], names: _Names) -> bytes:
    """The versions that the library has; the first is the library itself."""
    table = b""
    for number, version in enumerate(versions, start=_BASE):
        last = number == len(versions)
        size = _VERSION.size + _VERSION_NAME.size
        flags = _BASE if number == _BASE else 0
        table += _VERSION.pack(1, flags, number, 1, _hash(version), _VERSION.size, 0 if last else size)
        table += _VERSION_NAME.pack(names.add(version), 0)
    return table


def _hash_table(names: Sequence[str]) -> bytes:
    """Where the loader finds the symbol of a name; symbols are counted from 1."""
    first: List[int] = [0] * max(1, len(names))
    following = [0] * (len(names) + 1)
    for number, name in enumerate(names, start=1):
        bucket = _hash(name) % len(first)
        first[bucket], following[number] = number, first[bucket]
    return struct.pack(f"<{2 + len(first) + len(following)}I", len(first), len(following), *first, *following)


def _hash(name: str) -> int:
    """The hash function of the System V ABI."""
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ (high >> 24)) & ~high
    return value
