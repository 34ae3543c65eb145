# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what each release of Xen can build, from which sources and how.
# Everything here is a table; a new release is a new row of RELEASES.

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import version as _version
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version
from ansible_collections.xen.stubdom.plugins.module_utils._images import kinds


@dataclass(frozen=True)
class Pin:
    """A revision of a git repository. The commit is what verifies it; None where we do not know it."""

    revision: str
    commit: Optional[str]


REPOSITORIES = {
    "xen": "https://xenbits.xen.org/git-http/xen.git",
    "mini-os": "https://xenbits.xen.org/git-http/mini-os.git",
    "qemu-xen-traditional": "https://xenbits.xen.org/git-http/qemu-xen-traditional.git",
}

# Where a source lies in Xen's tree; what is there already is used untouched (Config.mk, scripts/git-checkout.sh).
PLACES = {"mini-os": "extras/mini-os", "qemu-xen-traditional": "tools/qemu-xen-traditional"}


@dataclass(frozen=True)
class Release:
    """What one release of Xen builds.

    :param version: major and minor number.
    :param point: the point release whose tag and commit *xen* is.
    :param xen: the tag and its commit.
    :param mini_os: what Config.mk of that point release names; None where Mini-OS is part of Xen's tree.
    :param qemu: the same for qemu-xen-traditional; None where no image needs it any more.
    :param images: what it can build (m4/stubdom.m4, stubdom/configure.ac).
    :param ocaml: key of tarballs.TARBALLS for caml.
    """

    version: Version
    point: str
    xen: Pin
    mini_os: Optional[Pin]
    qemu: Optional[Pin]
    images: Tuple[str, ...]
    ocaml: Optional[str] = None

    @property
    def name(self) -> str:
        return _version.text(self.version)


def _row(
    point: str,
    commit: str,
    mini_os: Optional[Tuple[str, Optional[str]]],
    qemu: Optional[Tuple[str, Optional[str]]],
    images: Tuple[str, ...],
    ocaml: Optional[str] = None,
) -> Release:
    major, minor, _point = point.split(".")
    return Release(
        version=(int(major), int(minor)),
        point=point,
        xen=Pin(f"RELEASE-{point}", commit),
        mini_os=None if mini_os is None else Pin(*mini_os),
        qemu=None if qemu is None else Pin(*qemu),
        images=images,
        ocaml=ocaml,
    )


_ALL = ("pv-grub", "pv-grub-x86_32", "ioemu", "c", "caml")
_NO_CAML = ("pv-grub", "pv-grub-x86_32", "ioemu", "c")
_NO_IOEMU = ("pv-grub", "pv-grub-x86_32", "c")
# Commits: `git rev-parse TAG^{commit}` in xen.git, mini-os.git and qemu-xen-traditional.git, of the tags that Config.mk
# of the point release names. Five of these tags we could not see: xen-RELEASE-4.17.6, -4.21.0 and -4.22.0 of Mini-OS,
# xen-4.19.0 and xen-4.20.0 of qemu-xen-traditional. Their commits are those that Config.mk of xen.git named until it
# named a tag (8c80ec8363, 7fba925b03, 3e23992b76, 48acf0fd3e, 89fd1ba884). docs/images_from_source.md says what we have
# built.
_QEMU_END = "3d273dd05e51e5a1ffba3d98c7437ee84e8f8764"  # where qemu-xen-traditional ended
_MINIOS_MID = "0b4b7897e08b967a09bed2028a79fabff82342dd"

