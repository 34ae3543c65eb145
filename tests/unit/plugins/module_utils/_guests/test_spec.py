# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of a guest's parameters: what each becomes in xl.cfg, and for which guests it is refused."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import plan, reading, spec
from ansible_collections.xen.stubdom.plugins.module_utils._guests.model import Host
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg

KINDS = {
    "pv": {"type": "pv", "flavour": "grub2"},
    "pvh": {"type": "pvh", "flavour": "grub2"},
    "legacy": {"type": "pv", "flavour": "legacy", "menu": "(hd0)/menu.lst", "disks": [{"target": "/srv/a.img"}]},
    "linux": {"type": "hvm", "flavour": "linux"},
    "minios": {"type": "hvm", "flavour": "minios"},
    "dom0": {"type": "hvm", "flavour": "dom0", "allow_weaker_isolation": True},
    "pygrub": {
        "type": "pv",
        "flavour": "dom0",
        "allow_weaker_isolation": True,
        "options": {"bootloader": "pygrub"},
    },
}
ALL = tuple(KINDS)
HVM = ("linux", "minios", "dom0")


def host(minor: int) -> Host:
    return Host(version=(4, minor), firmware_directory="/usr/lib/xen/boot")


def planned(kind: str, minor: int = 17, **more: Any) -> dict[str, Any]:
    return dict(plan.plan(spec.filled({"name": "web", "memory": 64, **KINDS[kind], **more}), host(minor)).keys)


# The parameter, a value, the line of xl.cfg, and the kinds of guests that have it.
@pytest.mark.parametrize(
    ("name", "value", "line", "kinds"),
    [
        ("memory", 65, "memory = 65", ALL),
        ("maxmem", 128, "maxmem = 128", ALL),
        ("vcpus", 2, "vcpus = 2", ALL),
        ("maxvcpus", 4, "maxvcpus = 4", ALL),
        ("cpu_weight", 512, "cpu_weight = 512", ALL),
        ("cap", 50, "cap = 50", ALL),
        ("cpus", "2-3,^0", 'cpus = "2-3,^0"', ALL),
        ("cpus_soft", "node:0", 'cpus_soft = "node:0"', ALL),
        ("pool", "fast", 'pool = "fast"', ALL),
        ("seclabel", "system_u:system_r:domU_t", 'seclabel = "system_u:system_r:domU_t"', ALL),
        ("localtime", True, "localtime = 1", ALL),
        ("rtc_timeoffset", 3600, "rtc_timeoffset = 3600", ALL),
        ("on_poweroff", "preserve", 'on_poweroff = "preserve"', ALL),
        (
            "cmdline",
            "xen_grub_env_linux_append=quiet",
            'extra = "xen_grub_env_linux_append=quiet"',
            ("pv", "pvh", "pygrub"),
        ),
        ("ramdisk", "/srv/initrd", 'ramdisk = "/srv/initrd"', ("pv", "pvh", "pygrub")),
        ("vga", "stdvga", 'vga = "stdvga"', HVM),
        ("videoram", 32, "videoram = 32", HVM),
        ("hpet", False, "hpet = 0", HVM),
        ("hpet", True, "hpet = 1", HVM),
        ("viridian", ["defaults"], 'viridian = [ "defaults" ]', HVM),
        ("boot", "cd", 'boot = "cd"', HVM),
        ("stubdomain_memory", 200, "stubdomain_memory = 200", ("linux", "minios")),
        ("stubdomain_cmdline", "quiet", 'stubdomain_cmdline = "quiet"', ("linux",)),
        ("vnc", True, "vnc = 1", ("minios", "dom0")),
        ("smbios_firmware", "/srv/smbios", 'smbios_firmware = "/srv/smbios"', HVM),
        ("tsc_mode", "native", 'tsc_mode = "native"', ALL),
        ("timer_mode", "one_missed_tick_pending", 'timer_mode = "one_missed_tick_pending"', ("pvh", *HVM)),
    ],
)
def test_a_parameter_in_the_words_of_xl(name: str, value: Any, line: str, kinds: tuple[str, ...]) -> None:
    for kind in ALL:
        if kind in kinds:
            assert line in xl_cfg.emit(planned(kind, **{name: value})).decode().splitlines()
        elif value is not False:
            with pytest.raises(UserError, match=f"^{name} is not supported with (type|flavour) .*: ") as refused:
                planned(kind, **{name: value})
            assert refused.value.remedy == f"Leave out {name}."


