# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Menus of GRUB 2 made by chance, each with what its next boot starts.

A menu is made as a tree of statements that can be written as GRUB's script and carried out on a model of GRUB. So
nothing is parsed here, and what the model says owes nothing to the code that reads menus on hosts. Sources of the
model: normal/menu.c, script/execute.c, commands/{menuentry,test,loadenv}.c and kern/{env,misc}.c @ grub 2.06.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field

# Commands that load a kernel, none of which grub-emu has of its own.
XEN_COMMANDS = ("multiboot2", "multiboot")
OTHER_COMMANDS = ("linux16", "chainloader", "knetbsd")
# What grub-emu calls the machine.
PLATFORM = "emu"

# Variables that GRUB itself has exported.
EXPORTED = ("?", "grub_platform", "feature_menuentry_id", "prefix", "config_directory")


class Booted(Exception):
    """An entry has loaded what it boots."""

    def __init__(self, command: str, words: Sequence[str]) -> None:
        super().__init__(command)
        self.command = command
        self.words = tuple(words)


class Shown(Exception):
    """Nothing boots: GRUB waits for somebody to choose an entry."""


class Broken(Exception):
    """`break`, `continue` or `return`."""

    def __init__(self, kind: str, status: int = 0) -> None:
        super().__init__(kind)
        self.kind = kind
        self.status = status


# ---- words ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Word:
    """Pieces in a row: text as it is to be written, with what it means; or the name of a variable."""

    pieces: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        forms = {"variable": "${%s}", "short": "$%s", "quoted": '"${%s}"'}
        return "".join(_written(kind, text) if kind not in forms else forms[kind] % text for kind, text in self.pieces)

    def expand(self, machine: Machine) -> list[str]:
        """An unquoted variable is divided at its blanks, and gives no word where it is empty."""
        found: list[str | None] = [None]
        for kind, text in self.pieces:
            if kind in ("variable", "short"):
                parts = machine.words_of(text)
                for number, part in enumerate(parts):
                    if number:
                        found.append(None)
                    found[-1] = (found[-1] or "") + part
            else:
                value = machine.get(text) if kind == "quoted" else text
                found[-1] = (found[-1] or "") + value
        return [part for part in found if part is not None]


def _written(kind: str, text: str) -> str:
    if kind == "single":
        return "'" + text.replace("'", "'\\''") + "'"
    if kind == "double":
        return '"' + "".join("\\" + char if char in '"\\$' else char for char in text) + '"'
    return "".join(char if char.isalnum() or char in "_-=/.,:()+[]!" else "\\" + char for char in text)


def bare(text: str) -> Word:
    return Word((("bare", text),))


# ---- the model ------------------------------------------------------------------------------------------------------


@dataclass
class Entry:
    title: str
    identity: str
    arguments: tuple[str, ...]
    body: Block
    submenu: bool


@dataclass
class Context:
    """The variables of a menu, and whether they are handed on to a menu inside of it."""

    values: dict[str, str] = field(default_factory=dict)
    exported: set[str] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)


