# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the lives of several guests, started in their order, ended in the reverse one,
# and listened to at the same time.

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Callable, Collection, Dict, FrozenSet, List, Optional, Sequence, Set

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import record, virtualisation, waiting
from ansible_collections.xen.stubdom.plugins.module_utils._guests.domain import ENDED, Guest, Halted
from ansible_collections.xen.stubdom.plugins.module_utils._guests.wanted import Wanted

# What is no change of the host.
QUIET = frozenset(("listen", "wait", "forget_start", "forget_move"))
# By what a guest's domain goes.
ENDING = frozenset(("end", "save"))
# What each step is called in a result.
_ACTIONS = {
    "end": "stopped",
    "sweep": "stopped",
    "start": "started",
    "go_on": "started",
    "restore": "restored",
    "pause": "paused",
    "unpause": "unpaused",
    "reboot": "rebooted",
    "save": "saved",
    "discard": "discarded",
    "change": "changed",
}
# How often a job that has to wait is looked at, in seconds.
_LOOK = 0.5


def steps(guest: Guest, wanted: Wanted) -> List[str]:
    """What has to happen for the guest to be in the state that is asked for, as far as is seen now.

    :raises UserError: it cannot come into that state from the one it is in.
    """
    # Whatever comes next: it must not go on with that memory some day. With state present, a domain of that name may be
    # another guest's.
    outdated = wanted.state != "present" and guest.has_run() and guest.saved.outdated()
    # Another program's pause would be taken for that start's.
    started = guest.starting and guest.has_run()
    # A start takes it away by itself.
    swept = wanted.state in ("stopped", "absent") and guest.left_stub_domain is not None
    # It has come back another way, or is to be nowhere.
    back = (wanted.state == "absent" or guest.has_run()) and guest.moved.to() is not None
    before = {"forget_start": started, "discard": outdated, "sweep": swept, "forget_move": back}
    return [step for step, needed in before.items() if needed] + _life(guest, wanted)


def _life(guest: Guest, wanted: Wanted) -> List[str]:
    state, stop = guest.facts["state"], wanted.values["stop"]
    there = state != "absent"
    if wanted.state == "present":
        return []
    if wanted.state == "absent":
        if not there:
            guest.saved.refuse("which the next guest of that name would go on with")
            return []
        if stop is None:
            raise UserError(
                f"The guest {guest.name} is still there as domain {guest.facts['domid']} ({state}).",
                "Set stop to graceful or force to have it ended first.",
            )
        return _end(guest, wanted)
    if wanted.state == "stopped":
        return _end(guest, wanted) if (there if stop == "force" else state not in ENDED) else []
    if wanted.state == "saved":
        return _save(guest, state)
    if not there:
        guest.moved.refuse()
        start = _start(guest, wanted)
        return _restored(guest, wanted) if start == "restore" else [start]
    if wanted.state == "restarted":
        return [*_end(guest, wanted), "start" if guest.has_run() else _start(guest, wanted)]
    interrupted = guest.interrupted_start()
    if interrupted is not None:
        # It has not run yet, so nothing is lost with it. What is not recorded may be half of a domain.
        whole = guest.recorded is not None and not record.differing(interrupted, guest.settings)
        return ["go_on"] if whole and wanted.state != "paused" else ["end", "start"]
    if state in ENDED and waiting.wanted(wanted.values) == ("state", state):
        # It has done what it was started for.
        return ["listen"] if guest.unproved else []
    if state in ENDED:
        raise UserError(
            f"The guest {guest.name} has ended ({state}), and its domain {guest.facts['domid']} is kept.",
            "Look at it if you want to know why, then use state restarted, or state stopped with stop force.",
        )
    if wanted.state == "rebooted":
        return [*_woken(guest), "reboot"]
    if wanted.state == "paused":
        return [] if state == "paused" else ["pause"]
    return _run(guest, wanted)


def _woken(guest: Guest) -> List[str]:
    """What a guest needs first that is to do something itself, which one that is paused does not."""
    if guest.facts["state"] != "paused":
        return []
    return ["unpause"] if guest.paused_by_us() else ["wait"]


def forced(guest: Guest, wanted: Wanted) -> bool:
    """Whether a guest is ended without being asked to shut down, as what an interrupted start has left has not run."""
    return wanted.values["stop"] == "force" or guest.interrupted_start() is not None


def _end(guest: Guest, wanted: Wanted) -> List[str]:
    return [*([] if forced(guest, wanted) else _woken(guest)), "end"]


def actions(taken: Sequence[str]) -> List[str]:
    """The names of steps in a result."""
    restarted = {"end", "start"} <= set(taken)
    found = [_ACTIONS[step] for step in taken if step not in QUIET and not (restarted and step == "end")]
    return ["restarted" if restarted and one == "started" else one for one in found]


def predicted(guest: Guest, wanted: Wanted, taken: Sequence[str]) -> str:
    """The state that the guest would be in after these steps."""
    if not set(taken) - QUIET - {"discard", "change"}:
        return str(guest.facts["state"])
    return {"stopped": "absent", "saved": "absent", "absent": "absent", "paused": "paused"}.get(wanted.state, "running")


def _start(guest: Guest, wanted: Wanted) -> str:
    if not guest.saved.there():
        return "start"
    if wanted.state == "restarted":
        guest.saved.refuse("whose memory would not fit its disks after a start")
    return "restore"


