# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: how long each stage of a build took the last time, by release.

from __future__ import annotations

import os
from typing import Dict, Optional, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._images import records


class Durations:
    """Seconds by stage, kept in a file of the work directory."""

    def __init__(self, work: str, release: str) -> None:
        self._path = os.path.join(work, "durations.json")
        self._release = release

    def record(self, stage: str, seconds: float) -> None:
        """Remember how long a stage took."""
        kept = records.read(self._path) or {}
        kept[self._release] = {**self._stages(), stage: round(seconds, 1)}
        records.write(self._path, kept)

    def estimate(self, stages: Sequence[str]) -> Optional[float]:
        """Return the seconds that *stages* took the last time, None if one of them is not known."""
        known = self._stages()
        if any(stage not in known for stage in stages):
            return None
        return sum(known[stage] for stage in stages)

    def _stages(self) -> Dict[str, float]:
        return dict((records.read(self._path) or {}).get(self._release, {}))
