# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts small faults into a copy of the core, one after another, and reports those that no unit test notices.

python tests/tools/mutation.py [--sample NUMBER] [--seed NUMBER] [WING or WING/FILE.py ...]

cosmic-ray names the faults. Each is tried by the tests that run its line, in a process forked from one that has already
imported what tests import, and one that they let through by all tests of the wing. That takes about two seconds for
each, and several thousand seconds for a wing; XEN_STUBDOM_MUTANTS is another way to give the size of a sample.
"""

from __future__ import annotations

import argparse
import difflib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

# What most tests import, so that a process that is forked for a fault has it.
import ansible.module_utils.basic  # noqa: F401
import coverage
import hypothesis  # noqa: F401
import pytest
from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec

REPOSITORY = Path(__file__).resolve().parents[2]
CORE = "plugins/module_utils"
PLACES = ("_common/files.py", "_boot", "_xen", "_guests")
MODULES = {
    "_common": ("xl_conf",),
    "_boot": ("boot_default", "boot_option", "boot_trial", "dom0_mem"),
    "_xen": ("guests", "journal", "xen_info", "xl_conf"),
    "_guests": ("guest_migrate", "guest_screenshot", "guests", "guests_info", "xl_inventory"),
}
# Tables that programs of ours have made of Xen's source, and would make again.
GENERATED = ("_xen/xl_keys.py", "_boot/option_table.py")
# Unions of types are written with it, and the caches of functions are decorators.
HARMLESS = ("core/RemoveDecorator", "core/ReplaceBinaryOperator_BitOr")
# In seconds: of processor time for each process, and by the clock, of which a busy machine needs more.
PROCESSOR_TIME, TIME = 60, 600
# Measuring which test runs which line takes longer than the tests do.
TIME_TO_MEASURE = 600


def tests(place: str) -> list[str]:
    """The tests that know a wing: its own, and those of the modules that stand on it."""
    wing = place.split("/")[0]
    found = [f"tests/unit/{CORE}/{wing}"]
    for module in MODULES.get(wing, ()):
        found += sorted(
            str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob(f"tests/unit/**/test_{module}*.py")
        )
    return found


def copy(target: Path) -> None:
    """The checkout as it is, but for what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    names = [name for name in listed.split("\0") if name and (REPOSITORY / name).exists()]
    archive = subprocess.run(
        ["tar", "--create", "--null", "--files-from=-"],
        cwd=REPOSITORY, input="\0".join(names).encode(), capture_output=True, check=True,
    ).stdout  # fmt: skip
    subprocess.run(["tar", "--extract"], cwd=target, input=archive, check=True)
    # Some tests ask git what there is.
    subprocess.run("git init -q && git add -A", shell=True, cwd=target, check=True)


