# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: from a guest's parameters to the keys of xl.cfg that make it.

from __future__ import annotations

import re
import uuid
from typing import Any, Dict, Mapping, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.requirement import Requirement
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import text
from ansible_collections.xen.stubdom.plugins.module_utils._guests import (
    boot_loaders,
    device_models,
    disks,
    in_dom0,
    menus,
    options,
    spec,
    virtualisation,
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

FLAVOURS: Mapping[str, Flavour] = {**boot_loaders.FLAVOURS, **device_models.FLAVOURS, **in_dom0.FLAVOURS}

# Long enough for everybody, and short enough for names of files with something behind it.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}\Z")


def identity(name: str) -> str:
    """The UUID of the guest of this name."""
    return str(uuid.uuid5(IDENTITIES, name))


def plan(guest: Mapping[str, Any], host: Host) -> Plan:
    """Turn a guest's parameters into keys of xl.cfg.

    :param guest: its parameters, by the rows of spec.py.
    :raises UserError: it cannot work on this host, or not at all.
    """
    guest = {**guest, "disks": disks.named(guest.get("disks") or (), hvm=guest["type"] == "hvm")}
    if guest["flavour"] == "linux":
        if guest.get("kernel"):
            guest["disks"] = [*guest["disks"], disks.boot_drive(guest["disks"], menus.path(guest["name"], menus.CD))]
        guest["disks"] = disks.without_qemu(guest["disks"], host.version)
    _check(guest, host)
    spec.refuse_foreign(guest)
    planned = Plan()
    _identity(guest, host, planned.keys)
    FLAVOURS[guest["flavour"]].write(guest, host, planned)
    # What a kernel needs is with it on a CD where QEMU does not see it in dom0.
    planned.keys.update(
        spec.keys({**guest, "cmdline": None, "ramdisk": None} if guest["flavour"] == "linux" else guest)
    )
    for disk in guest["disks"]:
        if disks.in_dom0(disk) and (planned.menu is None or disk["target"] != planned.menu.path):
            remedy = "Make it, or correct the target of the disk."
            planned.needs.append(Requirement((disk["target"],), f"the disk {disk['vdev']}", remedy, to_start=False))
    if guest.get("ramdisk"):
        remedy = "Make it, or correct ramdisk."
        to_start = planned.menu is None
        planned.needs.append(Requirement((guest["ramdisk"],), "the ramdisk of the guest's kernel", remedy, to_start))
    asked = guest.get("options") or {}
    options.validate(
        asked,
        name=guest["name"],
        guest=guest["type"],
        flavour=guest["flavour"],
        version=host.version,
        weaker=bool(guest.get("allow_weaker_isolation")),
    )
    # A null leaves out what another source would give.
    planned.keys.update({key: value for key, value in asked.items() if value is not None})
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
    if not virtualisation.hardware(keys):
        return _even(mib + 1)
    paging = (4 * (256 * vcpus + 2 * most) + 1023) // 1024
    total = mib + paging + 2
    if virtualisation.stubbed(keys):
        flavour = virtualisation.stub_flavour(keys.get("device_model_version"))
        total += _int(keys, "stubdomain_memory", STUB_MEMORY[flavour]) + _int(
            keys, "videoram", _video_mib(keys, flavour)
        )
    return _even(total)


def _video_mib(keys: Mapping[str, xl_cfg.Value], flavour: str) -> int:
    card = keys.get("vga", "stdvga" if _int(keys, "stdvga", 0) else "cirrus")
    return VIDEO_MEMORY[flavour].get(str(card), VIDEO_MEMORY[flavour]["cirrus"])


def refuse_namesake(name: str, uuid: Optional[str], domid: Optional[int], running_uuid: Optional[str]) -> None:
    """:raises UserError: the domain of this name is not the guest.

    :param uuid: of the guest's configuration, None where it gives none.
    :param domid: of the domain, None where there is none.
    """
    if domid is not None and uuid is not None and running_uuid != uuid:
        raise UserError(
            f"The name {name} is taken: domain {domid} has it and comes from elsewhere.",
            "Set another name for the guest, or end that domain first.",
        )


def refuse_unfixed(keys: Mapping[str, xl_cfg.Value], memory: Mapping[str, Any]) -> None:
    """:raises UserError: the guest needs a stub domain, and xl would take memory from dom0 while both start."""
    if virtualisation.stubbed(keys) and not memory["dom0_fixed"]:
        raise UserError(
            f"The memory of dom0 is not fixed, and the guest {keys.get('name')} needs a stub domain: dom0 would be "
            "taken memory away while the two start.",
            "Fix it first with the role xen.stubdom.dom0_memory (dom0_mem=SIZE,max:SIZE and autoballoon off).",
        )


def available_mib(memory: Mapping[str, Any], freed_mib: int = 0) -> int:
    """Return how much memory guests can have that are started now.

    Where dom0's memory is not fixed, xl takes what is missing from dom0, as long as that keeps LIBXL_MIN_DOM0_MEM.

    :param memory: as xen_info returns it.
    :param freed_mib: what guests have that end before.
    """
    lent = memory["autoballoon"] != "off" and not memory["dom0_fixed"]
    return int(memory["free_mib"]) + freed_mib + (max(memory["dom0_mib"] - 128, 0) if lent else 0)


def refuse_memory(name: str, needed: int, memory: Mapping[str, Any], freed_mib: int = 0, *, more: bool = False) -> None:
    """:raises UserError: the host has less free than the guest needs, or needs beside what it has, in MiB."""
    if needed > available_mib(memory, freed_mib):
        raise UserError(
            f"The guest {name} needs {needed} MiB of {'additional ' if more else ''}memory, and the host has "
            f"{memory['free_mib']} MiB free.",
            "Give the guest less memory, end another one, or give dom0 less with the role xen.stubdom.dom0_memory.",
        )


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
    if guest.get("memory") is None:
        raise UserError(f"The guest {name} has no memory.", "Set memory to an amount in MiB, for example 512.")
    if guest["memory"] < 1 or (guest.get("vcpus") or 1) < 1:
        raise UserError(f"The guest {name} has no memory or no processor.", "Give it at least one MiB and one vCPU.")
    if guest.get("maxmem") is not None and guest["maxmem"] < guest["memory"]:
        raise UserError(
            f"The guest {name} starts with {guest['memory']} MiB, which is above its maxmem of {guest['maxmem']}.",
            "Raise maxmem or lower memory.",
        )
    disks.check(guest["disks"])
    if guest["flavour"] in ("linux", "dom0") and guest["type"] == "hvm":
        disks.check_emulated(guest["disks"])
        disks.check_drives(guest["disks"], host.version)
    disks.check_nics(guest.get("nics") or ())


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
