# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the boot loader whose files a module changes.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

from ansible_collections.xen.stubdom.plugins.module_utils._boot.command_line import HYPERVISOR, Recipient
from ansible_collections.xen.stubdom.plugins.module_utils._boot.host_facts import running_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import (
    ALL_ENTRIES,
    DEFAULT_ENTRY,
    LOADERS,
    Loader,
    find,
    for_entries,
    for_recipient,
)
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

# The parameters of the modules that change a boot loader's files; doc_fragments/boot_line.py documents them.
ARGUMENTS: Mapping[str, Any] = {
    "loader": {"type": "str", "choices": ["auto", *LOADERS], "default": "auto"},
    "root": {"type": "path", "default": "/"},
    "regenerate": {"type": "bool", "default": True},
    "backup": {"type": "bool", "default": False},
}
# The parameter of those that change the options of entries.
ENTRIES: Mapping[str, Any] = {
    "entries": {"type": "str", "choices": [ALL_ENTRIES, DEFAULT_ENTRY], "default": ALL_ENTRIES},
}


@dataclass(frozen=True)
class Target:
    """The boot loader whose files are changed.

    :param root: the tree that the files are in; nothing is run in another one than /.
    :param regenerate: whether the loader's configuration is generated.
    """

    loader: Loader
    run: Runner
    xen: Xen
    root: str = "/"
    regenerate: bool = True

    @property
    def home(self) -> bool:
        """Whether the files are those of the running host."""
        return self.root == "/"

    @property
    def generates(self) -> bool:
        return self.regenerate and self.home


def of(params: Mapping[str, Any], run: Runner, xen: Xen, recipient: Recipient = HYPERVISOR) -> Target:
    """Return the loader that was asked for, or the one that starts the hypervisor of these files.

    :param params: the parameters loader, root and regenerate of a module, and entries where it has that.
    :raises UserError: it cannot be found, or not edit those entries alone.
    """
    root = params["root"]
    running = running_line(xen, root)
    loader = find(params["loader"], run, root=root, foreign=root != "/", running=running)
    loader = for_entries(for_recipient(loader, recipient), params.get("entries", ALL_ENTRIES))
    return Target(loader, run, xen, root, params["regenerate"])
