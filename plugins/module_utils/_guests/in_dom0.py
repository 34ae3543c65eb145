# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: guests whose boot loader or device model runs in dom0, for guests that were
# there before this collection and are to stay as they are for a while.

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.requirement import Requirement
from ansible_collections.xen.stubdom.plugins.module_utils._guests import device_models
from ansible_collections.xen.stubdom.plugins.module_utils._guests.model import Flavour, Host, Plan


def _dom0(guest: Mapping[str, Any], host: Host, planned: Plan) -> None:
    hvm = guest["type"] == "hvm"
    if not guest.get("allow_weaker_isolation"):
        what = "device model" if hvm else "boot loader"
        raise UserError(
            f"The {what} of the guest {guest['name']} would run in dom0: that is the flavour dom0.",
            f"Use the flavour {'linux' if hvm else 'grub2'}, or set allow_weaker_isolation to true.",
        )
    options = guest.get("options") or {}
    if not hvm and not guest.get("kernel") and not options.get("bootloader"):
        raise UserError(
            f"The guest {guest['name']} has neither a kernel nor a boot loader in dom0.",
            "Set options.bootloader, for example to pygrub, or kernel, or use the flavour grub2.",
        )
    if hvm:
        device_models.require_kernel(guest)
    for name in ("kernel", "boot", "serial", "firmware_override", "device_model_override"):
        if guest.get(name):
            planned.keys[name] = guest[name]
    if guest.get("kernel"):
        need = Requirement((guest["kernel"],), "the kernel of the guest", "Make it, or correct kernel.")
        planned.needs.append(need)
    if hvm and guest.get("vnc") is not None:
        planned.keys["vnc"] = int(guest["vnc"])
    if hvm:
        device_models.add_firmware(guest, host, planned)


FLAVOURS: Mapping[str, Flavour] = {"dom0": Flavour(("pv", "pvh", "hvm"), _dom0)}
