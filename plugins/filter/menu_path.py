# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: menu_path
short_description: Name a file on a guest's disk as PV-GRUB does
version_added: 0.1.0
description:
  - PV-GRUB (the flavour V(legacy)) numbers disks from 0 by their device numbers, whatever their order in the
    configuration, and partitions from 0. This filter counts for you, so that a play says C(xvdb) and C(2).
author:
  - The xen.stubdom authors (@xen-stubdom)
positional: path
options:
  _input:
    description:
      - The guest's disks, as the role xen.stubdom.pvgrub_guest takes them, or only their names.
      - A disk without C(vdev) has the name that it is given without one.
    type: list
    elements: raw
    required: true
  path:
    description: Path of the file in its file system, for example V(/boot/grub/menu.lst).
    type: str
    required: true
  disk:
    description: The disk, by its C(vdev). Without it, the first one of the list.
    type: str
  partition:
    description:
      - The partition, counted from 1 as in C(xvda1).
      - Without it, the disk is one file system, or is given to the guest as a partition.
    type: int
"""

EXAMPLES = r"""
- name: Boot by a menu on the second partition of the second disk
  xen.stubdom.guests:
    guests:
      - name: web
        type: pv
        flavour: legacy
        memory: 512
        disks: "{{ disks }}"
        menu: "{{ disks | xen.stubdom.menu_path('/grub/menu.lst', disk='xvdb', partition=2) }}"
        # (hd1,1)/grub/menu.lst
  vars:
    disks:
      - target: /srv/guests/web.img
        vdev: xvda
      - target: /srv/guests/boot.img
        vdev: xvdb
"""

RETURN = r"""
_value:
  description: The path, as the parameter C(menu) takes it.
  type: str
"""

from typing import Any, Callable, Dict, Optional, Sequence

from ansible.errors import AnsibleFilterError
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import disks


def menu_path(
    given: Sequence[Any],
    path: str,
    disk: Optional[str] = None,
    partition: Optional[int] = None,
) -> str:
    """Return the path of a file as PV-GRUB reads it."""
    described = [{"vdev": one} if isinstance(one, str) else one for one in given]
    try:
        return disks.menu_path(described, path, disk=disk, partition=None if partition is None else int(partition))
    except UserError as error:
        raise AnsibleFilterError(f"xen.stubdom.menu_path: {error.what} {error.remedy}") from None


class FilterModule:
    """The filters of this file."""

    def filters(self) -> Dict[str, Callable[..., str]]:
        return {"menu_path": menu_path}
