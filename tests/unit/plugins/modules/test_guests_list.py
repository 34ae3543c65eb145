# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Several guests in one list: planned together, refused together, changed in one transaction, started in their order.

from __future__ import annotations

import contextlib
import json
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import in_process
import pytest
import xen_host
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import Several, UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import domain as guest_domain
from ansible_collections.xen.stubdom.plugins.module_utils._guests import plan, virtualisation
from ansible_collections.xen.stubdom.plugins.module_utils._guests.moved import Moved
from hypothesis import given, settings
from hypothesis import strategies as st
from xen_host import BOOT, Host


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    yield from xen_host.played(tmp_path, monkeypatch)


def pv(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "pv", "memory": 64, **more}


def hvm(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "hvm", "memory": 64, **more}


KINDS = (pv("a"), {"name": "b", "type": "pvh", "memory": 64}, hvm("c"), pv("d", autostart=True))


def test_guests_of_all_kinds_in_four_steps(host: Host) -> None:
    running = {"state": "running"}
    steps = [host.run(*KINDS, defaults=running, check=check) for check in (True, False, True, False)]
    assert [step["changed"] for step in steps] == [True, True, False, False]
    for step in steps:
        assert [guest["name"] for guest in step["guests"]] == ["a", "b", "c", "d"]
    assert [guest["actions"] for guest in steps[1]["guests"]] == [
        ["written", "started"], ["written", "started"], ["written", "started"], ["written", "linked", "started"],
    ]  # fmt: skip
    assert [guest["state"] for guest in steps[0]["guests"]] == ["running"] * 4
    assert [guest["state"] for guest in steps[3]["guests"]] == ["blocked"] * 4
    assert steps[1]["acted"] == ["a", "b", "c", "d"] and steps[3]["acted"] == []
    assert len(steps[1]["diff"]) == 5 and steps[0]["diff"] == steps[1]["diff"]


def test_all_that_is_wrong_is_refused_at_once_and_nothing_is_written(host: Host) -> None:
    before = host.tree()
    wrong = (pv("e", memory=0), pv("f", disks=[{"target": "/srv/none.img"}]))
    for check in (True, False):
        with pytest.raises(UserError) as refused:
            host.run(*KINDS, *wrong, defaults={"state": "running"}, check=check)
        lines = str(refused.value).splitlines()
        assert lines[0] == "2 of 6 guests cannot be configured; nothing was changed."
        assert [line.split(":")[0] for line in lines[1:]] == ["e", "f"]
    assert host.tree() == before and host.acts == []


def test_each_error_is_a_line_of_what_ansible_shows(tmp_path: Path) -> None:
    wrong = [pv("a", memory=0), pv("b\nc"), pv("d", memory=-1)]
    lines = in_process.play("guests", {"guests": wrong, "directory": str(tmp_path)})["msg"].split("\n")
    assert [line.split(":")[0] for line in lines[1:]] == ["a", "b\\nc", "d"]


def test_a_guest_that_fails_hides_no_other(host: Host) -> None:
    host.fails["b"] = "libxl: error: no luck\n"
    with pytest.raises(UserError, match="1 of 4 guests failed; the others are as asked for") as failed:
        host.run(*KINDS, defaults={"state": "running"})
    found = {guest["name"]: guest for guest in failed.value.details["guests"]}
    assert [name for name, guest in found.items() if guest["failed"]] == ["b"]
    assert "no luck" in found["b"]["msg"] and found["c"]["state"] == "blocked"
    assert failed.value.details["changed"]


@pytest.mark.parametrize(("on_failure", "started"), [("continue", ["b", "d"]), ("stop", [])])
def test_what_is_to_start_after_a_guest_that_failed_is_left(host: Host, on_failure: str, started: list[str]) -> None:
    host.fails["a"] = "libxl: error: no luck\n"
    listed = [pv("a"), pv("b"), pv("c", start_after=["a"]), pv("d")]
    with pytest.raises(UserError) as failed:
        host.run(*listed, defaults={"state": "running"}, on_failure=on_failure)
    assert sorted(host.domains) == started
    found = {guest["name"]: guest["msg"] for guest in failed.value.details["guests"]}
    assert "a failed, after which it is to start" in found["c"]


