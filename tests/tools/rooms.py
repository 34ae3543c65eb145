#!/usr/bin/env python3
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws the map of plugins/ in docs/architecture.md from the imports and the head comments of its files.

tests/tools/rooms.py            print the map, and fail if the page shows another one
tests/tools/rooms.py --write    bring the page up to date
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "architecture.md"
BEGIN, END = "<!-- map: begin -->", "<!-- map: end -->"
COLLECTION = "ansible_collections.xen.stubdom.plugins."
# From the top down: a wing imports only from those below it.
WINGS = ("action", "filter", "inventory", "modules", "plugin_utils", "_guests", "_images", "_boot", "_xen", "_common")
PRIVATE = "Private to the xen.stubdom collection: "


@dataclass(frozen=True)
class Room:
    """One file of plugins/: its wing, its name inside the wing, what it is for, and the wings it imports from."""

    wing: str
    name: str
    purpose: str
    uses: frozenset[str]


def wing_of(module: str) -> str | None:
    """The wing that a module belongs to, named as Python imports it."""
    if not module.startswith(COLLECTION):
        return None
    parts = module.removeprefix(COLLECTION).split(".")
    if parts[0] != "module_utils":
        return parts[0]
    return parts[1] if len(parts) > 1 else None


def imported(tree: ast.Module) -> Iterator[str]:
    """The wings that a file imports from."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # The last name may be a module itself: from ….module_utils import _boot
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from filter(None, map(wing_of, names))


def purpose(text: str, tree: ast.Module) -> str:
    """The first sentence of the head comment of a private file, or the short description of a module."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DOCUMENTATION":
            found = re.search(r"^short_description: (.*)$", ast.literal_eval(node.value), re.MULTILINE)
            return found[1] if found else ""
    # The licence stands in the first block, what the file is for in the second.
    head = re.sub(r"\n# ?", " ", text.split("\n\n")[1].removeprefix("# ")).removeprefix(PRIVATE)
    # A sentence ends where a blank or nothing follows its stop.
    return re.split(r"\.(?=\s|$)", head, maxsplit=1)[0]


def read(repository: Path) -> list[Room]:
    """All rooms, in the order of the wings."""
    plugins = repository / "plugins"
    rooms = []
    for wing in WINGS:
        directory = plugins / wing if not wing.startswith("_") else plugins / "module_utils" / wing
        for path in sorted(directory.rglob("*.py")):
            text = path.read_text()
            tree = ast.parse(text)
            if not tree.body:
                continue
            name = str(path.relative_to(directory).with_suffix("")).replace("/__init__", "/")
            uses = frozenset(imported(tree)) - {wing}
            rooms.append(Room(wing, name, purpose(text, tree), uses))
    return rooms


def in_order(wings: frozenset[str]) -> list[str]:
    return [wing for wing in WINGS if wing in wings]


def upwards(rooms: Sequence[Room]) -> list[str]:
    """Imports that run up."""
    rank = {wing: number for number, wing in enumerate(WINGS)}
    return [
        f"{room.wing}/{room.name} imports from {wing}"
        for room in rooms
        for wing in sorted(room.uses)
        if rank.get(wing, 0) < rank[room.wing]
    ]


def code(words: Sequence[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def draw(rooms: Sequence[Room]) -> str:
    """The map: which wing uses which, then the rooms of each."""
    lines = ["| Wing | uses |", "|---|---|"]
    for wing in WINGS:
        used = frozenset[str]().union(*(room.uses for room in rooms if room.wing == wing))
        lines.append(f"| `{wing}` | {code(in_order(used)) or 'nothing of ours'} |")
    for wing in WINGS:
        lines += ["", f"### `{wing}`", "", "| Room | What it is for | uses |", "|---|---|---|"]
        for room in (room for room in rooms if room.wing == wing):
            words = room.purpose.replace("|", "\\|").replace("<", "&lt;")
            lines.append(f"| `{room.name}` | {words} | {code(in_order(room.uses))} |")
    return "\n".join(lines)


def placed(page: str, drawn: str) -> str:
    """The page with the map between its two marks."""
    before, begin, rest = page.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"The page has no line {BEGIN} with a line {END} after it.")
    return f"{before}{BEGIN}\n\n{drawn}\n\n{END}{after}"


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="bring docs/architecture.md up to date")
    arguments = parser.parse_args(words)
    rooms = read(REPOSITORY)
    page = PAGE.read_text()
    wanted = placed(page, draw(rooms))
    if arguments.write:
        PAGE.write_text(wanted)
        return 0
    print(draw(rooms))
    wrong = upwards(rooms)
    if page != wanted:
        wrong.append("docs/architecture.md shows another map; tests/tools/rooms.py --write brings it up to date")
    print("\n".join(wrong), file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
