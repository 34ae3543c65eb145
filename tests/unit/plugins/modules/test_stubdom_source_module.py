# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os
import shutil
import socketserver
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Dict, Iterator, List, Optional

import pytest
import real_play
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images import account, releases, tarballs
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch import http
from ansible_collections.xen.stubdom.plugins.modules import stubdom_source
from open_directory import open_directory

FILES = [tarball.file for tarball in tarballs.needed(releases.find("4.17"), ["c"])]
SUMS = {name: hashlib.sha256(name.encode()).hexdigest() for name in FILES}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with open_directory(tmp_path.name) as path:
        yield path


@pytest.fixture
def sources(place: Path) -> Dict[str, Any]:
    """The options of an operator who has everything in one directory."""
    for name in FILES:
        (place / name).write_text(name)
    for tree in ("xen", "mini-os"):
        (place / tree).mkdir()
        (place / tree / "Config.mk").write_text(tree)
    return {
        "xen": {"directory": str(place / "xen")},
        "mini_os": {"directory": str(place / "mini-os")},
        "directory": str(place),
        "checksums": SUMS,
    }


def run(place: Path, *, check: bool = False, internal: Optional[Dict[str, Any]] = None, **options: Any) -> Any:
    params = {
        "release": "4.17",
        "images": ["c"],
        "work_directory": str(place / "work"),
        "user": None,
        "xen": None,
        "mini_os": None,
        "qemu_traditional": None,
        "directory": None,
        "mirror": None,
        "checksums": {},
        "allow_unverified": False,
        "timeout": 2,
        **options,
    }
    module = SimpleNamespace(params=params, check_mode=check, internal=internal or {})
    return stubdom_source.run(module)  # type: ignore[arg-type]


def test_everything_at_hand_needs_nothing(place: Path, sources: Dict[str, Any]) -> None:
    result = run(place, **sources)
    assert not result["changed"]
    assert [source["name"] for source in result["sources"]] == ["xen", "mini-os", *FILES]
    assert {source["name"]: source["digest"] for source in result["sources"] if source["kind"] == "file"} == SUMS


def test_a_changed_tree_has_another_digest(place: Path, sources: Dict[str, Any]) -> None:
    before = run(place, **sources)["sources"][0]["digest"]
    (place / "xen" / "Config.mk").write_text("another")
    assert run(place, **sources)["sources"][0]["digest"] != before
    (place / "xen" / ".git").mkdir()
    (place / "xen" / ".git" / "index").write_text("x")
    (place / "xen" / "Config.mk").write_text("xen")
    assert run(place, **sources)["sources"][0]["digest"] == before


@pytest.mark.parametrize("how", ["absent", "empty"])
def test_offline_names_every_missing_file(place: Path, sources: Dict[str, Any], how: str) -> None:
    for name in ("zlib-1.2.3.tar.gz", "lwip-1.3.0.tar.gz"):
        (place / name).unlink()
        if how == "empty":
            (place / name).touch()
    with pytest.raises(UserError) as refused:
        run(place, **sources)
    for name in ("zlib-1.2.3.tar.gz", "lwip-1.3.0.tar.gz"):
        assert str(place / name) in refused.value.what
        assert SUMS[name] in refused.value.what
        assert f"https://xenbits.xen.org/xen-extfiles/{name}" in refused.value.what
    assert "newlib" not in refused.value.what


def test_a_wrong_local_file_is_refused_and_kept(place: Path, sources: Dict[str, Any]) -> None:
    (place / "zlib-1.2.3.tar.gz").write_text("something else")
    with pytest.raises(
        UserError, match=r"zlib-1\.2\.3\.tar\.gz from .* has SHA-256 .*, not " + SUMS["zlib-1.2.3.tar.gz"]
    ):
        run(place, **sources)
    assert (place / "zlib-1.2.3.tar.gz").read_text() == "something else"


def test_offline_without_a_tree(place: Path, sources: Dict[str, Any]) -> None:
    with pytest.raises(UserError, match="No source is set for mini-os, and directory disables downloads") as refused:
        run(place, **{**sources, "mini_os": None})
    assert "ff13dabd3099687921145a5e3e960ba8337e7488" in refused.value.remedy


# --- a server on loopback that behaves as its paths say --------------------------------------------------------------


