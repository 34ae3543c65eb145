# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The playbook that renews device models, with hosts that are played in files.

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import pytest
import recorded
from ansible_collections.xen.stubdom.plugins.filter.renewal import renewal

# Action plugins in place of the two modules: what they see and change is in a file for each host.
INFO = """\
import json
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        with open(task_vars["state"]) as stream:
            return {"changed": False, "guests": json.load(stream)["guests"]}
"""
GUESTS = """\
import json
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        with open(task_vars["state"]) as stream:
            host = json.load(stream)
        asked = self._task.args["guests"]
        host["asked"].append([bool(self._task.check_mode), [guest["name"] for guest in asked]])
        host["states"] += [[guest["name"], guest["state"]] for guest in asked]
        failed = [guest["name"] for guest in asked if guest["name"] in host["fail"]]
        if not self._task.check_mode:
            names = {guest["name"]: guest for guest in asked}
            host["guests"] = [guest for guest in host["guests"] if guest["name"] not in names]
            for name in [name for name in names if names[name]["state"] != "saved" and name not in failed]:
                host["guests"].append({**host["all"][name], "image": {"outdated": name in host["stuck"]}})
        with open(task_vars["state"], "w") as stream:
            json.dump(host, stream)
        return {"changed": True, "failed": bool(failed), "msg": f"{failed} did not start.\\\\nLook."}
"""


def guest(name: str, **other: Any) -> Dict[str, Any]:
    return {
        "name": name,
        "state": "blocked",
        "stub_domain_of": None,
        "device_model": {"stub_domain": True, "state": "running"},
        "image": {"outdated": True},
        "autostart": None,
        "config": f"/etc/xen/{name}.cfg",
        "cannot_save": None,
        **other,
    }


FINE = [
    guest("web"),
    guest("db", autostart=2),
    guest("mail", autostart=1),
    guest("new", image={"outdated": False}),
    guest("paravirtual", device_model=None),
    guest("still", state="paused"),
    guest("web-dm", stub_domain_of="web", device_model=None),
]


class Fleet:
    def __init__(self, path: Path, hosts: Dict[str, List[Dict[str, Any]]]) -> None:
        self.path = path
        recorded.collection(path, {"xen_info": INFO, "guests": GUESTS})
        inventory = {}
        for name, guests in hosts.items():
            inventory[name] = recorded.host(state=str(self.file(name)))
            kept = {one["name"]: one for one in guests}
            self.put(name, guests=guests, all=kept, asked=[], states=[], fail=[], stuck=[])
        (path / "hosts.json").write_text(json.dumps({"xen_hosts": {"hosts": inventory}}))

    def file(self, host: str) -> Path:
        return self.path / f"{host}.json"

    def get(self, host: str) -> Dict[str, Any]:
        return dict(json.loads(self.file(host).read_text()))

    def put(self, host: str, **values: Any) -> None:
        now = self.get(host) if self.file(host).exists() else {}
        self.file(host).write_text(json.dumps({**now, **values}))

    def asked(self, host: str) -> List[Any]:
        found = list(self.get(host)["asked"])
        self.put(host, asked=[])
        return found

    def play(self, *words: str, status: int = 0) -> str:
        # Extra variables, as those of a play are stronger than those of its hosts.
        note = {"__renew_note": f"{self.path}/{{{{ inventory_hostname }}}}.note", "renew_device_models_timeout": 1}
        done, said = recorded.run(self.path, "renew_device_models", "-e" + json.dumps(note), *words)
        assert done == status, said
        return said


def test_guests_are_restarted_in_their_order_the_first_one_alone(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, {"a": FINE, "b": FINE[:1], "c": []})
    assert "a: mail, db, web would be renewed" in fleet.play("--check")
    assert fleet.asked("a") == [[True, ["mail"]], [True, ["db"]], [True, ["web"]]]
    assert not (tmp_path / "a.note").exists()
    said = fleet.play("-erenew_device_models_guests_batch=5", "-erenew_device_models_batch=100%")
    assert "a: mail, db, web renewed" in said and "b: web renewed" in said and "c: nothing renewed" in said
    # One host alone, then all others.
    assert said.count("PLAY [") == 2
    assert fleet.asked("a")[1:] == [[False, ["db", "web"]]]
    assert not (tmp_path / "a.note").exists()
    assert "a: nothing renewed" in fleet.play()
    assert fleet.asked("a") == []


