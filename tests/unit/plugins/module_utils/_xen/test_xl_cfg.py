# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg
from hypothesis import given
from hypothesis import strategies as st

PATH = "/etc/xen/xl.conf"

EVERY_FORM = rb"""# a guest
name = 'web'; memory = 0x100
extra = "say \"hello\" C:\\dir"
disk = [
    "format=raw, vdev=xvda, target=/srv/a,b.img", # the root
    'vdev=xvdb',
]
vcpus="2"
vnuma = [ [ "pnode=0", "size=128" ], [ ] ]
extra += " more"
disk += [ "vdev=xvdc" ]
"""


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
        (b'x=1\nautoballoon="off"\n# end\n', {"autoballoon": None}, b"x=1\n# end\n"),
        (b'x=1; autoballoon="on"; y=2\n', {"autoballoon": None}, b"x=1; ; y=2\n"),
        (b'x=1\n autoballoon="on"; # why\n', {"autoballoon": None}, b"x=1\n ; # why\n"),
        (b'x=1\n; autoballoon="on" ;', {"autoballoon": None}, b"x=1\n"),
        (b"l = [ 'a',\n 'b' ]\n", {"l": ["c"]}, b'l = [ "c" ]\n'),
        (b"x=1", {"y": 2}, b"x=1\ny=2\n"),
    ],
)
def test_only_the_key_changes(before: bytes, wanted: dict, after: bytes) -> None:
    assert xl_cfg.put(PATH, before, wanted) == after
    assert xl_cfg.put(PATH, after, wanted) == after


@pytest.mark.parametrize(
    "text",
    [
        b"x=1\nfoo bar\n",
        b'x="open\n',
        b"x=\n",
        b"x=[1\n",
        b"x=1 y=2\n",
        b"\0",
        b"x=yes\n",
        b"X=1\n",
        b"x=1\r\n",
        b"x=[,]",
        b"x=[1 2]",
        b'x="\\x41"\n',
        b"x=1]",
        b"x=1\nx+=[2]\n",
    ],
)
def test_what_xl_does_not_read_is_refused(text: bytes) -> None:
    with pytest.raises(UserError, match=r"xl\.conf line [12]"):
        xl_cfg.read(PATH, text)


@pytest.mark.parametrize("value", [-1, None, 1.5, "a\nb", {"a": 1}])
def test_values_that_xl_cannot_hold_are_refused(value: object) -> None:
    with pytest.raises(UserError):
        xl_cfg.render(value)  # type: ignore[arg-type]


def test_every_form_of_a_value_is_read() -> None:
    assert xl_cfg.read("web.cfg", EVERY_FORM) == {
        "name": "web",
        "memory": 256,
        "extra": 'say "hello" C:\\dir more',
        "disk": ["format=raw, vdev=xvda, target=/srv/a,b.img", "vdev=xvdb", "vdev=xvdc"],
        "vcpus": "2",
        "vnuma": [["pnode=0", "size=128"], []],
    }


def test_a_whole_file_is_written() -> None:
    wanted: dict[str, xl_cfg.Value] = {"name": "web", "memory": 256, "vif": ["bridge=xenbr0"], "disk": ["a", 'b"']}
    assert xl_cfg.emit(wanted, header=["Written by a test."]) == (
        b'# Written by a test.\nname = "web"\nmemory = 256\nvif = [ "bridge=xenbr0" ]\n'
        b'disk = [\n    "a",\n    "b\\"",\n]\n'
    )


def test_an_addition_counts_as_a_part_of_what_is_replaced() -> None:
    assert xl_cfg.put("a.cfg", b'l = [ "a" ]\nl += [ "b" ]\nm = 1\n', {"l": ["c"]}) == b'l = [ "c" ]\nm = 1\n'


@pytest.mark.parametrize("key", ["Autoballoon", "9p", "a b", "", "a\n"])
def test_keys_that_xl_cannot_read_are_refused(key: str) -> None:
    with pytest.raises(UserError, match="is no name of a setting"):
        xl_cfg.emit({key: 1})


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126))
VALUES = st.recursive(TEXT | st.integers(0, 2**40), lambda inner: st.lists(inner, max_size=3), max_leaves=8)


@given(st.dictionaries(st.from_regex(xl_cfg.KEY, fullmatch=True), VALUES, max_size=5))
def test_what_is_written_is_read_back(wanted: dict[str, xl_cfg.Value]) -> None:
    assert xl_cfg.read("a.cfg", xl_cfg.emit(wanted)) == wanted


@given(st.binary())
def test_any_bytes_are_edited_or_refused(content: bytes) -> None:
    try:
        after = xl_cfg.put(PATH, content, {"autoballoon": "off"})
    except UserError:
        return
    assert xl_cfg.texts(PATH, after)["autoballoon"] in ('"off"', "'off'")
    assert xl_cfg.put(PATH, after, {"autoballoon": "off"}) == after
