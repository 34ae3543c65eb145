# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Commands of the contributors' page exist, and its recipes touch the files that they name: a recipe's change is taken
# back in a copy of the collection, which then lacks what the recipe adds, and nothing else.

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "bin")]

import _test

PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text()
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
UTILS = "ansible_collections.xen.stubdom.plugins.module_utils"
# Programs that a contributor's machine has, or that the page has installed before.
PROGRAMS = {"python3", ".venv/bin/pip", ".venv/bin/pytest"}


def section(title: str) -> str:
    found = re.search(rf"^### {title}\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None, title
    return found[1]


def files(title: str) -> list[str]:
    return re.findall(r"^\| \[[^]]+\]\(([^)]+)\) \|", section(title), re.MULTILINE)


def product(title: str) -> list[str]:
    """The files of code among them."""
    rows = re.findall(r"^\| \[[^]]+\]\(([^)]+)\) \| (.+) \|$", section(title), re.MULTILINE)
    return [name for name, what in rows if name.startswith("plugins/") and not what.startswith("documentation: ")]


def commands() -> Iterator[list[str]]:
    """All command lines of the page: those of blocks, and those in the text that begin with one of our programs."""
    for language, text in BLOCK.findall(PAGE):
        if language == "sh":
            for line in text.splitlines():
                yield line.partition(" #")[0].split()
    plain = BLOCK.sub("", PAGE)
    for words in re.findall(r"`([^`]+)`", plain):
        if re.match(r"(bin|lab)/\w+( |$)|(nox|pre-commit|pytest) ", words):
            yield words.split()


def wrong(words: list[str]) -> str | None:
    """What is wrong with a command, None if nothing is."""
    program = words[0]
    if program == "bin/test" and words[1:2] == ["--in"]:
        tier, inner = words[2], words[3:]
        if tier not in _test.TIERS:
            return f"no tier {tier}"
        scenario = inner[inner.index("--scenario-name") + 1]
        return None if (REPOSITORY / "molecule" / scenario).is_dir() else f"no scenario {scenario}"
    if program == "bin/test":
        return wrong_part([word for word in words[1:] if word != "--coverage"])
    if program.startswith(("bin/", "lab/", "tests/")):
        return None if (REPOSITORY / program).is_file() else f"no program {program}"
    for name in (word for word in words[1:] if word.startswith(("requirements/", "tests/"))):
        if not (REPOSITORY / name).exists():
            return f"no file {name}"
    return None if program in PROGRAMS or shutil.which(program) else f"no program {program}"


def wrong_part(words: list[str]) -> str | None:
    try:
        asked = _test.plan(words)
    except ValueError as error:
        return str(error)
    for tier, parts in asked.items():
        for part in parts:
            place = REPOSITORY / part if tier in ("unit", "docs") else REPOSITORY / "molecule" / part
            if tier in ("unit", "docs", "chroot", "xen") and not place.exists():
                return f"no {part} for the tier {tier}"
    return None


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_exists(words: list[str]) -> None:
    assert wrong(words) is None


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert wrong(["bin/nothing"]) == "no program bin/nothing"
    assert wrong(["no-such-program"]) == "no program no-such-program"
    assert wrong(["bin/test", "units"]) is not None
    assert wrong(["bin/test", "unit/tests/none"]) is not None
    assert wrong(["bin/test", "xen/none"]) is not None
    assert wrong(["bin/test", "--in", "xen", "molecule", "test", "--scenario-name", "none"]) == "no scenario none"


@pytest.mark.parametrize(
    ("title", "number"),
    [
        ("Add a Xen release", 1),
        ("Add a boot loader", 2),
        ("Add a distribution", 1),
        ("Add a module option", 3),
        ("Add a parameter of a guest", 2),
    ],
)
def test_recipes_name_files_that_there_are(title: str, number: int) -> None:
    assert [name for name in files(title) if not (REPOSITORY / name).exists()] == []
    assert len(product(title)) == number
    assert any(name.startswith("tests/") for name in files(title))
    patched = re.findall(r"^\+\+\+ b/(.+)$", section(title), re.MULTILINE)
    assert set(patched) <= set(product(title))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the code, where it can be imported."""
    collection = tmp_path / "ansible_collections" / "xen" / "stubdom"
    shutil.copytree(REPOSITORY / "plugins", collection / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    return collection


def take_back(title: str, collection: Path) -> None:
    """Takes the change that a recipe shows out of the copy; it fails where the code is another one by now."""
    ((_language, change),) = (block for block in BLOCK.findall(section(title)) if block[0] == "diff")
    command = ["git", "apply", "--reverse", "--recount", "--unidiff-zero", "--whitespace=nowarn", "-"]
    done = subprocess.run(command, input=change, cwd=collection, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def says(collection: Path, program: str) -> str:
    """What a program prints that imports the core."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], cwd=collection.parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_release_is_one_row(copy: Path) -> None:
    program = f"from {UTILS}._images import releases as r; print(r.RELEASES[-1].version)"
    assert says(copy, program) == "(4, 22)"
    take_back("Add a Xen release", copy)
    assert says(copy, program) == "(4, 21)"


def test_a_boot_loader_is_a_file_and_a_row(copy: Path) -> None:
    program = f"from {UTILS}._boot import loaders; print(*loaders.LOADERS)"
    before = says(copy, program).split()
    take_back("Add a boot loader", copy)
    row = copy / "plugins/module_utils/_boot/loaders/__init__.py"
    row.write_text(row.read_text().replace(", Extlinux", ""))
    (copy / "plugins/module_utils/_boot/loaders/extlinux.py").unlink()
    assert says(copy, program).split() == [name for name in before if name != "extlinux"]


def test_a_distribution_is_one_row(copy: Path) -> None:
    program = f"from {UTILS}._common import distributions as d; print(*(row.key for row in d.DISTRIBUTIONS))"
    before = says(copy, program).split()
    take_back("Add a distribution", copy)
    table = copy / "plugins/module_utils/_common/distributions.py"
    table.write_text(table.read_text().replace(" _UBUNTU,", ""))
    assert says(copy, program).split() == [name for name in before if name != "ubuntu"]


def test_a_module_option_is_in_the_files_that_the_recipe_names() -> None:
    for name in product("Add a module option"):
        assert re.search(r"\bbackup\b", (REPOSITORY / name).read_text()), name


def test_a_parameter_of_a_guest_is_one_row(copy: Path) -> None:
    program = f"from {UTILS}._guests import spec; print(*spec.argument_spec())"
    before = says(copy, program).split()
    take_back("Add a parameter of a guest", copy)
    assert says(copy, program).split() == [name for name in before if name != "hpet"]
