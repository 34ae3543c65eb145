# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab host as a running machine: QEMU, the process that watches it, its monitor, ssh, saved states."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from image import Image, LabError, Progress, base_directory, die_with_parent, key_of, only_one, tool, write_atomically

MINIMUM_QEMU = (10, 0)
# MiB of a host unless another amount is asked for. From 2816 MiB on QEMU puts what is above 2048 MiB behind a hole for
# PCI, and dom0's kernel then moves as many pages, one by one, at each boot.
MEMORY = 2560
# The saved state every host starts from.
BOOTED = "booted"
# A host's disk, in the directory of the host.
DISK = "disk.qcow2"
BOOT_TIMEOUT = 600
RESTORE_TIMEOUT = 300
# Seconds by which a host's clock may be late: by the time from telling it to setting it, which grows with what else
# runs on this machine.
CLOCK_ERROR = 0.5
CLOCK_TRIES = 10
# What a host writes on its serial port at each boot when its ssh server listens (setup.sh).
LISTENING = b"xenlab: the ssh server listens"
# XSAVE under emulation corrupts dom0's programs as soon as an HVM guest runs; this model has none. RDTSCP is not
# intercepted in a way that Xen's instruction length decoder understands: PVH guests crash on it.
EMULATED_CPU = "Opteron_G3,+svm,+npt,+rdrand,-rdtscp"


@dataclass(frozen=True)
class Machine:
    """What QEMU is told about the hardware. memory in MiB, accelerator `tcg` or `kvm`."""

    memory: int
    cpus: int
    accelerator: str

    def arguments(self) -> list[str]:
        """The words that must be the same when a state is saved and when it is restored."""
        # One host CPU thread runs all emulated ones when there are several: with a thread for each, guests die in
        # triple faults now and then.
        thread = "multi" if self.cpus == 1 else "single"
        accelerator = ["-accel", f"tcg,thread={thread}", "-cpu", EMULATED_CPU]
        if self.accelerator == "kvm":
            accelerator = ["-accel", "kvm", "-cpu", "host"]
        return [
            *("-nodefaults", "-M", "q35", *accelerator, "-smp", str(self.cpus), "-m", str(self.memory)),
            *("-display", "none", "-vga", "none", "-rtc", "base=utc"),
        ]


def qemu_arguments(machine: Machine, *, disk: str, port: int, state: str | None = None) -> list[str]:
    """QEMU's command line without the program. Files are relative to the host's directory.

    port is the one of this machine's loopback that leads to the host's ssh server; 0 lets the kernel choose a free one.
    """
    return [
        *machine.arguments(),
        *("-drive", f"file={disk},if=none,id=disk0,format=qcow2,cache=unsafe,discard=unmap"),
        *("-device", "virtio-blk-pci,drive=disk0"),
        *(
            "-netdev",
            f"user,id=net0,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:22",
            "-device",
            "e1000,netdev=net0,romfile=",
        ),
        *("-chardev", "file,id=serial0,path=serial.log,append=on", "-serial", "chardev:serial0"),
        *("-qmp", "unix:qmp.sock,server=on,wait=off"),
        *(("-loadvm", state) if state else ()),
    ]


