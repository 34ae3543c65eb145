# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What a RETURN block promises and what a module keeps.

from __future__ import annotations

from typing import Any

import documented
import pytest
import yaml

RETURN = yaml.safe_load("""
size: {description: Its size., type: int, returned: success}
running: {description: Its value; null without one., type: str, returned: success}
copies: {description: Copies., type: dict, returned: when asked for}
guests:
  description: All of them.
  type: list
  elements: dict
  returned: success
  contains:
    name: {description: Its name., type: str}
    files: {description: Its files., type: list, elements: str}
""")
GOOD = {"changed": True, "size": 1, "running": None, "guests": [{"name": "a", "files": ["x"]}]}


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({}, []),
        ({"copies": {"a": "b"}, "running": "x", "guests": []}, []),
        ({"size": "1"}, ["size is no int: '1'"]),
        ({"size": True}, ["size is no int: True"]),
        ({"size": None}, ["size is null, and its description does not say when"]),
        ({"extra": 1}, ["extra is returned and not documented"]),
        ({"guests": [{"files": []}]}, ["guests[0].name is documented and not returned"]),
        ({"guests": [{"name": "a", "files": [1], "id": 2}]}, [
            "guests[0].id is returned and not documented", "guests[0].files[0] is no str: 1",
        ]),
    ],
)  # fmt: skip
def test_problems(change: dict[str, Any], wanted: list[str]) -> None:
    assert documented.problems(RETURN, {**GOOD, **change}) == wanted


def test_what_is_promised_and_missing() -> None:
    assert documented.problems(RETURN, {"changed": False, "running": "x", "guests": []}) == [
        "size is documented and not returned"
    ]