class Answers(BaseHTTPRequestHandler):
    asked: ClassVar[List[str]] = []

    def do_GET(self) -> None:
        kind, name = self.path.strip("/").split("/")
        self.asked.append(name)
        if kind == "refused":
            self.send_error(403)
            return
        content = {"wrong": b"wrong", "empty": b""}.get(kind, name.encode())
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) * (2 if kind == "short" else 1)))
        self.end_headers()
        if kind == "stalled":
            time.sleep(5)
        if kind == "halting":
            self.wfile.write(content[:9])
            time.sleep(5)
        if kind == "slow":
            # Longer than the time-out in all, and never without a byte for so long.
            for start in range(0, len(content), 4):
                self.wfile.write(content[start : start + 4])
                self.wfile.flush()
                time.sleep(0.6)
            return
        self.wfile.write(content)

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(http, "PAUSES", (0.0,))
    Answers.asked = []
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    listening.daemon_threads = True
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_address[1]}"
    listening.shutdown()


def online(sources: Dict[str, Any], mirror: str) -> Dict[str, Any]:
    return {**sources, "directory": None, "mirror": mirror}


def test_downloads_in_four_steps(place: Path, sources: Dict[str, Any], server: str) -> None:
    steps = [run(place, check=check, **online(sources, f"{server}/good")) for check in (True, False, True, False)]
    assert [step["changed"] for step in steps] == [True, True, False, False]
    assert steps[0]["downloaded"] == steps[1]["downloaded"] == FILES
    assert Answers.asked == FILES


def test_one_after_another(place: Path, sources: Dict[str, Any], server: str) -> None:
    options = online(sources, f"{server}/good")
    assert run(place, internal={"step": "find"}, **options)["downloaded"] == FILES
    for name in FILES:
        assert run(place, internal={"step": "download", "source": name}, **options)["downloaded"] == [name]
    assert Answers.asked == FILES
    assert not run(place, internal={"step": "find"}, **options)["changed"]


def test_the_operator_sees_each_download(place: Path, sources: Dict[str, Any], server: str) -> None:
    arguments = {"release": "4.17", "images": ["c"], "work_directory": str(place / "work")}
    arguments.update(online(sources, f"{server}/good"))
    del arguments["directory"]
    # Each download is a run of the module; two show the order, so all others are there already.
    store = place / "work" / "build" / "sources"
    store.mkdir(parents=True)
    for name in FILES[2:]:
        shutil.copy(place / name, store)
    own(place / "work" / "build")
    variables = real_play.environment(place)
    output = real_play.play(place, "stubdom_source", arguments, variables).communicate(timeout=120)[0]
    assert "changed True" in output
    assert [line for line in output.splitlines() if line.startswith("localhost: download")] == [
        f"localhost: download {number} of 2, {name}" for number, name in enumerate(FILES[:2], start=1)
    ]
    arguments["mirror"] = f"{server}/wrong"
    for name in FILES[:2]:
        (store / name).unlink()
    output = real_play.play(place, "stubdom_source", arguments, variables).communicate(timeout=120)[0]
    assert "download 1 of 2" in output and "has SHA-256" in output and "download 2" not in output


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("refused", "Cannot download newlib-1.16.0.tar.gz"),
        ("stalled", "Cannot download newlib-1.16.0.tar.gz"),
        ("halting", "Cannot download newlib-1.16.0.tar.gz"),
        ("wrong", "newlib-1.16.0.tar.gz from .* has SHA-256"),
        ("empty", "it is incomplete, 0 of"),
        ("short", "newlib-1.16.0.tar.gz"),
    ],
)
def test_bad_downloads_leave_nothing(place: Path, sources: Dict[str, Any], server: str, kind: str, what: str) -> None:
    with pytest.raises(UserError, match=what):
        run(place, **online(sources, f"{server}/{kind}"), timeout=1)
    assert list((place / "work" / "build" / "sources").glob("*")) == []
    assert run(place, **online(sources, f"{server}/good"))["changed"]


def test_slow_is_not_dead(place: Path, sources: Dict[str, Any], server: str) -> None:
    for name in FILES[1:]:
        # What is there already is not asked for.
        (place / "work" / "build" / "sources").mkdir(parents=True, exist_ok=True)
        shutil.copy(place / name, place / "work" / "build" / "sources")
    own(place / "work" / "build")
    began = time.monotonic()
    assert run(place, **online(sources, f"{server}/slow"))["downloaded"] == FILES[:1]
    assert time.monotonic() - began > 2


def own(path: Path) -> None:
    """Give a directory to the account that builds, where the tests run as root."""
    if os.geteuid() == 0:
        owner = account._account(account.ACCOUNT)
        for one in (path, *path.rglob("*")):
            os.chown(one, owner.pw_uid, owner.pw_gid)


