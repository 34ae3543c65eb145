# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what each release of Xen can build, from which sources and how.
# Everything here is a table; a new release is a new row of RELEASES.

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

Version = Tuple[int, int]


@dataclass(frozen=True)
class Image:
    """One stub domain that Xen's tree can make.

    :param target: goal of `make -C stubdom`.
    :param directory: the middle of stubdom/mini-os-ARCH-…/mini-os.gz, where the product lies.
    :param file: name under which it is installed; {arch} is XEN_TARGET_ARCH.
    :param tarballs: keys of TARBALLS without which it cannot be built, beside COMMON.
    :param parallel: whether its makefiles bear more than one command at a time.
    :param path: where the product lies if it is no Mini-OS kernel.
    :param mode: permission bits that it is installed with.
    """

    target: str
    directory: str
    file: str
    tarballs: Tuple[str, ...] = ()
    arch: str = "x86_64"
    parallel: bool = True
    path: Optional[str] = None
    mode: int = 0o644

    @property
    def product(self) -> str:
        return self.path or f"stubdom/mini-os-{self.arch}-{self.directory}/mini-os.gz"

    @property
    def installed(self) -> str:
        return self.file.format(arch=self.arch)


# stubdom/Makefile @ RELEASE-4.2.5 … RELEASE-4.22.0. The install rules of c and caml install nothing, so their names are
# ours, in the form of upstream's ioemu-stubdom.gz.
IMAGES: Dict[str, Image] = {
    "pv-grub": Image("pv-grub", "grub", "pv-grub-{arch}.gz", ("polarssl", "grub")),
    "pv-grub-x86_32": Image("pv-grub", "grub", "pv-grub-{arch}.gz", ("polarssl", "grub"), arch="x86_32"),
    "ioemu": Image("ioemu-stubdom", "ioemu", "ioemu-stubdom.gz"),
    "c": Image("c-stubdom", "c", "c-stubdom.gz"),
    # "The Makefiles do not support parallel make" (INSTALL of OCaml 4.02.0).
    "caml": Image("caml-stubdom", "caml", "caml-stubdom.gz", ("ocaml",), parallel=False),
}

# The dom0 helper programs of ioemu, which distributions leave out: an hvmloader that has the BIOS this device model
# wants, and a program that serves the stub domain's consoles, under the name of Xen's own. The releases that have
# ioemu have them.
HELPERS: Dict[str, Image] = {
    "hvmloader": Image("all", "hvmloader", "hvmloader", path="tools/firmware/hvmloader/hvmloader"),
    "qemu-dm": Image("", "", "qemu-dm", path="tools/xen-stubdom-qemu-dm", mode=0o755),
}

COMMON = ("newlib", "zlib", "pciutils", "lwip")

# The user's own kernels, named custom-NAME, are made in the manner of c.
CUSTOM = re.compile(r"custom-(?P<name>[a-z0-9][a-z0-9_-]*)\Z")


@dataclass(frozen=True)
class Tarball:
    """A file that Xen's Makefiles would download into stubdom/. A checksum of None is not known to us."""

    file: str
    sha256: Optional[str]
    upstream: str


EXTFILES = "https://xenbits.xen.org/xen-extfiles"