def test_guests_start_in_their_order_and_end_in_the_reverse_one(host: Host) -> None:
    listed = [pv("a", start_after=["c"]), pv("b", start_after=["a"]), pv("c")]
    host.run(*listed, defaults={"state": "running", "says": "hello"})
    assert [call for call in host.calls if call.startswith("create")] == [
        f"create -p /etc/xen/{name}.cfg" for name in "cab"
    ]
    ids = {name: str(host.domains[name].domid) for name in "abc"}
    host.run(*listed, defaults={"state": "stopped"})
    ended = [call for call in host.calls if call.startswith("shutdown")]
    assert ended == [f"shutdown -F {ids[name]}" for name in "bac"]


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([pv("a"), pv("a")], "Two guests are called a"),
        ([pv("a"), pv("b", path="@/a.cfg")], "Two guests have the configuration"),
        ([hvm("a"), pv("a-dm")], "what the stub domain of a will be called"),
        ([pv("a", start_after=["b"])], "start_after names 'b', which is no guest"),
        ([pv("a", start_after=["b"]), pv("b", start_after=["a"])], "to start after each other: a, b"),
        ([pv(n, nics=[{"mac": "00:16:3e:00:00:0A"}]) for n in "ab"], "address 00:16:3e:00:00:0a is another guest's"),
    ],
)  # fmt: skip
def test_what_cannot_be_in_one_list(host: Host, listed: list[dict[str, Any]], message: str) -> None:
    directory = str(host.root / "etc/xen")
    given = [
        {key: value.replace("@", directory) if key == "path" else value for key, value in one.items()} for one in listed
    ]
    with pytest.raises(UserError, match=message):
        host.run(*given)


def test_memory_for_all_that_are_started_together(host: Host) -> None:
    host.free = 200
    listed = [pv(name, memory=90) for name in "abc"]
    with pytest.raises(UserError, match="need 276 MiB together, and the host has 200 MiB for them"):
        host.run(*listed, defaults={"state": "running"})
    assert host.domains == {}
    assert host.run(*listed[:2], defaults={"state": "running"})["memory"] == {"free_mib": 200, "needed_mib": 184}


def test_memory_for_guests_that_go_on_or_get_more(host: Host) -> None:
    host.run(pv("a", state="running", maxmem=200), pv("b", state="running", memory=90))
    host.run({"name": "b", "state": "saved"})
    more = (pv("a", state="running", memory=150, maxmem=200), pv("b", state="running", memory=90))
    before = host.tree()
    for free, message in (
        (80, "a needs 86 MiB of additional memory|b needs 92 MiB of memory"),
        (100, "to be started or given more need 180 MiB together, and the host has 100 MiB for them"),
    ):
        host.free = free
        with pytest.raises(UserError, match=message):
            host.run(*more)
        assert host.tree() == before and host.acts == []
    host.free = 180
    result = host.run(*more)
    assert [guest["actions"] for guest in result["guests"]] == [["written", "changed"], ["restored"]]
    assert result["memory"]["needed_mib"] == 92


def test_guests_that_are_saved_make_room_for_others_in_the_order_of_ends(host: Host) -> None:
    listed = [pv("a"), pv("b", start_after=["a"])]
    host.run(*listed, defaults={"state": "running"})
    host.free = 10
    result = host.run(*listed, pv("c", memory=130, state="running"), defaults={"state": "saved"})
    assert host.acts == ["save", "save", "create", "unpause"]
    saves = [call.split()[-1] for call in host.calls if call.startswith("save")]
    assert saves == [f"/var/lib/xen/saved/{name}.save.xl" for name in "ba"]
    assert [guest["actions"] for guest in result["guests"]] == [["saved"], ["saved"], ["written", "started"]]


def test_a_steady_run_asks_little(host: Host) -> None:
    host.run(*KINDS, defaults={"state": "running", "says": "hello"})
    asked: list[list[str]] = []
    real = host.run_command

    def run_command(arguments: list[str], **options: Any) -> xen_host.Answer:
        asked.append(arguments[:2])
        return real(arguments, **options)

    host.run_command = run_command  # type: ignore[method-assign]
    more = [pv(f"more{number}") for number in range(20)]
    host.run(*KINDS, *more, defaults={"state": "running", "says": "hello"})
    asked.clear()
    assert not host.run(*KINDS, *more, defaults={"state": "running", "says": "hello"})["changed"]
    # One HVM guest among them costs two reads of what its stub domain can write.
    assert [one[0] for one in asked].count("xenstore-read") <= 5, asked
    assert [one[1] for one in asked if one[0] == "xl"] == ["info", "list"] or len(asked) <= 8, asked


