# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: source packages of Debian and Ubuntu, which apt downloads and verifies with the
# repositories that the machine is set up for.

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import List, Optional, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import last_line
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch import programs
from ansible_collections.xen.stubdom.plugins.module_utils._images.sources import Source

_OTHERWISE = "Set xen to a tarball, git repository or directory instead."


class Apt:
    """Source packages of one work directory.

    :param timeout: seconds without a byte after which a download is given up.
    """

    def __init__(self, work: str, timeout: float) -> None:
        self._work = work
        self._timeout = timeout

    def fetched(self, source: Source) -> Optional[str]:
        """Return the path of upstream's tarball in the package, None before it was fetched."""
        directory = self._directory(source)
        if not os.path.isdir(directory):
            return None
        tarballs = (name for name in sorted(os.listdir(directory)) if re.search(r"\.orig\.tar\.\w+$", name))
        return next((os.path.join(directory, name) for name in tarballs), None)

    def fetch(self, source: Source) -> None:
        """Have apt download and verify the package's source.

        :raises UserError: there is no apt, no such package, or apt failed.
        """
        if shutil.which("apt-get") is None:
            raise UserError("xen.package needs apt, and the build host has no apt-get.", _OTHERWISE)
        state = os.path.join(self._work, "apt")
        for name in ("lists/partial", "cache/archives/partial"):
            os.makedirs(os.path.join(state, name), exist_ok=True)
        options = self._options(state)
        directory = self._directory(source)
        temporary = f"{directory}.{os.getpid()}"
        os.makedirs(temporary)
        try:
            self._apt(options, "update", directory=temporary)
            package = source.origin
            if source.revision is not None:
                package = f"{package}={self._version(options, source, temporary)}"
            self._apt(options, "source", "--download-only", package, directory=temporary)
            os.rename(temporary, directory)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _directory(self, source: Source) -> str:
        return os.path.join(self._work, "packages", f"{source.origin}-{source.revision or 'any'}")

    def _options(self, state: str) -> List[str]:
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
                lines.add(f"deb-src {option}{uri} {release} {component}\n")
        path = os.path.join(state, "sources.list")
        with files.replacing(path) as stream:
            stream.write("".join(sorted(lines)).encode())
        return [
            f"-oDir::Etc::SourceList={path}",
            "-oDir::Etc::SourceParts=/dev/null",
            f"-oDir::State::Lists={state}/lists",
            f"-oDir::Cache={state}/cache",
            f"-oAcquire::http::Timeout={int(self._timeout)}",
            "-oAPT::Sandbox::User=",
        ]

    def _version(self, options: Sequence[str], source: Source, directory: str) -> str:
        """Return the newest version of the package that is of the release.

        :raises UserError: there is none.
        """
        shown = subprocess.run(
            ["apt-cache", *options, "showsrc", "--only-source", source.origin],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=directory,
            check=False,
        ).stdout
        versions: List[str] = re.findall(r"(?m)^Version: (\S+)$", shown)
        for version in versions:
            if version.split(":")[-1].startswith(f"{source.revision}."):
                return version
        raise UserError(
            f"The repositories of the build host have no source package {source.origin} of {source.revision}; "
            f"they have {', '.join(versions) or 'none'}.",
            f"Set release to what they have. {_OTHERWISE}",
        )

    def _apt(self, options: Sequence[str], *arguments: str, directory: str) -> None:
        status, output = programs.run(
            ["apt-get", "-q", *options, *arguments],
            environment={**os.environ, "HOME": self._work},
            directory=directory,
        )
        if status != 0:
            raise UserError(
                f"`apt-get {' '.join(arguments)}` failed: {last_line(output)}.",
                f"Correct the package sources of the build host. {_OTHERWISE}",
            )
