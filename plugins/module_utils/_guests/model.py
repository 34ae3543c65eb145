# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what a guest is checked against, and what becomes of it.
# Sources: docs/man/xl.cfg.5.pod.in and tools/xl/xl_parse.c @ stable-4.2 … stable-4.22.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.distributions import GENERIC, Distribution
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.requirement import Requirement
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg

# What libxl gives a stub domain by itself, in MiB (LIBXL_LINUX_STUBDOM_MEM, libxl_internal.h); video memory comes on
# top, by the graphics card (libxl__domain_build_info_setdefault, libxl_create.c), which is cirrus by default.
STUB_MEMORY = {"linux": 128, "minios": 28}
VIDEO_MEMORY: Mapping[str, Mapping[str, int]] = {
    "linux": {"cirrus": 8, "stdvga": 16, "qxl": 128, "none": 0},
    "minios": {"cirrus": 4, "stdvga": 8, "none": 0},
}


@dataclass(frozen=True)
class Host:
    """What a guest is judged by; None and nothing where it is not known.

    :param capabilities: what kernels the hypervisor starts (xen_caps of `xl info`).
    :param stub_keymaps: the layouts of keyboards that a screen can have with that image; empty where it has no screen.
    :param stub_damage: why nothing is known of that image, as a sentence; None where its record is whole or missing.
    :param stub_pci: whether its guests can have PCI devices of the host.
    :param ioemu_release: the release of Xen that the image of the Mini-OS stub domain was made for, as "4.20".
    :param virtualisation: what the processor has for guests (virt_caps of `xl info`).
    :param grub2: the platforms that there are images of our own for, in the firmware directory.
    :param grub2_types: the types of guests for which there is any GRUB 2.
    """

    version: Optional[Version] = None
    firmware_directory: Optional[str] = None
    capabilities: FrozenSet[str] = frozenset()
    stub_memory_mib: Optional[int] = None
    stub_command_line: Optional[str] = None
    stub_keymaps: Optional[FrozenSet[str]] = None
    stub_damage: Optional[str] = None
    stub_pci: Optional[bool] = None
    ioemu_release: Optional[str] = None
    virtualisation: FrozenSet[str] = frozenset()
    grub2: FrozenSet[str] = frozenset()
    grub2_types: FrozenSet[str] = frozenset()
    distribution: Distribution = GENERIC


@dataclass(frozen=True)
class Menu:
    """A menu that is written for one guest, in a file of dom0.

    :param image: the image of GRUB 2 that the menu is put in, or is on a CD with; None for one that stands alone.
    :param kernel: the file of dom0 that is on the CD, too; None where there is no CD.
    :param ramdisk: the same of that kernel's ramdisk.
    """

    path: str
    text: str
    image: Optional[str] = None
    kernel: Optional[str] = None
    ramdisk: Optional[str] = None


@dataclass
class Plan:
    """A guest in the words of xl.cfg, and what has to be there for it."""

    keys: Dict[str, xl_cfg.Value] = field(default_factory=dict)
    needs: List[Requirement] = field(default_factory=list)
    grub_names: Dict[str, str] = field(default_factory=dict)
    menu: Optional[Menu] = None


@dataclass(frozen=True)
class Flavour:
    """One way of booting a guest, or of giving it a device model.

    :param types: kinds of guests it is for.
    :param first: first release that has it.
    :param last: last release that has it.
    :param instead: what to do with another release.
    :param write: adds its keys and needs to a plan.
    """

    types: Tuple[str, ...]
    write: Callable[[Mapping[str, Any], Host, Plan], None]
    first: Version = (0, 0)
    last: Version = (99, 99)
    instead: str = ""


def firmware_directory(host: Host) -> str:
    """:raises UserError: the directory in which libxl looks for images is not known."""
    if host.firmware_directory is None:
        raise UserError(
            "The firmware directory cannot be found, and the guest's image lies in it.",
            "Install the toolstack's firmware, or name the directory with firmware_directory.",
        )
    return host.firmware_directory
