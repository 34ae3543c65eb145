# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# fixtures/LOADER/CASE/input is what stands in the loader's directory; present and absent are what becomes of it.
# The cases of grub2 are in test_grub2.py.

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
from pathlib import Path
from types import ModuleType
from typing import Dict, List, Optional, Tuple

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot import change as boot_change
from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line, whole_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import (
    LOADERS,
    efi_cfg,
    extlinux,
    find,
    grub2,
    grub_legacy,
)
from ansible_collections.xen.stubdom.plugins.module_utils._boot.targets import Target
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import MARK
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

FIXTURES = Path(__file__).parents[1] / "fixtures"
OPTION = "dom0_mem"
DIRECTORIES = {"efi_cfg": "boot/efi/EFI/xen", "extlinux": "etc", "grub_legacy": "boot/grub"}
CASES = [(loader, path.name) for loader in DIRECTORIES for path in sorted((FIXTURES / loader).iterdir())]


def run(arguments: List[str]) -> Tuple[int, str, str]:
    done = subprocess.run(arguments, capture_output=True, check=False)
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def read_only(arguments: List[str]) -> Tuple[int, str, str]:
    assert arguments[:2] == ["sh", "-n"], f"run for another tree: {arguments}"
    return run(arguments)


def put(root: Path, path: str, text: str = "") -> Path:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)
    return root


def contents(directory: Path) -> Dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.suffix != ".efi"}


@pytest.mark.parametrize(("loader", "case"), CASES)
@pytest.mark.parametrize(("operation", "word"), [("present", "dom0_mem=1G,max:1G"), ("absent", None)])
@pytest.mark.parametrize("foreign", [False, True])
def test_golden_files(
    tmp_path: Path, loader: str, case: str, operation: str, word: Optional[str], foreign: bool
) -> None:
    directory = tmp_path / DIRECTORIES[loader]
    shutil.copytree(FIXTURES / loader / case / "input", directory)
    put(tmp_path, "boot/efi/EFI/xen/xen.efi")
    candidate = LOADERS[loader](read_only if foreign else run, root=str(tmp_path), foreign=foreign)
    assert candidate.present()
    others = [
        found
        for found in command_line.options(candidate.configured(candidate.read()))
        if not command_line.sets(found, OPTION)
    ]
    files.apply(candidate.plan(candidate.read(), OPTION, word))
    assert contents(directory) == contents(FIXTURES / loader / case / operation)
    assert candidate.plan(candidate.read(), OPTION, word) == []
    words = command_line.options(candidate.configured(candidate.read()))
    assert [found for found in words if command_line.sets(found, OPTION)] == ([] if word is None else [word])
    assert [found for found in words if not command_line.sets(found, OPTION)] == others
    if not candidate.generates and candidate.next_boot().options is not None:
        assert command_line.find(candidate.next_boot().options or "", OPTION) == ([] if word is None else [word])


@pytest.mark.parametrize(
    ("loader", "path", "text", "message"),
    [
        ("efi_cfg", "boot/efi/EFI/xen/xen.cfg", "[global]\ndefault=x\n[x]\noptions=a\n", "xen.cfg starts no kernel"),
        ("efi_cfg", "boot/efi/EFI/xen/xen.cfg", "[global]\nchain=y.cfg\n", "xen.cfg line 2 refers to another file"),
        ("extlinux", "etc/update-extlinux.conf", "a=1\nxen_opts='x\n", "update-extlinux.conf line 2: a quoted"),
        ("grub_legacy", "boot/grub/menu.lst", "title Linux\nkernel /vmlinuz\n", "menu.lst has no entry that boots"),
    ],
)
def test_what_is_not_understood_is_refused_and_left_alone(
    tmp_path: Path, loader: str, path: str, text: str, message: str
) -> None:
    put(put(tmp_path, path, text), "boot/efi/EFI/xen/xen.efi")
    candidate = LOADERS[loader](run, root=str(tmp_path))
    with pytest.raises(UserError, match=message) as refused:
        candidate.plan(candidate.read(), OPTION, "dom0_mem=1G")
    assert len(str(refused.value).splitlines()) == 2
    assert (tmp_path / path).read_text() == text