@pytest.mark.parametrize("left", [b"", b"newlib"])
def test_what_other_attempts_left_is_not_a_download(
    place: Path, sources: Dict[str, Any], server: str, left: bytes
) -> None:
    # wget -O leaves an empty file where there was no answer, and half a file where the answer broke off.
    kept = place / "work" / "build" / "sources"
    kept.mkdir(parents=True)
    (kept / FILES[0]).write_bytes(left)
    own(place / "work" / "build")
    assert run(place, check=True, **online(sources, f"{server}/good"))["downloaded"] == FILES
    assert run(place, **online(sources, f"{server}/good"))["downloaded"] == FILES
    assert (kept / FILES[0]).read_text() == FILES[0]


def test_nobody_answers(place: Path, sources: Dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PAUSES", (0.0,))
    with pytest.raises(UserError, match=r"Cannot download .*refused") as refused:
        run(place, **online(sources, "http://127.0.0.1:9"))
    assert "https://xenbits.xen.org/xen-extfiles/newlib-1.16.0.tar.gz" in refused.value.remedy


def test_all_checksums_that_are_none_are_named_at_once(place: Path, sources: Dict[str, Any]) -> None:
    sources["checksums"] = {**SUMS, "zlib-1.2.3.tar.gz": 123, "lwip-1.3.0.tar.gz": "abc"}
    sources["xen"] = {"tarball": "/srv/xen.tar.gz", "checksum": "a" * 40}
    with pytest.raises(UserError) as refused:
        run(place, **sources)
    assert "checksums has 123 for zlib-1.2.3.tar.gz; checksums has 'abc' for lwip-1.3.0.tar.gz" in refused.value.what
    assert f"xen.checksum is '{'a' * 40}'" in refused.value.what


def test_checksums_may_have_capital_letters(place: Path, sources: Dict[str, Any]) -> None:
    sources["checksums"] = {name: checksum.upper() for name, checksum in SUMS.items()}
    assert not run(place, **sources)["changed"]


def test_all_wrong_files_are_named_at_once(place: Path, sources: Dict[str, Any]) -> None:
    for name in FILES[:2]:
        (place / name).write_text("something else")
    with pytest.raises(UserError) as refused:
        run(place, **sources)
    assert all(name in refused.value.what for name in FILES[:2]) and FILES[2] not in refused.value.what


def test_a_fifo_in_a_directory_is_no_source(place: Path, sources: Dict[str, Any]) -> None:
    os.mkfifo(place / "xen" / "pipe")
    with pytest.raises(UserError, match=r"xen/pipe is no file, directory or symbolic link"):
        run(place, **sources)


@pytest.mark.parametrize("timeout", [0, -1, 10**20])
def test_an_impossible_timeout(place: Path, sources: Dict[str, Any], timeout: int) -> None:
    with pytest.raises(UserError, match=f"The timeout {timeout} is not possible"):
        run(place, **{**sources, "timeout": timeout})


def test_a_user_cannot_pass_what_the_action_plugin_passes(place: Path) -> None:
    arguments = {"release": "4.17", "images": ["c"], "_internal": {"step": "find"}}
    play = real_play.play(place, "stubdom_source", arguments, real_play.environment(place))
    output = play.communicate(timeout=120)[0]
    assert "_internal is no parameter of xen.stubdom.stubdom_source" in output


# --- git -------------------------------------------------------------------------------------------------------------


def git(*arguments: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=master")
    return subprocess.run(["git", *identity, *arguments], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(place: Path) -> Path:
    path = place / "mini-os.git"
    git("init", "-q", str(path))
    for number in (1, 2):
        (path / "file").write_text(str(number))
        git("-C", str(path), "add", ".")
        git("-C", str(path), "commit", "-qm", str(number))
        git("-C", str(path), "tag", f"v{number}")
    return path


def test_a_local_mirror_needs_no_checksum(place: Path, sources: Dict[str, Any], repository: Path) -> None:
    sources["mini_os"] = {"git": f"file://{repository}", "revision": "v1"}
    result = run(place, **sources)
    assert not result["changed"]
    assert result["sources"][1]["digest"] == git("-C", str(repository), "rev-parse", "v1")


def test_a_revision_that_is_not_there(place: Path, sources: Dict[str, Any], repository: Path) -> None:
    sources["mini_os"] = {"git": str(repository), "revision": "v3"}
    with pytest.raises(UserError, match="has no revision 'v3'"):
        run(place, **sources)


def test_a_remote_revision_has_to_be_verified(place: Path, sources: Dict[str, Any]) -> None:
    sources["mini_os"] = {"git": "http://127.0.0.1:9/mini-os.git", "revision": "v1"}
    with pytest.raises(UserError, match="Refusing to download mini-os from http://127.* [(]no commit"):
        run(place, **sources)
    with pytest.raises(UserError, match="Cannot fetch v1 of mini-os"):
        run(place, **{**sources, "allow_unverified": True})


@pytest.mark.parametrize(
    "origin",
    [
        "--upload-pack=touch {place}/owned;",
        "ext::touch {place}/owned",
        "ssh://-oProxyCommand=touch%20{place}/owned/x",
        "http://127.0.0.1:9/a\nb",
        "file:///a\0b",
        "relative/path",
        "ftp://127.0.0.1:9/x.git",
    ],
)
def test_hostile_origins_run_nothing(place: Path, sources: Dict[str, Any], origin: str) -> None:
    sources["mini_os"] = {"git": origin.format(place=place), "revision": "v1"}
    with pytest.raises(UserError) as refused:
        run(place, **{**sources, "allow_unverified": True})
    assert refused.value.what and refused.value.remedy
    assert not (place / "owned").exists()


def test_a_revision_is_no_option(place: Path, sources: Dict[str, Any], repository: Path) -> None:
    sources["mini_os"] = {"git": str(repository), "revision": "--help"}
    with pytest.raises(UserError, match="begins with '-'"):
        run(place, **sources)


class GitServer(socketserver.StreamRequestHandler):
    """Git's own protocol on loopback: one request, which git itself answers."""

    asked: ClassVar[List[str]] = []

    def handle(self) -> None:
        length = int(self.rfile.read(4), 16)
        path = self.rfile.read(length - 4).split(b"\0")[0].decode().split(" ", 1)[1]
        self.asked.append(path)
        subprocess.run(
            ["git", "-c", "safe.directory=*", "upload-pack", "--strict", path],
            stdin=self.connection,
            stdout=self.connection,
            stderr=subprocess.DEVNULL,
            check=False,
        )

    # Buffered reading would take away what belongs to git.
    rbufsize = 0


@pytest.fixture
def git_server() -> Iterator[str]:
    GitServer.asked = []
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), GitServer) as listening:
        listening.daemon_threads = True
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"git://127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()


@pytest.fixture
def bare(repository: Path) -> Path:
    path = repository.with_name("bare.git")
    git("clone", "-q", "--bare", str(repository), str(path))
    git("-C", str(path), "update-server-info")
    return path


def test_a_bare_repository_on_loopback_is_asked_once(
    place: Path, sources: Dict[str, Any], bare: Path, git_server: str
) -> None:
    commit = git("-C", str(bare), "rev-parse", "v1")
    sources["mini_os"] = {"git": f"{git_server}{bare}", "revision": "v1", "checksum": commit}
    steps = [run(place, check=check, **sources) for check in (True, False, True, False)]
    assert [step["downloaded"] for step in steps] == [["mini-os"], ["mini-os"], [], []]
    assert steps[-1]["sources"][1]["digest"] == commit
    assert len(GitServer.asked) == 1


def test_a_tag_that_was_moved_is_refused(place: Path, sources: Dict[str, Any], bare: Path, git_server: str) -> None:
    promised, other = (git("-C", str(bare), "rev-parse", tag) for tag in ("v1", "v2"))
    git("-C", str(bare), "tag", "-f", "v1", "v2")
    sources["mini_os"] = {"git": f"{git_server}{bare}", "revision": "v1", "checksum": promised}
    for _attempt in range(2):
        with pytest.raises(UserError, match=f"mini-os from .* has commit {other}, not {promised}"):
            run(place, **sources)
    git("-C", str(bare), "tag", "-f", "v1", promised)
    assert run(place, **sources)["sources"][1]["digest"] == promised


def test_a_server_of_files_is_enough(place: Path, sources: Dict[str, Any], bare: Path) -> None:
    class Files(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(bare.parent))

        def log_message(self, *_arguments: Any) -> None:
            pass

    commit = git("-C", str(bare), "rev-parse", "v1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        origin = f"http://127.0.0.1:{listening.server_address[1]}/{bare.name}"
        sources["mini_os"] = {"git": origin, "revision": "v1", "checksum": commit}
        assert run(place, **sources)["sources"][1]["digest"] == commit
        listening.shutdown()


def test_a_git_server_that_hangs_is_given_up(place: Path, sources: Dict[str, Any], repository: Path) -> None:
    class Silent(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            time.sleep(20)

    commit = git("-C", str(repository), "rev-parse", "v1")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Silent) as listening:
        listening.daemon_threads = True
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        origin = f"git://127.0.0.1:{listening.server_address[1]}/mini-os.git"
        sources["mini_os"] = {"git": origin, "revision": "v1", "checksum": commit}
        began = time.monotonic()
        with pytest.raises(UserError, match="git://.* sent nothing of mini-os for 2 seconds"):
            run(place, **sources)
        assert time.monotonic() - began < 10
        listening.shutdown()
