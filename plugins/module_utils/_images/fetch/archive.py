# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: unpacks a source that was verified.

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import IO, Optional, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch import git
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch.store import LocalSource

# Lines of tar that only say that there was an error, or are no error.
_NO_REASON = re.compile(
    r"Exiting with failure status|Error is not recoverable|Child returned status|Skipping to next header"
    r"|Removing leading"
)


def unpack(found: LocalSource, target: str) -> None:
    """Put a source's tree at *target*, all of it or nothing.

    :raises UserError: it cannot be unpacked.
    """
    temporary = f"{target}.unpacking"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        _unpack(found, temporary)
        if os.path.isdir(target):
            shutil.rmtree(target)
        os.rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack(found: LocalSource, target: str) -> None:
    kind = found.source.kind
    if kind == "directory":
        try:
            shutil.copytree(found.path, target, symlinks=True, ignore=shutil.ignore_patterns(".git", ".hg"))
        except (OSError, shutil.Error) as error:
            raise UserError(
                f"Cannot copy the directory {found.path} of {found.source.name}: {_first_reason(error)}.",
                "Make all of it readable for the account that builds, and leave it alone while it is copied.",
            ) from error
        return
    os.makedirs(target)
    if kind != "git":
        _tar(["-x", "-f", found.path, "--strip-components=1", "-C", target], found)
        return
    archive = subprocess.Popen(
        ["git", "-c", "safe.directory=*", "--git-dir", git.directory(found.path), "archive", found.digest],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        _tar(["-x", "-C", target], found, archive.stdout)
    finally:
        if archive.stdout is not None:
            archive.stdout.close()
        status = archive.wait()
    if status != 0:
        raise UserError(
            f"The git repository {found.path} cannot give the commit {found.digest}.",
            "Remove the repository, then run again.",
        )


def _tar(arguments: Sequence[str], found: LocalSource, stdin: Optional[IO[bytes]] = None) -> None:
    done = subprocess.run(
        ["tar", "--no-same-owner", *arguments],
        stdin=stdin or subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )
    if done.returncode != 0:
        raise UserError(
            f"Cannot unpack {found.path}: {reason(done.stderr.decode('utf-8', 'replace'))}.",
            f"Get {found.source.name} again from {found.source.upstream or 'its author'}.",
        )


def reason(output: str) -> str:
    """Return the line of tar's messages that says why it failed."""
    lines = [line.strip().rstrip(".") for line in output.splitlines() if line.strip()]
    reasons = [line for line in lines if not _NO_REASON.search(line)]
    return (reasons or lines or ["tar printed no message"])[0]


def _first_reason(error: Exception) -> str:
    """shutil.Error carries a list of (source, target, reason)."""
    if isinstance(error, shutil.Error) and error.args and error.args[0]:
        return str(error.args[0][0][-1])
    return str(error)
