# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What a guest may be is said by the module guest_config; the roles and their READMEs say the same.

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any, Iterator

import jinja2.nativetypes
import pytest
import yaml
from ansible_collections.xen.stubdom.plugins.modules import guest, guest_config

REPOSITORY = Path(__file__).resolve().parents[3]
ROLES = ("pvgrub_guest", "hvm_stubdom")
OF_THE_ROLE = ("name", "state", "type", "flavour")
ROW = re.compile(r"^\| `(?P<key>[\w.\[\]]+)` \| (?P<type>[^|]+) \| [^|]+ \|$", re.MULTILINE)


@functools.lru_cache(maxsize=None)
def guests(role: str) -> dict[str, Any]:
    specification = yaml.safe_load((REPOSITORY / "roles" / role / "meta" / "argument_specs.yml").read_text())
    options = specification["argument_specs"]["main"]["options"]
    return dict(options[f"{role}_guests"]["options"])


@functools.lru_cache(maxsize=None)
def module_options(module: Any) -> dict[str, Any]:
    return dict(yaml.safe_load(module.DOCUMENTATION)["options"])


def promise(option: dict[str, Any]) -> dict[str, Any]:
    """What is checked about a value; an empty default says no more than none."""
    kept = {key: option[key] for key in ("type", "choices", "elements", "required") if key in option}
    if option.get("default") not in (None, [], {}):
        kept["default"] = option["default"]
    inner = option.get("options") or option.get("suboptions") or {}
    return {**kept, "options": {name: promise(value) for name, value in inner.items()}}


@pytest.mark.parametrize("role", ROLES)
def test_a_key_of_a_guest_is_a_parameter_of_the_modules(role: str) -> None:
    known = {**module_options(guest), **module_options(guest_config)}
    for key, option in guests(role).items():
        if key in OF_THE_ROLE:
            assert set(option.get("choices", ())) <= {*known[key].get("choices", ()), *guest_states()}
        else:
            assert promise(option) == promise(known[key]), key


def guest_states() -> set[str]:
    return set(module_options(guest)["state"]["choices"])


@pytest.mark.parametrize("role", ROLES)
def test_every_key_reaches_its_module(role: str) -> None:
    tasks = {path.stem: path.read_text() for path in (REPOSITORY / "roles" / role / "tasks").glob("*.yml")}
    for key in guests(role):
        if key in module_options(guest_config):
            # Options may hold a password, and are no part of what is looped over and shown.
            item = f"{role}_guests[__{role}_number]" if key == "options" else "item"
            assert all(f"{item}.{key} " in tasks[name] or f"{item}.{key} }}}}" in tasks[name]
                       for name in ("preflight", "configure")), key  # fmt: skip
        else:
            assert f"item.{key}" in tasks["activate"], key


def rows(options: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, option in options.items():
        kind = f"list of {option['elements']}" if "elements" in option else option["type"]
        default = option.get("default")
        text = str(default).lower() if isinstance(default, bool) else str(default)
        yield (
            prefix + key,
            kind + (", required" if option.get("required") else f", `{text}`" if default is not None else ""),
        )
        yield from rows(option.get("options", {}), f"{key}[].")


@pytest.mark.parametrize("role", ROLES)
def test_the_readme_lists_every_key_of_a_guest(role: str) -> None:
    readme = (REPOSITORY / "roles" / role / "README.md").read_text()
    assert [(match["key"], match["type"]) for match in ROW.finditer(readme)] == list(rows(guests(role)))


@pytest.mark.parametrize(
    ("hvm", "pv", "taken"),
    [
        ([], [], []),
        (["web"], ["db"], []),
        (["web"], ["web"], ["web"]),
        (["web"], ["web-dm"], ["web-dm"]),
        (["web-dm"], ["web"], []),
    ],
)
@pytest.mark.parametrize("role", ROLES)
def test_a_name_that_both_roles_or_a_stub_domain_have(
    role: str, hvm: list[str], pv: list[str], taken: list[str]
) -> None:
    assert names_taken(role, hvm_stubdom=hvm, pvgrub_guest=pv) == taken


def test_two_guests_of_one_role_of_which_one_is_called_as_the_stub_domain_of_the_other() -> None:
    assert names_taken("hvm_stubdom", hvm_stubdom=["web", "web-dm"], pvgrub_guest=[]) == ["web-dm"]


def names_taken(role: str, **names: list[str]) -> Any:
    tasks = yaml.safe_load((REPOSITORY / "roles" / role / "tasks" / "preflight.yml").read_text())
    task = next(task for task in tasks if f"__{role}_taken" in task.get("vars", {}))
    environment = jinja2.nativetypes.NativeEnvironment()
    # Ansible's own would come with its controller, whose import changes how modules read their parameters.
    environment.filters["intersect"] = lambda some, others: [item for item in some if item in others]
    environment.filters["regex_replace"] = lambda text, pattern, new: re.sub(pattern, new, text)
    known: dict[str, Any] = {f"{one}_guests": [{"name": name} for name in given] for one, given in names.items()}
    for variable, expression in task["vars"].items():
        known[variable] = environment.from_string(expression).render(known)
    return known[f"__{role}_taken"]
