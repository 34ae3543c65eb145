# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what a guest is checked against, and what becomes of it.
# Sources: docs/man/xl.cfg.5.pod.in and tools/xl/xl_parse.c @ stable-4.2 … stable-4.22.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.distributions import GENERIC, Distribution
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.requirement import Requirement
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version, text
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg

# First release of xl that knows a key. An older one ignores it without a word.
SINCE: Mapping[str, Version] = {
    "cmdline": (4, 5),
    "device_model_user": (4, 7),
    "bios_path_override": (4, 8),
    "type": (4, 10),
    "firmware": (4, 10),
    "dm_restrict": (4, 10),
    "vkb": (4, 12),
    "vkb_device": (4, 13),
    "stubdomain_kernel": (4, 14),
    "stubdomain_ramdisk": (4, 14),
    "stubdomain_memory": (4, 14),
    "stubdomain_cmdline": (4, 16),
    "bootloader_restrict": (4, 18),
    "bootloader_user": (4, 18),
}

# What libxl gives a stub domain by itself, in MiB (LIBXL_LINUX_STUBDOM_MEM, libxl_internal.h); video memory comes on
# top, and its default is 8 MiB with qemu-xen, 4 with qemu-xen-traditional.
STUB_MEMORY = {"linux": 128, "minios": 28}
VIDEO_MEMORY = {"linux": 8, "minios": 4}


@dataclass(frozen=True)
class Host:
    """What a guest is judged by; None and nothing where it is not known."""

    version: Optional[Version] = None
    firmware_directory: Optional[str] = None
    capabilities: FrozenSet[str] = frozenset()
    stub_memory_mib: Optional[int] = None
    stub_command_line: Optional[str] = None
    distribution: Distribution = GENERIC


@dataclass
class Plan:
    """A guest in the words of xl.cfg, and what has to be there for it."""

    keys: Dict[str, xl_cfg.Value] = field(default_factory=dict)
    needs: List[Requirement] = field(default_factory=list)
    grub_names: Dict[str, str] = field(default_factory=dict)


def refuse_new(keys: Mapping[str, Any], host: Host) -> None:
    for key in keys:
        first = SINCE.get(key)
        if first is not None and host.version is not None and host.version < first:
            raise UserError(
                f"xl of Xen {text(host.version)} does not know {key} and would ignore it.",
                f"It came with Xen {text(first)}; leave it out here.",
            )


def refuse_given(guest: Mapping[str, Any], names: Sequence[str], why: str) -> None:
    for name in names:
        if guest.get(name):
            raise UserError(f"{name} means nothing to the flavour {guest['flavour']}: {why}.", f"Leave {name} out.")


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
