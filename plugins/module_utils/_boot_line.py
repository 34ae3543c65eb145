# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the words of a hypervisor's boot line.
# Words are separated by spaces, there is no quoting, and "--" ends them (xen/common/kernel.c, xen/arch/x86/setup.c).

from __future__ import annotations

import re
from typing import List, Optional, Sequence, Tuple

END = "--"

_WORD = re.compile(r"[^ \t\r\n]+")


def names(word: str, option: str) -> bool:
    """Whether *word* sets *option*; Xen takes - and _ for the same in names (cdiff, xen/common/kernel.c)."""
    name, equals, _value = word.partition("=")
    return bool(equals) and name.replace("-", "_") == option.replace("-", "_")


def spans(line: str) -> List[Tuple[int, int]]:
    """Return where the hypervisor's words are, those after -- left out."""
    found: List[Tuple[int, int]] = []
    for match in _WORD.finditer(line):
        if match.group() == END:
            break
        found.append(match.span())
    return found


def words(line: str) -> List[str]:
    """Return the hypervisor's words in order."""
    return [line[start:end] for start, end in spans(line)]


def values(line: str, option: str) -> List[str]:
    """Return every value that *option* is given, in order."""
    return [word.partition("=")[2] for word in words(line) if names(word, option)]


def put(line: str, option: str, value: str) -> str:
    """Give *option* this value exactly once: in the place of its last word, or at the end."""
    keep = [span for span in spans(line) if names(line[slice(*span)], option)]
    if not keep:
        return _append(line, f"{option}={value}")
    start, end = keep[-1]
    tail = line[end:]
    return _without(line[:start], keep[:-1]) + f"{option}={value}" + tail


def remove(line: str, option: str) -> str:
    """Take every word of *option* away, each with one space beside it."""
    return _without(line, [span for span in spans(line) if names(line[slice(*span)], option)])


def _without(line: str, removed: Sequence[Tuple[int, int]]) -> str:
    for start, end in reversed(removed):
        if start > 0:
            start -= 1
        elif end < len(line):
            end += 1
        line = line[:start] + line[end:]
    return line


def _append(line: str, word: str) -> str:
    rest: Optional[int] = next((m.start() for m in _WORD.finditer(line) if m.group() == END), None)
    if rest is not None:
        return f"{line[:rest]}{word} {line[rest:]}"
    return f"{line} {word}" if line and not line[-1].isspace() else line + word
