# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What an operator reads uses the words of Xen and Ansible, and names only parameters that exist.

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple

import pytest
import yaml
from ansible_collections.xen.stubdom.plugins.module_utils._xen.xl_keys import KEYS

REPOSITORY = Path(__file__).resolve().parents[3]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# What is not written, and what is written instead.
PLAIN = {
    r"wish(es|ed)?": "desired",
    r"judge[sd]?": "validate",
    r"outcomes?": "result",
    r"brought|brings?": "download, copy, install",
    r"carr(y|ies|ied)": "copy",
    r"told": "report, show",
    r"anew": "again",
    r"somebody else('s)?": "another program or administrator",
    r"meets": "satisfies",
    r"lacks": "is missing, has no",
    r"the story": "the log, the reason",
    r"companions?(_directory)?": "dom0 helper programs",
    r"proves|proven": "verifies, verified",
    r"without a word": "without reporting a result",
    r"(is|are) to be there": "should exist",
    r"rules? out": "disables",
    r"(?-i:Put it there|Give it one)": "the name of the parameter, and a value",
}
NOT_WRITTEN = re.compile(
    r"(?<![a-z])(?:" + "|".join(f"(?P<word{number}>{word})" for number, word in enumerate(PLAIN)) + r")(?![a-z])", re.I
)

# Words with an underscore that belong to Xen, to GRUB, to Ansible or to a file format.
SYSTEM_WORDS = {
    "dom0", "dom0_mem", "dom0_max_vcpus", "dom0_vcpus_pin", "xen_commandline", "control_d", "x86_64", "x86_32",
    "become", "default", "load_env", "no_log", "ansible_facts", "ansible_kernel",
}  # fmt: skip
SNAKE = re.compile(r"(?<![\w./\0<$%{-])[a-z][a-z0-9]*(?:_[a-z0-9]+)+(?![\w/\0(>=-]|\.\w)")
NAMED = re.compile(r"\b(?:[Ss]et|[Pp]arameters?|[Uu]nset|[Ll]eave out|[Cc]orrect) ([a-z][a-z0-9_]*)(?![\w\0=-])")
# What follows such a verb without being a parameter.
ORDINARY = {
    "a", "all", "an", "and", "another", "any", "at", "by", "both", "each", "either", "every", "for", "in", "is", "it",
    "its", "no", "nothing", "of", "on", "one", "or", "that", "the", "them", "these", "this", "to", "what", "with",
}  # fmt: skip


class Text(NamedTuple):
    """A text that an operator may read."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def files(*patterns: str) -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        for path in sorted(REPOSITORY.glob(pattern)):
            file = str(path.relative_to(REPOSITORY))
            if path.is_file():
                yield file, path.read_text()


# ---- texts of Python files


def flat(node: ast.AST) -> str:
    """A string as far as it is known; what is computed is a NUL."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else "\0"
    if isinstance(node, ast.JoinedStr):
        return "".join(flat(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return flat(node.left) + flat(node.right)
    return "\0"


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """All strings, but for what only a reader of the code sees."""
    unseen: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr):
                unseen.add(first.value)
        if isinstance(node, ast.JoinedStr):
            unseen.update(node.values)
    for node in ast.walk(tree):
        known = isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
        if known and node not in unseen:
            yield node.lineno, flat(node)  # type: ignore[attr-defined]


def spoken(node: ast.AST) -> Iterator[tuple[int, str]]:
    """The strings of an argument; what it gives to another function is a key, not a text."""
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        yield node.lineno, flat(node)
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute):
            yield from spoken(node.func.value)
    else:
        for child in ast.iter_child_nodes(node):
            yield from spoken(child)


