# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: reads the menu that grub-mkconfig generates, and GRUB's environment block.
# A menu is a program; only its entries and the choice of the default one are parsed, the rest is skipped.

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

# grub-core/script/yylex.l @ grub 2.06: what ends a plain word.
_SPECIAL = "{}|&$;<> \t\n'\"\\"
_BLANKS = re.compile(r"(?:[ \t]|\\\n|#[^\n]*)+")
# A word without quotes, up to what ends it.
_PLAIN = re.compile(r"[^{}|&$;<> \t\n'\"\\]+(?=[{}|&;<> \t\n]|\Z)")
_QUOTED = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_KEYWORDS = ("if", "then", "else", "elif", "do", "while", "until", "fi", "done")
_ID_OPTIONS = ("--id", "$menuentry_id_option", "${menuentry_id_option}")
_OPTIONS_WITH_VALUE = (*_ID_OPTIONS, "--class", "--users", "--hotkey", "--source")


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


@dataclass
class Entry:
    """A menu entry or a submenu. Positions count characters of the whole menu.

    :param arguments: position of each argument but the title and the identity, with the values of options.
    :param body: position of the text between its braces.
    """

    title: str
    identity: Optional[str]
    arguments: Tuple[Tuple[int, int], ...]
    body: Tuple[int, int]
    children: List[Entry] = field(default_factory=list)


@dataclass(frozen=True)
class Menu:
    """A generated menu.

    :param entries: in their order; submenus contain others.
    :param commands: the words of every command that is not inside an entry.
    """

    text: str
    entries: Tuple[Entry, ...]
    commands: Tuple[Tuple[str, ...], ...]

    def body(self, entry: Entry) -> str:
        return self.text[slice(*entry.body)]


def words(text: str) -> Iterator[Word]:
    """Split a menu into words the way GRUB's own reader does.

    :raises UserError: a quote is not closed.
    """
    at = 0
    first = True
    while at < len(text):
        blanks = _BLANKS.match(text, at)
        if blanks:
            at = blanks.end()
            continue
        char = text[at]
        if char in "\n;|&<>":
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
            first = first and value in _KEYWORDS
            at = end


def _word(text: str, at: int) -> Tuple[int, str]:
    """Return where the word at *at* ends, and its text without quotes."""
    parts: List[str] = []
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
    return min(at, len(text)), "".join(parts)


def _closing(text: str, opened: int, mark: str) -> int:
    if mark == '"':
        closed = _QUOTED.match(text, opened + 1)
        if closed:
            return closed.end() - 1
    elif text.find(mark, opened + 1) >= 0:
        return text.index(mark, opened + 1)
    line = text.count("\n", 0, opened) + 1
    raise UserError(
        f"GRUB's generated menu cannot be parsed: line {line} has a {text[opened]} that is not closed.",
        "Generate it again with `update-grub` (or grub-mkconfig), then run this again.",
    )


def parse(text: str) -> Menu:
    """Read a generated menu.

    :raises UserError: quotes or braces do not match.
    """
    top: List[Entry] = []
    commands: List[Tuple[str, ...]] = []
    # What each open brace belongs to; None for a function.
    blocks: List[Optional[Entry]] = []
    command: List[Word] = []

    def finish() -> None:
        if command and not any(blocks):
            commands.append(tuple(word.text for word in command))
        command.clear()

    for word in words(text):
        if word.first and not (word.brace and word.text == "{"):
            finish()
        if not word.brace:
            command.append(word)
        elif word.text == "{":
            entry = _entry(text, command, word.end)
            command.clear()
            if entry is not None:
                parent = next((block for block in reversed(blocks) if block is not None), None)
                (top if parent is None else parent.children).append(entry)
            blocks.append(entry)
        elif blocks:
            closed = blocks.pop()
            if closed is not None:
                closed.body = (closed.body[0], word.start)
        else:
            raise _unbalanced(text, word.start)
    finish()
    if blocks:
        raise _unbalanced(text, len(text))
    return Menu(text, tuple(top), tuple(commands))


def _entry(text: str, command: List[Word], body: int) -> Optional[Entry]:
    if not command or command[0].text not in ("menuentry", "submenu"):
        return None
    title: Optional[str] = None
    identity: Optional[str] = None
    arguments: List[Tuple[int, int]] = []
    rest = iter(command[1:])
    for word in rest:
        # A quoted title may look like an option; the text as it stands there does not.
        raw = text[word.start : word.end]
        if raw in _OPTIONS_WITH_VALUE:
            value = next(rest, word)
            if raw in _ID_OPTIONS:
                identity = value.text
            else:
                arguments.append((word.start, value.end))
        elif raw.startswith("--id="):
            identity = word.text.partition("=")[2]
        elif title is None and not raw.startswith("--"):
            title = word.text
        else:
            arguments.append((word.start, word.end))
    return Entry(title or "", identity, tuple(arguments), (body, body))


def _unbalanced(text: str, position: int) -> UserError:
    line = text.count("\n", 0, position) + 1
    return UserError(
        f"GRUB's generated menu cannot be parsed: the braces in line {line} do not match.",
        "Generate it again with `update-grub` (or grub-mkconfig), then run this again.",
    )


def default_entry(menu: Menu, environment: Mapping[str, str]) -> Entry:
    """Return the entry that boots unless another one is selected.

    :param environment: GRUB's environment block, for `GRUB_DEFAULT=saved`.
    :raises UserError: it is not set as grub-mkconfig does, or does not exist.
    """
    chosen = [
        word.partition("=")[2] for command in menu.commands if command[0] == "set" for word in command[1:2]
        if word.startswith("default=")
    ]  # fmt: skip
    if len(chosen) != 2 or chosen[0] != "${next_entry}":
        raise UserError(
            "GRUB's generated menu does not set `default` as grub-mkconfig does.",
            "Look in /etc/grub.d for the program that sets it, and use GRUB_DEFAULT in /etc/default/grub instead.",
        )
    name = re.sub(r"\$\{(\w+)\}", lambda match: environment.get(match[1], ""), chosen[1])
    entries = list(menu.entries)
    path: List[Entry] = []
    # grub-core/normal/menu.c: > leads into a submenu, >> stands for the character.
    for part in re.split(r"(?<!>)>(?!>)", name):
        found = _choose(entries, part.replace(">>", ">"))
        if found is None:
            raise UserError(
                f"GRUB's default entry {name!r} does not exist in its menu.",
                "Set GRUB_DEFAULT in /etc/default/grub to an existing entry, run update-grub, then run this again.",
            )
        path.append(found)
        entries = found.children
    return path[-1]


def _choose(entries: List[Entry], name: str) -> Optional[Entry]:
    """Find an entry as get_entry_number does (grub-core/normal/menu.c): by number, else by title or identity."""
    number = re.match(r"\d+", name)
    if number or not name:
        place = int(number[0]) if number else 0
        return entries[place] if place < len(entries) else None
    return next((entry for entry in entries if name in (entry.title, entry.identity)), None)


def environment(block: Optional[bytes]) -> Dict[str, str]:
    """Read GRUB's environment block: lines of name=value after a head, filled up with # (grub-core/lib/envblk.c)."""
    lines = re.split(r"(?<!\\)\n", (block or b"").decode("latin-1"))
    pairs = (line.partition("=") for line in lines if not line.startswith("#"))
    return {name: re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL) for name, equals, value in pairs if equals}
