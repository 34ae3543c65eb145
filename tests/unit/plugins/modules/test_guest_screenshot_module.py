# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Pictures of a server that is played, which does what it should, or what a hostile guest might.

from __future__ import annotations

import contextlib
import socket
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import picture
from ansible_collections.xen.stubdom.plugins.modules import guest_screenshot

RED, BLUE = b"\xff\0\0\0", b"\0\0\xff\0"
Talk = Callable[[socket.socket], None]


def take_in(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = connection.recv(count - len(found))
        if not part:
            raise ConnectionError
        found += part
    return found


def greet(
    width: int, height: int, *, name: bytes = b"web", kinds: bytes = b"\1", version: bytes = b"RFB 003.008\n"
) -> Talk:
    def talk(connection: socket.socket) -> None:
        connection.sendall(version)
        take_in(connection, 12)
        connection.sendall(bytes([len(kinds)]) + kinds)
        take_in(connection, 1)
        connection.sendall(bytes(4))
        take_in(connection, 1)
        connection.sendall(struct.pack(">HH", width, height) + bytes(16) + struct.pack(">I", len(name)) + name)
        take_in(connection, 20 + 12)

    return talk


def asked(connection: socket.socket) -> Tuple[int, ...]:
    """The next request: whether it is for changes only, and for which part."""
    return struct.unpack(">xBHHHH", take_in(connection, 10))


def send(*rectangles: Tuple[Tuple[int, int, int, int, int], bytes]) -> Talk:
    def talk(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(struct.pack(">BxH", 0, len(rectangles)))
        for place, content in rectangles:
            connection.sendall(struct.pack(">HHHHi", *place) + content)

    return talk


@pytest.fixture
def directory() -> Iterator[Path]:
    # The path of a socket is short.
    with tempfile.TemporaryDirectory() as found:
        (Path(found) / "run/xen-stubdom").mkdir(parents=True)
        yield Path(found)


class Server:
    """Talks to one viewer after the other; the last talk is had with all others, too."""

    def __init__(self, directory: Path, *talks: List[Talk]) -> None:
        self.viewers = 0
        self._talks = talks
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(directory / "run/xen-stubdom/web.vnc"))
        self._listening.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _address = self._listening.accept()
                connection.settimeout(10)
                talk = self._talks[min(self.viewers, len(self._talks) - 1)]
                self.viewers += 1
                with connection, contextlib.suppress(OSError):
                    for part in talk:
                        part(connection)
                    connection.recv(1)


class Module:
    check_mode = False

    def __init__(self, **params: Any) -> None:
        self.params = params


def run(directory: Path, *, check: bool = False, timeout: int = 20, name: str = "web") -> Dict[str, Any]:
    module = Module(name=name, dest=str(directory / "web.png"), timeout=timeout)
    module.check_mode = check
    return guest_screenshot.run(module)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def root(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_screenshot, "ROOT", str(directory))


def pixels(png: bytes) -> Tuple[int, int, List[bytes]]:
    """Width, height and rows of a file, read as another program would."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, data, header = 8, b"", b""
    while at < len(png):
        (length,), kind = struct.unpack_from(">I", png, at), png[at + 4 : at + 8]
        content = png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length) == (zlib.crc32(kind + content),)
        data += content if kind == b"IDAT" else b""
        header = content if kind == b"IHDR" else header
        at += 12 + length
    assert kind == b"IEND" and header[8:] == bytes([8, 2, 0, 0, 0])
    width, height = struct.unpack_from(">II", header)
    rows = zlib.decompress(data)
    found = [rows[start : start + 1 + 3 * width] for start in range(0, len(rows), 1 + 3 * width)]
    assert len(found) == height and all(row[0] == 0 for row in found)
    return width, height, [row[1:] for row in found]


WHOLE = send(((0, 0, 3, 1, 0), RED * 3), ((0, 1, 3, 1, 0), BLUE * 3))


def test_a_picture(directory: Path) -> None:
    with Server(directory, [greet(3, 2), WHOLE]):
        steps = [run(directory, check=check) for check in (True, False, True, False)]
    assert [step["changed"] for step in steps] == [True, True, False, False]
    assert [(step["width"], step["height"], step["blank"]) for step in steps] == [(3, 2, False)] * 4
    written = directory / "web.png"
    assert pixels(written.read_bytes()) == (3, 2, [b"\xff\0\0" * 3, b"\0\0\xff" * 3])
    assert written.stat().st_mode & 0o777 == 0o600


def test_a_picture_of_the_size_of_a_screen(directory: Path) -> None:
    with Server(directory, [greet(720, 400), send(((0, 0, 720, 400, 0), BLUE * 720 * 400))]):
        run(directory)
    assert pixels((directory / "web.png").read_bytes()) == (720, 400, [b"\0\0\xff" * 720] * 400)


def test_a_picture_that_comes_in_single_pixels(directory: Path) -> None:
    places = [(1, 1), (0, 0), (2, 1), (1, 0), (0, 1), (2, 0)]
    sent = [((left, top, 1, 1, 0), bytes((10 * left, 20 * top, 40, 0))) for left, top in places]
    with Server(directory, [greet(3, 2), send(*sent)]):
        run(directory)
    rows = [b"".join(bytes((10 * left, 20 * top, 40)) for left in range(3)) for top in range(2)]
    assert pixels((directory / "web.png").read_bytes()) == (3, 2, rows)


def test_a_picture_whose_bytes_come_slowly(directory: Path) -> None:
    def slowly(connection: socket.socket) -> None:
        sent = struct.pack(">BxH", 0, 1) + struct.pack(">HHHHi", 0, 0, 1, 1, 0) + RED
        for part in (sent[:3], sent[3:7], sent[7:]):
            connection.sendall(part)
            time.sleep(0.1)

    with Server(directory, [greet(1, 1), slowly]):
        run(directory)
    assert pixels((directory / "web.png").read_bytes()) == (1, 1, [b"\xff\0\0"])


def test_a_picture_that_comes_in_parts_and_changes_its_size(directory: Path) -> None:
    def others(connection: socket.socket) -> None:
        # A bell, a text, colours.
        connection.sendall(b"\2\3\0\0\0" + struct.pack(">I", 2) + b"ab" + struct.pack(">BxHH", 1, 0, 1) + bytes(6))

    talks = [
        greet(9, 9),
        send(((0, 0, 2, 1, -223), b"")),
        others,
        send(((0, 0, 1, 1, 0), RED)),
        send(((1, 0, 1, 1, 0), RED), ((0, 0, 0, 0, 0), b"")),
    ]
    with Server(directory, talks):
        found = run(directory)
    assert (found["width"], found["height"], found["blank"]) == (2, 1, True)


def test_a_viewer_that_has_just_gone_is_waited_for(directory: Path) -> None:
    with Server(directory, [lambda connection: connection.close()], [greet(3, 2), WHOLE]) as server:
        assert run(directory)["width"] == 3
    assert server.viewers == 2


@pytest.mark.parametrize(
    ("talk", "why"),
    [
        ([lambda connection: connection.sendall(b"SSH-2.0-OpenSSH\n")], "it does not speak RFB 3.8"),
        ([greet(3, 2, version=b"RFB 003.003\n")], "it does not speak RFB 3.8"),
        ([greet(3, 2, kinds=b"\2\x13")], "it asks for a password"),
        ([greet(3, 2, kinds=b"")], "it refuses all viewers"),
        ([greet(0, 2)], "it is of 0x2 pixels"),
        ([greet(65535, 65535)], "it is of 65535x65535 pixels"),
        ([greet(8192, 8192)], "it is of 8192x8192 pixels"),
        ([greet(3, 2, name=b"a" * 5000)], "it sends a text of 5000 bytes"),
        ([greet(3, 2), send(((0, 0, 4, 1, 0), RED * 4))], "it sends 4x1 pixels at 0,0 in encoding 0"),
        ([greet(3, 2), send(((3, 1, 1, 1, 0), RED))], "it sends 1x1 pixels at 3,1 in encoding 0"),
        ([greet(3, 2), send(((0, 0, 3, 2, 7), b""))], "it sends 3x2 pixels at 0,0 in encoding 7"),
        ([greet(3, 2), send(((0, 0, 9000, 1, -223), b""))], "it is of 9000x1 pixels"),
        ([greet(3, 2), lambda connection: connection.sendall(b"\x99")], "it sends a message of the kind 153"),
    ],
)
def test_what_is_no_picture(directory: Path, talk: List[Talk], why: str) -> None:
    with Server(directory, talk), pytest.raises(UserError) as refused:
        run(directory)
    assert str(refused.value.what) == f"There is no picture of the guest web: {why}."
    assert not (directory / "web.png").exists()


def drip(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"\2")
        time.sleep(0.05)


def again_and_again(connection: socket.socket) -> None:
    while True:
        connection.sendall(struct.pack(">BxH", 0, 65535))
        connection.sendall((struct.pack(">HHHHi", 0, 0, 1, 1, 0) + RED) * 65535)


@pytest.mark.parametrize(
    ("talk", "why"),
    [
        ([lambda connection: connection.sendall(b"RFB")], "it did not come in time"),
        ([greet(3, 2), lambda connection: time.sleep(4)], "it did not come in time"),
        ([greet(3, 2), drip], "it did not come in time"),
        ([lambda connection: connection.close()], "the connection ended"),
    ],
)
def test_time_has_an_end(directory: Path, talk: List[Talk], why: str) -> None:
    begin = time.monotonic()
    with Server(directory, talk), pytest.raises(UserError, match=why):
        run(directory, timeout=2)
    assert time.monotonic() - begin < 12


def test_bytes_have_an_end(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "MOST_PIXELS", 1000)
    with Server(directory, [greet(3, 2), again_and_again]), pytest.raises(UserError, match="parts of the picture"):
        run(directory)


def test_a_guest_without_a_screen(directory: Path) -> None:
    with pytest.raises(UserError, match="cannot be connected to: .*web.vnc: No such file") as refused:
        run(directory)
    assert "Start the guest with a screen" in refused.value.remedy
    # It is what an earlier task of the play makes.
    found = run(directory, check=True)
    assert found["changed"] and found["width"] is None and "web.vnc" in found["warnings"][0]


@pytest.mark.parametrize("name", ["../web", "", "w" * 87])
def test_a_name_that_is_none(directory: Path, name: str) -> None:
    with pytest.raises(UserError, match="no guest of that name has a screen"):
        run(directory, name=name)
