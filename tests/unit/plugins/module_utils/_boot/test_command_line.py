# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Optional

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line, line_edits
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("line", "value", "after"),
    [
        ("", "1G", "dom0_mem=1G"),
        ("", None, ""),
        (" ", "1G", "dom0_mem=1G  "),
        ("a  b", "1G", "a  b dom0_mem=1G"),
        ("a b ", "1G", "a b dom0_mem=1G "),
        ("a dom0_mem=2G b", "1G", "a dom0_mem=1G b"),
        ("dom0_mem=2G a dom0-mem=3G b", "1G", "a dom0_mem=1G b"),
        ("dom0_mem=2G  a", None, " a"),
        ("a dom0_mem=2G", None, "a"),
        ("a -- dom0_mem=2G", "1G", "a dom0_mem=1G -- dom0_mem=2G"),
        ("-- b", "1G", "dom0_mem=1G -- b"),
        ("xdom0_mem=2G dom0_mem", "1G", "xdom0_mem=2G dom0_mem=1G"),
        ("a no-dom0_mem b", None, "a b"),
    ],
)
def test_only_the_word_changes(line: str, value: Optional[str], after: str) -> None:
    changed = line_edits.remove(line, "dom0_mem") if value is None else line_edits.put(line, "dom0_mem", value)
    assert changed == after


@pytest.mark.parametrize(
    ("line", "option", "found"),
    [
        ("smt=0 no-smt smt xsmt smt-x", "smt", ["smt=0", "no-smt", "smt"]),
        ("a dom0-vcpus-pin", "dom0_vcpus_pin", ["dom0-vcpus-pin"]),
        ("no-smt", "no-smt", ["no-smt"]),
        ("noreboot reboot=k", "noreboot", ["noreboot"]),
    ],
)
def test_words_that_set_an_option(line: str, option: str, found: list) -> None:
    assert command_line.find(line, option) == found


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [("dom0_vcpus_pin", None, "dom0_vcpus_pin"), ("com1", "115200,8n1,0x3f8", "com1=115200,8n1,0x3f8")],
)
def test_a_word_is_made(option: str, value: Optional[str], word: str) -> None:
    assert line_edits.render(option, value) == word


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("a b", None),
        ("", None),
        ("x=1", None),
        ("--", None),
        ("-x", None),
        ("loglvl", ""),
        *[("loglvl", text) for text in ("a b", "a\n", '"', "'", "$x", "`x`", "a;b", "a#b", "a\\", "~", "é")],
    ],
)
def test_what_a_loader_would_take_for_something_else_is_refused(option: str, value: Optional[str]) -> None:
    with pytest.raises(UserError):
        line_edits.render(option, value)


WORDS = st.lists(
    st.sampled_from(
        ["a", "b=1", "dom0_mem=2G", "dom0-mem=3G", "dom0_mem", "no-smt", "--", "loglvl=all", "  ", "\t", ""]
    )
).map(" ".join)


@given(WORDS, st.sampled_from(["1G", None]))
def test_set_once_and_all_others_untouched(line: str, value: Optional[str]) -> None:
    word = "dom0_mem" if value is None else f"dom0_mem={value}"
    after = line_edits.put(line, "dom0_mem", value)
    assert command_line.find(after, "dom0_mem") == [word]
    assert line_edits.put(after, "dom0_mem", value) == after
    others = [found for found in command_line.options(line) if not command_line.sets(found, "dom0_mem")]
    assert [found for found in command_line.options(after) if found != word] == others
    assert command_line.options(line_edits.remove(after, "dom0_mem")) == others
    if not command_line.find(line, "dom0_mem"):
        assert line_edits.remove(after, "dom0_mem") == line
