# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: warnings about options that the hypervisor, or dom0's Linux, would ignore.
# A name that is not known is only warned about for the hypervisor: Linux has the options of its modules as well, and
# passes on to programs what it does not know.

from __future__ import annotations

import difflib
from typing import List, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot.command_line import DOM0_KERNEL
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
# Options of the hypervisor that Linux has, too (the same list of Linux 6.1; fred is in 6.9, tmem was in 3.0 to 5.2).
_LINUX_TOO = (
    *("acpi", "acpi_apic_instance", "acpi_skip_timer_override", "acpi_sleep", "apic", "cachesize", "clocksource"),
    *("console", "crashkernel", "edd", "efi", "fred", "hest_disable", "hpet", "invpcid", "iommu", "ivrs_hpet"),
    *("ivrs_ioapic", "lapic", "lapic_timer_c2_ok", "maxcpus", "mce", "mem", "mtrr.show", "noapic", "nofxsr", "nolapic"),
    *("nosmp", "numa", "pci", "pcid", "pku", "pv", "reboot", "smap", "smep", "smt", "tmem", "tsc", "tsx", "vga"),
    *("watchdog", "x2apic", "x2apic_phys", "xsave"),
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
        if _is_linux(key):
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


def kernel_warnings(name: str) -> List[str]:
    """Return what is wrong with the name of an option for dom0's Linux."""
    if not _is_hypervisors(name):
        return []
    return [f"{name} is an option of the hypervisor, and Linux ignores it. Set target to hypervisor."]


def linux_warnings(line: str, where: str, name: str) -> List[str]:
    """Return which options of dom0's Linux are the hypervisor's.

    :param line: the options of Linux.
    :param where: where they are set.
    :param name: the option that is asked for; the others are only looked at where they are for dom0.
    """
    wanted = command_line.name_of(name)
    keys = ((option, command_line.name_of(option)) for option in command_line.options(line, DOM0_KERNEL))
    found = [option for option, key in keys if _is_hypervisors(option) and (key == wanted or key.startswith("dom0"))]
    return [f"{one} in {where} goes to Linux, which ignores it: it is an option of the hypervisor." for one in found]


def hypervisor_line_warnings(line: str, where: str, name: str) -> List[str]:
    """Return which options called *name* are Linux's, and stand among the hypervisor's.

    :param line: the options of the hypervisor.
    :param where: where they are set.
    """
    found = [option for option in command_line.find(line, name) if _key(option) not in OPTIONS and _is_linux(option)]
    return [f"{one} in {where} goes to the hypervisor, which ignores it: it is an option of Linux." for one in found]


def _is_linux(name: str) -> bool:
    return _key(name).partition(".")[0] in _LINUX


def _is_hypervisors(name: str) -> bool:
    """Whether the hypervisor has an option of that name, and Linux has none."""
    key = _key(name).partition("[")[0]
    return key in OPTIONS and key not in _LINUX_TOO
