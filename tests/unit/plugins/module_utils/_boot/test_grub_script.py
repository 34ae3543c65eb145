# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Which entry of a GRUB menu boots, worked out by running the menu.

from __future__ import annotations

from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot import grub_script
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from grub_head import HEAD

MENUS = Path(__file__).parent / "fixtures" / "trial"
ENTRIES = """
menuentry 'Linux' --class gnu --id linux { linux /vmlinuz }
menuentry "Xen" $menuentry_id_option 'xen' { multiboot2 /boot/xen.gz placeholder dom0_mem=1G }
submenu 'More' --id more {
  menuentry 'Old Linux' --id old { linux /old }
  menuentry 'Old > Xen' --id oldxen { multiboot2 /boot/xen-old.gz }
}
"""
SETS_DEFAULT = "submenu S --id s {\n set default=1\n menuentry Linux { a\n}\n menuentry Xen { b\n}\n}\n"


def host(
    files: Dict[str, str], platform: Optional[str] = None, bls: Sequence[Tuple[str, str, str]] = ()
) -> grub_script.Host:
    return grub_script.Host(files.get, "/boot/grub", platform, bls)


def chosen(
    text: str, platform: Optional[str] = None, bls: Sequence[Tuple[str, str, str]] = (), **more: str
) -> Optional[str]:
    files = {"/boot/grub/grub.cfg": text, **{f"/boot/grub/{name}": content for name, content in more.items()}}
    found = host(files, platform, bls)
    return grub_script.default_entry(grub_script.run("/boot/grub/grub.cfg", found), found).title


def block(**variables: str) -> str:
    return "# GRUB Environment Block\n" + "".join(f"{name}={value}\n" for name, value in variables.items())


@pytest.mark.parametrize(
    ("default", "title"),
    [
        ("0", "Linux"),
        ("1", "Xen"),
        ("0x1", "Xen"),
        ("01", "Xen"),
        ("", "Linux"),
        ("xen", "Xen"),
        ("Xen", "Xen"),
        ("linux", "Linux"),
        # One that is not there: run_menu takes the first.
        ("gone", "Linux"),
        ("7", "Linux"),
        ("2", "Old Linux"),
        ("2>1", "Old > Xen"),
        ("more>oldxen", "Old > Xen"),
        ("More>Old >> Xen", "Old > Xen"),
        ("more>gone", "Old Linux"),
        ("more", "Old Linux"),
    ],
)
def test_default_names_an_entry(default: str, title: str) -> None:
    assert chosen(HEAD % default + ENTRIES) == title
    assert chosen(f"set default='{default}'\n" + ENTRIES.replace("$menuentry_id_option", "--id")) == title
    assert chosen(HEAD % "${saved_entry}" + ENTRIES, grubenv=block(saved_entry=default)) == title
    assert chosen(HEAD % "0" + ENTRIES, grubenv=block(next_entry=default or "0")) == title


