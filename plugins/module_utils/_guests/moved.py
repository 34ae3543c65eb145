# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the note that a guest was moved to another host. A list that still has it here
# would start it a second time, and two that run at once destroy the disks. It is kept over a reboot of the host.

from __future__ import annotations

import os
from typing import Optional
from urllib.parse import quote

from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

DIRECTORY = "/var/lib/xen/moved"


class Moved:
    """The note about one guest.

    :param root: where the host's files are.
    """

    def __init__(self, name: str, root: str = "/") -> None:
        self.name = name
        self.path = f"{DIRECTORY}/{quote(name, safe='')}"
        self._on_host = os.path.join(root, self.path.lstrip("/"))

    def to(self) -> Optional[str]:
        """The host that the guest was moved to; None where it is not known to have been."""
        found = files.read(self._on_host, longest=1 << 12)
        return None if found is None else found.decode("ascii", "replace").strip()

    def refuse(self) -> None:
        """:raises UserError: the guest may run on another host."""
        to = self.to()
        if to is not None:
            raise UserError(
                f"The guest {self.name} was moved to {to}, and is not started here: two that run at once destroy the "
                "disks.",
                "Move it back with the module xen.stubdom.guest_migrate. Where it runs nowhere else, remove "
                f"{self.path}.",
            )

    def note(self, to: Optional[str]) -> None:
        """Take down where the guest is moved to, None for nowhere."""
        content = None if to is None else f"{to}\n".encode()
        files.apply([files.Change(self._on_host, files.read(self._on_host), content, mode=0o600)])
