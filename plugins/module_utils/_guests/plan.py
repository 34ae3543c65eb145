# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: from a guest's parameters to the keys of xl.cfg that make it.

from __future__ import annotations

import re
import uuid
from typing import Any, Dict, Mapping, Optional, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.requirement import Requirement
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import text
from ansible_collections.xen.stubdom.plugins.module_utils._guests import (
    boot_loaders,
    device_models,
    disks,
    options,
)
from ansible_collections.xen.stubdom.plugins.module_utils._guests.model import (
    STUB_MEMORY,
    VIDEO_MEMORY,
    Flavour,
    Host,
    Plan,
)
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg, xl_rules

# A guest keeps its identity on whatever host it is defined, so that a running domain can be told from a namesake.
IDENTITIES = uuid.UUID("5b0cf0f4-6b0b-5d3e-9d0f-3b6d2a1a7c11")

FLAVOURS: Mapping[str, Flavour] = {**boot_loaders.FLAVOURS, **device_models.FLAVOURS}

# Long enough for everybody, and short enough for names of files with something behind it.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}\Z")


def identity(name: str) -> str:
    """The UUID of the guest of this name."""
    return str(uuid.uuid5(IDENTITIES, name))


def plan(guest: Mapping[str, Any], host: Host) -> Plan:
    """Turn a guest's parameters into keys of xl.cfg.

    :param guest: the parameters of the module guest_config.
    :raises UserError: it cannot work on this host, or not at all.
    """
    guest = {**guest, "disks": disks.named(guest.get("disks") or (), hvm=guest["type"] == "hvm")}
    _check(guest, host)
    planned = Plan()
    _identity(guest, host, planned.keys)
    FLAVOURS[guest["flavour"]].write(guest, host, planned)
    for key in ("memory", "maxmem", "vcpus"):
        if guest.get(key) is not None:
            planned.keys[key] = guest[key]
    if guest["disks"]:
        planned.keys["disk"] = [disks.render(disk) for disk in guest["disks"]]
    if guest.get("nics"):
        planned.keys["vif"] = [disks.nic(nic) for nic in guest["nics"]]
    for disk in guest["disks"]:
        remedy = "Make it, or correct the target of the disk."
        planned.needs.append(Requirement((disk["target"],), f"the disk {disk['vdev']}", remedy, to_start=False))
    for key in ("on_poweroff", "on_reboot", "on_crash"):
        if guest.get(key):
            planned.keys[key] = guest[key]
    asked = guest.get("options") or {}
    weaker = bool(guest.get("allow_weaker_isolation"))
    options.validate(
        asked,
        name=guest["name"],
        guest=guest["type"],
        flavour=guest["flavour"],
        version=host.version,
        weaker=weaker,
    )
    planned.keys.update(asked)
    xl_rules.check(planned.keys, host.version, guest=guest["type"])
    xl_rules.check_together(planned.keys, guest=guest["type"])
    planned.grub_names = disks.grub_names([disk["vdev"] for disk in guest["disks"]])
    return planned


def memory_mib(keys: Mapping[str, xl_cfg.Value]) -> int:
    """Return what the host has to have free for a guest and its stub domain, in MiB.

    libxl__domain_need_memory_calculate (libxl_mem.c) and libxl__get_required_paging_memory (libxl_utils.c).
    """
    mib = _int(keys, "memory", 32)
    most, vcpus = max(mib, _int(keys, "maxmem", 0)), _int(keys, "vcpus", 1)
    if not hardware(keys):
        return _even(mib + 1)
    paging = (4 * (256 * vcpus + 2 * most) + 1023) // 1024
    total = mib + paging + 2
    if stubbed(keys):
        flavour = "minios" if keys.get("device_model_version") == "qemu-xen-traditional" else "linux"
        total += _int(keys, "stubdomain_memory", STUB_MEMORY[flavour]) + _int(keys, "videoram", VIDEO_MEMORY[flavour])
    return _even(total)


def hardware(keys: Mapping[str, xl_cfg.Value]) -> bool:
    """Whether the guest runs in hardware virtualisation (PVH or HVM)."""
    return keys.get("type") in ("pvh", "hvm") or keys.get("builder") == "hvm"


def hvm(keys: Mapping[str, xl_cfg.Value]) -> bool:
    """Whether the guest is an HVM guest."""
    return keys.get("type") == "hvm" or keys.get("builder") == "hvm"


