# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: a line that takes the place of another one, which a comment above it keeps, in
# files in which # begins a comment.

from __future__ import annotations

import re

from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import MARK

_HEAD = f"{MARK}, in place of: "
_NOTHING = f"{MARK}, in place of nothing"
_PUT = re.compile(
    rf"^{re.escape(_HEAD)}(?P<old>[^\r\n]*)(?P<between>\r?\n)[^\r\n]*|^{re.escape(_NOTHING)}\r?\n[^\n]*\n", re.MULTILINE
)


def put(text: str, start: int, end: int, line: str) -> str:
    """Return *text* with *line* instead of the whole line from *start* to *end*; where both are one, it is added."""
    newline = "\r\n" if "\r\n" in text else "\n"
    if start == end:
        return f"{text[:start]}{_NOTHING}{newline}{line}{newline}{text[start:]}"
    return f"{text[:start]}{_HEAD}{text[start:end]}{newline}{line}{text[end:]}"


def restore(text: str) -> str:
    """Return *text* with the lines that were there before."""
    return _PUT.sub(lambda match: match["old"] or "", text)
