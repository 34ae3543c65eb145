# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils import _xl_conf
from ansible_collections.xen.stubdom.plugins.module_utils._errors import Refusal
from hypothesis import given
from hypothesis import strategies as st

PATH = "/etc/xen/xl.conf"


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        (None, {"autoballoon": "off"}, b'autoballoon="off"\n'),
        (None, {"autoballoon": None}, None),
        (b'#autoballoon="auto"\n\n# x\n', {"autoballoon": "off"}, b'#autoballoon="auto"\nautoballoon="off"\n\n# x\n'),
        (b'a=1\n autoballoon = "on" # why\nb=2\n', {"autoballoon": "off"}, b'a=1\n autoballoon = "off" # why\nb=2\n'),
        (b"autoballoon='off'", {"autoballoon": "off"}, b"autoballoon='off'"),
        (b'x="1"\nautoballoon="on"\nautoballoon="auto"\n', {"autoballoon": "off"}, b'x="1"\nautoballoon="off"\n'),
        (b'x=1; autoballoon="on"; y=2\n', {"autoballoon": "off"}, b'x=1; autoballoon="off"; y=2\n'),
        (b'x=1\nautoballoon="off"\n# end', {"autoballoon": None}, b"x=1\n# end"),
        (b"l = [ 'a',\n 'b' ]\n", {"l": ["c"]}, b'l = [ "c" ]\n'),
        (b"x=1", {"y": 2}, b"x=1\ny=2\n"),
    ],
)
def test_only_the_key_changes(before: bytes, wanted: dict, after: bytes) -> None:
    assert _xl_conf.put(PATH, before, wanted) == after
    assert _xl_conf.put(PATH, after, wanted) == after


@pytest.mark.parametrize("text", [b"x=1\nfoo bar\n", b'x="open\n', b"x=\n", b"x=[1\n", b"x=1 y=2\n", b"\0", b"x=yes\n"])
def test_what_xl_does_not_read_is_refused(text: bytes) -> None:
    with pytest.raises(Refusal, match=r"xl\.conf line [12]"):
        _xl_conf.put(PATH, text, {"autoballoon": "off"})


@pytest.mark.parametrize("value", [-1, None, 1.5, "a\nb", {"a": 1}])
def test_values_that_xl_cannot_hold_are_refused(value: object) -> None:
    with pytest.raises(Refusal):
        _xl_conf.render(value)  # type: ignore[arg-type]


@given(st.binary())
def test_any_bytes_are_edited_or_refused(content: bytes) -> None:
    try:
        after = _xl_conf.put(PATH, content, {"autoballoon": "off"})
    except Refusal:
        return
    assert _xl_conf.values(PATH, after)["autoballoon"] in ('"off"', "'off'")
    assert _xl_conf.put(PATH, after, {"autoballoon": "off"}) == after
