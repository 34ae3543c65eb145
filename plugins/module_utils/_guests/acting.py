# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: starts and ends the guests of a list, and looks at all of them afterwards.

from __future__ import annotations

import contextlib
import functools
from typing import Callable, Dict, FrozenSet, List, Optional, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import (
    domain,
    items,
    lives,
    record,
    waiting,
    wanted,
)
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

_RUNNING = ("running", "restarted", "rebooted")


def act(xen: Xen, listed: Sequence[items.Item], *, stop_on_failure: bool) -> None:
    """Do what the life of each guest needs, and take down in each item what was done and what failed."""
    acting = [item for item in listed if item.steps]
    if not acting:
        return
    with contextlib.ExitStack() as held:
        # Two runs that start one guest would let it go before the other one listens. In one order, whatever the lists.
        for key in sorted(item.guest.key for item in acting):
            held.enter_context(files.lock(record.LOCK.format(key=key)))
        observe(xen, acting)
        for item in acting:
            item.steps = []
            items.find_steps(item)
            item.failure = item.failure or item.refusal

        def halt() -> None:
            for item in acting:
                item.guest.halt.set()

        order = wanted.ordered([item.wanted for item in acting])
        by_name = {item.name: item for item in acting}
        ordered = [by_name[one.name] for one in order]

        def run(jobs: Sequence[lives.Job]) -> None:
            failed = [item.name for item in listed if item.failure is not None]
            together = lives.Together(halt, stop=stop_on_failure, failed=failed)
            together.run([job for job in jobs if job.name not in failed])

        run([_end(item, ordered) for item in reversed(ordered) if lives.ENDING & set(item.steps)])
        run([_begin(item) for item in ordered if _after_end(item.steps)])
        observe(xen, acting)
    for item in acting:
        item.failure = item.failure or _unproved(item)


def foresee(listed: Sequence[items.Item], *, stop_on_failure: bool) -> None:
    """Take down in check mode what would fail although nothing is changed, and what is left because of that."""
    for item in listed:
        if "wait" in item.steps:
            try:
                item.guest.require_no_pause()
            except UserError as error:
                item.failure = error
    failed = [item.name for item in listed if item.failure is not None]
    if not failed:
        return
    by_name = {item.name: item for item in listed}
    ordered = [by_name[one.name] for one in wanted.ordered([item.wanted for item in listed])]
    ends = [(item, "stop", _dependents(item, ordered)) for item in reversed(ordered) if lives.ENDING & set(item.steps)]
    for item, what, after in [*ends, *((item, "start", _starts_after(item)) for item in ordered)]:
        if item.steps and item.failure is None:
            item.failure = lives.left(item.name, what, after, failed, stop=stop_on_failure)
            failed += [item.name] if item.failure is not None else []
    for item in listed:
        item.steps = [] if item.failure is not None else item.steps


def observe(xen: Xen, listed: Sequence[items.Item]) -> None:
    """Look at the domains of these guests again."""
    domain.observe(xen, xen.domains(), [item.guest for item in listed])


def _end(item: items.Item, ordered: Sequence[items.Item]) -> lives.Job:
    after = _after_end(item.steps)
    *steps, last = item.steps[: len(item.steps) - len(after)]

    def save() -> None:
        for step in (*steps, last):
            _whole(item, step)

    def rest() -> None:
        for step in steps:
            _whole(item, step)
        force = lives.forced(item.guest, item.wanted)
        item.guest.end(item.wanted.values["stop_timeout"], force=force, again=bool(after))
        item.done.append("end")

    # Several that are saved at once would only wait for one disk.
    begin = save if last == "save" else lambda: rest
    return lives.Job(item.name, _dependents(item, ordered), begin, _failure_of(item), what="stop")


def _dependents(item: items.Item, ordered: Sequence[items.Item]) -> FrozenSet[str]:
    """The guests that end before this one, as they start after it."""
    return frozenset(other.name for other in ordered if item.name in other.wanted.values["start_after"])