def test_it_stops_at_the_first_failure_says_what_is_left_and_goes_on_there(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, {"a": FINE, "b": FINE})
    fleet.put("a", fail=["db"])
    said = fleet.play(status=2)
    assert "['db'] did not start." in said
    assert "On a, with the old image: web; not running: db; renewed: mail." in said
    assert fleet.asked("a") == [[False, ["mail"]], [False, ["db"]]] and fleet.asked("b") == []
    assert (tmp_path / "a.note").exists()
    fleet.put("a", fail=[])
    assert "a: db, web renewed" in fleet.play()
    assert fleet.asked("a") == [[False, ["db"]], [False, ["web"]]]
    assert [names for _check, names in fleet.asked("b")] == [["mail"], ["db"], ["web"]]


def test_a_guest_that_came_up_with_the_old_image_is_a_failure(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, {"a": FINE})
    fleet.put("a", stuck=["mail"])
    assert "with the old image: mail, db, web; not running: none; renewed: none." in fleet.play(status=2)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (guest("ill", state="crashed"), "The guest ill is crashed."),
        (guest("ill", device_model={"stub_domain": True, "state": None}), "The device model of ill does not report"),
        (guest("ill", config=None), "The guest ill has no configuration file"),
    ],
)
def test_what_keeps_a_host_from_being_touched(broken: Dict[str, Any], said: str) -> None:
    found = renewal([*FINE, broken])
    assert len(found["refused"]) == 1 and said in found["refused"][0]


def test_a_host_that_is_not_well_is_left_alone(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, {"a": [*FINE, guest("ill", state="crashed")]})
    assert "a is not well, and none of its guests was restarted. The guest ill is crashed." in fleet.play(status=2)
    assert fleet.asked("a") == []


def test_a_guest_that_crashed_in_an_earlier_run_is_what_is_left_to_do() -> None:
    noted = [{"name": "ill", "path": "/srv/ill.cfg"}]
    found = renewal([guest("ill", state="crashed"), guest("web")], noted=noted)
    assert found["refused"] == [] and [one["name"] for one in found["restart"]] == ["ill", "web"]


def test_how_a_guest_is_waited_for_is_taken_over_and_nothing_else() -> None:
    described = [{"name": "web", "says": "web login:", "memory": 7}, {"name": "other", "says": "no"}]
    assert renewal([guest("web")], described=described)["restart"] == [
        {"name": "web", "path": "/etc/xen/web.cfg", "state": "restarted", "says": "web login:"}
    ]


def test_guests_that_can_be_saved_go_on_where_they_were(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, {"a": [guest("web"), guest("db", cannot_save="Its image cannot.")]})
    words = ("-erenew_device_models_save=true", "-erenew_device_models_guests_batch=5")
    assert "a: db, web renewed" in fleet.play(*words)
    assert fleet.get("a")["states"] == [["db", "restarted"], ["web", "saved"], ["web", "running"]]
    assert "a: nothing renewed" in fleet.play(*words)


def test_a_guest_that_was_saved_and_has_not_gone_on_does_so_in_the_next_run(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, {"a": [guest("web")]})
    fleet.put("a", guests=[])
    (tmp_path / "a.note").write_text(json.dumps([{"name": "web", "path": "/etc/xen/web.cfg", "state": "restarted"}]))
    for words in ((), ("-erenew_device_models_save=true",)):
        assert "a: web renewed" in fleet.play(*words)
        assert fleet.get("a")["states"] == [["web", "running"]]
        fleet.put("a", guests=[], states=[])
        (tmp_path / "a.note").write_text(json.dumps([{"name": "web", "path": "/etc/xen/web.cfg"}]))
