# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has every system call of a module that touches its files go wrong, one after another, and looks what is left.

matrix.py [--every N] [SCENARIO...]    all scenarios, or those whose names contain one of these words

A fault is a signal to the module and all that it has started (as when a connection is lost, or the host loses power),
or an error of a system call, once or from there on. After each of them
- every file is as it was or as asked, whole, with its owner and mode;
- a module that could still answer has left all as it was or all as asked, nothing else, and says why in two sentences;
- the next run makes all as asked and leaves nothing else behind.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import mmap
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# The layout of struct state in fault.c.
STATE = struct.Struct("=qqiii256s256s")
# A number that no call has.
NEVER = 1 << 60
# How long one run may take, in seconds.
PATIENCE = 20
# Copies that were asked for with backup: PATH.PROCESS.DATE@TIME~
BACKUP = re.compile(r"\.\d+\.\d{4}-\d\d-\d\d@\d\d:\d\d:\d\d~$")


@dataclass(frozen=True)
class Fault:
    """What goes wrong: a signal, or an error of one call or of all from one on; `half` writes half of it first."""

    name: str
    error: int = 0
    number: int = 0
    mode: int = 0


FAULTS = (
    *(
        Fault(number.name[3:], number=number)
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    ),
    *(
        Fault(f"{errno.errorcode[error]} once", error=error)
        for error in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EROFS)
    ),
    *(
        Fault(f"{errno.errorcode[error]} on", error=error, mode=1)
        for error in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
    ),
    Fault("half a write", error=errno.ENOSPC, mode=2),
)

