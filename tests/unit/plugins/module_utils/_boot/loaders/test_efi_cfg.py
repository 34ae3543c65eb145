# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Each case is a tree as an installation has it, and what boots there.

from __future__ import annotations

import struct
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple, Union

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import efi_boot, efi_cfg
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from efi_program import SYSTEMD_BOOT, XEN, program
from efi_variables import efivars, load_option, systemd_variables

OPTION = "dom0_mem"
Files = Mapping[str, Union[str, bytes]]


def configuration(words: str, section: str = "xen") -> str:
    return f"[global]\ndefault={section}\n[{section}]\noptions={words}\nkernel=vmlinuz root=/dev/sda2\n"


def unified(words: str) -> bytes:
    return program({".text": XEN, ".config": configuration(words).encode(), ".kernel": b"k"})


def plant(root: Path, tree: Files) -> None:
    for path, content in tree.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content if isinstance(content, bytes) else content.encode())


def loader(root: Path, tree: Files, *, foreign: bool = True) -> efi_cfg.EfiCfg:
    plant(root, tree)

    def run(arguments: List[str]) -> Tuple[int, str, str]:
        raise AssertionError(arguments)

    return efi_cfg.EfiCfg(run, root=str(root), foreign=foreign)


# Before 250 in no section of its own.
OLD_SYSTEMD_BOOT = program({".text": b"", ".data": b"x#### LoaderInfo: systemd-boot 247.3-7 ####\0"})
UNIFIED = program({".text": b"", ".linux": b"#### LoaderInfo: systemd-boot 255 ####\0"})
SYSTEMD_STUB = program({".text": b"", ".sdmagic": b"#### LoaderInfo: systemd-stub 255 ####\0"})
GRUB = program({".text": b"", ".data": b"", "mods": b"mimg"})

ONE, TWO = configuration("dom0_mem=1G a"), configuration("dom0_mem=2G")
QUBES = {"boot/efi/EFI/qubes/xen.efi": "MZ", "boot/efi/EFI/qubes/xen.cfg": ONE}
REMOVABLE = {"boot/efi/EFI/BOOT/BOOTX64.efi": "MZ", "boot/efi/EFI/BOOT/BOOTX64.cfg": ONE}
MENU: Files = {
    "efi/EFI/systemd/systemd-bootx64.efi": SYSTEMD_BOOT,
    "efi/EFI/xen/xen.efi": "MZ",
    "efi/EFI/xen/xen.cfg": ONE,
    "efi/vmlinuz": "k",
    "efi/EFI/xen/alt.cfg": TWO + "[second]\noptions=dom0_mem=3G\nkernel=k\n",
    "efi/loader/loader.conf": "timeout 3\ndefault xen.conf\n",
    "efi/loader/entries/xen.conf": "title Xen\nefi /EFI/xen/xen.efi\n",
    "efi/loader/entries/linux.conf": "title Linux\nlinux /vmlinuz\n",
}