def _restored(guest: Guest, wanted: Wanted) -> List[str]:
    if wanted.state == "paused":
        return ["restore", "pause"]
    return ["restore", "change"] if wanted.values["live"] and guest.foresee_restore() else ["restore"]


def _save(guest: Guest, state: str) -> List[str]:
    if state == "absent" and guest.saved.there():
        return []
    if state in ENDED or guest.interrupted_start() is not None:
        why = state if state in ENDED else "its start was interrupted"
        raise UserError(f"The guest {guest.name} does not run ({why}), so there is nothing to save.", "Start it first.")
    model = guest.facts["device_model"]
    stubbed = virtualisation.stubbed(guest.settings) or (model is not None and model["stub_domain"])
    if stubbed and not virtualisation.saves(guest.settings):
        raise UserError(
            f"The guest {guest.name} has its device model in a stub domain, which cannot be saved.",
            "Use state stopped, or paused.",
        )
    return [*_woken(guest), "save"]


def _run(guest: Guest, wanted: Wanted) -> List[str]:
    required = guest.facts["restart_required"]
    changes = guest.find_changes() if wanted.values["live"] else {}
    if wanted.values["restart"] and set(required) - set(changes):
        return [*_end(guest, wanted), "start"]
    heard = ["listen"] if guest.unproved and waiting.wanted(wanted.values) is not None else []
    return _woken(guest) + (["change"] if changes else []) + heard


@dataclass
class Job:
    """Something that happens to a guest.

    :param after: the names of the guests that have to be done before.
    :param begin: the first part of it, one guest's after the other's; it returns the rest, which goes on beside others,
        or None.
    :param failed: takes why it did not work.
    :param delay: seconds to wait when all of *after* are done.
    :param what: what it is, in a sentence.
    """

    name: str
    after: FrozenSet[str]
    begin: Callable[[], Optional[Callable[[], None]]]
    failed: Callable[[UserError], None]
    delay: int = 0
    what: str = "start"


def left(name: str, what: str, after: Collection[str], failed: Sequence[str], *, stop: bool) -> Optional[UserError]:
    """Why a job is not begun; None where it can be.

    :param after: the guests that it comes after.
    :param failed: those that are not as asked for.
    :param stop: whether nothing is begun any more after a failure.
    """
    broken = next((other for other in failed if other in after or stop), None)
    if broken is None:
        return None
    return UserError(
        f"The guest {name} was left as it was, because {broken} failed"
        f"{f', after which it is to {what}' if broken in after else ' and on_failure is stop'}.",
        f"Correct what is wrong with {broken}, then run again.",
    )


class Together:
    """Does jobs in their order, as far as none has to wait for another one.

    :param halt: has every job end that goes on beside others.
    :param stop: whether nothing is begun any more after a failure.
    :param failed: the guests that have failed before.
    """

    def __init__(self, halt: Callable[[], None], *, stop: bool, failed: Sequence[str] = ()) -> None:
        self._halt = halt
        self._stop = stop
        self._changed = threading.Condition()
        self._done: Set[str] = set()
        self._failed = [*failed]
        self._faults: List[BaseException] = []

    def run(self, jobs: Sequence[Job]) -> None:
        """Do all of them; who fails is told to his job, and those that wait for it are not begun."""
        names = {job.name for job in jobs}
        pending, ready_at = list(jobs), {}  # type: List[Job], Dict[str, float]
        threads: List[threading.Thread] = []
        try:
            while pending and not self._faults:
                job = self._next(pending, names, ready_at)
                if job is None:
                    continue
                pending.remove(job)
                rest = self._begin(job)
                if rest is not None:
                    thread = threading.Thread(target=self._go_on, args=(job, rest), daemon=True)
                    threads.append(thread)
                    thread.start()
            for thread in threads:
                thread.join()
        except BaseException:
            self._halt()
            for thread in threads:
                thread.join()
            raise
        if self._faults:
            raise self._faults[0]

    def _next(self, pending: Sequence[Job], names: Set[str], ready_at: Dict[str, float]) -> Optional[Job]:
        """The first job that can be begun; None after a while in which there was none."""
        with self._changed:
            now = time.monotonic()
            for job in pending:
                ready = job.after & names <= self._done
                if ready and now >= ready_at.setdefault(job.name, now + job.delay):
                    return job
            self._changed.wait(_LOOK)
        return None

    def _begin(self, job: Job) -> Optional[Callable[[], None]]:
        try:
            error = left(job.name, job.what, job.after, self._failed, stop=self._stop)
            if error is not None:
                raise error
            rest = job.begin()
        except UserError as error:
            self._finish(job, error)
            return None
        if rest is None:
            self._finish(job, None)
        return rest

    def _go_on(self, job: Job, rest: Callable[[], None]) -> None:
        failure: Optional[UserError] = None
        try:
            rest()
        except UserError as error:
            failure = error
        except Halted:
            pass
        except BaseException as error:
            self._faults.append(error)
            self._halt()
        self._finish(job, failure)

    def _finish(self, job: Job, failure: Optional[UserError]) -> None:
        with self._changed:
            if failure is not None:
                job.failed(failure)
                self._failed.append(job.name)
            self._done.add(job.name)
            self._changed.notify_all()
