# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From xl.cfg back to a guest's parameters: the inverse of writing it, and what others write."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import disks, plan, reading, spec
from ansible_collections.xen.stubdom.plugins.module_utils._guests.model import Host
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg, xl_keys
from hypothesis import given, settings
from hypothesis import strategies as st

HOST = Host(
    version=(4, 20),
    firmware_directory="/usr/lib/xen-4.20/boot",
    stub_memory_mib=192,
    stub_command_line="console=hvc0",
    distribution=next(row for row in distributions.DISTRIBUTIONS if row.key == "debian"),
)
BASE: dict[str, dict[str, Any]] = {
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
# Values that the rows' types and choices do not give.
VALUES: dict[str, list[Any]] = {
    "uuid": ["74d0eec1-fe6e-402b-84b5-077b0f288fe4"],
    "menu": ["(hd0)/boot/grub/menu.lst"],
    "boot": ["cd"],
    "serial": ["pty", ["pty", "null"]],
    "vcpus": [2],
    "maxvcpus": [4],
    "maxmem": [4096],
    "memory": [128],
    "stubdomain_memory": [256],
    "smbios": [["system_manufacturer=A, B"]],
    "videoram": [256],
    "vdev": ["xvdc"],
    "target": ["/srv/x,y=z.img", "/dev/vg/x"],
    "mac": ["00:16:3e:00:00:01"],
    "rate": ["10Mb/s"],
    "ip": ["192.0.2.1 192.0.2.2"],
    "vifname": ["web0"],
    "script": ["block-rbd"],
}


def values_of(row: spec.Parameter) -> list[Any]:
    if row.options:
        rows = {field.name: field for field in row.options}
        least = {"target": "/srv/b.img", "vdev": "xvdb"} if row.name == "disks" else {}
        return [[]] + [[{**least, name: value}] for name, field in rows.items() for value in values_of(field)]
    if row.name in VALUES:
        return VALUES[row.name]
    if row.choices:
        return list(row.choices)
    if row.type == "raw":
        return ["2-3,^0", ["0", "1"]]
    if row.type == "list":
        return [sorted(xl_keys.WORDS[str(row.key)])]
    return {"bool": [True, False], "int": [3], "path": ["/srv/file"]}.get(row.type, ["a b"])


def normal(guest: dict[str, Any]) -> dict[str, Any]:
    """All parameters; a CD-ROM is read only whatever its access is."""
    full = spec.filled(guest)
    full["uuid"] = full["uuid"] or plan.identity(full["name"])
    full["flavour"] = full["flavour"] or ("linux" if full["type"] == "hvm" else "grub2")
    for disk in full["disks"]:
        disk["vdev"] = disk["vdev"] or "xvda"
        disk["access"] = "rw" if disk["cdrom"] else disk["access"]
        disk["direct_io_safe"] = disk["direct_io_safe"] or None
    return full


# Of the others no key of xl.cfg is made.
WRITTEN = {*xl_keys.KEYS, "arch", "menu", "menu_file", "screen", "debug"} - {"name", "type"}
ROWS = [row for row in spec.GUEST if row.key is not None or row.name in WRITTEN]


@pytest.mark.parametrize("kind", sorted(BASE))
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_parameter_comes_back(row: spec.Parameter, kind: str) -> None:
    for value in values_of(row):
        came_back({"name": "web", "memory": 64, **BASE[kind], row.name: known(row.name, value, kind)})


def known(name: str, value: Any, kind: str) -> Any:
    """PV-GRUB is known by the name of its file only."""
    return "/opt/pv-grub-x86_64.gz" if (name, kind) == ("kernel", "legacy") else value


def came_back(guest: dict[str, Any]) -> None:
    try:
        keys = plan.plan(spec.filled(guest), HOST).keys
    except UserError:
        return
    found = reading.read(xl_cfg.read("web.cfg", xl_cfg.emit(keys)), HOST)
    assert found.left_out == {}
    expected = normal(guest)
    # What such a guest has in any case is not asked for again.
    expected["vnc"] = (
        expected["vnc"] if guest["flavour"] == "dom0" and guest["type"] == "hvm" else expected["vnc"] or None
    )
    for name in ("screen", "debug"):
        expected[name] = expected[name] or None
    expected["serial"] = expected["serial"] if guest["flavour"] == "dom0" else None
    if guest["flavour"] == "linux" and guest.get("kernel"):
        # It comes back as what it is on.
        drive = disks.boot_drive(expected["disks"], "/var/lib/xen.stubdom/guests/web.iso")
        expected.update(kernel=None, cmdline=None, ramdisk=None, boot="d")
        expected["disks"].append({**spec.filled(drive, spec.DISK), "access": "rw"})
    # Another kernel has the architecture that it has.
    named = guest["type"] == "pv" and guest["flavour"] != "dom0" and not guest.get("kernel")
    expected["arch"] = expected["arch"] if named else "x86_64"
    assert normal(found.parameters) == expected


@pytest.mark.parametrize("needed", [None, 114, 128, 192])
@pytest.mark.parametrize("given_mib", [None, 120, 128, 200])
@pytest.mark.parametrize("ramdisk", [None, "/opt/rootfs"])
@pytest.mark.parametrize(("screen", "more"), [({}, 0), ({"screen": True}, 16), ({"screen": True, "videoram": 20}, 40)])
@pytest.mark.parametrize(("disks", "more_of_image"), [(0, 0), (1, 0), (2, 1), (26, 25)])
def test_the_memory_of_a_linux_stub_domain_comes_back(
    needed: int | None,
    given_mib: int | None,
    ramdisk: str | None,
    screen: dict[str, Any],
    more: int,
    disks: int,
    more_of_image: int,
) -> None:
    """An image that needs less than libxl gives, or more; what it needs is no parameter, as the next one may differ."""
    host = replace(HOST, stub_memory_mib=needed)
    given_keys = {"stubdomain_memory": given_mib, "stubdomain_ramdisk": ramdisk}
    named = [{"target": f"/srv/{n}", "vdev": f"xvd{chr(97 + n)}"} for n in range(disks)]
    guest = {"name": "web", "memory": 64, **BASE["linux"], **given_keys, **screen, "disks": named}
    recorded = None if ramdisk or needed is None else needed + more + more_of_image
    if given_mib is not None and recorded is not None and given_mib < recorded:
        return
    found = reading.read(plan.plan(spec.filled(guest), host).keys, host)
    expected = None if given_mib == (recorded or 128 + more) else given_mib
    assert found.parameters.get("screen") == screen.get("screen")
    assert found.parameters.get("stubdomain_memory") == expected


def test_a_guest_with_devices_comes_back() -> None:
    """The word by which its stub domain is told of them is no word of the user's."""
    host = replace(HOST, stub_command_line="console=hvc0", stub_pci=True)
    given = {"options": {"pci": ["00:1b.0,permissive=1"]}, "allow_weaker_isolation": True}
    guest = {"name": "web", "memory": 64, **BASE["linux"], **given, "screen": True, "stubdomain_cmdline": "quiet"}
    keys = plan.plan(spec.filled(guest), host).keys
    assert keys["stubdomain_cmdline"] == "console=hvc0 stubdom.screen=vnc stubdom.pci=yes quiet"
    found = reading.read(keys, host)
    assert found.parameters["stubdomain_cmdline"] == "quiet"
    assert found.parameters["options"] == given["options"]


def test_a_second_serial_port_is_that_of_debug_only_with_its_word() -> None:
    keys = plan.plan(spec.filled({"name": "web", "memory": 64, **BASE["linux"], "debug": True}), HOST).keys
    assert (keys["serial"], keys["stubdomain_cmdline"]) == (["pty", "pty"], "console=hvc0 stubdom.debug=yes")
    found = reading.read(keys, HOST)
    assert (found.parameters.get("serial"), found.parameters["debug"]) == (None, True)
    found = reading.read({**keys, "stubdomain_cmdline": "quiet"}, HOST)
    assert (found.parameters["serial"], found.parameters.get("debug")) == (["pty", "pty"], None)


def test_every_parameter_can_be_given_to_some_guest() -> None:
    """A row that every guest refuses would make the test above hold of itself."""
    for row in ROWS:
        for value in values_of(row):
            guests = ({"name": "web", "memory": 64, **base, row.name: value} for base in BASE.values())
            if row.name in ("serial", "disks", "nics", "menu_file"):
                continue
            assert any(accepted(guest) for guest in guests), (row.name, value)


def accepted(guest: dict[str, Any]) -> bool:
    more = {"firmware": "bios"} if "bios_path_override" in guest else {}
    more.update({"kernel": "/boot/x"} if guest["flavour"] == "dom0" and {"cmdline", "ramdisk"} & set(guest) else {})
    try:
        plan.plan(spec.filled({**more, **guest}), HOST)
    except UserError:
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_guest_comes_back(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(BASE)))
    rows = data.draw(st.lists(st.sampled_from(ROWS), max_size=12, unique_by=lambda row: row.name))
    guest = {"name": "web", "memory": 64, **BASE[kind]}
    for row in rows:
        guest[row.name] = known(row.name, data.draw(st.sampled_from(values_of(row))), kind)
    came_back(guest)


