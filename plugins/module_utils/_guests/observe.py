# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: reads of a host that more than one module needs. It changes nothing.

from __future__ import annotations

import contextlib
import os
import re
from typing import Any, Dict, List, Optional, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common import manifest as _manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.requirement import satisfied
from ansible_collections.xen.stubdom.plugins.module_utils._guests import model
from ansible_collections.xen.stubdom.plugins.module_utils._images import found, helpers, releases
from ansible_collections.xen.stubdom.plugins.module_utils._xen import domains as xen_domains
from ansible_collections.xen.stubdom.plugins.module_utils._xen import firmware, xl_cfg
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Domain, Xen

# A configuration that is longer than this is none.
_LONGEST = 1 << 18
_NAME = re.compile(rb"^[ \t]*name[ \t]*=[ \t]*([\"'])(?P<name>[^\"'\n]+)\1", re.MULTILINE)


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


def guests(xen: Xen, domains: Sequence[Domain]) -> List[Dict[str, Any]]:
    """Every domain but dom0; none where there are no domains."""
    return xen_domains.guests(domains, xen.ls("/")) if domains else []


def guest_host(xen: Xen, named: Optional[str]) -> model.Host:
    """What a guest's parameters are judged by."""
    directory = firmware_directory(xen, named)
    recorded = (image["manifest"] or {} for image in images(xen, directory))
    linux = next((record for record in recorded if record.get("kind") == "linux"), {})
    running = xen.is_dom0()
    return model.Host(
        version=xen.version() if running else xen.toolstack_version(),
        firmware_directory=directory,
        capabilities=frozenset(xen.info().get("xen_caps", "").split()) if running else frozenset(),
        stub_memory_mib=linux.get("memory_mib"),
        stub_command_line=linux.get("command_line"),
        distribution=xen.distribution,
    )


def name_taken(directory: str, name: str, own: str) -> Optional[str]:
    """Return another configuration of that directory that has this guest's name, None for none."""
    with contextlib.suppress(FileNotFoundError):
        for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
            if not entry.is_file() or entry.name.endswith("~") or os.path.realpath(entry.path) == os.path.realpath(own):
                continue
            if entry.stat().st_size <= _LONGEST and guest_name(files.read(entry.path) or b"") == name:
                return entry.path
    return None


def guest_name(content: bytes) -> Optional[str]:
    """The name that a configuration gives, as far as it is one; xm's were programs."""
    try:
        name = xl_cfg.read("", content).get("name")
    except UserError:
        match = _NAME.search(content)
        name = match["name"].decode("latin-1") if match else None
    return name if isinstance(name, str) else None
