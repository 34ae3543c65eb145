# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What the module guests makes of menus that are given as data, on a tree of files with a hypervisor that is played.

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Dict, Optional

import pytest
import xen_host
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import menus
from ansible_collections.xen.stubdom.plugins.module_utils._images.grub2 import image
from xen_host import BOOT, Host

KEPT = "var/lib/xen.stubdom/guests"
ENTRY = {"title": "Debian", "kernel": "/boot/vmlinuz", "cmdline": "root=/dev/xvda1 ro", "partition": 1}
OURS = {platform: f"{BOOT}/{image.file_name(platform)}" for platform in image.PLATFORMS}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    for played in xen_host.played(tmp_path, monkeypatch):
        monkeypatch.setattr(menus, "DIRECTORY", str(played.root / KEPT))
        for path in (*OURS.values(), f"{BOOT}/pv-grub-x86_64.gz"):
            played.put(path.lstrip("/"), f"image {path}\n{image.NO_MENU.decode()}end\n")
        yield played


def run(host: Host, *, check: bool = False, **params: Any) -> Dict[str, Any]:
    given = {"name": "web", "flavour": "grub2", "memory": 256, "disks": [{"target": "/srv/web.img"}], **params}
    result = host.run({"name": "web", "state": "absent", **params} if "state" in params else given, check=check)
    return {**result, **result["guests"][0], "changed": result["changed"]}


def test_a_menu_with_a_password_is_for_root_alone_and_nobody_sees_the_hash(host: Host) -> None:
    hashes = [f"$1$abcdefg{place}$abcdefghijklmnopqrstu." for place in (1, 2)]
    menu = host.root / KEPT / "web.lst"
    run(host, flavour="legacy", menu_entries=[ENTRY])
    assert menu.stat().st_mode & 0o777 == 0o644
    for hashed in hashes:
        assert run(host, flavour="legacy", menu_entries=[ENTRY], menu_password=hashed)["actions"] == ["written"]
        assert hashed in menu.read_text() and menu.stat().st_mode & 0o777 == 0o600
    # The one that stood there before is in the difference, too.
    assert hashes[0] in host.no_log_values
    assert not run(host, flavour="legacy", menu_entries=[ENTRY], menu_password=hashes[1])["changed"]


@pytest.mark.parametrize(
    ("params", "file", "key", "text"),
    [
        ({}, "web.bin", "kernel", "menuentry 'Debian' {\n  set root='xen/xvda,1'\n  linux '/boot/vmlinuz'"),
        ({"type": "pv"}, "web.bin", "kernel", "menuentry 'Debian' {"),
        (
            {"flavour": "legacy"},
            "web.lst",
            "ramdisk",
            "title Debian\nroot (hd0,0)\nkernel /boot/vmlinuz root=/dev/xvda1 ro\n",
        ),
    ],
)
def test_a_menu_comes_and_goes_with_its_guest(
    host: Host, params: Dict[str, Any], file: str, key: str, text: str
) -> None:
    virgin = host.tree()
    steps = [run(host, check=check, menu_entries=[ENTRY], **params) for check in (True, False, True, False)]
    assert [step["changed"] for step in steps] == [True, True, False, False]
    assert [step["actions"] for step in steps] == [["written"], ["written"], [], []]
    assert steps[0]["diff"] == steps[1]["diff"] and len(steps[0]["diff"]) == 2
    assert steps[1]["settings"][key] == f"{host.root}/{KEPT}/{file}"
    written = host.tree()[f"{KEPT}/{file}"]
    assert text in written
    if file == "web.bin":
        platform = "x86_64-xen" if params else "i386-xen_pvh"
        assert written.startswith(f"image {OURS[platform]}\n") and written.endswith("\nend\n")
    steps = [run(host, check=check, state="absent") for check in (True, False, True, False)]
    assert [step["changed"] for step in steps] == [True, True, False, False]
    assert host.tree() == virgin and not (host.root / KEPT).exists()


def test_a_changed_entry_and_a_new_image_change_the_menu(host: Host) -> None:
    run(host, menu_entries=[ENTRY])
    assert run(host, menu_entries=[ENTRY], menu_timeout=9)["changed"]
    host.put(OURS["i386-xen_pvh"].lstrip("/"), f"newer\n{image.NO_MENU.decode()}")
    assert run(host, menu_entries=[ENTRY], menu_timeout=9)["changed"]
    written = host.tree()[f"{KEPT}/web.bin"]
    assert written.startswith("newer\nset menu=dom0\nset default=0\nset timeout=9\n")


