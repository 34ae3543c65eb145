# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a playbook, shows task by task where it is, and counts what it did."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from programs import die_with_parent

# The directory of the callback plugin that writes the events.
CALLBACKS = Path(__file__).resolve().parent / "callback"
# Seconds between two looks at what it has written.
INTERVAL = 0.2


@dataclass
class Run:
    """The result of a run of a playbook; `modules` are the executions of modules on hosts, `hosts` those it ran on."""

    hosts: int = 0
    changed: int = 0
    failed: int = 0
    modules: int = 0
    changes: list[str] = field(default_factory=list)
    failure: str = ""


def with_events(environment: Mapping[str, str], file: Path) -> dict[str, str]:
    """The environment in which Ansible writes its events to a file."""
    return {**environment, "ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS), "XEN_STUBDOM_EVENTS": str(file)}


def count(events: Iterable[Mapping[str, Any]], say: Callable[[str], None]) -> Run:
    """Counts the events of a run while they happen; `say` gets the name of each task that begins."""
    run = Run()
    task = ""
    of_item = ""
    for event in events:
        if event["event"] == "task":
            task = event["name"]
            of_item = ""
            say(task)
        elif event["event"] == "result":
            # The result of a loop comes after those of its items, with a vaguer message.
            run.modules += event["module"] and not event["loop"]
            if event["changed"] and not event["item"]:
                run.changes.append(task)
            if event["outcome"] != "ok" and not event["ignored"]:
                of_item = event["message"] if event["item"] else of_item
                run.failure = f"{task}: {of_item or event['message']}"
        elif event["event"] == "stats":
            run.hosts += len(event["hosts"])
            for host in event["hosts"].values():
                run.changed += host["changed"]
                run.failed += host["failures"] + host["unreachable"]
    return run


def play(words: Sequence[str], environment: Mapping[str, str], log: Path, say: Callable[[str], None]) -> Run:
    """Runs ansible-playbook with these arguments; `log` has its output, and the file beside it the events."""
    file = log.with_suffix(".events")
    file.write_bytes(b"")
    with log.open("wb") as output, file.open("rb") as events, subprocess.Popen(
        ["ansible-playbook", "-vvv", *words],
        env=with_events({**environment, "ANSIBLE_NOCOLOR": "1"}, file),
        stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        preexec_fn=die_with_parent,  # noqa: PLW1509 -- there is one thread
    ) as process:  # fmt: skip
        try:
            run = count(_follow(events, process), say)
        except BaseException:
            process.terminate()
            raise
    if process.returncode == 0:
        # What failed was rescued.
        run.failure = "" if run.hosts else "the playbook met no host"
    elif not run.failure:
        lines = log.read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
        run.failure = f"ansible-playbook ended with status {process.returncode}: {last}"
    return run


def _follow(stream: IO[bytes], process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """The events that a process writes, until it has ended."""
    rest = b""
    while True:
        ended = process.poll() is not None
        *lines, rest = (rest + stream.read()).split(b"\n")
        for line in lines:
            yield json.loads(line)
        if ended:
            return
        time.sleep(INTERVAL)
