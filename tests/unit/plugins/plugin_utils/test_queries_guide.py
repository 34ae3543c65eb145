# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The questions of docs/queries.md, put to a made-up fleet with every kind of trouble.

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import fleets
import pytest
from ansible_collections.xen.stubdom.plugins.filter.fleet import make
from ansible_collections.xen.stubdom.plugins.filter.query import ask

GUIDE = Path(__file__).resolve().parents[4] / "docs" / "queries.md"
QUESTIONS = re.findall(r"^(\w.*\?)\n\n```jmespath\n(.*?)\n```$", GUIDE.read_text(), re.MULTILINE)


def fleet() -> dict[str, Any]:
    answers = fleets.troubled()
    saved = "Its device model runs in a Linux stub domain, whose image cannot save."
    answers["fine"]["guests"].append(fleets.emulated("not_saved", 42, cannot_save=saved))
    answers["fine"]["memory"] = {**answers["fine"]["memory"], "free_mib": 30000}
    return make(answers, now="2026-11-29T12:00:00Z")


# What a part of each answer is, by the first words of the question.
ANSWERS = {
    "Which HVM guests have": {"host": "guests", "guest": "device_model_root_in_dom0"},
    "On which hosts": {"host": "next_boot_differs", "why": "It will get loglvl=all."},
    "Which images": {"host": "image_outdated", "images": ["linux"]},
    "Which guests are still": {"host": "guests", "guest": "pygrub"},
    "Which guests do not": {"host": "guests", "guest": "restart_required", "keys": ["memory", "vcpus"]},
    "Whose screen": {"host": "guests", "guest": "screen_open", "screens": ["0.0.0.0", "127.0.0.1"]},
    "Which hosts run": {"host": "release_unsupported", "release": "4.14"},
    "Which running guests": {"host": "guests", "guest": "not_autostarted"},
    "Which hosts have": {"host": "fine", "free_mib": 30000},
    "Which guests can": {
        "host": "fine",
        "guest": "not_saved",
        "why": "Its device model runs in a Linux stub domain, whose image cannot save.",
    },
}


def test_there_are_ten_questions_with_an_answer_each() -> None:
    assert len(QUESTIONS) == len(ANSWERS) == 10
    for begin in ANSWERS:
        assert [question for question, _expression in QUESTIONS if question.startswith(begin)] != [], begin


@pytest.mark.parametrize(("question", "expression"), QUESTIONS, ids=[question for question, _ in QUESTIONS])
def test_a_question_is_answered(question: str, expression: str) -> None:
    (answer,) = (answer for begin, answer in ANSWERS.items() if question.startswith(begin))
    found = ask(fleet(), expression)
    assert answer in found
    # It selects something, and not everything.
    assert 0 < len(found) < 6
    assert found[0] == answer or "hosts have" not in question


def test_the_names_that_the_guide_offers_are_those_of_a_report() -> None:
    made = fleet()
    rows = dict(re.findall(r"^\| `(\w+)\[?\]?`(?: of each)? \| (.*) \|$", GUIDE.read_text(), re.MULTILINE))
    for key, where in (("hosts", made["hosts"][0]), ("guests", made["guests"][0])):
        words = set(re.findall(r"`([a-z_]+)`", rows[key]))
        assert words and words <= set(where), key
    assert set(re.findall(r"`(\w+)`", rows["troubles"])) == {"kind", "severity", "sentence"}
    assert "counts" in made and "changes" in made