@pytest.mark.parametrize(
    ("text", "title"),
    [
        (ENTRIES, "Linux"),
        # The last one counts, whoever writes it.
        ("set default=0\n" + ENTRIES + "set default=1\n", "Xen"),
        ("default=xen\n" + ENTRIES, "Xen"),
        ("if true; then set default=1; else set default=0; fi\n" + ENTRIES, "Xen"),
        ("if false; then set default=0; elif [ a != b ]; then set default=1; fi\n" + ENTRIES, "Xen"),
        ("if [ 2 -gt 10 -o ! -n '' ]; then set default=1; fi\n" + ENTRIES, "Xen"),
        ("function pick { set default=1; }\npick\n" + ENTRIES, "Xen"),
        ('set chosen=xen\nset default="$chosen"\n' + ENTRIES, "Xen"),
        ("set default='$chosen'\n" + ENTRIES, "Linux"),
        ("# set default=1\n" + ENTRIES, "Linux"),
        ("set default=1 # xen\n" + ENTRIES, "Xen"),
        # What cannot be known does not matter where it decides nothing.
        ("if loadfont unicode; then set gfxmode=auto; insmod gfxterm; fi\nset default=1\n" + ENTRIES, "Xen"),
        ("set default=1\n" + ENTRIES + "if [ $grub_platform = efi ]; then menuentry 'UEFI' { fwsetup; }; fi\n", "Xen"),
        ("function more {\n  menuentry 'First' { true; }\n}\nmore\nset default=2\n" + ENTRIES, "Xen"),
        # A submenu may set its own default, whatever led into it (grub_menu_execute_entry).
        ("set default=s\nsubmenu S --id s {\n set default=1\n menuentry a { a\n}\n menuentry Xen { b\n}\n}\n", "Xen"),
        (
            "set default='s>0'\nsubmenu S --id s {\n set default=1\n menuentry a { a\n}\n menuentry Xen { b\n}\n}\n",
            "Xen",
        ),
        ('set "default=1"\n' + ENTRIES, "Xen"),
        # 06_… before the rest.
        ("set default=xen\nmenuentry 'Maintenance' { multiboot2 /boot/xen.gz dom0_mem=2G }\n" + ENTRIES, "Xen"),
        # A command that is an empty word is none.
        ('""\nset default=1\n' + ENTRIES.replace("{ multiboot2", '{ ""; multiboot2'), "Xen"),
        # A function has arguments, and ends before its end.
        ('function pick { shift; set default="$1"; return; set default=0; }\npick a xen\n' + ENTRIES, "Xen"),
        ('function pick { set default="$*"; }\npick Xen\n' + ENTRIES, "Xen"),
        ("function pick { return 1; }\nif pick; then set default=0; else set default=1; fi\n" + ENTRIES, "Xen"),
        # Loops are run.
        ("for k in 0 xen 7; do\n if [ $k = xen ]; then set default=$k; break; fi\ndone\n" + ENTRIES, "Xen"),
        ("for k in xen linux; do set default=$k; continue; set default=0; done\n" + ENTRIES, "Linux"),
        ('n=\nwhile [ "$n" != 111 ]; do n=${n}1; done\nif [ $n = 111 ]; then default=1; fi\n' + ENTRIES, "Xen"),
        ("n=\nuntil [ x$n = x11 ]; do n=${n}1; set default=$n; done\nset default=${n}x1\n" + ENTRIES, "Linux"),
        ("for k in Zeroth First; do menuentry $k { linux /x\n}\ndone\nset default=3\n" + ENTRIES, "Xen"),
        # The value of a variable that is not quoted is divided at its blanks, and is no word where it is empty.
        ("set name='1 0'\nset default=$name\n" + ENTRIES, "Xen"),
        ("if [ $nothing = y ]; then set default=1; fi\n" + ENTRIES, "Xen"),
        ("set options='--id first'\nset default=first\nmenuentry Xen $options { linux /x\n}\n" + ENTRIES, "Xen"),
        # `!` and -o of test, from left to right.
        ("if [ ! a = a -o b = b ]; then set default=1; fi\n" + ENTRIES, "Xen"),
        ("if [ a -a ! b ]; then set default=0; else set default=1; fi\n" + ENTRIES, "Xen"),
        ("if [ ( a = b ) -o ( b '<' a ) ]; then set default=0; else set default=1; fi\n" + ENTRIES, "Xen"),
        ("if [ 018 -eq 1 -a 010 -eq 8 -a -1 -lt 0 ]; then set default=1; fi\n" + ENTRIES, "Xen"),
        ("false\nif [ $? = 0 ]; then set default=0; else set default=1; fi\n" + ENTRIES, "Xen"),
        # What a submenu has of its menu's variables was exported.
        (
            "set x=1\nexport y\nset y=1\nset default=s\n"
            'submenu S --id s {\n if [ -n "$x" ]; then set default=0; else set default=$y; fi\n'
            " menuentry a { linux /a\n}\n menuentry Xen { multiboot2 /boot/xen.gz\n}\n}\n",
            "Xen",
        ),
        # An entry that loads nothing is left again, for those that `fallback` names.
        ("set default=0\nset fallback='7x'\nmenuentry Empty { true\n}\n" + ENTRIES, "Empty"),
        (
            "set default=0\nset fallback='1 2'\nmenuentry Empty { true\n}\nmenuentry Empty { true\n}\n" + ENTRIES,
            "Linux",
        ),
        ("set default=0\nset fallback=0x2\nmenuentry Empty { true\n}\n" + ENTRIES, "Xen"),
        ("set default=1\nset fallback=0\n" + ENTRIES, "Xen"),
        # >>> is the character and then a part.
        ("set default='a>>>1'\nsubmenu 'a>' {\n menuentry a { linux /a\n}\n menuentry Xen { linux /b\n}\n}\n", "Xen"),
        # GRUB skips carriage returns.
        (("set default=Xen\n" + ENTRIES.replace("{ multiboot2", "{\n multiboot2 a \\\n")).replace("\n", "\r\n"), "Xen"),
        ("\xef\xbb\xbfset default=0\nset default=1\n" + ENTRIES, "Xen"),
        ('set default=$"Xen"\n' + ENTRIES, "Xen"),
        ('set default=Linux\nmenuentry a$"b c" { linux /x\n}\nset default="ab c"\n' + ENTRIES, "ab c"),
        ("eval 'set default=1'\n" + ENTRIES, "Xen"),
        # Blocks of other commands (hiddenentry is SUSE's).
        ("set default=1\n" + ENTRIES + "hiddenentry 'Text mode' --hotkey t {\n set textmode=true\n}\n", "Xen"),
        ("set default=1\nother_command a { linux /x; }\n" + ENTRIES, "Xen"),
        # Files that are named by their place on a disk: that of / or of /boot.
        ("source /boot/grub/custom.cfg\n" + ENTRIES, "Xen"),
        ("source ($root)/grub/custom.cfg\n" + ENTRIES, "Xen"),
        ('source "(hd0,msdos1)/grub/custom.cfg"\n' + ENTRIES, "Xen"),
        ("set default=1\n" + ENTRIES + "source ($root)/gone.cfg\n", "Xen"),
        (
            "set default=0\nset fallback=2\nmenuentry a { search --set=root x; configfile /grub/grub.cfg\n}\n"
            + ENTRIES,
            "a",
        ),
        # custom.cfg of the user's.
        ("set default=0\n" + ENTRIES + "source $prefix/custom.cfg\n", "Xen"),
    ],
)
def test_the_menu_is_run(text: str, title: str) -> None:
    text = text.replace("$menuentry_id_option", "--id")
    assert chosen(text, **{"custom.cfg": "set default=1\n"}) == title


