# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ssh
import watcher
from errors import LabError


def _serial(host: Path, words: bytes) -> None:
    (host / "serial.log").write_bytes(words)


def test_the_image_says_what_the_lab_waits_for() -> None:
    setup = Path(ssh.__file__).with_name("setup.sh").read_bytes()
    assert b'"' + ssh.LISTENING + b'" > /dev/console' in setup


def test_a_host_listens_when_it_says_so_among_other_words(host: Path) -> None:
    _serial(host, b"(XEN) Xen version\n")
    with watcher.Starting(host, [], None):
        with pytest.raises(LabError, match="did not answer"):
            ssh.wait_until_listening(host, 0.1)
        _serial(host, b"\x1b[!p" + ssh.LISTENING + b"\r\n(XEN) more\xff")
        ssh.wait_until_listening(host, 0.1)


def test_nobody_waits_for_a_host_that_has_ended(host: Path, fake_qemu: Callable[[str], None]) -> None:
    _serial(host, b"")
    fake_qemu("echo no disk >&2")
    with watcher.Starting(host, [], None), pytest.raises(LabError, match="ended .* QEMU printed: no disk"):
        ssh.wait_until_listening(host, 10)


def test_a_server_that_is_slow_to_answer_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "FIRST_INTERVAL", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted = []

        def serve() -> None:
            # Each connection costs more than the time between the first tries.
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                accepted.append(connection)
                time.sleep(0.8)
                try:
                    connection.sendall(b"SSH-2.0-slow\r\n")
                except OSError:
                    pass

        threading.Thread(target=serve, daemon=True).start()
        greeting = ssh._Greeting(server.getsockname()[1])
        end = time.monotonic() + 5
        while not greeting.heard():
            assert time.monotonic() < end, "every connection was given up before the answer came"
        greeting.close()
        server.shutdown(socket.SHUT_RDWR)
    assert len(accepted) <= 3
