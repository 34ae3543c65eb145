# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: facts of a host that option values are validated against.

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ansible_collections.xen.stubdom.plugins.module_utils._boot.command_line import HYPERVISOR, Recipient
from ansible_collections.xen.stubdom.plugins.module_utils._boot.dom0_mem import MIB
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


@dataclass(frozen=True)
class HostFacts:
    """What is known about a host; None for what is not.

    :param memory: bytes of memory of the whole host.
    :param version: release of the hypervisor, as in (4, 17).
    :param arm: whether the processor is an Arm.
    :param processors: number of processors.
    """

    memory: Optional[int] = None
    version: Optional[Version] = None
    arm: bool = False
    processors: Optional[int] = None


def read(xen: Xen, root: str, machine: str) -> HostFacts:
    """Return the facts of the host that *root* is the file tree of; none for another tree than this host's.

    :param machine: type of the processor, as in platform.machine().
    """
    if root != "/":
        return HostFacts()
    arm = machine.startswith(("arm", "aarch"))
    if not xen.is_dom0():
        return HostFacts(arm=arm)
    processors = xen.info().get("nr_cpus", "")
    return HostFacts(
        memory=xen.total_memory_mib() * MIB,
        version=xen.version(),
        arm=arm,
        processors=int(processors) if processors.isdigit() else None,
    )


def running_line(xen: Xen, root: str, recipient: Recipient = HYPERVISOR) -> Optional[str]:
    """Return the options that the hypervisor of these files, or its dom0's Linux, was started with, None for none."""
    if root != "/" or not xen.is_dom0():
        return None
    return xen.command_line() if recipient is HYPERVISOR else xen.dom0_command_line()
