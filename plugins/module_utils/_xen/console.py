# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what a guest writes to its console or serial port.
# Output that nobody reads is thrown away (QEMU's pty) or lost with the guest, so the terminal has to be open before the
# guest runs: guests are started paused, and unpaused only then.

from __future__ import annotations

import os
import re
import select
import time
from typing import Callable, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

# How often to look whether the guest is still there, in seconds. Mostly its end is noticed by that of its terminal.
LOOK = 5.0

# How long to wait before a terminal that was lost is looked for again, in seconds.
AGAIN = 0.5

_SEQUENCES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[@-Z\\-_()][0-9A-B]?)|\r|\0")


class Console:
    """The reading end of a guest's terminal.

    :raises UserError: it cannot be opened.
    """

    def __init__(self, tty: str) -> None:
        try:
            self._descriptor = _open(tty)
        except OSError as error:
            raise UserError(
                f"The guest's terminal {tty} cannot be opened: {error.strerror}.", "Look whether xenconsoled runs."
            ) from error
        self._heard = b""

    @property
    def heard(self) -> str:
        """What was written so far, without the sequences that move a cursor."""
        return plain(self._heard)

    def listen(self, text: str, seconds: float, terminal: Callable[[], Optional[str]]) -> bool:
        """Wait until *text* was written, the guest has gone, or the time is over.

        :param terminal: looks which terminal the guest has now; None means that it has gone, if it is so twice.
        :return: whether it was written.
        """
        deadline = time.monotonic() + seconds
        look = time.monotonic() + LOOK
        missing = 0
        while text not in self.heard:
            now = time.monotonic()
            if now > deadline:
                break
            lost = self._read(min(1.0, deadline - now)) is None
            if not lost and now <= look:
                continue
            tty = terminal()
            missing = missing + 1 if tty is None else 0
            look = now + (AGAIN if missing else LOOK)
            if missing == 2:
                while self._read(0.2):
                    pass
                break
            if tty is None:
                if lost:
                    time.sleep(AGAIN)
                continue
            # xenconsoled gives a guest whose terminal breaks another one (console_handle_broken_tty,
            # tools/console/daemon/io.c).
            if lost and not self._open_again(tty):
                time.sleep(AGAIN)
        return text in self.heard

    def close(self) -> None:
        """Leave the terminal to others."""
        os.close(self._descriptor)

    def _open_again(self, tty: str) -> bool:
        """Go on at the terminal that the guest has now; the bytes between are lost."""
        try:
            descriptor = _open(tty)
        except OSError:
            return False
        os.close(self._descriptor)
        self._descriptor = descriptor
        return True

    def _read(self, seconds: float) -> Optional[bool]:
        """Take what there is; None after the other end has gone, False where there is nothing."""
        ready = select.select([self._descriptor], [], [], seconds)[0]
        if not ready:
            return False
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return False
        except OSError:
            return None
        self._heard += data
        return True if data else None


def _open(tty: str) -> int:
    return os.open(tty, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)


def plain(heard: bytes) -> str:
    """Return the text of a terminal's bytes."""
    return _SEQUENCES.sub("", heard.decode("utf-8", "replace"))


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
