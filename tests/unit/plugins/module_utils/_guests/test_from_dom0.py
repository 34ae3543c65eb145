# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How guests that boot from dom0 are to boot by themselves."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._guests import from_dom0, guest_disk, wanted
from ansible_collections.xen.stubdom.plugins.module_utils._guests.guest_disk import Found, Kernel, Volume
from ansible_collections.xen.stubdom.plugins.module_utils._guests.model import Host

HOST = Host(
    version=(4, 20),
    firmware_directory="/usr/lib/xen-4.20/boot",
    virtualisation=frozenset(("hvm", "hap")),
    grub2_types=frozenset(("pv", "pvh")),
)
OURS = Host(**{**vars(HOST), "grub2": frozenset(("x86_64-xen", "i386-xen_pvh"))})
DISKS = [{"vdev": "xvda", "target": "/srv/web.img"}]
PYGRUB = {
    "name": "web", "type": "pv", "flavour": "dom0", "memory": 512, "cmdline": "elevator=noop", "disks": DISKS,
    "options": {"bootloader": "pygrub", "bootloader_args": ["--entry=1"], "vfb": ["vnc=1"]},
    "allow_weaker_isolation": True,
}  # fmt: skip
KERNEL = {"name": "db", "type": "pv", "kernel": "/boot/vmlinuz-6.1", "ramdisk": "/boot/initrd.img", "disks": DISKS}
ZSTD, XZ = Kernel("/boot/vmlinuz", "zstd", 64), Kernel("/boot/vmlinuz", "xz", 64)
CFG, BLS, LST = "/boot/grub/grub.cfg", "/loader/entries/a.conf", "/boot/grub/menu.lst"
CMDLINE = "root=/dev/xvda1 ro"
MENU_LST = """\
default=1
timeout 5
# title none
title Old
\troot (hd0,0)
\tkernel /boot/old root=/dev/xvda1
title  New  one
\troot (hd0,0)
\tkernel\t(hd0,0)/boot/vmlinuz  root=/dev/xvda1 ro
\tinitrd (hd0,0)/boot/initrd.img
title Nothing
title Gone
	kernel /boot/gone
"""


def found(path: str, kernel: Kernel, volume: str = "loop0,msdos1") -> Found:
    kernels = [kernel, *([kernel._replace(path="/boot/old")] if path == LST else [])]
    volumes = [Volume("loop0", "", False), Volume("loop0,msdos1", "ext*", False)]
    text = MENU_LST if path == LST else ""
    return Found(["xvda"], True, volumes, {(volume, path): text}, {(volume, path): kernels})


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (PYGRUB, True),
        (KERNEL, True),
        ({"name": "a", "type": "pv"}, False),
        ({"name": "a", "type": "pv", "kernel": "/srv/unikernel.gz"}, False),
        ({"name": "a", "type": "hvm", "flavour": "dom0"}, False),
        ({"name": "a", "type": "pv", "flavour": "legacy", "kernel": "/srv/pv-grub.gz"}, False),
    ],
)
def test_guests_that_boot_from_dom0(parameters: dict[str, Any], expected: bool) -> None:
    assert from_dom0.concerns(parameters) is expected


def test_a_guest_with_a_menu_of_grub_2_keeps_its_type() -> None:
    proposed = from_dom0.propose(PYGRUB, found(CFG, XZ), HOST)
    assert proposed.parameters == {
        "name": "web", "type": "pv", "flavour": "grub2", "memory": 512, "disks": DISKS, "options": {"vfb": ["vnc=1"]}
    }  # fmt: skip
    assert proposed.why.startswith("Its menu is /boot/grub/grub.cfg on partition 1 of xvda. GRUB 2 can load its kernel")
    assert [lost.partition(" (")[0] for lost in proposed.loses] == [
        "the boot loader in dom0", "the boot loader's options", "the kernel's options elevator=noop"
    ]  # fmt: skip


