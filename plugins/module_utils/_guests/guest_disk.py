# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what the disks of a guest have for its boot loader, read before it is started.
#
# grub-fstest reads them, which is GRUB 2 as a program, as a user that owns nothing. It answers in numbers (`hex`), so
# that nothing a guest has written is taken for anything else. /dev/fd is no way to hand a disk over: who opens that
# opens the file again, with his own rights.
#
# Sources: util/grub-fstest.c, grub-core/loader/i386/xen_file.c @ grub 2.12; Linux Documentation/arch/x86/boot.rst.

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import stat
import tempfile
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner
from ansible_collections.xen.stubdom.plugins.module_utils._guests import disks
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux.kernel import payload_start

# The flavours whose boot loader reads the disks.
FLAVOURS = ("grub2", "legacy")
PROGRAMS = ("grub-fstest", "grub2-fstest")
# A user of none of the ranges that distributions and systemd give out (systemd, docs/UIDS-GIDS.md).
_USER = "65533"
# Seconds, KiB, and nothing written to files.
_LIMITS = "ulimit -t 5 -v 1000000 -f 0 -c 0"
_SECONDS = 60.0
_LONGEST_LIST = 100_000
_LONGEST_MENU = 1 << 16
_VOLUMES, _KERNELS = 12, 6

# The menus that boot loaders read; GRUB 2 of a distribution for PV guests prefers the second stage of
# docs/misc/x86-xenpv-bootloader.pandoc.
SECOND_STAGE = tuple(f"{at}/xen/pvboot-{arch}.elf" for at in ("/boot", "") for arch in ("x86_64", "i386"))
GRUB_MENUS = ("/boot/grub/grub.cfg", "/grub/grub.cfg")
OUR_MENUS = (
    "/boot/grub2/grub.cfg",
    "/grub2/grub.cfg",
    *(
        at + name
        for at in ("/boot", "")
        for name in ("/extlinux/extlinux.conf", "/extlinux.conf", "/syslinux/syslinux.cfg")
    ),
)
LEGACY_MENUS = ("/boot/grub/menu.lst", "/grub/menu.lst", "/boot/grub/grub.conf", "/grub/grub.conf")
# Directories of the Boot Loader Specification, each with a file for an entry.
ENTRIES = ("/loader/entries/", "/boot/loader/entries/")

_KERNEL = re.compile(r"^\s*(?:linux(?:16|efi)?|kernel)[ \t=]+['\"]?(?:\(\S*?\)|\$root)?(/[!-~]{1,200})", re.I | re.M)
_ENTRY = re.compile(r"[A-Za-z0-9._+~-]{1,200}\.conf")
_VOLUME = re.compile(r"\(((?:loop\d+|lvm/|md/)[A-Za-z0-9,._+/-]*)\)")
_SYSTEM = re.compile(r"^\s*(?:Device|Partition) (\S+): Filesystem type ([\w*+-]+)", re.M)

# How a kernel is packed, by its first bytes.
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x5d\0\0": "lzma",
    b"\x89LZO": "lzo",
    b"\x02\x21\x4c\x18": "lz4",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x7fELF": "nothing",
}
# What GRUB 2 for PV guests unpacks.
PV_UNPACKS = ("gzip", "xz", "lzo", "nothing")
_EXT64 = 0x80


class Volume(NamedTuple):
    """What GRUB sees: its name, such as loop0,gpt1; its file system, or ""; whether that is ext4 with 64bit."""

    name: str
    system: str
    ext64: bool


class Kernel(NamedTuple):
    """A kernel, with what it is packed, and its bits; "" and 0 where that is not known."""

    path: str
    packed: str
    bits: int


class Place(NamedTuple):
    """A file on a guest's disk; partitions are counted from 1."""

    vdev: str
    partition: Optional[int]
    path: str


