# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The module on a host of files of its own; grub-mkimage and dpkg are played.

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common import files as _files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images.grub2 import image, recipe
from ansible_collections.xen.stubdom.plugins.modules import grub_image

PVH, PV, CD = "i386-xen_pvh", "x86_64-xen", "i386-pc-eltorito"


class Machine:
    """A host as the module sees it."""

    check_mode = False

    def __init__(self, host: Any) -> None:
        self.host = host
        self.params: Dict[str, Any] = {}
        self.made: List[List[str]] = []
        self.says = ""
        self.directory = host.root / f"usr/lib/xen-{host.xen}/boot"
        host.put("usr/lib/x86_64-linux-gnu/libxenlight.so.4.20.0", b"")
        host.put("usr/bin/grub-mkimage", b"")
        for platform in (PVH, PV):
            for name in ("kernel.img", "normal.mod", "ext2.mod", "relocator.mod", "linux.mod"):
                host.put(f"usr/lib/grub/{platform}/{name}", name.encode())
            host.put(f"usr/lib/grub/{platform}/moddep.lst", b"ext2: fshelp\nlinux: relocator video\n")

    def run_program(self, arguments: List[str], **_options: Any) -> Tuple[int, str, str]:
        if arguments[0] == "dpkg-query":
            if arguments[1] == "--search":
                return 0, f"grub-xen-bin: {arguments[2]}\n", ""
            return 0, "2.12-9", ""
        assert arguments[0] == "/usr/bin/grub-mkimage"
        self.made.append(arguments)
        if self.says:
            return 1, "", self.says
        given = dict(word[2:].split("=", 1) for word in arguments[1:] if word.startswith("--"))
        parts = [Path(given[name]).read_bytes() for name in ("config", "memdisk") if name in given]
        Path(given["output"]).write_bytes(b"ELF" + b"".join(parts) + " ".join(arguments[7:]).encode())
        return 0, "", ""

    def run(self, state: str = "present", platforms: Optional[List[str]] = None, check: bool = False) -> Dict[str, Any]:
        self.params = {"state": state, "platforms": platforms, "firmware_directory": str(self.directory)}
        self.check_mode = check
        return grub_image.run(self)  # type: ignore[arg-type]

    def installed(self) -> List[str]:
        return sorted(path.name for path in self.directory.iterdir() if path.name != "hvmloader")


@pytest.fixture
def machine(stubdom_host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(stubdom_host)
    monkeypatch.setattr(grub_image, "ROOT", str(stubdom_host.root))
    monkeypatch.setattr(grub_image, "run_program", made.run_program)
    for name, attribute in (("lock", "LOCK_DIRECTORIES"), ("scratch", "SCRATCH_DIRECTORY")):
        (tmp_path / name).mkdir()
        value = str(tmp_path / name)
        monkeypatch.setattr(_files, attribute, (value,) if attribute == "LOCK_DIRECTORIES" else value)
    return made


NAMES = [f"grub2-{platform}.{ending}" for platform in (PVH, PV) for ending in ("bin", "json")]


def test_present_and_absent_in_four_steps(machine: Machine, tmp_path: Path) -> None:
    before = machine.host.tree()
    for state, names in (("present", NAMES), ("absent", [])):
        steps = [machine.run(state, check=check) for check in (True, False, True, False)]
        assert [step["changed"] for step in steps] == [True, True, False, False]
        assert steps[0]["diff"] == steps[1]["diff"] != []
        assert [len(step["files"]) for step in steps] == [4, 4, 0, 0]
        assert machine.installed() == sorted(names)
    assert machine.host.tree() == before
    assert len(machine.made) == 2
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_is_made_of_what(machine: Machine) -> None:
    result = machine.run()
    assert [one["platform"] for one in result["images"]] == [PVH, PV]
    command, modules = machine.made[0], f"{machine.host.root}/usr/lib/grub/{PVH}"
    assert command[1:4] == [f"--format={PVH}", f"--directory={modules}", "--prefix=(memdisk)"]
    # As far as they are there, with what the loader of Linux needs, and without the loader itself.
    assert command[7:] == ["normal", "ext2", "relocator"]
    made = (machine.directory / f"grub2-{PVH}.bin").read_bytes()
    assert b"normal (memdisk)/grub.cfg" in made and b"linux.mod" in made
    record = _files.read(str(machine.directory / f"grub2-{PVH}.json")) or b""
    assert b'"name": "grub-xen-bin"' in record and b'"version": "2.12-9"' in record


def test_what_starts_a_kernel_of_dom0(machine: Machine) -> None:
    names = [f"{name}.mod" for name in recipe.CD_MODULES]
    for name in ("kernel.img", "moddep.lst", *names):
        machine.host.put(f"usr/lib/grub/i386-pc/{name}", name.encode())
    result = machine.run()
    assert [one["platform"] for one in result["images"]] == [PVH, PV, CD]
    command, modules = machine.made[-1], f"{machine.host.root}/usr/lib/grub/i386-pc"
    assert command[1:4] == [f"--format={CD}", f"--directory={modules}", "--prefix=(cd)"]
    assert command[6:] == [*recipe.CD_MODULES] and "--memdisk" not in " ".join(command)
    assert b"normal (cd)/menu.cfg\n" in (machine.directory / f"grub2-{CD}.bin").read_bytes()
    assert not machine.run()["changed"]
    # It alone is what many hosts have by chance.
    for platform in (PVH, PV):
        (machine.host.root / f"usr/lib/grub/{platform}/kernel.img").unlink()
    with pytest.raises(UserError, match="has no modules for Xen guests here"):
        machine.run()
    assert not machine.run(platforms=[CD])["changed"]
    (machine.host.root / "usr/lib/grub/i386-pc/kernel.img").unlink()
    with pytest.raises(UserError, match=f"has no modules for {CD} here: no /usr/lib/grub/i386-pc and no") as refused:
        machine.run(platforms=[CD])
    assert refused.value.remedy == "Install the package grub-pc-bin."


def test_equal_files_give_an_equal_image(machine: Machine) -> None:
    machine.run()
    first = (machine.directory / f"grub2-{PVH}.bin").read_bytes()
    machine.run("absent")
    machine.run()
    assert (machine.directory / f"grub2-{PVH}.bin").read_bytes() == first


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("remove grub2-i386-xen_pvh.bin", "is not the file that the manifest"),
        ("spoil grub2-i386-xen_pvh.bin", "is not the file that the manifest"),
        ("spoil grub2-i386-xen_pvh.json", "is damaged: it is not JSON"),
        ("remove grub2-i386-xen_pvh.json", "There is no manifest"),
        ("upgrade", "not those that the image was made of"),
    ],
)
def test_a_damaged_or_outdated_image_is_made_again(machine: Machine, damage: str, reason: str) -> None:
    machine.run()
    verb, _, name = damage.partition(" ")
    if verb == "remove":
        (machine.directory / name).unlink()
    elif verb == "spoil":
        (machine.directory / name).write_bytes(b"spoilt")
    else:
        os.utime(machine.host.root / f"usr/lib/grub/{PVH}/ext2.mod", (1, 1))
    result = machine.run()
    assert [reason in one["reason"] for one in result["images"]] == [True, False]
    assert not machine.run()["changed"]


