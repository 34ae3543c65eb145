# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what a guest says on its console or serial port.
# Whoever serves the terminal throws away what nobody listens to (QEMU's pty) or loses it with the guest, so it has to
# be open before the guest runs: guests are started paused, and only then are they let go.

from __future__ import annotations

import os
import re
import select
import time
from typing import Callable, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

# How often somebody looks whether the guest is still there, in seconds. Its end is mostly seen by its terminal's.
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
        """What was said so far, without the sequences that move a cursor."""
        return plain(self._heard)

    def listen(self, text: str, seconds: float, terminal: Callable[[], Optional[str]]) -> bool:
        """Wait until *text* was said, the guest has gone, or the time is over.

        :param terminal: looks which terminal the guest has now; None says that it has gone.
        :return: whether it was said.
        """
        deadline = time.monotonic() + seconds
        look = time.monotonic() + LOOK
        while text not in self.heard:
            now = time.monotonic()
            if now > deadline:
                break
            lost = self._read(min(1.0, deadline - now)) is None
            if not lost and now <= look:
                continue
            look = now + LOOK
            tty = terminal()
            if tty is None:
                while self._read(0.2):
                    pass
                break
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
