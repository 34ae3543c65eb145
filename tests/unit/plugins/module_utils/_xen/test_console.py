# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest says, on a real terminal."""

from __future__ import annotations

import os
import re
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Optional

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._xen import console
from ansible_collections.xen.stubdom.plugins.module_utils._xen.console import (
    Console,
    Pattern,
    Text,
    Transcript,
    check_pattern,
    new_lines,
)


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
    assert terminal.console.listen(Text("login: "), 10, terminal.look)
    assert terminal.console.heard == "Welcome to GRUB!\nlogin: "
    terminal.end()


def test_a_guest_that_ends_is_not_waited_for(terminal: Terminal) -> None:
    os.write(terminal.guest, b"bye\r\n")
    terminal.later(0.1, terminal.end)
    begin = time.monotonic()
    assert not terminal.console.listen(Text("login: "), 30, terminal.look)
    assert time.monotonic() - begin < 10


def test_a_domain_that_is_kept_after_its_end_is_noticed(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LOOK", 0.1)
    os.write(terminal.guest, b"half a w")
    begin = time.monotonic()
    assert not terminal.console.listen(Text("half a word"), 30, lambda: None)
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

    assert terminal.console.listen(Text("login: "), 30, look)
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

    assert terminal.console.listen(Text("last words"), 30, look)
    assert len(looks) == 2
    terminal.end()


@pytest.mark.parametrize(
    ("pattern", "written", "found"),
    [
        (r"^web\d+ login: ?$", b"Debian\r\nweb12 login: ", True),
        (r"(?i)reached target .*multi-user", b"[ OK ] Reached target multi-user.target\r\n", True),
        (r"inet \d{1,3}\.\d{1,3}\.\d{1,3}", b"inet 10.0.0.1\r\n", True),
        (r"(?:Debian|Ubuntu)? login", b"web login", True),
        (r"[)*+]x", b"abcd*x", True),
        (r"a.b", b"a\r\nb", False),
        (r"x$", b"y" * 400 + b"x\r\n", False),
    ],
)
def test_a_pattern_is_searched_in_each_line(terminal: Terminal, pattern: str, written: bytes, found: bool) -> None:
    assert check_pattern(pattern) is None
    for piece in (written[:3], written[3:]):
        os.write(terminal.guest, piece)
        assert terminal.console.listen(Pattern(pattern), 0.2, terminal.look) is (found and piece != written[:3])
    terminal.end()


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|a)*b",
        "(?=a)b",
        r"(a)\1",
        "(?P<x>a)(?P=x)",
        "a.*b.*c.*d",
        "(",
        "x" * 201,
        "a{1,400}b{400}",
        "a?" * 20,
        "(a|b)" * 20,
        "[",
        "(?x) a",
        "(a{2}){3}",
        "a*a*a*",
    ],
)
def test_a_pattern_that_could_cost_too_much_is_refused(pattern: str) -> None:
    assert (check_pattern(pattern) or "").startswith("which ")


def test_a_pattern_that_is_taken_costs_little(terminal: Terminal) -> None:
    # The worst that is taken, and a line for which it tries all ways.
    searched = Pattern(".*.*x")
    assert check_pattern(".*.*x") is None
    begin = time.thread_time()
    searched.add("y" * 1000 + "\n")
    assert time.thread_time() - begin < 2 and not searched.found()
    terminal.end()


def test_silence_is_waited_for_no_longer_than_asked(terminal: Terminal) -> None:
    begin = time.monotonic()
    assert not terminal.console.listen(Text("login: "), 0.3, terminal.look)
    assert 0.2 < time.monotonic() - begin < 5
    terminal.end()


def test_a_guest_that_gets_another_terminal_is_heard_there(terminal: Terminal) -> None:
    def another() -> None:
        terminal.connect()
        os.write(terminal.guest, b"login: ")

    os.write(terminal.guest, b"loading ")
    terminal.later(0.1, terminal.hang_up)
    terminal.later(0.4, another)
    assert terminal.console.listen(Text("login: "), 10, terminal.look)
    assert terminal.console.heard == "loading login: "
    terminal.end()


