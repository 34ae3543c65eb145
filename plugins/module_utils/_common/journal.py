# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what was changed, as lines of the host's journal.

from __future__ import annotations

import json
import syslog
from typing import Any, Dict, Iterator, Mapping

# What a line tells of one thing, in characters, as what receives lines may cut long ones.
_LONGEST_TEXT = 300


def rows(result: Mapping[str, Any], **about: Any) -> Iterator[Dict[str, Any]]:
    """What there is to write of a module's result, a row for each thing that was changed."""
    about["image"] = result.get("identity") or (result.get("manifest") or {}).get("identity")
    files = result.get("diff") or ()
    for one in [files] if isinstance(files, dict) else files:
        before, after = one["before"].splitlines(), one["after"].splitlines()
        old, new = set(before).difference(after), set(after).difference(before)
        yield {
            **about,
            "what": one["after_header"],
            "from": " | ".join(line for line in before if line in old),
            "to": " | ".join(line for line in after if line in new),
        }
    for guest in result.get("guests", ()):
        if guest["actions"]:
            yield {**about, "what": f"guest {guest['name']}", "to": ", ".join(guest["actions"])}


def write(row: Mapping[str, Any]) -> None:
    """Write a line of JSON; xen_info reads it with its identifier."""
    syslog.openlog("xen.stubdom", syslog.LOG_PID)
    line = {key: value[:_LONGEST_TEXT] for key, value in row.items() if value}
    syslog.syslog(json.dumps(line, ensure_ascii=False))
