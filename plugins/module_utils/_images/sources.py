# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: which files and trees a build needs, where each comes from and what proves it.
# It reads nothing; _fetch.py does what is planned here.

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images import releases
from ansible_collections.xen.stubdom.plugins.module_utils._images.releases import Release

XEN_TARBALL = "https://downloads.xenproject.org/release/xen/{point}/xen-{point}.tar.gz"

KINDS = ("tarball", "git", "directory", "package")


@dataclass(frozen=True)
class Need:
    """One source of a build.

    :param name: "xen", "mini-os", "qemu-xen-traditional", or the name of a tarball in stubdom/.
    :param kind: how it comes: file (a tarball of stubdom/), tarball (of a tree), git, directory or package.
    :param origin: URL, path or package.
    :param revision: of a git repository.
    :param checksum: SHA-256 of a file, or commit; what is downloaded must have it. None if none is known.
    :param upstream: where a missing file can be had.
    """

    name: str
    kind: str
    origin: str
    revision: Optional[str] = None
    checksum: Optional[str] = None
    upstream: str = ""

    @property
    def remote(self) -> bool:
        """Whether it comes over a network, so that something has to prove it."""
        if self.kind == "git":
            return not self.origin.startswith(("/", "file://"))
        return self.kind in ("file", "tarball") and "://" in self.origin and not self.origin.startswith("file://")


@dataclass(frozen=True)
class Wishes:
    """What the operator said about sources.

    :param trees: by source ("xen", "mini-os", "qemu-xen-traditional"): a dictionary with one of KINDS, and revision or
        checksum.
    :param directory: where the tarballs lie; then nothing is downloaded at all.
    :param mirror: base URL of the tarballs in place of upstream's.
    :param checksums: SHA-256 by file name; they come before ours.
    """

    trees: Mapping[str, Mapping[str, Any]]
    directory: Optional[str] = None
    mirror: Optional[str] = None
    checksums: Optional[Mapping[str, str]] = None
    allow_unverified: bool = False


def plan(release: str, row: Release, images: Sequence[str], wishes: Wishes) -> Tuple[Need, ...]:
    """Return everything that has to be there before the build begins.

    :raises UserError: a wish is not understood, or something would be downloaded that nothing can prove.
    """
    checksums = dict(wishes.checksums or {})
    for file, checksum in checksums.items():
        if not re.match(r"[0-9a-f]{64}\Z", str(checksum)):
            raise UserError(f"The checksum {checksum!r} of {file} is no SHA-256.", "Give 64 hexadecimal digits.")
    needs = [_tree(row, "xen", _xen_default(release, row, wishes), wishes)]
    if row.mini_os is not None:
        needs.append(_tree(row, "mini-os", _git_default("mini-os", row.mini_os), wishes))
    if row.qemu is not None and releases.needs_qemu(row, images):
        needs.append(_tree(row, "qemu-xen-traditional", _git_default("qemu-xen-traditional", row.qemu), wishes))
    for tarball in releases.tarballs(row, images):
        needs.append(_file(tarball, checksums.get(tarball.file, tarball.sha256), wishes))
    for need in needs:
        _refuse_unproven(need, wishes)
    return tuple(needs)


def _xen_default(release: str, row: Release, wishes: Wishes) -> Need:
    _version, point = releases.numbers(release)
    if point is None or release == row.point:
        return Need(
            "xen", "git", releases.REPOSITORIES["xen"], row.xen.revision, row.xen.commit, releases.REPOSITORIES["xen"]
        )
    return Need("xen", "git", releases.REPOSITORIES["xen"], f"RELEASE-{release}", None, releases.REPOSITORIES["xen"])


def _git_default(name: str, pin: releases.Pin) -> Need:
    url = releases.REPOSITORIES[name]
    return Need(name, "git", url, pin.revision, pin.commit, url)


