# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: downloads by HTTP, through Ansible's own client (proxies, certificates,
# credentials in the address or in ~/.netrc). Time and size are bounded, and no server can cause more than a UserError.

from __future__ import annotations

import contextlib
import hashlib
import http.client
import netrc
import signal
import threading
import time
import urllib.error
from typing import Any, Iterator, Optional, Tuple
from urllib.parse import urljoin, urlsplit

from ansible.module_utils import urls
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images import sources
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch.digests import CHUNK
from ansible_collections.xen.stubdom.plugins.module_utils._images.sources import Source

# Seconds before another attempt, where the next one may succeed.
PAUSES = (1.0, 3.0)
# Seconds that one download may take in all. Xen's tarball has about 10 MB.
TIME_LIMIT = 1800.0
# Bytes of a file. The largest source has less than 200 MB.
SIZE_LIMIT = 1 << 30
REDIRECTS = 10

# Answers after which the same request may succeed later.
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
_MOVED = (301, 302, 303, 307, 308)


class _Failed(Exception):
    """A download failed.

    :param again: whether another attempt may succeed.
    """

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again


def download(source: Source, path: str, *, timeout: float) -> None:
    """Download a file, which is at *path* only when it is whole and has its checksum.

    :param timeout: seconds without a byte after which an attempt is given up.
    :raises UserError: it cannot be downloaded, or has another checksum than expected.
    """
    began = time.monotonic()
    for pause in (*PAUSES, None):
        try:
            with _deadline(began):
                _attempt(source, path, timeout)
            return
        except _Failed as failed:
            left = TIME_LIMIT - (time.monotonic() - began)
            if failed.again and pause is not None and pause < left:
                time.sleep(pause)
                continue
            raise UserError(
                f"Cannot download {source.name} from {source.shown}: {failed}.",
                "Check that the build host can reach it, or put the file into a directory there and set directory; "
                f"it is published at {source.upstream or 'its own site'}.",
            ) from failed


def _attempt(source: Source, path: str, timeout: float) -> None:
    total = hashlib.sha256()
    size = 0
    try:
        answer, expected = _open(source.origin, timeout)
        with contextlib.closing(answer), files.replacing(path) as stream:
            # One receive at a time, so that a slow server cannot hide in the middle of a block.
            for block in iter(lambda: answer.read1(CHUNK), b""):
                size += len(block)
                if size > SIZE_LIMIT:
                    raise _Failed(f"it has more than {SIZE_LIMIT >> 20} MiB", again=False)
                total.update(block)
                stream.write(block)
            if size == 0 or (expected is not None and size != expected):
                raise _Failed(
                    f"it is incomplete, {size} of {'some' if expected is None else expected} bytes", again=True
                )
            if source.checksum not in (None, total.hexdigest()):
                raise sources.mismatch([(source, total.hexdigest())])
    except urllib.error.HTTPError as error:
        raise _Failed(f"HTTP status {error.code}", again=error.code in _TEMPORARY) from error
    except (OSError, urls.ConnectionError) as error:
        raise _Failed(_reason(error), again=True) from error
    except http.client.IncompleteRead as error:
        raise _Failed("the connection ended in the middle of it", again=True) from error
    except (http.client.HTTPException, ValueError, netrc.NetrcParseError) as error:
        raise _Failed(f"the server's answer is not understood ({_reason(error)})", again=False) from error


def _open(url: str, timeout: float) -> Tuple[http.client.HTTPResponse, Optional[int]]:
    """Follow an address to its content; return that and its length."""
    for _redirect in range(REDIRECTS):
        try:
            answer = urls.open_url(
                url,
                timeout=timeout,
                follow_redirects="none",
                decompress=False,
                http_agent="xen.stubdom",
            )
        except urllib.error.HTTPError as error:
            if error.code not in _MOVED:
                raise
            url = _next(url, error)
            continue
        return answer, _length(answer.headers.get("Content-Length"))
    raise _Failed(f"it was redirected more than {REDIRECTS} times", again=False)


def _next(url: str, moved: urllib.error.HTTPError) -> str:
    """Return where a server sends us, if that is HTTP again."""
    moved.close()
    location = urljoin(url, moved.headers.get("Location") or "")
    if urlsplit(location).scheme not in ("http", "https") or not location.isascii() or not location.isprintable():
        raise _Failed(f"it was redirected to {location[:200]!r}", again=False)
    return location.replace(" ", "%20")


def _length(header: Optional[str]) -> Optional[int]:
    if header is None:
        return None
    if not header.isascii() or not header.isdigit() or len(header) > 18:
        raise _Failed(f"the server's Content-Length is {header[:40]!r}", again=False)
    if int(header) > SIZE_LIMIT:
        raise _Failed(f"it has {int(header) >> 20} MiB, more than {SIZE_LIMIT >> 20} MiB", again=False)
    return int(header)


def _reason(error: BaseException) -> str:
    """Return the message of an error in one printable line, without a last full stop."""
    reason: Any = getattr(error, "reason", None) or error
    text = str(getattr(reason, "strerror", None) or str(reason) or type(reason).__name__)
    return "".join(character if character.isprintable() else " " for character in text)[:300].strip().rstrip(".")


@contextlib.contextmanager
def _deadline(began: float) -> Iterator[None]:
    """Interrupt the block when the time of a download is up, whatever it waits for.

    The timeout of a socket is one of each receive, and a header may come byte by byte.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: object) -> None:
        raise _Failed(f"it was not complete after {time.monotonic() - began:.0f} seconds", again=False)

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, max(0.001, TIME_LIMIT - (time.monotonic() - began)))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
