# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: one picture of a screen, read by the RFB protocol (RFC 6143) and made a PNG
# (RFC 2083). The server may be a guest's, and nothing is believed of it: time, sizes and the number of bytes have
# bounds.

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
import zlib
from dataclasses import dataclass
from typing import Iterator, Tuple

# QEMU's VNC shows up to 2560x2048 pixels (VNC_MAX_WIDTH, VNC_MAX_HEIGHT; ui/vnc.h @ v10.0.0).
MOST_PIXELS = 2560 * 2048
_LONGEST_SIDE = 8192
_LONGEST_TEXT = 4096
# How often the whole picture may be sent until all of it has come once.
_MOST_PICTURES = 4
_VERSION = b"RFB 003.008\n"
_NO_PASSWORD = 1
# 32 bits per pixel, of which 24 are used, little-endian: bytes of red, green and blue, and one without a meaning.
_BYTES = 4
_FORMAT = struct.pack(">BBBBHHHBBBxxx", 32, 24, 0, 1, 255, 255, 255, 0, 8, 16)
_RAW, _NEW_SIZE = 0, -223
_UPDATE, _COLOURS, _BELL, _CUT_TEXT = 0, 1, 2, 3


class Unreadable(Exception):
    """What was sent is no picture, in the words of a sentence's end; *passing* where another try may help."""

    def __init__(self, why: str, *, passing: bool = False) -> None:
        super().__init__(why)
        self.passing = passing


@dataclass(frozen=True)
class Picture:
    """Pixels row by row, each of three bytes: red, green and blue."""

    width: int
    height: int
    pixels: bytes

    @property
    def blank(self) -> bool:
        """Whether all pixels have one colour."""
        return self.pixels == self.pixels[:3] * (len(self.pixels) // 3)

    def png(self) -> bytes:
        """Return it as a file."""
        row = 3 * self.width
        rows = b"".join(b"\0" + self.pixels[at : at + row] for at in range(0, len(self.pixels), row))
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )


def take(path: str, timeout: float) -> Picture:
    """Return what is shown by the server that listens on a unix socket.

    :param timeout: seconds, for all of it.
    :raises Unreadable: there is no picture, or not all of it in time.
    :raises OSError: the socket cannot be connected to.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return _take(path, deadline)
        except Unreadable as error:
            if not error.passing or time.monotonic() + 1 > deadline:
                raise
            # Another viewer has just gone, or the stub domain does not serve its screen yet.
            time.sleep(1)


def _take(path: str, deadline: float) -> Picture:
    with _connected(path) as connection:
        stream = _Stream(connection, deadline)
        screen = _Screen(*_greet(stream))
        # The pixels' format, and in which encodings they may come.
        stream.send(struct.pack(">Bxxx", 0) + _FORMAT + struct.pack(">BxHii", 2, 2, _RAW, _NEW_SIZE))
        sent = 0
        while not screen.whole:
            if sent > _MOST_PICTURES * MOST_PIXELS:
                raise Unreadable("it sends parts of the picture without an end")
            stream.send(screen.request())
            sent += _update(stream, screen)
        return screen.picture()


@contextlib.contextmanager
def _connected(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        connection.connect(path)
        yield connection


class _Stream:
    """What the server sends."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def read(self, count: int) -> bytes:
        """Return so many bytes."""
        found = bytearray()
        while len(found) < count:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise Unreadable("it did not come in time")
            self._connection.settimeout(min(left, 60))
            try:
                part = self._connection.recv(min(count - len(found), 1 << 20))
            except socket.timeout:
                continue
            except ConnectionError as error:
                raise Unreadable(f"the connection ended ({os.strerror(error.errno or 0)})", passing=True) from error
            if not part:
                raise Unreadable("the connection ended", passing=True)
            found += part
        return bytes(found)

    def send(self, content: bytes) -> None:
        try:
            self._connection.sendall(content)
        except OSError as error:
            raise Unreadable(f"the connection ended ({error.strerror})", passing=True) from error

    def unpack(self, form: str) -> Tuple[int, ...]:
        return struct.unpack(form, self.read(struct.calcsize(form)))

    def text(self) -> None:
        """Pass over a text with its length before it."""
        (length,) = self.unpack(">I")
        if length > _LONGEST_TEXT:
            raise Unreadable(f"it sends a text of {length} bytes")
        self.read(length)


