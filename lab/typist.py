#!/usr/bin/env python3
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Types into a guest through the socket of its screen, by the RFB protocol (RFC 6143). Runs on the Xen host.

typist.py SOCKET TEXT    TEXT is of small letters and digits, as any keyboard has them without a second key
"""

from __future__ import annotations

import argparse
import socket
import struct
import sys
from collections.abc import Sequence

VERSION = b"RFB 003.008\n"
NO_PASSWORD = 1
KEY_EVENT, UPDATE_REQUEST = 4, 3
# Seconds without an answer.
PATIENCE = 60


def read(connection: socket.socket, count: int) -> bytes:
    """So many bytes; ConnectionError where there are no more."""
    found = b""
    while len(found) < count:
        part = connection.recv(count - len(found))
        if not part:
            raise ConnectionError("the screen's server has closed the connection")
        found += part
    return found


def keys(text: str) -> bytes:
    """Each key goes down and up; the number of a key is that of its letter (keysyms of the X Window System)."""
    if not text.isascii() or not text.isalnum() or text != text.lower():
        raise ValueError(f"{text!r} is not of small letters and digits")
    return b"".join(struct.pack(">BBxxI", KEY_EVENT, down, ord(letter)) for letter in text for down in (1, 0))


def type_text(connection: socket.socket, text: str) -> None:
    """Returns when the server has taken all keys: it answers a question that was asked after them."""
    typed = keys(text)
    read(connection, len(VERSION))
    connection.sendall(VERSION)
    if NO_PASSWORD not in read(connection, read(connection, 1)[0]):
        raise ConnectionError("the screen's server asks for a password")
    connection.sendall(bytes([NO_PASSWORD]))
    if any(read(connection, 4)):
        raise ConnectionError("the screen's server refuses this viewer")
    connection.sendall(b"\1")  # others may look, too
    read(connection, 20)  # the size of the screen and the format of pixels
    read(connection, int.from_bytes(read(connection, 4), "big"))  # the name of the screen
    connection.sendall(typed + struct.pack(">BBHHHH", UPDATE_REQUEST, 0, 0, 0, 1, 1))
    read(connection, 1)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("socket", metavar="SOCKET")
    parser.add_argument("text", metavar="TEXT")
    asked = parser.parse_args(words)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(asked.socket)
            type_text(connection, asked.text)
    except (OSError, ValueError) as error:
        print(f"typist.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