RELEASES: Tuple[Release, ...] = (
    _row(
        "4.2.5",
        "7bcdeb9c2dc9902f08f8455288151153a411802a",
        None,
        ("xen-4.2.5", "8d7e96f625c4a58d721db413b032fd0bb5671b96"),
        _ALL,
        "ocaml-3.11.0",
    ),
    _row(
        "4.3.4",
        "c58b16ef1572176cf2f6a424b527b5ed4bb73f17",
        None,
        ("xen-4.3.4", "9550be0726b577cf038691c77d8c924c43e7cebd"),
        _ALL,
        "ocaml-3.11.0",
    ),
    _row(
        "4.4.4",
        "a611ed5d040a764e01edcc8b6d99342c393589d9",
        None,
        ("xen-4.4.4", "2bbe49494f5e910c6fb49f6800d143cae9eb5758"),
        _ALL,
        "ocaml-3.11.0",
    ),
    _row(
        "4.5.5",
        "e4ae4b03d35babc9624b7286f1ea4c6749bad84b",
        None,
        ("xen-4.5.5", "28c21388c2a32259cff37fc578684f994dca8c9f"),
        _ALL,
        "ocaml-3.11.0",
    ),
    _row(
        "4.6.6",
        "d708b695a36b4fdcd8e48e6fc8e611e010f5280b",
        ("xen-RELEASE-4.6.6", "e1cca557c64272d33da7bafc0ad25399267563d0"),
        ("xen-4.6.6", "57ca3f4a3092695dd553d3ff4540f5559b1c8fc7"),
        _ALL,
        "ocaml-3.11.0",
    ),
    _row(
        "4.7.6",
        "280a5568939c4a5832be787c8e0c23a19f30935a",
        ("xen-RELEASE-4.7.5", "1a3ee6eeca136525aa2e6917ae500e7cf731c09d"),
        ("xen-4.7.5", "73e8fa3fec5b907065f9cee4c65042fc55724c53"),
        _ALL,
        "ocaml-3.11.0",
    ),
    _row(
        "4.8.5",
        "908e768fae49a8db0089e68188652079e3bfaa66",
        ("xen-RELEASE-4.8.5", "1e8e464febb32428c7651b0b585866e5ee5f786e"),
        ("xen-4.8.5", "3bed93d7724564e15b1025723af81d2971bb0e4b"),
        _ALL,
        "ocaml-3.11.0",
    ),
    _row(
        "4.9.4",
        "f5acf97f669c6bc9691e03771ad06703da77e0d5",
        ("xen-RELEASE-4.9.4", "ca013fa9baf92f47469ba1f2e1aaa31c41d8a0bb"),
        ("xen-4.9.4", "8051789e982499050680a26febeada7467e18a8d"),
        _ALL,
        "ocaml-3.11.0",
    ),
    _row(
        "4.10.4",
        "3131bf956ab159295ecdde0c5ad003d0c5af4695",
        ("xen-RELEASE-4.10.4", _MINIOS_MID),
        ("xen-4.10.4", "c8ea0457495342c417c3dc033bba25148b279f60"),
        _ALL,
        "ocaml-3.11.0",
    ),
    _row(
        "4.11.4",
        "96a8b5bc48be2ae9691369849036453f8850135b",
        ("xen-RELEASE-4.11.4", _MINIOS_MID),
        ("xen-4.11.4", "c8ea0457495342c417c3dc033bba25148b279f60"),
        _ALL,
        "ocaml-4.02.0",
    ),
    _row(
        "4.12.4",
        "97b7b5567fba6918a656ad349051b5343b5dea2e",
        ("xen-RELEASE-4.12.4", _MINIOS_MID),
        ("xen-4.12.4", "d0d8ad39ecb51cd7497cd524484fe09f50876798"),
        _ALL,
        "ocaml-4.02.0",
    ),
    _row(
        "4.13.5",
        "708e83f0e7d1e32295fee58c71c1e972d4e61f56",
        ("xen-RELEASE-4.13.5", _MINIOS_MID),
        ("xen-4.13.5", "d0d8ad39ecb51cd7497cd524484fe09f50876798"),
        _ALL,
        "ocaml-4.02.0",
    ),
    _row(
        "4.14.6",
        "297fce96e1329107f48c08f539bc3000652610cd",
        ("xen-RELEASE-4.14.5", "f57858b7e8ef8dd48394dd08cec2bef3c9fb92f5"),
        ("xen-4.14.5", _QEMU_END),
        _ALL,
        "ocaml-4.02.0",
    ),
    _row(
        "4.15.7",
        "543bbddf79f105682904c3b5a09c5a1692ae4b15",
        ("xen-RELEASE-4.15.4", "051b87bb9c19609976fb038f386920e1ce5454c5"),
        ("xen-4.15.4", _QEMU_END),
        _ALL,
        "ocaml-4.02.0",
    ),
    _row(
        "4.16.7",
        "b15e1f07954949759dfb355c0c4045ba58b8376a",
        ("xen-RELEASE-4.16.7", "a60612a2d009bf72b3e50655d13f61d152fe3d87"),
        ("xen-4.16.4", _QEMU_END),
        _ALL,
        "ocaml-4.02.0",
    ),
    _row(
        "4.17.7",
        "9373a593c5a6ef57db1302eb1dca58cc3eb51c07",
        ("xen-RELEASE-4.17.6", "ff13dabd3099687921145a5e3e960ba8337e7488"),
        ("xen-4.17.3", _QEMU_END),
        _ALL,
        "ocaml-4.02.0",
    ),
    _row(
        "4.18.6",
        "c9355898f3b8e10ca49e87d50e335d682827c33b",
        ("xen-RELEASE-4.18.4", "ff13dabd3099687921145a5e3e960ba8337e7488"),
        ("xen-4.18.1", _QEMU_END),
        _ALL,
        "ocaml-4.02.0",
    ),
    _row(
        "4.19.6",
        "54ee7c511ae7f5cac195cce271564a1a339ae99a",
        ("xen-RELEASE-4.19.1", "a400dd51706867565ed1382b23d3475bb30668c2"),
        ("xen-4.19.0", _QEMU_END),
        _NO_CAML,
    ),
    _row(
        "4.20.4",
        "9611e26eff425be128d4b9c7b48f2bc6b5d3498e",
        ("xen-RELEASE-4.20.0", "6d5159e8410be16a47433bac1627e63f8adc7cd9"),
        ("xen-4.20.0", _QEMU_END),
        _NO_CAML,
    ),
    _row(
        "4.21.2",
        "78c2a59f9edba7ee4da31c7c95ac52a003d56b91",
        ("xen-RELEASE-4.21.0", "6732fd42d8eb8d0af9f5eb54aca17f4c250213a8"),
        None,
        _NO_IOEMU,
    ),
    _row(
        "4.22.0",
        "d45d5687f1441495f4ee20d5e9940066c5fa5beb",
        ("xen-RELEASE-4.22.0", "b6f79f5f44cf69044079c042b88fe9d75367642e"),
        None,
        _NO_IOEMU,
    ),
)

