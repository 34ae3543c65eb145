# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: runs a GRUB menu as far as it decides which entry boots.
#
# A menu is a program. What it sets, which entries it defines and which of them is the default are worked out by running
# it on what is known of this host; where a condition asks for something that cannot be known here (whether a font
# loads, what the firmware can do), both ways are tried, and what comes out differently is not known.
# Sources: grub-core/script/{yylex.l,parser.y,execute.c}, grub-core/normal/{main,menu,context}.c,
# grub-core/commands/{test,menuentry,loadenv}.c @ grub 2.06 and 2.12; blscfg.c of Fedora's GRUB.

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from ansible_collections.xen.stubdom.plugins.module_utils._boot import grub_menu
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

# What GRUB 2 sets before it reads a menu (features[] in grub-core/normal/main.c @ 2.06).
FEATURES = (
    "feature_200_final",
    "feature_all_video_module",
    "feature_chainloader_bpb",
    "feature_default_font_path",
    "feature_menuentry_id",
    "feature_menuentry_options",
    "feature_nativedisk_cmd",
    "feature_ntldr",
    "feature_platform_search_hint",
    "feature_timeout_style",
)
# How deep files may read others, and blocks hold others; generated menus reach four.
_DEEPEST = 40
# How often a condition that is not known may double the work.
_MOST_FORKS = 200

# None is a value that is not known.
Value = Optional[str]


@dataclass(frozen=True)
class Entry:
    """A menu entry as GRUB defines it when it runs the menu.

    :param certain: whether it is there whatever the conditions are that cannot be known here.
    :param file: the file that it stands in.
    :param body: the commands between its braces; empty for an entry of blscfg.
    :param position: where *body* begins in the file.
    """

    title: Value
    identity: Value
    submenu: bool
    body: str
    file: str = ""
    position: int = 0
    certain: bool = True


@dataclass(frozen=True)
class Host:
    """What a menu is run on.

    :param read: gives the content of a file by its path on the host, None where there is none.
    :param directory: where GRUB's files lie on the host ($prefix), for example /boot/grub.
    :param platform: "efi" or "pc", None where it is not known how the machine starts.
    :param bls: entries of the Boot Loader Specification in the order of blscfg: title, identity, commands.
    """

    read: Callable[[str], Optional[str]]
    directory: str
    platform: Value = None
    bls: Sequence[Tuple[str, str, str]] = ()


@dataclass(frozen=True)
class Command:
    """A command that GRUB runs and this module does not, such as multiboot2 or linux.

    :param words: its name and arguments; one that is not known stands there as it is written.
    :param certain: whether it is run whatever the conditions are that cannot be known here.
    """

    words: Tuple[str, ...]
    certain: bool = True


@dataclass
class Menu:
    """What a menu comes to.

    :param variables: all that were set; one that is not there is empty, one that is None is not known.
    """

    file: str
    variables: Dict[str, Value]
    entries: List[Entry] = field(default_factory=list)


# ---- reading -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Command:
    """Words as they are written, quotes included, and the position behind the last."""

    words: Tuple[str, ...]


@dataclass(frozen=True)
class _Block:
    """menuentry, submenu or function with its body.

    :param position: where the body begins in its file.
    """

    words: Tuple[str, ...]
    body: str
    position: int


@dataclass(frozen=True)
class _If:
    """Conditions with what they lead to, and what none of them leads to."""

    branches: Tuple[Tuple[Tuple[_Node, ...], Tuple[_Node, ...]], ...]
    otherwise: Tuple[_Node, ...]


@dataclass(frozen=True)
class _Loop:
    """for, while or until: how often its body runs is not worked out."""

    body: Tuple[_Node, ...]


_Node = Union[_Command, _Block, _If, _Loop]


