# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The role as it is, with what records the parameters of a task in place of the collection's modules.

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest
import real_play

REPOSITORY = Path(__file__).resolve().parents[3]
# An action plugin: it runs in Ansible's own process, where a module would be packed, sent and compiled for each task.
MODULE = """\
import json
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        given = {{key: value for key, value in self._task.args.items() if value is not None}}
        assert not set(given) - set({keys!r}), given
        with open({calls!r}, "a") as stream:
            on = {{"on": self._task.delegate_to}} if self._task.delegate_to else {{}}
            stream.write(json.dumps([{name!r}, bool(self._task.check_mode), {{**given, **on}}]) + "\\n")
        result = {result!r}
        if task_vars["inventory_hostname"] in result.get("fails_on", []):
            return {{"failed": True, "msg": "It cannot."}}
        return result.get(given.get("name"), result)
"""
KEYS = {
    "dom0_mem": ["state", "size", "value", "min", "max", "loader", "entries", "regenerate", "backup"],
    "boot_default": ["state", "loader", "regenerate", "backup"],
    "xl_conf": ["settings", "state", "backup"],
    "boot_trial": ["state", "options", "timeout"],
    "xen_info": ["require", "gather_subset"],
    "guests": ["guests", "defaults"],
    "guest_migrate": ["name", "to", "ssh_arguments", "shared"],
}
BOOT_LINE = {
    "reboot_required": True,
    "reboot_reason": "It has to.",
    "configured": "1G,max:1G",
    "effective": "1G,max:1G",
    "running": "2G",
    "boots_xen": True,
    "boots_unattended": True,
    "memory_mib": 2048,
    "expected_mib": None,
}
# As xen_info describes two guests and the stub domain of one of them.
GUESTS = [
    {"name": "web", "stub_domain_of": None},
    {"name": "db", "stub_domain_of": None},
    {"name": "db-dm", "stub_domain_of": "db"},
]
RESULTS = {
    "dom0_mem": BOOT_LINE,
    "boot_default": {},
    "xl_conf": {},
    "boot_trial": {"trial_state": "none", "trial_summary": "No trial was armed."},
    "xen_info": {"guests": []},
    "guests": {},
    "guest_migrate": {"seconds": None},
}

Calls = List[Tuple[str, bool, Dict[str, Any]]]


