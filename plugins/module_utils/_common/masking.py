# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: finds the passwords in parameters and settings, so that no result shows them.

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Set, Tuple

# What a result shows in the place of a secret.
MASK = "********"

_WORD = r"passw(?:or)?d|passphrase|secret"
_KEY = re.compile(_WORD, re.IGNORECASE)
_BYTES = re.compile(_WORD.encode(), re.IGNORECASE)
# In a value that has fields of its own, such as an element of vfb.
_FIELD = re.compile(rf"(?P<key>{_WORD})[ \t]*=[ \t]*[\"']?(?P<value>[^,\"']+)", re.IGNORECASE)


def secrets(value: Any) -> Set[str]:
    """Return every secret in a value, as it is and as a file of xl.cfg writes it.

    A secret is what stands under a key with a word such as "passwd" in it, at any depth.
    """
    found: Set[str] = set()
    pending: List[Tuple[Any, bool]] = [(value, False)]
    while pending:
        item, secret = pending.pop()
        if isinstance(item, dict):
            pending += [(inner, secret or bool(_KEY.search(str(key)))) for key, inner in item.items()]
        elif isinstance(item, (list, tuple)):
            pending += [(inner, secret) for inner in item]
        elif secret and isinstance(item, (str, int)) and not isinstance(item, bool):
            found.add(str(item))
        elif isinstance(item, str):
            found.update(match["value"].strip() for match in _FIELD.finditer(item))
    found.discard("")
    return found | {text.replace("\\", "\\\\").replace('"', '\\"') for text in found}


def masked(settings: Mapping[str, Any]) -> Dict[str, Any]:
    """Return settings with a mask in the place of every secret."""
    return {key: MASK if _KEY.search(key) else _without_fields(value) for key, value in settings.items()}


def _without_fields(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_without_fields(item) for item in value]
    return _FIELD.sub(rf"\g<key>={MASK}", value) if isinstance(value, str) else value


def may_hold_secrets(content: bytes) -> bool:
    """Whether a file has such a word in it at all, which is sooner known than what it says."""
    return _BYTES.search(content) is not None


def secrets_of_text(content: bytes) -> Set[str]:
    """Return the secrets in a file that is no xl.cfg, as far as its lines say KEY = VALUE."""
    return secrets(content.decode("utf-8", "replace").splitlines())