# Xen's own tree has no checksums; these are the ones on which Gentoo (app-emulation/xen-pvgrub), nixpkgs, the AUR and
# Qubes (vmm-xen-stubdom-legacy) agree. OCaml never comes from xen-extfiles (AX_STUBDOM_LIB_NOEXT).
TARBALLS: Dict[str, Tarball] = {
    "newlib": Tarball(
        "newlib-1.16.0.tar.gz", "db426394965c48c1d29023e1cc6d965ea6b9a9035d8a849be2750ca4659a3d07", EXTFILES
    ),
    "zlib": Tarball("zlib-1.2.3.tar.gz", "1795c7d067a43174113fdf03447532f373e1c6c57c08d61d9e4e9be5e244b05e", EXTFILES),
    "pciutils": Tarball(
        "pciutils-2.2.9.tar.bz2", "f60ae61cfbd5da1d849d0beaa21f593c38dac9359f0b3ddc612f447408265b24", EXTFILES
    ),
    "lwip": Tarball("lwip-1.3.0.tar.gz", "772e4d550e07826665ed0528c071dd5404ef7dbe1825a38c8adbc2a00bca948f", EXTFILES),
    "polarssl": Tarball(
        "polarssl-1.1.4-gpl.tgz", "2d29fd04a0d0ba29dae6bd29fb418944c08d3916665dcca74afb297ef37584b6", EXTFILES
    ),
    "grub": Tarball("grub-0.97.tar.gz", "4e1d15d12dbd3e9208111d6b806ad5a9857ca8850c47877d36575b904559260b", EXTFILES),
    "ocaml-3.11.0": Tarball(
        "ocaml-3.11.0.tar.gz",
        "ecdd4f8473ab0dee5d3acb5c0a31a4c1dd6aa12179895cf1903dd0f455c43a4f",
        "https://caml.inria.fr/pub/distrib/ocaml-3.11",
    ),
    "ocaml-4.02.0": Tarball("ocaml-4.02.0.tar.gz", None, "https://caml.inria.fr/pub/distrib/ocaml-4.02"),
}