def _after_end(steps: Sequence[str]) -> Sequence[str]:
    """The steps that come after the guest's end, all where it is not ended."""
    return next((steps[place + 1 :] for place, step in enumerate(steps) if step in lives.ENDING), steps)


def _starts_after(item: items.Item) -> FrozenSet[str]:
    """The guests that have to be there before this one is started; none where it is not."""
    starts = {"start", "restore", "go_on"} & set(item.steps)
    return frozenset(item.wanted.values["start_after"] if starts else ())


def _begin(item: items.Item) -> lives.Job:
    values, steps = item.wanted.values, _after_end(item.steps)

    def begin() -> Optional[Callable[[], None]]:
        rests: List[Callable[[], None]] = []
        for step in steps:
            # What comes after something that goes on beside other guests does so too.
            rest = functools.partial(_whole, item, step) if rests else _step(item, step)
            rests += [rest] if rest is not None else []

        def go_on() -> None:
            for rest in rests:
                rest()

        return go_on if rests else None

    starts = {"start", "restore", "go_on"} & set(steps)
    return lives.Job(item.name, _starts_after(item), begin, _failure_of(item), values["start_delay"] if starts else 0)


def _whole(item: items.Item, step: str) -> None:
    rest = _step(item, step)
    if rest is not None:
        rest()


def _step(item: items.Item, step: str) -> Optional[Callable[[], None]]:
    """Do one step, and take it down; return what of it goes on beside other guests."""
    guest, values = item.guest, item.wanted.values
    paused = item.wanted.state == "paused"
    awaited = None if paused else waiting.wanted(values)
    beside: Dict[str, Callable[[], None]] = {
        "wait": guest.require_no_pause,
        "change": lambda: item.warnings.extend(guest.change()),
        "reboot": lambda: guest.reboot(values["stop_timeout"]),
    }
    if step in beside:

        def rest() -> None:
            beside[step]()
            if step != "change" or guest.facts["changed_live"]:
                item.done.append(step)

        return rest
    if step in ("start", "go_on", "listen"):
        if step == "start":
            # One that is started paused is waited for by the run that lets it go.
            listening = guest.start(awaited=waiting.wanted(values) is not None, paused=paused)
        elif step == "go_on":
            made_with = guest.interrupted_start() or record.of(guest.settings).text
            listening = guest.go_on(made_with, awaited=awaited is not None)
        else:
            listening = guest.listen()
        item.done.append(step)
        return lambda: guest.hear(listening, awaited, values["timeout"])
    {
        "pause": guest.pause,
        "unpause": guest.unpause,
        "save": guest.save,
        "restore": guest.restore,
        "discard": guest.saved.discard,
        "forget_start": guest.forget_start,
        "forget_move": lambda: guest.moved.note(None),
        "sweep": guest.sweep,
    }[step]()
    item.done.append(step)
    return None


def _failure_of(item: items.Item) -> Callable[[UserError], None]:
    def failed(error: UserError) -> None:
        item.failure = error

    return failed


def _unproved(item: items.Item) -> Optional[UserError]:
    """Why a guest is not in the state that is asked for, although every step went well; None where it is."""
    state, said = item.guest.facts["state"], item.guest.facts["said"]
    logs = f"Look at `xl list`, /var/log/xen/xl-{item.name}.log and `xl dmesg`."
    if item.wanted.state in _RUNNING and not said and state in ("paused", "dying", *domain.ENDED):
        return UserError(f"The guest {item.name} was started, and its state is {state}.", logs)
    if item.wanted.state == "paused" and state != "paused":
        return UserError(f"The guest {item.name} was paused, and its state is {state}.", logs)
    if item.wanted.state in ("stopped", "absent", "saved") and state not in domain.ENDED:
        return UserError(f"The guest {item.name} was ended, and its state is {state}.", logs)
    return None
