# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# fixtures/grub2/CASE/input is what stands in /etc/default; present and absent are what becomes of it.

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot import (
    command_line,
    grub_default,
    grub_once,
    grub_script,
)
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import find, grub2
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from efi_program import SYSTEMD_BOOT
from efi_variables import NETWORK, efivars, load_option
from hypothesis import given, settings
from hypothesis import strategies as st

CASES = Path(__file__).parents[1] / "fixtures" / "grub2"
OPTION = "dom0_mem"


def run(arguments: List[str]) -> Tuple[int, str, str]:
    done = subprocess.run(arguments, capture_output=True, check=False)
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def run_with_bash(arguments: List[str]) -> Tuple[int, str, str]:
    return run(["bash" if word == "sh" else word for word in arguments])


LOADER = grub2.Grub2(run)
# Fedora's and Arch's sh, which knows +=.
BASH_LOADER = grub2.Grub2(run_with_bash)


def tree(directory: Path) -> Dict[str, bytes]:
    found = {
        f"/etc/default/{path.relative_to(directory)}": path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }
    return dict(sorted(found.items(), key=lambda item: (item[0] != grub2.MAIN, item[0])))


def edited(
    sources: Dict[str, bytes],
    value: Optional[str],
    *,
    drop_ins: bool = True,
    shell: bool = True,
    loader: grub2.Grub2 = LOADER,
) -> Dict[str, bytes]:
    word = None if value is None else f"{OPTION}={value}"
    changes = grub2.VARIABLES.edit(
        sources, OPTION, word, drop_ins=drop_ins, evaluate=loader.configured if shell else None
    )
    return grub2.VARIABLES.order({**sources, **changes})