def test_a_terminal_that_stays_away_is_waited_for_as_long_as_the_guest_lives(terminal: Terminal) -> None:
    terminal.hang_up()
    begin = time.monotonic()
    assert not terminal.console.listen(Text("login: "), 1, terminal.look)
    assert 0.9 < time.monotonic() - begin < 5


def test_a_terminal_that_is_not_there() -> None:
    with pytest.raises(UserError, match="/dev/pts/999999 cannot be opened"):
        Console("/dev/pts/999999")


def hostile_paths(directory: Path) -> Iterator[str]:
    """What a stub domain may name as its guest's terminal."""
    secret = directory / "secret"
    secret.write_text("root's")
    (directory / "3").symlink_to(secret)
    yield from (str(secret), str(directory / "3"), "/dev/pts/nothing", "/dev/pts/../../etc/shadow", "/dev/pts/1/../2")
    yield from ("", "/dev/pts/", "/dev/pts/ptmx", "/dev/zero", "/dev/watchdog", "/dev/pts/1\n", "/dev/pts/\u0661", "x")


def test_only_a_terminal_is_opened(terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, opened = os.open, []
    monkeypatch.setattr(os, "open", lambda path, *rest, **more: opened.append(path) or real(path, *rest, **more))
    given = list(hostile_paths(tmp_path))
    for path in given:
        with pytest.raises(UserError, match="which is no terminal") as refused:
            Console(path)
        assert len(str(refused.value).splitlines()) == 2
    # The path may change after the guest has run, too.
    paths = iter(given)
    monkeypatch.setattr(console, "AGAIN", 0.01)
    terminal.hang_up()
    assert not terminal.console.listen(Text("root's"), 0.5, lambda: next(paths, ""))
    assert opened == [] and terminal.console.heard == ""


@pytest.mark.parametrize("kind", ["file", "link", "device"])
def test_what_is_no_terminal_is_not_read_whatever_its_name(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_TERMINALS", re.compile(rf"{tmp_path}/[0-9]+"))
    path = tmp_path / "3"
    if kind == "file":
        path.write_text("root's")
    else:
        path.symlink_to("/dev/ptmx" if kind == "link" else "/dev/null")
    real = os.open
    if kind == "device":
        monkeypatch.setattr(os, "open", lambda path, *rest, **more: real("/dev/null", *rest, **more))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UserError, match="is no terminal|Too many levels"):
        Console(str(path))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_guest_that_floods_its_console_costs_little(terminal: Terminal) -> None:
    ended = threading.Event()

    def flood() -> None:
        line = b"\x1b\x1b[0m[31m\x1b]0;" + b"x" * 1000 + b"\r\n"
        while not ended.is_set():
            os.write(terminal.guest, line)

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    begin = time.thread_time()
    assert not terminal.console.listen(Text("login: "), 2, terminal.look)
    cost = time.thread_time() - begin
    ended.set()
    while thread.is_alive():
        terminal.console._read(0.1)
    assert len(terminal.console.heard) < 4 * console.KEPT
    # Half of the time at most, on a machine that does other things as well.
    assert cost < 1
    terminal.end()


def test_a_text_costs_as_much_as_it_is_long() -> None:
    def cost(size: int) -> float:
        said = Transcript()
        begin = time.thread_time()
        for number in range(size):
            said.add(b"\x1b[" + b"0" * 20 if number % 2 else b"\xe2\x80\xaex\x1b]" + b"y" * 20)
        return time.thread_time() - begin

    cost(500)
    assert cost(8000) < 30 * max(cost(1000), 0.01)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_text_in_pieces_is_the_same_text(size: int) -> None:
    sent = "a\u00e9\x1b[1;31mb\x1b]0;title\x07c\x1b]0;title\x1b\\d\x1b(B\u20ac\r\ne\x1b[".encode()
    said = Transcript()
    new = "".join(said.add(sent[at : at + size]) for at in range(0, len(sent), size))
    assert said.text == "a\u00e9bcd\u20ac\ne" == new


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_a_line_that_is_written_again_and_again_is_shown_once(size: int) -> None:
    sent = b"a\r\nload   0%\rload  50%\r\r\x1b[Kload 100%\r\r\nb\n\rc\rd"
    said = Transcript()
    new = "".join(said.add(sent[at : at + size]) for at in range(0, len(sent), size))
    assert said.text == "a\nload 100%\nb\nd"
    # What is waited for is found all the same.
    assert new == "a\nload   0%load  50%load 100%\nb\ncd"


def test_no_more_than_the_end_of_a_text_is_kept() -> None:
    # The end that is always there, in characters.
    assert console.KEPT == 32768
    said = Transcript()
    for number in range(20000):
        said.add(b"%d " % number)
    assert said.text.endswith("19998 19999 ") and console.KEPT <= len(said.text) <= 2 * console.KEPT
    said = Transcript()
    said.add(b"\x1b]" + b"x" * 10_000_000)
    assert len(said.text) <= 2 * console.KEPT


def test_words_are_found_that_come_a_byte_at_a_time_in_a_flood(terminal: Terminal) -> None:
    def speak() -> None:
        for _count in range(50):
            os.write(terminal.guest, b"x" * 4000)
        for byte in b"login: " + b"y" * 200_000:
            os.write(terminal.guest, bytes([byte]))

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    assert terminal.console.listen(Text("login: "), 20, terminal.look)
    while thread.is_alive():
        terminal.console._read(0.01)
    terminal.end()


def test_text_without_what_moves_the_cursor() -> None:
    assert Transcript().add(b"\x1b[?25l\x1b[1;41H[ 5% ]\x1b(B\r\nok\x00\xff", final=True) == "[ 5% ]\nok\ufffd"


@pytest.mark.parametrize(
    "sent",
    [
        "\x1b\x1b[0m[31m",
        "\x1b[\x1b[0m31m",
        "\x1b\x1b\x1b[0m[0m[31m",
        "\u009b31m",
        "\x1b]52;c;cm0gLXJm\x07",
        "\x1b]52;c;cm0gLXJm\x1b\\",
        "\x1bP+q\x1b\\",
        "\u202eevil\u202c",
        "\u2066\u2067\u200e\u200f\u061c",
        "\u200b\u200d\u2060\ufeff\u00ad\u180e\u034f\u3164\u115f\uffa0\u2800\ufe0f",
        "\U000e0041\U000e0100\ue000\ufff9",
        "\x7f\b\a\v\f",
        "\u2028\u2029\u0085",
    ],
)
def test_nothing_reaches_the_operator_that_is_not_seen(sent: str) -> None:
    for prefix in ("", "\x1b", "\x1b["):
        shown = Transcript().add(f"a{prefix}{sent}b".encode(), final=True)
        assert shown[0] == "a" and shown[-1] == "b"
        assert shown.isprintable() and not set(shown) & set("\u034f\u3164\u115f\uffa0\u2800\ufe0f\U000e0100"), shown


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
        # What was last read is not where the log begins now, and stands there twice.
        ("1\n2\nend\n", "0\nend\n3\nend\n4\n", "4\n"),
    ],
)
def test_what_a_log_has_got_since(before: str, after: str, new: str) -> None:
    assert new_lines(before, after) == new


def test_the_last_words_of_a_guest_are_heard(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LOOK", 0.1)

    def ends_speaking() -> None:
        os.write(terminal.guest, b"Kernel panic\r\n")

    assert terminal.console.listen(Text("Kernel panic"), 30, ends_speaking)
    terminal.end()