def stubbed(keys: Mapping[str, xl_cfg.Value]) -> bool:
    """Whether the guest's device model is to run in a stub domain."""
    return hvm(keys) and keys.get("device_model_stubdomain_override") in (1, "1")


def refuse_start(
    keys: Mapping[str, xl_cfg.Value], memory: Mapping[str, Any], guests: Sequence[Mapping[str, Any]]
) -> None:
    """Validate whether a guest can be started.

    :param memory: as xen_info returns it.
    :param guests: as xen_info returns them.
    :raises UserError: it cannot, or not safely.
    """
    name = str(keys.get("name"))
    domain = find(guests, name)
    if domain is not None:
        if domain["uuid"] != keys.get("uuid") and keys.get("uuid") is not None:
            raise UserError(
                f"The name {name} is taken: domain {domain['domid']} has it and comes from elsewhere.",
                "Give the guest another name, or end that domain first.",
            )
        return
    if stubbed(keys) and not memory["dom0_fixed"]:
        raise UserError(
            f"The memory of dom0 is not fixed, and the guest {name} needs a stub domain: dom0 would be taken memory "
            "away while the two start.",
            "Fix it first with the role xen.stubdom.dom0_memory (dom0_mem=SIZE,max:SIZE and autoballoon off).",
        )
    needed = memory_mib(keys)
    # Where dom0's memory is not fixed, xl takes what is missing from dom0, as long as that keeps LIBXL_MIN_DOM0_MEM.
    lent = memory["autoballoon"] != "off" and not memory["dom0_fixed"]
    if needed > memory["free_mib"] + (max(memory["dom0_mib"] - 128, 0) if lent else 0):
        raise UserError(
            f"The guest {name} needs {needed} MiB of memory, and the host has {memory['free_mib']} MiB free.",
            "Give the guest less memory, end another one, or give dom0 less with the role xen.stubdom.dom0_memory.",
        )


def find(guests: Sequence[Mapping[str, Any]], name: str) -> Optional[Mapping[str, Any]]:
    """The domain of this name, None if there is none."""
    return next((guest for guest in guests if guest["name"] == name), None)


def check_name(name: str) -> None:
    """:raises UserError: no guest can have this name, from which the name of its file is made."""
    if not NAME.match(name) or name.isdigit() or name == "Domain-0":
        raise UserError(
            f"{name!r} is no name for a guest.",
            "Use up to 128 letters, digits and . _ + -, starting with a letter or digit and not all digits: xl takes "
            "those for a domain's number.",
        )


def _check(guest: Mapping[str, Any], host: Host) -> None:
    name = guest["name"]
    check_name(name)
    flavour = FLAVOURS[guest["flavour"]]
    if guest["type"] not in flavour.types:
        raise UserError(
            f"The flavour {guest['flavour']} is not for guests of type {guest['type']}.",
            f"It is for {' and '.join(flavour.types)}; correct type or flavour.",
        )
    if host.version is not None and not flavour.first <= host.version <= flavour.last:
        raise UserError(f"Xen {text(host.version)} has no flavour {guest['flavour']}.", flavour.instead)
    if guest["type"] == "pvh" and host.version is not None and host.version < xl_rules.since("type"):
        raise UserError(f"Xen {text(host.version)} has no PVH guests.", "Use the type pv.")
    if guest["memory"] < 1 or (guest.get("vcpus") or 1) < 1:
        raise UserError(f"The guest {name} has no memory or no processor.", "Give it at least one MiB and one vCPU.")
    if guest.get("maxmem") is not None and guest["maxmem"] < guest["memory"]:
        raise UserError(
            f"The guest {name} starts with {guest['memory']} MiB, which is above its maxmem of {guest['maxmem']}.",
            "Raise maxmem or lower memory.",
        )
    disks.check(guest["disks"])


def _identity(guest: Mapping[str, Any], host: Host, keys: Dict[str, xl_cfg.Value]) -> None:
    keys["name"] = guest["name"]
    keys["uuid"] = guest.get("uuid") or identity(guest["name"])
    if host.version is None or host.version >= xl_rules.since("type"):
        keys["type"] = guest["type"]
    elif guest["type"] == "hvm":
        keys["builder"] = "hvm"


def _int(keys: Mapping[str, xl_cfg.Value], key: str, default: int) -> int:
    value = keys.get(key)
    return int(value) if isinstance(value, (int, str)) and str(value).isdigit() else default


def _even(mib: int) -> int:
    return mib + mib % 2
