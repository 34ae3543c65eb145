# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Menus of syslinux and extlinux that are kept by hand.

from __future__ import annotations

from pathlib import Path
from typing import List, Optional, Tuple

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot.command_line import DOM0_KERNEL
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import extlinux, find
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

OPTION = "dom0_mem"
XEN = "LABEL xen\n  COM32 mboot.c32\n  APPEND ../xen.gz{words} --- ../vmlinuz dom0_mem=9G --- ../initrd.img\n"
LINUX = "label linux\n  linux ../vmlinuz\n  append root=/dev/sda1\n"


def run(arguments: List[str]) -> Tuple[int, str, str]:
    raise AssertionError(arguments)


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(text.encode())


@pytest.mark.parametrize("path", [path.lstrip("/") for path in extlinux.OUTPUTS])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("words", ["", " dom0_mem=1G,max:1G", " dom0_mem=1G a", " a\tb"])
def test_a_menu_that_is_kept_by_hand_is_edited_in_place(tmp_path: Path, path: str, newline: str, words: str) -> None:
    text = ("DEFAULT xen\n" + XEN.format(words=words) + LINUX).replace("\n", newline)
    put(tmp_path, path, text)
    loader = find("auto", run, root=str(tmp_path), foreign=True)
    assert (loader.name, loader.generates, loader.output()) == ("extlinux", False, None)
    assert loader.generator() == []
    files.apply(loader.plan(loader.read(), OPTION, "dom0_mem=2G"))
    assert loader.plan(loader.read(), OPTION, "dom0_mem=2G") == []
    passed = (loader.next_boot().options or "").split()
    assert sorted(passed) == sorted([*(word for word in words.split() if OPTION not in word), "dom0_mem=2G"])
    assert loader.configured(loader.read()).split() == passed
    assert "--- ../vmlinuz dom0_mem=9G --- ../initrd.img" in (tmp_path / path).read_text()
    files.apply(loader.plan(loader.read(), OPTION, None))
    if OPTION not in words:
        assert (tmp_path / path).read_bytes() == text.encode()


@pytest.mark.parametrize(
    ("text", "boots", "linux"),
    [
        # What stands above the entries is for those that have no APPEND of their own.
        ("append xen.gz a --- k b\nlabel xen\nkernel mboot.c32\n", "a", "b"),
        ("append xen.gz a --- k b\nlabel xen\nkernel mboot.c32\nappend xen.gz c --- k d\n", "c", "d"),
        ("append xen.gz a --- k b\nlabel xen\nlinux k\nappend -\n", None, None),
        ("append root=x\nlabel xen\nkernel mboot.c32\nappend xen.gz a --- k b\n", "a", "b"),
        # The program's own words come first.
        ("label xen\nkernel mboot.c32 xen.gz a --- k b\n", "a", "b"),
        ("label xen\ncom32 /x/mboot.c32\txen.gz a --- k b --- i\nappend -\n", "a", "b"),
        ("label xen\nkernel mboot xen.gz a --- k b\n", "a", "b"),
        ("label xen\nappend xen.gz c --- k d\nkernel mboot.c32 xen.gz a --- k b\n", "a", None),
        ("label xen\nkernel mboot.c32 xen.gz a --- k b\nappend c\n", "a", None),
        ("label xen\nkernel mboot.c32 xen.gz a\nappend c --- k b\n", None, None),
        ("append c\nlabel xen\nkernel mboot.c32 xen.gz a\n", None, None),
        ("append c\nlabel xen\nkernel mboot.c32 xen.gz a\nappend -\n", "a", None),
        ("label xen\nkernel other.c32 xen.gz a --- k b\n", None, None),
    ],
)
def test_what_is_passed_stands_in_append_above_the_entries_and_behind_the_program(
    text: str, boots: Optional[str], linux: Optional[str]
) -> None:
    files = {"/boot/syslinux.cfg": f"default xen\n{text}"}
    found = extlinux.next_boot("/boot/syslinux.cfg", files.get)
    assert found.options == boots
    if boots is None and "mboot" in text:
        assert (found.xen, found.reason[-26:]) == (None, "between KERNEL and APPEND.")
    assert extlinux.next_boot("/boot/syslinux.cfg", files.get, DOM0_KERNEL).options == linux


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "append xen.gz a --- k\nlabel xen\nkernel mboot.c32\nlabel old\nkernel mboot.c32\n",
            "append xen.gz a dom0_mem=2G --- k\nlabel xen\nkernel mboot.c32\nlabel old\nkernel mboot.c32\n",
        ),
        ("label xen\nkernel mboot.c32 xen.gz a --- k\n", "label xen\nkernel mboot.c32 xen.gz a dom0_mem=2G --- k\n"),
    ],
)
def test_it_is_edited_where_it_stands(tmp_path: Path, text: str, wanted: str) -> None:
    put(tmp_path, "boot/syslinux/syslinux.cfg", f"default xen\n{text}")
    loader = find("auto", run, root=str(tmp_path), foreign=True)
    files.apply(loader.plan(loader.read(), OPTION, "dom0_mem=2G"))
    assert (tmp_path / "boot/syslinux/syslinux.cfg").read_text() == f"default xen\n{wanted}"
    assert loader.plan(loader.read(), OPTION, "dom0_mem=2G") == []
    assert loader.next_boot().options == "a dom0_mem=2G"


