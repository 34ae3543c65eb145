# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the host's memory, and whether dom0's part of it stays as it is.

from __future__ import annotations

from typing import Any, Dict, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line, dom0_mem
from ansible_collections.xen.stubdom.plugins.module_utils._boot.autoballoon import XL_CONF, balloons, configured
from ansible_collections.xen.stubdom.plugins.module_utils._boot.dom0_mem import MIB
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Domain, Xen


def observe(xen: Xen, domains: Sequence[Domain], *, xl_conf: str = XL_CONF) -> Dict[str, Any]:
    """The host's memory; all null where Xen does not run and there are no domains."""
    setting = configured(files.read(xen.path(xl_conf), longest=xl_cfg.LONGEST))
    if not domains:
        nothing = dict.fromkeys(("total_mib", "free_mib", "dom0_mib", "dom0_max_mib"))
        return {**nothing, "dom0_fixed": False, "autoballoon": setting}
    return describe(
        total_mib=xen.total_memory_mib(),
        free_mib=xen.free_memory_mib(),
        domains=domains,
        running=xen.command_line(),
        version=xen.version(),
        autoballoon=setting,
    )


def describe(
    *,
    total_mib: int,
    free_mib: int,
    domains: Sequence[Domain],
    running: str,
    version: Version,
    autoballoon: str,
) -> Dict[str, Any]:
    """Describe the host's memory, and whether dom0's part of it is fixed.

    :param running: the command line that the hypervisor was started with.
    """
    values = command_line.values(running, dom0_mem.OPTION)
    try:
        limits = dom0_mem.merge(values) or dom0_mem.Dom0Mem()
    except UserError:
        limits = dom0_mem.Dom0Mem()
    maximum = None if limits.maximum is None else limits.maximum.resolve(total_mib * MIB)
    return {
        "total_mib": total_mib,
        "free_mib": free_mib,
        "dom0_mib": next((domain.memory_mib for domain in domains if domain.domid == 0), None),
        "dom0_max_mib": None if maximum is None else maximum // MIB,
        "dom0_fixed": limits.fixed and not balloons(autoballoon, running, version),
        "autoballoon": autoballoon,
    }
