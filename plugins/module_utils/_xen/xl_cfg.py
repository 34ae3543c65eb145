# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the language of xl.cfg and xl.conf, which are read by the same code of xl.
# Sources: tools/libs/util/libxlu_cfg_l.l, libxlu_cfg_y.y and libxlu_cfg.c @ stable-4.20.

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

# What an assignment can hold. The elements of a list are strings, numbers or lists.
Value = Union[str, int, List[Any]]

# Capital letters are no part of a key.
KEY = re.compile(r"^[a-z][._0-9a-z]*\Z")
# A file that is longer is none of xl's.
LONGEST = 1 << 18
# Lists in lists; xl.cfg has a use for two. Deeper ones would end in an error of Python's, not in a sentence.
_DEEPEST = 16
_ENCODING = "latin-1"
# A comment that no newline ends is an error for xl, seen with 4.20.
_TOKEN = re.compile(
    r"""(?P<space>[ \t]+)
      | (?P<comment>\#[^\n]*(?=\n))
      | (?P<end>[\n;])
      | (?P<name>[a-z][._0-9a-z]*)
      | (?P<number>[0-9][0-9a-fx]*)
      | (?P<string>"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*')
      | (?P<sign>\+?=|[\[\],])""",
    re.VERBOSE,
)

# xl has rules for \x and for digits too, which no text passes (NUMERIC_CHAR in libxlu_cfg.c).
_ESCAPES = {
    '"': '"', "'": "'", "\\": "\\",
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """One assignment: its key and value, and where both stand in the file.

    :param adds: whether it is written with +=, which appends to what the key has so far (Xen 4.10 and newer).
    """

    key: str
    start: int
    value_start: int
    end: int
    text: str
    value: Value
    adds: bool


def settings(path: str, content: bytes) -> List[Setting]:
    """Return the assignments of a file in order.

    :raises UserError: xl would not understand the file.
    """
    text = content.decode(_ENCODING)
    found: List[Setting] = []
    at, depth = 0, 0
    tokens: List[re.Match[str]] = []
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _syntax_error(path, text, at)
        at = match.end()
        kind = match.lastgroup
        if kind in ("space", "comment") or (kind == "end" and depth and match.group() == "\n"):
            continue
        depth += {"[": 1, "]": -1}.get(match.group(), 0)
        if depth > _DEEPEST:
            raise _syntax_error(path, text, match.start())
        if kind == "end":
            found += _setting(path, text, tokens)
            tokens = []
        else:
            tokens.append(match)
    return found + _setting(path, text, tokens)


def read(path: str, content: Optional[bytes]) -> Dict[str, Value]:
    """Return what each key is set to in the end. A number in quotes stays a string; xl takes either.

    :raises UserError: xl would not understand the file.
    """
    found: Dict[str, Value] = {}
    for setting in settings(path, content or b""):
        old = found.get(setting.key)
        if not setting.adds or old is None:
            found[setting.key] = setting.value
        elif isinstance(old, list) and isinstance(setting.value, list):
            found[setting.key] = old + setting.value
        elif isinstance(old, list) or isinstance(setting.value, list):
            raise _syntax_error(path, (content or b"").decode(_ENCODING), setting.start)
        else:
            found[setting.key] = f"{old}{setting.value}"
    return found


def texts(path: str, content: Optional[bytes]) -> Dict[str, str]:
    """Return the value of each key as it is written; the last assignment counts."""
    return {setting.key: setting.text for setting in settings(path, content or b"")}


def emit(wanted: Mapping[str, Value], *, header: Sequence[str] = ()) -> bytes:
    """Write a whole file: the header as comments, then one key after the other.

    :raises UserError: xl has no way of writing a key or a value.
    """
    lines = [f"# {line}" for line in header]
    for key, value in wanted.items():
        _check_key(key)
        lines.append(f"{key} = {_spread(value)}")
    return ("\n".join(lines) + "\n").encode(_ENCODING)


def put(path: str, content: Optional[bytes], wanted: Mapping[str, Optional[Value]]) -> Optional[bytes]:
    """Return the file with every key of *wanted* set once to its value, or gone where that is None.

    A key stays in its line; a new one follows the commented-out example that the file has for it, or the last line.

    :raises UserError: the file or a value is not understood.
    """
    current = content or b""
    for key, value in wanted.items():
        _check_key(key)
        current = _put_one(path, current, key, value)
    return None if content is None and not current else current


def render(value: Value, *, depth: int = 0) -> str:
    """Write a value the way xl reads it.

    :raises UserError: xl has no way of writing it.
    """
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int):
        if value < 0:
            raise UserError(f"{value} is negative, which xl cannot read.", "Give a number from 0 up, or a string.")
        return str(value)
    if isinstance(value, str):
        if not value.isprintable() or not value.isascii():
            raise UserError(f"{value!r} has characters that a setting of xl cannot hold.", "Use printable ASCII.")
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, (list, tuple)):
        if depth >= _DEEPEST:
            raise UserError(f"A setting has lists in lists, {depth} deep and more.", "Give it as xl.cfg(5) has it.")
        return "[ " + ", ".join(render(item, depth=depth + 1) for item in value) + " ]"
    raise UserError(f"{value!r} is no value of a setting of xl.", "Give a string, a number or a list of them.")


