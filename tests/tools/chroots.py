# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian file systems without Xen, made by mmdebstrap from this machine's own apt configuration, kept as archives."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import apt_sources
import files
from errors import LabError
from programs import die_with_parent, tool
from progress import Progress

# What Ansible needs, and the GRUB whose files and programs a host without Xen may have.
PACKAGES = ("python3", "python3-apt", "grub2-common", "grub-pc-bin")
EXCLUDED = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/doc/*")


def cache() -> Path:
    return files.base_directory() / "chroot"


def archive(release: str, packages: Sequence[str] = PACKAGES) -> Path:
    """Where the archive of a release is kept; the name changes with what is in it."""
    return cache() / f"{release}-{files.key_of([release, packages, EXCLUDED])}.tar"


def ensure(release: str, progress: Progress, packages: Sequence[str] = PACKAGES) -> Path:
    """The archive of a release; made first when the cache does not have it."""

    def make(partial: Path) -> None:
        with progress.step(f"making the {release} file system from Debian packages", f"chroot {release}"):
            _make(release, packages, partial)

    return files.made_once(
        archive(release, packages), lambda: progress.say(f"waiting for the {release} file system"), make
    )


def _make(release: str, packages: Sequence[str], result: Path) -> None:
    apt_options, sources = apt_sources.mmdebstrap_words(release)
    done = subprocess.run(
        [
            tool("mmdebstrap"),
            *("--variant=minbase", "--mode=root", "--format=tar", f"--include={','.join(packages)}"),
            *apt_options,
            *(f"--dpkgopt=path-exclude={path}" for path in EXCLUDED),
            *(release, str(result), *sources),
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8"}, preexec_fn=die_with_parent,
    )  # fmt: skip
    if done.returncode != 0:
        telling = [line for line in done.stdout.splitlines() if line.startswith("E:")] or done.stdout.splitlines()
        raise LabError(
            f"The {release} file system could not be made.", f"mmdebstrap printed: {' / '.join(telling[-3:])}"
        )


def unpack(releases: Sequence[str], key: str, owner: str) -> dict[str, Path]:
    """A fresh tree for each release. `key` names them for `remove`; without the process `owner` they are leftovers."""
    progress = Progress("chroots.py", cache() / "durations.json")
    archives = {release: ensure(release, progress) for release in releases}
    remove_leftovers()
    trees = {release: cache() / f"run-{owner or 0}-{key}" / release for release in releases}
    for release, tree in trees.items():
        tree.mkdir(parents=True)
        words = ["--extract", "--numeric-owner", "--file", str(archives[release]), "--directory", str(tree)]
        subprocess.run([tool("tar"), *words], check=True)
    return trees


def remove(key: str) -> None:
    """Removes the trees of this key."""
    _remove(lambda _owner, of: of == key)


def remove_leftovers() -> None:
    """Removes the trees whose owner has ended."""
    _remove(lambda owner, _key: owner != "0" and not Path("/proc", owner).exists())


def _remove(chosen: Callable[[str, str], bool]) -> None:
    # Scenarios begin at the same time, and each removes what an earlier run has left: the same trees. They become this
    # process's own first, so that nobody waits as long as a removal lasts.
    ours = []
    with files.only_one(cache() / "removal.lock", lambda: None):
        for run in sorted(cache().glob("run-*-*")):
            _, owner, key = run.name.split("-", 2)
            if chosen(owner, key):
                ours.append(run.rename(run.with_name(f"run-{os.getpid()}-gone-{owner}-{key}")))
    for run in ours:
        files.remove(run)
