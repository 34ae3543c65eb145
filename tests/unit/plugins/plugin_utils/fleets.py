# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Made-up fleets, in the form in which xen_info describes a host.

python tests/unit/plugins/plugin_utils/fleets.py 100 100 > answers.json
"""

from __future__ import annotations

import json
import sys
from typing import Any, Dict, Iterator, List, Mapping, Optional

HOSTILE = "<script>alert(1)</script> & \"x\" 'y' </title> {{ 7 * 7 }} \x1b[31m \u202e-->"


def host(**other: Any) -> Dict[str, Any]:
    """A host without any trouble, but for what is given."""
    fine: Dict[str, Any] = {
        "running": True,
        "hypervisor": {
            "version": "4.20.2",
            "major": 4,
            "minor": 20,
            "arch": "x86_64",
            "capabilities": [],
            "virt_caps": ["pv", "hvm", "hap"],
            "command_line": "dom0_mem=1G,max:1G",
            "xsm": "disabled",
            "updated": False,
        },
        "toolstack": {"version": "4.20"},
        "support": {"until": "2030-03-05", "ended_before": None, "source": "SUPPORT.md of Xen 4.20"},
        "boot_line": {
            "loader": "grub2",
            "configured": "dom0_mem=1G,max:1G",
            "effective": "dom0_mem=1G,max:1G",
            "running": "dom0_mem=1G,max:1G",
            "boots_xen": True,
            "waits_because": "",
            "reboot_required": False,
            "reboot_reason": "The hypervisor runs with the options that the next boot passes.",
        },
        "memory": {
            "total_mib": 65536,
            "free_mib": 8192,
            "dom0_mib": 1024,
            "dom0_max_mib": 1024,
            "dom0_fixed": True,
            "autoballoon": "off",
        },
        "firmware_directory": "/usr/lib/xen-4.20/boot",
        "images": [],
        "helpers": [],
        "guests": [],
        "configurations": [],
    }
    return {**fine, **other}


def hypervisor(**other: Any) -> Dict[str, Any]:
    return {**host()["hypervisor"], **other}


def boot_line(**other: Any) -> Dict[str, Any]:
    return {**host()["boot_line"], **other}


def image(**other: Any) -> Dict[str, Any]:
    fine = {"name": "linux", "path": "/usr/lib/xen-4.20/boot/qemu-stubdom-linux-kernel", "size": 30_000_000}
    return {**fine, "outdated": [], "manifest": None, "manifest_error": None, **other}


def domain(name: str, domid: int, **other: Any) -> Dict[str, Any]:
    """A PV guest without any trouble, but for what is given."""
    fine: Dict[str, Any] = {
        "name": name,
        "domid": domid,
        "memory_mib": 512,
        "vcpus": 1,
        "state": "blocked",
        "uuid": f"00000000-0000-0000-0000-{domid:012}",
        "device_model": None,
        "stub_domain_of": None,
        "type": "pv",
        "config": f"/etc/xen/{name}.cfg",
        "boot": "pvgrub_grub2",
        "started": "2026-01-01T12:00:00Z",
        "restart_required": [],
        "image": None,
        "autostart": 1,
        "screens": [],
        "cannot_save": None,
    }
    return {**fine, **other}


def emulated(name: str, domid: int, place: str = "stub_domain", **other: Any) -> Dict[str, Any]:
    """An HVM guest."""
    own = place == "stub_domain"
    model = {
        "version": "qemu-xen",
        "domid": domid + 1 if own else 0,
        "state": "running",
        "stub_domain": own,
        "place": place,
        "flavour": "linux" if own else None,
    }
    return domain(name, domid, **{"type": "hvm", "boot": "firmware", "device_model": model, **other})


def stub(of: Mapping[str, Any]) -> Dict[str, Any]:
    """The stub domain of a guest."""
    name, domid = f"{of['name']}-dm", of["domid"] + 1
    return domain(name, domid, stub_domain_of=of["name"], memory_mib=136, config=None, autostart=None, boot="kernel")


def configuration(name: str, **other: Any) -> Dict[str, Any]:
    fine: Dict[str, Any] = {"name": name, "path": f"/etc/xen/{name}.cfg", "type": "pv", "memory_mib": 512, "vcpus": 1}
    fine.update(boot="pvgrub_grub2", device_model="none", flavour=None, autostart=None, screens=[], cannot_save=None)
    return {**fine, **other}


def screen(**other: Any) -> Dict[str, Any]:
    return {"kind": "vnc", "listen": "0.0.0.0", "port": 5900, "password": False, **other}


def troubled() -> Dict[str, Any]:
    """A fleet with every kind of trouble: the host, or the guest on the host `guests`, is called as its trouble."""
    lost = emulated("device_model_lost", 14)
    lost["device_model"]["state"] = None
    old = {"path": "/usr/lib/xen-4.20/boot/pv-grub-x86_64.gz", "written": "2026-01-02T00:00:00Z", "outdated": True}
    guests = [
        domain("runs_twice", 10),
        domain("crashed", 12, state="crashed"),
        lost,
        stub(lost),
        emulated("screen_open", 16, screens=[screen(), screen(listen="127.0.0.1")]),
        emulated("device_model_root_in_dom0", 18, "dom0_root"),
        domain("pygrub", 20, boot="pygrub"),
        domain("restart_required", 22, restart_required=["memory", "vcpus"]),
        domain("old_image_in_use", 24, image=old),
        emulated("old_device_model", 38, image={**old, "path": "/usr/lib/xen-4.20/boot/qemu-stubdom-linux-kernel"}),
        domain("no_configuration", 26, config=None, autostart=None),
        emulated("screen_exposed", 28, screens=[screen(password=True)]),
        emulated("device_model_in_dom0", 30, "dom0_user"),
        domain("kernel_in_dom0", 32, boot="kernel"),
        domain("not_autostarted", 34, autostart=None),
        domain("paused", 36, state="paused"),
    ]
    part = {"name": "qemu-system-xen", "made_of": "1:10.0.2", "installed": "1:10.0.3"}
    return {
        "unreachable": {"unreachable": True, "msg": "Failed to connect to the host via ssh: No route to host"},
        "xen_not_running": host(
            running=False,
            hypervisor=hypervisor(version=None, major=None, minor=None, updated=None),
            support={"until": None, "ended_before": None, "source": None},
            memory={**dict.fromkeys(host()["memory"]), "dom0_fixed": False, "autoballoon": "auto"},
        ),
        "next_boot_without_xen": host(boot_line=boot_line(boots_xen=False, effective=None)),
        "waits_at_its_menu": host(boot_line=boot_line(waits_because="GRUB waits at its menu.")),
        "unfixed_dom0_memory": host(memory={**host()["memory"], "dom0_fixed": False}),
        "release_unsupported": host(
            hypervisor=hypervisor(version="4.14.5", minor=14),
            support={"until": None, "ended_before": "2026-08-01", "source": "SUPPORT.md of Xen's stable branches"},
        ),
        "next_boot_differs": host(boot_line=boot_line(reboot_required=True, reboot_reason="It will get loglvl=all.")),
        "hypervisor_updated": host(hypervisor=hypervisor(updated=True)),
        "image_altered": host(images=[image(altered=["/usr/lib/xen-4.20/boot/qemu-stubdom-linux-rootfs"])]),
        "image_outdated": host(images=[image(outdated=[part])]),
        "manifest_damaged": host(images=[image(outdated=None, manifest_error="it is not JSON")]),
        "support_ends": host(support={"until": "2027-03-01", "ended_before": None, "source": "SUPPORT.md of Xen 4.17"}),
        "guests": host(guests=guests, configurations=[configuration("stopped")]),
        "twin": host(guests=[domain("runs_twice", 10)]),
        "fine": host(guests=[domain("fine", 40)], configurations=[configuration("fine", autostart=1)]),
    }


def large(hosts: int, guests: int) -> Dict[str, Any]:
    """Many hosts with many guests, every fourth of them an HVM guest and some with a trouble."""
    return {f"host{number:03}": _filled(number, guests) for number in range(hosts)}


def _filled(number: int, count: int) -> Dict[str, Any]:
    found: List[Dict[str, Any]] = []
    for index in range(count):
        found += list(_one(f"guest-{number:03}-{index:03}", 1 + 2 * index, number + index))
    for guest in found:
        guest["uuid"] = f"{number:08}-0000-0000-0000-{guest['domid']:012}"
    return host(guests=found, configurations=[configuration(f"stopped-{number:03}")])


def _one(name: str, domid: int, seed: int) -> Iterator[Dict[str, Any]]:
    if seed % 4:
        boot: Optional[str] = ("pygrub" if seed % 9 == 0 else "pvgrub_grub2") if seed % 7 else "kernel"
        yield domain(name, domid, boot=boot, restart_required=["memory"] if seed % 13 == 0 else [])
        return
    guest = emulated(
        name, domid, "dom0_root" if seed % 20 == 0 else "stub_domain", screens=[screen(listen="127.0.0.1")]
    )
    yield guest
    if guest["device_model"]["stub_domain"]:
        yield stub(guest)


if __name__ == "__main__":
    json.dump(large(int(sys.argv[1]), int(sys.argv[2])), sys.stdout)
