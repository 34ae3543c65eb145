# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the record in xenstore of the configuration that a guest was started with, and
# in which keys its configuration is another one by now.

from __future__ import annotations

import json
import re
from typing import Any, List, Mapping, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg

# What the configuration was that a domain was started with (`fingerprint`). The node goes with the domain.
RECORD = "/libxl/{domid}/xen-stubdom-config"

# What a key of xl.cfg is called that differs, where it is not known which.
UNKNOWN = "unknown"
# xenstore takes values of up to 4096 bytes, the path included.
_LONGEST_RECORD = 3000


def fingerprint(settings: Mapping[str, xl_cfg.Value]) -> str:
    """What is recorded of a configuration: a checksum of all of it, and a short one of each key as far as they fit."""
    texts = {key: json.dumps(_plain(value)) for key, value in sorted(settings.items())}
    whole = files.sha256(json.dumps(texts).encode())
    parts = [f"{key}:{files.sha256(text.encode())[:6]}" for key, text in texts.items()]
    found = " ".join([whole, *parts])
    return found if len(found) <= _LONGEST_RECORD else whole


def differing(recorded: str, settings: Mapping[str, xl_cfg.Value]) -> List[str]:
    """The keys in which a configuration is not the recorded one."""
    now = fingerprint(settings)
    old_parts, new_parts = recorded.split(" "), now.split(" ")
    if old_parts[0] == new_parts[0]:
        return []
    old, new = (dict(part.rpartition(":")[::2] for part in parts[1:]) for parts in (old_parts, new_parts))
    if not old or not new:
        return [UNKNOWN]
    return sorted(key for key in {*old, *new} if old.get(key) != new.get(key)) or [UNKNOWN]


def _plain(value: Any) -> Any:
    """A value as it is read from a file again."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, bool) else value


def restart_required(
    domid: int, uuid: Optional[str], nodes: Mapping[str, str], settings: Mapping[str, xl_cfg.Value], written: float
) -> List[str]:
    """The keys in which the configuration of a domain is not the one that it was started with.

    :param nodes: xenstore, by full path.
    :param settings: the configuration as it is now.
    :param written: when that was written, in seconds since 1970.
    """
    recorded = nodes.get(RECORD.format(domid=domid))
    if recorded is not None:
        return differing(recorded, settings)
    # Started by another program, such as the host's own service at boot: the file may be younger than the domain.
    start = started(uuid, nodes)
    return [UNKNOWN] if start is not None and written > start else []


def started(uuid: Optional[str], nodes: Mapping[str, str]) -> Optional[float]:
    """When the domain was started, in seconds since 1970; None where xenstore does not have it."""
    found = nodes.get(f"/vm/{uuid}/start_time", "")
    return float(found) if re.match(r"[0-9]{1,12}(\.[0-9]{1,9})?\Z", found) else None
