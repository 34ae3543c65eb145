# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the boot loaders of PV and PVH guests, what each writes into xl.cfg and what it
# needs on the host. Source: stubdom/grub/mini-os.c @ stable-4.20.

from __future__ import annotations

import re
from typing import Any, List, Mapping, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.requirement import Requirement
from ansible_collections.xen.stubdom.plugins.module_utils._guests import disks, menus
from ansible_collections.xen.stubdom.plugins.module_utils._guests.model import (
    Flavour,
    Host,
    Menu,
    Plan,
    firmware_directory,
)
from ansible_collections.xen.stubdom.plugins.module_utils._images.grub2 import image as grub2

# PV-GRUB's image, its file, and what the hypervisor has to be capable of, by the guest kernel's architecture.
PV_GRUB = {
    "x86_64": ("pv-grub", "pv-grub-x86_64.gz", "xen-3.0-x86_64"),
    "x86_32": ("pv-grub-x86_32", "pv-grub-x86_32.gz", "xen-3.0-x86_32p"),
}
# In bytes: PV-GRUB cuts what it copies of a menu's path into 0x60, of which the last is a NUL (main,
# stubdom/grub/mini-os.c @ 4.2 ... 4.22).
LONGEST_PATH = 0x60 - 1
# The types of guests that GRUB 2 is for.
GRUB2_TYPES = ("pvh", "pv")


def _grub2(guest: Mapping[str, Any], host: Host, planned: Plan) -> None:
    given = guest.get("kernel")
    if guest.get("menu_entries") and given:
        raise UserError(
            f"The guest {guest['name']} has both kernel and menu_entries, and the menu is part of a GRUB 2 of its own.",
            "Leave out one of them.",
        )
    pv32 = guest["type"] == "pv" and guest["arch"] == "x86_32"
    if pv32 and not given:
        _require_capability(PV_GRUB["x86_32"][2], "x86_32", host)
    paths: Tuple[str, ...] = (given,) if given else ()
    if not given:
        # An image that the role stubdom_build has made finds more menus than the distribution's own.
        platform = grub2.platform_for(guest["type"], guest["arch"])
        paths = grub2_paths(guest["type"], platform, host)
    if guest.get("menu_entries"):
        text = menus.grub2(guest["menu_entries"], guest["menu_timeout"], guest["disks"], menus.rules(guest))
        image = grub2.path(firmware_directory(host), platform)
        planned.menu = Menu(menus.path(guest["name"], "bin"), text, image)
        planned.keys["kernel"] = planned.menu.path
        return
    if given:
        need = Requirement(paths, "the kernel of the guest", "Make it, or correct kernel.")
    else:
        remedy = f"Install {distributions.install_hint('grub_xen', host.distribution)}, or name the file with kernel."
        need = Requirement(paths, f"GRUB 2 for guests of type {guest['type']}", remedy, key="kernel")
    planned.needs.append(need)
    planned.keys["kernel"] = paths[0]


def our_grub2(host: Host) -> List[str]:
    """The images of GRUB 2 of our own that the host has."""
    return [grub2.path(firmware_directory(host), platform) for platform in host.grub2]


def grub2_paths(kind: str, platform: str, host: Host) -> Tuple[str, ...]:
    """Where GRUB 2 for guests of a type lies, ours first where it is installed."""
    ours = (grub2.path(firmware_directory(host), platform),) if platform in host.grub2 else ()
    # Named after its platform everywhere, as grub-i386-xen.bin beside grub-x86_64-xen.bin.
    others = distributions.paths(f"grub_{kind}", host.distribution)
    return (*ours, *(path.replace("x86_64-xen", platform) for path in others))


