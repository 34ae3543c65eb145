# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The inventory that users copy reboots nothing and starts nothing until they edit it.

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "docs" / "example" / "inventory"
VARIABLES = EXAMPLE / "group_vars" / "xen_hosts.yml"
# A comment that is a line of YAML: a variable, or what is indented below one.
COMMENTED = re.compile(r"^# (?=[a-z0-9_]+:(?: |$)|  )", re.MULTILINE)


def specified() -> dict[str, dict[str, Any]]:
    options: dict[str, dict[str, Any]] = {}
    for path in REPOSITORY.glob("roles/*/meta/argument_specs.yml"):
        options |= yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"]
    return options


def of_a_guest() -> set[str]:
    """What a guest of a list may have; the roles leave that to the module."""
    source = (REPOSITORY / "plugins" / "doc_fragments" / "guest.py").read_text()
    documentation = re.search(r'DOCUMENTATION = r"""\n(.*?)"""', source, re.DOTALL)
    assert documentation is not None
    return set(yaml.safe_load(documentation[1])["options"]["guests"]["suboptions"])


def reboots(variables: dict[str, Any]) -> list[str]:
    """The variables that allow a reboot, and the lists of guests that are not empty."""
    allowing = {name for name, value in variables.items() if value and name.endswith("_reboot")}
    guests = {name for name, value in variables.items() if value and isinstance(value, list) and "_guests" in name}
    return sorted(allowing | guests)


def seen_by_a_host(ansible: Callable[..., str], inventory: Path) -> dict[str, Any]:
    said = ansible("ansible-inventory", "--inventory", str(inventory), "--host", "xen1.example.org")
    defaults = {name: option.get("default") for name, option in specified().items()}
    return {**defaults, **json.loads(said)}


def test_the_copied_inventory_reboots_and_starts_nothing(ansible: Callable[..., str], tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "inventory")
    variables = seen_by_a_host(ansible, tmp_path / "inventory")
    assert reboots(variables) == []
    # Not because nothing is asked for.
    assert variables["dom0_memory_size"] and variables["stubdom_build_images"]
    names = {
        "xen_hosts": {
            "hosts": {"localhost": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}
        }
    }
    (tmp_path / "inventory" / "hosts.yml").write_text(yaml.safe_dump(names))
    words = ("--inventory", str(tmp_path / "inventory"), "--tags", "pvgrub_guest,hvm_stubdom")
    said = ansible("ansible-playbook", *words, "xen.stubdom.site")
    assert re.search(r"localhost +: ok=\d+ +changed=0 ", said), said


def test_what_is_commented_out_would_work(ansible: Callable[..., str], tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "inventory")
    text = COMMENTED.sub("", VARIABLES.read_text())
    (tmp_path / "inventory" / "group_vars" / "xen_hosts.yml").write_text(text)
    variables = seen_by_a_host(ansible, tmp_path / "inventory")
    assert reboots(variables) == ["dom0_memory_reboot", "hvm_stubdom_guests", "pvgrub_guest_guests"]
    assert set(yaml.safe_load(text)) <= set(specified())
    for name in ("hvm_stubdom_guests", "pvgrub_guest_guests"):
        (guest,) = variables[name]
        assert set(guest) <= of_a_guest()


def test_the_demonstration_has_its_own() -> None:
    variables = yaml.safe_load((REPOSITORY / "docs/example/demo/inventory/group_vars/xen_hosts.yml").read_text())
    assert reboots(variables) == ["dom0_memory_reboot", "hvm_stubdom_guests", "pvgrub_guest_guests"]
