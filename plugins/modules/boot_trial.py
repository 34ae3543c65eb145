#!/usr/bin/python

# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: boot_trial
short_description: Boot once with other options on the Xen command line
version_added: 0.1.0
description:
  - With O(state=armed), the next boot, and only that one, starts an entry that is added to GRUB's menu. It is a copy of
    the default entry, with the options in O(options). The default entry is not changed. This module never reboots.
  - However the trial boot ends, by a panic of the hypervisor or of dom0's kernel, by a hang or by a reset, the boot
    after it starts the default entry. RV(covered) and RV(not_covered) list the failures for which that is so.
  - A running trial has to be confirmed within O(timeout) seconds with O(state=absent), otherwise the host restarts into
    its default entry. That includes a host that is up and cannot be reached.
  - O(state=absent) returns the state of the trial in RV(trial_state) and removes everything that belongs to it. The
    hypervisor keeps running with the options of the trial; set them permanently with M(xen.stubdom.dom0_mem) or
    M(xen.stubdom.boot_option).
  - The trial entry has options that were not asked for. The hypervisor gets C(watchdog) and loses C(noreboot), dom0's
    kernel gets C(panic) and C(xen_stubdom_trial). The running host keeps them until its next boot.
  - Requires a GRUB 2 that can write to its environment block, which it cannot on LVM, RAID, encrypted disks, Btrfs or
    ZFS. A host on which it cannot is refused. Should GRUB fail to write on another one, the trial entry boots with the
    options of the default entry.
author:
  - The xen.stubdom authors (@xen-stubdom)
extends_documentation_fragment:
  - xen.stubdom.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: partial
    details: The variables of GRUB's environment block are not shown.
  idempotent:
    support: full
  platform:
    support: full
    platforms: linux
options:
  state:
    description: Whether a trial should be armed for the next boot, or everything of an earlier trial be removed.
    type: str
    choices: [armed, absent]
    default: armed
  options:
    description:
      - Values by name of Xen command line option. V(true) sets an option without a value, V(null) removes it.
      - Required with O(state=armed).
    type: dict
  timeout:
    description: Seconds from the start of dom0's init in which the trial has to be confirmed; at least 60.
    type: int
    default: 300
seealso:
  - module: xen.stubdom.dom0_mem
"""

EXAMPLES = r"""
- name: Boot once with a smaller dom0
  xen.stubdom.boot_trial:
    options:
      dom0_mem: 768M,max:768M

- name: Confirm the trial if it is running, and remove what is left of it
  xen.stubdom.boot_trial:
    state: absent
"""

RETURN = r"""
trial_state:
  description:
    - State of the trial that was armed earlier.
    - V(none) without one, V(waiting) for the next boot, V(running), V(failed) where the trial boot ended before it was
      confirmed, or V(skipped) where GRUB did not start it.
  type: str
  returned: success
  sample: running
trial_summary:
  description: The same as a sentence.
  type: str
  returned: success
  sample: The host came up with dom0_mem=768M,max:768M.
armed:
  description: Whether the next boot is a trial.
  type: bool
  returned: success
  sample: false
old_options:
  description: Xen command line options of the default entry when the trial was armed; null without a trial.
  type: str
  returned: success
  sample: loglvl=all
new_options:
  description: Xen command line options of the trial entry; null without a trial.
  type: str
  returned: success
  sample: loglvl=all dom0_mem=768M,max:768M watchdog=true
covered:
  description: Failures of the trial boot after which the host returns to its default entry by itself.
  type: list
  elements: str
  returned: when O(state=armed)
  sample: [the host is reset or loses power]
not_covered:
  description: Failures of the trial boot after which the host has to be restarted by hand.
  type: list
  elements: str
  returned: when O(state=armed)
  sample: [the firmware or GRUB hangs]
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._boot import trial, trial_watchdog
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import Tree
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program


def run(module: AnsibleModule, *, root: str = "/") -> Dict[str, Any]:
    tree = Tree(root, foreign=False)

    # Plan.
    record = None
    if module.params["state"] == "armed":
        grub = trial.require_grub(run_program, tree)
        options = trial.desired_options(module.params["options"])
        record = trial.plan(grub, options, module.params["timeout"])

    # Observe.
    observed = trial.observe(run_program, tree)
    earlier = observed.record
    if record is not None and earlier is not None and observed.state == trial.WAITING and record.same_trial(earlier):
        record = earlier

    # Difference, apply, verify.
    difference = trial.difference(observed, record)
    if not module.check_mode:
        trial.apply(observed, difference, record)

    shown = record or earlier
    result: Dict[str, Any] = {
        "changed": difference.needed,
        "trial_state": observed.state,
        "trial_summary": trial.summary(observed.state, earlier, observed.environment),
        "armed": record is not None,
        "old_options": None if shown is None else shown.old,
        "new_options": None if shown is None else shown.new,
        "diff": files.difference(difference.changes),
    }
    if record is not None:
        result["covered"], result["not_covered"] = trial_watchdog.covered(
            systemd=trial_watchdog.has_systemd(tree), watchdog=trial_watchdog.program(tree) is not None
        )
    return result


def main() -> None:
    run_module(
        run,
        writes_files=True,
        argument_spec={
            "state": {"type": "str", "choices": ["armed", "absent"], "default": "armed"},
            "options": {"type": "dict"},
            "timeout": {"type": "int", "default": 300},
        },
        required_if=[("state", "armed", ("options",))],
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
