# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is found on disks that are made here by mke2fs, and what is made of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._guests import guest_disk
from ansible_collections.xen.stubdom.plugins.module_utils._guests.guest_disk import Found, Kernel, Place, Volume

# Debian has mke2fs where an ordinary user does not look.
SBIN = "/usr/sbin:/sbin"
real = pytest.mark.skipif(
    not any(map(shutil.which, guest_disk.PROGRAMS)) or not shutil.which("mke2fs", path=SBIN),
    reason="needs grub-fstest and mke2fs",
)
ZSTD = b"\x28\xb5\x2f\xfd"
XZ = b"\xfd7zXZ\0"
MEBIBYTE = 1 << 20


def bzimage(packed: bytes, *, flags: int = 1) -> bytes:
    """The first of a kernel as Linux' boot protocol has it, with the first bytes of what is packed in it."""
    image = bytearray(4096)
    image[0x1F1] = 3
    image[0x202:0x208] = b"HdrS\x0f\x02"
    image[0x236] = flags
    image[0x248:0x24C] = (0x2D4).to_bytes(4, "little")
    return bytes(image[:2048]).ljust(2048 + 0x2D4, b"\0") + packed.ljust(64, b"\0")


def file_system(path: Path, files: dict[str, bytes], *features: str, size: int = 8) -> Path:
    tree = path.with_suffix(".tree")
    for name, content in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", *features, "-d", str(tree), str(path), f"{size}M"],
        check=True,
        capture_output=True,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:{SBIN}"},
    )
    path.chmod(0o644)
    return path


def partitioned(path: Path, part: Path) -> Path:
    content = part.read_bytes()
    entry = b"\x80\xfe\xff\xff\x83\xfe\xff\xff" + (2048).to_bytes(4, "little")
    entry += (len(content) // 512).to_bytes(4, "little")
    path.write_bytes((bytes(446) + entry + bytes(48) + b"\x55\xaa").ljust(MEBIBYTE, b"\0") + content)
    path.chmod(0o644)
    return path


GRUB_CFG = b"menuentry 'a' {\n  linux /boot/vmlinuz root=/dev/xvda1\n}\nmenuentry 'b' {\n\tlinux\t($root)/boot/old\n}\n"
LINUX = {"boot/vmlinuz": bzimage(ZSTD), "boot/old": bzimage(XZ), "boot/grub/grub.cfg": GRUB_CFG}


@pytest.fixture
def open_path(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A directory that the reader's user can enter as well."""
    path = Path(subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True).stdout.strip())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def looked(*paths: Path, **more: Any) -> Found:
    found = guest_disk.look(
        run_program, [{"target": str(path), "vdev": f"xvd{'abc'[at]}"} for at, path in enumerate(paths)], **more
    )
    assert found is not None
    return found


@real
def test_a_file_system_is_read(open_path: Path) -> None:
    found = looked(file_system(open_path / "a", LINUX))
    assert found.volumes == [Volume("loop0", "ext*", True)] and found.complete
    assert found.menus == {("loop0", "/boot/grub/grub.cfg"): GRUB_CFG.decode()}
    assert found.kernels == {
        ("loop0", "/boot/grub/grub.cfg"): [Kernel("/boot/vmlinuz", "zstd", 64), Kernel("/boot/old", "xz", 64)]
    }


@real
def test_partitions_and_a_second_disk_are_read(open_path: Path) -> None:
    one = file_system(open_path / "one", {"boot/grub/grub.cfg": b"linux /vmlinuz\n"}, "-O", "^64bit")
    two = file_system(open_path / "two", {"vmlinuz": bzimage(XZ, flags=0)})
    found = looked(partitioned(open_path / "disk", one), two, kernels=[Place("xvdb", None, "/vmlinuz")])
    assert sorted(found.volumes) == [("loop0", "", False), ("loop0,msdos1", "ext*", False), ("loop1", "ext*", True)]
    assert found.complete and found.where("loop0,msdos1") == "partition 1 of xvda" and found.where("loop1") == "xvdb"
    assert found.kernels == {("loop0,msdos1", "/boot/grub/grub.cfg"): [Kernel("/vmlinuz", "xz", 32)]}
    assert found.asked == {Place("xvdb", None, "/vmlinuz"): Kernel("/vmlinuz", "xz", 32)}


@real
def test_entries_of_the_boot_loader_specification_are_read(open_path: Path) -> None:
    found = looked(
        file_system(
            open_path / "a",
            {
                "boot/loader/entries/fedora-6.14.conf": b"title Fedora\nlinux /boot/vmlinuz-6.14\n",
                "boot/loader/entries/a b.conf": b"linux /boot/none\n",
                "boot/vmlinuz-6.14": bzimage(ZSTD),
            },
        )
    )
    assert found.kernels == {
        ("loop0", "/boot/loader/entries/fedora-6.14.conf"): [Kernel("/boot/vmlinuz-6.14", "zstd", 64)]
    }


@real
@pytest.mark.parametrize("content", [b"", b"\0" * MEBIBYTE, b"\xff" * MEBIBYTE], ids=["empty", "zeros", "ones"])
def test_what_cannot_be_read_is_not_known(open_path: Path, content: bytes) -> None:
    (open_path / "a").write_bytes(content)
    (open_path / "a").chmod(0o644)
    found = guest_disk.look(run_program, [{"target": str(open_path / "a"), "vdev": "xvda"}])
    assert found is None or (not found.complete and not found.menus)


@real
@pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/loop-control"), reason="only root is told from the reader's user"
)
def test_a_file_that_only_root_may_read_becomes_a_device(open_path: Path) -> None:
    disk = file_system(open_path / "a", LINUX)
    disk.chmod(0o600)
    assert looked(disk).menus == {("loop0", "/boot/grub/grub.cfg"): GRUB_CFG.decode()}
    left = subprocess.run(["losetup", "--associated", str(disk)], check=True, capture_output=True, text=True).stdout
    assert left == ""
    assert disk.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("answer", [(1, "", "no loop devices"), (0, "/nonexistent/loop0\n", "")])