class Machine:
    """GRUB, as far as it decides what boots."""

    def __init__(self, files: dict[str, Block], grubenv: dict[str, str]) -> None:
        self.files = files
        self.grubenv = grubenv
        self.present = {*files, *(("grubenv",) if grubenv else ())}
        given = {"?": "0", "grub_platform": PLATFORM, "feature_menuentry_id": "y"}
        self.contexts = [Context(given | dict.fromkeys(("prefix", "config_directory"), "(host)/menu"), set(EXPORTED))]
        self.functions: dict[str, Block] = {}
        self.arguments: tuple[str, ...] = ()

    @property
    def context(self) -> Context:
        return self.contexts[-1]

    def get(self, name: str) -> str:
        if name in ("@", "*"):
            return " ".join(self.arguments)
        if name == "#":
            return str(len(self.arguments))
        if name.isdigit():
            return self.arguments[int(name) - 1] if 0 < int(name) <= len(self.arguments) else ""
        return self.context.values.get(name, "")

    def words_of(self, name: str) -> list[str]:
        return self.get(name).split()

    def set(self, name: str, value: str) -> None:
        self.context.values[name] = value

    def unset(self, name: str) -> None:
        self.context.values.pop(name, None)

    def boot(self, menu: Block) -> Booted | None:
        """What a menu starts when nobody touches a key; None for nothing."""
        try:
            self.run_file(menu)
            self.show()
        except Booted as booted:
            return booted
        except Shown:
            pass
        return None

    def run_file(self, statements: Block) -> None:
        # A `return` or a `break` at the top of a file ends nothing but itself.
        for statement in statements:
            try:
                statement.run(self)
            except Broken:
                pass

    def show(self) -> None:
        """Start the default entry of the menu that was read, and what stands in for one that starts nothing."""
        entries = self.context.entries
        if not entries:
            raise Shown
        chosen = self._default(entries)
        self.start(entries[chosen if chosen is not None and chosen < len(entries) else 0])
        while True:
            fallback, rest = number_in(self.context.values.get("fallback", ""))
            if fallback is None:
                raise Shown
            self.set("fallback", rest.lstrip())
            self.start(entries[fallback])

    def _default(self, entries: Sequence[Entry]) -> int | None:
        value = self.context.values.get("default")
        if value is None:
            return None
        number, _rest = number_in(value)
        if number is not None:
            return number
        first, _rest = split_path(value)
        return next((at for at, entry in enumerate(entries) if first in (entry.title, entry.identity)), None)

    def start(self, entry: Entry) -> None:
        outer = self.context.values.get("default")
        rest = split_path(outer)[1] if outer is not None else ""
        if entry.submenu:
            old = self.context
            new = Context({name: value for name, value in old.values.items() if name in old.exported})
            new.exported = set(old.exported)
            self.contexts.append(new)
        if rest:
            self.set("default", rest)
        else:
            self.unset("default")
        arguments, self.arguments = self.arguments, entry.arguments
        self.run_file(entry.body)
        self.arguments = arguments
        if entry.submenu:
            if self.context.entries:
                self.show()
            self.contexts.pop()
        if outer is None:
            self.unset("default")
        else:
            self.set("default", outer)


def number_in(text: str) -> tuple[int | None, str]:
    """The number at the beginning of a text and what follows it, as strtoul of GRUB finds them."""
    text = text.lstrip(" \t")
    base = 10
    if text[:2] == "0x":
        base, text = 16, text[2:]
    elif text[:1] == "0" and text[1:2] in tuple("01234567"):
        base = 8
    digits = "0123456789abcdef"[:base]
    length = next((at for at, char in enumerate(text) if char.lower() not in digits), len(text))
    return (int(text[:length], base) if length else None), text[length:]


def split_path(text: str) -> tuple[str, str]:
    """The first part of a path of titles, in which > divides and >> stands for one that does not, and the rest."""
    first = ""
    while text:
        if text.startswith(">>"):
            first, text = first + ">", text[2:]
        elif text.startswith(">"):
            return first, text[1:]
        else:
            first, text = first + text[0], text[1:]
    return first, ""


# ---- statements -----------------------------------------------------------------------------------------------------


class Statement(ABC):
    @abstractmethod
    def lines(self) -> Iterator[str]:
        """Its lines in a menu."""

    @abstractmethod
    def run(self, machine: Machine) -> int:
        """Carry it out and return its status."""


Block = Sequence[Statement]


def carry_out(block: Block, machine: Machine) -> int:
    status = 0
    for statement in block:
        status = statement.run(machine)
        machine.set("?", str(status))
    return status


@dataclass
class Raw(Statement):
    """Text that changes nothing that is looked at here: blank lines, comments, commands that prepare a boot."""

    text: str

    def lines(self) -> Iterator[str]:
        yield self.text

    def run(self, machine: Machine) -> int:
        return 0


