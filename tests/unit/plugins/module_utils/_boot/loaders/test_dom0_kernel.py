# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Options of dom0's Linux. fixtures/dom0_kernel/LOADER/CASE/input is a file tree, present and absent are what becomes of
# its files.

from __future__ import annotations

import contextlib
import re
import shutil
import time
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Tuple

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot import (
    command_line,
    grub_by_hand,
    grub_script,
    line_edits,
)
from ansible_collections.xen.stubdom.plugins.module_utils._boot.command_line import DOM0_KERNEL, HYPERVISOR
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import (
    LOADERS,
    Loader,
    efi_boot,
    efi_cfg,
    extlinux,
    for_recipient,
    grub2,
    grub_legacy,
)
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from hypothesis import given
from hypothesis import strategies as st
from test_loader_properties import many, stage2, xen_efi
from test_loaders import FIXTURES, put, read_only, run

CASES = sorted(f"{case.parent.name}/{case.name}" for case in (FIXTURES / "dom0_kernel").glob("*/*"))


def contents(directory: Path) -> Dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def prepared(root: Path, case: str, *, foreign: bool = True) -> Loader:
    shutil.copytree(FIXTURES / "dom0_kernel" / case / "input", root, dirs_exist_ok=True)
    name = case.partition("/")[0]
    if name == "efi_cfg":
        (root / "boot/efi/EFI/xen/xen.efi").write_bytes(b"")
    loader = LOADERS[name](read_only if foreign else run, root=str(root), foreign=foreign)
    return for_recipient(loader, DOM0_KERNEL)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("operation", "word"), [("present", "console=tty0 console=hvc0"), ("absent", None)])
@pytest.mark.parametrize("foreign", [False, True])
def test_golden_files(tmp_path: Path, case: str, operation: str, word: Optional[str], foreign: bool) -> None:
    loader = prepared(tmp_path, case, foreign=foreign)
    hypervisors = for_recipient(loader, HYPERVISOR)
    xen = hypervisors.configured(hypervisors.read())
    others = command_line.others(loader.configured(loader.read()), "console", DOM0_KERNEL)
    files.apply(loader.plan(loader.read(), "console", word))
    expected = FIXTURES / "dom0_kernel" / case / operation
    found = {path: content for path, content in contents(tmp_path).items() if not path.endswith("xen.efi")}
    assert found == contents(expected)
    assert loader.plan(loader.read(), "console", word) == []
    line = loader.configured(loader.read())
    assert command_line.find(line, "console", DOM0_KERNEL) == line_edits.words(word)
    assert command_line.others(line, "console", DOM0_KERNEL) == others
    assert hypervisors.configured(hypervisors.read()) == xen
    for passed in loader.next_boot().entries:
        assert command_line.find(passed, "console", DOM0_KERNEL) == line_edits.words(word)


def find(line: Optional[str], name: str = "console") -> List[str]:
    return command_line.find(line or "", name, DOM0_KERNEL)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('a="b c" console=x', ['a="b c"', "console=x"]),
        ('"console=x y" z', ['"console=x y"', "z"]),
        ("a -- console=x", ["a"]),
        ('a "-- b', ["a", '"-- b']),
    ],
)
def test_words_as_linux_splits_them(line: str, words: List[str]) -> None:
    assert command_line.options(line, DOM0_KERNEL) == words


# setup.c and create_dom0 of Xen: what follows " -- " on its own line is added to that of dom0's Linux.
ADDED: List[Tuple[str, str, str]] = [
    (
        "grub2",
        "boot/grub/grub.cfg",
        "menuentry a {\nmultiboot2 /boot/xen.gz placeholder x=1 -- console=hvc0 y\nmodule2 /boot/v console=tty0\n}\n",
    ),
    (
        "grub_legacy",
        "boot/grub/menu.lst",
        "title a\nkernel /xen.gz x=1 \\\n -- console=hvc0 y\nmodule /v console=tty0\n",
    ),
    (
        "extlinux",
        "boot/extlinux.conf",
        "DEFAULT a\nLABEL a\nCOM32 mboot.c32\nAPPEND xen.gz x=1 -- console=hvc0 y --- v console=tty0 --- i\n",
    ),
    ("efi_cfg", "boot/efi/EFI/xen/xen.cfg", "[a]\noptions=x=1 -- console=hvc0 y\nkernel=v console=tty0\n"),
]


