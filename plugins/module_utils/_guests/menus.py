# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: menus of boot loaders that are written from data, for PV-GRUB (menu.lst) and
# GRUB 2 (grub.cfg). What cannot be written so that the loader reads it back as it was given is refused.
#
# Sources: get_line_from_config and skip_to (stage2/{stage2,cmdline}.c) of GRUB 0.97; grub-core/script/yylex.l and
# grub-core/lib/cmdline.c @ grub 2.12.

from __future__ import annotations

import re
from typing import Any, Callable, List, Mapping, NamedTuple, Optional, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import disks

# The files of dom0 that hold menus, or images of GRUB 2 with a menu in it, or CDs with such an image.
DIRECTORY = "/var/lib/xen.stubdom/guests"
ENDINGS = ("bin", "lst")
CD = "iso"

# GRUB 0.97 reads a line into a buffer of this many bytes (NEW_HEAPSIZE, stage2/shared.h), with a NUL behind it.
_LONGEST_LINE = 1499
# Seconds that a menu may wait; GRUB 0.97 keeps them in a signed 32-bit number.
_LONGEST_TIMEOUT = 3600
_PATH = re.compile(r"/[!-~]+\Z")

# grub-core/commands/password_pbkdf2.c; md5crypt of GRUB 0.97.
_PASSWORDS = {
    "grub2": (re.compile(r"grub\.pbkdf2\.sha512\.\d{1,8}(?:\.(?:[0-9A-F]{2})+){2}\Z"), "grub-mkpasswd-pbkdf2"),
    "legacy": (re.compile(r"\$1\$[./0-9A-Za-z]{1,8}\$[./0-9A-Za-z]{22}\Z"), "openssl passwd -1"),
}
# Who GRUB 2 asks for, besides the password.
_USER = "root"
_PASSWORD_LINE = re.compile(rb"^password(?: --md5|_pbkdf2 \w+) (\S+)", re.M)


class Rules(NamedTuple):
    """What a menu has besides its entries: the parameters of those names."""

    password: Optional[str] = None
    fallback: Optional[str] = None
    splash: Optional[str] = None


def rules(guest: Mapping[str, Any]) -> Rules:
    """Those that are among a guest's parameters."""
    return Rules(guest.get("menu_password"), guest.get("menu_fallback"), guest.get("menu_splash"))


def passwords(menu: bytes) -> List[str]:
    """The hashes of passwords in a menu, or in an image that has one."""
    return [found.decode("ascii", "replace") for found in _PASSWORD_LINE.findall(menu)]


_NO_RULES = Rules()

# What GRUB 2 calls the drive that a BIOS has started it from (grub-core/disk/i386/pc/biosdisk.c).
_CD_DRIVE = "cd"
# The files on a CD; where GRUB 2 looks for the menu is in program.EARLY_ON_CD (_images/grub2).
CD_MENU, CD_KERNEL, CD_INITRD = "/menu.cfg", "/kernel", "/initrd"


def path(name: str, ending: str) -> str:
    """Where the menu of a guest is kept.

    :param ending: one of ENDINGS, or CD.
    """
    return f"{DIRECTORY}/{name}.{ending}"


def legacy(
    entries: Sequence[Mapping[str, Any]],
    timeout: int,
    guest_disks: Sequence[Mapping[str, Any]],
    more: Rules = _NO_RULES,
    root: Optional[Callable[[Mapping[str, Any]], str]] = None,
) -> str:
    """Return a menu for PV-GRUB.

    :param entries: as `menu_entries` of a guest; the first one is started by default.
    :param timeout: seconds until then.
    :param guest_disks: the guest's disks, with their vdev.
    :param more: what else it has.
    :param root: what PV-GRUB calls the place of an entry's files, if that is none of the disks.
    :raises UserError: an entry cannot be written so that PV-GRUB reads it as it was given.
    """
    root = root or (lambda entry: _root(entry, guest_disks))
    lines = ["default 0", f"timeout {_timeout(timeout)}"]
    if more.fallback:
        lines.append(f"fallback {_fallback(entries, more.fallback)}")
    if more.password:
        lines.append(f"password --md5 {_password(more.password, 'legacy')}")
    if more.splash:
        if not _PATH.match(more.splash):
            raise UserError(f"menu_splash is {more.splash!r}, which is no path without blanks.", "Correct menu_splash.")
        lines.append(f"splashimage {root(entries[0])}{more.splash}")
    for entry in entries:
        _check(entry)
        if entry["title"].startswith("="):
            raise _refusal("title", entry["title"], "PV-GRUB leaves out an equals sign at its beginning", "Set another")
        kernel, cmdline = entry["kernel"], entry.get("cmdline")
        lines += [f"title {entry['title']}", f"root {root(entry)}"]
        lines.append(f"kernel {kernel} {cmdline}" if cmdline else f"kernel {kernel}")
        if entry.get("initrd"):
            lines.append(f"initrd {entry['initrd']}")
    for line in lines:
        if len(line.encode()) > _LONGEST_LINE:
            raise UserError(
                f"A line of menu_entries has {len(line.encode())} bytes, and PV-GRUB reads {_LONGEST_LINE} of it.",
                "Shorten title or cmdline.",
            )
    # A backslash in front of a newline would join two lines.
    return "".join(f"{line} \n" if line.endswith("\\") else f"{line}\n" for line in lines)


