# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: which files and trees a build needs, where each comes from and which checksum
# verifies it. It reads nothing; the package fetch does what is planned here.

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple
from urllib.parse import urlsplit, urlunsplit

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images import releases, tarballs
from ansible_collections.xen.stubdom.plugins.module_utils._images.releases import Release

KINDS = ("tarball", "git", "directory", "package")

# The parameter of stubdom_source for each tree.
PARAMETERS = {"xen": "xen", "mini-os": "mini_os", "qemu-xen-traditional": "qemu_traditional"}

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_COMMIT = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+\Z")
# What a file may be called in the directory of downloads. Hidden names are the collection's own.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,199}\Z")
# A URL of a transport that runs no program named in it (as ext:: does), or the short form of ssh.
_REPOSITORY = re.compile(r"(?:git|https?|ssh)://[^/]|(?:[\w.-]+@)?[\w.-]+:(?!:|//)")
# Control characters, and surrogates that stand for bytes of no text.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Source:
    """One source of a build.

    :param name: "xen", "mini-os", "qemu-xen-traditional", or the name of a tarball in stubdom/.
    :param kind: file (a tarball of stubdom/), tarball (of a tree), git, directory or package.
    :param origin: URL, path or package.
    :param revision: of a git repository.
    :param checksum: SHA-256 of a file, or commit; what is downloaded must have it. None if none is known.
    :param upstream: where a missing file is published.
    """

    name: str
    kind: str
    origin: str
    revision: Optional[str] = None
    checksum: Optional[str] = None
    upstream: str = ""

    @property
    def remote(self) -> bool:
        """Whether it comes over a network, so that something has to verify it."""
        if self.kind == "git":
            return not self.origin.startswith(("/", "file://"))
        return self.kind in ("file", "tarball") and "://" in self.origin and not self.origin.startswith("file://")

    @property
    def path(self) -> str:
        """Where it lies, if it is on this machine."""
        return self.origin[len("file://") :] if self.origin.startswith("file://") else self.origin

    @property
    def shown(self) -> str:
        """The origin without a password."""
        return without_password(self.origin)

    @property
    def digest_name(self) -> str:
        """What verifies it."""
        return "commit" if self.kind == "git" else "SHA-256"

    @property
    def checksum_parameter(self) -> str:
        """The parameter of stubdom_source that sets its checksum."""
        return "checksums" if self.kind == "file" else f"{PARAMETERS[self.name]}.checksum"

    @property
    def file_name(self) -> str:
        """The name that a download is stored under."""
        return self.name if self.kind == "file" else urlsplit(self.origin).path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class SourceOptions:
    """What the operator set about sources.

    :param trees: by source ("xen", "mini-os", "qemu-xen-traditional"): a dictionary with one of KINDS, and revision or
        checksum.
    :param directory: where the tarballs lie; then nothing is downloaded at all.
    :param mirror: base URL of the tarballs in place of upstream's.
    :param checksums: SHA-256 by file name; they take precedence over ours.
    """

    trees: Mapping[str, Mapping[str, Any]]
    directory: Optional[str] = None
    mirror: Optional[str] = None
    checksums: Optional[Mapping[str, Any]] = None
    allow_unverified: bool = False


def plan(release: str, row: Release, images: Sequence[str], options: SourceOptions) -> Tuple[Source, ...]:
    """Return everything that has to be there before the build begins.

    :raises UserError: an option is not understood, or something would be downloaded that nothing can verify.
    """
    checksums = _checksums(options)
    planned = [_tree(row, "xen", _xen_default(release, row), options, checksums)]
    if row.mini_os is not None:
        planned.append(_tree(row, "mini-os", _git_default("mini-os", row.mini_os), options, checksums))
    if row.qemu is not None and releases.needs_qemu(row, images):
        default = _git_default("qemu-xen-traditional", row.qemu)
        planned.append(_tree(row, "qemu-xen-traditional", default, options, checksums))
    for tarball in tarballs.needed(row, images):
        planned.append(_file(tarball, checksums.get(tarball.file, tarball.sha256), options))
    for source in planned:
        _validate_origin(source)
    if not options.allow_unverified:
        _refuse_unverified([source for source in planned if source.remote and source.checksum is None])
    return tuple(planned)


