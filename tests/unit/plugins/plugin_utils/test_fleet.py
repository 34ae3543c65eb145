# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Dict

import fleets
import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.xen.stubdom.plugins.filter.fleet import make
from ansible_collections.xen.stubdom.plugins.filter.fleet_refused import refused
from ansible_collections.xen.stubdom.plugins.filter.fleet_view import view
from ansible_collections.xen.stubdom.plugins.plugin_utils import fleet, troubles

NOW = "2026-11-29T12:00:00Z"
GOLDEN = Path(__file__).parent / "fixtures" / "troubled.txt"


def report(answers: Dict[str, Any], **more: Any) -> Dict[str, Any]:
    return make(answers, **{"now": NOW, **more})


def kinds(made: Dict[str, Any]) -> Dict[str, list[str]]:
    """The kinds of trouble by host, and by guest."""
    found = {}
    for one in (*made["hosts"], *made["guests"]):
        found.setdefault(one["name"], []).extend(trouble["kind"] for trouble in one["troubles"])
    return found


def test_every_kind_of_trouble_is_found_where_it_is_and_nowhere_else() -> None:
    found = kinds(report(fleets.troubled()))
    assert found.pop("fine") == [] and found.pop("guests") == [] and found.pop("stopped") == []
    assert found.pop("twin") == []
    # It runs on two hosts.
    assert found.pop("runs_twice") == ["runs_twice"] * 2
    # Without another configuration there is none that could start it with the host.
    assert set(found) == set(troubles.BY_KEY) - {"runs_twice"}
    assert {name: kinds_of for name, kinds_of in found.items() if kinds_of != [name]} == {}


def test_what_is_said_of_each() -> None:
    made = report(fleets.troubled())
    lines = []
    for row in fleet.groups(made):
        play = [f"  $ {row['play']}"] if row["play"] else []
        lines += [f"{row['severity']}: {row['title']}", f"  {row['cure']}", *play]
        lines += [f"  - {one['sentence']}" for one in row["of"]]
    # A difference in this file is what users will read.
    assert "\n".join(lines) + "\n" == GOLDEN.read_text()


def test_why_the_memory_of_dom0_is_not_fixed() -> None:
    memory = {**fleets.host()["memory"], "dom0_fixed": False, "autoballoon": "auto"}
    (host,) = report({"a": fleets.host(memory=memory)})["hosts"]
    assert [one["sentence"] for one in host["troubles"]] == ["a: xl takes memory from dom0 when guests start."]


def test_the_worst_comes_first() -> None:
    found = [troubles.SEVERITIES.index(row["severity"]) for row in fleet.groups(report(fleets.troubled()))]
    assert found == sorted(found) and set(found) == {0, 1, 2}


@pytest.mark.parametrize("listen", ["127.0.0.1", "[::1]", "/run/xen-stubdom/web.vnc"])
def test_a_screen_that_only_dom0_reaches_is_no_trouble(listen: str) -> None:
    guest = fleets.emulated("web", 3, screens=[fleets.screen(listen=listen)])
    assert kinds(report({"a": fleets.host(guests=[guest])}))["web"] == []


@pytest.mark.parametrize("row", troubles.BY_KEY.values(), ids=lambda row: row.key)
def test_the_play_that_cures_is_one_of_ours(row: troubles.Trouble) -> None:
    repository = Path(__file__).resolve().parents[4]
    assert row.cure.endswith(".")
    if row.play:
        words = row.play.split()
        playbook = repository / "playbooks" / f"{words[1].rpartition('.')[2]}.yml"
        assert words[0] == "ansible-playbook" and playbook.is_file()
        if "--tags" in words:
            for tag in words[-1].split(","):
                assert f"tags: {tag}\n" in playbook.read_text()


def test_a_host_without_an_answer_keeps_what_was_known_of_it() -> None:
    before = report({"a": fleets.host(guests=[fleets.domain("web", 3, boot="pygrub")])}, now="2026-11-28T12:00:00Z")
    made = report({"a": {"unreachable": True, "msg": "No route to host"}}, previous=before)
    (host,), (guest,) = made["hosts"], made["guests"]
    assert (host["error"], host["seen"], host["release"]) == ("No route to host", "2026-11-28T12:00:00Z", "4.20")
    assert (guest["name"], guest["stale"], guest["troubles"]) == ("web", True, [])
    assert made["changes"] == [
        {"host": "a", "guest": None, "what": "reachable", "before": "answers", "after": "does not answer"}
    ]
    # And a third time, after two without an answer.
    again = report({"a": {"unreachable": True, "msg": "No route to host"}}, previous=made)
    assert again["hosts"][0]["seen"] == "2026-11-28T12:00:00Z" and again["changes"] == []


