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
  - A guest is started paused, so that nothing it says is lost, and let go when somebody listens. A guest that an
    interrupted run has left paused is let go by the next run. One that is paused otherwise is left alone, and fails.
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
    description:
      - Text that the guest has to write on its console (PV, PVH) or serial port (HVM) after it was started.
      - Until it was heard, every run with this option listens again.
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

import contextlib
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._guests.domain import (
    Guest,
    load,
    refuse_namesake,
    require_files,
)
from ansible_collections.xen.stubdom.plugins.module_utils._xen.console import visible
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

ENDED = ("absent", "shutdown", "crashed")


def run(module: AnsibleModule) -> Dict[str, Any]:
    params = module.params
    name, wanted, says, timeout = (params[key] for key in ("name", "state", "says", "timeout"))
    if says is not None and (not says.strip() or visible(says) != says):
        raise UserError(
            f"says is {says!r}, which is not a text that a guest can be seen to write.",
            "Set says to what the guest shows when it has started, for example 'login:', or leave it out.",
        )
    xen = Xen(run_program)
    guest = load(
        xen, name, params["config"] or f"/etc/xen/{name}.cfg", needed=wanted == "running" and not module.check_mode
    )

    xen.require_dom0()
    # Two runs that start one guest would let it go before the other one listens.
    alone = contextlib.nullcontext() if module.check_mode else files.lock(f"xen.stubdom-guest-{guest.key}")
    with alone:
        if wanted == "running":
            changed = make_running(xen, guest, params, check_mode=module.check_mode)
        else:
            changed = make_ended(xen, guest, wanted, timeout, check_mode=module.check_mode)
    return {"changed": changed, **guest.facts}


def make_ended(xen: Xen, guest: Guest, wanted: str, timeout: int, *, check_mode: bool) -> bool:
    """Return whether something had to change."""
    domain = guest.observe()
    if domain is not None:
        guest.look_inside(domain)
    changed = guest.facts["state"] != "absent" if wanted == "destroyed" else guest.facts["state"] not in ENDED
    if changed and not check_mode:
        refuse_namesake(xen, guest)
        guest.end(wanted, timeout)
    return changed


def make_running(xen: Xen, guest: Guest, params: Dict[str, Any], *, check_mode: bool) -> bool:
    """Return whether something had to change."""
    says, timeout = params["says"], params["timeout"]
    domain = guest.observe()
    refuse_namesake(xen, guest)
    if domain is not None and guest.facts["state"] in ENDED:
        raise UserError(
            f"The guest {guest.name} has ended ({guest.facts['state']}), and its domain {domain.domid} is kept.",
            "Look at it if you want to know why, then end it with state destroyed.",
        )
    unfinished = guest.interrupted_start()
    if unfinished is None:
        guest.require_no_pause()
    if domain is not None:
        guest.look_inside(domain)
    again = domain is not None and guest.facts["restart_required"] and params["restart"]
    start = domain is None or again
    if start:
        require_files(xen, guest)
    if not check_mode:
        if unfinished is not None and again:
            # It has not run yet, so there is nothing to shut down.
            guest.end("destroyed", timeout)
        elif again:
            guest.end("shutdown", timeout)
        if start:
            guest.start(says, timeout)
        elif unfinished is not None:
            guest.go_on(unfinished, says, timeout)
        elif domain is not None and guest.unproved and says is not None:
            guest.prove(domain, says, timeout)
        guest.require_words(says if start or unfinished is not None or guest.unproved else None)
    return start or unfinished is not None


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
