# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: which program EFI firmware starts, which entry systemd-boot does, and what such
# programs are.
# Sources: UEFI specification 2.10, 3.1.3 (load options) and 10.3.1 (device paths); src/boot/efi/boot.c (config_*,
# boot_entry_*, line_get_key_value, efi_fnmatch) and strverscmp_improved of systemd 255. Since 245 an entry has the name
# of its file, with .conf. Programs: Microsoft's PE format; xen/arch/x86/xen.lds.S and docs/misc/efi.pandoc ("Unified
# Xen kernel image") @ stable-4.17; xen-4.17-amd64.efi of Debian 12, read.

from __future__ import annotations

import fnmatch
import functools
import os
import re
import struct
import uuid
from dataclasses import dataclass
from typing import Any, BinaryIO, Dict, Iterable, List, Optional, Pattern, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import ENCODING, Tree

# Where EFI system partitions are mounted.
PARTITIONS = ("/boot/efi", "/efi", "/boot", "/esp")
VARIABLES = "/sys/firmware/efi/efivars"
_GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
_SYSTEMD = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
_ACTIVE = 1
# The type and the subtype of a file's name, and of the end, in a device path.
_FILE = (4, 4)
_HARD_DRIVE = (4, 1)
_BY_GUID = 2
_PARTITIONS = "/dev/disk/by-partuuid"
_END = 0x7F
# What the firmware starts from a disk where an entry names no file.
REMOVABLE = "/EFI/BOOT/BOOTX64.EFI"
_LARGEST_VARIABLE = 1 << 16
_LARGEST_FILE = 1 << 16
# Of a pattern: names of files are not longer.
_LONGEST = 255
# NAME+LEFT-DONE.conf counts attempts to boot.
_COUNTER = re.compile(r"\+([0-9]+)(?:-[0-9]+)?(\.[A-Za-z]+)$")
_MAY_BE = "Which entry systemd-boot starts is not known: {0} may be one, too."
_EXTENDED = "/boot"


@dataclass(frozen=True)
class Entry:
    """What a boot manager starts.

    :param name: how it is called, for messages.
    :param file: path of the program on its partition; None where it starts none, such as a network.
    :param options: what is passed to it.
    :param disk: identity of its partition (/dev/disk/by-partuuid); empty for none.
    :param linux: whether the program is a Linux.
    """

    name: str
    file: Optional[str]
    options: str = ""
    disk: str = ""
    linux: bool = False


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


def variable(tree: Tree, name: str, vendor: str = _GLOBAL) -> Optional[bytes]:
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
    file, disk, at = "", "", 0
    while at + 4 <= len(paths):
        kind, subtype, size = struct.unpack_from("<BBH", paths, at)
        if kind == _END or size < 4:
            break
        if (kind, subtype) == _HARD_DRIVE and size >= 42 and at + 42 <= len(paths):
            disk = _identity(paths[at : at + 42])
        if (kind, subtype) == _FILE:
            name = paths[at + 4 : at + size].decode("utf-16-le", "replace").rstrip("\0")
            file += "/" + name.replace("\\", "/").strip("/")
        at += size
    return Entry(
        f"boot entry Boot{number:04X} ('{description}')",
        file or (REMOVABLE if disk else None),
        passed.decode("utf-16-le", "ignore").rstrip("\0"),
        disk,
    )


def _identity(node: bytes) -> str:
    """Return the identity of the partition that a node of a device path names."""
    number, signature, kind = struct.unpack_from("<I", node, 4)[0], node[24:40], node[41]
    if kind == _BY_GUID:
        return str(uuid.UUID(bytes_le=signature))
    return f"{struct.unpack_from('<I', signature)[0]:08x}-{number:02x}"


def is_there(tree: Tree, disk: str) -> bool:
    """Whether this host has a partition of that identity."""
    return bool(disk) and os.path.lexists(tree.path(f"{_PARTITIONS}/{disk}"))


def mount_point(tree: Tree, disk: str) -> Optional[str]:
    """Return where the partition of that identity is mounted, None where it is not, or that is not known."""
    if not is_there(tree, disk):
        return None
    device = os.path.basename(os.path.realpath(tree.path(f"{_PARTITIONS}/{disk}")))
    for line in (tree.text("/proc/self/mountinfo") or "").splitlines():
        # proc_pid_mountinfo(5)
        where, _mark, what = (part.split() for part in line.partition(" - "))
        if len(where) > 4 and len(what) > 1 and (where[3], os.path.basename(what[1])) == ("/", device):
            return where[4]
    return None


