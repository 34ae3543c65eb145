#!/usr/bin/python

# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: boot_option
short_description: Set one option of the Xen hypervisor on its boot line
version_added: 0.1.0
description:
  - Adds, changes or removes the word of one option on the hypervisor's boot line, in the boot loader's source files.
  - All other words stay as they are and where they are. Exactly one word for the option remains; C(no-NAME) and
    C(NAME) are the same option, and so are C(-) and C(_) in its name, as Xen reads them.
  - The edited files are evaluated as the loader's own tool does it. When they would not give what was asked for,
    nothing is changed.
  - It never reboots.
author:
  - The xen.stubdom authors (@xen-stubdom)
extends_documentation_fragment:
  - xen.stubdom.attributes
  - xen.stubdom.boot_line
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
    description: Name of the option, for example V(dom0_max_vcpus).
    type: str
    required: true
  value:
    description:
      - Value of the option. Without one, the name stands alone, for example V(dom0_vcpus_pin).
      - Values of C(dom0_mem), C(dom0_max_vcpus) and C(dom0_vcpus_pin) that Xen would not understand are refused; those
        of other options are taken as they are.
    type: str
  state:
    description: Whether the word is to be there.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: xen.stubdom.dom0_mem
"""

EXAMPLES = r"""
- name: Let dom0 have two to four virtual processors
  xen.stubdom.boot_option:
    name: dom0_max_vcpus
    value: 2-4

- name: Keep each of them on one processor
  xen.stubdom.boot_option:
    name: dom0_vcpus_pin

- name: Log everything
  xen.stubdom.boot_option:
    name: loglvl
    value: all

- name: Leave hyper-threading to Xen again
  xen.stubdom.boot_option:
    name: smt
    state: absent

- name: Prepare an image that is mounted
  xen.stubdom.boot_option:
    name: ucode
    value: scan
    root: /mnt/image
"""

RETURN = r"""
configured:
  description: Words for the option in the loader's source files.
  type: list
  elements: str
  returned: success
  sample: [dom0_max_vcpus=2-4]
effective:
  description: Words for the option that the next boot passes; null where the loader has no entry for Xen.
  type: list
  elements: str
  returned: success
  sample: [dom0_max_vcpus=2-4]
running:
  description: Words for the option that the hypervisor was started with; null where Xen does not run.
  type: list
  elements: str
  returned: success
  sample: []
reboot_required:
  description: Whether the hypervisor runs with other words for the option than the next boot will pass.
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
  description: The file tree that was worked on.
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
from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._boot import change, options
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import LOADERS
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


def run(module: AnsibleModule) -> Dict[str, Any]:
    params = module.params
    xen = Xen(run_program)
    warnings: List[str] = []

    judge = options.judge(xen, params["root"], platform.machine())
    wish = options.wish(params["name"], params["value"], params["state"] == "present", judge, warnings)
    outcome = change.change(
        wish,
        loader=change.loader(params["loader"], run_program, xen, params["root"]),
        xen=xen,
        root=params["root"],
        regenerate=params["regenerate"],
        check_mode=module.check_mode,
        backup=params["backup"],
    )
    return {
        **outcome.result,
        "configured": list(outcome.configured),
        "effective": None if outcome.effective is None else list(outcome.effective),
        "running": None if outcome.running is None else list(outcome.running),
        "warnings": warnings,
    }


def main() -> None:
    run_module(
        run,
        writes_files=True,
        argument_spec={
            "name": {"type": "str", "required": True},
            "value": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "loader": {"type": "str", "choices": ["auto", *LOADERS], "default": "auto"},
            "root": {"type": "path", "default": "/"},
            "regenerate": {"type": "bool", "default": True},
            "backup": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
