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
  - Sets, changes or removes the option C(dom0_mem) of the Xen command line, in the boot loader's source files.
  - All other options stay as they are and where they are. C(dom0_mem) is set exactly once, wherever and how often the
    files had set it; Xen stores size, minimum and maximum separately, so a second one would change a part of the first.
  - With GRUB 2 the option stays in the variable and file in which it takes effect, C(GRUB_CMDLINE_XEN) before
    C(GRUB_CMDLINE_XEN_DEFAULT), as the former applies to recovery entries too. Where it is not set, a file
    C(/etc/default/grub.d/zz-xen-stubdom.cfg) appends it to the variable; a GRUB that does not read that directory gets
    a line at the end of C(/etc/default/grub).
  - The edited files are evaluated as C(grub-mkconfig) does it before anything is written. If they would not give what
    was asked for, nothing is changed.
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
  state:
    description:
      - Whether the option should be set, or removed to give dom0 all memory again.
      - With V(absent), O(size), O(min), O(max) and O(value) are ignored.
    type: str
    choices: [present, absent]
    default: present
  size:
    description:
      - Memory that dom0 starts with, for example V(2G), V(1536M), V(-1G) for all but 1 GiB, V(10%) or V(1G+5%).
      - A unit is required, as Xen reads a number without one as KiB. Percentages need Xen 4.12 or newer.
      - Required with O(state=present) unless O(value) is set.
    type: str
  min:
    description:
      - Minimum that dom0 starts with, where O(size) is relative.
      - Takes the same forms as O(size).
    type: str
  max:
    description:
      - Maximum that dom0 can balloon up to.
      - Takes the same forms as O(size).
      - Defaults to O(size), which fixes dom0's memory. Xen's own default is all of the host's memory.
    type: str
  value:
    description:
      - The whole value as Xen documents it, for example V(1G,max:2G), written as it is.
      - Every value that Xen accepts is allowed; there is a warning for one with a surprising meaning.
      - Mutually exclusive with O(size), O(min) and O(max).
    type: str
seealso:
  - module: xen.stubdom.boot_option
  - module: xen.stubdom.xl_conf
"""

EXAMPLES = r"""
- name: Fix dom0's memory at 2 GiB
  xen.stubdom.dom0_mem:
    size: 2G

- name: Start dom0 with 1 GiB and let it balloon up to 4 GiB
  xen.stubdom.dom0_mem:
    size: 1G
    max: 4G

- name: Set a value in the syntax of Xen's documentation
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
  description: Whether the next boot will pass another value than the hypervisor runs with.
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
  description: Memory that dom0 should have with the running value; null where that is not fixed.
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
  description: The file tree whose files were changed.
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
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._boot import (
    autoballoon,
    change,
    dom0_mem,
    dom0_mem_checks,
    host_facts,
    line_edits,
    targets,
)
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version, text
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


def run(module: AnsibleModule) -> Dict[str, Any]:
    params = module.params
    xen = Xen(run_program)

    # Plan.
    facts = host_facts.read(xen, params["root"], platform.machine())
    desired, warnings = plan(params, facts)

    # Observe, difference.
    target = targets.of(params, run_program, xen)
    observed = change.observe(desired, target)
    difference = change.difference(desired, target, observed)
    warnings += change.misplaced(desired, target, observed)

    # Apply, verify.
    boot_line = change.predict(desired, target, observed, difference)
    backups: Dict[str, str] = {}
    if not module.check_mode:
        change.tidy(target, observed)
    if difference.needed and not module.check_mode:
        with change.restored_on_error(target, observed, difference):
            backups = change.apply(desired, target, observed, difference, backup=params["backup"])
            boot_line = change.verify(desired, target)

    result = change.result(desired, target, observed, difference, boot_line, backups if params["backup"] else None)
    if desired.option is not None and boot_line.running is not None:
        warnings += autoballoon_warnings(desired.option, files.read(xen.path(autoballoon.XL_CONF)), xen.version())
    if desired.option is not None and observed.unchecked:
        result["unchecked"].append("The value was not compared with the memory and the release of a host.")
    return {
        **result,
        "configured": value_of(boot_line.configured),
        "effective": value_of(boot_line.effective),
        "running": value_of(boot_line.running),
        **dom0(xen, boot_line.running),
        "warnings": warnings,
    }


def value_of(found: Optional[Sequence[str]]) -> Optional[str]:
    """Return the values of the options, without their name."""
    return " ".join(option.partition("=")[2] for option in found) if found else None


def plan(params: Mapping[str, Any], facts: host_facts.HostFacts) -> Tuple[change.DesiredOption, List[str]]:
    """Return the option for the parameters, and warnings about its value.

    :raises UserError: Xen would not understand it, or dom0 would not get what is asked for.
    """
    same = dom0_mem.same_options
    if params["state"] == "absent":
        return change.DesiredOption(dom0_mem.OPTION, None, same), []
    if params["size"] is None and params["value"] is None:
        raise UserError("Neither size nor value is set.", "Set size to dom0's memory with a unit, for example 2G.")
    others = [name for name in ("size", "min", "max") if params[name] is not None]
    if params["value"] is not None and others:
        raise UserError(
            f"The parameters value and {', '.join(others)} exclude each other.",
            "Set either value, or size with min and max.",
        )
    if params["value"] is not None:
        value = params["value"]
        warnings = dom0_mem_checks.validate(dom0_mem.parse(value, arm=facts.arm), facts)
    else:
        wanted = dom0_mem_checks.from_parameters(params["size"], params["min"], params["max"], arm=facts.arm)
        dom0_mem_checks.require_smallest(wanted, facts)
        value, warnings = str(wanted), dom0_mem_checks.validate(wanted, facts)
    return change.DesiredOption(dom0_mem.OPTION, line_edits.render(dom0_mem.OPTION, value), same), warnings


def autoballoon_warnings(option: str, content: Optional[bytes], version: Version) -> List[str]:
    """Return a warning where xl would take memory from dom0 although *option* fixes it."""
    setting = autoballoon.configured(content)
    if not autoballoon.balloons(setting, option, version):
        return []
    cause = "" if setting == "on" else f", as xl of Xen {text(version)} does not recognise {option}"
    return [
        f'xl.conf has autoballoon="{setting}", so xl takes memory from dom0 for each guest{cause}. '
        "Set autoballoon to off with xen.stubdom.xl_conf."
    ]


def dom0(xen: Xen, running: Optional[Sequence[str]]) -> Dict[str, Optional[int]]:
    """Return how much memory dom0 has and, where that is fixed, how much it should have, in MiB.

    :param running: the options dom0_mem that the hypervisor was started with; None where it does not run.
    """
    if running is None:
        return {"memory_mib": None, "expected_mib": None}
    expected = None
    try:
        started_with = dom0_mem.merge([option.partition("=")[2] for option in running])
        if started_with is not None and started_with.size is not None and started_with.fixed:
            expected = started_with.size.resolve(xen.total_memory_mib() * dom0_mem.MIB)
    except UserError:
        expected = None
    return {
        "memory_mib": next((domain.memory_mib for domain in xen.domains() if domain.domid == 0), None),
        "expected_mib": None if expected is None else expected // dom0_mem.MIB,
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
            **targets.ENTRIES,
            **targets.ARGUMENTS,
        },
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
