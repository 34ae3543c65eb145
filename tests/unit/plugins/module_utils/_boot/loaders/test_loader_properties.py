# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What holds for any file of each loader's grammar, and any bytes: reading back gives the word, twice is once, absent
# after present is the original, nothing else that the loader sees changes. The long form: XEN_STUBDOM_CASES=20000.

from __future__ import annotations

import functools
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot.command_line import HYPERVISOR, Recipient
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import efi_cfg, extlinux, grub2, grub_legacy
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders.shell import Variables
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

OPTION = "dom0_mem"


def cases(short: str) -> settings:
    return settings(
        max_examples=int(os.environ.get("XEN_STUBDOM_CASES", short)),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


many = cases("200")
# Each of these starts a dozen shells.
fewer = cases("60")

HELD = ["dom0_mem=2G", "dom0-mem=max:3G", "dom0_mem=1G,max:1G", "dom0_mem", "no-dom0-mem"]
OTHERS = ["a", "b=1", "loglvl=all", "no-smt", "com1=115200,8n1", "xdom0_mem=4G", "dom0_mem_x=1"]
WANTED = st.sampled_from(["dom0_mem=1G,max:1G", "dom0_mem=-1G", "dom0_mem=1G+5%", "dom0_mem"])


def others(line: str, recipient: Recipient = HYPERVISOR) -> List[str]:
    return command_line.others(line, OPTION, recipient)


def find(line: str, recipient: Recipient = HYPERVISOR) -> List[str]:
    return command_line.find(line, OPTION, recipient)


def run(arguments: List[str]) -> Tuple[int, str, str]:
    done = subprocess.run(arguments, capture_output=True, check=False, env={"PATH": os.environ["PATH"], "LC_ALL": "C"})
    return done.returncode, done.stdout.decode("latin-1"), done.stderr.decode("latin-1")


# ---- files that a shell sources: GRUB 2 and extlinux

# Variables, files, whether drop-ins are read, and the shell: += is no form of one that is no more than POSIX's.
SHELL: Mapping[str, Tuple[Variables, List[str], bool, str]] = {
    "grub2": (grub2.VARIABLES, [grub2.MAIN, "/etc/default/grub.d/a.cfg"], True, "sh"),
    "grub2 without drop-ins": (grub2.VARIABLES, [grub2.MAIN], False, "bash"),
    "extlinux": (extlinux.VARIABLES, [extlinux.MAIN], False, "sh"),
    "dom0's Linux by grub2": (grub2.KERNEL_VARIABLES, [grub2.MAIN, "/etc/default/grub.d/a.cfg"], True, "sh"),
    "dom0's Linux by extlinux": (extlinux.KERNEL_VARIABLES, [extlinux.MAIN], False, "sh"),
}
# What bash counts by itself.
COUNTED = re.compile(r"_|PPID|BASH.*|EPOCH.*|.*RANDOM|SECONDS|LINENO|PIPESTATUS|HISTCMD")


def variables(sources: Mapping[str, bytes], ours: Variables, shell: str) -> List[str]:
    """Everything that a shell knows after sourcing the files, but for the loader's variables for the hypervisor."""
    with tempfile.TemporaryDirectory() as directory:
        for number, content in enumerate(sources.values()):
            (Path(directory) / f"{number:03d}").write_bytes(content)
        _status, output, _errors = run(
            [
                shell,
                "-c",
                f'cd "$1"; shift; for f in {directory}/*; do . "$f" </dev/null >&2; done; unset f; set',
                "sh",
                "/",
            ]
        )
    assigned = re.findall(r"^([A-Za-z_]\w*)=('(?:[^']|'\\''|'\"'\"')*'|[^\n]*)", output, re.MULTILINE)
    return [f"{name}={value}" for name, value in assigned if name not in ours.names and not COUNTED.fullmatch(name)]


def value(words: List[str], quote: str) -> str:
    if quote == "continued":
        return '"' + " \\\n".join(words) + '"'
    return quote + (" " if quote else "\\ ").join(words) + quote


SHELL_WORDS = st.lists(st.sampled_from(HELD + OTHERS + ["$ITSELF", "${ITSELF}", "$OTHER"]), max_size=4)
SHELL_VALUES = st.one_of(
    st.builds(value, SHELL_WORDS, st.sampled_from(['"', "'", "", "continued"])),
    st.sampled_from(['"a "\'dom0_mem=\'4G" b"', "$(echo dom0_max=1)", "`echo c`", "'$OTHER'\" d\"", '"  a   b  "', ""]),
)
OTHER_LINES = st.sampled_from(
    [
        "# GRUB_CMDLINE_XEN=dom0_mem=9G",
        "",
        "OTHER='o p'",
        "export TIMEOUT=5",
        "  QUIET=1 # why",
        "unset NOTHING",
        "X=1; Y=2",
    ]
)


def assignment(before: str, name: str, operator: str, value: str, after: str) -> str:
    closed = "; fi" if before.startswith("if ") else ""
    return f"{before}{name}{operator}{value.replace('ITSELF', name)}{closed}{after}"


def shell_files(loader: str) -> st.SearchStrategy[Dict[str, bytes]]:
    ours, paths, _drop_ins, shell = SHELL[loader]
    line = st.builds(
        assignment,
        st.sampled_from(["", "", "", "export ", "if true; then ", "if false; then ", "X=1; ", "\t"]),
        st.sampled_from((*ours.names, *ours.replaced)),
        st.sampled_from(["=", "+="] if shell == "bash" else ["="]),
        SHELL_VALUES,
        st.sampled_from(["", "", " # dom0_mem=8G", "; Z=3", "  "]),
    )
    text = st.builds(
        lambda lines, end: ("\n".join(lines) + end).encode(),
        st.lists(st.one_of(line, OTHER_LINES), max_size=5),
        st.sampled_from(["\n", "\n", ""]),
    )
    return st.fixed_dictionaries(dict.fromkeys(paths, text))


@pytest.mark.parametrize("loader", SHELL)
def test_shell_files(loader: str) -> None:
    ours, _paths, drop_ins, shell = SHELL[loader]

    # The same files are asked for several times in a case.
    @functools.lru_cache(maxsize=16)
    def answer(files: Tuple[Tuple[str, bytes], ...]) -> str:
        return ours.run(lambda arguments: run([shell if word == "sh" else word for word in arguments]), dict(files))

    def read(sources: Mapping[str, bytes]) -> str:
        return answer(tuple(sources.items()))

    def edited(sources: Dict[str, bytes], word: Optional[str]) -> Dict[str, bytes]:
        changes = ours.edit(sources, OPTION, word, drop_ins=drop_ins, evaluate=read, value_of=value_of)
        return ours.order({**sources, **changes})

    def value_of(name: str, sources: Mapping[str, bytes]) -> str:
        return ours.only(name).run(lambda arguments: run(arguments), sources)

    recipient = ours.recipient

    @fewer
    @given(shell_files(loader), WANTED)
    def holds(sources: Dict[str, bytes], word: str) -> None:
        sources = ours.order(sources)
        before = read(sources)
        without = [text for text in map(bytes.decode, sources.values()) if "dom0" in re.sub("(?m)#.*$", "", text)]
        known = variables(sources, ours, shell)
        try:
            after = edited(sources, word)
        except UserError:
            return
        assert find(read(after), recipient) == [word]
        assert others(read(after), recipient) == others(before, recipient)
        assert variables(after, ours, shell) == known
        assert edited(after, word) == after
        gone = edited(after, None)
        assert find(read(gone), recipient) == []
        assert others(read(gone), recipient) == others(before, recipient)
        assert edited(gone, None) == gone
        if not without:
            assert gone == sources

    holds()


@pytest.mark.parametrize("loader", SHELL)
def test_any_bytes_in_shell_files(loader: str) -> None:
    ours, _paths, drop_ins, _shell = SHELL[loader]

    @many
    @given(st.binary(), st.binary())
    def holds(head: bytes, tail: bytes) -> None:
        sources = {ours.main: head + ours.names[0].encode() + b"=" + tail}
        try:
            # Nothing of this is run.
            after = ours.order({**sources, **ours.edit(sources, OPTION, "dom0_mem=1G", drop_ins=drop_ins)})
            assert ours.order({**after, **ours.edit(after, OPTION, "dom0_mem=1G", drop_ins=drop_ins)}) == after
        except UserError as error:
            assert len(str(error).splitlines()) >= 2

    holds()


# ---- xen.cfg, read as xen.efi does


def xen_efi(text: str, section: Optional[str], key: str) -> Optional[str]:
    """What get_value of xen/common/efi/boot.c gives for a file, written anew from its description."""
    lines = re.split(r"[\x00-\x1f\x7f]", text)
    inside = section is None
    for line in lines:
        plain = "" if line.lstrip(" ").startswith(";") else line.partition("#")[0].lstrip(" ")
        if plain.startswith("["):
            if section is None:
                continue
            if inside:
                return None
            inside = plain[1:].startswith(f"{section}]")
        elif inside and plain.startswith(f"{key}="):
            return plain[len(key) + 1 :].lstrip(" ")
    return None


EFI_LINES = st.one_of(
    st.builds(
        lambda indent, words, comment: f"{indent}options={' '.join(words)}{comment}",
        st.sampled_from(["", "", "  "]),
        st.lists(st.sampled_from([*HELD, *OTHERS, "--", ""]), max_size=4),
        st.sampled_from(["", "", " ", " # dom0_mem=9G", "#x"]),
    ),
    st.sampled_from(
        ["[global]", "default=x", "default=y", "[x]", "[y]", "[x", "kernel=vmlinuz root=/dev/sda1", "ramdisk=i", ""]
    ),
    st.sampled_from(
        ["# options=dom0_mem=9G", "; a comment", "kernel=k", "[x]", "optionsx=1", "video=v", "\toptions=t"]
    ),
)
EFI_FILES = st.builds(
    lambda lines, newline, end: newline.join(lines) + (newline if end else ""),
    st.lists(EFI_LINES, max_size=9),
    st.sampled_from(["\n", "\n", "\r\n"]),
    st.sampled_from([True, True, True, False]),
)


@many
@given(EFI_FILES, WANTED)
def test_efi_cfg(text: str, word: str) -> None:
    section = (xen_efi(text, "global", "default") or "").strip() or None
    try:
        after = efi_cfg.edit("xen.cfg", text, OPTION, word)
    except UserError:
        return
    before = xen_efi(text, section, "options") or ""
    if xen_efi(text, section, "kernel") is not None:
        passed = xen_efi(after, section, "options") or ""
        assert command_line.find(passed, OPTION) == [word]
        assert others(passed) == others(before)
        assert efi_cfg.options(after) == passed.strip()
    for name in (None, "global", "x", "y"):
        for key in ("kernel", "ramdisk", "default", "video", "optionsx"):
            assert xen_efi(after, name, key) == xen_efi(text, name, key)
    assert efi_cfg.edit("xen.cfg", after, OPTION, word) == after
    gone = efi_cfg.edit("xen.cfg", after, OPTION, None)
    if not any(command_line.find(item.value, OPTION) for item in efi_cfg.parse(text) if item.key == "options"):
        assert gone == text


@many
@given(st.text(st.characters(max_codepoint=255)), st.text(st.characters(max_codepoint=255)))
def test_any_bytes_in_efi_cfg(head: str, tail: str) -> None:
    text = f"{head}\noptions={tail}\nkernel=k\n"
    try:
        after = efi_cfg.edit("xen.cfg", text, OPTION, "dom0_mem=1G")
    except UserError as error:
        assert len(str(error).splitlines()) >= 2
        return
    assert efi_cfg.edit("xen.cfg", after, OPTION, "dom0_mem=1G") == after


# ---- menu.lst, read as GRUB 0.97 does


def stage2(text: str) -> List[str]:
    """The commands that get_line_from_config of GRUB 0.97 gives, written anew from its description."""
    found, line, comment, literal = [], "", False, False
    for char in text.replace("\r", "").replace("\t", " ") + "\n":
        if literal and char == "\n":
            line, char = line[:-1], " "
            literal = False
        else:
            literal = char == "\\" and not literal
        if comment:
            comment = char != "\n"
        elif not line:
            comment = char == "#"
            line = "" if comment or char in " \n" else char
        elif char == "\n":
            found.append(line)
            line = ""
        else:
            line += char
    return found


def passed(text: str) -> List[str]:
    kernels = (re.match(r"kernel[ =]+(?:--\S+ +)*(\S+)(.*)", line) for line in stage2(text))
    return [match[2] for match in kernels if match and re.match(r"(.*/)?xen[^/]*$", match[1])]


LEGACY_LINES = st.one_of(
    st.builds(
        lambda head, words, glue, tail: head + "".join(glue + word for word in words) + tail,
        st.sampled_from(["kernel /xen.gz", "\tkernel (hd0,0)/boot/xen-4.1-amd64.gz", "kernel=--type=multiboot /xen"]),
        st.lists(st.sampled_from([*HELD, *OTHERS]), max_size=4),
        st.sampled_from([" ", "  ", "\t", " \\\n", " \\\n\t"]),
        st.sampled_from(["", "", " "]),
    ),
    st.sampled_from(
        ["title Xen", "title Linux", "default 1", "default=0", "default saved", "timeout 5", "", "root (hd0,0)"]
    ),
    st.sampled_from(["kernel /vmlinuz dom0_mem=9G", "# kernel /xen.gz dom0_mem=9G", "module /vmlinuz dom0_mem=9G"]),
    st.sampled_from(["#\\", "## ## Start Default Options ##", "## ## End Default Options ##"]),
    st.sampled_from(
        [grub_legacy.BEGIN, grub_legacy.END, "# xenhopt=", "# xenhopt=a dom0_mem=3G", "## xenhopt=x", "# kopt=r"]
    ),
)
LEGACY_FILES = st.builds(
    lambda lines, newline, end: newline.join(line.replace("\n", newline) for line in lines) + (newline if end else ""),
    st.lists(LEGACY_LINES, max_size=9),
    st.sampled_from(["\n", "\n", "\r\n"]),
    st.booleans(),
)


@many
@given(LEGACY_FILES, WANTED)
def test_grub_legacy(text: str, word: str) -> None:
    try:
        after = grub_legacy.edit("menu.lst", text, OPTION, word)
    except UserError:
        assert passed(text) == []
        return
    assert [command_line.find(line, OPTION) for line in passed(after)] == [[word]] * len(passed(text))
    assert [others(line) for line in passed(after)] == [others(line) for line in passed(text)]
    other = [line for line in stage2(text) if not re.match("kernel.*/xen", line)]
    assert [line for line in stage2(after) if not re.match("kernel.*/xen", line)] == other
    assert grub_legacy.edit("menu.lst", after, OPTION, word) == after
    if passed(text):
        lines = grub_legacy.next_boot("menu.lst", after).entries
        assert [command_line.find(line, OPTION) for line in lines] == [[word]] * len(lines)
    gone = grub_legacy.edit("menu.lst", after, OPTION, None)
    if not any(command_line.find(place.text.replace("\f", " "), OPTION) for place in grub_legacy.places(text)):
        assert gone == text


@many
@given(st.text(st.characters(max_codepoint=255)), st.text(st.characters(max_codepoint=255)))
def test_any_bytes_in_grub_legacy(head: str, tail: str) -> None:
    text = f"{head}\nkernel /xen.gz{tail}"
    try:
        after = grub_legacy.edit("menu.lst", text, OPTION, "dom0_mem=1G")
    except UserError as error:
        assert len(str(error).splitlines()) >= 2
        return
    assert grub_legacy.edit("menu.lst", after, OPTION, "dom0_mem=1G") == after
