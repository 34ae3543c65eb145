# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what the service xendomains of the host does with guests at its shutdown.

from __future__ import annotations

import contextlib
import re
from typing import Optional

from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

# Debian's /etc/init.d/xendomains and tools/hotplug/Linux/xendomains.in @ stable-4.20: a guest is saved in that
# directory, and shut down where it is empty or the guest could not be saved.
_SAVE = re.compile(r"^[ \t]*XENDOMAINS_SAVE=[ \t]*(?P<value>\"[^\"]*\"|'[^']*'|[^\s#;]*)", re.MULTILINE)
_LONGEST = 1 << 16


def saving(xen: Xen) -> Optional[str]:
    """The settings by which the service saves guests; None where it does not."""
    path = xen.distribution.xendomains
    text = ""
    with contextlib.suppress(OSError), open(xen.path(path), encoding="ascii", errors="replace") as stream:
        text = stream.read(_LONGEST) if path else ""
    values = [match["value"].strip("\"'") for match in _SAVE.finditer(text)]
    return path if values and values[-1] else None
