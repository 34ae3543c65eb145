# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest says, on a real terminal."""

from __future__ import annotations

import os
import threading
import time
import tty
from collections.abc import Callable, Iterator
from typing import Optional

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._xen import console
from ansible_collections.xen.stubdom.plugins.module_utils._xen.console import Console, new_lines, plain


class Terminal:
    """A pseudo-terminal whose one end is the guest's."""

    def __init__(self) -> None:
        self.name: Optional[str] = None
        self.connect()
        self.console = Console(str(self.name))

    def connect(self) -> None:
        self.guest, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.name = os.ttyname(self._slave)

    def end(self) -> None:
        self.name = None
        self.hang_up()

    def hang_up(self) -> None:
        os.close(self._slave)
        os.close(self.guest)

    def look(self) -> Optional[str]:
        return self.name

    def later(self, seconds: float, do: Callable[[], object]) -> None:
        timer = threading.Timer(seconds, do)
        timer.daemon = True
        timer.start()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    found = Terminal()
    yield found
    found.console.close()


def test_words_are_heard_in_pieces_and_between_the_sequences_of_a_terminal(terminal: Terminal) -> None:
    os.write(terminal.guest, b"\x1b[30m\x1b[47mWelcome to GRUB!\n\r\x1b[3;1Hlog")
    terminal.later(0.1, lambda: os.write(terminal.guest, b"\x1b[min: "))
    assert terminal.console.listen("login: ", 10, terminal.look)
    assert terminal.console.heard == "Welcome to GRUB!\nlogin: "
    terminal.end()


def test_a_guest_that_ends_is_not_waited_for(terminal: Terminal) -> None:
    os.write(terminal.guest, b"bye\r\n")
    terminal.later(0.1, terminal.end)
    begin = time.monotonic()
    assert not terminal.console.listen("login: ", 30, terminal.look)
    assert time.monotonic() - begin < 10


def test_a_domain_that_is_kept_after_its_end_is_noticed(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LOOK", 0.1)
    os.write(terminal.guest, b"half a w")
    begin = time.monotonic()
    assert not terminal.console.listen("half a word", 30, lambda: None)
    assert terminal.console.heard == "half a w"
    assert time.monotonic() - begin < 10
    terminal.end()


def test_one_look_without_the_guest_is_not_its_end(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LOOK", 0.1)
    monkeypatch.setattr(console, "AGAIN", 0.1)
    looks: list[int] = []

    def look() -> Optional[str]:
        looks.append(len(looks))
        if len(looks) == 5:
            os.write(terminal.guest, b"login: ")
        return None if len(looks) in (1, 3) else terminal.name

    assert terminal.console.listen("login: ", 30, look)
    terminal.end()


def test_what_is_left_in_the_terminal_is_read_after_the_end(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LOOK", 0.1)
    monkeypatch.setattr(console, "AGAIN", 0.1)
    looks: list[int] = []

    def look() -> Optional[str]:
        looks.append(len(looks))
        if len(looks) == 2:
            os.write(terminal.guest, b"last words")
        return None

    assert terminal.console.listen("last words", 30, look)
    assert len(looks) == 2
    terminal.end()


def test_silence_is_waited_for_no_longer_than_asked(terminal: Terminal) -> None:
    begin = time.monotonic()
    assert not terminal.console.listen("login: ", 0.3, terminal.look)
    assert 0.2 < time.monotonic() - begin < 5
    terminal.end()


def test_a_guest_that_gets_another_terminal_is_heard_there(terminal: Terminal) -> None:
    def another() -> None:
        terminal.connect()
        os.write(terminal.guest, b"login: ")

    os.write(terminal.guest, b"loading ")
    terminal.later(0.1, terminal.hang_up)
    terminal.later(0.4, another)
    assert terminal.console.listen("login: ", 10, terminal.look)
    assert terminal.console.heard == "loading login: "
    terminal.end()


def test_a_terminal_that_stays_away_is_waited_for_as_long_as_the_guest_lives(terminal: Terminal) -> None:
    terminal.hang_up()
    begin = time.monotonic()
    assert not terminal.console.listen("login: ", 1, terminal.look)
    assert 0.9 < time.monotonic() - begin < 5


def test_a_terminal_that_is_not_there() -> None:
    with pytest.raises(UserError, match="/dev/pts/nothing cannot be opened"):
        Console("/dev/pts/nothing")


def test_text_without_what_moves_the_cursor() -> None:
    assert plain(b"\x1b[?25l\x1b[1;41H[ 5% ]\x1b(B\r\nok\x00\xff") == "[ 5% ]\nok\ufffd"


@pytest.mark.parametrize(
    ("before", "after", "new"),
    [
        ("", "a\n", "a\n"),
        ("a\nb\n", "a\nb\nc\n", "c\n"),
        ("a\nb\n", "a\nb\n", ""),
        # The ring has turned over, once in part and once altogether.
        ("1\n2\n3\n", "2\n3\n4\n", "4\n"),
        ("x" * 5000 + "\nend\n", "end\nnew\n", "new\n"),
        ("1\n", "7\n8\n", "7\n8\n"),
    ],
)
def test_what_a_log_has_got_since(before: str, after: str, new: str) -> None:
    assert new_lines(before, after) == new


def test_the_last_words_of_a_guest_are_heard(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LOOK", 0.1)

    def ends_speaking() -> None:
        os.write(terminal.guest, b"Kernel panic\r\n")

    assert terminal.console.listen("Kernel panic", 30, ends_speaking)
    terminal.end()