@dataclass
class Found:
    """What was found on the disks of a guest.

    :param vdevs: those that were looked at, as grub-fstest counts them.
    :param complete: whether these are all, and GRUB could read all that is on them.
    :param menus: text by volume and path.
    :param kernels: those of each menu that could be read.
    :param asked: the kernels that were asked for; None for one that is not there.
    """

    vdevs: List[str]
    complete: bool
    volumes: List[Volume] = field(default_factory=list)
    menus: Dict[Tuple[str, str], str] = field(default_factory=dict)
    kernels: Dict[Tuple[str, str], List[Kernel]] = field(default_factory=dict)
    asked: Dict[Place, Optional[Kernel]] = field(default_factory=dict)

    def place(self, volume: str) -> Optional[Tuple[str, Optional[int]]]:
        """The disk and partition that a volume is; None for any other."""
        match = re.match(r"loop(\d+)(?:,\w*?(\d+))?\Z", volume)
        return None if match is None else (self.vdevs[int(match[1])], int(match[2]) if match[2] else None)

    def where(self, volume: str) -> str:
        """A volume in words."""
        vdev, partition = self.place(volume) or (volume, None)
        return f"partition {partition} of {vdev}" if partition else vdev

    def on(self, place: Place) -> Optional[Volume]:
        """The volume with a file system that has a place; None where GRUB knows none."""
        if place.vdev not in self.vdevs:
            return None
        end = rf",\w*?{place.partition}\Z" if place.partition else r"\Z"
        wanted = re.compile(f"loop{self.vdevs.index(place.vdev)}{end}")
        return next((one for one in self.volumes if one.system and wanted.match(one.name)), None)


def look(
    run: Runner,
    guest_disks: Sequence[Mapping[str, Any]],
    *,
    menus: Sequence[Place] = (),
    kernels: Sequence[Place] = (),
) -> Optional[Found]:
    """Look at a guest's disks, each with its vdev; None where that is not possible.

    :param menus: more files that are menus.
    :param kernels: kernels that no menu on the disks names.
    """
    program, unprivileged = _program(), _unprivileged()
    if program is None or unprivileged is None:
        return None
    with contextlib.suppress(UserError, OSError), _readable(run, guest_disks, unprivileged) as paths:
        if paths:
            reader = _Reader(run, unprivileged, [program, "-c", str(len(paths)), *paths.values()])
            found = Found(list(paths), len(paths) == len(guest_disks))
            usable = _read_volumes(reader, found)
            _read_menus(reader, found, usable, menus)
            _read_kernels(reader, found, usable, kernels)
            return found if found.volumes else None
    return None


def obstacle(guest_disks: Sequence[Mapping[str, Any]]) -> Tuple[str, str]:
    """Why nothing was found on a guest's disks, and what helps, each in a sentence."""
    if _program() is None or _unprivileged() is None:
        return (
            "Its disks could not be looked at.",
            "Install grub-fstest (Debian package grub-common) on the host, or write its parameters by hand.",
        )
    missing = next((disk["target"] for disk in guest_disks if disk.get("target") and not _there(disk["target"])), None)
    if missing is not None:
        return f"Its disk {missing} is not there.", "Correct its disks, or write its parameters by hand."
    return (
        "None of its disks has a file system that GRUB knows, or they could not be read.",
        "Write its parameters by hand.",
    )


def _there(target: str) -> bool:
    return not target.startswith("/") or os.path.exists(target)


def _program() -> Optional[str]:
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@dataclass(frozen=True)
class _Reader:
    """Runs grub-fstest, several times in one shell."""

    run: Runner
    unprivileged: List[str]
    command: List[str]

    def _ask(self, commands: Sequence[Sequence[str]]) -> List[str]:
        """The output of each; no line of `hex` is the sign between them."""
        parts = [f"{shlex.join([*self.command, *words])} | head -c {_LONGEST_LIST * 5}" for words in commands]
        script = "; ".join([_LIMITS, *(f"{part}; echo; echo @" for part in parts)])
        output = self.run([*self.unprivileged, "sh", "-c", script], timeout=_SECONDS)[1]
        return output.split("\n@\n")[: len(commands)]

    def lists(self, *paths: Sequence[str]) -> List[str]:
        """What `ls` says of each."""
        return self._ask([["ls", "--", *words] for words in paths])

    def parts(self, wanted: Sequence[Tuple[str, int, int]]) -> List[bytes]:
        """Parts of files: path, beginning and length; empty for those that are not there."""
        asked = [["-s", str(skip), "-n", str(length), "hex", path] for path, skip, length in wanted]
        return [_bytes(text) for text in self._ask(asked)] if asked else []


