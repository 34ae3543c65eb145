# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has every system call of a module that touches its files go wrong, one after another, and looks what is left.

matrix.py [--every N] [SCENARIO...]    all scenarios, or those whose names contain one of these words
As root it tries the real grub-mkconfig as well, and hostile parameters (inputs.py).

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
import itertools
import json
import mmap
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tools"), str(HERE.parents[1] / "lab")]

from files import scratch
from programs import end_as_by_ctrl_c, started

# Where the unit tests have what they know of hostile parameters.
UNIT = (HERE.parent / "unit", HERE.parent / "unit" / "plugins" / "modules")
# The layout of struct state in fault.c.
STATE = struct.Struct("=qqiii256s256s")
# A number that no call has.
NEVER = 1 << 60
# How long one run may take, in seconds.
PATIENCE = 120
# Of several things that are wrong each has a line, with its two sentences.
SEVERAL = re.compile(r"(?!1 )(\d+) of \d+ ")
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
    :param records: JSON files that hold times, so that only their being whole is looked at.
    :param parts: directories of a Debian file system of its own, which the files are in and the module runs in.
    :param setup: replaces what the host of the tests does not have.
    :param programs: whether other programs write as well.
    :param resumes: whether what was done before a fault stays, and the next run goes on with the rest.
    :param before: modules with what they are asked for before, with success.
    """

    name: str
    module: str
    arguments: dict[str, Any]
    files: dict[str, tuple[bytes | str, int]]
    setup: Callable[[], None] = lambda: None
    programs: bool = False
    resumes: bool = False
    before: tuple[tuple[str, dict[str, Any]], ...] = ()
    records: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()


class Lab:
    """A directory, the library that counts and spoils system calls there, and one module after another in it.

    :param system: a Debian file system that modules can run in.
    """

    def __init__(self, directory: Path, system: Path | None) -> None:
        self.root = directory / "root"
        self.system = system
        self._prepared = directory / "prepared"
        self._prepared_for = ""
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

    def arm(self, at: int, fault: Fault | None, prefixes: Sequence[str]) -> None:
        given = fault or Fault("")
        joined = ":".join(prefixes).encode()
        self.state[:] = STATE.pack(0, at, given.error, given.number, given.mode, joined, b"")

    def disarm(self) -> None:
        self.state[:] = bytes(STATE.size)

    def top(self, scenario: Scenario) -> Path:
        """The directory that the paths of a scenario are below."""
        if not scenario.parts:
            return self.root
        assert self.system is not None
        return self.system

    def places(self, scenario: Scenario) -> list[Path]:
        """The directories that are a scenario's own."""
        return [self.top(scenario) / part for part in scenario.parts] or [self.root]

    def prepare(self, scenario: Scenario) -> None:
        """Make all as it is before a run; what takes long is made once, and copied then."""
        places = self.places(scenario)
        if self._prepared_for != scenario.name:
            self._make(scenario)
            shutil.rmtree(self._prepared, ignore_errors=True)
            for number, place in enumerate(places):
                shutil.copytree(place, self._prepared / str(number), symlinks=True)
            self._prepared_for = scenario.name
        for number, place in enumerate(places):
            if place.exists():
                shutil.rmtree(place)
            shutil.copytree(self._prepared / str(number), place, symlinks=True)

    def _make(self, scenario: Scenario) -> None:
        for place in self.places(scenario):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
        for name, (content, mode) in scenario.files.items():
            path = self.top(scenario) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str) and content.startswith("->"):
                path.symlink_to(content[2:])
            elif name.endswith("/"):
                path.mkdir(exist_ok=True)
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
                path.chmod(mode)
        for module, arguments in scenario.before:
            status, printed = self.run(replace(scenario, module=module, arguments=arguments))
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
        try:
            while True:
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    break
                if time.monotonic() > deadline:
                    end(child)
                    return -1, "hangs"
                time.sleep(0.001)
        except KeyboardInterrupt:
            end(child)
            raise
        self.fired, self.counted = self.call, self.count
        self.disarm()
        return status, self._answer.read_text(errors="replace")

    def _become(self, scenario: Scenario, arguments: dict[str, Any], at: int, fault: Fault | None) -> None:
        status = 70
        try:
            os.setsid()
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            output = os.open(self._answer, os.O_WRONLY)
            for descriptor in (1, 2):
                os.dup2(output, descriptor)
            from ansible.module_utils import basic

            basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
            basic._ANSIBLE_PROFILE = "legacy"
            scenario.setup()
            places = [str(place) for place in self.places(scenario)]
            if scenario.parts:
                top = str(self.top(scenario))
                places = [place[len(top) :] for place in places]
                os.chroot(top)
                os.chdir("/")
            module = sys.modules[f"ansible_collections.xen.stubdom.plugins.modules.{scenario.module}"]
            self.arm(at, fault, places)
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

    def look(self, scenario: Scenario) -> Snapshot:
        """All that is in a scenario's directories; times do not count."""
        found: Snapshot = {}
        for parent, directories, names in itertools.chain(*map(os.walk, self.places(scenario))):
            for name in [*directories, *names]:
                path = os.path.join(parent, name)
                shown = os.path.relpath(path, self.top(scenario))
                status = os.lstat(path)
                kind: object = "directory"
                if os.path.islink(path):
                    kind = os.readlink(path)
                elif not os.path.isdir(path):
                    kind = content = Path(path).read_bytes()
                    if shown in scenario.records:
                        with contextlib.suppress(ValueError):
                            kind = type(json.loads(content))
                if not BACKUP.search(shown):
                    found[shown] = (kind, status.st_mode, status.st_uid, status.st_gid)
        return found


