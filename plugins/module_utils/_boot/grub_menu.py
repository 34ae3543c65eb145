# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the words of a menu of GRUB 2, and GRUB's environment block.

from __future__ import annotations

import re
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

# grub-core/script/yylex.l @ grub 2.06: what ends a plain word.
_SPECIAL = "{}|&$;<> \t\n'\"\\"
_BLANKS = re.compile(r"(?:[ \t]|\\\n|#[^\n]*)+")
# A word without quotes, up to what ends it.
_PLAIN = re.compile(r"[^{}|&$;<> \t\n'\"\\]+(?=[{}|&;<> \t\n]|\Z)")
_QUOTED = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
# Parts of a word, quoted and plain ones, and words of a command. Each takes time, and Linux takes 2,048 bytes of them
# (COMMAND_LINE_SIZE, arch/x86/include/asm/setup.h).
_MOST = 10_000
_KEYWORDS = ("if", "then", "else", "elif", "do", "while", "until", "fi", "done")


class Word(NamedTuple):
    """A word of a command, or a brace that is a word of its own; a menu has very many.

    :param text: without its quotes; variables are left as they are written.
    :param first: whether a command begins with it.
    """

    text: str
    start: int
    end: int
    first: bool
    brace: bool = False


def words(text: str) -> Iterator[Word]:
    """Split a menu into words the way GRUB's own reader does.

    :raises UserError: a quote is not closed, or there is more of something than any menu has.
    """
    at = count = 0
    first = True
    while at < len(text):
        char = text[at]
        # A match costs more than the question whether there can be one.
        blanks = _BLANKS.match(text, at) if char in " \t\\#" else None
        if blanks:
            at = blanks.end()
        elif char in "\n;|&<>":
            first = True
            at += 1
        elif char in "{}":
            yield Word(char, at, at + 1, first, brace=True)
            first = True
            at += 1
        else:
            plain = _PLAIN.match(text, at)
            end, value = (plain.end(), plain.group()) if plain else _word(text, at)
            yield Word(value, at, end, first)
            count = 0 if first else count + 1
            if count > _MOST:
                raise _wrong(text, at, f"a command of more than {_MOST} words")
            first = first and value in _KEYWORDS
            at = end


def _word(text: str, at: int) -> Tuple[int, str]:
    """Return where the word at *at* ends, and its text without quotes."""
    parts: List[str] = []
    start = at
    while at < len(text) and text[at] not in "{}|&;<> \t\n":
        char = text[at]
        if char == "'":
            end = _closing(text, at, "'")
            parts.append(text[at + 1 : end])
            at = end + 1
        elif char == '"':
            end = _closing(text, at, '"')
            parts.append(re.sub(r'\\([$"\\])', r"\1", text[at + 1 : end]))
            at = end + 1
        elif char == "\\":
            parts.append(text[at + 1 : at + 2].replace("\n", ""))
            at += 2
        elif text.startswith("${", at):
            end = _closing(text, at + 1, "}")
            parts.append(text[at : end + 1])
            at = end + 1
        else:
            end = at + 1
            while end < len(text) and text[end] not in _SPECIAL:
                end += 1
            parts.append(text[at:end])
            at = end
        if len(parts) > _MOST:
            raise _wrong(text, start, f"a word of more than {_MOST} parts")
    return min(at, len(text)), "".join(parts)


def _closing(text: str, opened: int, mark: str) -> int:
    if mark == '"':
        closed = _QUOTED.match(text, opened + 1)
        if closed:
            return closed.end() - 1
    elif text.find(mark, opened + 1) >= 0:
        return text.index(mark, opened + 1)
    raise _wrong(text, opened, f"a {text[opened]} that is not closed")


def _wrong(text: str, at: int, what: str) -> UserError:
    line = text.count("\n", 0, at) + 1
    return UserError(
        f"GRUB's menu cannot be parsed: line {line} has {what}.",
        "Generate it again with `update-grub` (or grub-mkconfig), then run this again.",
    )


def without_returns(text: str) -> str:
    """Return a text as GRUB reads it, which skips carriage returns (grub_file_getline); all else stays in its place."""
    return text.replace("\\\r\n", " \\\n").replace("\r", " ") if "\r" in text else text


ENVIRONMENT = "# GRUB Environment Block\n"


def environment(block: Optional[bytes]) -> Dict[str, str]:
    """Read GRUB's environment block: lines of name=value after a head, filled up with # (grub-core/lib/envblk.c).

    GRUB takes nothing from a file without that head.
    """
    text = (block or b"").decode("latin-1")
    lines = re.split(r"(?<!\\)\n", text if text.startswith(ENVIRONMENT) else "")
    pairs = (line.partition("=") for line in lines if not line.startswith("#"))
    return {name: re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL) for name, equals, value in pairs if equals}
