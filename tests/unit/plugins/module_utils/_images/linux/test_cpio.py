# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the archive promises: the bytes the kernel's documentation asks for, the same ones every time."""

from __future__ import annotations

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import cpio
from hypothesis import given
from hypothesis import strategies as st

SMALL = [
    cpio.file("bin/x", b"hello", 0o755),
    cpio.link("lib", "host/lib"),
    cpio.directory("bin"),
    cpio.character_device("null", 1, 3),
]


def test_bytes_of_an_archive() -> None:
    golden = (
        b"070701" b"00000001" b"000041ED" b"00000000" b"00000000" b"00000002" b"00000000" b"00000000"
        b"00000000" b"00000000" b"00000000" b"00000000" b"00000004" b"00000000" b"bin\0" b"\0\0"
        b"070701" b"00000002" b"000081ED" b"00000000" b"00000000" b"00000001" b"00000000" b"00000005"
        b"00000000" b"00000000" b"00000000" b"00000000" b"00000006" b"00000000" b"bin/x\0" b"hello\0\0\0"
        b"070701" b"00000003" b"0000A1FF" b"00000000" b"00000000" b"00000001" b"00000000" b"00000008"
        b"00000000" b"00000000" b"00000000" b"00000000" b"00000004" b"00000000" b"lib\0" b"\0\0" b"host/lib"
        b"070701" b"00000004" b"00002180" b"00000000" b"00000000" b"00000001" b"00000000" b"00000000"
        b"00000000" b"00000000" b"00000001" b"00000003" b"00000005" b"00000000" b"null\0" b"\0"
        b"070701" b"00000005" b"00000000" b"00000000" b"00000000" b"00000001" b"00000000" b"00000000"
        b"00000000" b"00000000" b"00000000" b"00000000" b"0000000B" b"00000000" b"TRAILER!!!\0" b"\0\0\0"
    )  # fmt: skip
    assert cpio.archive(SMALL) == golden


@given(st.permutations(SMALL))
def test_the_order_of_the_entries_does_not_matter(entries: list[cpio.Entry]) -> None:
    assert cpio.archive(entries) == cpio.archive(SMALL)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([cpio.directory("bin"), cpio.file("bin", b"")], "'bin' appears twice"),
        ([cpio.file("/init", b"")], "'/init' appears twice or is no relative path"),
        ([cpio.file("bin/x", b"")], "no directory for 'bin/x'"),
    ],
)
def test_what_the_kernel_would_silently_leave_out(entries: list[cpio.Entry], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cpio.archive(entries)
