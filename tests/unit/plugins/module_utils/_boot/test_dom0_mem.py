# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot import dom0_mem, dom0_mem_checks
from ansible_collections.xen.stubdom.plugins.module_utils._boot.dom0_mem import MIB
from ansible_collections.xen.stubdom.plugins.module_utils._boot.host_facts import HostFacts
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from hypothesis import given
from hypothesis import strategies as st

HOST = HostFacts(memory=4096 * MIB, version=(4, 17))


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        ("1G", "1G"),
        ("1024m", "1G"),
        ("1048576", "1G"),
        ("0x100M", "256M"),
        ("010M", "8M"),
        ("1T", "1024G"),
        ("4096b", "4K"),
        ("-1G", "-1G"),
        ("5%", "5%"),
        ("-10%", "-10%"),
        ("1G+5%", "1G+5%"),
        ("-1G+5%", "-1G+5%"),
        ("max:2G,min:1G,1536M", "1536M,min:1G,max:2G"),
        ("1G,2G", "2G"),
        ("max:1G", "max:1G"),
    ],
)
def test_canonical_form(value: str, canonical: str) -> None:
    assert str(dom0_mem.parse(value)) == canonical
    assert dom0_mem.parse(canonical) == dom0_mem.parse(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "1.5G",
        "1 G",
        "1GB",
        "lots",
        "max:",
        "min",
        "1G,",
        "100%",
        "5%+1G",
        "1G+",
        "08M",
        "--1G",
        "1G\n",
        "0x",
        "٣G",
        "MAX:1G",
        "Min:1G",
    ],
)
def test_what_xen_does_not_understand_is_refused(value: str) -> None:
    with pytest.raises(UserError):
        dom0_mem.parse(value)


@pytest.mark.parametrize("value", ["min:1G", "1G,max:1G", "-1G", "5%"])
def test_arm_knows_a_plain_size_only(value: str) -> None:
    assert str(dom0_mem.parse("1G", arm=True)) == "1G"
    with pytest.raises(UserError, match="Arm"):
        dom0_mem.parse(value, arm=True)


def test_of_several_options_the_last_value_of_each_kind_counts() -> None:
    assert str(dom0_mem.merge(["1G,max:1G", "2G"])) == "2G,max:1G"
    assert dom0_mem.same(["1G,max:1G"], ["1024M", "max:1024M"])
    assert not dom0_mem.same(["1G,max:1G"], ["1G"])
    assert dom0_mem.same([], [])
    assert not dom0_mem.same([], ["nonsense"])


@pytest.mark.parametrize(
    ("size", "minimum", "maximum", "expected"),
    [
        ("1G", None, None, "1G,max:1G"),
        ("1G", None, "2G", "1G,max:2G"),
        ("10%", "512M", "2G", "10%,min:512M,max:2G"),
    ],
)
def test_typed_parameters(size: str, minimum: str, maximum: str, expected: str) -> None:
    assert str(dom0_mem_checks.from_parameters(size, minimum, maximum, arm=False)) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("1024", None, None), "1024 KiB"),
        (("1G", "1", None), "no unit"),
        (("ten", None, None), "not an amount"),
    ],
)
def test_typed_parameters_need_a_unit(arguments: tuple, message: str) -> None:
    with pytest.raises(UserError, match=message):
        dom0_mem_checks.from_parameters(*arguments, arm=False)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("8G,max:8G", "the host has 4096 MiB"),
        ("1G,max:8G", "the host has 4096 MiB"),
        ("1G,min:3G,max:2G", "min 3G is above the max 2G"),
        ("2G,max:1G", "size 2G is above the max 1G"),
        ("1G,min:2G,max:3G", "min 2G is above the size 1G"),
        ("-8G", "comes to"),
        ("0M", "0 MiB"),
    ],
)
def test_a_value_that_the_host_cannot_give_is_refused(value: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        dom0_mem_checks.validate(dom0_mem.parse(value), HOST)


def test_percentages_need_a_release_that_knows_them() -> None:
    with pytest.raises(UserError, match="does not support"):
        dom0_mem_checks.validate(dom0_mem.parse("5%"), HostFacts(memory=4096 * MIB, version=(4, 11)))


@pytest.mark.parametrize(
    ("value", "warnings"),
    [
        ("1G,max:1G", []),
        ("1G", ["no max"]),
        ("1048576,max:1G", ["no unit"]),
        ("48M,max:48M", ["size 48M is less", "max 48M is less"]),
        ("1G,max:1073741825B", ["max 1073741825B is not a multiple"]),
        ("min:1G", ["no size", "no max"]),
        ("max:1G", []),
        ("4000M,max:4000M", ["size 4000M leaves less than the 128 MiB"]),
    ],
)
def test_surprises_are_named(value: str, warnings: list) -> None:
    found = dom0_mem_checks.validate(dom0_mem.parse(value), HOST)
    assert len(found) == len(warnings)
    assert all(part in warning for part, warning in zip(warnings, found))


def test_too_small_for_dom0() -> None:
    dom0_mem_checks.require_smallest(dom0_mem.parse("128M,max:128M"), HOST)
    with pytest.raises(UserError, match="127M is less"):
        dom0_mem_checks.require_smallest(dom0_mem.parse("127M"), HOST)


AMOUNTS = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "-"]),
    st.integers(min_value=0, max_value=1 << 20),
    st.sampled_from(["", "B", "k", "M", "g", "T", "%"]),
).filter(lambda text: not text.endswith("%") or int(text.strip("-%")) < 100)


@given(AMOUNTS, AMOUNTS, AMOUNTS)
def test_the_canonical_form_means_the_same(size: str, minimum: str, maximum: str) -> None:
    value = dom0_mem.parse(f"{size},max:{maximum},min:{minimum}")
    assert dom0_mem.parse(str(value)) == value
    assert str(dom0_mem.parse(str(value))) == str(value)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        dom0_mem_checks.validate(dom0_mem.parse(text), HOST)
    except UserError as error:
        assert len(str(error).splitlines()) >= 2


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("10%+1G", "1G+10%"),
        ("-10%+512M", "-512M+10%"),
        ("4GB", "4G"),
        ("4 GB", "4G"),
        ("4GiB", "4G"),
        ("4 G", "4G"),
        ("1.5G", "1536M"),
        ("1.5 GiB", "1536M"),
        ("0.25g", "256M"),
        ("1.5", "1536M"),
        ("lots", "1536M"),
    ],
)
def test_what_people_write_is_answered_with_what_xen_reads(text: str, advice: str) -> None:
    with pytest.raises(UserError, match="is not an amount of memory") as refused:
        dom0_mem.parse_amount(text)
    assert advice in refused.value.remedy
    if advice != "1536M":
        dom0_mem.parse_amount(advice)