def _legacy(guest: Mapping[str, Any], host: Host, planned: Plan) -> None:
    image, file, capability = PV_GRUB[guest["arch"]]
    _require_capability(capability, guest["arch"], host)
    kernel = guest.get("kernel") or f"{firmware_directory(host)}/{file}"
    remedy = f"Build it with the role xen.stubdom.stubdom_build (image {image}), or use the flavour grub2."
    planned.needs.append(Requirement((kernel,), "PV-GRUB", remedy))
    planned.keys["kernel"] = kernel
    menu, menu_file = guest.get("menu"), guest.get("menu_file")
    entries = guest.get("menu_entries")
    if entries and (menu or menu_file):
        raise UserError(
            f"The guest {guest['name']} has both menu_entries and {'menu' if menu else 'menu_file'}.",
            "Leave out one of them.",
        )
    if menu and menu_file:
        raise UserError(
            f"The guest {guest['name']} has both menu and menu_file, and PV-GRUB would ignore the file.",
            "Give menu (a path that PV-GRUB reads) or menu_file (a file in dom0), not both.",
        )
    if guest.get("menu_splash") and not (guest.get("options") or {}).get("vfb"):
        raise UserError(
            f"menu_splash of {guest['name']} is for a screen, and the guest has none.",
            'Set options.vfb, as to ["vnclisten=127.0.0.1,vncpasswd=PASSWORD"], or leave out menu_splash.',
        )
    if entries:
        text = menus.legacy(entries, guest["menu_timeout"], guest["disks"], menus.rules(guest))
        planned.menu = Menu(menus.path(guest["name"], "lst"), text)
        planned.keys["ramdisk"] = planned.menu.path
    elif menu:
        menu = _placed_menu(menu, guest)
        _check_menu(menu, guest)
        planned.keys["extra"] = menu
    elif menu_file:
        remedy = "Make it, or correct menu_file."
        planned.needs.append(Requirement((menu_file,), "the menu of PV-GRUB", remedy, to_start=False))
        planned.keys["ramdisk"] = menu_file
    elif not guest.get("nics"):
        raise UserError(
            f"The guest {guest['name']} has no menu: PV-GRUB would ask DHCP for its path, and there is no network.",
            "Give menu, menu_entries, menu_file, or a network interface whose DHCP server sends option 150.",
        )


def _require_capability(capability: str, arch: str, host: Host) -> None:
    if host.capabilities and capability not in host.capabilities:
        raise UserError(
            f"This hypervisor runs no PV guests with a kernel for {arch} ({capability} is missing).",
            "Boot a 64-bit kernel (arch x86_64), a PVH guest, or a hypervisor built with CONFIG_PV32.",
        )


def _placed_menu(menu: str, guest: Mapping[str, Any]) -> str:
    """Return the path of the menu as PV-GRUB reads it."""
    disk, partition = guest.get("menu_disk"), guest.get("menu_partition")
    if menu.startswith("/"):
        return disks.menu_path(guest["disks"], menu, disk=disk, partition=partition)
    if disk is not None or partition is not None:
        raise UserError(
            f"The menu {menu} names its own place, and menu_disk or menu_partition another one.",
            "Write menu as a path that begins with a slash, or leave them out.",
        )
    return menu


def _check_menu(menu: str, guest: Mapping[str, Any]) -> None:
    match = re.match(r"\((?:nd|hd(?P<disk>\d+)(?P<partition>,\d+)?)\)/\S+\Z", menu)
    if match is None:
        raise UserError(
            f"{menu!r} is no path that PV-GRUB can read.",
            "Write it in one word, as /boot/grub/menu.lst, (hd0,0)/boot/grub/menu.lst or (nd)/menu.lst.",
        )
    length = len(menu.encode())
    if length > LONGEST_PATH:
        raise UserError(
            f"The path of the menu has {length} bytes, and PV-GRUB has room for {LONGEST_PATH}.",
            "Put the menu where its path is shorter.",
        )
    if match["disk"] is None:
        if not guest.get("nics"):
            raise UserError(f"The menu {menu} comes over the network, and the guest has none.", "Give it a nic.")
        return
    names = disks.grub_names([disk["vdev"] for disk in guest.get("disks") or ()])
    wanted = f"(hd{match['disk']})"
    vdev = next((vdev for vdev, name in names.items() if name == wanted), None)
    if vdev is None:
        known = ", ".join(f"{vdev} is {name}" for vdev, name in names.items()) or "there are none"
        raise UserError(
            f"The menu {menu} is on {wanted}, which is none of the guest's disks: {known}.", "Correct menu."
        )
    if match["partition"] and disks.device(vdev).partition:
        raise UserError(
            f"The menu {menu} names a partition of {wanted}, but {vdev} is a partition and is {wanted} itself.",
            f"Write {menu.replace(match['partition'], '', 1)}.",
        )


FLAVOURS: Mapping[str, Flavour] = {
    "grub2": Flavour(GRUB2_TYPES, _grub2),
    "legacy": Flavour(("pv",), _legacy),
}
