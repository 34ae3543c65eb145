# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import machine
import pytest
import yaml

USERNET = """\
Hub -1 (net0):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[ESTABLISHED]   17       127.0.0.1 39999       10.0.2.15    22     0     0
  TCP[HOST_FORWARD]  12       127.0.0.1 41729       10.0.2.15    22     0     0
"""


def test_the_port_is_the_one_qemu_listens_on() -> None:
    assert machine.forwarded_port(USERNET) == 41729


def test_qemu_listens_on_loopback_only_and_chooses_its_port() -> None:
    words = machine.qemu_arguments(machine.Machine(4096, 1, "tcg"), disk="disk.qcow2", port=0)
    assert [word for word in words if "hostfwd" in word] == ["user,id=net0,hostfwd=tcp:127.0.0.1:0-10.0.2.15:22"]
    assert not {"-no-reboot", "-loadvm"} & set(words)


def test_emulated_cpus_share_one_thread_when_there_are_several() -> None:
    assert "tcg,thread=multi" in machine.Machine(4096, 1, "tcg").arguments()
    assert "tcg,thread=single" in machine.Machine(4096, 2, "tcg").arguments()


def test_a_state_of_other_hardware_is_another_state() -> None:
    keys = {
        machine.key_of(machine.Machine(*settings).arguments())
        for settings in ((4096, 1, "tcg"), (4096, 2, "tcg"), (2048, 1, "tcg"), (4096, 1, "kvm"))
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "qemu: -netdev user: Could not set up host forwarding rule 'tcp:127.0.0.1:22-:22'",
            "Port 22 of this machine is in use.",
        ),
        ("cannot set up guest memory", "QEMU did not start: cannot set up guest memory."),
    ],
)
def test_why_qemu_did_not_start(words: str, sentence: str) -> None:
    assert str(machine.refused_start(words, 22)).splitlines()[0] == sentence


@pytest.mark.parametrize("name", ["", "../x", "Lab", "a b", "-x", "x" * 64])
def test_names_that_are_no_names(name: str) -> None:
    with pytest.raises(machine.LabError, match="cannot be the name of a host"):
        machine.directory_of(name)


@pytest.mark.parametrize("name", ["", "booted", "two words", "1", "a;quit"])
def test_states_that_cannot_be_named_so(name: str) -> None:
    with pytest.raises(machine.LabError, match="cannot be the name of a saved state"):
        machine.check_state_name(name)


def test_the_inventory_of_no_host_has_the_group() -> None:
    assert machine.inventory([]) == "---\nxen_hosts:\n  hosts: {}\n"


def test_the_inventory_holds_what_ansible_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "with space"))
    host = machine.Host("one", "trixie", 4096, 1, "tcg", 2222, "/keys/id", None, 0.0)
    variables = yaml.safe_load(machine.inventory([host]))["xen_hosts"]["hosts"]["one"]
    assert variables["ansible_host"] == "127.0.0.1"
    assert variables["ansible_port"] == 2222
    assert variables["ansible_user"] == "root"
    assert variables["ansible_ssh_private_key_file"] == "/keys/id"
    assert f"'UserKnownHostsFile=\"{tmp_path}/with space" in variables["ansible_ssh_common_args"]


def test_a_host_that_is_not_up_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(machine.LabError) as caught:
        machine.get("gone")
    assert str(caught.value).splitlines() == ["No lab host named gone is up.", "Start it with: xenlab up --name gone"]


def test_too_old_a_qemu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path, "echo QEMU emulator version 7.2.1", monkeypatch)
    with pytest.raises(machine.LabError, match=r"QEMU 7\.2 is too old"):
        machine.qemu_version()


# ---- the watched process, with a program that only waits in QEMU's place ----


