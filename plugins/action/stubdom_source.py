# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The part of the module stubdom_source that runs on the controller: it names each source before its download.

from __future__ import annotations

from typing import Any, Dict

from ansible.utils.display import Display
from ansible_collections.xen.stubdom.plugins.plugin_utils.steps import SteppedAction

display = Display()


class ActionModule(SteppedAction):
    """Find the sources that are missing, then download one after another."""

    MODULE = "xen.stubdom.stubdom_source"

    def steps(self, host: str, variables: Dict[str, Any]) -> Dict[str, Any]:
        if self._task.check_mode:
            return self.call(variables)
        found = self.call(variables, step="find")
        names = found.get("downloaded") or []
        for number, name in enumerate(names, start=1):
            display.display(f"{host}: download {number} of {len(names)}, {name}")
            downloaded = self.call(variables, step="download", source=name)
            if downloaded.get("failed"):
                return downloaded
        if not names:
            return found
        done = self.call(variables, step="find")
        return {**done, "changed": True, **{key: found[key] for key in ("downloaded", "diff")}}
