# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The part of the module stubdom_build that runs on the controller: it starts the build on the build host, shows each
# stage on the terminal, and stops the build when the play is interrupted.

from __future__ import annotations

import os
import time
from typing import Any, Dict, List, Optional

from ansible.utils.display import Display
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import INTERNAL
from ansible_collections.xen.stubdom.plugins.module_utils._common.signals import Interrupted, interruptible
from ansible_collections.xen.stubdom.plugins.plugin_utils.steps import SteppedAction

display = Display()

# Seconds after which a stage that goes on is shown again; not more often, so that a log file stays short.
REPEAT = 60.0


def clock(seconds: float) -> str:
    """Show a duration: 7 s, 1 min 05 s."""
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def line(host: str, status: Dict[str, Any], now: float) -> str:
    """Return what is shown of a running build."""
    stages: List[str] = status["stages"]
    elapsed = now - status["started"]
    shown = f"{host}: {status['stage']} ({status['number']} of {len(stages)}), {clock(elapsed)} so far"
    estimate: Optional[float] = status.get("estimate")
    if estimate is not None:
        left = estimate - elapsed
        shown += f", about {clock(left)} to go" if left > 0 else ", longer than the last time"
    return shown


class ActionModule(SteppedAction):
    """Start the build and watch it; stop it if the play ends."""

    MODULE = "xen.stubdom.stubdom_build"

    def steps(self, host: str, variables: Dict[str, Any]) -> Dict[str, Any]:
        # A worker of ansible-core 2.19 ends at once otherwise, without a stop of the build (WorkerProcess._term), and
        # has five seconds before the main process ends it (WORKER_SHUTDOWN_POLL_COUNT).
        with interruptible():
            return self._build(host, variables)

    def _build(self, host: str, variables: Dict[str, Any]) -> Dict[str, Any]:
        parent = os.getppid()
        shown = 0.0
        seen: List[str] = []
        try:
            result = self.call(variables, step="start")
            while INTERNAL in result:
                if os.getppid() != parent:
                    # The main process was killed; this one would watch until the end, for nobody.
                    raise Interrupted("the end of the play")
                status = result[INTERNAL]
                now = time.time()
                changed = [status["state"], status["stage"]] != seen
                if status["stages"] and (changed or now - shown > REPEAT):
                    display.display(line(host, _with_our_clock(status, now), now))
                    shown = now
                seen = [status["state"], status["stage"]]
                result = self.call(variables, step="watch", seen=seen)
        except BaseException:
            # An interrupt, a lost connection, or a fault: whatever it is, nothing waits for the build any more.
            display.display(f"{host}: stopping the build")
            self.call(variables, step="stop")
            raise
        return result


def _with_our_clock(status: Dict[str, Any], now: float) -> Dict[str, Any]:
    """Return the status with the time of its start by this machine's clock."""
    if "builder_time" not in status:
        return status
    return {**status, "started": status["started"] + now - status["builder_time"]}