# The tree, what the next boot passes, whether it starts Xen, a part of the reason, files that a change edits.
CASES: List[Tuple[str, Files, Optional[str], Optional[bool], str, List[str]]] = [
    ("a copy", {**QUBES, **REMOVABLE}, "dom0_mem=1G a", True, "", ["BOOTX64.cfg", "xen.cfg"]),
    ("another name", REMOVABLE, "dom0_mem=1G a", True, "", ["BOOTX64.cfg"]),
    (
        "by content",
        {"boot/efi/EFI/a/b.efi": program({".text": XEN}), "boot/efi/EFI/a/B.CFG": "options=x\nkernel=k\n"},
        "x",
        True,
        "",
        ["B.CFG"],
    ),
    ("shim", {"boot/efi/EFI/BOOT/BOOTX64.EFI": program({".sbat": b""}), **REMOVABLE}, "dom0_mem=1G a", True, "", []),
    ("not Xen", {**REMOVABLE, "boot/efi/EFI/BOOT/BOOTX64.cfg": "set a=b\n"}, None, False, "no entry", []),
    (
        "copies that differ",
        {**QUBES, **REMOVABLE, "boot/efi/EFI/BOOT/BOOTX64.cfg": TWO},
        None,
        None,
        "boot/efi/EFI/BOOT/BOOTX64.cfg and /boot/efi/EFI/qubes/xen.cfg",
        [],
    ),
    ("unified", {"efi/EFI/Linux/xen.efi": unified("dom0_mem=1G b")}, "dom0_mem=1G b", True, "", []),
    (
        "unified with an old file beside it",
        {"efi/EFI/Linux/xen.efi": unified("dom0_mem=1G b"), "efi/EFI/Linux/xen.cfg": TWO},
        "dom0_mem=1G b",
        True,
        "",
        [],
    ),
    ("systemd-boot", MENU, "dom0_mem=1G a", True, "", ["xen.cfg"]),
    (
        "systemd-boot names the file",
        {**MENU, "efi/loader/entries/xen.conf": "efi /EFI/xen/xen.efi\noptions xen.efi -cfg=alt.cfg -- b\n"},
        "dom0_mem=2G b",
        True,
        "",
        ["alt.cfg"],
    ),
    (
        "systemd-boot names the section",
        {**MENU, "efi/loader/entries/xen.conf": "efi /efi/XEN/xen.efi\noptions x -cfg alt.cfg second\n"},
        "dom0_mem=3G",
        True,
        "",
        ["alt.cfg"],
    ),
    (
        "the first word is the name of the image",
        {**MENU, "efi/loader/entries/xen.conf": "efi /EFI/xen/xen.efi\noptions -cfg=alt.cfg\n"},
        "dom0_mem=1G a",
        True,
        "",
        ["xen.cfg"],
    ),
    (
        "systemd-boot starts Linux",
        {**MENU, "efi/loader/loader.conf": "default lin*\n"},
        None,
        False,
        "'Linux'",
        ["xen.cfg"],
    ),
    (
        "systemd-boot starts another loader",
        {
            **MENU,
            "efi/loader/entries/linux.conf": "title GRUB\nefi /grub.efi\n",
            "efi/grub.efi": "MZ",
            "efi/loader/loader.conf": "default lin*\n",
        },
        None,
        None,
        "'GRUB' (/efi/loader/entries/linux.conf), and what that starts",
        [],
    ),
    (
        "systemd-boot starts Linux as a program",
        {
            **MENU,
            "efi/loader/entries/linux.conf": "title Linux\nefi /vmlinuz\n",
            "efi/vmlinuz": "\0" * 0x202 + "HdrS",
            "efi/loader/loader.conf": "default lin*\n",
        },
        None,
        False,
        "'Linux'",
        [],
    ),
    ("by its order", {**MENU, "efi/loader/loader.conf": "timeout 1\n"}, "dom0_mem=1G a", True, "", ["xen.cfg"]),
    (
        "by a key",
        {
            **MENU,
            "efi/loader/loader.conf": "#default x\n",
            "efi/loader/entries/linux.conf": "title Linux\nsort-key a\nlinux /vmlinuz\n",
        },
        None,
        False,
        "'Linux'",
        ["xen.cfg"],
    ),
    # An entry has the name of its file.
    ("a pattern without .conf", {**MENU, "efi/loader/loader.conf": "default linux\n"}, "dom0_mem=1G a", True, "", []),
    ("the last default", {**MENU, "efi/loader/loader.conf": "default x\ndefault l*.conf\n"}, None, False, "Linux", []),
    ("a set", {**MENU, "efi/loader/loader.conf": "default [a-l]inux.c?nf\n"}, None, False, "Linux", []),
    ("special names", {**MENU, "efi/loader/loader.conf": "default lin*\ndefault @x\n"}, None, False, "Linux", []),
    ("Windows", {**MENU, "efi/loader/loader.conf": "default auto-windows\n"}, None, None, "'auto-windows'", []),
    (
        "the newest first, and .conf counts",
        {
            **MENU,
            "efi/loader/loader.conf": "",
            "efi/loader/entries/xen-4.17.conf": "title Old\nefi /EFI/xen/xen.efi\noptions x -cfg=alt.cfg\n",
        },
        "dom0_mem=1G a",
        True,
        "",
        [],
    ),
    (
        "numbers as numbers, and no attempts left",
        {
            **MENU,
            "efi/loader/loader.conf": "",
            "efi/loader/entries/xen.conf": "title Gone\n",
            "efi/loader/entries/z-9.conf": "title Nine\nefi /EFI/xen/xen.efi\n",
            "efi/loader/entries/z-10.conf": "title Ten\nlinux /vmlinuz\n",
            "efi/loader/entries/zz+0-3.conf": "title Bad\nefi /EFI/xen/xen.efi\n",
        },
        None,
        False,
        "'Ten'",
        [],
    ),
    (
        "a second partition",
        {
            **{path: MENU[path] for path in MENU if "entries" not in path},
            "boot/vmlinuz": "k",
            "boot/EFI/xen/xen.efi": "MZ",
            "boot/EFI/xen/xen.cfg": ONE,
            "boot/loader/entries/xen.conf": "title Xen\nefi /EFI/xen/xen.efi\n",
            "boot/loader/entries/a.conf": "title Linux\nlinux /vmlinuz\n",
        },
        "dom0_mem=1G a",
        True,
        "",
        [],
    ),
    (
        "an image that is an entry",
        {
            **MENU,
            "efi/loader/loader.conf": "default arch*\n",
            "efi/EFI/Linux/arch.efi": program({".osrel": b'ID=arch\nPRETTY_NAME="Arch Linux"\n'}),
        },
        None,
        False,
        "'Arch Linux'",
        [],
    ),
    (
        "an image that comes first by its key",
        {
            **MENU,
            "efi/loader/loader.conf": "",
            "efi/EFI/Linux/arch.efi": program({".osrel": b"ID=arch\n"}),
            "efi/EFI/Linux/other.efi": program({".text": b""}),
        },
        None,
        False,
        "'arch.efi'",
        [],
    ),
    (
        "an image that is not understood",
        {**MENU, "efi/loader/loader.conf": "", "efi/EFI/Linux/arch.efi": "MZ"},
        None,
        None,
        "/efi/EFI/Linux/arch.efi may be one",
        [],
    ),
    (
        "entries without a program, and for other machines",
        {
            **MENU,
            "efi/loader/loader.conf": "default linux.conf\n",
            "efi/loader/entries/linux.conf": "linux /gone\n",
            "efi/loader/entries/z.conf": "linux /gone\n",
            "efi/loader/entries/zz.conf": "linux /vmlinuz\narchitecture AA64\n",
        },
        "dom0_mem=1G a",
        True,
        "",
        [],
    ),
    (
        "what is preferred",
        {**MENU, "efi/loader/loader.conf": "default xen.conf\npreferred lin*\n"},
        None,
        False,
        "'Linux'",
        [],
    ),
    (
        "what is preferred, without attempts left",
        {
            **{path: MENU[path] for path in MENU if not path.endswith("linux.conf")},
            "efi/loader/entries/linux+0-3.conf": "title Linux\nlinux /vmlinuz\n",
            "efi/loader/loader.conf": "default xen.conf\npreferred lin*\n",
        },
        "dom0_mem=1G a",
        True,
        "",
        [],
    ),
    (
        "one file that leads to another",
        {
            **{path: text for path, text in QUBES.items() if not path.endswith(".cfg")},
            "boot/efi/EFI/qubes/xen.cfg": "[global]\ndefault=b\nchain=Next.cfg\n",
            "boot/efi/EFI/qubes/next.cfg": "[a]\nkernel=x\noptions=wrong\n[b]\nkernel=y\noptions=dom0_mem=1G\n",
        },
        "dom0_mem=1G",
        True,
        "",
        ["next.cfg"],
    ),
    (
        "an image that leads to a file, and that to itself",
        {
            "efi/EFI/Linux/xen.efi": program({".text": XEN, ".config": b"[global]\nchain=a.cfg\n"}),
            "efi/EFI/Linux/a.cfg": "[global]\nchain=a.cfg\n",
        },
        None,
        False,
        "no entry",
        [],
    ),
    (
        "what systemd-boot has left, without itself",
        {**MENU, "efi/loader/loader.conf": "default linux.conf\n", "efi/EFI/systemd/systemd-bootx64.efi": "MZ"},
        "dom0_mem=1G a",
        True,
        "",
        [],
    ),
    (
        "what systemd-boot has left, where something else starts",
        {**MENU, "efi/loader/loader.conf": "default linux.conf\n", "efi/EFI/Boot/bootx64.efi": GRUB},
        None,
        None,
        "Whether the firmware starts /efi/EFI/Boot/bootx64.efi or systemd-boot is not known",
        [],
    ),
    (
        "systemd-boot that shim starts",
        {
            **MENU,
            "efi/loader/loader.conf": "default linux.conf\n",
            "efi/EFI/BOOT/BOOTX64.EFI": program({".sbat": b""}),
            "efi/EFI/BOOT/grubx64.efi": OLD_SYSTEMD_BOOT,
        },
        None,
        False,
        "'Linux'",
        [],
    ),
    ("the entry of last time", {**MENU, "efi/loader/loader.conf": "default @saved\n"}, None, None, "last", ["xen.cfg"]),
]


