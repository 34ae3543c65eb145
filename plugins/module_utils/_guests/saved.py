# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the memory of a guest in a file. It fits the guest's disks only as long as the
# guest has not run since, and a guest that went on with any other memory would destroy its file systems.

from __future__ import annotations

import contextlib
import os
import stat
from typing import Iterator, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import files, place
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError, needs_root

# Not /var/lib/xen/save, from where the host's own service restores guests.
DIRECTORY = "/var/lib/xen/saved"


class Saved:
    """The saved memory of one guest.

    :param root: where the host's files are.
    """

    def __init__(self, name: str, root: str = "/") -> None:
        self.name = name
        # Whole, of a guest that has not run since.
        self.path = f"{DIRECTORY}/{name}.save"
        # While xl writes or reads it. Whoever finds it finds a run that was interrupted.
        self.in_use = f"{self.path}.xl"
        # What the guest's configuration was, as xenstore forgets it with the domain.
        self._record = f"{self.path}.record"
        self._root = root

    @property
    def _all(self) -> Tuple[str, ...]:
        return self.path, self.in_use, self._record

    def record(self) -> Optional[str]:
        """The record of the configuration that the guest was saved with; None where that is not known."""
        found = files.read(self._on_host(self._record), longest=1 << 16)
        return None if found is None else found.decode("ascii", "replace")

    def _on_host(self, path: str) -> str:
        return os.path.join(self._root, path.lstrip("/"))

    def there(self) -> bool:
        """Whether the guest can go on with it.

        :raises UserError: that cannot be known, as a run was interrupted that saved or restored it.
        """
        if os.path.lexists(self._on_host(self.in_use)):
            raise UserError(
                f"A run that saved or restored the guest {self.name} was interrupted, so {self.in_use} may be half of "
                "its memory, or older than its disks.",
                f"Remove the file to have the guest start from its disks, or name it {self.path} if you know that it "
                "is whole and that the guest has not run since.",
            )
        return os.path.exists(self._on_host(self.path))

    def refuse(self, why: str) -> None:
        """:raises UserError: the guest is saved; *why* is what speaks against that."""
        if self.there():
            raise UserError(
                f"The guest {self.name} is saved in {self.path}, {why}.",
                "Let it go on with state running first, or remove that file to give up what it was doing.",
            )

    def outdated(self) -> bool:
        """Whether anything is there that a guest which runs has no use for any more."""
        return any(os.path.lexists(self._on_host(path)) for path in self._all)

    def discard(self) -> None:
        """Remove what is there, as the guest has run since."""
        with self._changing():
            for path in self._all:
                self._remove(path)

    @contextlib.contextmanager
    def written(self, record: Optional[str]) -> Iterator[str]:
        """Give the path for xl to write to; the file is taken for whole where the block ends without an error.

        :param record: of the configuration that the guest runs with.
        """
        with self._changing():
            self._make_directory()
            self._remove(self._record)
        if record is not None:
            files.apply([files.Change(self._on_host(self._record), None, record.encode(), mode=0o600)])
        try:
            yield self.in_use
        except UserError:
            # The guest runs on.
            with self._changing():
                self._remove(self.in_use)
                self._remove(self._record)
            raise
        with self._changing():
            self._rename(self.in_use, self.path)

    @contextlib.contextmanager
    def read(self) -> Iterator[str]:
        """Give the path for xl to read from; the file is gone where the block ends without an error."""
        with self._changing():
            self._rename(self.path, self.in_use)
        try:
            yield self.in_use
        except UserError:
            # xl has started nothing.
            with self._changing():
                self._rename(self.in_use, self.path)
            raise
        with self._changing():
            self._remove(self.in_use)
            self._remove(self._record)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"Cannot change the saved memory {self.path} of the guest {self.name}: {error.strerror}.",
                needs_root(error) or "Make room there or correct the permissions, then run again.",
            ) from error

    def _make_directory(self) -> None:
        """Whoever can read the file has all that the guest knows (xl makes it for everybody to read)."""
        path = self._on_host(DIRECTORY)
        with place.find(path, made=lambda _directory: None) as found:
            with contextlib.suppress(FileExistsError):
                os.mkdir(found.name, 0o700, dir_fd=found.directory)
            status = os.stat(found.name, dir_fd=found.directory)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise UserError(
                f"{path}, where the memory of the guest {self.name} is to be saved, is open to other accounts.",
                "Make it a directory of root with mode 0700, then run again.",
            )

    def _rename(self, old: str, new: str) -> None:
        with place.find(self._on_host(old), follow=False) as found:
            os.replace(found.name, os.path.basename(new), src_dir_fd=found.directory, dst_dir_fd=found.directory)

    def _remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError), place.find(self._on_host(path), follow=False) as found:
            os.unlink(found.name, dir_fd=found.directory)
