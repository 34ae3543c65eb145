# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the small JSON files in which a builder keeps what it did.

from __future__ import annotations

import contextlib
import json
from typing import Any, Dict, Mapping, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._common import files


def read(path: str) -> Optional[Dict[str, Any]]:
    """Return the content of a record, None where there is none that can be read."""
    with contextlib.suppress(OSError, ValueError, RecursionError), open(path, encoding="utf-8") as stream:
        content = json.load(stream)
        return content if isinstance(content, dict) else None
    return None


def write(path: str, content: Mapping[str, Any]) -> None:
    """Write a record in one step: who reads it sees the old one or the new one."""
    with files.replacing(path) as stream:
        stream.write((json.dumps(content, indent=1) + "\n").encode())
