# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Whatever stands in a boot loader's file, it is read in a time that grows no faster than the file.

from __future__ import annotations

import contextlib
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Callable, Dict, Iterator, Mapping, Optional

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot import (
    grub_by_hand,
    grub_script,
    line_edits,
    replaced_line,
    tree,
)
from ansible_collections.xen.stubdom.plugins.module_utils._boot.command_line import DOM0_KERNEL
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import (
    efi_boot,
    efi_cfg,
    extlinux,
    grub2,
    grub_legacy,
    scanner,
)
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

OPTION = ("dom0_mem", "dom0_mem=1G")
# In seconds of the processor. It is two for each text on a machine with nothing else to do, and up to twice as much on
# one whose cores are shared; a tracer, such as that of a measurement of coverage, costs several times the work itself.
ALLOWED = 4.0 if sys.gettrace() is None else 40.0


def menu(text: str, block: Optional[str] = None) -> object:
    files = {"/boot/grub/grub.cfg": text, **({} if block is None else {"/boot/grub/grubenv": block})}
    return grub2.next_boot("/boot/grub/grub.cfg", grub_script.Host(files.get, "/boot/grub", "pc", ()))


def shell(text: str) -> Mapping[str, bytes]:
    return {grub2.MAIN: f"GRUB_CMDLINE_XEN=a\n{text}".encode("latin-1")}


