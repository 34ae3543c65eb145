# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts small faults into a copy of the core, one after another, and reports those that no unit test notices.

python tests/tools/mutation.py [--sample NUMBER] [--seed NUMBER] [WING or WING/FILE.py ...]

Without a sample it takes hours: each fault costs one run of the tests of its wing.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkItem, WorkResult

REPOSITORY = Path(__file__).resolve().parents[2]
CORE = "plugins/module_utils"
PLACES = ("_common/files.py", "_boot", "_xen", "_guests")
MODULES = {
    "_common": ("xl_conf",),
    "_boot": ("boot_default", "boot_option", "boot_trial", "dom0_mem"),
    "_xen": ("guest", "xen_info", "xl_conf"),
    "_guests": ("guest", "guest_config"),
}
CONFIGURATION = """\
[cosmic-ray]
module-path = "{core}/{place}"
timeout = 300.0
excluded-modules = []
test-command = "{command}"

[cosmic-ray.distributor]
name = "local"
"""
# Unions of types are written with it, and the caches of functions are decorators.
HARMLESS = ("core/RemoveDecorator", "core/ReplaceBinaryOperator_BitOr")


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
    subprocess.run(
        ["tar", "--create", "--null", "--files-from=-", "--file", str(target / "tree.tar")],
        cwd=REPOSITORY, input="\0".join(names), text=True, check=True,
    )  # fmt: skip
    subprocess.run(["tar", "--extract", "--file", str(target / "tree.tar")], cwd=target, check=True)
    # Some tests ask git what there is.
    subprocess.run("git init -q && git add -A", shell=True, cwd=target, check=True)


def choose(database: WorkDB, sample: int, seed: int) -> None:
    """Mark all faults but a sample as done."""
    items = [item for item in database.work_items if not item.mutations[0].operator_name.startswith(HARMLESS)]
    # The same sample for the same seed, whatever order the database has.
    items.sort(key=lambda item: [str(mutation) for mutation in item.mutations])
    chosen = random.Random(seed).sample(items, min(sample or len(items), len(items)))
    kept = {item.job_id for item in chosen}
    skipped = WorkResult(worker_outcome=WorkerOutcome.SKIPPED)
    for item in database.work_items:
        if item.job_id not in kept:
            database.set_result(item.job_id, skipped)


def shown(item: WorkItem, result: WorkResult) -> str:
    mutation = item.mutations[0]
    return f"{mutation.module_path}:{mutation.start_pos[0]}: {mutation.operator_name}\n{result.diff or ''}"


def mutate(tree: Path, place: str, sample: int, seed: int) -> tuple[int, list[str]]:
    """How many faults were tried in a file or wing, and those that no test noticed."""
    session, configuration = tree / "session.sqlite", tree / "mutation.toml"
    session.unlink(missing_ok=True)
    command = f"{sys.executable} -m pytest -q -x -p no:cacheprovider {' '.join(tests(place))}"
    configuration.write_text(CONFIGURATION.format(core=CORE, place=place, command=command))
    environment = {**os.environ, "XEN_STUBDOM_CASES": "20", "PYTHONDONTWRITEBYTECODE": "1"}
    program = str(Path(sys.executable).with_name("cosmic-ray"))

    def run(*words: str) -> None:
        subprocess.run([program, *words], cwd=tree, env=environment, check=True)

    run("baseline", configuration.name)
    run("init", configuration.name, session.name)
    with use_db(str(session), WorkDB.Mode.open) as database:
        choose(database, sample, seed)
    run("exec", configuration.name, session.name)
    with use_db(str(session), WorkDB.Mode.open) as database:
        items = {item.job_id: item for item in database.work_items}
        tried = [(items[job], result) for job, result in database.results if result.test_outcome is not None]
    return len(tried), [shown(*one) for one in tried if one[1].test_outcome == TestOutcome.SURVIVED]


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs="*", default=PLACES, metavar="PLACE", help="default: " + " ".join(PLACES))
    parser.add_argument("--sample", type=int, default=int(os.environ.get("XEN_STUBDOM_MUTANTS", "0")))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(words)
    all_tried, all_survivors = 0, 0
    with tempfile.TemporaryDirectory(prefix="xen-stubdom-mutation-") as directory:
        copy(Path(directory))
        for place in options.places:
            tried, survivors = mutate(Path(directory), place, options.sample, options.seed)
            print(f"== {place}: {tried} tried, {tried - len(survivors)} killed")
            print("\n".join(survivors), flush=True)
            all_tried, all_survivors = all_tried + tried, all_survivors + len(survivors)
    print(f"{all_tried} tried, {all_tried - all_survivors} killed, {all_survivors} to look at")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