class _Reader:
    """Turns the text of a menu into commands and blocks.

    :param position: where the text begins in its file.
    :param depth: how many blocks it is inside of.
    """

    def __init__(self, text: str, position: int = 0, depth: int = 0) -> None:
        self._text = text
        self._words = list(grub_menu.words(text))
        self._at = 0
        self._position = position
        self._depth = depth

    def script(self, *ends: str) -> Tuple[_Node, ...]:
        """Return the commands up to one of the words *ends*, which stays to be read, or up to the end."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise UserError(
                f"The menu that GRUB reads has more than {_DEEPEST} blocks inside one another.", "Simplify it."
            )
        nodes: List[_Node] = []
        while self._at < len(self._words):
            word = self._words[self._at]
            if word.first and not word.brace and self._raw(word) in ends:
                break
            if word.brace and word.text == "}":
                raise self._wrong(word)
            nodes.append(self._statement())
        else:
            if ends:
                raise UserError(
                    f"The menu that GRUB reads is not understood: {' or '.join(ends)} is missing.",
                    "Generate it again with `update-grub` (or grub-mkconfig), then run again.",
                )
        self._depth -= 1
        return tuple(nodes)

    def _statement(self) -> _Node:
        word = self._words[self._at]
        if word.brace:
            # A group of commands.
            body, position = self._braces()
            return _If((), _Reader(body, position, self._depth).script())
        raw = self._raw(word)
        if raw == "if":
            return self._if()
        if raw in ("while", "until", "for"):
            self._at += 1
            while self._at < len(self._words) and not self._keyword("do"):
                self._at += 1
            self._take("do")
            repeated = self.script("done")
            self._take("done")
            return _Loop(repeated)
        words = [raw]
        self._at += 1
        while self._at < len(self._words) and not self._words[self._at].first:
            word = self._words[self._at]
            if word.brace:
                if word.text == "{" and words[0] in ("menuentry", "submenu", "function"):
                    return _Block(tuple(words), *self._braces())
                raise self._wrong(word)
            words.append(self._raw(word))
            self._at += 1
        word_after = self._words[self._at] if self._at < len(self._words) else None
        opens = word_after is not None and word_after.brace and word_after.text == "{"
        if opens and words[0] in ("menuentry", "submenu", "function"):
            return _Block(tuple(words), *self._braces())
        return _Command(tuple(words))

    def _if(self) -> _Node:
        branches = []
        otherwise: Tuple[_Node, ...] = ()
        self._take("if")
        while True:
            condition = self.script("then")
            self._take("then")
            branches.append((condition, self.script("elif", "else", "fi")))
            if not self._keyword("elif"):
                break
            self._take("elif")
        if self._keyword("else"):
            self._take("else")
            otherwise = self.script("fi")
        self._take("fi")
        return _If(tuple(branches), otherwise)

    def _braces(self) -> Tuple[str, int]:
        """Step over a pair of braces and return what is between them, with its position in the file."""
        depth = 0
        start = self._words[self._at].end
        while self._at < len(self._words):
            word = self._words[self._at]
            self._at += 1
            if word.brace:
                depth += 1 if word.text == "{" else -1
                if depth == 0:
                    return self._text[start : word.start], self._position + start
        raise self._wrong(self._words[-1])

    def _keyword(self, name: str) -> bool:
        if self._at >= len(self._words):
            return False
        word = self._words[self._at]
        return word.first and not word.brace and self._raw(word) == name

    def _take(self, name: str) -> None:
        if not self._keyword(name):
            raise self._wrong(self._words[min(self._at, len(self._words) - 1)])
        self._at += 1

    def _raw(self, word: grub_menu.Word) -> str:
        return self._text[word.start : word.end]

    def _wrong(self, word: grub_menu.Word) -> UserError:
        line = self._text.count("\n", 0, word.start) + 1
        return UserError(
            f"The menu that GRUB reads is not understood: in line {line} {self._raw(word)!r} is not expected.",
            "Check it with `grub-script-check`, or generate it again with `update-grub` (or grub-mkconfig).",
        )


# ---- running -------------------------------------------------------------------------------------------------------


_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[^}]*)\}|(?P<plain>[A-Za-z_]\w*|[0-9*@#?]))")


class _State:
    """Variables, functions and entries at one moment."""

    def __init__(self, variables: Mapping[str, Value]) -> None:
        self.variables = dict(variables)
        self.exported = {"root", "prefix", "grub_platform", *FEATURES}
        self.functions: Dict[str, Tuple[_Node, ...]] = {}
        self.entries: List[Entry] = []
        self.commands: List[Command] = []
        # Set by configfile: the menu that is shown in the place of this one.
        self.instead: Optional[Menu] = None

    def copy(self) -> _State:
        twin = _State(self.variables)
        twin.exported = set(self.exported)
        twin.functions = dict(self.functions)
        twin.entries = list(self.entries)
        twin.commands = list(self.commands)
        twin.instead = self.instead
        return twin

    def merge(self, one: _State, other: _State) -> None:
        """Become what is common to two ways that may both have been gone."""
        names = {*one.variables, *other.variables}
        self.variables = {
            name: one.variables.get(name, "") if one.variables.get(name, "") == other.variables.get(name, "") else None
            for name in names
        }
        self.exported = one.exported | other.exported
        self.functions = {**one.functions, **other.functions}
        # What only one way has is not certain any more.
        place = _common(one.entries, other.entries)
        unsure = [*one.entries[place:], *other.entries[place:]]
        self.entries = [*one.entries[:place], *(replace(entry, certain=False) for entry in unsure)]
        place = _common(one.commands, other.commands)
        rest = [*one.commands[place:], *other.commands[place:]]
        self.commands = [*one.commands[:place], *(replace(command, certain=False) for command in rest)]
        if one.instead is not None or other.instead is not None:
            if one.instead is not None and other.instead is not None and one.instead.file == other.instead.file:
                self.instead = one.instead
            else:
                raise UserError(
                    "Which menu GRUB shows depends on a condition that cannot be known here.",
                    "Look for `configfile` in the menu.",
                )


def _common(one: Sequence[object], other: Sequence[object]) -> int:
    """Return how many items two lists begin with alike."""
    for place, (left, right) in enumerate(zip(one, other)):
        if left != right:
            return place
    return min(len(one), len(other))


class _Machine:
    """Runs one menu and what it reads."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._forks = 0
        self._depth = 0
        self._file = ""

    def file(self, path: str, variables: Mapping[str, Value]) -> Menu:
        text = self._host.read(path)
        if text is None:
            raise UserError(f"There is no {path}, which GRUB reads its menu from.", "Generate it with `update-grub`.")
        state = _State(variables)
        self._run_text(path, text, state)
        if state.instead is not None:
            return state.instead
        return Menu(path, state.variables, state.entries)

    def body(self, entry: Entry, variables: Mapping[str, Value]) -> _State:
        state = _State(variables)
        self._run_text(entry.file, entry.body, state, entry.position)
        return state

    def _run_text(self, path: str, text: str, state: _State, position: int = 0) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise UserError(f"{path} is read by files that read one another without end.", "Break the circle.")
        before, self._file = self._file, path
        self._run(_Reader(text, position).script(), state)
        self._file = before
        self._depth -= 1

    def _run(self, nodes: Sequence[_Node], state: _State) -> Optional[bool]:
        """Run commands and return whether the last one succeeds, None where that is not known."""
        status: Optional[bool] = True
        for node in nodes:
            if state.instead is not None:
                break
            if isinstance(node, _If):
                status = self._if(node.branches, node.otherwise, state)
            elif isinstance(node, _Loop):
                self._either(partial(self._run, node.body), partial(self._run, ()), state)
                status = None
            elif isinstance(node, _Block):
                self._define(node, state)
                status = True
            else:
                status = self._command(node.words, state)
        return status

    def _if(
        self,
        branches: Sequence[Tuple[Tuple[_Node, ...], Tuple[_Node, ...]]],
        otherwise: Tuple[_Node, ...],
        state: _State,
    ) -> Optional[bool]:
        if not branches:
            return self._run(otherwise, state)
        (condition, body), *rest = branches
        holds = self._run(condition, state)
        if holds is not None:
            return self._run(body, state) if holds else self._if(rest, otherwise, state)
        self._either(partial(self._run, body), partial(self._if, rest, otherwise), state)
        return None

    def _either(
        self,
        one: Callable[[_State], Optional[bool]],
        other: Callable[[_State], Optional[bool]],
        state: _State,
    ) -> None:
        self._forks += 1
        if self._forks > _MOST_FORKS:
            raise UserError(
                f"The menu has more than {_MOST_FORKS} conditions that cannot be known here.",
                "Simplify the programs in /etc/grub.d.",
            )
        left, right = state.copy(), state.copy()
        one(left)
        other(right)
        state.merge(left, right)

    def _define(self, block: _Block, state: _State) -> None:
        kind = block.words[0]
        if kind == "function":
            if len(block.words) > 1:
                state.functions[block.words[1]] = _Reader(block.body, block.position).script()
            return
        title: Value = ""
        named = False
        identity: Value = None
        arguments = iter(block.words[1:])
        for raw in arguments:
            word = expand(raw, state.variables)
            # $menuentry_id_option is empty where this GRUB has no identities; its value is then one more argument.
            if word == "" and not raw.startswith(("'", '"')):
                continue
            if (raw.startswith("-") and word == "--id") or raw.lstrip("$").strip("{}") == "menuentry_id_option":
                identity = expand(next(arguments, ""), state.variables)
            elif raw.startswith("--id="):
                identity = expand(raw[len("--id=") :], state.variables)
            elif raw in ("--class", "--users", "--hotkey", "--source"):
                next(arguments, "")
            elif raw.startswith("--"):
                continue
            elif not named:
                title, named = word, True
        # GRUB takes the title for the identity of an entry without one (grub_normal_add_menu_entry).
        state.entries.append(
            Entry(
                title,
                title if identity is None else identity,
                kind == "submenu",
                block.body,
                self._file,
                block.position,
            )
        )

    def _command(self, raws: Sequence[str], state: _State) -> Optional[bool]:
        words = [expand(raw, state.variables) for raw in raws]
        if re.match(r"[A-Za-z_]\w*=", raws[0]):
            return self._do_set(words, raws, state)
        name = words[0]
        if name == "!":
            status = self._command(raws[1:], state) if len(raws) > 1 else True
            return None if status is None else not status
        if name is None:
            return None
        if name in state.functions:
            return self._run(state.functions[name], state)
        if name not in _HANDLERS:
            # insmod, search, loadfont, …: nothing that decides about entries, but for whether it succeeds.
            shown = (raw if word is None else word for raw, word in zip(raws, words))
            state.commands.append(Command(tuple(word for word in shown if word)))
            return None
        return _HANDLERS[name](self, words[1:], raws[1:], state)

    def _do_set(self, words: Sequence[Value], raws: Sequence[str], state: _State) -> Optional[bool]:
        for raw, word in zip(raws[:1], words):
            name = raw.lstrip("\"'").partition("=")[0]
            state.variables[name] = None if word is None else word.partition("=")[2]
        return True

    def _do_unset(self, words: Sequence[Value], _raws: Sequence[str], state: _State) -> Optional[bool]:
        for word in words:
            state.variables[word or ""] = ""
        return True

    def _do_export(self, words: Sequence[Value], _raws: Sequence[str], state: _State) -> Optional[bool]:
        state.exported.update(word for word in words if word)
        return True

    def _do_load_env(self, words: Sequence[Value], _raws: Sequence[str], state: _State) -> Optional[bool]:
        path = expand("$prefix/grubenv", state.variables)
        chosen: List[Value] = []
        rest = iter(words)
        for word in rest:
            if word in ("-f", "--file"):
                path = next(rest, None)
            elif word is not None and word.startswith("--file="):
                path = word[len("--file=") :]
            elif word is None or not word.startswith("-"):
                chosen.append(word)
        found = self._locate(path)
        if found is None:
            raise UserError(
                "The menu reads GRUB's environment from a file that cannot be found here.", "Look for `load_env` in it."
            )
        content = self._host.read(found)
        values = grub_menu.environment(None if content is None else content.encode("latin-1"))
        for name, value in values.items():
            if not chosen or name in chosen:
                state.variables[name] = value
        return content is not None

    def _do_source(self, words: Sequence[Value], _raws: Sequence[str], state: _State) -> Optional[bool]:
        path = self._locate(words[0] if words else None)
        content = None if path is None else self._host.read(path)
        if path is None or content is None:
            return None if path is None else False
        self._run_text(path, content, state)
        return True

    def _do_configfile(self, words: Sequence[Value], _raws: Sequence[str], state: _State) -> Optional[bool]:
        path = self._locate(words[0] if words else None)
        if path is None:
            raise UserError(
                "The menu hands over to another one in a place that cannot be found here.",
                "Look for `configfile` in it.",
            )
        if self._host.read(path) is None:
            return False
        # A new context has what was exported (grub-core/normal/context.c).
        kept = {name: value for name, value in state.variables.items() if name in state.exported}
        state.instead = self.file(path, kept)
        return True

    def _do_blscfg(self, _words: Sequence[Value], _raws: Sequence[str], state: _State) -> Optional[bool]:
        for title, identity, body in self._host.bls:
            state.entries.append(Entry(title, identity, False, body, self._file))
        return bool(self._host.bls)

    def _do_test(self, words: Sequence[Value], _raws: Sequence[str], _state: _State) -> Optional[bool]:
        return _Test([*words], self._is_file).holds()

    def _is_file(self, path: Value, nonempty: bool) -> Optional[bool]:
        found = self._locate(path)
        if found is None:
            return None
        content = self._host.read(found)
        return content is not None and (not nonempty or content != "")

    def _locate(self, path: Value) -> Optional[str]:
        """Return the path on the host of a file as GRUB names it; None for one on another file system."""
        if path is None or not path.startswith(_PREFIX):
            return None
        return posixpath.normpath(self._host.directory + path[len(_PREFIX) :])


