# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What a guest may be is in one table; the documentation of the module says the same, and nothing else repeats it.

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.xen.stubdom.plugins.doc_fragments.guest import ModuleDocFragment
from ansible_collections.xen.stubdom.plugins.module_utils._guests import spec
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_keys

REPOSITORY = Path(__file__).resolve().parents[3]
ROLES = ("pvgrub_guest", "hvm_stubdom")


@functools.lru_cache(maxsize=None)
def options() -> dict[str, Any]:
    return dict(yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"])


@functools.lru_cache(maxsize=None)
def documented() -> dict[str, Any]:
    return dict(options()["guests"]["suboptions"])


def rows(table: Sequence[spec.Parameter], described: dict[str, Any]) -> Iterator[tuple[spec.Parameter, dict[str, Any]]]:
    for row in table:
        yield row, described[row.name]
        yield from rows(row.options, described[row.name].get("suboptions", {}))


def test_the_documentation_has_every_row_in_the_same_order_and_no_other() -> None:
    assert [row.name for row in spec.GUEST] == list(documented())
    for row in spec.GUEST:
        assert [field.name for field in row.options] == list(documented()[row.name].get("suboptions", {}))


def test_the_documentation_says_what_is_checked() -> None:
    for row, option in rows(spec.GUEST, documented()):
        assert option["type"] == row.type, row.name
        assert option.get("elements") == row.elements, row.name
        assert tuple(option.get("choices", ())) == row.choices, row.name
        assert option.get("required", False) == row.required, row.name
        # It is filled in after the guests' common defaults, and is none of Ansible's.
        assert "default" not in option, row.name


def test_the_documentation_says_every_default() -> None:
    for row, option in rows(spec.GUEST, documented()):
        text = " ".join([option["description"]] if isinstance(option["description"], str) else option["description"])
        if row.default not in (None, (), {}):
            value = str(row.default).lower() if isinstance(row.default, bool) else row.default
            assert f"V({value})" in text and "default" in text, row.name


def test_the_documentation_says_which_release_brought_a_field() -> None:
    for parent, key in (("disks", "disk"), ("nics", "vif")):
        table = next(row for row in spec.GUEST if row.name == parent)
        for row in table.options:
            field = row.key or next(iter((row.words or {"": ""}).values())).partition("=")[0]
            first = xl_keys.FIELDS[key].get(field, (xl_keys.OLDEST, 0))[0]
            text = str(documented()[parent]["suboptions"][row.name]["description"])
            assert (f"(Xen 4.{first} and newer)" in text) == (first > xl_keys.OLDEST), row.name


def test_every_key_is_one_of_xl() -> None:
    for row in spec.GUEST:
        assert row.key is None or row.key in xl_keys.KEYS, row.name


# Names that mean nothing else anywhere, and the tests that have one to show something of this table.
OTHERS = (Path(__file__).name, "tests/docs/test_contributing.py")
LIVE = ("live.py", "xen_pvgrub_guest/verify.yml", "xen_guests/tasks/change.yml", "xen_guests/tasks/live.yml")
DISTINCT = ("cpu_weight", "cpus_soft", "seclabel", "viridian", "hpet", "rtc_timeoffset", "localtime")


@pytest.mark.parametrize("name", DISTINCT)
def test_an_option_is_named_in_three_files(name: str) -> None:
    command = ["git", "grep", "-lw", name, "--", "plugins", "roles", "docs", "tests", "playbooks", "molecule"]
    named = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split()
    # The table of what xl reads is made by a program, options of Xen's and Linux's command lines are other ones, and a
    # key that is changed while a guest runs has a row for that.
    made = [path for path in named if "xl_" in path or "_boot/" in path or path.endswith((*OTHERS, *LIVE))]
    assert sorted(set(named) - set(made)) == [
        "plugins/doc_fragments/guest.py",
        "plugins/module_utils/_guests/spec.py",
        "tests/unit/plugins/module_utils/_guests/test_spec.py",
    ]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_three_tasks_and_what_is_asked_for(role: str) -> None:
    tasks = yaml.safe_load((REPOSITORY / "roles" / role / "tasks" / "main.yml").read_text())
    defaults = yaml.safe_load((REPOSITORY / "roles" / role / "defaults" / "main.yml").read_text())
    switches = [name for name, value in defaults.items() if value is False]
    always = [task for task in tasks if not any(re.match(rf"{name}\b", task.get("when", "")) for name in switches)]
    actions = [next(key for key in task if "." in key) for task in always]
    # What is still due stands at the end, where it is seen.
    assert actions == ["xen.stubdom.guests", "xen.stubdom.xen_info", "ansible.builtin.assert", "ansible.builtin.debug"]
    assert always[-1] is tasks[-1]
    others = [task["ansible.builtin.include_tasks"] for task in tasks if task not in always]
    assert {path.name for path in (REPOSITORY / "roles" / role / "tasks").iterdir()} == {"main.yml", *others}


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_of_a_role_reaches_the_module(role: str) -> None:
    specification = yaml.safe_load((REPOSITORY / "roles" / role / "meta" / "argument_specs.yml").read_text())
    specified = specification["argument_specs"]["main"]["options"]
    tasks = yaml.safe_load((REPOSITORY / "roles" / role / "tasks" / "main.yml").read_text())
    task = next(task["xen.stubdom.guests"] for task in tasks if "xen.stubdom.guests" in task)
    switches = {name for name in specified if any(name in task.get("when", "") for task in tasks)}
    assert {f"{role}_{name}" for name in task} == set(specified) - switches and len(switches) == 1
    for name, value in task.items():
        assert f"{role}_{name}" in value
        assert specified[f"{role}_{name}"].get("choices") == options()[name].get("choices")
    # What a guest may be is in the module.
    assert "options" not in specified[f"{role}_guests"]
    assert not re.search(r"\| `\w+\[\]", (REPOSITORY / "roles" / role / "README.md").read_text())
