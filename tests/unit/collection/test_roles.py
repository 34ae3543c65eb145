# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# A role's variables are described in meta/argument_specs.yml; defaults/main.yml and the README say the same.

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
ROLES = sorted(path.parent.parent for path in REPOSITORY.glob("roles/*/meta/argument_specs.yml"))
ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?P<type>[^|]+) \| (?P<default>[^|]+) \| (?P<meaning>.+) \|$", re.MULTILINE)


class Row(NamedTuple):
    """One line of a README's table of variables."""

    type: str
    default: str


def options(role: Path) -> dict[str, dict[str, Any]]:
    specification = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())
    return dict(specification["argument_specs"]["main"]["options"])


def defaults(role: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((role / "defaults" / "main.yml").read_text()) or {})


def table(readme: str) -> dict[str, Row]:
    return {match["name"]: Row(match["type"].strip(), match["default"].strip()) for match in ROW.finditer(readme)}


def shown_type(option: dict[str, Any]) -> str:
    kind = str(option.get("type", "str"))
    return f"list of {option['elements']}" if kind == "list" and "elements" in option else kind


def says(row: Row, option: dict[str, Any]) -> bool:
    """Whether a README's default is that of the specification; a sentence may stand for none that can be written."""
    if "default" not in option:
        return not row.default.startswith("`")
    value = yaml.safe_load(row.default.strip("`")) if row.default.startswith("`") else object()
    return bool(value == option["default"]) and type(value) is type(option["default"])


def names(role: Path) -> list[str]:
    return sorted(str(path.relative_to(role)) for path in role.rglob("*.yml"))


def test_every_role_has_a_specification() -> None:
    assert sorted(path for path in REPOSITORY.glob("roles/*") if any(path.iterdir())) == ROLES


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_are_those_of_the_specification(role: Path) -> None:
    specified = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert defaults(role) == specified


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_readme_lists_every_variable(role: Path) -> None:
    rows, specified = table((role / "README.md").read_text()), options(role)
    assert list(rows) == list(specified)
    assert {name: row.type for name, row in rows.items()} == {
        name: shown_type(option) for name, option in specified.items()
    }
    assert [name for name, row in rows.items() if not says(row, specified[name])] == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_variables_carry_the_role_s_name(role: Path) -> None:
    assert [name for name in options(role) if not name.startswith(f"{role.name}_")] == []
    text = "\n".join((role / name).read_text() for name in names(role))
    set_inside = re.findall(r"^\s+register: *(\w+)|loop_var: *(\w+)", text, re.MULTILINE)
    assert [name for found in set_inside for name in found if name and not name.startswith(f"__{role.name}_")] == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_roles_have_one_shape(role: Path) -> None:
    assert {"tasks/main.yml", "meta/main.yml"} <= set(names(role))
    # One of more tasks than a screen shows is divided in the same way.
    if len((role / "tasks" / "main.yml").read_text().splitlines()) > 45:
        assert {"tasks/preflight.yml", "tasks/verify.yml"} <= set(names(role))
    for name, option in options(role).items():
        assert option.get("description"), name


@pytest.mark.parametrize(
    ("row", "option", "wanted"),
    [
        (Row("str", "`present`"), {"default": "present"}, True),
        (Row("str", "`absent`"), {"default": "present"}, False),
        (Row("str", '`"off"`'), {"default": "off"}, True),
        (Row("str", "`off`"), {"default": "off"}, False),
        (Row("int", "`600`"), {"default": 600}, True),
        (Row("int", '`"600"`'), {"default": 600}, False),
        (Row("list of str", "`[linux]`"), {"default": ["linux"]}, True),
        (Row("str", "the size"), {}, True),
        (Row("str", "`2G`"), {}, False),
        (Row("bool", "\u2013"), {"default": False}, False),
    ],
)
def test_defaults_are_compared_by_value_and_type(row: Row, option: dict[str, Any], wanted: bool) -> None:
    assert says(row, option) is wanted
