#!/usr/bin/python

# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: guests
short_description: Configure, start and stop the guests of a Xen host
version_added: 0.1.0
description:
  - Writes the configurations of all guests of a host from typed parameters, and starts and stops the guests, in one
    execution for the whole list.
  - All guests are planned before anything is written. What this release of Xen cannot do, or would ignore, is refused
    for all guests at once, each with what to do, and nothing is changed.
  - On a host that runs Xen, C(xl create --dryrun) reads what is to be written before it is. What xl refuses is refused,
    and what it says to ignore is a warning.
  - The files are changed in one transaction. Guests are then stopped and started in their order; their consoles are
    listened to at the same time. A guest that fails is named, and the others are not affected.
  - A guest is started paused, so that nothing it writes is lost, and let go when its console is open. A guest that an
    interrupted run has left paused is let go by the next run, or created again where it may be half of a domain. A stub
    domain that such a run has left without its guest is ended.
  - A guest's UUID is made of its name, so that its domain is not mistaken for another one with that name.
author:
  - The xen.stubdom authors (@xen-stubdom)
extends_documentation_fragment:
  - xen.stubdom.attributes
  - xen.stubdom.guest
attributes:
  check_mode:
    support: full
    details: What an earlier task would make, such as an image, is a warning.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: A guest that ends by itself is started again; V(restarted) and V(rebooted) do so each time.
  platform:
    support: full
    platforms: linux
seealso:
  - module: xen.stubdom.xen_info
"""

EXAMPLES = r"""
- name: Run a PV guest that boots with GRUB 2 from its own disk, and an HVM guest whose QEMU runs in a stub domain
  xen.stubdom.guests:
    defaults:
      state: running
      autostart: true
    guests:
      - name: web
        type: pv
        memory: 512
        disks:
          - target: /srv/guests/web.img
        nics:
          - bridge: xenbr0
        says: "web login:"
        timeout: 300
      - name: files
        type: hvm
        memory: 1024
        disks:
          - target: /srv/guests/files.img
        start_after: [web]

- name: Shut a guest down whose configuration another program has written
  xen.stubdom.guests:
    guests:
      - name: old
        state: stopped
"""

RETURN = r"""
guests:
  description: The guests, in the order of the list.
  type: list
  elements: dict
  returned: when no guest was refused
  contains:
    name: {description: Name., type: str, sample: web}
    path: {description: The configuration., type: str, sample: /etc/xen/web.cfg}
    changed: {description: Whether anything was changed for this guest., type: bool}
    actions:
      description: What was done, in order.
      type: list
      elements: str
      choices:
        - written
        - removed
        - linked
        - unlinked
        - opened
        - closed
        - stopped
        - started
        - restarted
        - restored
        - paused
        - unpaused
        - rebooted
        - saved
        - discarded
        - changed
      sample: [written, started]
    settings:
      description: The keys of the configuration, passwords masked; empty where there is none.
      type: dict
      sample: {name: web, type: pv, memory: 512}
    dropped:
      description:
        - What the guest loses as O(replace) takes its configuration over, by parameter; keys that no parameter has, as
          they are. Passwords are masked.
      type: dict
      sample: {vcpus: 4, options.bootloader: pygrub}
    grub_names:
      description: What legacy PV-GRUB calls each disk.
      type: dict
      sample: {xvda: (hd0)}
    type_reason:
      description: Why the guest has its type, where O(guests[].type) was left out for a guest with GRUB 2; else empty.
      type: str
      sample: The hypervisor runs PVH guests, which unpack their kernels themselves.
    autostart: {description: Whether the guest is started with the host., type: bool}
    needed_mib:
      description: Memory that the host has to have free to start the guest, in MiB, its stub domain included.
      type: int
    state:
      description:
        - The guest's state in the words of xl, or V(absent) where there is no such domain.
        - In check mode, the state that the guest would be in.
      type: str
      sample: blocked
    domid: {description: Number of the domain; null where there is none., type: int}
    device_model:
      description:
        - Where the guest's device model runs, as M(xen.stubdom.xen_info) returns it; null for a guest without one.
      type: dict
      sample: {version: qemu-xen, domid: 4, state: running, stub_domain: true}
    said:
      description: Whether the guest wrote its text, or what it was waited for came; null where it was not waited for.
      type: bool
    address:
      description: The address of the guest, where it was waited for; null else.
      type: str
      sample: 192.0.2.7
    console:
      description: The last of what the guest wrote on its console or serial port while it was listened to.
      type: str
      sample: "web login:"
    hypervisor_log:
      description:
        - What the hypervisor has logged since the start, but for lines about other domains and those of every start.
      type: list
      elements: str
      sample: []
    toolstack_log:
      description: What xl has said of a start that failed.
      type: list
      elements: str
      sample: []
    restart_required:
      description:
        - The keys in which the configuration differs from the one that the guest runs with; V(unknown) where it is
          known only that it differs.
        - A guest that reboots by itself runs on with what it was started with, as C(xl) does not read its file then.
      type: list
      elements: str
      sample: [memory]
    changed_live:
      description: The keys that were changed while the guest ran, in check mode those that would be.
      type: list
      elements: str
      sample: [vcpus]
    seconds:
      description: How long C(xl create) took; null where nothing was started.
      type: float
    failed: {description: Whether this guest is not as asked for., type: bool}
    msg: {description: Why it is not; empty where it is., type: str, sample: ""}