def test_without_loop_devices_such_a_file_is_not_looked_at(open_path: Path, answer: tuple[int, str, str]) -> None:
    """Also where the one that was named is not there."""
    (open_path / "a").write_bytes(b"")

    def run(command: list[str], **_more: Any) -> tuple[int, str, str]:
        return answer if command[0] == "losetup" else (1, "", "")

    with guest_disk._readable(run, [{"target": str(open_path / "a"), "vdev": "xvda"}], ["other-user"]) as found:
        assert found == {}


@real
def test_other_formats_and_backends_are_not_looked_at(open_path: Path) -> None:
    disk = {"target": str(file_system(open_path / "a", LINUX)), "vdev": "xvda"}
    for more in ({"format": "qcow2"}, {"script": "block-rbd"}, {"backend": "storage"}, {"cdrom": True}):
        assert guest_disk.look(run_program, [{**disk, **more}]) is None
    found = guest_disk.look(run_program, [disk, {"target": "rbd:a/b", "backendtype": "qdisk", "vdev": "xvdb"}])
    assert found is not None and not found.complete


@real
def test_what_a_menu_says_is_no_command(open_path: Path) -> None:
    menu = b"linux /boot/$(touch${IFS}x)\nlinux /a';touch\tx;'\nlinux (host)/etc/passwd\nlinux /boot/\xff\xfe\n"
    found = looked(file_system(open_path / "a", {"boot/grub/grub.cfg": menu}))
    assert not found.kernels
    assert not (open_path / "x").exists() and not Path("x").exists()


def test_no_reader_is_no_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(guest_disk, "PROGRAMS", ("there-is-no-such-program",))
    (tmp_path / "a").write_bytes(b"")
    assert guest_disk.look(run_program, [{"target": str(tmp_path / "a"), "vdev": "xvda"}]) is None


