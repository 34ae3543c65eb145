# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What a module's documentation shows is taken by the module's own argument specification.

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

REPOSITORY = Path(__file__).resolve().parents[3]
MODULES = sorted(path.stem for path in REPOSITORY.glob("plugins/modules/*.py") if path.stem != "__init__")
RULES = ("mutually_exclusive", "required_together", "required_one_of", "required_if", "required_by")


def load(name: str) -> ModuleType:
    return importlib.import_module(f"ansible_collections.xen.stubdom.plugins.modules.{name}")


class Specification(Exception):
    """Carries what a module gives to AnsibleModule, instead of running it."""

    def __init__(self, **given: Any) -> None:
        super().__init__()
        self.given = given


def specification(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    def refuse(_module: Any, **given: Any) -> None:
        raise Specification(**given)

    monkeypatch.setattr(AnsibleModule, "__init__", refuse)
    with pytest.raises(Specification) as caught:
        module.main()
    return caught.value.given


def mistakes(given: dict[str, Any], task_parameters: dict[str, Any]) -> list[str]:
    """What the module would say to these parameters. What a template makes of them is not known here."""
    options = {
        name: {"type": "raw"} if "{{" in str(task_parameters.get(name)) else option
        for name, option in given["argument_spec"].items()
    }
    rules = {rule: given[rule] for rule in RULES if rule in given}
    return list(ArgumentSpecValidator(options, **rules).validate(task_parameters).error_messages)


def examples(module: ModuleType) -> list[dict[str, Any]]:
    return list(yaml.safe_load(module.EXAMPLES))


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(name)
    given = specification(module, monkeypatch)
    own = [task for task in examples(module) if f"xen.stubdom.{name}" in task]
    assert own, "no example shows the module itself"
    for task in own:
        assert mistakes(given, task[f"xen.stubdom.{name}"] or {}) == [], task["name"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_have_names_and_full_module_names(name: str) -> None:
    words = {"name", "register", "when", "loop", "vars", "delegate_to", "become", "notify", "until", "retries", "delay"}
    for task in examples(load(name)):
        assert str(task["name"])[0].isupper()
        actions = set(task) - words
        assert len(actions) == 1 and next(iter(actions)).count(".") == 2, task


def test_a_wrong_example_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    given = specification(load("dom0_mem"), monkeypatch)
    assert mistakes(given, {"size": "1G", "state": "gone"}) != []
    assert mistakes(given, {"sise": "1G"}) != []
    assert mistakes(given, {"regenerate": "{{ later }}", "size": "1G"}) == []


@pytest.mark.parametrize("name", MODULES)
def test_modules_say_what_they_support(name: str) -> None:
    attributes = yaml.safe_load(load(name).DOCUMENTATION)["attributes"]
    for attribute in ("check_mode", "diff_mode", "idempotent", "platform"):
        assert attributes[attribute]["support"] in ("full", "partial", "none", "N/A"), attribute
    assert attributes["platform"]["platforms"] == "linux"
