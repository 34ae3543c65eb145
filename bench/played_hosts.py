# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with a played Xen: a real file system, a real sshd on loopback, real Python."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from errors import LabError
from programs import die_with_parent

HERE = Path(__file__).resolve().parent
# What a host has beside a minimal Debian.
PACKAGES = ("openssh-server", "iproute2")
PROGRAMS = ("xl", "xenstore-ls", "xenstore-read", "xenstore-write", "xenstore-rm")
# What the collection looks for on a host of Debian 13.
EMPTY = (
    "usr/lib/grub-xen/grub-x86_64-xen.bin",
    "usr/lib/grub-xen/grub-i386-xen_pvh.bin",
    "usr/lib/xen-4.20/boot/hvmloader",
    "usr/lib/xen-4.20/boot/qemu-stubdom-linux-kernel",
    "usr/lib/xen-4.20/boot/qemu-stubdom-linux-rootfs",
    "usr/lib/xen-4.20/bin/vchan-socket-proxy",
)
IMAGES = "var/lib/xen/images"
# How long a host may take to come up, in seconds.
PATIENCE = 60.0


def image(number: int) -> str:
    """The disk of a guest."""
    return f"/{IMAGES}/g{number:04}.img"


def file_system(archive: Path, directory: Path, guests: int) -> Path:
    """Unpack what all hosts share, with the played programs and disks for so many guests."""
    lower = directory / "lower"
    lower.mkdir()
    subprocess.run(["tar", "--extract", "--file", str(archive), "--directory", str(lower)], check=True)
    for name in PROGRAMS:
        program = lower / "usr/local/sbin" / name
        shutil.copy(HERE / "played_xen.py", program)
        program.chmod(0o755)
    for name in EMPTY:
        (lower / name).parent.mkdir(parents=True, exist_ok=True)
        (lower / name).touch()
        (lower / name).chmod(0o755)
    (lower / "etc/xen/plain").mkdir(parents=True)
    (lower / "etc/xen/xl.conf").write_text('autoballoon="off"\n')
    (lower / IMAGES).mkdir(parents=True)
    for number in range(guests):
        (lower / image(number).lstrip("/")).touch()
    key = directory / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    (lower / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    (lower / "root/.ssh/authorized_keys").write_text(key.with_suffix(".pub").read_text())
    return lower


class Hosts:
    """Played hosts, as long as the block that starts them lasts."""

    def __init__(self, lower: Path, directory: Path, count: int) -> None:
        self.lower = lower
        self.directory = directory
        self.ports = free_ports(count)
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Hosts:
        try:
            for port in self.ports:
                work = self.directory / f"host-{port}"
                work.mkdir()
                words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
                words += [str(HERE / "host.sh"), str(self.lower), str(work), str(port)]
                log = (self.directory / f"host-{port}.log").open("wb")
                self._running.append(
                    subprocess.Popen(
                        words, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                        preexec_fn=die_with_parent,  # noqa: PLW1509 -- there is one thread
                    )
                )  # fmt: skip
            for port in self.ports:
                wait_for(port, self.directory / f"host-{port}.log")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        for process in self._running:
            # unshare waits for its child whatever other signal it gets, and takes it along when it is killed.
            process.kill()
        for process in self._running:
            process.wait()

    def inventory(self, file: Path, **variables: Any) -> Path:
        """Write an inventory of the hosts, in the group xen_hosts."""
        everywhere = {
            "ansible_host": "127.0.0.1",
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.directory / "key"),
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_common_args": " ".join(SSH_OPTIONS),
            **variables,
        }
        hosts = {f"host{number:03}": {"ansible_port": port} for number, port in enumerate(self.ports)}
        file.write_text(json.dumps({"xen_hosts": {"hosts": hosts, "vars": everywhere}}))
        return file


SSH_OPTIONS = ("-o StrictHostKeyChecking=no", "-o UserKnownHostsFile=/dev/null", "-o LogLevel=ERROR")


def free_ports(count: int) -> Sequence[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _number in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for(port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise LabError(f"A played host did not come up: {log.read_text().strip()}", f"See {log}.") from error
            time.sleep(0.05)