@pytest.mark.parametrize(
    ("head", "payload", "expected"),
    [
        (bzimage(b"")[:0x260], ZSTD, Kernel("/k", "zstd", 64)),
        (bzimage(b"", flags=0)[:0x260], b"\x1f\x8b\x08", Kernel("/k", "gzip", 32)),
        (bzimage(b"")[:0x260], b"????", Kernel("/k", "", 64)),
        (b"\x7fELF\x02\x01", b"\x7fELF\x02\x01", Kernel("/k", "nothing", 64)),
        (b"\x7fELF\x01\x01", b"\x7fELF\x01\x01", Kernel("/k", "nothing", 32)),
        (b"\x1f\x8b\x08", b"\x1f\x8b\x08", Kernel("/k", "", 0)),
        (b"", b"", Kernel("/k", "", 0)),
        (b"MZ", b"MZ", Kernel("/k", "", 0)),
    ],
)
def test_kernels_are_known_by_their_first_bytes(head: bytes, payload: bytes, expected: Kernel) -> None:
    assert guest_disk.kernel("/k", head, payload) == expected


# ---- what it means

MENU = ("loop0", "/boot/grub/grub.cfg")
NEW, OLD, SMALL = Kernel("/boot/new", "zstd", 64), Kernel("/boot/old", "xz", 64), Kernel("/boot/small", "gzip", 32)


def guest(**values: Any) -> dict[str, Any]:
    disks = [{"vdev": "xvda", "target": "/srv/web.img"}]
    return {"name": "web", "type": "pv", "flavour": "grub2", "arch": "x86_64", "disks": disks, **values}


def found_with(*kernels: Kernel, menus: tuple[tuple[str, str], ...] = (MENU,), **more: Any) -> Found:
    values = {"complete": True, "volumes": [Volume("loop0", "ext*", True)], **more}
    return Found(["xvda"], menus=dict.fromkeys(menus, ""), kernels={menus[0]: [*kernels]} if menus else {}, **values)


def said(values: dict[str, Any], found: Found, *, ours: bool = False) -> str:
    """What is refused, or the warnings."""
    try:
        return " ".join(guest_disk.refuse(values, found, ours=ours))
    except UserError as error:
        return f"refused: {error.what} {error.remedy}"


LEGACY = guest(flavour="legacy", menu="(hd0,0)/boot/grub/menu.lst")
LST = ("loop0,msdos1", "/boot/grub/menu.lst")
PARTS = [Volume("loop0", "", False), Volume("loop0,msdos1", "ext*", False)]
ENTRIES = ("loop0", "/loader/entries/a.conf")
NONE = Place("xvda", None, "/boot/none")
EXT64 = [PARTS[0], Volume("loop0,msdos1", "ext*", True)]
GPT = [PARTS[0], Volume("loop0,gpt1", "ext*", False)]


