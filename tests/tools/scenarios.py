# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays molecule's scenarios of one tier: decides how many at a time, and shows what each step of them took.

scenarios.py chroot [NAME...]    on Debian file systems without Xen
scenarios.py xen [NAME...]       on real Xen hosts in QEMU

Without names, all of the tier are played but for those in BY_NAME.
Two are played at a time where there is memory for it, those with the most to do first.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / name) for name in ("bin", "lab", "tests/tools")]

import _playbook
import files
from errors import LabError
from instances import XEN, Variables
from programs import end_as_by_ctrl_c

TIERS = ("chroot", "xen")
PLAYBOOKS = ("destroy", "create", "prepare", "converge", "side_effect", "verify")
# A Xen host takes up to 3 GiB of memory, a scenario has up to two, and something has to be left. In bytes.
MEMORY_FOR_TWO = 14 << 30
# Played only when they are named: the first takes longer than all others together, the second has two hosts reboot, the
# third has a host remove its Xen and install it again, from where its apt gets packages, the fourth looks at four
# network cards where another scenario has one, the fifth saves a guest twenty times where another one does once, the
# sixth has disks of five layouts, for which apt gets packages, and the last has a host whose hardware is not saved boot
# twice.
BY_NAME = frozenset(
    {"xen_guests", "xen_migration", "xen_enroll", "xen_netboot", "xen_linux_stubdom", "xen_layouts", "xen_pci"}
)
# How many of a scenario's tasks are shown with their seconds.
SHOWN = 6

Durations = list[tuple[str, float]]


@dataclass(frozen=True)
class Scenario:
    """A directory in molecule/; platforms as in molecule.yml, their names are Debian releases; how many steps."""

    name: str
    platforms: tuple[Variables, ...]
    steps: int = 0


def read(repository: Path = REPOSITORY) -> list[Scenario]:
    """All scenarios there are."""
    shared = yaml.safe_load((repository / ".config" / "molecule" / "config.yml").read_text())["platforms"]
    result = []
    for path in sorted(repository.glob("molecule/*/molecule.yml")):
        own = yaml.safe_load(path.read_text()) or {}
        steps = len(own["scenario"]["test_sequence"])
        result.append(Scenario(path.parent.name, tuple(own.get("platforms", shared)), steps))
    return result


def choose(scenarios: Sequence[Scenario], tier: str, asked: Sequence[str]) -> list[Scenario]:
    """The scenarios of a tier but for those in BY_NAME, or those that are asked for.

    Raises LabError where there is none of a name.
    """
    found = {scenario.name: scenario for scenario in scenarios if scenario.name.startswith(XEN) == (tier == "xen")}
    every = [name for name in found if name not in BY_NAME]
    unknown = [name for name in asked or every or [""] if name not in found]
    if unknown:
        raise LabError(
            f"The tier {tier} has no scenario {' '.join(unknown)}.", f"It has: {', '.join(found) or 'none at all'}."
        )
    without = [name for name in asked or every if not found[name].platforms]
    if without:
        raise LabError(f"No hosts are listed for the scenario {' '.join(without)}.", "List some as its platforms.")
    return [found[name] for name in asked or every]


# ---- playing --------------------------------------------------------------------------------------------------------


def at_a_time() -> int:
    """How many scenarios are played at a time, by this machine's memory.

    One with two Xen hosts keeps two processors busy for 55 % of its time, as its hosts and Ansible wait for each other.
    """
    return 2 if os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >= MEMORY_FOR_TWO else 1


