# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The first page names what there is.

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text()
MODULES = sorted(REPOSITORY.glob("plugins/modules/[!_]*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_every_module_stands_in_the_table(module: Path) -> None:
    documentation = re.search(r'DOCUMENTATION = r"""\n(.*?)"""', module.read_text(), re.DOTALL)
    assert documentation is not None
    said = yaml.safe_load(documentation[1])["short_description"]
    assert f"| `{module.stem}` | {said} |\n" in README


def test_no_module_stands_there_that_is_none() -> None:
    assert re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE) == [module.stem for module in MODULES]


def test_every_role_stands_in_the_table() -> None:
    roles = {path.parent.parent.name for path in REPOSITORY.glob("roles/*/tasks/main.yml")}
    assert set(re.findall(r"^\| \[(\w+)\]\(roles/\1/README.md\) \|", README, re.MULTILINE)) == roles


def test_the_main_playbook_runs_the_roles_in_the_order_of_the_table() -> None:
    *_groups, play = yaml.safe_load((REPOSITORY / "playbooks" / "site.yml").read_text())
    roles = [role["role"].removeprefix("xen.stubdom.") for role in play["roles"]]
    assert roles == re.findall(r"^\| \[(\w+)\]\(roles/\S+ \| (?!not in site.yml)", README, re.MULTILINE)
    assert roles == [role["tags"] for role in play["roles"]]