@pytest.mark.parametrize(
    ("tree", "passed", "xen", "reason", "edited"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_what_boots(
    tmp_path: Path, tree: Files, passed: Optional[str], xen: Optional[bool], reason: str, edited: List[str]
) -> None:
    one = loader(tmp_path, tree)
    boots = one.next_boot()
    assert (boots.options, boots.xen) == (passed, xen)
    assert reason in boots.reason
    assert bool(boots.reason) is (passed is None)
    if not edited:
        return
    before = one.read()
    files.apply(one.plan(one.read(), OPTION, "dom0_mem=4G"))
    after = one.read()
    assert sorted(Path(path).name for path in after if after[path] != before[path]) == edited
    assert one.plan(one.read(), OPTION, "dom0_mem=4G") == []
    if passed is not None:
        assert "dom0_mem=4G" in (one.next_boot().options or "").split()


def test_copies_that_differ_are_named_and_left_alone(tmp_path: Path) -> None:
    one = loader(tmp_path, {**QUBES, **REMOVABLE, "boot/efi/EFI/BOOT/BOOTX64.cfg": TWO})
    with pytest.raises(UserError, match=r"BOOTX64\.cfg and .*xen\.cfg") as refused:
        one.plan(one.read(), OPTION, "dom0_mem=4G")
    assert "Remove" in refused.value.remedy


@pytest.mark.parametrize("beside", [{}, {"efi/EFI/Linux/xen.cfg": TWO}])
def test_a_unified_image_is_never_changed(tmp_path: Path, beside: Files) -> None:
    one = loader(tmp_path, {"efi/EFI/Linux/xen.efi": unified("dom0_mem=1G"), **beside})
    assert one.configured(one.read()) == "dom0_mem=1G"
    assert one.plan(one.read(), OPTION, "dom0_mem=1G") == []
    for word in ("dom0_mem=2G", None):
        with pytest.raises(UserError, match=r"inside the image /efi/EFI/Linux/xen\.efi") as refused:
            one.plan(one.read(), OPTION, word)
        assert "virtualisation.xen.boot.params" in refused.value.remedy


XEN_OPTION, OTHER = load_option("/EFI/xen/xen.efi"), load_option("/EFI/other/xen.efi", "xen -cfg=b.cfg -- c")
SEVERAL = {
    "boot/efi/EFI/xen/xen.efi": "MZ",
    "boot/efi/EFI/xen/xen.cfg": ONE,
    "boot/efi/EFI/other/xen.efi": "MZ",
    "boot/efi/EFI/other/b.cfg": TWO,
    "boot/efi/EFI/debian/grubx64.efi": "MZ",
}


@pytest.mark.parametrize(
    ("variables", "passed", "xen"),
    [
        (efivars([1, 2], {1: XEN_OPTION, 2: OTHER}), "dom0_mem=1G a", True),
        (efivars([2, 1], {1: XEN_OPTION, 2: OTHER}), "dom0_mem=2G c", True),
        (efivars([1, 2], {1: XEN_OPTION, 2: OTHER}, following=2), "dom0_mem=2G c", True),
        # Switched off, without a file, with a file that is gone, damaged.
        (efivars([1, 2], {1: load_option("/EFI/xen/xen.efi", active=False), 2: OTHER}), "dom0_mem=2G c", True),
        (efivars([1, 2], {1: load_option(""), 2: OTHER}), "dom0_mem=2G c", True),
        (efivars([1, 2], {1: load_option("/EFI/gone/xen.efi"), 2: OTHER}), "dom0_mem=2G c", True),
        (efivars([1, 9, 2], {1: XEN_OPTION[:9], 2: OTHER}), "dom0_mem=2G c", True),
        (efivars([1, 2], {1: load_option("/EFI/debian/grubx64.efi"), 2: OTHER}), None, None),
        ({}, None, None),
    ],
)
def test_the_firmware_of_this_host_tells_what_boots(
    tmp_path: Path, variables: Files, passed: Optional[str], xen: Optional[bool]
) -> None:
    one = loader(tmp_path, {**SEVERAL, "boot/efi/EFI/other/xen.cfg": TWO, **variables}, foreign=False)
    boots = one.next_boot()
    assert (boots.options, boots.xen) == (passed, xen)
    # The variables are those of the running host and tell nothing of another tree.
    assert loader(tmp_path, {}, foreign=True).next_boot().options is None


DISKS = ["0fc63daf-8483-4772-8e79-3d69d8477de4", "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"]
MOUNTED = "23 1 8:1 / /boot/efi rw shared:1 - vfat /dev/sda1 rw\n24 1 8:17 / /efi rw shared:2 - vfat /dev/sdb1 rw\n"


@pytest.mark.parametrize(
    ("disk", "path", "mounted", "passed", "xen"),
    [
        (DISKS[0], "/EFI/xen/xen.efi", MOUNTED, "dom0_mem=1G a", True),
        (DISKS[1], "/EFI/xen/xen.efi", MOUNTED, "dom0_mem=2G", True),
        # RAID, of which the firmware knows one half: whatever has the file.
        (DISKS[1], "/EFI/xen/xen.efi", MOUNTED.replace("/dev/sd", "/dev/md"), "dom0_mem=1G a", True),
        # A disk that is gone, and one whose partition is not mounted.
        (DISKS[1].replace("c1", "d1"), "/EFI/other.efi", MOUNTED, "dom0_mem=1G a", True),
        (DISKS[1], "/EFI/other.efi", MOUNTED[: MOUNTED.index("24")], None, None),
        # Only a part of a file system, as in a container.
        (DISKS[1], "/EFI/xen/xen.efi", MOUNTED.replace("8:17 /", "8:17 /x"), "dom0_mem=1G a", True),
    ],
)
def test_of_two_partitions_the_firmware_names_one(
    tmp_path: Path, disk: str, path: str, mounted: str, passed: Optional[str], xen: Optional[bool]
) -> None:
    twins = {
        f"{place}/EFI/xen/xen.{kind}": text
        for place, words in (("boot/efi", ONE), ("efi", TWO))
        for kind, text in (("efi", "MZ"), ("cfg", words))
    }
    options = {1: load_option(path, disk=disk), 2: load_option("/EFI/xen/xen.efi", disk=DISKS[0])}
    tree: Files = {**twins, "proc/self/mountinfo": mounted, **efivars([1, 2], options)}
    directory = tmp_path / "dev/disk/by-partuuid"
    directory.mkdir(parents=True)
    for identity, device in zip(DISKS, ("sda1", "sdb1")):
        (directory / identity).symlink_to(f"../../{device}")
    boots = loader(tmp_path, tree, foreign=False).next_boot()
    assert (boots.options, boots.xen) == (passed, xen)
    assert ("from a partition that is not mounted here" in boots.reason) is (passed is None)


def test_a_partition_of_an_old_table_has_a_signature_and_a_number() -> None:
    node = struct.pack("<IQQI12xBB", 3, 2048, 4096, 0xC0FFEE01, 1, 1)
    content = struct.pack("<IH", 1, 46) + b"X\0\0\0" + struct.pack("<BBH", 4, 1, 42) + node + b"\x7f\xff\4\0"
    for options in ("", "-cfg=other.cfg"):
        entry = efi_boot.load_option(7, content + options.encode("utf-16-le"))
        assert entry is not None
        assert (entry.disk, entry.file, entry.options) == ("c0ffee01-03", efi_boot.REMOVABLE, options)


@pytest.mark.parametrize(
    ("path", "content", "xen"),
    [
        ("EFI/BOOT/BOOTX64.EFI", SYSTEMD_BOOT, True),
        ("EFI/systemd/systemd-bootx64.efi", SYSTEMD_BOOT, True),
        ("EFI/systemd/systemd-bootx64.efi", OLD_SYSTEMD_BOOT, True),
        ("EFI/BOOT/BOOTX64.EFI", UNIFIED, None),
        # Systemd-boot under another name, as shim starts it.
        ("EFI/BOOT/grubx64.efi", SYSTEMD_BOOT, True),
        ("EFI/BOOT/BOOTX64.EFI", GRUB, None),
        ("EFI/BOOT/BOOTX64.EFI", SYSTEMD_STUB, None),
        ("EFI/systemd/systemd-bootx64.efi", GRUB, None),
        ("EFI/BOOT/BOOTX64.EFI", b"MZ", None),
    ],
)
def test_the_program_itself_tells_whether_it_is_systemd_boot(
    tmp_path: Path, path: str, content: bytes, xen: Optional[bool]
) -> None:
    variables = efivars([1], {1: load_option(f"/{path}")})
    one = loader(tmp_path, {**MENU, f"efi/{path}": content, **variables}, foreign=False)
    assert one.next_boot().xen is xen
    if xen is None:
        assert f"The firmware starts /efi/{path} first" in one.next_boot().reason


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("xen.conf", "Xen.conf"),
        ("XEN*", "Xen.conf"),
        ("x[a-f]n.c?nf", "Xen.conf"),
        ("xen\\.conf", "Xen.conf"),
        # No complement of a set.
        ("[!a]*", "a.conf"),
        ("[!]*", "!b+3-0.conf"),
        # With its count of attempts, and without.
        ("!b.conf", "!b+3-0.conf"),
        ("!b+3-0.conf", "!b+3-0.conf"),
        ("xen", None),
        ("", None),
    ],
)
def test_patterns_of_systemd_boot(pattern: str, found: Optional[str]) -> None:
    assert efi_boot.find_entry(["a.conf", "Xen.conf", "!b+3-0.conf"], pattern) == found


