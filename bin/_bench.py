# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures what it costs to keep guests as they are: by this collection's role, by a plain playbook, and by pyinfra;
and what a stub domain costs.

bin/bench guests    one host with 1, 10, 50 and 200 PV guests that all run as they should
bin/bench guests --ways role report --hosts 50 --guests 20    many hosts, and the report on them
bin/bench stubdom   on a lab host, an HVM guest with its device model in dom0 and in a Linux stub domain

guests: Each way has hosts of its own: Debian with a real sshd on loopback and real Python, where xl and xenstore are
played and guests do nothing. The first run starts the guests; then the ways take turns at runs that change nothing. A
figure is the median of these. Needs root, and a quiet machine.

stubdom: The guest is started each way in turn. Times are those of the lab host, whose clock goes by what it has done.
A figure is the median.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import _bench_stubdom
import _machine
import _playbook
import image
import payload
from _machine import REPOSITORY
from errors import LabError
from files import scratch
from programs import end_as_by_ctrl_c, started

sys.path[:0] = [str(REPOSITORY / "tests" / "tools"), str(REPOSITORY / "bench")]

import chroots
import played_hosts as played

BENCH = REPOSITORY / "bench"
RELEASE = "trixie"
GUESTS = (1, 10, 50, 200)


@dataclass
class Measure:
    """One run: seconds, executions of modules on the hosts (None where there are none to count), and the controller's
    processor time in seconds and greatest process in MiB."""

    seconds: float
    modules: int | None
    cpu: float
    mib: float


@dataclass
class Way:
    """One way of having the guests: a program, and what it was measured to take."""

    name: str
    hosts: played.Hosts
    words: Sequence[str]
    environment: Mapping[str, str]
    # What starts the guests, where words only look at them.
    starts: Sequence[str]
    first: Measure | None = None
    steady: list[Measure] = field(default_factory=list)

    def middle(self, what: str) -> float | None:
        values = [getattr(one, what) for one in self.steady]
        return None if None in values or not values else statistics.median(values)


def guest_list(count: int) -> dict[str, object]:
    """The guests, in the words of the role and of the plain playbook."""
    names = [(f"g{number:04}", played.image(number), f"00:16:3e:00:{number // 256:02x}:{number % 256:02x}")
             for number in range(count)]  # fmt: skip
    return {
        "pvgrub_guest_guests": [
            {
                "name": name,
                "memory": 128,
                "vcpus": 1,
                "disks": [{"target": disk, "vdev": "xvda"}],
                "nics": [{"bridge": "xenbr0", "mac": mac}],
                "state": "running",
            }
            for name, disk, mac in names
        ],
        "guests": [{"name": name, "memory": 128, "vcpus": 1, "disk": disk, "mac": mac} for name, disk, mac in names],
    }


