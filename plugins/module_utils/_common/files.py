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
import resource
import shutil
import stat
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union, cast

from ansible_collections.xen.stubdom.plugins.module_utils._common import place, signals
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError, needs_root
from ansible_collections.xen.stubdom.plugins.module_utils._common.place import Place

# Larger or undecodable contents are shown in a diff by size and checksum only.
_SHOWN_IN_DIFF = 1 << 20

# Not /tmp, which may be in memory.
SCRATCH_DIRECTORY = "/var/tmp"
_LOCK_INTERVAL = 0.1  # seconds
# Where only root can make files; an ordinary user has a place of that kind, too. Never /run/lock or /tmp, where another
# account could hold or plant the file.
LOCK_DIRECTORIES = ("/run", "/var/run", "/run/user/{uid}")
# How long to wait for others; one that generates a boot menu can take a minute, and ten may do so at once. In seconds.
PATIENCE = 900.0
# Beside a file, while it is replaced. What a killed run leaves, the next one removes.
_NEW, _OLD = "xen-stubdom-new", "xen-stubdom-old"
# With those of other programs (grub-mkconfig: NAME.new).
_ALL = (_NEW, _OLD, f"generated.{_NEW}", f"generated.{_NEW}.new")
_LONGEST_NAME = 200
# Before the number of the process, in the name of a directory for files of a moment.
_SCRATCH = "xen.stubdom-"
# A new file, which no link that is there already can lead elsewhere.
_EXCLUSIVE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Permissions:
    """Permission bits, owner and group of a file; None where they are not asked for."""

    mode: Optional[int] = None
    owner: Optional[int] = None
    group: Optional[int] = None

    def satisfied_by(self, found: Permissions) -> bool:
        """Whether a file that has *found* is as asked for."""
        pairs = ((self.mode, found.mode), (self.owner, found.owner), (self.group, found.group))
        return all(wanted in (None, there) for wanted, there in pairs)

    def closed(self, found: Optional[Permissions]) -> Permissions:
        """The same, but for its owner only where no mode is asked for and the file is, or would be, open to others."""
        stays_closed = found is not None and found.mode is not None and not found.mode & 0o077
        return self if self.mode is not None or stays_closed else replace(self, mode=0o600)


# What leaves a file as it is.
UNCHANGED = Permissions()


@dataclass(frozen=True)
class Change:
    """What one file holds now and what it is to hold.

    :param path: absolute path; a symbolic link is followed, its target is what changes.
    :param before: content that was read, or None if there was no such file.
    :param after: content to put there, or None to remove the file.
    :param mode: permission bits of a file that does not exist yet; an existing one keeps its own.
    :param permissions: what its mode, owner and group are to be, whether or not it exists.
    :param found: what they are, None for no file.
    """

    path: str
    before: Optional[bytes]
    after: Optional[bytes]
    mode: int = 0o644
    permissions: Permissions = UNCHANGED
    found: Optional[Permissions] = None

    @property
    def needed(self) -> bool:
        return self.before != self.after or self.other_permissions

    @property
    def other_permissions(self) -> bool:
        """Whether a file that stays is to have another mode, owner or group."""
        return self.after is not None and self.found is not None and not self.permissions.satisfied_by(self.found)

    def read(self, stream: BinaryIO) -> bytes:
        """What `before` is of the file that is there now."""
        return stream.read()

    def write(self, stream: BinaryIO) -> None:
        """Write what `after` is of the new file."""
        stream.write(self.after or b"")


@dataclass(frozen=True)
class Link:
    """A symbolic link: what it leads to now, and what it is to lead to; None for no link."""

    path: str
    before: Optional[str]
    after: Optional[str]

    @property
    def needed(self) -> bool:
        return self.before != self.after


AnyChange = Union[Change, Link]
AnyContent = Union[bytes, str, None]