class Chosen:
    """A plugin of pytest: nothing but these tests, the quickest first."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.seconds), key=lambda item: self.seconds[item.nodeid]
        )


class Measured:
    """A plugin of pytest: which test runs which line, and how long it takes."""

    def __init__(self, measurement: coverage.Coverage) -> None:
        self.measurement = measurement
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        start = time.monotonic()
        self.measurement.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            self.measurement.switch_context("")
            self.seconds[item.nodeid] = time.monotonic() - start


def run_pytest(paths: Iterable[str], *plugins: object) -> int:
    return int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *paths], plugins=list(plugins)))


def in_a_process_of_its_own(
    tree: Path, task: Callable[..., int], *arguments: Any, processor_time: int = PROCESSOR_TIME
) -> int | None:
    """The status of a task that runs in the copy; none if it had to be ended."""

    def run() -> None:
        os.setsid()
        os.chdir(tree)
        resource.setrlimit(resource.RLIMIT_CPU, (processor_time, processor_time))
        sys.path.insert(0, str(tree))
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        os._exit(task(*arguments))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(TIME)
    status = process.exitcode
    try:
        os.killpg(process.pid or 0, signal.SIGKILL)
    except ProcessLookupError:
        # It has left nothing behind.
        pass
    process.join()
    return status


def measure(tree: Path, place: str, answer: Path) -> int:
    """Run the tests of a place, and write which of them run each line of which file, and the seconds of each test."""
    measurement = coverage.Coverage(data_file=None, config_file=False, source=[str(tree / CORE)])
    measured = Measured(measurement)
    measurement.start()
    status = run_pytest(tests(place), measured)
    measurement.stop()
    data = measurement.get_data()
    lines = {
        str(Path(name).relative_to(tree)): data.contexts_by_lineno(name)
        for name in data.measured_files()
        if Path(name).is_relative_to(tree)
    }
    answer.write_text(json.dumps([lines, measured.seconds]))
    return status


class Trial:
    """A file or a wing, with the faults that can be put into it."""

    def __init__(self, tree: Path, place: str) -> None:
        self.tree, self.place = tree, place
        self._stamp = 1
        answer = tree.parent / "measured.json"
        status = in_a_process_of_its_own(tree, measure, tree, place, answer, processor_time=TIME_TO_MEASURE)
        if status != 0:
            raise SystemExit(f"The tests of {place} fail without a fault (status {status}).")
        lines, self._seconds = json.loads(answer.read_text())
        self._runners: dict[str, dict[int, set[str]]] = defaultdict(dict)
        for name, found in lines.items():
            self._runners[name] = {int(line): {test for test in names if test} for line, names in found.items()}

    def faults(self) -> list[MutationSpec]:
        path = self.tree / CORE / self.place
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        files = [file for file in files if not str(file).endswith(GENERATED)]
        database = self.tree.parent / "faults.sqlite"
        database.unlink(missing_ok=True)
        with use_db(str(database), WorkDB.Mode.create) as work:
            init(files, work, {})
            found = [item.mutations[0] for item in work.work_items]
        # In the same order whatever order the database has, so that a seed gives the same sample.
        found.sort(key=lambda fault: (str(fault.module_path), fault.operator_name, fault.occurrence))
        return [fault for fault in found if not fault.operator_name.startswith(HARMLESS) and not _no_behaviour(fault)]

    def survives(self, fault: MutationSpec) -> str | None:
        """The fault as a difference if no test notices it."""
        path = Path(fault.module_path)
        before = path.read_text()
        stamp = path.stat()
        after = mutate_code(before, get_operator(fault.operator_name)(**fault.operator_args), fault.occurrence)
        if after is None or after == before:
            return None
        name = str(path.relative_to(self.tree))
        path.write_text(after)
        # Python takes what it has compiled of a file by its time, in seconds, and its size.
        self._stamp += 1
        os.utime(path, (self._stamp, self._stamp))
        try:
            if self._noticed(name, fault.start_pos[0]):
                return None
        finally:
            path.write_text(before)
            os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        lines = difflib.unified_diff(before.splitlines(), after.splitlines(), name, name, lineterm="")
        return "\n".join([f"{name}:{fault.start_pos[0]}: {fault.operator_name}", *lines])

    def _noticed(self, name: str, line: int) -> bool:
        some = self._runners[name].get(line, set())
        if some:
            paths = sorted({test.partition("::")[0] for test in some})
            chosen = Chosen({test: self._seconds[test] for test in some})
            if in_a_process_of_its_own(self.tree, run_pytest, paths, chosen) != 0:
                return True
        # Also what runs only while something is imported, or in a process that a test starts.
        everything = Chosen(self._seconds)
        return in_a_process_of_its_own(self.tree, run_pytest, tests(self.place), everything) != 0


def _no_behaviour(fault: MutationSpec) -> bool:
    """Whether it is in a * before parameters that have to be named, or in what a dataclass does not allow."""
    line, column = fault.start_pos
    text: str = fault.module_path.read_text().splitlines()[line - 1]
    return text.startswith("*,", column) or text.startswith("@dataclass(")


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs="*", default=PLACES, metavar="PLACE", help="default: " + " ".join(PLACES))
    parser.add_argument("--sample", type=int, default=int(os.environ.get("XEN_STUBDOM_MUTANTS", "0")))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(words)
    os.environ["XEN_STUBDOM_CASES"] = "20"
    # The copy is nobody's but ours, and each fault would wait for the tests to be compiled.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # Hours are sometimes ended before: what was found by then is said.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="xen-stubdom-mutation-") as directory:
        tree, temporary = Path(directory, "tree"), Path(directory, "tmp")
        tree.mkdir()
        copy(tree)
        # What a test that was ended has left goes with it.
        os.environ["TMPDIR"], tempfile.tempdir = str(temporary), None
        for place in options.places:
            temporary.mkdir(exist_ok=True)
            trial = Trial(tree, place)
            faults = trial.faults()
            if options.sample:
                faults = random.Random(options.seed).sample(faults, min(options.sample, len(faults)))
            tried, survivors = 0, 0
            try:
                for fault in faults:
                    shown = trial.survives(fault)
                    shutil.rmtree(temporary, ignore_errors=True)
                    temporary.mkdir()
                    tried += 1
                    if shown:
                        survivors += 1
                        print(shown, flush=True)
            finally:
                print(
                    f"== {place}: {tried} of {len(faults)} tried, {tried - survivors} noticed, {survivors} to look at",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