# What $prefix and $config_directory stand for: the place is known by what it holds, not by GRUB's name of the disk.
_PREFIX = "(xen-stubdom-prefix)"
_Handler = Callable[[_Machine, Sequence[Value], Sequence[str], _State], Optional[bool]]
_HANDLERS: Mapping[str, _Handler] = {
    "true": lambda _machine, _words, _raws, _state: True,
    "false": lambda _machine, _words, _raws, _state: False,
    "set": _Machine._do_set,
    "unset": _Machine._do_unset,
    "export": _Machine._do_export,
    "load_env": _Machine._do_load_env,
    "source": _Machine._do_source,
    ".": _Machine._do_source,
    "configfile": _Machine._do_configfile,
    "blscfg": _Machine._do_blscfg,
    "[": _Machine._do_test,
    "test": _Machine._do_test,
}


class _Test:
    """The command test (grub-core/commands/test.c), with an answer for what is not known."""

    _FILES: Mapping[str, bool] = {"-e": False, "-f": False, "-s": True, "-d": False}

    def __init__(self, words: List[Value], is_file: Callable[[Value, bool], Optional[bool]]) -> None:
        if words and words[-1] == "]":
            words = words[:-1]
        self._words = words
        self._is_file = is_file
        self._at = 0

    def holds(self) -> Optional[bool]:
        result = self._or()
        return result if self._at >= len(self._words) else None

    def _or(self) -> Optional[bool]:
        result = self._and()
        while self._peek() == "-o":
            self._at += 1
            right = self._and()
            result = True if True in (result, right) else None if None in (result, right) else False
        return result

    def _and(self) -> Optional[bool]:
        result = self._not()
        while self._at < len(self._words) and self._peek() not in ("-o", ")"):
            if self._peek() == "-a":
                self._at += 1
            right = self._not()
            result = False if False in (result, right) else None if None in (result, right) else True
        return result

    def _not(self) -> Optional[bool]:
        if self._peek() == "!":
            self._at += 1
            result = self._not()
            return None if result is None else not result
        if self._peek() == "(":
            self._at += 1
            result = self._or()
            self._at += 1
            return result
        return self._plain()

    def _plain(self) -> Optional[bool]:
        left = self._next()
        operator = self._peek()
        if operator in ("=", "==", "!="):
            self._at += 1
            right = self._next()
            if left is None or right is None:
                return None
            return (left == right) is (operator != "!=")
        if operator in _NUMBERS:
            self._at += 1
            right = self._next()
            if left is None or right is None:
                return None
            return _NUMBERS[operator](_number(left), _number(right))
        if left in ("-n", "-z"):
            text = self._next()
            return None if text is None else bool(text) is (left == "-n")
        if left is not None and left in self._FILES:
            return self._is_file(self._next(), self._FILES[left])
        return None if left is None else bool(left)

    def _peek(self) -> Value:
        return self._words[self._at] if self._at < len(self._words) else ""

    def _next(self) -> Value:
        value = self._peek()
        self._at += 1
        return value