def permissions(path: str) -> Optional[Permissions]:
    """The permissions of a file, None where there is none; a symbolic link is followed."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Permissions(status.st_mode & 0o777, status.st_uid, status.st_gid)


def read(path: str, *, longest: Optional[int] = None) -> Optional[bytes]:
    """Return a file's content, None if there is no such file.

    :param path: absolute.
    :param longest: bytes that it may have; None for any number.
    :raises UserError: the path exists and is no regular file, cannot be read, or leads through a link of another
        account.
    """
    try:
        with _reading(path), place.find(path) as found, _open(found, longest) as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def opened(path: str) -> BinaryIO:
    """Open a file for reading, for what is read in parts.

    :raises UserError: as `read` does, also where there is no such file.
    """
    try:
        with _reading(path), place.find(path) as found:
            return _open(found)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"There is no file {path}.", "Look which program has removed it, then run again.") from error


def _open(found: Place, longest: Optional[int] = None) -> BinaryIO:
    return os.fdopen(place.open_regular(found, longest=longest), "rb")


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    """Have an error that is not that of a missing file say what cannot be read."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise UserError(
            f"Cannot read {path}: {error.strerror}.",
            needs_root(error) or "Make it a regular file that the remote user may read.",
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
            needs_root(error)
            or "Remove what stands there, or correct the permissions of its directory, then run again.",
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


_held: List[str] = []

# What could not be removed, in sentences: warnings of whoever runs this.
stayed: List[str] = []


@contextlib.contextmanager
def lock(name: str = "xen.stubdom", *, timeout: float = PATIENCE) -> Iterator[None]:
    """Hold the host-wide lock of this collection; who holds it already just goes on.

    :param name: which lock.
    :param timeout: seconds to wait for another run to release it.
    :raises UserError: another process held it all that time, or there is no directory that is only ours.
    """
    if name in _held:
        yield
        return
    path = os.path.join(_lock_directory(), f"{name}.lock")
    busy = UserError(
        f"Another run has held {path} for {timeout:.0f} seconds.",
        "Wait for it to end, or find it with `fuser`, then run again.",
    )
    with locked(path, timeout=timeout, busy=busy):
        _held.append(name)
        try:
            yield
        finally:
            _held.remove(name)


