# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The monitor of a running QEMU."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from pathlib import Path
from typing import Any, Self

import watcher
from errors import LabError


class Monitor:
    """QEMU's machine protocol on a socket (docs/interop/qmp-spec.rst)."""

    def __init__(self, directory: Path, timeout: float = 60) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        # A socket's path may have 107 characters; through the descriptor of its directory any path is short.
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            self._socket.connect(f"/proc/self/fd/{descriptor}/qmp.sock")
        finally:
            os.close(descriptor)
        self._lines = self._socket.makefile("rb")
        self._lines.readline()
        self.execute("qmp_capabilities")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def execute(self, command: str, **arguments: object) -> Any:
        """One command and its answer; events in between are passed over."""
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            line = self._lines.readline()
            if not line:
                raise ConnectionResetError("QEMU has closed its monitor")
            answer = json.loads(line)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise LabError(
                    f"QEMU refuses {command}: {answer['error']['desc']}.", "See qemu.log beside the host's serial.log."
                )

    def words(self, command: str) -> str:
        """What the human monitor answers, which knows savevm, loadvm and info usernet."""
        return str(self.execute("human-monitor-command", **{"command-line": command})).strip()


def connect(directory: Path, timeout: float = 30) -> Monitor:
    """The monitor of a QEMU that has just been started, as soon as it listens."""
    end = time.monotonic() + timeout
    while True:
        try:
            return Monitor(directory)
        except OSError:
            if time.monotonic() > end or not watcher.is_running(directory):
                raise
            time.sleep(0.05)


def forwarded_port(answer: str) -> int:
    """The loopback port in the answer to `info usernet`."""
    match = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)", answer)
    if not match:
        raise LabError("QEMU does not report which port leads to the host.", f"It answered: {answer}")
    return int(match[1])
