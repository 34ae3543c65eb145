#!/usr/bin/python

# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: boot_default
short_description: Make Xen what the boot loader starts by default
version_added: 0.1.0
description:
  - Makes an entry for Xen the one that the boot loader starts when nobody chooses another one. Where Xen is the default
    already, nothing is changed.
  - This is found out by running the loader's menu as the loader does, and again after the change. If Xen would not
    be started, all files are put back as they were.
  - "Where grub-mkconfig writes the menu of GRUB 2, C(GRUB_DEFAULT) is set to the identity of the entry, in
    C(/etc/default/grub.d/zz-xen-stubdom-default.cfg) where such files are read, else at the end of
    C(/etc/default/grub). This also holds where C(XEN_OVERRIDE_GRUB_DEFAULT) of Debian's C(xen.cfg) is V(0). It takes
    the place of C(GRUB_DEFAULT=saved), so that C(grub-set-default) has no effect as long as it is there."
  - Where every name of the entry holds a release, as with C(GRUB_DISABLE_SUBMENU=y), run the module again after an
    update of the kernel or of Xen.
  - In a menu of GRUB 2 that is kept by hand, the line C(set default=) is changed, and in that of GRUB 0.97 the line
    C(default). A comment above keeps what stood there.
  - Where update-extlinux writes the menu of extlinux, C(default) is set at the end of C(/etc/update-extlinux.conf). In
    a menu of extlinux or syslinux that is kept by hand, the lines C(DEFAULT), C(MENU DEFAULT) and C(ONTIMEOUT) are
    changed, as far as they decide, in the same way.
  - For systemd-boot C(default) is set in C(loader.conf). Where the firmware's variable C(LoaderEntryDefault) decides,
    which C(bootctl set-default) sets, that is refused.
  - The firmware's own boot entries are not changed. A host whose firmware does not start Xen first is refused.
  - What is selected for the next start alone, as by C(grub-reboot), C(bootctl set-oneshot) or
    C(efibootmgr --bootnext), is not the default. It is left as it is, with a warning.
  - This module never reboots.
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
  state:
    description:
      - V(present) makes Xen the default.
      - V(absent) takes back what V(present) has changed, and nothing else. The entry that was the default one before is
        so again.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: xen.stubdom.dom0_mem
  - module: xen.stubdom.boot_option
"""

EXAMPLES = r"""
- name: Have the boot loader start Xen
  xen.stubdom.boot_default:

- name: Return to what the boot loader started before
  xen.stubdom.boot_default:
    state: absent
"""

RETURN = r"""
entry:
  description:
    - The entry for Xen, by the name or number that the loader's default takes. Entries of a submenu of GRUB 2 have a
      C(>) before their name.
    - It is null where there is none, where it is found only when the menu is generated, and with O(state=absent).
  type: str
  returned: success
  sample: xen-gnulinux-simple-0b2f6e1c
boots_xen:
  description:
    - Whether the default entry starts Xen; null where that is not known.
    - In check mode that is after the change, and null where only the change itself would show it, as with
      O(state=absent).
    - Where the menu is not generated, that is what the menu as it is starts.
  type: bool
  returned: success
  sample: true
files:
  description: Files that were changed.
  type: list
  elements: str
  returned: success
  sample: [/etc/default/grub.d/zz-xen-stubdom-default.cfg]
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

from typing import Any, Dict, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._boot import default_entry, targets
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


def run(module: AnsibleModule) -> Dict[str, Any]:
    params = module.params

    # Plan.
    present = params["state"] == "present"

    # Observe, difference.
    target = targets.of(params, run_program, Xen(run_program))
    observed = default_entry.observe(present, target)
    difference = default_entry.difference(present, target, observed)

    # Apply, verify.
    applied: Optional[default_entry.Applied] = None
    if difference.needed and not module.check_mode:
        applied = default_entry.apply(present, target, observed, difference, backup=params["backup"])
    elif not module.check_mode:
        default_entry.tidy(target, observed)

    return default_entry.result(target, observed, difference, applied, backup=params["backup"])


def main() -> None:
    run_module(
        run,
        writes_files=True,
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            **targets.ARGUMENTS,
        },
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
