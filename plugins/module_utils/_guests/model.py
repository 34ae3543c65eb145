# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what a guest is judged by, and what becomes of it.
# Sources: docs/man/xl.cfg.5.pod.in and tools/xl/xl_parse.c @ stable-4.2 … stable-4.22.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import Refusal
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg as _xl_cfg

Version = Tuple[int, int]

# First release of xl that knows a key. An older one ignores it without a word.
SINCE: Mapping[str, Version] = {
    "cmdline": (4, 5),
    "device_model_user": (4, 7),
    "bios_path_override": (4, 8),
    "type": (4, 10),
    "firmware": (4, 10),
    "dm_restrict": (4, 10),
    "vkb": (4, 12),
    "vkb_device": (4, 13),
    "stubdomain_kernel": (4, 14),
    "stubdomain_ramdisk": (4, 14),
    "stubdomain_memory": (4, 14),
    "stubdomain_cmdline": (4, 16),
    "bootloader_restrict": (4, 18),
    "bootloader_user": (4, 18),
}

# What libxl gives a stub domain by itself, in MiB (LIBXL_LINUX_STUBDOM_MEM, libxl_internal.h); video memory comes on
# top, and its default is 8 MiB with qemu-xen, 4 with qemu-xen-traditional.
STUB_MEMORY = {"linux": 128, "minios": 28}
VIDEO_MEMORY = {"linux": 8, "minios": 4}

# Where the toolstack's own programs lie; {version} is the release.
PROGRAM_DIRECTORIES = (
    "/usr/lib/xen-{version}/bin",
    "/usr/bin",
    "/usr/libexec/xen/bin",
    "/usr/lib/xen/bin",
    "/usr/local/bin",
    "/usr/local/libexec/xen/bin",
    "/usr/local/lib/xen/bin",
)


@dataclass(frozen=True)
class Host:
    """What a guest is judged by; None and nothing where it is not known."""

    version: Optional[Version] = None
    firmware_directory: Optional[str] = None
    capabilities: FrozenSet[str] = frozenset()
    stub_memory_mib: Optional[int] = None
    stub_command_line: Optional[str] = None


@dataclass(frozen=True)
class Need:
    """A file that has to be there.

    :param paths: one of them is enough.
    :param what: what it is, for the message.
    :param remedy: what to do without it.
    :param to_start: whether only a start needs it; else the configuration makes no sense without it.
    :param executable: whether it has to be a program.
    :param contains: bytes that have to be in it.
    :param key: the key of xl.cfg that names the path which was found.
    :param own: what the first of *paths* needs itself.
    """

    paths: Tuple[str, ...]
    what: str
    remedy: str
    to_start: bool = True
    executable: bool = False
    contains: Optional[bytes] = None
    key: Optional[str] = None
    own: Optional[Need] = None


@dataclass
class Plan:
    """A guest in the words of xl.cfg, and what has to be there for it."""

    keys: Dict[str, _xl_cfg.Value] = field(default_factory=dict)
    needs: List[Need] = field(default_factory=list)
    grub_names: Dict[str, str] = field(default_factory=dict)


def refuse_new(keys: Mapping[str, Any], host: Host) -> None:
    for key in keys:
        first = SINCE.get(key)
        if first is not None and host.version is not None and host.version < first:
            raise Refusal(
                f"xl of Xen {release(host.version)} does not know {key} and would ignore it.",
                f"It came with Xen {release(first)}; leave it out here.",
            )


def refuse_given(guest: Mapping[str, Any], names: Sequence[str], why: str) -> None:
    for name in names:
        if guest.get(name):
            raise Refusal(f"{name} means nothing to the flavour {guest['flavour']}: {why}.", f"Leave {name} out.")


def release(version: Version) -> str:
    return "{}.{}".format(*version)


def programs(name: str, version: Optional[Version]) -> Tuple[str, ...]:
    """Return where a program of the toolstack's own may lie."""
    shown = "*" if version is None else release(version)
    return tuple(f"{directory.format(version=shown)}/{name}" for directory in PROGRAM_DIRECTORIES)
