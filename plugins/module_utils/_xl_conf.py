# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: keys of xl.conf, changed where they stand.
# The grammar is that of xl's configuration reader, tools/libs/util/libxlu_cfg_l.l and _y.y @ stable-4.17.

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Union

from ansible_collections.xen.stubdom.plugins.module_utils._errors import Refusal

Value = Union[str, int, List[str]]

KEY = re.compile(r"^[A-Za-z][._0-9A-Za-z]*$")
_ENCODING = "latin-1"
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+|\\\n)
      | (?P<comment>\#[^\n]*)
      | (?P<end>[\n;])
      | (?P<name>[A-Za-z][._0-9A-Za-z]*)
      | (?P<number>[0-9][0-9a-fA-Fx]*)
      | (?P<string>"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*')
      | (?P<sign>\+?=|[\[\],])""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Setting:
    """One assignment: its key, the text of its value, and where both stand in the file."""

    key: str
    start: int
    value_start: int
    end: int
    text: str


def settings(path: str, content: bytes) -> List[Setting]:
    """Return the assignments of a file in order.

    :raises Refusal: xl would not understand the file.
    """
    text = content.decode(_ENCODING)
    found: List[Setting] = []
    at, depth = 0, 0
    tokens: List[re.Match[str]] = []
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _refusal(path, text, at)
        at = match.end()
        kind = match.lastgroup
        if kind in ("space", "comment") or (kind == "end" and depth and match.group() == "\n"):
            continue
        depth += {"[": 1, "]": -1}.get(match.group(), 0)
        if kind == "end":
            found += _setting(path, text, tokens)
            tokens = []
        else:
            tokens.append(match)
    return found + _setting(path, text, tokens)


def put(path: str, content: Optional[bytes], wanted: Mapping[str, Optional[Value]]) -> Optional[bytes]:
    """Return the file with every key of *wanted* set once to its value, or gone where that is None.

    A key stays in its line; a new one follows the commented-out example that the file has for it, or the last line.

    :raises Refusal: the file or a value is not understood.
    """
    current = content or b""
    for key, value in wanted.items():
        if not KEY.match(key):
            raise Refusal(f"{key!r} is no name of a setting of xl.", "Use letters, digits, dots and underscores.")
        current = _put_one(path, current, key, value)
    return None if content is None and not current else current


def render(value: Value) -> str:
    """Write a value the way xl reads it.

    :raises Refusal: xl has no way of writing it.
    """
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int):
        if value < 0:
            raise Refusal(f"{value} is negative, which xl cannot read.", "Give a number from 0 up, or a string.")
        return str(value)
    if isinstance(value, str):
        if not value.isprintable() or not value.isascii():
            raise Refusal(f"{value!r} has characters that a setting of xl cannot hold.", "Use printable ASCII.")
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, (list, tuple)):
        return "[ " + ", ".join(render(item) for item in value) + " ]"
    raise Refusal(f"{value!r} is no value of a setting of xl.", "Give a string, a number or a list of them.")


def values(path: str, content: Optional[bytes]) -> Dict[str, str]:
    """Return the text of the value of each key; the last assignment counts."""
    return {setting.key: setting.text for setting in settings(path, content or b"")}


def _put_one(path: str, content: bytes, key: str, value: Optional[Value]) -> bytes:
    found = [setting for setting in settings(path, content) if setting.key == key]
    text = content.decode(_ENCODING)
    keep = found[-1] if found and value is not None else None
    rendered = "" if value is None else render(value)
    for setting in reversed(found):
        if setting is not keep:
            text = _cut(text, setting)
        elif not _equal(setting.text, rendered):
            text = text[: setting.value_start] + rendered + text[setting.end :]
    if value is not None and keep is None:
        text = _insert(text, key, f"{key}={rendered}")
    return text.encode(_ENCODING)


def _equal(one: str, other: str) -> bool:
    # The two quotes mean the same around plain text; xl takes a number in quotes for a number.
    return one == other or ("\\" not in one + other and one[1:-1] == other[1:-1] and {one[:1], other[:1]} == {"'", '"'})


def _cut(text: str, setting: Setting) -> str:
    """Take a setting out, with its line if nothing else is on it."""
    line_start = text.rfind("\n", 0, setting.start) + 1
    line_end = text.find("\n", setting.end)
    line_end = len(text) if line_end < 0 else line_end + 1
    if not text[line_start : setting.start].strip() and not text[setting.end : line_end].strip(" \t\r\n;"):
        return text[:line_start] + text[line_end:]
    return text[: setting.start] + text[setting.end :]


def _insert(text: str, key: str, line: str) -> str:
    examples = re.finditer(rf"^[ \t]*#[ \t]*{re.escape(key)}[ \t]*=[^\n]*(?:\n|$)", text, re.MULTILINE)
    place = max((example.end() for example in examples), default=len(text))
    before = text[:place]
    if before and not before.endswith("\n"):
        before += "\n"
    return f"{before}{line}\n{text[place:]}"


def _setting(path: str, text: str, tokens: Sequence[re.Match[str]]) -> List[Setting]:
    if not tokens:
        return []
    if len(tokens) < 3 or tokens[0].lastgroup != "name" or tokens[1].group() != "=" or not _is_value(tokens[2:]):
        raise _refusal(path, text, tokens[0].start())
    start, end = tokens[2].start(), tokens[-1].end()
    return [Setting(tokens[0].group(), tokens[0].start(), start, end, text[start:end])]


def _is_value(tokens: Sequence[re.Match[str]]) -> bool:
    if len(tokens) == 1:
        return tokens[0].lastgroup in ("string", "number")
    depth = 0
    for place, token in enumerate(tokens):
        if token.lastgroup == "name" or token.group() in ("=", "+="):
            return False
        depth += {"[": 1, "]": -1}.get(token.group(), 0)
        if depth <= 0 and place < len(tokens) - 1:
            return False
    return depth == 0 and tokens[0].group() == "["


def _refusal(path: str, text: str, position: int) -> Refusal:
    line = text.count("\n", 0, position) + 1
    return Refusal(
        f"{path} line {line}: this is no setting that xl understands.", "Nothing was changed; correct that line first."
    )
