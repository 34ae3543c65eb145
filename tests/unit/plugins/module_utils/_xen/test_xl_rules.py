# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which keys of xl.cfg each release reads, and which values it takes."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_devices, xl_rules
from ansible_collections.xen.stubdom.plugins.module_utils._xen.xl_keys import (
    EXACT,
    FIELDS,
    KEYS,
    NEWEST,
    OLDEST,
    WORDS,
)

# How many keys parse_config_data() of each release reads, from 4.2 on, counted by hand in 4.2 and 4.22.
COUNTS = [92, 98, 106, 114, 124, 128, 129, 131, 143, 144, 146, 149, 153, 155, 158, 158, 163, 165, 166, 171, 172]


def read_by(minor: int) -> set[str]:
    return {key for key, ways in KEYS.items() if any(first <= minor <= last for first, last, *_way in ways)}


def test_the_table_has_each_release() -> None:
    assert (OLDEST, NEWEST) == (2, 22)
    assert [len(read_by(minor)) for minor in range(OLDEST, NEWEST + 1)] == COUNTS
    assert set(KEYS) - read_by(NEWEST) == {"pvh"}


def test_the_rows_of_the_table_are_whole() -> None:
    for key, ways in KEYS.items():
        for (_first, last, *before), (first, _last, *after) in zip(ways, ways[1:]):
            assert first == last + 1 and before != after, key
        for first, last, kinds, guests in ways:
            assert OLDEST <= first <= last <= NEWEST, key
            assert set(kinds.split()) <= {"bool", "int", "natural", "string", "list"}, key
            assert guests in ("", "pv", "pvh", "hvm"), key
    assert {key.partition(".")[0] for key in WORDS} <= set(KEYS) >= set(FIELDS)
    assert set(EXACT) <= set(WORDS)


# From the parsers themselves, by hand.
@pytest.mark.parametrize(
    ("key", "first"),
    [
        ("bios_path_override", (4, 8)),
        ("bootloader_restrict", (4, 18)),
        ("bootloader_user", (4, 18)),
        ("channel", (4, 5)),
        ("cmdline", (4, 5)),
        ("device_model_user", (4, 7)),
        ("dm_restrict", (4, 10)),
        ("firmware", (4, 10)),
        ("llc_colors", (4, 20)),
        ("stubdomain_cmdline", (4, 16)),
        ("stubdomain_kernel", (4, 14)),
        ("stubdomain_memory", (4, 14)),
        ("stubdomain_ramdisk", (4, 14)),
        ("type", (4, 10)),
        ("vkb", (4, 12)),
        ("vkb_device", (4, 13)),
        ("xenstore_quota", (4, 22)),
    ],
)
def test_a_key_is_refused_before_the_release_that_brought_it(key: str, first: tuple[int, int]) -> None:
    assert xl_rules.since(key) == first
    for version in (first, None):
        xl_rules.check({key: None}, version)
    with pytest.raises(
        UserError, match=f"^xl of Xen 4.{first[1] - 1} does not know {key} and would ignore it"
    ) as refused:
        xl_rules.check({key: None}, (first[0], first[1] - 1))
    assert refused.value.remedy == f"It came with Xen 4.{first[1]}; leave it out here."


def test_a_key_that_all_releases_read_is_older_than_any() -> None:
    assert xl_rules.since("memory") == (0, 0)
    xl_rules.check({"memory": 512}, (4, 1))


