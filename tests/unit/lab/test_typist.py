# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import typist

GREETING = b"RFB 003.008\n" + b"\x01\x01" + b"\0\0\0\0"
# 720x400, sixteen bytes of a format, a name of four letters.
SCREEN = bytes.fromhex("02d00190") + bytes(16) + b"\0\0\0\4hvm1"


@contextlib.contextmanager
def server(path: Path, says: bytes) -> Iterator[list[bytes]]:
    """A server that says all it has to say at once, closes, and keeps what it was sent."""
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(says)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(4096):
                heard.append(part)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield heard
        finally:
            thread.join(10)


def test_each_key_goes_down_and_up_before_it_asks_whether_all_arrived(tmp_path: Path) -> None:
    with server(tmp_path / "screen", GREETING + SCREEN + b"\0") as heard:
        assert typist.main([str(tmp_path / "screen"), "k7"]) == 0
    pressed = [bytes.fromhex(f"04{down}0000000000{key}") for key in ("6b", "37") for down in ("01", "00")]
    assert b"".join(heard) == b"RFB 003.008\n\1\1" + b"".join(pressed) + bytes.fromhex("03000000000000010001")


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (GREETING + SCREEN, "has closed the connection"),
        (GREETING[:12], "has closed the connection"),
        (b"RFB 003.008\n\1\2", "asks for a password"),
        (GREETING[:-1] + b"\1", "refuses this viewer"),
    ],
)
def test_keys_that_may_not_have_arrived_are_an_error(
    tmp_path: Path, says: bytes, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(tmp_path / "screen", says):
        assert typist.main([str(tmp_path / "screen"), "a"]) == 1
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "A", "a b", "\u00e9"])
def test_keys_that_need_another_key_are_not_typed(text: str) -> None:
    with pytest.raises(ValueError):
        typist.keys(text)
