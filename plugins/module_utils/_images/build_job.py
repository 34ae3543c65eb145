# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: runs the plans of build_plan.py in a work directory, as a job apart from
# the module that started it, which others can watch and stop (build_status.py).
#
# The work directory, of root or of whoever runs the module:
#   images/IDENTITY/                a finished image and its manifest; it is there whole or not at all (kept.py)
#   build/                          everything below belongs to the account that builds
#   build/sources/ git/ packages/   what was downloaded; digests.json remembers checksums
#   build/trees/TREE/               Xen's tree with everything in place (build_tree.py)
#   build/images/IDENTITY/          an image that a stage has just made
#   build/jobs/TREE/                status.json, heartbeat, lock and log of the job
#   build/durations.json            seconds of each stage the last time

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from typing import Any, List, Mapping, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import build_packages, files, signals
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner, attempt, run_program
from ansible_collections.xen.stubdom.plugins.module_utils._images import (
    account,
    bounds,
    build_status,
    diagnosis,
    kept,
    seal,
)
from ansible_collections.xen.stubdom.plugins.module_utils._images.build_plan import Input, Plan, Product, Step
from ansible_collections.xen.stubdom.plugins.module_utils._images.build_status import Status, Stopped
from ansible_collections.xen.stubdom.plugins.module_utils._images.build_tree import Tree
from ansible_collections.xen.stubdom.plugins.module_utils._images.durations import Durations
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch.store import LocalSource
from ansible_collections.xen.stubdom.plugins.module_utils._images.sources import Source

# Unpacking that took less found everything in place, and says nothing about the next time.
_UNPACKED = 1.0


# --- what is there ---------------------------------------------------------------------------------------------------


def compiler(run: Runner) -> Tuple[int, str]:
    """Return gcc's major version and the first line of `gcc --version`.

    :raises UserError: it cannot be run.
    """
    status, output, reason = attempt(run, ["gcc", "--version"])
    if status != 0 or not output.strip():
        raise UserError(
            f"`gcc --version` failed on the build host: {reason}.",
            f"Install {build_packages.install_hint('base')}, or set stubdom_build_install_packages of the role.",
        )
    line = output.splitlines()[0]
    match = re.search(r"(\d+)\.\d+(?:\.\d+)?\s*$", line) or re.search(r"(\d+)\.\d+", line)
    return int(match[1]) if match else 0, line.strip()


def job_directory(work: str, plan: Plan) -> str:
    """Return the directory of the job that works on the tree of a plan.

    :param work: the part of the work directory that belongs to the account that builds.
    """
    return os.path.join(work, "jobs", plan.tree[:16])


# --- the job ---------------------------------------------------------------------------------------------------------


