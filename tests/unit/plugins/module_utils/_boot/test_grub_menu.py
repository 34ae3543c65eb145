# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot import grub_menu
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from hypothesis import given
from hypothesis import strategies as st

MENUS = Path(__file__).parent / "fixtures" / "trial"
DEBIAN_12 = (MENUS / "debian-12" / "grub.cfg").read_text()
XEN = "Debian GNU/Linux, with Xen hypervisor"
RECOVERY = "Debian GNU/Linux, with Xen 4.17-amd64 and Linux 6.1 (recovery mode)"


def choosing(spec: str) -> grub_menu.Menu:
    return grub_menu.parse(DEBIAN_12.replace(f'set default="{XEN}"', f'set default="{spec}"'))


def test_entries_and_submenus() -> None:
    menu = grub_menu.parse(DEBIAN_12)
    assert [(entry.title, entry.identity, len(entry.children)) for entry in menu.entries] == [
        ("Debian GNU/Linux", "gnulinux-simple-0001", 0),
        (XEN, "xen-gnulinux-simple-0001", 0),
        ("Advanced options for Debian GNU/Linux (with Xen hypervisor)", "gnulinux-advanced-0001", 1),
    ]
    recovery = menu.entries[2].children[0].children[0]
    assert recovery.title == RECOVERY
    assert menu.body(recovery).strip().startswith("multiboot2")
    assert menu.body(recovery).strip().endswith("single")
    assert ("save_env", "next_entry") in menu.commands
    assert ("source", "$prefix/custom.cfg") in menu.commands
    assert not any(command[0] == "multiboot2" for command in menu.commands)


@pytest.mark.parametrize(
    ("spec", "environment", "title"),
    [
        (XEN, {}, XEN),
        ("xen-gnulinux-simple-0001", {}, XEN),
        ("0", {}, "Debian GNU/Linux"),
        ("1", {}, XEN),
        ("", {}, "Debian GNU/Linux"),
        ("2>0>0", {}, RECOVERY),
        ("gnulinux-advanced-0001>xen-hypervisor-4.17-amd64-0001>xen-gnulinux-6.1-recovery-0001", {}, RECOVERY),
        ("${saved_entry}", {"saved_entry": "xen-gnulinux-simple-0001"}, XEN),
        ("${saved_entry}", {}, "Debian GNU/Linux"),
    ],
)
def test_the_default_entry_is_the_one_that_grub_takes(spec: str, environment: dict[str, str], title: str) -> None:
    assert grub_menu.default_entry(choosing(spec), environment).title == title


@pytest.mark.parametrize(
    ("menu", "message"),
    [
        (choosing("gone"), "default entry 'gone' does not exist in its menu"),
        (choosing("7"), "default entry '7' does not exist in its menu"),
        (grub_menu.parse("set default=0\n"), "does not set `default` as grub-mkconfig does"),
        (grub_menu.parse(DEBIAN_12 + "set default=0\n"), "does not set `default`"),
    ],
)
def test_another_choice_is_refused(menu: grub_menu.Menu, message: str) -> None:
    with pytest.raises(UserError, match=message):
        grub_menu.default_entry(menu, {})


def test_titles_with_quotes_and_brackets() -> None:
    menu = grub_menu.parse(
        """menuentry "a > b" { true; }\nmenuentry 'it'"'"'s {' --id x { }\nmenuentry '--class' { }\n"""
    )
    assert [entry.title for entry in menu.entries] == ["a > b", "it's {", "--class"]
    assert menu.entries[1].identity == "x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("menuentry 'a' {\n", "the braces in line 2 do not match"),
        ("}\n", "the braces in line 1 do not match"),
        ("\n\necho 'a\n", "line 3 has a ' that is not closed"),
        ('echo "a\n', 'line 1 has a " that is not closed'),
        ("echo ${a\n", "line 1 has a { that is not closed"),
    ],
)
def test_what_is_not_understood_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        grub_menu.parse(text)


@given(st.text(alphabet="menuentry '\"{}\\$#;\n>a-", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        menu = grub_menu.parse(text)
    except UserError:
        return
    for entry in menu.entries:
        start, end = entry.body
        assert text[start - 1] + text[end] == "{}"


def test_the_environment_block() -> None:
    block = b"# GRUB Environment Block\nsaved_entry=a\\\\b=c\nnext_entry=\n" + b"#" * 900
    assert grub_menu.environment(block) == {"saved_entry": "a\\b=c", "next_entry": ""}
    assert grub_menu.environment(None) == {}
