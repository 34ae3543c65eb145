# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import fleets
import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.xen.stubdom.plugins.filter.fleet import make
from ansible_collections.xen.stubdom.plugins.filter.query import ask
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.plugin_utils import query

REPORT = make(fleets.troubled(), now="2026-11-29T12:00:00Z")


def test_an_answer() -> None:
    found = ask(REPORT, "guests[?place == 'dom0_root'].{host: host, guest: name}")
    assert found == [{"host": "guests", "guest": "device_model_root_in_dom0"}]
    assert ask(REPORT, "guests[?state == 'no such'].name") == []
    assert ask(REPORT, "missing") is None


@pytest.mark.parametrize(
    ("expression", "position", "what"),
    [
        ("guests[?place=='a'", 19, "the expression ends too early"),
        ("guests[?place=]", 14, "Unknown token"),
        ("guests[?place==]", 16, "']' is not expected"),
        ("guests.#", 8, "Unknown token"),
        ("lenght(guests)", 1, "there is no such function"),
        ("hosts[].length(running)", 9, "length() does not take boolean: True"),
        ("length(hosts, guests)", 1, "Expected 1 argument for function length(), received 2"),
        ("guests[?plase=='dom0_root'].name", 9, "nothing is called plase; place is similar"),
        ("gests[].name", 1, "nothing is called gests; guests is similar"),
    ],
)
def test_where_an_expression_is_wrong(expression: str, position: int, what: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        ask(REPORT, expression)
    first, remedy = str(caught.value).splitlines()
    assert first.startswith(f"The expression is wrong at character {position}: {what}")
    marked = f"{expression[: position - 1]}>>>{expression[position - 1 :]}"
    assert remedy == f"Correct it behind the mark >>> in: {marked}"


def test_an_empty_expression() -> None:
    with pytest.raises(AnsibleFilterError, match="The expression is empty"):
        ask({}, "")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "jmespath", None)
    with pytest.raises(UserError, match="jmespath is not installed on the control machine"):
        query.Query("a")


def test_texts_of_other_types_are_texts() -> None:
    class Tagged(str):
        """As Ansible marks what it does not trust."""

    data: Any = {Tagged("a"): [Tagged("web"), True, 3]}
    assert ask(data, "a[?starts_with(to_string(@), 'w')]") == ["web"]
    assert type(query.plain(data)["a"][0]) is str and query.plain(data)["a"][1] is True