# What the scanner sees by itself has the line; a shell says it in its own words and often one line late.
BROKEN = {
    "a=1\n{name}=<\nb=2\n": "line 2: a redirection has no file name",
    "a=1\n{name}=a >;b=2\n": "line 2: a redirection has no file name",
    "{name}='x\n": "line 1: a quoted string is not closed",
    "a=1\n{name}=(a b\nc=$(\n": "line 3: a bracket is not closed",
    "if true; then\n{name}=a\n": "line 3: a shell cannot parse this: ",
    "{name}=a\nfi\n": "line 2: a shell cannot parse this: ",
    "{name}=a\n;; b\n": "line 2: a shell cannot parse this: ",
    "b=2 )\n": "line 1: a shell cannot parse this: ",
}


@pytest.mark.parametrize("loader", [grub2, extlinux])
@pytest.mark.parametrize("text", BROKEN)
@pytest.mark.parametrize("word", ["dom0_mem=1G", None])
def test_a_broken_file_of_another_tree_is_refused(
    tmp_path: Path, loader: ModuleType, text: str, word: Optional[str]
) -> None:
    broken = text.format(name=loader.VARIABLES.names[0])
    put(tmp_path, loader.MAIN.lstrip("/"), broken)
    candidate = find("auto", read_only, root=str(tmp_path), foreign=True)
    with pytest.raises(UserError, match=f"^{re.escape(loader.MAIN)} {re.escape(BROKEN[text])}") as refused:
        candidate.plan(candidate.read(), OPTION, word)
    assert len(str(refused.value).splitlines()) == 2
    assert (tmp_path / loader.MAIN.lstrip("/")).read_text() == broken


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (">/dev/null xen_opts=a\n", "a"),
        ("2>/dev/null xen_opts=a\n", "a"),
        ("xen_opts=a 2>&1 >>/dev/null\n", "a"),
        ("echo 2 >/dev/null xen_opts=a\n", ""),
    ],
)
def test_an_assignment_beside_a_redirection(tmp_path: Path, text: str, words: str) -> None:
    for foreign in (False, True):
        candidate = extlinux.Extlinux(run, root=str(put(tmp_path, "etc/update-extlinux.conf", text)), foreign=foreign)
        assert candidate.configured(candidate.read()) == words


@pytest.mark.parametrize(
    ("image", "names"),
    [
        ("xen.efi", ["xen.cfg"]),
        ("xen-4.20-amd64.efi", ["xen-4.20-amd64.cfg", "xen-4.20.cfg", "xen-4.cfg", "xen.cfg"]),
    ],
)
def test_where_xen_efi_looks_for_its_configuration(image: str, names: List[str]) -> None:
    assert efi_cfg.configuration_names(image) == names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[global]\ndefault=b\n[a]\noptions=one\nkernel=k\n[b]\noptions=two\nkernel=k\n", "two"),
        ("[a]\noptions=one\nkernel=k\n[b]\noptions=two\n", "one"),
        ("[global]\ndefault=b\n[a]\noptions=one\nkernel=k\n", None),
        ("options=a\tb\nkernel=k\n", "a"),
        ("options=a#b\noptions=c\nkernel=k\n", "a"),
        (";options=a\n options=b\nkernel=k\n", "b"),
        # A no-break space is a blank to Xen where an item or a value begins.
        ("\xa0options=\xa0 a\xa0b\nkernel=k\n", "a\xa0b"),
        # A blank at the end of its name belongs to a section.
        ("[global]\ndefault=a #\n[a]\noptions=one\nkernel=k\n", None),
        ("[global]\ndefault=a #\n[a]\nkernel=k\n[a ]\noptions=two\nkernel=k\n", "two"),
        # Those releases that say "last line will be ignored" read it all the same.
        ("kernel=k\noptions=last", "last"),
        ("[global]\ndefault=a\n[a]\nkernel=k\n[b\noptions=one\n", ""),
        ("[global]\ndefault=\n[a]\noptions=one\nkernel=k\n", "one"),
    ],
)
def test_what_xen_efi_reads(text: str, words: Optional[str]) -> None:
    assert efi_cfg.options(text) == words


