# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Menus from data: what they look like, and that whatever stands in an entry comes back as the same entry."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot import grub_script
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import menus
from hypothesis import example, given
from hypothesis import strategies as st

DISKS = [{"vdev": "xvda"}, {"vdev": "xvdb"}, {"vdev": "xvdc1"}]
ENTRIES: list[dict[str, Any]] = [
    {"title": "Debian's own", "kernel": "/boot/vmlinuz", "cmdline": "root=/dev/xvda1 ro", "initrd": "/boot/initrd.img"},
    {"title": "$(reboot); {rescue}", "disk": "xvdb", "partition": 2, "kernel": "/vmlinuz.old", "cmdline": None},
    {"title": "bare", "disk": "xvdc1", "kernel": "/vmlinuz"},
]


def test_a_menu_for_pv_grub() -> None:
    assert menus.legacy([{**ENTRIES[0], "partition": 1}, *ENTRIES[1:]], 5, DISKS) == (
        "default 0\ntimeout 5\n"
        "title Debian's own\nroot (hd0,0)\nkernel /boot/vmlinuz root=/dev/xvda1 ro\ninitrd /boot/initrd.img\n"
        "title $(reboot); {rescue}\nroot (hd1,1)\nkernel /vmlinuz.old\n"
        "title bare\nroot (hd2)\nkernel /vmlinuz\n"
    )


def test_a_menu_for_grub_2() -> None:
    assert menus.grub2([{**ENTRIES[0], "partition": 1}, *ENTRIES[1:]], 5, DISKS) == (
        "set menu=dom0\nset default=0\nset timeout=5\n"
        "menuentry 'Debian'\\''s own' {\n"
        "  set root='xen/xvda,1'\n  linux '/boot/vmlinuz' 'root=/dev/xvda1' 'ro'\n  initrd '/boot/initrd.img'\n}\n"
        "menuentry '$(reboot); {rescue}' {\n  set root='xen/xvdb,2'\n  linux '/vmlinuz.old'\n}\n"
        "menuentry 'bare' {\n  set root='xen/xvdc1'\n  linux '/vmlinuz'\n}\n"
    )


PBKDF2 = f"grub.pbkdf2.sha512.10000.{'0A' * 64}.{'F1' * 64}"
MD5 = "$1$R.AB/cd1$abcdefghijklmnopqrstu."


def test_a_menu_for_pv_grub_with_all_else() -> None:
    more = menus.Rules(MD5, "bare", "/boot/grub/splash.xpm.gz")
    text = menus.legacy([{**ENTRIES[0], "partition": 1}, *ENTRIES[1:]], 5, DISKS, more)
    assert text.splitlines()[:6] == [
        "default 0",
        "timeout 5",
        "fallback 2",
        f"password --md5 {MD5}",
        "splashimage (hd0,0)/boot/grub/splash.xpm.gz",
        "title Debian's own",
    ]
    assert menus.passwords(text.encode()) == [MD5]


def test_a_menu_for_grub_2_with_all_else() -> None:
    text = menus.grub2(ENTRIES, 5, DISKS, menus.Rules(PBKDF2, "bare"))
    lines = text.splitlines()
    assert lines[3:6] == ["set fallback=2", "set superusers=root", f"password_pbkdf2 root {PBKDF2}"]
    assert [line for line in lines if line.startswith("menuentry")] == [
        "menuentry --unrestricted 'Debian'\\''s own' {",
        "menuentry --unrestricted '$(reboot); {rescue}' {",
        "menuentry --unrestricted 'bare' {",
    ]
    assert menus.passwords(b"\0image\n" + text.encode()) == [PBKDF2]
    if shutil.which("grub-script-check"):
        subprocess.run(["grub-script-check"], input=text, text=True, check=True)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (menus.Rules(password="secret"), "menu_password is no hash that the flavour {} knows"),
        (menus.Rules(password=PBKDF2 + "\nreboot"), "menu_password is no hash"),
        (menus.Rules(password=MD5 + "\nreboot"), "menu_password is no hash"),
        (menus.Rules(fallback="none"), "menu_fallback is 'none'"),
        (menus.Rules(fallback="Debian's own"), 'menu_fallback is "Debian\'s own"'),
    ],
)
def test_other_rules_are_refused(more: menus.Rules, says: str) -> None:
    for name, write in (("legacy", menus.legacy), ("grub2", menus.grub2)):
        with pytest.raises(UserError) as refused:
            write(ENTRIES, 5, DISKS, more)
        assert says.format(name) in str(refused.value) and "secret" not in str(refused.value)


