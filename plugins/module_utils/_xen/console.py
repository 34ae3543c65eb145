# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what a guest writes to its console or serial port.
# Output that nobody reads is thrown away (QEMU's pty) or lost with the guest, so the terminal has to be open before the
# guest runs: guests are started paused, and unpaused only then.

from __future__ import annotations

import codecs
import os
import re
import select
import stat
import time
from typing import Callable, Optional, Protocol

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

# How often to look whether the guest is still there, in seconds. Mostly its end is noticed by that of its terminal.
LOOK = 5.0

# How long to wait before a terminal that was lost is looked for again, in seconds.
AGAIN = 0.5

# How much of a guest's output is kept, in characters: up to twice as much.
KEPT = 1 << 15

# How much is read at once, and how long to wait before the next: a guest that floods its console does not get all of a
# processor of dom0's.
_AT_ONCE = 4096
_BREATH = 0.01

# What xenconsoled and QEMU give a guest. A stub domain can name any path instead: its xenstore nodes are its own.
_TERMINALS = re.compile(r"/dev/pts/[0-9]{1,7}", re.ASCII)

# Commands to a terminal: strings such as titles, sequences that move the cursor, those of two letters, and a lone ESC.
# Each has a longest form, so that what looks like one costs no more than it is long.
_STRING = r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]{0,1000}"
_CURSOR = r"(?:\x1b\[|\x9b)[0-?]{0,100}[ -/]{0,10}"
_SEQUENCES = re.compile(rf"{_STRING}(?:\x07|\x9c|\x1b\\)|{_CURSOR}[@-~]|\x1b[ -/]{{1,3}}[0-~]|\x1b[0-Z\\^-~]?")
_UNFINISHED = re.compile(rf"(?:{_STRING}\x1b?|{_CURSOR}|\x1b[ -/]{{0,3}})\Z")
# What begins a line again.
_RETURN = re.compile(r"\r+(?!\r|\n)")
# The longest of them.
_LONGEST = 1004

_ODD = re.compile(r"[^\n\t -~]+")
# Invisible, although Unicode calls them printable: joiners, fillers, a blank of Braille, variation selectors.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


# How long a regular expression may be, and how much of a line it is searched in, in characters.
_LONGEST_PATTERN = 200
LONGEST_LINE = 300
# Of a regular expression: an escaped letter that is no reference, what stands for a single letter, what makes it try
# several ways, and what makes it try too many.
_ESCAPED = re.compile(r"\\[^1-9g]|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_SINGLE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?(?:P<\w+>|i\)|:)?", re.DOTALL)
_TRIES = re.compile(r"[*+?|]|\{[0-9,]+\}")
_TRIES_MORE = re.compile(r"\)[*+{]|\(\?(?!:|P<|i\))|\\[1-9g]")


class Until(Protocol):
    """What is waited for while a guest is listened to."""

    def add(self, new: str) -> None:
        """Take what the guest has written since the last time."""

    def found(self, *, last: bool = False) -> bool:
        """Whether it has come; *last* says that this is not asked again."""