def require_trees(row: Release, images: Sequence[str], names: Sequence[str]) -> None:
    """:raises UserError: *names* are not all trees that a build begins with."""
    trees = ["xen"]
    if row.mini_os is not None:
        trees.append("mini-os")
    if releases.needs_qemu(row, images):
        trees.append("qemu-xen-traditional")
    missing = [name for name in trees if name not in names]
    if missing:
        raise UserError(
            f"sources has no {' and no '.join(missing)}, which {', '.join(images)} of Xen {row.name} is built from.",
            "Set sources to the return value sources of stubdom_source for the same release and images.",
        )


# --- checksums -------------------------------------------------------------------------------------------------------


def _checksums(options: SourceOptions) -> Dict[str, str]:
    """Return the checksums of the option `checksums`.

    :raises UserError: some are none, there or in the sources; all of them are named.
    """
    wrong = []
    checksums = {}
    for file, checksum in (options.checksums or {}).items():
        checksums[str(file)] = str(checksum).lower()
        if not isinstance(checksum, str) or not _SHA256.match(checksum.lower()):
            wrong.append(f"checksums has {checksum!r} for {file}")
    for name, tree in options.trees.items():
        checksum = tree.get("checksum")
        expected = _COMMIT if tree.get("git") is not None or tree.get("tarball") is None else _SHA256
        if checksum is not None and not expected.match(str(checksum).lower()):
            wrong.append(f"{PARAMETERS[name]}.checksum is {checksum!r}")
    if wrong:
        raise UserError(
            f"Not a checksum: {'; '.join(wrong)}.",
            "Set the SHA-256 of a tarball (64 hexadecimal digits, in quotes) or the commit of a git revision (40).",
        )
    return checksums


def _refuse_unverified(sources: Sequence[Source]) -> None:
    """:raises UserError: there are any; all of them are named."""
    if not sources:
        return
    listed = "; ".join(
        f"{source.name} from {source.shown} (no {source.digest_name} is known to verify it)" for source in sources
    )
    where = dict.fromkeys(source.checksum_parameter for source in sources)
    raise UserError(
        f"Refusing to download {listed}.",
        f"Set what is missing in {' and '.join(where)}, or set allow_unverified if you trust these servers.",
    )


# --- origins ---------------------------------------------------------------------------------------------------------


def _xen_default(release: str, row: Release) -> Source:
    _version, point = releases.numbers(release)
    url = releases.REPOSITORIES["xen"]
    if point is None or release == row.point:
        return Source("xen", "git", url, row.xen.revision, row.xen.commit, url)
    return Source("xen", "git", url, f"RELEASE-{release}", None, url)


def _git_default(name: str, pin: releases.Pin) -> Source:
    url = releases.REPOSITORIES[name]
    return Source(name, "git", url, pin.revision, pin.commit, url)


def _tree(row: Release, name: str, default: Source, options: SourceOptions, checksums: Mapping[str, str]) -> Source:
    parameter = PARAMETERS[name]
    chosen = {key: str(value) for key, value in (options.trees.get(name) or {}).items() if value is not None}
    kinds = [kind for kind in KINDS if kind in chosen]
    if len(kinds) > 1:
        raise UserError(f"{parameter} sets {' and '.join(kinds)} for one source.", f"Keep one of them in {parameter}.")
    if not kinds:
        if options.directory is not None:
            raise UserError(
                f"No source is set for {name}, and directory disables downloads.",
                f"Set {parameter} to a tarball, git repository or directory on this machine; upstream's is "
                f"{default.upstream}, revision {default.checksum or default.revision}.",
            )
        chosen["git"] = default.origin
        kinds = ["git"]
    kind, origin = kinds[0], chosen[kinds[0]]
    checksum = chosen.get("checksum", "").lower() or None
    if kind == "git":
        revision = chosen.get("revision") or default.revision
        if checksum is None and revision == default.revision:
            checksum = default.checksum
        # A whole commit verifies itself.
        if checksum is None and _COMMIT.match(str(revision)):
            checksum = revision
        return Source(name, "git", origin, revision, checksum, default.upstream)
    if kind == "package" and name != "xen":
        raise UserError(
            f"{parameter} sets package, which is possible for xen only.",
            f"Set {parameter} to a tarball, git repository or directory.",
        )
    if kind == "tarball" and checksum is None:
        checksum = checksums.get(origin.rsplit("/", 1)[-1])
    # Of a source package the version is chosen by the release it has to be.
    return Source(name, kind, origin, row.name if kind == "package" else None, checksum, default.upstream)