class Job:
    """One build.

    :param work: the part of the work directory that belongs to the account that builds.
    :param plan: of the images that are missing.
    :param timeout: seconds that it may take.
    """

    def __init__(self, work: str, given: Input, plan: Plan, sources: Sequence[LocalSource], timeout: float) -> None:
        self.directory = job_directory(work, plan)
        self.log = os.path.join(self.directory, "log")
        self._work = work
        self._given = given
        self._plan = plan
        self._sources = {found.source.name: found for found in sources}
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._tree = Tree(os.path.join(work, "trees", plan.tree[:16]))
        self._status = Status(self.directory)
        self._durations = Durations(work, given.row.name)
        self._sealing: List[str] = []
        self.bounds = bounds.Bounds({}, "it has not begun")

    def run(self) -> None:
        """Carry the plan out; its result is reported in the end, whatever happens."""
        stages = ["sources", *(step.stage for step in self._needed())]
        self._status.report(
            state="running",
            pid=os.getpid(),
            log=self.log,
            started=time.time(),
            stages=stages,
            stage="sources",
            number=1,
            seconds={},
            images=[],
            estimate=self._durations.estimate(stages),
        )
        try:
            # _check raises before this time is over.
            with signals.interruptible(), files.locked(
                os.path.join(self.directory, "lock"),
                timeout=self._timeout + 60,
                busy=self._late(),
                meanwhile=self._check,
            ):
                self._place()
                self._seal()
                for number, step in enumerate(self._needed(), start=2):
                    self._run_stage(number, step)
            self._end(state="done")
        except UserError as error:
            self._end(state="failed", message=str(error))
        except Stopped as stopped:
            self._end(state="stopped", message=str(stopped))
        except signals.Interrupted as interrupted:
            stage = self._status.values["stage"]
            self._end(state="stopped", message=f"The build was ended by {interrupted} in stage {stage!r}.")
        except BaseException as error:
            self._end(state="failed", fault=[repr(error), traceback.format_exc()])

    def _end(self, **values: Any) -> None:
        """Report the end, whatever signal comes."""
        with signals.undisturbed():
            self._status.report(**values)

    def _check(self) -> None:
        """:raises Stopped: no play waits for the build any more.
        :raises UserError: the time is up, or the file system is nearly full.
        """
        self._status.check_watched()
        bounds.require_room(self._work)
        if time.monotonic() > self._deadline:
            raise self._late()

    def _late(self) -> UserError:
        return UserError(
            f"The build was not done after {self._timeout:.0f} seconds, in stage {self._status.values.get('stage')!r}.",
            f"Set a longer timeout or more jobs; the next run continues with this stage. Log: {self.log}",
        )

    def _needed(self) -> List[Step]:
        """Steps that are not done yet, or whose command has changed, and those of the images."""
        return [step for step in self._plan.steps if step.stage.startswith("image ") or not self._tree.is_done(step)]

    def _place(self) -> None:
        began = time.monotonic()
        self._tree.place(self._sources, self._given.kernels, self._plan)
        seconds = time.monotonic() - began
        if seconds > _UNPACKED:
            self._durations.record("sources", seconds)
        self._status.values["seconds"]["sources"] = round(seconds, 1)

    def _seal(self) -> None:
        unsealed = seal.refusal(run_program, self._work)
        self._sealing = [] if unsealed else seal.words(self._work)
        self._status.report(unsealed=unsealed, unbounded=self.bounds.refusal, memory_mib=self.bounds.memory_mib)

    def _run_stage(self, number: int, step: Step) -> None:
        self._status.report(stage=step.stage, number=number)
        self._check()
        self._tree.begin(step)
        began = time.monotonic()
        at = os.path.getsize(self.log) if os.path.exists(self.log) else 0
        before = self.bounds.events()
        try:
            status = self._run_command(step)
        except signals.Interrupted:
            # systemd ends all of a scope whose memory was not enough (OOMPolicy, systemd.scope(5)).
            if self.bounds.exceeded(before) is None:
                raise
            status = 1
        if status != 0:
            exceeded = self.bounds.exceeded(before)
            if exceeded:
                raise UserError(
                    f"Stage {step.stage!r} was ended: {exceeded}.",
                    f"Set jobs to a smaller number, or build on a machine with more memory. Log: {self.log}",
                )
            with open(self.log, encoding="utf-8", errors="replace") as stream:
                stream.seek(at)
                raise diagnosis.explain(step.stage, stream.read()).as_user_error(self.log)
        product = next((one for one in self._plan.products if step.stage == f"image {one.image}"), None)
        if product is not None:
            self._keep(product)
        self._tree.finish(step)
        seconds = time.monotonic() - began
        self._durations.record(step.stage, seconds)
        self._status.values["seconds"][step.stage] = round(seconds, 1)

    def _run_command(self, step: Step) -> int:
        """Run a command in a process group of its own, all of which ends with the build."""
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(f"\n=== {step.stage}: {' '.join(step.command)}\n")
            log.flush()
            process = subprocess.Popen(
                bounds.first_to_go([*self._sealing, *step.command]),
                cwd=self._tree.path,
                env={**self._plan.environment, **step.environment, "HOME": self._work},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._status.report(group=process.pid)
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(timeout=build_status.INTERVAL)
                self._check()
        finally:
            _end_group(process)
            self._status.report(group=None)

    def _keep(self, product: Product) -> None:
        """Copy a finished image out of the tree, whose other images may need the same place."""
        path = os.path.join(self._tree.path, product.path)
        if not os.path.isfile(path) or os.path.getsize(path) == 0:
            raise UserError(
                f"Stage 'image {product.image}' succeeded without making {product.path}.", f"See the log {self.log}."
            )
        target = kept.directory(self._work, product)
        os.makedirs(target, exist_ok=True)
        with open(path, "rb") as source, files.replacing(os.path.join(target, product.file)) as stream:
            shutil.copyfileobj(source, stream)
        self._status.values["images"].append(product.image)


def start(job: Job, user: str) -> None:
    """Start the job apart from this process; it runs as long as somebody watches."""
    account.as_user(user, lambda: build_status.prepare(job.directory))
    child = os.fork()
    if child != 0:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.closerange(3, 1024)
        os.chdir("/")
        job.bounds = bounds.enter()
        account.become(user)
        bounds.limit()
        sys.path_importer_cache.clear()
        job.run()
    finally:
        os._exit(0)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End whatever is left of a command: first politely, then not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            break
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
            if number == signal.SIGTERM:
                time.sleep(build_status.INTERVAL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)


def sources_from(given: Sequence[Mapping[str, Any]]) -> List[LocalSource]:
    """Return the sources as stubdom_source returned them.

    :raises UserError: one of them did not come from there.
    """
    for source in given:
        if not re.match(r"[A-Za-z0-9][A-Za-z0-9._+~-]*\Z", source["name"]):
            raise UserError(
                f"{source['name']!r} is no name of a source.",
                "Set sources to the return value sources of stubdom_source.",
            )
        if source["kind"] == "git" and not re.match(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z", source["digest"]):
            raise UserError(
                f"The digest {source['digest']!r} of {source['name']} is no commit.",
                "Set sources to the return value sources of stubdom_source.",
            )
    return [
        LocalSource(
            Source(
                name=source["name"],
                kind=source["kind"],
                origin=source["origin"],
                revision=source.get("revision"),
                upstream=source.get("upstream") or "",
            ),
            path=source["path"],
            digest=source["digest"],
        )
        for source in given
    ]
