# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: disks and network interfaces of guests, as xl takes them and GRUB counts them.

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version, text


class Device(NamedTuple):
    """A virtual disk: its device number, and the partition it is given as (0 for a whole disk)."""

    number: int
    partition: int


_VDEV = re.compile(r"(?:(?P<kind>xvd|hd|sd)(?P<letters>[a-z]{1,3})(?P<part>\d{0,3})|d(?P<disk>\d+)p(?P<of>\d+))\Z")

# Highest disk and partition of each kind (libxl__device_disk_dev_number, libxl_device.c @ stable-4.20).
_LIMITS = {"xvd": ((1 << 20) - 1, 255), "hd": (3, 63), "sd": (15, 15)}

# The first release that has dom0's kernel serve the CD-ROM drives of HVM guests; older ones take a QEMU in dom0, and
# nothing else: "Backend for CD devices on HVM guests must be Qdisk" (libxl__device_disk_setdefault, libxl_disk.c).
_KERNEL_DRIVES: Version = (4, 19)

_FORMS = "Name it as the guest is to see it, for example xvda, xvdb, hda or sda1."


def device(vdev: str) -> Device:
    """Return the device number that libxl gives a virtual disk.

    :raises UserError: it is no name that libxl knows.
    """
    match = _VDEV.match(vdev)
    if match is None:
        raise UserError(f"{vdev!r} is no name of a virtual disk.", _FORMS)
    kind = match["kind"] or "xvd"
    if match["kind"]:
        disk, partition = _letters(match["letters"]), int(match["part"] or 0)
    else:
        disk, partition = int(match["disk"]), int(match["of"])
    if disk > _LIMITS[kind][0] or partition > _LIMITS[kind][1]:
        raise UserError(f"There is no virtual disk {vdev!r}: {kind} does not go that far.", _FORMS)
    if kind == "hd":
        return Device(((3 if disk < 2 else 22) << 8) | ((disk & 1) << 6) | partition, partition)
    if kind == "sd":
        return Device((8 << 8) | (disk << 4) | partition, partition)
    if disk <= 15 and partition <= 15:
        return Device((202 << 8) | (disk << 4) | partition, partition)
    return Device((1 << 28) | (disk << 8) | partition, partition)


def named(disks: Sequence[Mapping[str, Any]], *, hvm: bool) -> List[Dict[str, Any]]:
    """Give each disk without a vdev the next free one: xvda, xvdb, …; for an HVM guest hda to hdd first, then xvde."""
    taken = {device(disk["vdev"]).number for disk in disks if disk.get("vdev")}
    letters = "abcdefghijklmnopqrstuvwxyz"
    free = [f"hd{letter}" for letter in letters[:4]] if hvm else []
    free += [f"xvd{letter}" for letter in (letters[4:] if hvm else letters)]
    names = iter([vdev for vdev in free if device(vdev).number not in taken])
    found = [{**disk, "vdev": disk.get("vdev") or next(names, None)} for disk in disks]
    if any(disk["vdev"] is None for disk in found):
        raise UserError(
            f"There are more disks than names for them ({len(found)}).", "Set a vdev of its own for each disk."
        )
    return found


def grub_names(vdevs: Sequence[str]) -> Dict[str, str]:
    """Return what legacy PV-GRUB calls each disk. It counts by device number, whatever the order in the configuration.

    A disk given as a partition is a disk of its own for it, without a number behind the comma.
    """
    ordered = sorted(vdevs, key=lambda vdev: device(vdev).number)
    return {vdev: f"(hd{place})" for place, vdev in enumerate(ordered)}


