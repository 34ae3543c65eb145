#!/usr/bin/python

# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_migrate
short_description: Move a guest that runs to another Xen host
version_added: 0.1.0
description:
  - Migrates a guest with C(xl migrate) from the host on which the module runs to another one. The guest goes on
    running all the time but for a moment.
  - Before anything happens the module looks at both hosts. It refuses where the guest would be there twice, where the
    other host runs an older Xen, where a device cannot move, and where it is not known that the disks are the same
    ones.
  - The disks are known to be the same where both hosts have them under the same path, on the same network or cluster
    file system, or as devices with the same unique name, such as a logical volume, a multipath map or a disk with a
    number of its maker's; and where a server knows them by their names, as with RBD.
  - A PV guest is refused where the hypervisor has no shadow paging, as Debian's 4.20.
  - An HVM guest with its device model in a Linux stub domain moves where both hosts have the image that
    M(xen.stubdom.linux_stubdom) makes. On the other host it gets a stub domain of the image there. A stub domain hands
    the devices over once in its life. After a migration that has failed in its end, the guest goes on here, and can be
    migrated or saved again when it was restarted.
  - The other host shows the screen of such a guest when M(xen.stubdom.guests) has the guest in its list there.
  - Root of this host has to be able to log in on the other one by ssh with a key, as C(xl migrate) does.
  - What starts the guest with this host, a link in C(auto), is put aside, so that the guest does not run twice after
    the host has booted. It is put back when the guest comes back. The configuration of the guest stays on this host.
  - This host takes down in C(/var/lib/xen/moved) where the guest went, until it comes back. Of a guest with such a note
    M(xen.stubdom.guests) starts no second one here, and has the host start none with itself.
author:
  - The xen.stubdom authors (@xen-stubdom)
extends_documentation_fragment:
  - xen.stubdom.attributes
attributes:
  check_mode:
    support: full
    details: Both hosts are looked at, and what would be refused is refused.
  diff_mode:
    support: none
  idempotent:
    support: full
  platform:
    support: full
    platforms: linux
options:
  name:
    description: Name of the guest.
    type: str
    required: true
  to:
    description: Name or address of the other host, as this one reaches it; V(USER@HOST) is possible.
    type: str
    required: true
  ssh_arguments:
    description:
      - Arguments of ssh for the connection to the other host. Those that make it ask for nothing and end when the host
        does not answer any more are there already.
    type: list
    elements: str
    default: []
  shared:
    description:
      - Whether the disks are known to be the same on both hosts, so that the module does not look.
      - A guest that is moved to other disks destroys what is on them.
    type: bool
    default: false
  directory:
    description: Directory with the configurations of guests, on both hosts.
    type: path
    default: /etc/xen
seealso:
  - module: xen.stubdom.guests
  - module: xen.stubdom.xen_info
"""

EXAMPLES = r"""
- name: Empty a host before it is serviced
  xen.stubdom.guest_migrate:
    name: web
    to: xen2.example.org

- name: Use another port, and a disk that DRBD has on both hosts
  xen.stubdom.guest_migrate:
    name: files
    to: 192.0.2.12
    ssh_arguments: [-p, "2222", -i, /root/.ssh/migration]
    shared: true
"""

RETURN = r"""
name:
  description: Name of the guest.
  type: str
  returned: success
  sample: web
to:
  description: The host on which the guest runs now, or would run.
  type: str
  returned: success
  sample: xen2.example.org
seconds:
  description: How long C(xl migrate) took; null where nothing was migrated.
  type: float
  returned: success
  sample: 21.4
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._guests import migration
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


def run(module: AnsibleModule) -> Dict[str, Any]:
    name, to, directory = (module.params[key] for key in ("name", "to", "directory"))
    # Plan.
    migration.check_host(to)
    other = migration.Other(to, module.params["ssh_arguments"])
    here = Xen(run_program)
    there = Xen(other.runner(run_program))
    result: Dict[str, Any] = {"name": name, "to": to, "seconds": None}

    # Observe.
    here.require_dom0()
    found = migration.observe(name, here, there)

    # Difference.
    shared = module.params["shared"]
    domain = None if found.moved else migration.check(name, found, here, there, other, shared=shared)

    # Apply, prove.
    if domain is not None and not module.check_mode:
        result["seconds"] = migration.migrate(domain, here, there, other, directory)
    # Also after a run that was killed before it did so.
    back = migration.start_there(name, there, other, directory, check_mode=module.check_mode)
    return {**result, "changed": domain is not None or back}


def main() -> None:
    run_module(
        run,
        writes_files=True,
        argument_spec={
            "name": {"type": "str", "required": True},
            "to": {"type": "str", "required": True},
            "ssh_arguments": {"type": "list", "elements": "str", "default": []},
            "shared": {"type": "bool", "default": False},
            "directory": {"type": "path", "default": "/etc/xen"},
        },
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
