#!/usr/bin/python

# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: xl_conf
short_description: Change settings of the Xen toolstack
version_added: 0.1.0
description:
  - Sets or removes keys of C(/etc/xen/xl.conf). Everything else in the file stays byte for byte.
  - A key keeps its line; a new one is added after the commented-out example for it, if the file has one.
author:
  - The xen.stubdom authors (@xen-stubdom)
extends_documentation_fragment:
  - xen.stubdom.attributes
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
  settings:
    description:
      - Values by key, for example C(autoballoon) with V(off). A value is a string, a number or a list of these.
      - With O(state=absent) the values are ignored.
    type: dict
    required: true
  state:
    description: Whether the keys should be set or removed.
    type: str
    choices: [present, absent]
    default: present
  path:
    description: Path of the file.
    type: path
    default: /etc/xen/xl.conf
  backup:
    description: Whether to keep a copy of the file if it is changed.
    type: bool
    default: false
seealso:
  - module: xen.stubdom.dom0_mem
"""

EXAMPLES = r"""
- name: Never take memory from dom0 for a guest
  xen.stubdom.xl_conf:
    settings:
      autoballoon: "off"

- name: Return to the default of xl
  xen.stubdom.xl_conf:
    settings:
      autoballoon:
    state: absent
"""

RETURN = r"""
path:
  description: Path of the file.
  type: str
  returned: success
  sample: /etc/xen/xl.conf
settings:
  description: Every setting that the file makes, as it is written there.
  type: dict
  returned: success
  sample: {autoballoon: '"off"'}
backup_files:
  description: Copies of the file before the change, by file.
  type: dict
  returned: when O(backup=true)
  sample: {/etc/xen/xl.conf: /etc/xen/xl.conf.1234.2026-01-31@12:00:00~}
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg


def run(module: AnsibleModule) -> Dict[str, Any]:
    path: str = module.params["path"]

    # Plan.
    present = module.params["state"] == "present"
    wanted = {key: value if present else None for key, value in module.params["settings"].items()}
    missing = [key for key, value in wanted.items() if present and value is None]
    if missing:
        raise UserError(f"The key {missing[0]} in settings has no value.", "Set a value, or set state to absent.")

    # Observe, difference.
    before = files.read(path, longest=xl_cfg.LONGEST)
    after = xl_cfg.put(path, before, wanted)
    changes = [files.Change(path, before, after)]

    # Apply, read again.
    backups: Dict[str, str] = {}
    if not module.check_mode:
        backups = files.apply(changes, backup=module.params["backup"])
        after = files.read(path)

    result: Dict[str, Any] = {
        "changed": before != after,
        "path": path,
        "settings": xl_cfg.texts(path, after),
        "diff": files.difference(changes),
    }
    if module.params["backup"]:
        result["backup_files"] = backups
    return result


def main() -> None:
    run_module(
        run,
        writes_files=True,
        argument_spec={
            "settings": {"type": "dict", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "path": {"type": "path", "default": "/etc/xen/xl.conf"},
            "backup": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