def play(path: Path, *extra: str, playbook: str = "play.yml", **results: Dict[str, Any]) -> Tuple[int, str, Calls]:
    """Run the role on this machine and return the exit status, the output and the calls of modules.

    :param playbook: another one that runs the role.
    """
    path.mkdir(exist_ok=True)
    collection = path / "collections" / "ansible_collections" / "xen" / "stubdom"
    actions = collection / "plugins" / "action"
    actions.mkdir(parents=True)
    (collection / "roles").symlink_to(REPOSITORY / "roles")
    (collection / "galaxy.yml").write_text("namespace: xen\nname: stubdom\nversion: 0.0.1\n")
    calls = path / "calls"
    for name, keys in KEYS.items():
        source = MODULE.format(
            name=name,
            keys=keys,
            calls=str(calls),
            result={"changed": False, **RESULTS[name], **results.get(name, {})},
        )
        (actions / f"{name}.py").write_text(source)
    plays = [{"hosts": "localhost", "gather_facts": False, "roles": ["xen.stubdom.dom0_memory"]}]
    (path / "play.yml").write_text(json.dumps(plays))
    done = subprocess.run(
        [real_play.PLAYBOOK, playbook, *extra],
        cwd=path,
        env=real_play.below(path),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = calls.read_text().splitlines() if calls.exists() else []
    return (
        done.returncode,
        done.stdout + done.stderr,
        [(name, check, given) for name, check, given in map(json.loads, lines)],
    )


def test_booleans_and_numbers_may_be_strings(tmp_path: Path) -> None:
    strings = ["reboot=false", "trial=no", "regenerate=no", "backup=yes", "size=2G"]
    status, output, calls = play(tmp_path, *(f"-edom0_memory_{one}" for one in strings))
    assert status == 0, output
    assert "Reboot needed: It has to." in output
    value = {"state": "present", "size": "2G", "loader": "auto", "regenerate": False, "backup": True, "entries": "all"}
    assert calls == [
        ("boot_trial", False, {"state": "absent"}),
        ("dom0_mem", False, value),
        ("xl_conf", False, {"settings": {"autoballoon": "off"}, "state": "present", "backup": True}),
        ("dom0_mem", True, value),
    ]


@pytest.mark.parametrize("state", ["present", "absent"])
def test_the_default_entry_is_changed_before_the_next_boot_is_looked_at(tmp_path: Path, state: str) -> None:
    strings = ["default_entry=yes", "size=2G", f"state={state}"]
    status, output, calls = play(tmp_path, *(f"-edom0_memory_{one}" for one in strings))
    assert status == 0, output
    assert [name for name, _check, _given in calls][:3] == ["boot_trial", "boot_default", "dom0_mem"]
    assert calls[1][2] == {"state": state, "loader": "auto", "regenerate": True, "backup": False}


@pytest.mark.parametrize(
    ("strings", "given"),
    [
        (["reboot=true"], ["default", "default", "default"]),
        # Before Xen is the default, the entry that boots is not the one that is meant.
        (["reboot=true", "default_entry=true"], ["all", "default", "default"]),
        (["default_entry=true"], ["default", "default"]),
    ],
)
def test_the_entry_that_boots_alone(tmp_path: Path, strings: List[str], given: List[str]) -> None:
    extra = [f"-edom0_memory_{one}" for one in ["size=2G", "entries=default", *strings]]
    still = {**BOOT_LINE, "reboot_required": False}
    status, output, calls = play(tmp_path, *extra, dom0_mem=still)
    assert status == 0, output
    assert [one["entries"] for name, _check, one in calls if name == "dom0_mem"] == given


def test_a_dry_run_knows_no_entry_that_is_to_become_the_default(tmp_path: Path) -> None:
    extra = [f"-edom0_memory_{one}" for one in ["size=2G", "entries=default", "default_entry=true"]]
    status, output, calls = play(tmp_path, "--check", *extra)
    assert status == 0, output
    assert {one["entries"] for name, _check, one in calls if name == "dom0_mem"} == {"all"}


@pytest.mark.parametrize(("changed", "taken_back"), [(True, True), (False, False)])
def test_xen_does_not_stay_the_default_where_its_memory_cannot_be_set(
    tmp_path: Path, changed: bool, taken_back: bool
) -> None:
    failed = {"failed": True, "msg": "The size 9T comes to more than the host has."}
    extra = [f"-edom0_memory_{one}" for one in ["default_entry=true", "size=9T"]]
    status, output, calls = play(tmp_path, *extra, boot_default={"changed": changed}, dom0_mem=failed)
    assert status != 0
    assert output.count("The size 9T comes to more") >= 2
    states = [given["state"] for name, _check, given in calls if name == "boot_default"]
    assert states == (["present", "absent"] if taken_back else ["present"])
    assert "xl_conf" not in [name for name, _check, _given in calls]


def test_a_trial_without_leave_to_reboot_writes_nothing(tmp_path: Path) -> None:
    strings = ["reboot=false", "trial=true", "value=1G", "trial_timeout=120"]
    status, output, calls = play(tmp_path, *(f"-edom0_memory_{one}" for one in strings))
    assert status == 0, output
    assert "Nothing was written" in output
    assert [(name, check) for name, check, _given in calls] == [("boot_trial", False), ("dom0_mem", True)]
    assert calls[-1][2]["value"] == "1G"


def test_a_trial_with_times_that_are_strings(tmp_path: Path) -> None:
    strings = ["reboot=true", "trial=true", "size=1G", "trial_timeout=120", "reboot_timeout=60"]
    status, output, calls = play(tmp_path, "--check", *(f"-edom0_memory_{one}" for one in strings))
    # Ansible refuses to reboot the machine that it runs on, after it has understood the parameters.
    assert status == 2
    assert "would reboot the control node" in output
    assert ("boot_trial", True, {"options": {"dom0_mem": "1G,max:1G"}, "timeout": 120}) in calls


def test_a_number_without_a_unit_reaches_the_module(tmp_path: Path) -> None:
    status, output, calls = play(tmp_path, '-e{"dom0_memory_size": 2048}')
    assert status == 0, output
    assert [given["size"] for name, _check, given in calls if name == "dom0_mem"] == [2048, 2048]


def test_no_size_is_an_error_that_names_the_variable(tmp_path: Path) -> None:
    status, output, calls = play(tmp_path)
    assert (status, calls) == (2, [])
    assert "Neither dom0_memory_size nor dom0_memory_value is set." in output


def test_a_host_with_guests_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    status, output, calls = play(
        tmp_path, "-edom0_memory_reboot=true", "-edom0_memory_size=1G", xen_info={"guests": GUESTS}
    )
    assert status != 0
    assert "runs 2 guests: web, db. Nothing was changed." in output
    assert [(name, check) for name, check, _given in calls if name in ("dom0_mem", "xl_conf")] == [("dom0_mem", True)]


LINUX_BY_DEFAULT = {
    "boots_xen": False,
    "effective": None,
    "reboot_required": False,
    "reboot_reason": "GRUB boots Linux.",
}


@pytest.mark.parametrize("variable", ["default_entry", "reboot_without_xen"])
def test_guests_are_looked_at_where_the_reboot_follows_from_another_variable(tmp_path: Path, variable: str) -> None:
    """The next boot passes nothing to compare with, as it starts Linux; after that variable there is a reboot."""
    status, output, calls = play(
        tmp_path,
        *("-edom0_memory_reboot=true", "-edom0_memory_size=1G", f"-edom0_memory_{variable}=true"),
        dom0_mem=LINUX_BY_DEFAULT,
        xen_info={"guests": GUESTS},
    )
    assert status != 0
    assert "runs 2 guests: web, db. Nothing was changed." in output
    assert [name for name, _check, _given in calls] == ["boot_trial", "dom0_mem", "xen_info"]


@pytest.mark.parametrize(
    ("variable", "line"),
    [
        # The hypervisor has the value already.
        ("default_entry", {**LINUX_BY_DEFAULT, "running": "1G,max:1G"}),
        # There is none to reboot out of.
        ("reboot_without_xen", {**LINUX_BY_DEFAULT, "running": None, "memory_mib": None}),
        ("default_entry", {**LINUX_BY_DEFAULT, "running": None, "memory_mib": None}),
    ],
)
def test_guests_do_not_matter_where_no_reboot_follows(tmp_path: Path, variable: str, line: Dict[str, Any]) -> None:
    _status, output, calls = play(
        tmp_path,
        *("-edom0_memory_reboot=true", "-edom0_memory_size=1G", f"-edom0_memory_{variable}=true"),
        dom0_mem=line,
        xen_info={"guests": GUESTS},
    )
    assert "reboot the control node" not in output
    assert "xen_info" not in [name for name, _check, _given in calls]


def test_guests_are_shut_down_and_started_again_whatever_happens(tmp_path: Path) -> None:
    (tmp_path / "web.cfg").write_text("")
    (tmp_path / "db.cfg").write_text("")
    configs = json.dumps(
        {
            "dom0_memory_guests_configs": {name: str(tmp_path / f"{name}.cfg") for name in ("web", "db")},
            "dom0_memory_guests": "shutdown",
            "dom0_memory_guests_timeout": 5,
            "dom0_memory_reboot": True,
            "dom0_memory_size": "1G",
        }
    )
    status, output, calls = play(tmp_path, "-e", configs, xen_info={"guests": GUESTS})
    # Ansible refuses to reboot the machine that it runs on.
    assert status != 0
    assert "reboot the control node" in output
    guests = [(given["guests"], given["defaults"]["state"]) for name, _check, given in calls if name == "guests"]
    listed = [{"name": name, "path": str(tmp_path / f"{name}.cfg")} for name in ("web", "db")]
    assert guests == [(listed, "stopped"), (listed, "running")]


MIGRATE = (
    *("-i", "localhost,xen2,", "-eansible_connection=local", f"-eansible_python_interpreter={sys.executable}"),
    *("-edom0_memory_reboot=true", "-edom0_memory_size=1G", "-edom0_memory_guests=migrate"),
    "-edom0_memory_guests_timeout=5",
)
HOSTS = {
    "localhost": {"ansible_host": "192.0.2.1", "dom0_memory_ssh_arguments": ["-p", "2201"]},
    "xen2": {"ansible_host": "192.0.2.2", "dom0_memory_address": "198.51.100.2"},
}


def hosts(path: Path) -> None:
    (path / "host_vars").mkdir(parents=True)
    for name, variables in HOSTS.items():
        (path / "host_vars" / f"{name}.json").write_text(json.dumps(variables))


def moves(calls: Calls) -> List[Tuple[Any, ...]]:
    return [
        (check, given["name"], given["to"], given["ssh_arguments"], given.get("on"))
        for name, check, given in calls
        if name == "guest_migrate"
    ]


def test_guests_are_migrated_and_come_back_whatever_happens(tmp_path: Path) -> None:
    hosts(tmp_path)
    status, output, calls = play(tmp_path, *MIGRATE, "-edom0_memory_guests_host=xen2", xen_info={"guests": GUESTS})
    assert status != 0
    assert "reboot the control node" in output
    there, back = ("198.51.100.2", [], None), ("192.0.2.1", ["-p", "2201"], "xen2")
    assert moves(calls) == [
        *((True, name, *there) for name in ("web", "db")),
        *((False, name, *there) for name in ("web", "db")),
        *((False, name, *back) for name in ("web", "db")),
    ]
    names = [name for name, _check, _given in calls]
    assert "guests" not in names and names[-1] == "xen_info"


@pytest.mark.parametrize("otherwise", ["refuse", "shutdown"])
def test_a_guest_that_cannot_be_migrated(tmp_path: Path, otherwise: str) -> None:
    hosts(tmp_path)
    (tmp_path / "db.cfg").write_text("")
    status, output, calls = play(
        tmp_path,
        *(*MIGRATE, "-edom0_memory_guests_host=xen2", f"-edom0_memory_guests_else={otherwise}"),
        *("-e", json.dumps({"dom0_memory_guests_configs": {"db": str(tmp_path / "db.cfg")}})),
        xen_info={"guests": GUESTS},
        guest_migrate={"db": {"failed": True, "msg": "It has PCI devices of this host."}},
    )
    assert status != 0
    moved = [(check, name) for check, name, *_where in moves(calls)]
    guests = [(given["guests"], given["defaults"]["state"]) for name, _check, given in calls if name == "guests"]
    if otherwise == "refuse":
        assert "the guest db cannot be migrated to xen2. Nothing was changed. It has PCI devices" in output
        assert moved == [(True, "web"), (True, "db")]
        assert guests == []
        assert {check for name, check, _given in calls if name == "dom0_mem"} == {True}
    else:
        assert "reboot the control node" in output
        assert moved == [(True, "web"), (True, "db"), (False, "web"), (False, "web")]
        listed = [{"name": "db", "path": str(tmp_path / "db.cfg")}]
        assert guests == [(listed, "stopped"), (listed, "running")]


@pytest.mark.parametrize("other", ["", "localhost", "xen9"])
def test_guests_are_migrated_to_another_host_of_the_inventory(tmp_path: Path, other: str) -> None:
    hosts(tmp_path)
    extra = [f"-edom0_memory_guests_host={other}"] if other else []
    status, output, calls = play(tmp_path, *MIGRATE, *extra, xen_info={"guests": GUESTS})
    assert status != 0
    assert f"dom0_memory_guests_host is {other or 'not set'}. Nothing was changed." in output
    assert moves(calls) == []


@pytest.mark.parametrize("guests", ["service", "leave"])
def test_guests_of_the_hosts_own_service_are_not_touched(tmp_path: Path, guests: str) -> None:
    status, output, calls = play(
        tmp_path,
        *("-edom0_memory_reboot=true", "-edom0_memory_size=1G", f"-edom0_memory_guests={guests}"),
        xen_info={"guests": GUESTS},
    )
    assert status != 0
    assert "reboot the control node" in output
    names = [name for name, _check, _given in calls]
    assert "guests" not in names
    # The service has them run again, which is waited for.
    assert names[-1] == ("xen_info" if guests == "service" else "xl_conf")


def test_the_rolling_playbook_is_the_role_that_shuts_guests_down(tmp_path: Path) -> None:
    status, output, calls = play(
        tmp_path,
        *("-edom0_memory_reboot=true", "-edom0_memory_size=1G", "-edom0_memory_rolling_hosts=localhost"),
        playbook=str(REPOSITORY / "playbooks" / "dom0_memory_rolling.yml"),
        xen_info={"guests": [{"name": "no-such-guest", "stub_domain_of": None}]},
    )
    assert status != 0
    assert "Add its configuration file to dom0_memory_guests_configs" in output
    assert [name for name, _check, _given in calls] == ["boot_trial", "dom0_mem", "xen_info"]


def test_a_roll_that_fails_says_which_hosts_are_left(tmp_path: Path) -> None:
    status, output, calls = play(
        tmp_path,
        *("-i", "a,b,c,d,", "-eansible_connection=local", f"-eansible_python_interpreter={sys.executable}"),
        *("-edom0_memory_size=1G", "-edom0_memory_rolling_hosts=all", "-edom0_memory_rolling_batch=2"),
        playbook=str(REPOSITORY / "playbooks" / "dom0_memory_rolling.yml"),
        boot_trial={"failed": True, "msg": "It cannot be read."},
    )
    assert status != 0
    # The first one goes alone.
    assert "It cannot be read. Hosts that were not touched: b, c, d. Correct what has failed" in output
    assert len(calls) == 1
    # Then batch by batch.
    status, output, calls = play(
        tmp_path / "other",
        *("-i", "a,b,c,d,", "-eansible_connection=local", f"-eansible_python_interpreter={sys.executable}"),
        *("-edom0_memory_size=1G", "-edom0_memory_rolling_hosts=all", "-edom0_memory_rolling_batch=2"),
        playbook=str(REPOSITORY / "playbooks" / "dom0_memory_rolling.yml"),
        dom0_mem={**BOOT_LINE, "fails_on": ["b"]},
    )
    assert status != 0
    assert "It cannot. Hosts that were not touched: d." in output and "not touched: b" not in output


def test_a_guest_that_could_not_be_started_again_is_left_alone(tmp_path: Path) -> None:
    status, output, calls = play(
        tmp_path,
        *("-edom0_memory_reboot=true", "-edom0_memory_size=1G", "-edom0_memory_guests=shutdown"),
        xen_info={"guests": [{"name": "no-such-guest", "stub_domain_of": None}]},
    )
    assert status != 0
    assert "Add its configuration file to dom0_memory_guests_configs" in output
    assert "guests" not in [name for name, _check, _given in calls]


def test_a_host_whose_loader_waits_for_somebody_is_not_rebooted(tmp_path: Path) -> None:
    line = {"boots_unattended": False, "reboot_reason": "It has to. GRUB waits at its menu."}
    status, output, calls = play(tmp_path, "-edom0_memory_reboot=true", "-edom0_memory_size=1G", dom0_mem=line)
    assert status != 0
    assert "nothing was changed. It has to. GRUB waits at its menu. Or set dom0_memory_reboot to false" in output
    assert {check for name, check, _given in calls if name == "dom0_mem"} == {True}
    status, output, _calls = play(tmp_path / "other", "-edom0_memory_size=1G", dom0_mem=line)
    assert status == 0, output


STAYS = {**BOOT_LINE, "reboot_required": False, "reboot_reason": "It stays.", "running": "1G,max:1G"}
UPDATE = ("-edom0_memory_size=1G", "-edom0_memory_reboot_for_update=true")


@pytest.mark.parametrize("updated", [True, False, None])
def test_a_hypervisor_that_was_installed_is_a_reason_to_reboot(tmp_path: Path, updated: Optional[bool]) -> None:
    info = {"guests": [], "hypervisor": {"updated": updated}}
    status, output, _calls = play(tmp_path / "a", *UPDATE, "-edom0_memory_reboot=true", dom0_mem=STAYS, xen_info=info)
    assert ("would reboot the control node" in output) == bool(updated)
    assert (status != 0) == bool(updated)
    status, output, _calls = play(tmp_path / "b", *UPDATE, dom0_mem=STAYS, xen_info=info)
    assert status == 0
    assert ("Reboot needed: It stays. Another hypervisor was installed" in output) == bool(updated)


def test_guests_are_looked_at_before_a_reboot_for_a_hypervisor(tmp_path: Path) -> None:
    info = {"guests": GUESTS, "hypervisor": {"updated": True}}
    status, output, calls = play(tmp_path, *UPDATE, "-edom0_memory_reboot=true", dom0_mem=STAYS, xen_info=info)
    assert status != 0
    assert "runs 2 guests: web, db. Nothing was changed." in output
    assert {check for name, check, _given in calls if name == "dom0_mem"} == {True}


@pytest.mark.parametrize("line", [{"boots_unattended": False}, {"boots_xen": False}, {"boots_xen": None}])
def test_no_hypervisor_is_a_reason_to_lose_a_host(tmp_path: Path, line: Dict[str, Any]) -> None:
    info = {"guests": [], "hypervisor": {"updated": True}}
    status, output, _calls = play(
        tmp_path, *UPDATE, "-edom0_memory_reboot=true", dom0_mem={**STAYS, **line}, xen_info=info
    )
    assert status != 0
    assert "would reboot the control node" not in output and "It stays." in output


@pytest.mark.parametrize("known", [True, False])
def test_a_host_that_would_come_back_without_xen_is_not_rebooted(tmp_path: Path, known: bool) -> None:
    line = LINUX_BY_DEFAULT if known else {**LINUX_BY_DEFAULT, "boots_xen": None}
    status, output, calls = play(tmp_path, "-edom0_memory_reboot=true", "-edom0_memory_size=1G", dom0_mem=line)
    assert status != 0
    assert "the host was not rebooted. GRUB boots Linux." in output
    assert "Set dom0_memory_default_entry to true" in output
    assert "xen_info" not in [name for name, _check, _given in calls]
    status, output, _calls = play(tmp_path / "other", "-edom0_memory_size=1G", dom0_mem=line)
    assert status == 0, output
    if not known:
        line = {**line, "running": line.get("configured", BOOT_LINE["configured"])}
        reboot = ("-edom0_memory_reboot=true", "-edom0_memory_size=1G")
        status, output, _calls = play(tmp_path / "same", *reboot, dom0_mem=line)
        assert status == 0, output