# key, value, release, type of guest → what is wrong with it, None for nothing.
@pytest.mark.parametrize(
    ("keys", "minor", "guest", "message"),
    [
        ({"cpu_wieght": 512}, 20, "", "cpu_wieght is no key of xl.cfg"),
        ({"netif": "yes"}, None, "", "netif is no key of xl.cfg"),
        ({"netif": "yes"}, 22, "", "netif is no key of xl.cfg"),
        ({"zzzz": 1}, 23, "", None),
        ({"cpu_wieght": 1}, 23, "", "cpu_wieght is no key of xl.cfg"),
        ({"device_model": "/x"}, 20, "", "device_model is read by xl only to say that it is ignored"),
        ({"pvh": 1}, 4, "", None),
        ({"pvh": 1}, 9, "", "4.9 no longer knows pvh"),
        ({"pvh": 1}, 23, "", "4.23 no longer knows pvh"),
        ({"vga": "stdvga"}, 20, "hvm", None),
        ({"vga": "stdvga"}, 20, "pv", "vga means nothing to a guest of type pv: xl reads it for hvm only"),
        ({"pvshim": True}, 20, "hvm", "xl reads it for pvh only"),
        ({"acpi": 0}, 7, "pv", "xl reads it for hvm only"),
        ({"acpi": 0}, 8, "pv", None),
        # Switches and numbers.
        ({"acpi": True, "apic": 0, "hap": "1", "nx": "0x1"}, 20, "hvm", None),
        ({"acpi": "yes"}, 20, "", "acpi is 'yes', which xl ignores"),
        ({"acpi": "09"}, 20, "", "acpi is '09', which xl ignores"),
        ({"cpu_weight": "many"}, 20, "", "cpu_weight is 'many', which xl ignores"),
        ({"cap": "-1"}, 20, "", None),
        ({"max_grant_frames": "-1"}, 20, "", "xl takes no negative number"),
        # Text.
        ({"pool": 12}, 20, "", None),
        ({"pool": True}, 20, "", "pool is True, and xl takes text for it"),
        # Words.
        ({"vga": "STDVGA"}, 20, "", "vga is 'STDVGA', which xl does not know"),
        ({"vga": "qxl"}, 5, "", "4.5 does not know the word qxl for vga"),
        ({"hdtype": "ahci"}, 20, "", None),
        ({"bios": 12}, 20, "", "bios is '12', which xl does not know"),
        ({"tsc_mode": 1, "timer_mode": "1"}, 20, "", None),
        ({"tsc_mode": "natvie"}, 20, "", "tsc_mode is 'natvie', which xl does not know"),
        ({"device_model_version": "qemu-xen-traditional"}, 20, "", None),
        ({"device_model_version": "qemu-xen-traditional"}, 21, "", "4.21 no longer knows the word qemu-xen-trad"),
        ({"on_reboot": "reboot"}, 20, "", "on_reboot is 'reboot', which xl does not know"),
        ({"firmware": "/opt/OVMF.fd"}, 20, "", None),
        # Lists.
        ({"pci": "00:1b.0"}, 20, "", "pci is '00:1b.0', which xl ignores: it takes a list"),
        ({"pool": ["a"]}, 20, "", "pool is a list, which xl ignores"),
        ({"cpus": "2-3", "serial": ["pty"], "viridian": 1}, 20, "", None),
        ({"serial": ["pty"]}, 4, "", "serial is a list, which xl ignores"),
        ({"viridian": ["defaults", "!stimer"]}, 20, "", None),
        ({"viridian": ["stimer"]}, 12, "", "4.12 does not know the word stimer for viridian"),
        ({"viridian": ["!steamer"]}, 20, "", "viridian is 'steamer', which xl does not know"),
        ({"cpus": [["0", "1"]]}, 20, "", "cpus has a list in it"),
        # Fields of devices.
        ({"vif": ["mac=00:16:3e:00:00:01, bridge=xenbr0", ""]}, 20, "", None),
        ({"vif": ["brigde=xenbr0"]}, 20, "", "vif has the field brigde, which xl does not know"),
        ({"vif": ["mtu=9000"]}, 14, "", "4.14 does not know the field mtu of vif"),
        ({"vif": ["bridge=xenbr0,trusted"]}, 16, "", "4.16 does not know the field trusted of vif"),
        ({"disk": ["/dev/vg/a,raw,xvda,rw", "vdev=xvdb,discard,target=rbd:a/b:id=x,y=z"]}, 20, "", None),
        ({"disk": ["vdev=xvda,discrad=1,target=/x"]}, 20, "", "disk has the field discrad"),
        ({"disk": ["vdev=xvda,discard,target=/x"]}, 4, "", "4.4 does not know the field discard of disk"),
        ({"pci": ["0000:03:00.0@5,permissive=1"]}, 20, "", None),
        ({"pci": ["0000:03:00.0,permisive=1"]}, 20, "", "pci has the field permisive"),
        ({"vnuma": [["pnode=0", "size=512", "vcpus=0-1,3", "vdistances=10,20"]]}, 20, "", None),
        ({"vnuma": [["node=0"]]}, 20, "", "vnuma has the field node"),
        ({"smbios": ["oem=a,b=c", "bios_vendor=x"]}, 20, "", None),
        ({"smbios": ["vendor_of_bios=x"]}, 20, "", "smbios has the field vendor_of_bios"),
    ],
)  # fmt: skip
def test_a_key_and_its_value(keys: dict[str, Any], minor: int | None, guest: str, message: str | None) -> None:
    version = None if minor is None else (4, minor)
    if message is None:
        xl_rules.check(keys, version, guest=guest)
        return
    with pytest.raises(UserError) as refused:
        xl_rules.check(keys, version, guest=guest)
    assert message in str(refused.value) and refused.value.remedy.endswith(".")


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    for keys, near in (
        ({"maxvcpu": 4}, "maxvcpus"),
        ({"vif": ["brigde=x"]}, "bridge"),
        ({"vga": "x"}, "cirrus, none, qxl, stdvga"),
    ):
        with pytest.raises(UserError) as refused:
            xl_rules.check(keys, (4, 20))
        assert near in refused.value.remedy


