# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Whatever a server sends is a UserError, and leaves no file behind. The server sends exactly the bytes of each test.

from __future__ import annotations

import base64
import contextlib
import hashlib
import socketserver
import threading
import time
from pathlib import Path
from typing import Any, Callable, ClassVar, Iterator, List

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch import http
from ansible_collections.xen.stubdom.plugins.module_utils._images.sources import Source

CONTENT = b"the content of a file\n"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(CONTENT), CONTENT)


class Server(socketserver.BaseRequestHandler):
    """Answers each request with the next of *answers*, the last one for ever."""

    answers: ClassVar[List[bytes]] = []
    pause: ClassVar[float] = 0.0
    requests: ClassVar[List[bytes]] = []

    def handle(self) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            block = self.request.recv(65536)
            if not block:
                return
            request += block
        Server.requests.append(request)
        answer = Server.answers[0] if len(Server.answers) == 1 else Server.answers.pop(0)
        with contextlib.suppress(OSError):
            if not Server.pause:
                self.request.sendall(answer)
                return
            for byte in answer:
                self.request.sendall(bytes([byte]))
                time.sleep(Server.pause)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    monkeypatch.setattr(http, "PAUSES", (0.0, 0.0))
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Server) as listening:
        listening.daemon_threads = True
        threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        address = f"127.0.0.1:{listening.server_address[1]}"

        def answer(*answers: bytes, pause: float = 0.0) -> str:
            Server.answers, Server.pause, Server.requests = list(answers), pause, []
            return f"http://{address}/file.tar"

        yield answer
        listening.shutdown()


def download(url: str, path: Path, *, checksum: Any = None, timeout: float = 5.0) -> None:
    http.download(
        Source("file.tar", "file", url, None, checksum, "https://example.org/file.tar"), str(path), timeout=timeout
    )


def headers(*lines: bytes) -> bytes:
    return b"\r\n".join((b"HTTP/1.1 200 OK", *lines, b"", b""))


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"", "closed connection without response"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not understood"),
        (b"HTTP/1.1 abc \x1b[31m\r\n\r\n", "not understood"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nx", "Content-Length is 'many'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx", "Content-Length is '-1'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\nx", "more than 1024 MiB"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort", "incomplete, 5 of 99 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "incomplete, 0 of 0 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx", "not understood|in the middle"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nshort", "in the middle"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort", "in the middle|not understood"),
        (headers(b"X: " + b"x" * (1 << 17)), "not understood"),
        (headers(*(b"X-%d: x" % number for number in range(200))), "not understood"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP status 404"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "HTTP status 503"),
        (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", "redirected to 'file:///etc/passwd'"),
        (b"HTTP/1.1 302 Found\r\nLocation: ftp://127.0.0.1/x\r\n\r\n", "redirected to 'ftp://127.0.0.1/x'"),
        (b"HTTP/1.1 302 Found\r\nLocation: /again\r\n\r\n", "redirected more than 10 times"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n", "not understood"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:99999/\r\n\r\n", "Cannot download"),
        (b"HTTP/1.1 302 Found\r\n\r\n", "redirected more than 10 times"),
        (b"HTTP/1.1 401 No\r\nWWW-Authenticate: Digest x\r\n\r\n", "Cannot download"),
    ],
)
def test_no_answer_is_a_fault(serve: Callable[..., str], tmp_path: Path, answer: bytes, what: str) -> None:
    with pytest.raises(UserError, match=what) as refused:
        download(serve(answer), tmp_path / "sources" / "file.tar")
    assert refused.value.what.startswith("Cannot download file.tar from http://127.0.0.1:")
    assert refused.value.what.isprintable() and "https://example.org/file.tar" in refused.value.remedy
    assert list((tmp_path / "sources").glob("*")) == []


def test_what_is_temporary_is_tried_again(serve: Callable[..., str], tmp_path: Path) -> None:
    url = serve(b"", b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", GOOD)
    download(url, tmp_path / "file.tar", checksum=hashlib.sha256(CONTENT).hexdigest())
    assert (tmp_path / "file.tar").read_bytes() == CONTENT
    assert len(Server.requests) == 3


def test_what_is_permanent_is_not(serve: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(UserError):
        download(serve(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), tmp_path / "file.tar")
    assert len(Server.requests) == 1


def test_another_content_than_expected(serve: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"file\.tar from .* has SHA-256 .*, not 00"):
        download(serve(GOOD), tmp_path / "file.tar", checksum="00")
    assert list(tmp_path.iterdir()) == [] and len(Server.requests) == 1


def test_a_redirection_is_followed(serve: Callable[..., str], tmp_path: Path) -> None:
    download(serve(b"HTTP/1.1 302 Found\r\nLocation: other\r\n\r\n", GOOD), tmp_path / "file.tar")
    assert (tmp_path / "file.tar").read_bytes() == CONTENT
    assert Server.requests[1].startswith(b"GET /other ")


def test_content_without_a_length(serve: Callable[..., str], tmp_path: Path) -> None:
    download(serve(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + CONTENT), tmp_path / "file.tar")
    assert (tmp_path / "file.tar").read_bytes() == CONTENT


@pytest.mark.parametrize("answer", [GOOD, headers(*(b"X-%d: x" % number for number in range(50)))])
def test_the_whole_time_is_bounded(
    serve: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    """A byte now and then, in the content or in the headers, keeps the timeout of a socket from ending it."""
    monkeypatch.setattr(http, "TIME_LIMIT", 0.5)
    began = time.monotonic()
    with pytest.raises(UserError, match="not complete after [0-9]+ seconds"):
        download(serve(answer, pause=0.05), tmp_path / "file.tar")
    assert time.monotonic() - began < 30
    assert list(tmp_path.iterdir()) == []


def test_the_size_is_bounded(serve: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "SIZE_LIMIT", 1 << 20)
    with pytest.raises(UserError, match="more than 1 MiB"):
        download(serve(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (1 << 21)), tmp_path / "file.tar")
    assert list(tmp_path.iterdir()) == []


def test_a_password_is_sent_and_not_shown(serve: Callable[..., str], tmp_path: Path) -> None:
    asks = b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
    url = serve(asks, GOOD).replace("http://", "http://me:secret@")
    download(url, tmp_path / "file.tar")
    assert base64.b64encode(b"me:secret") in Server.requests[1]
    serve(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(UserError, match="from http://me@127") as refused:
        download(url, tmp_path / "file.tar")
    assert "secret" not in str(refused.value)


def test_a_proxy_of_the_environment_is_used(
    serve: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", serve(GOOD).rsplit("/", 1)[0])
    download("http://nowhere.example.org/file.tar", tmp_path / "file.tar")
    assert Server.requests[0].startswith(b"GET http://nowhere.example.org/file.tar ")


def test_a_place_that_cannot_be_written(serve: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file.tar").mkdir()
    (tmp_path / "file.tar" / "x").touch()
    with pytest.raises(UserError, match=f"Cannot write {tmp_path}/file.tar"):
        download(serve(GOOD), tmp_path / "file.tar")
