# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what the kernel of the Linux stub domain has to have, and whether one has it.

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Callable, Mapping, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import kernel


@dataclass(frozen=True)
class Module:
    """A driver that a kernel may have as a module.

    :param group: when it is loaded.
    :param parameters: what it is loaded with.
    :param optional: whether an image without it serves all guests but those that need it.
    """

    option: str
    group: str
    parameters: str = ""
    optional: bool = False


# By name, in the order in which they are loaded; a module's own needs come before it. libxl waits 30 seconds for the
# stub domain, so that those which only PCI devices or network interfaces need are left out without any.
# feature_persistent=0: the driver would keep 4.2 MiB of buffers for each disk, whatever it reads (fill_grant_buffer,
# drivers/block/xen-blkfront.c).
# unrestricted=1: the driver allows only what concerns the guest in ways that Debian's libraries do not use
# (libxendevicemodel first probes with DOMID_INVALID), and the stub domain itself is held by Xen to its guest.
MODULES: Mapping[str, Module] = {
    "loop": Module("BLK_DEV_LOOP", "start"),
    "squashfs": Module("SQUASHFS", "start"),
    "xen-evtchn": Module("XEN_DEV_EVTCHN", "base"),
    "xen-gntdev": Module("XEN_GNTDEV", "base"),
    "xen-gntalloc": Module("XEN_GRANT_DEV_ALLOC", "base"),
    "xen-privcmd": Module("XEN_PRIVCMD", "base", "unrestricted=1"),
    "xen-blkfront": Module("XEN_BLKDEV_FRONTEND", "base", "feature_persistent=0"),
    "xen-pcifront": Module("XEN_PCIDEV_FRONTEND", "pci", optional=True),
    "bridge": Module("BRIDGE", "network"),
    "xen-netfront": Module("XEN_NETDEV_FRONTEND", "network"),
    "tun": Module("TUN", "network"),
}
GROUPS = tuple(dict.fromkeys(module.group for module in MODULES.values()))

# What no module can be, by option of the kernel: what it is for (init.py, assembly.py).
_PV = "XEN_PV"
BUILT_IN: Mapping[str, str] = {
    _PV: "Xen starts a stub domain as a PV domain",
    "BLK_DEV_INITRD": "the root file system is an archive",
    "BINFMT_SCRIPT": "its first program is a script",
    "PROC_FS": "it mounts /proc",
    "SYSFS": "it mounts /sys",
    "DEVTMPFS": "it mounts /dev",
    "SQUASHFS_ZSTD": "the host's programs are packed with zstd",
    "HVC_XEN": "its messages go to the console",
    "HVC_XEN_FRONTEND": "a guest is saved through a second console",
    "UNIX": "QEMU serves the guest's screen at a socket",
    "INET": "interfaces are set up by it",
    "MULTIUSER": "QEMU gives up root",
}

# With one of these a kernel takes no modules but signed ones (kernel/module/signing.c, security/lockdown/Kconfig).
_SIGNED_ONLY = (
    "MODULE_SIG_FORCE",
    "LOCK_DOWN_KERNEL_FORCE_INTEGRITY",
    "LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY",
)

INSTEAD = "Install another kernel, and name it with kernel_release, or the file of one with kernel."

# What CONFIG_IKCONFIG puts before the configuration (kernel/configs.c), and more than one has.
_BEGINS = b"IKCFG_ST"
_LONGEST = 1 << 22


class Evidence:
    """How a kernel was configured, as far as it is known.

    :param written: the configuration as a file of the host has it.
    :param unpack: returns the unpacked kernel, where that can be had; it is called when it is needed.
    """

    def __init__(self, written: Optional[str], unpack: Callable[[], Optional[bytes]]) -> None:
        self._written = written
        self._unpack = unpack

    @cached_property
    def _program(self) -> Optional[bytes]:
        return self._unpack()

    @cached_property
    def starts_as_pv(self) -> Optional[bool]:
        """Whether Xen can start it, by its file; None where it cannot be read."""
        return None if self._program is None else kernel.starts_as_pv(self._program)

    @property
    def unpacked(self) -> Optional[bytes]:
        """The kernel as Xen starts it without unpacking it; None where that cannot be had."""
        return self._program if self.starts_as_pv else None

    @property
    def requires_signatures(self) -> bool:
        """Whether it may take no modules but those that are signed."""
        return self.options is None or any(option in self.options for option in _SIGNED_ONLY)

    @cached_property
    def options(self) -> Optional[Mapping[str, str]]:
        """Its options without CONFIG_, y or m each; None where nothing is known of them."""
        text = self._written
        if text is None and self._program is not None:
            text = _configuration(self._program)
        return None if text is None else dict(re.findall(r"^CONFIG_(\w+)=([ym])$", text, re.MULTILINE))


def _configuration(unpacked: bytes) -> Optional[str]:
    """Return the configuration that an unpacked kernel holds, None where it has none."""
    start = unpacked.find(_BEGINS)
    if start < 0:
        return None
    try:
        found = zlib.decompressobj(31).decompress(unpacked[start + len(_BEGINS) : start + _LONGEST], _LONGEST)
    except zlib.error:
        return None
    return found.decode(errors="replace")


def check(release: str, evidence: Evidence) -> Optional[str]:
    """Return a warning of what cannot be known, None if all is known.

    :raises UserError: the kernel is without something that the stub domain needs.
    """
    options = evidence.options
    has = {option: None if options is None else options.get(option) == "y" for option in BUILT_IN}
    if evidence.starts_as_pv is not None:
        has[_PV] = evidence.starts_as_pv
    missing = [f"CONFIG_{option} ({why})" for option, why in BUILT_IN.items() if has[option] is False]
    if missing:
        raise UserError(
            f"Linux {release} cannot run the stub domain, as it is built without {', '.join(missing)}.", INSTEAD
        )
    unknown = [f"CONFIG_{option}" for option in BUILT_IN if has[option] is None]
    if unknown:
        return (
            f"It is not known whether Linux {release} has {', '.join(unknown)} built in, which the stub domain needs: "
            f"there is no /boot/config-{release}, and no configuration in the kernel that could be read. "
            "Start a guest, and put the previous image back with state rollback if its stub domain does not start."
        )
    return None