def grub2(
    entries: Sequence[Mapping[str, Any]],
    timeout: int,
    guest_disks: Sequence[Mapping[str, Any]],
    more: Rules = _NO_RULES,
) -> str:
    """Return a menu for GRUB 2. Parameters and errors are those of `legacy`."""
    vdevs = [disk["vdev"] for disk in guest_disks]
    lines = ["set menu=dom0", "set default=0", f"set timeout={_timeout(timeout)}"]
    if more.fallback:
        lines.append(f"set fallback={_fallback(entries, more.fallback)}")
    if more.password:
        lines += [f"set superusers={_USER}", f"password_pbkdf2 {_USER} {_password(more.password, 'grub2')}"]
    # Entries are started without the password.
    free = "--unrestricted " if more.password else ""
    for entry in entries:
        _check(entry)
        if entry["title"].startswith("-"):
            raise _refusal("title", entry["title"], "GRUB 2 takes it for an option", "Set another")
        lines += _entry(entry, _device(vdevs, entry.get("disk"), entry.get("partition")), _refusal, free)
    return "".join(f"{line}\n" for line in lines)


def of_cd(cmdline: str, *, initrd: bool) -> str:
    """Return the menu of GRUB 2 on a CD, whose only entry starts at once.

    :param initrd: whether there is one, too.
    :raises UserError: GRUB would change the words of `cmdline`.
    """
    entry = {
        "title": "kernel of dom0",
        "kernel": CD_KERNEL,
        "cmdline": cmdline,
        "initrd": CD_INITRD if initrd else None,
    }
    _check_line("cmdline", cmdline, _refused_parameter)
    # What GRUB says is heard where the kernel is, too.
    lines = ["serial --unit=0 --speed=115200", *(f"terminal_{way}put serial console" for way in ("in", "out"))]
    lines += ["set timeout=0", *_entry(entry, _CD_DRIVE, _refused_parameter)]
    return "".join(f"{line}\n" for line in lines)


def _entry(entry: Mapping[str, Any], device: str, refusal: Callable[..., UserError], free: str = "") -> List[str]:
    """One entry of a menu of GRUB 2.

    :param device: what GRUB calls the place of its files.
    :param free: options of the entry.
    """
    cmdline = entry.get("cmdline") or ""
    if re.search(r"[\\'\"]", cmdline):
        raise refusal(
            "cmdline", cmdline, "GRUB 2 puts a backslash before each quote and backslash", "Leave them out of"
        )
    words = [_quoted(word) for word in (entry["kernel"], *cmdline.split())]
    return [
        f"menuentry {free}{_quoted(entry['title'])} {{",
        f"  set root={_quoted(device)}",
        f"  linux {' '.join(words)}",
        *([f"  initrd {_quoted(entry['initrd'])}"] if entry.get("initrd") else []),
        "}",
    ]


def _fallback(entries: Sequence[Mapping[str, Any]], title: str) -> int:
    places = [place for place, entry in enumerate(entries) if entry["title"] == title]
    if not places or places[0] == 0:
        raise UserError(
            f"menu_fallback is {title!r}, which is the title of no entry after the first one.",
            "Set menu_fallback to the title of another of menu_entries.",
        )
    return places[0]


def _password(hashed: str, loader: str) -> str:
    pattern, program = _PASSWORDS[loader]
    if not pattern.match(hashed):
        raise UserError(
            f"menu_password is no hash that the flavour {loader} knows.",
            f"Set menu_password to what `{program}` prints.",
        )
    return hashed


def _root(entry: Mapping[str, Any], guest_disks: Sequence[Mapping[str, Any]]) -> str:
    kernel = entry["kernel"]
    path = disks.menu_path(guest_disks, kernel, disk=entry.get("disk"), partition=entry.get("partition"))
    return path[: -len(kernel)]


def _check(entry: Mapping[str, Any]) -> None:
    for name in ("title", "cmdline"):
        _check_line(name, entry.get(name) or "", _refusal)
    if not entry["title"]:
        raise _refusal("title", "", "it is empty", "Set a")
    for name in ("kernel", "initrd"):
        path = entry.get(name)
        if path is not None and not _PATH.match(path):
            raise _refusal(name, path, "it is no absolute path of printable ASCII without blanks", "Correct")


def _check_line(name: str, text: str, refusal: Callable[..., UserError]) -> None:
    if not text.isprintable():
        raise refusal(name, text, "it is not one line of printable text", "Set another")
    if text != " ".join(text.split()):
        raise refusal(name, text, "it has blanks that a boot loader leaves out", "Set one blank between words of")


def _refused_parameter(name: str, value: str, why: str, remedy: str) -> UserError:
    return UserError(f"{name} is {value!r}, and {why}.", f"{remedy} {name}.")


def _refusal(name: str, value: str, why: str, remedy: str) -> UserError:
    return UserError(f"menu_entries.{name} is {value!r}, and {why}.", f"{remedy} {name} in menu_entries.")


def _timeout(timeout: int) -> int:
    if not 0 <= timeout <= _LONGEST_TIMEOUT:
        raise UserError(
            f"menu_timeout is {timeout}, which is not between 0 and {_LONGEST_TIMEOUT} seconds.",
            "Correct menu_timeout.",
        )
    return timeout


def _quoted(text: str) -> str:
    """One word for GRUB's script: nothing has a meaning between single quotes but a single quote."""
    return "'" + text.replace("'", "'\\''") + "'"


def _device(vdevs: Sequence[str], disk: Optional[str], partition: Optional[int]) -> str:
    """What GRUB 2 calls a disk or a partition of it (grub-core/disk/xen/xendisk.c)."""
    vdev = disks.chosen(vdevs, disk, partition)
    return f"xen/{vdev}" if partition is None else f"xen/{vdev},{partition}"