def _file(tarball: tarballs.Tarball, checksum: Optional[str], options: SourceOptions) -> Source:
    upstream = f"{tarball.upstream}/{tarball.file}"
    if options.directory is not None:
        origin = os.path.join(options.directory, tarball.file)
    elif options.mirror is not None:
        origin = f"{options.mirror.rstrip('/')}/{tarball.file}"
    else:
        origin = upstream
    return Source(tarball.file, "file", origin, None, checksum, upstream)


def _validate_origin(source: Source) -> None:
    """:raises UserError: the origin or revision is nothing that can be fetched."""
    if source.kind == "file":
        parameter = "mirror" if source.remote else "directory"
    else:
        parameter = f"{PARAMETERS[source.name]}.{source.kind}"
    for value in (source.origin, source.revision or ""):
        if _UNPRINTABLE.search(value) or value.startswith("-"):
            raise UserError(
                f"{value!r} is no place or revision of {source.name}: it has a control character or begins with '-'.",
                f"Correct {parameter}.",
            )
    if source.kind == "package":
        if not _PACKAGE.match(source.origin):
            raise UserError(
                f"{source.origin!r} is no name of a source package.", f"Correct {parameter}, for example to xen."
            )
    elif source.kind == "git" and source.remote:
        if not _REPOSITORY.match(source.origin):
            raise UserError(
                f"{source.shown!r} is no repository that {source.name} can be fetched from.",
                f"Set {parameter} to an absolute path, a URL (file, git, http, https, ssh) or HOST:PATH.",
            )
    elif source.remote:
        _validate_url(source, parameter)
    elif not os.path.isabs(source.path):
        raise UserError(
            f"The path {source.origin!r} of {source.name} is not absolute.", f"Begin {parameter} with a slash."
        )


def _validate_url(source: Source, parameter: str) -> None:
    reason = None
    try:
        parts = urlsplit(source.origin)
        # Reading the port validates it.
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            reason = "it is no http:// or https:// address of a server"
        elif not source.origin.isascii() or " " in source.origin:
            reason = "spaces and other characters have to be percent-encoded"
        elif not _FILE_NAME.match(source.file_name):
            reason = "its last part is no name of a file"
    except ValueError as error:
        reason = str(error)
    if reason is not None:
        raise UserError(
            f"Cannot download {source.name} from {source.shown!r}: {reason}.",
            f"Correct {parameter}, for example to https://example.org/{source.name}.tar.gz.",
        )


def without_password(url: str) -> str:
    """Return an address as it may be shown."""
    try:
        parts = urlsplit(url)
        if "@" not in parts.netloc:
            return url
        user, _at, host = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user.split(':')[0]}@{host}"))
    except ValueError:
        return url


# --- messages and the manifest ---------------------------------------------------------------------------------------


def missing(sources: Sequence[Source]) -> UserError:
    """Return the error that names each missing file, its checksum and where it is published."""
    lines = [
        f"{source.path} (SHA-256 {source.checksum or 'not known'}, published at {source.upstream})"
        for source in sources
    ]
    return UserError(
        f"Files are missing: {'; '.join(lines)}.",
        "Download them on another machine, put them at these paths, and run again.",
    )


def mismatch(found: Sequence[Tuple[Source, str]]) -> UserError:
    """Return the error for files and commits that have another checksum than expected."""
    lines = [
        f"{source.name} from {source.shown} has {source.digest_name} {digest}, not {source.checksum}"
        for source, digest in found
    ]
    where = dict.fromkeys(source.checksum_parameter for source, _digest in found)
    upstream = dict.fromkeys(source.upstream for source, _digest in found if source.upstream)
    return UserError(
        f"{'; '.join(lines)}.",
        f"Get {'it' if len(lines) == 1 else 'them'} again from {' and '.join(upstream) or 'its author'}, or correct "
        f"{' and '.join(where)} if the new content is meant.",
    )


def version(source: Source, digest: str) -> str:
    """Return the version of a source for the manifest."""
    if source.kind == "file":
        match = re.search(r"-(\d[\d.]*\d)", source.name)
        return match[1] if match else digest
    if source.kind == "git":
        return source.revision or digest
    return os.path.basename(source.origin)


def listed(name: str, kind: str, version: str, digest: str) -> Dict[str, str]:
    """Return a source in the form of the manifest."""
    if kind == "git":
        return {"name": name, "version": version, "commit": digest}
    return {"name": name, "version": version, "sha256": digest}
