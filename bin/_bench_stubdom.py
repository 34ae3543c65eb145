# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures the same HVM guest with its device model in dom0 and in a Linux stub domain, on one lab host."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import _machine
import _playbook
import hosts
from _machine import REPOSITORY
from errors import LabError
from verdict import deaths

NAME = "bench"
WAYS = ("dom0", "linux")
# How often a guest is started where the emulation kills it.
ATTEMPTS = 3
# What is shown: the key of the measurement, its name, and how it is written.
ROWS = (
    ("running", "xl create, until the guest runs, s", ".1f"),
    ("kernel", "  of it the stub domain's kernel", ".1f"),
    ("init", "  of it the stub domain's init", ".1f"),
    ("qemu", "  of it QEMU", ".1f"),
    ("outside", "  of it outside the stub domain", ".1f"),
    ("word", "until the guest's first word, s", ".1f"),
    ("domain_mib", "memory of the stub domain, MiB", ".0f"),
    ("dom0_mib", "memory of programs in dom0, MiB", ".0f"),
    ("image_mib", "image, MiB", ".1f"),
    ("read", "to read {read} MiB of the emulated disk, s", ".1f"),
    ("read_dom0", "  processor time of dom0, s", ".1f"),
    ("read_stub", "  processor time of the stub domain, s", ".1f"),
)

Life = Mapping[str, float]


@contextlib.contextmanager
def host(environment: Mapping[str, str], release: str) -> Iterator[hosts.Host]:
    """A fresh host, which ends with this process."""
    _machine.lab(environment, "up", "--name", NAME, "--release", release, "--fresh", "--owner", str(os.getpid()))
    try:
        yield hosts.get(NAME)
    finally:
        _machine.lab(environment, "down", "--name", NAME)


def ask(on: hosts.Host, command: str, program: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command on the host, which may read a program from its standard input."""
    content = "" if program is None else program.read_text()
    return subprocess.run([*on.ssh(), command], input=content, capture_output=True, text=True, check=False)


def killed(on: hosts.Host) -> int:
    """How many guests the emulation has killed."""
    return len(list(deaths((on.directory / "serial.log").read_text(errors="replace"))))


def life(on: hosts.Host, way: str) -> Life:
    """One measured life of the guest."""
    for _ in range(ATTEMPTS):
        before = killed(on)
        answer = ask(on, f"python3 - {way}", REPOSITORY / "bench" / "device_models.py")
        if answer.returncode == 0:
            return whole(json.loads(answer.stdout))
        if killed(on) == before:
            break
    raise LabError(f"The guest {way} was not measured: {answer.stderr.strip()}", "See the host's console.")


def whole(found: Life) -> Life:
    """What was measured, and what of the start was outside the stub domain."""
    inside = [found[stage] for stage in ("kernel", "init", "qemu") if stage in found]
    return {**found, "outside": found["running"] - sum(inside)} if inside else found


def image_mib(on: hosts.Host) -> float:
    """The size of the archive; the kernel is dom0's own, too."""
    answer = ask(on, "stat -c %s /usr/lib/xen-*/boot/qemu-stubdom-linux-rootfs")
    return int(answer.stdout) / 2**20


def table(found: Mapping[str, Sequence[Life]], read: int) -> str:
    """Medians, a row each, and how the stub domain compares with dom0."""
    lines: list[tuple[str, ...]] = [("", *WAYS, "÷ dom0")]
    for key, name, form in ROWS:
        values = [statistics.median(each[key] for each in found[way] if key in each)
                  if any(key in each for each in found[way]) else None for way in WAYS]  # fmt: skip
        texts = ["-" if value is None else format(value, form) for value in values]
        ratio = f"{values[1] / values[0]:.2f}" if values[0] and values[1] is not None else "-"
        lines.append((name.format(read=read), *texts, ratio))
    wide = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        f"{line[0]:<{wide[0]}}  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(line[1:], wide[1:]))
        for line in lines
    )


def measure(release: str, repeat: int, read: int) -> str:
    """Has a host, prepares it, measures each way in turn, and gives the table."""
    environment = {**_machine.prepare("bin/bench", "ansible", "lab"), "BENCH_READ": str(read)}
    progress = _machine.progress("bin/bench")
    lives: dict[str, list[Life]] = {way: [] for way in WAYS}
    with host(environment, release) as on:
        inventory = on.directory / "bench.yml"
        inventory.write_text(hosts.inventory([on]))
        words = ["--inventory", str(inventory), str(REPOSITORY / "bench" / "stubdom.yml")]
        with progress.step("the image and the guests", "stubdom"):
            played = _playbook.play(words, environment, on.directory / "bench.log", lambda _task: None)
        if played.failure:
            raise LabError(f"The host was not prepared: {played.failure}", f"See {on.directory}/bench.log.")
        size = image_mib(on)
        for turn in range(repeat):
            for way in WAYS:
                progress.say(f"device model in {way}, life {turn + 1} of {repeat}")
                lives[way].append({**life(on, way), **({"image_mib": size} if way == "linux" else {})})
    return table(lives, read)
