# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the flavours, what each writes into xl.cfg and what it needs on the host.
# Sources: tools/libs/light/libxl_{create,dm}.c @ stable-4.20, stubdom/grub/mini-os.c @ stable-4.20.

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.requirement import Requirement
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version
from ansible_collections.xen.stubdom.plugins.module_utils._guests import disks
from ansible_collections.xen.stubdom.plugins.module_utils._guests.model import (
    SINCE,
    STUB_MEMORY,
    Host,
    Plan,
    refuse_given,
    refuse_new,
)
from ansible_collections.xen.stubdom.plugins.module_utils._images import helpers
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg

# PV-GRUB's image, its file, and what the hypervisor has to be capable of, by the guest kernel's architecture.
PV_GRUB = {
    "x86_64": ("pv-grub", "pv-grub-x86_64.gz", "xen-3.0-x86_64"),
    "x86_32": ("pv-grub-x86_32", "pv-grub-x86_32.gz", "xen-3.0-x86_32p"),
}
# PV-GRUB copies the path into 0x60 bytes without looking at its length (stubdom/grub/mini-os.c).
MENU_LENGTH = 95

# Limits of the Linux stub domain (docs/misc/stubdom.txt @ stable-4.22).
LINUX_NICS = 1
LINUX_DISKS = 26


def _grub2(guest: Mapping[str, Any], host: Host, planned: Plan) -> None:
    given = guest.get("kernel")
    paths = (given,) if given else distributions.paths(f"grub_{guest['type']}", host.distribution)
    remedy = f"Install {distributions.install_hint('grub_xen', host.distribution)}, or name the file with kernel."
    planned.needs.append(Requirement(paths, f"GRUB 2 for guests of type {guest['type']}", remedy, key="kernel"))
    planned.keys["kernel"] = paths[0]
    refuse_given(guest, ("menu", "menu_file"), "GRUB 2 looks for its grub.cfg on the guest's disks")


def _legacy(guest: Mapping[str, Any], host: Host, planned: Plan) -> None:
    image, file, capability = PV_GRUB[guest["arch"]]
    if host.capabilities and capability not in host.capabilities:
        raise UserError(
            f"This hypervisor runs no PV guests with a kernel for {guest['arch']} (it lacks {capability}).",
            "Boot a 64-bit kernel (arch x86_64), or a hypervisor built with CONFIG_PV32.",
        )
    kernel = guest.get("kernel") or f"{_firmware(host)}/{file}"
    remedy = f"Build it with the role xen.stubdom.stubdom_build (image {image}), or use the flavour grub2."
    planned.needs.append(Requirement((kernel,), "PV-GRUB", remedy))
    planned.keys["kernel"] = kernel
    menu, menu_file = guest.get("menu"), guest.get("menu_file")
    if menu and menu_file:
        raise UserError(
            f"The guest {guest['name']} has both menu and menu_file, and PV-GRUB would ignore the file.",
            "Give menu (a path that PV-GRUB reads) or menu_file (a file in dom0), not both.",
        )
    if menu:
        _check_menu(menu, guest)
        planned.keys["extra"] = menu
    elif menu_file:
        remedy = "Make it, or correct menu_file."
        planned.needs.append(Requirement((menu_file,), "the menu of PV-GRUB", remedy, to_start=False))
        planned.keys["ramdisk"] = menu_file
    elif not guest.get("nics"):
        raise UserError(
            f"The guest {guest['name']} has no menu: PV-GRUB would ask DHCP for its path, and there is no network.",
            "Give menu, menu_file, or a network interface whose DHCP server sends option 150.",
        )


