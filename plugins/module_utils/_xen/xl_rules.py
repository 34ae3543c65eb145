# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: whether xl reads the keys of a guest's configuration, and takes their values.
# Sources: tools/xl/xl_parse.c, tools/libs/util/libxlu_cfg.c and tools/libs/light/libxl_{create,dm}.c @ stable-4.22.

from __future__ import annotations

import difflib
import re
from typing import Any, Iterable, Iterator, Mapping, Optional, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version, text
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_devices
from ansible_collections.xen.stubdom.plugins.module_utils._xen.xl_keys import (
    EXACT,
    FIELDS,
    KEYS,
    NEWEST,
    OLDEST,
    WORDS,
)

# Keys that xl reads only to say that it ignores them, and what there is instead.
_UNUSED: Mapping[str, str] = {
    "device_model": "Use device_model_override for another device model.",
    "vif2": "Use vif for network interfaces.",
    "vncviewer": "Start `xl vncviewer` where you want to see the screen.",
}
# Only these are lists of lists (parse_vnuma_config, parse_vsnd_config).
_NESTED = ("vnuma", "vsnd")

# strtol() with base 0, all of the text (xlu_cfg_get_bounded_long).
_INTEGER = re.compile(r"\s*[-+]?(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)\Z")
# uuid_parse() of libuuid.
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
# IFNAMSIZ of Linux, without the byte that ends a name.
VIFNAME_LENGTH = 15
# The least video memory that qemu-xen takes, in MiB, by vga (libxl__domain_build_info_setdefault).
_VIDEO_MEMORY = {"cirrus": 8, "stdvga": 16, "qxl": 128}


def since(key: str) -> Version:
    """The first release of xl that reads a key, (0, 0) where none before it was looked at."""
    first = KEYS[key][0][0]
    return (4, first) if first > OLDEST else (0, 0)


def check(keys: Mapping[str, Any], version: Optional[Version], *, guest: str = "", label: str = "") -> None:
    """Validate keys of xl.cfg one by one: whether xl reads each, and takes its value for what it is.

    :param version: the release of xl, None where it is not known.
    :param guest: type of the guest (pv, pvh, hvm), empty where it is not known.
    :param label: what messages put before a key, to say where it stands.
    :raises UserError: xl would ignore a key or its value, or refuse the guest for it.
    """
    for key, value in keys.items():
        _check_known(key, version, guest, label)
        if value is not None:
            _check_value(key, value, version, label)


def check_together(keys: Mapping[str, Any], *, guest: str = "") -> None:
    """Validate a whole configuration by what its keys say together, as xl and libxl do.

    :param guest: type of the guest (pv, pvh, hvm), empty where it is not known.
    :raises UserError: xl would ignore something, or refuse the guest.
    """
    for rule in (_identity, _processors, _share, _boot_order, _interfaces, _kernel, _screen, _pci, _numa):
        rule(keys, guest)


def _check_known(key: str, version: Optional[Version], guest: str, label: str) -> None:
    ways = KEYS.get(key)
    minor = _minor(version)
    if ways is None:
        near = difflib.get_close_matches(key, KEYS, 1)
        # A newer release may have new keys.
        if near or minor is None or minor <= NEWEST:
            raise UserError(
                f"{label}{key} is no key of xl.cfg: Xen 4.{OLDEST} to 4.{NEWEST} ignore it.",
                f"Write {near[0]} if that is meant, or leave it out." if near else "Leave it out.",
            )
        return
    if key in _UNUSED:
        raise UserError(f"{label}{key} is read by xl only to say that it is ignored.", _UNUSED[key])
    _check_released(ways[0][0], ways[-1][1], version, f"{label}{key}")
    types = {types for first, last, _kinds, types in ways if minor is None or first <= min(minor, NEWEST) <= last}
    if guest and types and "" not in types and guest not in types:
        raise UserError(
            f"{label}{key} means nothing to a guest of type {guest}: xl reads it for {' and '.join(sorted(types))} "
            "only, and ignores it here.",
            "Leave it out.",
        )


def _check_released(first: int, last: int, version: Optional[Version], what: str) -> None:
    minor = _minor(version)
    if minor is not None and minor < first and first > OLDEST:
        raise UserError(
            f"xl of Xen {text(version)} does not know {what} and would ignore it.",
            f"It came with Xen 4.{first}; leave it out here.",
        )
    if minor is not None and minor > last and last < NEWEST:
        raise UserError(
            f"xl of Xen {text(version)} no longer knows {what} and would ignore it.",
            f"Xen 4.{last} was the last release that read it; leave it out here.",
        )


