# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: how much of a machine a build may use, so that one which runs away ends itself
# and nothing else.

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import time
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import last_line

# What one process or file of a build may have.
LIMITS = (
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_FSIZE, 4 << 30),
    (resource.RLIMIT_AS, 8 << 30),
    (resource.RLIMIT_NPROC, 4096),
)

# What a build leaves free of its file system and of the memory, in bytes.
RESERVE = 256 << 20

# How many processes a build may have.
PROCESSES = 4096

# The name of a build's group, before the number of its process.
PREFIX = "xen.stubdom-build-"
CGROUPS = "/sys/fs/cgroup"
# It is there where systemd runs (sd_booted(3)).
SYSTEMD = "/run/systemd/system"

# Seconds that systemd may take to make a scope.
_PATIENCE = 10.0


@dataclass(frozen=True)
class Controller:
    """What a control group limits.

    :param unit: the property of a unit of systemd (systemd.resource-control(5)).
    :param unified: the files with the limit and with the events of control groups version 2 (Linux,
        Documentation/admin-guide/cgroup-v2.rst).
    :param legacy: the same of version 1 (Documentation/admin-guide/cgroup-v1).
    :param event: the event that counts how often the limit was reached.
    :param exceeded: what a build did then; {limit} is in MiB for memory.
    """

    name: str
    unit: str
    unified: Tuple[str, str]
    legacy: Tuple[str, str]
    event: str
    exceeded: str


MEMORY = Controller(
    "memory",
    "MemoryMax",
    ("memory.max", "memory.events"),
    ("memory.limit_in_bytes", "memory.oom_control"),
    "oom_kill",
    "its commands needed more than the {limit} MiB of memory that were available when the build began",
)
PIDS = Controller(
    "pids",
    "TasksMax",
    ("pids.max", "pids.events"),
    ("pids.max", "pids.events"),
    "max",
    "its commands were more than {limit} processes",
)
CONTROLLERS = (MEMORY, PIDS)


class Bounds:
    """The control group of a build: what all its processes may use together.

    :param limits: by name of the controller; none where there is no such group.
    :param refusal: why there is none.
    """

    def __init__(self, limits: Dict[str, int], refusal: Optional[str] = None) -> None:
        self.refusal = refusal
        self.memory_mib = None if refusal else limits["memory"] >> 20
        self._limits = {} if refusal else limits

    def events(self) -> Dict[str, int]:
        """Return how often each limit was reached."""
        return {one.name: _event(one) for one in CONTROLLERS if one.name in self._limits}

    def exceeded(self, before: Dict[str, int]) -> Optional[str]:
        """Return which limit was reached since *before*, as the second half of a sentence."""
        for one in CONTROLLERS:
            if self.events().get(one.name, 0) > before.get(one.name, 0):
                limit = self._limits[one.name]
                return one.exceeded.format(limit=limit >> 20 if one is MEMORY else limit)
        return None


def enter() -> Bounds:
    """Put this process, and with it all that it will start, into a control group with limits.

    systemd makes it where it runs, as nobody else may then change the groups (systemd, docs/CGROUP_DELEGATION.md).
    """
    try:
        limits = {"memory": available(), "pids": PROCESSES}
        if os.path.isdir(SYSTEMD):
            ask_systemd(limits)
        else:
            make_groups(limits)
        for one in CONTROLLERS:
            found = _read(os.path.join(_group(one), _files(one)[0]))
            if found != str(limits[one.name]):
                return Bounds(limits, f"the limit {one.name} of the control group is {found}")
    except (OSError, UserError, ValueError) as error:
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error).splitlines()[0]
        return Bounds({}, reason.rstrip("."))
    return Bounds(limits)


