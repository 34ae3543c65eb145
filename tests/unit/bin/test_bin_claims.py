# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
import subprocess
from pathlib import Path

import _claims
import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLE = REPOSITORY / "docs" / "example" / "demo" / "inventory"
ANSWERS = {claim.source: claim.expected for claim in _claims.CLAIMS}


def test_all_is_proved_when_the_host_says_what_is_expected() -> None:
    findings = list(_claims.check(lambda command: ANSWERS[command] + "\n"))
    assert [finding.claim for finding in findings if not finding.ok] == []
    assert _claims.report(findings, 0, 9, {"lab": 1.25}) == {
        "ok": True,
        "claims": [
            {
                "claim": claim.claim,
                "expected": claim.expected,
                "seen": claim.expected,
                "source": claim.source,
                "ok": True,
            }
            for claim in _claims.CLAIMS
        ],
        "second_run": {"changed": 0, "module_executions": 9},
        "seconds": {"lab": 1.2},
    }


@pytest.mark.parametrize("lie", [claim.claim for claim in _claims.CLAIMS])
@pytest.mark.parametrize("answer", ["", "something else", "-1"])
def test_each_claim_can_fail(lie: str, answer: str) -> None:
    wrong = {claim.source: answer for claim in _claims.CLAIMS if claim.claim == lie}
    findings = list(_claims.check(lambda command: {**ANSWERS, **wrong}[command]))
    assert [finding.claim for finding in findings if not finding.ok] == [lie]
    assert not _claims.report(findings, 0, 0, {})["ok"]
    assert f"FAILED  {lie}" in _claims.table(findings)


@pytest.mark.parametrize(
    ("seen", "holds"), [("1024", True), ("1008", True), ("1007", False), ("3900", False), ("", False)]
)
def test_what_dom0_may_have(seen: str, holds: bool) -> None:
    assert _claims.near(seen, "1024") is holds


def test_nothing_proved_is_not_all_proved() -> None:
    assert not _claims.report([], 0, 0, {})["ok"]


@pytest.mark.parametrize("changed", [1, None])
def test_a_second_run_that_changed_something_is_a_failure(changed: int | None) -> None:
    findings = list(_claims.check(ANSWERS.__getitem__))
    assert not _claims.report(findings, changed, 0, {})["ok"]
    assert not _claims.unchanged(1).ok


def test_what_lasts_is_compared_and_nothing_is_not_the_same() -> None:
    same = {command: "7" for _, command in _claims.LASTING}
    assert all(finding.ok for finding in _claims.lasting(same, same))
    assert not any(finding.ok for finding in _claims.lasting(same, dict.fromkeys(same, "8")))
    assert not any(finding.ok for finding in _claims.lasting(dict.fromkeys(same, ""), dict.fromkeys(same, "")))


@pytest.mark.parametrize("claim", _claims.CLAIMS, ids=lambda claim: claim.claim)
def test_the_commands_are_shell(claim: _claims.Claim) -> None:
    subprocess.run(["sh", "-n", "-c", claim.source], check=True)


def test_the_claims_are_about_the_inventory_of_the_demonstration() -> None:
    asked = yaml.safe_load((EXAMPLE / "group_vars" / "xen_hosts.yml").read_text())
    assert asked["dom0_memory_size"] == _claims.DOM0_SIZE
    guests = {_claims.GRUB: asked["pvgrub_guest_guests"], _claims.HVM: asked["hvm_stubdom_guests"]}
    for name, listed in guests.items():
        assert [guest["name"] for guest in listed] == [name]
        assert listed[0]["says"] == _claims.SAYS[name]
        assert [disk["target"] for disk in listed[0]["disks"]] == [_claims.DISKS[name]]


def test_the_first_page_shows_what_is_claimed() -> None:
    page = (REPOSITORY / "README.md").read_text()
    lasting = dict.fromkeys((command for _, command in _claims.LASTING), "7")
    claims = [claim.claim for claim in _claims.CLAIMS]
    claims += [_claims.unchanged(0).claim, *(finding.claim for finding in _claims.lasting(lasting, lasting))]
    assert re.findall(r"^proved  (.*)$", page, re.MULTILINE) == claims
    assert f"\n{len(claims)} of {len(claims)} claims proved" in page