def chosen(vdevs: Sequence[str], disk: Optional[str], partition: Optional[int]) -> str:
    """Return the disk that is named, or the first one; parameters and errors are those of `menu_path`."""
    if not vdevs or (disk is not None and disk not in vdevs):
        known = f"they are {', '.join(vdevs)}" if vdevs else "there are none"
        raise UserError(
            f"{disk or 'The first disk'} is none of the guest's disks: {known}.",
            "Name one of the guest's disks by its vdev.",
        )
    vdev = disk or vdevs[0]
    if partition is not None and (device(vdev).partition or not 1 <= partition <= 255):
        raise UserError(
            f"There is no partition {partition} on {vdev}.",
            "Count partitions from 1, and leave partition out for a disk that is one file system, or is one partition.",
        )
    return vdev


def menu_path(disks: Sequence[Mapping[str, Any]], path: str, *, disk: Optional[str], partition: Optional[int]) -> str:
    """Return the path of a file on a guest's disk as legacy PV-GRUB reads it.

    :param disks: the guest's disks; one without a vdev has the name that it would be given.
    :param disk: vdev of the disk, None for the first one.
    :param partition: its partition, counted from 1 as in xvda1; None where the disk is one file system.
    :raises UserError: there is no such disk or partition, or the path is none.
    """
    vdevs = [one["vdev"] for one in named(disks, hvm=False)]
    vdev = chosen(vdevs, disk, partition)
    if not re.match(r"/\S+\Z", path):
        raise UserError(
            f"{path!r} is no path that PV-GRUB can read.", "Write one without blanks that begins with a slash."
        )
    name = grub_names(vdevs)[vdev]
    return (name if partition is None else f"{name[:-1]},{partition - 1})") + path


def check(disks: Sequence[Mapping[str, Any]]) -> None:
    """:raises UserError: two disks would be one device, a name is unknown, or a target cannot be."""
    seen: Dict[int, str] = {}
    for disk in disks:
        vdev, named_target = disk["vdev"], disk.get("target")
        number = device(vdev).number
        if number in seen:
            raise UserError(f"Two disks are {vdev}.", "Set a vdev of its own for each disk.")
        seen[number] = vdev
        if not named_target and not disk.get("cdrom"):
            raise UserError(
                f"The disk {vdev} has no target.", "Set disks.target to a file or block device of this host."
            )
        if named_target and in_dom0(disk) and not named_target.startswith("/"):
            raise UserError(
                f"disks.target is {named_target!r}, which is not an absolute path.",
                "Set target to a path that starts with a slash, or set script to the program that understands it.",
            )


def without_qemu(disks: Sequence[Mapping[str, Any]], version: Optional[Version]) -> List[Mapping[str, Any]]:
    """The disks, with CD-ROM drives that are served by dom0's kernel; libxl would take a QEMU in dom0 for them."""
    return [{**disk, "backendtype": "phy"} if _needs_no_qemu(disk, version) else disk for disk in disks]


def _needs_no_qemu(disk: Mapping[str, Any], version: Optional[Version]) -> bool:
    own = any(disk.get(name) for name in ("backendtype", "backend", "script")) or disk.get("format", "raw") != "raw"
    return bool(disk.get("cdrom")) and not own and (version is None or version >= _KERNEL_DRIVES)


def without_usual(disks: Sequence[Mapping[str, Any]], version: Optional[Version]) -> List[Mapping[str, Any]]:
    """The disks without what `without_qemu` would add to them."""
    bare = [{name: value for name, value in disk.items() if name != "backendtype"} for disk in disks]
    return [one if without_qemu([one], version) == [disk] else disk for one, disk in zip(bare, disks)]


def check_emulated(disks: Sequence[Mapping[str, Any]]) -> None:
    """:raises UserError: QEMU would have to show a disk that is only read as an IDE disk, and libxl refuses that."""
    for disk in disks:
        if disk.get("access") == "ro" and not disk.get("cdrom") and ide_place(disk["vdev"]) is not None:
            raise UserError(
                f"The disk {disk['vdev']} has the access ro, and QEMU has no IDE disks that are only read.",
                "Set vdev to a name that is not emulated as such, for example xvde or sda, or cdrom to true.",
            )