@pytest.mark.parametrize(
    ("variables", "xen"),
    [
        ({"LoaderEntryDefault": "linux.conf"}, False),
        ({"LoaderEntryDefault": "gone.conf"}, True),
        ({"LoaderEntryOneShot": "linux.conf"}, False),
        ({"LoaderEntryOneShot": "gone.conf", "LoaderEntryDefault": "Linux.conf"}, False),
        ({"LoaderEntryOneShot": "xen.conf", "LoaderEntryDefault": "linux.conf"}, True),
        ({"LoaderEntryDefault": "@saved", "LoaderEntryLastBooted": "linux.conf"}, False),
        ({"LoaderEntryDefault": "@saved"}, True),
        ({"LoaderEntryPreferred": "linux.conf", "LoaderEntryDefault": "xen.conf"}, False),
        ({"LoaderEntryOneShot": "xen.conf", "LoaderEntryPreferred": "linux.conf"}, True),
        ({"LoaderEntryLastBooted": "linux.conf"}, True),
    ],
)
def test_the_choices_of_the_user_win_over_loader_conf(tmp_path: Path, variables: Dict[str, str], xen: bool) -> None:
    one = loader(tmp_path, {**MENU, **systemd_variables(variables)}, foreign=False)
    assert one.next_boot().xen is xen
    assert loader(tmp_path, {}, foreign=True).next_boot().xen is True


@pytest.mark.parametrize("length", range(0, len(OTHER), 3))
def test_a_damaged_load_option_is_an_answer(length: int) -> None:
    efi_boot.load_option(1, OTHER[:length])
    efi_boot.load_option(1, OTHER[length:])