acted:
  description: Names of the guests that were started, stopped or otherwise changed as domains.
  type: list
  elements: str
  returned: when no guest was refused
  sample: [web]
restart_required:
  description: Names of the guests that run with an older configuration.
  type: list
  elements: str
  returned: when no guest was refused
  sample: []
memory:
  description: Memory of the host before guests were started, in MiB; null where Xen does not run.
  type: dict
  returned: when no guest was refused
  contains:
    free_mib: {description: Memory that no domain had., type: int}
    needed_mib: {description: What the guests that were to be started needed together., type: int}
saved_at_shutdown:
  description:
    - The settings of C(xendomains) by which the host would try to save guests with a stub domain when it goes down,
      which fails; null where it does not, or there are none.
  type: str
  returned: when no guest was refused
  sample: /etc/default/xendomains
backup_files:
  description: Path of the copy by path of the file.
  type: dict
  returned: with O(backup=true), or when a file was replaced that another program or administrator has written
  sample: {/etc/xen/web.cfg: "/etc/xen/web.cfg.123.2026-01-31@12:00:00~"}
"""

import contextlib
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._common import files, masking
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import Several
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._guests import (
    acting,
    host,
    items,
    lives,
    spec,
    wanted,
)
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


def run(module: AnsibleModule) -> Dict[str, Any]:
    params, check_mode = module.params, module.check_mode
    xen = Xen(run_program)
    options = items.Options(params["replace"], params["backup"], check_mode)
    asked = wanted.read(params)

    backups: Dict[str, str] = {}
    with contextlib.nullcontext() if check_mode else files.lock():
        observed = host.observe(xen, params["firmware_directory"])
        listed = items.plan_all(observed, asked, options, module.no_log_values.update)
        items.refuse(listed)
        memory = items.memory(listed, observed)
        saving = items.saved_at_shutdown(listed, observed)
        if not check_mode:
            backups = items.write(listed, options, later=False)
    stop = params["on_failure"] == "stop"
    if check_mode:
        acting.foresee(listed, stop_on_failure=stop)
    else:
        if observed.running and any(change.needed for change in items.changes(listed)):
            # What was written may be what a guest has to be started again for.
            items.look_again(xen, listed)
        acting.act(xen, listed, stop_on_failure=stop)
        backups.update(items.write(listed, options, later=True))

    for item in listed:
        if item.screen is not None:
            item.failure = item.failure or item.screen.failure
    guests = [describe(item, check_mode=check_mode) for item in listed]
    result: Dict[str, Any] = {
        "changed": any(guest["changed"] for guest in guests),
        "guests": guests,
        "acted": [item.name for item in listed if set(item.done) - lives.QUIET],
        "restart_required": [guest["name"] for guest in guests if guest["restart_required"]],
        "memory": memory,
        "saved_at_shutdown": saving,
        "diff": files.difference(items.changes(listed)),
    }
    if params["backup"] or backups:
        result["backup_files"] = backups
    failed = {item.name: item.failure for item in listed if item.failure is not None}
    if failed:
        others = "; the others are as asked for." if len(listed) > 1 else "."
        count = f"{len(failed)} of {len(listed)} guest{'s' if len(listed) > 1 else ''}"
        raise Several(f"{count} failed{others}", failed, result)
    result["warnings"] = [warning for item in listed for warning in item.warnings]
    return result


def describe(item: items.Item, *, check_mode: bool) -> Dict[str, Any]:
    """What is returned about a guest, in check mode that which would be."""
    steps = item.steps if check_mode else item.done
    names = (lives.actions(steps), item.written_names())
    actions = [name for part in (names if item.deferred else reversed(names)) for name in part]
    facts = dict(item.guest.facts)
    if check_mode:
        facts["changed_live"] = [*item.guest.changes] if "change" in steps else []
        left = set(facts["restart_required"]) - set(facts["changed_live"])
        facts["restart_required"] = [] if {"start", *lives.ENDING} & set(steps) else sorted(left)
    return {
        "name": item.name,
        "path": item.wanted.path,
        "changed": bool(actions),
        "actions": actions,
        "settings": masking.masked(item.settings),
        "dropped": masking.masked(item.dropped),
        "grub_names": item.grub_names,
        "type_reason": item.type_reason,
        "autostart": item.autostart,
        "needed_mib": item.needed_mib,
        **facts,
        "state": lives.predicted(item.guest, item.wanted, steps) if check_mode else facts["state"],
        "failed": item.failure is not None,
        "msg": "" if item.failure is None else str(item.failure),
    }


ARGUMENTS: Dict[str, Any] = {
    "guests": {"type": "list", "elements": "dict", "default": [], "options": spec.argument_spec()},
    "defaults": {"type": "dict", "default": {}},
    "directory": {"type": "path", "default": "/etc/xen"},
    "firmware_directory": {"type": "path"},
    "replace": {"type": "bool", "default": False},
    "backup": {"type": "bool", "default": False},
    "on_failure": {"type": "str", "choices": ["continue", "stop"], "default": "continue"},
}


def main() -> None:
    run_module(run, argument_spec=ARGUMENTS, supports_check_mode=True)


if __name__ == "__main__":
    main()
