# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the firmware directory, in which libxl looks for images.

from __future__ import annotations

import os

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import text
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

# XENFIRMWAREDIR is compiled into libxl and no command names it; hvmloader always lies in it. {version} is the running
# hypervisor's. Sources: debian/rules of xen 4.17 and 4.20 (prefix /usr/lib/xen-VERSION); m4/paths.m4 @ stable-4.22
# (LIBEXEC/boot with LIBEXEC = libexecdir/xen), where distributions choose /usr/lib or /usr/libexec.
FIRMWARE_DIRECTORIES = (
    "/usr/lib/xen-{version}/boot",
    "/usr/libexec/xen/boot",
    "/usr/lib/xen/boot",
    "/usr/lib64/xen/boot",
    "/usr/local/libexec/xen/boot",
    "/usr/local/lib/xen/boot",
)


def directory(xen: Xen) -> str:
    """Return the firmware directory of this host.

    :raises UserError: no known directory holds hvmloader.
    """
    version = text(xen.version() if xen.is_dom0() else xen.toolstack_version())
    candidates = [pattern.format(version=version) for pattern in FIRMWARE_DIRECTORIES]
    for candidate in candidates:
        if os.path.isfile(xen.path(os.path.join(candidate, "hvmloader"))):
            return candidate
    raise UserError(
        f"The firmware directory cannot be found: none of {', '.join(candidates)} holds hvmloader.",
        "Install the toolstack's firmware, or name the directory with the parameter firmware_directory.",
    )
