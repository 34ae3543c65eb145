# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the memory of a host is described."""

from __future__ import annotations

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot import autoballoon, memory
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Domain
from ansible_collections.xen.stubdom.plugins.modules.dom0_mem import autoballoon_warnings

DOM0 = Domain(0, "Domain-0", 1024, 1, "r")


# command line, autoballoon, release → fixed. "auto" looks for dom0_mem in the line, and older releases of xl know
# fewer forms of it.
@pytest.mark.parametrize(
    ("line", "autoballoon", "version", "fixed"),
    [
        ("placeholder dom0_mem=1G,max:1G", "off", (4, 20), True),
        ("placeholder dom0_mem=1G,max:1G", "auto", (4, 20), True),
        ("placeholder dom0_mem=1G,max:1G", "auto", (4, 9), True),
        ("placeholder dom0_mem=1G,max:1G", "on", (4, 20), False),
        ("placeholder dom0_mem=1G", "off", (4, 20), False),
        ("placeholder dom0_mem=1G,max:2G", "off", (4, 20), False),
        ("placeholder dom0_mem=10%,max:10%", "auto", (4, 20), True),
        ("placeholder dom0_mem=10%,max:10%", "auto", (4, 15), False),
        ("placeholder dom0_mem=0x100M,max:0x100M", "auto", (4, 20), False),
        ("placeholder dom0_mem=lots", "off", (4, 20), False),
        ("placeholder", "off", (4, 20), False),
    ],
)
def test_dom0_is_fixed_where_nothing_may_change_it(
    line: str, autoballoon: str, version: tuple[int, int], fixed: bool
) -> None:
    found = memory.describe(
        total_mib=4095, free_mib=2900, domains=[DOM0], running=line, version=version, autoballoon=autoballoon
    )
    assert found["dom0_fixed"] is fixed
    assert (found["total_mib"], found["free_mib"], found["dom0_mib"]) == (4095, 2900, 1024)


def test_the_most_that_dom0_may_have() -> None:
    def most(line: str) -> object:
        return memory.describe(
            total_mib=4000, free_mib=1, domains=[DOM0], running=line, version=(4, 20), autoballoon="off"
        )["dom0_max_mib"]

    assert [most(line) for line in ("dom0_mem=1G,max:2G", "dom0_mem=max:25%", "dom0_mem=1G", "")] == [
        2048,
        1000,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("content", "setting"),
    [(None, "auto"), (b'autoballoon="off"\n', "off"), (b"autoballoon=0\n", "off"), (b'autoballoon="1"\n', "on"),
     (b"autoballoon=perhaps\n", "auto"), (b'autoballoon="perhaps"\n', "auto")],
)  # fmt: skip
def test_autoballoon_in_all_its_spellings(content: bytes | None, setting: str) -> None:
    assert autoballoon.configured(content) == setting


@pytest.mark.parametrize(
    ("word", "content", "version", "warned"),
    [
        ("dom0_mem=1G,max:1G", None, (4, 20), False),
        ("dom0_mem=-1G,max:-1G", None, (4, 15), True),
        ("dom0_mem=-1G,max:-1G", None, (4, 16), False),
        ("dom0_mem=-1G,max:-1G", b'autoballoon="off"\n', (4, 15), False),
        ("dom0_mem=1G,max:1G", b'autoballoon="on"\n', (4, 20), True),
    ],
)
def test_what_xl_would_take_from_dom0_is_said(
    word: str, content: bytes | None, version: tuple[int, int], warned: bool
) -> None:
    assert bool(autoballoon_warnings(word, content, version)) == warned
