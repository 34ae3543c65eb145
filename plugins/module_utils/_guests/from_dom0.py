# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: how a guest can boot by itself that has its boot loader (pygrub) or its kernel
# in dom0 now, as parameters.
# Sources: tools/pygrub/src/{pygrub,GrubConf.py} @ stable-4.20; docs/grub.texi of GRUB 0.97.

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import AbstractSet, Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import disks, guest_disk, guest_types, spec
from ansible_collections.xen.stubdom.plugins.module_utils._guests.guest_disk import Found
from ansible_collections.xen.stubdom.plugins.module_utils._guests.model import Host
from ansible_collections.xen.stubdom.plugins.module_utils._images.grub2 import image as grub2

# What belongs to a boot loader in dom0, and what the guest loses with it.
_LOST = {
    "bootloader": "the boot loader in dom0",
    "bootloader_args": "the boot loader's options",
    "bootloader_restrict": "the boot loader's own account",
    "bootloader_user": "the boot loader's own account",
}
_ENTRIES = 8


@dataclass
class Proposal:
    """What to do with a guest.

    :param parameters: as the module guests takes them; empty where it cannot be done yet.
    :param why: what was found, in a sentence.
    :param loses: what the guest has now and will not have.
    :param blocked: what has to be done before; empty where nothing has.
    """

    parameters: Dict[str, Any] = field(default_factory=dict)
    why: str = ""
    loses: List[str] = field(default_factory=list)
    blocked: str = ""


def concerns(parameters: Mapping[str, Any]) -> bool:
    """Whether dom0 has the boot loader or the kernel of a guest."""
    if parameters.get("type", "pv") == "hvm" or parameters.get("flavour") == "legacy":
        return False
    kernel = os.path.basename(parameters.get("kernel") or "")
    return parameters.get("flavour") == "dom0" or bool(re.match(r"(?:vmlinu|bzImage|kernel)", kernel))


def propose(
    parameters: Mapping[str, Any], found: Optional[Found], host: Host, *, legacy: AbstractSet[str] = frozenset()
) -> Proposal:
    """Propose how the guest is to boot.

    :param parameters: as they were read from its configuration.
    :param found: what is on its disks; None where that is not known.
    :param legacy: the architectures that there is a PV-GRUB for.
    """
    new = _without_dom0(parameters)
    loses = _lost(parameters)
    if found is None or not found.volumes:
        why, remedy = guest_disk.obstacle(parameters.get("disks") or ())
        return Proposal({}, why, loses, remedy)
    own = [place for place in found.menus if place[1] in guest_disk.GRUB_MENUS]
    menus = [place for place in found.menus if place[1] in guest_disk.LEGACY_MENUS]
    others = [place for place in found.menus if place not in (*own, *menus)]
    kernels = [one for place in own or others or menus for one in found.kernels.get(place, ())]
    new["type"], why = _type(new, kernels, host)
    if not found.menus:
        return Proposal(
            {},
            "There is no menu of a boot loader on its disks.",
            loses,
            "Install a kernel and GRUB in the guest while it runs, so that it has /boot/grub/grub.cfg.",
        )
    menu = (own or others or menus)[0]
    why = f"Its menu is {menu[1]} on {found.where(menu[0])}. {why}"
    image = _has_image(new, host)
    if not own and not image:
        if menus and not others and _arch(new) in legacy and _legacy(new, menus[0], found):
            return Proposal({**new, "type": "pv"}, f"{why} PV-GRUB reads it.", loses)
        return Proposal(
            {},
            why,
            loses,
            "Install the image grub2 of the role xen.stubdom.stubdom_build, as the GRUB 2 of the distribution does not "
            f"read {menu[1]}.",
        )
    if not own and not others:
        entries = entries_of(found.menus[menu], found, menu[0])
        if not entries:
            return Proposal({}, why, loses, f"No entry of {menu[1]} was understood: set menu_entries for it.")
        new["menu_entries"] = entries
        why += " Its entries become menu_entries."
        loses.append(f"changes that the guest makes to {menu[1]} from now on")
    return Proposal(new, why, loses)