def available() -> int:
    """Return how much memory a build may use, in bytes: what is available, but for a reserve for all others."""
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            found = int(line.split()[1]) << 10
            return max(found - RESERVE, found // 2) >> 20 << 20
    raise ValueError("/proc/meminfo does not say how much memory is available")


def ask_systemd(limits: Dict[str, int]) -> None:
    """Have systemd make a scope, and go there.

    :raises UserError: it does not.
    """
    unit = f"{PREFIX}{os.getpid()}.scope"
    # It makes a scope of a new process only, which is here until this one has come.
    holder = subprocess.Popen(
        scope(unit, limits), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        until = time.monotonic() + _PATIENCE
        while not any(line.endswith("/" + unit) for line in _lines(holder.pid)):
            if holder.poll() is not None:
                said = holder.stderr.read().decode(errors="replace") if holder.stderr else ""
                raise UserError(f"systemd made no scope for it ({last_line(said)})", "")
            if time.monotonic() > until:
                raise UserError(f"systemd made no scope for it within {_PATIENCE:.0f} seconds", "")
            time.sleep(0.05)
        for one in CONTROLLERS:
            _write(os.path.join(_group(one, holder.pid), "cgroup.procs"), str(os.getpid()))
    finally:
        holder.kill()
        holder.communicate()


def scope(unit: str, limits: Dict[str, int]) -> List[str]:
    """Return the command that has systemd make a scope (systemd-run(1))."""
    return [
        *("systemd-run", "--scope", "--quiet", "--collect", f"--unit={unit}", "--description=Build of stub domains"),
        *(f"--property={one.unit}={limits[one.name]}" for one in CONTROLLERS),
        *("sleep", "60"),
    ]


def make_groups(limits: Dict[str, int]) -> None:
    """Make the group in each hierarchy, and go there; remove those of builds that have ended."""
    with files.lock("xen.stubdom-groups"):
        for one in CONTROLLERS:
            for name in os.listdir(_base(one)):
                if name.startswith(PREFIX):
                    with contextlib.suppress(OSError):  # it is in use
                        os.rmdir(os.path.join(_base(one), name))
        for one in CONTROLLERS:
            group = os.path.join(_base(one), f"{PREFIX}{os.getpid()}")
            if not _is_legacy(one):
                _write(os.path.join(_base(one), "cgroup.subtree_control"), f"+{one.name}")
            with contextlib.suppress(FileExistsError):  # version 2 has one group for both
                os.mkdir(group)
            _write(os.path.join(group, _files(one)[0]), str(limits[one.name]))
            _write(os.path.join(group, "cgroup.procs"), str(os.getpid()))


def _lines(process: object = "self") -> List[str]:
    return _read(f"/proc/{process}/cgroup").splitlines()


def _is_legacy(one: Controller) -> bool:
    return any(one.name in line.split(":")[1].split(",") for line in _lines())


def _base(one: Controller) -> str:
    return os.path.join(CGROUPS, one.name) if _is_legacy(one) else CGROUPS


def _files(one: Controller) -> Tuple[str, str]:
    return one.legacy if _is_legacy(one) else one.unified


def _group(one: Controller, process: object = "self") -> str:
    """Return the directory of the group of a process (cgroups(7))."""
    names = one.name if _is_legacy(one) else ""
    path = next((line.split(":", 2)[2] for line in _lines(process) if names in line.split(":")[1].split(",")), "")
    return _base(one) + path


def _event(one: Controller) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in _read(os.path.join(_group(one), _files(one)[1])).splitlines():
            name, _space, number = line.partition(" ")
            if name == one.event:
                return int(number)
    return 0


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read().strip()


def _write(path: str, text: str) -> None:
    # No O_CREAT: where these are no control groups, nothing is made.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def limit() -> None:
    """Limit this process and all that it starts."""
    for what, most in LIMITS:
        hard = resource.getrlimit(what)[1]
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (value, value))


def first_to_go(command: Sequence[str]) -> List[str]:
    """Return a command that the kernel ends before other processes where memory runs out (proc(5), oom_score_adj).

    A process that has just given up root may not write there itself.
    """
    return ["/bin/sh", "-c", '{ echo 1000 > /proc/$$/oom_score_adj; } 2> /dev/null; exec "$@"', "sh", *command]


def require_room(workshop: str) -> None:
    """:raises UserError: the file system of *workshop* is nearly full."""
    status = os.statvfs(workshop)
    left = status.f_bavail * status.f_frsize
    if left < RESERVE:
        raise UserError(
            f"The build was stopped as the file system of {workshop} has {left >> 20} MiB left.",
            f"Free {RESERVE >> 20} MiB and what the build needs, or set work_directory to another file system.",
        )
