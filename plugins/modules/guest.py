#!/usr/bin/python

# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: guest
short_description: Start and end a Xen guest, and verify that it runs
version_added: 0.1.0
description:
  - Starts a guest from its configuration, asks xenstore where its device model runs, and waits for the guest's own
    words on its console or serial port.
  - A guest is started paused, so that nothing it says is lost, and let go when somebody listens.
  - Nothing is ended or started again unless O(state) or O(restart) says so. A running guest whose configuration has
    changed since is reported as RV(restart_required).
author:
  - The xen.stubdom authors (@xen-stubdom)
extends_documentation_fragment:
  - xen.stubdom.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: It changes no files.
  idempotent:
    support: partial
    details: A guest that ends by itself is started again.
  platform:
    support: full
    platforms: linux
options:
  name:
    description: Name of the guest.
    type: str
    required: true
  state:
    description:
      - V(running) starts the guest if it is not there.
      - V(shutdown) asks it to shut down and waits until it has gone.
      - V(destroyed) ends it at once.
    type: str
    choices: [running, shutdown, destroyed]
    default: running
  config:
    description: The guest's configuration. Without it, C(/etc/xen/NAME.cfg).
    type: path
  says:
    description: Text that the guest has to write on its console (PV, PVH) or serial port (HVM) after it was started.
    type: str
  timeout:
    description: Seconds to wait for O(says), or for the end of the guest.
    type: int
    default: 120
  restart:
    description: Whether a running guest whose configuration has changed is shut down and started again.
    type: bool
    default: false
seealso:
  - module: xen.stubdom.guest_config
  - module: xen.stubdom.xen_info
"""

EXAMPLES = r"""
- name: Start a guest and wait until it can be logged in to
  xen.stubdom.guest:
    name: web
    says: "web login:"
    timeout: 300

- name: Shut it down
  xen.stubdom.guest:
    name: web
    state: shutdown

- name: End it at once
  xen.stubdom.guest:
    name: web
    state: destroyed
"""

RETURN = r"""
state:
  description: The guest's state in the words of xl, or V(absent) where there is no such domain.
  type: str
  returned: always
  sample: blocked
domid:
  description: Number of the domain; null where there is none.
  type: int
  returned: always
  sample: 3
device_model:
  description:
    - Where the guest's device model runs, as M(xen.stubdom.xen_info) returns it; read before the guest ran.
    - It is null for a guest without one, and where there is no domain.
  type: dict
  returned: always
  sample: {version: qemu-xen, domid: 4, state: running, stub_domain: true}
said:
  description: Whether the guest wrote O(says); null where it was not started just now or nothing was asked for.
  type: bool
  returned: always
  sample: true
console:
  description: The last of what the guest wrote on its console or serial port since it was started.
  type: str
  returned: always
  sample: "web login:"
hypervisor_log:
  description:
    - What the hypervisor has logged since the start, lines about this guest's death among them.
    - Those are left out that it writes at every start.
  type: list
  elements: str
  returned: always
  sample: []
restart_required:
  description: Whether the guest runs with an older configuration.
  type: bool
  returned: always
  sample: false
seconds:
  description: How long C(xl create) took; null where nothing was started.
  type: float
  returned: always
  sample: 9.8
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._guests.domain import load, refuse_namesake, require_files
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


def run(module: AnsibleModule) -> Dict[str, Any]:
    params = module.params
    name, wanted, says, timeout = (params[key] for key in ("name", "state", "says", "timeout"))
    xen = Xen(run_program)
    guest = load(
        xen, name, params["config"] or f"/etc/xen/{name}.cfg", needed=wanted == "running" and not module.check_mode
    )

    xen.require_dom0()
    domain = guest.observe()
    if domain is not None:
        guest.look_inside(domain)
    ended = guest.facts["state"] in ("absent", "shutdown", "crashed")

    if wanted != "running":
        changed = guest.facts["state"] != "absent" if wanted == "destroyed" else not ended
        if changed and not module.check_mode:
            refuse_namesake(xen, guest)
            guest.end(wanted, timeout)
        return {"changed": changed, **guest.facts}

    refuse_namesake(xen, guest)
    if domain is not None and ended:
        raise UserError(
            f"The guest {name} has ended ({guest.facts['state']}), and its domain {domain.domid} is kept.",
            "Look at it if you want to know why, then end it with state destroyed.",
        )
    again = domain is not None and guest.facts["restart_required"] and params["restart"]
    changed = domain is None or again
    if changed:
        require_files(xen, guest)
    if changed and not module.check_mode:
        if again:
            guest.end("shutdown", timeout)
        guest.start(says, timeout)
        guest.require_words(says)
    return {"changed": changed, **guest.facts}


def main() -> None:
    run_module(
        run,
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["running", "shutdown", "destroyed"], "default": "running"},
            "config": {"type": "path"},
            "says": {"type": "str"},
            "timeout": {"type": "int", "default": 120},
            "restart": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