def test_a_picture_is_a_path() -> None:
    with pytest.raises(UserError, match="menu_splash is '/a b'"):
        menus.legacy(ENTRIES, 5, DISKS, menus.Rules(splash="/a b"))


def test_each_loader_has_a_hash_of_its_own() -> None:
    with pytest.raises(UserError, match="flavour legacy"):
        menus.legacy(ENTRIES, 5, DISKS, menus.Rules(PBKDF2))
    with pytest.raises(UserError, match="flavour grub2"):
        menus.grub2(ENTRIES, 5, DISKS, menus.Rules(MD5))


# What has a meaning in a menu turns up often.
CHARACTERS = st.one_of(st.sampled_from("'\"\\$`;&|<>{}()#=! \t\n\r"), st.characters())
ANYTHING = st.text(CHARACTERS, max_size=24)
WORD = st.text(
    st.one_of(st.sampled_from("\\$`;&|<>{}()#=!'"), st.characters(min_codepoint=33, max_codepoint=126)), min_size=1
)
WORDS = st.lists(WORD, min_size=1, max_size=4).map(" ".join)
PATHS = st.one_of(WORD, WORD, WORD, ANYTHING).map("/".__add__)
TEXTS = st.one_of(WORDS, WORDS, WORDS, ANYTHING)
# What GRUB 2 takes as it is.
PLAIN = TEXTS.map(lambda text: text.translate(dict.fromkeys(map(ord, "\\'\""))).strip()).map(
    lambda text: " ".join(text.split())
)
ENTRY = st.fixed_dictionaries(
    {"title": TEXTS, "kernel": PATHS, "cmdline": st.one_of(PLAIN, PLAIN, TEXTS)}, optional={"initrd": PATHS}
)
MENU = st.lists(ENTRY, min_size=1, max_size=3)


def read_legacy(content: str) -> list[str]:
    """The lines of a menu as get_line_from_config of GRUB 0.97 reads them (stage2/stage2.c)."""
    found, line, literal, comment = [], "", False, False
    for character in content:
        if character == "\r":
            continue
        one = " " if character == "\t" else character
        if literal:
            if one == "\n":
                one, line = " ", line[:-1]
            literal = False
        if one == "\\":
            literal = True
        if comment:
            comment = one != "\n"
        elif not line:
            if one == "#":
                comment = True
            elif one not in " \n":
                line = one
        elif one == "\n":
            found.append(line)
            line = ""
        else:
            line += one
    return found


def written(entry: dict[str, Any]) -> list[str]:
    lines = [f"title {entry['title']}", "root (hd0)", f"kernel {entry['kernel']} {entry['cmdline']}".rstrip(" ")]
    return [*lines, *([f"initrd {entry['initrd']}"] if entry.get("initrd") else [])]


@given(MENU)
@example(
    [
        {"title": "a\\", "kernel": "/k\\", "cmdline": "\\", "initrd": "/i\\"},
        {"title": "b", "kernel": "/k", "cmdline": ""},
    ]
)
def test_pv_grub_reads_the_same_entries(entries: list[dict[str, Any]]) -> None:
    try:
        content = menus.legacy(entries, 0, DISKS)
    except UserError:
        return
    expected = [line for entry in entries for line in written(entry)]
    assert [line.rstrip(" ") for line in read_legacy(content)] == ["default 0", "timeout 0", *expected]


