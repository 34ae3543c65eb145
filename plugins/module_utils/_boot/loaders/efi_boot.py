# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: which program EFI firmware starts, and which entry systemd-boot does.
# Sources: UEFI specification 2.10, 3.1.3 (load options) and 10.3.1 (device paths); loader.conf(5), systemd-boot(7) and
# the Boot Loader Specification of systemd 257.

from __future__ import annotations

import fnmatch
import os
import re
import struct
from dataclasses import dataclass
from typing import Dict, Iterator, List, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import ENCODING, Tree

VARIABLES = "/sys/firmware/efi/efivars"
_GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
_SYSTEMD = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
_ACTIVE = 1
# The type and the subtype of a file's name, and of the end, in a device path.
_FILE = (4, 4)
_HARD_DRIVE = (4, 1)
_END = 0x7F
# What the firmware starts from a disk where an entry names no file.
REMOVABLE = "/EFI/BOOT/BOOTX64.EFI"
_LARGEST_VARIABLE = 1 << 16
_LARGEST_FILE = 1 << 16


@dataclass(frozen=True)
class Entry:
    """What a boot manager starts.

    :param name: how it is called, for messages.
    :param file: path of the program on its partition; None where it starts none, such as a network.
    :param options: what is passed to it.
    """

    name: str
    file: Optional[str]
    options: str = ""


def find(tree: Tree, partition: str, path: str) -> Optional[str]:
    """Return a path of the tree for one of a partition, whose names are the same in capital and small letters."""
    found = partition
    for part in path.replace("\\", "/").strip("/").split("/"):
        try:
            names = os.listdir(tree.path(found))
        except OSError:
            return None
        same = sorted(name for name in names if name.lower() == part.lower())
        if not same:
            return None
        found = os.path.join(found, part if part in same else same[0])
    return found if tree.is_file(found) else None


# ---- the firmware's own boot manager


def _variable(tree: Tree, name: str, vendor: str = _GLOBAL) -> Optional[bytes]:
    """Return the content of a variable behind its attributes; None where there is none that can be read."""
    try:
        with open(tree.path(f"{VARIABLES}/{name}-{vendor}"), "rb") as file:
            return file.read(_LARGEST_VARIABLE)[4:]
    except OSError:
        return None


def load_option(number: int, content: bytes) -> Optional[Entry]:
    """Return a boot entry of the firmware; None for one that is switched off or damaged."""
    if len(content) < 6:
        return None
    attributes, length = struct.unpack_from("<IH", content)
    end = 6
    while content[end : end + 2] != b"\0\0" and end + 2 <= len(content):
        end += 2
    description = content[6:end].decode("utf-16-le", "replace")
    paths, passed = content[end + 2 : end + 2 + length], content[end + 2 + length :]
    if not attributes & _ACTIVE or len(paths) < length:
        return None
    file, disk, at = "", False, 0
    while at + 4 <= len(paths):
        kind, subtype, size = struct.unpack_from("<BBH", paths, at)
        if kind == _END or size < 4:
            break
        disk = disk or (kind, subtype) == _HARD_DRIVE
        if (kind, subtype) == _FILE:
            name = paths[at + 4 : at + size].decode("utf-16-le", "replace").rstrip("\0")
            file += "/" + name.replace("\\", "/").strip("/")
        at += size
    return Entry(
        f"boot entry Boot{number:04X} ('{description}')",
        file or (REMOVABLE if disk else None),
        passed.decode("utf-16-le", "ignore").rstrip("\0"),
    )