def test_without_the_image_nothing_is_written(host: Host) -> None:
    (host.root / OURS["i386-xen_pvh"].lstrip("/")).unlink()
    before = host.tree()
    with pytest.raises(UserError, match="grub2-i386-xen_pvh.bin, which the menu of web is put in"):
        run(host, menu_entries=[ENTRY])
    # What an earlier task of the play would make.
    assert any(
        "which the menu of web is put in" in warning
        for warning in run(host, check=True, menu_entries=[ENTRY])["warnings"]
    )
    host.put(OURS["i386-xen_pvh"].lstrip("/"), "of another program\n")
    with pytest.raises(UserError, match="it has no place for a menu"):
        run(host, menu_entries=[ENTRY])
    (host.root / OURS["i386-xen_pvh"].lstrip("/")).unlink()
    assert host.tree() == before


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"kernel": "/usr/lib/grub-xen/grub-x86_64-xen.bin"}, "has both kernel and menu_entries"),
        ({"flavour": "legacy", "menu": "(hd0,0)/menu.lst"}, "has both menu_entries and menu"),
        ({"flavour": "legacy", "menu_file": "/srv/menu.lst"}, "has both menu_entries and menu_file"),
        ({"flavour": "linux"}, "menu_entries is not supported with flavour linux"),
        ({"menu_entries": [{**ENTRY, "title": "a\nb"}]}, "not one line of printable text"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(host: Host, params: Dict[str, Any], message: str) -> None:
    before = host.tree()
    with pytest.raises(UserError, match=message):
        run(host, **{"menu_entries": [ENTRY], **params})
    assert host.tree() == before


def test_a_guest_starts_with_a_menu_that_was_just_written(host: Host) -> None:
    host.put("srv/web.img", "")
    given = {"name": "web", "flavour": "grub2", "memory": 256, "disks": [{"target": "/srv/web.img"}]}
    result = host.run({**given, "menu_entries": [ENTRY], "state": "running"})
    assert result["guests"][0]["actions"] == ["written", "started"]


BZIMAGE = "\0" * 0x202 + "HdrS\x0c\x02" + "\0" * 0x100
DIRECT = {"flavour": "linux", "kernel": "/srv/vmlinuz", "ramdisk": "/srv/initrd", "cmdline": "console=ttyS0 quiet"}


@pytest.fixture
def direct(host: Host) -> Host:
    host.put("srv/vmlinuz", BZIMAGE)
    host.put("srv/initrd", "words")
    # With room for where it lies on the disc.
    host.put(OURS["i386-pc-eltorito"].lstrip("/"), "image\n".rjust(70))
    return host


def test_a_kernel_of_dom0_comes_and_goes_with_its_guest(direct: Host) -> None:
    virgin = direct.tree()
    disc = direct.root / KEPT / "web.iso"
    steps = [run(direct, check=check, **DIRECT) for check in (True, False, True, False)]
    assert [step["actions"] for step in steps] == [["written"], ["written"], [], []]
    assert steps[0]["diff"] == steps[1]["diff"] and steps[0]["diff"][1]["after"].startswith(
        f"{disc.stat().st_size} bytes"
    )
    assert steps[1]["settings"]["disk"][-1].endswith(f",devtype=cdrom,backendtype=phy,target={disc}")
    assert steps[1]["settings"]["boot"] == "d" and not {"kernel", "ramdisk", "extra"} & set(steps[1]["settings"])
    content = disc.read_bytes()
    assert BZIMAGE.encode() in content and b"words" in content
    # The ramdisk may hold secrets.
    assert disc.stat().st_mode & 0o777 == 0o600
    assert (
        b"serial --unit=0 --speed=115200\nterminal_input serial console\nterminal_output serial console\n"
        b"set timeout=0\nmenuentry 'kernel of dom0' {\n  set root='cd'\n"
        b"  linux '/kernel' 'console=ttyS0' 'quiet'\n  initrd '/initrd'\n}\n"
    ) in content
    steps = [run(direct, check=check, state="absent") for check in (True, False, True, False)]
    assert [step["changed"] for step in steps] == [True, True, False, False]
    assert direct.tree() == virgin


@pytest.mark.parametrize(
    ("path", "content", "params"),
    [
        ("srv/vmlinuz", BZIMAGE + "newer", {}),
        ("srv/initrd", "other", {}),
        (OURS["i386-pc-eltorito"].lstrip("/"), "newer\n".rjust(70), {}),
        ("srv/other", "", {"cmdline": "console=ttyS0"}),
        ("srv/other", "", {"ramdisk": None}),
    ],
)
def test_a_changed_kernel_of_dom0_changes_its_disc(
    direct: Host, path: str, content: str, params: Dict[str, Any]
) -> None:
    run(direct, **DIRECT)
    direct.put(path, content)
    for check in (True, False):
        assert run(direct, check=check, **{**DIRECT, **params})["actions"] == ["written"]
    assert not run(direct, **{**DIRECT, **params})["changed"]
    written = (direct.root / KEPT / "web.iso").read_bytes()
    assert path.startswith("usr") or content.encode() in written
    assert b"newer\n" in written or not path.startswith("usr")


@pytest.mark.parametrize(
    ("gone", "content", "message"),
    [
        (OURS["i386-pc-eltorito"].lstrip("/"), None, "grub2-i386-pc-eltorito.bin, which starts the kernel of web"),
        ("srv/vmlinuz", None, "There is no /srv/vmlinuz: a kernel that a boot loader starts as Linux"),
        ("srv/vmlinuz", "\x7fELF", "/srv/vmlinuz is not a kernel that a boot loader starts as Linux"),
        ("srv/initrd", None, "There is no /srv/initrd"),
    ],
)
def test_without_its_parts_there_is_no_disc(direct: Host, gone: str, content: Optional[str], message: str) -> None:
    (direct.root / gone).unlink()
    if content is not None:
        direct.put(gone, content)
    before = direct.tree()
    with pytest.raises(UserError, match=message):
        run(direct, **DIRECT)
    if gone.startswith("srv"):
        with pytest.raises(UserError, match=message):
            run(direct, **DIRECT, check=True)
    else:
        # What an earlier task of the play would make.
        said = [one for one in run(direct, check=True, **DIRECT)["warnings"] if message in one]
        assert said and "Install the package grub-pc-bin, then the image grub2 with the role" in said[0]
    assert direct.tree() == before


def test_why_a_guest_has_its_type(host: Host) -> None:
    assert run(host)["type_reason"] == "PVH guests boot kernels of every compression."
    assert run(host)["type_reason"] == "The guest has a configuration with this type."
    assert run(host, type="pvh")["type_reason"] == ""
