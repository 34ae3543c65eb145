# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the record that lies beside every image we install, <image>.json.

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Sequence

MODE = 0o644


@dataclass(frozen=True)
class Manifest:
    """What an image was made of and what it is.

    :param kind: what kind of image it is, for example "linux" or "pv-grub".
    :param xen: release of Xen it was made for, for example "4.20".
    :param sources: what went in, each with name and version, and sha256 where it was a file that was fetched.
    :param compiler: what compiled it, None for an image that was assembled from programs.
    :param flags: the compiler's flags, None likewise.
    :param built: when, in ISO 8601, UTC; None as long as it is not.
    :param sha256: checksum of the image, None likewise; of the root file system where an image is several files.
    :param identity: what is equal for two images if there is no need to make the second.
    :param files: checksum by name of file in the firmware directory.
    :param memory_mib: memory that the stub domain needs; None where the image does not decide that.
    :param command_line: words that its kernel needs; None likewise.
    :param more: what only some kinds record.
    """

    kind: str
    xen: str
    sources: Sequence[Mapping[str, str]]
    compiler: Optional[str]
    flags: Optional[str]
    built: Optional[str]
    sha256: Optional[str]
    identity: str
    files: Mapping[str, Optional[str]]
    memory_mib: Optional[int] = None
    command_line: Optional[str] = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> Dict[str, Any]:
        known = {name: getattr(self, name) for name in _REQUIRED}
        known["sources"] = [dict(source) for source in self.sources]
        optional = {name: getattr(self, name) for name in _OPTIONAL if getattr(self, name) is not None}
        return {**self.more, **known, **optional}

    def render(self) -> bytes:
        return render(self.as_dict())


_REQUIRED = ("kind", "xen", "sources", "compiler", "flags", "built", "sha256", "identity", "files")
_OPTIONAL = ("memory_mib", "command_line")


def path(directory: str, image: str) -> str:
    """Where the manifest of *image* lies."""
    return os.path.join(directory, f"{image}.json")


def render(manifest: Mapping[str, Any]) -> bytes:
    """Return a manifest as it is written."""
    return (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()


def read(content: Optional[bytes]) -> Optional[Dict[str, Any]]:
    """Return what a file says that is a manifest, however old; None for any other file."""
    try:
        found = json.loads(content or b"null")
    except ValueError:
        return None
    return found if isinstance(found, dict) and "kind" in found else None


def parse(content: Optional[bytes]) -> Optional[Manifest]:
    """Read a manifest; None for one that is missing or was damaged, as both mean that the image has to be made."""
    found = read(content)
    if found is None or any(name not in found for name in _REQUIRED):
        return None
    known = {name: found.pop(name) for name in _REQUIRED}
    optional = {name: found.pop(name, None) for name in _OPTIONAL}
    return Manifest(**known, **optional, more=found)


def identity(*parts: Any) -> str:
    """Return one short word for everything that decides what an image becomes."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def now(seconds: Optional[float] = None) -> str:
    """Return the time in the form of a manifest."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
