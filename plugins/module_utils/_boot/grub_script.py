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

import functools
import itertools
import posixpath
import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Callable, Dict, FrozenSet, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

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
# How often loops may run in all; generated menus have none.
_MOST_ROUNDS = 1000

# How many words a menu may have, and how many commands of it are run to see what it starts. grub-mkconfig writes less
# than 300 words for a kernel.
_MOST_WORDS = 100_000
_MOST_COMMANDS = 150_000
# A word that is put together of variables may double with every command.
_LONGEST_WORD = 1 << 16

# None is a value that is not known.
Value = Optional[str]


@dataclass(frozen=True)
class Entry:
    """A menu entry as GRUB defines it when it runs the menu.

    :param certain: whether it is there whatever the conditions are that cannot be known here.
    :param file: the file that it stands in.
    :param body: the commands between its braces; empty for an entry of blscfg.
    :param position: where *body* begins in the file.
    :param arguments: what $1 and those after it are in the body; the title is the first.
    :param options: the options that it is defined with but for its identity, as they are written.
    :param restricted: whether only some users may start it, where GRUB knows users.
    :param asks: whether GRUB asks for a password before it starts the entry that `chosen` found, or may do so.
    """

    title: Value
    identity: Value
    submenu: bool
    body: str
    file: str = ""
    position: int = 0
    certain: bool = True
    arguments: Tuple[Value, ...] = ()
    options: Tuple[str, ...] = ()
    restricted: bool = True
    asks: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Host:
    """What a menu is run on.

    :param read: gives the content of a file by its path on the host, None where there is none.
    :param directory: where GRUB's files lie on the host ($prefix), for example /boot/grub.
    :param platform: "efi" or "pc", None where it is not known how the machine starts.
    :param bls: entries of the Boot Loader Specification in the order of blscfg: title, identity, commands.
    :param sectors: gives sectors of the partition that the directory is on, by the first one and their number; None
        where that is not known.
    """

    read: Callable[[str], Optional[str]]
    directory: str
    platform: Value = None
    bls: Sequence[Tuple[str, str, str]] = ()
    sectors: Callable[[int, int], Optional[str]] = lambda _first, _count: None

    @property
    def block(self) -> str:
        """Path of the environment block."""
        return f"{self.directory}/grubenv"

    def external(self) -> Optional[str]:
        """Return the environment block in the head of a file system that GRUB cannot write, such as Btrfs.

        The other block says where that is (openSUSE's GRUB, and GRUB since 2.14).
        """
        block = grub_menu.environment((self.read(self.block) or "").encode("latin-1"))
        place = _SECTORS.match(block.get("env_block", ""))
        return None if place is None else self.sectors(int(place[1]), int(place[2]))


@dataclass(frozen=True)
class Command:
    """A command that GRUB runs and this module does not, such as multiboot2 or linux.

    :param words: its name and arguments; one that is not known stands there as it is written.
    :param certain: whether it is run whatever the conditions are that cannot be known here.
    """

    words: Tuple[str, ...]
    certain: bool = True


class _Budget:
    """How many commands may still be run for a menu, whatever is asked of it."""

    def __init__(self) -> None:
        self.commands = _MOST_COMMANDS

    def take(self) -> None:
        self.commands -= 1
        if self.commands < 0:
            raise _too_large()


def _too_large() -> UserError:
    return UserError(
        f"The menu that GRUB reads has more than {_MOST_WORDS} words, or runs more than {_MOST_COMMANDS} commands.",
        "Simplify it, or generate it again with `update-grub` (or grub-mkconfig), then run again.",
    )


@dataclass
class Menu:
    """What a menu comes to.

    :param variables: all that were set; one that is not there is empty, one that is None is not known.
    :param exported: the variables that a menu inside of this one has too.
    :param functions: all that were defined; they are the same everywhere.
    :param commands: what is run outside of entries and decides nothing about them.
    """

    file: str
    variables: Dict[str, Value]
    entries: List[Entry] = field(default_factory=list)
    commands: List[Command] = field(default_factory=list)
    exported: FrozenSet[str] = frozenset()
    functions: Mapping[str, Tuple[_Node, ...]] = field(default_factory=dict)
    budget: _Budget = field(default_factory=_Budget, repr=False, compare=False)


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
    """for, with a name and words; or while and until, with a condition."""

    kind: str
    words: Tuple[str, ...]
    condition: Tuple[_Node, ...]
    body: Tuple[_Node, ...]


