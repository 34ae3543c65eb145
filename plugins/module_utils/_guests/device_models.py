# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the device models of HVM guests in stub domains, what each writes into xl.cfg
# and what it needs on the host. Sources: tools/libs/light/libxl_{create,dm}.c @ stable-4.20.

from __future__ import annotations

import re
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.requirement import Requirement
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import text
from ansible_collections.xen.stubdom.plugins.module_utils._guests import menus
from ansible_collections.xen.stubdom.plugins.module_utils._guests.model import (
    STUB_MEMORY,
    VIDEO_MEMORY,
    Flavour,
    Host,
    Menu,
    Plan,
    firmware_directory,
)
from ansible_collections.xen.stubdom.plugins.module_utils._guests.virtualisation import (
    DEBUG,
    DEBUG_SERIAL,
    LONGEST_NAME,
    PCI,
    SCREEN,
)
from ansible_collections.xen.stubdom.plugins.module_utils._images import helpers
from ansible_collections.xen.stubdom.plugins.module_utils._images.grub2 import image as grub2
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import kernel
from ansible_collections.xen.stubdom.plugins.module_utils._xen import uefi, xl_cfg, xl_rules

# Limits of the Linux stub domain. docs/misc/stubdom.txt @ stable-4.22 says one network interface; with our image four
# were seen to send and receive.
LINUX_NICS = 4
LINUX_DISKS = 26
# Models whose boot ROM is a file that the image has not, without which QEMU ends (romfile in hw/net/*.c @ v10.0).
_NO_ROM = re.compile(r"ne2k_pci|pcnet|vmxnet3|i82[0-9]{3}[a-c]?(?:er)?")

_MAKE_IMAGE = "Make it with the role xen.stubdom.stubdom_build (image linux)."
# A kernel and a root file system of the user's own: what each is, and what to do where it is not.
_OWN_IMAGE: Mapping[str, Tuple[str, str, Callable[[bytes], bool]]] = {
    "kernel": (
        "a Linux kernel that Xen starts as a PV domain",
        "Set stubdomain_kernel to a bzImage with CONFIG_XEN_PV, or leave it out.",
        kernel.startable,
    ),
    "rootfs": (
        "an archive that Linux unpacks as its root file system",
        "Set stubdomain_ramdisk to an archive of `cpio --format=newc`, packed or not, or leave it out.",
        kernel.unpackable,
    ),
}

_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,30}\Z")

# The word of xl.cfg for each kind of firmware, by flavour (libxl__domain_build_info_setdefault).
_QEMU_XEN: Mapping[str, str] = {"bios": "seabios", "uefi": "ovmf"}
BIOS: Mapping[str, Mapping[str, str]] = {"linux": _QEMU_XEN, "minios": {"bios": "rombios"}, "dom0": _QEMU_XEN}


def image_memory_mib(host: Host, ramdisk: Optional[Any], disks: Optional[Sequence[Any]]) -> Optional[int]:
    """What the image is recorded to need, and a MiB for each disk beyond the first; Linux 6.12 took 0.4 of each of 12.

    None where that is not known, or *ramdisk* names another one.
    """
    return None if ramdisk or host.stub_memory_mib is None else host.stub_memory_mib + max(len(disks or ()) - 1, 0)


def screen_mib(keys: Mapping[str, Any]) -> int:
    """What a stub domain needs beside for a picture: VNC keeps one of its own, and one that is on its way."""
    video = VIDEO_MEMORY["linux"]
    return 2 * max(xl_rules.integer(keys.get("videoram"), 0), video.get(str(keys.get("vga")), video["cirrus"]))


