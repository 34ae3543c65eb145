#!/usr/bin/python

# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dom0_mem
short_description: Set how much memory the control domain of a Xen host gets
version_added: 0.1.0
description:
  - Sets, changes or removes the word C(dom0_mem=) of the hypervisor's boot line, in the boot loader's source files.
  - All other words stay as they are and where they are. Exactly one C(dom0_mem=) remains, wherever the files had put it
    or several of it; Xen keeps size, minimum and maximum apart, so that a second one would change a part of the first.
  - With GRUB 2 the word stays in the variable and file in which one counts, C(GRUB_CMDLINE_XEN) before
    C(GRUB_CMDLINE_XEN_DEFAULT), as the former reaches recovery entries too. Where there is none, a file
    C(/etc/default/grub.d/zz-xen-stubdom.cfg) adds it to what the other files say; a GRUB that does not read that
    directory gets a line at the end of C(/etc/default/grub).
  - The edited files are run as C(grub-mkconfig) runs them before anything is written. When they would not give what was
    asked for, nothing is changed.
  - It never reboots. O(state=absent) gives dom0 all memory again.
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
    description: Whether the word is to be there.
    type: str
    choices: [present, absent]
    default: present
  size:
    description:
      - Memory that dom0 starts with, for example V(2G), V(1536M), V(-1G) for all but 1 GiB, V(10%) or V(1G+5%).
      - A unit is required, as Xen reads a bare number as KiB. Percentages need Xen 4.12 or newer.
    type: str
  min:
    description: The least that dom0 starts with, where O(size) is relative. In the forms of O(size).
    type: str
  max:
    description:
      - The most that dom0 may ever have. In the forms of O(size).
      - The default is O(size), so that dom0's memory is fixed. Xen's own default is all of the host's memory.
    type: str
  value:
    description:
      - The whole value as Xen documents it, for example V(1G,max:2G), written as it is.
      - Whatever Xen understands is taken; what it would read in a surprising way is warned about.
    type: str
seealso:
  - module: xen.stubdom.boot_option
  - module: xen.stubdom.xl_conf
"""

EXAMPLES = r"""
- name: Fix dom0's memory at 2 GiB
  xen.stubdom.dom0_mem:
    size: 2G

- name: Let dom0 balloon between 1 and 4 GiB
  xen.stubdom.dom0_mem:
    size: 1G
    max: 4G

- name: Write the value the way Xen documents it
  xen.stubdom.dom0_mem:
    value: 1G+5%,max:4G

- name: Give dom0 all memory again
  xen.stubdom.dom0_mem:
    state: absent
"""

RETURN = r"""
configured:
  description: Value of C(dom0_mem) in the loader's source files, several ones separated by spaces; null without one.
  type: str
  returned: success
  sample: 2G,max:2G
effective:
  description: Value that the generated configuration passes at the next boot; null without one.
  type: str
  returned: success
  sample: 2G,max:2G
running:
  description: Value that the hypervisor was started with; null without one and where Xen does not run.
  type: str
  returned: success
  sample: 1G,max:1G
reboot_required:
  description: Whether the hypervisor runs with another value than the next boot will pass.
  type: bool
  returned: success
  sample: true
reboot_reason:
  description: Why a reboot is required, or why it is not, in one sentence.
  type: str
  returned: success
  sample: The hypervisor runs with dom0_mem=1G,max:1G and will get dom0_mem=2G,max:2G.
memory_mib:
  description: Memory that dom0 has now, as C(xl list) shows it; null where Xen does not run.
  type: int
  returned: success
  sample: 2048
expected_mib:
  description: Memory that dom0 has to have under the running value; null where that is not fixed.
  type: int
  returned: success
  sample: 2048
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
  sample: ["GRUB's configuration was not generated: run update-grub or grub-mkconfig in the image."]
"""

import platform
from typing import Any, Dict, List, Optional, Sequence

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._boot import change, command_line, dom0_mem, options
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import LOADERS
from ansible_collections.xen.stubdom.plugins.module_utils._boot.memory import autoballoon_warnings
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


def plan(params: Dict[str, Any], judge: dom0_mem.Host, warnings: List[str]) -> change.Wish:
    """Return the word that is asked for."""
    value: Optional[str] = None
    if params["state"] == "present" and params["value"] is not None:
        value = params["value"]
        warnings += dom0_mem.check(dom0_mem.parse(value, arm=judge.arm), judge)
    elif params["state"] == "present":
        wanted = dom0_mem.from_parameters(params["size"], params["min"], params["max"], arm=judge.arm)
        dom0_mem.refuse_too_small(wanted, judge)
        warnings += dom0_mem.check(wanted, judge)
        value = str(wanted)
    word = None if value is None else command_line.word(dom0_mem.OPTION, value)
    return change.Wish(dom0_mem.OPTION, word, dom0_mem.same_words)


def shown(found: Optional[Sequence[str]]) -> Optional[str]:
    """Return the values of the words alone."""
    return " ".join(word.partition("=")[2] for word in found) if found else None


def memory(xen: Xen, running: Optional[Sequence[str]]) -> Dict[str, Optional[int]]:
    """Return what dom0 has and, where its memory is fixed, what it has to have, in MiB."""
    if running is None:
        return {"memory_mib": None, "expected_mib": None}
    expected = None
    try:
        started_with = dom0_mem.merge([word.partition("=")[2] for word in running])
        if started_with is not None and started_with.size is not None and started_with.fixed:
            expected = started_with.size.resolve(xen.total_memory_mib() * dom0_mem.MIB)
    except UserError:
        expected = None
    return {
        "memory_mib": next((domain.memory_mib for domain in xen.domains() if domain.domid == 0), None),
        "expected_mib": None if expected is None else expected // dom0_mem.MIB,
    }


def run(module: AnsibleModule) -> Dict[str, Any]:
    params = module.params
    xen = Xen(run_program)
    warnings: List[str] = []

    judge = options.judge(xen, params["root"], platform.machine()).memory
    wish = plan(params, judge, warnings)
    outcome = change.change(
        wish,
        loader=change.loader(params["loader"], run_program, xen, params["root"]),
        xen=xen,
        root=params["root"],
        regenerate=params["regenerate"],
        check_mode=module.check_mode,
        backup=params["backup"],
    )
    if wish.word is not None and outcome.running is not None:
        warnings += autoballoon_warnings(wish.word, files.read(xen.path("/etc/xen/xl.conf")), xen.version())
    if outcome.result["unchecked"] and wish.word is not None:
        outcome.result["unchecked"].append("The value was not compared with the memory and the release of a host.")
    return {
        **outcome.result,
        "configured": shown(outcome.configured),
        "effective": shown(outcome.effective),
        "running": shown(outcome.running),
        **memory(xen, outcome.running),
        "warnings": warnings,
    }


def main() -> None:
    run_module(
        run,
        writes_files=True,
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "size": {"type": "str"},
            "min": {"type": "str"},
            "max": {"type": "str"},
            "value": {"type": "str"},
            "loader": {"type": "str", "choices": ["auto", *LOADERS], "default": "auto"},
            "root": {"type": "path", "default": "/"},
            "regenerate": {"type": "bool", "default": True},
            "backup": {"type": "bool", "default": False},
        },
        required_if=[("state", "present", ("size", "value"), True)],
        mutually_exclusive=[("value", "size"), ("value", "min"), ("value", "max")],
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
