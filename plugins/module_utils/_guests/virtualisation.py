# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what kind of guest a configuration describes, and what kind of stub domain.

from __future__ import annotations

from typing import Mapping, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg

# The word by which the Linux stub domain is told that its guest has a screen (linux/init.py). With a full stop in it,
# Linux takes it for a module's, and leaves it alone.
SCREEN = "stubdom.screen=vnc"
# The same for devices of the host (linux/init.py).
PCI = "stubdom.pci=yes"
# The same for a shell on the console of a second serial port: libxl gives the stub domain one for each port.
DEBUG = "stubdom.debug=yes"
DEBUG_SERIAL = ["pty", "pty"]
# The word of an image whose guest can be saved (linux/image.py).
SAVES = "stubdom.save=yes"
# The word of an image that has libxl change what lies in a CD-ROM drive.
CHANGES_MEDIA = "stubdom.media=yes"
# Where dom0 listens for those who want to see it. The path of a socket has 107 characters at the most (unix(7)).
SOCKET = "/run/xen-stubdom/{name}.vnc"
LONGEST_NAME = 107 - len(SOCKET.format(name=""))


def hardware(keys: Mapping[str, xl_cfg.Value]) -> bool:
    """Whether the guest runs in hardware virtualisation (PVH or HVM)."""
    return keys.get("type") in ("pvh", "hvm") or keys.get("builder") == "hvm"


def hvm(keys: Mapping[str, xl_cfg.Value]) -> bool:
    """Whether the guest is an HVM guest."""
    return keys.get("type") == "hvm" or keys.get("builder") == "hvm"


def stubbed(keys: Mapping[str, xl_cfg.Value]) -> bool:
    """Whether the guest's device model is to run in a stub domain."""
    return hvm(keys) and keys.get("device_model_stubdomain_override") in (1, "1")


def screen(keys: Mapping[str, xl_cfg.Value]) -> bool:
    """Whether the guest's stub domain is told to show what the guest does."""
    return stubbed(keys) and SCREEN in str(keys.get("stubdomain_cmdline", "")).split()


def saves(keys: Mapping[str, xl_cfg.Value]) -> bool:
    """Whether its stub domain can be saved, of which nothing is known with an image of the user's own."""
    return _has_word(keys, SAVES)


def changes_media(keys: Mapping[str, xl_cfg.Value]) -> bool:
    """The same of what lies in a CD-ROM drive."""
    return _has_word(keys, CHANGES_MEDIA)


def _has_word(keys: Mapping[str, xl_cfg.Value], word: str) -> bool:
    return word in str(keys.get("stubdomain_cmdline", "")).split() and "stubdomain_ramdisk" not in keys


def stub_flavour(device_model_version: Optional[xl_cfg.Value]) -> str:
    """The kind of a stub domain; without a name libxl takes Mini-OS's (libxl__domain_build_info_setdefault)."""
    return "minios" if device_model_version in (None, "qemu-xen-traditional") else "linux"
