# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The life of one guest by the module guests, with a toolstack that is played, and a guest that writes on a real
# terminal.

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
import xen_host
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.signals import Interrupted
from ansible_collections.xen.stubdom.plugins.module_utils._guests import diagnosis, plan, record, waiting
from ansible_collections.xen.stubdom.plugins.module_utils._guests import domain as guest_domain
from xen_host import Host

UUID = plan.identity("web")
PV = f'name = "web"\nuuid = "{UUID}"\ntype = "pv"\nkernel = "/boot/grub"\nmemory = 256\n' + (
    'disk = [ "format=raw,vdev=xvda,access=rw,target=/srv/web.img" ]\n'
)
HVM = PV.replace('"pv"', '"hvm"').replace("kernel", "#kernel") + (
    'device_model_version = "qemu-xen"\ndevice_model_stubdomain_override = 1\nserial = "pty"\n'
)
CREATE_ERRORS = (
    "Parsing config from /etc/xen/web.cfg\nlibxl: error: libxl_dm.c:2377:stubdom_xswait_cb: Domain 3:Stubdom 4 for 3 "
    "startup: startup timed out\nlibxl: error: libxl_create.c:1975:domcreate_devmodel_started: Domain 3:device model "
    "did not start: -9\n"
)


class One(Host):
    """A host with at most one guest."""

    @property
    def letters(self) -> str | None:
        """What xl shows of its state; None where it is not there."""
        return self.domains["web"].letters if "web" in self.domains else None

    @letters.setter
    def letters(self, letters: str | None) -> None:
        if letters is None:
            self.gone("web")
        elif "web" in self.domains:
            self.domains["web"].letters = letters
        else:
            self.there("web", UUID, letters)

    def write(self, data: bytes) -> None:
        """Have the guest write something."""
        os.write(self.domains["web"].terminals[0], data)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[One]:
    for found in xen_host.played(tmp_path, monkeypatch, One):
        found.put("boot/grub", "")
        found.put("etc/xen/web.cfg", PV)
        yield found


def run(host: One, *, check: bool = False, **params: Any) -> Dict[str, Any]:
    """Run the module on one guest whose configuration stays as it is; its result is that of the guest."""
    result = host.run({"name": "web", "state": "running", "timeout": 5, **params}, check=check)
    return result["guests"][0]  # type: ignore[no-any-return]


def acts(host: One) -> List[str]:
    return host.acts