def messages(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """What is said to the operator in an error or a warning, and every sentence that may become one."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("UserError", "fail_json", "warn", "warning"):
                for part in (*node.args, *(one.value for one in node.keywords)):
                    found.update(spoken(part))
    found.update((line, text) for line, text in strings(tree) if re.fullmatch("[A-Z\0].* .*[.!?]", text))
    yield from sorted(found)


def python_texts() -> Iterator[Text]:
    for file, text in files("plugins/**/*.py"):
        for line, found in strings(ast.parse(text)):
            for number, row in enumerate(found.splitlines()):
                yield Text(file, line + number, row)


def other_texts() -> Iterator[Text]:
    for file, text in files("roles/**/*.yml", "roles/**/*.md", "playbooks/*.yml", "docs/*.md", "README.md"):
        for number, row in enumerate(text.splitlines(), start=1):
            yield Text(file, number, row)


def unplain(text: str) -> list[str]:
    rows = list(PLAIN.values())
    found = []
    for match in NOT_WRITTEN.finditer(text):
        number = next(number for number in range(len(rows)) if match[f"word{number}"])
        found.append(f"{match[0]!r} (better: {rows[number]})")
    return found


def test_texts_use_plain_words() -> None:
    texts = [*python_texts(), *other_texts()]
    assert len(texts) > 2000
    found = [f"{text}: {word}" for text in texts for word in unplain(text.text)]
    assert not found, f"{len(found)} words to replace:\n" + "\n".join(found)


# ---- names of parameters


@lru_cache(maxsize=None)
def read(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def documentation(path: Path) -> Any:
    for node in read(path).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("DOCUMENTATION",):
            return yaml.load(flat(node.value), Loader=LOADER)
    return {}


def fragment(name: str) -> Any:
    """The part of a documentation that a module takes from a file of fragments."""
    file, _, part = name.rpartition("stubdom.")[2].partition(".")
    for node in ast.walk(read(REPOSITORY / "plugins" / "doc_fragments" / f"{file}.py")):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == (part or "documentation").upper():
            return yaml.load(flat(node.value), Loader=LOADER)
    return {}


def names(options: Mapping[str, Any]) -> Iterator[str]:
    """The options and all that can be in them."""
    for name, option in options.items():
        yield name
        yield from names(option.get("suboptions") or option.get("options") or {})


def keys(returned: Mapping[str, Any]) -> Iterator[str]:
    for name, described in returned.items():
        yield name
        yield from keys(described.get("contains") or {})


@lru_cache(maxsize=None)
def module_names(path: Path) -> frozenset[str]:
    document = documentation(path)
    extended = document.get("extends_documentation_fragment") or []
    fragments = [extended] if isinstance(extended, str) else extended
    sources = [document, *(fragment(name) for name in fragments if name.startswith("xen."))]
    return frozenset(name for source in sources for name in names(source.get("options") or {}))


@lru_cache(maxsize=None)
def role_names() -> dict[str, frozenset[str]]:
    result = {}
    for path in REPOSITORY.glob("roles/*/meta/argument_specs.yml"):
        specified = yaml.load(path.read_text(), Loader=LOADER)["argument_specs"].values()
        result[path.parents[1].name] = frozenset(name for one in specified for name in names(one.get("options") or {}))
    return result


def imported(path: Path) -> set[Path]:
    """The files of ours that a file imports."""
    result = set()
    prefix = "ansible_collections.xen.stubdom."
    for node in ast.walk(read(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(prefix):
            base = REPOSITORY / node.module[len(prefix) :].replace(".", "/")  # type: ignore[index]
            tried = [base.with_suffix(".py"), base / "__init__.py"]
            tried += [
                one for alias in node.names for one in (base / f"{alias.name}.py", base / alias.name / "__init__.py")
            ]
            result.update(one for one in tried if one.is_file())
    return result


@lru_cache(maxsize=None)
def reached(path: Path) -> frozenset[Path]:
    found, left = {path}, [path]
    while left:
        for one in imported(left.pop()) - found:
            found.add(one)
            left.append(one)
    return frozenset(found)


# The keys of xl.cfg, which a message may name where a guest's options are validated.
XL_KEYS = REPOSITORY / "plugins" / "module_utils" / "_xen" / "xl_keys.py"

TROUBLES = REPOSITORY / "plugins" / "plugin_utils" / "troubles.py"

# What these are given another module has made of its own parameters.
MADE_BY = {"stubdom_build": "stubdom_source"}


def known_in(path: Path) -> set[str]:
    """The parameters that a message of this file may name: those of the modules that can come there."""
    modules = [one for one in sorted(REPOSITORY.glob("plugins/modules/*.py")) if path in reached(one)]
    if "inventory" in path.parts:
        return set(module_names(path))
    if "action" in path.parts:
        modules = [REPOSITORY / "plugins" / "modules" / path.name]
    # What is found in a report is cured by a variable of a role, or by what stands in its list of guests.
    if path == TROUBLES:
        modules.append(REPOSITORY / "plugins" / "modules" / "guests.py")
    modules += [one for one in sorted(REPOSITORY.glob("plugins/filter/*.py")) if path in reached(one)]
    modules += [one.with_stem(MADE_BY[one.stem]) for one in modules if one.stem in MADE_BY]
    of_roles = set().union(*role_names().values())
    of_xl = set(KEYS) if XL_KEYS in reached(path) or path == TROUBLES else set()
    return (
        of_xl
        | {name for one in modules for name in module_names(one)}
        | of_roles
        | SYSTEM_WORDS
        | set(MADE_BY.values())
    )


def named(text: str) -> list[str]:
    """The words of a message that look like names of parameters."""
    found = SNAKE.findall(text)
    return found + [word for word in NAMED.findall(text) if word not in ORDINARY and word not in found]


def test_messages_name_parameters_that_exist() -> None:
    found, count = [], 0
    for file, text in files("plugins/**/*.py"):
        known = known_in(REPOSITORY / file)
        for line, message in messages(ast.parse(text)):
            count += 1
            found += [f"{file}:{line}: {name}: {message!r}" for name in named(message) if name not in known]
    assert count > 200
    assert not found, f"{len(found)} names that no module has:\n" + "\n".join(found)


def said(tasks: Any) -> Iterator[str]:
    """The messages of the tasks of a role."""
    if isinstance(tasks, list):
        for one in tasks:
            yield from said(one)
    elif isinstance(tasks, dict):
        for key, value in tasks.items():
            if key in ("msg", "fail_msg", "success_msg"):
                yield from (str(row) for row in (value if isinstance(value, list) else [value]))
            else:
                yield from said(value)


def test_roles_name_variables_that_exist() -> None:
    found = []
    for file, text in files("roles/*/tasks/*.yml"):
        known = role_names()[Path(file).parts[1]] | SYSTEM_WORDS
        for message in said(yaml.load(text, Loader=LOADER)):
            plain = re.sub(r"{{.*?}}|{%.*?%}", "\0", message, flags=re.S)
            found += [f"{file}: {name}: {message!r}" for name in named(plain) if name not in known]
    assert not found, f"{len(found)} names that the role does not have:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Set work_directory to it.", ["work_directory"]),
        ("Set timeout, or leave out images.", ["timeout", "images"]),
        ("See /etc/some_file, a_b.cfg and $some_variable.", []),
        ("Set it, and use pv-grub-x86_64.gz of \0_directory.", []),
        ("Set dom0_mem=1G.", []),
    ],
)
def test_names_are_found(text: str, wanted: list[str]) -> None:
    assert named(text) == wanted


def test_words_are_found() -> None:
    assert len(unplain("The wishes were brought_to the Judge, anew.")) == 4
    assert unplain("bringup, foretold, wishful, meeting") == []


def test_messages_are_found() -> None:
    tree = ast.parse('"""told"""\nraise UserError(f"{a} told" + "b", "c")\nmodule.warn("d" if e else "f")')
    assert sorted(text for _line, text in messages(tree)) == ["\0 told", "b", "c", "d", "f"]
    tree = ast.parse('remedy = f"Set {a} to one."\nUserError("a " + name("key"), key)')
    assert [text for _line, text in messages(tree)] == ["Set \0 to one.", "a "]