@dataclass
class Command(Statement):
    """A command of GRUB, or a call of a function."""

    words: tuple[Word, ...]

    def lines(self) -> Iterator[str]:
        yield " ".join(map(str, self.words))

    def run(self, machine: Machine) -> int:
        words = [text for word in self.words for text in word.expand(machine)]
        inverted = words[:1] == ["!"]
        status = self._run(machine, words[inverted:]) if words[inverted:] else 0
        return int(not status) if inverted else status

    def _run(self, machine: Machine, words: Sequence[str]) -> int:
        name, *arguments = words
        if name == "set":
            variable, equals, value = arguments[0].partition("=")
            if equals:
                machine.set(variable, value)
        elif name == "unset":
            for variable in arguments:
                machine.unset(variable)
        elif name == "export":
            machine.context.exported.update(arguments)
            for variable in arguments:
                machine.context.values.setdefault(variable, "")
        elif name in ("[", "test"):
            return int(not Test(arguments[: -1 if name == "[" else None], machine.present).value())
        elif name == "false":
            return 1
        elif name == "load_env":
            found = {key: value for key, value in machine.grubenv.items() if not arguments or key in arguments}
            machine.context.values.update(found)
        elif name in ("source", ".", "configfile"):
            return self._other_file(machine, name, arguments[0])
        elif name in ("break", "continue"):
            raise Broken(name)
        elif name == "return":
            raise Broken(name, int(arguments[0]) if arguments else 0)
        elif name == "shift":
            machine.arguments = machine.arguments[1:]
        elif name in (*XEN_COMMANDS, *OTHER_COMMANDS):
            raise Booted(name, arguments)
        elif name in machine.functions:
            return self._function(machine, machine.functions[name], tuple(arguments))
        elif "=" in name:
            variable, _equals, value = name.partition("=")
            machine.set(variable, value)
        return 0

    @staticmethod
    def _other_file(machine: Machine, how: str, path: str) -> int:
        content = machine.files.get(path.rpartition("/")[2])
        if content is None:
            return 1
        if how != "configfile":
            machine.run_file(content)
            return 0
        old = machine.context
        machine.contexts.append(Context({name: old.values[name] for name in old.exported}, set(old.exported)))
        machine.run_file(content)
        if machine.context.entries:
            machine.show()
        machine.contexts.pop()
        return 0

    @staticmethod
    def _function(machine: Machine, body: Block, arguments: tuple[str, ...]) -> int:
        outer, machine.arguments = machine.arguments, arguments
        try:
            return carry_out(body, machine)
        except Broken as broken:
            return broken.status
        finally:
            machine.arguments = outer


@dataclass
class Test:
    """The command [ of GRUB: from left to right, ! turns the next one, and -o is weaker than a missing -a."""

    words: Sequence[str]
    files: Container[str]

    def value(self) -> bool:
        words, found, either, inverted = list(self.words), True, False, False
        while words:
            if len(words) > 2 and words[1] in COMPARISONS:
                result, words = COMPARISONS[words[1]](words[0], words[2]), words[3:]
            elif len(words) > 1 and words[0] in ("-n", "-z"):
                result, words = bool(words[1]) == (words[0] == "-n"), words[2:]
            elif len(words) > 1 and words[0] in ("-f", "-e", "-s", "-d"):
                result, words = words[1].rpartition("/")[2] in self.files, words[2:]
            elif words[0] == "!":
                inverted, words = not inverted, words[1:]
                continue
            elif words[0] == "-a":
                words = words[1:]
                continue
            elif words[0] == "-o":
                either, found, words = either or found, True, words[1:]
                continue
            else:
                result, words = bool(words[0]), words[1:]
            found, inverted = found and result != inverted, False
        return either or found


COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "=": lambda one, other: one == other,
    "==": lambda one, other: one == other,
    "!=": lambda one, other: one != other,
    "<": lambda one, other: one < other,
    ">": lambda one, other: one > other,
    "-eq": lambda one, other: number_in(one)[0] == number_in(other)[0],
    "-ne": lambda one, other: number_in(one)[0] != number_in(other)[0],
    "-gt": lambda one, other: (number_in(one)[0] or 0) > (number_in(other)[0] or 0),
    "-le": lambda one, other: (number_in(one)[0] or 0) <= (number_in(other)[0] or 0),
}


def indented(block: Block) -> Iterator[str]:
    for statement in block:
        for line in statement.lines():
            yield f"  {line}" if line else line


@dataclass
class If(Statement):
    """Conditions with what is done where they hold, and what is done where none does."""

    branches: Sequence[tuple[Statement, Block]]
    otherwise: Block = ()

    def lines(self) -> Iterator[str]:
        word = "if"
        for condition, block in self.branches:
            first, *rest = condition.lines()
            yield f"{word} {first}"
            yield from rest
            yield "then"
            yield from indented(block)
            word = "elif"
        if self.otherwise:
            yield "else"
            yield from indented(self.otherwise)
        yield "fi"

    def run(self, machine: Machine) -> int:
        for condition, block in self.branches:
            status = condition.run(machine)
            machine.set("?", str(status))
            if status == 0:
                return carry_out(block, machine)
        return carry_out(self.otherwise, machine)


@dataclass
class For(Statement):
    name: str
    words: Sequence[Word]
    body: Block

    def lines(self) -> Iterator[str]:
        yield f"for {self.name} in {' '.join(map(str, self.words))}; do"
        yield from indented(self.body)
        yield "done"

    def run(self, machine: Machine) -> int:
        status = 0
        for text in [text for word in self.words for text in word.expand(machine)]:
            machine.set(self.name, text)
            try:
                status = carry_out(self.body, machine)
            except Broken as broken:
                if broken.kind == "return":
                    raise
                if broken.kind == "break":
                    break
        return status


@dataclass
class While(Statement):
    condition: Statement
    body: Block
    until: bool = False

    def lines(self) -> Iterator[str]:
        yield f"{'until' if self.until else 'while'} {' '.join(self.condition.lines())}"
        yield "do"
        yield from indented(self.body)
        yield "done"

    def run(self, machine: Machine) -> int:
        status = 0
        for _round in range(100):
            if (self.condition.run(machine) == 0) == self.until:
                return status
            try:
                status = carry_out(self.body, machine)
            except Broken as broken:
                if broken.kind == "return":
                    raise
                if broken.kind == "break":
                    return status
        raise AssertionError("A loop of a menu has no end.")


@dataclass
class Function(Statement):
    name: str
    body: Block

    def lines(self) -> Iterator[str]:
        yield f"function {self.name} {{"
        yield from indented(self.body)
        yield "}"

    def run(self, machine: Machine) -> int:
        machine.functions[self.name] = self.body
        return 0


@dataclass
class Item(Statement):
    """A menuentry or a submenu. *before* and *after* are options, on each side of the title."""

    submenu: bool
    title: Word
    before: Sequence[Word]
    after: Sequence[Word]
    body: Block

    def lines(self) -> Iterator[str]:
        words = [*self.before, self.title, *self.after]
        yield f"{'submenu' if self.submenu else 'menuentry'} {' '.join(map(str, words))} {{"
        yield from indented(self.body)
        yield "}"

    def run(self, machine: Machine) -> int:
        words = [text for word in (*self.before, self.title, *self.after) for text in word.expand(machine)]
        identity, arguments = None, []
        while words:
            word = words.pop(0)
            if word == "--id":
                identity = words.pop(0)
            elif word.startswith("--id="):
                identity = word[5:]
            elif word in ("--class", "--users", "--hotkey"):
                words.pop(0)
            elif not word.startswith("--"):
                arguments.append(word)
        title = arguments[0]
        machine.context.entries.append(
            Entry(title, title if identity is None else identity, tuple(arguments), self.body, self.submenu)
        )
        return 0


# ---- menus by chance ------------------------------------------------------------------------------------------------