@pytest.mark.parametrize(("name", "path", "text"), ADDED, ids=[case[0] for case in ADDED])
def test_words_behind_the_end_of_the_hypervisors_line_are_for_linux(
    tmp_path: Path, name: str, path: str, text: str
) -> None:
    put(tmp_path, path, text)
    if name == "efi_cfg":
        put(tmp_path, "boot/efi/EFI/xen/xen.efi", "")
    loader = for_recipient(LOADERS[name](read_only, root=str(tmp_path), foreign=True), DOM0_KERNEL)
    assert command_line.options(loader.next_boot().options or "", DOM0_KERNEL) == ["console=tty0", "console=hvc0", "y"]
    options = for_recipient(loader, HYPERVISOR).next_boot().options
    assert command_line.options(options or "") == ["x=1"]


def test_linux_does_not_negate_with_no() -> None:
    assert find("no_console_suspend console_suspend no-console") == []
    both = ["xen_pciback.hide=a", "xen-pciback.hide=b"]
    assert find(" ".join(both), "xen-pciback.hide") == both


MENU = """set default=0
menuentry 'Xen' {
%s
}
"""


@pytest.mark.parametrize(
    ("body", "options", "reason"),
    [
        ("multiboot2 /xen.gz a\nmodule2 /v root=x ro b\nmodule2 /initrd c", "root=x ro b", ""),
        ("multiboot /xen.gz a\nmodule /v placeholder b", "b", ""),
        ("xen_hypervisor /xen a\nxen_module --nounzip /v b", "b", ""),
        ("multiboot2 /xen.gz\nmodule2 /v 'dyndbg=file x +p' b", '"dyndbg=file x +p" b', ""),
        ("multiboot2 /xen.gz\nmodule2 /v", "", ""),
        ("multiboot2 /xen.gz a", None, "has no module for dom0's Linux"),
        ("multiboot2 /xen.gz\nif maybe; then module2 /v a; fi\nmodule2 /v b", None, "depends on a condition"),
        ("multiboot2 /memtest\nmodule2 /v b", None, "no entry for Xen"),
        ("linux /vmlinuz b", None, "no entry for Xen"),
        ("chainloader /EFI/xen/xen.efi", None, "takes its options from its own configuration"),
    ],
)
def test_what_a_menu_of_grub_passes(body: str, options: Optional[str], reason: str) -> None:
    host = grub_script.Host({"/boot/grub/grub.cfg": MENU % body}.get, "/boot/grub")
    boots = grub2.next_boot("/boot/grub/grub.cfg", host, DOM0_KERNEL)
    assert boots.options == options
    assert reason in boots.reason
    assert bool(boots.reason) is bool(reason)


@pytest.mark.parametrize("recipient", [HYPERVISOR, DOM0_KERNEL])
def test_the_first_option_of_a_menu_is_no_part_of_a_file_name(recipient: command_line.Recipient) -> None:
    text = MENU % "multiboot2 /xen.gz\nmodule2 /vmlinuz"
    after = grub_by_hand.edit("grub.cfg", text, "smt", "smt=0", recipient)
    assert ("/xen.gz smt=0\n" if recipient is HYPERVISOR else "/vmlinuz smt=0\n") in after
    assert grub_by_hand.edit("grub.cfg", after, "smt", None, recipient) == text


MAGIC = (
    f"{grub_legacy.BEGIN}\n## ## Start Default Options ##\n# kopt=ro console=tty0\n# xenkopt=a\n"
    f"## ## End Default Options ##\ntitle a\nkernel /xen.gz\nmodule /v ro console=tty0 a\n{grub_legacy.END}\n"
)