def _without_dom0(parameters: Mapping[str, Any]) -> Dict[str, Any]:
    """The parameters without what a boot loader or a kernel in dom0 needs."""
    options = {key: value for key, value in (parameters.get("options") or {}).items() if key not in _LOST}
    gone = ("flavour", "kernel", "ramdisk", "cmdline", "options", "allow_weaker_isolation")
    new = {key: value for key, value in parameters.items() if key not in gone}
    new["flavour"] = "grub2"
    if options:
        new["options"] = options
    return {row.name: new[row.name] for row in spec.GUEST if row.name in new}


def _lost(parameters: Mapping[str, Any]) -> List[str]:
    loses = []
    for key, value in (parameters.get("options") or {}).items():
        if key in _LOST:
            loses.append(f"{_LOST[key]} ({key} {value})")
    for name in ("kernel", "ramdisk"):
        if parameters.get(name):
            loses.append(f"the file {parameters[name]} in dom0 ({name}): the guest's own is booted")
    if parameters.get("cmdline"):
        loses.append(f"the kernel's options {parameters['cmdline']} (cmdline): set them in the guest's boot loader")
    return loses


def _type(new: Mapping[str, Any], kernels: List[guest_disk.Kernel], host: Host) -> Tuple[str, str]:
    """The type, and why."""
    kind = str(new.get("type", "pv"))
    if kind != "pv":
        return kind, ""
    unfit = next((one for one in kernels if one.packed and one.packed not in guest_disk.PV_UNPACKS), None)
    if unfit is None and kernels:
        return "pv", f"GRUB 2 can load its kernel {kernels[0].path} as that of a PV guest."
    chosen, reason = guest_types.typed({**dict.fromkeys(("kernel", "options")), **new, "type": None}, host, {})
    if unfit is not None and chosen["type"] == "pvh":
        return (
            "pvh",
            f"Its kernel {unfit.path} is packed with {unfit.packed}, which GRUB 2 unpacks for PVH guests only.",
        )
    return str(chosen["type"]), reason


def _has_image(new: Mapping[str, Any], host: Host) -> bool:
    return grub2.platform_for(str(new["type"]), _arch(new)) in host.grub2


def _arch(new: Mapping[str, Any]) -> str:
    return str(new.get("arch") or "x86_64")


def _legacy(new: Dict[str, Any], menu: Tuple[str, str], found: Found) -> bool:
    """Make the guest one of PV-GRUB, if that can read the menu."""
    place = found.place(menu[0])
    if place is None:
        return False
    path = disks.menu_path(new["disks"], menu[1], disk=place[0], partition=place[1])
    guest = {**new, "name": "", "flavour": "legacy", "menu": path}
    try:
        guest_disk.refuse(guest, found, ours=False)
    except UserError:
        return False
    new.update(flavour="legacy", menu=menu[1], menu_disk=place[0])
    if place[1] is not None:
        new["menu_partition"] = place[1]
    return True


def entries_of(menu: str, found: Found, volume: str) -> List[Dict[str, Any]]:
    """The entries of a menu of GRUB 0.97 whose kernels are there as menu_entries, its default first.

    pygrub takes the paths of all of them for those of the file system that the menu is on.
    """
    place = found.place(volume)
    entries: List[Dict[str, Any]] = []
    default = 0
    for word, rest in re.findall(r"^[ \t]*(\w+)[ \t=]+(.*)$", menu, re.M):
        rest = " ".join(rest.split())
        if word == "default" and rest.isdigit():
            default = int(rest)
        elif word == "title":
            entries.append({"title": rest})
        elif word == "kernel" and entries:
            path, _blank, cmdline = re.sub(r"\A(?:--\S+ )*(?:\(\S*?\))?", "", rest).partition(" ")
            entries[-1].update({"kernel": path, **({"cmdline": cmdline} if cmdline else {})})
        elif word == "initrd" and entries:
            entries[-1]["initrd"] = re.sub(r"\A\(\S*?\)", "", rest)
    if place is None:
        return []
    at = {"disk": place[0], **({} if place[1] is None else {"partition": place[1]})}
    first = entries[default : default + 1]
    ordered = [*first, *(entry for entry in entries if entry not in first)]
    there = {one.path for of_menu in found.kernels.values() for one in of_menu}
    return [{**entry, **at} for entry in ordered if entry.get("kernel") in there][:_ENTRIES]
