# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the tarballs that Xen's Makefiles would download into stubdom/.

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._images import kinds
from ansible_collections.xen.stubdom.plugins.module_utils._images.releases import Release

# Keys of TARBALLS that every image needs.
COMMON = ("newlib", "zlib", "pciutils", "lwip")


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


def needed(row: Release, images: Sequence[str]) -> Tuple[Tarball, ...]:
    """Return the tarballs that *images* need, each once, in a fixed order."""
    wanted = set(COMMON)
    for name in images:
        image = kinds.IMAGES.get(name)
        wanted.update(image.tarballs if image else ())
    if "ocaml" in wanted and row.ocaml is not None:
        wanted = (wanted - {"ocaml"}) | {row.ocaml}
    # PV-GRUB links polarssl since 4.3 (rule `grub` of stubdom/Makefile @ RELEASE-4.2.5 and RELEASE-4.3.4).
    if row.version < (4, 3):
        wanted.discard("polarssl")
    return tuple(tarball for key, tarball in TARBALLS.items() if key in wanted)