_NUMBERS: Mapping[Optional[str], Callable[[int, int], bool]] = {
    "-eq": int.__eq__,
    "-ne": int.__ne__,
    "-lt": int.__lt__,
    "-le": int.__le__,
    "-gt": int.__gt__,
    "-ge": int.__ge__,
}


def _number(text: str) -> int:
    """Read a number as grub_strtol does with base 0; what is none is 0."""
    match = re.match(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9]\d*)", text)
    if match is None:
        return 0
    digits = match[2]
    base = 16 if digits[:2].lower() == "0x" else 8 if digits.startswith("0") and len(digits) > 1 else 10
    return int(digits, base) * (-1 if match[1] == "-" else 1)


def expand(raw: str, variables: Mapping[str, Value]) -> Value:
    """Return a word without its quotes and with the values of its variables; None where one is not known."""
    parts: List[str] = []
    for text, literal in _parts(raw):
        if literal:
            parts.append(text)
            continue
        at = 0
        for match in _VARIABLE.finditer(text):
            value = variables.get(match["braced"] if match["braced"] is not None else match["plain"], "")
            if value is None:
                return None
            parts += [text[at : match.start()], value]
            at = match.end()
        parts.append(text[at:])
    return "".join(parts)


def _parts(raw: str) -> Iterator[Tuple[str, bool]]:
    """Split a word into pieces in which variables count, and pieces in which they do not."""
    at = 0
    while at < len(raw):
        char = raw[at]
        if char == "'":
            end = raw.find("'", at + 1)
            end = len(raw) if end < 0 else end
            yield raw[at + 1 : end], True
            at = end + 1
        elif char == '"':
            at += 1
            while at < len(raw) and raw[at] != '"':
                if raw[at] == "\\" and raw[at + 1 : at + 2] in ("$", '"', "\\", "\n"):
                    yield raw[at + 1 : at + 2].replace("\n", ""), True
                    at += 2
                    continue
                end = at + 1
                while end < len(raw) and raw[end] not in '"\\':
                    end += 1
                yield raw[at:end], False
                at = end
            at += 1
        elif char == "\\":
            yield raw[at + 1 : at + 2].replace("\n", ""), True
            at += 2
        else:
            end = at + 1
            while end < len(raw) and raw[end] not in "'\"\\":
                end += 1
            yield raw[at:end], False
            at = end