def test_a_running_guest_is_not_forgotten_and_the_others_are(host: Host) -> None:
    host.run(pv("a", state="running"), pv("b"))
    for check in (True, False):
        with pytest.raises(
            UserError, match=r"1 of 2 guests failed.*\n?.*still there as domain 3 \(blocked\)"
        ) as failed:
            host.run({"name": "a", "state": "absent"}, {"name": "b", "state": "absent"}, check=check)
        assert [guest["actions"] for guest in failed.value.details["guests"]] == [[], ["removed"]]
        assert (host.root / "etc/xen/a.cfg").exists()
        assert (host.root / "etc/xen/b.cfg").exists() == check
    steps = [
        host.run({"name": "a", "state": "absent", "stop": "force"}, check=check) for check in (True, False, True, False)
    ]
    assert [step["changed"] for step in steps] == [True, True, False, False]
    assert steps[0]["guests"][0]["actions"] == steps[1]["guests"][0]["actions"] == ["stopped", "removed"]
    assert not (host.root / "etc/xen/a.cfg").exists() and host.domains == {}


def test_a_guest_of_another_kind_with_the_same_name_is_not_replaced(host: Host) -> None:
    host.run(pv("a"))
    with pytest.raises(
        UserError, match="is the configuration of a PV or PVH guest called a, and an HVM guest is asked for"
    ):
        host.run(hvm("a"))
    assert host.run(hvm("a"), replace=True)["changed"]


# The defaults of the roles, which have one list each.
PVGRUB_GUEST = {"type": "pv", "flavour": "grub2"}
HVM_STUBDOM = {"type": "hvm", "flavour": "linux"}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            ({"name": "a"}, PVGRUB_GUEST),
            ({"name": "a"}, HVM_STUBDOM),
            "a.cfg is the configuration of a PV or PVH guest called a, and an HVM guest is asked for",
        ),
        (
            ({"name": "a"}, HVM_STUBDOM),
            ({"name": "a"}, PVGRUB_GUEST),
            "a.cfg is the configuration of an HVM guest called a, and a PV or PVH guest is asked for",
        ),
        (
            ({"name": "a"}, HVM_STUBDOM),
            ({"name": "a", "state": "absent"}, PVGRUB_GUEST),
            "a.cfg is the configuration of an HVM guest called a, and a PV or PVH guest is to be absent",
        ),
        (
            ({"name": "a"}, PVGRUB_GUEST),
            ({"name": "a", "state": "absent"}, HVM_STUBDOM),
            "a.cfg is the configuration of a PV or PVH guest called a, and an HVM guest is to be absent",
        ),
        (
            ({"name": "a-dm"}, PVGRUB_GUEST),
            ({"name": "a"}, HVM_STUBDOM),
            "stub domain of a will be called a-dm, and that is taken by another configuration: .*/a-dm.cfg",
        ),
        (
            ({"name": "a"}, HVM_STUBDOM),
            ({"name": "a-dm"}, PVGRUB_GUEST),
            "guest name a-dm is taken by another configuration: .*/a.cfg",
        ),
    ],
)
def test_one_name_in_the_lists_of_both_roles_is_refused_by_the_second(
    host: Host, first: tuple[Any, Any], second: tuple[Any, Any], message: str, check: bool
) -> None:
    body = {"memory": 64}
    host.run({**body, **first[0]}, defaults={**first[1], "state": "running"})
    before, there = host.tree(), dict(host.domains)
    given = second[0] if second[0].get("state") == "absent" else {**body, **second[0]}
    for _again in range(2):
        with pytest.raises(UserError, match=message) as refused:
            host.run(given, defaults={**second[1], "stop": "force"}, check=check)
        assert len(str(refused.value).splitlines()) == 2
        assert (host.tree(), host.domains, host.acts) == (before, there, [])
        # The first of them is as it was asked for.
        assert not host.run({**body, **first[0]}, defaults={**first[1], "state": "running"})["changed"]


def test_a_guest_of_another_kind_is_removed_where_that_is_meant(host: Host) -> None:
    for asked in (
        {"guest": {}, "replace": True, "defaults": PVGRUB_GUEST},
        {"guest": {"type": "hvm", "flavour": "linux"}, "defaults": PVGRUB_GUEST},
        {"guest": {}},
    ):
        host.run(hvm("a"))
        given = {"name": "a", "state": "absent", **asked.pop("guest")}
        assert host.run(given, **asked)["changed"]
        assert not (host.root / "etc/xen/a.cfg").exists()