def _program(directory: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = directory / "bin" / "qemu-system-x86_64"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.fixture(name="host")
def _host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    _program(tmp_path, "echo $$ > pid; exec sleep 60", monkeypatch)
    directory = tmp_path / "host"
    directory.mkdir()
    return directory


def _pid(directory: Path) -> int:
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            return int((directory / "pid").read_text())
        except (OSError, ValueError):
            time.sleep(0.02)
    raise AssertionError("the program was not started")


def _alive(pid: int) -> bool:
    """A process that has ended may stay in the table until init looks at it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_host_that_was_never_ready_ends_with_the_block(host: Path) -> None:
    with machine.Starting(host, [], None):
        pid = _pid(host)
        assert machine.is_running(host)
    assert not machine.is_running(host)
    assert not _alive(pid)


def test_a_ready_host_lives_on_until_it_is_stopped(host: Path) -> None:
    (host / "disk.qcow2").touch()
    with machine.Starting(host, [], None) as starting:
        pid = _pid(host)
        starting.ready()
    assert machine.is_running(host)
    with pytest.raises(machine.LabError, match="already running"), machine.Starting(host, [], None):
        pass
    machine.stop(host)
    assert not _alive(pid)
    assert not (host / "disk.qcow2").exists()


def test_a_host_ends_with_its_owner(host: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as owner:
        with machine.Starting(host, [], owner.pid) as starting:
            pid = _pid(host)
            starting.ready()
        assert machine.is_running(host)
        owner.kill()
    machine.wait_until_ended(host, 5)
    assert not _alive(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_host_ends_when_the_caller_dies_too_early(host: Path, number: signal.Signals) -> None:
    script = (
        "import sys, time, machine; from pathlib import Path; "
        "machine.Starting(Path(sys.argv[1]), [], None); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(machine.__file__).parent)}
    with subprocess.Popen([sys.executable, "-c", script, str(host)], env=environment) as caller:
        pid = _pid(host)
        caller.send_signal(number)
    machine.wait_until_ended(host, 5)
    assert not _alive(pid)


def test_nothing_outlives_a_killed_watcher(host: Path) -> None:
    with machine.Starting(host, [], None) as starting:
        pid = _pid(host)
        starting.ready()
    os.kill(int((host / "watcher.pid").read_text()), signal.SIGKILL)
    machine.wait_until_ended(host, 5)
    assert not _alive(pid)


# ---- a host that boots ----


def _serial(host: Path, words: bytes) -> None:
    (host / "serial.log").write_bytes(words)


def test_the_image_says_what_the_lab_waits_for() -> None:
    setup = Path(machine.__file__).with_name("setup.sh").read_bytes()
    assert b'"' + machine.LISTENING + b'" > /dev/console' in setup


def test_a_host_listens_when_it_says_so_among_other_words(host: Path) -> None:
    _serial(host, b"(XEN) Xen version\n")
    with machine.Starting(host, [], None):
        with pytest.raises(machine.LabError, match="did not answer"):
            machine.wait_until_listening(host, 0.1)
        _serial(host, b"\x1b[!p" + machine.LISTENING + b"\r\n(XEN) more\xff")
        machine.wait_until_listening(host, 0.1)


def test_nobody_waits_for_a_host_that_has_ended(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _serial(host, b"")
    _program(host.parent, "echo no disk >&2", monkeypatch)
    with machine.Starting(host, [], None), pytest.raises(machine.LabError, match="ended .* QEMU said: no disk"):
        machine.wait_until_listening(host, 10)


def test_a_clock_that_was_set_late_is_set_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "told"
    for name, content in (
        ("ssh", 'for remote; do :; done; eval "$remote"'),
        ("date", f"[ -e {told} ] || sleep 1; echo $2 >> {told}"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{content}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert machine._set_clock([str(tmp_path / "ssh"), "host"])
    first, second = (float(line.removeprefix("@")) for line in told.read_text().splitlines())
    assert 1 <= second - first < 5
    monkeypatch.setattr(machine, "CLOCK_ERROR", -1)
    assert machine._set_clock([str(tmp_path / "ssh"), "host"])
    assert len(told.read_text().splitlines()) == 2 + machine.CLOCK_TRIES
