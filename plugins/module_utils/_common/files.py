# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the only code that writes files on a host.
# All changes of one call are made under one lock, and either all of them or none are left behind.

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from typing import BinaryIO, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

# Larger or undecodable contents are shown in a diff by size and checksum only.
_SHOWN_IN_DIFF = 1 << 20

# Not /tmp, which may be in memory.
SCRATCH_DIRECTORY = "/var/tmp"
_LOCK_INTERVAL = 0.1  # seconds
LOCK_DIRECTORIES = ("/run/lock", "/run", "/var/lock", "/tmp")


@dataclass(frozen=True)
class Change:
    """What one file holds now and what it is to hold.

    :param path: absolute path; a symbolic link is followed, its target is what changes.
    :param before: content that was read, or None if there was no such file.
    :param after: content to put there, or None to remove the file.
    :param mode: permission bits of a file that does not exist yet; an existing one keeps its own.
    """

    path: str
    before: Optional[bytes]
    after: Optional[bytes]
    mode: int = 0o644

    @property
    def needed(self) -> bool:
        return self.before != self.after


def read(path: str) -> Optional[bytes]:
    """Return a file's content, None if there is no such file.

    :raises UserError: the path exists and cannot be read as a file.
    """
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(
            f"Cannot read {path}: {error.strerror}.", "Make it a regular file that the remote user may read."
        ) from error