def test_states_of_a_life(host: Host) -> None:
    def state(wanted: str, **more: Any) -> tuple[list[str], str]:
        results = [host.run(pv("a", state=wanted, **more), check=check)["guests"][0] for check in (True, False)]
        assert results[0]["actions"] == results[1]["actions"], wanted
        return results[1]["actions"], results[1]["state"]

    assert state("running") == (["written", "started"], "blocked")
    assert state("paused") == (["paused"], "paused")
    assert state("paused") == ([], "paused")
    assert state("running") == (["unpaused"], "blocked")
    assert state("saved") == (["saved"], "absent")
    assert state("saved") == ([], "absent")
    with pytest.raises(UserError, match="is saved in .*, whose memory would not fit"):
        state("restarted")
    assert state("paused") == (["restored", "paused"], "paused")
    assert state("running") == (["unpaused"], "blocked")
    assert state("rebooted") == (["rebooted"], "blocked")
    assert state("restarted") == (["restarted"], "blocked")
    assert state("restarted", stop="force") == (["restarted"], "blocked")
    assert state("stopped") == (["stopped"], "absent")
    assert state("stopped") == ([], "absent")
    assert state("paused") == (["started"], "paused")
    assert state("stopped", stop="force") == (["stopped"], "absent")
    with pytest.raises(UserError, match="does not run .absent., so there is nothing to save"):
        state("saved")
    assert state("restarted") == (["started"], "blocked")


def test_a_guest_that_was_moved_to_another_host_is_not_started_here(host: Host) -> None:
    """A list that was not changed would have it run twice."""
    host.run(pv("a", autostart=True), pv("b"))
    moved, link = Moved("a", str(host.root)), host.root / "etc/xen/auto/a.cfg"
    moved.note("xen2")
    link.unlink()
    for state in ("running", "paused", "restarted", "rebooted"):
        with pytest.raises(Several, match="The guest a was moved to xen2, and is not started here") as error:
            host.run(pv("a", state=state, autostart=True), pv("b", state="running"))
        assert error.value.details["guests"][0]["autostart"] is False
        assert not link.is_symlink() and [*host.domains] == ["b"]
    for state in ("present", "stopped"):
        result = host.run(pv("a", state=state, autostart=True))
        assert not result["changed"] and "a was moved to xen2, so" in result["warnings"][0] and moved.to() == "xen2"


def test_a_guest_that_has_come_back_some_other_way_is_at_home_again(host: Host) -> None:
    host.run(pv("a", state="running", autostart=True))
    moved = Moved("a", str(host.root))
    moved.note("xen2")
    assert not host.run(pv("a", state="running", autostart=True))["changed"] and moved.to() is None
    # One that is to be nowhere has no note, either.
    moved.note("xen2")
    host.run({"name": "a", "state": "absent", "stop": "force"})
    assert moved.to() is None
    moved.note("xen2")
    host.run({"name": "a", "state": "absent"})
    assert moved.to() is None


@pytest.mark.parametrize("state", ["stopped", "saved"])
def test_a_guest_that_ends_has_nothing_to_be_started_again_for(host: Host, state: str) -> None:
    host.run(pv("a", state="running"))
    steps = [host.run(pv("a", state=state, memory=70, maxmem=90), check=check) for check in (True, False, True, False)]
    assert [step["restart_required"] for step in steps] == [[]] * 4


def test_a_guest_that_is_paused_does_what_it_is_asked_for(host: Host) -> None:
    """It is let go first, as it would do nothing of it."""

    def actions(wanted: str, **more: Any) -> list[str]:
        results = []
        for check in (True, False, True, False):
            results.append(host.run(pv("a", state=wanted, stop_timeout=0, **more), check=check)["guests"][0])
        again = results[2:] if wanted in ("running", "stopped", "saved", "absent") else []
        assert results[0]["actions"] == results[1]["actions"] and not any(one["changed"] for one in again), wanted
        return list(results[1]["actions"])

    expected = {
        "stopped": ["unpaused", "stopped"],
        "saved": ["unpaused", "saved"],
        "rebooted": ["unpaused", "rebooted"],
        "restarted": ["unpaused", "restarted"],
        "absent": ["unpaused", "stopped", "removed"],
    }
    for state, words in expected.items():
        host.run(pv("a", state="running"))
        host.run(pv("a", state="paused"))
        assert actions(state, stop="graceful") == words
    host.run(pv("a", state="paused"))
    # What has to be started again is not let go for that.
    assert actions("running", memory=70, maxmem=90, restart=True, stop="force") == ["written", "restarted"]
    host.run(pv("a", state="paused"))
    assert actions("running", memory=70, maxmem=91, restart=True) == ["written", "unpaused", "restarted"]
    host.run(pv("a", state="paused", memory=70, maxmem=91))
    assert actions("running", memory=80, maxmem=91) == ["written", "unpaused", "changed"]
    assert host.domains["a"].memory == 80


