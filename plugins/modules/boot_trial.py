#!/usr/bin/python

# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: boot_trial
short_description: Try words of the hypervisor's boot line for one boot only
version_added: 0.1.0
description:
  - With O(state=armed) the next boot, and only that one, starts from an entry of its own in GRUB's menu, made from
    the default entry with the words of O(options). The default entry keeps the old line. It never reboots.
  - However the trial boot ends, by a panic of the hypervisor or of dom0's kernel, by a hang or by somebody who resets
    the host, the boot after it starts from the default entry. RV(covered) and RV(not_covered) say how far that goes.
  - A trial that runs has to be confirmed within O(timeout) with O(state=absent), or the host restarts into its old
    line. So it does when it is up but cannot be reached.
  - O(state=absent) says in RV(outcome) what became of the trial and removes everything that belongs to it. The line
    that is running keeps running; make it permanent with M(xen.stubdom.dom0_mem).
  - The trial entry has more words than those asked for. The hypervisor gets C(watchdog) and loses C(noreboot), dom0's
    kernel gets C(panic) and the mark C(xen_stubdom_trial). The running host keeps them until its next boot.
  - Needs a GRUB 2 that can write to its environment block, which it cannot on LVM, RAID, encrypted disks, Btrfs or ZFS.
    What is not so is refused. Should GRUB fail to write all the same, the trial entry starts the old line.
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
    description: Whether a trial is to be armed for the next boot, or nothing of one to be left.
    type: str
    choices: [armed, absent]
    default: armed
  options:
    description:
      - Value by name of option of the hypervisor; V(true) stands for the name alone, V(null) takes the option away.
      - Required with O(state=armed).
    type: dict
  timeout:
    description: Seconds that dom0 has, from the start of its init, to be confirmed; at least 60.
    type: int
    default: 300
seealso:
  - module: xen.stubdom.dom0_mem
"""

EXAMPLES = r"""
- name: Try a smaller dom0 at the next boot
  xen.stubdom.boot_trial:
    options:
      dom0_mem: 768M,max:768M

- name: Call it off, or say what became of it
  xen.stubdom.boot_trial:
    state: absent
"""

RETURN = r"""
outcome:
  description:
    - What was found of an earlier trial.
    - V(none), V(waiting) for the next boot, V(running), V(failed) where the boot ended without being confirmed, or
      V(skipped) where GRUB did not start it.
  type: str
  returned: success
  sample: running
story:
  description: The same in sentences.
  type: str
  returned: success
  sample: The host came up with dom0_mem=768M,max:768M.
armed:
  description: Whether the next boot is a trial.
  type: bool
  returned: success
  sample: false
old_line:
  description: The hypervisor's words in the default entry; null where no trial is or was.
  type: str
  returned: success
  sample: loglvl=all
new_line:
  description: The hypervisor's words in the trial entry; null where no trial is or was.
  type: str
  returned: success
  sample: loglvl=all dom0_mem=768M,max:768M watchdog=true
covered:
  description: Deaths of the trial boot after which the host comes back by itself.
  type: list
  elements: str
  returned: when O(state=armed)
  sample: [the host is reset or loses power]
not_covered:
  description: Those after which somebody has to restart it.
  type: list
  elements: str
  returned: when O(state=armed)
  sample: [the firmware or GRUB hangs]
