# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot import grub_menu
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from hypothesis import given
from hypothesis import strategies as st


def test_words_and_where_commands_begin() -> None:
    words = list(grub_menu.words("""menuentry 'it'"'"'s {' "a > \\"b" ${c}d { e\\ f; if g # h\nthen i; fi }\n"""))
    assert [(word.text, word.first) for word in words] == [
        ("menuentry", True), ("it's {", False), ('a > "b', False), ("${c}d", False), ("{", False),
        ("e f", True), ("if", True), ("g", True), ("then", True), ("i", True), ("fi", True), ("}", True),
    ]  # fmt: skip
    assert [word.text for word in words if word.brace] == ["{", "}"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\necho 'a\n", "line 3 has a ' that is not closed"),
        ('echo "a\n', 'line 1 has a " that is not closed'),
        ("echo ${a\n", "line 1 has a { that is not closed"),
    ],
)
def test_what_is_not_understood_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(grub_menu.words(text))


@given(st.text(alphabet="menuentry '\"{}\\$#;\n>a-", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        words = list(grub_menu.words(text))
    except UserError:
        return
    ends = [0, *(place for word in words for place in (word.start, word.end))]
    assert ends == sorted(ends)
    assert all(word.text in "{}" for word in words if word.brace)


def test_the_environment_block() -> None:
    block = b"# GRUB Environment Block\nsaved_entry=a\\\\b=c\nnext_entry=\n" + b"#" * 900
    assert grub_menu.environment(block) == {"saved_entry": "a\\b=c", "next_entry": ""}
    assert grub_menu.environment(None) == {}
    # What somebody has written there without grub-editenv.
    assert grub_menu.environment(b"saved_entry=a\n") == {}