# ---- what is asked -------------------------------------------------------------------------------------------------


def run(path: str, host: Host) -> Menu:
    """Run a menu from its beginning, as at the next start.

    :param path: its file on the host.
    :raises UserError: it is not understood, or too much of it depends on what cannot be known here.
    """
    variables: Dict[str, Value] = dict.fromkeys(FEATURES, "y")
    variables.update({"prefix": _PREFIX, "config_directory": _PREFIX, "root": None, "grub_platform": host.platform})
    variables["grub_cpu"] = None
    return _Machine(host).file(path, variables)


def default_entry(menu: Menu, host: Host) -> Entry:
    """Return the entry that boots when nobody chooses another one.

    :raises UserError: the menu has no entry, or which one it is depends on what cannot be known here.
    """
    name = menu.variables.get("default", "")
    depth = 0
    while True:
        if name is None:
            raise _unknown("its variable `default` depends on a condition that cannot be known here")
        part, rest = _first_part(name)
        entry = _choose(menu.entries, part)
        if not entry.submenu:
            return entry
        depth += 1
        if depth > _DEEPEST:
            raise _unknown("its submenus have no end")
        # What stands behind > becomes `default`; the submenu, which is run then, may set it (grub_menu_execute_entry).
        menu = submenu(entry, replace(menu, variables={**menu.variables, "default": rest}), host)
        name = menu.variables["default"]