def test_an_entry_of_systemd_boot_that_overrides_is_noticed(tmp_path: Path) -> None:
    put(tmp_path, "efi/EFI/xen/xen.cfg", "options=loglvl=all\nkernel=vmlinuz\n")
    put(tmp_path, "efi/EFI/xen/xen.efi")
    put(tmp_path, "efi/loader/entries/xen.conf", "title Xen\nefi /EFI/xen/xen.efi\noptions xen -- dom0_mem=4G\n")
    loader = efi_cfg.EfiCfg(run, root=str(tmp_path))
    assert loader.next_boot().options == "loglvl=all dom0_mem=4G"
    with pytest.raises(UserError, match="'loglvl=all dom0_mem=1G dom0_mem=4G'"):
        change(loader, tmp_path, "dom0_mem=1G")
    assert (tmp_path / "efi/EFI/xen/xen.cfg").read_text() == "options=loglvl=all\nkernel=vmlinuz\n"


def change(
    loader: object, root: Path, option: Optional[str], run_command: Runner = run
) -> Tuple[boot_change.Difference, boot_change.BootLine]:
    desired = boot_change.DesiredOption(OPTION, option)
    target = Target(loader, run_command, Xen(run, root=str(root)))  # type: ignore[arg-type]
    observed = boot_change.observe(desired, target)
    difference = boot_change.difference(desired, target, observed)
    with boot_change.restored_on_error(target, observed, difference):
        boot_change.apply(desired, target, observed, difference, backup=False)
        return difference, boot_change.verify(desired, target)