def test_what_several_entries_have_in_common_is_not_changed_for_one(tmp_path: Path) -> None:
    text = "default xen\nappend xen.gz a --- k\nlabel xen\nkernel mboot.c32\nlabel old\nkernel mboot.c32\n"
    put(tmp_path, "boot/syslinux/syslinux.cfg", text)
    loader = find("auto", run, root=str(tmp_path), foreign=True)
    loader.default_only = True
    with pytest.raises(UserError, match="'xen', which boots, passes what APPEND above all entries says, as does 'old'"):
        loader.plan(loader.read(), OPTION, "dom0_mem=2G")


@pytest.mark.parametrize(
    ("head", "boots", "xen"),
    [
        # The loader waits at its prompt.
        ("", None, False),
        ("timeout 50\nontimeout xen\n", "a", True),
        ("ontimeout xen\n", None, False),
        ("default xen\n", "a", True),
        ("default xen quiet\n", "a", True),
        ("default linux\n", None, False),
        ("default linux\ndefault xen\n", "a", True),
        ("default menu.c32\n", "a", True),
        ("ui menu.c32\ntimeout 50\ndefault xen\nontimeout linux\n", None, False),
        ("prompt 0\ndefault xen\nontimeout linux\n", "a", True),
        ("default xen\nprompt 1\ntimeout 9\nontimeout linux\n", None, False),
        ("default other\n", None, None),
        ("include gone.cfg\n", None, None),
        # No name is the name of a file that cannot be opened, and nothing is decided there.
        ("include\nmenu include \ndefault xen\n", "a", True),
        ("default xen\n# default linux\n", "a", True),
        ("default xen\ndefault=linux\n", "a", True),
        ("default xen\ntext help\ndefault linux\nendtext\n", "a", True),
        # Only a menu knows MENU DEFAULT, and DEFAULT comes before it where UI shows the menu.
        ("default xen\nlabel x\nmenu default\nlinux k\n", "a", True),
        ("default menu.c32\nlabel x\nmenu default\nlinux k\n", None, False),
        ("ui menu.c32\nlabel x\nmenu default\nlinux k\n", None, False),
        ("ui menu.c32\ndefault xen\nlabel x\nmenu default\nlinux k\n", "a", True),
        ("default xen\nui menu\nlabel x\nmenu\tdefault\nlinux k\n", "a", True),
        ("default linux\nui vesamenu.c32\n", None, False),
        # The menu shows no hidden entries first, and none of a submenu.
        ("default menu.c32\nlabel x\nmenu hide\nlinux k\n", "a", True),
        ("default menu.c32\nlabel x\nmenu hide\nmenu default\nlinux k\n", "a", True),
        ("ui menu.c32\ndefault x\nlabel x\nmenu hide\nlinux k\n", "a", True),
        ("ui menu.c32\ndefault xen\nmenu begin more\nlabel x\nmenu default\nlinux k\nmenu end\n", "a", True),
        ("default menu.c32\nlabel y\nmenu hide\nmenu begin m\nlabel x\nlinux k\nmenu end\n", None, None),
        ("default menu.c32\nmenu separator\n", None, None),
        ("default menu.c32\nmenu begin more\nmenu default\nmenu end\n", None, None),
        ("default menu.c32\nmenu save\n", None, None),
        ("default menu.c32 ~\n", "a", True),
        ("default menu.c32 other.cfg\n", None, None),
        ("ui ifcpu.c32 64 -- xen -- linux\n", None, None),
        ("default x\nlabel x\nconfig other.cfg\n", None, None),
        ("default x\nlabel x\ncom32 /boot/chain.c32\nappend hd1 1\n", None, None),
        ("default x\nlabel x\nkernel chain.c32\nappend hd1 1\n", None, None),
        ("default x\nlabel x\nlocalboot 0\n", None, None),
        # Entries that start nothing, and those that lead elsewhere.
        ("ui menu.c32\nlabel x\nmenu disable\nlinux k\n", None, None),
        ("ui menu.c32\ndefault x\nlabel x\nmenu disable\nlinux k\n", None, None),
        ("default menu.c32\nlabel y\nmenu hide\nlabel x\nmenu default\nmenu disabled\nlinux k\n", None, None),
        ("default x\nlabel x\nmenu disable\nlinux k\n", None, None),
        ("ui menu.c32\nlabel x\nmenu goto more\nmenu begin more\nmenu end\n", None, None),
        ("default menu.c32\nlabel x\nmenu exit\n", None, None),
        ("default xen\nprompt 0\ntotaltimeout 9\nontimeout linux\n", "a", True),
        ("ui menu.c32\ndefault xen\ntotaltimeout 9\nontimeout linux\n", None, False),
        ("ui menu.c32\ndefault xen\ntimeout 0\nontimeout linux\n", "a", True),
        ("ui menu.c32\nmenu shiftkey\ndefault xen\ntimeout 9\nontimeout linux\n", "a", True),
    ],
)
def test_what_boots(tmp_path: Path, head: str, boots: Optional[str], xen: Optional[bool]) -> None:
    put(tmp_path, "boot/syslinux/syslinux.cfg", head + XEN.format(words=" a") + LINUX)
    found = find("extlinux", run, root=str(tmp_path), foreign=True).next_boot()
    assert (found.options, found.xen, list(found.entries)) == (boots, xen, ["a"])
    assert bool(found.reason) is (boots is None)


