# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This machine's own loader reads the library."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
from pathlib import Path

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import elf, stand_in

NAME = "libused-by-nobody.so.1"
IMPORTS = [
    elf.Imports(("V_1", "V_2"), {"one": "V_1", **{f"many_{number}": "V_2" for number in range(100)}}),
    elf.Imports(("V_2", "V_3"), {"two": "V_2"}),
]


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / NAME).write_bytes(stand_in.library(NAME, IMPORTS))
    return str(tmp_path / NAME)


def test_every_function_is_there_in_its_version(path: str) -> None:
    loaded = ctypes.CDLL(path)
    look_up = ctypes.CDLL(None).dlvsym
    look_up.restype, look_up.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
    for imports in IMPORTS:
        for name, version in imports.functions.items():
            assert look_up(loaded._handle, name.encode(), version.encode()), name
    assert not look_up(loaded._handle, b"one", b"V_2")
    assert not hasattr(loaded, "three")


def test_who_calls_one_is_ended(path: str) -> None:
    function = ctypes.CDLL(path).one
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        function()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGILL


def test_it_is_called_as_programs_name_it_and_needs_nothing(path: str) -> None:
    content = Path(path).read_bytes()
    assert elf.read(content) == elf.Program(None, (), ())
    assert NAME.encode() in content


def test_nothing_in_it_can_be_written_and_run(path: str) -> None:
    ctypes.CDLL(path)
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(NAME)]
    assert maps and not [words for words in maps if "w" in words[1] and "x" in words[1]]


def test_the_same_bytes_each_time() -> None:
    assert stand_in.library(NAME, IMPORTS) == stand_in.library(NAME, list(reversed(IMPORTS)))


def test_a_library_out_of_which_nothing_is_taken(tmp_path: Path) -> None:
    (tmp_path / "empty.so").write_bytes(stand_in.library("empty.so", [elf.Imports(("V_1",), {})]))
    ctypes.CDLL(str(tmp_path / "empty.so"))