def _spread(value: Value) -> str:
    """Write a value, the elements of a longer list in lines of their own."""
    if isinstance(value, (list, tuple)) and len(value) > 1:
        return "[\n" + "".join(f"    {render(item, depth=1)},\n" for item in value) + "]"
    return render(value)


def _check_key(key: str) -> None:
    if not KEY.match(key):
        raise UserError(
            f"{key!r} is no name of a setting of xl.",
            "Use small letters, digits, dots and underscores, a letter first.",
        )


def _put_one(path: str, content: bytes, key: str, value: Optional[Value]) -> bytes:
    found = [setting for setting in settings(path, content) if setting.key == key]
    text = content.decode(_ENCODING)
    plain = [setting for setting in found if not setting.adds]
    keep = plain[-1] if plain and value is not None else None
    rendered = "" if value is None else render(value)
    for setting in reversed(found):
        if setting is not keep:
            text = _cut(text, setting)
        elif setting.value != _settled(value):
            text = text[: setting.value_start] + rendered + text[setting.end :]
    if value is not None and keep is None:
        text = _insert(text, key, f"{key}={rendered}")
    return text.encode(_ENCODING)


def _settled(value: Optional[Value]) -> Optional[Value]:
    return int(value) if isinstance(value, bool) else list(value) if isinstance(value, tuple) else value


def _cut(text: str, setting: Setting) -> str:
    """Take a setting out, with its line if nothing else is on it."""
    line_start = text.rfind("\n", 0, setting.start) + 1
    line_end = text.find("\n", setting.end)
    line_end = len(text) if line_end < 0 else line_end + 1
    if not text[line_start : setting.start].strip(" \t;") and not text[setting.end : line_end].strip(" \t\n;"):
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
    if len(tokens) < 3 or tokens[0].lastgroup != "name" or tokens[1].group() not in ("=", "+="):
        raise _syntax_error(path, text, tokens[0].start())
    value, past = _value(path, text, tokens, 2)
    if past != len(tokens):
        raise _syntax_error(path, text, tokens[past].start())
    start, end = tokens[2].start(), tokens[-1].end()
    adds = tokens[1].group() == "+="
    return [Setting(tokens[0].group(), tokens[0].start(), start, end, text[start:end], value, adds)]


def _value(path: str, text: str, tokens: Sequence[re.Match[str]], at: int) -> Tuple[Value, int]:
    """Read the value whose first token is at *at*; return it and where the next token is."""
    token = tokens[at]
    if token.lastgroup == "string":
        return _unquote(path, text, token), at + 1
    if token.lastgroup == "number":
        return _number(token.group()), at + 1
    if token.group() != "[":
        raise _syntax_error(path, text, token.start())
    items: List[Any] = []
    at += 1
    while at < len(tokens):
        if tokens[at].group() == "]":
            return items, at + 1
        item, at = _value(path, text, tokens, at)
        items.append(item)
        if at < len(tokens) and tokens[at].group() == ",":
            at += 1
        elif at < len(tokens) and tokens[at].group() != "]":
            break
    raise _syntax_error(path, text, tokens[min(at, len(tokens) - 1)].start())


def _unquote(path: str, text: str, token: re.Match[str]) -> str:
    parts = re.split(r"\\(.)", token.group()[1:-1])
    unknown = [escape for escape in parts[1::2] if escape not in _ESCAPES]
    if unknown:
        raise _syntax_error(path, text, token.start())
    parts[1::2] = [_ESCAPES[escape] for escape in parts[1::2]]
    return "".join(parts)


def _number(digits: str) -> Value:
    # The lexer takes letters too and leaves them to strtol with base 0; what that cannot read xl uses as a string.
    try:
        octal = digits.startswith("0") and digits.isdigit()
        return int(digits, 8 if octal else 0)
    except ValueError:
        return digits


def _syntax_error(path: str, text: str, position: int) -> UserError:
    line = text.count("\n", 0, position) + 1
    return UserError(
        f"{path} line {line}: this is no setting that xl understands.", "Nothing was changed; correct that line first."
    )