def end(child: int) -> None:
    """Kills a module with all that it has started; it may have no group of its own yet."""
    for kill in (os.kill, os.killpg):
        with contextlib.suppress(ProcessLookupError):
            kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


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
        made = path not in old and now.get(path, ("",))[0] == "directory"
        if now.get(path) not in (old.get(path), new.get(path)) and not made:
            yield f"{path} is neither as it was nor as asked"
    tracked = {path: now[path] for path in now if path in old or path in new}
    killed = os.WIFSIGNALED(status)
    # Where nothing can be removed or renamed any more, nothing can be put back; and what other programs write, too, is
    # not put back where nothing can be written.
    stuck = fault.mode != 0 and (fault.error in (errno.EROFS, errno.EACCES) or scenario.programs)
    warned = " ".join(map(str, answer(printed).get("warnings", ())))
    if fault.number != signal.SIGKILL and not killed and not stuck:
        strays = [
            one
            for one in sorted(set(now) - set(old) - set(new))
            if not any(str(place) in warned for place in (Path(one), *Path(one).parents[:-1]))
        ]
        if strays:
            yield f"left behind: {', '.join(strays)}"
        either = (without_directories(old), without_directories(new))
        if not scenario.resumes and without_directories(tracked) not in either:
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
        several = SEVERAL.match(message)
        lines = 1 + int(several[1]) if several else 2
        if len(message.splitlines()) != lines or "has a fault" in message or result.get("exception"):
            yield f"not two sentences: {message!r}"
        # What cannot be read back is an error, although it may be there.
        if now == new and not fired.startswith("open ") and not scenario.resumes:
            yield "failed, and did what was asked"
    elif without_directories(tracked) != without_directories(new):
        yield "says that it has done what was asked"


def without_directories(snapshot: Snapshot) -> Snapshot:
    """What is there but directories: an empty one is harmless, and the next run removes it."""
    return {path: found for path, found in snapshot.items() if found[0] != "directory"}