TITLES = (
    "Debian GNU/Linux", "Debian GNU/Linux, with Xen 4.17-amd64 and Linux 6.1.0-9-amd64", "Xen", "2 discs", "0x1 is hex",
    "a > b", ">> first", "it's mine", 'the "old" one', "back\\slash", "costs $5", "two  blanks", "12", "007", "-1",
    "{braces}", "semi;colon", "# hash", "Advanced options for Debian GNU/Linux", "UEFI Firmware Settings", "if", "done",
    "a=b", "tab\tstop", "[ x ]", "trailing >", "x|y&z",
)  # fmt: skip
IDENTITIES = ("gnulinux-simple-2f6e", "xen-gnulinux-2f6e", "xen", "3", "old > new", "linux 6", "0", "it's", "a$b")
ODD = ("", "gone", "99", "-1", ">", "010", "018", "0>gone", "gone>0", "99>1", "1 ", " 1")
NOTES = ("# a comment", "", "# menuentry 'none' {", "# set default=0 }", "  ", "true # set default=9")
PREPARATIONS = (
    "insmod part_gpt", "insmod ext2", "set root='hd0,msdos1'", "echo 'Loading Xen ...'", "recordfail=1",
    "search --no-floppy --fs-uuid --set=root 2f6e4f0a-0000-4000-8000-000000000001", 'if [ "$nothing" = x ]; then a; fi',
)  # fmt: skip


@dataclass(frozen=True)
class Made:
    """A menu: its files by name, the environment block, and what boots, or that it is known to boot nothing."""

    files: dict[str, str]
    grubenv: dict[str, str]
    booted: Booted | None
    nothing: bool = False


def make(seed: int) -> Made:
    """The menu of a seed."""
    return _Maker(random.Random(seed)).made()


def call(*words: str | Word) -> Command:
    return Command(tuple(bare(word) if isinstance(word, str) else word for word in words))


