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


TAKES = {"liba.so.1": {"one": "A_1", "two": "A_2", "three": "A_1"}, "libb.so": {"four": "B_1"}}


def test_what_is_taken_out_of_a_library(make_elf: Callable[..., bytes]) -> None:
    content = make_elf(["liba.so.1", "libb.so", "libc.so"], takes=TAKES)
    assert elf.imports(content, "liba.so.1") == elf.Imports(("A_1", "A_2"), TAKES["liba.so.1"])
    assert elf.imports(content, "libb.so") == elf.Imports(("B_1",), TAKES["libb.so"])


def test_what_is_taken_cannot_always_be_told(make_elf: Callable[..., bytes]) -> None:
    """A library without versions, a program without any, and a variable."""
    assert elf.imports(make_elf(["liba.so.1", "libc.so"], takes=TAKES), "libc.so") is None
    assert elf.imports(make_elf(["liba.so.1"]), "liba.so.1") is None
    assert elf.imports(make_elf(["liba.so.1"], takes=TAKES, kind=1), "liba.so.1") is None


def test_half_a_program_is_refused(make_elf: Callable[..., bytes]) -> None:
    content = make_elf(["liba.so.1"], interpreter="/lib64/ld.so", takes=TAKES)
    for length in range(len(content) - 32):
        with pytest.raises(ValueError):
            elf.read(content[:length])
        with pytest.raises(ValueError):
            elf.imports(content[:length], "liba.so.1")