def _greet(stream: _Stream) -> Tuple[int, int]:
    """Agree on the protocol; return width and height."""
    version = stream.read(len(_VERSION))
    if not version.startswith(b"RFB 003.00") or version < _VERSION:
        raise Unreadable("it does not speak RFB 3.8")
    stream.send(_VERSION)
    (count,) = stream.unpack(">B")
    kinds = stream.read(count)
    if _NO_PASSWORD not in kinds:
        raise Unreadable("it asks for a password" if kinds else "it refuses all viewers")
    stream.send(bytes([_NO_PASSWORD]))
    if stream.unpack(">I") != (0,):
        raise Unreadable("it refuses this viewer")
    # Others may look, too.
    stream.send(b"\1")
    width, height = stream.unpack(">HH")
    stream.read(len(_FORMAT))
    stream.text()
    return width, height


class _Screen:
    """A picture that comes in parts."""

    def __init__(self, width: int, height: int) -> None:
        self.resize(width, height)

    def resize(self, width: int, height: int) -> None:
        if not 0 < width <= _LONGEST_SIDE or not 0 < height <= _LONGEST_SIDE or width * height > MOST_PIXELS:
            raise Unreadable(f"it is of {width}x{height} pixels")
        self.width, self.height = width, height
        self._pixels = bytearray(_BYTES * width * height)
        # A byte for each pixel that has come.
        self._there = bytearray(width * height)
        self._first = True

    @property
    def size(self) -> int:
        """The number of pixels."""
        return self.width * self.height

    @property
    def whole(self) -> bool:
        """Whether every pixel has come."""
        return self._there.find(0) < 0

    def request(self) -> bytes:
        """The words that ask for all of it, and later for what has changed or has not come."""
        incremental, self._first = not self._first, False
        return struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height)

    def put(self, left: int, top: int, width: int, content: bytes) -> None:
        """Take one rectangle."""
        row = _BYTES * width
        for number in range(len(content) // row):
            at = (top + number) * self.width + left
            self._pixels[_BYTES * at : _BYTES * at + row] = content[row * number : row * (number + 1)]
            self._there[at : at + width] = b"\1" * width

    def picture(self) -> Picture:
        pixels = bytearray(3 * self.size)
        for colour in range(3):
            pixels[colour::3] = self._pixels[colour::_BYTES]
        return Picture(self.width, self.height, bytes(pixels))


def _update(stream: _Stream, screen: _Screen) -> int:
    """Read until parts of the picture have come; return how many pixels that were, and some for each part."""
    (kind,) = stream.unpack(">B")
    while kind != _UPDATE:
        if kind == _CUT_TEXT:
            stream.read(3)
            stream.text()
        elif kind == _COLOURS:
            _first, count = stream.unpack(">xHH")
            stream.read(6 * count)
        elif kind != _BELL:
            raise Unreadable(f"it sends a message of the kind {kind}")
        (kind,) = stream.unpack(">B")
    (count,) = stream.unpack(">xH")
    sent = count
    for _number in range(count):
        left, top, width, height, encoding = stream.unpack(">HHHHi")
        if encoding == _NEW_SIZE:
            screen.resize(width, height)
            continue
        if encoding != _RAW or left + width > screen.width or top + height > screen.height:
            raise Unreadable(f"it sends {width}x{height} pixels at {left},{top} in encoding {encoding}")
        if width and height:
            screen.put(left, top, width, stream.read(_BYTES * width * height))
            sent += width * height
    return sent