_Node = Union[_Command, _Block, _If, _Loop]


# The block may begin in a later line. Whether a hidden entry, which a key chooses, is counted is not known.
_DEFINING = ("menuentry", "submenu", "function", "hiddenentry")


class _Reader:
    """Turns the text of a menu into commands and blocks.

    :param position: where the text begins in its file.
    :param depth: how many blocks it is inside of.
    """

    def __init__(self, text: str, position: int = 0, depth: int = 0) -> None:
        self._text = text = grub_menu.without_returns(text)
        self._words = list(itertools.islice(grub_menu.words(text), _MOST_WORDS + 1))
        if len(self._words) > _MOST_WORDS:
            raise _too_large()
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
            # A block belongs to a command (parser.y).
            raise self._wrong(word)
        raw = self._raw(word)
        if raw == "if":
            return self._if()
        if raw in ("while", "until", "for"):
            self._at += 1
            given: List[str] = []
            while raw == "for" and self._at < len(self._words) and not self._keyword("do"):
                given.append(self._raw(self._words[self._at]))
                self._at += 1
            condition = () if raw == "for" else self.script("do")
            self._take("do")
            repeated = self.script("done")
            self._take("done")
            return _Loop(raw, tuple(given), condition, repeated)
        words = [raw]
        self._at += 1
        while self._at < len(self._words) and not self._words[self._at].first:
            word = self._words[self._at]
            if word.brace:
                if word.text == "{":
                    # The last argument of any command may be a block (parser.y).
                    return _Block(tuple(words), *self._braces())
                raise self._wrong(word)
            words.append(self._raw(word))
            self._at += 1
        word_after = self._words[self._at] if self._at < len(self._words) else None
        opens = word_after is not None and word_after.brace and word_after.text == "{"
        if opens and words[0] in _DEFINING:
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


@functools.lru_cache(maxsize=64)
def _script(text: str, position: int) -> Tuple[_Node, ...]:
    """Return the commands of a text; the same one is asked for several times in one run."""
    return _Reader(text, position).script()


# ---- running -------------------------------------------------------------------------------------------------------


