# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The side of the module stubdom_source that the operator sees: it names each source before it is downloaded.

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()


class ActionModule(ActionBase):  # type: ignore[misc]
    """Look what is there, then bring what is not, one after another."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        super().run(tmp, task_vars)
        variables = task_vars or {}
        host = self._task.delegate_to or variables.get("inventory_hostname", "builder")
        if self._task.check_mode or self._task.args.get("step", "all") != "all":
            return self._call(variables)
        looked = self._call(variables, step="look")
        names = looked.get("brought") or []
        for number, name in enumerate(names, start=1):
            display.display(f"{host}: download {number} of {len(names)}, {name}")
            brought = self._call(variables, step="bring", only=name)
            if brought.get("failed"):
                return brought
        if not names:
            return looked
        return {**self._call(variables, step="look"), **{key: looked[key] for key in ("changed", "brought", "diff")}}

    def _call(self, variables: Dict[str, Any], **extra: Any) -> Dict[str, Any]:
        answer: Dict[str, Any] = self._execute_module(
            module_name="xen.stubdom.stubdom_source",
            module_args={**self._task.args, **extra},
            task_vars=variables,
        )
        return answer
