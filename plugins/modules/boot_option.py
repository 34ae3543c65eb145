#!/usr/bin/python

# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: boot_option
short_description: Set one option on the command line of Xen or of dom0's Linux
version_added: 0.1.0
description:
  - Adds, changes or removes one option of the Xen command line, or of the command line of dom0's Linux in the entries
    that start Xen, in the boot loader's source files.
  - All other options stay as they are and where they are. The option is set exactly once, or once for each element of
    O(values). C(-) and C(_) in its name are the same, and for Xen C(no-NAME) and C(NAME) are the same option.
  - The edited files are evaluated as the loader's own tool does it. If they would not give what was asked for, nothing
    is changed.
  - There is a warning where no release of Xen, or not the running one, has an option of that name, as it would be
    ignored; and where an option of the hypervisor is set for Linux, or the other way about.
  - This module never reboots.
author:
  - The xen.stubdom authors (@xen-stubdom)
extends_documentation_fragment:
  - xen.stubdom.attributes
  - xen.stubdom.boot_line
  - xen.stubdom.boot_line.entries
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
  name:
    description:
      - Name of the option as in the documentation of Xen or of Linux, for example V(dom0_max_vcpus) or
        V(xen-pciback.hide).
    type: str
    required: true
  value:
    description:
      - Value of the option. Without it, the option is set without a value, for example V(dom0_vcpus_pin).
      - Values of the hypervisor's options C(dom0_mem), C(dom0_max_vcpus) and C(dom0_vcpus_pin) are validated; those of
        other options are written as they are.
    type: str
  values:
    description:
      - Values of an option that is set several times, in their order, for example the two of C(console=tty0
        console=hvc0).
      - Excludes O(value).
    type: list
    elements: str
  target:
    description:
      - Who gets the option.
      - V(hypervisor) is Xen itself.
      - V(dom0_kernel) is the Linux that Xen starts as dom0. Other entries than those for Xen are changed only where the
        loader cannot tell them apart, and a warning says so.
      - For GRUB 2, V(dom0_kernel) is set in C(GRUB_CMDLINE_LINUX_XEN_REPLACE), which C(20_linux_xen) takes for the
        entries of Xen instead of C(GRUB_CMDLINE_LINUX). Where it was not set, it gets what C(GRUB_CMDLINE_LINUX) holds
        whenever the menu is generated, and the option behind that. Where C(GRUB_CMDLINE_LINUX) has the option with
        another value, Linux without Xen keeps it and Xen's entries get a copy of the other words. Only O(state=absent)
        removes it from C(GRUB_CMDLINE_LINUX) itself. The same holds for C(GRUB_CMDLINE_LINUX_XEN_REPLACE_DEFAULT) and
        C(GRUB_CMDLINE_LINUX_DEFAULT).
      - In a menu of GRUB 2, extlinux or GRUB 0.97 that is kept by hand, it is set behind the name of the kernel, which
        is the first module of each entry that starts Xen; in C(xen.cfg), behind the name of the file of C(kernel=).
      - For C(update-extlinux), it is set in C(default_kernel_opts), which has no counterpart for Xen's entries alone.
      - Debian's update-grub of GRUB 0.97 reads it in the comment C(# xenkopt=).
    type: str
    choices: [hypervisor, dom0_kernel]
    default: hypervisor
  state:
    description: Whether the option should be set or removed.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: xen.stubdom.dom0_mem
"""

EXAMPLES = r"""
- name: Limit dom0 to between two and four virtual CPUs
  xen.stubdom.boot_option:
    name: dom0_max_vcpus
    value: 2-4

- name: Pin each virtual CPU of dom0 to one physical CPU
  xen.stubdom.boot_option:
    name: dom0_vcpus_pin

- name: Log everything
  xen.stubdom.boot_option:
    name: loglvl
    value: all

- name: Return to Xen's default for hyper-threading
  xen.stubdom.boot_option:
    name: smt
    state: absent

- name: Keep a network card for a guest
  xen.stubdom.boot_option:
    target: dom0_kernel
    name: xen-pciback.hide
    value: (04:00.0)

- name: Have dom0 write to the screen and to the console of Xen
  xen.stubdom.boot_option:
    target: dom0_kernel
    name: console
    values: [tty0, hvc0]