@pytest.mark.parametrize(
    ("name", "path", "text", "message"),
    [
        ("grub2", "boot/grub/grub.cfg", MENU % "multiboot2 /xen.gz", "has no entry that starts Xen"),
        ("grub2", "boot/grub/grub.cfg", MENU % "multiboot2 /xen.gz\nmodule2 /v 'console=a'", "line 4: the options of"),
        ("grub2", "etc/default/grub", 'GRUB_CMDLINE_LINUX="$X console=a"\n', "GRUB_CMDLINE_LINUX is set by a program"),
        ("extlinux", "boot/syslinux/syslinux.cfg", "label a\nappend xen.gz x\n", "has no entry that starts Xen"),
        ("grub_legacy", "boot/grub/menu.lst", "title a\nkernel /xen.gz\n", "has no entry that boots a hypervisor"),
        ("efi_cfg", "boot/efi/EFI/xen/xen.cfg", "[a]\noptions=x\n", "xen.cfg starts no kernel"),
        ("grub_legacy", "boot/grub/menu.lst", MAGIC, "menu.lst line 3 gives console to every Linux, with Xen and"),
    ],
)
def test_refusals(tmp_path: Path, name: str, path: str, text: str, message: str) -> None:
    put(put(tmp_path, path, text), "boot/efi/EFI/xen/xen.efi")
    loader = for_recipient(LOADERS[name](read_only, root=str(tmp_path), foreign=True), DOM0_KERNEL)
    with pytest.raises(UserError, match=message) as refused:
        loader.plan(loader.read(), "console", "console=hvc0")
    assert len(str(refused.value).splitlines()) == 2
    assert (tmp_path / path).read_text() == text


def test_what_all_entries_of_legacy_grub_have_is_left_there() -> None:
    assert grub_legacy.edit("menu.lst", MAGIC, "console", "console=tty0", DOM0_KERNEL) == MAGIC


def test_a_unified_image_is_refused_where_it_would_have_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "boot/efi/EFI/xen/xen.efi")
    monkeypatch.setattr(efi_boot, "inside", lambda _file: b"[a]\noptions=x\nkernel=v root=y console=hvc0\n")
    loader = for_recipient(LOADERS["efi_cfg"](read_only, root=str(tmp_path), foreign=True), DOM0_KERNEL)
    assert loader.configured(loader.read()) == "root=y console=hvc0"
    assert loader.plan(loader.read(), "console", "console=hvc0") == []
    with pytest.raises(UserError, match="inside the image"):
        loader.plan(loader.read(), "console", "console=tty0")


# ---- what holds for any file, read back by code that is not the loader's

WORDS = st.lists(
    st.sampled_from(["console=tty0", "console=ttyS0,115200", "a", 'b="c console=d"', "no_console", "root=/dev/sda1"]),
    max_size=4,
).map(" ".join)
WANTED = st.sampled_from(["console=hvc0", "console=tty0 console=hvc0", "console"])


def holds(text: str, word: str, edit: Callable[[str, Optional[str]], str], passed: Callable[[str], List[str]]) -> None:
    """Edit, read back, edit again, and take away again."""

    def others(text: str) -> List[List[str]]:
        return [command_line.others(line, "console", DOM0_KERNEL) for line in passed(text)]

    try:
        after = edit(text, word)
    except UserError:
        return
    assert [find(line) for line in passed(after)] == [word.split()] * len(passed(text))
    assert others(after) == others(text)
    assert edit(after, word) == after
    gone = edit(after, None)
    assert [line for line in passed(gone) if find(line)] == []
    assert others(gone) == others(text)
    assert edit(gone, None) == gone
    if not any(find(line) for line in passed(text)):
        assert passed(gone) == passed(text)


@many
@given(st.lists(st.tuples(st.sampled_from(["", "[x]\n", "options=console=com1\n"]), WORDS), max_size=3), WANTED)
def test_any_xen_cfg(parts: List[Tuple[str, str]], word: str) -> None:
    text = "[global]\ndefault=x\n[x]\n" + "".join(f"{head}kernel=v {words}\n" for head, words in parts)

    def passed(text: str) -> List[str]:
        found = xen_efi(text, "x", "kernel")
        return [] if found is None else [found.partition(" ")[2]]

    holds(text, word, lambda text, option: efi_cfg.edit("xen.cfg", text, "console", option, None, DOM0_KERNEL), passed)


