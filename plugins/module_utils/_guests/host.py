# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what of a host its guests depend on, read once for all of them.

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot import memory
from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions, files, manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.requirement import Requirement, satisfied, satisfy
from ansible_collections.xen.stubdom.plugins.module_utils._guests import boot_loaders, model
from ansible_collections.xen.stubdom.plugins.module_utils._images.grub2 import image as grub2
from ansible_collections.xen.stubdom.plugins.module_utils._xen import firmware
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Domain, Xen

# The records of the device models' images, beside them in the firmware directory: their names, and kinds of image.
_LINUX = ("linux", "linux")
_MINIOS = ("ioemu-stubdom", "ioemu")

# Debian's /etc/init.d/xendomains and tools/hotplug/Linux/xendomains.in @ stable-4.20: a guest is saved in that
# directory, and shut down where it is empty or the guest could not be saved.
_SAVE = re.compile(r"^[ \t]*XENDOMAINS_SAVE=[ \t]*(?P<value>\"[^\"]*\"|'[^']*'|[^\s#;]*)", re.MULTILINE)
_LONGEST = 1 << 16


@dataclass
class Observed:
    """A host.

    :param running: whether it runs Xen, with us in control.
    :param rows: every domain; none where Xen does not run.
    :param memory: as xen_info returns it.
    :param saving: the settings by which the host's own service saves guests at its shutdown; None where it does not.
    """

    xen: Xen
    running: bool
    host: model.Host
    rows: List[Domain]
    memory: Mapping[str, Any]
    saving: Optional[str] = None
    _found: Dict[Requirement, Any] = field(default_factory=dict)

    def satisfy(self, need: Requirement) -> str:
        """Return the path that is as it has to be; asked once for each file, whatever the number of guests.

        :raises UserError: there is none.
        """
        if need not in self._found:
            try:
                self._found[need] = satisfy(need, self.xen.path)
            except UserError as error:
                self._found[need] = error
        found = self._found[need]
        if isinstance(found, UserError):
            raise found
        return str(found)

    def check_needs(self, planned: model.Plan, *, start: bool) -> List[Tuple[Requirement, UserError]]:
        """Choose among files that can stand for each other, and return what is missing, and why that matters.

        :param start: whether the guest is to be started, which needs more than a configuration does.
        """
        missing = []
        for need in planned.needs:
            if need.key is not None and len(need.paths) > 1 and not start:
                there = [path for path in need.paths if satisfied(need, path, self.xen.path)]
                planned.keys[need.key] = (there or list(need.paths))[0]
            if start or not need.to_start:
                try:
                    path = self.satisfy(need)
                except UserError as error:
                    missing.append((need, error))
                    continue
                if need.key is not None:
                    planned.keys[need.key] = path
        return missing


def observe(xen: Xen, named: Optional[str]) -> Observed:
    """Read the host once.

    :param named: the firmware directory that the user names.
    """
    directory = firmware.find(xen, named)
    (record, damage), (ioemu, _unused) = (_record(xen, directory, *image) for image in (_LINUX, _MINIOS))
    ours = frozenset(name for name in grub2.PLATFORMS if directory and _is_file(xen, grub2.path(directory, name)))
    running = xen.is_dom0()
    rows = xen.domains() if running else []
    host = model.Host(
        version=xen.version() if running else xen.toolstack_version(),
        firmware_directory=directory,
        capabilities=frozenset(xen.info().get("xen_caps", "").split()) if running else frozenset(),
        virtualisation=frozenset(xen.info().get("virt_caps", "").split()) if running else frozenset(),
        grub2=ours,
        grub2_types=_grub2_types(xen, ours),
        stub_memory_mib=None if record is None else record.memory_mib,
        stub_command_line=None if record is None else record.command_line,
        stub_keymaps=None if record is None else frozenset(map(str, record.more.get("keymaps") or ())),
        stub_damage=damage,
        stub_pci=None if record is None else record.more.get("pci") is True,
        ioemu_release=None if ioemu is None else ioemu.xen,
        distribution=xen.distribution,
    )
    return Observed(xen, running, host, rows, memory.observe(xen, rows), _saving(xen))


def _saving(xen: Xen) -> Optional[str]:
    """The settings by which the service xendomains saves guests at a shutdown; None where it does not."""
    path = xen.distribution.xendomains
    values = [match["value"].strip("\"'") for match in _SAVE.finditer(xen.text(path, _LONGEST) or "")]
    return path if values and values[-1] else None


def _grub2_types(xen: Xen, ours: FrozenSet[str]) -> FrozenSet[str]:
    """The types of guests for which there is any GRUB 2."""
    found = {grub2.PLATFORMS[platform].guest for platform in ours}
    for kind in boot_loaders.GRUB2_TYPES:
        if any(_is_file(xen, path) for path in distributions.paths(f"grub_{kind}", xen.distribution)):
            found.add(kind)
    return frozenset(found)


def _is_file(xen: Xen, path: str) -> bool:
    return os.path.isfile(xen.path(path))


def _record(
    xen: Xen, directory: Optional[str], name: str, kind: str
) -> Tuple[Optional[manifest.Manifest], Optional[str]]:
    """The record of an image, None where there is none of that kind; and why there is none that can be read."""
    if directory is None:
        return None, None
    path = manifest.path(xen.path(directory), name)
    try:
        content = files.read(path, longest=manifest.LARGEST)
    except UserError as error:
        return None, error.what
    damage = manifest.damage(content)
    found = manifest.parse(content)
    return (
        found if found is not None and found.kind == kind else None,
        None if damage is None else f"{path}, the record of an image, is damaged: {damage}.",
    )
