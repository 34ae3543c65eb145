# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: until when the Xen project publishes security fixes for a release.

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version, text

# The last day, from the table "Security support" in the SUPPORT.md of each stable branch, as read in August 2026. A
# distribution may support a release for longer, or for a shorter time.
UNTIL: Mapping[Version, str] = {
    (4, 17): "2027-12-12",
    (4, 18): "2028-11-16",
    (4, 19): "2029-07-29",
    (4, 20): "2030-03-05",
    (4, 21): "2030-11-19",
    (4, 22): "2031-07-30",
}
# Older ones were out of support when the table was read.
_OVER = "2026-08-01"


def window(version: Tuple[Optional[int], Optional[int]]) -> Dict[str, Any]:
    """The support window of a release; until is null where the table does not have it.

    :return: until (the last day, ISO 8601) or ended_before (the same for a release older than the table), and source.
    """
    major, minor = version
    if major is None or minor is None:
        return {"until": None, "ended_before": None, "source": None}
    release = (major, minor)
    return {
        "until": UNTIL.get(release),
        "ended_before": _OVER if release < min(UNTIL) else None,
        "source": f"SUPPORT.md of Xen {text(release)}" if release in UNTIL else "SUPPORT.md of Xen's stable branches",
    }
