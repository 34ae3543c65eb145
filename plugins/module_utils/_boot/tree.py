# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the file tree that a loader's files are in, this host's or that of an image.

from __future__ import annotations

import glob
import os
import re
from typing import BinaryIO, Dict, Iterable, List, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.files import Change, opened, read

# File names are bytes to a shell and to a loader; so is everything else in these files.
ENCODING = "latin-1"

HYPERVISOR = re.compile(r"^xen(?!-syms|policy)[^/]*(?<!\.config)(?<!\.cfg)(?<!\.efi)$")

# Bytes that a boot loader's file may have to be read; a generated menu for 50 kernels has a tenth of it.
LARGEST = 1 << 20

# Is there where firmware for EFI has started this host.
EFI = "/sys/firmware/efi"

# Stands above a line that was added where a loader's file had none, so that removing the option removes the line.
MARK = "# Added by the Ansible collection xen.stubdom"

_PROGRAM_DIRECTORIES = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin")


class Tree:
    """Files below a directory.

    :param root: the directory.
    :param foreign: whether it is another tree than this host's, such as an image's; nothing of it is run.
    """

    def __init__(self, root: str, *, foreign: bool) -> None:
        self.root = os.path.realpath(root)
        self.foreign = foreign

    def path(self, path: str) -> str:
        """Return where *path* of the tree is found from here.

        :raises UserError: a link in another tree leads out of it.
        """
        found = os.path.join(self.root, path.lstrip("/"))
        real = os.path.realpath(found)
        if self.foreign and os.path.commonpath([real, self.root]) != self.root:
            raise UserError(
                f"{found} is a link to {real}, which is outside of {self.root}.",
                "Make the link relative to the tree. Files outside of root are never changed.",
            )
        return found

    def read(self, path: str) -> Optional[bytes]:
        """Return the content of a file, None if there is none.

        :raises UserError: it cannot be read, or has more than LARGEST bytes.
        """
        return read(self.path(path), longest=LARGEST)

    def text(self, path: str) -> Optional[str]:
        """Return the content of a file as text, None if there is none."""
        content = self.read(path)
        return None if content is None else content.decode(ENCODING)

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading.

        :raises UserError: it cannot be read.
        """
        return opened(self.path(path))

    def contents(self, paths: Sequence[str]) -> Dict[str, bytes]:
        """Return the contents of those files that exist, in order."""
        found = ((path, self.read(path)) for path in paths)
        return {path: content for path, content in found if content is not None}

    def changes(self, wanted: Iterable[Tuple[str, Optional[bytes], Optional[bytes]]]) -> List[Change]:
        """Return the changes of those files that are to become others, of path, content and wanted content each."""
        return [Change(self.path(path), before, after) for path, before, after in wanted if before != after]

    def is_file(self, path: str) -> bool:
        return os.path.isfile(self.path(path))

    def is_directory(self, path: str) -> bool:
        return os.path.isdir(self.path(path))

    def glob(self, pattern: str) -> List[str]:
        """Return paths in the tree that match, sorted."""
        found = glob.glob(os.path.join(glob.escape(self.root), pattern.lstrip("/")))
        return sorted("/" + os.path.relpath(path, self.root) for path in found)

    def program(self, name: str) -> Optional[str]:
        """Return the path of a program in the tree."""
        candidates = (os.path.join(directory, name) for directory in _PROGRAM_DIRECTORIES)
        return next((path for path in candidates if self.is_file(path)), None)

    def has_hypervisor(self) -> bool:
        """Whether /boot holds one that a multiboot loader can start."""
        return any(HYPERVISOR.match(os.path.basename(path)) for path in self.glob("/boot/xen*"))
