#!/usr/bin/python
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: stubdom_install
short_description: Install, roll back or remove the image of a stub domain
version_added: 0.1.0
description:
  - Installs an image that M(xen.stubdom.stubdom_build) built in the directory in which libxl looks for images, with its
    manifest beside it. A guest that starts meanwhile gets the old image or the new one.
  - The image that was there before is kept as C(FILE.previous), for O(state=rollback).
  - PV-GRUB is also installed as C(pv-grub.gz), the name that Xen's documentation uses, unless such a file exists that
    this module has not installed.
  - The dom0 helper programs of V(ioemu), which are V(hvmloader) and V(qemu-dm), get a directory of their own, so that
    the distribution's files stay as they are.
author:
  - The xen.stubdom authors (@xen-stubdom)
extends_documentation_fragment:
  - xen.stubdom.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    support: full
    platforms: linux
options:
  state:
    description:
      - V(present) installs the image.
      - V(rollback) puts the previous image back. Until V(present) installs another one, that has been done, and nothing
        changes any more.
      - V(absent) removes the image that this module has installed. A file that was there before is put back.
    type: str
    choices: [present, rollback, absent]
    default: present
  image:
    description: Name of the image, as in O(xen.stubdom.stubdom_build#module:images). It decides the name of the file.
    type: str
    required: true
  src:
    description:
      - Path of the image on the host.
      - It is not read when the image of O(manifest) is installed already, nor for V(qemu-dm), which is part of the
        collection.
    type: path
  manifest:
    description:
      - The manifest of the image, as M(xen.stubdom.stubdom_build) returned it. It is written beside the image.
      - Required if O(state=present).
    type: dict
  firmware_directory:
    description:
      - The directory in which libxl looks for images.
      - The default is the directory that holds the toolstack's C(hvmloader).
    type: path
  helpers_directory:
    description: The directory of V(hvmloader) and V(qemu-dm). The default is C(helpers) in the firmware directory.
    type: path
seealso:
  - module: xen.stubdom.stubdom_build
"""

EXAMPLES = r"""
- name: Install PV-GRUB
  xen.stubdom.stubdom_install:
    image: pv-grub
    src: /var/lib/xen.stubdom/images/0123456789abcdef/pv-grub-x86_64.gz
    manifest: "{{ lookup('ansible.builtin.file', 'manifest.json') | from_json }}"

- name: Put the previous image back
  xen.stubdom.stubdom_install:
    state: rollback
    image: pv-grub

- name: Remove it
  xen.stubdom.stubdom_install:
    state: absent
    image: pv-grub
"""

RETURN = r"""
path:
  description: Path of the image.
  type: str
  returned: success
  sample: /usr/lib/xen-4.17/boot/pv-grub-x86_64.gz
identity:
  description: Identity of the installed image; null if there is none with a manifest, or it is damaged.
  type: str
  returned: success
  sample: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
missing:
  description: Whether the image of O(manifest) is not installed, so that O(src) is needed.
  type: bool
  returned: when O(state=present)
  sample: false
files:
  description: Files that were written or removed; in check mode, those that would be.
  type: list
  elements: str
  returned: success
  sample: [/usr/lib/xen-4.17/boot/pv-grub-x86_64.gz]
"""

from typing import Any, Dict, List, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._common import files, manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.manifest import Manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._images import helpers, installed, kinds
from ansible_collections.xen.stubdom.plugins.module_utils._images.installed import Contents, Place
from ansible_collections.xen.stubdom.plugins.module_utils._xen import firmware
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


def desired(params: Dict[str, Any]) -> Manifest:
    """:raises UserError: the parameter manifest is none."""
    try:
        return manifest.from_dict(params["manifest"])
    except ValueError as error:
        raise UserError(
            f"manifest is not the manifest of an image: {error}.",
            "Set manifest to what xen.stubdom.stubdom_build returned for the image.",
        ) from error


def _content(image: str, src: Optional[str]) -> Optional[bytes]:
    """Return what is to be installed. dom0 runs qemu-dm as root, so it comes from here and from no other place."""
    if image == "qemu-dm":
        return helpers.qemu_dm().encode()
    return None if src is None else files.read(src)


def difference(params: Dict[str, Any], place: Place, now: Contents, check_mode: bool) -> List[files.Change]:
    """Return what has to change."""
    if params["state"] == "absent":
        return installed.remove(place, now)
    if params["state"] == "rollback":
        return installed.roll_back(place, now)
    record = desired(params)
    if installed.identity(place, now) == record.identity:
        return []
    image = _content(params["image"], params["src"])
    if image is None:
        if check_mode:
            return [files.Change(place.manifest, now[place.manifest], record.render())]
        raise UserError(
            f"There is no image {params['src']} to install as {place.path}.",
            "Build the image, copy it to the host, and set src to its path.",
        )
    return installed.install(place, now, {place.files[0]: image}, record)


def run(module: AnsibleModule) -> Dict[str, Any]:
    params = module.params

    def firmware_directory() -> str:
        return params["firmware_directory"] or firmware.directory(Xen(run_program))

    # Plan
    place = installed.place_of(params["image"], firmware_directory, params["helpers_directory"])
    # Observe
    now = installed.read(place)
    warnings = installed.damaged_manifests(place, now)
    # Difference
    changes = difference(params, place, now, module.check_mode)
    # Apply and verify
    if not module.check_mode:
        installed.apply(place, now, changes)
        if params["image"] in kinds.HELPERS:
            files.remove_if_empty(place.directory)
        now = installed.read(place)
    result: Dict[str, Any] = {
        "changed": bool(changes),
        "path": place.path,
        "identity": installed.identity(place, now),
        "files": [change.path for change in changes],
        "diff": files.difference(changes),
        "warnings": warnings,
    }
    if params["state"] == "present":
        result["missing"] = result["identity"] != params["manifest"]["identity"]
        warnings.extend(installed.foreign_aliases(place, now))
    return result


def main() -> None:
    run_module(
        run,
        writes_files=True,
        argument_spec={
            "state": {"type": "str", "choices": ["present", "rollback", "absent"], "default": "present"},
            "image": {"type": "str", "required": True},
            "src": {"type": "path"},
            "manifest": {"type": "dict"},
            "firmware_directory": {"type": "path"},
            "helpers_directory": {"type": "path"},
        },
        required_if=[("state", "present", ("manifest",))],
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