@dataclass(frozen=True)
class Pin:
    """A revision of a git repository. The commit is what proves it; None where we do not know it."""

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
    :param on: which of these a build without flags makes.
    :param ocaml: key of TARBALLS for caml.
    """

    version: Version
    point: str
    xen: Pin
    mini_os: Optional[Pin]
    qemu: Optional[Pin]
    images: Tuple[str, ...]
    on: Tuple[str, ...]
    ocaml: Optional[str] = None

    @property
    def name(self) -> str:
        return f"{self.version[0]}.{self.version[1]}"


def _row(
    point: str,
    commit: str,
    mini_os: Optional[Tuple[str, Optional[str]]],
    qemu: Optional[Tuple[str, Optional[str]]],
    images: Tuple[str, ...],
    on: Tuple[str, ...],
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
        on=on,
        ocaml=ocaml,
    )


_ALL = ("pv-grub", "pv-grub-x86_32", "ioemu", "c", "caml")
_NO_CAML = ("pv-grub", "pv-grub-x86_32", "ioemu", "c")
_NO_IOEMU = ("pv-grub", "pv-grub-x86_32", "c")
_ON = ("pv-grub", "pv-grub-x86_32", "ioemu")
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
        (*_ON, "c"),
        "ocaml-3.11.0",
    ),
    _row(
        "4.3.4",
        "c58b16ef1572176cf2f6a424b527b5ed4bb73f17",
        None,
        ("xen-4.3.4", "9550be0726b577cf038691c77d8c924c43e7cebd"),
        _ALL,
        _ON,
        "ocaml-3.11.0",
    ),
    _row(
        "4.4.4",
        "a611ed5d040a764e01edcc8b6d99342c393589d9",
        None,
        ("xen-4.4.4", "2bbe49494f5e910c6fb49f6800d143cae9eb5758"),
        _ALL,
        _ON,
        "ocaml-3.11.0",
    ),
    _row(
        "4.5.5",
        "e4ae4b03d35babc9624b7286f1ea4c6749bad84b",
        None,
        ("xen-4.5.5", "28c21388c2a32259cff37fc578684f994dca8c9f"),
        _ALL,
        _ON,
        "ocaml-3.11.0",
    ),
    _row(
        "4.6.6",
        "d708b695a36b4fdcd8e48e6fc8e611e010f5280b",
        ("xen-RELEASE-4.6.6", "e1cca557c64272d33da7bafc0ad25399267563d0"),
        ("xen-4.6.6", "57ca3f4a3092695dd553d3ff4540f5559b1c8fc7"),
        _ALL,
        _ON,
        "ocaml-3.11.0",
    ),
    _row(
        "4.7.6",
        "280a5568939c4a5832be787c8e0c23a19f30935a",
        ("xen-RELEASE-4.7.5", "1a3ee6eeca136525aa2e6917ae500e7cf731c09d"),
        ("xen-4.7.5", "73e8fa3fec5b907065f9cee4c65042fc55724c53"),
        _ALL,
        _ON,
        "ocaml-3.11.0",
    ),
    _row(
        "4.8.5",
        "908e768fae49a8db0089e68188652079e3bfaa66",
        ("xen-RELEASE-4.8.5", "1e8e464febb32428c7651b0b585866e5ee5f786e"),
        ("xen-4.8.5", "3bed93d7724564e15b1025723af81d2971bb0e4b"),
        _ALL,
        _ON,
        "ocaml-3.11.0",
    ),
    _row(
        "4.9.4",
        "f5acf97f669c6bc9691e03771ad06703da77e0d5",
        ("xen-RELEASE-4.9.4", "ca013fa9baf92f47469ba1f2e1aaa31c41d8a0bb"),
        ("xen-4.9.4", "8051789e982499050680a26febeada7467e18a8d"),
        _ALL,
        _ON,
        "ocaml-3.11.0",
    ),
    _row(
        "4.10.4",
        "3131bf956ab159295ecdde0c5ad003d0c5af4695",
        ("xen-RELEASE-4.10.4", _MINIOS_MID),
        ("xen-4.10.4", "c8ea0457495342c417c3dc033bba25148b279f60"),
        _ALL,
        _ON,
        "ocaml-3.11.0",
    ),
    _row(
        "4.11.4",
        "96a8b5bc48be2ae9691369849036453f8850135b",
        ("xen-RELEASE-4.11.4", _MINIOS_MID),
        ("xen-4.11.4", "c8ea0457495342c417c3dc033bba25148b279f60"),
        _ALL,
        _ON,
        "ocaml-4.02.0",
    ),
    _row(
        "4.12.4",
        "97b7b5567fba6918a656ad349051b5343b5dea2e",
        ("xen-RELEASE-4.12.4", _MINIOS_MID),
        ("xen-4.12.4", "d0d8ad39ecb51cd7497cd524484fe09f50876798"),
        _ALL,
        _ON,
        "ocaml-4.02.0",
    ),
    _row(
        "4.13.5",
        "708e83f0e7d1e32295fee58c71c1e972d4e61f56",
        ("xen-RELEASE-4.13.5", _MINIOS_MID),
        ("xen-4.13.5", "d0d8ad39ecb51cd7497cd524484fe09f50876798"),
        _ALL,
        _ON,
        "ocaml-4.02.0",
    ),
    _row(
        "4.14.6",
        "297fce96e1329107f48c08f539bc3000652610cd",
        ("xen-RELEASE-4.14.5", "f57858b7e8ef8dd48394dd08cec2bef3c9fb92f5"),
        ("xen-4.14.5", _QEMU_END),
        _ALL,
        _ON,
        "ocaml-4.02.0",
    ),
    _row(
        "4.15.7",
        "543bbddf79f105682904c3b5a09c5a1692ae4b15",
        ("xen-RELEASE-4.15.4", "051b87bb9c19609976fb038f386920e1ce5454c5"),
        ("xen-4.15.4", _QEMU_END),
        _ALL,
        _ON,
        "ocaml-4.02.0",
    ),
    _row(
        "4.16.7",
        "b15e1f07954949759dfb355c0c4045ba58b8376a",
        ("xen-RELEASE-4.16.7", "a60612a2d009bf72b3e50655d13f61d152fe3d87"),
        ("xen-4.16.4", _QEMU_END),
        _ALL,
        (),
        "ocaml-4.02.0",
    ),
    _row(
        "4.17.7",
        "9373a593c5a6ef57db1302eb1dca58cc3eb51c07",
        ("xen-RELEASE-4.17.6", "ff13dabd3099687921145a5e3e960ba8337e7488"),
        ("xen-4.17.3", _QEMU_END),
        _ALL,
        (),
        "ocaml-4.02.0",
    ),
    _row(
        "4.18.6",
        "c9355898f3b8e10ca49e87d50e335d682827c33b",
        ("xen-RELEASE-4.18.4", "ff13dabd3099687921145a5e3e960ba8337e7488"),
        ("xen-4.18.1", _QEMU_END),
        _ALL,
        (),
        "ocaml-4.02.0",
    ),
    _row(
        "4.19.6",
        "54ee7c511ae7f5cac195cce271564a1a339ae99a",
        ("xen-RELEASE-4.19.1", "a400dd51706867565ed1382b23d3475bb30668c2"),
        ("xen-4.19.0", _QEMU_END),
        _NO_CAML,
        (),
    ),
    _row(
        "4.20.4",
        "9611e26eff425be128d4b9c7b48f2bc6b5d3498e",
        ("xen-RELEASE-4.20.0", "6d5159e8410be16a47433bac1627e63f8adc7cd9"),
        ("xen-4.20.0", _QEMU_END),
        _NO_CAML,
        (),
    ),
    _row(
        "4.21.2",
        "78c2a59f9edba7ee4da31c7c95ac52a003d56b91",
        ("xen-RELEASE-4.21.0", "6732fd42d8eb8d0af9f5eb54aca17f4c250213a8"),
        None,
        _NO_IOEMU,
        (),
    ),
    _row(
        "4.22.0",
        "d45d5687f1441495f4ee20d5e9940066c5fa5beb",
        ("xen-RELEASE-4.22.0", "b6f79f5f44cf69044079c042b88fe9d75367642e"),
        None,
        _NO_IOEMU,
        (),
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
        raise UserError(f"{release!r} is no release of Xen.", "Give it as in 4.17 or 4.17.5.")
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
            f"Build from {last.name}; PV-GRUB from there runs on newer hypervisors.",
        )
    raise UserError(
        f"Xen {release} is older than what this collection knows how to build ({first.name} to {last.name}).",
        f"Build from {first.name} or newer.",
    )


def refuse_impossible(release: str, images: Sequence[str]) -> Release:
    """Return the row of *release*, which can build all *images*.

    :raises UserError: it cannot; the message says what to use instead.
    """
    row = find(release)
    for name in images:
        if CUSTOM.match(name):
            continue
        refuse_unknown(name)
        image = "ioemu" if name in HELPERS else name
        if image not in row.images:
            raise UserError(f"Xen {release} cannot build the image {name}: {_why(image)}.", INSTEAD[image])
    # mini-os began hiding symbols that are not exported (33411a11), GRUB's among them; 4.19.1 names a newer mini-os.
    if numbers(release) == ((4, 19), 0) and any(name.startswith("pv-grub") for name in images):
        raise UserError(
            "PV-GRUB of Xen 4.19.0 does not link: its Mini-OS hides symbols it needs.", "Use 4.19.1 or newer."
        )
    return row


def refuse_unknown(name: str) -> None:
    """:raises UserError: no release makes an image of this name."""
    if name not in IMAGES and name not in HELPERS and not CUSTOM.match(name):
        raise UserError(
            f"There is no image {name!r} that is built from Xen source.",
            f"Choose from {', '.join((*IMAGES, *HELPERS))}, or custom-NAME for a kernel of your own.",
        )


def _why(image: str) -> str:
    last = max(row.version for row in RELEASES if image in row.images)
    return f"{last[0]}.{last[1]} was the last release with it"


def tarballs(row: Release, images: Sequence[str]) -> Tuple[Tarball, ...]:
    """Return the tarballs that *images* need, each once, in a fixed order."""
    wanted = set(COMMON)
    for name in images:
        image = IMAGES.get(name)
        wanted.update(image.tarballs if image else ())
    if "ocaml" in wanted and row.ocaml is not None:
        wanted = (wanted - {"ocaml"}) | {row.ocaml}
    # PV-GRUB links polarssl since 4.3 (rule `grub` of stubdom/Makefile @ RELEASE-4.2.5 and RELEASE-4.3.4).
    if row.version < (4, 3):
        wanted.discard("polarssl")
    return tuple(tarball for key, tarball in TARBALLS.items() if key in wanted)


def needs_qemu(row: Release, images: Sequence[str]) -> bool:
    """Whether the tree of qemu-xen-traditional has to be there.

    In 4.2 and 4.3 its links are a prerequisite of the headers of every stub domain (stubdom/Makefile @ RELEASE-4.3.4).
    """
    return row.qemu is not None and ("ioemu" in images or row.version < (4, 4))


# --- configure -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flags:
    """Arguments of ./configure for the releases *since* … *until*, the latter included; None is open."""

    arguments: Tuple[str, ...]
    since: Version = (4, 2)
    until: Optional[Version] = None
    image: Optional[str] = None
    without: Optional[str] = None


# tools/ is configured although it is not built: config/Tools.mk and tools/config.h are needed by the libraries of the
# stub domains. --with-system-… keep QEMU and SeaBIOS out of it. Options that a release does not know are left away, as
# configure ignores them without an error.
CONFIGURE: Tuple[Flags, ...] = (
    Flags(("--disable-ocamltools",)),
    Flags(("--disable-seabios",), until=(4, 2)),
    Flags(("--disable-xen", "--disable-docs", "--enable-stubdom"), since=(4, 3)),
    Flags(("--disable-xenstore-stubdom", "--disable-vtpm-stubdom", "--disable-vtpmmgr-stubdom"), since=(4, 3)),
    Flags(("--disable-xenstorepvh-stubdom",), since=(4, 15)),
    Flags(("--with-system-qemu=/bin/true", "--with-system-seabios=/bin/true"), since=(4, 4)),
    # Block tap, of which nothing is built, would ask for libaio.
    Flags(("--disable-blktap1",), since=(4, 4), until=(4, 5)),
    Flags(("--disable-blktap2",), since=(4, 5), until=(4, 12)),
    Flags(("--disable-rombios",), without="hvmloader"),
    Flags(("--enable-rombios",), image="hvmloader"),
    # The network boot ROM would be downloaded; before 4.12 it comes with the BIOS, and has no flag.
    Flags(("--disable-ipxe",), since=(4, 12), image="hvmloader"),
    Flags(("--enable-pv-grub", "--enable-c-stubdom"), since=(4, 3)),
    Flags(("--enable-caml-stubdom",), since=(4, 3), until=(4, 18), image="caml"),
    Flags(("--disable-caml-stubdom",), since=(4, 3), until=(4, 18), without="caml"),
    Flags(("--enable-ioemu-stubdom",), since=(4, 3), until=(4, 3), image="ioemu"),
    Flags(("--disable-ioemu-stubdom",), since=(4, 3), until=(4, 3), without="ioemu"),
    # ioemu follows qemu-traditional (b0f69ec5c7); from 4.21 on neither exists (1eb944f650).
    Flags(("--enable-qemu-traditional",), since=(4, 4), until=(4, 20), image="ioemu"),
    Flags(("--disable-qemu-traditional",), since=(4, 4), until=(4, 20), without="ioemu"),
)


def configure_flags(row: Release, images: Sequence[str]) -> Tuple[str, ...]:
    """Return the arguments of ./configure for *images*."""
    chosen: List[str] = []
    for flags in CONFIGURE:
        applies = flags.since <= row.version and (flags.until is None or row.version <= flags.until)
        if applies and (flags.image is None or flags.image in images) and flags.without not in images:
            chosen.extend(flags.arguments)
    return tuple(chosen)


def configured_targets(row: Release, images: Sequence[str]) -> Tuple[str, ...]:
    """Return what STUBDOM_TARGETS of config/Stubdom.mk has to name after configure; 4.2 has no such file."""
    if row.version < (4, 3):
        return ()
    names = {"c", "grub"} | {IMAGES[name].directory for name in images if name in ("ioemu", "caml")}
    return tuple(sorted(names))