def _check_value(key: str, value: Any, version: Optional[Version], label: str) -> None:
    minor = _minor(version)
    ways = [kinds for first, last, kinds, _types in KEYS.get(key, ()) if minor is None or first <= minor <= last]
    if not ways:
        return
    # Where the release is not known, or too new, the newest way counts.
    kinds = ways[-1].split()
    what = f"{label}{key}"
    if isinstance(value, (list, tuple)):
        if "list" not in kinds:
            raise UserError(f"{what} is a list, which xl ignores: it takes one value.", "Write one value.")
        _check_elements(key, value, version, what)
    elif kinds == ["list"]:
        raise UserError(f"{what} is {value!r}, which xl ignores: it takes a list.", "Write it as a list.")
    elif isinstance(value, (bool, int)):
        if isinstance(value, bool) and not {"bool", "int"}.intersection(kinds):
            raise UserError(f"{what} is {value!r}, and xl takes text for it.", "Write the text, in quotes.")
        if key in WORDS and not {"bool", "int"}.intersection(kinds):
            _check_word(key, str(value), version, what)
    elif isinstance(value, str):
        _check_text(key, value, kinds, version, what)


def _check_text(key: str, value: str, kinds: Sequence[str], version: Optional[Version], what: str) -> None:
    number = _INTEGER.match(value)
    if "string" in kinds:
        if key in WORDS and not (number and "int" in kinds):
            _check_word(key, value, version, what)
    elif number is None:
        remedy = "Write true or false." if "bool" in kinds else "Write a number."
        raise UserError(f"{what} is {value!r}, which xl ignores: it is no number for it.", remedy)
    elif "natural" in kinds and value.strip().startswith("-"):
        raise UserError(f"{what} is {value!r}, and xl takes no negative number for it.", "Write a number from 0 up.")


def _check_elements(key: str, elements: Iterable[Any], version: Optional[Version], what: str) -> None:
    for value in elements:
        if isinstance(value, (list, tuple)):
            if key not in _NESTED:
                raise UserError(f"{what} has a list in it, at which xl stops reading.", "Write each element as text.")
            _check_elements(key, value, version, what)
        elif key in FIELDS:
            for name in _field_names(key, str(value)):
                _check_field(key, name, version, what)
        elif key in WORDS:
            # viridian has words with a sign before them, which turns one off.
            _check_word(key, str(value)[1 if str(value).startswith("!") else 0 :], version, what)


def _check_field(key: str, name: str, version: Optional[Version], what: str) -> None:
    known = FIELDS[key]
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        raise UserError(
            f"{what} has the field {name}, which xl does not know.",
            f"Write {near[0]} if that is meant, or leave it out." if near else f"It knows {', '.join(known)}.",
        )
    _check_released(*known[name], version, f"the field {name} of {what}")


def _check_word(key: str, value: str, version: Optional[Version], what: str) -> None:
    known = WORDS[key]
    word = value if key in EXACT else {word.lower(): word for word in known}.get(value.lower(), value)
    minor = _minor(version)
    if word not in known:
        there = [word for word, (first, last) in known.items() if minor is None or first <= min(minor, NEWEST) <= last]
        raise UserError(f"{what} is {value!r}, which xl does not know.", f"Write one of {', '.join(there)}.")
    _check_released(*known[word], version, f"the word {word} for {what}")


def _minor(version: Optional[Version]) -> Optional[int]:
    return version[1] if version is not None and version[0] == 4 else None


def _field_names(key: str, device: str) -> Iterator[str]:
    """Yield the names that stand in a device's text. What has no value may be a name too, or a value without one."""
    for name, value in xl_devices.fields(key, device):
        if value or name in FIELDS[key]:
            yield name


def _identity(keys: Mapping[str, Any], _guest: str) -> None:
    uuid = keys.get("uuid")
    if uuid is not None and not _UUID.match(str(uuid)):
        raise UserError(
            f"The uuid {uuid!r} is none that xl can read.",
            "Write uuid as 8-4-4-4-12 hexadecimal digits, or leave it out.",
        )


def _processors(keys: Mapping[str, Any], _guest: str) -> None:
    vcpus, most = integer(keys.get("vcpus"), 1), integer(keys.get("maxvcpus"), 0)
    if 0 < most < vcpus:
        raise UserError(
            f"The guest starts with {vcpus} vCPUs, which is above its maxvcpus of {most}.",
            "Raise maxvcpus or lower vcpus.",
        )


def _share(keys: Mapping[str, Any], _guest: str) -> None:
    # Refused only when the domain is built already (sched_credit2_domain_set, libxl_sched.c).
    processors = max(integer(keys.get("vcpus"), 1), integer(keys.get("maxvcpus"), 1))
    for key, least, most in (("cpu_weight", 1, 65535), ("cap", 0, 100 * processors)):
        value = integer(keys.get(key), least)
        if not least <= value <= most:
            raise UserError(
                f"{key} is {value}, and the hypervisor takes {least} to {most} for a guest with {processors} "
                f"vCPU{'s' if processors > 1 else ''}.",
                f"Set {key} to one of these, or leave it out.",
            )


