# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where files are kept between two calls, and how they are written: one lock, one temporary file that is renamed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def base_directory() -> Path:
    """Everything that is kept between two calls."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xen.stubdom"


def cache_directory() -> Path:
    """Images and saved states, by key."""
    return base_directory() / "lab"


def key_of(content: object) -> str:
    """A short name that differs whenever the content does."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def lock(path: Path, waiting: Callable[[], None] | None = None) -> int | None:
    """A descriptor that holds a lock on the file `path` until it is closed, in whatever process.

    While another process holds the lock: without `waiting` the result is None; otherwise `waiting` is called once,
    and then this waits.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if waiting is None:
            os.close(descriptor)
            return None
        waiting()
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


@contextmanager
def only_one(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Holds the lock file `path`; calls `waiting` first when another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = lock(path, waiting)
    assert descriptor is not None
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A stream to a temporary file, which replaces `path` at the end: a reader sees the old content or the new one."""
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replaces a file that is small enough for memory."""
    with replacing(path, mode) as stream:
        stream.write(content)


def remove(tree: Path) -> None:
    """Removes a file or a directory, if there is one."""
    if tree.is_dir():
        shutil.rmtree(tree)
    else:
        tree.unlink(missing_ok=True)


@contextmanager
def scratch(name: str, parent: Path) -> Iterator[Path]:
    """A directory for this process alone, which is removed at the end; so are those that killed processes have left."""
    for left in parent.glob(f"{name}-*-*"):
        owner = left.name[len(name) + 1 :].partition("-")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists() and _is_our_directory(left):
            # Two that begin at once remove the same.
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{name}-{os.getpid()}-", dir=parent) as directory:
        yield Path(directory)


def _is_our_directory(path: Path) -> bool:
    """Whether it is no link, and nobody else's."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def made_once(
    target: Path, waiting: Callable[[], None], make: Callable[[Path], None], remove: Callable[[Path], None] = remove
) -> Path:
    """`target`, a file or a directory: where it is missing, `make` makes it under a temporary name.

    One process makes it; others call `waiting` and wait. Nothing stays of an attempt that fails or is interrupted.
    """
    if target.exists():
        return target
    with only_one(target.with_name(target.name + ".lock"), waiting):
        if not target.exists():
            partial = target.with_name(target.name + ".partial")
            remove(partial)
            try:
                make(partial)
                partial.rename(target)
            except BaseException:
                remove(partial)
                raise
    return target