class Stage:
    """Where the scenarios of a tier are played."""

    def __init__(self, tier: str) -> None:
        self._tier = tier
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def perform(self, scenarios: Sequence[Scenario]) -> list[str]:
        """Plays them and returns how long each took. The first that fails ends those beside it, as a LabError."""
        # A long one that began last would be played alone in the end.
        scenarios = sorted(scenarios, key=lambda scenario: -scenario.steps * len(scenario.platforms))
        with ThreadPoolExecutor(at_a_time()) as pool:
            playing = [pool.submit(self._perform, scenario, len(scenarios) == 1) for scenario in scenarios]
            try:
                return sorted(done.result() for done in as_completed(playing))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._close()
                raise

    def _perform(self, scenario: Scenario, live: bool) -> str:
        start = time.monotonic()
        print(f"scenarios.py: {scenario.name} begins", flush=True)
        with tempfile.TemporaryFile() as output:
            passed, steps, tasks = play(scenario, self._run, None if live else output)
            seconds = time.monotonic() - start
            output.seek(0)
            if self._closed:
                raise LabError(f"The scenario {scenario.name} was ended after {seconds:.0f} s.", "Another has failed.")
            with self._lock:
                sys.stdout.write(output.read().decode("utf-8", "replace"))
                print(f"scenarios.py: {scenario.name} has ended after {seconds:.0f} s", flush=True)
            if not passed:
                raise LabError(
                    f"The scenario {scenario.name} has failed after {seconds:.0f} s.",
                    f"Play it alone: bin/test {self._tier}/{scenario.name}",
                )
        lines = [f"{scenario.name:24} {seconds:6.1f} s  {', '.join(f'{step} {taken:.0f}' for step, taken in steps)}"]
        lines += [f"{'':24} {taken:6.1f} s  {task}" for task, taken in tasks[:SHOWN]]
        return "\n".join(lines)

    def _run(self, command: Sequence[str], environment: Mapping[str, str], output: IO[bytes] | None) -> int:
        with self._lock:
            if self._closed:
                return -signal.SIGTERM
            # A session of its own: what the program has started in turn can be ended with it.
            process = subprocess.Popen(
                command, env=environment, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT if output else None, start_new_session=True,
            )  # fmt: skip
            self._running.add(process)
        status = process.wait()
        with self._lock:
            self._running.remove(process)
        return status

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            for process in self._running:
                try:
                    os.killpg(process.pid, signal.SIGTERM)
                except ProcessLookupError:
                    # It has just ended by itself.
                    pass


Run = Callable[[Sequence[str], Mapping[str, str], "IO[bytes] | None"], int]


def play(scenario: Scenario, run: Run, output: IO[bytes] | None) -> tuple[bool, Durations, Durations]:
    """Whether molecule passes the scenario, and the seconds of its steps and tasks; its output goes to `output`, or to
    ours."""
    # Not the directory of a molecule that somebody runs by hand in this checkout.
    directory = files.base_directory() / "molecule" / files.key_of(str(REPOSITORY)) / scenario.name
    events = directory.with_suffix(".events")
    own = {"MOLECULE_EPHEMERAL_DIRECTORY": str(directory), "XEN_STUBDOM_OWNER": str(os.getpid())}
    busy = f"scenarios.py: another program plays {scenario.name} of this checkout; waiting for it"
    with files.only_one(directory.with_suffix(".lock"), lambda: print(busy, flush=True)):
        for left in (directory, events):
            files.remove(left)
        directory.mkdir()
        command = ["molecule", "test", "--scenario-name", scenario.name]
        status = run(command, {**_playbook.with_events(os.environ, events), **own}, output)
        lines = events.read_text().splitlines() if events.exists() else []
        happened = [json.loads(line) for line in lines]
        return status == 0, durations(happened, time.time()), tasks(happened)


def durations(events: Sequence[Mapping[str, Any]], end: float) -> Durations:
    """The steps of a scenario with their seconds, by the events of its playbooks (see bin/callback)."""
    starts: list[tuple[str, float]] = []
    converged = False
    for event in events:
        step = event.get("name", "").removesuffix(".yml")
        # A scenario may run a playbook of its own inside a step.
        if event["event"] == "playbook" and step in PLAYBOOKS:
            starts.append(("idempotence" if step == "converge" and converged else step, event["time"]))
        elif event["event"] == "play" and event["check"]:
            starts[-1] = ("check", starts[-1][1])
        converged |= bool(starts) and starts[-1][0] == "converge" and event["event"] == "stats"
    ends = [start for _, start in starts[1:]] + [end]
    return [(step, until - start) for (step, start), until in zip(starts, ends)]


def tasks(events: Sequence[Mapping[str, Any]]) -> Durations:
    """The tasks of a scenario with their seconds, the longest first; one that is played several times counts once."""
    found: dict[str, float] = {}
    marks = [event for event in events if event["event"] != "result"]
    for event, following in zip(marks, marks[1:]):
        if event["event"] == "task":
            found[event["name"]] = found.get(event["name"], 0.0) + following["time"] - event["time"]
    return sorted(found.items(), key=lambda item: -item[1])


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tier", choices=TIERS)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which scenarios (default: all of the tier)")
    asked = parser.parse_args(words)
    end_as_by_ctrl_c()
    try:
        rows = Stage(asked.tier).perform(choose(read(), asked.tier, asked.names))
    except LabError as error:
        print(f"scenarios.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
