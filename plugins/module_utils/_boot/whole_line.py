# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the whole boot line of a host in its three states.

from __future__ import annotations

from typing import Any, Dict

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot.host_facts import running_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import find
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


def report(run: Runner, xen: Xen, *, root: str = "/") -> Dict[str, Any]:
    """Return the whole boot line of a host; never fails on a host without one.

    :return: loader, configured, effective, running, boots_xen, waits_because (each None where it is not known),
        reboot_required, reboot_reason.
    """
    names = ("loader", "configured", "effective", "running", "boots_xen", "waits_because")
    found: Dict[str, Any] = dict.fromkeys(names)
    reason = ""
    try:
        found["running"] = running_line(xen, root)
        loader = find("auto", run, root=root, foreign=root != "/", running=found["running"])
        found["loader"] = loader.name
        boots = loader.next_boot()
        found["boots_xen"], found["waits_because"], reason = boots.xen, boots.waits, boots.reason
        if boots.options is not None:
            found["effective"] = " ".join(command_line.configured_options(boots.options))
        found["configured"] = " ".join(command_line.configured_options(loader.configured(loader.read())))
    except UserError as error:
        reason = error.what
    effective = found["effective"]
    running = None if found["running"] is None else " ".join(command_line.configured_options(found["running"]))
    known = effective is not None and running is not None
    if not known:
        reason = reason or "Either Xen is not running here, or the loader has no entry for it."
    elif effective == running:
        reason = "The hypervisor runs with the options that the next boot passes."
    else:
        reason = f"The hypervisor runs with {running or 'no options'} and will get {effective or 'no options'}."
    return {**found, "reboot_required": known and effective != running, "reboot_reason": reason}
