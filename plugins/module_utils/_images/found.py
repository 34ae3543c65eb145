# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the images and the dom0 helper programs of a host, whoever put
# them there.

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._common import files, manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.manifest import Manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.requirement import satisfied
from ansible_collections.xen.stubdom.plugins.module_utils._images import kinds
from ansible_collections.xen.stubdom.plugins.module_utils._images.grub2 import image as grub2
from ansible_collections.xen.stubdom.plugins.module_utils._images.helpers import needs
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

# The files that images go by, in the firmware directory: the names that libxl, the stub domains' own makefiles and
# xenstored's service look for.
IMAGES: Mapping[str, Sequence[str]] = {
    kinds.LINUX: (kinds.LINUX_KERNEL, kinds.LINUX_ROOT_FILE_SYSTEM),
    **{os.path.splitext(file)[0]: (file,) for file in map(grub2.file_name, grub2.PLATFORMS)},
    **{name: (image.installed,) for name, image in kinds.IMAGES.items()},
    "xenstore": ("xenstore-stubdom.gz",),
    "xenstorepvh": ("xenstorepvh-stubdom.gz",),
    "vtpm": ("vtpm-stubdom.gz",),
    "vtpmmgr": ("vtpmmgr-stubdom.gz",),
}

_MANIFEST = ".json"


@dataclass(frozen=True)
class Record:
    """What was read as a manifest.

    :param error: how it is damaged, None if it is not.
    """

    manifest: Optional[Manifest] = None
    error: Optional[str] = None

    def as_dict(self) -> Dict[str, Any]:
        return {
            "manifest": None if self.manifest is None else self.manifest.as_dict(),
            "manifest_error": self.error,
        }


def record(content: Optional[bytes]) -> Record:
    """Read a manifest, if there is one."""
    return Record(manifest.parse(content), manifest.damage(content))


def _read(path: str) -> Record:
    try:
        return record(files.read(path, longest=manifest.LARGEST))
    except UserError as error:
        return Record(error=error.what.rstrip("."))


def images(xen: Xen, directory: Optional[str]) -> List[Dict[str, Any]]:
    """The images in the firmware directory, with what is recorded about them."""
    if directory is None:
        return []
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(xen.path(directory)) if entry.is_file()}
    records = {name: _read(xen.path(os.path.join(directory, name))) for name in sizes if name.endswith(_MANIFEST)}
    return describe(directory, sizes, records)


def describe(directory: str, sizes: Mapping[str, int], records: Mapping[str, Record]) -> List[Dict[str, Any]]:
    """Describe the images of a firmware directory.

    :param sizes: bytes by name of file in it.
    :param records: what was read from the files that may be manifests, by name.
    """
    names = {name: list(names) for name, names in IMAGES.items() if names[0] in sizes}
    found = {}
    for file, read in records.items():
        stem = file[: -len(_MANIFEST)]
        # A manifest lies beside its image under the image's name in the directory; images are called as they are built.
        if read.manifest is not None:
            own = [path.rsplit("/", 1)[-1] for path in read.manifest.files]
        else:
            own = [name for name in _files_of(stem) if name in sizes]
            if not own:
                # A file of another program.
                continue
        name = next((known for known, first in IMAGES.items() if first[0] in own), stem)
        names[name], found[name] = own, read
    return [
        {
            "name": name,
            "path": f"{directory}/{own[0]}" if own else None,
            "size": sum(sizes.get(file, 0) for file in own),
            **found.get(name, Record()).as_dict(),
        }
        for name, own in sorted(names.items())
    ]


def helpers(xen: Xen, directory: Optional[str], ours: Optional[str]) -> List[Dict[str, Any]]:
    """The dom0 helper programs of ioemu, as far as they are there.

    :param directory: the firmware directory, None where it was not found.
    :param ours: the directory of our own, None for the default one.
    """
    if directory is None and ours is None:
        return [{"name": name, "path": None, **Record().as_dict()} for name in kinds.HELPERS]
    version = xen.version() if xen.is_dom0() else xen.toolstack_version()
    programs = []
    for name, need in needs(directory or str(ours), version, row=xen.distribution, ours=ours).items():
        path = next((path for path in need.paths if satisfied(need, path, xen.path)), None)
        found = Record() if path is None else _read(xen.path(f"{path}{_MANIFEST}"))
        programs.append({"name": name, "path": path, **found.as_dict()})
    return programs


def damaged(described: Sequence[Mapping[str, Any]]) -> List[str]:
    """Report the damaged manifests of images or helpers, in sentences."""
    return [
        f"The manifest of {one['path']} is damaged: {one['manifest_error']}. Nothing is known of how it was made."
        for one in described
        if one["manifest_error"] is not None
    ]


def _files_of(stem: str) -> Sequence[str]:
    """Return the files that the manifest STEM.json would describe."""
    return IMAGES[stem] if len(IMAGES.get(stem, ())) > 1 else (f"{stem}.gz", stem)
