# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of this user: started, found by name, restored, and described for Ansible."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import files
import monitor
import qemu
import ssh
import states
import watcher
from errors import LabError
from image import Image
from progress import Progress
from qemu import Machine
from watcher import DISK, Starting


@dataclass(frozen=True)
class Host:
    """A running host: the content of its host.json."""

    name: str
    release: str
    memory: int
    cpus: int
    accelerator: str
    port: int
    key: str
    owner: int | None
    started: float

    @property
    def directory(self) -> Path:
        """Where its disk, its serial log and its monitor are."""
        return directory_of(self.name)

    def ssh(self) -> list[str]:
        """The command before the remote command."""
        return ssh.command(self.directory, Path(self.key), self.port)


def hosts_directory() -> Path:
    """All hosts of this user, each in a directory of its name."""
    return files.base_directory() / "hosts"


def directory_of(name: str) -> Path:
    """Where a host of this name has its files."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name):
        raise LabError(
            f"'{name}' cannot be the name of a host.", "Use up to 63 small letters, digits, hyphens and underscores."
        )
    return hosts_directory() / name


def running_hosts() -> list[Host]:
    """All hosts that are up, by name."""
    found = (find(path.name) for path in sorted(hosts_directory().glob("*")) if path.is_dir())
    return [host for host in found if host is not None]


def find(name: str) -> Host | None:
    """The host of this name if it is up."""
    directory = directory_of(name)
    try:
        if watcher.is_running(directory):
            return Host(**json.loads((directory / "host.json").read_text()))
    except (OSError, ValueError, TypeError):
        pass
    return None


def get(name: str) -> Host:
    """The host of this name; LabError when it is not up."""
    host = find(name)
    if host is None:
        raise LabError(f"No lab host named {name} is up.", f"Start it with: xenlab up --name {name}")
    return host


def inventory(hosts: Sequence[Host]) -> str:
    """An Ansible inventory in YAML, all hosts in the group xen_hosts. Strings are quoted as in JSON."""
    lines = ["---", "xen_hosts:", "  hosts:" if hosts else "  hosts: {}"]
    for host in hosts:
        arguments = " ".join(shlex.quote(word) for word in ssh.options(host.directory, Path(host.key)))
        variables = {
            "ansible_host": "127.0.0.1",
            "ansible_port": host.port,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": host.key,
            "ansible_python_interpreter": "/usr/bin/python3",
            # Every process costs ten times what it does on real hardware; this saves most of those around a module.
            "ansible_pipelining": True,
            # Seconds. Beside three busy hosts it takes three to log in, and there are slower machines.
            "ansible_ssh_timeout": 30,
            "ansible_ssh_common_args": arguments,
        }
        lines.append(f"    {host.name}:")
        lines += [f"      {name}: {json.dumps(value)}" for name, value in variables.items()]
    return "\n".join(lines) + "\n"


def start(
    name: str, image: Image, machine: Machine, progress: Progress, *, port: int, owner: int | None, power_on: bool
) -> Host:
    """Starts a host from the saved state, or from power-on, and returns when it answers over ssh."""
    state = None if power_on else states.saved(image, machine, progress)
    directory = directory_of(name)
    directory.mkdir(parents=True, exist_ok=True)
    with files.only_one(
        directory / "up.lock", lambda: progress.say(f"another xenlab is starting {name}; waiting for it")
    ):
        if watcher.is_running(directory):
            raise LabError(f"A host named {name} has been started in the meantime.", "Use it, or use another --name.")
        for old in ("serial.log", "qemu.log", "known_hosts"):
            (directory / old).unlink(missing_ok=True)
        # A copy, so that a running host can be entered even when the cache is emptied.
        key = directory / "id_ed25519"
        files.write(key, image.ssh_key.read_bytes(), 0o600)
        disk = directory / DISK
        if state is None:
            states.overlay(image, disk)
        else:
            subprocess.run(["cp", "--reflink=auto", "--sparse=auto", str(state), str(disk)], check=True)
        arguments = qemu.command_line(machine, disk=disk.name, port=port, state=states.BOOTED if state else None)
        with Starting(directory, arguments, owner) as starting:
            real_port = _port(directory, port)
            if state is None:
                states.boot(image, directory, real_port, progress, f"boot {image.release} {machine.cpus}")
            else:
                with progress.step(f"restoring {name} (Debian {image.release} on Xen)", f"restore {image.release}"):
                    ssh.wait_until_entered(directory, key, real_port, states.RESTORE_TIMEOUT)
            host = Host(
                name=name,
                release=image.release,
                memory=machine.memory,
                cpus=machine.cpus,
                accelerator=machine.accelerator,
                port=real_port,
                key=str(key),
                owner=owner,
                started=time.time(),
            )
            _enter(host)
            starting.ready()
    return host


def restore(host: Host, state: str) -> None:
    """Puts a running host back to a saved state, in a new QEMU, and returns when it answers over ssh.

    In a QEMU that loads an older state while it runs the processor's time stamps go on from where they were
    (cpu_get_ticks_locked, system/cpu-timers.c), and all other clocks go back: dom0's clock then stands still for as
    long as the state is old.
    """
    with monitor.Monitor(host.directory) as connection:
        names = states.names(connection)
    if state not in names:
        raise LabError(f"There is no state {state} of {host.name}.", f"Saved states: {', '.join(names) or 'none'}.")
    machine = Machine(host.memory, host.cpus, host.accelerator)
    directory = host.directory
    # The watcher of a host removes its disk at the end.
    kept = directory / "restore.qcow2"
    kept.unlink(missing_ok=True)
    kept.hardlink_to(directory / DISK)
    try:
        watcher.stop(directory)
        kept.rename(directory / DISK)
    finally:
        kept.unlink(missing_ok=True)
    with Starting(
        directory, qemu.command_line(machine, disk=DISK, port=host.port, state=state), host.owner
    ) as starting:
        _port(directory, host.port)
        ssh.wait_until_entered(directory, Path(host.key), host.port, states.RESTORE_TIMEOUT)
        _enter(host)
        starting.ready()


def _enter(host: Host) -> None:
    files.write(host.directory / "host.json", json.dumps(asdict(host), indent=1).encode())


def _port(directory: Path, port: int) -> int:
    """The port QEMU listens on; LabError when it could not have the one that was asked for."""
    try:
        with monitor.connect(directory) as connection:
            return monitor.forwarded_port(connection.words("info usernet"))
    except OSError:
        raise not_started(watcher.output(directory), port) from None


def not_started(output: str, port: int) -> LabError:
    """Why a QEMU ended at once, by what it printed."""
    if "host forwarding rule" in output:
        return LabError(
            f"Port {port} of this machine is in use.",
            "Choose another --port, or leave it out to have a free one chosen.",
        )
    return LabError(
        f"QEMU did not start: {output}.", "Check that nothing else uses the host's files and that there is memory left."
    )
