#!/usr/bin/python

# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_screenshot
short_description: Take a picture of what a guest shows on its screen
version_added: 0.1.0
description:
  - Reads what a guest with a Linux stub domain shows now, and writes it as a PNG file, for root alone.
  - The guest needs C(screen=true) in M(xen.stubdom.guests). While another viewer is connected there is no picture.
  - What the guest sends is limited in size and time, and nothing of it is taken for anything but a picture.
author:
  - The xen.stubdom authors (@xen-stubdom)
extends_documentation_fragment:
  - xen.stubdom.attributes
attributes:
  check_mode:
    support: full
    details: The picture is taken, and not written. A screen that an earlier task would make is a warning.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: A picture that is the same as the one in the file changes nothing.
  platform:
    support: full
    platforms: linux
options:
  name:
    description: Name of the guest.
    type: str
    required: true
  dest:
    description: The PNG file on the host.
    type: path
    required: true
  timeout:
    description: How long the picture may take, in seconds.
    type: int
    default: 30
seealso:
  - module: xen.stubdom.guests
"""

EXAMPLES = r"""
- name: See how far the installation in a guest is
  xen.stubdom.guest_screenshot:
    name: files
    dest: /var/tmp/files.png
  register: picture

- name: Copy the picture to the control machine
  ansible.builtin.fetch:
    src: "{{ picture.dest }}"
    dest: pictures/
    flat: true
"""

RETURN = r"""
dest:
  description: The file.
  type: str
  returned: success
  sample: /var/tmp/files.png
width:
  description: Width of the picture in pixels; null where none was taken in check mode.
  type: int
  returned: success
  sample: 720
height:
  description: Height of the picture in pixels; null where none was taken in check mode.
  type: int
  returned: success
  sample: 400
blank:
  description: Whether all pixels have the same colour; null where no picture was taken in check mode.
  type: bool
  returned: success
  sample: false
"""

import os
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError, needs_root
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._guests import picture
from ansible_collections.xen.stubdom.plugins.module_utils._guests.virtualisation import LONGEST_NAME, SOCKET

ROOT = "/"


def socket_of(name: str) -> str:
    """Where the guest's screen is.

    :raises UserError: no guest of this name can have one.
    """
    if "/" in name or not 0 < len(name) <= LONGEST_NAME:
        raise UserError(
            f"name is {name!r}, and no guest of that name has a screen.",
            f"Set name to that of a guest, of up to {LONGEST_NAME} characters.",
        )
    return os.path.join(ROOT, SOCKET.format(name=name).lstrip("/"))


def take(name: str, path: str, timeout: int) -> picture.Picture:
    """:raises UserError: there is no picture."""
    try:
        return picture.take(path, timeout)
    except picture.Unreadable as error:
        raise UserError(
            f"There is no picture of the guest {name}: {error}.",
            "Check that the guest runs, that it was started with screen, and that no other viewer is connected.",
        ) from error
    except OSError as error:
        raise UserError(
            f"The screen of the guest {name} cannot be connected to: {path}: {error.strerror}.",
            needs_root(error) or "Start the guest with a screen, by the module xen.stubdom.guests.",
        ) from error


def run(module: AnsibleModule) -> Dict[str, Any]:
    name, dest = module.params["name"], module.params["dest"]

    # Plan.
    path = socket_of(name)

    # Observe.
    before = files.read(dest, longest=4 * picture.MOST_PIXELS)
    result: Dict[str, Any] = {"changed": True, "dest": dest, "width": None, "height": None, "blank": None}
    try:
        found = take(name, path, module.params["timeout"])
    except UserError as error:
        if not module.check_mode:
            raise
        return {**result, "warnings": [f"{error.what} {error.remedy}"]}

    # Difference, apply.
    changes = [files.Change(dest, before, found.png(), mode=0o600)]
    if not module.check_mode:
        files.apply(changes)
    return {
        "changed": changes[0].needed,
        "dest": dest,
        "width": found.width,
        "height": found.height,
        "blank": found.blank,
        "diff": files.difference(changes),
    }


def main() -> None:
    run_module(
        run,
        writes_files=True,
        argument_spec={
            "name": {"type": "str", "required": True},
            "dest": {"type": "path", "required": True},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