@pytest.mark.parametrize(
    ("values", "found", "expected"),
    [
        (
            guest(),
            found_with(NEW),
            "refused: The kernel /boot/new of web is packed with zstd, which GRUB 2 cannot unpack",
        ),
        (guest(type="pvh"), found_with(NEW), ""),
        (guest(), found_with(OLD), ""),
        (guest(), found_with(NEW, OLD), "The kernel /boot/new of web is packed with zstd"),
        (guest(), found_with(Kernel("/boot/new", "", 64)), ""),
        (guest(), found_with(Kernel("/boot/new", "gzip", 0)), ""),
        (
            guest(),
            found_with(SMALL),
            "refused: The kernel /boot/small of web has 32 bits, and arch is x86_64. Set arch to x86_32",
        ),
        (
            guest(arch="x86_32"),
            found_with(OLD),
            "refused: The kernel /boot/old of web has 64 bits, and arch is x86_32. Set arch to x86_64",
        ),
        (guest(type="pvh"), found_with(SMALL), ""),
        (guest(kernel="/srv/unikernel"), found_with(NEW), ""),
        (guest(flavour="dom0"), found_with(NEW), ""),
        (guest(), found_with(menus=()), "There is no menu of a boot loader on the disks of web"),
        (guest(), found_with(menus=(), complete=False), ""),
        (
            guest(type="pvh"),
            found_with(menus=(("loop0", "/boot/grub2/grub.cfg"),)),
            "refused: The menu of web is /boot/grub2/grub.cfg on xvda, and this GRUB 2 reads only",
        ),
        (guest(type="pvh"), found_with(menus=(("loop0", "/boot/grub2/grub.cfg"),), complete=False), ""),
        (guest(type="pvh"), found_with(menus=(ENTRIES,)), "refused: The menu of web is /loader/entries/a.conf on xvda"),
        (
            guest(type="pvh"),
            found_with(menus=(("loop0", "/boot/grub/menu.lst"),)),
            "refused: The menu of web is /boot/grub/menu.lst on xvda, and this GRUB 2 reads only",
        ),
        (guest(), found_with(NEW, menus=(MENU, ("loop0", "/boot/xen/pvboot-x86_64.elf"))), ""),
        (guest(), found_with(menus=(("loop0", "/boot/xen/pvboot-x86_64.elf"),)), ""),
        (
            guest(menu_entries=[{"kernel": "/boot/new"}]),
            found_with(asked={Place("xvda", None, "/boot/new"): NEW}),
            "refused: The kernel /boot/new of web is packed with zstd",
        ),
        (
            guest(menu_entries=[{"kernel": "/boot/none"}], type="pvh"),
            found_with(asked={NONE: None}),
            "refused: There is no /boot/none in its place on xvda of web.",
        ),
        (LEGACY, found_with(menus=(LST,), volumes=PARTS), ""),
        (
            LEGACY,
            found_with(menus=(), volumes=PARTS),
            "refused: There is no /boot/grub/menu.lst on partition 1 of xvda of web",
        ),
        (
            LEGACY,
            found_with(menus=(LST,), volumes=EXT64),
            "refused: The ext4 on partition 1 of xvda of web has the feature 64bit",
        ),
        (LEGACY, found_with(menus=(), volumes=GPT), "refused: The disk xvda of web has a GPT"),
        (LEGACY, found_with(menus=(), volumes=PARTS[:1]), ""),
        (guest(flavour="legacy", menu="(nd)/menu.lst"), found_with(menus=()), ""),
        (guest(flavour="legacy"), found_with(menus=()), ""),
        (
            guest(flavour="legacy", menu="(hd0,0)/boot/grub/other.lst"),
            found_with(menus=(), volumes=PARTS),
            "refused: There is no /boot/grub/other.lst on partition 1 of xvda of web",
        ),
    ],
)
def test_what_cannot_boot_is_refused_with_the_way_out(values: dict[str, Any], found: Found, expected: str) -> None:
    answer = said(values, found)
    assert answer.startswith(expected) and bool(answer) == bool(expected)


def test_a_grub_of_our_own_reads_more_menus() -> None:
    for place in (ENTRIES, ("loop0", "/boot/grub2/grub.cfg"), ("loop0", "/extlinux/extlinux.conf")):
        assert said(guest(type="pvh"), found_with(NEW, menus=(place,)), ours=True) == ""
        assert "zstd" in said(guest(), found_with(NEW, menus=(place,)), ours=True)


def test_what_is_asked_for_is_looked_for() -> None:
    entries = [{"kernel": "/a"}, {"kernel": "/b", "disk": "xvdb", "partition": 2}]
    assert guest_disk.wanted(guest(menu_entries=entries))["kernels"] == [("xvda", None, "/a"), ("xvdb", 2, "/b")]
    assert guest_disk.wanted(LEGACY)["menus"] == [("xvda", 1, "/boot/grub/menu.lst")]
    assert guest_disk.wanted(guest(disks=[])) == {"kernels": [], "menus": []}
