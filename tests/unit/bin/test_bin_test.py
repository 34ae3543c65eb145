# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# bin/test itself: what is run, in which order, and what it says at the end.

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import _test
import pytest
from errors import LabError


def test_all_tiers_in_their_order() -> None:
    assert [*_test.plan([]), "mutation"] == list(_test.TIERS)


def test_things_of_a_tier() -> None:
    assert _test.plan(["lint/ruff", "unit", "lint/mypy", "unit/tests/unit/lab"]) == {
        "lint": ["ruff", "mypy"],
        "unit": ["tests/unit/lab"],
    }


def test_unknown_tier(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        _test.main(["units"])
    assert caught.value.code == 2
    assert "There is no tier units. There are: unit, " in capsys.readouterr().err


@pytest.mark.parametrize("error", [_test.Failure("ruff ended with status 1."), LabError("No room.", "Make some.")])
def test_stops_at_the_first_failure(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def tier(name: str) -> _test.Tier:
        def act(_environment: dict[str, str], _asked: Sequence[str]) -> None:
            ran.append(name)
            if name == "b":
                raise error

        return _test.Tier((), act)

    monkeypatch.setattr(_test, "TIERS", {name: tier(name) for name in "abc"})
    monkeypatch.setattr(_test._machine, "prepare", lambda *_: {})
    assert _test.main([]) == 1
    assert ran == ["a", "b"]
    said = capsys.readouterr()
    assert str(error) in said.err
    assert [line.split()[::2] for line in said.out.splitlines()[-6:-3]] == [
        ["a", "passed"],
        ["b", "failed"],
        ["c", "not"],
    ]
    assert said.out.splitlines()[-1] == "1 passed, 1 failed"
    assert _test.main(["a"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 0 failed"


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (["unit", "lint", "docs", "xen"], ["unit", "lab", "lint", "docs", "xen"]),
        (["xen", "lint"], ["xen", "lint"]),
        (["unit", "xen"], ["unit", "xen"]),
        (["lint", "docs"], ["lint", "docs"]),
        (["docs", "faults", "xen"], ["lab", "docs", "ended"]),
    ],
)
def test_the_lab_is_made_ready_beside_other_tiers(
    asked: list[str], wanted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def tier(name: str) -> _test.Tier:
        def act(_environment: dict[str, str], _asked: Sequence[str]) -> None:
            if name == "faults":
                raise _test.Failure("It failed.")
            ran.append(name)

        return _test.Tier((), act)

    def make_lab_ready() -> Any:
        ran.append("lab")
        return SimpleNamespace(terminate=lambda: ran.append("ended"), wait=lambda: 0)

    monkeypatch.setattr(_test, "TIERS", {name: tier(name) for name in _test.TIERS})
    monkeypatch.setattr(_test, "make_lab_ready", make_lab_ready)
    monkeypatch.setattr(_test._machine, "prepare", lambda *_: {})
    _test.main(asked)
    assert ran == wanted


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["sh", "-c", "exit 3"], 3),
        (["true", "--flag"], 0),
        (["sh", "-c", 'test "$*" = "a -- --in b -- c"', "sh", "a", "--", "--in", "b", "--", "c"], 0),
    ],
)
def test_a_command_in_the_environment_of_a_tier(words: list[str], status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_test._machine, "prepare", lambda *_: {"PATH": "/usr/bin:/bin"})
    assert _test.main(["--in", "xen", *words]) == status


@pytest.mark.parametrize("words", [[], ["xen"], ["xenon", "true"]])
def test_a_command_in_no_tier(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _test.main(["--in", *words])
    assert "Use --in TIER COMMAND" in capsys.readouterr().err


def test_each_checkout_has_its_own_tree_for_sanity(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = []
    monkeypatch.setattr(_test.sanity, "tree", lambda _repository, cache: trees.append(cache))
    monkeypatch.setattr(_test.sanity, "home", lambda _directory: None)
    monkeypatch.setattr(_test.sanity, "environment", lambda *_: {})
    monkeypatch.setattr(_test, "run", lambda *_: None)
    for checkout in ("/one", "/other"):
        monkeypatch.setattr(_test, "REPOSITORY", checkout)
        _test.check_sanity({}, [])
    assert len({tree.name for tree in trees}) == 2
    assert len({tree.parent for tree in trees}) == 1