@pytest.mark.parametrize("state", ["stopped", "saved", "rebooted", "restarted", "absent"])
def test_a_guest_that_an_operator_paused_is_not_let_go(host: Host, state: str) -> None:
    host.run(pv("a", state="running"))
    host.domains["a"].letters = "--p---"
    for check in (True, False):
        with pytest.raises(UserError, match="The guest a is paused, and not by a start that was interrupted") as failed:
            host.run(pv("a", state=state, stop="graceful"), check=check)
        assert [failed.value.details["changed"], host.acts] == [False, []]


@pytest.mark.parametrize("on_failure", ["continue", "stop"])
@pytest.mark.parametrize("state", ["running", "restarted"])
def test_a_failure_counts_whenever_it_comes(host: Host, on_failure: str, state: str) -> None:
    """Before anything is done, as a is kept after its end, or as b does not end."""
    listed = [pv("a"), pv("b", state=state), pv("c", start_after=["a"]), pv("d", start_after=["b"]), pv("e")]
    host.run(*(pv(one["name"], state="running") for one in listed[:2]))
    host.domains["a" if state == "running" else "b"].letters = "---s--" if state == "running" else "--p---"
    told = []
    for check in (True, False):
        with pytest.raises(UserError) as failed:
            host.run(*listed, defaults={"state": "running"}, on_failure=on_failure, check=check)
        found = failed.value.details["guests"]
        told.append([(guest["name"], guest["actions"], guest["msg"]) for guest in found])
    assert told[0] == told[1]
    broken, dependent = ("a", "c") if state == "running" else ("b", "d")
    assert f"{broken} failed, after which it is to start" in {name: msg for name, _actions, msg in told[0]}[dependent]
    started = [name for name, actions, _msg in told[0] if "started" in actions]
    assert started == ([] if on_failure == "stop" else sorted({"c", "d", "e"} - {dependent}))