def qemu_version() -> tuple[int, int]:
    """The version of the QEMU that would run the hosts; too old a one is refused."""
    text = subprocess.run([tool("qemu-system-x86_64"), "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"version (\d+)\.(\d+)", text)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    if version < MINIMUM_QEMU:
        raise LabError(
            f"QEMU {version[0]}.{version[1]} is too old: under its emulation the programs of a Xen host crash.",
            f"Install the package qemu-system-x86 {MINIMUM_QEMU[0]} or newer (Debian 13, or backports of 12).",
        )
    return version


# ---- the monitor ----------------------------------------------------------------------------------------------------


class Monitor:
    """QEMU's machine protocol on a socket (docs/interop/qmp-spec.rst)."""

    def __init__(self, directory: Path, timeout: float = 60) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        # A socket's path may have 107 characters; through the descriptor of its directory any path is short.
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            self._socket.connect(f"/proc/self/fd/{descriptor}/qmp.sock")
        finally:
            os.close(descriptor)
        self._lines = self._socket.makefile("rb")
        self._lines.readline()
        self.execute("qmp_capabilities")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def execute(self, command: str, **arguments: object) -> Any:
        """One command and its answer; events in between are passed over."""
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            line = self._lines.readline()
            if not line:
                raise ConnectionResetError("QEMU has closed its monitor")
            answer = json.loads(line)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise LabError(
                    f"QEMU refuses {command}: {answer['error']['desc']}.", "See qemu.log beside the host's serial.log."
                )

    def words(self, command: str) -> str:
        """What the human monitor answers, which knows savevm, loadvm and info usernet."""
        return str(self.execute("human-monitor-command", **{"command-line": command})).strip()


def connect(directory: Path, timeout: float = 30) -> Monitor:
    """The monitor of a QEMU that has just been started, as soon as it listens."""
    end = time.monotonic() + timeout
    while True:
        try:
            return Monitor(directory)
        except OSError:
            if time.monotonic() > end or not is_running(directory):
                raise
            time.sleep(0.05)


def forwarded_port(answer: str) -> int:
    """The loopback port in the answer to `info usernet`."""
    match = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)", answer)
    if not match:
        raise LabError("QEMU does not say which port leads to the host.", f"It said: {answer}")
    return int(match[1])


# ---- the watched process --------------------------------------------------------------------------------------------


def take_lock(directory: Path) -> int | None:
    """A descriptor that holds the host's lock; None when another process does, which means that the host is running."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_running(directory: Path) -> bool:
    """Whether QEMU, or the process that watches it, is alive: the two hold the lock as long as they live."""
    if not (directory / "lock").exists():
        return False
    descriptor = take_lock(directory)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


class Starting:
    """A QEMU that ends with this process until `ready` is called. Leaving the `with` block earlier ends it at once."""

    def __init__(self, directory: Path, arguments: Sequence[str], owner: int | None) -> None:
        lock = take_lock(directory)
        if lock is None:
            raise LabError(f"A host is already running in {directory}.", "Take it down first.")
        reading, self._writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            try:
                os.close(self._writing)
                os.setsid()
                if os.fork() == 0:
                    _watch(directory, [tool("qemu-system-x86_64"), *arguments], lock, reading, owner)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(lock)
        self._directory = directory

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writing >= 0:
            os.close(self._writing)
            wait_until_ended(self._directory)

    def ready(self) -> None:
        """From now on the host lives on its own, or as long as its owner does."""
        os.write(self._writing, b"ready")
        os.close(self._writing)
        self._writing = -1


def _watch(directory: Path, command: list[str], lock: int, starter: int, owner: int | None) -> None:
    """The life of the watching process: it ends QEMU when told to, when the starter dies early, when the owner dies."""
    os.chdir(directory)
    log = os.open("qemu.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    for descriptor in {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, lock, starter}:
        try:
            os.close(descriptor)
        except OSError:
            pass
    Path("watcher.pid").write_text(f"{os.getpid()}\n")
    qemu = subprocess.Popen(command, pass_fds=(lock,), preexec_fn=die_with_parent)  # noqa: PLW1509 -- no threads
    poll = select.poll()
    ended = os.pidfd_open(qemu.pid)
    poll.register(ended, select.POLLIN)
    poll.register(starter, select.POLLIN)
    told, telling = os.pipe()
    poll.register(told, select.POLLIN)
    signal.signal(signal.SIGTERM, lambda *_: os.write(telling, b"x"))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    owned = -1
    if owner is not None:
        try:
            owned = os.pidfd_open(owner)
            poll.register(owned, select.POLLIN)
        except ProcessLookupError:
            os.write(telling, b"x")
    while True:
        happened = {descriptor for descriptor, _ in poll.poll()}
        if ended in happened or told in happened or owned in happened:
            break
        if starter in happened:
            if os.read(starter, 16) != b"ready":
                break
            poll.unregister(starter)
    if qemu.poll() is None:
        qemu.terminate()
        try:
            qemu.wait(10)
        except subprocess.TimeoutExpired:
            qemu.kill()
            qemu.wait()
    for name in (DISK, "qmp.sock", "host.json", "watcher.pid"):
        Path(name).unlink(missing_ok=True)


def stop(directory: Path) -> None:
    """Ends the host in this directory and waits until nothing of it is left."""
    try:
        watcher = int((directory / "watcher.pid").read_text())
    except (OSError, ValueError):
        watcher = 0
    if watcher and is_running(directory):
        try:
            os.kill(watcher, signal.SIGTERM)
        except ProcessLookupError:
            pass
    wait_until_ended(directory)


def wait_until_ended(directory: Path, timeout: float = 30) -> None:
    """Waits until QEMU and its watcher are gone. Raises LabError when they are not in time (seconds)."""
    end = time.monotonic() + timeout
    while is_running(directory):
        if time.monotonic() > end:
            raise LabError(
                f"The host in {directory} does not end.",
                "Look for a qemu-system-x86_64 process that uses this directory.",
            )
        time.sleep(0.05)


# ---- ssh ------------------------------------------------------------------------------------------------------------


def ssh_options(directory: Path, key: Path) -> list[str]:
    """How ssh enters a host: its own key, and its own list of known hosts, made anew with every host."""

    def quoted(path: Path) -> str:
        # ssh splits the value of an option at blanks (ssh_config(5)).
        return f'"{path}"' if " " in str(path) else str(path)

    return [
        *("-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={quoted(directory / 'known_hosts')}"),
        *("-o", "GlobalKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-o", f"IdentityFile={quoted(key)}"),
        *("-o", "LogLevel=ERROR", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=20"),
    ]


def ssh_command(directory: Path, key: Path, port: int) -> list[str]:
    """The words before the remote command."""
    return [tool("ssh"), "-F", "none", *ssh_options(directory, key), "-p", str(port), "root@127.0.0.1"]


def wait_for_ssh(directory: Path, key: Path, port: int, timeout: float) -> None:
    """Waits (seconds) until the host answers a command over ssh, and sets its clock by the same session.

    A restored host believes that it is still the time at which it was saved.
    """
    end = time.monotonic() + timeout
    greeting = _Greeting(port)
    while time.monotonic() < end:
        _refuse_ended(directory)
        if greeting.heard():
            greeting.close()
            if _set_clock(ssh_command(directory, key, port)):
                return
            greeting = _Greeting(port)
            time.sleep(0.2)
    raise _late(directory, timeout)


def _refuse_ended(directory: Path) -> None:
    if not is_running(directory):
        words = (directory / "qemu.log").read_text(errors="replace").strip() or "nothing"
        raise LabError(f"The host has ended before it answered; QEMU said: {words}.", f"See {directory}/serial.log.")


def _late(directory: Path, timeout: float) -> LabError:
    return LabError(
        f"The host did not answer over ssh within {timeout:.0f} s.",
        f"See {directory}/serial.log for how far it came; on a busy machine run it again when less is running.",
    )


def wait_until_listening(directory: Path, timeout: float) -> None:
    """Waits (seconds) until a host that boots says on its serial port that its ssh server listens.

    QEMU keeps each connection that was tried before and hands them all over at once when the host has a network; the
    server starts a process for each. With a try a second, 35 of them held up the first answer for 15 seconds.
    """
    end = time.monotonic() + timeout
    while LISTENING not in (directory / "serial.log").read_bytes():
        _refuse_ended(directory)
        if time.monotonic() > end:
            raise _late(directory, timeout)
        time.sleep(0.2)


class _Greeting:
    """Waits for the first words of the ssh server.

    QEMU accepts a connection before the host can answer, and it may then hang for seconds. So a new one is tried every
    second, and the first on which the server speaks is enough. Old ones are closed: the server would start a process
    for each.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: list[socket.socket] = []
        self._next = 0.0

    def heard(self) -> bool:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 1
            if len(self._open) == 5:
                self._open.pop(0).close()
            try:
                self._open.append(socket.create_connection(("127.0.0.1", self._port), timeout=1))
            except OSError:
                pass
        for connection in select.select(self._open, [], [], 0.1)[0]:
            try:
                words = connection.recv(4)
            except OSError:
                words = b""
            if words == b"SSH-":
                return True
            self._open.remove(connection)
            connection.close()
        return False

    def close(self) -> None:
        for connection in self._open:
            connection.close()


def _set_clock(ssh: Sequence[str]) -> bool:
    """Whether the host answers; its clock is then right by CLOCK_ERROR, if this machine is that quick at all."""
    remote = 'echo ready; while read now; do date -s "@$now" > /dev/null && echo set; done'
    options = ["-o", "ConnectTimeout=30", "-o", "BatchMode=yes"]
    process = subprocess.Popen(
        [ssh[0], *options, *ssh[1:], remote],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        if process.stdout.readline().strip() != "ready":
            return False
        for _ in range(CLOCK_TRIES):
            told = time.time()
            process.stdin.write(f"{told:.3f}\n")
            process.stdin.flush()
            if process.stdout.readline().strip() != "set":
                return False
            # The host's clock is late by some part of the time between.
            if time.time() - told < CLOCK_ERROR:
                break
        return True
    except OSError:
        return False
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()


# ---- acceleration ---------------------------------------------------------------------------------------------------


def choose_accelerator(image: Image, progress: Progress) -> str:
    """`kvm` where Xen was seen to boot under it, else `tcg`. The answer is remembered with the image."""
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        reason = "/dev/kvm cannot be used"
    elif not {"svm", "vmx"} & set(flags[1].split() if flags else ()):
        reason = "this machine's processor offers no hardware virtualisation to guests of KVM"
    else:
        asked = key_of([os.uname().release, qemu_version(), flags[1] if flags else ""])
        record = image.directory / f"kvm-{asked}"
        if not record.exists():
            with progress.step("trying whether Xen boots under KVM", "kvm probe"):
                write_atomically(record, b"kvm" if _boots_under_kvm(image) else b"tcg")
        if record.read_bytes() == b"kvm":
            progress.say("runs with KVM")
            return "kvm"
        reason = "Xen did not boot under KVM here"
    progress.say(f"runs emulated: {reason}")
    return "tcg"


def _boots_under_kvm(image: Image, timeout: float = 60) -> bool:
    with scratch(image.directory / "kvm-probe.tmp") as directory:
        _overlay(image, directory / "disk.qcow2")
        machine = Machine(memory=2048, cpus=1, accelerator="kvm")
        with Starting(directory, qemu_arguments(machine, disk="disk.qcow2", port=0), None):
            end = time.monotonic() + timeout
            while time.monotonic() < end and is_running(directory):
                log = directory / "serial.log"
                # The banner alone comes before Xen has run any guest code; dom0's first words come after.
                text = log.read_bytes() if log.exists() else b""
                if b"(XEN) Xen version" in text and b"Linux version" in text and b"HVM: " in text:
                    return True
                time.sleep(0.3)
    return False


# ---- saved states ---------------------------------------------------------------------------------------------------


def _overlay(image: Image, disk: Path) -> None:
    subprocess.run(
        [tool("qemu-img"), "create", "-q", "-f", "qcow2", "-b", str(image.disk), "-F", "raw", str(disk)], check=True
    )


@contextmanager
def scratch(directory: Path) -> Iterator[Path]:
    """An empty directory that is gone afterwards; after a failure its logs stay until the next try."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def saved_state(image: Image, machine: Machine, progress: Progress) -> Path:
    """A disk with the state of a freshly booted host in it; the host is booted for it when the cache has none."""
    state = image.directory / f"booted-{key_of([machine.arguments(), qemu_version()])}.qcow2"
    if state.exists():
        return state
    with only_one(
        state.with_suffix(".lock"), lambda: progress.say("another xenlab is booting this host; waiting for it")
    ):
        if not state.exists():
            with scratch(state.with_suffix(".tmp")) as directory:
                disk = directory / "booted.qcow2"
                _boot_and_save(image, machine, disk, progress)
                disk.rename(state)
    return state


def boot(image: Image, directory: Path, port: int, progress: Progress, kind: str) -> None:
    """Follows a host from power-on to its first answer over ssh."""
    with progress.step(f"booting Debian {image.release} on Xen in {directory.name}", kind):
        wait_until_listening(directory, BOOT_TIMEOUT)
        wait_for_ssh(directory, image.ssh_key, port, RESTORE_TIMEOUT)


def _boot_and_save(image: Image, machine: Machine, disk: Path, progress: Progress) -> None:
    directory = disk.parent
    _overlay(image, disk)
    with Starting(directory, qemu_arguments(machine, disk=disk.name, port=0), None):
        with connect(directory) as monitor:
            port = forwarded_port(monitor.words("info usernet"))
        boot(image, directory, port, progress, f"boot {image.release} {machine.cpus}")
        with progress.step("waiting until it is quiet, and saving its state", f"save {image.release} {machine.cpus}"):
            ssh = ssh_command(directory, image.ssh_key, port)
            # In the image update-grub was told about the disk by setup.sh; here it asks the disk itself.
            script = """
                systemctl is-system-running --wait
                cp /boot/grub/grub.cfg /run/; update-grub; cmp /run/grub.cfg /boot/grub/grub.cfg; rm /run/grub.cfg
                xl info > /dev/null && sync && echo settled
            """
            answer = subprocess.run([*ssh, script], capture_output=True, text=True, check=False)
            (image.directory / "first-boot.log").write_text(answer.stdout + answer.stderr)
            if not answer.stdout.endswith("settled\n"):
                raise LabError(
                    f"The first boot of the {image.release} image did not come to rest: "
                    f"{answer.stderr.strip() or 'no Xen'}.",
                    f"See {directory}/serial.log; run it again when less is running.",
                )
            save(directory, BOOTED)


def save(directory: Path, name: str) -> None:
    """Saves the running host's memory and disk in its own disk file, under a name."""
    with Monitor(directory, timeout=300) as monitor:
        answer = monitor.words(f"savevm {name}")
    if answer:
        raise LabError(f"The state {name} could not be saved: {answer}.", "See that there is room for its disk.")


def saved_names(monitor: Monitor) -> list[str]:
    """The names of the states saved in a running host's disk."""
    rows = re.findall(r"^\S+\s+(\S+)\s+[\d.]+ [KMGT]?i?B", monitor.words("info snapshots"), re.MULTILINE)
    return [name for name in rows if name != BOOTED]


# ---- hosts ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Host:
    """A running host, as its host.json says."""

    name: str
    release: str
    memory: int
    cpus: int
    accelerator: str
    port: int
    key: str
    owner: int | None
    started: float

    @property
    def directory(self) -> Path:
        """Where its disk, its serial log and its monitor are."""
        return directory_of(self.name)

    def ssh(self) -> list[str]:
        """The words before the remote command."""
        return ssh_command(self.directory, Path(self.key), self.port)


def hosts_directory() -> Path:
    """All hosts of this user, each in a directory of its name."""
    return base_directory() / "hosts"


def directory_of(name: str) -> Path:
    """Where a host of this name has its files."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name):
        raise LabError(
            f"'{name}' cannot be the name of a host.", "Use up to 63 small letters, digits, hyphens and underscores."
        )
    return hosts_directory() / name


def running_hosts() -> list[Host]:
    """All hosts that are up, by name."""
    found = (find(path.name) for path in sorted(hosts_directory().glob("*")) if path.is_dir())
    return [host for host in found if host is not None]


def find(name: str) -> Host | None:
    """The host of this name if it is up."""
    directory = directory_of(name)
    try:
        if is_running(directory):
            return Host(**json.loads((directory / "host.json").read_text()))
    except (OSError, ValueError, TypeError):
        pass
    return None


def get(name: str) -> Host:
    """The host of this name; LabError when it is not up."""
    host = find(name)
    if host is None:
        raise LabError(f"No lab host named {name} is up.", f"Start it with: xenlab up --name {name}")
    return host


def check_state_name(name: str) -> None:
    """Refuses a name that QEMU's monitor would misread, and the one all hosts begin with."""
    if name == BOOTED or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", name):
        raise LabError(
            f"'{name}' cannot be the name of a saved state.",
            "Use letters, digits, '-', '_' and '.'; begin with a letter.",
        )


def inventory(hosts: Sequence[Host]) -> str:
    """An Ansible inventory in YAML, all hosts in the group xen_hosts. Strings are quoted as in JSON."""
    lines = ["---", "xen_hosts:", "  hosts:" if hosts else "  hosts: {}"]
    for host in hosts:
        arguments = " ".join(shlex.quote(word) for word in ssh_options(host.directory, Path(host.key)))
        variables = {
            "ansible_host": "127.0.0.1",
            "ansible_port": host.port,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": host.key,
            "ansible_python_interpreter": "/usr/bin/python3",
            # Every process costs ten times what it does on real hardware; this saves most of those around a module.
            "ansible_pipelining": True,
            # Seconds. Beside three busy hosts it takes three to log in, and there are slower machines.
            "ansible_ssh_timeout": 30,
            "ansible_ssh_common_args": arguments,
        }
        lines.append(f"    {host.name}:")
        lines += [f"      {name}: {json.dumps(value)}" for name, value in variables.items()]
    return "\n".join(lines) + "\n"


def start(
    name: str, image: Image, machine: Machine, progress: Progress, *, port: int, owner: int | None, power_on: bool
) -> Host:
    """Starts a host from the saved state, or from power-on, and returns when it answers over ssh."""
    state = None if power_on else saved_state(image, machine, progress)
    directory = directory_of(name)
    directory.mkdir(parents=True, exist_ok=True)
    with only_one(directory / "up.lock", lambda: progress.say(f"another xenlab is starting {name}; waiting for it")):
        if is_running(directory):
            raise LabError(f"A host named {name} has been started in the meantime.", "Use it, or use another --name.")
        for old in ("serial.log", "qemu.log", "known_hosts"):
            (directory / old).unlink(missing_ok=True)
        # A copy, so that a running host can be entered even when the cache is emptied.
        key = directory / "id_ed25519"
        write_atomically(key, image.ssh_key.read_bytes(), 0o600)
        disk = directory / DISK
        if state is None:
            _overlay(image, disk)
        else:
            subprocess.run(["cp", "--reflink=auto", "--sparse=auto", str(state), str(disk)], check=True)
        arguments = qemu_arguments(machine, disk=disk.name, port=port, state=BOOTED if state else None)
        with Starting(directory, arguments, owner) as starting:
            real_port = _first_words(directory, port)
            if state is None:
                boot(image, directory, real_port, progress, f"boot {image.release} {machine.cpus}")
            else:
                with progress.step(f"restoring {name} (Debian {image.release} on Xen)", f"restore {image.release}"):
                    wait_for_ssh(directory, key, real_port, RESTORE_TIMEOUT)
            host = Host(
                name=name,
                release=image.release,
                memory=machine.memory,
                cpus=machine.cpus,
                accelerator=machine.accelerator,
                port=real_port,
                key=str(key),
                owner=owner,
                started=time.time(),
            )
            _enter(host)
            starting.ready()
    return host


def restore(host: Host, state: str) -> None:
    """Puts a running host back to a saved state, in a new QEMU, and returns when it answers over ssh.

    In a QEMU that loads an older state while it runs the processor's time stamps go on from where they were
    (cpu_get_ticks_locked, system/cpu-timers.c), and all other clocks go back: dom0's clock then stands still for as
    long as the state is old.
    """
    with Monitor(host.directory) as monitor:
        names = saved_names(monitor)
    if state not in names:
        raise LabError(f"There is no state {state} of {host.name}.", f"Saved states: {', '.join(names) or 'none'}.")
    machine = Machine(host.memory, host.cpus, host.accelerator)
    directory = host.directory
    # The watcher of a host removes its disk at the end.
    kept = directory / "restore.qcow2"
    kept.unlink(missing_ok=True)
    kept.hardlink_to(directory / DISK)
    try:
        stop(directory)
        kept.rename(directory / DISK)
    finally:
        kept.unlink(missing_ok=True)
    with Starting(directory, qemu_arguments(machine, disk=DISK, port=host.port, state=state), host.owner) as starting:
        _first_words(directory, host.port)
        wait_for_ssh(directory, Path(host.key), host.port, RESTORE_TIMEOUT)
        _enter(host)
        starting.ready()


def _enter(host: Host) -> None:
    write_atomically(host.directory / "host.json", json.dumps(asdict(host), indent=1).encode())


def _first_words(directory: Path, port: int) -> int:
    """The port QEMU listens on; LabError when it could not have the one that was asked for."""
    try:
        with connect(directory) as monitor:
            return forwarded_port(monitor.words("info usernet"))
    except OSError:
        words = (directory / "qemu.log").read_text(errors="replace").strip() or "nothing"
        raise refused_start(words, port) from None


def refused_start(words: str, port: int) -> LabError:
    """What a QEMU that ended at once has to say, in a sentence."""
    if "host forwarding rule" in words:
        return LabError(
            f"Port {port} of this machine is in use.",
            "Choose another --port, or leave it out to have a free one chosen.",
        )
    return LabError(
        f"QEMU did not start: {words}.", "See that nothing else uses the host's files and that there is memory left."
    )