"""

import hashlib
import os
import signal
import time
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._boot import change as _boot_change
from ansible_collections.xen.stubdom.plugins.module_utils._boot import grub_menu, trial
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import find
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner, last_line, run_program
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

# Where the menu lies, and what the programs beside it begin with: Debian and most others; Fedora, RHEL and openSUSE.
LAYOUTS = (("/boot/grub", "grub-"), ("/boot/grub2", "grub2-"))
WATCHDOG = "/usr/sbin/xenwatchdogd"
STOP_SECONDS = 10


@dataclass(frozen=True)
class Host:
    """Where things are; only tests give another root."""

    run: Runner
    root: str = "/"

    def path(self, path: str) -> str:
        return os.path.join(self.root, path.lstrip("/"))

    def read(self, path: str) -> Optional[bytes]:
        return files.read(self.path(path))

    def text(self, path: str) -> str:
        return (self.read(path) or b"").decode("latin-1").strip()


@dataclass(frozen=True)
class Grub:
    """GRUB 2 as it is installed on a host."""

    host: Host
    directory: str
    prefix: str

    def tool(self, name: str, *arguments: str) -> str:
        """:raises UserError: the program is missing or fails."""
        command = [f"{self.prefix}{name}", *arguments]
        try:
            status, output, errors = self.host.run(command)
        except FileNotFoundError as error:
            raise UserError(
                f"There is no {command[0]} on this host.",
                "Install GRUB's programs (on Debian the package grub2-common).",
            ) from error
        if status != 0:
            raise UserError(f"`{' '.join(command)}` failed: {last_line(errors)}.", "Run it by hand to see why.")
        return output.strip()

    @property
    def block(self) -> str:
        return self.host.path(f"{self.directory}/grubenv")

    @property
    def custom(self) -> str:
        return f"{self.directory}/custom.cfg"

    def environment(self) -> Dict[str, str]:
        return grub_menu.environment(files.read(self.block))

    def menu(self) -> grub_menu.Menu:
        return grub_menu.parse((self.host.read(f"{self.directory}/grub.cfg") or b"").decode("latin-1"))


def find_grub(host: Host) -> Optional[Grub]:
    for directory, prefix in LAYOUTS:
        if os.path.isfile(host.path(f"{directory}/grub.cfg")):
            return Grub(host, directory, prefix)
    return None


def require_grub(host: Host) -> Grub:
    """:raises UserError: the host boots in a way that cannot choose an entry for one boot only."""
    running = _boot_change.running_line(Xen(host.run, root=host.root), "/")
    loader = find("auto", host.run, root=host.root, running=running)
    grub = find_grub(host)
    if loader.cannot_boot_once is not None or grub is None:
        raise UserError(
            f"A trial boot needs GRUB 2 with a generated menu; this host boots with {loader.name}. "
            f"{loader.cannot_boot_once or 'Its menu was never generated.'}",
            "Set the value without a trial, with a console at hand.",
        )
    return grub


def require_writable(grub: Grub, menu: grub_menu.Menu) -> None:
    """:raises UserError: GRUB could not forget the choice of the trial entry, or would not see the entry."""
    where = grub.host.path(grub.directory)
    filesystem = grub.tool("probe", "--target=fs", where)
    layers = grub.tool("probe", "--target=abstraction", where)
    if filesystem not in trial.WRITABLE or layers:
        raise UserError(
            f"GRUB cannot write to {grub.directory} ({', '.join([filesystem, *layers.split()])}), so that a trial entry"
            " would be booted for ever.",
            f"Put {grub.directory} on a plain partition with {' or '.join(trial.WRITABLE)}, or go without a trial.",
        )
    if not any(command[0] == "save_env" and "next_entry" in command[1:] for command in menu.commands):
        raise UserError(
            "The menu that GRUB reads does not forget the choice of an entry for one boot.",
            "Generate it with grub-mkconfig; /etc/grub.d/00_header writes that part.",
        )
    if not any(command[0] == "source" and command[-1].endswith("/custom.cfg") for command in menu.commands):
        raise UserError(
            f"The menu that GRUB reads does not take in {grub.custom}, where the trial entry would be.",
            "Put /etc/grub.d/41_custom back, run update-grub, then run again.",
        )


def new_record(host: Host, words: Dict[str, Optional[str]], old: str, timeout: int) -> trial.Record:
    armed = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    boot = host.text("/proc/sys/kernel/random/boot_id")
    token = hashlib.sha256(f"{boot} {old} {sorted(words.items())}".encode()).hexdigest()[:12]
    return trial.Record(token, words, old, "", boot, armed, timeout)


def targets(
    host: Host, grub: Optional[Grub], menu: Optional[grub_menu.Menu], record: Optional[trial.Record]
) -> Dict[str, Optional[bytes]]:
    """Return what each file of a trial is to hold; None for the record means no trial at all."""
    wanted: Dict[str, Optional[bytes]] = {trial.RECORD: None, trial.UNIT: None, trial.UNIT_WANTED: None}
    if grub is not None:
        wanted[grub.custom] = trial.take_block(host.read(grub.custom), grub.custom)
    if record is not None and grub is not None and menu is not None:
        entry = grub_menu.default_entry(menu, grub.environment())
        text = trial.entry_text(menu, entry, record.words, record.token)
        wanted[grub.custom] = trial.put_block(wanted[grub.custom], text)
        wanted[trial.RECORD] = record.dump()
        if has_systemd(host):
            watchdog = WATCHDOG if os.path.exists(host.path(WATCHDOG)) else None
            wanted.update(trial.unit_files(record.token, record.timeout, watchdog))
    return wanted


def has_systemd(host: Host) -> bool:
    return os.path.isdir(host.path("/run/systemd/system"))


def plan_armed(host: Host, params: Mapping[str, Any], grub: Grub, menu: grub_menu.Menu) -> trial.Record:
    """Return the record of the trial that is asked for.

    :raises UserError: there would be nothing to fall back to.
    """
    trial.check_timeout(params["timeout"])
    entry = grub_menu.default_entry(menu, grub.environment())
    old = trial.hypervisor_words(menu.body(entry)) or ""
    record = new_record(host, trial.wanted_words(params["options"]), old, params["timeout"])
    text = trial.entry_text(menu, entry, record.words, record.token)
    if trial.put_words(old, record.words) == old:
        raise UserError(
            f"GRUB's default entry has {record.asked} already, so a trial has no old line to return to.",
            "Reboot without a trial, or put the old value back first.",
        )
    return replace(record, new=trial.hypervisor_words(text) or "")


def stop_watchdog(host: Host) -> None:
    """Keep the hypervisor and systemd from ending a trial boot that is confirmed.

    :raises UserError: the watchdog's process does not end.
    """
    if not has_systemd(host):
        return
    _status, output, _errors = host.run(["systemctl", "show", "--property=MainPID", "--value", trial.UNIT_NAME])
    process = int(output.strip() or 0)
    if process == 0:
        return
    # It is stopped, so the first signal waits for the second; at it, the daemon takes its timer back and ends.
    for number in (signal.SIGUSR1, signal.SIGCONT):
        try:
            os.kill(process, number)
        except ProcessLookupError:
            return
    deadline = time.monotonic() + STOP_SECONDS
    while os.path.exists(f"/proc/{process}"):
        if time.monotonic() > deadline:
            raise UserError(
                f"The watchdog of the trial, process {process}, does not end, and will restart this host.",
                f"Look at `systemctl status {trial.UNIT_NAME}`.",
            )
        time.sleep(0.1)


def run(module: AnsibleModule, *, root: str = "/") -> Dict[str, Any]:
    host = Host(run_program, root)
    arming = module.params["state"] == "armed"

    grub = require_grub(host) if arming else find_grub(host)
    menu = grub.menu() if grub is not None and arming else None
    record = plan_armed(host, module.params, grub, menu) if grub is not None and menu is not None else None
    if grub is not None and menu is not None:
        require_writable(grub, menu)

    earlier = trial.load(host.read(trial.RECORD))
    environment = grub.environment() if grub is not None else {}
    found = trial.outcome(
        earlier,
        boot=host.text("/proc/sys/kernel/random/boot_id"),
        kernel_line=host.text("/proc/cmdline"),
        environment=environment,
    )
    if (
        record is not None
        and earlier is not None
        and found == trial.WAITING
        and replace(record, token=earlier.token, armed=earlier.armed) == earlier
    ):
        record = earlier

    wanted = targets(host, grub, menu, record)
    changes = [files.Change(host.path(path), host.read(path), content) for path, content in wanted.items()]
    variables = variable_changes(environment, record)
    changed = any(change.needed for change in changes) or bool(variables)
    if changed and not module.check_mode:
        if found == trial.RUNNING:
            stop_watchdog(host)
        apply(host, grub, changes, variables, record)

    lines = record or earlier
    result: Dict[str, Any] = {
        "changed": changed,
        "outcome": found,
        "story": trial.story(found, earlier, environment),
        "armed": record is not None,
        "old_line": None if lines is None else lines.old,
        "new_line": None if lines is None else lines.new,
        "diff": files.difference(changes),
    }
    if arming:
        result["covered"], result["not_covered"] = trial.covered(
            systemd=has_systemd(host), watchdog=os.path.exists(host.path(WATCHDOG))
        )
    return result


def variable_changes(environment: Mapping[str, str], record: Optional[trial.Record]) -> Dict[str, Optional[str]]:
    """Return what to set in GRUB's environment block, None for a variable to take away."""
    changes: Dict[str, Optional[str]] = {}
    if trial.MARK in environment:
        changes[trial.MARK] = None
    chosen = environment.get("next_entry")
    if record is not None and chosen != trial.ENTRY:
        changes["next_entry"] = trial.ENTRY
    elif record is None and (chosen == trial.ENTRY or (trial.MARK in environment and chosen == "")):
        # GRUB leaves the name without a value.
        changes["next_entry"] = None
    return changes


