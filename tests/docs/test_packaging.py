# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What other programs read: metadata for the index of collections, execution environments, nox, pre-commit.

from __future__ import annotations

import configparser
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in REPOSITORY.glob("plugins/modules/[!_]*.py"))
sys.path[:0] = [str(REPOSITORY / "bin")]

import _test

# galaxy-importer runs ansible-lint and ansible-test too if it may; the tiers lint and sanity do that.
IMPORTER = {"run_ansible_lint": "false", "run_ansible_test": "false", "check_required_tags": "true"}


def tiers_of(entry: str) -> list[str]:
    """The tiers and parts that a command line of bin/test names."""
    program, *words = entry.split()
    assert program == "bin/test"
    return [f"{tier}/{part}" for tier, parts in _test.plan(words).items() for part in parts or [""]]


def test_galaxy_takes_the_collection(
    ansible: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ansible("ansible-galaxy", "collection", "build", "--output-path", str(tmp_path))
    configuration = configparser.ConfigParser()
    configuration["galaxy-importer"] = IMPORTER
    with (tmp_path / "importer.cfg").open("w") as file:
        configuration.write(file)
    monkeypatch.setenv("GALAXY_IMPORTER_CONFIG", str(tmp_path / "importer.cfg"))
    (archive,) = tmp_path.glob("*.tar.gz")
    said = ansible(sys.executable, "-m", "galaxy_importer.main", archive.name, directory=tmp_path)
    assert "Importer processing completed successfully" in said
    assert re.findall(r"^(?:WARNING|ERROR).*", said, re.MULTILINE) == []


def test_ansible_builder_takes_the_execution_environment(ansible: Callable[..., str], tmp_path: Path) -> None:
    example = REPOSITORY / "docs" / "example" / "execution-environment.yml"
    shutil.copy(example, tmp_path)
    ansible("ansible-galaxy", "collection", "build", "--output-path", str(tmp_path))
    (archive,) = tmp_path.glob("*.tar.gz")
    # The version in the example is the one of the collection.
    assert archive.name in example.read_text()
    ansible("ansible-builder", "create", "--file", example.name, "--context", str(tmp_path / "c"), directory=tmp_path)
    assert archive.name in (tmp_path / "c" / "_build" / "requirements.yml").read_text()


def test_the_collection_names_what_an_execution_environment_needs() -> None:
    named = yaml.safe_load((REPOSITORY / "meta" / "execution-environment.yml").read_text())["dependencies"]
    assert [path for path in named.values() if not (REPOSITORY / path).is_file()] == []


def test_the_group_has_all_modules() -> None:
    assert yaml.safe_load((REPOSITORY / "meta" / "runtime.yml").read_text())["action_groups"] == {"all": MODULES}


def test_defaults_of_the_group_reach_a_module(ansible: Callable[..., str], tmp_path: Path) -> None:
    """The file is named in module_defaults only."""
    file = tmp_path / "xl.conf"
    task = {"xen.stubdom.xl_conf": {"settings": {"autoballoon": "off"}}}
    play = {
        "hosts": "localhost", "gather_facts": False, "tasks": [task],
        "vars": {"ansible_python_interpreter": sys.executable},
        "module_defaults": {"group/xen.stubdom.all": {"path": str(file)}},
    }  # fmt: skip
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    file.write_text("")
    ansible("ansible-playbook", "--inventory", "localhost,", "--connection", "local", str(tmp_path / "play.yml"))
    assert file.read_text() == 'autoballoon="off"\n'


def test_nox_lists_its_sessions_and_runs_bin_test(ansible: Callable[..., str], tmp_path: Path) -> None:
    shown = ansible("nox", "--list", directory=REPOSITORY)
    assert re.findall(r"^[*-] (\w+) -> ", shown, re.MULTILINE) == ["lint", "unit", "sanity", "docs", "integration"]
    # What they run, without running it.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "test").write_text('#!/bin/sh\necho "ran $*"\n')
    (tmp_path / "bin" / "test").chmod(0o755)
    shutil.copy(REPOSITORY / "noxfile.py", tmp_path)

    def ran(*words: str) -> list[str]:
        return re.findall(r"^ran (.*)", ansible("nox", *words, directory=tmp_path), re.MULTILINE)

    assert ran() == ["lint/", "unit/", "sanity/", "docs/"]
    assert ran("-s", "unit", "--", "tests/unit/lab") == ["unit/tests/unit/lab"]
    assert ran("-s", "integration") == ["chroot xen"]
    named = ("xen_lab", "boot_loaders")
    assert [name for name in named if not (REPOSITORY / "molecule" / name).is_dir()] == []
    assert ran("-s", "integration", "--", *named) == ["xen/xen_lab chroot/boot_loaders"]
    assert _test.plan(["lint/"]) == {"lint": []}


def test_hooks_call_checks_that_there_are(ansible: Callable[..., str]) -> None:
    ansible("pre-commit", "validate-config")
    (source,) = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]
    assert source["repo"] == "local"
    checks = re.findall(r'^        "([\w-]+)": \[', (REPOSITORY / "bin" / "_test.py").read_text(), re.MULTILINE)
    named = [part for hook in source["hooks"] for part in tiers_of(hook["entry"])]
    assert sorted(named) == sorted(f"lint/{check}" for check in checks)


def test_the_licence_is_where_people_look_for_it() -> None:
    assert (REPOSITORY / "COPYING").read_text() == (REPOSITORY / "LICENSES" / "GPL-3.0-or-later.txt").read_text()


@pytest.mark.parametrize("form", sorted(REPOSITORY.glob(".github/ISSUE_TEMPLATE/*_*.yml")), ids=lambda path: path.stem)
def test_issue_forms_are_sound(form: Path) -> None:
    read = yaml.safe_load(form.read_text())
    assert {"name", "description", "body"} <= set(read)
    for part in read["body"]:
        assert part["type"] in ("markdown", "textarea", "input")
        assert ("id" in part) == (part["type"] != "markdown")
        assert "value" in part["attributes"] or "label" in part["attributes"]