class Transcript:
    """What a terminal shows, made of its bytes as they come; its end is kept.

    Of a line that is written again and again, as a progress bar is, the last state.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        # The beginning of a sequence or of the end of a line whose rest has not come yet.
        self._unfinished = ""
        self._lines = ""
        self._line = ""

    @property
    def text(self) -> str:
        """The end of it."""
        return self._lines + self._line

    def add(self, data: bytes, *, final: bool = False) -> str:
        """Take what has come; return what of it can be seen."""
        text = self._unfinished + self._decoder.decode(data, final)
        found = None if final else _UNFINISHED.search(text, max(0, len(text) - _LONGEST))
        end = len(text) if found is None else found.start()
        returned = "" if final or not text[:end].endswith("\r") else "\r"
        self._unfinished = returned + text[end:]
        came = _SEQUENCES.sub("", text[:end].rstrip("\r") if returned else text[:end])
        states = [visible(state) for state in _RETURN.split(came)]
        for number, state in enumerate(states):
            finished, newline, line = state.rpartition("\n")
            kept = "" if number else self._line
            self._lines += kept + finished + newline if newline else ""
            self._line = (line if newline else kept + line)[-KEPT:]
        if len(self._lines) > KEPT:
            self._lines = self._lines[-KEPT:]
        return "".join(states)


def visible(text: str) -> str:
    """Return *text* without what an operator would not see, or what would change how the rest is seen."""
    return _ODD.sub(_without_odd, text)


def _without_odd(match: re.Match[str]) -> str:
    letters = (" " if letter.isspace() and letter not in _CONTROL_SPACES else letter for letter in match[0])
    return _INVISIBLE.sub("", "".join(letter for letter in letters if letter.isprintable()))


_CONTROL_SPACES = "\r\v\f\x1c\x1d\x1e\x1f\x85\u2028\u2029"


class Console:
    """The reading end of a guest's terminal.

    :raises UserError: it cannot be opened, or is none.
    """

    def __init__(self, tty: str) -> None:
        try:
            self._descriptor = _open(tty)
        except OSError as error:
            raise UserError(
                f"The guest's terminal {tty} cannot be opened: {error.strerror}.", "Look whether xenconsoled runs."
            ) from error
        self._said = Transcript()

    @property
    def heard(self) -> str:
        """The end of what was written so far, without the sequences that move a cursor."""
        return self._said.text

    def listen(self, until: Until, seconds: float, terminal: Callable[[], Optional[str]]) -> bool:
        """Wait until what is waited for has come, the guest has gone, or the time is over.

        :param terminal: looks which terminal the guest has now; None means that it has gone, if it is so twice.
        :return: whether it has come.
        """
        deadline = time.monotonic() + seconds
        look = time.monotonic() + LOOK
        missing = 0
        until.add(self.heard)
        while not until.found():
            now = time.monotonic()
            if now > deadline:
                break
            new = self._read(max(0.0, min(1.0, deadline - now, look - now)))
            until.add(new or "")
            lost = new is None
            if not lost and now <= look:
                continue
            tty = terminal()
            missing = missing + 1 if tty is None else 0
            look = now + (AGAIN if missing else LOOK)
            if missing == 2:
                # Somebody else may hold the other end, and write on.
                while time.monotonic() < deadline and (new := self._read(0.2)):
                    until.add(new)
                break
            if tty is None:
                if lost:
                    time.sleep(AGAIN)
                continue
            # xenconsoled gives a guest whose terminal breaks another one (console_handle_broken_tty,
            # tools/console/daemon/io.c).
            if lost and not self._open_again(tty):
                time.sleep(AGAIN)
        return until.found(last=True)

    def close(self) -> None:
        """Leave the terminal to others."""
        os.close(self._descriptor)

    def _open_again(self, tty: str) -> bool:
        """Go on at the terminal that the guest has now; the bytes between are lost."""
        try:
            descriptor = _open(tty)
        except (OSError, UserError):
            return False
        os.close(self._descriptor)
        self._descriptor = descriptor
        return True

    def _read(self, seconds: float) -> Optional[str]:
        """Take what there is, and return what of it can be seen; None after the other end has gone."""
        ready = select.select([self._descriptor], [], [], seconds)[0]
        if not ready:
            return ""
        try:
            data = os.read(self._descriptor, _AT_ONCE)
        except BlockingIOError:
            return ""
        except OSError:
            return None
        if len(data) > _AT_ONCE // 2:
            time.sleep(_BREATH)
        return self._said.add(data) if data else None


class Text:
    """A text that the guest is to write."""

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted
        self._end = ""
        self._found = False

    def add(self, new: str) -> None:
        """Take what was written."""
        text = self._end + new
        self._found = self._found or self._wanted in text
        self._end = text[max(0, len(text) - len(self._wanted) + 1) :]

    def found(self, *, last: bool = False) -> bool:
        """Whether it was written."""
        return self._found


class Pattern:
    """A regular expression that a line of the guest's is to match. What it costs is bounded by `check_pattern`."""

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)
        self._line = ""
        self._found = False

    def add(self, new: str) -> None:
        """Take what was written."""
        if self._found or not new:
            return
        *lines, self._line = (self._line + new).split("\n")
        self._line = self._line[:LONGEST_LINE]
        begin = time.monotonic()
        self._found = any(self._pattern.search(line[:LONGEST_LINE]) for line in (*lines, self._line))
        # A guest that writes what is slow to search does not get all of a processor of dom0's.
        time.sleep(min(1.0, time.monotonic() - begin))

    def found(self, *, last: bool = False) -> bool:
        """Whether a line was written that matches."""
        return self._found


def check_pattern(pattern: str) -> Optional[str]:
    """What is wrong with a regular expression, as the end of a sentence; None where nothing is.

    Each thing that is repeated, optional or one of several multiplies the ways in which a line can be tried, and a
    group that is repeated does so without end.
    """
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"which is no regular expression ({error})"
    if _TRIES_MORE.search(_ESCAPED.sub("", pattern)):
        return "which repeats a group, looks around or refers back"
    ways = 1
    for sign in _TRIES.findall(_SINGLE.sub("x", pattern)):
        most = re.search(r"(\d+)\}\Z", sign)
        ways *= int(most[1]) if most else 2 if sign in "?|" else LONGEST_LINE
    if len(pattern) > _LONGEST_PATTERN or ways > LONGEST_LINE**2:
        return f"which is longer than {_LONGEST_PATTERN} letters, or repeats more than two things as often as it can"
    return None


def _open(tty: str) -> int:
    """:raises UserError: the path is not that of a terminal, or there is something else."""
    if not _TERMINALS.fullmatch(tty):
        raise _no_terminal(tty)
    descriptor = os.open(tty, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISCHR(os.fstat(descriptor).st_mode) or not os.isatty(descriptor):
        os.close(descriptor)
        raise _no_terminal(tty)
    return descriptor


def _no_terminal(tty: str) -> UserError:
    return UserError(
        f"xenstore names {tty[:80]!r} as the guest's terminal, which is no terminal.",
        "It was not opened: find out which program or domain wrote that, and do not trust it.",
    )


def new_lines(before: str, after: str) -> str:
    """Return what a log has got since *before* was read; it keeps its end and forgets its beginning."""
    if after.startswith(before):
        return after[len(before) :]
    tail = before[-2000:]
    while tail:
        place = after.rfind(tail)
        if place >= 0:
            return after[place + len(tail) :]
        tail = tail[len(tail) // 2 + 1 :]
    return after