def facts(failed: Any) -> Dict[str, Any]:
    """What is returned about the guest with a failure."""
    return failed.value.details["guests"][0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("config", [PV, HVM])
def test_running_and_ended_in_four_steps(host: One, config: str) -> None:
    host.put("etc/xen/web.cfg", config)
    assert run(host, check=True, says="hello from web")["changed"]
    assert acts(host) == []
    started = run(host, says="hello from web")
    assert acts(host) == ["create", "unpause"]
    assert (started["changed"], started["said"], started["state"]) == (True, True, "blocked")
    assert started["console"] == "hello from web\n"
    assert (started["device_model"] or {}).get("stub_domain", False) == (config == HVM)
    for check in (True, False):
        again = run(host, check=check, says="hello from web")
        assert (again["changed"], again["said"], again["restart_required"]) == (False, None, [])
        assert again["device_model"] == started["device_model"]
        assert acts(host) == []
    steps = [run(host, state="stopped", check=check) for check in (True, False, True, False)]
    assert [step["changed"] for step in steps] == [True, True, False, False]
    assert steps[-1]["state"] == "absent"


def test_destroyed(host: One) -> None:
    run(host)
    (host.root / "etc/xen/web.cfg").unlink()
    assert run(host, state="stopped", stop="force")["changed"]
    assert acts(host) == ["destroy"]
    assert not run(host, state="stopped", stop="force")["changed"]


def test_a_guest_that_has_done_its_work_was_alive(host: One) -> None:
    host.put("etc/xen/web.cfg", HVM)
    host.dies.add("web")
    host.dmesg = "(XEN) boot\n"
    result = run(host, says="hello from web")
    assert (result["said"], result["state"]) == (True, "absent")
    assert result["device_model"] == {"version": "qemu-xen", "domid": 4, "state": "running", "stub_domain": True}


def test_a_guest_that_dies_without_its_words(host: One) -> None:
    host.dies.add("web")
    host.words["web"] = b"GRUB\r\n"
    with pytest.raises(
        UserError, match="did not say 'login:' before it ended, within [0-9]+ seconds; its last words were 'GRUB'"
    ) as failed:
        run(host, says="login:")
    assert facts(failed)["hypervisor_log"] == ["(XEN) d3v0 Triple fault"]
    assert "Triple fault" in failed.value.what


def test_a_guest_that_stays_silent_is_left_running(host: One) -> None:
    host.words["web"] = b""
    with pytest.raises(UserError, match="within 1 seconds; it wrote nothing") as failed:
        run(host, says="login:", timeout=1)
    assert facts(failed)["state"] == "blocked"
    assert "left running" in failed.value.remedy


def test_a_new_configuration_is_reported_and_not_applied_until_told(host: One) -> None:
    run(host)
    host.put("etc/xen/web.cfg", PV.replace("256", "512"))
    result = run(host)
    assert (result["changed"], result["restart_required"]) == (False, ["memory"])
    assert acts(host) == []
    result = run(host, restart=True)
    assert (result["changed"], result["restart_required"]) == (True, [])
    assert acts(host) == ["shutdown", "create", "unpause"]


def test_a_guest_that_the_host_itself_started_is_compared_by_time(host: One) -> None:
    run(host)
    del host.nodes["/libxl/3/xen-stubdom-config"]
    written = os.stat(host.root / "etc/xen/web.cfg").st_mtime
    for started, required in ((written - 60, [record.UNKNOWN]), (written + 60, [])):
        host.nodes[f"/vm/{UUID}/start_time"] = f"{started:.2f}"
        assert run(host)["restart_required"] == required


# As xl writes it.
WATCHED = "Waiting for domain web (domid {}) to die [pid 904]\n"
REBOOTED = (
    "Domain {0} has shut down, reason code 1 0x1\nAction for shutdown reason code 1 is restart\nDone. Rebooting now\n"
)


def test_a_guest_that_reboots_itself_runs_on_with_what_it_was_started_with(host: One) -> None:
    """xl makes the new domain from what it remembers, and reads no file for that."""
    log = "var/log/xen/xl-web.log"
    run(host)
    host.put(log, WATCHED.format(3))
    host.put("etc/xen/web.cfg", PV.replace("256", "512"))
    written = os.stat(host.root / "etc/xen/web.cfg").st_mtime
    text = WATCHED.format(3)
    for domid in (4, 5):
        text += REBOOTED.format(domid - 1) + WATCHED.format(domid)
        host.put(log, text)
        host.gone("web")
        host.there("web", UUID)
        host.nodes[f"/vm/{UUID}/start_time"] = f"{written + 60:.2f}"
        for check in (True, False):
            result = run(host, check=check, live=False)
            assert (result["changed"], result["restart_required"]) == (False, ["memory"])
    # What another `xl create` has made is of the file.
    host.put(log, WATCHED.format(5))
    assert run(host)["restart_required"] == []
    # And so is what runs where the log has gone.
    (host.root / log).unlink()
    assert run(host)["restart_required"] == []


def test_a_guest_that_has_ended_leaves_no_record(host: One) -> None:
    before = set(host.nodes)
    for state in ("stopped", "saved"):
        run(host)
        assert any(node.startswith("/tool/xen-stubdom/latest/") for node in host.nodes)
        run(host, state=state)
        assert {node for node in set(host.nodes) - before if node.startswith("/tool")} == set()


def stopped(host: One, letters: str, *, uuid: str = UUID) -> None:
    host.there("web", uuid, letters)


# What is wrong, what is asked for, the sentence. Nothing is started or ended.
@pytest.mark.parametrize(
    ("prepare", "params", "message"),
    [
        (lambda host: (host.root / "etc/xen/web.cfg").unlink(), {}, "There is no configuration .*web.cfg"),
        (lambda host: host.put("etc/xen/web.cfg", PV.replace('"web"', '"db"')), {}, "configuration of 'db', not"),
        (lambda host: (host.root / "srv/web.img").unlink(), {}, "/srv/web.img does not exist"),
        (lambda host: (host.root / "boot/grub").unlink(), {}, "/boot/grub does not exist"),
        (lambda host: host.put("etc/xen/web.cfg", PV.replace("256", "4096")), {}, "needs 4098 MiB of memory"),
        (lambda host: host.put("proc/xen/capabilities", ""), {}, "does not run Xen"),
        (lambda host: stopped(host, "-b----", uuid="another"), {}, "domain 3 has it and comes from elsewhere"),
        (lambda host: stopped(host, "-b----", uuid="another"), {"state": "stopped"}, "domain 3 has it"),
        (lambda host: stopped(host, "---sc-"), {}, r"has ended \(crashed\), and its domain 3 is kept"),
        (lambda host: host.put("etc/xen/web.cfg", HVM) or setattr(host, "line", ""), {}, "memory of dom0 is not fixed"),
    ],
)  # fmt: skip
def test_refused_before_anything_starts(host: One, prepare: Any, params: Dict[str, Any], message: str) -> None:
    prepare(host)
    with pytest.raises(UserError, match=message) as refused:
        run(host, **params)
    assert acts(host) == []
    assert len(str(refused.value).splitlines()) == 2


# A guest that was created and is not as asked for does not stay.
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"deaf": True}, "names no terminal for web"),
        ({"stub": "0"}, "does not run in a stub domain"),
        ({"stub_state": ""}, "its device model says nothing"),
    ],
)
def test_a_start_that_goes_wrong_is_taken_back(host: One, wrong: Dict[str, Any], message: str) -> None:
    host.put("etc/xen/web.cfg", HVM)
    for name, value in wrong.items():
        setattr(host, name, value)
    with pytest.raises(UserError, match=message):
        run(host)
    assert acts(host) == ["create", "destroy"]