@pytest.mark.parametrize(
    ("key", "minor", "words"),
    [
        ("vga", 5, "cirrus, none, stdvga"),
        ("vga", 6, "cirrus, none, qxl, stdvga"),
        ("device_model_version", 20, "qemu-xen, qemu-xen-traditional"),
        ("device_model_version", 21, "qemu-xen"),
    ],
)
def test_the_words_of_a_release_are_offered(key: str, minor: int, words: str) -> None:
    with pytest.raises(UserError) as refused:
        xl_rules.check({key: "x"}, (4, minor))
    assert refused.value.remedy == f"Write one of {words}."


UUID = "74d0eec1-fe6e-402b-84b5-077b0f288fe4"


@pytest.mark.parametrize(
    ("keys", "guest", "message"),
    [
        ({"uuid": UUID}, "", None),
        ({"uuid": UUID.replace("-", "")}, "", "is none that xl can read"),
        ({"vcpus": 4, "maxvcpus": "0x4"}, "", None),
        ({"vcpus": 4, "maxvcpus": "2"}, "", "above its maxvcpus of 2"),
        ({"cpu_weight": 65535, "cap": 200, "vcpus": 1, "maxvcpus": 2}, "", None),
        ({"cpu_weight": 0}, "", "cpu_weight is 0, and the hypervisor takes 1 to 65535"),
        ({"cpu_weight": "65536"}, "", "cpu_weight is 65536"),
        ({"cap": 101}, "", "cap is 101, and the hypervisor takes 0 to 100"),
        ({"cap": 201, "vcpus": 2}, "", "takes 0 to 200"),
        ({"cap": -1}, "", "cap is -1"),
        ({"boot": "cdn"}, "hvm", None),
        ({"boot": "x"}, "hvm", "boot order 'x'"),
        ({"vif": ["mac=00:16:3e:00:00:0a", "mac=00:16:3e:00:00:0b,vifname=a", "", "bridge=b"]}, "", None),
        ({"vif": ["mac=00:16:3e:00:00:0a", "mac=00:16:3E:00:00:0A"]}, "", "Two network interfaces of the guest have"),
        ({"vif": ["vifname=a", "vifname=a"]}, "", "have the vifname a"),
        ({"vif": ["devid=1", "", "devid=0"]}, "", "have the number 1"),
        ({"vif": ["devid=2", "", "devid=0"]}, "", None),
        ({"vif": ["vifname=fifteen-letters"]}, "", None),
        ({"vif": ["vifname=sixteen-letters-"]}, "", "no name that Linux takes"),
        ({"vif": ["vifname=a b"]}, "", "no name that Linux takes"),
        ({"cmdline": "quiet", "root": "xvda"}, "pv", "xl ignores root and extra beside cmdline"),
        ({"kernel": "/x", "firmware": "uefi"}, "hvm", None),
        ({"kernel": "/x", "firmware": "pvgrub64"}, "pvh", "beside a kernel"),
        ({"timer_mode": 1}, "hvm", None),
        ({"timer_mode": 1}, "pv", "not for guests of type pv"),
        ({"vnclisten": "0.0.0.0:1", "vncdisplay": 2}, "hvm", "both in vnclisten and in vncdisplay"),
        ({"vnclisten": "0.0.0.0:1"}, "hvm", None),
        ({"vnclisten": "0.0.0.0", "vncdisplay": 2}, "hvm", None),
        ({"usbversion": 2}, "hvm", None),
        ({"usbversion": 2, "usbdevice": "tablet"}, "hvm", "usbversion stands beside"),
        ({"device_model_version": "qemu-xen", "videoram": 8}, "hvm", None),
        ({"device_model_version": "qemu-xen", "videoram": 4}, "hvm", "vga cirrus needs 8 MiB"),
        ({"device_model_version": "qemu-xen", "videoram": 8, "stdvga": 1}, "hvm", "vga stdvga needs 16 MiB"),
        ({"device_model_version": "qemu-xen", "videoram": 64, "vga": "qxl"}, "hvm", "vga qxl needs 128 MiB"),
        ({"device_model_version": "qemu-xen", "videoram": 1, "vga": "none"}, "hvm", None),
        ({"pci": ["00:1b.0"], "memory": 512}, "hvm", None),
        ({"pci": ["00:1b.0"], "memory": 512, "maxmem": 512}, "hvm", None),
        ({"pci": ["00:1b.0"], "memory": 512, "maxmem": 513}, "hvm", "PCI devices and a maxmem above its memory"),
        ({"pci": ["00:1b.0"], "memory": 512, "maxmem": 513}, "pv", None),
        ({"pci": ["00:1b.0"]}, "pvh", "A PVH guest has no PCI bus"),
        ({"pci": []}, "pvh", None),
        ({"vnuma": [["pnode=0"]], "memory": 512}, "hvm", None),
        ({"vnuma": [["pnode=0"]], "memory": 512, "maxmem": 1024}, "hvm", "NUMA nodes of its own and a maxmem above"),
        ({"vnuma": [["pnode=0"]]}, "pv", "vnuma is not for guests of type pv"),
    ],
)
def test_keys_that_do_not_go_together(keys: dict[str, Any], guest: str, message: str | None) -> None:
    if message is None:
        xl_rules.check_together(keys, guest=guest)
        return
    with pytest.raises(UserError) as refused:
        xl_rules.check_together(keys, guest=guest)
    assert message in str(refused.value) and refused.value.remedy.endswith(".")


def test_the_addresses_of_a_guest() -> None:
    assert xl_devices.macs({"vif": ["bridge=x,mac=00:16:3E:00:00:0A", "bridge=y"]}) == ["00:16:3e:00:00:0a"]
    assert xl_devices.macs({}) == xl_devices.macs({"vif": "x"}) == []


@pytest.mark.parametrize(
    ("value", "number"), [("010", 8), ("0x10", 16), (" 7", 7), (7, 7), (True, 1), ("x", 5), (None, 5)]
)
def test_a_number_as_xl_reads_it(value: Any, number: int) -> None:
    assert xl_rules.integer(value, 5) == number