def _boot_order(keys: Mapping[str, Any], _guest: str) -> None:
    order = str(keys.get("boot") or "")
    if not re.match(r"[acdn]*\Z", order) or len(set(order)) < len(order):
        raise UserError(
            f"The boot order {order!r} is none that QEMU can follow.",
            "Write each of these letters in boot at most once: c (disk), d (CD-ROM), n (network), a (floppy).",
        )


def _interfaces(keys: Mapping[str, Any], _guest: str) -> None:
    for what, found in (
        ("MAC address", xl_devices.macs(keys)),
        ("vifname", xl_devices.values("vif", "vifname", keys)),
        ("number", [str(number) for number, _nic in xl_devices.nics(keys)]),
    ):
        twice = sorted({value for value in found if found.count(value) > 1})
        if twice:
            raise UserError(f"Two network interfaces of the guest have the {what} {twice[0]}.", "Give each its own.")
    for name in xl_devices.values("vif", "vifname", keys):
        if len(name) > VIFNAME_LENGTH or not re.match(r"[^\s/:]+\Z", name) or name in (".", ".."):
            raise UserError(
                f"The vifname {name!r} is no name that Linux takes for an interface.",
                f"Write up to {VIFNAME_LENGTH} characters without blanks, colons and slashes.",
            )


def _kernel(keys: Mapping[str, Any], guest: str) -> None:
    if keys.get("cmdline") is not None and (keys.get("root") or keys.get("extra")):
        raise UserError("xl ignores root and extra beside cmdline.", "Write all words in cmdline.")
    if guest in ("pv", "pvh") and keys.get("kernel") and keys.get("firmware"):
        raise UserError(
            f"The guest has the firmware {keys['firmware']} beside a kernel, and xl takes one of them.",
            "Leave firmware out.",
        )
    if guest == "pv" and keys.get("timer_mode") is not None:
        raise UserError("timer_mode is not for guests of type pv, and xl refuses it.", "Leave timer_mode out.")


def _screen(keys: Mapping[str, Any], guest: str) -> None:
    if guest != "hvm":
        return
    if ":" in str(keys.get("vnclisten") or "") and integer(keys.get("vncdisplay"), 0):
        raise UserError("The display stands both in vnclisten and in vncdisplay.", "Leave it out of vnclisten.")
    if keys.get("usbversion") and (keys.get("usb") or keys.get("usbdevice")):
        raise UserError("usbversion stands beside usb or usbdevice, and libxl takes only one.", "Leave usbversion out.")
    vga = str(keys.get("vga") or ("stdvga" if integer(keys.get("stdvga"), 0) else "cirrus"))
    least = _VIDEO_MEMORY.get(vga, 0)
    if keys.get("device_model_version") == "qemu-xen" and integer(keys.get("videoram"), least) < least:
        raise UserError(
            f"The guest has {keys['videoram']} MiB of video memory, and the vga {vga} needs {least} MiB.",
            f"Write at least {least} for videoram, or leave it out.",
        )


def _pci(keys: Mapping[str, Any], guest: str) -> None:
    if not keys.get("pci"):
        return
    if guest == "pvh":
        # SUPPORT.md has PV and HVM guests only; pcifront, which would reach the device, is a driver of PV guests.
        raise UserError("A PVH guest has no PCI bus, and would not see the devices in pci.", "Leave pci out.")
    if guest == "hvm" and _grows(keys):
        raise UserError(
            "The guest has PCI devices and a maxmem above its memory, which libxl does not start together.",
            "Leave maxmem out, or pci.",
        )


def _numa(keys: Mapping[str, Any], guest: str) -> None:
    if not keys.get("vnuma"):
        return
    if guest == "pv":
        raise UserError("vnuma is not for guests of type pv yet, and libxl refuses it.", "Leave vnuma out.")
    if _grows(keys):
        raise UserError(
            "The guest has NUMA nodes of its own and a maxmem above its memory, which libxl does not start together.",
            "Leave maxmem out, or vnuma.",
        )


def _grows(keys: Mapping[str, Any]) -> bool:
    """Whether the guest starts with less memory than it may have (populate on demand)."""
    return integer(keys.get("maxmem"), 0) > integer(keys.get("memory"), 32)


def integer(value: Any, default: int) -> int:
    """A value of xl.cfg as xl reads a number, *default* where there is none."""
    if isinstance(value, str) and _INTEGER.match(value):
        digits = value.strip().lower()
        return int(digits, 8 if re.match(r"[-+]?0[0-7]+\Z", digits) else 0)
    return int(value) if isinstance(value, int) else default