- name: Configure a mounted image
  xen.stubdom.boot_option:
    name: ucode
    value: scan
    root: /mnt/image
"""

RETURN = r"""
configured:
  description: The option in the loader's source files, once for each time it is set.
  type: list
  elements: str
  returned: success
  sample: [dom0_max_vcpus=2-4]
effective:
  description: The option as the next boot passes it; null where the loader has no entry for Xen.
  type: list
  elements: str
  returned: success
  sample: [dom0_max_vcpus=2-4]
running:
  description:
    - The option as the hypervisor was started with it, or as C(/proc/cmdline) has it for O(target=dom0_kernel); null
      where Xen does not run.
  type: list
  elements: str
  returned: success
  sample: []
boots_xen:
  description: Whether the next boot starts Xen; null where that is not known.
  type: bool
  returned: success
  sample: true
boots_unattended:
  description:
    - Whether the next boot starts by itself. V(false) where the loader waits at its menu until somebody chooses an
      entry, as GRUB does whose C(timeout) is C(-1).
  type: bool
  returned: success
  sample: true
reboot_required:
  description: Whether the next boot will pass the option with another value than what runs was started with.
  type: bool
  returned: success
  sample: true
reboot_reason:
  description: Why a reboot is required, or why it is not, in one sentence.
  type: str
  returned: success
  sample: The hypervisor runs with no dom0_max_vcpus and will get dom0_max_vcpus=2-4.
files:
  description: Files that were changed.
  type: list
  elements: str
  returned: success
  sample: [/etc/default/grub.d/zz-xen-stubdom.cfg]
backup_files:
  description: Copies of the files before the change, by file.
  type: dict
  returned: when O(backup=true)
  sample: {/etc/default/grub: /etc/default/grub.1234.2026-01-31@12:00:00~}
loader:
  description: The boot loader.
  type: str
  returned: success
  sample: grub2
root:
  description: The file tree whose files were changed.
  type: str
  returned: success
  sample: /
unchecked:
  description: What could not be checked in another tree than the running host's, in sentences.
  type: list
  elements: str
  returned: success
  sample: []
"""

import platform
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._boot import change, host_facts, options, targets
from ansible_collections.xen.stubdom.plugins.module_utils._boot.command_line import RECIPIENTS
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


def run(module: AnsibleModule) -> Dict[str, Any]:
    params = module.params
    xen = Xen(run_program)

    # Plan.
    facts = host_facts.read(xen, params["root"], platform.machine())
    values = [params["value"]] if params["values"] is None else params["values"]
    recipient = RECIPIENTS[params["target"]]
    desired, warnings = options.plan(params["name"], values, params["state"] == "present", facts, recipient)

    # Observe, difference.
    target = targets.of(params, run_program, xen, recipient)
    observed = change.observe(desired, target)
    difference = change.difference(desired, target, observed)
    warnings += change.misplaced(desired, target, observed)
    warnings += target.loader.elsewhere(observed.sources, difference.changes, desired.name)

    # Apply, verify.
    boot_line = change.predict(desired, target, observed, difference)
    backups: Dict[str, str] = {}
    if not module.check_mode:
        change.tidy(target, observed)
    if difference.needed and not module.check_mode:
        with change.restored_on_error(target, observed, difference):
            backups = change.apply(desired, target, observed, difference, backup=params["backup"])
            boot_line = change.verify(desired, target)

    return {
        **change.result(desired, target, observed, difference, boot_line, backups if params["backup"] else None),
        "configured": list(boot_line.configured),
        "effective": None if boot_line.effective is None else list(boot_line.effective),
        "running": None if boot_line.running is None else list(boot_line.running),
        "warnings": warnings,
    }


def main() -> None:
    run_module(
        run,
        writes_files=True,
        argument_spec={
            "name": {"type": "str", "required": True},
            "value": {"type": "str"},
            "values": {"type": "list", "elements": "str"},
            "target": {"type": "str", "choices": [*RECIPIENTS], "default": "hypervisor"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            **targets.ENTRIES,
            **targets.ARGUMENTS,
        },
        mutually_exclusive=[("value", "values")],
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