HEADS = st.sampled_from(["kernel /xen.gz console=com1\nmodule /v ", "kernel /v ", "kernel /xen.gz\nmodule /v \\\n"])


@many
@given(st.lists(st.tuples(HEADS, WORDS, st.sampled_from(["", "module /initrd console=tty0\n"])), max_size=3), WANTED)
def test_any_menu_of_legacy_grub(parts: List[Tuple[str, str, str]], word: str) -> None:
    text = "".join(f"title x\n{head}{words}\n{tail}" for head, words, tail in parts)

    def passed(text: str) -> List[str]:
        lines = stage2(text)
        follows = zip(lines, lines[1:])
        return [after.partition("/v")[2] for before, after in follows if before.startswith("kernel /xen")]

    holds(text, word, lambda text, option: grub_legacy.edit("menu.lst", text, "console", option, DOM0_KERNEL), passed)


@many
@given(
    st.lists(st.tuples(st.sampled_from(["append xen.gz console=com1 --- v ", "append v "]), WORDS), max_size=3), WANTED
)
def test_any_menu_of_syslinux(parts: List[Tuple[str, str]], word: str) -> None:
    text = "".join(f"label x\n{head}{words} --- initrd console=tty0\n" for head, words in parts)

    def edit(text: str, option: Optional[str]) -> str:
        menu = extlinux.parse("x", {"x": text}.get, DOM0_KERNEL)
        return extlinux.edit(menu, {"x": text}, "console", option)["x"]

    def passed(text: str) -> List[str]:
        lines = [re.split(" +--- +", line) for line in text.splitlines() if line.startswith("append xen.gz")]
        return [line[1].partition("v")[2] for line in lines]

    holds(text, word, edit, passed)


@many
@given(
    st.lists(st.tuples(st.sampled_from(["multiboot2 /xen.gz\nmodule2 /v ", "linux /v "]), WORDS), max_size=3), WANTED
)
def test_any_menu_of_grub(parts: List[Tuple[str, str]], word: str) -> None:
    text = "".join(f"menuentry x {{\n{head}{words}\nmodule2 /initrd console=tty0\n}}\n" for head, words in parts)

    def passed(text: str) -> List[str]:
        lines = text.splitlines()
        follows = zip(lines, lines[1:])
        return [after.partition("/v")[2] for before, after in follows if before.startswith("multiboot2")]

    holds(text, word, lambda text, option: grub_by_hand.edit("g", text, "console", option, DOM0_KERNEL), passed)


# A character more of any of these must not cost more than the one before.
LONG: Mapping[str, List[str]] = {
    "grub2 etc/default/grub": [
        "GRUB_CMDLINE_LINUX=console=b\n",
        'GRUB_CMDLINE_LINUX_XEN_REPLACE="$GRUB_CMDLINE_LINUX_XEN_REPLACE console=b"\n',
        "GRUB_CMDLINE_LINUX_XEN_REPLACE=console=b; ",
        'GRUB_CMDLINE_LINUX="console=b console=b ',
    ],
    "extlinux etc/update-extlinux.conf": ['default_kernel_opts="console=b"\n'],
}


@pytest.mark.parametrize(("place", "text"), [(place, text) for place, texts in LONG.items() for text in texts])
def test_a_long_file_takes_no_longer_than_its_length(tmp_path: Path, place: str, text: str) -> None:
    name, path = place.split(" ")
    size = 1 << 20
    put(tmp_path, path, (text * (size // len(text) + 1))[:size])
    loader = for_recipient(LOADERS[name](read_only, root=str(tmp_path), foreign=True), DOM0_KERNEL)
    started = time.process_time()
    loader.next_boot()
    read = time.process_time()
    for word in ("console=tty0 console=hvc0", None):
        with contextlib.suppress(UserError):
            loader.elsewhere(loader.read(), loader.plan(loader.read(), "console", word), "console")
    assert read - started < 5
    # Each edit reads what was there, and what it makes of it, several times.
    assert time.process_time() - read < 30
