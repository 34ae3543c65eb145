# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a playbook, says task by task where it is, and counts what it did."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from image import die_with_parent

RECAP = re.compile(r"^\S+\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)")
TASK = re.compile(r"^(?:TASK|RUNNING HANDLER) \[(?:[\w.]+\.)?(.*)\] \*+$")


@dataclass
class Run:
    """What a run of a playbook came to; `modules` are the executions of modules on hosts, `hosts` those that it met."""

    hosts: int = 0
    changed: int = 0
    failed: int = 0
    modules: int = 0
    changes: list[str] = field(default_factory=list)
    failure: str = ""


def follow(lines: Iterable[str], say: Callable[[str], None]) -> Run:
    """Reads what `ansible-playbook -vvv` prints while it prints it; `say` gets the name of each task that begins."""
    run = Run()
    task = ""
    fatal: list[str] | None = None
    for line in lines:
        text = line.rstrip("\n")
        if fatal is not None:
            fatal.append(text)
            if text == "}":
                reason = message("\n".join(fatal))
                run.failure = f"{task}: {reason}"
                fatal = None
            continue
        begins = TASK.match(text)
        if begins:
            task = begins[1].replace(" : ", ": ", 1)
            say(task)
        elif text.startswith("Using module file "):
            run.modules += 1
        elif text.startswith("changed: ["):
            run.changes.append(task)
        elif text.startswith(("fatal: [", "failed: [")) and "=> {" in text:
            fatal = ["{" + text.partition("=> {")[2]]
        elif text.startswith("ERROR! ") or (text.startswith("[ERROR]: ") and not run.failure):
            run.failure = text.partition(" ")[2]
        recap = RECAP.match(text)
        if recap:
            run.hosts += 1
            run.changed += int(recap[2])
            run.failed += int(recap[3]) + int(recap[4])
    return run


def message(result: str) -> str:
    """The reason in the result of a task that failed."""
    try:
        return str(json.loads(result)["msg"])
    except (ValueError, KeyError):
        return result


def play(words: Sequence[str], environment: Mapping[str, str], log: Path, say: Callable[[str], None]) -> Run:
    """Runs ansible-playbook with these words; all that it says is in `log` afterwards."""
    with log.open("w") as output:

        def lines() -> Iterable[str]:
            assert process.stdout is not None
            for line in process.stdout:
                output.write(line)
                yield line

        with subprocess.Popen(
            ["ansible-playbook", "-vvv", *words],
            env={**environment, "PYTHONUNBUFFERED": "1", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_DISPLAY_OK_HOSTS": "1"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            preexec_fn=die_with_parent,  # noqa: PLW1509 -- there is one thread
        ) as process:  # fmt: skip
            try:
                run = follow(lines(), say)
            except BaseException:
                process.terminate()
                raise
    if process.returncode != 0 and not run.failure:
        run.failure = f"ansible-playbook ended with status {process.returncode}"
    if process.returncode == 0:
        run.failure = ""
    if not run.hosts and not run.failure:
        run.failure = "the playbook met no host"
    return run