# xl's parser of each release (_xen/xl_keys.py).
@pytest.mark.parametrize(
    ("name", "value", "first", "kind"),
    [
        ("smbios", ["oem=A"], 18, "dom0"),
        ("smbios_firmware", "/srv/smbios", 3, "dom0"),
        ("vga", "qxl", 6, "dom0"),
        ("viridian", ["synic"], 13, "dom0"),
        ("timer_mode", "no_missed_ticks_pending", 2, "dom0"),
        ("tsc_mode", "native", 2, "dom0"),
        ("tsc_mode", "native", 2, "pv"),
        ("firmware", "bios", 2, "dom0"),
        ("firmware", "uefi", 2, "dom0"),
        ("cpus_soft", "0", 5, "pv"),
        ("nics", [{"devid": 1}], 9, "pv"),
        ("on_crash", "soft-reset", 7, "pv"),
        ("nics", [{"mtu": 9000}], 15, "pv"),
        ("nics", [{"trusted": False}], 17, "pv"),
        ("disks", [{"target": "/srv/a", "discard": True}], 5, "pv"),
        ("disks", [{"target": "/srv/a", "backend": "storage"}], 3, "pv"),
    ],
)
def test_a_parameter_is_refused_before_the_release_that_brought_it(
    name: str, value: Any, first: int, kind: str
) -> None:
    for minor in range(first, 23):
        planned(kind, minor, **{name: value})
    if first == 2:
        return
    with pytest.raises(UserError, match="did not come before|does not|came with") as refused:
        planned(kind, first - 1, **{name: value})
    assert f"4.{first}" in str(refused.value)


@pytest.mark.parametrize("minor", range(2, 23))
def test_what_is_always_written_is_read_by_every_release(minor: int) -> None:
    guest = {
        "disks": [{"target": "/srv/a.img"}],
        "nics": [{"bridge": "xenbr0", "mac": "00:16:3e:00:00:01"}],
        "vcpus": 2,
    }
    for kind in ALL:
        fits = {"pvh": minor >= 10, "linux": minor >= 14, "minios": minor <= 20}.get(kind, True)
        if fits:
            assert planned(kind, minor, **guest)["vcpus"] == 2


@pytest.mark.parametrize(("value", "words"), [(1, ["defaults"]), ("1", ["defaults"]), (0, None), (["base"], ["base"])])
def test_what_may_be_a_switch_in_a_file_is_read_as_the_words_that_it_stands_for(value: Any, words: Any) -> None:
    found = reading.read({"name": "web", "type": "hvm", "viridian": value, "localtime": value == 1}, host(20))
    assert found.parameters.get("viridian") == words and found.parameters["localtime"] is (value == 1)


def test_what_nobody_gives_is_the_default() -> None:
    values = spec.filled({"name": "web", "disks": [{"target": "/srv/a.img"}]})
    assert (values["state"], values["vcpus"], values["timeout"], values["nics"]) == ("present", 1, 120, [])
    assert values["disks"][0]["format"] == "raw" and values["disks"][0]["vdev"] is None
    assert spec.filled({"name": "web", "vcpus": None})["vcpus"] == 1


def test_the_argument_spec_has_no_defaults_which_others_may_give() -> None:
    def options(found: dict[str, Any]) -> Any:
        for option in found.values():
            yield option
            yield from options(option.get("options", {}))

    found = list(options(spec.argument_spec()))
    assert len(found) > 70 and all("default" not in option for option in found)
