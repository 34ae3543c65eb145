# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and numbers of virtual disks."""

from __future__ import annotations

from typing import Optional

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import disks, spec


# Seen in xenstore (xvda is 51712) and read in libxl.
@pytest.mark.parametrize(
    ("vdev", "number", "partition"),
    [
        ("xvda", 51712, 0),
        ("xvda1", 51713, 1),
        ("xvdb", 51728, 0),
        ("xvdq", (1 << 28) | (16 << 8), 0),
        ("xvda16", (1 << 28) | 16, 16),
        ("xvdaa", (1 << 28) | (26 << 8), 0),
        ("d0p0", 51712, 0),
        ("d1p2", 51730, 2),
        ("hda", 768, 0),
        ("hdb", 832, 0),
        ("hdc", 5632, 0),
        ("hda7", 775, 7),
        ("sda", 2048, 0),
        ("sdb3", 2067, 3),
    ],
)
def test_device_numbers(vdev: str, number: int, partition: int) -> None:
    assert disks.device(vdev) == (number, partition)


@pytest.mark.parametrize("vdev", ["", "xvd", "vda", "hde", "sdq", "xvda256", "hda64", "sda16", "/dev/xvda", "xvda\n"])
def test_names_that_libxl_does_not_know(vdev: str) -> None:
    with pytest.raises(UserError):
        disks.device(vdev)


# What PV-GRUB calls a disk, whatever the order in the configuration; a partition is a disk of its own.
@pytest.mark.parametrize(
    ("vdevs", "names"),
    [
        (["xvda"], {"xvda": "(hd0)"}),
        (["xvda1"], {"xvda1": "(hd0)"}),
        (["xvdc", "xvda", "xvdb"], {"xvda": "(hd0)", "xvdb": "(hd1)", "xvdc": "(hd2)"}),
        (["xvda", "sda", "hda"], {"hda": "(hd0)", "sda": "(hd1)", "xvda": "(hd2)"}),
        (["xvda2", "xvda1"], {"xvda1": "(hd0)", "xvda2": "(hd1)"}),
        (["xvdq", "hdc"], {"hdc": "(hd0)", "xvdq": "(hd1)"}),
    ],
)
def test_what_grub_calls_them(vdevs: list[str], names: dict[str, str]) -> None:
    assert disks.grub_names(vdevs) == names


def disk(**values: object) -> dict[str, object]:
    return {"target": "/srv/a.img", "vdev": "xvda", "format": "raw", "access": "rw", **values}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "format=raw,vdev=xvda,access=rw,target=/srv/a.img"),
        ({"target": "/srv/a,b=c.img"}, "format=raw,vdev=xvda,access=rw,target=/srv/a,b=c.img"),
        (
            {"cdrom": True, "access": "ro", "vdev": "hdc"},
            "format=raw,vdev=hdc,access=ro,devtype=cdrom,target=/srv/a.img",
        ),
        (
            {"backendtype": "qdisk", "script": "block-nbd"},
            "format=raw,vdev=xvda,access=rw,backendtype=qdisk,script=block-nbd,target=/srv/a.img",
        ),
        (
            {"backend": "storage", "discard": False, "direct_io_safe": True},
            "format=raw,vdev=xvda,access=rw,backend=storage,no-discard,direct-io-safe,target=/srv/a.img",
        ),
        ({"discard": True, "direct_io_safe": False}, "format=raw,vdev=xvda,access=rw,discard,target=/srv/a.img"),
    ],
)
def test_a_disk_is_written_and_its_target_found_again(values: dict[str, object], text: str) -> None:
    assert spec.keys({"disks": [disk(**values)]}) == {"disk": [text]}
    assert disks.target(text) == (None if {"script", "backend"} & set(values) else disk(**values)["target"])


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("phy:/dev/vg/web,xvda,w", "/dev/vg/web"),
        ("file:/srv/a.img,hda,w", "/srv/a.img"),
        ("/dev/vg/web,raw,xvda,rw", "/dev/vg/web"),
        ("vdev=xvda, target=/srv/a.img", "/srv/a.img"),
        (",hdc:cdrom,r", None),
        ("nbd:localhost:10809,xvda,w", None),
        ("vdev=xvda,script=block-drbd,target=/dev/drbd/r0", None),
        ("backend=storage,vdev=xvda,target=/srv/a.img", None),
    ],
)
def test_targets_of_older_notations(text: str, target: str | None) -> None:
    assert disks.target(text) == target