def _linux(guest: Mapping[str, Any], host: Host, planned: Plan) -> None:
    keys = planned.keys
    _stub_keys(guest, "qemu-xen", keys)
    for what, most, given in (
        ("network interfaces", LINUX_NICS, guest.get("nics") or ()),
        ("disks", LINUX_DISKS, guest.get("disks") or ()),
    ):
        if len(given) > most:
            raise UserError(
                f"The guest {guest['name']} has {len(given)}, and a Linux stub domain serves {most} {what}.",
                "Take some away.",
            )
    without = next((nic["model"] for nic in guest.get("nics") or () if _NO_ROM.fullmatch(nic.get("model") or "")), None)
    if without and not guest.get("stubdomain_ramdisk"):
        raise UserError(
            f"A network interface of {guest['name']} is a {without}, whose boot ROM is not in the image of the Linux "
            "stub domain.",
            "Set model to e1000, e1000e, rtl8139 or virtio-net-pci, or stubdomain_ramdisk to an image that has it.",
        )
    # Without the words that it is recorded to need, guests would be written anew that can no longer be saved.
    if host.stub_damage and not guest.get("stubdomain_ramdisk"):
        raise UserError(host.stub_damage, _MAKE_IMAGE)
    add_firmware(guest, host, planned)
    _start_kernel(guest, host, planned)
    _no_screen(keys)
    # Dom0's QEMU would give the stub domain a keyboard, too. xl knows the key from 4.13 on, so that every release with
    # Linux stub domains does.
    keys["vkb_device"] = 0
    own = {"kernel": guest.get("stubdomain_kernel"), "rootfs": guest.get("stubdomain_ramdisk")}
    screen, debug = guest.get("screen"), guest.get("debug")
    for parameter in ("screen", "debug"):
        if guest.get(parameter) and host.version is not None and host.version < xl_rules.since("stubdomain_cmdline"):
            raise UserError(
                f"The guest {guest['name']} has {parameter}, and xl of Xen {text(host.version)} cannot tell the stub "
                "domain.",
                f"Leave out {parameter}, or use Xen 4.16 or newer.",
            )
    if screen:
        _check_screen(guest, host)
    if debug:
        keys["serial"] = DEBUG_SERIAL
    more = screen_mib(guest) if screen else 0
    needed = image_memory_mib(host, own["rootfs"], guest.get("disks"))
    needed = None if needed is None else needed + more
    given_mib = guest.get("stubdomain_memory")
    if given_mib is not None and needed is not None and given_mib < needed:
        raise UserError(
            f"The stub domain is given {given_mib} MiB, and its image needs {needed} MiB"
            f"{' with a screen' if screen else ''} for this guest.",
            "Raise stubdomain_memory, or leave it out.",
        )
    usual = needed or STUB_MEMORY["linux"] + more
    memory = given_mib or usual
    # Also libxl's own default, where it is asked for and the image is recorded to need less.
    if not memory == usual == STUB_MEMORY["linux"]:
        keys["stubdomain_memory"] = memory
    if guest.get("vga") == "qxl" and not own["rootfs"]:
        raise UserError(
            "The graphics card is qxl, and the image of the Linux stub domain is without the library that serves it.",
            "Set vga to stdvga, or stubdomain_ramdisk to an image that has QEMU with spice.",
        )
    pci = (guest.get("options") or {}).get("pci") if not own["rootfs"] else None
    if pci and host.virtualisation and "hvm_directio" not in host.virtualisation:
        # libxl refuses it when the guest is started (xc_test_assign_device, libxl_pci.c).
        raise UserError(
            f"{guest['name']} is given PCI devices, and Xen has no IOMMU for that here: `xl info` has no word for it "
            f"among {' '.join(sorted(host.virtualisation))}.",
            "Enable it in the firmware (VT-d, AMD-Vi), or leave out options.pci.",
        )
    lacks = [
        f"The image of the Linux stub domain {what}, which {guest['name']} {asks}."
        for wanted, has, what, asks in (
            (screen, host.stub_keymaps != frozenset(), "has no screen", "asks for"),
            (pci, host.stub_pci, "has no driver for PCI devices", "is given"),
        )
        if wanted and has is False
    ]
    for part, path in own.items():
        if path:
            keys["stubdomain_ramdisk" if part == "rootfs" else "stubdomain_kernel"] = path
        what, remedy, fits = f"the image of the Linux stub domain ({part})", _MAKE_IMAGE, None
        if path:
            what, remedy, fits = _OWN_IMAGE[part]
            # Linux can also mount a file system that lies in it.
            fits = None if "root=" in (guest.get("stubdomain_cmdline") or "") and part == "rootfs" else fits
        planned.needs.append(
            Requirement(
                (path or f"{firmware_directory(host)}/qemu-stubdom-linux-{part}",),
                what,
                remedy,
                fits=fits,
                unfit=lacks[0] if lacks and not path else None,
            )
        )
    own_words = (
        host.stub_command_line if host.version is None or host.version >= xl_rules.since("stubdomain_cmdline") else None
    )
    words = " ".join(
        filter(None, (own_words, screen and SCREEN, pci and PCI, debug and DEBUG, guest.get("stubdomain_cmdline")))
    )
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


