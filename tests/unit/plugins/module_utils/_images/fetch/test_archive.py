# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch import archive
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch.store import LocalSource
from ansible_collections.xen.stubdom.plugins.module_utils._images.sources import Source


def unpack(path: Path, kind: str = "tarball", digest: str = "x") -> Path:
    target = path.parent / "tree"
    archive.unpack(LocalSource(Source("xen", kind, str(path)), str(path), digest), str(target))
    return target


def packed(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w:gz") as made:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 4
            made.addfile(entry, io.BytesIO(b"text"))
    return path


def test_a_tarball_loses_its_first_directory(tmp_path: Path) -> None:
    assert (unpack(packed(tmp_path / "x.tar.gz", "xen-4.17/Makefile")) / "Makefile").read_text() == "text"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no archive at all, and long enough for one block" * 20, "gzip: stdin: not in gzip format"),
        (gzip.compress(b"no archive at all" * 100), "This does not look like a tar archive"),
        (gzip.compress(b"\0" * 10240)[:-9], "gzip: stdin: unexpected end of file"),
        (b"", "Member name contains '..'"),
    ],
    ids=["no archive", "compressed, no archive", "cut", "leaves its directory"],
)
def test_the_reason_of_a_refusal_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.tar.gz").write_bytes(content)
    if not content:
        packed(tmp_path / "x.tar.gz", "xen/../../outside")
    with pytest.raises(UserError, match=reason) as refused:
        unpack(tmp_path / "x.tar.gz")
    assert "Exiting with failure status" not in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.tar.gz"]


def test_a_repository_gives_a_commit(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    git = ["git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    repository.mkdir()
    (repository / "file").write_text("text")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert (unpack(repository, "git", commit) / "file").read_text() == "text"
    with pytest.raises(UserError):
        unpack(repository, "git", "0" * 40)


def test_a_directory_is_copied_without_its_history(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / ".git").mkdir(parents=True)
    (source / "file").write_text("text")
    assert os.listdir(unpack(source, "directory")) == ["file"]
    os.mkfifo(source / "pipe")
    with pytest.raises(UserError, match="Cannot copy the directory"):
        unpack(source, "directory")
    assert not (tmp_path / "tree.unpacking").exists()