def test_an_empty_drive() -> None:
    empty = disk(target=None, cdrom=True, access="ro", vdev="hdc")
    disks.check([empty])
    assert spec.keys({"disks": [empty]}) == {"disk": ["format=raw,vdev=hdc,access=ro,devtype=cdrom"]}


@pytest.mark.parametrize(
    "values",
    [
        {"target": "rbd:ceph-test", "script": "block-rbd"},
        {"target": "iqn=iqn.2001-05.com.example:0,portal=192.0.2.1:3260", "script": "block-iscsi"},
        {"target": "rbd:pool/img:id=xen", "backendtype": "qdisk"},
        {"target": "/srv/a.img", "backend": "storage"},
    ],
)
def test_a_target_that_is_no_path_of_dom0(values: dict[str, object]) -> None:
    disks.check([disk(**values)])
    assert not disks.in_dom0(disk(**values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target": None}, "The disk xvda has no target"),
        ({"target": "web.img"}, "disks.target is 'web.img', which is not an absolute path"),
        ({"target": "rbd:ceph-test"}, "disks.target is 'rbd:ceph-test'"),
    ],
)
def test_a_target_that_cannot_be(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        disks.check([disk(**values)])


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(UserError, match=r"disks\.script is 'a,b': a comma separates"):
        spec.keys({"disks": [disk(script="a,b")]})
    with pytest.raises(UserError, match=r"nics\.bridge is 'xenbr0,x': a comma separates"):
        spec.keys({"nics": [{"bridge": "xenbr0,x"}]})
    with pytest.raises(UserError, match="no MAC address"):
        disks.check_nics([{"mac": "00:16:3e"}])
    with pytest.raises(UserError, match="Two disks are xvda"):
        disks.check([disk(), disk(vdev="d0p0"), disk()][1:])


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"bridge": "xenbr0", "mac": "00:16:3e:12:34:56"}, "mac=00:16:3e:12:34:56,bridge=xenbr0"),
        ({}, ""),
        (
            {"type": "vif", "backend": "net", "rate": "10Mb/s", "gatewaydev": "eth0", "devid": 0, "mtu": 9000},
            "type=vif,backend=net,rate=10Mb/s,gatewaydev=eth0,devid=0,mtu=9000",
        ),
        ({"trusted": False}, "untrusted"),
        ({"trusted": True}, "trusted"),
    ],
)
def test_a_network_interface(values: dict[str, object], text: str) -> None:
    assert spec.keys({"nics": [values]}) == {"vif": [text]}


CD = {"vdev": "hdc", "cdrom": True}
ISO = {**CD, "target": "/srv/a.iso"}


@pytest.mark.parametrize(
    ("given", "version", "backend"),
    [
        (ISO, (4, 19), "phy"),
        (ISO, None, "phy"),
        (CD, (4, 19), "phy"),
        (CD, None, "phy"),
        # There libxl takes nothing but a QEMU in dom0.
        (ISO, (4, 18), None),
        (CD, (4, 18), None),
        # What the kernel of dom0 does not read, or is asked for.
        ({**ISO, "format": "qcow2"}, (4, 20), None),
        ({**ISO, "script": "block-nbd"}, (4, 20), None),
        ({**ISO, "backend": "storage"}, (4, 20), None),
        ({**ISO, "backendtype": "qdisk"}, (4, 20), "qdisk"),
        (disk(), (4, 20), None),
    ],
)
def test_who_serves_a_drive_of_a_linux_stub_domain(
    given: dict[str, object], version: Optional[tuple[int, int]], backend: Optional[str]
) -> None:
    (found,) = disks.without_qemu([given], version)
    assert found.get("backendtype") == backend
    assert disks.without_usual([found], version) == [given]


def test_what_is_not_usual_is_shown() -> None:
    for given, version in (({**CD, "backendtype": "phy"}, (4, 18)), ({**ISO, "backendtype": "qdisk"}, (4, 20))):
        assert disks.without_usual([given], version) == [given]