@pytest.mark.parametrize(
    "text",
    [
        "if loadfont x; then set default=1; else set default=0; fi\n" + ENTRIES,
        "if [ $grub_platform = efi ]; then menuentry 'UEFI' { fwsetup; }; fi\nset default=1\n" + ENTRIES,
        "search --set=root x\nset default=$root\n" + ENTRIES,
        "while keystatus --shift; do set default=1; done\n" + ENTRIES,
        # Variables that commands set.
        "set x=1\nprobe --set=x --fs-uuid $root\nset default=$x\n" + ENTRIES,
        "set x=1\nregexp --set 1:x a b\nset default=$x\n" + ENTRIES,
        "set x=1\nread x\nset default=$x\n" + ENTRIES,
        "set x=1\nsearch.fs_uuid 1-2 x hd0,msdos1\nset default=$x\n" + ENTRIES,
        'eval "set default=$root"\n' + ENTRIES,
        # Entries that are not known.
        "set default=1\nsource ($root)/gone.cfg\n" + ENTRIES,
        "set default=xen\nsource /elsewhere/gone.cfg\n" + ENTRIES,
        "set default=1\nfor file in $prefix/*.cfg; do source $file; done\n" + ENTRIES,
        "set default=1\nsource ($root)/grub/c*.cfg\n" + ENTRIES,
        "set default=0\nset n=1\ndecrement n\nif [ $n = 0 ]; then set default=1; fi\n" + ENTRIES,
        "set default=1\nhiddenentry a { true; }\n" + ENTRIES,
        "while true; do set default=1; done\n" + ENTRIES,
        "function f { f; }\nf\n" + ENTRIES,
        # GRUB has no groups of commands.
        "{ set default=1; }\n" + ENTRIES,
        "for k in a b; do if keystatus; then break; fi; done\n" + ENTRIES,
        "menuentry Empty { true\n}\nif keystatus; then set fallback=1; fi\n" + ENTRIES,
        "set default=0\n",
        "set default='0\n" + ENTRIES,
        "if true; then\n" + ENTRIES,
        "}\n" + ENTRIES,
        "set default=0\nif maybe; then configfile $prefix/custom.cfg; fi\n" + ENTRIES,
        "source $prefix/grub.cfg\n" + ENTRIES,
        "set default=s\nsubmenu S --id s {\n search --set=root x\n configfile /grub/grub.cfg\n}\n" + ENTRIES,
        "{" * 60 + "}" * 60 + ENTRIES,
        "if a; then b=1; fi\n" * 300 + ENTRIES,
    ],
)
def test_what_cannot_be_known_is_an_error_of_two_sentences(text: str) -> None:
    with pytest.raises(UserError) as caught:
        chosen(text.replace("$menuentry_id_option", "--id"), **{"custom.cfg": ENTRIES})
    assert len(str(caught.value).splitlines()) == 2