def submenu(entry: Entry, menu: Menu, host: Host) -> Menu:
    """Return what a submenu holds.

    :raises UserError: it is not understood.
    """
    state = _Machine(host).body(entry, menu.variables)
    return Menu(entry.file, state.variables, state.entries)


def commands(entry: Entry, menu: Menu, host: Host) -> List[Command]:
    """Return the commands that an entry runs when it is started."""
    return _Machine(host).body(entry, menu.variables).commands


def _first_part(name: str) -> Tuple[str, str]:
    """Split at the first > that leads into a submenu; >> stands for the character."""
    match = re.search(r"(?<!>)>(?!>)", name)
    if match is None:
        return name.replace(">>", ">"), ""
    return name[: match.start()].replace(">>", ">"), name[match.end() :]


def _choose(entries: Sequence[Entry], name: str) -> Entry:
    """Find an entry as get_entry_number does, and the first one where there is none such (run_menu)."""
    if not entries:
        raise UserError(
            "The menu that GRUB reads has no entries.", "Generate it with `update-grub` (or grub-mkconfig)."
        )
    place = 0
    if re.match(r"\s*\d", name):
        place = _number(name)
        place = place if place < len(entries) else 0
    elif name:
        for at, entry in enumerate(entries):
            if name in (entry.title, entry.identity):
                if entry.certain:
                    return entry
                raise _unknown(f"whether there is an entry {name!r} depends on a condition that cannot be known here")
            if entry.title is None or entry.identity is None:
                raise _unknown(f"the name of its entry {at} depends on what cannot be known here")
    if not all(entry.certain for entry in entries[: place + 1]):
        raise _unknown(f"which entries stand before number {place} depends on a condition that cannot be known here")
    return entries[place]


def _unknown(why: str) -> UserError:
    return UserError(
        f"Which entry of GRUB's menu boots cannot be determined: {why}.",
        "Set GRUB_DEFAULT in /etc/default/grub to the identity of the entry that is meant, and run update-grub.",
    )
