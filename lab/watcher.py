# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process of a running host: a QEMU, and a small process that ends it when nobody wants it any more."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import files
from errors import LabError
from programs import die_with_parent, tool

# A host's disk, in the directory of the host.
DISK = "disk.qcow2"


def _lock(directory: Path) -> int | None:
    """A descriptor that holds the host's lock; None when another process does, which means that the host is running."""
    return files.lock(directory / "lock")


def is_running(directory: Path) -> bool:
    """Whether QEMU, or the process that watches it, is alive: the two hold the lock as long as they live."""
    if not (directory / "lock").exists():
        return False
    descriptor = _lock(directory)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


class Starting:
    """A QEMU that ends with this process until `ready` is called. Leaving the `with` block earlier ends it at once."""

    def __init__(self, directory: Path, arguments: Sequence[str], owner: int | None) -> None:
        lock = _lock(directory)
        if lock is None:
            raise LabError(f"A host is already running in {directory}.", "Take it down first.")
        reading, self._writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            try:
                os.close(self._writing)
                os.setsid()
                if os.fork() == 0:
                    _watch(directory, [tool("qemu-system-x86_64"), *arguments], lock, reading, owner)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(lock)
        self._directory = directory

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writing >= 0:
            os.close(self._writing)
            wait_until_ended(self._directory)

    def ready(self) -> None:
        """From now on the host lives on its own, or as long as its owner does."""
        os.write(self._writing, b"ready")
        os.close(self._writing)
        self._writing = -1


def _watch(directory: Path, command: list[str], lock: int, starter: int, owner: int | None) -> None:
    """The life of the watching process: it ends QEMU on request, when the starter dies early, when the owner dies."""
    os.chdir(directory)
    log = os.open("qemu.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    for descriptor in {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, lock, starter}:
        try:
            os.close(descriptor)
        except OSError:
            pass
    asked, asking = os.pipe()
    # Before anybody can know whom to ask; QEMU does not get it, as handlers end where a program begins.
    signal.signal(signal.SIGTERM, lambda *_: os.write(asking, b"x"))
    Path("watcher.pid").write_text(f"{os.getpid()}\n")
    qemu = subprocess.Popen(command, pass_fds=(lock,), preexec_fn=die_with_parent)  # noqa: PLW1509 -- no threads
    poll = select.poll()
    ended = os.pidfd_open(qemu.pid)
    poll.register(ended, select.POLLIN)
    poll.register(starter, select.POLLIN)
    poll.register(asked, select.POLLIN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    owned = -1
    if owner is not None:
        try:
            owned = os.pidfd_open(owner)
            poll.register(owned, select.POLLIN)
        except ProcessLookupError:
            os.write(asking, b"x")
    while True:
        happened = {descriptor for descriptor, _ in poll.poll()}
        if ended in happened or asked in happened or owned in happened:
            break
        if starter in happened:
            if os.read(starter, 16) != b"ready":
                break
            poll.unregister(starter)
    if qemu.poll() is None:
        qemu.terminate()
        try:
            qemu.wait(10)
        except subprocess.TimeoutExpired:
            qemu.kill()
            qemu.wait()
    for name in (DISK, "qmp.sock", "host.json", "watcher.pid"):
        Path(name).unlink(missing_ok=True)


def stop(directory: Path) -> None:
    """Ends the host in this directory and waits until nothing of it is left."""
    try:
        watcher = int((directory / "watcher.pid").read_text())
    except (OSError, ValueError):
        watcher = 0
    if watcher and is_running(directory):
        try:
            os.kill(watcher, signal.SIGTERM)
        except ProcessLookupError:
            pass
    wait_until_ended(directory)


def wait_until_ended(directory: Path, timeout: float = 30) -> None:
    """Waits until QEMU and its watcher are gone. Raises LabError when they are not in time (seconds)."""
    end = time.monotonic() + timeout
    while is_running(directory):
        if time.monotonic() > end:
            raise LabError(
                f"The host in {directory} does not end.",
                "Look for a qemu-system-x86_64 process that uses this directory.",
            )
        time.sleep(0.05)


def output(directory: Path) -> str:
    """What QEMU has printed."""
    return (directory / "qemu.log").read_text(errors="replace").strip() or "nothing"


def require_running(directory: Path) -> None:
    """Raises LabError when the host has ended, with what QEMU has printed."""
    if not is_running(directory):
        raise LabError(
            f"The host ended before it answered; QEMU printed: {output(directory)}.", f"See {directory}/serial.log."
        )
