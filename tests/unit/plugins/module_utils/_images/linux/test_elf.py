# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys
from typing import Callable

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import elf


def test_a_program_with_libraries(make_elf: Callable[..., bytes]) -> None:
    content = make_elf(["liba.so.1", "libb.so"], interpreter="/lib64/ld.so", search="$ORIGIN/../lib:/opt/lib")
    assert elf.read(content) == elf.Program("/lib64/ld.so", ("liba.so.1", "libb.so"), ("$ORIGIN/../lib", "/opt/lib"))


def test_a_library_and_a_static_program(make_elf: Callable[..., bytes]) -> None:
    assert elf.read(make_elf(["libc.so.6"])) == elf.Program(None, ("libc.so.6",), ())
    assert elf.read(make_elf()) == elf.Program(None, (), ())


def test_the_python_that_runs_this() -> None:
    with open(sys.executable, "rb") as stream:
        program = elf.read(stream.read())
    assert program.interpreter is not None
    assert "libc.so.6" in program.needed


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "ends before"), (b"#!/bin/sh\n".ljust(64), "no 64-bit ELF"), (b"\x7fELF\x01".ljust(64), "no 64-bit ELF")],
)
def test_what_is_no_program(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        elf.read(content)


def test_half_a_program_is_refused(make_elf: Callable[..., bytes]) -> None:
    content = make_elf(["liba.so.1"], interpreter="/lib64/ld.so")
    for length in range(len(content) - 32):
        with pytest.raises(ValueError):
            elf.read(content[:length])
