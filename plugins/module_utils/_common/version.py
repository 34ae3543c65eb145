# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: releases of Xen, as numbers that can be compared and as text.

from __future__ import annotations

from typing import Optional, Tuple

# Major and minor number, as in (4, 20).
Version = Tuple[int, int]


def text(version: Optional[Version], unknown: str = "*") -> str:
    """Return a release as people write it ("4.20"), *unknown* where it is not known."""
    return unknown if version is None else f"{version[0]}.{version[1]}"
