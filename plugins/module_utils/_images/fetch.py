# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: brings the sources that sources.py plans into the work directory, and proves
# them before anything is unpacked.

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import IO, Dict, Iterator, List, Optional, Sequence, Tuple, cast

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import last_line
from ansible_collections.xen.stubdom.plugins.module_utils._images import sources
from ansible_collections.xen.stubdom.plugins.module_utils._images.sources import Need

_CHUNK = 1 << 20

_UNREACHED = "Look whether it can be reached from the builder, or give a local mirror (file:///path) or directory."


@dataclass(frozen=True)
class Found:
    """A source that is at hand: *path* is a file, a directory or a bare repository."""

    need: Need
    path: str
    digest: str


class Store:
    """Sources of one builder.

    :param directory: the work directory, which the calling user owns.
    :param timeout: seconds without a byte after which a download is given up.
    :param keep: whether anything may be written or removed.
    """

    def __init__(self, directory: str, *, timeout: float = 60.0, keep: bool = True) -> None:
        self.directory = directory
        self.timeout = timeout
        self._keep = keep
        self._seen_file = os.path.join(directory, "sources", ".digests.json")
        self._seen: Dict[str, List[object]] = _load(self._seen_file)

    def look(self, needs: Sequence[Need]) -> Tuple[List[Found], List[Need]]:
        """Return what is at hand and what has to be brought, without a connection.

        :raises UserError: a local file is missing, empty or not what it should be.
        """
        found: List[Found] = []
        wanted: List[Need] = []
        absent = [need.name for need in needs if need.kind in ("file", "tarball") and self._absent(need)]
        if absent:
            raise sources.missing(needs, absent)
        for need in needs:
            at_hand = self._at_hand(need)
            if at_hand is None:
                wanted.append(need)
            else:
                found.append(at_hand)
        self._remember()
        return found, wanted

    def bring(self, need: Need) -> Found:
        """Bring one source here and prove it.

        :raises UserError: it cannot be had, or it is not what it should be.
        """
        if need.kind == "git":
            self._bring_git(need)
        elif need.kind == "package":
            self._bring_package(need)
        else:
            self._download(need)
        found = self._at_hand(need)
        if found is None:
            raise UserError(f"{need.name} did not come from {need.origin}.", "Look whether it can be read there.")
        self._remember()
        return found

    # --- what is here -----------------------------------------------------------------------------------------------

    def _absent(self, need: Need) -> bool:
        """Whether a file that cannot be downloaded is not there; an empty one is a download that failed."""
        if need.remote:
            return False
        path = _local(need.origin)
        return not os.path.isfile(path) or os.path.getsize(path) == 0

    def _at_hand(self, need: Need) -> Optional[Found]:
        if need.kind == "directory":
            if not os.path.isdir(need.origin):
                raise UserError(
                    f"There is no directory {need.origin} with {need.name}.", "Put it there, or give another."
                )
            return Found(need, need.origin, self.tree_digest(need.origin))
        if need.kind == "git":
            return self._commit_at_hand(need)
        if need.kind == "package":
            return self._package_at_hand(need)
        path = self._path(need)
        if not os.path.isfile(path) or os.path.getsize(path) == 0:
            return None
        digest = self._file_digest(path)
        if need.checksum is not None and digest != need.checksum:
            if need.remote:
                # Downloaded for another checksum, or damaged since.
                if self._keep:
                    os.unlink(path)
                return None
            raise sources.wrong(need, digest)
        return Found(need, path, digest)

    def _path(self, need: Need) -> str:
        return os.path.join(self.directory, "sources", _name(need)) if need.remote else _local(need.origin)

    def _file_digest(self, path: str) -> str:
        """SHA-256 of a file; it is read again only when its size or time changed."""
        state = os.stat(path)
        mark = [state.st_size, state.st_mtime_ns, state.st_ino]
        known = self._seen.get(path)
        if known is not None and known[:3] == mark:
            return str(known[3])
        digest = file_digest(path)
        self._seen[path] = [*mark, digest]
        return digest

    def tree_digest(self, path: str) -> str:
        """SHA-256 over names, modes and contents of a directory, without its .git."""
        total = hashlib.sha256()
        for relative, name in _walk(path):
            mode = os.lstat(name).st_mode
            content = os.readlink(name) if os.path.islink(name) else self._file_digest(name)
            total.update(f"{relative}\0{mode & 0o111:o}\0{content}\n".encode("utf-8", "surrogateescape"))
        return total.hexdigest()

    def _remember(self) -> None:
        if not self._keep:
            return
        os.makedirs(os.path.dirname(self._seen_file), exist_ok=True)
        temporary = f"{self._seen_file}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as stream:
            json.dump(self._seen, stream)
        os.replace(temporary, self._seen_file)

    # --- downloads --------------------------------------------------------------------------------------------------

    def _download(self, need: Need) -> None:
        """Download into a file of another name, which becomes the file only when its checksum is right."""
        path = self._path(need)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        partial = f"{path}.part"
        total = hashlib.sha256()
        try:
            # The core uses the standard library only, so no open_url of Ansible's.
            opener = urllib.request.build_opener()
            with opener.open(need.origin, timeout=self.timeout) as answer, open(partial, "wb") as stream:
                expected = answer.headers.get("Content-Length")
                size = 0
                for block in iter(lambda: answer.read(_CHUNK), b""):
                    total.update(block)
                    size += len(block)
                    stream.write(block)
        except (urllib.error.URLError, socket.timeout, OSError, ValueError) as error:
            _unlink(partial)
            reason = getattr(error, "reason", None) or error
            raise UserError(
                f"Cannot download {need.name} from {need.origin}: {reason}.",
                f"Look whether it can be reached from the builder, or put the file into a directory and give that as "
                f"sources_directory; upstream's is {need.upstream or need.origin}.",
            ) from error
        if size == 0 or (expected is not None and size != int(expected)):
            _unlink(partial)
            raise UserError(
                f"{need.name} from {need.origin} came short: {size} of {expected or 'some'} bytes.", "Run again."
            )
        if need.checksum is not None and total.hexdigest() != need.checksum:
            _unlink(partial)
            raise sources.wrong(need, total.hexdigest())
        os.replace(partial, path)

    # --- git --------------------------------------------------------------------------------------------------------

    def _repository(self, need: Need) -> str:
        mark = hashlib.sha256(need.origin.encode()).hexdigest()[:12]
        return os.path.join(self.directory, "git", f"{need.name}-{mark}.git")

    def _commit_at_hand(self, need: Need) -> Optional[Found]:
        if not need.remote:
            path = _local(need.origin)
            commit = self._resolve(path, need.revision or "HEAD")
            if commit is None and need.checksum is not None:
                # A mirror may lack the tag and have the commit.
                commit = self._resolve(path, need.checksum)
            if commit is None:
                if not os.path.isdir(path):
                    raise UserError(f"There is no git repository {path} with {need.name}.", "Put it there.")
                raise UserError(f"{path} has no revision {need.revision!r}.", "Fetch it there, or name another one.")
            if need.checksum is not None and commit != need.checksum:
                raise sources.wrong(need, commit)
            return Found(need, path, commit)
        path = self._repository(need)
        # A commit is looked for as such, and a tag or branch under the name it was fetched for; neither is asked for
        # again as long as its commit is the one that was promised.
        commit = self._resolve(path, need.checksum or f"refs/fetched/{_refname(need)}")
        return None if commit is None else Found(need, path, commit)

    def _resolve(self, repository: str, revision: str) -> Optional[str]:
        if not os.path.isdir(repository):
            return None
        status, output = self._git(repository, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
        return output.strip() if status == 0 else None

    def _bring_git(self, need: Need) -> None:
        path = self._repository(need)
        if not os.path.isdir(path):
            temporary = f"{path}.{os.getpid()}"
            self._git(None, "init", "--quiet", "--bare", temporary)
            os.rename(temporary, path)
        revision = need.revision or "HEAD"
        target = f"refs/fetched/{_refname(need)}"
        shallow = ("--depth=1", "--no-tags")
        attempts = [
            (*shallow, need.origin, f"+{revision}:{target}"),
            (*shallow, need.origin, f"+refs/tags/{revision}:{target}"),
            # Old servers give a commit only as part of everything.
            ("--no-tags", need.origin, "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"),
        ]
        output = ""
        for attempt in attempts:
            status, output = self._git(path, "fetch", "--progress", *attempt, patience=self._patience(need))
            if status == _SILENT:
                raise UserError(
                    f"{need.origin}, which has {need.name}, said nothing for {self.timeout:.0f} seconds.",
                    _UNREACHED,
                )
            commit = self._resolve(path, need.checksum or target) or self._resolve(path, revision)
            if status == 0 and commit is not None:
                break
        else:
            raise UserError(
                f"Cannot fetch {revision} of {need.name} from {need.origin}: {last_line(output)}.",
                _UNREACHED,
            )
        arrived = self._resolve(path, target) or commit
        if need.checksum is not None and arrived != need.checksum and self._resolve(path, need.checksum) is None:
            self._git(path, "update-ref", "-d", target)
            raise sources.wrong(need, arrived)
        self._git(path, "update-ref", target, need.checksum or arrived)

    def _patience(self, need: Need) -> Optional[float]:
        """How long git may say nothing; over HTTP it sees to that itself, and may be silent while it loads."""
        return None if need.origin.startswith("http") else self.timeout

    def _git(self, repository: Optional[str], *arguments: str, patience: Optional[float] = None) -> Tuple[int, str]:
        where = [] if repository is None else ["--git-dir", _git_dir(repository)]
        try:
            process = subprocess.Popen(
                ["git", "-c", "safe.directory=*", *where, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={
                    "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
                    "HOME": self.directory,
                    "LC_ALL": "C",
                    "GIT_TERMINAL_PROMPT": "0",
                    "GIT_HTTP_LOW_SPEED_LIMIT": "1",
                    "GIT_HTTP_LOW_SPEED_TIME": str(int(self.timeout)),
                    "GIT_CONFIG_COUNT": "1",
                    "GIT_CONFIG_KEY_0": "safe.directory",
                    "GIT_CONFIG_VALUE_0": "*",
                },
            )
        except FileNotFoundError as error:
            raise UserError("git is not installed on the builder.", "Install it, or give directories.") from error
        return _listen(process, patience)

    # --- the distribution's source package --------------------------------------------------------------------------

    def _package_directory(self, need: Need) -> str:
        return os.path.join(self.directory, "packages", f"{need.origin}-{need.revision or 'any'}")

    def _package_at_hand(self, need: Need) -> Optional[Found]:
        directory = self._package_directory(need)
        if not os.path.isdir(directory):
            return None
        for name in sorted(os.listdir(directory)):
            if re.search(r"\.orig\.tar\.\w+$", name):
                path = os.path.join(directory, name)
                return Found(need, path, self._file_digest(path))
        return None

    def _bring_package(self, need: Need) -> None:
        """Have apt download and verify the package's source, with the machine's own repositories."""
        if shutil.which("apt-get") is None:
            raise UserError(
                "A source package can be had with apt only, and this builder has none.",
                "Use a builder with Debian or Ubuntu, or give a tarball, a git repository or a directory.",
            )
        apt = os.path.join(self.directory, "apt")
        for name in ("lists/partial", "cache/archives/partial"):
            os.makedirs(os.path.join(apt, name), exist_ok=True)
        options = self._private_apt(apt)
        directory = self._package_directory(need)
        temporary = f"{directory}.{os.getpid()}"
        os.makedirs(temporary)
        try:
            self._apt(options, "update", cwd=temporary)
            package = need.origin
            if need.revision is not None:
                package = f"{package}={self._package_version(options, need, temporary)}"
            self._apt(options, "source", "--download-only", package, cwd=temporary)
            os.rename(temporary, directory)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _private_apt(self, apt: str) -> List[str]:
        """Make an apt configuration with a source repository for every binary one of the machine."""
        listed = subprocess.run(
            [
                "apt-get",
                "indextargets",
                "--format",
                "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)",
                "Created-By: Packages",
            ],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        ).stdout
        lines = set()
        for line in listed.splitlines():
            uri, release, component, signed_by = [*line.split("|"), "", "", ""][:4]
            option = f"[signed-by={signed_by}] " if signed_by.startswith("/") else ""
            if component:
                lines.add(f"deb-src {option}{uri} {release} {component}")
        path = os.path.join(apt, "sources.list")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write("\n".join(sorted(lines)) + "\n")
        return [
            f"-oDir::Etc::SourceList={path}",
            "-oDir::Etc::SourceParts=/dev/null",
            f"-oDir::State::Lists={apt}/lists",
            f"-oDir::Cache={apt}/cache",
            f"-oAcquire::http::Timeout={int(self.timeout)}",
            "-oAPT::Sandbox::User=",
        ]

    def _package_version(self, options: Sequence[str], need: Need, cwd: str) -> str:
        shown = subprocess.run(
            ["apt-cache", *options, "showsrc", "--only-source", need.origin],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=cwd,
            check=False,
        ).stdout
        versions: List[str] = re.findall(r"(?m)^Version: (\S+)$", shown)
        for version in versions:
            if version.split(":")[-1].startswith(f"{need.revision}."):
                return version
        raise UserError(
            f"The machine's repositories have no source package {need.origin} of {need.revision}, only "
            f"{', '.join(versions) or 'none'}.",
            "Ask for that release, or give a tarball, a git repository or a directory.",
        )

    def _apt(self, options: Sequence[str], *arguments: str, cwd: str) -> None:
        done = subprocess.run(
            ["apt-get", "-q", *options, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C", "HOME": self.directory},
            check=False,
        )
        if done.returncode != 0:
            raise UserError(
                f"`apt-get {' '.join(arguments)}` failed: {last_line(done.stdout)}.",
                "Look at the machine's package sources, or give a tarball, a git repository or a directory.",
            )


def unpack(found: Found, target: str) -> None:
    """Put a source's tree at *target*, all of it or nothing.

    :raises UserError: it cannot be unpacked.
    """
    temporary = f"{target}.unpacking"
    shutil.rmtree(temporary, ignore_errors=True)
    os.makedirs(temporary)
    if found.need.kind == "directory":
        os.rmdir(temporary)
        shutil.copytree(found.path, temporary, symlinks=True, ignore=shutil.ignore_patterns(".git", ".hg"))
    elif found.need.kind == "git":
        archive = subprocess.Popen(
            ["git", "-c", "safe.directory=*", "--git-dir", _git_dir(found.path), "archive", found.digest],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        _tar(["-x", "-C", temporary], found, stdin=archive.stdout)
        if archive.wait() != 0:
            raise UserError(
                f"git cannot give {found.digest} of {found.path}.", "Remove the repository, then run again."
            )
    else:
        _tar(["-x", "-f", found.path, "--strip-components=1", "-C", temporary], found, stdin=None)
    if os.path.isdir(target):
        shutil.rmtree(target)
    os.rename(temporary, target)


def _tar(arguments: Sequence[str], found: Found, *, stdin: object) -> None:
    done = subprocess.run(
        ["tar", "--no-same-owner", *arguments],
        stdin=stdin,  # type: ignore[call-overload]
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise UserError(
            f"{found.path} cannot be unpacked: {last_line(done.stderr)}.",
            f"Get {found.need.name} anew from {found.need.upstream or 'its author'}.",
        )


# The status of a process that was ended as it said nothing, the one of timeout(1).
_SILENT = 124


def _listen(process: subprocess.Popen[bytes], patience: Optional[float]) -> Tuple[int, str]:
    """Return the status and the words of a process, which is ended if it says nothing for *patience* seconds."""
    said = b""
    with cast(IO[bytes], process.stdout) as stream:
        while select.select([stream], [], [], patience)[0]:
            block = os.read(stream.fileno(), _CHUNK)
            if not block:
                return process.wait(), said.decode("utf-8", "replace")
            said += block
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return _SILENT, said.decode("utf-8", "replace")


def file_digest(path: str) -> str:
    """Return the SHA-256 of a file."""
    total = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(_CHUNK), b""):
            total.update(block)
    return total.hexdigest()


def _walk(path: str) -> Iterator[Tuple[str, str]]:
    for directory, folders, files in os.walk(path):
        folders[:] = sorted(folder for folder in folders if folder not in (".git", ".hg"))
        links = [folder for folder in folders if os.path.islink(os.path.join(directory, folder))]
        for name in sorted([*files, *links]):
            full = os.path.join(directory, name)
            if os.path.isfile(full) or os.path.islink(full):
                yield os.path.relpath(full, path), full


def _name(need: Need) -> str:
    return need.name if need.kind == "file" else need.origin.rstrip("/").rsplit("/", 1)[-1]


def _refname(need: Need) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", need.revision or "HEAD")


def _local(origin: str) -> str:
    return origin[len("file://") :] if origin.startswith("file://") else origin


def _git_dir(path: str) -> str:
    inner = os.path.join(path, ".git")
    return inner if os.path.isdir(inner) else path


def _load(path: str) -> Dict[str, List[object]]:
    with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as stream:
        content = json.load(stream)
        return content if isinstance(content, dict) else {}
    return {}


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def age(path: str) -> float:
    """Return the seconds since a file was last touched."""
    return time.time() - os.path.getmtime(path)