def test_what_has_changed() -> None:
    before = report({"a": fleets.host(guests=[fleets.domain("web", 3), fleets.domain("old", 5)])})
    web = fleets.domain("web", 9, memory_mib=1024, state="paused")
    made = report({"a": fleets.host(guests=[web, fleets.domain("new", 7)])}, previous=before)
    found = {(one["guest"], one["what"]): (one["before"], one["after"]) for one in made["changes"]}
    assert found == {
        ("web", "state"): ("running", "paused"),
        ("web", "memory_mib"): (512, 1024),
        ("web", "uuid"): ("00000000-0000-0000-0000-000000000003", "00000000-0000-0000-0000-000000000009"),
        ("old", "gone"): (None, None),
        ("new", "new"): (None, None),
    }
    assert report({"a": fleets.host()})["changes"] == []


def test_who_has_the_memory_of_a_host() -> None:
    web = fleets.emulated("web", 3, memory_mib=2048)
    answers = {"a": fleets.host(guests=[web, fleets.stub(web), fleets.domain("mail", 9)])}
    parts = fleet.memory(report(answers))["a"]
    assert parts == {"dom0": 1024, "stub_domains": 136, "guests": 2560, "free": 8192, "xen": 53624}
    assert sum(parts.values()) == 65536


def test_a_guest_is_described_once_with_its_stub_domain_and_its_file() -> None:
    web = fleets.emulated("web", 3)
    there = [fleets.configuration("web", autostart=1), fleets.configuration("web", path="/etc/xen/copy.cfg")]
    (guest,) = report({"a": fleets.host(guests=[web, fleets.stub(web)], configurations=there)})["guests"]
    assert guest["stub_domain"] == {"name": "web-dm", "domid": 4, "memory_mib": 136}
    assert (guest["place"], guest["flavour"], guest["config"]) == ("stub_domain", "linux", "/etc/xen/web.cfg")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"failed": True, "msg": "`xl info` failed: x."}, "`xl info` failed: x"),
        ({"unreachable": True}, "no answer"),
        ({}, "no answer"),
        (None, "no answer"),
        ("text", "no answer"),
    ],
)
def test_a_host_that_says_nothing_of_use(answer: Any, error: str) -> None:
    (host,) = report({"a": answer})["hosts"]
    assert host["error"] == error and [one["kind"] for one in host["troubles"]] == ["unreachable"]


def test_what_hosts_say_reaches_no_terminal_and_no_template() -> None:
    answers = {"a": fleets.host(guests=[fleets.domain(fleets.HOSTILE, 3, config=fleets.HOSTILE)])}
    made = report(answers)
    for text in (str(made), view(made, "csv"), view(made, "table"), view(made, "html")):
        assert not [letter for letter in text if not letter.isprintable() and letter not in "\r\n"]
        assert not any(start in text for start in ("{{", "{%", "{#"))


def test_a_formula_in_the_csv_is_text() -> None:
    made = report({"a": fleets.host(guests=[fleets.domain('=HYPERLINK("http://x")', 3)])})
    assert '\r\na,"\'=HYPERLINK(""http://x"")",running,' in view(made, "csv")


def test_the_table_for_a_terminal() -> None:
    web = fleets.emulated("web", 3, "dom0_root")
    made = report({"a": fleets.host(guests=[web, fleets.domain("mail", 9)]), "b": {"unreachable": True}})
    assert view(made, "table").splitlines() == [
        "HOST  XEN        NEXT BOOT  DOM0      FREE      GUESTS   ISOLATED  CRITICAL  WARNING  NOTICE",
        "a     4.20       Xen        1024 MiB  8192 MiB  2/2      0/1       0         1        0",
        "b     no answer                                 0 known            1         0        0",
        "",
        "critical  1  unreachable                Hosts that did not answer"
        "              Check the host's console, its network and its SSH server.",
        "warning   1  device_model_root_in_dom0  HVM guests whose QEMU is root in dom0"
        "  ansible-playbook xen.stubdom.site --tags hvm_stubdom",
    ]


def test_what_a_policy_refuses() -> None:
    made = report(fleets.troubled())
    assert refused(made, ["pygrub", "crashed"]) == {"crashed": 1, "pygrub": 1}
    assert set(refused(made, ["notice"])) == {row.key for row in troubles.BY_KEY.values() if row.severity == "notice"}
    assert refused(report({"a": fleets.host()}), ["critical", "warning", "notice"]) == {}
    with pytest.raises(AnsibleFilterError, match="no findings called pigrub"):
        refused(made, ["pigrub"])


@pytest.mark.parametrize("previous", [{"format": 99}, [1], "text"])
def test_what_is_no_report_before(previous: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="none of this filter's"):
        report({"a": fleets.host()}, previous=previous)


def test_wrong_use_of_the_filters() -> None:
    with pytest.raises(AnsibleFilterError, match="takes a dictionary"):
        make([])  # type: ignore[arg-type]
    with pytest.raises(AnsibleFilterError, match="is no time"):
        make({}, now="today")
    with pytest.raises(AnsibleFilterError, match="There is no form 'pdf'"):
        view(report({}), "pdf")
    with pytest.raises(AnsibleFilterError, match="takes a report"):
        view({}, "html")


def test_what_is_given_is_not_changed() -> None:
    answers = fleets.troubled()
    kept = copy.deepcopy(answers)
    before = report(answers)
    kept_before = copy.deepcopy(before)
    report(answers, previous=before)
    assert answers == kept and before == kept_before
