# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: carries out the plans of build_plan.py in a work directory, as a job apart from
# the module that started it, which others can watch and stop.
#
# The work directory:
#   sources/ git/ packages/   what fetch.py brought
#   trees/TREE/               Xen's tree with everything in place; state.json says how far it got
#   images/IDENTITY/          a finished image and its manifest; it is there whole or not at all
#   jobs/TREE/                status.json, heartbeat and log of the job
#   times.json                seconds of each stage the last time

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, TypeVar

from ansible_collections.xen.stubdom.plugins.module_utils._common import manifest as _manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images import build_plan, fetch
from ansible_collections.xen.stubdom.plugins.module_utils._images.build_plan import Input, Plan, Product, Step
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch import Found
from ansible_collections.xen.stubdom.plugins.module_utils._images.remedies import Edit
from ansible_collections.xen.stubdom.plugins.module_utils._images.sources import Need

Result = TypeVar("Result")

# A watcher that was not heard of for so long is taken to be gone, and the build stops.
SILENCE = 60.0
# How long one look at a build lasts whose stage does not change. Each costs the builder a start of Python, so they
# are few; two of them fit into SILENCE.
PATIENCE = 20.0
_GLANCE = 0.2


class Stopped(Exception):
    """The build was stopped from outside: the sentence says by what."""


# --- who builds ------------------------------------------------------------------------------------------------------


def builder(directory: str, user: Optional[str]) -> str:
    """Return the account that builds in *directory*.

    It is whoever runs the module, unless that is root: then the one that is asked for, or who owns the directory, or
    nobody.

    :raises UserError: there is no such account, or it is root.
    """
    if os.geteuid() != 0:
        mine = pwd.getpwuid(os.geteuid()).pw_name
        if user not in (None, mine):
            raise UserError(f"{mine} cannot build as {user}.", "Become root, or leave the user away.")
        return mine
    if user is None and os.path.isdir(directory) and os.stat(directory).st_uid != 0:
        with contextlib.suppress(KeyError):
            user = pwd.getpwuid(os.stat(directory).st_uid).pw_name
    user = user or "nobody"
    try:
        account = pwd.getpwnam(user)
    except KeyError as error:
        raise UserError(f"There is no account {user!r} on the builder.", "Create it, or name another one.") from error
    if account.pw_uid == 0:
        raise UserError("Xen's Makefiles are not run as root.", "Name an unprivileged account.")
    return user


def prepare(directory: str, user: str) -> None:
    """Make the work directory, owned by the account that builds in it."""
    if os.path.isdir(directory):
        if os.geteuid() == 0 and os.stat(directory).st_uid != pwd.getpwnam(user).pw_uid:
            owner = os.stat(directory).st_uid
            raise UserError(
                f"{directory} belongs to the account with number {owner}, not to {user}.",
                "Choose another work directory, or remove this one.",
            )
        return
    os.makedirs(directory, mode=0o755)
    if os.geteuid() == 0:
        account = pwd.getpwnam(user)
        os.chown(directory, account.pw_uid, account.pw_gid)


def become(user: str) -> None:
    """Give up root for good."""
    if os.geteuid() == 0:
        account = pwd.getpwnam(user)
        os.initgroups(user, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    os.umask(0o022)


def as_user(user: str, work: Callable[[], Result]) -> Result:
    """Run *work* in a child that is *user*, and return its result, which JSON can carry.

    :raises UserError: what it refused.
    """
    if os.geteuid() != 0:
        return work()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w", encoding="utf-8") as stream:
            try:
                become(user)
                json.dump({"result": work()}, stream)
            except UserError as error:
                json.dump({"error": [error.what, error.remedy]}, stream)
            except BaseException:
                json.dump({"error": [traceback.format_exc(), "This is a bug of the collection."]}, stream)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as stream:
        answer = json.loads(stream.read() or "{}")
    os.waitpid(child, 0)
    if "error" in answer:
        raise UserError(answer["error"][0], answer["error"][1])
    return answer["result"]  # type: ignore[no-any-return]


# --- what is there ---------------------------------------------------------------------------------------------------


def compiler(run: Callable[[List[str]], str]) -> Any:
    """Return gcc's major version and how it names itself."""
    line = run(["gcc", "--version"]).splitlines()[0]
    match = re.search(r"(\d+)\.\d+(?:\.\d+)?\s*$", line) or re.search(r"(\d+)\.\d+", line)
    return (int(match[1]) if match else 0, line.strip())


def image_directory(work: str, product: Product) -> str:
    return os.path.join(work, "images", product.identity[:16])


def finished(work: str, product: Product) -> Optional[Dict[str, Any]]:
    """Return the manifest of an image that is built already."""
    manifest = read_json(os.path.join(image_directory(work, product), "manifest.json"))
    if manifest is None or manifest.get("identity") != product.identity:
        return None
    return manifest


def read_json(path: str) -> Optional[Dict[str, Any]]:
    with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as stream:
        content = json.load(stream)
        return content if isinstance(content, dict) else None
    return None


def write_json(path: str, content: Mapping[str, Any]) -> None:
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=1)
        stream.write("\n")
    os.replace(temporary, path)


