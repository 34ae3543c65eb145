# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Saved states: the freshly booted one that every host starts from, and those that have been saved by name."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import files
import monitor
import programs
import qemu
import ssh
from errors import LabError
from image import Image
from progress import Progress
from qemu import Machine
from watcher import Starting

# The saved state every host starts from.
BOOTED = "booted"
BOOT_TIMEOUT = 600
RESTORE_TIMEOUT = 300


def overlay(image: Image, disk: Path) -> None:
    """A disk that is the image's until something is written to it."""
    programs.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", image.disk, "-F", "raw", disk)


@contextmanager
def scratch(directory: Path) -> Iterator[Path]:
    """An empty directory that is gone afterwards; after a failure its logs stay until the next try."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def saved(image: Image, machine: Machine, progress: Progress) -> Path:
    """A disk with the state of a freshly booted host in it; the host is booted for it when the cache has none."""
    state = image.directory / f"booted-{files.key_of([machine.arguments(), qemu.version()])}.qcow2"

    def make(partial: Path) -> None:
        with scratch(state.with_suffix(".tmp")) as directory:
            disk = directory / "booted.qcow2"
            _boot_and_save(image, machine, disk, progress)
            disk.rename(partial)

    return files.made_once(state, lambda: progress.say("another xenlab is booting this host; waiting for it"), make)


def boot(image: Image, directory: Path, port: int, progress: Progress, kind: str) -> None:
    """Follows a host from power-on to its first answer over ssh."""
    with progress.step(f"booting Debian {image.release} on Xen in {directory.name}", kind):
        ssh.wait_until_listening(directory, BOOT_TIMEOUT)
        ssh.wait_until_entered(directory, image.ssh_key, port, RESTORE_TIMEOUT)


def _boot_and_save(image: Image, machine: Machine, disk: Path, progress: Progress) -> None:
    directory = disk.parent
    overlay(image, disk)
    with Starting(directory, qemu.command_line(machine, disk=disk.name, port=0), None):
        with monitor.connect(directory) as connection:
            port = monitor.forwarded_port(connection.words("info usernet"))
        boot(image, directory, port, progress, f"boot {image.release} {machine.cpus}")
        with progress.step("waiting until it is quiet, and saving its state", f"save {image.release} {machine.cpus}"):
            enter = ssh.command(directory, image.ssh_key, port)
            # In the image setup.sh answered update-grub what the disk is like; here it reads the disk itself.
            script = """
                systemctl is-system-running --wait
                cp /boot/grub/grub.cfg /run/; update-grub; cmp /run/grub.cfg /boot/grub/grub.cfg; rm /run/grub.cfg
                xl info > /dev/null && sync && echo settled
            """
            answer = subprocess.run([*enter, script], capture_output=True, text=True, check=False)
            (image.directory / "first-boot.log").write_text(answer.stdout + answer.stderr)
            if not answer.stdout.endswith("settled\n"):
                raise LabError(
                    f"The first boot of the {image.release} image did not come to rest: "
                    f"{answer.stderr.strip() or 'no Xen'}.",
                    f"See {directory}/serial.log; run it again when less is running.",
                )
            save(directory, BOOTED)


def save(directory: Path, name: str) -> None:
    """Saves the running host's memory and disk in its own disk file, under a name."""
    with monitor.Monitor(directory, timeout=300) as connection:
        answer = connection.words(f"savevm {name}")
    if answer:
        raise LabError(f"The state {name} could not be saved: {answer}.", "See that there is room for its disk.")


def names(connection: monitor.Monitor) -> list[str]:
    """The names of the states saved in a running host's disk."""
    rows = re.findall(r"^\S+\s+(\S+)\s+[\d.]+ [KMGT]?i?B", connection.words("info snapshots"), re.MULTILINE)
    return [name for name in rows if name != BOOTED]


def check_name(name: str) -> None:
    """Refuses a name that QEMU's monitor would misread, and the one all hosts begin with."""
    if name == BOOTED or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", name):
        raise LabError(
            f"'{name}' cannot be the name of a saved state.",
            "Use letters, digits, '-', '_' and '.'; begin with a letter.",
        )