def test_the_previous_image_is_put_back(machine: Machine) -> None:
    machine.run()
    first = (machine.directory / f"grub2-{PVH}.bin").read_bytes()
    machine.host.put(f"usr/lib/grub/{PVH}/linux.mod", b"another")
    machine.run()
    assert (machine.directory / f"grub2-{PVH}.bin").read_bytes() != first
    with pytest.raises(UserError, match=rf"There is no previous image of .*grub2-{PV}.bin"):
        machine.run("rollback")
    assert machine.run("rollback", [PVH])["changed"] and not machine.run("rollback", [PVH])["changed"]
    assert (machine.directory / f"grub2-{PVH}.bin").read_bytes() == first


def test_an_image_of_another_program_stays(machine: Machine) -> None:
    machine.host.put(f"usr/lib/xen-{machine.host.xen}/boot/grub2-{PVH}.bin", b"another program's")
    result = machine.run("absent")
    assert not result["changed"] and "another program or administrator" in result["images"][0]["reason"]
    machine.run()
    machine.run("absent")
    assert (machine.directory / f"grub2-{PVH}.bin").read_bytes() == b"another program's"


@pytest.mark.parametrize(
    ("gone", "platforms", "message"),
    [
        ([f"usr/lib/grub/{PVH}/kernel.img", f"usr/lib/grub/{PV}/kernel.img"], None, "has no modules for Xen guests"),
        ([], ["i386-xen"], "has no modules for i386-xen here: no /usr/lib/grub/i386-xen and no"),
        (["usr/bin/grub-mkimage"], None, "There is no /usr/bin/grub-mkimage"),
        ([f"usr/lib/grub/{PV}/linux.mod"], None, "There is no /usr/lib/grub/x86_64-xen/linux.mod"),
    ],
)
def test_what_is_missing_is_named_and_nothing_changes(
    machine: Machine, gone: List[str], platforms: Optional[List[str]], message: str
) -> None:
    for path in gone:
        (machine.host.root / path).unlink()
    before = machine.host.tree()
    for check in (True, False):
        with pytest.raises(UserError, match=message):
            machine.run(platforms=platforms, check=check)
    assert machine.host.tree() == before


def test_a_failure_of_grub_mkimage_is_told(machine: Machine) -> None:
    machine.says = "grub-mkimage: error: core image is too big.\n"
    with pytest.raises(UserError, match=r"grub-mkimage failed for i386-xen_pvh: grub-mkimage: error: core image is"):
        machine.run()
    assert machine.installed() == []


def test_a_menu_takes_its_place_in_an_image(machine: Machine) -> None:
    machine.run()
    made = (machine.directory / f"grub2-{PVH}.bin").read_bytes()
    menu = 'set menu=dom0\nmenuentry "é" {\n  true\n}\n'
    found = image.with_menu(made, menu)
    assert len(found) == len(made) and menu.encode() in found
    with pytest.raises(ValueError, match="no place for a menu"):
        image.with_menu(found, menu)
    with pytest.raises(ValueError, match=r"the menu has 40001 bytes, and there is room for 32768"):
        image.with_menu(made, "#" * 40001)


def test_no_module_brings_the_loader_of_linux_that_a_program_inside_unloads(machine: Machine) -> None:
    """As in GRUB 2.12, where multiboot needs it, and what needs multiboot."""
    for name in ("multiboot.mod", "multiboot2.mod", "gzio.mod"):
        machine.host.put(f"usr/lib/grub/{PVH}/{name}", b"")
    lines = b"multiboot: elf linux\nmultiboot2: multiboot\ngzio: gcry_crc\nlinux: relocator video\n"
    machine.host.put(f"usr/lib/grub/{PVH}/moddep.lst", lines)
    machine.run(platforms=[PVH])
    assert {"gzio", "relocator"} <= set(machine.made[0])
    assert not {"linux", "multiboot", "multiboot2"} & set(machine.made[0])