def _lock_directory() -> str:
    """Return a directory in which no other account than root and ours can make files."""
    for candidate in LOCK_DIRECTORIES:
        directory = candidate.format(uid=os.geteuid())
        with contextlib.suppress(OSError):
            status = os.stat(directory)
            ours = status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022
            if ours and stat.S_ISDIR(status.st_mode) and os.access(directory, os.W_OK):
                return directory
    # A user without a session: a directory that is made for this account, or refused if it is not ours.
    directory = os.path.join(tempfile.gettempdir(), f"xen.stubdom-{os.geteuid()}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    status = os.lstat(directory)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077 or not stat.S_ISDIR(status.st_mode):
        raise UserError(
            f"{directory}, where the lock is to be, belongs to another account or is open to others.",
            "Remove it, or run this as root.",
        )
    return directory


class Writer:
    """A file that is being written; an error is one of that file, and none of what its content comes from."""

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def write(self, content: bytes) -> int:
        """:raises UserError: it cannot be written."""
        with _writing(self._path):
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        return len(content)


@contextlib.contextmanager
def replacing(path: str, *, mode: int = 0o644) -> Iterator[Writer]:
    """Give a stream whose content becomes the file *path* in one step, if the block ends without an exception.

    Until then *path* is as it was, and after an exception nothing else is left behind. Directories that it needs are
    made, and what killed runs have left beside it is removed.

    :param path: the file; a symbolic link itself is replaced.
    :param mode: permission bits of the file.
    :raises UserError: it cannot be written.
    """
    with contextlib.ExitStack() as opened:
        with _writing(path):
            made = place.find(os.path.abspath(path), follow=False, made=lambda _directory: None)
            target = opened.enter_context(made)
            for stray in _left_by_killed(target):
                _clean(stray)
            new = _temporary(target, f"{os.getpid()}.{_NEW}")
            _unlink(new)
        opened.callback(_clean, new)
        with _writing(path):
            descriptor = os.open(new.name, _EXCLUSIVE, 0o600, dir_fd=new.directory)
        opened.callback(os.close, descriptor)
        yield Writer(path, descriptor)
        with _writing(path):
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
            _rename(new, target)
            _sync_directory(target)


@contextlib.contextmanager
def _writing(path: str) -> Iterator[None]:
    """:raises UserError: for an OSError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"Cannot write {path}: {error.strerror}.",
            needs_root(error) or "Make room there or correct the permissions, then run again.",
        ) from error


def _left_by_killed(target: Place) -> List[Place]:
    """Return the temporary files of `replacing` whose processes have ended."""
    start, end = _temporary(target, "").name, f".{_NEW}"
    left = []
    # The descriptor gives no access to the content.
    for name in _names(f"/proc/self/fd/{target.directory}"):
        process = name[len(start) : -len(end)]
        if name.startswith(start) and name.endswith(end) and _ended(process):
            left.append(target.beside(name))
    return left


def _ended(process: str) -> bool:
    return process.isdecimal() and not runs(int(process))


def runs(process: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


@contextlib.contextmanager
def beside(path: str, *, filled: bool = False) -> Iterator[str]:
    """Give the path of a file beside another, for a program to write; it is gone afterwards.

    :param filled: whether it begins as a copy.
    :raises UserError: nothing can be written there.
    """
    with contextlib.ExitStack() as opened:
        with _writing(path):
            target = opened.enter_context(place.find(path))
            given, more = (_temporary(target, ending) for ending in _ALL[2:])
            for one in (given, more):
                _unlink(one)
                opened.callback(_clean, one)
            if filled and target.status() is not None:
                _copy(target, given)
        yield os.path.join(os.path.dirname(os.path.realpath(path)), given.name)


@contextlib.contextmanager
def kept(path: str) -> Iterator[str]:
    """Keep a copy of a file that another program writes; it is gone where that fails, or writes what was there.

    :return: gives the path of the copy, which is as `apply` names it.
    """
    with place.find(path) as target:
        stamp = _stamp()
        copy = target.beside(f"{target.name}.{stamp}")
        before = read(path)
        _copy(target, copy)
        try:
            yield f"{path}.{stamp}"
        except BaseException:
            _unlink(copy)
            raise
        if read(path) == before:
            _unlink(copy)


def _stamp() -> str:
    """The form of Ansible's own backup_local, behind the path: process, date, time."""
    return f"{os.getpid()}.{time.strftime('%Y-%m-%d@%H:%M:%S~')}"


def difference(changes: Sequence[AnyChange]) -> List[Dict[str, str]]:
    """Show the changes in the form of Ansible's diff mode."""
    return [
        {
            "before_header": _header(change, change.before, now=True),
            "after_header": _header(change, change.after, now=False),
            "before": _shown(change.before),
            "after": _shown(change.after),
        }
        for change in changes
        if change.needed
    ]


def _header(change: AnyChange, content: AnyContent, *, now: bool) -> str:
    if content is None:
        return f"{change.path} (absent)"
    if isinstance(change, Link) or not change.other_permissions or change.found is None:
        return change.path
    there, asked = change.found, change.permissions
    mode, owner, group = (
        old if now or new is None else new
        for old, new in zip((there.mode, there.owner, there.group), (asked.mode, asked.owner, asked.group))
    )
    return f"{change.path} (mode {mode or 0:04o}, owner {owner}, group {group})"


def apply(changes: Sequence[AnyChange], *, backup: bool = False) -> Dict[str, str]:
    """Make all the changes, or none of them, in their order.

    New contents are written beside their targets and flushed first, so that a full disk is met before anything is
    replaced; a failure while they are renamed into place puts the old contents back. Directories that a new file needs
    are made. What a killed run has left beside these files is removed. Signals wait until all is done or put back.

    :param backup: keep a copy of each file that is replaced or removed.
    :return: path of the copy by path of the file, empty without *backup*.
    :raises UserError: a file is not as it was when it was read, is no regular file, or cannot be written.
    """
    if not any(change.needed or _has_strays(change) for change in changes):
        return {}
    with lock(), signals.undisturbed(), _open_files(2 * len(changes)), contextlib.ExitStack() as opened:
        transaction = _Transaction(opened)
        try:
            for change in changes:
                transaction.stage(change)
            return transaction.commit(backup=backup)
        except OSError as error:
            lost = transaction.undo()
            raise UserError(
                f"Cannot write {transaction.path}: {error.strerror}.",
                f"These could not be put back: {', '.join(lost)}; correct this and run again."
                if lost
                else needs_root(error)
                or "Everything was left as it was; make room or correct the permissions, then run again.",
            ) from error
        except BaseException:
            transaction.undo()
            raise
        finally:
            transaction.tidy()


def tidy(paths: Iterable[str]) -> None:
    """Remove what killed runs have left beside files that do not change."""
    apply([Change(path, None, None) for path in paths])


@contextlib.contextmanager
def _open_files(needed: int) -> Iterator[None]:
    """Allow as many more open files, as far as this process may: a transaction holds a directory for each change."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = soft + needed if hard == resource.RLIM_INFINITY else min(soft + needed, hard)
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def link(path: str) -> Optional[str]:
    """Return what a symbolic link leads to, None where nothing is there.

    :raises UserError: there is something there that is no link, or it cannot be read.
    """
    try:
        with place.find(path, follow=False) as found:
            return _link_target(found)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(
            f"Cannot read {path}: {error.strerror}.", "Make it a link that the remote user may read, or remove it."
        ) from error


def _link_target(found: Place) -> Optional[str]:
    status = found.status()
    if status is None:
        return None
    if not stat.S_ISLNK(status.st_mode):
        raise UserError(f"{found.path} is {place.kind(status)}, not a symbolic link.", "Move it away, then run again.")
    return os.readlink(found.name, dir_fd=found.directory)


@contextlib.contextmanager
def scratch(needed: int) -> Iterator[str]:
    """Make a directory for files of a moment; it is gone afterwards.

    :param needed: bytes that are going to be written there.
    :raises UserError: there is no room, before or while it is written to, or it cannot be written to.
    """
    directory = SCRATCH_DIRECTORY
    with _writing(directory):
        require_room(directory, needed)
        sweep_scratch()
        path = ""
        try:
            with signals.undisturbed():
                path = tempfile.mkdtemp(prefix=f"{_SCRATCH}{os.getpid()}.", dir=directory)
            yield path
        finally:
            with signals.undisturbed():
                _discard(path)


def sweep_scratch() -> None:
    """Remove what killed runs have left of `scratch`."""
    for name in _names(SCRATCH_DIRECTORY):
        process = name[len(_SCRATCH) :].partition(".")[0]
        if name.startswith(_SCRATCH) and _ended(process):
            _discard(os.path.join(SCRATCH_DIRECTORY, name))


def _names(directory: str) -> List[str]:
    with contextlib.suppress(OSError):
        return os.listdir(directory)
    return []


def _discard(path: str) -> None:
    """Remove a directory of ours; one of another account is left alone, and one that stays is a warning."""
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        if status.st_uid == os.geteuid() and stat.S_ISDIR(status.st_mode):
            shutil.rmtree(path, ignore_errors=True)
            if os.path.lexists(path):
                stayed.append(f"{path} could not be removed. The next run that needs such a directory tries it again.")


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


def reverse(changes: Sequence[AnyChange]) -> List[AnyChange]:
    """Return the changes that take *changes* back."""
    return [_reversed(change) for change in reversed(changes) if change.needed]


def _reversed(change: AnyChange) -> AnyChange:
    if isinstance(change, Link):
        return Link(change.path, change.after, change.before)
    return Change(
        change.path,
        change.after,
        change.before,
        change.mode,
        permissions=change.found or UNCHANGED,
        found=None if change.after is None else change.permissions,
    )


def remove_if_empty(directory: str) -> None:
    """Remove a directory that nothing is in any more."""
    with contextlib.suppress(OSError):
        os.rmdir(directory)


def sha256(content: bytes) -> str:
    """Return the hexadecimal SHA-256 of *content*."""
    return hashlib.sha256(content).hexdigest()


def _shown(content: AnyContent) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return f"link to {content}\n"
    if len(content) <= _SHOWN_IN_DIFF and b"\0" not in content:
        with contextlib.suppress(UnicodeDecodeError):
            return content.decode("utf-8")
    return f"{len(content)} bytes, sha256 {sha256(content)}\n"


# --- the transaction -------------------------------------------------------------------------------------------------


def _temporary(found: Place, ending: str) -> Place:
    return found.beside(f".{found.name[:_LONGEST_NAME]}.{ending}")


def _has_strays(change: AnyChange) -> bool:
    with contextlib.suppress(OSError), place.find(change.path, follow=isinstance(change, Change)) as target:
        return any(_temporary(target, ending).status() is not None for ending in _ALL)
    return False


@dataclass(frozen=True)
class _Step:
    """A change whose new content lies beside its target, ready to take its place."""

    change: AnyChange
    target: Place
    exists: bool

    @property
    def new(self) -> Place:
        return _temporary(self.target, _NEW)

    @property
    def old(self) -> Place:
        return _temporary(self.target, _OLD)


class _Transaction:
    """The changes of one call. *path* is the file that is being worked on."""

    def __init__(self, opened: contextlib.ExitStack) -> None:
        self.path = ""
        self._opened = opened
        self._directories: List[Place] = []
        self._temporaries: List[Place] = []
        self._steps: List[_Step] = []
        # What takes back what was done, and the path for the message if it does not.
        self._undo: List[Tuple[str, Callable[[], None]]] = []
        self._done = False

    def stage(self, change: AnyChange) -> None:
        """Write the new content beside its target, with the attributes that it will have there."""
        self.path = change.path
        creates = change.needed and change.after is not None
        made = self._made if creates else None
        try:
            target = self._opened.enter_context(place.find(change.path, follow=isinstance(change, Change), made=made))
        except (FileNotFoundError, NotADirectoryError):
            if creates:
                raise
            if change.needed:
                raise changed_meanwhile(change.path) from None
            return
        step = _Step(change, target, target.status() is not None)
        for ending in _ALL:
            _clean(_temporary(target, ending))
        if not change.needed:
            return
        self._temporaries += [step.new, step.old]
        if isinstance(change, Link):
            if _link_target(target) != change.before:
                raise changed_meanwhile(change.path)
            if change.after is not None:
                os.symlink(change.after, step.new.name, dir_fd=target.directory)
        else:
            self._stage_content(change, step)
        self._steps.append(step)

    def _made(self, directory: Place) -> None:
        parent = os.dup(directory.directory)
        self._opened.callback(os.close, parent)
        self._directories.append(Place(directory.path, parent, directory.name))

    def _stage_content(self, change: Change, step: _Step) -> None:
        target = step.target
        with contextlib.ExitStack() as opened:
            old: Optional[BinaryIO] = None
            if step.exists:
                old = opened.enter_context(os.fdopen(place.open_regular(target), "rb"))
            if (None if old is None else change.read(old)) != change.before:
                raise changed_meanwhile(change.path)
            if change.after is None:
                return
            with _create(step.new) as new:
                change.write(new)
                new.flush()
                wanted = change.permissions
                if old is None:
                    os.fchmod(new.fileno(), change.mode)
                    _default_context(change.path, new.fileno())
                else:
                    _copy_attributes(old.fileno(), new.fileno(), wanted.mode)
                if wanted.owner is not None or wanted.group is not None:
                    owner, group = (-1 if number is None else number for number in (wanted.owner, wanted.group))
                    os.fchown(new.fileno(), owner, group)
                if wanted.mode is not None:
                    os.fchmod(new.fileno(), wanted.mode)
                os.fsync(new.fileno())

    def commit(self, *, backup: bool) -> Dict[str, str]:
        """Rename everything into place."""
        backups: Dict[str, str] = {}
        for step in self._steps:
            self.path = step.change.path
            if step.exists:
                self._put_aside(step)
                if backup and isinstance(step.change, Change):
                    backups[step.change.path] = self._keep_copy(step)
            if step.change.after is not None:
                _rename(step.new, step.target)
                if not step.exists:
                    self._undo.append((step.change.path, partial(_unlink, step.target)))
            _sync_directory(step.target)
        self._undo.clear()
        self._done = True
        return backups

    def _put_aside(self, step: _Step) -> None:
        """Have the old file under another name; where there is to be a new one, it stays under its own until then."""
        if step.change.after is None:
            _rename(step.target, step.old)
        else:
            _link_or_copy(step.target, step.old)
        self._undo.append((step.change.path, partial(_rename, step.old, step.target)))

    def _keep_copy(self, step: _Step) -> str:
        stamp = _stamp()
        copy = step.target.beside(f"{step.target.name}.{stamp}")
        self._undo.append((copy.path, partial(_unlink, copy)))
        _link_or_copy(step.old, copy)
        return f"{step.change.path}.{stamp}"

    def undo(self) -> List[str]:
        """Put everything back; return what could not be."""
        lost: List[str] = []
        for path, back in reversed(self._undo):
            try:
                back()
            except OSError:
                lost.append(path)
        self._undo.clear()
        return lost

    def tidy(self) -> None:
        """Remove what lies beside the files, and directories that were made for nothing."""
        for temporary in self._temporaries:
            _clean(temporary)
        for directory in () if self._done else reversed(self._directories):
            with contextlib.suppress(OSError):
                os.rmdir(directory.name, dir_fd=directory.directory)


def _clean(stray: Place) -> None:
    """Remove a file of ours; one of another account is no file of ours, and one that stays is a warning."""
    try:
        status = stray.status()
        if status is not None and status.st_uid in (0, os.geteuid()) and not stat.S_ISDIR(status.st_mode):
            _unlink(stray)
    except OSError as error:
        stayed.append(f"{stray.path} could not be removed: {error.strerror}. The next run tries it again.")


def changed_meanwhile(path: str) -> UserError:
    """What to raise where a file is not as it was when it was read."""
    return UserError(
        f"{path} was changed by another program or administrator while this was running.",
        "Nothing was written; run again to work on its new content.",
    )


@contextlib.contextmanager
def _create(at: Place) -> Iterator[BinaryIO]:
    """Give a new file that nobody else can read yet."""
    with os.fdopen(os.open(at.name, _EXCLUSIVE, 0o600, dir_fd=at.directory), "wb") as stream:
        yield stream


def _link_or_copy(source: Place, target: Place) -> None:
    """Have a file under a second name, which stays what it is when the first name gets another file."""
    names = {"src_dir_fd": source.directory, "dst_dir_fd": target.directory}
    try:
        os.link(source.name, target.name, follow_symlinks=False, **names)
    except OSError as error:
        # The EFI system partition is FAT, which has no hard links.
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        _copy(source, target)


def _copy(source: Place, target: Place) -> None:
    with os.fdopen(place.open_regular(source), "rb") as old, _create(target) as new:
        shutil.copyfileobj(old, new)
        new.flush()
        _copy_attributes(old.fileno(), new.fileno())
        os.fsync(new.fileno())


def _copy_attributes(source: int, target: int, mode: Optional[int] = None) -> None:
    """Give a file the owner, mode and extended attributes (access lists, SELinux's context) of another.

    :param mode: its own; it is never more open.
    """
    old = os.fstat(source)
    os.fchown(target, old.st_uid, old.st_gid)
    if mode is None:
        # It takes descriptors too.
        shutil.copystat(cast(str, source), cast(str, target))
        os.utime(target)
        return
    for name in os.listxattr(source):
        if mode & 0o070 or name != "system.posix_acl_access":
            with contextlib.suppress(OSError):
                os.setxattr(target, name, os.getxattr(source, name))


def _default_context(path: str, descriptor: int) -> None:
    """Give a new file the SELinux context that the policy has for its path; it has that of its directory else."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        # Not above: it cannot be imported without libselinux, which Alpine and Arch do not have.
        from ansible.module_utils.compat import selinux

        if selinux.is_selinux_enabled():
            status, context = selinux.matchpathcon(os.path.realpath(path), stat.S_IFREG)
            if status == 0:
                os.setxattr(descriptor, "security.selinux", context.encode() + b"\0")


def _rename(source: Place, target: Place) -> None:
    os.replace(source.name, target.name, src_dir_fd=source.directory, dst_dir_fd=target.directory)


def _unlink(at: Place) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(at.name, dir_fd=at.directory)


def _sync_directory(at: Place) -> None:
    """Have the names of a directory on the disk."""
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at.directory)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
