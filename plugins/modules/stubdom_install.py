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
  - Puts an image that M(xen.stubdom.stubdom_build) built where libxl looks for images, with its manifest beside it. All
    of it changes at once; a guest that starts meanwhile gets the old image or the new one.
  - The image that was there before is kept as C(FILE.previous), for O(state=rollback).
  - PV-GRUB is also installed as C(pv-grub.gz), the name that Xen's documentation uses, unless somebody else has put
    such a file there.
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
    support: partial
    details: A second O(state=rollback) has nothing to go back to, and fails.
  platform:
    support: full
    platforms: linux
options:
  state:
    description:
      - V(present) installs, V(rollback) puts the previous image back, V(absent) removes what this module installed and
        only that.
    type: str
    choices: [present, rollback, absent]
    default: present
  image:
    description: Name of the image, as M(xen.stubdom.stubdom_build) takes it; it gives the name of the file.
    type: str
    required: true
  src:
    description:
      - Path of the image on the host. Where the image with the identity of O(manifest) is installed already, nothing
        has to be there.
    type: path
  manifest:
    description: What is written beside the image, as M(xen.stubdom.stubdom_build) returned it.
    type: dict
  firmware_directory:
    description: Where libxl looks for images. Without it, the known directory that holds C(hvmloader).
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

- name: Go back to the one before
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
  description: Identity of the image that is there, null if there is none of ours or it is damaged.
  type: str
  returned: success
  sample: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
lacks:
  description: Whether the image of O(manifest) is not there yet, so that O(src) is needed.
  type: bool
  returned: when O(state=present)
  sample: false
files:
  description: Files that were changed.
  type: list
  elements: str
  returned: success
  sample: [/usr/lib/xen-4.17/boot/pv-grub-x86_64.gz]
"""

from typing import Any, Callable, Dict, List

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._common import files, manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import runner
from ansible_collections.xen.stubdom.plugins.module_utils._images import build_plan, helpers, installed, releases
from ansible_collections.xen.stubdom.plugins.module_utils._xen import firmware
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


def place_of(params: Dict[str, Any], firmware_directory: Callable[[], str]) -> installed.Place:
    """Return where an image is installed.

    :raises UserError: there is no such image, or no such place.
    """
    name = params["image"]
    releases.refuse_unknown(name)
    image = build_plan.image_of(name)
    directory = params["helpers_directory"] if name in releases.HELPERS else None
    if directory is None:
        directory = params["firmware_directory"] or firmware_directory()
        if name in releases.HELPERS:
            directory = helpers.directory(directory)
    return installed.Place(directory, image.installed, image.mode)


def plan(params: Dict[str, Any], place: installed.Place, now: installed.Contents, check: bool) -> List[files.Change]:
    """Return what has to change."""
    if params["state"] == "absent":
        return installed.remove(place, now)
    if params["state"] == "rollback":
        return installed.roll_back(place, now)
    if installed.identity(place, now) == params["manifest"].get("identity"):
        return []
    image = files.read(params["src"]) if params["src"] is not None else None
    if image is None:
        if check:
            return [files.Change(place.manifest, now[place.manifest], manifest.render(params["manifest"]))]
        raise UserError(
            f"There is no image {params['src']} to install as {place.path}.", "Build it and carry it there."
        )
    return installed.install(place, now, image, params["manifest"])


def run(module: AnsibleModule) -> Dict[str, Any]:
    params = module.params
    place = place_of(params, lambda: firmware.directory(Xen(runner(module))))
    now = {path: files.read(path) for path in place.all}
    changes = plan(params, place, now, module.check_mode)
    if changes and not module.check_mode:
        files.apply(changes)
        if params["image"] in releases.HELPERS:
            files.remove_if_empty(place.directory)
        now = {path: files.read(path) for path in place.all}
    result: Dict[str, Any] = {
        "changed": bool(changes),
        "path": place.path,
        "identity": installed.identity(place, now),
        "files": [change.path for change in changes],
        "diff": files.difference(changes),
    }
    if params["state"] == "present":
        result["lacks"] = result["identity"] != params["manifest"].get("identity")
        for alias in installed.foreign_aliases(place, now):
            module.warn(f"{alias} was put there by somebody else and stays as it is.")
    return result


def main() -> None:
    run_module(
        run,
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
