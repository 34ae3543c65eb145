# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The program that serves a stub domain's consoles, run with a QEMU that tells its arguments.

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions
from ansible_collections.xen.stubdom.plugins.module_utils._images import helpers, kinds

# What libxl gives (libxl__build_device_model_args_old), what QEMU for Xen gets beside what it always gets.
PLAIN = "-d 7 -domain-name old-dm -nographic -nographic -M xenpv"
SCREEN = "-d 7 -domain-name old-dm -vnc 127.0.0.1:0 -vncunused -k en-us -M xenpv"
PLACE = "-d 7 -domain-name old-dm -vnc 127.0.0.1:5 -M xenpv"
ALWAYS = (
    "-xen-domid 7 -xen-attach -machine xenpv -m 32 -name old-dm -nodefaults -no-user-config -no-shutdown -display none"
)


def run(path: Path, arguments: str, *, qemu: bool = True) -> subprocess.CompletedProcess[str]:
    program = helpers.qemu_dm()
    if qemu:
        (path / "qemu").write_text('#!/bin/sh\necho "$@"\n')
        (path / "qemu").chmod(0o755)
    candidates = program.split("for qemu in ")[1].split(";")[0]
    (path / "qemu-dm").write_text(program.replace(candidates, f"{path}/none {path}/qemu"))
    return subprocess.run(
        ["sh", str(path / "qemu-dm"), *arguments.split()], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "more"),
    [(PLAIN, ""), (SCREEN, " -vnc 127.0.0.1:0,to=99"), (PLACE, " -vnc 127.0.0.1:5")],
)
def test_old_arguments_in_the_words_of_today(tmp_path: Path, arguments: str, more: str) -> None:
    done = run(tmp_path, arguments)
    assert (done.stdout, done.stderr, done.returncode) == (ALWAYS + more + "\n", "", 0)


def test_what_it_cannot_do_is_said(tmp_path: Path) -> None:
    done = run(tmp_path, PLAIN, qemu=False)
    assert done.returncode == 127 and f"there is no QEMU for Xen; looked for {tmp_path}" in done.stderr
    done = run(tmp_path, f"{PLAIN} -sdl")
    assert (done.stdout, done.stderr) == (ALWAYS + "\n", "qemu-dm: -sdl is left out\n")
    done = run(tmp_path, f"{PLAIN} -loadvm /var/lib/xen/x")
    assert (done.returncode, done.stdout) == (1, "") and "cannot be restored" in done.stderr


def test_every_helper_has_a_place() -> None:
    needs = helpers.needs("/usr/lib/xen-4.17/boot", (4, 17), row=distributions.GENERIC)
    assert set(needs) == set(kinds.HELPERS)
    assert needs["hvmloader"].paths == (
        "/usr/lib/xen-4.17/boot/helpers/hvmloader",
        "/usr/lib/xen-4.17/boot/hvmloader",
    )
    named = helpers.needs("/boot", None, row=distributions.GENERIC, named={"qemu-dm": "/opt/qemu-dm"})["qemu-dm"]
    assert (named.paths, named.own) == (("/opt/qemu-dm",), None)
