# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is recorded of a configuration, and what is found of it again."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._guests import record
from hypothesis import given
from hypothesis import strategies as st

DISK = "format=raw,vdev=xvda,access=rw,target=/srv/a,b.img"
CD = "format=raw,vdev=hdc,access=ro,devtype=cdrom,target=/srv/a.iso"
SETTINGS: dict[str, Any] = {
    "name": "web",
    "memory": 256,
    "vncpasswd": "s3cret",
    "disk": [DISK, CD],
    "vif": ["mac=00:16:3e:00:00:01,bridge=lan", "bridge=wan,devid=7"],
}

VALUES = st.one_of(st.integers(), st.booleans(), st.text(max_size=9), st.lists(st.text(max_size=9), max_size=3))
KEYS = st.sampled_from(["name", "memory", "vif", "disk", "extra", "boot", "cpus"])


def test_a_record_is_read_as_it_was_written() -> None:
    made = record.of(SETTINGS)
    assert record.read(made.text) == made
    assert set(made.nics) == {"0", "7"} and set(made.disks) == {"xvda", "hdc"} and set(made.media) == {"hdc"}
    assert "s3cret" not in made.text and len(made.text) < 1000


@given(st.dictionaries(KEYS, VALUES, max_size=7), st.dictionaries(KEYS, VALUES, max_size=7))
def test_exactly_the_keys_differ_whose_values_do(old: dict[str, Any], new: dict[str, Any]) -> None:
    # No configuration is empty.
    old, new = {**old, "kernel": "/boot"}, {**new, "kernel": "/boot"}
    plain = [
        {key: int(value) if isinstance(value, bool) else value for key, value in one.items()} for one in (old, new)
    ]
    expected = sorted(key for key in {*old, *new} if key not in old or key not in new or plain[0][key] != plain[1][key])
    recorded = record.of(old)
    assert record.differing(recorded.text, new) == expected
    for key in expected:
        recorded = record.changed(recorded, new, key, {})
    # Who has made every change has what is asked for, in whatever order.
    assert record.differing(recorded.text, new) == []


@pytest.mark.parametrize(("count", "known"), [(20, ["k1"]), (250, [record.UNKNOWN])])
def test_of_a_very_large_configuration_only_whether_it_differs(count: int, known: list[str]) -> None:
    many: dict[str, Any] = {f"k{number}": number for number in range(count)}
    text = record.of(many).text
    assert len(text) <= 3000
    assert record.differing(text, many) == []
    assert record.differing(text, {**many, "k1": 0}) == known


def test_what_lies_in_a_drive_is_recorded_apart_from_the_drive() -> None:
    made = record.of(SETTINGS)
    other = record.of({**SETTINGS, "disk": [DISK, CD.replace("a.iso", "b.iso")]})
    assert other.disks == made.disks and other.media != made.media
    for disk in (DISK.replace("a,b", "c"), DISK.replace("xvda", "xvdb")):
        assert record.of({**SETTINGS, "disk": [disk, CD]}).disks != made.disks
    assert record.of({"disk": ["/srv/a.iso,hdc:cdrom,r", "format=raw,vdev=x y,target=/a"]}).disks == {}
