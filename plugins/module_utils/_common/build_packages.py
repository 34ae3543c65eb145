# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the packages that a build from source needs, by distribution.

from __future__ import annotations

from dataclasses import replace
from typing import Mapping, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions

# As a message names them: "base", and by image or by what an older release asks for.
BUILDS: Mapping[str, str] = {
    "base": "the tools and headers that a build of Xen needs",
    "pv-grub-x86_32": "the 32-bit headers of the C library",
    "hvmloader": "as86, ld86, the headers of lzma and the 32-bit headers of the C library",
    "texinfo": "makeinfo",
    "libcrypto": "the headers of OpenSSL",
    "libaio": "the headers of libaio",
}


# By the key of the distribution.
# fmt: off
PACKAGES: Mapping[str, Mapping[str, Tuple[str, ...]]] = {
    "debian": {
        "base": (
            "acpica-tools", "bison", "bubblewrap", "bzip2", "file", "flex", "gcc", "gettext", "git", "libc6-dev",
            "libglib2.0-dev", "libncurses-dev", "libpixman-1-dev", "libyajl-dev", "make", "patch", "perl", "pkg-config",
            "python3-dev", "python3-setuptools", "uuid-dev", "xz-utils", "zlib1g-dev",
        ),
        "pv-grub-x86_32": ("gcc-multilib",),
        "hvmloader": ("bcc", "bin86", "gcc-multilib", "liblzma-dev"),
        "texinfo": ("texinfo",),
        "libcrypto": ("libssl-dev",),
        "libaio": ("libaio-dev",),
    },
    "fedora": {
        "base": (
            "acpica-tools", "bison", "bubblewrap", "bzip2", "file", "flex", "gcc", "gettext", "git-core", "glib2-devel",
            "libuuid-devel", "make", "ncurses-devel", "patch", "perl-interpreter", "perl-File-Find", "pixman-devel",
            "pkgconf-pkg-config", "python3-devel", "python3-setuptools", "xz", "yajl-devel", "zlib-devel",
        ),
        "pv-grub-x86_32": ("glibc-devel.i686",),
        "hvmloader": ("dev86", "glibc-devel.i686", "xz-devel"),
        "texinfo": ("texinfo",),
        "libcrypto": ("openssl-devel",),
        "libaio": ("libaio-devel",),
    },
    "suse": {
        "base": (
            "acpica", "bison", "bubblewrap", "bzip2", "file", "flex", "gcc", "gettext-tools", "git-core", "glib2-devel",
            "libuuid-devel", "libyajl-devel", "libpixman-1-0-devel", "make", "ncurses-devel", "patch", "perl",
            "pkg-config", "python3-devel", "python3-setuptools", "xz", "zlib-devel",
        ),
        "pv-grub-x86_32": ("glibc-devel-32bit",),
        "hvmloader": ("dev86", "glibc-devel-32bit", "xz-devel"),
        "texinfo": ("makeinfo",),
        "libcrypto": ("libopenssl-devel",),
        "libaio": ("libaio-devel",),
    },
    "alpine": {
        "base": (
            "argp-standalone", "bash", "bison", "bubblewrap", "bzip2", "file", "flex", "gcc", "gettext", "git",
            "glib-dev", "iasl", "linux-headers", "make", "musl-dev", "ncurses-dev", "patch", "perl", "pixman-dev",
            "pkgconf", "python3-dev", "py3-setuptools", "util-linux-dev", "xz", "yajl-dev", "zlib-dev",
        ),
        "hvmloader": ("dev86", "xz-dev"),
        "texinfo": ("texinfo",),
        "libcrypto": ("openssl-dev",),
        "libaio": ("libaio-dev",),
    },
    "arch": {
        "base": (
            "acpica",
            "base-devel",
            "bubblewrap",
            "git",
            "glib2",
            "ncurses",
            "pixman",
            "python",
            "python-setuptools",
            "yajl",
        ),
        "pv-grub-x86_32": ("lib32-glibc",),
        "hvmloader": ("dev86", "lib32-glibc", "xz"),
        "texinfo": ("texinfo",),
        "libcrypto": ("openssl",),
        "libaio": ("libaio",),
    },
}
# fmt: on
PACKAGES = {**PACKAGES, "ubuntu": PACKAGES["debian"]}


def install_hint(purpose: str) -> str:
    """Return what to install on this host, as `distributions.install_hint` does, for a key of BUILDS, too."""
    row = distributions.detect()
    found = {**row.packages, **PACKAGES.get(row.key, {})}
    known = purpose in found or purpose not in BUILDS
    return distributions.install_hint(purpose, replace(row, packages=found)) if known else BUILDS[purpose]
