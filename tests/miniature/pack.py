#!/usr/bin/env python3
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lay out what Xen's servers have: release tarballs, xen-extfiles and git repositories, all of the miniature tree.

The same release always gives the same bytes and the same commits, so that checksums can be compared.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable, Dict, Mapping

HERE = Path(__file__).resolve().parent
TIME = 1_000_000_000

# Directory in tarballs/ → file name upstream and the directory that it unpacks into.
EXTFILES = {
    "newlib-1.16.0": ("newlib-1.16.0.tar.gz", "newlib-1.16.0"),
    "zlib-1.2.3": ("zlib-1.2.3.tar.gz", "zlib-1.2.3"),
    "pciutils-2.2.9": ("pciutils-2.2.9.tar.bz2", "pciutils-2.2.9"),
    "lwip": ("lwip-1.3.0.tar.gz", "lwip"),
    "polarssl-1.1.4": ("polarssl-1.1.4-gpl.tgz", "polarssl-1.1.4"),
    "grub-0.97": ("grub-0.97.tar.gz", "grub-0.97"),
    "ocaml-4.02.0": ("ocaml-4.02.0.tar.gz", "ocaml-4.02.0"),
}

# Release tarballs have these in them up to 4.19 (c5be91eb81 in xen.git).
BUNDLED = {"mini-os": "extras/mini-os", "qemu-xen-traditional": "tools/qemu-xen-traditional"}
LAST_BUNDLED = 19


@dataclass(frozen=True)
class Packed:
    """Where everything lies. Checksums are SHA-256 by file name; commits by repository."""

    release: str
    tarball: str
    extfiles: str
    git: str
    checksums: Dict[str, str]
    commits: Dict[str, str]


def pack(destination: Path, release: str) -> Packed:
    """Make everything of one release, as in 4.17.5, in a directory that is empty or not there."""
    minor = int(release.split(".")[1])
    trees = destination / "trees"
    for name in ("xen", "mini-os", "qemu-xen-traditional"):
        copy_tree(HERE / name, trees / name, release)
    (destination / "release").mkdir(parents=True)
    (destination / "extfiles").mkdir()

    commits = {
        "xen": repository(trees / "xen", destination / "git" / "xen.git", f"RELEASE-{release}"),
        "mini-os": repository(trees / "mini-os", destination / "git" / "mini-os.git", f"xen-RELEASE-4.{minor}.0"),
        "qemu-xen-traditional": repository(
            trees / "qemu-xen-traditional", destination / "git" / "qemu-xen-traditional.git", f"xen-4.{minor}.0"
        ),
    }
    bundle = trees / "bundle"
    shutil.copytree(trees / "xen", bundle)
    if minor <= LAST_BUNDLED:
        for name, place in BUNDLED.items():
            shutil.copytree(trees / name, bundle / place)
    tarball = destination / "release" / f"xen-{release}.tar.gz"
    checksums = {tarball.name: archive(bundle, f"xen-{release}", tarball)}
    for name, (file, top) in EXTFILES.items():
        checksums[file] = archive(HERE / "tarballs" / name, top, destination / "extfiles" / file)
    shutil.rmtree(trees)
    packed = Packed(release, str(tarball), str(destination / "extfiles"), str(destination / "git"), checksums, commits)
    (destination / "packed.json").write_text(json.dumps(asdict(packed), indent=2) + "\n", encoding="utf-8")
    return packed


def copy_tree(source: Path, target: Path, release: str) -> None:
    """Copy a tree and put the numbers of the release into its files."""
    _major, minor, point = release.split(".")
    shutil.copytree(source, target)
    for path in target.rglob("*"):
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace("@MINOR@", minor).replace("@POINT@", point), encoding="utf-8")


COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, mtime=TIME),
    ".tgz": lambda data: gzip.compress(data, mtime=TIME),
    ".bz2": bz2.compress,
}


def archive(source: Path, top: str, path: Path) -> str:
    """Write a compressed tarball of *source* that unpacks into *top*; return its SHA-256."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.add(source, top, recursive=False, filter=neutral)
        for member in sorted(source.rglob("*")):
            tar.add(member, f"{top}/{member.relative_to(source)}", recursive=False, filter=neutral)
    data = COMPRESSORS[path.suffix](plain.getvalue())
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def neutral(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Take away what depends on who packs, and when."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mtime = TIME
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def repository(source: Path, bare: Path, tag: str) -> str:
    """Make a bare repository with one commit of *source*, tagged; return the commit."""
    bare.parent.mkdir(parents=True, exist_ok=True)
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in WHO.items()}
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(bare.parent),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_DIR": str(bare),
        "GIT_WORK_TREE": str(source),
        **who,
    }

    def git(*arguments: str, **more: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            env={**environment, **more},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=master", str(bare)], check=True)
    git("add", "--all", ".")
    git("commit", "--quiet", "--message", f"Everything of {tag}")
    git("tag", "--annotate", "--message", tag, tag)
    return git("rev-parse", f"{tag}^{{commit}}")


WHO = {"NAME": "The miniature", "EMAIL": "miniature@example.org", "DATE": f"{TIME} +0000"}


def main() -> None:
    """Pack one release."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("destination", type=Path)
    parser.add_argument("--release", default="4.17.5")
    arguments = parser.parse_args()
    print(json.dumps(asdict(pack(arguments.destination, arguments.release)), indent=2))


if __name__ == "__main__":
    main()