class _Maker:
    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.files: dict[str, Block] = {}
        self.grubenv: dict[str, str] = {}
        self.number = 0

    def made(self) -> Made:
        items = self.items(0)
        default = self.default(items)
        head = [*self.notes(), *self.head(default)]
        tail = self.rarely(0.1, lambda: [self.assignment("default", default)])
        body = self.split(head, self.placed(items), tail)
        machine = Machine(self.files, self.grubenv)
        booted = machine.boot(body)
        texts = {name: self.text(block) for name, block in self.files.items()}
        return Made({"grub.cfg": self.text(body), **texts}, self.grubenv, booted, booted is None)

    # ---- text -------------------------------------------------------------------------------------------------------

    def text(self, block: Block) -> str:
        lines = [line for statement in block for line in statement.lines()]
        joined = ""
        for number, line in enumerate(lines):
            follows = lines[number + 1].strip() if number + 1 < len(lines) else ""
            ends = not line.strip() or line.endswith(("{", "then", "do", "else")) or "#" in line or "\n" in line
            alone = follows[:1] in ("", "#", "}") or follows in ("then", "do")
            joined += line + ("\n" if ends or alone or self.chance.random() < 0.9 else "; ")
        return joined

    def word(self, text: str) -> Word:
        """A text as one word, quoted in one way or in several."""
        kind = self.chance.choice(("single", "double", "bare", "mixed"))
        if not text:
            return Word(((self.chance.choice(("single", "double")), ""),))
        if kind != "mixed" or len(text) < 2:
            return Word(((kind if kind != "mixed" else "single", text),))
        at = self.chance.randrange(1, len(text))
        return Word((*self.word(text[:at]).pieces, *self.word(text[at:]).pieces))

    def assignment(self, name: str, value: str) -> Statement:
        pieces = self.word(value).pieces
        text = Word((("bare", f"{name}="), *pieces))
        return Command((bare("set"), text)) if self.chance.random() < 0.7 else Command((text,))

    def notes(self) -> list[Statement]:
        return [Raw(self.chance.choice(NOTES)) for _ in range(self.chance.randrange(3))]

    def rarely(self, how: float, what: Callable[[], list[Statement]]) -> list[Statement]:
        return what() if self.chance.random() < how else []

    # ---- entries ----------------------------------------------------------------------------------------------------

    def items(self, depth: int) -> list[Item]:
        return [self.item(depth) for _ in range(self.chance.randrange(1, 6 - depth))]

    def item(self, depth: int) -> Item:
        submenu = depth < 2 and self.chance.random() < 0.25
        title = self.word(self.chance.choice(TITLES))
        options: list[list[Word]] = []
        if self.chance.random() < 0.6:
            identity = self.word(self.chance.choice(IDENTITIES))
            name = Word((("short", "menuentry_id_option"),)) if self.chance.random() < 0.4 else bare("--id")
            options.append([name, identity])
        options += [[bare("--class"), bare("xen")] for _ in range(self.chance.randrange(3))]
        options += [[bare("--unrestricted")]] if self.chance.random() < 0.2 else []
        self.chance.shuffle(options)
        at = self.chance.randrange(len(options) + 1) if self.chance.random() < 0.3 else 0
        before, after = ([word for option in part for word in option] for part in (options[:at], options[at:]))
        body = self.inside(depth) if submenu else self.commands()
        return Item(submenu, title, before, after, body)

    def inside(self, depth: int) -> Block:
        items: list[Statement] = [*self.items(depth + 1)]
        return [*self.rarely(0.2, lambda: [self.assignment("default", str(self.chance.randrange(3)))]), *items]

    def commands(self) -> Block:
        """What an entry does: it prepares, and loads something that its words tell from all others."""
        self.number += 1
        before = [Raw(self.chance.choice(PREPARATIONS)) for _ in range(self.chance.randrange(4))]
        if self.chance.random() < 0.06:
            return [*before, Raw("true")]
        words = [bare(f"entry={self.number}"), *(bare(f"word{at}=1") for at in range(self.chance.randrange(3)))]
        if self.chance.random() < 0.6:
            words = [bare("placeholder"), *words, *self.chance.choice(([], [Word((("variable", "xen_rm_opts"),))]))]
            load = call(self.chance.choice(XEN_COMMANDS), "/boot/xen-4.17-amd64.gz", *words)
        else:
            load = call(self.chance.choice(OTHER_COMMANDS), "/boot/vmlinuz", *words)
        body: list[Statement] = [load]
        if self.chance.random() < 0.2:
            body = [If([(self.truth(True), body)])]
        if self.chance.random() < 0.2:
            options = [
                If(
                    [(call("[", Word((("quoted", "grub_platform"),)), "=", "pc", "]"), [call("xen_rm_opts=")])],
                    [call("set", "xen_rm_opts=no-real-mode")],
                )
            ]
            body = [*options, *body]
        return [*before, *body, Raw("module2 /boot/vmlinuz placeholder root=/dev/vda1 ro")]

    def placed(self, items: Sequence[Item]) -> list[Statement]:
        """Entries as a menu has them: bare, behind conditions, made by functions and loops, in other files."""
        placed: list[Statement] = []
        for item in items:
            kind = self.chance.random()
            if kind < 0.7:
                placed.append(item)
            elif kind < 0.78:
                placed.append(If([(self.truth(True), [item])], [self.item(1)] if self.chance.random() < 0.5 else ()))
            elif kind < 0.84:
                placed.append(If([(self.truth(False), [self.item(1)]), (self.truth(True), [item])]))
            elif kind < 0.9:
                name = f"entries{len(placed)}"
                placed += [Function(name, [item]), call(name, "x", "y")]
            elif kind < 0.95:
                name = f"part{len(self.files)}.cfg"
                self.files[name] = [item]
                where = Word((("variable", self.chance.choice(("prefix", "config_directory"))), ("bare", f"/{name}")))
                placed.append(call(self.chance.choice(("source", ".")), where))
            else:
                title = Word((*item.title.pieces, ("variable", "k")))
                body = [Item(item.submenu, title, item.before, item.after, item.body)]
                placed.append(For("k", [bare(text) for text in "abc"[: self.chance.randrange(1, 4)]], body))
            placed += self.notes()
        return placed

    # ---- conditions -------------------------------------------------------------------------------------------------

    def truth(self, wanted: bool) -> Statement:
        """A condition that holds, or that does not."""
        unset, platform = Word((("quoted", "nothing"),)), Word((("quoted", "grub_platform"),))
        true = (
            call("true"), call("[", "a", "=", "a", "]"), call("[", "2", "-gt", "1", "]"), call("test", "-n", platform),
            call("[", "-z", unset, "]"), call("[", platform, "!=", "pc", "-a", "x", "]"),
            call("[", platform, "=", "pc", "-o", "010", "-eq", "8", "]"), call("[", "!", "a", "=", "b", "]"),
            call("[", Word((("bare", "x"), ("quoted", "feature_menuentry_id"))), "=", "xy", "]"),
            call("!", "false"), call("[", Word((("variable", "nothing"),)), "=", "y", "]"),
            call("[", "!", "a", "=", "a", "-o", "b", "=", "b", "]"),
        )  # fmt: skip
        false = (
            call("false"), call("[", "a", "=", "b", "]"), call("[", "10", "-le", "9", "]"), call("test", unset),
            call("[", "-n", unset, "]"), call("[", platform, "=", "efi", "]"), call("!", "true"),
            call("[", "a", "-a", "!", "b", "]"),
            call("[", "-f", Word((("variable", "prefix"), ("bare", "/none.cfg"))), "]"),
        )  # fmt: skip
        return self.chance.choice(true if wanted else false)

    # ---- the default ------------------------------------------------------------------------------------------------

    def default(self, items: Sequence[Item]) -> str:
        """The name of an entry, in one of the ways in which one can be named; now and then of none."""
        kind = self.chance.random()
        if kind < 0.05:
            return self.chance.choice(
                ("", "gone", "99", "-1", ">", "010", "018", "0>gone", "gone>0", "99>1", "1 ", " 1")
            )
        parts = []
        inside: Sequence[Item] = items
        while inside:
            at = self.chance.randrange(len(inside))
            parts.append(self.name(inside[at], at))
            if not inside[at].submenu or self.chance.random() < 0.2:
                break
            inside = [statement for statement in inside[at].body if isinstance(statement, Item)]
        return ">".join(parts) + self.chance.choice(("",) * 12 + (">", ">0"))

    def name(self, item: Item, at: int) -> str:
        title = "".join(text for _kind, text in item.title.pieces)
        words = [*item.before, *item.after]
        identities = [
            "".join(text for _kind, text in words[place + 1].pieces)
            for place, word in enumerate(words)
            if str(word) in ("--id", "$menuentry_id_option")
        ]
        kind = self.chance.random()
        if kind < 0.4:
            return self.chance.choice((str(at), str(at), str(at), hex(at), f"0{at}", f"{at}x"))
        return (identities[0] if identities and kind < 0.75 else title).replace(">", ">>")

    def head(self, default: str) -> list[Statement]:
        """What sets the default."""
        kinds = (
            self.plain,
            self.saved,
            self.conditional,
            self.function,
            self.loop,
            self.other,
            self.sourced,
            self.twice,
        )
        how = self.generated if self.chance.random() < 0.3 else self.chance.choice(kinds)
        identity = [
            If([(call("[", Word((("bare", "x"), ("quoted", "feature_menuentry_id"))), "=", "xy", "]"),
                 [call("menuentry_id_option=--id")])], [call("set", "menuentry_id_option=")]),
            call("export", "menuentry_id_option"),
        ]  # fmt: skip
        fallback = self.rarely(0.04, lambda: [self.assignment("fallback", self.chance.choice(("0", "0 0", "x")))])
        return [*how(default), *self.notes(), *identity, *fallback]

    @staticmethod
    def copied(variable: str) -> Command:
        """Set the default to the value of another variable."""
        return Command((bare("set"), Word((("bare", "default="), ("quoted", variable)))))

    def plain(self, default: str) -> list[Statement]:
        return [self.assignment("default", default)]

    def generated(self, default: str) -> list[Statement]:
        """As grub-mkconfig writes it."""
        variable = self.chance.choice(("next_entry", "saved_entry", "", ""))
        if variable:
            self.grubenv[variable] = default
        otherwise = self.copied("saved_entry") if variable == "saved_entry" else self.assignment("default", default)
        next_entry = Word((("quoted", "next_entry"),))
        taken = [self.copied("next_entry"), call("set", "next_entry="), call("set", "boot_once=true")]
        env = Word((("variable", "prefix"), ("bare", "/grubenv")))
        return [
            If([(call("[", "-s", env, "]"), [call("set", "have_grubenv=true"), call("load_env")])]),
            If([(call("[", next_entry, "]"), taken)], [otherwise]),
            Raw('function savedefault {\n  if [ -z "${boot_once}" ]; then\n    saved_entry="${chosen}"\n  fi\n}'),
        ]

    def saved(self, default: str) -> list[Statement]:
        self.grubenv |= {"mine": default, "default": "0"}
        names = self.chance.choice(((), ("mine",), ("mine", "other")))
        return [call("load_env", *names), self.copied("mine")]

    def conditional(self, default: str) -> list[Statement]:
        good, bad = [self.assignment("default", default)], [self.assignment("default", "1")]
        if self.chance.random() < 0.5:
            return [If([(self.truth(False), bad), (self.truth(True), good)], bad)]
        return [If([(self.truth(True), [If([(self.truth(False), bad)], good)])], bad)]

    def function(self, default: str) -> list[Statement]:
        body: list[Statement] = [self.copied(self.chance.choice(("1", "@", "*")))]
        if self.chance.random() < 0.3:
            body += [call("return", "0"), call("set", "default=1")]
        elif self.chance.random() < 0.3:
            body = [call("shift"), self.copied("1")]
            return [Function("pick", body), Command((bare("pick"), bare("none"), self.word(default)))]
        return [Function("pick", body), Command((bare("pick"), self.word(default)))]

    def loop(self, default: str) -> list[Statement]:
        chosen: list[Statement] = [self.copied("k"), call("break")]
        if self.chance.random() < 0.5:
            test = call("[", Word((("quoted", "k"),)), "=", self.word(default), "]")
            return [For("k", [bare("7"), self.word(default), bare("x")], [If([(test, chosen)])])]
        step = Command((Word((("bare", "n="), ("variable", "n"), ("bare", "1"))),))
        until = self.chance.random() < 0.5
        condition = call("[", Word((("quoted", "n"),)), "=" if until else "!=", "1111", "]")
        test = call("[", Word((("short", "n"),)), "-gt", "1110", "]")
        return [call("n="), While(condition, [step], until), If([(test, [self.assignment("default", default)])])]

    def other(self, default: str) -> list[Statement]:
        return [self.assignment("chosen_one", default), self.assignment("default", "1"), self.copied("chosen_one")]

    def sourced(self, default: str) -> list[Statement]:
        self.files["local.cfg"] = [self.assignment("default", default)]
        path = Word((("variable", "config_directory"), ("bare", "/local.cfg")))
        return [self.assignment("default", "1"), If([(call("[", "-f", path, "]"), [call("source", path)])])]

    def twice(self, default: str) -> list[Statement]:
        return [self.assignment("default", "1"), call("unset", "default"), *self.plain(default)]

    def split(self, head: Block, items: Block, tail: Block) -> Block:
        """Now and then the menu is another file, shown in the place of this one."""
        if self.chance.random() > 0.04:
            return [*head, *items, *tail]
        self.files["real.cfg"] = [*head, *items, *tail]
        return [*self.notes(), call("configfile", Word((("variable", "prefix"), ("bare", "/real.cfg"))))]