LAST_WORDS = "stub domain: 5.20 s: starting QEMU\nxen-qemu: could not read keymap file: 'de'\nreboot: System halted\n"


def its_stub_domain_halts(host: One, monkeypatch: pytest.MonkeyPatch, *, runs: bool) -> None:
    """As seen with 4.17: QEMU says that it runs, ends, and xl says nothing of a guest that it cannot let go."""
    host.put("etc/xen/web.cfg", HVM)
    unpause, listed = host.xl_unpause, host.xl_list
    halted: List[bool] = []

    def let_go(word: str) -> Tuple[int, str, str]:
        halted.append(True)
        host.put("var/log/xen/qemu-dm-web.log", LAST_WORDS)
        return unpause(word) if runs else (0, "", "libxl: error: Domain 3:Failed to resume device model: rc=-9\n")

    def rows() -> Tuple[int, str, str]:
        status, output, errors = listed()
        return status, output.replace("136  1  -b----", "136  1  ---s--") if halted else output, errors

    monkeypatch.setattr(host, "xl_unpause", let_go)
    monkeypatch.setattr(host, "xl_list", rows)


@pytest.mark.parametrize("runs", [False, True])
def test_a_stub_domain_that_ends_as_its_guest_is_let_go(
    host: One, monkeypatch: pytest.MonkeyPatch, *, runs: bool
) -> None:
    its_stub_domain_halts(host, monkeypatch, runs=runs)
    with pytest.raises(UserError, match="The stub domain of web has ended.*could not read keymap file: 'de'") as failed:
        run(host, says="login:", timeout=30)
    assert facts(failed)["state"] == "absent"
    assert acts(host) == ["create", "unpause", "destroy"]


def test_a_stub_domain_that_ends_while_its_guest_is_listened_to(host: One, monkeypatch: pytest.MonkeyPatch) -> None:
    its_stub_domain_halts(host, monkeypatch, runs=True)
    look = guest_domain.Guest._stub_domain_has_ended
    looks: List[bool] = []

    def later(guest: guest_domain.Guest, *arguments: Any) -> bool:
        looks.append(True)
        return len(looks) > 1 and look(guest, *arguments)

    monkeypatch.setattr(guest_domain.Guest, "_stub_domain_has_ended", later)
    with pytest.raises(
        UserError, match="did not say 'login:' before its stub domain ended.*keymap file: 'de'"
    ) as failed:
        run(host, says="login:", timeout=30)
    # It is left to be looked at.
    assert facts(failed)["state"] == "blocked" and acts(host) == ["create", "unpause"]
    assert "state restarted" in failed.value.remedy