def firmware_entries(tree: Tree, *, once: bool = True) -> List[Entry]:
    """Return what the firmware of the running host tries, in order: BootNext, then BootOrder.

    :param once: whether what is selected for the next start alone counts.
    """
    return _named(tree, *(("BootNext", "BootOrder") if once else ("BootOrder",)))


def _named(tree: Tree, *names: str) -> List[Entry]:
    """Return the boot entries that variables of the running host name by their numbers, each once."""
    contents = [] if tree.foreign else [variable(tree, name) or b"" for name in names]
    numbers = (one for content in contents for (one,) in struct.iter_unpack("<H", content[: len(content) // 2 * 2]))
    entries = (load_option(number, variable(tree, f"Boot{number:04X}") or b"") for number in dict.fromkeys(numbers))
    return [entry for entry in entries if entry is not None]


def places(tree: Tree, entry: Entry) -> Sequence[str]:
    """Return where the partition may be mounted that an entry of the firmware is on."""
    place = mount_point(tree, entry.disk)
    return PARTITIONS if place is None else [place]


def first_program(tree: Tree, *, once: bool = True) -> Optional[Tuple[Entry, str, Optional[str]]]:
    """Return the firmware's entry that starts, its partition and its path, None for one that is not mounted.

    :param once: as for firmware_entries.
    """
    for entry in firmware_entries(tree, once=once):
        if entry.file is None:
            continue
        for partition in places(tree, entry):
            path = find(tree, partition, entry.file)
            if path is not None:
                return entry, partition, path
        if is_there(tree, entry.disk) and places(tree, entry) is PARTITIONS:
            return entry, "", None
    return None


def starts_another(tree: Tree, programs: Pattern[str], *, once: bool = True) -> str:
    """Return that the firmware starts something else than a loader, in a sentence; empty where nothing says so.

    What has started this host may lead to the loader in a way of its own.

    :param programs: what the names of the loader's programs match.
    :param once: as for firmware_entries.
    """
    started = _named(tree, "BootCurrent")
    # A network, which is passed over where it has no answer.
    following = [(entry, "", None) for entry in _named(tree, "BootNext") if once and entry.file is None]
    program = following[0] if following else first_program(tree, once=once)
    if program is None:
        return ""
    entry, partition, path = program
    menu = systemd_boot(tree, partition, once=once) if path and is_systemd_boot(tree, path) else None
    if menu is not None:
        chosen = menu.default
        if chosen is None or programs.fullmatch(_split(chosen)[1]):
            return "" if chosen else menu.reason
        return f"The firmware starts systemd-boot, whose default entry is {chosen.name}."
    # Several systems have programs of these names, each in a directory of its own.
    directory, name = _split(entry)
    elsewhere = any(one.file and _split(one)[0] != directory for one in started)
    if entry in started or (programs.fullmatch(name) and not elsewhere):
        return ""
    return f"The firmware starts {entry.name} first, and what that starts is not known here."


def _split(entry: Entry) -> Tuple[str, str]:
    return os.path.split((entry.file or "").replace("\\", "/").lower())


# ---- programs

# Headers of a program lie at its beginning, and Xen's image is below 4 MiB; a unified one has dom0's kernel and
# initial file system behind it.
_HEADERS = 1 << 16
_SEARCHED = 8 << 20
_MOST_SECTIONS = 96
# Text that people write.
_LONGEST_TEXT = 1 << 20
# "Xen 4.17.7 (c/s ) EFI loader" is what xen.efi shows first, in the firmware's character set.
_BANNER = " EFI loader".encode("utf-16-le")
_NAME = "Xen ".encode("utf-16-le")
_SYSTEMD_BOOT = b"#### LoaderInfo: systemd-boot"


def sections(file: BinaryIO) -> Optional[Dict[str, Tuple[int, int]]]:
    """Return where each section of a program begins and its size, by name, the first of each; None for no program."""
    file.seek(0)
    head = file.read(_HEADERS)
    try:
        (offset,) = struct.unpack_from("<I", head, 0x3C)
        if not head.startswith(b"MZ") or head[offset : offset + 4] != b"PE\0\0":
            return None
        (count,) = struct.unpack_from("<H", head, offset + 6)
        (optional,) = struct.unpack_from("<H", head, offset + 20)
        found: Dict[str, Tuple[int, int]] = {}
        for number in range(min(count, _MOST_SECTIONS)):
            name, size, _address, stored, start = struct.unpack_from(
                "<8sIIII", head, offset + 24 + optional + 40 * number
            )
            # What is in memory may be shorter than what is stored, which is filled up.
            found.setdefault(name.rstrip(b"\0").decode("latin-1"), (start, min(size, stored)))
    except struct.error:
        return None
    return found


def is_xen(file: BinaryIO) -> bool:
    """Whether a program is Xen's hypervisor for EFI: it says so in the words that it shows when it starts."""
    if sections(file) is None:
        return False
    file.seek(0)
    content = file.read(_SEARCHED)
    at = content.find(_BANNER)
    return at >= 0 and _NAME in content[max(0, at - 256) : at]


def is_systemd_boot(tree: Tree, path: str) -> bool:
    """Whether a program is systemd-boot: it says so, as bootctl looks for it (get_file_version in its source).

    Only since systemd 250 does that stand in a section of its own. An image with a kernel in it may hold it, too.
    """
    with tree.open(path) as file:
        parts = sections(file)
        file.seek(0)
        return parts is not None and ".linux" not in parts and _SYSTEMD_BOOT in file.read(_LONGEST_TEXT)


def inside(file: BinaryIO) -> Optional[bytes]:
    """Return what a unified image has as its configuration; None for an image that reads a file.

    xen.efi takes its section .config before it looks for a file (efi_start in xen/common/efi/boot.c).
    """
    return part(file, ".config")


def part(file: BinaryIO, name: str) -> Optional[bytes]:
    """Return the text in a section of a program, None where there is no such section."""
    start, size = (sections(file) or {}).get(name, (0, None))
    if size is None:
        return None
    file.seek(start)
    return file.read(min(size, _LONGEST_TEXT)).rstrip(b"\0")


# ---- systemd-boot

_VERSIONS = ("IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID")


def systemd_variable(tree: Tree, name: str) -> str:
    content = None if tree.foreign else variable(tree, name, _SYSTEMD)
    return (content or b"").decode("utf-16-le", "ignore").rstrip("\0")


ONCE, _PREFERRED, _DEFAULT = "LoaderEntryOneShot", "LoaderEntryPreferred", "LoaderEntryDefault"
_LAST = "LoaderEntryLastBooted"
# Of the machines that Xen's image is for.
_ARCHITECTURE = "x64"
_LAST_ONE = "@saved"
# What decides how long the menu is shown, the strongest first (config_load_defaults); the value for no limit.
_TIMEOUTS, _NO_LIMIT = ("LoaderConfigTimeoutOneShot", "LoaderConfigTimeout"), "menu-force"


@dataclass(frozen=True)
class SystemdBoot:
    """The menu of systemd-boot on one partition.

    :param entries: in the order of the menu, by the names of their files.
    :param default: the entry that boots; None where that is not known, for *reason*.
    :param variable: name of the firmware's variable that chooses it; empty where none does.
    """

    entries: Dict[str, Entry]
    default: Optional[Entry]
    reason: str = ""
    variable: str = ""


def configuration(partition: str) -> str:
    """Return the path of the file in which systemd-boot finds its default entry."""
    return f"{partition}/loader/loader.conf"


def systemd_boot_waits(tree: Tree, partition: str) -> str:
    """Return where it is said that systemd-boot waits for somebody to choose an entry; empty where it does not."""
    path = configuration(partition)
    given = [(f"the firmware's variable {name}", systemd_variable(tree, name)) for name in _TIMEOUTS]
    given.append((f"timeout in {path}", _configured(tree.read(path) or b"", "timeout")))
    where, value = next(((where, value) for where, value in given if value), ("", ""))
    return where if value == _NO_LIMIT else ""


def systemd_boot(tree: Tree, partition: str, *, once: bool = True) -> Optional[SystemdBoot]:
    """Return the menu of systemd-boot, None where the partition has none.

    :param once: whether what is selected for the next start alone counts.
    """
    described = _described(tree, partition)
    path = configuration(partition)
    given = tree.read(path) if tree.is_file(path) else None
    # GRUB 2 reads files of this kind as well, but starts no program for EFI by its key efi.
    if given is None and not any("efi" in fields for fields in described.values()):
        return None
    # A second partition may have more (config_load_xbootldr), which is /boot then.
    more = [_EXTENDED] if given is not None and partition != _EXTENDED else []
    unified: Dict[str, Dict[str, str]] = {}
    unknown: List[str] = []
    for place in [partition, *more]:
        described.update(_described(tree, place))
        found, unclear = _unified(tree, f"{place}/EFI/Linux")
        unified.update(found)
        unknown += unclear
    entries = {
        name: Entry(
            f"'{fields.get('title', name)}' ({fields['path']})",
            fields["program"],
            fields.get("options", ""),
            linux="efi" not in fields or _is_linux(tree, partition, fields["program"]),
        )
        for name, fields in _ordered({**described, **unified}).items()
    }
    return _with_default(tree, partition, entries, unknown, given or b"", once=once)


def _is_linux(tree: Tree, partition: str, program: str) -> bool:
    """Whether a program is a Linux that firmware can start (Documentation/arch/x86/boot.rst)."""
    path = find(tree, partition, program)
    if path is None:
        return False
    with tree.open(path) as file:
        file.seek(0x202)
        return file.read(4) == b"HdrS"


def _with_default(
    tree: Tree, partition: str, entries: Dict[str, Entry], unknown: Sequence[str], configured: bytes, *, once: bool
) -> SystemdBoot:
    """What the user chose in the menu is in variables of the firmware, which win over loader.conf where they match.

    Since 258 what is preferred comes before the default, unless it has no attempts left.

    :param unknown: paths of images that may be entries as well.
    """
    usable = [name for name in entries if not _used_up(name)]
    given = [(ONCE, systemd_variable(tree, ONCE), [*entries])] if once else []
    for variable, key, names in ((_PREFERRED, "preferred", usable), (_DEFAULT, "default", [*entries])):
        given += [(variable, systemd_variable(tree, variable), names), ("", _configured(configured, key), names)]
    for variable, value, names in given:
        pattern = value
        if value.lower() == _LAST_ONE:
            pattern = systemd_variable(tree, _LAST)
            if not pattern and tree.foreign:
                return SystemdBoot(entries, None, f"{configuration(partition)} boots the entry that was used last.")
        found = find_entry(names, pattern)
        if found is not None:
            return SystemdBoot(entries, entries[found], variable=variable)
        if pattern.lower().startswith("auto-"):
            # Windows, the firmware's settings and the like have names of this kind.
            return SystemdBoot(entries, None, f"systemd-boot starts '{pattern}', which it finds by itself.", variable)
        if find_entry(map(os.path.basename, unknown), pattern) is not None:
            return SystemdBoot(entries, None, _MAY_BE.format(unknown[0]), variable)
    if unknown:
        return SystemdBoot(entries, None, _MAY_BE.format(unknown[0]))
    return SystemdBoot(entries, next(iter(entries.values()), None), "systemd-boot has no entry.")


def find_entry(names: Iterable[str], pattern: str) -> Optional[str]:
    """Return the first name that a pattern matches, with its count of attempts or without; None for none."""
    # Sets have no complement there, and a backslash takes what follows it for itself; no name has a NUL.
    pattern = re.sub(r"\\(.)", r"[\1]", pattern.lower()).replace("[!", "[\0!")
    for name in names if pattern else ():
        if any(fnmatch.fnmatchcase(one.lower(), pattern) for one in (name, _COUNTER.sub(r"\2", name))):
            return name
    return None


def _configured(content: bytes, wanted: str) -> str:
    """Return the last value of a key of loader.conf that counts."""
    found = [value for key, value in _lines(content) if key == wanted]
    return next((value for value in reversed(found) if value[:1] != "@" or value.lower() == _LAST_ONE), "")[:_LONGEST]


def _described(tree: Tree, partition: str) -> Dict[str, Dict[str, str]]:
    """Return the fields of each file that describes an entry, by its name.

    One whose program is not there, or is for other machines, is none (boot_entry_add_type1).
    """
    found: Dict[str, Dict[str, str]] = {}
    for path in tree.glob(f"{partition}/loader/entries/*.[cC][oO][nN][fF]"):
        fields = _fields(tree.read(path) or b"")
        program = fields.get("efi") or fields.get("uki") or fields.get("linux")
        name = os.path.basename(path)
        ours = fields.get("architecture", _ARCHITECTURE).lower() == _ARCHITECTURE
        if program and ours and not name.startswith("auto-") and find(tree, partition, program) is not None:
            found[name] = {**fields, "path": path, "program": program}
    return found


def _unified(tree: Tree, directory: str) -> Tuple[Dict[str, Dict[str, str]], List[str]]:
    """Return the same of images that are entries by themselves, and the paths of files that may be some."""
    found: Dict[str, Dict[str, str]] = {}
    unknown: List[str] = []
    for path in tree.glob(f"{directory}/*.[eE][fF][iI]"):
        name = os.path.basename(path)
        with tree.open(path) as file:
            parts = sections(file)
            release = part(file, ".osrel")
        if release is not None:
            fields = dict(_lines(release, "="))
            found[name] = {
                "path": path,
                "program": f"/EFI/Linux/{name}",
                "title": fields.get("PRETTY_NAME", name),
                "sort-key": fields.get("IMAGE_ID") or fields.get("ID", ""),
                "version": next((fields[key] for key in _VERSIONS if key in fields), ""),
            }
        elif parts is None and not name.lower().startswith(("xen", "auto-")):
            unknown.append(path)
    return found, unknown


def _ordered(found: Dict[str, Dict[str, str]]) -> Dict[str, Dict[str, str]]:
    """Return entries in the order of the menu (boot_entry_compare)."""

    def place(item: Tuple[str, Dict[str, str]]) -> Any:
        name, fields = item
        keys = [fields.get(key, "") if "sort-key" in fields else "" for key in ("sort-key", "machine-id", "version")]
        return (
            _used_up(name),
            "sort-key" not in fields,
            *keys[:2],
            _newest_first(keys[2]),
            _newest_first(name.lower()),
        )

    return dict(sorted(found.items(), key=place))


def _used_up(name: str) -> bool:
    """Whether an entry has no attempts left."""
    counter = _COUNTER.search(name)
    return counter is not None and int(counter.group(1)) == 0


def _newer(one: str, other: str) -> int:
    """Compare versions as systemd does: above 0 where *one* is newer, 0 for the same (strverscmp_improved)."""
    while True:
        one, other = (re.sub(r"^[^0-9A-Za-z~^.-]+", "", text) for text in (one, other))
        for mark in "~-^.":
            if mark == "-" and not (one and other):
                return bool(one) - bool(other)
            marked = [text.startswith(mark) for text in (one, other)]
            if marked[0] != marked[1]:
                return marked[1] - marked[0]
            one, other = (text[marked[0] :] for text in (one, other))
        digits = one[:1].isdigit() or other[:1].isdigit()
        parts = [re.match(r"[0-9]*" if digits else r"[A-Za-z]*", text) for text in (one, other)]
        heads = [part.group() if part else "" for part in parts]
        one, other = one[len(heads[0]) :], other[len(heads[1]) :]
        if digits and bool(heads[0]) != bool(heads[1]):
            return bool(heads[0]) - bool(heads[1])
        # Of numbers the longer one is the greater one.
        plain = [head.lstrip("0") if digits else head for head in heads]
        keys = [(len(head) if digits else 0, head) for head in plain]
        if keys[0] != keys[1]:
            return 1 if keys[0] > keys[1] else -1


def _older(one: str, other: str) -> int:
    return -_newer(one, other)


_newest_first = functools.cmp_to_key(_older)


def _lines(content: bytes, separators: str = " \t") -> List[Tuple[str, str]]:
    """Return keys and values in order, as line_get_key_value reads them."""
    found = []
    for line in re.split(r"[\r\n]", content[:_LARGEST_FILE].decode(ENCODING)):
        match = re.match(rf"([^{separators}]+)[{separators}]+(.*)$", line.strip(" \t"))
        if match and not line.lstrip(" \t").startswith("#"):
            key, value = match.groups()
            quoted = value.startswith('"') and value.endswith('"') and len(value) > 1
            found.append((key, value[1:-1] if quoted else value))
    return found


def _fields(content: bytes) -> Dict[str, str]:
    """Return the keys of a file; several lines of options are one."""
    fields: Dict[str, str] = {}
    for key, value in _lines(content):
        fields[key] = f"{fields[key]} {value}" if key == "options" and key in fields else value
    return fields