# A file as others write it, what it is, and its parameters but for the name.
@pytest.mark.parametrize(
    ("text", "boots", "parameters"),
    [
        (
            "bootloader = '/usr/lib/xen-4.4/bin/pygrub'\nmemory = '1024'\nvcpus = '2'\nroot = '/dev/xvda2 ro'\n"
            "disk = [\n  'phy:/dev/vg0/web,xvda2,w',\n  'file:/srv/swap.img,xvda1,w',\n]\n"
            "vif = [ 'ip=192.0.2.10 ,mac=00:16:3E:AA:BB:CC,bridge=br0' ]\nextra = 'quiet'\n",
            "pygrub in dom0",
            {
                "type": "pv",
                "flavour": "dom0",
                "cmdline": "root=/dev/xvda2 ro quiet",
                "memory": 1024,
                "vcpus": 2,
                "disks": [{"vdev": "xvda2", "target": "/dev/vg0/web"}, {"vdev": "xvda1", "target": "/srv/swap.img"}],
                "nics": [{"mac": "00:16:3E:AA:BB:CC", "bridge": "br0", "ip": "192.0.2.10"}],
                "options": {"bootloader": "/usr/lib/xen-4.4/bin/pygrub"},
                "allow_weaker_isolation": True,
            },
        ),
        (
            'kernel = "/boot/netbsd-XEN3_DOMU.gz"\nroot = "xbd0a"\nmemory = 256\nvif = [ "" ]\n',
            "kernel /boot/netbsd-XEN3_DOMU.gz from dom0",
            {"type": "pv", "kernel": "/boot/netbsd-XEN3_DOMU.gz", "cmdline": "root=xbd0a", "memory": 256, "nics": [{}]},
        ),
        (
            'type = "pvh"\nkernel = "/boot/vmlinuz"\nextra = "IGNORED"\ncmdline = "root=/dev/xvda1"\nmemory = 512\n',
            "kernel /boot/vmlinuz from dom0",
            {"type": "pvh", "kernel": "/boot/vmlinuz", "cmdline": "root=/dev/xvda1", "memory": 512},
        ),
        (
            'kernel = "/usr/lib/grub-xen/grub-x86_64-xen.bin"\nmemory = 512\n',
            "GRUB 2 for Xen in the guest",
            {"type": "pv", "memory": 512},
        ),
        (
            'kernel = "/opt/pv-grub-x86_32.gz"\nextra = "(nd)/menu.lst"\nmemory = 512\nvif = [ "" ]\n',
            "PV-GRUB in the guest",
            {
                "type": "pv",
                "flavour": "legacy",
                "kernel": "/opt/pv-grub-x86_32.gz",
                "arch": "x86_32",
                "menu": "(nd)/menu.lst",
                "memory": 512,
                "nics": [{}],
            },
        ),
        (
            'builder = "hvm"\nkernel = "hvmloader"\nmemory = 512\nvnc = 1\nvncdisplay = 10\nboot = "cd"\n'
            'tsc_mode = 2\nfirmware = "uefi"\nacpi_s3 = 0\n'
            'disk = [ "phy:/dev/vg/a,hda,w", ",hdc:cdrom,r", "/srv/win.iso,,hdd,cdrom", '
            '"format=qcow2, vdev=hdb, target=/srv/a,b.qcow2" ]\n',
            "QEMU in dom0",
            {
                "type": "hvm",
                "flavour": "dom0",
                "boot": "cd",
                "firmware": "uefi",
                "vnc": True,
                "memory": 512,
                "disks": [
                    {"vdev": "hda", "target": "/dev/vg/a"},
                    {"vdev": "hdc", "cdrom": True},
                    {"vdev": "hdd", "cdrom": True, "target": "/srv/win.iso"},
                    {"format": "qcow2", "vdev": "hdb", "target": "/srv/a,b.qcow2"},
                ],
                "tsc_mode": "native",
                "options": {"vncdisplay": 10, "acpi_s3": 0},
                "allow_weaker_isolation": True,
            },
        ),
        (
            'type = "hvm"\ndevice_model_version = "qemu-xen"\ndevice_model_stubdomain_override = 1\nmemory = 512\n'
            'vnc = 0\nserial = "pty"\npci = [ "00:1b.0,permissive=1" ]\nstubdomain_memory = 192\n'
            'stubdomain_ramdisk = "/srv/own"\nstubdomain_cmdline = "console=hvc0 quiet"\n',
            "QEMU in a Linux stub domain",
            {
                "type": "hvm",
                "stubdomain_memory": 192,
                "stubdomain_ramdisk": "/srv/own",
                "stubdomain_cmdline": "quiet",
                "memory": 512,
                "options": {"pci": ["00:1b.0,permissive=1"]},
                "allow_weaker_isolation": True,
            },
        ),
        (
            'builder = "hvm"\ndevice_model_stubdomain_override = 1\nmemory = 512\n',
            "QEMU in a Mini-OS stub domain",
            {"type": "hvm", "flavour": "minios", "memory": 512},
        ),
    ],
)
def test_what_others_write(text: str, boots: str, parameters: dict[str, Any]) -> None:
    found = reading.read(xl_cfg.read("web.cfg", b'name = "web"\n' + text.encode()), HOST)
    assert (found.boots, found.left_out) == (boots, {})
    assert found.parameters == {"name": "web", **parameters}
    # Written by these parameters, it says the same.
    guest = spec.filled({"flavour": "linux" if parameters["type"] == "hvm" else "grub2", **found.parameters})
    keys = plan.plan(guest, HOST).keys
    assert reading.read(xl_cfg.read("web.cfg", xl_cfg.emit(keys)), HOST) == found


