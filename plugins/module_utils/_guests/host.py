# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what of a host the configuration of a guest depends on, and its start.

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._boot import memory
from ansible_collections.xen.stubdom.plugins.module_utils._common.requirement import satisfied, satisfy
from ansible_collections.xen.stubdom.plugins.module_utils._guests import model, plan
from ansible_collections.xen.stubdom.plugins.module_utils._images import found
from ansible_collections.xen.stubdom.plugins.module_utils._xen import domains, firmware
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


def observe_host(xen: Xen, named: Optional[str]) -> model.Host:
    """What a guest's parameters are judged by."""
    directory = firmware.find(xen, named)
    recorded = (image["manifest"] or {} for image in found.images(xen, directory))
    linux = next((record for record in recorded if record.get("kind") == "linux"), {})
    running = xen.is_dom0()
    return model.Host(
        version=xen.version() if running else xen.toolstack_version(),
        firmware_directory=directory,
        capabilities=frozenset(xen.info().get("xen_caps", "").split()) if running else frozenset(),
        stub_memory_mib=linux.get("memory_mib"),
        stub_command_line=linux.get("command_line"),
        distribution=xen.distribution,
    )


def check_needs(xen: Xen, planned: model.Plan, *, start: bool) -> None:
    """Require the files that the guest is made of, and choose among those that can stand for each other."""
    for need in planned.needs:
        if need.key is not None and len(need.paths) > 1 and not start:
            there = [path for path in need.paths if satisfied(need, path, xen.path)]
            planned.keys[need.key] = (there or list(need.paths))[0]
        if start or not need.to_start:
            path = satisfy(need, xen.path)
            if need.key is not None:
                planned.keys[need.key] = path


def check_start(xen: Xen, planned: model.Plan) -> Dict[str, Any]:
    """Require a host on which the guest could be started now, or is there already."""
    rows = xen.domains()
    available, guests = memory.observe(xen, rows), domains.observe_guests(xen, rows)
    plan.refuse_start(planned.keys, available, guests)
    domain = plan.find(guests, str(planned.keys["name"]))
    return {"free_mib": available["free_mib"], "domid": None if domain is None else domain["domid"]}
