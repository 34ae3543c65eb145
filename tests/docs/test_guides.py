# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Commands, playbooks and links in README files and guides are those that there are.

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
GUIDES = sorted(
    [
        *(path for path in REPOSITORY.glob("*.md") if path.name != "CHANGELOG.md"),
        *REPOSITORY.glob("roles/*/README.md"),
        *REPOSITORY.glob("docs/**/*.md"),
    ]
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)[^)]*\)")


def blocks(guide: Path, *languages: str) -> list[str]:
    return [match[2] for match in BLOCK.finditer(guide.read_text()) if match[1] in languages]


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a block, without what stands before and after them on their lines."""
    for line in text.replace("\\\n", " ").splitlines():
        words = line.removeprefix("$ ").partition(" #")[0].split()
        if words and words[0] != "#":
            yield words


def own_files(words: list[str]) -> list[str]:
    """The words of a command that name something in the checkout."""
    rooms = ("bin/", "lab/", "playbooks/", "docs/", "roles/", "./bin/", "./lab/", ".ci/")
    return [word for word in words if word.startswith(rooms)]


def asked_for(words: list[str]) -> tuple[list[str], str] | None:
    """A program of ours with its subcommand, and the options that a command gives to it."""
    if not words[0].startswith(("bin/", "lab/", "./bin/", "./lab/")):
        return None
    subcommand = words[1:2] if words[0].endswith("xenlab") else []
    # What follows two hyphens is for another program.
    own = words[1 : words.index("--")] if "--" in words else words[1:]
    # What follows --in TIER, too.
    own = own[:2] if own[:1] == ["--in"] else own
    return [words[0], *subcommand], " ".join(own)


def roles_of(play: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for role in play.get("roles", []):
        if isinstance(role, str):
            yield role, {}
        else:
            yield role.get("role", role.get("name", "")), role.get("vars", {})


def specified(role: str) -> set[str]:
    path = REPOSITORY / "roles" / role.rpartition(".")[2] / "meta" / "argument_specs.yml"
    return set(yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"])


def name(guide: Path) -> str:
    return str(guide.relative_to(REPOSITORY))


def test_every_role_has_a_guide() -> None:
    for role in REPOSITORY.glob("roles/*/tasks"):
        assert role.parent / "README.md" in GUIDES


@pytest.mark.parametrize("guide", GUIDES, ids=name)
def test_commands_are_there(guide: Path) -> None:
    for text in blocks(guide, "", "sh", "bash", "console", "shell"):
        for words in commands(text):
            for file in own_files(words):
                assert (REPOSITORY / file).exists(), " ".join(words)


@pytest.mark.parametrize("guide", GUIDES, ids=name)
def test_options_of_our_commands_are_known(guide: Path) -> None:
    for text in blocks(guide, "", "sh", "bash", "console", "shell"):
        for program, options in filter(None, map(asked_for, commands(text))):
            shown = subprocess.run([*program, "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
            for option in re.findall(r"(?<!\S)--[\w-]+", options):
                assert option in shown.stdout, (program, option)


@pytest.mark.parametrize("guide", GUIDES, ids=name)
def test_playbooks_are_sound(guide: Path, ansible: Callable[..., str], tmp_path: Path) -> None:
    for text in blocks(guide, "yaml", "yml"):
        plays = yaml.safe_load(text)
        if not (isinstance(plays, list) and isinstance(plays[0], dict) and "hosts" in plays[0]):
            continue
        playbook = tmp_path / "playbook.yml"
        playbook.write_text(text)
        ansible("ansible-playbook", "--syntax-check", "--inventory", "localhost,", str(playbook))
        for play in plays:
            for role, variables in roles_of(play):
                assert set(variables) <= specified(role), role


@pytest.mark.parametrize("guide", GUIDES, ids=name)
def test_links_lead_somewhere(guide: Path) -> None:
    for target in LINK.findall(guide.read_text()):
        assert (guide.parent / target).exists(), target


@pytest.mark.parametrize("playbook", sorted(REPOSITORY.glob("playbooks/*.yml")), ids=name)
def test_our_playbooks_are_sound(playbook: Path, ansible: Callable[..., str]) -> None:
    ansible("ansible-playbook", "--syntax-check", "--inventory", "localhost,", str(playbook))


def test_what_is_read_out_of_a_guide(tmp_path: Path) -> None:
    guide = tmp_path / "guide.md"
    guide.write_text(
        "```sh\n$ bin/demo --keep # stays\nlab/xenlab up \\\n  --name a -- ls --all\n```\n[a](b.md#c) [d](https://e)\n"
    )
    found = [words for text in blocks(guide, "sh") for words in commands(text)]
    assert found == [["bin/demo", "--keep"], ["lab/xenlab", "up", "--name", "a", "--", "ls", "--all"]]
    assert [asked_for(words) for words in found] == [
        (["bin/demo"], "--keep"),
        (["lab/xenlab", "up"], "up --name a"),
    ]
    assert own_files(["cat", "docs/none.md"]) == ["docs/none.md"]
    assert LINK.findall(guide.read_text()) == ["b.md"]
