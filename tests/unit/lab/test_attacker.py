# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import socket
import struct

import attacker
import pytest


def answered(kind: int, content: bytes) -> tuple[attacker.Held, socket.socket]:
    """A device model whose xenstored has answered already."""
    ours, theirs = socket.socketpair()
    theirs.sendall(struct.pack("4I", kind, 1, 0, len(content)) + content)
    return attacker.Held(-1, -1, ours.detach()), theirs


def test_what_xenstored_is_asked() -> None:
    held, xenstored = answered(attacker.XS_READ, b"web")
    assert attacker.xenstore(held, attacker.XS_READ, "name") == b"web"
    assert xenstored.recv(100) == struct.pack("4I", 2, 1, 0, 5) + b"name\0"
    held, xenstored = answered(attacker.XS_WRITE, b"OK\0")
    attacker.rewrite(held, "name", "db")
    assert xenstored.recv(100) == struct.pack("4I", 11, 1, 0, 7) + b"name\0db"


def test_what_xenstored_refuses() -> None:
    held, _xenstored = answered(attacker.XS_ERROR, b"EACCES\0")
    with pytest.raises(OSError) as refused:
        attacker.xenstore(held, attacker.XS_READ, "name")
    assert refused.value.errno == errno.EACCES


def test_what_is_refused_is_told_from_what_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    def no() -> None:
        raise attacker.refused(errno.EPERM)

    attacker.report("user", {"one": lambda: None, "two": no})
    assert capsys.readouterr().out.splitlines() == [
        "attack: user: one: done",
        "attack: user: two: refused: [Errno 1] Operation not permitted",
    ]