@pytest.mark.parametrize("line", ['"a dom0_mem=1G$"', "'a dom0_mem=1G$'", "a\\ dom0_mem=1G$", '"a dom0_mem=$ "'])
def test_a_dollar_without_a_name_is_part_of_its_word(line: str) -> None:
    sources = {grub2.MAIN: f"GRUB_CMDLINE_XEN={line}\n".encode()}
    assert LOADER.configured(edited(sources, None, drop_ins=False)) == "a"
    assert LOADER.configured(edited(sources, "2G", drop_ins=False)) == "a dom0_mem=2G"


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.iterdir()))
@pytest.mark.parametrize(("operation", "value"), [("present", "1G,max:1G"), ("absent", None)])
def test_golden_files(case: str, operation: str, value: Optional[str]) -> None:
    sources = tree(CASES / case / "input")
    loader = BASH_LOADER if any(b"+=" in content for content in sources.values()) else LOADER
    after = edited(sources, value, loader=loader)
    assert after == tree(CASES / case / operation)
    assert edited(after, value, loader=loader) == after
    words = loader.configured(after)
    assert command_line.values(words, OPTION) == ([] if value is None else [value])
    others = [word for word in command_line.options(loader.configured(sources)) if not command_line.sets(word, OPTION)]
    assert [word for word in command_line.options(words) if not command_line.sets(word, OPTION)] == others


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'A=1\nGRUB_CMDLINE_XEN="dom0_mem=1G\n', "grub line 2: a quoted string is not closed"),
        (b"GRUB_CMDLINE_XEN='x\n", "grub line 1: a quoted string is not closed"),
        (b"GRUB_CMDLINE_XEN=$(echo\n", "grub line 1: a bracket is not closed"),
        (b"GRUB_CMDLINE_XEN=`echo\n", "grub line 1: a backquote is not closed"),
        (b"cat <<E\nGRUB_CMDLINE_XEN=x\n", "grub line 1: a here-document has no end"),
        (b"cat <<;\nGRUB_CMDLINE_XEN=x\n", "grub line 1: the delimiter of a here-document"),
        (b"\nGRUB_CMDLINE_XEN=dom0_mem=$MEMORY\n", "grub line 2: the option dom0_mem .* expansion"),
        (b"GRUB_CMDLINE_XEN=a\0b\n", "grub line 1: the line contains a NUL"),
    ],
)
def test_what_is_not_understood_is_refused_by_file_and_line(content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        edited({grub2.MAIN: content}, "1G")


@pytest.mark.parametrize("content", [b'GRUB_CMDLINE_XEN="x\n', b"if true; then\n", b"no-such-command-here\n"])
def test_a_file_that_grub_cannot_source(content: bytes) -> None:
    with pytest.raises(UserError, match="cannot source its configuration: .*/etc/default/grub"):
        LOADER.configured({grub2.MAIN: content})


def test_a_line_is_not_added_behind_a_backslash() -> None:
    with pytest.raises(UserError, match="/etc/default/grub ends with a backslash"):
        edited({grub2.MAIN: b"GRUB_CMDLINE_XEN=\\"}, "1G", drop_ins=False)


def test_a_program_that_gives_something_else_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "etc/default"
    directory.mkdir(parents=True)
    (directory / "grub").write_text('MORE="dom0_mem=2G"\nGRUB_CMDLINE_XEN_DEFAULT="$MORE"\n')
    loader = grub2.Grub2(run, root=str(tmp_path))
    with pytest.raises(UserError, match="after the edit they give .*dom0_mem=2G"):
        loader.plan(loader.read(), OPTION, "dom0_mem=1G")


def test_words_that_grow_together_are_refused() -> None:
    grown = {grub2.MAIN: b'GRUB_CMDLINE_XEN="loglvl=all dom0_mem=2"\nGRUB_CMDLINE_XEN+="G dom0_mem=1G"\n'}
    with pytest.raises(UserError, match="give loglvl=allG beside dom0_mem instead of loglvl=all\\."):
        edited(grown, "3G", loader=BASH_LOADER)


def test_without_drop_ins_the_main_file_gets_a_line_and_loses_it_again() -> None:
    sources = {grub2.MAIN: b"GRUB_TIMEOUT=5\n"}
    after = edited(sources, "1G", drop_ins=False)
    assert after == {grub2.MAIN: b'GRUB_TIMEOUT=5\nGRUB_CMDLINE_XEN="$GRUB_CMDLINE_XEN dom0_mem=1G"\n'}
    assert edited(after, None, drop_ins=False) == sources


GRUB_CFG = """
set default=%s
menuentry 'Debian GNU/Linux' { linux /boot/vmlinuz quiet }
menuentry 'Debian GNU/Linux, with Xen hypervisor' --id xen {
\tmultiboot2\t/boot/xen-4.17-amd64.gz placeholder dom0_mem=1G,max:1G loglvl=all ${xen_rm_opts}
\tmodule2\t/boot/vmlinuz placeholder root=/dev/vda1
}
menuentry 'recovery' {
\tmultiboot2\t/boot/xen-4.17-amd64.gz placeholder ${xen_rm_opts}
}
menuentry 'Xen by its own loader' { chainloader /EFI/xen/xen.efi }
"""
USERS = "set superusers=root\npassword root x\n"
OTHER_MENU = "menuentry Other { search --set=root x\nconfigfile /grub/grub.cfg\n }\n"


@pytest.mark.parametrize(
    ("text", "options", "xen", "reason"),
    [
        (GRUB_CFG % "1", "dom0_mem=1G,max:1G loglvl=all", True, ""),
        (GRUB_CFG % "xen", "dom0_mem=1G,max:1G loglvl=all", True, ""),
        (GRUB_CFG % "2", "", True, ""),
        (GRUB_CFG % "0", None, False, "'Debian GNU/Linux', which does not start Xen"),
        (GRUB_CFG % "3", None, True, "takes its options from its own configuration"),
        (
            "if maybe; then set default=1; fi" + GRUB_CFG.replace("set default=%s", ""),
            None,
            None,
            "cannot be determined",
        ),
        ("menuentry 'a' { linux /boot/vmlinuz\n }", None, False, "no entry for Xen"),
        ("menuentry 'a' { multiboot /memtest x\n }", None, False, "no entry for Xen"),
        ("}", None, None, "not understood"),
        ("menuentry a {\n multiboot2 --quirk-bad-kludge /xen.gz placeholder b\n}\n", "b", True, ""),
        ("menuentry a {\n chainloader --force +1\n}\n", None, None, "hands over"),
        # Another system's menu makes nothing unknown, unless it is what boots.
        (f"{GRUB_CFG % 1}{OTHER_MENU}", "dom0_mem=1G,max:1G loglvl=all", True, ""),
        (f"{GRUB_CFG % 1}{OTHER_MENU.replace('menuentry', 'submenu')}", "dom0_mem=1G,max:1G loglvl=all", True, ""),
        (f"{GRUB_CFG % 4}{OTHER_MENU.replace('menuentry', 'submenu')}", None, None, "in a place that cannot be found"),
        (f"{GRUB_CFG % 1}menuentry a {{ eval $root\n}}\n", "dom0_mem=1G,max:1G loglvl=all", True, ""),
        (f"{GRUB_CFG % 4}{OTHER_MENU}", None, None, "'Other' hands over to another menu or loader"),
        ("menuentry W { chainloader +1\n }", None, None, "'W' hands over to another menu or loader"),
        # Somebody has to give a password.
        (f"{USERS}{GRUB_CFG % 1}", None, None, "asks for a password before it starts its entry 'Debian GNU"),
        (
            f"{USERS}{GRUB_CFG % 1}".replace("--id xen", "--id xen --unrestricted"),
            "dom0_mem=1G,max:1G loglvl=all",
            True,
            "",
        ),
        (f"{USERS}{GRUB_CFG % 1}".replace("--id xen", "--id xen --unrestricted --users b"), None, None, "asks for"),
        (
            f"{USERS}set o=--unrestricted\n{GRUB_CFG % 1}".replace("--id xen", "--id xen $o"),
            "dom0_mem=1G,max:1G loglvl=all",
            True,
            "",
        ),
        (f"{USERS}unset superusers\n{GRUB_CFG % 1}", "dom0_mem=1G,max:1G loglvl=all", True, ""),
        (
            f"{USERS}submenu S {{\n{GRUB_CFG.replace('set default=%s', '')}}}\nset default='S>0'\n".replace(
                "--id xen", "--id xen --unrestricted"
            ),
            None,
            None,
            "asks for",
        ),
        ("menuentry Qubes { chainloader /EFI/qubes/qubes-xen.efi\n }", None, True, "from its own configuration"),
    ],
)
def test_what_the_default_entry_passes(text: str, options: Optional[str], xen: Optional[bool], reason: str) -> None:
    host = grub_script.Host({"/boot/grub/grub.cfg": text}.get, "/boot/grub")
    boots = grub2.next_boot("/boot/grub/grub.cfg", host)
    assert (boots.options, boots.xen) == (options, xen)
    assert reason in boots.reason
    assert bool(boots.reason) is bool(reason)


STUB = "search --fs-uuid --set=dev 0001\nset prefix=($dev)/grub2\nexport prefix\nconfigfile $prefix/grub.cfg\n"


def menu(size: str) -> str:
    entry = f"menuentry Xen {{\n multiboot2 /xen.gz placeholder dom0_mem={size}\n}}\n"
    return f"### BEGIN /etc/grub.d/20_linux_xen ###\n{entry}"


@pytest.mark.parametrize(
    ("esp", "efi", "foreign", "wanted"),
    [
        # RHEL up to 8 and Fedora up to 33, started by EFI or by a BIOS.
        (menu("4G"), True, False, "dom0_mem=4G"),
        (menu("4G"), False, False, "dom0_mem=2G"),
        # Later ones: the menu on the EFI system partition only leads to the other one.
        (STUB, True, False, "dom0_mem=2G"),
        (STUB, True, True, "dom0_mem=2G"),
        # In a tree nothing tells how the machine will be started.
        (menu("4G"), True, True, None),
    ],
)
def test_of_two_menus_the_one_that_boots_is_read(
    tmp_path: Path, esp: str, efi: bool, foreign: bool, wanted: Optional[str]
) -> None:
    files = {
        "etc/default/grub": "",
        "usr/sbin/grub2-mkconfig": "",
        "boot/grub2/grub.cfg": menu("2G"),
        "boot/efi/EFI/rocky/grub.cfg": esp,
        **({"sys/firmware/efi/fw_platform_size": "64"} if efi else {}),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "etc/grub2-efi.cfg").symlink_to("../boot/efi/EFI/rocky/grub.cfg")
    loader = grub2.Grub2(run, root=str(tmp_path), foreign=foreign)
    boots = loader.next_boot()
    assert boots.options == wanted
    if wanted is None:
        assert "/boot/grub2/grub.cfg and /etc/grub2-efi.cfg" in boots.reason
        assert boots.reason in loader.unchecked(loader.read())


# 00_header of openSUSE's GRUB, and of GRUB since 2.14.
ON_BTRFS = """if [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${env_block}" ] ; then
  set env_block="(${root})${env_block}"
  export env_block
  load_env -f "${env_block}"
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env -f "${env_block}" next_entry
else
   set default="${saved_entry}"
fi
"""
ENVIRONMENT = "# GRUB Environment Block\n"
MOUNTS = (
    "21 1 0:30 / / rw - tmpfs none rw\n22 21 0:31 /@ /boot rw - btrfs /dev/vda2 rw\n23 21 0:32 / /bo rw - x /dev/a rw\n"
)


@pytest.mark.parametrize(
    ("saved", "external", "mounts", "options", "default", "once"),
    [
        ("xen", "", MOUNTS, "dom0_mem=1G,max:1G loglvl=all", True, None),
        ("0", "saved_entry=xen\n", MOUNTS, "dom0_mem=1G,max:1G loglvl=all", True, None),
        ("0", "next_entry=2\n", MOUNTS, "", False, "2"),
        ("xen", "next_entry=0\n", MOUNTS, None, True, "0"),
        # What is on another device is not known.
        ("xen", "", MOUNTS.replace("/dev/vda2", "/dev/vdb"), None, None, None),
        ("xen", "", "", None, None, None),
    ],
)
def test_what_grub_writes_where_it_cannot_write_files(
    tmp_path: Path,
    saved: str,
    external: str,
    mounts: str,
    options: Optional[str],
    default: Optional[bool],
    once: Optional[str],
) -> None:
    text = ON_BTRFS + GRUB_CFG.replace("set default=%s\n", "")
    files = {
        "etc/default/grub": "",
        "usr/sbin/grub-mkconfig": "",
        "boot/grub/grub.cfg": text,
        "boot/grub/grubenv": f"{ENVIRONMENT}saved_entry={saved}\nenv_block=512+1\n".ljust(1024, "#"),
        "dev/vda2": "\0" * (512 * 512) + f"{ENVIRONMENT}{external}".ljust(512, "#") + "\xff",
        "proc/self/mountinfo": mounts,
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="latin-1")
    loader = grub2.Grub2(run, root=str(tmp_path))
    assert loader.next_boot().options == options
    assert grub_default.GrubDefault(loader).boots().xen is default
    assert grub_once.selected(loader.menu()[1]) == once
    assert grub2.Grub2(run, root=str(tmp_path), foreign=True).next_boot().xen is None


ESP = "/boot/efi/EFI"
DEBIAN, FEDORA, WINDOWS, SYSTEMD, BY_NETWORK = 1, 2, 3, 4, 5
FIRMWARE = {
    DEBIAN: load_option("/EFI/debian/shimx64.efi"),
    FEDORA: load_option("/EFI/fedora/shimx64.efi"),
    WINDOWS: load_option("/EFI/Microsoft/Boot/bootmgfw.efi"),
    SYSTEMD: load_option("/EFI/systemd/systemd-bootx64.efi"),
    BY_NETWORK: NETWORK,
}
ENTRY_OF_GRUB = "title GRUB\nefi /EFI/debian/grubx64.efi\n"


@pytest.mark.parametrize(
    ("order", "following", "started", "entry", "reason"),
    [
        ([DEBIAN, WINDOWS], None, DEBIAN, "", ""),
        ([DEBIAN, WINDOWS], None, None, "", ""),
        # What was started from another partition, or from the network, may have led here.
        ([WINDOWS, DEBIAN], None, WINDOWS, "", ""),
        ([BY_NETWORK, DEBIAN], None, BY_NETWORK, "", ""),
        ([BY_NETWORK, DEBIAN], None, DEBIAN, "", ""),
        ([7, DEBIAN], None, DEBIAN, "", ""),
        # Somebody has chosen this system by hand.
        ([WINDOWS, DEBIAN], None, DEBIAN, "", "boot entry Boot0003"),
        ([FEDORA, DEBIAN], None, DEBIAN, "", "boot entry Boot0002"),
        ([WINDOWS, DEBIAN], None, None, "", "boot entry Boot0003"),
        ([DEBIAN], WINDOWS, DEBIAN, "", "boot entry Boot0003"),
        ([DEBIAN], BY_NETWORK, DEBIAN, "", "boot entry Boot0005 ('PXE') first"),
        ([DEBIAN], DEBIAN, DEBIAN, "", ""),
        # systemd-boot starts Linux, or GRUB.
        (
            [SYSTEMD, DEBIAN],
            None,
            SYSTEMD,
            "title Linux\nlinux /vmlinuz\n",
            "systemd-boot, whose default entry is 'Linux'",
        ),
        ([SYSTEMD, DEBIAN], None, SYSTEMD, ENTRY_OF_GRUB, ""),
    ],
)
@pytest.mark.parametrize("foreign", [False, True])
def test_what_the_firmware_starts_instead_is_named(
    tmp_path: Path,
    order: List[int],
    following: Optional[int],
    started: Optional[int],
    entry: str,
    reason: str,
    foreign: bool,
) -> None:
    files: Dict[str, bytes] = {
        "/etc/default/grub": b"",
        "/usr/sbin/grub-mkconfig": b"",
        "/boot/grub/grub.cfg": menu("2G").encode(),
        "/boot/efi/vmlinuz": b"k",
        **{f"{ESP}/{name}": b"MZ" for name in ("debian/shimx64.efi", "debian/grubx64.efi", "fedora/shimx64.efi")},
        f"{ESP}/Microsoft/Boot/bootmgfw.efi": b"MZ",
        f"{ESP}/systemd/systemd-bootx64.efi": SYSTEMD_BOOT,
        "/boot/efi/loader/loader.conf": b"",
        "/boot/efi/loader/entries/a.conf": entry.encode(),
        **efivars(order, FIRMWARE, following, started),
    }
    for name, content in files.items():
        path = tmp_path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    loader = grub2.Grub2(run, root=str(tmp_path), foreign=foreign)
    boots = loader.next_boot()
    assert list(boots.entries) == ["dom0_mem=2G"]
    if foreign or not reason:
        assert (boots.options, boots.xen, boots.reason) == ("dom0_mem=2G", True, "")
    else:
        assert (boots.options, boots.xen) == (None, None)
        assert reason in boots.reason
    # What is selected for the next start alone is no default.
    assert grub_default.GrubDefault(loader).boots().xen is (True if foreign or not reason or following else None)


def test_a_host_without_a_loader(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No boot loader was found"):
        find("auto", run, root=str(tmp_path))


def test_a_host_without_what_makes_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Neither update-grub nor grub-mkconfig"):
        grub2.Grub2(run, root=str(tmp_path)).generator()


@given(st.binary())
def test_any_bytes_are_edited_or_refused(content: bytes) -> None:
    sources = {grub2.MAIN: b"GRUB_CMDLINE_XEN=" + content}
    try:
        after = edited(sources, "1G", shell=False)
    except UserError:
        return
    assert edited(after, "1G", shell=False) == after


FRAGMENTS = st.sampled_from(
    ["a", "dom0_mem=2G", "dom0-mem=max:3G", " ", "  ", "\\\n", "'b c'", '"d e"', "'dom0_mem='4G", "loglvl=all"]
)
WORDS = st.lists(st.sampled_from(["a", "dom0_mem=2G", "dom0-mem=max:3G", "b=1", "$ITSELF"]))
VALUES = st.one_of(
    WORDS.map(lambda words: '"' + " ".join(words) + '"'),
    st.lists(FRAGMENTS.filter(lambda text: text.strip(" ") != ""), max_size=4).map("".join),
)


def line(before: str, name: str, value: str) -> str:
    after = "; fi" if before.startswith("if ") else ""
    return f"{before}{name}={value.replace('ITSELF', name)}{after}\n"


LINES = st.builds(
    line,
    st.sampled_from(["", "export ", "if true; then ", "X=1; "]),
    st.sampled_from(grub2.VARIABLES.names),
    VALUES,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(LINES, max_size=4), st.lists(LINES, max_size=2))
def test_set_gives_the_value_and_leaves_the_other_words(main: List[str], drop_in: List[str]) -> None:
    sources = {grub2.MAIN: "".join(main).encode(), "/etc/default/grub.d/a.cfg": "".join(drop_in).encode()}
    before = [word for word in command_line.options(LOADER.configured(sources)) if not command_line.sets(word, OPTION)]
    for value in ("1G,max:1G", None):
        try:
            after = edited(sources, value)
        except UserError:
            return
        words = command_line.options(LOADER.configured(after))
        assert [word for word in words if command_line.sets(word, OPTION)] == (
            [] if value is None else [f"{OPTION}={value}"]
        )
        assert [word for word in words if not command_line.sets(word, OPTION)] == before
        assert edited(after, value) == after