class _State:
    """Variables, functions and entries at one moment."""

    def __init__(
        self,
        variables: Mapping[str, Value],
        exported: Iterable[str],
        functions: Mapping[str, Tuple[_Node, ...]],
        arguments: Tuple[Value, ...] = (),
    ) -> None:
        self.variables = dict(variables)
        self.exported = set(exported)
        self.functions = dict(functions)
        self.arguments = arguments
        self.entries: List[Entry] = []
        self.commands: List[Command] = []
        # break, continue or return, until what it ends has ended.
        self.leaving = ""
        # Set by configfile: the menu that is shown in the place of this one.
        self.instead: Optional[Menu] = None

    def leave(self, how: str) -> bool:
        self.leaving = how
        return True

    def copy(self) -> _State:
        twin = _State(self.variables, self.exported, self.functions, self.arguments)
        twin.entries = list(self.entries)
        twin.commands = list(self.commands)
        twin.leaving = self.leaving
        twin.instead = self.instead
        return twin

    def values(self, name: str) -> Sequence[Value]:
        """Return what a variable holds; $@ and $* may be several words."""
        if name in ("@", "*"):
            return self.arguments
        if name == "#":
            return (str(len(self.arguments)),)
        if name.isdigit():
            at = int(name) - 1
            return (self.arguments[at] if 0 <= at < len(self.arguments) else "",)
        return (self.variables.get(name, ""),)

    def words(self, raw: str) -> List[Value]:
        """Return what a word becomes: one without its quotes and with the values of its variables, or several or none.

        The value of a variable that is not quoted is divided at its blanks. None stands for what is not known.
        """
        if not _SPECIAL.search(raw):
            return [raw]
        found = _Words()
        for text, quoted, literal in _parts(raw):
            if literal:
                found.append(text)
                continue
            at = 0
            for match in _VARIABLE.finditer(text):
                if quoted or match.start() > at:
                    found.append(text[at : match.start()])
                at = match.end()
                name = match["braced"] if match["braced"] is not None else match["plain"]
                values = self.values(name)
                if quoted and name == "*":
                    values = (None if None in values else " ".join(value or "" for value in values),)
                for number, value in enumerate(values):
                    parts = [value] if quoted or value is None else value.split()
                    for place, part in enumerate(parts):
                        if (number and not place) or place:
                            found.next()
                        found.append(part)
            if quoted or at < len(text):
                found.append(text[at:])
        return found.done()

    def word(self, raw: str) -> Value:
        """Return what a word becomes that is one in any case."""
        words = self.words(raw)
        return None if None in words else " ".join(word or "" for word in words)

    def merge(self, one: _State, other: _State) -> None:
        """Become what is common to two ways that may both have been gone."""
        names = {*one.variables, *other.variables}
        self.variables = {
            name: one.variables.get(name, "") if one.variables.get(name, "") == other.variables.get(name, "") else None
            for name in names
        }
        self.exported = one.exported | other.exported
        self.arguments = one.arguments if one.arguments == other.arguments else (None,) * len(one.arguments)
        if one.leaving != other.leaving:
            raise _unknown("how its loops and functions end depends on a condition that cannot be known here")
        self.leaving = one.leaving
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

    def __init__(self, host: Host, budget: _Budget) -> None:
        self._host = host
        self._budget = budget
        self._forks = 0
        self._rounds = 0
        self._depth = 0
        self._file = ""
        self._in_entry = False

    def file(
        self,
        path: str,
        variables: Mapping[str, Value],
        exported: Iterable[str],
        functions: Mapping[str, Tuple[_Node, ...]],
    ) -> Menu:
        text = self._host.read(path)
        if text is None:
            raise UserError(f"There is no {path}, which GRUB reads its menu from.", "Generate it with `update-grub`.")
        state = _State(variables, exported, functions)
        self._run_text(path, text, state)
        return self._menu(path, state)

    def submenu(self, entry: Entry, menu: Menu, default: Optional[str]) -> Menu:
        """Run the body of a submenu, whose variables are those that were exported (grub_menu_execute_entry)."""
        variables = {name: value for name, value in menu.variables.items() if name in menu.exported}
        if default is not None:
            variables["default"] = default
        state = _State(variables, menu.exported, menu.functions, entry.arguments)
        self._run_text(entry.file, entry.body, state, entry.position)
        return self._menu(entry.file, state)

    def commands(self, entry: Entry, menu: Menu) -> List[Command]:
        self._in_entry = True
        state = _State(menu.variables, menu.exported, menu.functions, entry.arguments)
        self._run_text(entry.file, entry.body, state, entry.position)
        return state.commands

    def _menu(self, path: str, state: _State) -> Menu:
        if state.instead is not None:
            return state.instead
        return Menu(
            path,
            state.variables,
            state.entries,
            state.commands,
            frozenset(state.exported),
            state.functions,
            self._budget,
        )

    def _run_text(self, path: str, text: str, state: _State, position: int = 0) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise UserError(f"{path} is read by files that read one another without end.", "Break the circle.")
        before, self._file = self._file, path
        for node in _script(text, position):
            # Outside of loops and functions there is nothing to end.
            state.leaving = ""
            self._run((node,), state)
        state.leaving = ""
        self._file = before
        self._depth -= 1

    def _run(self, nodes: Sequence[_Node], state: _State) -> Optional[bool]:
        """Run commands and return whether the last one succeeds, None where that is not known."""
        status: Optional[bool] = True
        for node in nodes:
            if state.instead is not None or state.leaving:
                break
            self._budget.take()
            if isinstance(node, _If):
                status = self._if(node.branches, node.otherwise, state)
            elif isinstance(node, _Loop):
                status = self._for(node, state) if node.kind == "for" else self._while(node, state)
            elif isinstance(node, _Block):
                status = self._define(node, state)
            else:
                status = self._command(node.words, state)
            state.variables["?"] = None if status is None else "0" if status else "1"
        return status

    def _for(self, loop: _Loop, state: _State) -> Optional[bool]:
        name, *raws = loop.words or ("",)
        words = [word for raw in raws[1:] for word in state.words(raw)]
        status: Optional[bool] = True
        for word in words:
            state.variables[name] = word
            status = self._round(loop, state)
            if self._ended(state):
                break
        return status

    def _while(self, loop: _Loop, state: _State) -> Optional[bool]:
        status: Optional[bool] = True
        while True:
            holds = self._run(loop.condition, state)
            if holds is None:
                # What the loop changes is not known any more, however often it runs.
                self._either(partial(self._round, loop), partial(self._run, ()), state)
                self._ended(state)
                return None
            if holds == (loop.kind == "until"):
                return status
            status = self._round(loop, state)
            if self._ended(state):
                return status

    def _round(self, loop: _Loop, state: _State) -> Optional[bool]:
        self._rounds += 1
        if self._rounds > _MOST_ROUNDS:
            raise _unknown(f"its loops run more than {_MOST_ROUNDS} times")
        return self._run(loop.body, state)

    @staticmethod
    def _ended(state: _State) -> bool:
        """Whether the round that was run is the last one."""
        leaving = state.leaving
        if leaving in ("break", "continue"):
            state.leaving = ""
        return leaving in ("break", "return") or state.instead is not None

    def _call(self, name: str, words: Sequence[Value], state: _State) -> Optional[bool]:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _unknown("its functions call one another without end")
        before, state.arguments = state.arguments, tuple(words)
        status = self._run(state.functions[name], state)
        state.arguments, state.leaving = before, ""
        self._depth -= 1
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

    def _define(self, block: _Block, state: _State) -> Optional[bool]:
        kind = block.words[0]
        if kind == "function":
            if len(block.words) > 1:
                state.functions[block.words[1]] = _script(block.body, block.position)
            return True
        if kind not in _DEFINING:
            return None
        identity: Value = None
        named = False
        arguments: List[Value] = []
        options: List[str] = []
        users = unrestricted = False
        words = iter([(word, raw) for raw in block.words[1:] for word in state.words(raw)])
        for word, raw in words:
            # Where the option is not known, it is the one that GRUB has had since 2.00.
            if word == "--id" or (word is None and raw.lstrip("$").strip("{}") == "menuentry_id_option"):
                identity, named = next(words, ("", ""))[0], True
            elif word is not None and word.startswith("--id="):
                identity, named = word[len("--id=") :], True
            elif word in ("--class", "--users", "--hotkey", "--source"):
                options += [raw, next(words, ("", ""))[1]]
                users |= word == "--users"
            elif word is None or not word.startswith("--"):
                arguments.append(word)
            else:
                options.append(raw)
                users |= word.startswith("--users=")
                unrestricted |= word == "--unrestricted"
        if not arguments:
            return False
        # GRUB takes the title for the identity of an entry without one (grub_normal_add_menu_entry).
        title = arguments[0]
        state.entries.append(
            Entry(
                title,
                identity if named else title,
                kind == "submenu",
                block.body,
                self._file,
                block.position,
                certain=kind != "hiddenentry",
                arguments=tuple(arguments),
                options=tuple(options),
                restricted=users or not unrestricted,
            )
        )
        return True

    def _command(self, given: Sequence[str], state: _State) -> Optional[bool]:
        words, raws = [], []
        for raw in given:
            for word in state.words(raw):
                words.append(word)
                raws.append(raw)
        return self._run_words(words, raws, state)

    def _run_words(self, words: Sequence[Value], raws: Sequence[str], state: _State) -> Optional[bool]:
        if not words:
            return True
        name = words[0]
        if name == "!":
            status = self._run_words(words[1:], raws[1:], state)
            return None if status is None else not status
        if name is not None and name in _HANDLERS:
            return _HANDLERS[name](self, words[1:], raws[1:], state)
        if name is not None and name in state.functions:
            return self._call(name, words[1:], state)
        if re.match(r"[A-Za-z_]\w*=", raws[0]) or (name is not None and "=" in name):
            return self._do_set(words, raws, state)
        # insmod, search, loadfont, …: nothing that decides about entries, but for whether it succeeds and what it sets.
        state.variables.update(dict.fromkeys(_set_by(words)))
        if name:
            shown = (raw if word is None else word for raw, word in zip(raws, words))
            state.commands.append(Command(tuple(word for word in shown if word)))
        return None

    def _do_set(self, words: Sequence[Value], raws: Sequence[str], state: _State) -> Optional[bool]:
        for raw, word in zip(raws[:1], words):
            name, equals, value = (raw.lstrip("\"'") if word is None else word).partition("=")
            if equals:
                state.variables[name] = None if word is None else value
        return True

    def _do_eval(self, words: Sequence[Value], _raws: Sequence[str], state: _State) -> Optional[bool]:
        if None in words:
            raise _unknown("it runs by `eval` what cannot be known here")
        self._run_text(self._file, " ".join(word or "" for word in words), state)
        return None

    def _do_unset(self, words: Sequence[Value], _raws: Sequence[str], state: _State) -> Optional[bool]:
        for word in words:
            state.variables[word or ""] = ""
        return True

    def _do_export(self, words: Sequence[Value], _raws: Sequence[str], state: _State) -> Optional[bool]:
        state.exported.update(word for word in words if word)
        return True

    def _do_return(self, words: Sequence[Value], _raws: Sequence[str], state: _State) -> Optional[bool]:
        state.leave("return")
        if not words:
            return True
        return None if words[0] is None else not _number(words[0])[0]

    def _do_shift(self, words: Sequence[Value], _raws: Sequence[str], state: _State) -> Optional[bool]:
        number = _number(words[0] or "")[0] if words else 1
        state.arguments = state.arguments[number or 0 :]
        return True

    def _do_setparams(self, words: Sequence[Value], _raws: Sequence[str], state: _State) -> Optional[bool]:
        state.arguments = tuple(words)
        return True

    def _do_load_env(self, words: Sequence[Value], raws: Sequence[str], state: _State) -> Optional[bool]:
        path = state.word("$prefix/grubenv")
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
        elsewhere = path is None and any("env_block" in raw for raw in raws)
        content = self._host.external() if elsewhere else None if found is None else self._host.read(found)
        if found is None and content is None:
            raise UserError(
                "The menu reads GRUB's environment from a file that cannot be found here.", "Look for `load_env` in it."
            )
        values = grub_menu.environment(None if content is None else content.encode("latin-1"))
        for name, value in values.items():
            if not chosen or name in chosen:
                state.variables[name] = value
        return content is not None

    def _do_source(self, words: Sequence[Value], raws: Sequence[str], state: _State) -> Optional[bool]:
        path = self._find(words, raws)
        content = None if path is None else self._host.read(path)
        if path is None:
            # What is in it is not known.
            state.entries.append(Entry(None, None, False, "", self._file, certain=False))
        if path is None or content is None:
            return None if path is None else False
        self._run_text(path, content, state)
        return True

    def _do_configfile(self, words: Sequence[Value], raws: Sequence[str], state: _State) -> Optional[bool]:
        if self._in_entry:
            state.commands.append(Command(("configfile", *raws)))
            return True
        path = self._find(words, raws)
        if path is None:
            raise UserError(
                "The menu hands over to another one in a place that cannot be found here.",
                "Look for `configfile` in it.",
            )
        if self._host.read(path) is None:
            return False
        # A new context has what was exported (grub-core/normal/context.c).
        kept = {name: value for name, value in state.variables.items() if name in state.exported}
        menu = self.file(path, kept, state.exported, state.functions)
        if menu.entries:
            state.instead = menu
        return True

    def _do_blscfg(self, _words: Sequence[Value], _raws: Sequence[str], state: _State) -> Optional[bool]:
        for title, identity, body in self._host.bls:
            state.entries.append(Entry(title, identity, False, body, self._file, restricted=False))
        return bool(self._host.bls)

    def _do_test(self, words: Sequence[Value], _raws: Sequence[str], _state: _State) -> Optional[bool]:
        return _test(words, self._has)

    def _has(self, kind: str, path: Value) -> Optional[bool]:
        """Whether a test of a file holds, such as -f. What is not a file may be a directory."""
        found = self._locate(path)
        if found is None:
            return None
        content = self._host.read(found)
        if content is None:
            return False if kind in ("-f", "-s") else None
        return kind != "-d" and (kind != "-s" or content != "")

    def _locate(self, path: Value) -> Optional[str]:
        """Return the path on the host of a file as GRUB names it; None for one on another file system."""
        # Patterns are names of several files (grub-core/commands/wildcard.c).
        if path is None or not path.startswith(_PREFIX) or _PATTERN.search(path):
            return None
        return posixpath.normpath(self._host.directory + path[len(_PREFIX) :])

    def _find(self, words: Sequence[Value], raws: Sequence[str]) -> Optional[str]:
        """Return the path of a file that is on the file system of / or /boot; None where it cannot be found."""
        found = self._locate(words[0] if words else None)
        named = _ON_A_DISK.match("" if found or not words else raws[0] if words[0] is None else words[0] or "")
        if named is None:
            return found
        there = [path for path in (named[1], f"/boot{named[1]}") if self._host.read(path) is not None]
        # One that would lead to itself is that of another disk.
        return there[0] if len(there) == 1 and there[0] != self._file else None


