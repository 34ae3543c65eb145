# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the images that lie in the firmware directory, whoever put them there.

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._images import releases

# The files that images go by, in the firmware directory: the names that libxl, the stub domains' own makefiles and
# xenstored's service look for.
IMAGES: Mapping[str, Sequence[str]] = {
    "linux": ("qemu-stubdom-linux-kernel", "qemu-stubdom-linux-rootfs"),
    **{name: (image.installed,) for name, image in releases.IMAGES.items()},
    "xenstore": ("xenstore-stubdom.gz",),
    "xenstorepvh": ("xenstorepvh-stubdom.gz",),
    "vtpm": ("vtpm-stubdom.gz",),
    "vtpmmgr": ("vtpmmgr-stubdom.gz",),
}


def images(directory: str, sizes: Mapping[str, int], manifests: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """Describe the images of a firmware directory.

    :param sizes: bytes by name of file in it.
    :param manifests: content by name of those files that are manifests.
    """
    files = {name: names for name, names in IMAGES.items() if names[0] in sizes}
    records = {}
    for file, manifest in manifests.items():
        own = [path.rsplit("/", 1)[-1] for path in manifest.get("files", {})]
        # A manifest lies beside its image under the image's name in the directory; images are called as they are built.
        name = next((known for known, names in IMAGES.items() if names[0] in own), file[: -len(".json")])
        files[name], records[name] = own, manifest
    return [
        {
            "name": name,
            "path": f"{directory}/{names[0]}" if names else None,
            "size": sum(sizes.get(file, 0) for file in names),
            "manifest": records.get(name),
        }
        for name, names in sorted(files.items())
    ]
