# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what may stand in a guest's options, the keys of xl.cfg without a parameter.

from __future__ import annotations

from typing import Any, Mapping, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version
from ansible_collections.xen.stubdom.plugins.module_utils._guests import spec
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_devices, xl_rules
from ansible_collections.xen.stubdom.plugins.module_utils._xen.xl_keys import KEYS

# What a guest's options may not say, as its parameters say it, or as it would undo them; and what there is for it.
_PARAMETER = "Use the parameter {} for it, and leave the option out."
_FLAVOUR = "The flavour decides it; leave the option out."
MANAGED: Mapping[str, str] = {
    **{
        row.key or row.name: _PARAMETER.format(row.name)
        for row in spec.GUEST
        if row.key or row.name in KEYS  # what code writes has the name of its key
    },
    "bios": _PARAMETER.format("firmware"),
    "firmware": "Use the parameter firmware for an HVM guest and kernel for others, and leave the option out.",
    "cmdline": _PARAMETER.format("cmdline"),
    "root": _PARAMETER.format("cmdline"),
    "builder": _PARAMETER.format("type"),
    "vnclisten": "The screen is on dom0's loopback; leave the option out.",
    **dict.fromkeys(
        ("bootloader", "bootloader_args", "device_model_version", "device_model_stubdomain_override"), _FLAVOUR
    ),
}
# Those of them that the flavour dom0 leaves to the options.
IN_DOM0 = ("bootloader", "bootloader_args", "device_model_version", "vnclisten")

# Options that give the guest, its device model or others a way past the stub domain, and which. What the key is set to
# does not matter, unless that turns it off.
WEAKER: Mapping[str, str] = {
    "pci": "its device model would drive hardware, which can write into any memory without an IOMMU",
    "gfx_passthru": "its device model would drive the host's graphics card",
    "usbdev": "it would drive hardware of dom0",
    "usbctrl": "its controller would be served by dom0",
    "usbdevice": "its device model would drive hardware of dom0",
    "ioports": "it would drive hardware",
    "iomem": "it would read and write memory of the host",
    "irqs": "it would drive hardware",
    "dtdev": "it would drive hardware",
    "sdl": "a QEMU in dom0 would serve the screen",
    "channel": "a QEMU in dom0, as root, would open what the channel names",
    "p9": "dom0 would serve one of its directories to it",
    "driver_domain": "it would serve devices to other guests",
    "device_model_args": "they can give QEMU any device, file or port",
    "device_model_args_hvm": "they can give QEMU any device, file or port",
    "device_model_args_pv": "they can give the QEMU in dom0 any device, file or port",
}
_OFF: Tuple[Any, ...] = ("", "0", 0, [], None)
# Devices that QEMU makes up, which are no hardware.
_EMULATED = ("tablet", "mouse", "keyboard")

# What cannot work with the device model of a flavour, whatever is allowed, and why.
_CLASHES: Tuple[Tuple[Tuple[str, ...], Tuple[str, ...], str], ...] = (
    (("linux",), ("sdl", "vncdisplay", "vncpasswd", "vncunused"), "its screen is the parameter screen"),
    (("linux", "minios"), ("spice",), "only a QEMU in dom0 serves it"),
    (("linux", "minios"), ("vfb",), "libxl gives such a device to PV and PVH guests only"),
    (
        ("linux", "minios"),
        ("dm_restrict", "device_model_user"),
        "they confine a QEMU in dom0, not one in a stub domain",
    ),
)


def validate(
    options: Mapping[str, Any],
    *,
    name: str,
    guest: str,
    flavour: str,
    version: Optional[Version],
    weaker: bool = False,
) -> None:
    """Validate the keys of xl.cfg that stand in a guest's options.

    :param name: name of the guest.
    :param guest: its type (pv, pvh, hvm).
    :param version: the release of xl, None where it is not known.
    :param weaker: whether they may lead past the stub domain.
    :raises UserError: one says again what a parameter says, contradicts the flavour, weakens the isolation unasked, or
        would be ignored or refused by xl.
    """
    for key in options:
        if key in MANAGED and not (flavour == "dom0" and key in IN_DOM0):
            raise UserError(f"options.{key} is not allowed, as other parameters of the guest set it.", MANAGED[key])
    xl_rules.check(options, version, guest=guest, label="options.")
    _refuse_clashes(flavour, options)
    if guest == "hvm" and flavour != "dom0" and not weaker:
        _refuse_weaker(name, options)


def _refuse_clashes(flavour: str, options: Mapping[str, Any]) -> None:
    for flavours, keys, why in _CLASHES:
        for key in keys:
            if flavour in flavours and options.get(key) not in _OFF:
                raise UserError(f"options.{key} cannot work with the flavour {flavour}: {why}.", "Leave it out.")
    # docs/misc/stubdom.txt: "PCI passthrough require permissive mode".
    if flavour == "linux" and not xl_rules.integer(options.get("pci_permissive"), 0):
        for device in options.get("pci") or ():
            if ("permissive", "1") not in list(xl_devices.fields("pci", str(device))):
                raise UserError(
                    f"options.pci has {device}, which a Linux stub domain drives in permissive mode only.",
                    f"Write {device},permissive=1, or set pci_permissive to 1.",
                )


def _refuse_weaker(name: str, options: Mapping[str, Any]) -> None:
    for key, why in WEAKER.items():
        value = options.get(key)
        devices = value if isinstance(value, list) else [value]
        emulated = key == "usbdevice" and all(device in _EMULATED for device in devices)
        if value not in _OFF and not emulated:
            raise UserError(
                f"options.{key} would weaken the isolation of the guest {name}: {why}.",
                "Leave it out, or set allow_weaker_isolation to true.",
            )