def ide_place(vdev: str) -> Optional[int]:
    """Which of the four IDE drives QEMU shows a disk as, counted from 0; None where it is none of them.

    It shows hda to hdd, and xvda to xvdd too (libxl__build_device_model_args_new, libxl_dm.c).
    """
    match = _VDEV.match(vdev)
    if match is None or match["kind"] == "sd" or device(vdev).partition:
        return None
    number = _letters(match["letters"]) if match["kind"] else int(match["disk"])
    return number if number < 4 else None


def boot_drive(disks: Sequence[Mapping[str, Any]], target: str) -> Dict[str, Any]:
    """Return a CD-ROM drive that a BIOS starts a guest from: the first one among those of its disks (SeaBIOS, boot.c).

    :param target: the file in it.
    :raises UserError: they leave no such drive free.
    """
    places = {ide_place(disk["vdev"]): disk for disk in disks}
    drives = [place for place, disk in places.items() if place is not None and disk.get("cdrom")]
    free = [place for place in range(4) if place not in places]
    if not free or free[0] > min(drives, default=4):
        raise UserError(
            "The kernel is started from a CD-ROM drive, and the guest's disks leave none free of hda to hdd that comes "
            "before its own CD-ROM drives.",
            "Set vdev of one of them to xvde or further on, or of a CD-ROM drive to a later one of hda to hdd.",
        )
    return {"vdev": f"hd{'abcd'[free[0]]}", "target": target, "cdrom": True, "format": "raw", "access": "ro"}


def check_drives(disks: Sequence[Mapping[str, Any]], version: Optional[Version]) -> None:
    """:raises UserError: dom0's kernel is to serve a CD-ROM drive of an HVM guest, which libxl refuses."""
    for disk in disks:
        if disk.get("cdrom") and disk.get("backendtype") == "phy" and version is not None and version < _KERNEL_DRIVES:
            raise UserError(
                f"The CD-ROM drive {disk['vdev']} has the backendtype phy, and Xen {text(version)} has a QEMU in dom0 "
                "serve such drives.",
                "Leave out backendtype of that drive.",
            )


def written(disks: Sequence[Mapping[str, Any]]) -> List[str]:
    """The files and devices of this host that a guest writes to."""
    return [disk["target"] for disk in disks if disk["access"] == "rw" and not disk["cdrom"] and in_dom0(disk)]


def in_dom0(disk: Mapping[str, Any]) -> bool:
    """Whether a disk's target is a path of this host.

    With a script it is "information to be interpreted by the program" (xl-disk-configuration.5), QEMU takes protocols
    such as rbd:POOL/IMAGE, and another backend domain has files of its own.
    """
    protocol = disk.get("backendtype") == "qdisk" and not str(disk.get("target")).startswith("/")
    return bool(disk.get("target")) and not disk.get("script") and not disk.get("backend") and not protocol


def target(text: str) -> Optional[str]:
    """Return the file or device that a disk in xl's notation is made of, None where it has none or that is no path."""
    named = re.search(r"(?:^|,)\s*target=(?P<path>.*)\Z", text, re.DOTALL)
    if named and re.search(r"(?:^|,)\s*(?:script|backend)=", text[: named.start()]):
        return None
    path = named["path"] if named else text.split(",", 1)[0].strip()
    path = re.sub(r"\A(?:phy|file|raw|qcow2?|vhd|tap2?|aio|tapdisk):", "", path)
    return path if path.startswith("/") else None


def check_nics(nics: Sequence[Mapping[str, Any]]) -> None:
    """:raises UserError: an address is none."""
    for nic in nics:
        if nic.get("mac") and not re.match(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}\Z", nic["mac"]):
            raise UserError(
                f"{nic['mac']!r} is no MAC address.", "Set mac to six bytes, for example 00:16:3e:12:34:56."
            )


def _letters(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("a") + 1
    return number - 1
