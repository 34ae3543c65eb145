# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This machine's programs: where they are, which package has them, and how they end together with this process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from errors import LabError

# program: (Debian package, what it is for)
TOOLS = {
    "mmdebstrap": ("mmdebstrap", "makes the root file system of a lab host"),
    "mke2fs": ("e2fsprogs", "makes its file system"),
    "tar": ("tar", "unpacks it"),
    "unshare": ("util-linux", "lets an ordinary user do so"),
    "newuidmap": ("uidmap", "lets an ordinary user make files of other users"),
    "qemu-system-x86_64": ("qemu-system-x86", "runs the lab host"),
    "qemu-img": ("qemu-utils", "makes its disk"),
    "ssh": ("openssh-client", "enters it"),
    "ssh-keygen": ("openssh-client", "makes its key"),
    "debugfs": ("e2fsprogs", "reads its file system"),
    # for a host that is started by UEFI firmware
    "mkfs.fat": ("dosfstools", "makes its EFI system partition"),
    "mmd": ("mtools", "makes directories there"),
    "mcopy": ("mtools", "copies files there"),
}


def tool(name: str) -> str:
    """The path of a program; also looks where the PATH of an ordinary user on Debian does not."""
    found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        package, purpose = TOOLS[name]
        raise LabError(
            f"The program {name}, which {purpose}, is not installed.", f"Install the Debian package {package}."
        )
    return found


def run(name: str, *words: str | Path) -> str:
    """Runs a program to its end and returns what it prints."""
    command = [tool(name), *(str(word) for word in words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(
            f"{name} failed: {done.stderr.strip() or f'status {done.returncode}'}.",
            "Check that there is room on the disk.",
        )
    return done.stdout


# Seconds in which a program that was asked to end can clean up.
PATIENCE = 120.0


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program that ends, and cleans up, when this process is killed or the block is left by an exception.

    :param options: those of `subprocess.Popen`.
    """
    process = subprocess.Popen(command, preexec_fn=die_with_parent, **options)  # noqa: PLW1509 -- there is one thread
    try:
        yield process
    except BaseException:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        process.kill()
        process.wait()
        raise


def end_as_by_ctrl_c() -> None:
    """SIGTERM, or losing the terminal, cleans up as Ctrl-C does, except for what the caller has ignored.

    A shell ignores Ctrl-C for what it runs in the background, and nohup the loss of the terminal.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)


def die_with_parent() -> None:
    """To run in a new child, which must not go on alone when this process is killed (prctl(2), PR_SET_PDEATHSIG)."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
