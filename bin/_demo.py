# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows the whole thing on a real Xen host that runs inside QEMU on this machine, and proves what it shows.

Runs playbooks/site.yml on a fresh host twice. The first run makes of it a Xen host with a fixed memory for dom0, a
guest that GRUB boots inside its own domain, and an HVM guest whose QEMU runs in a stub domain; the second run must
change nothing. It ends with what was proved and where that was read from: on the terminal and in
build/demo/report.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import _claims
import _machine
import _playbook
import files
import hosts
import image
from _machine import REPOSITORY
from errors import LabError
from programs import end_as_by_ctrl_c
from progress import Progress
from verdict import deaths

BUILD = REPOSITORY / "build" / "demo"
EXAMPLE = REPOSITORY / "docs" / "example" / "demo" / "inventory"
NAME = "demo"
# How often site.yml is run when the emulation, and nothing else, kills a guest.
ATTEMPTS = 3
# The releases whose emulated hosts run no PVH guest with a Linux inside (docs/lab.md).
PV_ONLY = ("bookworm",)


class Demonstration:
    """A lab host and what is done to it."""

    def __init__(self, release: str, keep: bool, environment: dict[str, str], progress: Progress) -> None:
        self._release = release
        self._keep = keep
        self._environment = environment
        self._progress = progress

    @contextmanager
    def host(self) -> Iterator[None]:
        """A fresh host; unless it is to be kept, it ends here, and with this process, however this process ends."""
        owner = () if self._keep else ("--owner", str(os.getpid()))
        _machine.lab(self._environment, "up", "--name", NAME, "--release", self._release, "--fresh", *owner)
        try:
            yield
        finally:
            if self._keep:
                self._progress.say(f"the host is still up; enter it with: lab/xenlab ssh --name {NAME}")
                self._progress.say(f"end it with: lab/xenlab down --name {NAME}")
            else:
                _machine.lab(self._environment, "down", "--name", NAME)

    def ask(self, command: str, content: bytes | None = None) -> str:
        """Runs a command on the host and gives what it prints, whatever its status."""
        asked = subprocess.run(
            [*hosts.get(NAME).ssh(), command],
            input=content, stdin=subprocess.DEVNULL if content is None else None, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if content is not None else subprocess.DEVNULL, check=False,
        )  # fmt: skip
        return asked.stdout.decode(errors="replace")

    def make_disks(self) -> None:
        """Makes the disks of the two guests on the host, of the host's own kernel and busybox."""
        program = (REPOSITORY / "lab" / "payload.py").read_bytes()
        for guest, kind in ((_claims.GRUB, "linux"), (_claims.HVM, "hvm")):
            words = [kind, "--stay", "--say", _claims.SAYS[guest], _claims.DISKS[guest]]
            self._progress.say(f"   {_claims.DISKS[guest]}, of a guest that says: {_claims.SAYS[guest]}")
            answer = self.ask(f"python3 - {shlex.join(words)} && echo made", program)
            if answer != "made\n":
                raise LabError(f"The disk of {guest} could not be made: {answer.strip()}", "See the host's console.")

    def write_inventory(self) -> Path:
        """The demonstration's inventory with the lab host in the place of its own hosts."""
        directory = BUILD / "inventory"
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(EXAMPLE, directory)
        (directory / "hosts.yml").write_text(hosts.inventory([hosts.get(NAME)]))
        if self._release in PV_ONLY:
            (directory / "host_vars").mkdir()
            (directory / "host_vars" / f"{NAME}.yml").write_text("pvgrub_guest_defaults: {type: pv}\n")
        return directory

    def play(self, inventory: Path, number: int) -> _playbook.Run:
        """Runs site.yml once."""
        start = time.monotonic()
        return _playbook.play(
            ["--inventory", str(inventory), "xen.stubdom.site"],
            self._environment,
            BUILD / f"site-{number}.log",
            lambda task: self._progress.say(f"   {time.monotonic() - start:4.0f} s  {task}"),
        )

    def first_run(self, inventory: Path) -> None:
        """Runs site.yml; once more only when the hypervisor's log shows that the emulation has killed a guest."""
        log = hosts.get(NAME).directory / "serial.log"
        for attempt in range(1, ATTEMPTS + 1):
            before = log.stat().st_size
            run = self.play(inventory, 1)
            if not run.failure:
                return
            with log.open(errors="replace") as serial:
                serial.seek(before)
                killed = list(deaths(serial.read()))
            if not killed or attempt == ATTEMPTS:
                break
            self._progress.say(f"   the emulation has killed a guest, so once more: {killed[0].line}")
        raise LabError(f"site.yml failed: {run.failure}", f"See {BUILD}/site-1.log.")

    def prove(self) -> tuple[list[_claims.Finding], _playbook.Run]:
        """Everything that is done to the host, in order."""
        step = self._progress.step
        with step("the guests' disks", "disks"):
            self.make_disks()
            inventory = self.write_inventory()
        with step("site.yml, first run: dom0's memory and a reboot, the stub domain's image, two guests", "first run"):
            self.first_run(inventory)
        with step("what the hypervisor, xenstore and the guests themselves say", "proof"):
            findings = list(_claims.check(self.ask))
            before = self.lasting()
        with step("site.yml, second run: nothing is to change", "second run"):
            second = self.play(inventory, 2)
            if second.failure:
                raise LabError(f"The second run of site.yml failed: {second.failure}", f"See {BUILD}/site-2.log.")
        findings.append(_claims.unchanged(second.changed))
        findings += _claims.lasting(before, self.lasting())
        if second.changes:
            self._progress.say("   changed by the second run: " + ", ".join(second.changes))
        return findings, second

    def lasting(self) -> dict[str, str]:
        """What is to be the same before and after the second run."""
        return {command: self.ask(command).strip() for _, command in _claims.LASTING}