# --- the job ---------------------------------------------------------------------------------------------------------


class Job:
    """One build: what it works on, and what it tells those who watch."""

    def __init__(self, work: str, given: Input, plan: Plan, sources: Sequence[Found], timeout: float) -> None:
        self.work = work
        self.given = given
        self.plan = plan
        self.sources = {found.need.name: found for found in sources}
        self.deadline = time.monotonic() + timeout
        self.timeout = timeout
        self.tree = os.path.join(work, "trees", plan.tree[:16])
        self.directory = job_directory(work, plan)
        self.log = os.path.join(self.directory, "log")
        self.status: Dict[str, Any] = {}
        self.watched = True

    def run(self) -> Dict[str, Any]:
        """Carry the plan out; what becomes of it stands in status.json at the end, whatever happens."""
        self._tell(
            state="running",
            pid=os.getpid(),
            log=self.log,
            started=time.time(),
            stages=self._ahead(),
            stage="sources",
            number=1,
            seconds={},
            estimate=build_plan.estimate(self._ahead(), self._times()),
        )
        try:
            with self._alone():
                self._unpack()
                for number, step in enumerate(self._needed(), start=2):
                    self._stage(number, step)
            self._tell(state="done", images=[product.image for product in self.plan.products])
        except UserError as error:
            self._tell(state="failed", message=str(error))
        except Stopped as stopped:
            self._tell(state="stopped", message=str(stopped))
        except BaseException:
            self._tell(state="failed", message=traceback.format_exc())
        return self.status

    def _tell(self, **news: Any) -> None:
        self.status.update(news, told=time.time())
        write_json(os.path.join(self.directory, "status.json"), self.status)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the tree; another build of it is waited for."""
        descriptor = os.open(os.path.join(self.directory, "lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    self._look_up()
                    time.sleep(_GLANCE)
            yield
        finally:
            os.close(descriptor)

    def _look_up(self) -> None:
        """:raises Stopped: nobody watches any more, somebody said stop, or the time is up."""
        if os.path.exists(os.path.join(self.directory, "stop")):
            raise Stopped("The build was stopped.")
        if self.watched and fetch.age(os.path.join(self.directory, "heartbeat")) > SILENCE:
            raise Stopped(f"Nobody watched the build for {SILENCE:.0f} seconds, so it was stopped.")
        if time.monotonic() > self.deadline:
            raise UserError(
                f"The build was not done after {self.timeout:.0f} seconds, in stage {self.status.get('stage')!r}.",
                f"Give it more time, or more jobs; it goes on where it stopped. Log: {self.log}",
            )

    # --- sources ---------------------------------------------------------------------------------------------------

    def _state(self) -> Dict[str, Any]:
        """What the tree remembers.

        That is commands by stage that are done, digests of sources that are in place, and stages that were begun and
        not done, whatever else was built since.
        """
        nothing: Dict[str, Any] = {"done": {}, "placed": {}, "begun": []}
        return {**nothing, **(read_json(os.path.join(self.tree, ".xen-stubdom.json")) or {})}

    def _save(self, state: Mapping[str, Any]) -> None:
        write_json(os.path.join(self.tree, ".xen-stubdom.json"), state)

    def _unpack(self) -> None:
        """Put every source in its place in the tree, and our edits and files on top."""
        began = time.monotonic()
        os.makedirs(os.path.dirname(self.tree), exist_ok=True)
        if not os.path.isfile(os.path.join(self.tree, ".xen-stubdom.json")):
            fetch.unpack(self.sources["xen"], self.tree)
            if not os.path.isfile(os.path.join(self.tree, "stubdom", "Makefile")):
                raise UserError(
                    f"{self.sources['xen'].path} is no source of Xen: it has no stubdom/Makefile.",
                    "Give the top of Xen's source tree.",
                )
            self._save(self._state())
        state = self._state()
        for found in self.sources.values():
            self._place(found, state)
        self._save(state)
        for kernel in self.given.kernels:
            target = os.path.join(self.tree, "stubdom", kernel.image)
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(kernel.directory, target, symlinks=True)
            config = os.path.join(target, "minios.cfg")
            if not os.path.exists(config):
                _write(config, "")
        for path, content in self.plan.files.items():
            _write(os.path.join(self.tree, path), content)
        for path in dict.fromkeys(edit.path for edit in self.plan.edits):
            _edit(os.path.join(self.tree, path), [edit for edit in self.plan.edits if edit.path == path])
        self._took("sources", time.monotonic() - began)

    def _place(self, found: Found, state: Dict[str, Any]) -> None:
        name = found.need.name
        if name == "xen" or state["placed"].get(name) == found.digest:
            return
        places = {"mini-os": "extras/mini-os", "qemu-xen-traditional": "tools/qemu-xen-traditional"}
        if name in places:
            target = os.path.join(self.tree, places[name])
            os.makedirs(os.path.dirname(target), exist_ok=True)
            fetch.unpack(found, target)
        else:
            target = os.path.join(self.tree, "stubdom", name)
            shutil.copyfile(found.path, f"{target}.new")
            os.replace(f"{target}.new", target)
        state["placed"][name] = found.digest

    # --- stages ----------------------------------------------------------------------------------------------------

    def _needed(self) -> List[Step]:
        """Steps that are not done yet, or whose command is another now."""
        done = self._state()["done"]
        made = {f"image {product.image}" for product in self.plan.products if finished(self.work, product)}
        return [
            step
            for step in self.plan.steps
            if step.stage not in made
            and (step.stage.startswith("image ") or done.get(step.stage) != _without_jobs(step.command))
        ]

    def _ahead(self) -> List[str]:
        return ["sources", *(step.stage for step in self._needed())]

    def _stage(self, number: int, step: Step) -> None:
        self._tell(stage=step.stage, number=number, stage_started=time.time())
        state = self._state()
        if step.stage in state["begun"]:
            for pattern in step.stale:
                _remove(os.path.join(self.tree, pattern))
        state["begun"] = sorted({*state["begun"], step.stage})
        state["done"].pop(step.stage, None)
        self._save(state)
        began = time.monotonic()
        at = os.path.getsize(self.log) if os.path.exists(self.log) else 0
        status = self._command(step)
        if status != 0:
            with open(self.log, encoding="utf-8", errors="replace") as stream:
                stream.seek(at)
                text = stream.read()
            what, _newline, remedy = build_plan.sentence(build_plan.explain(step.stage, text), self.log).partition("\n")
            raise UserError(what, remedy)
        product = next((one for one in self.plan.products if step.stage == f"image {one.image}"), None)
        if product is not None:
            self._keep(product)
        state = self._state()
        state["begun"] = [stage for stage in state["begun"] if stage != step.stage]
        state["done"][step.stage] = _without_jobs(step.command)
        self._save(state)
        self._took(step.stage, time.monotonic() - began)

    def _command(self, step: Step) -> int:
        """Run a command in a process group of its own, all of which ends with the build."""
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(f"\n=== {step.stage}: {' '.join(step.command)}\n")
            log.flush()
            process = subprocess.Popen(
                step.command,
                cwd=self.tree,
                env={**self.plan.environment, **step.environment, "HOME": self.work},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._tell(group=process.pid)
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(timeout=_GLANCE)
                self._look_up()
        finally:
            _end_group(process)
            self._tell(group=None)

    def _keep(self, product: Product) -> None:
        """Take a finished image out of the tree, with its manifest, all or nothing."""
        path = os.path.join(self.tree, product.path)
        if not os.path.isfile(path) or os.path.getsize(path) == 0:
            raise UserError(
                f"Stage 'image {product.image}' ended well and made no {product.path}.",
                f"Look into the log {self.log}.",
            )
        target = image_directory(self.work, product)
        temporary = f"{target}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        os.makedirs(temporary)
        shutil.copyfile(path, os.path.join(temporary, product.file))
        digest = fetch.file_digest(path)
        manifest = build_plan.manifest(self.given, self.plan, product, sha256=digest, built=_manifest.now())
        write_json(os.path.join(temporary, "manifest.json"), manifest)
        shutil.rmtree(target, ignore_errors=True)
        os.rename(temporary, target)

    # --- times -----------------------------------------------------------------------------------------------------

    def _times(self) -> Dict[str, float]:
        return dict((read_json(os.path.join(self.work, "times.json")) or {}).get(self.given.row.name, {}))

    def _took(self, stage: str, seconds: float) -> None:
        path = os.path.join(self.work, "times.json")
        times = read_json(path) or {}
        # Unpacking what is there already says nothing about the next time.
        if stage != "sources" or seconds > 1.0:
            times.setdefault(self.given.row.name, {})[stage] = round(seconds, 1)
            write_json(path, times)
        self.status["seconds"][stage] = round(seconds, 1)


def job_directory(work: str, plan: Plan) -> str:
    return os.path.join(work, "jobs", plan.tree[:16])


def start(job: Job, user: str) -> None:
    """Start the job apart from this process; it goes on as long as somebody watches."""
    as_user(user, lambda: _make_job(job.directory))
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
        become(user)
        sys.path_importer_cache.clear()
        job.run()
    finally:
        os._exit(0)


def _make_job(directory: str) -> None:
    os.makedirs(directory, exist_ok=True)
    for name in ("status.json", "stop"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))
    touch(directory)


def touch(directory: str) -> None:
    """Tell the job that somebody watches."""
    with open(os.path.join(directory, "heartbeat"), "a", encoding="utf-8"):
        os.utime(os.path.join(directory, "heartbeat"))


def watch(directory: str, *, seen: Sequence[Any] = (), patience: float = PATIENCE) -> Dict[str, Any]:
    """Return the job's status as soon as it is another than *seen* (state, stage), or after *patience* seconds.

    :raises UserError: the job is gone without a word.
    """
    touch(directory)
    until = time.monotonic() + patience
    while True:
        status = read_json(os.path.join(directory, "status.json"))
        if status is not None:
            # The watcher's clock may be another.
            status["told_at"] = time.time()
            if [status["state"], status["stage"]] != list(seen):
                return status
            if status["state"] == "running" and not alive(status["pid"]):
                raise UserError(
                    "The build ended without a word.", f"Look into its log {status['log']}, then run again."
                )
        if time.monotonic() > until:
            return status or {"state": "running", "stage": "start", "stages": [], "seconds": {}, "log": None}
        time.sleep(_GLANCE)


def stop(directory: str) -> None:
    """Tell the job to stop, and wait until it has."""
    if not os.path.isdir(directory):
        return
    with open(os.path.join(directory, "stop"), "w", encoding="utf-8"):
        pass
    until = time.monotonic() + 15
    while time.monotonic() < until:
        status = read_json(os.path.join(directory, "status.json"))
        if status is None or status["state"] != "running" or not alive(status["pid"]):
            return
        time.sleep(0.1)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return not os.path.exists("/proc/self/stat") and _takes_signals(pid)


def _takes_signals(pid: int) -> bool:
    """Whether a process is there, for a tree in which /proc is not mounted."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


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
                time.sleep(_GLANCE)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)