def require_kernel(guest: Mapping[str, Any]) -> None:
    """:raises UserError: an HVM guest is given what only a kernel reads, and no kernel."""
    for name in ("cmdline", "ramdisk"):
        if guest.get(name) and not guest.get("kernel"):
            raise UserError(
                f"{name} is not supported with type hvm and no kernel: nothing would read it.", f"Leave out {name}."
            )


def _start_kernel(guest: Mapping[str, Any], host: Host, planned: Plan) -> None:
    """Have the guest's BIOS start a kernel of dom0 from a CD, as QEMU does not see the file in the stub domain."""
    require_kernel(guest)
    given = guest.get("kernel")
    if not given:
        return
    if guest.get("firmware") == "uefi":
        raise UserError(
            "firmware is uefi, and it is a BIOS that starts a kernel of dom0.",
            "Leave out firmware, or have the guest boot from its own disk.",
        )
    if guest.get("boot"):
        raise UserError(
            f"boot is {guest['boot']}, and the guest has a kernel of dom0, which is started first.", "Leave out boot."
        )
    text = menus.of_cd(guest.get("cmdline") or "", initrd=bool(guest.get("ramdisk")))
    image = grub2.path(firmware_directory(host), grub2.platform_for("hvm", "x86_64"))
    planned.menu = Menu(menus.path(guest["name"], menus.CD), text, image, given, guest.get("ramdisk"))
    planned.keys["boot"] = "d"
    planned.needs.append(
        Requirement(
            (given,),
            "a kernel that a boot loader starts as Linux (bzImage)",
            "Make it, or correct kernel.",
            to_start=False,
            fits=kernel.bootable,
        )
    )


def _check_screen(guest: Mapping[str, Any], host: Host) -> None:
    """:raises UserError: the guest cannot have the screen that it asks for."""
    name = guest["name"]
    for parameter in ("screen_owner", "screen_group"):
        account = guest.get(parameter)
        if account and not _ACCOUNT.match(account):
            raise UserError(f"{parameter} is {account!r}, which is no account.", "Set it to a name or a number.")
    if guest.get("vga") == "none":
        raise UserError(f"The guest {name} has screen, and vga is none.", "Leave out vga, or screen.")
    keymap = (guest.get("options") or {}).get("keymap")
    if keymap and host.stub_keymaps and keymap not in host.stub_keymaps and not guest.get("stubdomain_ramdisk"):
        # QEMU ends without it, after it has said that it runs (7.2).
        raise UserError(
            f"options.keymap of {name} is {keymap!r}, which is not among the layouts of keyboards in the image of the "
            f"Linux stub domain: {', '.join(sorted(host.stub_keymaps))}.",
            "Set it to one of these, or leave it out.",
        )
    if len(name) > LONGEST_NAME:
        raise UserError(
            f"The guest {name} has screen, and its name is too long for that of a socket.",
            f"Set name to one of up to {LONGEST_NAME} characters, or leave out screen.",
        )


def _minios(guest: Mapping[str, Any], host: Host, planned: Plan) -> None:
    keys = planned.keys
    _stub_keys(guest, "qemu-xen-traditional", keys)
    add_firmware(guest, host, planned)
    _no_screen(keys)
    if guest.get("vnc"):
        keys["vnc"] = 1
    for key in ("stubdomain_kernel", "stubdomain_memory"):
        if guest.get(key):
            keys[key] = guest[key]
    own = guest.get("stubdomain_kernel")
    kernel = own or f"{firmware_directory(host)}/ioemu-stubdom.gz"
    remedy = f"{helpers.REMEDY}, or use the flavour linux."
    unfit = None if own else _of_another_release(kernel, host)
    planned.needs.append(Requirement((kernel,), "the image of the Mini-OS stub domain", remedy, unfit=unfit))
    named = {"hvmloader": guest.get("firmware_override"), "qemu-dm": guest.get("device_model_override")}
    firmware = "" if all(named.values()) else firmware_directory(host)
    for need in helpers.needs(firmware, host.version, row=host.distribution, named=named).values():
        planned.needs.append(need)
        keys[str(need.key)] = need.paths[0]


