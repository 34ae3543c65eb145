# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the options that a host was started with.

from __future__ import annotations

from typing import Optional

from ansible_collections.xen.stubdom.plugins.module_utils._boot.command_line import HYPERVISOR, Recipient
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


def running_line(xen: Xen, root: str, recipient: Recipient = HYPERVISOR) -> Optional[str]:
    """Return the options that the hypervisor of these files, or its dom0's Linux, was started with, None for none."""
    if root != "/" or not xen.is_dom0():
        return None
    return xen.command_line() if recipient is HYPERVISOR else xen.dom0_command_line()