def _without_jobs(command: Sequence[str]) -> List[str]:
    return [word for word in command if not re.match(r"-j\d+$", word)]


def _write(path: str, content: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with contextlib.suppress(OSError), open(path, encoding="utf-8") as stream:
        if stream.read() == content:
            return
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(content)
    os.chmod(path, 0o755 if content.startswith("#!") else 0o644)


def _edit(path: str, edits: Sequence[Edit]) -> None:
    """Make all edits of one file. They begin with what upstream wrote, which is kept beside it, whatever an older
    version of this collection made of it."""
    if not os.path.isfile(path):
        return
    original = f"{path}.xen-stubdom-original"
    if not os.path.exists(original):
        shutil.copyfile(path, f"{original}.new")
        os.replace(f"{original}.new", original)
    with open(original, encoding="utf-8", errors="surrogateescape", newline="") as stream:
        text = stream.read()
    for edit in edits:
        text = re.sub(edit.pattern, edit.replacement, text)
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
        before = stream.read()
    if text != before:
        with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            stream.write(text)


def _remove(pattern: str) -> None:
    for path in glob.glob(pattern):
        path = path.rstrip("/")
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def found_from(sources: Sequence[Mapping[str, Any]]) -> List[Found]:
    """Return the sources as stubdom_source gave them."""
    return [
        Found(
            Need(
                name=source["name"],
                kind=source["kind"],
                origin=source["origin"],
                revision=source.get("revision"),
                upstream=source.get("upstream") or "",
            ),
            path=source["path"],
            digest=source["digest"],
        )
        for source in sources
    ]
