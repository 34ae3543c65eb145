#!/usr/bin/env python3
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws the table of docs/distributions.md from the trees of distributions that the unit tests read.

tests/tools/boot_trees.py            print the table, and fail if the page shows another one
tests/tools/boot_trees.py --write    bring the page up to date
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "distributions.md"
TREES = REPOSITORY / "tests/unit/plugins/module_utils/_boot/fixtures/distributions"
BEGIN, END = "<!-- trees: begin -->", "<!-- trees: end -->"
LOADERS = {"grub2": "GRUB 2", "efi_cfg": "xen.efi", "extlinux": "extlinux", "grub_legacy": "GRUB 0.97"}
GENERATORS = ("update-grub", "grub2-mkconfig", "grub-mkconfig", "update-extlinux")


def order(path: Path) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.stem)]


def row(tree: dict[str, Any]) -> str:
    """What a tree has, and what was written down of it by hand."""
    expected = tree["expected"]
    if "refused" in expected:
        return f"| {tree['name']} | not known: {expected['refused']} | | |"
    names = {path.rpartition("/")[2] for path in (*tree.get("programs", ()), *tree["files"])}
    generator = next((f"; the menu is made by `{name}`" for name in GENERATORS if name in names), "")
    boots = f"`{expected['entry']}`, without Xen" if expected["boots"] is None else f"Xen, by `{expected['entry']}`"
    written = ", ".join(f"`/{path}`" for path in expected.get("changes", ()))
    if "refusal" in expected:
        written = f"refused; `{expected['refusal']}` is said instead"
    return f"| {tree['name']} | {LOADERS[expected['loader']]} | {boots} | {written}{generator} |"


def draw(directory: Path) -> str:
    """The table of all trees."""
    rows = [row(yaml.safe_load(path.read_text())) for path in sorted(directory.glob("*.yml"), key=order)]
    return "\n".join(
        ["| Distribution | Boot loader | Boots as installed | Xen's options go to |", "|---|---|---|---|", *rows]
    )


def placed(page: str, table: str) -> str:
    """The page with this table."""
    before, _begin, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.partition(END)[2]}"


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="bring the page up to date")
    options = parser.parse_args(words)
    table = draw(TREES)
    page = PAGE.read_text()
    wanted = placed(page, table)
    if options.write:
        PAGE.write_text(wanted)
        return 0
    print(table)
    return int(page != wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