# A line, the key that is left out, and why.
@pytest.mark.parametrize(
    ("line", "key", "why"),
    [
        ("vcpu = 2", "vcpu", "is no key of xl.cfg"),
        ("memory = 'LOTS'", "memory", "which xl takes for no number"),
        ("vcpus = [ 1 ]", "vcpus", "It is a list."),
        ("boot = 'cd'", "boot", "The flavour grub2 decides it."),
        ("videoram = 8", "videoram", "it is hardware of HVM guests"),
        ("on_crash = 'explode'", "on_crash", "and one of destroy, restart"),
        ("spicepasswd = 'x'", "spicepasswd", "It holds a password, which is not shown."),
        ("vfb = [ 'vnc=1,vncpasswd=x' ]", "vfb", "It holds a password"),
        ("pvh = 1", "pvh", "called PVH are no more"),
        ("disk = [ '/srv/a,raw,xvda,rw,grant_usage=1' ]", "disk", "has grant_usage, for which there is no parameter"),
        ("disk = [ '/srv/a,raw,xvda,rw,more' ]", "disk", "is no disk that xl understands"),
        ("disk = '/srv/a'", "disk", "and no list"),
        ("vif = [ 'trusted=perhaps' ]", "vif", "has trusted=perhaps, for which there is no parameter"),
        ("device_model_args = 1", "device_model_args", "it takes a list"),
    ],
)
def test_what_no_parameter_can_hold_is_said(line: str, key: str, why: str) -> None:
    found = reading.read(xl_cfg.read("web.cfg", f'name = "web"\n{line}\n'.encode()), HOST)
    assert list(found.left_out) == [key] and why in found.left_out[key]
    assert key not in found.parameters.get("options", {})
