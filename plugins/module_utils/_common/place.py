# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: finds files by directory descriptors, so that what was looked at is what is
# then read or replaced, and follows no symbolic link that another account has made.

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import deque
from dataclasses import dataclass
from typing import Callable, Deque, Iterator, List, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

# As many as Linux follows (MAXSYMLINKS in include/linux/namei.h).
_MOST_LINKS = 40
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True)
class Place:
    """A name in an open directory.

    :param path: as it was asked for; for messages.
    :param directory: descriptor of the directory, without access to its content (O_PATH).
    :param name: the last part, behind all links that were followed; there may be nothing of that name.
    """

    path: str
    directory: int
    name: str

    def status(self) -> Optional[os.stat_result]:
        """What is there, a link itself and not its target; None for nothing."""
        with contextlib.suppress(FileNotFoundError):
            return os.lstat(self.name, dir_fd=self.directory)
        return None

    def beside(self, name: str) -> Place:
        """Another name in the same directory."""
        return Place(os.path.join(os.path.dirname(self.path), name), self.directory, name)


def kind(status: os.stat_result) -> str:
    """Name what a file is, for messages."""
    return next((text for test, text in _KINDS if test(status.st_mode)), "a regular file")


@contextlib.contextmanager
def find(path: str, *, follow: bool = True, made: Optional[Callable[[Place], None]] = None) -> Iterator[Place]:
    """Open the directory that a path leads to, link by link.

    :param path: absolute.
    :param follow: whether a link in the last part is followed as well.
    :param made: is told each directory that was missing and made (0755, whatever the umask); None makes none, and a
        missing one is a FileNotFoundError.
    :raises UserError: the path is relative, or leads through a symbolic link of an account that is neither root nor
        ours.
    :raises OSError: it cannot be opened.
    """
    if not os.path.isabs(path):
        raise UserError(
            f"{path!r} is not an absolute path.", "Write it from the root directory on, for example /etc/xen/web.cfg."
        )
    if "\0" in path:
        raise UserError(f"{path!r} has a NUL character in it.", "Correct the path.")
    opened = contextlib.ExitStack()
    try:
        yield _walk(path, opened, follow=follow, made=made)
    finally:
        opened.close()


def _walk(path: str, opened: contextlib.ExitStack, *, follow: bool, made: Optional[Callable[[Place], None]]) -> Place:
    """Open one directory after the other; *opened* has the descriptor of the last one."""

    def enter(name: str, directory: Optional[int]) -> int:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=directory)
        opened.close()
        opened.callback(os.close, descriptor)
        return descriptor

    directory = enter("/", None)
    parts: Deque[str] = deque(_parts(path))
    links = 0
    while parts:
        name = parts.popleft()
        if name == "..":
            directory = enter(name, directory)
            continue
        place = Place(path, directory, name)
        found = place.status()
        if found is not None and stat.S_ISLNK(found.st_mode) and (parts or follow):
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if found.st_uid not in (0, os.geteuid()):
                raise UserError(
                    f"{path} leads through {name!r}, a symbolic link of another account (uid {found.st_uid}).",
                    "Remove that link, or name the file that is meant: links are followed only if they belong to "
                    "root or to the account that runs this.",
                )
            target = os.readlink(name, dir_fd=directory)
            if os.path.isabs(target):
                directory = enter("/", None)
            parts.extendleft(reversed(_parts(target)))
            continue
        if not parts:
            return place
        if found is None:
            if made is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            os.mkdir(name, 0o755, dir_fd=directory)
            made(place)
            os.chmod(name, 0o755, dir_fd=directory)
        directory = enter(name, directory)
    # "/" itself, or a path that ends in "..".
    return Place(path, directory, ".")


def _parts(path: str) -> List[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def open_regular(place: Place, *, longest: Optional[int] = None) -> int:
    """Open a regular file for reading; a FIFO or a device is never waited for.

    :param longest: bytes that it may have; None for any number.
    :return: a descriptor, for the caller to close.
    :raises UserError: it is something else, or longer.
    """
    descriptor = os.open(
        place.name,
        os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC,
        dir_fd=place.directory,
    )
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UserError(
                f"{place.path} is {kind(status)}, not a regular file.", "Name a regular file, or move this one away."
            )
        if longest is not None and status.st_size > longest:
            raise UserError(
                f"{place.path} has {status.st_size} bytes, which is more than the {longest} that are read.",
                "Look what it is; a file of this kind is text of a few KiB.",
            )
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
