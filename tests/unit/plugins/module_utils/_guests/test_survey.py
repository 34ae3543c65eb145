# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._guests import record, survey
from ansible_collections.xen.stubdom.plugins.module_utils._xen import domains, xl_cfg
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Domain, Xen

STARTED = 1_750_000_000
BOOT = "/usr/lib/xen-4.20/boot"


class Host:
    """The files of a host, its domains, and its xenstore."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows = [Domain(0, "Domain-0", 1024, 1, "r")]
        self.nodes: Dict[str, str] = {}

    def put(self, path: str, text: str = "", *, written: float = STARTED - 60) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        os.utime(file, (written, written))

    def domain(self, domid: int, name: str, kind: str, **nodes: str) -> None:
        self.rows.append(Domain(domid, name, 256, 1, "b"))
        self.nodes[f"/local/domain/{domid}/vm"] = f"/vm/u{domid}"
        self.nodes[f"/vm/u{domid}/start_time"] = f"{STARTED}.25"
        self.nodes[f"/libxl/{domid}/type"] = kind
        self.nodes.update({path.replace("ID", str(domid)): value for path, value in nodes.items()})

    def read(self) -> survey.Files:
        xen = Xen(lambda *_words, **_options: (1, "", ""), root=str(self.root))
        return survey.observe(xen, self.rows, self.nodes, "/etc/xen")

    def guests(self) -> Dict[str, Dict[str, Any]]:
        described = domains.guests(self.rows, self.nodes)
        return {guest["name"]: guest for guest in survey.guests(described, self.nodes, self.read())}

    def configurations(self) -> List[Dict[str, Any]]:
        return survey.configurations(self.read())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize(
    ("text", "boot"),
    [
        ('bootloader="pygrub"', "pygrub"),
        ('bootloader="/usr/lib/xen-4.17/bin/pygrub"\nkernel="/boot/vmlinuz"', "pygrub"),
        ('bootloader="/usr/local/bin/own"', "bootloader"),
        ('type="pvh"\nfirmware="pvgrub64"', "pvgrub_grub2"),
        (f'kernel="{BOOT}/pv-grub-x86_64.gz"', "pvgrub_legacy"),
        ('kernel="/usr/lib/grub-xen/grub-x86_64-xen.bin"', "pvgrub_grub2"),
        ('kernel="/usr/lib/xen-4.20/boot/pvgrub64.bin"', "pvgrub_grub2"),
        ('kernel="/boot/vmlinuz-6.1"', "kernel"),
        ('type="hvm"', "firmware"),
        ('builder="hvm"\nbios="ovmf"', "firmware"),
        ('type="hvm"\nkernel="/boot/vmlinuz-6.1"', "kernel"),
        ('name="a"', None),
    ],
)
def test_how_a_guest_boots(text: str, boot: Optional[str]) -> None:
    assert survey.boot(xl_cfg.read("", f"{text}\n".encode())) == boot


@pytest.mark.parametrize(
    ("text", "place", "flavour"),
    [
        ('type="pv"', "none", None),
        ('type="hvm"', "dom0_root", None),
        ('type="hvm"\ndevice_model_user="root"', "dom0_root", None),
        ('type="hvm"\ndevice_model_user="xen-qemuuser"', "dom0_user", None),
        ('type="hvm"\ndm_restrict=1', "dom0_user", None),
        ('type="hvm"\ndevice_model_stubdomain_override=1', "stub_domain", "minios"),
        ('type="hvm"\ndevice_model_stubdomain_override=1\ndevice_model_version="qemu-xen"', "stub_domain", "linux"),
        (
            'type="hvm"\ndevice_model_stubdomain_override=1\ndevice_model_version="qemu-xen-traditional"',
            "stub_domain",
            "minios",
        ),
        ('type="pv"\ndevice_model_stubdomain_override=1', "none", None),
    ],
)
def test_where_a_device_model_is_to_run(text: str, place: str, flavour: Optional[str]) -> None:
    keys = xl_cfg.read("", f"{text}\n".encode())
    assert (survey.place(keys), survey.flavour(keys)) == (place, flavour)


@pytest.mark.parametrize(
    ("text", "screens"),
    [
        ('type="pv"', []),
        ('type="hvm"', [("vnc", "127.0.0.1", False)]),
        ('type="hvm"\nvnc=0', []),
        ('type="hvm"\nvnclisten="0.0.0.0:3"\nvncpasswd="geheim"', [("vnc", "0.0.0.0", True)]),
        ('type="hvm"\nvnc=1\nvnclisten="::"', [("vnc", "::", False)]),
        (
            'type="hvm"\nvnc=0\nspice=1\nspicehost="192.0.2.1"\nspicepasswd="geheim"',
            [("spice", "192.0.2.1", True)],
        ),
        ('type="hvm"\nvnc=0\nspice=1\nspicepasswd="geheim"\nspicedisable_ticketing=1', [("spice", "0.0.0.0", False)]),
        (
            'name="a"\ntype="hvm"\nvnc=0\ndevice_model_stubdomain_override=1\n'
            'stubdomain_cmdline="quiet stubdom.screen=vnc"',
            [("vnc", "/run/xen-stubdom/a.vnc", False)],
        ),
        ('name="a"\ntype="hvm"\nvnc=0\nstubdomain_cmdline="stubdom.screen=vnc"', []),
        ('vfb=["vnc=1, vnclisten=0.0.0.0, vncpasswd=geheim"]', [("vnc", "0.0.0.0", True)]),
        ('vfb=["sdl=1,vnc=0"]', []),
    ],
)
def test_who_can_see_a_screen(text: str, screens: List[Any]) -> None:
    found = survey.screens(xl_cfg.read("", f"{text}\n".encode()))
    assert [(one["kind"], one["listen"], one["password"]) for one in found] == screens
    assert "geheim" not in str(found)


def test_a_guest_with_a_stub_domain(host: Host) -> None:
    host.domain(3, "web", "hvm")
    host.domain(4, "web-dm", "pv")
    host.nodes.update(
        {
            "/libxl/3/dm-version": "qemu_xen",
            "/local/domain/3/image/device-model-domid": "4",
            "/local/domain/4/target": "3",
            "/local/domain/4/device-model/3/state": "running",
            "/vm/u4/image/kernel": f"{BOOT}/qemu-stubdom-linux-kernel",
            "/vm/u4/image/ramdisk": f"{BOOT}/qemu-stubdom-linux-rootfs",
        }
    )
    host.put(f"{BOOT}/qemu-stubdom-linux-kernel")
    host.put(f"{BOOT}/qemu-stubdom-linux-rootfs")
    web, stub = host.guests()["web"], host.guests()["web-dm"]
    assert web["device_model"]["place"] == "stub_domain" and web["device_model"]["flavour"] == "linux"
    assert (web["type"], web["boot"], web["started"]) == ("hvm", "firmware", "2025-06-15T15:06:40Z")
    assert web["image"] == {
        "path": f"{BOOT}/qemu-stubdom-linux-kernel",
        "written": "2025-06-15T15:05:40Z",
        "outdated": False,
    }
    assert web["cannot_save"].startswith("Its device model runs in a Linux stub domain")
    text = 'name="web"\ntype="hvm"\ndevice_model_version="qemu-xen"\ndevice_model_stubdomain_override=1\n'
    text += 'stubdomain_cmdline="console=hvc0 stubdom.save=yes"\n'
    host.put("etc/xen/web.cfg", text)
    assert host.guests()["web"]["cannot_save"] is None
    host.put("etc/xen/web.cfg", text + 'stubdomain_ramdisk="/srv/own"\n')
    assert host.guests()["web"]["cannot_save"] is not None
    assert (stub["stub_domain_of"], stub["config"], stub["restart_required"]) == ("web", None, [])
    # Only one of the two files was replaced.
    host.put(f"{BOOT}/qemu-stubdom-linux-rootfs", written=STARTED + 60)
    assert host.guests()["web"]["image"]["outdated"] is True


@pytest.mark.parametrize(("uid", "place"), [("0", "dom0_root"), ("65535", "dom0_user"), (None, "unknown")])
def test_as_whom_a_device_model_runs_in_dom0(host: Host, uid: Optional[str], place: str) -> None:
    host.domain(5, "mail", "hvm", **{"/local/domain/ID/image/device-model-pid": "77"})
    if uid is not None:
        host.put("proc/77/status", f"Name:\tqemu\nUid:\t0\t{uid}\t{uid}\t{uid}\n")
    assert host.guests()["mail"]["device_model"]["place"] == place


def test_which_keys_a_guest_does_not_run_with(host: Host) -> None:
    text = 'name="web"\nmemory=256\n'
    host.domain(3, "web", "pv")
    host.put("etc/xen/web.cfg", text)
    assert host.guests()["web"]["restart_required"] == []
    # Nothing is recorded of a guest that another program has started.
    host.put("etc/xen/web.cfg", text, written=STARTED + 60)
    assert host.guests()["web"]["restart_required"] == [record.UNKNOWN]
    host.nodes[record.RECORD.format(domid=3)] = record.of({"name": "web", "memory": 128}).text
    assert host.guests()["web"]["restart_required"] == ["memory"]


def test_the_screen_that_the_toolstack_has_opened(host: Host) -> None:
    host.domain(3, "web", "hvm")
    host.put("etc/xen/web.cfg", 'name="web"\ntype="hvm"\nvncpasswd="geheim"\n')
    where = "/local/domain/3/console/vnc-"
    host.nodes.update({f"{where}port": "5901", f"{where}listen": "192.0.2.1"})
    assert host.guests()["web"]["screens"] == [
        {"kind": "vnc", "listen": "192.0.2.1", "port": 5901, "password": True},
    ]
    host.nodes[f"{where}listen"] = "<script>"
    assert host.guests()["web"]["screens"][0]["listen"] == "127.0.0.1"


def test_configurations_and_the_order_of_their_start(host: Host) -> None:
    for name in ("web", "mail", "off"):
        host.put(f"etc/xen/{name}.cfg", f'name="{name}"\ntype="pv"\nmemory=64\nbootloader="pygrub"\npci=["01:00.0"]\n')
    host.put("etc/xen/web.cfg.bak", 'name="old"\n')
    host.put("etc/xen/xlexample.hvm", 'name="example.hvm"\ntype="hvm"\n')
    host.put("etc/xen/xl.conf", 'autoballoon="off"\n')
    host.put("etc/xen/large.cfg", "#" * (xl_cfg.LONGEST + 1))
    (host.root / "etc/xen/auto").mkdir()
    (host.root / "etc/xen/auto/10-mail").symlink_to("../mail.cfg")
    (host.root / "etc/xen/auto/20-web").symlink_to("../web.cfg")
    found = {one["name"]: one for one in host.configurations()}
    assert {name: one["autostart"] for name, one in found.items()} == {"mail": 1, "web": 2, "off": None}
    web = {"type": "pv", "memory_mib": 64, "vcpus": 1, "boot": "pygrub", "device_model": "none", "flavour": None}
    assert {key: found["web"][key] for key in web} == web
    assert found["web"]["cannot_save"] == "It has PCI devices of the host."


@pytest.mark.parametrize("hostile", ["../../etc/passwd", "\x1b[2J", "9" * 50, "-1", "", "1e9", "nan"])
def test_what_a_guest_writes_is_not_believed(host: Host, hostile: str) -> None:
    nodes: Mapping[str, str] = {
        "/vm/uID/start_time": hostile,
        "/local/domain/ID/image/device-model-pid": hostile,
        "/local/domain/ID/console/vnc-port": hostile,
        "/libxl/ID/type": hostile,
    }
    host.domain(3, "web", "hvm", **nodes)
    host.nodes.update({path.replace("ID", "3"): value for path, value in nodes.items()})
    guest = host.guests()["web"]
    assert (guest["started"], guest["type"], guest["image"]) == (None, None, None)
    assert all(one["port"] is None for one in guest["screens"])
