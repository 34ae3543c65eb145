# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: how a build and those who wait for it speak with each other, through files in
# the job's directory: status.json, heartbeat and stop.

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Dict, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images import account, records
from ansible_collections.xen.stubdom.plugins.module_utils._images.diagnosis import FailedStage

# A build stops when no watcher was there for so long, in seconds. With 60, one that was watched stopped on a busy host.
SILENCE = 300.0
# How long one call of watch lasts while the stage stays the same. Each call costs the builder a start of Python, so
# they are few.
PATIENCE = 20.0
INTERVAL = 0.2
_STOP_TIMEOUT = 15.0


class Stopped(Exception):
    """The build was stopped from outside; the message names the reason."""


class Status:
    """The build's side of a job's directory."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.values: Dict[str, Any] = {}

    def report(self, **values: Any) -> None:
        """Show watchers what has changed."""
        self.values.update(values, reported=time.time())
        records.write(os.path.join(self.directory, "status.json"), self.values)

    def check_watched(self) -> None:
        """:raises Stopped: no watcher is left, or a watcher asked for the end."""
        if os.path.exists(os.path.join(self.directory, "stop")):
            raise Stopped("The build was stopped.")
        if time.time() - os.path.getmtime(os.path.join(self.directory, "heartbeat")) > SILENCE:
            raise Stopped(f"No play has watched the build for {SILENCE:.0f} seconds, so it was stopped.")


def prepare(directory: str) -> None:
    """Make the directory of a job that is about to start."""
    os.makedirs(directory, exist_ok=True)
    for name in ("status.json", "stop"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))
    _touch(directory)


def starting(log: str) -> Dict[str, Any]:
    """Return the status of a build that has not reported yet."""
    return {"state": "running", "stage": "start", "stages": [], "seconds": {}, "log": log}


def watch(directory: str, *, seen: Sequence[Any] = (), patience: float = PATIENCE) -> Dict[str, Any]:
    """Return the job's status as soon as it differs from *seen* (state, stage), or after *patience* seconds.

    :raises UserError: the job has ended without reporting a result.
    """
    _touch(directory)
    until = time.monotonic() + patience
    path = os.path.join(directory, "status.json")
    while True:
        status = records.read(path)
        if status is not None:
            # The watcher's clock may differ from the builder's.
            status["builder_time"] = time.time()
            if [status["state"], status["stage"]] != list(seen):
                return status
            if status["state"] == "running" and not alive(status["pid"]):
                if (records.read(path) or status)["reported"] != status["reported"]:
                    continue  # it reported its end just now
                raise UserError(
                    "The build process exited without reporting a result (killed, or out of memory?).",
                    f"See {status['log']}, then run again.",
                )
        if time.monotonic() > until:
            return status or starting(os.path.join(directory, "log"))
        time.sleep(INTERVAL)


def stop(directory: str) -> None:
    """Ask the job to stop, and wait until it has."""
    if not os.path.isdir(directory):
        return
    with open(os.path.join(directory, "stop"), "w", encoding="utf-8"):
        pass
    until = time.monotonic() + _STOP_TIMEOUT
    while time.monotonic() < until:
        status = records.read(os.path.join(directory, "status.json"))
        if status is None or status["state"] != "running" or not alive(status["pid"]):
            return
        time.sleep(INTERVAL)


def require_success(status: Dict[str, Any]) -> None:
    """:raises UserError: the job failed or was stopped."""
    if "fault" in status:
        raise account.fault(*status["fault"])
    if status["state"] in ("failed", "stopped"):
        what, *more = str(status["message"]).split("\n")
        remedy = more[0] if more else "Run again; it continues with the stage that was interrupted."
        raise FailedStage(what, remedy, more[1:])


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    if not files.runs(pid):
        return False
    # Where /proc is not mounted, that is all there is to know.
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/stat", "rb") as stream:
        return stream.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    return True


def _touch(directory: str) -> None:
    """Show the job that somebody watches."""
    with open(os.path.join(directory, "heartbeat"), "a", encoding="utf-8"):
        os.utime(os.path.join(directory, "heartbeat"))