def write_report(report: dict[str, object]) -> None:
    """Writes the report; it has `ok: false` from the beginning until all is proved."""
    BUILD.mkdir(parents=True, exist_ok=True)
    files.write(BUILD / "report.json", (json.dumps(report, indent=2) + "\n").encode())


def demonstrate(arguments: argparse.Namespace, progress: Progress) -> bool:
    """Prepares this machine, runs the demonstration, reports."""
    start = time.monotonic()
    with progress.step("what this machine needs: a QEMU for the lab, mmdebstrap, ssh and ansible-core", "machine"):
        environment = _machine.prepare("demo", "ansible", "lab")
    demonstration = Demonstration(arguments.release, arguments.keep, environment, progress)
    with ExitStack() as stack:
        with progress.step(f"a Xen host: Debian {arguments.release} in QEMU", "lab"):
            stack.enter_context(demonstration.host())
        findings, second = demonstration.prove()
    progress.seconds["total"] = time.monotonic() - start
    report = _claims.report(findings, second.changed, second.modules, progress.seconds)
    write_report(report)
    print(_claims.table(findings))
    print(
        f"{sum(finding.ok for finding in findings)} of {len(findings)} claims proved on Debian {arguments.release}; "
        f"second run: {second.changed} changed, {second.modules} module executions; "
        f"{progress.seconds['total']:.0f} s in all; report: build/demo/report.json"
    )
    return bool(report["ok"])


def main() -> int:
    """Runs the demonstration; the status agrees with the table and the report."""
    parser = argparse.ArgumentParser(
        prog="bin/demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--release", choices=image.RELEASES, default="trixie", help="Debian release of the host (default: %(default)s)"
    )
    parser.add_argument("--keep", action="store_true", help="leave the host up, and print how to enter it")
    arguments = parser.parse_args()
    end_as_by_ctrl_c()
    progress = Progress("demo", files.base_directory() / "demo.json")
    try:
        write_report(_claims.report([], None, 0, {}))
        return 0 if demonstrate(arguments, progress) else 1
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        write_report({**_claims.report([], None, 0, progress.seconds), "error": str(error)})
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        write_report({**_claims.report([], None, 0, progress.seconds), "error": "interrupted"})
        return 130


if __name__ == "__main__":
    sys.exit(main())