_SECTORS = re.compile(r"([0-9]{1,9})\+([0-9]{1,3})\Z")
# A path on a disk that is not known, such as that of $root.
_ON_A_DISK = re.compile(r'"?(?:\([^()"]*\))?(/[^$"*?[]*)"?\Z')
_PATTERN = re.compile(r"[*?[]")


def _set_by(words: Sequence[Value]) -> Iterator[str]:
    """Yield the variables that a command sets."""
    name = words[0] or ""
    for word, following in zip(words[1:], [*words[2:], None]):
        if word is not None and word.startswith("--set="):
            yield word[len("--set=") :].rpartition(":")[2]
        elif word in ("--set", "-s") and following is not None:
            yield following.rpartition(":")[2]
    yield from (word for word in words[1:] if name in ("read", "increment", "decrement") and word)
    # search.fs_uuid UUID VARIABLE
    yield from (word for word in words[2:3] if name.startswith("search.") and word)


# What $prefix and $config_directory stand for: the place is known by what it holds, not by GRUB's name of the disk.
_PREFIX = "(xen-stubdom-prefix)"
_Handler = Callable[[_Machine, Sequence[Value], Sequence[str], _State], Optional[bool]]
_HANDLERS: Mapping[str, _Handler] = {
    "true": lambda _machine, _words, _raws, _state: True,
    "false": lambda _machine, _words, _raws, _state: False,
    "set": _Machine._do_set,
    "unset": _Machine._do_unset,
    "eval": _Machine._do_eval,
    "export": _Machine._do_export,
    "load_env": _Machine._do_load_env,
    "source": _Machine._do_source,
    ".": _Machine._do_source,
    "configfile": _Machine._do_configfile,
    "blscfg": _Machine._do_blscfg,
    "break": lambda _machine, _words, _raws, state: state.leave("break"),
    "continue": lambda _machine, _words, _raws, state: state.leave("continue"),
    "return": _Machine._do_return,
    "shift": _Machine._do_shift,
    "setparams": _Machine._do_setparams,
    "[": _Machine._do_test,
    "test": _Machine._do_test,
}


