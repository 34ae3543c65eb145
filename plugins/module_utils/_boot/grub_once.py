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


def selected(host: Host) -> Optional[str]:
    """Return the entry that is selected for the next start alone, None for none."""
    found = (_SELECTED.search(text or "") for text in (host.external(), host.read(host.block)))
    # GRUB leaves the variable without a value.
    return next((match.group(1) for match in found if match is not None), None) or None


def selecting(host: Host, entry: Optional[str]) -> Host:
    """Return a host with an entry selected for the next start alone, None for none."""
    content = host.read(host.block)
    if content is None and entry is None:
        return host

    def sectors(first: int, count: int) -> Optional[str]:
        text = host.sectors(first, count)
        return None if text is None else _SELECTED.sub("", text)

    new = "" if entry is None else f"{grub_menu.ENVIRONMENT}next_entry={entry}\n"
    return replace(reading(host, {host.block: new + _SELECTED.sub("", content or "")}), sectors=sectors)
