# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the sources that a builder has. It finds the ones that sources.py plans,
# fetches those that are missing, and verifies each before anything is unpacked.

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images import sources
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch import http
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch.apt import Apt
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch.digests import Digests
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch.git import Git
from ansible_collections.xen.stubdom.plugins.module_utils._images.sources import Source


@dataclass(frozen=True)
class LocalSource:
    """A source on the builder: *path* is a file, a directory or a git repository."""

    source: Source
    path: str
    digest: str


class Store:
    """Sources of one builder.

    :param directory: the work directory, which the calling user owns.
    :param timeout: seconds without a byte after which a download is given up.
    :param keep: whether anything may be written or removed.
    """

    def __init__(self, directory: str, *, timeout: float = 60.0, keep: bool = True) -> None:
        self._directory = directory
        self._timeout = timeout
        self._keep = keep
        self._digests = Digests(os.path.join(directory, "digests.json"))
        self._git = Git(directory, timeout)
        self._apt = Apt(directory, timeout)

    def find(self, planned: Sequence[Source]) -> Tuple[List[LocalSource], List[Source]]:
        """Return the sources that are here and those that have to be fetched, without a connection.

        :raises UserError: a local file is missing, empty, or has another checksum than expected.
        """
        absent = [source for source in planned if source.kind in ("file", "tarball") and _absent(source)]
        if absent:
            raise sources.missing(absent)
        here: List[LocalSource] = []
        wanted: List[Source] = []
        for source in planned:
            found = self._find(source)
            if found is None:
                wanted.append(source)
            else:
                here.append(found)
        wrong = [(one.source, one.digest) for one in here if one.source.checksum not in (None, one.digest)]
        wrong = [(source, digest) for source, digest in wrong if source.kind in ("file", "tarball", "git")]
        if wrong:
            raise sources.mismatch(wrong)
        if self._keep:
            self._digests.save()
        return here, wanted

    def fetch(self, source: Source) -> LocalSource:
        """Fetch one source and verify it.

        :raises UserError: it cannot be fetched, or has another checksum than expected.
        """
        if source.kind == "git":
            self._git.fetch(source)
        elif source.kind == "package":
            self._apt.fetch(source)
        else:
            http.download(source, self._path(source), timeout=self._timeout)
        found = self._find(source)
        if found is None:
            raise UserError(
                f"{source.name} was fetched from {source.shown}, and is not there.",
                "Check that nothing else removes files from work_directory.",
            )
        self._digests.save()
        return found

    def _find(self, source: Source) -> Optional[LocalSource]:
        if source.kind == "directory":
            if not os.path.isdir(source.path):
                raise UserError(
                    f"The directory {source.path} of {source.name} does not exist.",
                    f"Correct {sources.PARAMETERS[source.name]}.directory.",
                )
            return LocalSource(source, source.path, self._digests.tree(source.path))
        if source.kind == "git":
            repository = self._git.fetched(source) if source.remote else self._git.local(source)
            return None if repository is None else LocalSource(source, *repository)
        path = self._apt.fetched(source) if source.kind == "package" else self._path(source)
        if path is None or not os.path.isfile(path) or os.path.getsize(path) == 0:
            return None
        digest = self._digests.file(path)
        if source.remote and source.checksum not in (None, digest):
            # Downloaded for another checksum, or damaged since.
            if self._keep:
                os.unlink(path)
            return None
        return LocalSource(source, path, digest)

    def _path(self, source: Source) -> str:
        return os.path.join(self._directory, "sources", source.file_name) if source.remote else source.path


def _absent(source: Source) -> bool:
    """Whether a file that cannot be downloaded is not there; an empty one is a download that failed."""
    return not source.remote and (not os.path.isfile(source.path) or os.path.getsize(source.path) == 0)
