# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: commits out of git repositories, local and remote ones.

from __future__ import annotations

import hashlib
import os
import re
from typing import Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import last_line
from ansible_collections.xen.stubdom.plugins.module_utils._images import sources
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch import programs
from ansible_collections.xen.stubdom.plugins.module_utils._images.sources import Source

_UNREACHED = "Check that the build host can reach it, or set the source to a repository or directory on that host."


class Git:
    """Repositories of one work directory.

    :param timeout: seconds without a byte after which a download is given up.
    """

    def __init__(self, work: str, timeout: float) -> None:
        self._work = work
        self._timeout = timeout

    def local(self, source: Source) -> Tuple[str, str]:
        """Return a repository on this machine and the commit of the source in it.

        :raises UserError: there is none, or it is another commit than expected.
        """
        path = source.path
        if not os.path.isdir(path):
            raise UserError(
                f"The git repository {path} of {source.name} does not exist.",
                f"Correct {sources.PARAMETERS[source.name]}.git.",
            )
        # A mirror may have the commit without the tag.
        commit = self._commit(path, source.revision or "HEAD") or self._commit(path, source.checksum)
        if commit is None:
            raise UserError(
                f"The git repository {path} has no revision {source.revision!r}.",
                f"Fetch it there, or set {sources.PARAMETERS[source.name]}.revision to another one.",
            )
        return path, commit

    def fetched(self, source: Source) -> Optional[Tuple[str, str]]:
        """Return the repository of a remote source and its commit, None before it was fetched."""
        path = self._repository(source)
        # A commit is looked for as such, and a tag or branch under the name it was fetched for; neither is asked for
        # again as long as its commit is the one that is expected.
        commit = self._commit(path, source.checksum or _reference(source))
        return None if commit is None else (path, commit)

    def fetch(self, source: Source) -> None:
        """Fetch a remote source.

        :raises UserError: it cannot be fetched, or it is another commit than expected.
        """
        path = self._repository(source)
        if not os.path.isdir(path):
            temporary = f"{path}.{os.getpid()}"
            self._git(None, "init", "--quiet", "--bare", temporary)
            os.rename(temporary, path)
        revision = source.revision or "HEAD"
        target = _reference(source)
        shallow = ("--depth=1", "--no-tags")
        attempts = [
            (shallow, (f"+{revision}:{target}",)),
            (shallow, (f"+refs/tags/{revision}:{target}",)),
            # Old servers give a commit only as part of everything.
            (("--no-tags",), ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")),
        ]
        output = ""
        for options, references in attempts:
            # Without "--", an origin that looks like an option would be one.
            status, output = self._git(
                path, "fetch", "--progress", *options, "--", source.origin, *references, silence=self._silence(source)
            )
            if status == programs.SILENT:
                raise UserError(
                    f"{source.shown} sent nothing of {source.name} for {self._timeout:.0f} seconds.", _UNREACHED
                )
            commit = self._commit(path, source.checksum or target) or self._commit(path, revision)
            if status == 0 and commit is not None:
                break
        else:
            raise UserError(
                f"Cannot fetch {revision} of {source.name} from {source.shown}: {last_line(output)}.", _UNREACHED
            )
        arrived = self._commit(path, target) or commit
        if source.checksum is not None and arrived != source.checksum and self._commit(path, source.checksum) is None:
            self._git(path, "update-ref", "-d", target)
            raise sources.mismatch([(source, arrived)])
        self._git(path, "update-ref", target, source.checksum or arrived)

    def _repository(self, source: Source) -> str:
        mark = hashlib.sha256(source.origin.encode()).hexdigest()[:12]
        return os.path.join(self._work, "git", f"{source.name}-{mark}.git")

    def _commit(self, repository: str, revision: Optional[str]) -> Optional[str]:
        if revision is None or not os.path.isdir(repository):
            return None
        status, output = self._git(repository, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
        return output.strip() if status == 0 else None

    def _silence(self, source: Source) -> Optional[float]:
        """How long git may print nothing; over HTTP it sees to that itself, and may be silent while it loads."""
        return None if source.origin.startswith("http") else self._timeout

    def _git(self, repository: Optional[str], *arguments: str, silence: Optional[float] = None) -> Tuple[int, str]:
        where = [] if repository is None else ["--git-dir", directory(repository)]
        try:
            return programs.run(
                ["git", *where, *arguments],
                environment={
                    "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
                    "HOME": self._work,
                    "GIT_TERMINAL_PROMPT": "0",
                    # Others, such as ext::, run programs that an address names.
                    "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
                    "GIT_HTTP_LOW_SPEED_LIMIT": "1",
                    "GIT_HTTP_LOW_SPEED_TIME": str(int(self._timeout)),
                    "GIT_CONFIG_COUNT": "1",
                    "GIT_CONFIG_KEY_0": "safe.directory",
                    "GIT_CONFIG_VALUE_0": "*",
                },
                silence=silence,
            )
        except FileNotFoundError as error:
            raise UserError(
                "git is not installed on the build host.",
                "Install it there, or give each source as directory or tarball.",
            ) from error


def directory(repository: str) -> str:
    """Return where git keeps its data, of a bare repository or one with files."""
    inner = os.path.join(repository, ".git")
    return inner if os.path.isdir(inner) else repository


def _reference(source: Source) -> str:
    return "refs/fetched/" + re.sub(r"[^A-Za-z0-9._-]", "-", source.revision or "HEAD")
