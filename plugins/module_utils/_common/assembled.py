# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: files that are made of other files, too large to be held in memory.

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import BinaryIO, Iterable, Iterator, NamedTuple, Optional, Sequence, Union

from ansible_collections.xen.stubdom.plugins.module_utils._common import files

_BLOCK = 1 << 20


class Source(NamedTuple):
    """A file of this host that is copied, and its length in bytes."""

    path: str
    size: int


Part = Union[bytes, Source]


@dataclass(frozen=True)
class Assembled(files.Change):
    """The change of such a file; `before` and `after` are its length and checksum, as a line of text.

    :param parts: what it is made of.
    """

    parts: Sequence[Part] = ()

    def read(self, stream: BinaryIO) -> bytes:
        return _described(_blocks(stream))

    def write(self, stream: BinaryIO) -> None:
        """:raises UserError: one of the files that it is made of has changed since it was looked at."""
        said = _described(_written(_contents(self.parts), stream))
        if said != self.after:
            raise files.changed_meanwhile(" or ".join(part.path for part in self.parts if isinstance(part, Source)))


def source(path: str) -> Source:
    """Look at a file that is to be copied.

    :raises UserError: it cannot be read.
    """
    with files.opened(path) as stream:
        return Source(path, os.fstat(stream.fileno()).st_size)


def change(path: str, parts: Optional[Sequence[Part]], *, mode: int = 0o644) -> Assembled:
    """Compare a file with what it is to be made of.

    :param path: absolute.
    :param parts: None to remove it.
    :param mode: permission bits of a file that does not exist yet.
    :raises UserError: one of the files cannot be read.
    """
    found = files.permissions(path)
    before: Optional[bytes] = None
    after = None if parts is None else b"as it is"
    if found is not None:
        with files.opened(path) as stream:
            # Checksums take longer than a comparison, and most often nothing has changed.
            if parts is not None and _same(_blocks(stream), _contents(parts)):
                return Assembled(path, after, after, mode, found=found, parts=parts)
            stream.seek(0)
            before = _described(_blocks(stream))
    if parts is not None:
        after = _described(_contents(parts))
    return Assembled(path, before, after, mode, found=found, parts=parts or ())


def _contents(parts: Sequence[Part]) -> Iterator[bytes]:
    """What the parts are now, in blocks."""
    for part in parts:
        if isinstance(part, bytes):
            yield part
            continue
        left = part.size
        with files.opened(part.path) as stream:
            while left:
                block = stream.read(min(left, _BLOCK))
                if not block:
                    raise files.changed_meanwhile(part.path)
                left -= len(block)
                yield block
            if stream.read(1):
                raise files.changed_meanwhile(part.path)


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: stream.read(_BLOCK), b"")


def _written(blocks: Iterable[bytes], stream: BinaryIO) -> Iterator[bytes]:
    for block in blocks:
        stream.write(block)
        yield block


def _same(there: Iterable[bytes], wanted: Iterable[bytes]) -> bool:
    """Whether both are the same bytes, however they are cut."""
    left = b""
    others = iter(there)
    for block in wanted:
        while len(left) < len(block):
            more = next(others, b"")
            if not more:
                return False
            left += more
        if left[: len(block)] != block:
            return False
        left = left[len(block) :]
    return not left and not next(others, b"")


def _described(blocks: Iterable[bytes]) -> bytes:
    size, digest = 0, hashlib.sha256()
    for block in blocks:
        size += len(block)
        digest.update(block)
    return f"{size} bytes, sha256 {digest.hexdigest()}\n".encode()