def test_included_files_are_read_and_edited(tmp_path: Path) -> None:
    put(tmp_path, "boot/syslinux/syslinux.cfg", "default xen\nINCLUDE sub/xen.cfg\nmenu include sub/xen.cfg\n" + LINUX)
    put(tmp_path, "boot/syslinux/sub/xen.cfg", XEN.format(words=" a") + "include syslinux.cfg\n")
    loader = extlinux.Extlinux(run, root=str(tmp_path), foreign=True)
    assert loader.next_boot().options == "a"
    files.apply(loader.plan(loader.read(), OPTION, "dom0_mem=2G"))
    assert loader.next_boot().options == "a dom0_mem=2G"
    assert "xen.gz a dom0_mem=2G ---" in (tmp_path / "boot/syslinux/sub/xen.cfg").read_text()


TWO_MENUS = ("boot/syslinux/syslinux.cfg", "boot/efi/EFI/syslinux/syslinux.cfg")


@pytest.mark.parametrize(("by_efi", "boots"), [(False, "a"), (True, "b"), (None, None)])
def test_of_two_menus_that_differ_the_one_that_boots_is_meant(
    tmp_path: Path, by_efi: Optional[bool], boots: Optional[str]
) -> None:
    for path, words in zip(TWO_MENUS, (" a", " b")):
        put(tmp_path, path, "DEFAULT xen\n" + XEN.format(words=words))
    if by_efi:
        (tmp_path / "sys/firmware/efi").mkdir(parents=True)
    loader = extlinux.Extlinux(run, root=str(tmp_path), foreign=by_efi is None)
    found = loader.next_boot()
    assert (found.options, found.xen) == (boots, None if boots is None else True)
    if boots is not None:
        (change,) = loader.plan(loader.read(), OPTION, "dom0_mem=2G")
        assert change.path.endswith(TWO_MENUS[bool(by_efi)])
        return
    assert all(path in found.reason for path in TWO_MENUS)
    with pytest.raises(UserError, match="Several menus differ"):
        loader.plan(loader.read(), OPTION, "dom0_mem=2G")
    put(tmp_path, TWO_MENUS[1], "DEFAULT xen\n" + XEN.format(words=" a"))
    assert loader.next_boot().options == "a"


def test_a_menu_without_xen_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "boot/syslinux/syslinux.cfg", LINUX)
    loader = extlinux.Extlinux(run, root=str(tmp_path), foreign=True)
    assert loader.plan(loader.read(), OPTION, None) == []
    with pytest.raises(UserError, match="no entry that starts Xen"):
        loader.plan(loader.read(), OPTION, "dom0_mem=2G")


def test_a_menu_of_another_hand_is_never_generated(tmp_path: Path) -> None:
    put(tmp_path, "etc/update-extlinux.conf", "xen_opts=\n")
    put(tmp_path, "sbin/update-extlinux", "")
    put(tmp_path, "boot/extlinux.conf", XEN.format(words=""))
    loader = extlinux.Extlinux(run, root=str(tmp_path))
    assert (loader.generates, loader.generator(), list(loader.read())) == (False, [], ["/boot/extlinux.conf"])
    put(tmp_path, "boot/extlinux.conf", "# Generated by update-extlinux 6.04\n" + XEN.format(words=""))
    assert (loader.generates, loader.generator()) == (True, ["update-extlinux"])
