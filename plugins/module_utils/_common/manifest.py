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
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

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

# A manifest has some 100 lines; what is larger or deeper was not written by this collection.
LARGEST = 1 << 20
_DEEPEST = 8
_MOST_MEMORY_MIB = 1 << 20


def path(directory: str, image: str) -> str:
    """Where the manifest of *image* lies."""
    return os.path.join(directory, f"{image}.json")


def render(manifest: Mapping[str, Any]) -> bytes:
    """Return a manifest as it is written."""
    return (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()


def load(content: bytes) -> Manifest:
    """Read a manifest.

    :raises ValueError: it is damaged, and how.
    """
    if len(content) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST >> 20} MiB")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    return from_dict(found)


def from_dict(found: object) -> Manifest:
    """Return the manifest that a dictionary describes.

    :raises ValueError: it describes none, and why.
    """
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    missing = [name for name in _REQUIRED if name not in found]
    if missing:
        raise ValueError(f"it has no {missing[0]}")
    for name, (valid, kind) in _VALID.items():
        if not valid(found.get(name)):
            raise ValueError(f"{name} is not {kind}")
    _refuse_odd(found)
    more = {name: value for name, value in found.items() if name not in (*_REQUIRED, *_OPTIONAL)}
    known: Dict[str, Any] = {name: found.get(name) for name in (*_REQUIRED, *_OPTIONAL)}
    return Manifest(**known, more=more)


def parse(content: Optional[bytes]) -> Optional[Manifest]:
    """Return a manifest; None where it is missing or damaged, as both mean that nothing is known of the image."""
    try:
        return None if content is None else load(content)
    except ValueError:
        return None


def damage(content: Optional[bytes]) -> Optional[str]:
    """Return how a manifest is damaged; None where it is missing or whole."""
    try:
        if content is not None:
            load(content)
    except ValueError as error:
        return str(error)
    return None


def _line(value: object) -> bool:
    return isinstance(value, str) and value != "" and value.isprintable()


def _text_or_null(value: object) -> bool:
    return value is None or isinstance(value, str)


def _sources(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(source, dict) and all(isinstance(word, str) for pair in source.items() for word in pair)
        for source in value
    )


def _checksums(value: object) -> bool:
    return isinstance(value, dict) and all(_line(name) and _text_or_null(digest) for name, digest in value.items())


def _memory(value: object) -> bool:
    return value is None or (isinstance(value, int) and value is not True and 0 < value < _MOST_MEMORY_MIB)


def _line_or_null(value: object) -> bool:
    return value is None or _line(value)


# What an entry may be, and how a message calls that.
_VALID: Mapping[str, Tuple[Callable[[object], bool], str]] = {
    "kind": (_line, "a line of text"),
    "xen": (_line, "a line of text"),
    "sources": (_sources, "a list of dictionaries of text"),
    "compiler": (_text_or_null, "text or null"),
    "flags": (_text_or_null, "text or null"),
    "built": (_text_or_null, "text or null"),
    "sha256": (_text_or_null, "text or null"),
    "identity": (_line, "a line of text"),
    "files": (_checksums, "a dictionary of checksums by name of file"),
    "memory_mib": (_memory, "a number of MiB"),
    "command_line": (_line_or_null, "a line of text"),
}


def _refuse_odd(found: Mapping[str, Any]) -> None:
    """:raises ValueError: what is not checked entry by entry is nothing that can be passed on."""
    try:
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError("it holds what JSON cannot") from error
    level: List[Any] = [found]
    for _depth in range(_DEEPEST):
        inner = (value.values() if isinstance(value, dict) else value for value in level)
        level = [value for values in inner for value in values if isinstance(value, (dict, list))]
    if level:
        raise ValueError(f"it is nested deeper than {_DEEPEST} levels")


def identity(*parts: Any) -> str:
    """Return one short word for everything that decides what an image becomes."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def now(seconds: Optional[float] = None) -> str:
    """Return the time in the form of a manifest."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
