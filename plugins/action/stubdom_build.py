# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The side of the module stubdom_build that the operator sees: it starts the build on the builder, tells its stages
# while they pass, and stops it when the play is interrupted.

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import Any, Dict, Iterator, List, Optional

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()

# A stage that lasts is told again after so many seconds, so that a log file stays short.
STILL = 60.0


def clock(seconds: float) -> str:
    """Show a duration: 7 s, 1 min 05 s."""
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def line(host: str, status: Dict[str, Any], now: float) -> str:
    """Return what is told of a running build."""
    stages: List[str] = status["stages"]
    told = f"{host}: {status['stage']} ({status['number']} of {len(stages)})"
    elapsed = now - status["started"]
    told += f", {clock(elapsed)} so far"
    estimate: Optional[float] = status.get("estimate")
    if estimate is not None:
        left = estimate - elapsed
        told += f", about {clock(left)} to go" if left > 0 else ", longer than the last time"
    return told


class Interrupted(BaseException):
    """Nobody waits for the build any more."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Have an interrupt arrive as an exception, and the first one only.

    A worker of ansible-core 2.19 ends at once otherwise, without a word to the builder (WorkerProcess._term), and has
    five seconds before the main process ends it (WORKER_SHUTDOWN_POLL_COUNT).
    """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(_number: int, _frame: Any) -> None:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        raise Interrupted

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class ActionModule(ActionBase):  # type: ignore[misc]
    """Start, watch, and stop if nobody waits any more."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        host = self._task.delegate_to or variables.get("inventory_hostname", "builder")
        if self._task.args.get("step", "all") != "all":
            return self._call(variables)
        with interruptible():
            return self._build(str(host), variables)

    def _build(self, host: str, variables: Dict[str, Any]) -> Dict[str, Any]:
        parent = os.getppid()
        last_told = 0.0
        seen: List[str] = []
        try:
            result = self._call(variables, step="start")
            while "status" in result:
                if os.getppid() != parent:
                    # The main process was killed; this one would watch to the end, for nobody.
                    raise Interrupted
                status = result["status"]
                now = time.time()
                fresh = [status["state"], status["stage"]] != seen
                if status["stages"] and (fresh or now - last_told > STILL):
                    display.display(line(host, self._here(status, now), now))
                    last_told = now
                seen = [status["state"], status["stage"]]
                result = self._call(variables, step="watch", seen=seen)
        except BaseException:
            # The operator's interrupt, a connection that was lost, or a bug: whatever it is, nobody waits any more.
            display.display(f"{host}: stopping the build")
            self._call(variables, step="stop")
            raise
        return result

    def _here(self, status: Dict[str, Any], now: float) -> Dict[str, Any]:
        """Return the status in terms of this machine's clock."""
        return {**status, "started": status["started"] + now - status["told_at"]} if "told_at" in status else status

    def _call(self, variables: Dict[str, Any], **extra: Any) -> Dict[str, Any]:
        answer: Dict[str, Any] = self._execute_module(
            module_name="xen.stubdom.stubdom_build",
            module_args={**self._task.args, **extra},
            task_vars=variables,
        )
        return answer
