# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The words of docs/troubleshooting.md are those that are said: ours stand in the source, others in our tables of them.

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._guests import diagnosis as of_guests
from ansible_collections.xen.stubdom.plugins.module_utils._images import diagnosis as of_builds

REPOSITORY = Path(__file__).resolve().parents[2]
GUIDE = (REPOSITORY / "docs" / "troubleshooting.md").read_text()
ROW = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)


def rows(title: str) -> list[str]:
    """The words in the first column of the table below a title."""
    section = GUIDE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    found = ROW.findall(section)
    assert found
    return found


def source() -> str:
    """All that we say, as one text: strings that stand behind each other are one, and lines of YAML too."""
    code = "\n".join(path.read_text() for path in sorted(REPOSITORY.glob("plugins/**/*.py")))
    plays = "\n".join(
        path.read_text() for room in ("roles", "playbooks") for path in sorted(REPOSITORY.glob(f"{room}/**/*.yml"))
    )
    return " ".join(re.sub(r"\"\s*\n\s*f?\"", "", code).split()) + " ".join(plays.split())


SAID = source()


@pytest.mark.parametrize("words", rows("Messages of this collection"))
def test_our_words_are_in_the_source(words: str) -> None:
    parts = [part.strip() for part in re.split(r"…", words) if re.search(r"\w", part)]
    assert max(map(len, parts)) > 10
    for part in parts:
        assert part in SAID, part


@pytest.mark.parametrize(
    ("title", "known"),
    [
        ("Messages of xl and libxl", of_guests.said),
        ("Messages on a guest's console", of_guests.shown),
        ("Messages of a build", of_builds.known),
    ],
)
def test_words_of_others_are_those_that_our_messages_explain(title: str, known: object) -> None:
    assert callable(known)
    for words in rows(title):
        assert known(words), words


def test_each_that_we_explain_is_in_the_guide() -> None:
    for title, table in (
        ("Messages of xl and libxl", of_guests._SAID),
        ("Messages on a guest's console", of_guests._SHOWN),
    ):
        for pattern, _meaning in table:
            assert any(re.search(pattern, words) for words in rows(title)), pattern
