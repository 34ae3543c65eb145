# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: an action plugin that calls its module in several steps, to show on the
# terminal what happens meanwhile. What it passes besides the parameters of the user is taken by module.InternalModule.

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Dict, Mapping, Optional

from ansible.plugins.action import ActionBase
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import INTERNAL


class SteppedAction(ActionBase):  # type: ignore[misc]
    """An action plugin whose module takes several calls."""

    MODULE: str
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        if INTERNAL in self._task.args:
            return {
                "failed": True,
                "msg": f"{INTERNAL} is no parameter of {self.MODULE}: the collection itself uses that name.\n"
                "Remove it from the task.",
            }
        return self.steps(str(self._task.delegate_to or variables.get("inventory_hostname", "host")), variables)

    @abstractmethod
    def steps(self, host: str, variables: Dict[str, Any]) -> Dict[str, Any]:
        """Call the module as often as needed, and return the result of the task."""

    def call(self, variables: Dict[str, Any], **internal: Any) -> Dict[str, Any]:
        """Call the module once with the parameters of the task."""
        passed: Mapping[str, Any] = {INTERNAL: internal} if internal else {}
        answer: Dict[str, Any] = self._execute_module(
            module_name=self.MODULE, module_args={**self._task.args, **passed}, task_vars=variables
        )
        return answer
