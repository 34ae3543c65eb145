# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: where GRUB 2 lies on a host, and its entries of the Boot Loader Specification.

from __future__ import annotations

import os
import re
from typing import Dict, List, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import ENCODING, Tree
from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions


def layout(tree: Tree) -> Optional[distributions.GrubLayout]:
    """Return how GRUB 2 is laid out in a tree, None where nothing there generates a menu."""
    known = distributions.grub_layouts(distributions.detect(tree.root))
    return next((one for one in known if tree.program(one.generator)), None)


# What block lists of GRUB count in.
_SECTOR = 512


def sectors(tree: Tree, directory: str, first: int, count: int) -> Optional[str]:
    """Return sectors of the partition that a directory is on (proc_pid_mountinfo(5)); None where that is not known."""
    devices = {"": ""}
    mounts = None if tree.foreign else tree.text("/proc/self/mountinfo")
    for line in (mounts or "").splitlines():
        where, _mark, what = (part.split() for part in line.partition(" - "))
        if len(where) > 4 and len(what) > 1 and f"{directory}/".startswith(f"{where[4].rstrip('/')}/"):
            devices[where[4]] = what[1]
    try:
        with open(tree.path(devices[max(devices, key=len)]), "rb") as file:
            file.seek(first * _SECTOR)
            return file.read(count * _SECTOR).decode(ENCODING)
    except OSError:
        return None


# Where entries of the Boot Loader Specification lie (https://uapi-group.org/specifications/specs/boot_loader_specification).
BLS_DIRECTORY = "/boot/loader/entries"


def bls_entries(tree: Tree) -> List[Tuple[str, str, str]]:
    """Return the entries that the command blscfg puts into a menu, in its order: title, identity, commands.

    It sorts by the names of the files as rpm sorts versions, the newest first (blscfg.c of Fedora's GRUB).
    """
    names = {os.path.basename(path)[: -len(".conf")]: path for path in tree.glob(f"{BLS_DIRECTORY}/*.conf")}
    entries = []
    for name in sorted(names, key=_version_key, reverse=True):
        text = tree.text(names[name]) or ""
        fields: Dict[str, str] = {}
        for line in text.splitlines():
            key, _blank, value = line.strip().partition(" ")
            fields.setdefault(key, value.strip())
        if "linux" in fields:
            body = f"linux {fields['linux']} {fields.get('options', '')}"
            # A value is text there, and no command of a menu.
            entries.append((fields.get("title", name), name, re.sub(r"[{}$;|&<>'\"\\]", "_", body)))
    return entries


def _version_key(name: str) -> List[Tuple[int, int, str]]:
    """Compare as rpmvercmp does: numbers by value and after letters, ~ before everything."""
    parts = re.findall(r"~|\d+|[A-Za-z]+", name)
    return [
        (-1, 0, "") if part == "~" else (1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts
    ] + [(-1, 1, "")]
