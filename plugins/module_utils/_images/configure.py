# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the arguments of ./configure for each release and image.

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version
from ansible_collections.xen.stubdom.plugins.module_utils._images.releases import Release


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
    # Up to 4.12 configure ends without a program that downloads (m4/fetcher.m4), and nothing is downloaded.
    Flags(("WGET=/bin/false",), since=(4, 3), until=(4, 12)),
    # Block tap, of which nothing is built, would ask for libaio.
    Flags(("--disable-blktap1",), since=(4, 4), until=(4, 5)),
    Flags(("--disable-blktap2",), since=(4, 5), until=(4, 12)),
    Flags(("--disable-rombios",), without="hvmloader"),
    # Up to 4.6 the programs for ROMBIOS have to be there all the same (tools/configure.ac @ RELEASE-4.6.6).
    Flags(("AS86=/bin/false", "LD86=/bin/false", "BCC=/bin/false"), until=(4, 6), without="hvmloader"),
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


def arguments(row: Release, images: Sequence[str]) -> Tuple[str, ...]:
    """Return the arguments of ./configure for *images*."""
    chosen: List[str] = []
    for flags in CONFIGURE:
        applies = flags.since <= row.version and (flags.until is None or row.version <= flags.until)
        if applies and (flags.image is None or flags.image in images) and flags.without not in images:
            chosen.extend(flags.arguments)
    return tuple(chosen)
