# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the kinds of images that are built from Xen source, a row each.

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError


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

# The Linux stub domain, which is assembled from packages, and the names that libxl looks for
# (tools/libs/light/libxl_internal.h @ stable-4.20, LIBXL_LINUX_STUBDOM_*).
LINUX = "linux"
LINUX_KERNEL = "qemu-stubdom-linux-kernel"
LINUX_ROOT_FILE_SYSTEM = "qemu-stubdom-linux-rootfs"

# The user's own kernels, named custom-NAME, are made in the manner of c.
CUSTOM = re.compile(r"custom-(?P<name>[a-z0-9][a-z0-9_-]*)\Z")


def find(name: str) -> Image:
    """Return the row of an image, or of the user's own kernel.

    :raises UserError: no release makes an image of this name.
    """
    custom = CUSTOM.match(name)
    if custom is not None:
        return Image(f"{name}-stubdom", name, f"{custom['name']}-stubdom.gz")
    image = IMAGES.get(name) or HELPERS.get(name)
    if image is None:
        raise UserError(
            f"There is no image {name!r} that is built from Xen source.",
            f"Choose from {', '.join((*IMAGES, *HELPERS))}, or custom-NAME for a kernel of your own.",
        )
    return image
