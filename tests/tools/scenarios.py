# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays molecule's scenarios of one tier, each on hosts that were made for it and end with it.

scenarios.py chroot [NAME...]    on Debian file systems without Xen
scenarios.py xen [NAME...]       on real Xen hosts in QEMU

Two are played at a time where there is memory for it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "lab"), str(REPOSITORY / "tests" / "tools")]

import chroots
import machine
from image import LabError, end_as_by_ctrl_c

Variables = dict[str, Any]
Hosts = dict[str, Variables]
SHARED = REPOSITORY / ".config" / "molecule" / "config.yml"
# The name of a scenario says on what it is played.
XEN = "xen_"
# A Xen host takes up to 3 GiB of memory, a scenario has up to two, and something has to be left. In bytes.
MEMORY_FOR_TWO = 14 << 30


@dataclass(frozen=True)
class Scenario:
    """A directory in molecule/; platforms as in molecule.yml, their names are Debian releases."""

    name: str
    platforms: tuple[Variables, ...]

    @property
    def alone(self) -> bool:
        """Whether nothing else is played at the same time."""
        return any(platform.get("alone") for platform in self.platforms)


def read(repository: Path = REPOSITORY) -> list[Scenario]:
    """All scenarios there are."""
    shared = yaml.safe_load((repository / ".config" / "molecule" / "config.yml").read_text())["platforms"]
    result = []
    for path in sorted(repository.glob("molecule/*/molecule.yml")):
        own = yaml.safe_load(path.read_text()) or {}
        result.append(Scenario(path.parent.name, tuple(own.get("platforms", shared))))
    return result


def choose(scenarios: Sequence[Scenario], tier: str, asked: Sequence[str]) -> list[Scenario]:
    """The scenarios of a tier, or those of it that are asked for. That there are none of a name is an error."""
    found = {scenario.name: scenario for scenario in scenarios if scenario.name.startswith(XEN) == (tier == "xen")}
    unknown = [name for name in asked or found or [""] if name not in found]
    if unknown:
        raise LabError(
            f"The tier {tier} has no scenario {' '.join(unknown)}.", f"It has: {', '.join(found) or 'none at all'}."
        )
    without = [name for name in asked or found if not found[name].platforms]
    if without:
        raise LabError(f"No hosts are listed for the scenario {' '.join(without)}.", "List some as its platforms.")
    return [found[name] for name in asked or found]


def inventory(hosts: Hosts) -> str:
    """An inventory for Ansible, all hosts in the group xen_hosts."""
    return json.dumps({"xen_hosts": {"hosts": hosts}}, indent=2)


# ---- hosts ----------------------------------------------------------------------------------------------------------


@contextmanager
def file_systems(scenario: Scenario) -> Iterator[Hosts]:
    """Debian file systems without Xen."""
    with chroots.unpacked([platform["name"] for platform in scenario.platforms]) as directories:
        yield {
            release: {
                "ansible_connection": "community.general.chroot",
                "ansible_host": str(directory),
                "ansible_python_interpreter": "/usr/bin/python3",
            }
            for release, directory in directories.items()
        }


def xenlab(*words: str) -> str:
    command = [sys.executable, str(REPOSITORY / "lab" / "xenlab"), *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"The lab could not do this: {' '.join(words)}.", "It has said why.")
    return done.stdout


def host_name(scenario: str, release: str, process: int) -> str:
    """A name that the lab takes (32 small letters, digits, hyphens) and that no other run of the tests uses."""
    tail = f"-{release}-{process}"
    return scenario.removeprefix(XEN).replace("_", "-")[: 32 - len(tail)] + tail


@contextmanager
def xen_hosts(scenario: Scenario) -> Iterator[Hosts]:
    """Real Xen hosts, freshly booted. They end with this process, whatever becomes of it."""
    names = {
        platform["name"]: host_name(scenario.name, platform["name"], os.getpid()) for platform in scenario.platforms
    }

    def up(platform: Variables) -> None:
        options = [word for key in ("memory", "cpus") if key in platform for word in (f"--{key}", str(platform[key]))]
        options += ["--efi"] if platform.get("efi") else []
        release = platform["name"]
        xenlab("up", "--name", names[release], "--release", release, "--owner", str(os.getpid()), *options)

    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(up, scenario.platforms))
        words = [word for name in names.values() for word in ("--name", name)]
        hosts = yaml.safe_load(xenlab("inventory", *words))["xen_hosts"]["hosts"]
        yield {release: hosts[name] for release, name in names.items()}
    finally:
        for name in names.values():
            xenlab("down", "--name", name)
    for name in names.values():
        # After a failure their logs stay.
        shutil.rmtree(machine.directory_of(name), ignore_errors=True)


TIERS: dict[str, Callable[[Scenario], AbstractContextManager[Hosts]]] = {"chroot": file_systems, "xen": xen_hosts}


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
        rows = []
        alone = [[scenario] for scenario in scenarios if scenario.alone]
        for together in [*alone, [scenario for scenario in scenarios if not scenario.alone]]:
            with ThreadPoolExecutor(at_a_time()) as pool:
                playing = [pool.submit(self._perform, scenario, len(scenarios) == 1) for scenario in together]
                try:
                    rows += [done.result() for done in as_completed(playing)]
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    self._close()
                    raise
        return sorted(rows)

    def _perform(self, scenario: Scenario, live: bool) -> str:
        start = time.monotonic()
        print(f"scenarios.py: {scenario.name} begins", flush=True)
        with tempfile.TemporaryFile() as output, TIERS[self._tier](scenario) as hosts:
            content = play(scenario, hosts, self._run, None if live else output)
            seconds = time.monotonic() - start
            output.seek(0)
            if self._closed:
                raise LabError(f"The scenario {scenario.name} was ended after {seconds:.0f} s.", "Another has failed.")
            with self._lock:
                sys.stdout.write(output.read().decode("utf-8", "replace"))
                print(f"scenarios.py: {scenario.name} has ended after {seconds:.0f} s", flush=True)
            if not content:
                raise LabError(
                    f"The scenario {scenario.name} has failed after {seconds:.0f} s.",
                    f"Play it alone: bin/test {self._tier}/{scenario.name}",
                )
        return f"{scenario.name:30} {seconds:6.1f} s"

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
                os.killpg(process.pid, signal.SIGTERM)


Run = Callable[[Sequence[str], Mapping[str, str], "IO[bytes] | None"], int]


def play(scenario: Scenario, hosts: Hosts, run: Run, output: IO[bytes] | None) -> bool:
    """Whether molecule is content with the scenario; what it says goes to `output`, or to ours."""
    with tempfile.TemporaryDirectory(prefix="xen-stubdom-") as name:
        hosts_file = Path(name) / "hosts.json"
        hosts_file.write_text(inventory(hosts))
        command = ["molecule", "test", "--destroy", "never", "--scenario-name", scenario.name]
        own = {
            "XEN_STUBDOM_INVENTORY": str(hosts_file),
            # Molecule keeps in its directory that hosts are prepared already; these are new ones.
            "MOLECULE_EPHEMERAL_DIRECTORY": str(Path(name) / "molecule"),
        }
        return run(command, {**os.environ, **own}, output) == 0


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tier", choices=sorted(TIERS))
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
