# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Each wing of the core imports only those below it, and only what the other does not keep to itself.

from __future__ import annotations

import ast
from pathlib import Path
from typing import Iterator, Mapping, NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
PLUGINS = "ansible_collections.xen.stubdom.plugins."
# From the top. Above them are the modules and other plugins, which nothing imports. What plugins on the control machine
# share lies in a folder of its own, as Ansible wants it.
WINGS = ("plugin_utils", "_guests", "_images", "_boot", "_xen", "_common")


class Import(NamedTuple):
    """A file's use of something in a wing: parts are the wing, the files in it and the names in those."""

    file: str
    line: int
    parts: tuple[str, ...]


def wing(file: str) -> str:
    parts = file.split("/")
    return parts[1] if parts[0] == "module_utils" else parts[0]


def inside(name: str) -> tuple[str, ...]:
    """The parts of the name of something of ours, from its wing on; none for what is not ours."""
    if not name.startswith(PLUGINS):
        return ()
    parts = name[len(PLUGINS) :].split(".")
    return tuple(parts[1:] if parts[0] == "module_utils" else parts)


def attribute(node: ast.expr, known: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """What an expression like `files.Change.made` names, if it begins with a name that was imported from us."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return (*known[node.id], *names) if isinstance(node, ast.Name) and node.id in known else ()


def imports(file: str, text: str) -> Iterator[Import]:
    """Everything of ours that a file imports, and the attributes of it that the file names."""
    tree = ast.parse(text)
    known: dict[str, tuple[str, ...]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = {alias.asname or alias.name: inside(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: Ansible packs no relative import of ours"
            found = {alias.asname or alias.name: inside(f"{node.module}.{alias.name}") for alias in node.names}
        else:
            continue
        for name, parts in found.items():
            if parts:
                known[name] = parts
                yield Import(file, node.lineno, parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (parts := attribute(node, known)):
            yield Import(file, node.lineno, parts)


def height(name: str) -> int:
    return WINGS[::-1].index(name) if name in WINGS else len(WINGS)


def mistakes(files: Mapping[str, str]) -> list[str]:
    """What is wrong with the imports of these files, which are named from plugins/ on."""
    found = []
    for name, text in files.items():
        here = wing(name)
        for file, line, parts in imports(name, text):
            there = parts[0]
            where = f"plugins/{file}:{line}: {here} imports {'.'.join(parts)}"
            if there == here and here in WINGS:
                continue
            if there.startswith("_") and there not in WINGS:
                found.append(f"{where}, which is in no wing")
            elif height(there) >= height(here):
                found.append(f"{where}, which is above it or beside it")
            elif any(part.startswith("_") for part in parts[1:]):
                found.append(f"{where}, which {there} keeps to itself")
    return found


def arrows(files: Mapping[str, str]) -> set[tuple[str, str]]:
    found = {(wing(one.file), one.parts[0]) for name, text in files.items() for one in imports(name, text)}
    return {(here, there) for here, there in found if here != there}


def plugins() -> dict[str, str]:
    root = REPOSITORY / "plugins"
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*.py"))}


def test_no_import_runs_up_or_into_what_is_private() -> None:
    assert mistakes(plugins()) == []


def test_every_folder_is_a_wing() -> None:
    folders = {path.name for path in (REPOSITORY / "plugins" / "module_utils").iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} == set(WINGS) - {"plugin_utils"}


def test_arrows_are_few(record_property: pytest.RecordProperty) -> None:
    found = sorted(arrows(plugins()))
    print(f"{len(found)} arrows between wings: " + ", ".join(f"{here} -> {there}" for here, there in found))
    record_property("arrows", len(found))
    assert len(found) <= 23


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("module_utils/_xen/a.py", "from {}_boot import memory", "above it"),
        ("module_utils/_xen/a.py", "import {}_guests.plan as plan", "above it"),
        ("module_utils/_xen/a.py", "def late():\n    from {}_images import found", "above it"),
        ("module_utils/_boot/a.py", "from {}_common.files import _write", "keeps to itself"),
        ("module_utils/_boot/a.py", "from {}_common import _files", "keeps to itself"),
        ("module_utils/_boot/a.py", "from {}_common import files\nfiles._write()", "keeps to itself"),
        ("module_utils/_boot/a.py", "from {}_common import files\nfiles.write()", ""),
        ("module_utils/_boot/a.py", "from {}_boot.b import _c", ""),
        ("module_utils/_boot/a.py", "from {}_other import c", "in no wing"),
        ("modules/a.py", "from {}_common import files", ""),
        ("modules/a.py", "from ansible_collections.xen.stubdom.plugins.modules import b", "above it"),
        ("action/a.py", "from ansible_collections.xen.stubdom.plugins.modules import b", "above it"),
        ("action/a.py", "from ansible_collections.xen.stubdom.plugins.plugin_utils import b", ""),
        ("plugin_utils/a.py", "from ansible_collections.xen.stubdom.plugins.action import b", "above it"),
        ("module_utils/_guests/a.py", "from ansible_collections.xen.stubdom.plugins.plugin_utils import b", "above it"),
    ],
)
def test_a_wrong_import_is_found(name: str, text: str, wanted: str) -> None:
    found = mistakes({name: text.replace("{}", f"{PLUGINS}module_utils.")})
    assert len(found) == (1 if wanted else 0) and all(wanted in one for one in found)
