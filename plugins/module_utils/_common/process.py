# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the one way in which a module runs programs on a host.
# Not AnsibleModule.run_command: that returns without the output of a program which writes and ends between its select,
# which timed out after a second, and its poll; seen with ansible-core 2.19.

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import subprocess
import time
from typing import Dict, List, Optional, Protocol, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

# Exit status, standard output, standard error.
Answer = Tuple[int, str, str]

# The status of a program that cannot be run, as a shell gives it.
NOT_FOUND = 127

# The toolstack's and the boot loaders' programs are here; an unprivileged account's PATH may be without them.
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")

# How often to look whether a program has ended whose pipes stay open, in seconds.
_INTERVAL = 0.5

# How long to wait for the output of what a program has left running, in seconds.
_LINGER = 5.0

# How long a program may take to end after this process was asked to end, in seconds.
_INTERRUPTED = 60.0


class Runner(Protocol):
    """Runs a program; tests give another one."""

    def __call__(self, arguments: List[str], *, timeout: Optional[float] = None) -> Answer:
        """Run a program, as `run_program` does."""


def run_program(arguments: List[str], *, timeout: Optional[float] = None) -> Answer:
    """Run a program without a shell, its messages in English, and wait for its end and for all of its output.

    :param timeout: seconds after which it is killed; None waits as long as it takes.
    :raises FileNotFoundError: there is no such program.
    :raises UserError: it cannot be run, or did not end in time.
    """
    begin = time.monotonic()
    try:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment()
        )
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(
            f"`{shlex.join(arguments)}` cannot be run: {error.strerror}.", "Correct the permissions of that program."
        ) from error
    with process:
        try:
            output, errors = _read(process, None if timeout is None else begin + timeout)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise UserError(
                f"`{shlex.join(arguments)}` did not end within {time.monotonic() - begin:.0f} seconds.",
                "Run it by hand on this host to see what it waits for.",
            ) from error
        except BaseException:
            # Without a reader, a program that writes files would die of its next message in the midst of that.
            with contextlib.suppress(subprocess.TimeoutExpired):
                _read(process, time.monotonic() + _INTERRUPTED)
            raise
    return process.returncode, _text(output), _text(errors)


def attempt(run: Runner, arguments: List[str]) -> Answer:
    """Run a program that may not be there, and return its status, its output, and why it failed if it did."""
    try:
        status, output, errors = run(arguments)
    except OSError as error:
        return NOT_FOUND, "", error.strerror or str(error)
    return status, output, last_line(errors or output)


def last_line(output: str) -> str:
    """Return the last line of a program's messages without its full stop, "no message" where there is none."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no message"]
    return lines[-1].rstrip(".")


def _environment() -> Dict[str, str]:
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return {
        **os.environ,
        "LC_ALL": "C",
        "PATH": os.pathsep.join(path + [directory for directory in _SBIN if directory not in path]),
    }


def _read(process: subprocess.Popen[bytes], deadline: Optional[float]) -> Tuple[bytes, bytes]:
    """Read both pipes to their end, and wait for the program's.

    A program that runs on in the background may hold the pipes open after the one that started it has ended. Whether
    that has ended is asked before the pipes are looked at, so that all it wrote is in them by then.

    :raises subprocess.TimeoutExpired: the program has not ended by *deadline*.
    """
    pipes = [pipe.fileno() for pipe in (process.stdout, process.stderr) if pipe is not None]
    read = {descriptor: bytearray() for descriptor in pipes}
    ended: Optional[float] = None
    with selectors.DefaultSelector() as selector:
        for descriptor in read:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            if ended is None and process.poll() is not None:
                ended = time.monotonic()
            events = selector.select(_INTERVAL if ended is None else _LINGER)
            for key, _events in events:
                chunk = os.read(key.fd, 1 << 16)
                read[key.fd] += chunk
                if not chunk:
                    selector.unregister(key.fd)
            if ended is not None and (not events or time.monotonic() > ended + _LINGER):
                break
            if ended is None and deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(process.args, 0)
    process.wait(None if deadline is None else max(0, deadline - time.monotonic()))
    output, errors = read.values()
    return bytes(output), bytes(errors)


def _text(output: bytes) -> str:
    # A byte that is no UTF-8 is shown, and never becomes a surrogate that a result cannot hold.
    return output.decode("utf-8", "backslashreplace")
