# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: an assignment at the end of a file that a shell sources, where it wins over all
# others, with a comment above it by which it is found again.

from __future__ import annotations

import re
from typing import Optional

from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders.scanner import scan
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import ENCODING, MARK
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError


def put(path: str, text: Optional[str], name: str, value: str) -> str:
    """Return a file with *name* set to *value* in its last line, instead of the one that was put there before.

    :param text: the content, None where there is no such file.
    :param value: what may stand between single quotes.
    :raises UserError: a line at the end would not be read.
    """
    before = remove(text, name) or ""
    if (len(before) - len(before.rstrip("\\"))) % 2:
        raise UserError(
            f"{path} ends with a backslash, which would join an added line to the last one.",
            "Nothing was changed. Remove the backslash or end the line with a newline, then run again.",
        )
    added = f"{MARK}\n{name}='{value}'"
    after = f"{before}{added}\n" if not before or before.endswith("\n") else f"{before}\n{added}"
    if scan(path, after.encode(ENCODING), (name,))[-1].conditional:
        raise UserError(
            f"{path} ends inside a condition or function, so a line at its end may not be read.",
            f"Nothing was changed. Set {name} there by hand to '{value}'.",
        )
    return after


def remove(text: Optional[str], name: str) -> Optional[str]:
    """Return a file without that line; None where nothing is left of it, or there is none."""
    added = rf"{re.escape(MARK)}\n{re.escape(name)}='[^'\n]*'"
    without = re.sub(rf"{added}\n|\n{added}\Z", "", text or "")
    return (without or None) if text else text