def test_a_guest_that_reboots_while_it_is_listened_to(host: One, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first stub domain ends with its first domain, and the second one runs."""
    host.put("etc/xen/web.cfg", HVM)
    unpause = host.xl_unpause

    def reboots(word: str) -> Tuple[int, str, str]:
        answer = unpause(word)
        host.gone("web")
        host.there("web", UUID)
        return answer

    monkeypatch.setattr(host, "xl_unpause", reboots)
    with pytest.raises(UserError, match="did not say 'login:' within") as failed:
        run(host, says="login:", timeout=30)
    assert facts(failed)["state"] == "blocked" and acts(host) == ["create", "unpause"]


def test_what_xl_says_is_said_without_its_source(host: One) -> None:
    host.fails["web"] = CREATE_ERRORS
    with pytest.raises(UserError, match="Stubdom 4 for 3 startup: startup timed out; .*device model did not start"):
        run(host)
    assert "libxl_dm.c" not in diagnosis.toolstack_error(CREATE_ERRORS)


def test_a_guest_that_does_not_shut_down(host: One, monkeypatch: pytest.MonkeyPatch) -> None:
    run(host)
    monkeypatch.setattr(host, "xl_shutdown", lambda *_words: (0, "", ""))
    with pytest.raises(UserError, match="has not ended within 0 seconds of `xl shutdown`"):
        run(host, state="stopped", stop_timeout=0)


def test_a_shutdown_is_for_guests_without_drivers_too(host: One) -> None:
    run(host)
    run(host, state="stopped")
    assert "shutdown -F 3" in host.calls


def test_the_stub_domain_is_waited_for(host: One, monkeypatch: pytest.MonkeyPatch) -> None:
    host.put("etc/xen/web.cfg", HVM)
    run(host)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    looks: List[str] = []

    def listed() -> Tuple[int, str, str]:
        rows = "Domain-0  0  1024  1  r-----  106.4\n"
        if host.letters is not None:
            return 0, f"{rows}web  3  256  1  {host.letters}  1.0\nweb-dm  4  136  1  -b----  1.0\n", ""
        looks.append("after")
        return 0, rows if len(looks) > 3 else f"{rows}web-dm  4  136  1  --ps-d  1.0\n", ""

    monkeypatch.setattr(host, "xl_list", listed)
    assert run(host, state="stopped", stop_timeout=30)["state"] == "absent"
    assert len(looks) > 3


def test_a_guest_that_is_kept_after_its_shutdown_has_ended(host: One, monkeypatch: pytest.MonkeyPatch) -> None:
    run(host)

    def preserve(*_words: str) -> Tuple[int, str, str]:
        host.letters = "---s--"
        return 0, "", ""

    monkeypatch.setattr(host, "xl_shutdown", preserve)
    steps = [run(host, state="stopped", stop_timeout=0) for _ in range(2)]
    assert [(step["changed"], step["state"]) for step in steps] == [(True, "shutdown"), (False, "shutdown")]
    assert acts(host) == []


def test_the_configuration_may_be_yet_to_be_written_in_check_mode(host: One) -> None:
    (host.root / "etc/xen/web.cfg").unlink()
    assert run(host, check=True)["changed"]


def test_a_guest_without_drivers_of_xen_is_sent_the_power_button(host: One) -> None:
    run(host)
    run(host, state="stopped")
    assert "shutdown -F 3" in host.calls


def test_the_end_of_the_stub_domain_is_waited_for(host: One, monkeypatch: pytest.MonkeyPatch) -> None:
    host.put("etc/xen/web.cfg", HVM)
    run(host)
    listed = host.xl_list
    left = ["web-dm  4  32  1  -b----  1.0\n"] * 3

    def xl_list() -> Tuple[int, str, str]:
        status, rows, errors = listed()
        return status, rows + (left.pop() if host.letters is None and left else ""), errors

    monkeypatch.setattr(host, "xl_list", xl_list)
    monkeypatch.setattr(guest_domain.time, "sleep", lambda _seconds: None)
    assert run(host, state="stopped")["state"] == "absent"
    assert left == []


def test_a_guest_that_is_kept_after_its_end_has_ended(host: One, monkeypatch: pytest.MonkeyPatch) -> None:
    run(host)

    def xl_shutdown(*_words: str) -> Tuple[int, str, str]:
        host.letters = "---s--"
        return 0, "", ""

    monkeypatch.setattr(host, "xl_shutdown", xl_shutdown)
    assert run(host, state="stopped", stop_timeout=0)["state"] == "shutdown"
    assert not run(host, state="stopped")["changed"]


@pytest.mark.parametrize(("looks", "destroyed"), [(3, False), (99, True)])
def test_a_restart_waits_until_the_domain_that_has_ended_is_taken_away(
    host: One, monkeypatch: pytest.MonkeyPatch, looks: int, destroyed: bool
) -> None:
    """By xl, or by us where it is to be kept."""
    run(host)
    before, left = host.domains["web"].domid, [None] * looks
    listed, create = host.xl_list, host.xl_create

    def xl_shutdown(*_words: str) -> Tuple[int, str, str]:
        host.letters = "---s--"
        return 0, "", ""

    def xl_list() -> Tuple[int, str, str]:
        if host.letters == "---s--":
            host.letters = "---s--" if left else None
            del left[:1]
        return listed()

    def xl_create(*words: str) -> Tuple[int, str, str]:
        return (
            create(*words) if host.letters is None else (1, "", 'libxl: error: Domain with name "web" already exists.')
        )

    for name, played in (("xl_shutdown", xl_shutdown), ("xl_list", xl_list), ("xl_create", xl_create)):
        monkeypatch.setattr(host, name, played)
    monkeypatch.setattr(guest_domain.time, "sleep", lambda _seconds: None)
    host.calls.clear()
    assert run(host, state="restarted", stop="graceful", stop_timeout=30)["state"] == "blocked"
    assert host.domains["web"].domid != before
    assert [call for call in host.calls if call.startswith("destroy")] == [f"destroy {before}"] * destroyed


class Killed(BaseException):
    """What no handler of the module sees: afterwards, nothing else is run."""


def starting(host: One) -> List[str]:
    return [path for path in host.nodes if path.startswith("/tool/xen-stubdom/starting/")]


def kill_at(host: One, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Have the run end before its program of this number, at which nothing more is run."""
    real, calls = host.run_command, []

    def run_command(arguments: List[str], **options: Any) -> Tuple[int, str, str]:
        calls.append(arguments)
        if len(calls) >= number:
            raise Killed
        return real(arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(host, "run_command", run_command)
        run(host, says="hello from web")


def unpausing(host: One, monkeypatch: pytest.MonkeyPatch) -> int:
    """The number of the program that lets a guest go."""
    real, calls = host.run_command, []

    def run_command(arguments: List[str], **options: Any) -> Tuple[int, str, str]:
        calls.append(arguments[:2])
        return real(arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(host, "run_command", run_command)
        run(host, says="hello from web")
    run(host, state="stopped", stop="force")
    return calls.index(["xl", "unpause"]) + 1


@pytest.mark.parametrize("config", [PV, HVM])
def test_a_start_that_is_killed_anywhere_is_finished_by_the_next_run(
    host: One, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.put("etc/xen/web.cfg", config)
    states = set()
    for number in range(1, 100):
        try:
            kill_at(host, monkeypatch, number)
        except Killed:
            states.add(host.letters)
        else:
            break
        paused = host.letters == "--p---"
        ran = host.letters is not None and not paused
        recorded = any(node.endswith("/xen-stubdom-config") for node in host.nodes)
        if paused:
            assert run(host, check=True, says="hello from web")["changed"]
        try:
            result = run(host, says="hello from web", timeout=0 if ran else 5)
        except UserError as error:
            # It has said it, and there was nobody left to take it down.
            assert ran and "did not say" in error.what
            os.write(host.domains["web"].terminals[0], b"hello from web\r\n")
            result = run(host, says="hello from web")
        assert result["said"] is True or ran
        assert result["state"] == "blocked" and starting(host) == []
        # What is not recorded yet may be half of a domain.
        assert acts(host) == (["destroy", "create", "unpause"] if not recorded else ["unpause"]) or not paused
        result = run(host, says="hello from web")
        assert (result["changed"], result["said"], result["restart_required"]) == (False, None, [])
        run(host, state="stopped", stop="force")
        host.nodes.clear()
    assert states == {None, "--p---", "-b----"}


def test_a_start_that_is_interrupted_leaves_nothing_paused(host: One, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: guest_domain.Guest, _domid: int) -> str:
        raise Interrupted("SIGHUP")

    monkeypatch.setattr(guest_domain.Guest, "_tty", interrupted)
    with pytest.raises(Interrupted):
        run(host)
    assert acts(host) == ["create", "destroy"]
    assert host.letters is None and starting(host) == []


def test_an_interrupted_start_with_an_older_configuration(host: One, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has not run, so nothing is lost as it is created again."""
    for restart in (False, True):
        with pytest.raises(Killed):
            kill_at(host, monkeypatch, unpausing(host, monkeypatch))
        assert host.letters == "--p---"
        host.put("etc/xen/web.cfg", PV.replace("256", f"30{restart:d}"))
        result = run(host, restart=restart)
        assert (result["changed"], result["state"], result["restart_required"]) == (True, "blocked", [])
        assert acts(host) == ["destroy", "create", "unpause"]
        assert not run(host, restart=restart)["changed"]
        run(host, state="stopped", stop="force")


@pytest.mark.parametrize(
    ("state", "done"),
    [
        ("paused", ["destroy", "create"]),
        ("restarted", ["destroy", "create", "unpause"]),
        ("rebooted", ["unpause"]),
        ("stopped", ["destroy"]),
        ("saved", []),
    ],
)
def test_what_an_interrupted_start_has_left_has_not_run(
    host: One, monkeypatch: pytest.MonkeyPatch, state: str, done: List[str]
) -> None:
    with pytest.raises(Killed):
        kill_at(host, monkeypatch, unpausing(host, monkeypatch))
    if state == "saved":
        with pytest.raises(UserError, match="does not run .its start was interrupted.*, so there is nothing to save"):
            run(host, state=state)
    else:
        assert run(host, state=state, check=True, stop="graceful")["changed"]
        assert run(host, state=state, stop="graceful")["changed"]
    assert acts(host) == done
    if state in ("paused", "stopped"):
        assert not run(host, state=state)["changed"] and starting(host) == []


def test_a_start_that_goes_on_after_its_run_was_killed(host: One, monkeypatch: pytest.MonkeyPatch) -> None:
    """xl creates the domain for a run that is no more, and the next run does not see it yet."""
    with pytest.raises(Killed):
        kill_at(host, monkeypatch, unpausing(host, monkeypatch))
    listed = host.xl_list
    hidden = ["web"] * 3

    def xl_list() -> Tuple[int, str, str]:
        status, rows, errors = listed()
        return status, rows.replace(hidden.pop(), "(null)") if hidden and "create" not in acts(host) else rows, errors

    monkeypatch.setattr(host, "xl_list", xl_list)
    result = run(host)
    assert acts(host) == ["create", "destroy", "create", "unpause"]
    assert (result["state"], starting(host)) == ("blocked", [])


def test_a_guest_that_an_operator_paused_is_left_alone(host: One) -> None:
    run(host, says="hello from web")
    host.letters = "--p---"
    for check in (True, False):
        with pytest.raises(UserError, match="web is paused, and not by a start that was interrupted") as refused:
            run(host, check=check, says="hello from web", restart=True)
        assert facts(refused)["state"] == "paused"
        assert acts(host) == []
    host.nodes.pop("/libxl/3/xen-stubdom-config")
    with pytest.raises(UserError, match="is left alone"):
        run(host)
    assert run(host, state="stopped", stop="force")["changed"]


def test_what_a_killed_start_has_left_is_not_taken_for_a_later_pause(
    host: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Killed):
        kill_at(host, monkeypatch, unpausing(host, monkeypatch) + 1)
    assert host.letters == "-b----" and starting(host)
    steps = [run(host, check=check) for check in (True, False, True, False)]
    assert [step["changed"] for step in steps] == [False] * 4 and starting(host) == []
    host.letters = "--p---"
    with pytest.raises(UserError, match="is left alone"):
        run(host)


def test_a_guest_that_another_program_is_starting_is_waited_for(host: One, monkeypatch: pytest.MonkeyPatch) -> None:
    run(host)
    host.letters = "--p---"
    monkeypatch.setattr(guest_domain, "PAUSED_TIMEOUT", 30)
    monkeypatch.setattr(guest_domain.time, "sleep", lambda _seconds: setattr(host, "letters", "-b----"))
    assert run(host)["state"] == "blocked"
    assert acts(host) == []


def test_words_that_were_not_heard_are_asked_for_again(host: One) -> None:
    host.words["web"] = b"GRUB\r\n"
    with pytest.raises(UserError, match="did not say 'login:'"):
        run(host, says="login:", timeout=0)
    assert not run(host, check=True, says="login:")["changed"]
    for _ in range(2):
        with pytest.raises(UserError, match="did not say 'login:'") as failed:
            run(host, says="login:", timeout=0)
        assert facts(failed)["said"] is False
    # Nothing is asked for, so nothing is missing.
    assert run(host)["said"] is None
    os.write(host.domains["web"].terminals[0], b"web login:")
    result = run(host, says="login:")
    assert (result["changed"], result["said"], result["console"][-10:]) == (False, True, "web login:")
    assert run(host, says="login:")["said"] is None
    assert acts(host) == []


def test_a_reboot_is_over_when_xl_has_let_the_guest_go(host: One, monkeypatch: pytest.MonkeyPatch) -> None:
    run(host)
    reboot, listed, looks = host.xl_reboot, host.xl_list, [None] * 3

    def xl_reboot(*words: str) -> Tuple[int, str, str]:
        answer = reboot(*words)
        host.letters = "--p---"
        return answer

    def xl_list() -> Tuple[int, str, str]:
        if host.letters == "--p---":
            del looks[:1]
            host.letters = host.letters if looks else "-b----"
        return listed()

    monkeypatch.setattr(host, "xl_reboot", xl_reboot)
    monkeypatch.setattr(host, "xl_list", xl_list)
    monkeypatch.setattr(guest_domain.time, "sleep", lambda _seconds: None)
    assert run(host, state="rebooted")["state"] == "blocked"


def test_a_guest_that_was_started_paused_is_waited_for_when_it_is_let_go(host: One) -> None:
    assert run(host, state="paused", says="hello from web")["said"] is None
    for check in (True, False):
        result = run(host, says="hello from web", check=check)
        assert (result["actions"], result["said"]) == (["unpaused"], None if check else True)
    assert not run(host, says="hello from web")["changed"]


def test_a_guest_that_is_started_again_is_asked_again(host: One) -> None:
    host.words["web"] = b""
    with pytest.raises(UserError, match="did not say"):
        run(host, says="login:", timeout=0)
    run(host, state="stopped", stop="force")
    host.words["web"] = b"login:"
    assert run(host, says="login:")["said"] is True


@pytest.mark.parametrize("says", ["", " ", "\n", "\x1b[31m", "a\u202eb", "\x00", "login:\r"])
def test_words_that_nobody_can_hear_are_refused(host: One, says: str) -> None:
    with pytest.raises(UserError, match="says is .*, which is not a text that") as refused:
        run(host, says=says)
    assert host.acts == [] and len(str(refused.value).splitlines()) == 2


def test_two_runs_do_not_start_one_guest_at_once(host: One, monkeypatch: pytest.MonkeyPatch) -> None:
    held: List[str] = []
    real = host.xl_create

    def create(*words: str) -> Tuple[int, str, str]:
        held.extend(name for name in files._held)
        return real(*words)

    monkeypatch.setattr(host, "xl_create", create)
    run(host)
    assert [name.startswith("xen.stubdom-guest-") for name in held] == [True]


@pytest.mark.parametrize("value", ["x", "\u00b2", "9" * 5000, "-1", ""])
def test_a_device_model_that_is_no_number_is_no_stub_domain(host: One, value: str) -> None:
    host.put("etc/xen/web.cfg", HVM)
    host.stub = value
    with pytest.raises(UserError, match="does not run in a stub domain"):
        run(host)
    assert acts(host) == ["create", "destroy"]


def test_a_stub_domain_that_names_a_file_as_its_terminal(host: One, monkeypatch: pytest.MonkeyPatch) -> None:
    host.put("etc/xen/web.cfg", HVM)
    host.put("root/secret", "a secret")
    real = host.xl_create

    def create(*words: str) -> Tuple[int, str, str]:
        answer = real(*words)
        host.nodes["/local/domain/4/device/console/3/tty"] = str(host.root / "root/secret")
        return answer

    monkeypatch.setattr(host, "xl_create", create)
    with pytest.raises(UserError, match="names .* as the guest's terminal") as refused:
        run(host, says="secret")
    assert "a secret" not in f"{refused.value} {refused.value.details}"
    assert acts(host) == ["create", "destroy"]


def test_what_a_guest_writes_to_the_log_of_the_hypervisor_is_freed_of_what_is_not_seen(host: One) -> None:
    host.dies.add("web")
    host.words["web"] = b"\x1b\x1b[0m[31m\xe2\x80\xaehello\x7f from web\xc2\x9b"
    host.dmesg = "(XEN) boot\n"
    real = host.xl_unpause

    def unpause(domid: str) -> Tuple[int, str, str]:
        answer = real(domid)
        host.dmesg += "(d3) \x1b[2J\u202eevil\x9b\n"
        return answer

    host.xl_unpause = unpause  # type: ignore[method-assign]
    result = run(host, says="hello from web")
    assert result["console"].isprintable() and "evil" in result["hypervisor_log"][-1]
    assert all(line.isprintable() for line in result["hypervisor_log"])


MAC = "00:16:3e:00:00:01"
ARP = f"IP address HW type Flags HW address Mask Device\n127.0.0.1 0x1 0x2 {MAC} * br0\n192.0.2.7 0x1 0x2 {MAC} * br0\n"
# What is waited for, what makes it come, and what a failure says.
WAITED: List[Tuple[Dict[str, Any], Any, str]] = [
    ({"pattern": "^web[0-9]+ login:"}, lambda host: host.write(b"web1 login: "), "did not write a line like"),
    (
        {"node": "data/ready"},
        lambda host: host.nodes.update({"/local/domain/3/data/ready": "1"}),
        "had no xenstore node",
    ),
    ({"state": "running"}, lambda host: setattr(host, "letters", "r-----"), "has not been running"),
    ({"state": "shutdown"}, lambda host: setattr(host, "letters", "---s--"), "has not been shutdown"),
    ({"address": True}, lambda host: host.put("proc/net/arp", ARP), "has got no address that dom0 knows"),
]


@pytest.mark.parametrize(("wait_for", "come", "missed"), WAITED)
def test_waited_for_by_a_condition_of_choice_in_four_steps(
    host: One, wait_for: Dict[str, Any], come: Any, missed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "EVERY", 0.05)
    host.put("etc/xen/web.cfg", PV + f'vif = [ "mac={MAC}" ]\n')
    assert run(host, check=True, wait_for=wait_for)["changed"]
    with pytest.raises(UserError, match=missed) as failed:
        run(host, wait_for=wait_for, timeout=1)
    assert "left running, and the next run waits again" in failed.value.remedy
    assert (facts(failed)["said"], facts(failed)["console"]) == (False, "hello from web\n")
    # It is asked for again, and what it was is not forgotten.
    assert not run(host, check=True, wait_for=wait_for)["changed"]
    come(host)
    result = run(host, wait_for=wait_for)
    assert (result["said"], result["changed"]) == (True, False)
    assert result["address"] == ("192.0.2.7" if "address" in wait_for else None)
    for check in (True, False):
        again = run(host, check=check, wait_for=wait_for)
        assert (again["changed"], again["said"]) == (False, None)


def test_a_guest_that_is_to_end_by_itself(host: One, monkeypatch: pytest.MonkeyPatch) -> None:
    host.dies.add("web")
    result = run(host, wait_for={"state": "absent"})
    assert (result["said"], result["state"]) == (True, "absent")


def test_a_port_that_answers(host: One, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "EVERY", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        # Loopback is no address of a guest.
        monkeypatch.setattr(waiting, "address", lambda *_which: "127.0.0.1")
        result = run(host, wait_for={"port": port})
        assert (result["said"], result["address"]) == (True, "127.0.0.1")
    run(host, state="stopped")
    with pytest.raises(UserError, match=f"has not answered at TCP port {port} within"):
        run(host, wait_for={"port": port}, timeout=0)


def test_an_address_is_not_what_the_guest_says(host: One) -> None:
    host.put("etc/xen/web.cfg", PV + f'vif = [ "mac={MAC},ip=192.0.2.9" ]\n')
    assert run(host, wait_for={"address": True})["address"] == "192.0.2.9"
    host.nodes["/local/domain/3/attr/eth0/ip"] = "192.0.2.66"
    host.put("etc/xen/web.cfg", PV + f'vif = [ "mac={MAC}" ]\n')
    run(host, state="stopped")
    with pytest.raises(UserError, match="has got no address"):
        run(host, wait_for={"address": True}, timeout=0)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"wait_for": {}}, "wait_for has 0 conditions: none"),
        ({"wait_for": {"port": 22, "address": True}}, "wait_for has 2 conditions: port, address"),
        ({"wait_for": {"port": 22}, "says": "x"}, "Both says and wait_for are set"),
        ({"wait_for": {"port": 0}}, "wait_for.port is 0, which is no TCP port"),
        ({"wait_for": {"pattern": "(a+)+"}}, r"wait_for.pattern is .* repeats a group"),
        ({"wait_for": {"node": "/local/domain/0/name"}}, "wait_for.node is .* no path below"),
        ({"wait_for": {"node": "../../0/name"}}, "wait_for.node is .* no path below"),
    ],
)  # fmt: skip
def test_what_cannot_be_waited_for(host: One, params: Dict[str, Any], message: str) -> None:
    for check in (True, False):
        with pytest.raises(UserError, match=message) as refused:
            run(host, check=check, **params)
        assert host.acts == [] and len(str(refused.value).splitlines()) == 2


@pytest.mark.parametrize("how", [{"restart": True}, {"state": "restarted"}])
def test_a_restart_is_graceful_or_by_force_and_has_a_time_limit_of_its_own(
    host: One, how: Dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(host)
    forms: List[Tuple[Dict[str, Any], str]] = [({}, "shutdown"), ({"stop": "force"}, "destroy")]
    for number, (stop, command) in enumerate(forms):
        host.put("etc/xen/web.cfg", PV.replace("256", f"30{number}"))
        result = run(host, **stop, **how)
        assert (acts(host), result["actions"]) == ([command, "create", "unpause"], ["restarted"])
    host.put("etc/xen/web.cfg", PV.replace("256", "400"))
    monkeypatch.setattr(host, "xl_shutdown", lambda *_words: (0, "", ""))
    with pytest.raises(UserError, match="has not ended within 0 seconds of `xl shutdown`") as failed:
        run(host, stop_timeout=0, timeout=99, **how)
    # It goes on as it was.
    assert "stop_timeout" in failed.value.remedy and facts(failed)["state"] == "blocked" and acts(host) == ["shutdown"]
