# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: warnings about options that the hypervisor, or dom0's Linux, would ignore.

from __future__ import annotations

import difflib
from typing import List, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot.option_table import NEWEST, OLDEST, OPTIONS
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version

# Options of Linux that people set, and the hypervisor has none of the same name
# (Documentation/admin-guide/kernel-parameters.txt of Linux, and what initial RAM disks read).
_LINUX = (
    *("BOOT_IMAGE", "audit", "cgroup_enable", "cryptdevice", "debug", "earlyprintk", "fsck", "init", "initrd"),
    *("intel_iommu", "amd_iommu", "ip", "ipv6", "isolcpus", "mitigations", "modprobe", "module_blacklist", "modules"),
    *("net", "nokaslr", "nomodeset", "panic", "plymouth", "quiet", "rd", "resume", "rhgb", "ro", "root", "rootdelay"),
    *("rootflags", "rootfstype", "rw", "security", "selinux", "single", "splash", "swiotlb", "systemd", "xen_pciback"),
)
_NEAR = 0.75


def _key(name: str) -> str:
    """Return a name as the table has it: some begin with no_."""
    plain = name.partition("=")[0].replace("-", "_")
    return plain if plain in OPTIONS else command_line.name_of(plain)


def hypervisor_warnings(name: str, version: Optional[Version]) -> List[str]:
    """Return what is wrong with the name of an option for the hypervisor.

    :param version: its release, None where that is not known.
    """
    key = _key(name).partition("[")[0]
    releases = OPTIONS.get(key)
    minor = version[1] if version is not None and version[0] == 4 else None
    if releases is None:
        if key.partition(".")[0] in _LINUX:
            return [f"{name} is an option of Linux, and the hypervisor ignores it: Xen has no option of that name."]
        near = difflib.get_close_matches(key, OPTIONS, 1, _NEAR)
        meant = f" Is {near[0]} meant?" if near else ""
        return [f"Xen 4.{OLDEST} to 4.{NEWEST} have no option {name}, and ignore one that they do not know.{meant}"]
    first, last = releases
    if minor is not None and minor < first and first > OLDEST:
        return [f"Xen 4.{minor} ignores {name}: 4.{first} is the first release that has this option."]
    if minor is not None and minor > last and last < NEWEST:
        return [f"Xen 4.{minor} ignores {name}: 4.{last} is the last release that has this option."]
    return []


def linux_warnings(line: str, where: str, name: str) -> List[str]:
    """Return which options of dom0's Linux are the hypervisor's: those for dom0, which Linux has none like.

    :param line: the options of Linux.
    :param where: where they are set.
    :param name: the option of the hypervisor that is asked for.
    """
    found = [option for option in command_line.options(line) if _for_hypervisor(option, name)]
    return [f"{one} in {where} goes to Linux, which ignores it: it is an option of the hypervisor." for one in found]


def _for_hypervisor(option: str, name: str) -> bool:
    key = command_line.name_of(option)
    return (key in OPTIONS and key.startswith("dom0")) or (key == command_line.name_of(name) and key in _NOT_LINUX)


# Options of the hypervisor that Linux has none of the same name for, beside those for dom0.
_NOT_LINUX = ("bootscrub", "com1", "com2", "conswitch", "console_to_ring", "guest_loglvl", "loglvl", "sched", "ucode")
