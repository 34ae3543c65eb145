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
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
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
  loader:
    description: The boot loader; V(auto) looks which one the host has.
    type: str
    choices: [auto, grub2]
    default: auto
  regenerate:
    description:
      - Whether the loader's configuration is generated anew where it does not pass what the files say, and read back.
      - V(false) also allows a host on which no hypervisor is installed yet.
    type: bool
    default: true
  backup:
    description: Whether to keep a copy of each file that is changed.
    type: bool
    default: false
seealso:
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
"""

import platform
from typing import Any, Dict, List, Optional, Sequence

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils import _boot_line, _dom0_mem, _files
from ansible_collections.xen.stubdom.plugins.module_utils._errors import Refusal
from ansible_collections.xen.stubdom.plugins.module_utils._loaders import Loader, find
from ansible_collections.xen.stubdom.plugins.module_utils._xen import Xen, runner


def host(xen: Xen) -> _dom0_mem.Host:
    """Return what the hypervisor says about the host, as far as one is running."""
    arm = platform.machine().startswith(("arm", "aarch"))
    if not xen.is_dom0():
        return _dom0_mem.Host(arm=arm)
    return _dom0_mem.Host(total=xen.total_memory_mib() * _dom0_mem.MIB, version=xen.version(), arm=arm)


def plan(params: Dict[str, Any], judge: _dom0_mem.Host, warnings: List[str]) -> Optional[str]:
    """Return the value that is asked for, None for none."""
    if params["state"] == "absent":
        return None
    if params["value"] is not None:
        warnings += _dom0_mem.check(_dom0_mem.parse(params["value"], arm=judge.arm), judge)
        return str(params["value"])
    wanted = _dom0_mem.from_parameters(params["size"], params["min"], params["max"], arm=judge.arm)
    _dom0_mem.refuse_too_small(wanted, judge)
    warnings += _dom0_mem.check(wanted, judge)
    return str(wanted)


def values(line: Optional[str]) -> List[str]:
    return [] if line is None else _boot_line.values(line, _dom0_mem.OPTION)


def shown(found: Sequence[str]) -> Optional[str]:
    return " ".join(found) if found else None


def satisfied(found: Sequence[str], wanted: Optional[str]) -> bool:
    """Whether one word, in whatever spelling, says what is asked for."""
    if wanted is None or len(found) != 1:
        return not found and wanted is None
    return _dom0_mem.same(found, [wanted])


def reboot(xen: Xen, effective: Sequence[str], running: Sequence[str], effective_known: bool) -> Dict[str, Any]:
    def words(found: Sequence[str]) -> str:
        return " ".join(f"dom0_mem={value}" for value in found) or "no dom0_mem"

    if not xen.is_dom0():
        return {
            "reboot_required": False,
            "reboot_reason": "Xen is not running here, so there is no running value to compare with.",
        }
    if not effective_known:
        return {
            "reboot_required": False,
            "reboot_reason": "The loader has no entry for Xen, so what the next boot passes is not known.",
        }
    if _dom0_mem.same(effective, running):
        return {"reboot_required": False, "reboot_reason": f"The hypervisor already runs with {words(running)}."}
    return {
        "reboot_required": True,
        "reboot_reason": f"The hypervisor runs with {words(running)} and will get {words(effective)}.",
    }


def memory(xen: Xen, running: Sequence[str]) -> Dict[str, Optional[int]]:
    """Return what dom0 has and, where its memory is fixed, what it has to have, in MiB."""
    if not xen.is_dom0():
        return {"memory_mib": None, "expected_mib": None}
    expected = None
    try:
        started_with = _dom0_mem.merge(running)
        if started_with is not None and started_with.size is not None and started_with.fixed:
            expected = started_with.size.resolve(xen.total_memory_mib() * _dom0_mem.MIB)
    except Refusal:
        expected = None
    return {
        "memory_mib": next((domain.memory_mib for domain in xen.domains() if domain.domid == 0), None),
        "expected_mib": None if expected is None else expected // _dom0_mem.MIB,
    }


def make_effective(loader: Loader, wanted: Optional[str]) -> None:
    """Generate the loader's configuration and read back what it passes."""
    loader.regenerate()
    line = loader.effective()
    if line is None:
        if wanted is None:
            return
        raise Refusal(
            "The generated loader configuration has no entry for Xen.",
            "Look whether /boot has a hypervisor and a kernel that can run under it, then run again.",
        )
    if not satisfied(values(line), wanted):
        raise Refusal(
            f"The generated loader configuration passes {line!r} to the hypervisor, not dom0_mem={wanted}.",
            "Look into /etc/grub.d for what changes the line.",
        )


def put_back(loader: Loader, changes: Sequence[_files.Change], line: Optional[str]) -> None:
    """Leave the host as it was; *line* is what the next boot was going to pass."""
    _files.apply(_files.reverse(changes))
    if changes and loader.effective() != line:
        loader.regenerate()


def run(module: AnsibleModule) -> Dict[str, Any]:
    warnings: List[str] = []
    run_command = runner(module)
    xen = Xen(run_command)
    loader = find(module.params["loader"], run_command)
    regenerate: bool = module.params["regenerate"]

    wanted = plan(module.params, host(xen), warnings)
    if wanted is not None and regenerate and not loader.hypervisor_installed():
        raise Refusal(
            "No hypervisor is installed on this host: there is no /boot/xen*.",
            "Install it (on Debian xen-system-amd64), or set regenerate to false to prepare the files only.",
        )

    sources = loader.read()
    configured = values(loader.configured(sources))
    line = loader.effective()
    running = values(xen.command_line()) if xen.is_dom0() else []

    spelled = configured[0] if satisfied(configured, wanted) and configured else wanted
    changes = loader.plan(sources, _dom0_mem.OPTION, spelled)
    stale = regenerate and (line is None or not satisfied(values(line), wanted))
    if wanted is None and line is None:
        stale = False
    changed = bool(changes) or stale

    backups: Dict[str, str] = {}
    if changed and not module.check_mode:
        backups = _files.apply(changes, backup=module.params["backup"])
        try:
            configured = values(loader.configured(loader.read()))
            if not satisfied(configured, wanted):
                raise Refusal("The files of GRUB do not give what was written to them.", "They were put back.")
            if regenerate and (stale or not satisfied(values(loader.effective()), wanted)):
                make_effective(loader, wanted)
        except BaseException:
            put_back(loader, changes, line)
            raise
        line = loader.effective()
    elif changed:
        configured = [wanted] if wanted is not None else []
    # In check mode the next boot is told as it would be afterwards.
    will_pass = configured if module.check_mode and regenerate and line is not None else values(line)

    result: Dict[str, Any] = {
        "changed": changed,
        "configured": shown(configured),
        "effective": shown(will_pass),
        "running": shown(running),
        "files": [change.path for change in changes],
        "loader": loader.name,
        **memory(xen, running),
        "diff": _files.difference(changes),
        "warnings": warnings,
        **reboot(xen, will_pass, running, line is not None),
    }
    if module.params["backup"]:
        result["backup_files"] = backups
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "size": {"type": "str"},
            "min": {"type": "str"},
            "max": {"type": "str"},
            "value": {"type": "str"},
            "loader": {"type": "str", "choices": ["auto", "grub2"], "default": "auto"},
            "regenerate": {"type": "bool", "default": True},
            "backup": {"type": "bool", "default": False},
        },
        required_if=[("state", "present", ("size", "value"), True)],
        mutually_exclusive=[("value", "size"), ("value", "min"), ("value", "max")],
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal))
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
