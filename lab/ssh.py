# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How ssh enters a host, and how to wait until it can."""

from __future__ import annotations

import select
import socket
import time
from pathlib import Path

import clock
import watcher
from errors import LabError
from programs import tool

# What a host writes on its serial port at each boot when its ssh server listens (setup.sh).
LISTENING = b"xenlab: the ssh server listens"
# Seconds between the first two connections that are tried, and between the last ones.
FIRST_INTERVAL = 1.0
LAST_INTERVAL = 30.0


def options(directory: Path, key: Path) -> list[str]:
    """How ssh enters a host: its own key, and its own list of known hosts, new with every host."""

    def quoted(path: Path) -> str:
        # ssh splits the value of an option at blanks (ssh_config(5)).
        return f'"{path}"' if " " in str(path) else str(path)

    return [
        *("-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={quoted(directory / 'known_hosts')}"),
        *("-o", "GlobalKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-o", f"IdentityFile={quoted(key)}"),
        *("-o", "LogLevel=ERROR", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=20"),
    ]


def command(directory: Path, key: Path, port: int) -> list[str]:
    """The command before the remote command."""
    return [tool("ssh"), "-F", "none", *options(directory, key), "-p", str(port), "root@127.0.0.1"]


def wait_until_entered(directory: Path, key: Path, port: int, timeout: float) -> None:
    """Waits (seconds) until the host answers a command over ssh, and sets its clock by the same session.

    A restored host believes that it is still the time at which it was saved.
    """
    end = time.monotonic() + timeout
    greeting = _Greeting(port)
    while time.monotonic() < end:
        watcher.require_running(directory)
        if greeting.heard():
            greeting.close()
            if clock.set_on(command(directory, key, port)):
                return
            greeting = _Greeting(port)
            time.sleep(0.2)
    raise _late(directory, timeout)


def _late(directory: Path, timeout: float) -> LabError:
    return LabError(
        f"The host did not answer over ssh within {timeout:.0f} s.",
        f"See {directory}/serial.log for how far it came; on a busy machine run it again when less is running.",
    )


def wait_until_listening(directory: Path, timeout: float) -> None:
    """Waits (seconds) until a host that boots reports on its serial port that its ssh server listens.

    QEMU keeps each connection that was tried before and hands them all over at once when the host has a network; the
    server starts a process for each. With a try a second, 35 of them held up the first answer for 15 seconds.
    """
    end = time.monotonic() + timeout
    while LISTENING not in (directory / "serial.log").read_bytes():
        watcher.require_running(directory)
        if time.monotonic() > end:
            raise _late(directory, timeout)
        time.sleep(0.2)


class _Greeting:
    """Waits for the first bytes of the ssh server.

    QEMU accepts a connection before the host can answer, and it may then hang for seconds, so that a new one is tried
    after a while. All stay open, and the tries become rarer: the server starts a process for each, which a busy machine
    would otherwise need more time for than there is between two of them.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: list[socket.socket] = []
        self._next = 0.0
        self._interval = FIRST_INTERVAL

    def heard(self) -> bool:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._interval
            self._interval = min(2 * self._interval, LAST_INTERVAL)
            try:
                self._open.append(socket.create_connection(("127.0.0.1", self._port), timeout=1))
            except OSError:
                pass
        for connection in select.select(self._open, [], [], 0.1)[0]:
            try:
                words = connection.recv(4)
            except OSError:
                words = b""
            if words == b"SSH-":
                return True
            self._open.remove(connection)
            connection.close()
        return False

    def close(self) -> None:
        for connection in self._open:
            connection.close()