Snapshot = dict[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Scenario:
    """What a module is asked for in a directory of its own.

    :param arguments: with {root} for that directory.
    :param files: what is there before, by path below it: text or bytes, a mode; a string after "->" is a link.
    :param setup: replaces what the host of the tests does not have.
    :param programs: whether other programs write as well.
    :param before: what the module is asked for before, with success.
    """

    name: str
    module: str
    arguments: dict[str, Any]
    files: dict[str, tuple[bytes | str, int]]
    setup: Callable[[], None] = lambda: None
    programs: bool = False
    before: tuple[dict[str, Any], ...] = ()


class Lab:
    """A directory, the library that counts and spoils system calls there, and one module after another in it."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        with (directory / "state").open("r+b") as file:
            self.state = mmap.mmap(file.fileno(), STATE.size)
        self._answer = directory / "answer"
        # Of the last run: the call that went wrong, and how many there were.
        self.fired, self.counted = "", 0

    @property
    def count(self) -> int:
        return int(STATE.unpack(self.state[:])[0])

    @property
    def call(self) -> str:
        return str(STATE.unpack(self.state[:])[6].rstrip(b"\0").decode(errors="replace"))

    def arm(self, at: int, fault: Fault | None) -> None:
        given = fault or Fault("")
        prefix = str(self.root).encode()
        self.state[:] = STATE.pack(0, at, given.error, given.number, given.mode, prefix, b"")

    def disarm(self) -> None:
        self.state[:] = bytes(STATE.size)

    def prepare(self, scenario: Scenario) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        for name, (content, mode) in scenario.files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str) and content.startswith("->"):
                path.symlink_to(content[2:])
            elif name.endswith("/"):
                path.mkdir(exist_ok=True)
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
                path.chmod(mode)
        for arguments in scenario.before:
            status, printed = self.run(replace(scenario, arguments=arguments))
            if status != 0 or not succeeded(answer(printed)):
                raise SystemExit(f"{scenario.name} cannot be prepared (status {status}): {printed[:300]}")

    def run(self, scenario: Scenario, at: int = 0, fault: Fault | None = None) -> tuple[int, str]:
        """Run the module in a process of its own; return its status and what it printed."""
        arguments = json.loads(json.dumps(scenario.arguments).replace("{root}", str(self.root)))
        self._answer.write_bytes(b"")
        child = os.fork()
        if child == 0:
            self._become(scenario, arguments, at, fault)
        deadline = time.monotonic() + PATIENCE
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            if time.monotonic() > deadline:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return -1, "hangs"
            time.sleep(0.001)
        self.fired, self.counted = self.call, self.count
        self.disarm()
        return status, self._answer.read_text(errors="replace")

    def _become(self, scenario: Scenario, arguments: dict[str, Any], at: int, fault: Fault | None) -> None:
        status = 70
        try:
            os.setsid()
            output = os.open(self._answer, os.O_WRONLY)
            for descriptor in (1, 2):
                os.dup2(output, descriptor)
            from ansible.module_utils import basic

            basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
            basic._ANSIBLE_PROFILE = "legacy"
            scenario.setup()
            module = sys.modules[f"ansible_collections.xen.stubdom.plugins.modules.{scenario.module}"]
            self.arm(at, fault)
            with contextlib.suppress(SystemExit):
                module.main()
                status = 71
            status = 0
        except KeyboardInterrupt:
            status = 130
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)

    def look(self) -> Snapshot:
        """All that is below the directory; times do not count."""
        found: Snapshot = {}
        for parent, directories, names in os.walk(self.root):
            for name in [*directories, *names]:
                path = os.path.join(parent, name)
                shown = os.path.relpath(path, self.root)
                status = os.lstat(path)
                kind: object = "directory"
                if os.path.islink(path):
                    kind = os.readlink(path)
                elif not os.path.isdir(path):
                    kind = Path(path).read_bytes()
                if not BACKUP.search(shown):
                    found[shown] = (kind, status.st_mode, status.st_uid, status.st_gid)
        return found


def answer(printed: str) -> dict[str, Any]:
    """The result of a module, empty where it printed none."""
    with contextlib.suppress(ValueError):
        found = json.loads(printed.strip().splitlines()[-1]) if printed.strip() else {}
        return dict(found) if isinstance(found, dict) else {}
    return {}


def succeeded(result: dict[str, Any]) -> bool:
    return bool(result) and not result.get("failed")


def complaints(
    scenario: Scenario, old: Snapshot, now: Snapshot, new: Snapshot, status: int, printed: str, fault: Fault, fired: str
) -> Iterator[str]:
    """What is wrong with what a fault has left."""
    for path in {**old, **new}:
        if now.get(path) not in (old.get(path), new.get(path)):
            yield f"{path} is neither as it was nor as asked"
    tracked = {path: now[path] for path in now if path in old or path in new}
    killed = os.WIFSIGNALED(status)
    # Where nothing can be removed or renamed any more, nothing can be put back; and what other programs write, too, is
    # not put back where nothing can be written.
    stuck = fault.mode != 0 and (fault.error in (errno.EROFS, errno.EACCES) or scenario.programs)
    warned = " ".join(map(str, answer(printed).get("warnings", ())))
    if fault.number != signal.SIGKILL and not killed and not stuck:
        strays = [one for one in sorted(set(now) - set(old) - set(new)) if one not in warned]
        if strays:
            yield f"left behind: {', '.join(strays)}"
        if without_directories(tracked) not in (without_directories(old), without_directories(new)):
            yield "half as it was, half as asked"
    if killed:
        if fault.number == 0:
            yield "was killed"
        return
    if fault.number:
        return
    result = answer(printed)
    if not result:
        yield f"no answer: {printed[-300:]!r}"
    elif result.get("failed"):
        message = str(result.get("msg"))
        if len(message.splitlines()) != 2 or "has a fault" in message or result.get("exception"):
            yield f"not two sentences: {message!r}"
        # What cannot be read back is an error, although it may be there.
        if now == new and not fired.startswith("open "):
            yield "failed, and did what was asked"
    elif without_directories(tracked) != without_directories(new):
        yield "says that it has done what was asked"


def without_directories(snapshot: Snapshot) -> Snapshot:
    """What is there but directories: an empty one is harmless, and the next run removes it."""
    return {path: found for path, found in snapshot.items() if found[0] != "directory"}


def tried(lab: Lab, scenario: Scenario, every: int) -> Iterator[tuple[str, list[str]]]:
    """Try every fault at every call (or each Nth of all of them); yield what was tried and what was wrong."""
    lab.prepare(scenario)
    old = lab.look()
    status, printed = lab.run(scenario)
    new = lab.look()
    if status != 0 or not succeeded(answer(printed)) or not answer(printed).get("changed"):
        raise SystemExit(f"{scenario.name} does not work without a fault (status {status}): {printed[:300]}")
    calls = counted(lab, scenario)
    number = 0
    for at in range(1, calls + 1):
        for fault in FAULTS:
            number += 1
            if number % every:
                continue
            lab.prepare(scenario)
            status, printed = lab.run(scenario, at, fault)
            fired = lab.fired
            if not fired:
                # This call cannot fail in this way.
                number -= 1
                continue
            wrong = list(complaints(scenario, old, lab.look(), new, status, printed, fault, fired))
            status, printed = lab.run(scenario)
            after = lab.look()
            if not succeeded(answer(printed)):
                wrong.append(f"the next run: {str(answer(printed).get('msg', printed[-300:]))!r}")
            elif after != new:
                extra = sorted(set(after) - set(new))
                wrong.append(f"the next run leaves {', '.join(extra)}" if extra else "the next run does not repair it")
            yield f"{scenario.name}: {fault.name} at {at} ({fired})", wrong


def counted(lab: Lab, scenario: Scenario) -> int:
    """How many calls a run makes."""
    lab.prepare(scenario)
    lab.run(scenario, NEVER, Fault("none"))
    return lab.counted


def library(directory: Path) -> Path:
    """Compiles what is loaded before the C library."""
    path = directory / "fault.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-o", str(path), str(HERE / "fault.c"), "-ldl"], check=True
    )
    return path


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="SCENARIO")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="try each Nth fault only (default: all)")
    parser.add_argument("--show", type=int, default=20, metavar="N", help="how many failures are shown (default: 20)")
    asked = parser.parse_args(words)
    if "FAULT_STATE" not in os.environ:
        return inside(words)
    import cases

    lab = Lab(Path(os.environ["FAULT_STATE"]).parent)
    chosen = [one for one in cases.ALL if not asked.names or any(word in one.name for word in asked.names)]
    if not chosen:
        parser.error(f"There is no such scenario. There are: {', '.join(one.name for one in cases.ALL)}")
    total = failed = shown = 0
    for scenario in chosen:
        start, before, wrong_here = time.monotonic(), total, 0
        for what, wrong in tried(lab, scenario, asked.every):
            total += 1
            if wrong:
                failed += 1
                wrong_here += 1
                shown += 1
                if shown <= asked.show:
                    print(f"FAILED {what}: {'; '.join(wrong)}", flush=True)
        seconds = time.monotonic() - start
        print(f"{scenario.name:45} {total - before:6} tried {wrong_here:6} failed {seconds:7.1f} s", flush=True)
    print(f"{total} tried, {total - failed} survived")
    return int(failed > 0)


def inside(words: Sequence[str]) -> int:
    """Starts this program again, with the library."""
    # Not /tmp, which may be mounted in ways that change what is tried.
    with tempfile.TemporaryDirectory(prefix="xen-stubdom-faults-", dir="/var/tmp") as name:
        directory = Path(name)
        environment = {
            **os.environ,
            "LD_PRELOAD": str(library(directory)),
            "FAULT_STATE": str(directory / "state"),
            "PYTHONPATH": os.pathsep.join(
                [*os.environ.get("ANSIBLE_COLLECTIONS_PATH", "").split(os.pathsep), str(HERE)]
            ),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        (directory / "state").write_bytes(bytes(STATE.size))
        return subprocess.run([sys.executable, __file__, *words], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