def test_a_kernel_that_grub_cannot_unpack_makes_it_a_pvh_guest() -> None:
    proposed = from_dom0.propose(KERNEL, found(CFG, ZSTD), HOST)
    assert (proposed.parameters["type"], proposed.parameters["flavour"]) == ("pvh", "grub2")
    assert "packed with zstd" in proposed.why and "kernel" not in proposed.parameters
    assert len(proposed.loses) == 2 and all("in dom0" in lost for lost in proposed.loses)


@pytest.mark.parametrize("path", [BLS, LST])
def test_another_menu_needs_a_grub_of_our_own(path: str) -> None:
    proposed = from_dom0.propose(PYGRUB, found(path, ZSTD), HOST)
    assert proposed.parameters == {} and "Install the image grub2" in proposed.blocked
    proposed = from_dom0.propose(PYGRUB, found(path, ZSTD), OURS)
    assert proposed.parameters["type"] == "pvh" and not proposed.blocked
    assert ("menu_entries" in proposed.parameters) == (path == LST)


def test_a_menu_of_grub_legacy_becomes_entries_with_its_default_first() -> None:
    entries = from_dom0.propose(PYGRUB, found(LST, ZSTD), OURS).parameters["menu_entries"]
    at = {"disk": "xvda", "partition": 1}
    assert entries == [
        {"title": "New one", "kernel": "/boot/vmlinuz", "cmdline": CMDLINE, "initrd": "/boot/initrd.img", **at},
        {"title": "Old", "kernel": "/boot/old", "cmdline": "root=/dev/xvda1", **at},
    ]  # fmt: skip


def test_pv_grub_reads_a_menu_of_grub_legacy_itself() -> None:
    proposed = from_dom0.propose(PYGRUB, found(LST, XZ), HOST, legacy={"x86_64"})
    expected = {"type": "pv", "flavour": "legacy", "menu": LST, "menu_disk": "xvda", "menu_partition": 1}
    assert {name: proposed.parameters[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("program", "target", "says", "blocked"),
    [
        (None, "/none.img", "Its disks could not be looked at.", "Install grub-fstest"),
        ("/usr/bin/grub-fstest", "/none.img", "Its disk /none.img is not there.", "Correct its disks"),
        ("/usr/bin/grub-fstest", "/etc/passwd", "None of its disks has a file system", "Write its parameters"),
        ("/usr/bin/grub-fstest", "nbd:host:1", "None of its disks has a file system", "Write its parameters"),
    ],
)
@pytest.mark.parametrize("seen", [None, Found(["xvda"], True)])
def test_why_nothing_was_found(
    seen: Found | None, program: str | None, target: str, says: str, blocked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest_disk, "_program", lambda: program)
    monkeypatch.setattr(guest_disk, "_unprivileged", list)
    proposed = from_dom0.propose({**PYGRUB, "disks": [{"vdev": "xvda", "target": target}]}, seen, OURS)
    assert proposed.parameters == {}
    assert proposed.why.startswith(says) and proposed.blocked.startswith(blocked)


@pytest.mark.parametrize(
    ("seen", "blocked"),
    [
        (Found(["xvda"], True, [Volume("loop0", "ext*", True)]), "Install a kernel and GRUB in the guest"),
        (Found(["xvda"], True, [Volume("lvm/a-b", "ext*", True)], {("lvm/a-b", LST): MENU_LST}), "No entry of"),
    ],
)
def test_what_has_to_be_done_before_is_said(seen: Found | None, blocked: str) -> None:
    proposed = from_dom0.propose(PYGRUB, seen, OURS)
    assert proposed.parameters == {} and proposed.blocked.startswith(blocked)


@pytest.mark.parametrize("path", [CFG, BLS, LST])
def test_what_is_proposed_can_be_asked_for(path: str) -> None:
    proposed = from_dom0.propose(PYGRUB, found(path, ZSTD), OURS)
    asked = wanted.read({"guests": [proposed.parameters], "defaults": {}, "directory": "/etc/xen"})
    assert asked[0].refusal is None