def set_variables(grub: Grub, variables: Mapping[str, Optional[str]]) -> None:
    removed = [name for name, value in variables.items() if value is None]
    put = [f"{name}={value}" for name, value in variables.items() if value is not None]
    if removed:
        grub.tool("editenv", grub.block, "unset", *removed)
    if put:
        grub.tool("editenv", grub.block, "set", *put)


def apply(
    host: Host,
    grub: Optional[Grub],
    changes: List[files.Change],
    variables: Mapping[str, Optional[str]],
    record: Optional[trial.Record],
) -> None:
    """An entry is there before it is chosen, and no longer chosen when it goes: GRUB takes the first entry of its menu
    for one that it cannot find."""
    try:
        if grub is not None and record is None:
            set_variables(grub, variables)
        files.apply(changes)
        if grub is not None and record is not None:
            choose(grub, changes, variables)
    finally:
        for path in (trial.RECORD, trial.UNIT_WANTED):
            files.remove_if_empty(os.path.dirname(host.path(path)))


def choose(grub: Grub, changes: List[files.Change], variables: Mapping[str, Optional[str]]) -> None:
    """Make the next boot the trial, or take everything back."""
    try:
        grub.tool("script-check", grub.host.path(grub.custom))
        set_variables(grub, variables)
        if grub.environment().get("next_entry") != trial.ENTRY:
            raise UserError("GRUB's environment block does not keep what is written to it.", f"Look at {grub.block}.")
    except BaseException:
        try:
            set_variables(grub, {"next_entry": None})
        finally:
            files.apply(files.reverse(changes))
        raise


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
