# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: an image of GRUB 2 as the kernel of a guest, or as what its BIOS starts from a
# CD, and the menu that dom0 puts in it.

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Tuple

KIND = "grub2"


@dataclass(frozen=True)
class Platform:
    """What GRUB 2 is built for.

    :param guest: the type of guests whose kernel it is.
    :param arch: the architecture of the kernels that it starts; any where the guest's processor can change over.
    :param modules: the name of the directory of its modules, where that is another one.
    :param package: the purpose of the package that has them (distributions.PURPOSES).
    """

    guest: str
    arch: Tuple[str, ...]
    modules: str = ""
    package: str = "grub_xen"


# grub-mkimage names them (util/mkimage.c, image_targets); GRUB for PVH starts kernels of both kinds.
PLATFORMS: Mapping[str, Platform] = {
    "i386-xen_pvh": Platform("pvh", ("x86_64", "x86_32")),
    "x86_64-xen": Platform("pv", ("x86_64",)),
    "i386-xen": Platform("pv", ("x86_32",)),
    "i386-pc-eltorito": Platform("hvm", ("x86_64", "x86_32"), modules="i386-pc", package="grub_pc"),
}

# The menu of dom0 stands in this place of the image, and the place is as large whatever stands in it.
_MENU_BYTES = 1 << 15
NO_MENU = b"# no menu of dom0\n".ljust(_MENU_BYTES - 1, b"#") + b"\n"


def on_cd(platform: str) -> bool:
    """Whether a BIOS starts it from a CD, on which its menu is."""
    return PLATFORMS[platform].guest == "hvm"


def modules(platform: str) -> str:
    """The name of the directory of its modules."""
    return PLATFORMS[platform].modules or platform


def file_name(platform: str) -> str:
    """The name of an image in the firmware directory."""
    return f"grub2-{platform}.bin"


def path(directory: str, platform: str) -> str:
    """Where an image is installed.

    :param directory: the firmware directory.
    """
    return f"{directory}/{file_name(platform)}"


def platform_for(guest: str, arch: str) -> str:
    """The platform whose image is the kernel of a guest.

    :param guest: its type, pv or pvh.
    :param arch: the architecture of its own kernel.
    """
    return next(name for name, row in PLATFORMS.items() if row.guest == guest and arch in row.arch)


def with_menu(image: bytes, menu: str) -> bytes:
    """Return the image with a menu of dom0.

    :raises ValueError: it has no place for a menu, or the menu is too long for it.
    """
    content = menu.encode()
    if len(content) > _MENU_BYTES:
        raise ValueError(f"the menu has {len(content)} bytes, and there is room for {_MENU_BYTES}")
    if image.count(NO_MENU) != 1:
        raise ValueError("it has no place for a menu")
    return image.replace(NO_MENU, content.ljust(_MENU_BYTES, b"\n"))