# What to use where a release no longer makes an image.
INSTEAD = {
    "pv-grub": "Build it from 4.22 or older: PV-GRUB uses stable hypercalls only and runs on newer hypervisors; "
    "or boot guests with GRUB 2 for Xen (flavour grub2).",
    "pv-grub-x86_32": "Build it from 4.22 or older, or boot guests with GRUB 2 for Xen (flavour grub2).",
    "ioemu": "Use the Linux stub domain (image linux): the toolstack knows it from 4.14 on, "
    "and nothing else from 4.21 on.",
    "c": "Build it from 4.22 or older.",
    "caml": "Build it from 4.18 or older, or write the stub domain in C (image c or a custom one).",
}

_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?\Z")


def numbers(release: str) -> Tuple[Version, Optional[int]]:
    """Split "4.17" or "4.17.5".

    :raises UserError: it is something else.
    """
    match = _VERSION.match(release)
    if match is None:
        raise UserError(
            f"The release {release!r} is not a release of Xen.", "Set release, for example to 4.17 or 4.17.5."
        )
    return (int(match[1]), int(match[2])), None if match[3] is None else int(match[3])


def find(release: str) -> Release:
    """Return the row of a release, whatever its point release.

    :raises UserError: there is no row for it.
    """
    version, _point = numbers(release)
    for row in RELEASES:
        if row.version == version:
            return row
    first, last = RELEASES[0], RELEASES[-1]
    if version > last.version:
        raise UserError(
            f"Xen {release} is newer than what this collection knows how to build ({first.name} to {last.name}).",
            f"Set release to {last.name}: PV-GRUB of that release runs on newer hypervisors.",
        )
    raise UserError(
        f"Xen {release} is older than what this collection knows how to build ({first.name} to {last.name}).",
        f"Set release to {first.name} or newer.",
    )


def refuse_impossible(release: str, images: Sequence[str]) -> Release:
    """Return the row of *release*, which can build all *images*.

    :raises UserError: it cannot; the message names all such images and what to use instead.
    """
    row = find(release)
    for name in images:
        kinds.find(name)
    # dom0's helper programs are there as long as ioemu is.
    needed = {name: "ioemu" if name in kinds.HELPERS else name for name in images if not kinds.CUSTOM.match(name)}
    impossible = {name: image for name, image in needed.items() if image not in row.images}
    if impossible:
        reasons = "; ".join(
            f"{name} ({_last_with(image)} was the last release with it)" for name, image in impossible.items()
        )
        raise UserError(
            f"Xen {release} cannot build {reasons}.",
            " ".join(dict.fromkeys(INSTEAD[image] for image in impossible.values())),
        )
    # mini-os began hiding symbols that are not exported (33411a11), GRUB's among them; 4.19.1 names a newer mini-os.
    if numbers(release) == ((4, 19), 0) and any(name.startswith("pv-grub") for name in images):
        raise UserError(
            "PV-GRUB of Xen 4.19.0 does not link: its Mini-OS hides symbols that GRUB needs.",
            "Set release to 4.19.1 or newer.",
        )
    return row


def _last_with(image: str) -> str:
    return _version.text(max(row.version for row in RELEASES if image in row.images))


def needs_qemu(row: Release, images: Sequence[str]) -> bool:
    """Whether the tree of qemu-xen-traditional has to be there."""
    return row.qemu is not None and "ioemu" in images