def run(way: Way, log: Path, *, changes: bool) -> Measure:
    """Run a way once.

    :param changes: whether it is the run that starts the guests; others have to change nothing.
    """
    environment = dict(way.environment)
    words = way.starts if changes else way.words
    counted = words[0] == "ansible-playbook"
    events = log.with_suffix(".events")
    if counted:
        events.write_bytes(b"")
        environment = _playbook.with_events(environment, events)
    with log.open("wb") as output:
        begin = time.monotonic()
        given = {"env": environment, "stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        with started(words, **given) as process:
            _pid, status, used = os.wait4(process.pid, 0)
            seconds = time.monotonic() - begin
            process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        kept = Path(tempfile.gettempdir()) / f"bench-{way.name}.log"
        shutil.copy(log, kept)
        raise LabError(f"{way.name} ended with status {process.returncode}.", f"See {kept}.")
    modules = None
    if counted:
        said = _playbook.count(map(json.loads, events.read_text().splitlines()), lambda _task: None)
        modules = said.modules
        if not changes and said.changed:
            raise LabError(
                f"{way.name} has changed what it left as it should be: {', '.join(said.changes)}.",
                "A steady run is not to be measured there.",
            )
    return Measure(seconds, modules, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


# The report is printed only, as a file of it has the time in it; one on hosts without an answer is not to be measured.
_ANSWERS = '{"fleet_report_fail_on": ["unreachable"]}'
BOOKS: Mapping[str, Sequence[str]] = {
    "role": (str(BENCH / "guests.yml"),),
    "plain": (str(BENCH / "plain" / "site.yml"),),
    "ping": (str(BENCH / "ping.yml"),),
    "report": (str(REPOSITORY / "playbooks" / "fleet_report.yml"), "--tags", "table", "--extra-vars", _ANSWERS),
}


@contextlib.contextmanager
def ways(names: Sequence[str], lower: Path, directory: Path, count: int, guests: int) -> Iterator[list[Way]]:
    """Start the hosts of each way, and end them."""
    environment = _machine.prepare("bin/bench", "ansible", *(["pyinfra"] if "pyinfra" in names else []))
    environment.update(
        ANSIBLE_HOST_KEY_CHECKING="0", ANSIBLE_NOCOLOR="1", ANSIBLE_PIPELINING="1", ANSIBLE_FORKS="50",
        ANSIBLE_LOCALHOST_WARNING="0", ANSIBLE_HOME=str(directory / "ansible"),
    )  # fmt: skip
    variables = directory / f"guests-{guests}.json"
    variables.write_text(json.dumps(guest_list(guests)))
    environment.update(BENCH_GUESTS=str(variables), BENCH_TEMPLATE=str(BENCH / "plain" / "guest.cfg.j2"))
    with contextlib.ExitStack() as stack:
        found = []
        for name in names:
            place = directory / f"{name}-{guests}"
            place.mkdir()
            shutil.copy(directory / "key", place / "key")
            (place / "key").chmod(0o600)
            started = stack.enter_context(played.Hosts(lower, place, count))
            inventory = started.inventory(place / "hosts.json")
            play = ["ansible-playbook", "--inventory", str(inventory), "--extra-vars", f"@{variables}"]
            if name in BOOKS:
                words = [*play, *BOOKS[name]]
            else:
                words = ["pyinfra", "-y", str(pyinfra_inventory(started, place)), str(BENCH / "pyinfra_deploy.py")]
            starts = [*play, *BOOKS["role"]] if name == "report" else words
            found.append(Way(name, started, words, environment, starts))
        yield found


def pyinfra_inventory(started: played.Hosts, place: Path) -> Path:
    data = {
        "ssh_hostname": "127.0.0.1",
        "ssh_user": "root",
        "ssh_key": str(place / "key"),
        "ssh_strict_host_key_checking": "no",
        "ssh_known_hosts_file": "/dev/null",
    }
    hosts = [(f"host{number:03}", {**data, "ssh_port": port}) for number, port in enumerate(started.ports)]
    file = place / "inventory.py"
    file.write_text(f"xen_hosts = {hosts!r}\n")
    return file


def measured(names: Sequence[str], lower: Path, directory: Path, count: int, guests: int, repeat: int) -> list[Way]:
    with ways(names, lower, directory, count, guests) as found:
        for way in found:
            print(f"bench: {guests} guests: {way.name} starts them", file=sys.stderr, flush=True)
            way.first = run(way, directory / "log", changes=True)
        for turn in range(repeat):
            for way in found:
                print(f"bench: {guests} guests: {way.name}, run {turn + 1} of {repeat}", file=sys.stderr, flush=True)
                way.steady.append(run(way, directory / "log", changes=False))
        return found


HEADER = ("guests", "way", "first s", "steady s", "modules", "CPU s", "MiB", "÷ role")


def table(found: Mapping[int, Sequence[Way]]) -> str:
    """What was measured, in lines of one width, and how the role compares."""

    def text(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    rows = [HEADER]
    for guests, each in found.items():
        role = next((way.middle("seconds") for way in each if way.name == "role"), None)
        for way in each:
            seconds = way.middle("seconds")
            rows.append(
                (
                    str(guests),
                    way.name,
                    text(way.first.seconds if way.first else None, ".1f"),
                    text(seconds, ".2f"),
                    text(way.middle("modules"), ".0f"),
                    text(way.middle("cpu"), ".2f"),
                    text(way.middle("mib"), ".0f"),
                    text(seconds / role if seconds and role else None, ".2f"),
                )
            )
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths)) for row in rows]
    sizes = sorted(found)
    for name in ("role", "plain", "pyinfra"):
        ends = [next((way.middle("seconds") for way in found[size] if way.name == name), None) for size in sizes]
        if len(ends) > 1 and ends[0] and ends[-1]:
            lines.append(f"{name}: {sizes[-1]} guests take {ends[-1] / ends[0]:.2f} times what {sizes[0]} take")
    return "\n".join(lines)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="bin/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["guests", "stubdom"], help="what is measured")
    parser.add_argument("--guests", type=int, nargs="+", default=list(GUESTS), metavar="N", help="how many guests")
    parser.add_argument("--hosts", type=int, default=1, metavar="N", help="how many hosts each way has (1)")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="how many unchanged runs of each (3)")
    parser.add_argument(
        "--ways", nargs="+", choices=[*BOOKS, "pyinfra"], default=["role", "plain", "ping"],
        help="what is compared; pyinfra is installed where it is named",
    )  # fmt: skip
    parser.add_argument(
        "--release", choices=image.RELEASES, default=RELEASE, help="stubdom: Debian release of the host (%(default)s)"
    )
    parser.add_argument(
        "--read", type=int, choices=range(1, payload.MOST_MEBIBYTES + 1), default=4, metavar="MIB",
        help="stubdom: how much of its disk the guest reads (%(default)s)",
    )  # fmt: skip
    arguments = parser.parse_args(words)
    end_as_by_ctrl_c()
    try:
        if arguments.what == "stubdom":
            print(_bench_stubdom.measure(arguments.release, arguments.repeat, arguments.read))
            return 0
        if os.geteuid() != 0:
            raise LabError("Only root may start played hosts.", "Run it as root.")
        _machine.prepare("bin/bench", "chroot", "ansible")
        packages = (*chroots.PACKAGES, *played.PACKAGES)
        archive = chroots.ensure(RELEASE, _machine.progress("bin/bench"), packages)
        found = {}
        with scratch("xen-stubdom-bench", Path(tempfile.gettempdir())) as directory:
            lower = played.file_system(archive, directory, max(arguments.guests))
            for guests in arguments.guests:
                found[guests] = measured(arguments.ways, lower, directory, arguments.hosts, guests, arguments.repeat)
                print(table({guests: found[guests]}), flush=True)
        print()
        print(table(found))
    except LabError as error:
        print(f"bin/bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bin/bench: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