def _tree(row: Release, name: str, default: Need, wishes: Wishes) -> Need:
    wish = {key: value for key, value in (wishes.trees.get(name) or {}).items() if value is not None}
    kinds = [kind for kind in KINDS if kind in wish]
    if len(kinds) > 1:
        raise UserError(f"The source of {name} is given as {' and as '.join(kinds)}.", "Keep one of them.")
    if not kinds:
        if wishes.directory is not None:
            raise UserError(
                f"Nothing says where {name} is, and sources_directory rules out a download.",
                f"Give a tarball, a directory or a local git repository; upstream's is {default.upstream}"
                + (f", revision {default.checksum or default.revision}." if default.revision else "."),
            )
        wish["git"] = default.origin
        kinds = ["git"]
    kind, origin = kinds[0], str(wish[kinds[0]])
    checksum = wish.get("checksum")
    if kind == "git":
        asked = str(wish.get("revision", default.revision))
        if checksum is None and asked == default.revision:
            checksum = default.checksum
        return _git(name, origin, asked, checksum, default)
    if kind == "package" and name != "xen":
        raise UserError(
            f"{name} cannot come from a source package.", "Give a tarball, a git repository or a directory."
        )
    if kind == "directory" and not os.path.isabs(origin):
        raise UserError(f"The directory {origin!r} of {name} is no absolute path.", "Give it from the root on.")
    if kind == "tarball" and checksum is None:
        checksum = (wishes.checksums or {}).get(origin.rsplit("/", 1)[-1])
    # Of a source package the version is chosen by the release it has to be.
    revision = row.name if kind == "package" else None
    return Need(name, kind, origin, revision, checksum, default.upstream)


def _git(name: str, origin: str, revision: str, checksum: Optional[str], default: Need) -> Need:
    # A whole commit proves itself.
    if checksum is None and re.match(r"[0-9a-f]{40}\Z", revision):
        checksum = revision
    return Need(name, "git", origin, revision, checksum, default.upstream)


def _file(tarball: releases.Tarball, checksum: Optional[str], wishes: Wishes) -> Need:
    upstream = f"{tarball.upstream}/{tarball.file}"
    if wishes.directory is not None:
        origin = os.path.join(wishes.directory, tarball.file)
    elif wishes.mirror is not None:
        origin = f"{wishes.mirror.rstrip('/')}/{tarball.file}"
    else:
        origin = upstream
    return Need(tarball.file, "file", origin, None, checksum, upstream)


def _refuse_unproven(need: Need, wishes: Wishes) -> None:
    if need.checksum is not None or wishes.allow_unverified or not need.remote:
        return
    what = "commit" if need.kind == "git" else "SHA-256"
    raise UserError(
        f"Nothing proves {need.name} from {need.origin}: no {what} of it is known.",
        f"Give its {what}"
        + (" as checksum of that source" if need.kind != "file" else f" in checksums, under {need.name}")
        + ", or set allow_unverified if you trust what comes.",
    )


def missing(needs: Sequence[Need], absent: Sequence[str]) -> UserError:
    """Say of every file that is not there what it is and where it can be had."""
    lines = []
    for need in needs:
        if need.name in absent:
            lines.append(f"{need.origin} (sha256 {need.checksum or 'not known'}; upstream {need.upstream})")
    return UserError(
        "Files are missing: " + "; ".join(lines) + ".",
        "Fetch them on a machine that can, put them there under these names, and run again.",
    )


def wrong(need: Need, found: str) -> UserError:
    """Say that a file or commit is not what it should be."""
    what = "commit" if need.kind == "git" else "sha256"
    return UserError(
        f"{need.name} from {need.origin} has {what} {found}, not {need.checksum}.",
        f"Get it from {need.upstream or 'its author'}, or correct the checksum if yours is meant.",
    )


def version(need: Need, digest: str) -> str:
    """Return what a manifest says about the version of a source."""
    if need.kind == "file":
        match = re.search(r"-(\d[\d.]*\d)", need.name)
        return match[1] if match else digest
    if need.kind == "git":
        return need.revision or digest
    return os.path.basename(need.origin)


def listed(name: str, kind: str, version: str, digest: str) -> Dict[str, str]:
    """Return a source in the form of the manifest."""
    if kind == "git":
        return {"name": name, "version": version, "commit": digest}
    return {"name": name, "version": version, "sha256": digest}
