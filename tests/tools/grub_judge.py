# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which entry of a menu boots: asked of GRUB itself (grub-emu), of a model of it and of the collection, menu by menu.

The menus are those of grub_menus.py, one for each seed. GRUB runs as a program without disks; the commands that load a
kernel, which it does not have there, are functions that print their words and end it.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import string
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import grub_menus
from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line, grub_script
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import grub2
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import menus
from ansible_collections.xen.stubdom.plugins.module_utils._images.grub2 import program

# Stands around each word that GRUB prints when an entry has loaded what it boots.
MARK = "@@"
# GRUB waits for a key where nothing boots, and 2.5 seconds before a fallback entry (normal/menu.c).
SECONDS = 20
# What is put for parts of a generated menu, so that it starts at once and without graphics, and prints what it loads.
ADAPTED = ((r"^(\s*)linux(?=\s)", r"\1linux16"), (r"timeout=\d+", "timeout=0"), ("terminal_output gfxterm", "true"))
SECONDS_OF_NOTHING = 2


@dataclass(frozen=True)
class Answer:
    """What boots.

    :param words: the command that loads it with its words; None for nothing.
    """

    words: tuple[str, ...] | None

    @property
    def options(self) -> str | None:
        """What the hypervisor gets; None where none is started."""
        # 20_linux_xen writes entries for xen.efi too, which GRUB does not load by these commands.
        if self.words is None or self.words[0] not in grub_menus.XEN_COMMANDS or self.words[1].endswith(".efi"):
            return None
        return " ".join(command_line.configured_options(" ".join(self.words[2:])))

    def __str__(self) -> str:
        return "nothing" if self.words is None else " ".join(self.words)


def of_model(made: grub_menus.Made) -> Answer | None:
    """What the model says; None for a menu that it did not make."""
    if made.booted is None:
        return Answer(None) if made.nothing else None
    return Answer((made.booted.command, *made.booted.words))


def block(variables: Mapping[str, str]) -> bytes:
    """An environment block, as grub-editenv writes it (lib/envblk.c)."""
    lines = [f"{name}={value}" for name, value in variables.items()]
    text = "".join(line.replace("\\", "\\\\") + "\n" for line in lines)
    return ("# GRUB Environment Block\n" + text).encode().ljust(1024, b"#")


def prologue() -> str:
    commands = (*grub_menus.XEN_COMMANDS, *grub_menus.OTHER_COMMANDS)
    line = f'echo "{MARK}%s{MARK}"'
    functions = [
        f"function {name} {{ {line % name}; for word in $@; do {line % '$word'}; done; exit; }}\n" for name in commands
    ]
    return "".join(functions) + "set timeout=0\nexport timeout\n"


class Grub:
    """grub-emu, here or in another root directory."""

    def __init__(self, program: str, root: str | None) -> None:
        self.program = program
        self.root = root
        self.directory = Path(tempfile.mkdtemp(prefix="grub-judge-", dir=f"{root}/var/tmp" if root else None))

    def __enter__(self) -> Grub:
        return self

    def __exit__(self, *_error: object) -> None:
        shutil.rmtree(self.directory)

    def boot(self, made: grub_menus.Made) -> Answer:
        directory = Path(tempfile.mkdtemp(dir=self.directory))
        for name, text in made.files.items():
            (directory / name).write_text((prologue() if name == "grub.cfg" else "") + text)
        if made.grubenv:
            (directory / "grubenv").write_bytes(block(made.grubenv))
        (directory / "device.map").write_text("(hd0) /dev/null\n")
        inside = Path("/", directory.relative_to(self.root)) if self.root else directory
        command = [self.program, "-d", str(inside), "-m", str(inside / "device.map")]
        if self.root:
            command = ["chroot", self.root, *command]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                timeout=SECONDS_OF_NOTHING if made.nothing else SECONDS,
                env={**os.environ, "LC_ALL": "C", "TERM": "dumb"},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Answer(None)
        return Answer(tuple(done.stdout.decode("utf-8", "replace").split(MARK)[1::2]) or None)


def of_collection(made: grub_menus.Made) -> tuple[Answer, str | None, str]:
    """What the collection says: what boots, the options of the hypervisor, and why there are none."""
    blocks = {"grubenv": block(made.grubenv)} if made.grubenv else {}
    files = {**{name: text.encode() for name, text in made.files.items()}, **blocks}
    texts = {f"/menu/{name}": content.decode("latin-1") for name, content in files.items()}
    host = grub_script.Host(texts.get, "/menu", grub_menus.PLATFORM, ())
    said = grub2.next_boot("/menu/grub.cfg", host)
    try:
        menu = grub_script.run("/menu/grub.cfg", host)
        entry, place = grub_script.chosen(menu, host)
        commands = grub_script.commands(entry, place, host)
    except UserError as error:
        return Answer(None), said.options, f"{said.reason} {error}"
    names = (*grub_menus.XEN_COMMANDS, *grub_menus.OTHER_COMMANDS)
    booting = [command.words for command in commands if command.words[0] in names]
    return Answer(tuple(booting[0]) if booting else None), said.options, said.reason