def test_a_guest_is_not_ended_while_one_that_depends_on_it_runs(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [pv("a"), pv("b", start_after=["a"])]
    host.run(*listed, defaults={"state": "running"})
    host.domains["b"].letters = "--p---"
    told = []
    for check in (True, False):
        with pytest.raises(UserError, match="2 of 2 guests failed") as failed:
            host.run(*listed, defaults={"state": "stopped"}, check=check)
        told.append([(guest["actions"], guest["msg"]) for guest in failed.value.details["guests"]])
    assert told[0] == told[1] and "because b failed, after which it is to stop" in told[0][0][1]
    assert [*host.domains] == ["a", "b"]


def test_a_guest_that_another_program_starts_meanwhile_is_not_ended(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = host.xl_create

    def late(*words: str) -> xen_host.Answer:
        host.there("a", "another")
        return create(*words)

    monkeypatch.setattr(host, "xl_create", late)
    with pytest.raises(UserError, match='name "a" already exists') as failed:
        host.run(pv("a", state="running"))
    assert failed.value.details["guests"][0]["failed"] and "by hand" not in failed.value.remedy
    assert host.domains["a"].letters == "-b----" and not [node for node in host.nodes if node.startswith("/tool/xen")]


def test_a_stub_domain_that_xl_leaves_does_not_stay(host: Host) -> None:
    host.fails["a"] = "libxl: error: device model did not start: -3\n"
    host.put("var/log/xen/qemu-dm-a.log", 'char device redirected\nFailed to get "write" lock\x1b\n')
    for _again in range(2):
        with pytest.raises(
            UserError, match="QEMU has not started. QEMU's last words were .*'Failed to get \"write\""
        ) as one:
            host.run(hvm("a", state="running"))
        assert "Nothing was left running" in str(one.value) and host.domains == {}
    # As a run that was killed has left it.
    host.run(pv("b", state="running"))
    for name, kernel in (("a-dm", f"/{xen_host.BOOT}/qemu-stubdom-linux-kernel"), ("b-dm", "/boot/vmlinuz")):
        host.there(name, f"of-{name}", "--p---")
        host.nodes[f"/vm/of-{name}/image/kernel"] = kernel
    host.fails.clear()
    host.run(hvm("a", state="running"))
    assert [*host.domains] == ["b", "b-dm", "a"]


def left_stub_domain(host: Host, kernel: str | None = f"/{xen_host.BOOT}/qemu-stubdom-linux-kernel") -> xen_host.Played:
    """What is left of a start of the guest a in which xl was killed; without a kernel while xl built it."""
    host.nodes[guest_domain.STARTING.format(key=files.sha256(b"a")[:32])] = "made with"
    if kernel is not None:
        host.nodes["/vm/of-a-dm/image/kernel"] = kernel
    return host.there("a-dm", "of-a-dm", "--p---")


@pytest.mark.parametrize("state", ["stopped", "absent"])
def test_a_stub_domain_without_its_guest_is_ended_as_the_guest_is(host: Host, state: str) -> None:
    host.run(hvm("a"))
    asked = hvm("a", state=state) if state == "stopped" else {"name": "a", "state": state}
    left_stub_domain(host)
    done = ["stopped"] if state == "stopped" else ["stopped", "removed"]
    for check, actions in ((True, done), (False, done), (True, []), (False, [])):
        result = host.run(asked, check=check)["guests"][0]
        assert (result["actions"], result["state"]) == (actions, "absent"), check
        assert [*host.domains] == ["a-dm"] * (check and bool(actions))
    # What serves another guest, or is none, stays.
    other = str(host.there("b", "b").domid)
    for kernel, target in (("/boot/vmlinuz", ""), (f"/{xen_host.BOOT}/ioemu-stubdom.gz", other)):
        played = left_stub_domain(host, kernel)
        if target:
            host.nodes[f"/local/domain/{played.domid}/target"] = target
        assert host.run(asked)["guests"][0]["actions"] == [] and "a-dm" in host.domains
        host.gone("a-dm")


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_stub_domain_that_was_being_built_goes(host: Host, state: str) -> None:
    """The guest does not know it yet, so that xl leaves it where the guest is destroyed."""
    host.run(hvm("a"))
    for guest_there in (True, False):
        left_stub_domain(host, kernel=None)
        if guest_there:
            host.there("a", plan.identity("a"), "--p---")
        host.run(hvm("a", state=state, stop="force"))
        assert [*host.domains] == (["a"] if state == "running" else [])
        host.run(hvm("a", state="stopped", stop="force"))


@pytest.mark.parametrize("vdev", ["hda", "xvdd", None, "d2p0"])
def test_a_disk_that_qemu_cannot_show_is_refused(host: Host, vdev: str | None) -> None:
    """libxl does so only when it has made the guest."""
    disk = {"target": "/srv/web.img", "access": "ro", **({} if vdev is None else {"vdev": vdev})}
    with pytest.raises(UserError, match="has the access ro, and QEMU has no IDE disks that are only read"):
        host.run(hvm("a", disks=[disk]))
    for other in ({"vdev": "xvde"}, {"vdev": "sda"}, {"vdev": "xvda1"}, {"cdrom": True, "vdev": "hdc"}):
        host.run(hvm("a", disks=[{**disk, **other}]))
    host.run(pv("b", disks=[disk]))


def test_two_guests_do_not_write_to_one_disk(host: Host) -> None:
    disks = [{"target": "/srv/web.img"}]
    with pytest.raises(UserError, match="The disk /srv/web.img is another guest's, too") as refused:
        host.run(pv("a", disks=disks), pv("b", disks=disks, state="paused"), defaults={"state": "running"})
    assert str(refused.value).startswith("2 of 2 guests cannot be configured")
    host.run(pv("a", disks=disks), pv("b", disks=disks, state="stopped"), defaults={"state": "running"})
    host.run(*(pv(name, disks=[{**disks[0], "access": "ro"}]) for name in "cd"), defaults={"state": "running"})


class Killed(BaseException):
    """What no code of ours takes for an error."""


def kill(host: Host, number: int, *, after: bool, **asked: Any) -> bool:
    """Have a run end before or after its program of this number; whether it has that many."""
    real, calls = host.run_command, []

    def run_command(arguments: list[str], **options: Any) -> xen_host.Answer:
        calls.append(arguments)
        if len(calls) == number and not after:
            raise Killed
        answer = real(arguments, **options)
        if len(calls) == number:
            raise Killed
        return answer

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(host, "run_command", run_command)
        with contextlib.suppress(Killed):
            host.run(pv("a", **asked))
    return len(calls) >= number


@pytest.mark.parametrize("after", [False, True])
def test_no_guest_goes_on_with_memory_that_does_not_fit_its_disks(host: Host, after: bool) -> None:
    """Wherever a run is killed that saves or restores: the memory is used once, and not lost without a word."""
    ends = []
    for number in range(1, 100):
        for state in ("saved", "running"):
            host.run(pv("a", state="running"))
            if state == "running":
                host.run(pv("a", state="saved"))
            uses = "save" if state == "saved" else "restore"
            whole = kill(host, number, after=after, state=state)
            used, there = uses in host.acts, "a" in host.domains
            if number % 2 and there:
                # The next run finds it as it went on, or as it has ended.
                host.gone("a")
            try:
                host.run(pv("a", state="running"))
                end = host.acts[-1] if host.acts else "none"
            except UserError as refused:
                end = "refused"
                assert "A run that saved or restored the guest a was interrupted, so " in refused.what
                assert "a" not in host.domains
                (host.root / "var/lib/xen/saved/a.save.xl").unlink()
                host.run(pv("a", state="running"))
            ends.append((state, used, end))
            if used and state == "running":
                assert end != "restore" or not after
            if used and state == "saved" and not there and after:
                assert end in ("restore", "refused")
            host.run(pv("a", state="stopped"))
            assert not host.run(pv("a", state="stopped"))["changed"]
            assert list((host.root / "var/lib/xen").glob("saved/*")) == []
        if not whole:
            break
    assert "refused" in {end for _state, _used, end in ends}


def test_a_guest_that_goes_on_has_the_configuration_that_it_was_saved_with(host: Host) -> None:
    """What of the new one needs no restart is changed then, and the rest is named."""
    host.run(pv("a", state="running", vcpus=2, maxvcpus=2))
    host.run(pv("a", state="saved"))
    host.nodes.clear()
    changed = pv("a", state="running", memory=65, vcpus=1, maxvcpus=2)
    steps = [host.run(changed, check=check)["guests"][0] for check in (True, False, True, False)]
    assert [step["actions"] for step in steps] == [["written", "restored", "changed"]] * 2 + [[], []]
    # How much memory it may have at the most is seen when it is there.
    assert [step["changed_live"] for step in steps] == [["memory", "vcpus"], ["vcpus"], [], []]
    assert [step["restart_required"] for step in steps[1:]] == [["memory"]] * 3
    assert list((host.root / "var/lib/xen/saved").iterdir()) == []
    # Without its record it goes on all the same.
    host.run({**changed, "state": "saved"})
    (host.root / "var/lib/xen/saved/a.save.record").unlink()
    assert host.run(changed)["guests"][0]["actions"] == ["restored"]


def test_memory_of_a_guest_that_has_run_since_is_discarded(host: Host) -> None:
    host.run(pv("a", state="running"))
    host.run(pv("a", state="saved"))
    assert (host.root / "var/lib/xen/saved").stat().st_mode & 0o777 == 0o700
    with pytest.raises(UserError, match="is saved in .*, which the next guest of that name would go on with"):
        host.run(pv("a", state="absent"))
    # An operator has started it by hand.
    uuid = (host.root / "var/lib/xen/saved/a.save").read_text().split()[1]
    host.there("a", uuid)
    steps = [host.run(pv("a", state="running"), check=check)["guests"][0] for check in (True, False, True, False)]
    assert [step["actions"] for step in steps] == [["discarded"], ["discarded"], [], []]
    assert {step["state"] for step in steps} == {"blocked"}
    host.run(pv("a", state="stopped"))
    assert host.run(pv("a", state="running"))["guests"][0]["actions"] == ["started"]


@pytest.mark.parametrize(("state", "word"), [("saved", "save"), ("running", "restore")])
def test_what_xl_cannot_save_or_restore_is_as_it_was(
    host: Host, monkeypatch: pytest.MonkeyPatch, state: str, word: str
) -> None:
    host.run(pv("a", state="running"))
    if state == "running":
        host.run(pv("a", state="saved"))
    before = host.tree()
    real = getattr(host, f"xl_{word}")
    monkeypatch.setattr(host, f"xl_{word}", lambda *_words: (1, "", "libxl: error: no room\n"))
    with pytest.raises(UserError, match=f"`xl {word} a` failed: no room"):
        host.run(pv("a", state=state))
    assert host.tree() == before
    monkeypatch.setattr(host, f"xl_{word}", real)
    assert host.run(pv("a", state=state))["changed"]


def test_memory_is_saved_where_nobody_else_reads_it(host: Host) -> None:
    host.run(pv("a", state="running"))
    (host.root / "var/lib/xen/saved").mkdir(parents=True, mode=0o755)
    with pytest.raises(UserError, match="open to other accounts"):
        host.run(pv("a", state="saved"))
    assert "save" not in host.acts and host.domains["a"].letters == "-b----"


def test_a_guest_with_a_stub_domain_is_saved_if_its_image_says_that_it_can_be(host: Host) -> None:
    words = {"command_line": f"console=hvc0 {virtualisation.SAVES}", "memory_mib": 100}
    empty = {"sources": [], "compiler": None, "flags": None, "built": None, "sha256": None, "files": {}}
    host.put(f"{BOOT}/linux.json", json.dumps({"kind": "linux", "xen": "4.20", "identity": "x", **empty, **words}))
    host.run(hvm("a", state="running"))
    steps = [
        host.run(hvm("a", state=state), check=check)["guests"][0]
        for state in ("saved", "running")
        for check in (True, False, True, False)
    ]
    assert [step["actions"] for step in steps] == [["saved"]] * 2 + [[]] * 2 + [["restored"]] * 2 + [[]] * 2
    assert "saves" not in str(host.run(hvm("a"))["warnings"])


def test_a_guest_with_a_stub_domain_is_not_saved(host: Host) -> None:
    host.run(hvm("a", state="running"))
    with pytest.raises(UserError, match="has its device model in a stub domain, which cannot be saved"):
        host.run(hvm("a", state="saved"))
    assert host.domains["a"].letters == "-b----"


def test_a_configuration_of_somebody_else_is_started_and_ended_as_it_is(host: Host) -> None:
    host.put("etc/xen/old.cfg", "name = 'old'\nmemory = 128\n")
    before = host.tree()
    steps = [host.run({"name": "old", "state": "running"}, check=check) for check in (True, False, True, False)]
    assert [step["changed"] for step in steps] == [True, True, False, False]
    assert host.run({"name": "old", "state": "stopped"})["changed"]
    assert host.tree() == before


def test_the_keys_that_a_guest_has_to_be_started_again_for(host: Host) -> None:
    host.run(pv("a", state="running"), pv("b", state="running"))
    changed = (pv("a", state="running", memory=65, maxmem=70), pv("b", state="running"))
    for check in (True, False, False):
        result = host.run(*changed, check=check)
        assert [guest["restart_required"] for guest in result["guests"]] == [["maxmem", "memory"], []]
        assert result["restart_required"] == ["a"]
    assert host.run(*changed, defaults={"restart": True})["guests"][0]["actions"] == ["restarted"]
    assert host.run(*changed)["restart_required"] == []


def test_more_guests_than_files_may_be_open(host: Host) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    listed = [pv(f"more{number}", autostart=True) for number in range(120)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        steps = [host.run(*listed, check=check)["changed"] for check in (True, False, True, False)]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (100, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert steps == [True, True, False, False]


ANY_GUEST = st.fixed_dictionaries(
    {
        "name": st.sampled_from("abcd"),
        "state": st.sampled_from(("present", "running", "stopped", "paused", "absent")),
        "type": st.sampled_from(("pv", "pvh", "hvm")),
        "memory": st.sampled_from((64, 65, 0, 5000)),
    },
    optional={
        "autostart": st.booleans(),
        "stop": st.sampled_from(("graceful", "force")),
        "restart": st.booleans(),
        "disks": st.just([{"target": "/srv/web.img"}]),
        "start_after": st.lists(st.sampled_from("abcd"), max_size=1),
    },
)
LISTS = st.lists(ANY_GUEST, max_size=4, unique_by=lambda guest: guest["name"])


def tried(host: Host, listed: list[dict[str, Any]], *, check: bool = False) -> tuple[bool, dict[str, Any]]:
    """Whether a run succeeds, and its result; an empty one where nothing was begun."""
    try:
        return True, host.run(*listed, check=check)
    except UserError as error:
        return False, dict(error.details)


@settings(max_examples=60)
@given(first=LISTS, second=LISTS)
def test_any_list_after_any_other(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory() as directory:
        for host in xen_host.played(Path(directory), patched):
            tried(host, first)
            before = host.tree()
            foreseen = tried(host, second, check=True)
            assert host.tree() == before and host.acts == []
            well, result = tried(host, second)
            if not result:
                assert host.tree() == before and host.acts == []
                # Memory may be there when an earlier role has done its work, and is a warning.
                assert not foreseen[0] or foreseen[1]["warnings"]
                continue
            # Each has a result, in order, whatever becomes of the others.
            assert [guest["name"] for guest in result["guests"]] == [guest["name"] for guest in second]
            assert well == (not any(guest["failed"] for guest in result["guests"])) == foreseen[0]
            told = [[guest["actions"] for guest in one["guests"]] for one in (foreseen[1], result)]
            assert told[0] == told[1]
            if well:
                assert not host.run(*second)["changed"] and host.acts == []
