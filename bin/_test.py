# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests the collection, tier by tier, and stops at the first tier that fails. It installs what the tiers need.

unit     the core, the modules and the tools by themselves: seconds
faults   system calls that go wrong under the modules that write files, and hostile parameters; each 100th of them,
         all: bin/test --in faults python tests/faults/matrix.py
sanity   ansible-test sanity
lint     ruff, mypy, yamllint, ansible-lint, shellcheck, reuse
docs     the documentation, the changelog, the built collection
chroot   the scenarios molecule/* on Debian file systems without Xen
bench    the smallest case of bin/bench: whether it still measures, not what
xen      the scenarios molecule/xen_* on real Xen hosts in QEMU
mutation small faults in the core that a unit test should notice: hours, and only if it is named

Where the tier xen comes later, what its hosts start from is made beside the tiers that leave a processor free.

A tier may be followed by the names of scenarios or files: bin/test xen/xen_dom0_memory unit/tests/unit/lab
Any other command can be run in the environment of a tier: bin/test --in xen molecule test -s xen_dom0_memory
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import _machine
from _machine import REPOSITORY
from errors import LabError
from files import base_directory, key_of, scratch
from programs import end_as_by_ctrl_c, started

sys.path.insert(0, str(REPOSITORY / "tests" / "tools"))

import sanity

Environment = dict[str, str]


class Failure(Exception):
    """A tier has failed; the program that found it has printed why."""


def run(command: Sequence[str], environment: Environment, directory: Path = REPOSITORY) -> None:
    """Runs a program of a tier and shows its output."""
    print("$ " + " ".join(command), flush=True)
    if not sys.stdout.isatty():
        environment = {**environment, "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1"}
    with started(command, env=environment, cwd=directory, stdin=subprocess.DEVNULL) as process:
        status = process.wait()
    if status != 0:
        raise Failure(f"{command[0]} ended with status {status}.")


# ---- tiers ----------------------------------------------------------------------------------------------------------


def pytest_command(asked: Sequence[str]) -> list[str]:
    # One more than processors: some tests wait for a time limit, or for a program.
    workers = str(min(4, (os.cpu_count() or 1) + 1))
    return ["pytest", "-q", "-n", workers, "--dist", "worksteal", *(asked or ["tests/unit"])]


def unit(environment: Environment, asked: Sequence[str]) -> None:
    run(pytest_command(asked), {**environment, **kept_bytecode()})


def kept_bytecode() -> Environment:
    """Where pytest keeps what it compiles, also where Python is told to write nothing beside its source."""
    return {"XEN_STUBDOM_BYTECODE": str(base_directory() / "bytecode")}


def unit_with_coverage(environment: Environment, asked: Sequence[str]) -> None:
    """The unit tier, with the lines and branches of the plugins that it runs, also in processes that tests start."""
    with scratch("xen-stubdom-coverage", Path(tempfile.gettempdir())) as directory:
        # Builds run as an account of their own.
        os.chmod(directory, 0o1777)
        environment = {**environment, **kept_bytecode(), "COVERAGE_FILE": f"{directory}/data"}
        try:
            run(["coverage", "run", f"--source={REPOSITORY / 'plugins'}", "-m", *pytest_command(asked)], environment)
        finally:
            # Also where a test has failed, so that it is seen what the others run.
            run(["coverage", "combine", "--quiet"], environment)
            # A process that a test has killed leaves half a file, of which each further command would complain.
            for left in directory.glob("data.*"):
                left.unlink()
            # A part of the tests says nothing about the whole.
            run(["coverage", "report", *(["--fail-under=0"] if asked else [])], environment)


def check_sanity(environment: Environment, asked: Sequence[str]) -> None:
    # A tree for each checkout, so that several can be tested at once; the environments of ansible-test serve them all.
    tree = sanity.tree(REPOSITORY, base_directory() / "sanity" / key_of(str(REPOSITORY)))
    home = sanity.home(base_directory() / "sanity-home")
    tests = [word for name in asked for word in ("--test", name)]
    run(["ansible-test", "sanity", "--color", "no", *tests], sanity.environment(environment, home), tree)


def shell_programs(repository: Path) -> list[str]:
    """All files that git has and that a shell runs."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=True)

    def is_shell(path: Path) -> bool:
        with path.open("rb") as file:
            return path.suffix == ".sh" or file.readline().strip() in (b"#!/bin/sh", b"#!/bin/bash")

    return [name for name in listed.stdout.split("\0") if (repository / name).is_file() and is_shell(repository / name)]


def lint(environment: Environment, asked: Sequence[str]) -> None:
    collections = Path(environment["ANSIBLE_COLLECTIONS_PATH"])
    commands = {
        "ruff": ["ruff", "check", "."],
        "format": ["ruff", "format", "--check", "."],
        "mypy": [
            "mypy",
            "--scripts-are-modules",
            "bin",
            "lab",
            "lab/xenlab",
            "tests/tools",
            "tests/faults",
            "bench/played_hosts.py",
            "bench/played_xen.py",
            "bench/device_models.py",
        ],
        "yamllint": ["yamllint", "--strict", "."],
        "shellcheck": ["shellcheck", "--external-sources", *shell_programs(REPOSITORY)],
        "reuse": ["reuse", "lint", "--lines"],
        "ansible-lint": ["ansible-lint", "--offline", "--profile", "production", "--strict"],
    }
    for name in asked or commands:
        run(commands[name], environment)
        if name == "mypy":
            run(["mypy", "--config-file", str(REPOSITORY / "pyproject.toml"), PLUGINS], environment, collections)


def faults(environment: Environment, asked: Sequence[str]) -> None:
    run(["python", "tests/faults/matrix.py", *(asked or ["--every", "100"])], environment)


PLUGINS = "ansible_collections/xen/stubdom/plugins"


def docs(environment: Environment, asked: Sequence[str]) -> None:
    # What takes the most time is to wait for other programs: antsibull-docs, ansible-doc, ansible-galaxy, sphinx.
    run(pytest_command(asked or ["tests/docs"]), environment)


def chroot(environment: Environment, asked: Sequence[str]) -> None:
    command = ["python", "tests/tools/scenarios.py", "chroot", *asked]
    if os.geteuid() != 0:
        # chroot(2) is for root alone, who has a home directory and a cache of their own.
        kept = ("PATH", "LC_ALL", "ANSIBLE_COLLECTIONS_PATH", "GRUB_MENUS")
        words = [f"{name}={environment[name]}" for name in kept if name in environment]
        command = _machine.as_root(["env", "PYTHONDONTWRITEBYTECODE=1", *words, *command])
    run(command, environment)


def bench(environment: Environment, asked: Sequence[str]) -> None:
    # Only root may start played hosts.
    run(_machine.as_root(["bin/bench", "guests", "--guests", "1", "--repeat", "1", *asked]), environment)


def xen(environment: Environment, asked: Sequence[str]) -> None:
    run(["python", "tests/tools/scenarios.py", "xen", *asked], environment)


def mutation(environment: Environment, asked: Sequence[str]) -> None:
    run(["python", "tests/tools/mutation.py", *asked], environment)


@dataclass(frozen=True)
class Tier:
    """What it needs (keys of _machine.NEEDS), what it does, and whether it is run without being named."""

    needs: tuple[str, ...]
    run: Callable[[Environment, Sequence[str]], None]
    default: bool = True


TIERS = {
    "unit": Tier(("unit",), unit),
    "faults": Tier(("unit", "chroot"), faults),
    "sanity": Tier(("check",), check_sanity),
    "lint": Tier(("check",), lint),
    "docs": Tier(("check",), docs),
    "chroot": Tier(("molecule", "chroot"), chroot),
    "bench": Tier(("ansible", "chroot"), bench),
    "xen": Tier(("molecule", "lab", "efi"), xen),
    "mutation": Tier(("mutation",), mutation, default=False),
}


# Tiers whose programs mostly run one after the other.
BESIDE = ("sanity", "lint", "docs", "chroot")


def make_lab_ready() -> subprocess.Popen[bytes]:
    """Starts to make the images and saved states of the lab, which take minutes where the cache has none.

    What is not done when a host is to start is waited for there, and an error is met again there.
    """
    environment = _machine.prepare("bin/test", *TIERS["xen"].needs)
    log = base_directory() / "lab_states.log"
    print(f"bin/test: makes what hosts of the lab start from, beside other tiers; see {log}", flush=True)
    with log.open("wb") as output:
        # These tiers come first.
        command = ["nice", "-n", "5", "python", "tests/tools/lab_states.py"]
        return subprocess.Popen(
            command, env=environment, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )


# ---- the command ----------------------------------------------------------------------------------------------------


def plan(words: Sequence[str]) -> dict[str, list[str]]:
    """What is asked for: by tier, the things in it, none for all. An unknown tier is a ValueError."""
    result: dict[str, list[str]] = {}
    for word in words or [name for name, tier in TIERS.items() if tier.default]:
        tier, _, thing = word.partition("/")
        if tier not in TIERS:
            raise ValueError(f"There is no tier {tier}. There are: {', '.join(TIERS)}.")
        result.setdefault(tier, []).extend([thing] if thing else [])
    return result


def run_inside(words: Sequence[str]) -> int:
    """Runs a command in the environment of a tier, and returns its status. No tier or no command is a ValueError."""
    tier, *command = words or [""]
    if tier not in TIERS or not command:
        raise ValueError(f"Use --in TIER COMMAND, with one of the tiers {', '.join(TIERS)}.")
    try:
        environment = _machine.prepare("bin/test", *TIERS[tier].needs)
    except LabError as error:
        print(f"bin/test: {error}", file=sys.stderr)
        return 1
    with started(command, env=environment) as process:
        return process.wait()


def table(rows: Sequence[tuple[str, float, str]]) -> str:
    """The times, and a closing line in the manner of test runners."""
    lines = [f"{'TIER':8} {'SECONDS':>8}  RESULT"]
    lines += [f"{tier:8} {seconds:8.1f}  {result}" for tier, seconds, result in rows]
    lines += [f"{'all':8} {sum(seconds for _, seconds, _ in rows):8.1f}", ""]
    failed = sum(result == "failed" for _, _, result in rows)
    return "\n".join([*lines, f"{sum(result == 'passed' for _, _, result in rows)} passed, {failed} failed"])


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="bin/test", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tiers", nargs="*", metavar="TIER", help="which tiers, in this order (default: all)")
    parser.add_argument("--coverage", action="store_true", help="let unit measure and print what it runs of the code")
    parser.add_argument(
        "--in", dest="inside", nargs=argparse.REMAINDER, metavar="TIER COMMAND",
        help="run COMMAND in the environment of this tier, and nothing else",
    )  # fmt: skip
    # argparse takes the first -- for its own, and it is the command's.
    own = words.index("--in") if "--in" in words else len(words)
    options = parser.parse_args(words[:own])
    options.inside = words[own + 1 :] if own < len(words) else None
    os.chdir(REPOSITORY)
    end_as_by_ctrl_c()
    try:
        if options.inside is not None:
            return run_inside(options.inside)
        asked = plan(options.tiers)
    except ValueError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("bin/test: interrupted", file=sys.stderr, flush=True)
        return 130
    rows: list[tuple[str, float, str]] = []
    lab = None
    for name, things in asked.items():
        print(f"== {name}", flush=True)
        start = time.monotonic()
        result = "failed"
        try:
            if lab is None and name in BESIDE and "xen" in asked and "xen" not in {row[0] for row in rows}:
                lab = make_lab_ready()
            run_tier = unit_with_coverage if options.coverage and name == "unit" else TIERS[name].run
            run_tier(_machine.prepare("bin/test", *TIERS[name].needs), things)
            result = "passed"
        except (Failure, LabError) as error:
            print(f"bin/test: {name}: {error}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print(f"bin/test: {name}: interrupted", file=sys.stderr, flush=True)
            return 130
        finally:
            rows.append((name, time.monotonic() - start, result))
            if lab is not None and result == "failed":
                lab.terminate()
                lab.wait()
        if result == "failed":
            break
    rows += [(name, 0.0, "not run") for name in asked if name not in {row[0] for row in rows}]
    print("\n" + table(rows), flush=True)
    return int(any(result == "failed" for _, _, result in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
