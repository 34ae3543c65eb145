# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A callback plugin of Ansible, for bin/ and the scenarios alone: what a run does, as lines of JSON in a file."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: events
type: notification
short_description: Writes what happens as JSON, a line for each event
description:
  - Every event has O(ignore:event), its name, and O(ignore:time), in seconds since 1970.
options:
  file:
    description: The file to append to. Without one nothing is written.
    type: path
    env:
      - name: XEN_STUBDOM_EVENTS
"""


class CallbackModule(CallbackBase):  # type: ignore[misc] # Ansible has no types
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "events"

    def _write(self, event: str, **content: object) -> None:
        path = self.get_option("file")
        if path:
            line = json.dumps({"event": event, "time": time.time(), **content}) + "\n"
            with open(path, "ab", buffering=0) as stream:
                stream.write(line.encode())

    def v2_playbook_on_start(self, playbook: Any) -> None:
        self._write("playbook", name=os.path.basename(playbook._file_name))

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._write("play", name=play.get_name(), check=bool(play.check_mode))

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        # include_role has a name of its own, which takes no such parameter.
        role = f"{task._role.get_name(include_role_fqcn=False)}: " if task._role else ""
        self._write("task", name=role + (task.name or task.action))

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self.v2_playbook_on_task_start(task, False)

    def _result(self, outcome: str, result: Any, ignored: bool = False) -> None:
        content = result._result
        self._write(
            "result",
            host=result._host.get_name(),
            outcome=outcome,
            changed=bool(content.get("changed")),
            # Only a module that ran on the host returns this.
            module="invocation" in content,
            item="item" in content or "ansible_loop_var" in content,
            loop="results" in content,
            ignored=ignored,
            message=str(content.get("msg", "")) if outcome in ("failed", "unreachable") else "",
        )

    def v2_runner_on_ok(self, result: Any) -> None:
        self._result("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._result("failed", result, ignore_errors)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._result("unreachable", result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        self._result("ok", result)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        self._result("failed", result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._write("stats", hosts={host: stats.summarize(host) for host in stats.processed})