def test_a_known_platform_answers() -> None:
    text = "if [ $grub_platform = efi ]; then menuentry 'UEFI' { fwsetup; }; fi\nset default=1\n" + ENTRIES
    assert chosen(text.replace("$menuentry_id_option", "--id"), "efi") == "Linux"
    assert chosen(text.replace("$menuentry_id_option", "--id"), "pc") == "Xen"


def test_another_menu_is_shown_in_the_place_of_this_one() -> None:
    stub = "search --set=dev x\nset prefix=($dev)/grub\nset default=1\nexport prefix\nconfigfile $prefix/real.cfg\n"
    real = "set default=xen\n" + ENTRIES.replace("$menuentry_id_option", "--id")
    # Where prefix is set to a place that is not known, so is the menu.
    with pytest.raises(UserError, match="configfile"):
        chosen(stub, **{"real.cfg": real})
    found = host({"/boot/grub/grub.cfg": "configfile $prefix/real.cfg\n", "/boot/grub/real.cfg": real})
    menu = grub_script.run("/boot/grub/grub.cfg", found)
    assert menu.file == "/boot/grub/real.cfg"
    assert grub_script.default_entry(menu, found).title == "Xen"


def test_entries_of_the_boot_loader_specification_stand_where_blscfg_is() -> None:
    entries = (("Fedora 6.9", "f-6.9", "linux /vmlinuz-6.9"), ("Fedora 6.8", "f-6.8", "linux /vmlinuz-6.8"))
    text = "set default=2\nblscfg\n" + ENTRIES.replace("$menuentry_id_option", "--id")
    assert chosen(text, bls=entries) == "Linux"
    assert chosen(text.replace("default=2", "default=f-6.8"), bls=entries) == "Fedora 6.8"


@pytest.mark.parametrize("name", ["debian-12", "debian-13"])
def test_commands_of_an_entry(name: str) -> None:
    text = (MENUS / name / "grub.cfg").read_text()
    for platform, wanted in (("pc", ""), ("efi", "no-real-mode edd=off"), (None, "${xen_rm_opts}")):
        found = host({"/boot/grub/grub.cfg": text, "/boot/grub/grubenv": block(saved_entry="1")}, platform)
        menu = grub_script.run("/boot/grub/grub.cfg", found)
        entry = grub_script.default_entry(menu, found)
        if "xen" not in (entry.identity or ""):
            continue
        (line,) = [command for command in grub_script.commands(entry, menu, found) if "multiboot" in command.words[0]]
        assert line.certain
        assert " ".join(line.words).endswith(wanted)
        assert text[entry.position :].startswith(entry.body)