@contextlib.contextmanager
def locked(
    path: str, *, timeout: float, busy: UserError, meanwhile: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Hold the lock file *path*, which is made where it is missing and stays.

    :param timeout: seconds to wait for whoever holds it; 0 does not wait.
    :param busy: what to raise when they are over.
    :param meanwhile: is called at every look while waiting; what it raises ends the wait.
    :raises UserError: *busy*, or the file cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise UserError(
            f"Cannot open the lock file {path}: {error.strerror}.",
            "Remove what stands there, or correct the permissions of its directory, then run again.",
        ) from error
    try:
        deadline = time.monotonic() + timeout
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise busy
            meanwhile()
            time.sleep(_LOCK_INTERVAL)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True


@contextlib.contextmanager
def lock(name: str = "xen.stubdom", *, timeout: float = 60.0) -> Iterator[None]:
    """Hold the host-wide lock of this collection.

    :param name: which lock.
    :param timeout: seconds to wait for another run to release it.
    :raises UserError: another process held it all that time.
    """
    usable = (path for path in LOCK_DIRECTORIES if os.path.isdir(path) and os.access(path, os.W_OK))
    path = os.path.join(next(usable, LOCK_DIRECTORIES[-1]), f"{name}.lock")
    busy = UserError(
        f"Another run has held {path} for {timeout:.0f} seconds.",
        "Wait for it to end, or find it with `fuser`, then run again.",
    )
    with locked(path, timeout=timeout, busy=busy):
        yield


@contextlib.contextmanager
def replacing(path: str, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Give a stream whose content becomes the file *path* in one step, if the block ends without an exception.

    Until then *path* is as it was, and after an exception nothing else is left behind.

    :param path: the file; a symbolic link itself is replaced.
    :param mode: permission bits of the file.
    """
    with _file_beside(path) as stream:
        yield stream
        _flush(stream)
        os.fchmod(stream.fileno(), mode)
        os.replace(stream.name, path)
        _sync_directory(os.path.dirname(path) or ".")


def difference(changes: Sequence[Change]) -> List[Dict[str, str]]:
    """Show the changes in the form of Ansible's diff mode."""
    return [
        {
            "before_header": change.path if change.before is not None else f"{change.path} (absent)",
            "after_header": change.path if change.after is not None else f"{change.path} (absent)",
            "before": _shown(change.before),
            "after": _shown(change.after),
        }
        for change in changes
        if change.needed
    ]


def apply(changes: Sequence[Change], *, backup: bool = False) -> Dict[str, str]:
    """Make all the changes, or none of them.

    New contents are written beside their targets and flushed first, so that a full disk is met before anything is
    replaced; a failure while they are renamed into place puts the old contents back. Directories that a new file needs
    are made.

    :param backup: keep a copy of each file that is replaced or removed.
    :return: path of the copy by path of the file, empty without *backup*.
    :raises UserError: a file is not as it was when it was read, or cannot be written.
    """
    wanted = [change for change in changes if change.needed]
    backups: Dict[str, str] = {}
    if not wanted:
        return backups
    with lock(), contextlib.ExitStack() as leftovers:
        undo = contextlib.ExitStack()
        try:
            staged = [(change, *_stage(change, leftovers)) for change in wanted]
            for change, target, temporary in staged:
                if backup and change.before is not None:
                    backups[change.path] = _keep_copy(target)
                _replace(target, temporary, undo, leftovers)
        except OSError as error:
            undo.close()
            raise UserError(
                f"Cannot write {error.filename or wanted[0].path}: {error.strerror}.",
                "Everything was left as it was; make room or correct the permissions, then run again.",
            ) from error
        except BaseException:
            undo.close()
            raise
    return backups


def link(path: str, target: Optional[str]) -> None:
    """Make *path* a symbolic link to *target*, or remove the link (None).

    :raises UserError: it cannot be done, or there is something there that is no link.
    """
    if os.path.lexists(path) and not os.path.islink(path):
        raise UserError(f"{path} is no symbolic link.", "Move it away, then run again.")
    # With a dot, as xendomains starts every other entry of its directory.
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.new")
    try:
        if target is None:
            _unlink_if_there(path)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(target, temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"Cannot make the link {path}: {error.strerror}.", "Correct the permissions of its directory."
        ) from error
    finally:
        _unlink_if_there(temporary)


@contextlib.contextmanager
def scratch(needed: int) -> Iterator[str]:
    """Make a directory for files of a moment; it is gone afterwards, whatever happens.

    :param needed: bytes that are going to be written there.
    :raises UserError: there is no room, before or while it is written to.
    """
    directory = SCRATCH_DIRECTORY
    require_room(directory, needed)
    try:
        with tempfile.TemporaryDirectory(prefix="xen.stubdom.", dir=directory) as path:
            yield path
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise UserError(f"{directory} became full.", "Make room there, then run again; nothing was changed.") from error


def require_room(directory: str, needed: int) -> None:
    """:raises UserError: the file system of *directory* has less than *needed* bytes left."""
    status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise UserError(
            f"{directory} has {free >> 20} MiB free, and {(needed >> 20) + 1} MiB are needed.",
            "Make room there, then run again; nothing was changed.",
        )


def put(path: str, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file of a moment, with its directories."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as stream:
        stream.write(content)
    os.chmod(path, mode)


def reverse(changes: Sequence[Change]) -> List[Change]:
    """Return the changes that take *changes* back."""
    return [Change(path=c.path, before=c.after, after=c.before, mode=c.mode) for c in reversed(changes) if c.needed]


def remove_if_empty(directory: str) -> None:
    """Remove a directory that nothing is in any more."""
    with contextlib.suppress(OSError):
        os.rmdir(directory)


def sha256(content: bytes) -> str:
    """Return the hexadecimal SHA-256 of *content*."""
    return hashlib.sha256(content).hexdigest()


def _shown(content: Optional[bytes]) -> str:
    if content is None:
        return ""
    if len(content) <= _SHOWN_IN_DIFF and b"\0" not in content:
        with contextlib.suppress(UnicodeDecodeError):
            return content.decode("utf-8")
    return f"{len(content)} bytes, sha256 {sha256(content)}\n"


def _stage(change: Change, leftovers: contextlib.ExitStack) -> Tuple[str, Optional[str]]:
    """Write the new content beside its target, with the attributes it will have there.

    :return: the target behind any symbolic link, and the path of the new content, None for a removal.
    """
    target = os.path.realpath(change.path)
    if read(target) != change.before:
        raise UserError(
            f"{change.path} was changed by somebody else while this was running.",
            "Nothing was written; run again to work on its new content.",
        )
    if change.after is None:
        return target, None
    _make_directory(os.path.dirname(target), leftovers)
    stream = leftovers.enter_context(_file_beside(target))
    stream.write(change.after)
    _flush(stream)
    if change.before is None:
        os.chmod(stream.name, change.mode)
    else:
        old = os.stat(target)
        os.chown(stream.name, old.st_uid, old.st_gid)
        shutil.copystat(target, stream.name)
        os.utime(stream.name)
    return target, stream.name


@contextlib.contextmanager
def _file_beside(path: str) -> Iterator[BinaryIO]:
    """Give a new file in the directory of *path*, which only we can read; it is removed if it was not renamed."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=os.path.dirname(path) or ".")
    try:
        # By its name, so that the stream knows it.
        with open(temporary, "wb", opener=lambda _path, _flags: descriptor) as stream:
            yield stream
    finally:
        _unlink_if_there(temporary)


def _flush(stream: BinaryIO) -> None:
    """Have the content on the disk, so that a rename never shows a file that is empty after a power failure."""
    stream.flush()
    os.fsync(stream.fileno())


def _make_directory(path: str, leftovers: contextlib.ExitStack) -> None:
    """Make a directory and those above it; what stays empty is removed at the end."""
    if not os.path.isdir(path):
        _make_directory(os.path.dirname(path), leftovers)
        os.mkdir(path, 0o755)
        leftovers.callback(remove_if_empty, path)


def _replace(
    target: str, temporary: Optional[str], undo: contextlib.ExitStack, leftovers: contextlib.ExitStack
) -> None:
    """Put *temporary* in the place of *target*; the old file stays at hand for *undo* until all is done."""
    directory, name = os.path.split(target)
    if os.path.exists(target):
        aside = os.path.join(directory, f".{name}.{os.getpid()}.old")
        leftovers.callback(_unlink_if_there, aside)
        try:
            os.link(target, aside)
        except OSError:
            # The EFI system partition is FAT, which has no hard links.
            shutil.copy2(target, aside)
        undo.callback(os.replace, aside, target)
    else:
        undo.callback(_unlink_if_there, target)
    if temporary is None:
        os.unlink(target)
    else:
        os.replace(temporary, target)
    _sync_directory(directory)


def _unlink_if_there(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _keep_copy(target: str) -> str:
    # The form of Ansible's own backup_local: path, process, date, time.
    copy = f"{target}.{os.getpid()}.{time.strftime('%Y-%m-%d@%H:%M:%S~')}"
    shutil.copy2(target, copy)
    return copy


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
