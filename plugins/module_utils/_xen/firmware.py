# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the firmware directory, in which libxl looks for images.

from __future__ import annotations

import os
from typing import Optional

from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import text
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


def directory(xen: Xen) -> str:
    """Return the firmware directory of this host.

    It is compiled into libxl (XENFIRMWAREDIR) and no command names it; hvmloader always lies in it.

    :raises UserError: no known directory holds hvmloader.
    """
    release = xen.version() if xen.is_dom0() else xen.toolstack_version()
    version = text(release)
    candidates = distributions.paths("firmware", xen.distribution, version=version)
    for candidate in candidates:
        if os.path.isfile(xen.path(os.path.join(candidate, "hvmloader"))):
            return candidate
    raise UserError(
        f"The firmware directory cannot be found: none of {', '.join(candidates)} holds hvmloader.",
        f"Install {distributions.install_hint('toolstack_programs', xen.distribution, version=release)}, "
        "or name the directory with the parameter firmware_directory.",
    )


def find(xen: Xen, named: Optional[str]) -> Optional[str]:
    """Return the firmware directory, None where it cannot be found.

    :param named: the one that the user names.
    """
    if named is not None:
        return named if os.path.isdir(xen.path(named)) else None
    try:
        return directory(xen)
    except UserError:
        return None