def _test(words: Sequence[Value], has: Callable[[str, Value], Optional[bool]]) -> Optional[bool]:
    """The command test (test_parse in grub-core/commands/test.c), with None for what is not known.

    It goes from left to right: `!` turns the next result, and `-o` is weaker than `-a`, which may be left out.
    """
    end = len(words) - 1 if words and words[-1] == "]" else len(words)
    # What was found before each opening bracket.
    outer: List[Tuple[Optional[bool], Optional[bool], bool]] = []
    every: Optional[bool] = True
    some: Optional[bool] = False
    inverted = False
    at = 0
    while at < end:
        word = words[at]
        if at + 2 < end and words[at + 1] in _COMPARISONS:
            left, right = words[at], words[at + 2]
            compare = _COMPARISONS[words[at + 1] or ""]
            result = None if left is None or right is None else compare(left, right)
            at += 3
        elif at + 1 < end and word in ("-d", "-e", "-f", "-s"):
            result = has(word or "", words[at + 1])
            at += 2
        elif at + 1 < end and word in ("-n", "-z"):
            text = words[at + 1]
            result = None if text is None else bool(text) is (word == "-n")
            at += 2
        elif word in ("(", "!", "-a", "-o"):
            if word == "(":
                outer.append((every, some, inverted))
                every, some, inverted = True, False, False
            elif word == "!":
                inverted = not inverted
            elif word == "-o":
                every, some = True, _either(some, every)
            at += 1
            continue
        elif word == ")":
            result = _either(some, every)
            at += 1
            if not outer:
                return result
            every, some, inverted = outer.pop()
        else:
            result = None if word is None else bool(word)
            at += 1
        if inverted:
            result = None if result is None else not result
        every = False if False in (every, result) else None if None in (every, result) else True
        inverted = False
    result = _either(some, every)
    return result if not outer else None


