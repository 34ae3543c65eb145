# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What writes, links or removes files on a host is _common/files.py, or stands in the table below with its reason."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Iterator

import pytest

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"

# As whoever may write there only, in directories that belong to the account that builds.
BUILDS = "works as the account that builds, below the directory that is its own"
WRITERS = {
    "module_utils/_common/files.py": "is the writer",
    "module_utils/_common/place.py": "makes directories for the writer, by descriptors",
    "module_utils/_guests/guest_disk.py": "makes a node of a disk below /dev, which is in memory",
    "module_utils/_guests/migration.py": "renames links, by descriptors",
    "module_utils/_guests/saved.py": "renames and removes, by descriptors, what xl has written",
    "module_utils/_xen/toolstack.py": "writes a file that is in memory only",
    "module_utils/_images/account.py": "makes the directory of the account that builds, by descriptors",
    "module_utils/_images/bounds.py": "makes control groups, which are no files",
    "module_utils/_images/build_job.py": BUILDS,
    "module_utils/_images/build_status.py": BUILDS,
    "module_utils/_images/build_tree.py": BUILDS,
    "module_utils/_images/fetch/apt.py": BUILDS,
    "module_utils/_images/fetch/archive.py": BUILDS,
    "module_utils/_images/fetch/git.py": BUILDS,
    "module_utils/_images/fetch/store.py": BUILDS,
    "module_utils/_images/grub2/recipe.py": "packs an archive that is in memory only",
    "module_utils/_images/kept.py": "renames whole directories of files that the writer has written",
}

CHANGING = {
    "os": r"f?chmod|[fl]?chown|f?truncate|link|make\w+|mk\w+|remove\w*|renames?|replace|rmdir|setxattr|symlink|unlink",
    "shutil": r"chown|copy\w*|move|rmtree",
    "tempfile": r"mk\w+|\w*Temporary\w+",
    # Of pathlib; its `replace` and `rename` are not looked for, as text and times have a `replace`, too.
    "": r"write_(text|bytes)|(sym|hard)link_to|touch",
}
MODE = re.compile(r"""["'](?=\w*[wax+])[rwaxbt+]{1,3}["']""")
FLAGS = re.compile("O_(WRONLY|RDWR|CREAT)")


def changes(module: str, name: str) -> bool:
    return re.fullmatch(CHANGING.get(module, CHANGING[""]), name) is not None


def writes(text: str) -> Iterator[tuple[int, str]]:
    """What changes files, by line: also a function that is only handed on, as that is called, too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, one.name) for one in node.names if changes(node.module or "", one.name))
        elif isinstance(node, ast.Attribute) and changes(ast.unparse(node.value), node.attr):
            yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = [ast.unparse(one) for one in (*node.args, *(keyword.value for keyword in node.keywords))]
            wrong = FLAGS.search if called == "os.open" else MODE.fullmatch
            if re.fullmatch(r"(\w+\.)*(open|fdopen)", called) and any(map(wrong, given)):
                yield node.lineno, called


def on_a_host() -> Iterator[Path]:
    for folder in ("modules", "module_utils"):
        yield from sorted((PLUGINS / folder).rglob("*.py"))


def test_there_is_one_writer() -> None:
    found = {
        f"plugins/{name}:{line}: {call}"
        for path in on_a_host()
        if (name := str(path.relative_to(PLUGINS))) not in WRITERS
        for line, call in writes(path.read_text())
    }
    assert found == set()


@pytest.mark.parametrize("name", WRITERS)
def test_whoever_is_in_the_table_writes(name: str) -> None:
    assert list(writes((PLUGINS / name).read_text()))


@pytest.mark.parametrize(
    "line",
    [
        "os.replace(a, b)",
        "with open(a, 'w', encoding='utf-8') as stream: pass",
        "open(a, mode='ab')",
        "os.open(a, os.O_WRONLY | os.O_CREAT)",
        "shutil.rmtree(a)",
        "tempfile.TemporaryDirectory()",
        "Path(a).write_text(b)",
        "partial(os.unlink, a)",
        "from shutil import rmtree",
    ],
)
def test_a_writer_is_found(line: str) -> None:
    assert list(writes(line))


@pytest.mark.parametrize("line", ["open(a)", "open(a, 'rb')", "os.open(a, os.O_RDONLY)", "a.replace('x', 'y')"])
def test_a_reader_is_none(line: str) -> None:
    assert list(writes(line)) == []