@given(MENU)
@example([{"title": "a\\'", "kernel": "/k'\\", "cmdline": "$x `y`; } {", "initrd": "/i'"}])
@example([{"title": "--", "kernel": "/k", "cmdline": ""}])
def test_grub_2_reads_the_same_entries(entries: list[dict[str, Any]]) -> None:
    try:
        content = menus.grub2(entries, 0, DISKS)
    except UserError:
        return
    host = grub_script.Host(read={"/boot/grub/grub.cfg": content}.get, directory="/boot/grub")
    menu = grub_script.run("/boot/grub/grub.cfg", host)
    assert [entry.title for entry in menu.entries] == [entry["title"] for entry in entries]
    for found, entry in zip(menu.entries, entries):
        loads = [["linux", entry["kernel"], *entry["cmdline"].split()]]
        if entry.get("initrd"):
            loads.append(["initrd", entry["initrd"]])
        commands = [list(command.words) for command in grub_script.commands(found, menu, host)]
        assert [words for words in commands if words[0] != "set"] == loads


@given(MENU)
def test_an_ordinary_entry_is_never_refused(entries: list[dict[str, Any]]) -> None:
    plain = [
        {"title": f"entry {number}", "kernel": "/k", "cmdline": " ".join(filter(str.isalnum, entry["cmdline"]))}
        for number, entry in enumerate(entries)
    ]
    assert menus.legacy(plain, 0, DISKS) and menus.grub2(plain, 0, DISKS)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"title": ""}, "menu_entries.title is '', and it is empty"),
        ({"title": "a\ntitle b"}, r"menu_entries.title is 'a\\ntitle b', and it is not one line of printable text"),
        ({"title": " a"}, "menu_entries.title is ' a', and it has blanks that a boot loader leaves out"),
        ({"cmdline": "ro\rquiet"}, "menu_entries.cmdline is 'ro\\\\rquiet', and it is not one line"),
        ({"kernel": "vmlinuz"}, "menu_entries.kernel is 'vmlinuz', and it is no absolute path"),
        ({"kernel": "/a b"}, "menu_entries.kernel is '/a b', and it is no absolute path"),
        ({"initrd": "/ö"}, "menu_entries.initrd is '/ö', and it is no absolute path"),
        ({"disk": "xvdz"}, "none of the guest's disks: they are xvda, xvdb, xvdc1"),
        ({"disk": "xvdc1", "partition": 1}, "partition"),
        ({"partition": 0}, "partition"),
    ],
)
def test_what_no_loader_would_read_back_is_refused(changed: dict[str, Any], message: str) -> None:
    for render in (menus.legacy, menus.grub2):
        with pytest.raises(UserError, match=message):
            render([{**ENTRIES[0], **changed}], 0, DISKS)


def test_what_one_of_them_would_not_read_back_is_refused() -> None:
    with pytest.raises(UserError, match="GRUB 2 puts a backslash before each quote"):
        menus.grub2([{**ENTRIES[0], "cmdline": 'dyndbg="file a +p"'}], 0, DISKS)
    for title in ("--", "-x", "--id=x"):
        with pytest.raises(UserError, match=f"menu_entries.title is '{title}', and GRUB 2 takes it for an option"):
            menus.grub2([{**ENTRIES[0], "title": title}], 0, DISKS)
    with pytest.raises(UserError, match="PV-GRUB leaves out an equals sign"):
        menus.legacy([{**ENTRIES[0], "title": "=x"}], 0, DISKS)
    with pytest.raises(UserError, match="has 1607 bytes, and PV-GRUB reads 1499"):
        menus.legacy([{**ENTRIES[0], "title": "x", "cmdline": "a" * 1586}], 0, DISKS)
    for timeout in (-1, 3601):
        with pytest.raises(UserError, match="not between 0 and 3600 seconds"):
            menus.legacy(ENTRIES, timeout, DISKS)
