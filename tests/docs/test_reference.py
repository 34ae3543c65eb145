# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The reference that antsibull-docs makes of modules and roles, the examples in it, and the changelog.

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = sorted(path for path in REPOSITORY.glob("plugins/modules/*.py") if path.stem != "__init__")
ROLES = sorted(path.parent for path in REPOSITORY.glob("roles/*/tasks"))


def test_reference(ansible: Callable[..., str]) -> None:
    ansible(
        *("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--skip-rstcheck"),
        *("--validate-collection-refs=all", "."),
    )


def test_changelog(ansible: Callable[..., str]) -> None:
    ansible("antsibull-changelog", "lint")
    ansible("antsibull-changelog", "lint-changelog-yaml", "changelogs/changelog.yaml")


def test_changelog_names_every_module() -> None:
    """If one is missing: antsibull-changelog release --reload-plugins --refresh --update-existing."""
    releases = yaml.safe_load((REPOSITORY / "changelogs" / "changelog.yaml").read_text())["releases"]
    named = {module["name"] for release in releases.values() for module in release.get("modules", [])}
    assert named == {path.stem for path in MODULES}
    text = (REPOSITORY / "CHANGELOG.md").read_text().replace("\\", "")
    assert [name for name in named if f"xen.stubdom.{name} " not in text] == []


def test_examples_are_tasks(ansible: Callable[..., str], tmp_path: Path) -> None:
    tasks = []
    for path in MODULES:
        found = re.search(r'^EXAMPLES = r"""\n(.*?)"""', path.read_text(), re.DOTALL | re.MULTILINE)
        assert found is not None, path
        tasks += yaml.safe_load(found[1])
    playbook = tmp_path / "examples.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "tasks": tasks}]))
    ansible("ansible-playbook", "--syntax-check", "--inventory", "localhost,", str(playbook))


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_ansible_doc_shows_an_example_of_every_role(role: Path, ansible: Callable[..., str], tmp_path: Path) -> None:
    specification = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]
    shown = ansible("ansible-doc", "--type", "role", f"xen.stubdom.{role.name}")
    assert specification["examples"].splitlines()[0] in shown
    playbook = tmp_path / "example.yml"
    playbook.write_text(specification["examples"])
    ansible("ansible-playbook", "--syntax-check", "--inventory", "localhost,", str(playbook))
    for play in yaml.safe_load(specification["examples"]):
        (used,) = play["roles"]
        assert used["role"] == f"xen.stubdom.{role.name}"
        assert set(used["vars"]) <= set(specification["options"])


def test_results_of_every_module_are_compared_with_the_reference() -> None:
    """tests/unit/plugins/modules/conftest.py compares all that the tests in this directory see."""
    tests = REPOSITORY / "tests" / "unit" / "plugins" / "modules"
    tested = {path.stem for path in MODULES if re.search(rf"\b{path.stem}\.run\(", all_text(tests))}
    assert tested == {path.stem for path in MODULES}


def all_text(directory: Path) -> str:
    return "\n".join(path.read_text() for path in directory.glob("*.py"))
