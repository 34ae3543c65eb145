# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what GRUB 2 would start if files were others than they are, such as its
# environment block, which selects an entry for the next start alone.

from __future__ import annotations

import re
from dataclasses import replace
from typing import Mapping, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._boot import grub_menu
from ansible_collections.xen.stubdom.plugins.module_utils._boot.grub_script import Host

_SELECTED = re.compile(r"^next_entry=([^\n]*)(?:\n|\Z)", re.MULTILINE)


def reading(host: Host, files: Mapping[str, Optional[str]]) -> Host:
    """Return a host with other contents of files, None for one that is not there."""
    return replace(host, read=lambda path: files[path] if path in files else host.read(path))


def block(host: Host) -> str:
    """Return the path of the environment block."""
    return f"{host.directory}/grubenv"


def selected(host: Host) -> Optional[str]:
    """Return the entry that is selected for the next start alone, None for none."""
    match = _SELECTED.search(host.read(block(host)) or "")
    return None if match is None else match.group(1)


def selecting(host: Host, entry: Optional[str]) -> Host:
    """Return a host with an entry selected for the next start alone, None for none."""
    content = host.read(block(host))
    if content is None and entry is None:
        return host
    new = "" if entry is None else f"{grub_menu.ENVIRONMENT}next_entry={entry}\n"
    return reading(host, {block(host): new + _SELECTED.sub("", content or "")})