def _either(one: Optional[bool], other: Optional[bool]) -> Optional[bool]:
    return True if True in (one, other) else None if None in (one, other) else False


def _signed(text: str) -> int:
    """Read a number as grub_strtosl does; what is none is 0."""
    negative = text.startswith("-")
    number = _number(text[negative:])[0] or 0
    return -number if negative else number


_COMPARISONS: Mapping[Optional[str], Callable[[str, str], Optional[bool]]] = {
    "=": lambda one, other: one == other,
    "==": lambda one, other: one == other,
    "!=": lambda one, other: one != other,
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
    "-eq": lambda one, other: _signed(one) == _signed(other),
    "-ne": lambda one, other: _signed(one) != _signed(other),
    "-lt": lambda one, other: _signed(one) < _signed(other),
    "-le": lambda one, other: _signed(one) <= _signed(other),
    "-gt": lambda one, other: _signed(one) > _signed(other),
    "-ge": lambda one, other: _signed(one) >= _signed(other),
    # Versions, and times of files, which are not known here.
    **dict.fromkeys(("-pgt", "-plt", "-nt", "-ot"), lambda _one, _other: None),
}


def _number(text: str) -> Tuple[Optional[int], str]:
    """Read a number as grub_strtoul does with base 0, and return what follows it; None where there is none."""
    text = text.lstrip(" \t\n\r")
    base = 10
    if text.startswith("0x"):
        base, text = 16, text[2:]
    elif re.match("0[0-7]", text):
        base = 8
    digits = _DIGITS[base].match(text)
    if digits is None:
        return None, text
    # More than 64 bits are an error.
    found = digits[0][:_LONGEST_NUMBER].lower()
    number = 0
    for digit in found:
        number = number * base + int(digit, 16)
    return number, text[digits.end() :]


