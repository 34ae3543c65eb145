# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: reads of a host that more than one module needs. It changes nothing.

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common import manifest as _manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.requirement import satisfied
from ansible_collections.xen.stubdom.plugins.module_utils._images import found, helpers, releases
from ansible_collections.xen.stubdom.plugins.module_utils._xen import firmware
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


def firmware_directory(xen: Xen, named: Optional[str]) -> Optional[str]:
    """Where libxl looks for images, None where that cannot be found."""
    if named is not None:
        return named if os.path.isdir(xen.path(named)) else None
    try:
        return firmware.directory(xen)
    except UserError:
        return None


def images(xen: Xen, directory: Optional[str]) -> List[Dict[str, Any]]:
    """The images in the firmware directory, with what is recorded about them."""
    if directory is None:
        return []
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(xen.path(directory)) if entry.is_file()}
    manifests = {}
    for name in sizes:
        content = files.read(xen.path(os.path.join(directory, name))) if name.endswith(".json") else None
        manifest = _manifest.read(content)
        if manifest is not None:
            manifests[name] = manifest
    return found.images(directory, sizes, manifests)


def dom0_helpers(xen: Xen, directory: Optional[str], ours: Optional[str]) -> List[Dict[str, Any]]:
    """The dom0 helper programs of ioemu, as far as they are there."""
    if directory is None and ours is None:
        return [{"name": name, "path": None, "manifest": None} for name in releases.HELPERS]
    version = xen.version() if xen.is_dom0() else xen.toolstack_version()
    programs = []
    for name, need in helpers.needs(directory or str(ours), version, row=xen.distribution, ours=ours).items():
        path = next((path for path in need.paths if satisfied(need, path, xen.path)), None)
        content = None if path is None else files.read(xen.path(f"{path}.json"))
        programs.append({"name": name, "path": path, "manifest": _manifest.read(content)})
    return programs
