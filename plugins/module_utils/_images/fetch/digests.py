# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: SHA-256 of files and directories, read again only when they changed.

from __future__ import annotations

import hashlib
import os
import stat
from typing import Dict, Iterator, List, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images import records

CHUNK = 1 << 20

# What version control keeps of its own is no part of a source.
_IGNORED = (".git", ".hg")


def of_file(path: str) -> str:
    """Return the SHA-256 of a file."""
    total = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(CHUNK), b""):
            total.update(block)
    return total.hexdigest()


class Digests:
    """Digests of files, remembered by size and time.

    :param path: where they are kept for the next run; None keeps nothing.
    """

    def __init__(self, path: Optional[str] = None) -> None:
        self._path = path
        self._known: Dict[str, List[object]] = {} if path is None else _load(path)

    def file(self, path: str) -> str:
        """Return the SHA-256 of a file.

        :raises UserError: it cannot be read.
        """
        try:
            state = os.stat(path)
            mark = [state.st_size, state.st_mtime_ns, state.st_ino]
            known = self._known.get(path)
            if known is not None and known[:3] == mark:
                return str(known[3])
            digest = of_file(path)
        except OSError as error:
            raise UserError(
                f"Cannot read {path}: {error.strerror}.",
                "Make it readable for the account that builds, then run again.",
            ) from error
        self._known[path] = [*mark, digest]
        return digest

    def tree(self, path: str) -> str:
        """Return the SHA-256 over names, modes and contents of a directory, without its .git.

        :raises UserError: something in it is no file, directory or symbolic link, or cannot be read.
        """
        total = hashlib.sha256()
        for relative, name in _walk(path):
            mode = os.lstat(name).st_mode
            content = os.readlink(name) if stat.S_ISLNK(mode) else self.file(name)
            total.update(f"{relative}\0{mode & 0o111:o}\0{content}\n".encode("utf-8", "surrogateescape"))
        return total.hexdigest()

    def save(self) -> None:
        """Keep the digests for the next run."""
        if self._path is not None:
            records.write(self._path, self._known)


def _walk(path: str) -> Iterator[Tuple[str, str]]:
    """List the files and links below a directory, by relative and full path, in a fixed order."""

    def refuse(error: OSError) -> None:
        raise UserError(
            f"Cannot read the directory {error.filename}: {error.strerror}.",
            "Make it readable for the account that builds, then run again.",
        ) from error

    for directory, folders, names in os.walk(path, onerror=refuse):
        folders[:] = sorted(folder for folder in folders if folder not in _IGNORED)
        links = [folder for folder in folders if os.path.islink(os.path.join(directory, folder))]
        for name in sorted([*names, *links]):
            full = os.path.join(directory, name)
            mode = os.lstat(full).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
                # A read of a FIFO would never end.
                raise UserError(
                    f"{full} is no file, directory or symbolic link, so it cannot be part of a source.",
                    "Remove it, or set another directory.",
                )
            yield os.path.relpath(full, path), full


def _load(path: str) -> Dict[str, List[object]]:
    kept = records.read(path) or {}
    return {name: mark for name, mark in kept.items() if isinstance(mark, list) and len(mark) == 4}