def differences(name: str, made: grub_menus.Made, real: Answer) -> str:
    """What is said of a menu, where not all say the same; empty where they do."""
    entry, options, reason = of_collection(made)
    model = of_model(made)
    if model in (real, None) and entry.words == real.words and options == real.options:
        return ""
    files = "".join(f"---- {file}\n{text}" for file, text in made.files.items())
    return (
        f"{name}\nGRUB:       {real}\nmodel:      {model}\ncollection: {entry}; options {options}; {reason}\n"
        f"environment block: {made.grubenv}\n{files}"
    )


def generated(path: Path) -> Iterator[tuple[str, grub_menus.Made]]:
    """A menu that grub-mkconfig wrote, with each of its entries as the default one, by number, name and identity."""
    text = path.read_text()
    for pattern, instead in ADAPTED:
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    found = re.findall(r"^\s*(menuentry|submenu) '([^']*)'.*\$menuentry_id_option '([^']*)'", text, re.MULTILINE)
    names = [name for _kind, *both in found for name in both]
    inside = [*(identity for _kind, _title, identity in found), "0", "1", "2"]
    paths = [f"{name}>{other}" for kind, *both in found if kind == "submenu" for name in both for other in inside]
    for default in [*map(str, range(5)), *names, *paths, "gone"]:
        chosen, number = re.subn(r'set default="[^$"]*"', f'set default="{default}"', text)
        if number != 1:
            raise SystemExit(f"{path} does not set its default as grub-mkconfig does.")
        yield f"{path} with the default {default!r}", grub_menus.Made({"grub.cfg": chosen}, {}, None)


# What has a meaning in a script of GRUB turns up often, but for the letter of MARK.
MARKS = "$`;&|<>{}()[]#=!,:~^%"


def guest_menu(seed: int) -> tuple[grub_menus.Made, Answer]:
    """A menu of a guest that the collection writes, with any of its entries first, and what the first one loads."""
    chance = random.Random(seed)

    def word(more: str) -> str:
        return "".join(chance.choice(MARKS + more + string.ascii_letters) for _letter in range(chance.randint(1, 9)))

    def words(more: str) -> str:
        return " ".join(word(more) for _word in range(chance.randint(1, 4)))

    entries = [
        {"title": words("'\"\\'"), "kernel": "/" + word("'\"\\"), "cmdline": words(""), "initrd": "/" + word("'\"\\")}
        for _entry in range(chance.randint(1, 3))
    ]
    text = menus.grub2(entries, 0, [{"vdev": "xvda"}])
    adapted = re.sub(r"^  linux ", "  linux16 ", text, flags=re.MULTILINE)
    first = entries[0]
    return grub_menus.Made({"grub.cfg": adapted}, {}, None), Answer(
        ("linux16", first["kernel"], *first["cmdline"].split())
    )


def syntax(text: str, root: str | None) -> str:
    """What GRUB's own parser says of a script; empty where it takes it."""
    command = ["chroot", root] if root else []
    done = subprocess.run(
        [*command, "grub-script-check"], input=text, text=True, capture_output=True, check=False,
        env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    return f"grub-script-check: {done.stderr}" if done.returncode else ""


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grub", default="grub-emu", help="the program (default: %(default)s)")
    parser.add_argument("--root", help="a root directory that has the program")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default: %(default)s)")
    parser.add_argument("--menus", type=int, default=50, help="how many (default: %(default)s)")
    parser.add_argument("--generated", action="append", default=[], help="a menu of grub-mkconfig, in that directory")
    parser.add_argument(
        "--guests",
        type=int,
        default=0,
        help="how many menus of guests, and the program of GRUB 2 for guests (default: %(default)s)",
    )
    options = parser.parse_args(words)
    seeds = range(options.seed, options.seed + options.menus)
    made_menus = [(f"seed {seed}", grub_menus.make(seed)) for seed in seeds]
    for path in options.generated:
        made_menus += generated(Path(f"{options.root or ''}{path}"))
    with Grub(options.grub, options.root) as grub, ThreadPoolExecutor(os.cpu_count()) as pool:
        answers = pool.map(grub.boot, [made for _name, made in made_menus])
        reports = [differences(name, made, answer) for (name, made), answer in zip(made_menus, answers)]
        guests = [guest_menu(seed) for seed in range(options.seed, options.seed + options.guests)]
        for (made, expected), real in zip(guests, pool.map(grub.boot, [made for made, _expected in guests])):
            if real != expected:
                reports.append(f"of a guest\nGRUB:       {real}\nwritten:    {expected}\n{made.files['grub.cfg']}")
    if guests:
        reports.append(syntax(program.PROGRAM, options.root))
    different = list(filter(None, reports))
    total = len(made_menus) + len(guests)
    print("\n".join(different))
    print(
        f"{total} menus, of them those of the seeds {options.seed} to {options.seed + options.menus - 1}: "
        f"{total - len(different)} agree, {len(different)} do not"
    )
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