def _bytes(text: str) -> bytes:
    """What lines of `hex` say, which leaves out those that repeat the one before."""
    found, first = bytearray(), None
    for offset, digits in re.findall(r"^([0-9a-f]{8,})  ((?:[0-9a-f]{2} {1,2})+)", text, re.M):
        first = int(offset, 16) if first is None else first
        missing = int(offset, 16) - first - len(found)
        if not 0 <= missing <= _LONGEST_MENU:
            break
        found += bytes(found[-16:] * (missing // 16)) + bytes.fromhex(digits)
    return bytes(found)


def _read_volumes(reader: _Reader, found: Found) -> List[str]:
    """Find what there is, and return what has a file system."""
    names, described = reader.lists([], ["-l"])
    systems = dict(_SYSTEM.findall(described))
    listed = list(dict.fromkeys(_VOLUME.findall(names)))
    usable = [name for name in listed if name in systems][:_VOLUMES]
    blocks = dict(zip(usable, reader.parts([(f"({name})2+2", 0, 0x68) for name in usable])))
    found.volumes = [Volume(name, systems.get(name, ""), _is_ext64(blocks.get(name, b""))) for name in listed]
    # A disk with partitions is no file system; all else that GRUB cannot read may hold what is looked for.
    whole = {name.partition(",")[0] for name in listed if "," in name}
    found.complete = found.complete and all(name in usable or name in whole for name in listed)
    return usable


def _is_ext64(block: bytes) -> bool:
    """Whether this is a superblock with 64bit (s_magic, s_feature_incompat)."""
    return block[0x38:0x3A] == b"\x53\xef" and bool(int.from_bytes(block[0x60:0x64], "little") & _EXT64)


def _read_menus(reader: _Reader, found: Found, usable: Sequence[str], more: Sequence[Place]) -> None:
    places = [(name, path) for name in usable for path in (*SECOND_STAGE, *GRUB_MENUS, *OUR_MENUS, *LEGACY_MENUS)]
    places += [(one.name, place.path) for place in more for one in (found.on(place),) if one is not None]
    entries = [(name, directory) for name in usable for directory in ENTRIES]
    for (name, directory), text in zip(entries, reader.lists(*([f"({name}){path}"] for name, path in entries))):
        places += [(name, directory + file) for file in sorted(_ENTRY.findall(text), reverse=True)[:_KERNELS]]
    places = list(dict.fromkeys(places))
    for place, content in zip(places, reader.parts([(f"({name}){path}", 0, _LONGEST_MENU) for name, path in places])):
        if content:
            found.menus[place] = content.decode("ascii", "replace")


def _read_kernels(reader: _Reader, found: Found, usable: Sequence[str], asked: Sequence[Place]) -> None:
    named = [(menu, path) for menu, text in found.menus.items() for path in kernels_of(text)]
    # A menu searches for the volume of its kernels, which is its own one in most cases.
    tried = {
        (menu, path): [f"({volume}){path}" for volume in sorted(usable, key=lambda name: name != menu[0])]
        for menu, path in named
    }
    places = {place: f"({one.name}){place.path}" for place in asked for one in (found.on(place),) if one is not None}
    files = list(dict.fromkeys([*(file for group in tried.values() for file in group), *places.values()]))
    heads = dict(zip(files, reader.parts([(file, 0, 0x260) for file in files])))
    there = [file for file in files if heads[file]]
    packed = dict(zip(there, reader.parts([(file, _payload(heads[file]), 8) for file in there])))
    for (menu, path), group in tried.items():
        file = next((file for file in group if file in packed), None)
        if file is not None:
            found.kernels.setdefault(menu, []).append(kernel(path, heads[file], packed[file]))
    for place, file in places.items():
        found.asked[place] = kernel(place.path, heads[file], packed[file]) if file in packed else None


def kernels_of(menu: str) -> List[str]:
    """The kernels that a menu names, the first ones of them."""
    return list(dict.fromkeys(_KERNEL.findall(menu)))[:_KERNELS]


def _payload(head: bytes) -> int:
    """Where the kernel proper begins in a bzImage, 0 in everything else."""
    if head[0x202:0x206] != b"HdrS" or int.from_bytes(head[0x206:0x208], "little") < 0x208:
        return 0
    return payload_start(head)


def kernel(path: str, head: bytes, payload: bytes) -> Kernel:
    """Describe a kernel by its first bytes, and by those of what is packed in it."""
    packed = next((name for magic, name in _PACKED.items() if payload.startswith(magic)), "")
    bits = 0
    if head.startswith(b"\x7fELF"):
        bits = {1: 32, 2: 64}.get(head[4], 0)
    elif _payload(head) and int.from_bytes(head[0x206:0x208], "little") >= 0x20C:
        bits = 64 if head[0x236] & 1 else 32
    elif not _payload(head):
        # Packed as a whole, which GRUB unpacks as it reads; what is in it is not known.
        packed = ""
    return Kernel(path, packed, bits)


def _unprivileged() -> Optional[List[str]]:
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    user = [f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups", "--no-new-privs"]
    return None if setpriv is None else [setpriv, *user]


@contextlib.contextmanager
def _readable(
    run: Runner, guest_disks: Sequence[Mapping[str, Any]], unprivileged: Sequence[str]
) -> Iterator[Dict[str, str]]:
    """By vdev, the paths of raw disks as the reader's user may read them: a file, or a node of a block device."""
    with contextlib.ExitStack() as held:
        found: Dict[str, str] = {}
        for disk in guest_disks:
            path = str(disk.get("target") or "")
            if not disks.in_dom0(disk) or disk.get("format", "raw") != "raw" or disk.get("cdrom"):
                continue
            with contextlib.suppress(OSError):
                status = os.stat(path)
                device = status.st_rdev if stat.S_ISBLK(status.st_mode) else None
                if stat.S_ISREG(status.st_mode):
                    if run([*unprivileged, "test", "-r", path])[0] == 0:
                        found[disk["vdev"]] = os.path.realpath(path)
                    elif unprivileged:
                        device = held.enter_context(_loop(run, path))
                if device is not None and unprivileged:
                    found[disk["vdev"]] = held.enter_context(_node(device))
        yield found


@contextlib.contextmanager
def _loop(run: Runner, path: str) -> Iterator[int]:
    """A loop device that can only be read, and goes with this process however that ends."""
    status, output, why = run(["losetup", "--find", "--show", "--read-only", path])
    if status != 0:
        raise OSError(why)
    try:
        opened = os.open(output.strip(), os.O_RDONLY)
    finally:
        # One that is open goes when it is closed (LO_FLAGS_AUTOCLEAR).
        run(["losetup", "--detach", output.strip()])
    try:
        yield os.fstat(opened).st_rdev
    finally:
        os.close(opened)


@contextlib.contextmanager
def _node(device: int) -> Iterator[str]:
    directory = tempfile.mkdtemp(prefix="xen.stubdom-", dir="/dev")
    try:
        os.chmod(directory, 0o711)
        path = os.path.join(directory, "disk")
        os.mknod(path, stat.S_IFBLK | 0o400, device)
        os.chown(path, int(_USER), int(_USER))
        yield path
    finally:
        shutil.rmtree(directory)


def wanted(guest: Mapping[str, Any]) -> Dict[str, List[Place]]:
    """What to look for besides the menus that a boot loader finds by itself, for `look`."""
    first = guest["disks"][0]["vdev"] if guest["disks"] else ""
    entries = guest.get("menu_entries") or ()
    kernels = [Place(entry.get("disk") or first, entry.get("partition"), entry["kernel"]) for entry in entries]
    menu = _legacy_menu(guest)
    return {"kernels": kernels, "menus": [] if menu is None else [menu]}


def _legacy_menu(guest: Mapping[str, Any]) -> Optional[Place]:
    """Where PV-GRUB reads the menu, None where that is not on the guest's disks."""
    match = re.match(r"(\(hd\d+)(?:,(\d+))?\)(/.*)", guest.get("menu") or "")
    names = disks.grub_names([disk["vdev"] for disk in guest["disks"]])
    vdev = next((vdev for vdev, name in names.items() if match and name == f"{match[1]})"), None)
    if match is None or vdev is None:
        return None
    return Place(vdev, int(match[2]) + 1 if match[2] else None, match[3])


def refuse(guest: Mapping[str, Any], found: Found, *, ours: bool) -> List[str]:
    """Compare what was found with what boots the guest, and return warnings.

    :param guest: its parameters, with a type and with the vdevs of its disks.
    :param ours: whether its GRUB 2 is one that this collection has made.
    :raises UserError: it cannot boot.
    """
    missing = next((place for place, one in found.asked.items() if one is None), None)
    if missing is not None:
        raise UserError(
            f"There is no {missing.path} in its place on {missing.vdev} of {guest['name']}.",
            "Correct kernel, disk or partition in menu_entries.",
        )
    if guest["flavour"] == "legacy":
        _refuse_legacy(guest, found)
    elif guest["flavour"] == "grub2" and not guest.get("kernel"):
        if guest.get("menu_entries"):
            kernels = [one for one in found.asked.values() if one is not None]
        elif not found.menus and found.complete:
            return [
                f"There is no menu of a boot loader on the disks of {guest['name']}, such as {GRUB_MENUS[0]}, and "
                "GRUB 2 would stop at its prompt. Set menu_entries, or make a menu in the guest."
            ]
        else:
            kernels = _of_menus(guest, found, ours)
        if guest["type"] == "pv":
            return _refuse_kernels(guest, kernels)
    return []


def _of_menus(guest: Mapping[str, Any], found: Found, ours: bool) -> List[Kernel]:
    """The kernels of the menus that the guest's GRUB 2 reads.

    :raises UserError: there are only menus that it does not read.
    """
    first = [*GRUB_MENUS, *(SECOND_STAGE if guest["type"] == "pv" else ())]
    own = [place for place in found.menus if place[1] in first]
    others = [place for place in found.menus if place[1] not in (*first, *SECOND_STAGE, *LEGACY_MENUS)]
    if found.complete and not own and not (ours and others):
        volume, path = (others or list(found.menus))[0]
        raise UserError(
            f"The menu of {guest['name']} is {path} on {found.where(volume)}, and this GRUB 2 reads only "
            f"{' and '.join(GRUB_MENUS)}.",
            "Install the image grub2 of the role xen.stubdom.stubdom_build, or set menu_entries."
            if others
            else "Set menu_entries, or set flavour to legacy and menu to that path.",
        )
    if any(path in SECOND_STAGE for _volume, path in own):
        # It is a GRUB of the guest's own, which finds what it likes.
        return []
    return [one for place in own or (others if ours else ()) for one in found.kernels.get(place, ())]


def _refuse_kernels(guest: Mapping[str, Any], kernels: Sequence[Kernel]) -> List[str]:
    """:raises UserError: GRUB 2 for PV guests can load none of these kernels."""
    bits, other = (32, "x86_64") if guest["arch"] == "x86_32" else (64, "x86_32")
    found = []
    for one in kernels:
        what = f"The kernel {one.path} of {guest['name']} "
        if one.packed and one.packed not in PV_UNPACKS:
            found.append(
                UserError(
                    f"{what}is packed with {one.packed}, which GRUB 2 cannot unpack for PV guests.",
                    "Set type to pvh, or install a kernel in the guest that is packed with gzip, xz or lzo.",
                )
            )
        elif one.bits not in (0, bits):
            found.append(
                UserError(
                    f"{what}has {one.bits} bits, and arch is {guest['arch']}.",
                    f"Set arch to {other}, or set type to pvh.",
                )
            )
    if found and len(found) == len(kernels):
        raise found[0]
    return [f"{error.what} Others in its menu can be loaded. {error.remedy}" for error in found[:1]]


def _refuse_legacy(guest: Mapping[str, Any], found: Found) -> None:
    """:raises UserError: PV-GRUB cannot read the menu."""
    menu = _legacy_menu(guest)
    if menu is None or menu.vdev not in found.vdevs:
        return
    disk = f"loop{found.vdevs.index(menu.vdev)}"
    if any(one.name.startswith(f"{disk},gpt") for one in found.volumes):
        raise UserError(
            f"The disk {menu.vdev} of {guest['name']} has a GPT, and PV-GRUB reads MSDOS partition tables only.",
            "Set flavour to grub2.",
        )
    volume = found.on(menu)
    if volume is None:
        return
    where = found.where(volume.name)
    if volume.ext64:
        raise UserError(
            f"The ext4 on {where} of {guest['name']} has the feature 64bit, and PV-GRUB does not read it.",
            "Set flavour to grub2, or run `resize2fs -s` on the file system while the guest is off.",
        )
    if (volume.name, menu.path) not in found.menus:
        raise UserError(
            f"There is no {menu.path} on {where} of {guest['name']}, and PV-GRUB would stop at its prompt.",
            "Correct menu, menu_disk or menu_partition, or set menu_entries.",
        )
