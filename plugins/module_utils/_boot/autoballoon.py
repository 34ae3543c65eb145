# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: whether xl takes memory from dom0 for a new guest.

from __future__ import annotations

import re
from typing import Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg

XL_CONF = "/etc/xen/xl.conf"

# autoballoon="auto" is off where the hypervisor's line matches this (tools/xl/xl.c, tools/libxl/xl.c), by the first
# release with the rule, the newest first.
_SIZE = r"-?[0-9]+[bBkKmMgGtT]?"
_AUTO_OFF: Sequence[Tuple[Version, str]] = (
    ((4, 16), rf"(^| )dom0_mem=((|min:|max:)({_SIZE}|({_SIZE}\+)?[0-9]{{1,2}}%),?)+($| )"),
    ((0, 0), r"(^| )dom0_mem=((|min:|max:)[0-9]+[bBkKmMgG]?,?)+($| )"),
)
# Before 4.3 it was a number; both are still read.
_AUTOBALLOON = {"on": "on", "off": "off", "auto": "auto", 1: "on", 0: "off", "1": "on", "0": "off"}


def configured(content: Optional[bytes]) -> str:
    """Return what xl.conf says, which is auto by default and where xl could not read it."""
    try:
        value = xl_cfg.read("xl.conf", content).get("autoballoon", "auto")
    except UserError:
        return "auto"
    return _AUTOBALLOON.get(value, "auto") if isinstance(value, (str, int)) else "auto"


def balloons(setting: str, line: str, version: Version) -> bool:
    """Whether xl takes memory from dom0 when a guest starts."""
    if setting != "auto":
        return setting == "on"
    pattern = next(pattern for first, pattern in _AUTO_OFF if version >= first)
    return re.search(pattern, line) is None
