# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Optional

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils import _boot_line
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("line", "value", "after"),
    [
        ("", "1G", "dom0_mem=1G"),
        ("", None, ""),
        ("a  b", "1G", "a  b dom0_mem=1G"),
        ("a dom0_mem=2G b", "1G", "a dom0_mem=1G b"),
        ("dom0_mem=2G a dom0-mem=3G b", "1G", "a dom0_mem=1G b"),
        ("dom0_mem=2G  a", None, " a"),
        ("a dom0_mem=2G", None, "a"),
        ("a -- dom0_mem=2G", "1G", "a dom0_mem=1G -- dom0_mem=2G"),
        ("xdom0_mem=2G dom0_mem", "1G", "xdom0_mem=2G dom0_mem dom0_mem=1G"),
    ],
)
def test_only_the_word_changes(line: str, value: Optional[str], after: str) -> None:
    changed = _boot_line.remove(line, "dom0_mem") if value is None else _boot_line.put(line, "dom0_mem", value)
    assert changed == after


WORDS = st.lists(st.sampled_from(["a", "b=1", "dom0_mem=2G", "dom0-mem=3G", "--", "loglvl=all", "  "])).map(" ".join)


@given(WORDS)
def test_set_once_and_all_others_untouched(line: str) -> None:
    after = _boot_line.put(line, "dom0_mem", "1G")
    assert _boot_line.values(after, "dom0_mem") == ["1G"]
    assert _boot_line.put(after, "dom0_mem", "1G") == after
    others = [word for word in _boot_line.words(line) if not _boot_line.names(word, "dom0_mem")]
    assert [word for word in _boot_line.words(after) if word != "dom0_mem=1G"] == others
    assert _boot_line.words(_boot_line.remove(after, "dom0_mem")) == others