def _of_another_release(kernel: str, host: Host) -> Optional[str]:
    """Why this device model cannot serve, None where it can, or where a release is not known.

    It makes hypercalls that only a toolstack of the same release may rely on (__XEN_TOOLS__ in xen/include/public:
    those of hvm/hvm_op.h @ stable-4.8 with which it raises interrupts are in hvm/dm_op.h @ stable-4.9).
    """
    made_for, running = host.ioemu_release, text(host.version)
    if made_for is None or host.version is None or made_for == running:
        return None
    return f"{kernel} is an image for Xen {made_for}, and this host has Xen {running}."


def _stub_keys(guest: Mapping[str, Any], device_model: str, keys: Dict[str, xl_cfg.Value]) -> None:
    # Always explicit: without it libxl takes Mini-OS up to 4.20, and from 4.21 on it loses its way (libxl_dm.c).
    keys["device_model_version"] = device_model
    keys["device_model_stubdomain_override"] = 1
    serial = guest.get("serial") or "pty"
    if serial not in ("pty", ["pty"]):
        raise UserError(
            f"The serial port is {serial!r}, which the stub domain would have to open in itself.",
            'Use "pty": that one dom0 serves.',
        )
    keys["serial"] = serial
    if guest.get("boot"):
        keys["boot"] = guest["boot"]


def add_firmware(guest: Mapping[str, Any], host: Host, planned: Plan) -> None:
    """Add the firmware that an HVM guest is to start, and what UEFI needs on the host.

    libxl reads the file in dom0 and hands it to hvmloader (libxl_dom.c), so that a stub domain needs none of its own.
    """
    asked = guest.get("firmware")
    own = guest.get("bios_path_override")
    if asked is None:
        if own:
            raise UserError(
                f"bios_path_override is {own}, and xl does not know what kind of firmware that is.",
                "Set firmware to bios or uefi.",
            )
        return
    known = BIOS[guest["flavour"]]
    if asked not in known:
        raise UserError(
            f"firmware is {asked}, which the flavour {guest['flavour']} cannot start: it has ROMBIOS only.",
            "Set firmware to bios, or use the flavour linux.",
        )
    planned.keys["bios"] = known[asked]
    if asked != "uefi":
        return
    nameable = host.version is None or host.version >= xl_rules.since("bios_path_override")
    # Where the distribution has it, then where Xen's own build puts it (tools/configure.ac, ovmf_path).
    paths = (own,) if own else (*distributions.paths("ovmf", host.distribution), f"{firmware_directory(host)}/ovmf.bin")
    if nameable:
        planned.keys["bios_path_override"] = paths[0]
    planned.needs.append(
        Requirement(
            paths,
            "UEFI firmware for guests of Xen (OvmfXen of edk2; Debian's package ovmf has none since Debian 12)",
            f"Name one with bios_path_override, {_install_ovmf(host)}or set firmware to bios.",
            fits=uefi.knows_xen,
            key="bios_path_override" if nameable else None,
        )
    )


def _install_ovmf(host: Host) -> str:
    if "ovmf" not in host.distribution.packages:
        return ""
    return f"install {distributions.install_hint('ovmf', host.distribution)}, "


def _no_screen(keys: Dict[str, xl_cfg.Value]) -> None:
    # Without the key libxl gives the guest a screen that anybody in dom0 can use (libxl__domain_build_info_setdefault).
    keys["vnc"] = 0


FLAVOURS: Mapping[str, Flavour] = {
    "linux": Flavour(("hvm",), _linux, first=(4, 14), instead="Use the flavour minios, or a newer Xen."),
    "minios": Flavour(("hvm",), _minios, last=(4, 20), instead="Use the flavour linux: qemu-xen-traditional is gone."),
}