def firmware_entries(tree: Tree) -> List[Entry]:
    """Return what the firmware of the running host tries, in order: BootNext, then BootOrder."""
    numbers: List[int] = []
    for name in ("BootNext", "BootOrder"):
        content = _variable(tree, name) or b""
        numbers += [number for (number,) in struct.iter_unpack("<H", content[: len(content) // 2 * 2])]
    entries = (load_option(number, _variable(tree, f"Boot{number:04X}") or b"") for number in dict.fromkeys(numbers))
    return [entry for entry in entries if entry is not None]


# ---- systemd-boot


def _systemd_variable(tree: Tree, name: str) -> str:
    content = None if tree.foreign else _variable(tree, name, _SYSTEMD)
    return (content or b"").decode("utf-16-le", "ignore").rstrip("\0")


@dataclass(frozen=True)
class SystemdBoot:
    """The menu of systemd-boot on one partition.

    :param entries: in the order of the menu, by identifier.
    :param default: the entry that boots; None where that is not known, for *reason*.
    """

    entries: Dict[str, Entry]
    default: Optional[Entry]
    reason: str = ""


def systemd_boot(tree: Tree, partition: str) -> Optional[SystemdBoot]:
    """Return the menu of systemd-boot, None where the partition has none."""
    directory = f"{partition}/loader"
    described = _described(tree, directory)
    configuration = tree.read(f"{directory}/loader.conf") if tree.is_file(f"{directory}/loader.conf") else None
    # GRUB 2 reads files of this kind as well, but starts no program for EFI by its key efi.
    if configuration is None and not any("efi" in fields for fields in described.values()):
        return None
    entries = {
        identifier: Entry(
            f"'{fields.get('title', identifier)}' ({directory}/entries/{identifier}.conf)",
            fields.get("efi") or fields.get("uki"),
            fields.get("options", ""),
        )
        for identifier, fields in described.items()
    }
    return _with_default(tree, partition, entries, _fields((configuration or b"")[:_LARGEST_FILE]).get("default", ""))


def _with_default(tree: Tree, partition: str, entries: Dict[str, Entry], pattern: str) -> SystemdBoot:
    """What the user chose in the menu is in variables of the firmware, which win over loader.conf."""
    once = _systemd_variable(tree, "LoaderEntryOneShot")
    pattern = once or _systemd_variable(tree, "LoaderEntryDefault") or pattern
    if pattern == "@saved":
        pattern = _systemd_variable(tree, "LoaderEntryLastBooted")
        if not pattern and tree.foreign:
            return SystemdBoot(entries, None, f"{partition}/loader/loader.conf boots the entry that was used last.")
    for identifier, entry in entries.items():
        if pattern and fnmatch.fnmatchcase(f"{identifier}.conf".lower(), pattern.lower()):
            return SystemdBoot(entries, entry)
        if pattern and identifier.lower() == pattern.lower():
            return SystemdBoot(entries, entry)
    images = [os.path.basename(path) for path in tree.glob(f"{partition}/EFI/Linux/*.[eE][fF][iI]")]
    linux = [name for name in images if name.lower() != "xen.efi" and not name.lower().startswith("xen-")]
    if linux and (not pattern or any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for name in linux)):
        return SystemdBoot(
            entries,
            None,
            f"Which entry systemd-boot starts is not known: {partition}/EFI/Linux/{linux[0]} is an entry, too.",
        )
    return SystemdBoot(entries, next(iter(entries.values()), None), "systemd-boot has no entry.")


def _described(tree: Tree, directory: str) -> Dict[str, Dict[str, str]]:
    """Return the fields of each entry by identifier, in the order of the menu."""
    found: List[Tuple[str, Dict[str, str]]] = []
    for path in tree.glob(f"{directory}/entries/*.conf"):
        fields = _fields((tree.read(path) or b"")[:_LARGEST_FILE])
        # NAME+LEFT-DONE.conf counts attempts to boot.
        name, _plus, counter = os.path.basename(path)[: -len(".conf")].partition("+")
        if counter.split("-")[0] == "0":
            fields["bad"] = "1"
        found.append((name, fields))
    with_key = [one for one in found if "sort-key" in one[1]]
    with_key.sort(key=lambda one: _version(one[1].get("version", "")), reverse=True)
    with_key.sort(key=lambda one: (one[1]["sort-key"], one[1].get("machine-id", "")))
    without = sorted((one for one in found if "sort-key" not in one[1]), key=lambda one: _version(one[0]), reverse=True)
    ordered = [*with_key, *without]
    return dict(sorted(ordered, key=lambda one: "bad" in one[1]))


def _fields(content: bytes) -> Dict[str, str]:
    """Return the keys of a file; several lines of options are one."""
    fields: Dict[str, str] = {}
    for line in content.decode(ENCODING).split("\n"):
        key, _blank, value = line.strip(" \t\r").replace("\t", " ").partition(" ")
        value = value.strip(" ").strip('"')
        if key == "options" and key in fields:
            value = f"{fields[key]} {value}"
        if value and not key.startswith("#"):
            fields[key] = value
    return fields


def _version(text: str) -> List[Tuple[int, int, str]]:
    """Order versions as systemd does, as far as names of entries need it: numbers as numbers."""
    parts: Iterator[str] = (match.group() for match in re.finditer(r"[0-9]+|[^0-9]+", text))
    return [(1, int(part[:64]), "") if part[0].isdigit() else (0, 0, part) for part in parts]
