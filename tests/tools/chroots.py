# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian file systems without Xen, made by mmdebstrap from this machine's own apt configuration, kept as archives."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from image import (
    LabError,
    Progress,
    base_directory,
    carried_apt_options,
    debian_sources,
    die_with_parent,
    key_of,
    machine_codename,
    machine_sources,
    only_one,
    tool,
)

# What Ansible needs, and the GRUB whose files and programs a host without Xen may have.
PACKAGES = ("python3", "python3-apt", "grub2-common", "grub-pc-bin")
EXCLUDED = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/doc/*")


def cache() -> Path:
    return base_directory() / "chroot"


def archive(release: str) -> Path:
    """Where the archive of a release is kept; the name changes with what is in it."""
    return cache() / f"{release}-{key_of([release, PACKAGES, EXCLUDED])}.tar"


def ensure(release: str, progress: Progress) -> Path:
    """The archive of a release; made first when the cache does not have it."""
    result = archive(release)
    with only_one(result.with_suffix(".lock"), lambda: progress.say(f"waiting for the {release} file system")):
        if not result.exists():
            with progress.step(f"making the {release} file system from Debian packages", f"chroot {release}"):
                _make(release, result)
    return result


def _make(release: str, result: Path) -> None:
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    sources = debian_sources(machine_sources(), machine_codename(), release)
    partial = result.with_suffix(".partial")
    done = subprocess.run(
        [
            tool("mmdebstrap"),
            *("--variant=minbase", "--mode=root", "--format=tar", f"--include={','.join(PACKAGES)}"),
            *(f"--aptopt={option}" for option in carried_apt_options(dump)),
            *(f"--dpkgopt=path-exclude={path}" for path in EXCLUDED),
            *(release, str(partial)),
            *(source.line() for source in sources),
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8"}, preexec_fn=die_with_parent,
    )  # fmt: skip
    if done.returncode != 0:
        partial.unlink(missing_ok=True)
        telling = [line for line in done.stdout.splitlines() if line.startswith("E:")] or done.stdout.splitlines()
        raise LabError(f"The {release} file system could not be made.", f"mmdebstrap said: {' / '.join(telling[-3:])}")
    partial.rename(result)


def remove_leftovers() -> None:
    """Removes the trees of runs that were killed; a tree is named after its process."""
    for tree in cache().glob("run-*-*"):
        if not Path("/proc", tree.name.split("-")[1]).exists():
            shutil.rmtree(tree)


@contextmanager
def unpacked(releases: Sequence[str]) -> Iterator[dict[str, Path]]:
    """A fresh tree for each release."""
    progress = Progress(cache() / "durations.json")
    archives = {release: ensure(release, progress) for release in releases}
    remove_leftovers()
    run = Path(tempfile.mkdtemp(prefix=f"run-{os.getpid()}-", dir=cache()))
    try:
        trees = {release: run / release for release in releases}
        for release, tree in trees.items():
            tree.mkdir(parents=True)
            subprocess.run(
                [
                    tool("tar"),
                    "--extract",
                    "--numeric-owner",
                    "--file",
                    str(archives[release]),
                    "--directory",
                    str(tree),
                ],
                check=True,
            )
        yield trees
    finally:
        shutil.rmtree(run, ignore_errors=True)