def _check_menu(menu: str, guest: Mapping[str, Any]) -> None:
    match = re.match(r"\((?:nd|hd(?P<disk>\d+)(?P<partition>,\d+)?)\)/\S+\Z", menu)
    if match is None:
        raise UserError(
            f"{menu!r} is no path that PV-GRUB can read.",
            "Write it in one word, as (hd0,0)/boot/grub/menu.lst, (hd0)/boot/grub/menu.lst or (nd)/menu.lst.",
        )
    if len(menu) >= MENU_LENGTH:
        raise UserError(
            f"The path of the menu has {len(menu)} characters, and PV-GRUB has room for {MENU_LENGTH - 1}.",
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


def _linux(guest: Mapping[str, Any], host: Host, planned: Plan) -> None:
    keys = planned.keys
    _stub_keys(guest, "qemu-xen", keys)
    for what, most, given in (
        ("network interface", LINUX_NICS, guest.get("nics") or ()),
        ("disks", LINUX_DISKS, guest.get("disks") or ()),
    ):
        if len(given) > most:
            raise UserError(
                f"The guest {guest['name']} has {len(given)}, and a Linux stub domain serves {most} {what}.",
                "Take some away.",
            )
    if guest.get("vnc"):
        raise UserError(
            f"The guest {guest['name']} asks for VNC, which a Linux stub domain does not have.",
            "Leave it out and use the serial port, or run the device model in dom0.",
        )
    refuse_given(guest, ("firmware_override", "device_model_override"), "they belong to the flavour minios")
    needed = host.stub_memory_mib
    given_mib = guest.get("stubdomain_memory")
    if given_mib is not None and needed is not None and given_mib < needed:
        raise UserError(
            f"The stub domain is given {given_mib} MiB, and its image needs {needed} MiB.",
            "Raise stubdomain_memory, or leave it out.",
        )
    memory = given_mib or max(needed or 0, STUB_MEMORY["linux"])
    if memory != STUB_MEMORY["linux"]:
        keys["stubdomain_memory"] = memory
    own = {"kernel": guest.get("stubdomain_kernel"), "rootfs": guest.get("stubdomain_ramdisk")}
    for part, path in own.items():
        if path:
            keys["stubdomain_ramdisk" if part == "rootfs" else "stubdomain_kernel"] = path
        planned.needs.append(
            Requirement(
                (path or f"{_firmware(host)}/qemu-stubdom-linux-{part}",),
                f"the image of the Linux stub domain ({part})",
                "Make it with the role xen.stubdom.stubdom_build (image linux).",
            )
        )
    own_words = host.stub_command_line if host.version is None or host.version >= SINCE["stubdomain_cmdline"] else None
    words = " ".join(filter(None, (own_words, guest.get("stubdomain_cmdline"))))
    if words:
        keys["stubdomain_cmdline"] = words
    planned.needs.append(
        Requirement(
            distributions.programs("vchan-socket-proxy", host.distribution, host.version),
            "vchan-socket-proxy, through which libxl talks to a Linux stub domain",
            "Install "
            + distributions.install_hint("toolstack_programs", host.distribution, version=host.version)
            + ", as the toolstack of the running release has it.",
            executable=True,
        )
    )
    refuse_new(keys, host)


def _minios(guest: Mapping[str, Any], host: Host, planned: Plan) -> None:
    keys = planned.keys
    _stub_keys(guest, "qemu-xen-traditional", keys)
    refuse_given(guest, ("stubdomain_ramdisk", "stubdomain_cmdline"), "they belong to the flavour linux")
    # Without the key libxl gives the guest a screen that anybody in dom0 can use (libxl__domain_build_info_setdefault).
    keys["vnc"] = int(guest.get("vnc") or False)
    for key in ("stubdomain_kernel", "stubdomain_memory"):
        if guest.get(key):
            keys[key] = guest[key]
    kernel = guest.get("stubdomain_kernel") or f"{_firmware(host)}/ioemu-stubdom.gz"
    remedy = f"{helpers.REMEDY}, or use the flavour linux."
    planned.needs.append(Requirement((kernel,), "the image of the Mini-OS stub domain", remedy))
    named = {"hvmloader": guest.get("firmware_override"), "qemu-dm": guest.get("device_model_override")}
    firmware = "" if all(named.values()) else _firmware(host)
    for need in helpers.needs(firmware, host.version, row=host.distribution, named=named).values():
        planned.needs.append(need)
        keys[str(need.key)] = need.paths[0]
    refuse_new(keys, host)


def _stub_keys(guest: Mapping[str, Any], device_model: str, keys: Dict[str, xl_cfg.Value]) -> None:
    # Always explicit: without it libxl takes Mini-OS up to 4.20, and from 4.21 on it loses its way (libxl_dm.c).
    keys["device_model_version"] = device_model
    keys["device_model_stubdomain_override"] = 1
    serial = guest.get("serial") or "pty"
    if serial != "pty":
        raise UserError(
            f"The serial port is {serial!r}, which the stub domain would have to open in itself.",
            'Use "pty": that one dom0 serves.',
        )
    keys["serial"] = serial
    if guest.get("boot"):
        keys["boot"] = guest["boot"]


def _firmware(host: Host) -> str:
    if host.firmware_directory is None:
        raise UserError(
            "The firmware directory cannot be found, and the guest's image lies in it.",
            "Install the toolstack's firmware, or name the directory with firmware_directory.",
        )
    return host.firmware_directory


@dataclass(frozen=True)
class Flavour:
    """One way of booting a guest, or of giving it a device model.

    :param types: kinds of guests it is for.
    :param first: first release that has it.
    :param last: last release that has it.
    :param instead: what to do with another release.
    :param write: adds its keys and needs to a plan.
    """

    types: Tuple[str, ...]
    write: Callable[[Mapping[str, Any], Host, Plan], None]
    first: Version = (0, 0)
    last: Version = (99, 99)
    instead: str = ""


FLAVOURS: Mapping[str, Flavour] = {
    "grub2": Flavour(("pv", "pvh"), _grub2),
    "legacy": Flavour(("pv",), _legacy),
    "linux": Flavour(("hvm",), _linux, first=(4, 14), instead="Use the flavour minios, or a newer Xen."),
    "minios": Flavour(("hvm",), _minios, last=(4, 20), instead="Use the flavour linux: qemu-xen-traditional is gone."),
}