READERS: Dict[str, Callable[[str], object]] = {
    "grub.cfg": menu,
    "an entry of grub.cfg": lambda text: menu(
        f"menuentry 'a' {{\n multiboot2 /xen.gz a\n}}\nmenuentry b {{\n{text}\n}}\n"
    ),
    "grub.cfg by hand": lambda text: grub_by_hand.edit("p", f"multiboot2 /xen.gz a\n{text}", *OPTION),
    "grubenv": lambda text: menu("load_env\nset default=$saved_entry\nmenuentry a {\n linux /a\n}\n", text),
    "/etc/default/grub": lambda text: grub2.VARIABLES.read(shell(text)),
    "/etc/default/grub, changed": lambda text: grub2.VARIABLES.edit(shell(text), *OPTION, drop_ins=False),
    "menu.lst": lambda text: grub_legacy.next_boot("p", text),
    "menu.lst, changed": lambda text: grub_legacy.edit("p", f"title a\nkernel /xen.gz a\n{text}", *OPTION),
    "xen.cfg": efi_cfg.options,
    "xen.cfg, changed": lambda text: efi_cfg.edit("p", f"[a]\nkernel=x\n{text}", *OPTION),
    "a line for xen.efi": efi_cfg.line,
    "extlinux.conf": lambda text: extlinux.next_boot("/p", {"/p": text}.get),
    "extlinux.conf, changed": lambda text: extlinux.edit(extlinux.parse("/p", {"/p": text}.get), {"/p": text}, *OPTION),
    "grub.cfg by hand, for Linux": lambda text: grub_by_hand.edit(
        "p", f"multiboot2 /xen.gz\nmodule2 /v {text}", *OPTION, DOM0_KERNEL
    ),
    "menu.lst, for Linux": lambda text: grub_legacy.edit(
        "p", f"kernel /xen.gz\nmodule /v {text}", *OPTION, DOM0_KERNEL
    ),
    "xen.cfg, for Linux": lambda text: efi_cfg.edit("p", f"kernel=x {text}", *OPTION, None, DOM0_KERNEL),
    "extlinux.conf, for Linux": lambda text: extlinux.edit(
        extlinux.parse("/p", {"/p": text}.get, DOM0_KERNEL), {"/p": text}, *OPTION
    ),
    "a command line of Linux": lambda text: line_edits.edits(text, *OPTION, DOM0_KERNEL),
    "a command line": lambda text: line_edits.put(text, "dom0_mem", "1G"),
    "a replaced line": replaced_line.restore,
    "an entry of systemd-boot": lambda text: efi_boot._fields(text.encode("latin-1")),
    "loader.conf": lambda text: efi_boot._configured(text.encode("latin-1"), "default"),
}
# What is repeated: each sign of these languages, closed and left open, and what their readers look for.
UNITS = (
    "A=b ", "A=b\n", "A=$A\n", "a=b\na=$a$a\n", "\\\n", "\\", '"', "'", '"$', '$("', "$(", "${", "`", "{", "}",
    "(", "&", "menuentry '", "menuentry x {\n", "menuentry x {\nmultiboot2 /xen.gz a=b\n}\n", "submenu x {\n",
    "if ", "if a; then\n", "if a; then b=1; fi\n", "while true; do\n", "for k in a b; do\n",
    "function f {\nf; f\n}\n", "#", "# x\n", "#\\\n", "\xa0", "\xa0=\n", " ", "\t", "\n", "\r\n", "\f", "\0", "a",
    "a ", "a;", "a\\\n", "<<E\n", "$a ", "case x in\n", 'GRUB_CMDLINE_XEN="$GRUB_CMDLINE_XEN dom0_mem=1"\n',
    "dom0_mem=1 ", "-", " -- ", "[", "[a]\n", "kernel=a\n", "options=dom0_mem=1 ", "options=x\n[b]\nkernel=c\n",
    "kernel /xen.gz a\n", "kernel /xen.gz \\\n", "title x\n", "LABEL a\nAPPEND xen.gz a --- b\n", "APPEND ",
    "INCLUDE a\n", "MENU ", "TEXT HELP\n", "set default=1\n", "### BEGIN AUTOMAGIC KERNELS LIST\n",
    "## ## Start Default Options ##\n# xenhopt=a\n", "## ## Start Default Options ##\n# xenkopt=dom0_mem=1\n",
    "module /v dom0_mem=1\n", "multiboot2 /xen.gz\nmodule2 /v dom0_mem=1\n", "kernel=a dom0_mem=1\n",
    "LABEL a\nAPPEND xen.gz --- b dom0_mem=1 ---\n", "set superusers=a\n", "menuentry a --unrestricted {\n}\n",
    'load_env -f "$env_block"\n', "title a\nlock\nkernel /x\n", "LABEL a\nMENU DISABLE\n", "MENU BEGIN\n",
    "submenu x {\nconfigfile /a\n}\n", "set fallback='1 2 3'\n", "[ a = b -o ", "[ ! ", "$@ ", "export a\n", "A+=b\n",
    "chain=a\n", "default a\n", "options a\n",
)  # fmt: skip


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Fail after so many seconds of this process, however many others share the machine."""

    def late(_number: int, _frame: Optional[FrameType]) -> None:
        raise TimeoutError(f"It took more than {seconds:.2f} s.")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def seconds(reader: str, unit: str, size: int) -> float:
    """Read a text of so many bytes, and return how long that took this process; a refusal is an answer."""
    text = (unit * (size // len(unit) + 1))[:size]
    start = time.process_time()
    with contextlib.suppress(UserError), limited(ALLOWED):
        READERS[reader](text)
    return time.process_time() - start


@pytest.mark.parametrize("reader", READERS)
def test_any_text_is_read_in_time(reader: str) -> None:
    """Each a small one, and the one that takes the longest of them at the size of the largest file."""
    times = {unit: seconds(reader, unit, tree.LARGEST // 128) for unit in UNITS}
    slowest = max(times, key=lambda unit: times[unit])
    seconds(reader, slowest, scanner.LARGEST - 1000 if "default" in reader else tree.LARGEST)


@pytest.mark.parametrize("unit", ['"', "'", '"$', "\\a", "${a}"])
def test_a_word_of_very_many_parts_is_refused(unit: str) -> None:
    """In an entry, which is read several times."""
    found = READERS["an entry of grub.cfg"]((unit * tree.LARGEST)[: tree.LARGEST - tree.LARGEST % 2])
    assert isinstance(found, grub2.NextBoot)
    assert found.xen is None
    assert "more than 10000 parts" in found.reason


def test_a_command_of_very_many_words_is_refused() -> None:
    menu = "multiboot2 /xen.gz\nmodule2 /v {}\n"
    assert "dom0_mem=1G" in str(grub_by_hand.edit("p", menu.format("a " * 9_000), *OPTION))
    with pytest.raises(UserError, match="line 2 has a command of more than 10000 words"):
        grub_by_hand.edit("p", menu.format("a " * 10_001), *OPTION)


def test_larger_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    for size in (tree.LARGEST, tree.LARGEST + 1):
        (tmp_path / "boot" / "grub.cfg").write_bytes(b"#" * size)
        found = tree.Tree(str(tmp_path), foreign=True)
        if size == tree.LARGEST:
            assert len(found.text("/boot/grub.cfg") or "") == size
        else:
            with pytest.raises(UserError, match=f"has {size} bytes, which is more than the {tree.LARGEST}") as caught:
                found.text("/boot/grub.cfg")
            assert len(str(caught.value).splitlines()) == 2


def test_larger_programs_are_refused() -> None:
    with pytest.raises(
        UserError, match=f"{grub2.MAIN} has .* more than the {scanner.LARGEST} that are parsed"
    ) as caught:
        READERS["/etc/default/grub"]("#" * scanner.LARGEST)
    assert len(str(caught.value).splitlines()) == 2
    assert scanner.scan(grub2.MAIN, b"#" * scanner.LARGEST * 2, grub2.VARIABLES.names) == []


def test_what_doubles_is_refused() -> None:
    functions = "".join(f"function f{at} {{ f{at + 1}; f{at + 1}; }}\n" for at in range(35))
    for text in ("set a=xx\n" + "set a=$a$a\n" * 60, f"{functions}f0\n"):
        with limited(ALLOWED):
            found = menu(f"{text}menuentry x {{\n linux /a\n}}\n")
        assert isinstance(found, grub2.NextBoot)
        assert found.xen is None
        assert "more than" in found.reason
