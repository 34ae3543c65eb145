# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what restarts a host whose trial boot is not confirmed in time.

from __future__ import annotations

import os
import signal
import time
from typing import Dict, List, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import Tree
from ansible_collections.xen.stubdom.plugins.module_utils._boot.trial_entry import ENTRY, MARK
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner

UNIT_NAME = f"{ENTRY}.service"
UNIT = f"/etc/systemd/system/{UNIT_NAME}"
UNIT_WANTED = f"/etc/systemd/system/sysinit.target.d/{ENTRY}.conf"
PROGRAM = "/usr/sbin/xenwatchdogd"

# The hypervisor restarts the machine when dom0 has not done so itself this many seconds after the timeout.
GRACE_SECONDS = 120
STOP_SECONDS = 10


def has_systemd(tree: Tree) -> bool:
    """Whether the host was booted with systemd."""
    return tree.is_directory("/run/systemd/system")


def program(tree: Tree) -> Optional[str]:
    """Return the path of the watchdog daemon, None where it is not installed."""
    return PROGRAM if tree.is_file(PROGRAM) else None


def unit_files(token: str, timeout: int, watchdog: Optional[str]) -> Dict[str, bytes]:
    """Return the systemd units that restart the host when the trial is not confirmed in time.

    :param watchdog: path of xenwatchdogd; with it the hypervisor restarts the host when dom0 cannot.
    """
    lines = ["Type=exec", "ExecStart=/bin/sleep infinity"]
    if watchdog is not None:
        hard = timeout + GRACE_SECONDS
        # The daemon makes the hypervisor restart the host after so many seconds; once stopped, it cannot extend that.
        # It forks before it does so, hence the wait. When systemd ends it, it leaves 300 seconds (xenwatchdogd.c).
        lines = [
            "Type=forking",
            "ExecStartPre=-modprobe xen-privcmd",
            f"ExecStart={watchdog} {hard} {hard - 1}",
            "ExecStartPost=sleep 5",
            'ExecStartPost=-/bin/sh -c "kill -STOP ${MAINPID}"',
        ]
    body = "\n".join(lines)
    unit = f"""\
# Written by the Ansible collection xen.stubdom for a trial boot, which removes it again.
[Unit]
Description=Restart into the default boot entry unless the trial is confirmed
DefaultDependencies=no
ConditionKernelCommandLine={MARK}={token}
Conflicts=shutdown.target
Before=shutdown.target
FailureAction=reboot

[Service]
{body}
RuntimeMaxSec={timeout}
# Sent when the trial is confirmed.
SuccessExitStatus=SIGUSR1
"""
    wanted = f"""\
# Written by the Ansible collection xen.stubdom for a trial boot, which removes it again.
[Unit]
Wants={UNIT_NAME}
"""
    return {UNIT: unit.encode(), UNIT_WANTED: wanted.encode()}


def stop(tree: Tree, run: Runner) -> None:
    """Keep the hypervisor and systemd from ending a trial boot that is confirmed.

    :raises UserError: the daemon's process does not end.
    """
    if not has_systemd(tree):
        return
    _status, output, _errors = run(["systemctl", "show", "--property=MainPID", "--value", UNIT_NAME])
    process = int(output.strip() or 0)
    if process == 0:
        return
    # The process is stopped, so the first signal waits for the second; the daemon then disables its timer and exits.
    for number in (signal.SIGUSR1, signal.SIGCONT):
        try:
            os.kill(process, number)
        except ProcessLookupError:
            return
    deadline = time.monotonic() + STOP_SECONDS
    while os.path.exists(f"/proc/{process}"):
        if time.monotonic() > deadline:
            raise UserError(
                f"The watchdog of the trial, process {process}, does not exit, and will restart this host.",
                f"Look at `systemctl status {UNIT_NAME}`.",
            )
        time.sleep(0.1)


def covered(*, systemd: bool, watchdog: bool) -> Tuple[List[str], List[str]]:
    """Return the failures of a trial boot after which the host recovers by itself, and the others."""
    yes = [
        "GRUB cannot load a file of the entry",
        "the hypervisor panics or, where its processors have a watchdog, hangs",
        "dom0's kernel panics, cannot be started, or has no memory left",
        "the host is reset or loses power",
    ]
    no = ["the firmware or GRUB hangs", "dom0's kernel hangs without a panic before its init starts"]
    late = "dom0 is up but cannot be reached"
    hang = "dom0 hangs after its init has started"
    (yes if systemd else no).append(late)
    (yes if systemd and watchdog else no).append(hang)
    return yes, no
