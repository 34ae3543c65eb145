# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: whether the files of images are those that their manifests describe.

from __future__ import annotations

import hashlib
import os
import stat
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

_BLOCK = 1 << 20


def observe(xen: Xen, directory: Optional[str], images: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """Return the images with *altered*: the paths of files that are missing or have another content than recorded.

    It is None where nothing is recorded, or the record is damaged.
    """
    return [{**image, "altered": _altered(xen, directory or "", image["manifest"])} for image in images]


def _altered(xen: Xen, directory: str, record: Optional[Mapping[str, Any]]) -> Optional[List[str]]:
    if record is None:
        return None
    wanted = {os.path.join(directory, name): digest or record["sha256"] for name, digest in record["files"].items()}
    return sorted(path for path, digest in wanted.items() if _digest(xen.path(path)) != digest)


def _digest(path: str) -> Optional[str]:
    """Return the checksum of a file, None for one that is not there or is no regular file."""
    found = hashlib.sha256()
    try:
        # A FIFO in the place of an image is not waited for.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return None
            for block in iter(lambda: stream.read(_BLOCK), b""):
                found.update(block)
    except OSError:
        return None
    return found.hexdigest()