# What update-extlinux of Alpine's syslinux 6.04 writes, but for the two places in braces.
EXTLINUX = """# Generated by update-extlinux 6.04_pre1-r9
DEFAULT menu.c32
PROMPT 0
MENU TITLE Alpine/Linux Boot Menu
MENU HIDDEN
MENU AUTOBOOT Alpine will be booted automatically in # seconds.
TIMEOUT 10
LABEL xen-lts
{menu}  MENU LABEL Xen + Linux 6.6.1-0-lts
  COM32 mboot.c32
  APPEND xen.gz {words} --- vmlinuz-6.6.1-0-lts root=UUID=1234 modules=ext4 quiet --- initramfs-6.6.1-0-lts

LABEL lts
  MENU LABEL Linux 6.6.1-0-lts
  LINUX vmlinuz-6.6.1-0-lts
  INITRD initramfs-6.6.1-0-lts
  APPEND root=UUID=1234 modules=ext4 quiet

MENU SEPARATOR

"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (EXTLINUX.format(menu="  MENU DEFAULT\n", words="dom0_mem=1G a"), "dom0_mem=1G a"),
        ("ui menu.c32\nlabel a\nappend xen.gz one --- k\nlabel b\nmenu default\nappend /xen-4.gz two --- k\n", "two"),
        ("label a\nappend initrd=i root=/dev/vda1\n", None),
        # What boots is Linux, although there is an entry for Xen.
        ("default a\nlabel a\nlinux k\nlabel b\nappend xen.gz two --- k\n", None),
        ("default b\nlabel a\nlinux k\nlabel b\nappend xen.gz two --- k\n", "two"),
    ],
)
def test_what_extlinux_passes(text: str, words: Optional[str]) -> None:
    boots = extlinux.next_boot("/boot/extlinux.conf", {"/boot/extlinux.conf": text}.get)
    assert boots.options == words
    assert boots.xen is (words is not None)
    assert bool(boots.reason) is (words is None)


def test_extlinux_is_generated_and_read_back(tmp_path: Path) -> None:
    put(tmp_path, "etc/update-extlinux.conf", "default=lts\nxen_opts=\n")
    put(tmp_path, "boot/xen.gz")
    put(tmp_path, "sbin/update-extlinux")
    put(tmp_path, "boot/extlinux.conf", EXTLINUX.format(menu="", words=""))
    works = True

    def generate(arguments: List[str]) -> Tuple[int, str, str]:
        if arguments != ["update-extlinux"]:
            return run(arguments)
        loader = extlinux.Extlinux(run, root=str(tmp_path))
        words = loader.configured(loader.read()) if works else ""
        put(tmp_path, "boot/extlinux.conf", EXTLINUX.format(menu="", words=words))
        return 0, "", ""

    loader = extlinux.Extlinux(generate, root=str(tmp_path))
    difference, after = change(loader, tmp_path, "dom0_mem=1G", generate)
    assert difference.needed
    assert after.effective == ["dom0_mem=1G"]
    assert not change(loader, tmp_path, "dom0_mem=1G", generate)[0].needed
    works = False
    with pytest.raises(UserError, match="instead of dom0_mem=2G"):
        change(loader, tmp_path, "dom0_mem=2G", generate)
    assert loader.configured(loader.read()) == "dom0_mem=1G"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("default 1 # b\ntitle a\nkernel /xen.gz one\ntitle b\nkernel /xen.gz two\n", "two"),
        ("default=0x1\ntitle a\nkernel /xen.gz one\ntitle b\nkernel /xen.gz two\n", "two"),
        ("default 0\ndefault\t1\ntitle a\nkernel /xen.gz one\ntitle b\nkernel /xen.gz two\n", "two"),
        # Behind a title it is a command of that entry.
        ("title a\nkernel /xen.gz one\ntitle b\ndefault 1\nkernel /xen.gz two\n", "one"),
        ("default 1\ntitle a\nkernel /xen.gz one\ntitle b\nkernel /xen.gz two\n", "two"),
        ("default=0\ntitle Linux\nkernel /vmlinuz-xen x\ntitle b\nkernel /xen.gz two\n", None),
        ("default=1\ntitle Linux\nkernel /vmlinuz-xen x\ntitle b\nkernel /xen.gz two\n", "two"),
        ("default=7\ntitle b\nkernel /xen.gz two\n", "two"),
        ("default 7\nfallback 1\ntitle a\nkernel /xen.gz one\ntitle b\nkernel /xen.gz two\n", "two"),
        ("default 7\nfallback=9 0x1 0\ntitle a\nkernel /xen.gz one\ntitle b\nkernel /xen.gz two\n", "two"),
        ("default 7\nfallback 9\ntitle a\nkernel /xen.gz one\ntitle b\nkernel /xen.gz two\n", "one"),
        ("default 7\nfallback x 1\ntitle a\nkernel /xen.gz one\ntitle b\nkernel /xen.gz two\n", "one"),
        ("default 7\nfallback 1\ntitle a\nkernel /xen.gz one\ntitle b\nkernel /vmlinuz\n", None),
        ("default 0\nfallback 1\ntitle a\nkernel /xen.gz one\ntitle b\nkernel /xen.gz two\n", "one"),
        ("default 7\ntitle a\nfallback 1\nkernel /xen.gz one\ntitle b\nkernel /xen.gz two\n", "one"),
        ("default saved\ntitle a\nkernel (hd0,0)/boot/xen-4.1-amd64.gz one \\\n two\n", "one two"),
        ("title a\nkernel /vmlinuz\n#kernel /xen.gz x\n", None),
        # A title without a command is no entry, and a line that is no command is none.
        ("default 1\ntitle -----\n\ntitle Linux\nkernel /vmlinuz\ntitle Xen\nkernel /xen.gz a\n", "a"),
        ("default 0\ntitle -----\nnothing\ntitle Xen\nkernel /xen.gz a\ntitle Linux\nkernel /vmlinuz\n", "a"),
    ],
)
def test_what_legacy_grub_passes(text: str, words: Optional[str]) -> None:
    boots = grub_legacy.next_boot("/boot/grub/menu.lst", text)
    assert boots.options == words
    assert bool(boots.reason) is (words is None)


MARKED = """### BEGIN AUTOMAGIC KERNELS LIST
## ## Start Default Options ##
{inside}## ## End Default Options ##
{outside}
title Xen
kernel /boot/xen-4.1-amd64.gz a
### END DEBIAN AUTOMAGIC KERNELS LIST
"""


@pytest.mark.parametrize(
    ("text", "xen", "reason"),
    [
        ("title a\nkernel /vmlinuz\n", False, "which does not start Xen"),
        ("title a\nchainloader +1\n", None, "'a' hands over to another menu"),
        ("title a\nroot (hd0,1)\nconfigfile /grub/menu.lst\n", None, "'a' hands over to another menu"),
        ("password x\ntitle a\nlock\nkernel /xen.gz\n", None, "start its entry 'a' until somebody gives a password"),
        ("title a\npassword --md5 x\nkernel /xen.gz\n", None, "start its entry 'a' until somebody gives a password"),
        # Nothing is locked without a password.
        ("title a\nlock\nkernel /xen.gz\n", True, ""),
        ("password x\ntitle a\nkernel /xen.gz\ntitle c\nlock\nkernel /xen.gz\n", True, ""),
    ],
)
def test_what_legacy_grub_starts_instead(text: str, xen: Optional[bool], reason: str) -> None:
    boots = grub_legacy.next_boot("p", f"default 0\n{text}title b\nkernel /xen.gz two\n")
    assert (boots.xen, boots.entries[-1]) == (xen, "two")
    assert reason in boots.reason
    assert bool(boots.reason) is bool(reason)


def test_what_debians_update_grub_reads_is_between_its_marks(tmp_path: Path) -> None:
    """An option elsewhere is a comment to it, and the next run would lose what was put there."""
    text = MARKED.format(inside="# kopt=r\n", outside="# xenhopt=dom0_mem=9G")
    assert grub_legacy.configured_line(text) == "a"
    after = grub_legacy.edit("menu.lst", text, OPTION, "dom0_mem=1G")
    lines = after.splitlines()
    assert lines[1:4] == ["## ## Start Default Options ##", f"#{MARK}", "# xenhopt=dom0_mem=1G"]
    assert "# xenhopt=dom0_mem=9G" in lines
    assert grub_legacy.configured_line(after) == "dom0_mem=1G"
    assert grub_legacy.edit("menu.lst", after, OPTION, None) == text


def test_a_backslash_continues_a_comment_of_legacy_grub(tmp_path: Path) -> None:
    text = "title a\n#\\\nkernel /xen.gz x\nkernel /xen.gz y\n"
    assert grub_legacy.next_boot("menu.lst", text).entries == ("y",)
    assert "xen.gz x\n" in grub_legacy.edit("menu.lst", text, OPTION, "dom0_mem=1G")


GENERATED = "### BEGIN /etc/grub.d/20_linux_xen ###\nmenuentry 'Xen' {\n\t%s\n}\n"
LAYOUTS = [
    ("update-grub", "etc/default/grub", "boot/grub/grub.cfg", ["update-grub"]),
    ("grub2-mkconfig", "etc/default/grub", "boot/grub2/grub.cfg", ["grub2-mkconfig", "-o"]),
    ("grub2-mkconfig", "etc/default/grub", "etc/grub2-efi.cfg", ["grub2-mkconfig", "-o"]),
    ("grub-mkconfig", "etc/default/grub", "boot/grub/grub.cfg", ["grub-mkconfig", "-o"]),
]


@pytest.mark.parametrize(("program", "source", "output", "command"), LAYOUTS)
def test_grub_2_in_the_ways_of_distributions(
    tmp_path: Path, program: str, source: str, output: str, command: List[str]
) -> None:
    put(tmp_path, source, 'GRUB_CMDLINE_XEN_DEFAULT="loglvl=all"\n')
    put(tmp_path, f"usr/sbin/{program}", "#! /bin/sh\n")
    put(tmp_path, output)
    put(tmp_path, "boot/xen-4.20.gz")
    calls: List[List[str]] = []

    def generate(arguments: List[str]) -> Tuple[int, str, str]:
        if arguments[0] == "sh":
            return run(arguments)
        calls.append(arguments[:2])
        words = loader.configured(loader.read())
        written = Path(arguments[2]) if len(arguments) > 2 else tmp_path / output
        # The menu that boots is never a half-written one.
        assert (tmp_path / output).read_text() == ""
        put(written.parent, written.name + ".new", "half")
        put(written.parent, written.name, GENERATED % f"multiboot2 /xen-4.20.gz placeholder {words} ${{xen_rm_opts}}")
        return 0, "", ""

    loader = find("auto", generate, root=str(tmp_path))
    _difference, after = change(loader, tmp_path, "dom0_mem=1G", generate)
    assert calls == [command]
    assert loader.name == "grub2"
    assert after.effective == ["dom0_mem=1G"]
    assert not [path for path in (tmp_path / output).parent.iterdir() if path.name.endswith(("-new", "-new.new"))]


def several(root: Path) -> Path:
    put(root, "etc/default/grub", "GRUB_TIMEOUT=5\n")
    put(root, "usr/sbin/update-grub")
    put(root, "boot/grub/grub.cfg", GENERATED % "linux /vmlinuz")
    put(root, "boot/efi/EFI/xen/xen.efi")
    return put(root, "boot/efi/EFI/xen/xen.cfg", "options=a\nkernel=vmlinuz\n")


def test_of_several_loaders_the_one_that_boots_a_hypervisor_is_meant(tmp_path: Path) -> None:
    assert find("auto", run, root=str(several(tmp_path))).name == "efi_cfg"
    assert find("grub2", run, root=str(tmp_path)).name == "grub2"


def test_two_loaders_that_boot_a_hypervisor_are_refused(tmp_path: Path) -> None:
    put(several(tmp_path), "boot/grub/grub.cfg", GENERATED % "multiboot2 /boot/xen-4.17.gz placeholder")
    with pytest.raises(UserError, match="grub2, efi_cfg"):
        find("auto", run, root=str(tmp_path))
    for running, name in (("placeholder a", "grub2"), ("a placeholder", "efi_cfg"), ("", "efi_cfg")):
        assert find("auto", run, root=str(tmp_path), running=running).name == name


@pytest.mark.parametrize(
    ("path", "whose"),
    [
        ("boot/efi/EFI/xenserver/grub.cfg", "XCP-ng"),
        ("boot/boot.scr", "U-Boot"),
        ("boot/firmware/uEnv.txt", "U-Boot"),
        ("boot/loader.conf", "FreeBSD"),
        ("boot.cfg", "NetBSD"),
        ("srv/tftp/pxelinux.cfg/default", "pxelinux"),
        ("boot/efi/EFI/refind/refind.conf", "rEFInd"),
    ],
)
@pytest.mark.parametrize("name", ["auto", "grub2"])
def test_a_loader_that_is_not_supported_is_named(tmp_path: Path, path: str, whose: str, name: str) -> None:
    """To install another loader beside it would leave the host with two."""
    with pytest.raises(UserError, match=whose) as refused:
        find(name, read_only, root=str(put(tmp_path, path, "x\n")), foreign=True)
    assert "Install" not in str(refused.value)
    assert all(loader in refused.value.remedy for loader in LOADERS)


# A character more of any of these must not cost more than the one before.
AWKWARD = {
    "efi_cfg": ["[a]\nkernel=k\noptions=x\n", "[", "kernel=k options=", "a=b\n", " ", "\r\n", "options=dom0_mem=1 "],
    "extlinux": [
        "label a\nappend xen.gz a --- b\n",
        "append xen.gz ",
        " --- ",
        "include a\n",
        "menu default\n",
        " ",
        "\\\n",
        "label a\nappend xen.gz dom0_mem=1 --- b\n",
    ],
    "grub_legacy": [
        "title a\nkernel /xen.gz x\n",
        "kernel --a ",
        "\\\n",
        "#\\\n",
        "## ## Start Default Options ##\n# xenhopt=dom0_mem=1\n",
        f"#{MARK}\n# xenhopt=dom0_mem=1\n",
        "kernel /xen.gz dom0_mem=1 ",
        " ",
        "\r",
    ],
}
MENUS = {
    "efi_cfg": "boot/efi/EFI/xen/xen.cfg",
    "extlinux": "boot/syslinux/syslinux.cfg",
    "grub_legacy": "boot/grub/menu.lst",
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in AWKWARD.items() for text in texts])
def test_a_long_file_takes_no_longer_than_its_length(tmp_path: Path, name: str, text: str) -> None:
    size = 1 << 19
    put(put(tmp_path, MENUS[name], (text * (size // len(text) + 1))[:size]), "boot/efi/EFI/xen/xen.efi")
    loader = LOADERS[name](read_only, root=str(tmp_path), foreign=True)
    started = time.process_time()
    loader.next_boot()
    read = time.process_time()
    for word in ("dom0_mem=2G", None):
        with contextlib.suppress(UserError):
            loader.plan(loader.read(), OPTION, word)
    planned = time.process_time()
    # Less than one second together without coverage; a pattern whose time grows with the square takes minutes.
    assert read - started < 5
    assert planned - read < 10


def test_the_report_never_fails(tmp_path: Path) -> None:
    report = whole_line.report(run, Xen(run, root=str(tmp_path)), root=str(tmp_path))
    assert report["loader"] is None
    assert not report["reboot_required"]
    put(tmp_path, "boot/efi/EFI/xen/xen.efi")
    put(tmp_path, "boot/efi/EFI/xen/xen.cfg", "options=a b\nkernel=vmlinuz\n")
    report = whole_line.report(run, Xen(run, root=str(tmp_path)), root=str(tmp_path))
    assert (report["loader"], report["configured"], report["effective"]) == ("efi_cfg", "a b", "a b")
