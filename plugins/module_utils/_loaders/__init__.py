# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the table of boot loaders. A new loader is one module and one row.

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Protocol, Type

from ansible_collections.xen.stubdom.plugins.module_utils._errors import Refusal
from ansible_collections.xen.stubdom.plugins.module_utils._files import Change
from ansible_collections.xen.stubdom.plugins.module_utils._loaders.grub2 import Grub2
from ansible_collections.xen.stubdom.plugins.module_utils._xen import Runner


class Loader(Protocol):
    """What a boot loader has to be able to do. *sources* are the contents of its files by path, in their order."""

    name: str

    def __init__(self, run: Runner, *, root: str = "/") -> None: ...

    def present(self) -> bool:
        """Whether this host boots with it."""

    def hypervisor_installed(self) -> bool:
        """Whether there is a hypervisor that it could boot."""

    def read(self) -> Dict[str, bytes]:
        """Return its source files."""

    def plan(self, sources: Mapping[str, bytes], option: str, value: Optional[str]) -> List[Change]:
        """Return what to change so that *option* has this value once, or is not there (None)."""

    def configured(self, sources: Mapping[str, bytes]) -> str:
        """Return the hypervisor's words as the loader's own tool would read them from *sources*."""

    def effective(self) -> Optional[str]:
        """Return the hypervisor's words that the next boot will pass, None where nothing would boot one."""

    def regenerate(self) -> None:
        """Make the source files effective."""


LOADERS: Mapping[str, Type[Loader]] = {Grub2.name: Grub2}


def find(name: str, run: Runner, *, root: str = "/") -> Loader:
    """Return the loader of this host, or the named one.

    :param name: a key of LOADERS, or auto.
    :raises Refusal: the host has none that is known here.
    """
    for key, loader in LOADERS.items():
        if name in (key, "auto"):
            candidate = loader(run, root=root)
            if candidate.present():
                return candidate
    raise Refusal(
        f"No boot loader was found on this host (looked for: {', '.join(LOADERS) if name == 'auto' else name}).",
        "Install GRUB 2 with its file /etc/default/grub (on Debian the package grub-pc or grub-efi-amd64).",
    )
