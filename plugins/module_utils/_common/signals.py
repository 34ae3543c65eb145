# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: signals that would end this process, as exceptions or after a while.

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Callable, Iterator, List

# A lost connection sends SIGHUP.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal that would end this process, by its name: what is half done is put back, or stopped, first."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Have the first such signal arrive as an exception, and ignore those after it."""

    def interrupt(number: int) -> None:
        for other in _SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(signal.Signals(number).name)

    with _handled(interrupt):
        yield


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let such signals wait until the block ends."""
    late: List[int] = []
    try:
        with _handled(late.append):
            yield
    finally:
        for number in late[:1]:
            os.kill(os.getpid(), number)


@contextlib.contextmanager
def _handled(handle: Callable[[int], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        # Handlers are the main thread's alone.
        yield
        return
    before = {number: signal.signal(number, lambda caught, _frame: handle(caught)) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None is a handler that Python did not install.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