def tried(lab: Lab, scenario: Scenario, every: int) -> Iterator[tuple[str, list[str]]]:
    """Try every fault at every call (or each Nth of all of them); yield what was tried and what was wrong."""
    lab.prepare(scenario)
    old = lab.look(scenario)
    status, printed = lab.run(scenario)
    new = lab.look(scenario)
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
            wrong = list(complaints(scenario, old, lab.look(scenario), new, status, printed, fault, fired))
            status, printed = lab.run(scenario)
            after = lab.look(scenario)
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
    end_as_by_ctrl_c()
    try:
        return everything(parser, asked) if "FAULT_STATE" in os.environ else inside(words)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def everything(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> int:
    """Tries what is asked for, and prints what was found."""
    import cases
    import inputs

    system = Path(os.environ["FAULT_SYSTEM"]) if "FAULT_SYSTEM" in os.environ else None
    if system is not None:
        equip(system)
    lab = Lab(Path(os.environ["FAULT_STATE"]).parent, system)
    chosen = [one for one in cases.ALL if not asked.names or any(word in one.name for word in asked.names)]
    for scenario in chosen if system is None else ():
        if scenario.parts:
            print(f"{scenario.name:45} not tried: only root can change to another file system", flush=True)
    chosen = [one for one in chosen if system is not None or not one.parts]
    # Where other programs work, too, a run lasts a second or more.
    fewer = 1 if asked.every == 1 else 10
    kinds: list[tuple[str, Callable[[], Iterator[tuple[str, list[str]]]]]] = [
        (one.name, partial(tried, lab, one, asked.every * (fewer if one.parts else 1))) for one in chosen
    ]
    if system is not None and (not asked.names or any(word in inputs.NAME for word in asked.names)):
        kinds.append((inputs.NAME, partial(inputs.tried, system, asked.every)))
    if not kinds:
        names = ", ".join([*(one.name for one in cases.ALL), inputs.NAME])
        parser.error(f"There is no such scenario. There are: {names}")
    total = failed = 0
    try:
        for name, tries in kinds:
            start, before, wrong_before = time.monotonic(), total, failed
            try:
                for what, wrong in tries():
                    total += 1
                    if wrong:
                        failed += 1
                        if failed <= asked.show:
                            print(f"FAILED {what}: {'; '.join(wrong)}", flush=True)
            finally:
                # A run that is ended says how far it has come, too.
                seconds, wrong_here = time.monotonic() - start, failed - wrong_before
                print(f"{name:45} {total - before:6} tried {wrong_here:6} failed {seconds:7.1f} s", flush=True)
    finally:
        print(f"{total} tried, {total - failed} survived", flush=True)
    return int(failed > 0)


@contextlib.contextmanager
def debian() -> Iterator[Path]:
    """A fresh Debian file system of this machine's release, whose Python modules fit this Python."""
    import apt_sources
    import chroots

    key = f"faults{os.getpid()}"
    release = apt_sources.machine_codename()
    try:
        yield chroots.unpack([release], key, str(os.getpid()))[release]
    finally:
        chroots.remove(key)


def equip(system: Path) -> None:
    """Has a Debian file system show what this Python needs of the one that it runs in."""
    collections = os.environ.get("ANSIBLE_COLLECTIONS_PATH", "").split(os.pathsep)
    state = os.path.dirname(os.environ["FAULT_STATE"])
    for path in ("/proc", "/dev", sys.prefix, *collections, str(HERE.parents[1]), state):
        place = system / path.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", path, str(place)], check=True)


def inside(words: Sequence[str]) -> int:
    """Starts this program again, with the library."""
    command = [sys.executable, __file__, *words]
    with contextlib.ExitStack() as stack:
        # Not /tmp, which may be mounted in ways that change what is tried.
        directory = stack.enter_context(scratch("xen-stubdom-faults", Path("/var/tmp")))
        environment = {
            **os.environ,
            "LD_PRELOAD": str(library(directory)),
            "FAULT_STATE": str(directory / "state"),
            "PYTHONPATH": os.pathsep.join(
                [*os.environ.get("ANSIBLE_COLLECTIONS_PATH", "").split(os.pathsep), str(HERE), *map(str, UNIT)]
            ),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        if os.geteuid() == 0:
            environment["FAULT_SYSTEM"] = str(stack.enter_context(debian()))
            # The mounts end with the process, whatever ends it, and before the file system is removed.
            command = ["unshare", "--mount", "--net", "--propagation", "private", *command]
        (directory / "state").write_bytes(bytes(STATE.size))
        with started(command, env=environment) as process:
            return process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