_DIGITS = {8: re.compile("[0-7]+"), 10: re.compile("[0-9]+"), 16: re.compile("[0-9a-fA-F]+")}
_LONGEST_NUMBER = 30


class _Words:
    """Words that are put together of pieces."""

    def __init__(self) -> None:
        self._found: List[Value] = []
        # The pieces of the word at the end; None before the first one.
        self._parts: Optional[List[Value]] = None

    def append(self, part: Value) -> None:
        if self._parts is None:
            self._parts = []
        self._parts.append(part)

    def next(self) -> None:
        if self._parts is not None:
            word = None if None in self._parts else "".join(part or "" for part in self._parts)
            if word is not None and len(word) > _LONGEST_WORD:
                raise _too_large()
            self._found.append(word)
        self._parts = None

    def done(self) -> List[Value]:
        self.next()
        return self._found


_SPECIAL = re.compile(r"[$'\"\\]")
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[^}]*)\}|(?P<plain>[A-Za-z_]\w*|[0-9]+|[*@#?]))")


def _parts(raw: str) -> Iterator[Tuple[str, bool, bool]]:
    """Split a word into pieces: the text, whether it stands in quotes, and whether variables in it do not count."""
    at = 0
    while at < len(raw):
        char = raw[at]
        if char == "'":
            end = raw.find("'", at + 1)
            end = len(raw) if end < 0 else end
            yield raw[at + 1 : end], True, True
            at = end + 1
        elif char == '"':
            at += 1
            # It is a word even where nothing stands in it.
            yield "", True, True
            while at < len(raw) and raw[at] != '"':
                if raw[at] == "\\" and raw[at + 1 : at + 2] in ("$", '"', "\\", "\n"):
                    yield raw[at + 1 : at + 2].replace("\n", ""), True, True
                    at += 2
                    continue
                end = at + 1
                while end < len(raw) and raw[end] not in '"\\':
                    end += 1
                yield raw[at:end], True, False
                at = end
            at += 1
        elif char == "\\":
            yield raw[at + 1 : at + 2].replace("\n", ""), False, True
            at += 2
        else:
            end = at + 1
            while end < len(raw) and raw[end] not in "'\"\\":
                end += 1
            # $"..." is a text that may be translated.
            marked = raw[end - 1] == "$" and raw[end : end + 1] == '"'
            yield raw[at : end - marked], False, False
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
    return _Machine(host, _Budget()).file(path, variables, variables, {})


# Commands that load what boots, or leave the menu in another way. Where an entry has none of them, GRUB comes back from
# it and tries what `fallback` names (grub_menu_execute_with_fallback).
_LOADS = frozenset(
    {
        "appleloader", "boot", "chainloader", "configfile", "efi", "exit", "extract_syslinux_entries_configfile",
        "freedos", "fwsetup", "halt", "initrd", "kfreebsd", "knetbsd", "kopenbsd", "legacy_configfile", "legacy_kernel",
        "linux", "linux16", "linuxefi", "multiboot", "multiboot2", "normal", "normal_exit", "ntldr", "plan9",
        "pxechainloader", "reboot", "syslinux_configfile", "truecrypt", "xen_hypervisor", "xnu_kernel", "xnu_kernel64",
    }
)  # fmt: skip


def counts_down(menu: Menu) -> bool:
    """Whether GRUB starts the default entry by itself: a timeout that is no number, such as -1, is none at all.

    As grub_menu_get_timeout and grub_strtoul have it, which knows no sign. One that depends on a condition is one.
    """
    timeout = menu.variables.get("timeout", "")
    return timeout is None or _number(timeout)[0] is not None


def default_entry(menu: Menu, host: Host) -> Entry:
    """Return the entry that boots when nobody chooses another one; the default one where none boots anything.

    :raises UserError: the menu has no entry, or which one it is depends on what cannot be known here.
    """
    return chosen(menu, host)[0]


def chosen(menu: Menu, host: Host) -> Tuple[Entry, Menu]:
    """Return the entry that boots when nobody chooses another one, and the menu that it stands in.

    :raises UserError: as for default_entry.
    """
    booting, first = _boots(menu, host, 0)
    return booting or first


_Chosen = Tuple[Entry, Menu]


def _boots(menu: Menu, host: Host, depth: int) -> Tuple[Optional[_Chosen], _Chosen]:
    """Return the entry that boots, None where GRUB comes back from all that it tries, and the one it tries first."""
    name = menu.variables.get("default", "")
    if name is None:
        raise _unknown("its variable `default` depends on a condition that cannot be known here")
    part, rest = _first_part(name)
    booting, first = _starts(_choose(menu.entries, part), rest, menu, host, depth)
    fallback = menu.variables.get("fallback", "")
    while booting is None and fallback != "":
        if fallback is None:
            raise _unknown("its variable `fallback` depends on a condition that cannot be known here")
        number, fallback = _number(fallback)
        if number is None or number >= len(menu.entries):
            break
        _require_certain(menu.entries, number)
        booting, _first = _starts(menu.entries[number], rest, menu, host, depth)
    return booting, first


def _starts(entry: Entry, rest: str, menu: Menu, host: Host, depth: int) -> Tuple[Optional[_Chosen], _Chosen]:
    # grub_menu_execute_entry, and grub-core/normal/auth.c; each submenu on the way as well.
    if entry.restricted and menu.variables.get("superusers", "") != "":
        entry = replace(entry, asks=True)
    if not entry.submenu:
        loads = any(command.words[0] in _LOADS for command in commands(entry, menu, host))
        return ((entry, menu) if loads else None), (entry, menu)
    if depth > _DEEPEST:
        raise _unknown("its submenus have no end")
    # What stands behind > becomes `default`; the submenu, which is run then, may set it (grub_menu_execute_entry).
    inside = _Machine(host, menu.budget).submenu(entry, menu, rest)
    if not inside.entries:
        return None, (entry, menu)
    if entry.asks:
        inside.entries = [replace(one, asks=True) for one in inside.entries]
    return _boots(inside, host, depth + 1)


def submenu(entry: Entry, menu: Menu, host: Host) -> Menu:
    """Return what a submenu holds.

    :raises UserError: it is not understood.
    """
    return _Machine(host, menu.budget).submenu(entry, menu, None)


def commands(entry: Entry, menu: Menu, host: Host) -> List[Command]:
    """Return the commands that an entry runs when it is started.

    :param menu: the one that the entry stands in.
    """
    return _Machine(host, menu.budget).commands(entry, menu)


def _first_part(name: str) -> Tuple[str, str]:
    """Split at the first > that leads into a submenu; >> stands for the character."""
    match = re.match(r"((?:[^>]|>>)*)>?", name)
    if match is None:
        return name, ""
    return match[1].replace(">>", ">"), name[match.end() :]


def _choose(entries: Sequence[Entry], name: str) -> Entry:
    """Find an entry as get_entry_number does, and the first one where there is none such (run_menu)."""
    if not entries:
        raise UserError(
            "The menu that GRUB reads has no entries.", "Generate it with `update-grub` (or grub-mkconfig)."
        )
    place, _rest = _number(name)
    if place is None and name:
        for at, entry in enumerate(entries):
            if name in (entry.title, entry.identity):
                if entry.certain:
                    return entry
                raise _unknown(f"whether there is an entry {name!r} depends on a condition that cannot be known here")
            if entry.title is None or entry.identity is None:
                raise _unknown(f"the name of its entry {at} depends on what cannot be known here")
    place = 0 if place is None or place >= len(entries) else place
    _require_certain(entries, place)
    return entries[place]


def _require_certain(entries: Sequence[Entry], place: int) -> None:
    if not all(entry.certain for entry in entries[: place + 1]):
        raise _unknown(f"which entries stand before number {place} depends on a condition that cannot be known here")


def _unknown(why: str) -> UserError:
    return UserError(
        f"Which entry of GRUB's menu boots cannot be determined: {why}.",
        "Set GRUB_DEFAULT in /etc/default/grub to the identity of the entry that is meant, and run update-grub.",
    )
