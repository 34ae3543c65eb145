# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what a guest shows that does not come up, what the toolstack says of one that
# it cannot make, and what both mean.

from __future__ import annotations

import re
from typing import List, Sequence, Tuple

# How many lines of a console a message shows, and how much of each.
_LINES = 4
_WIDTH = 160

# What a guest or the hypervisor shows, and what that means. The first that is found counts.
_SHOWN: Sequence[Tuple[str, str]] = (
    (r"not xen image", "GRUB 2 for PV guests cannot unpack the guest's kernel; as PVH guest (type pvh) it starts"),
    (r"grubdom>", "PV-GRUB has found no menu where menu says"),
    (r"grub(?: rescue)?>", "GRUB has found no grub.cfg on the guest's disks"),
    (r"\(initramfs\)", "the guest's kernel has not found its root file system"),
    (r"Unable to mount root fs", "the guest's kernel has not found its root file system"),
    (r"Kernel panic", "the guest's kernel has stopped"),
    (r"No bootable device", "none of the guest's disks has a boot loader"),
    (r"emergency mode", "the guest's system has stopped at a file system or service that it needs"),
    (r"Triple fault", "the guest's processor has failed while it handled an error"),
)

# What xl says, and what that means: tools/libs/{light,guest}/ and tools/xl/ @ stable-4.17 and stable-4.20, and
# tools/hotplug/Linux/.
_SAID: Sequence[Tuple[str, str]] = (
    (r"failed to free memory", "the host has not enough free memory, and may take none from dom0"),
    (r"Could not find bridge(?: device)? (\S+)", "the bridge {} of a network interface is not there"),
    (r"no loader found|not supported by hypervisor|invalid kernel", "its kernel is none that such a guest can start"),
    (r"[Ss]tubdom.* startup timed out", "the stub domain was too slow, or its image cannot run here"),
    (r"device model did not start|[Dd]evice model.* startup timed out", "QEMU has not started"),
    (r"console tty: timed out", "xenconsoled in dom0 has ended or hangs"),
    (r"already exists", "another domain has its name or UUID"),
    (r"hotplug scripts? .*timed out|script: (.+)", "a script of /etc/xen/scripts has failed"),
    (r"failed to stat (\S+)|(\S+): No such file or directory", "a file that it is made of is not there"),
    (r"cannot make domain|domain creation fail", "the hypervisor refuses to make such a domain; see `xl dmesg`"),
)


def shown(text: str) -> str:
    """What is known about what a guest and the hypervisor have shown, empty where nothing is."""
    return next((meaning for known, meaning in _SHOWN if re.search(known, text)), "")


def said(errors: str) -> str:
    """What is known about what xl has said, empty where nothing is."""
    for known, meaning in _SAID:
        match = re.search(known, errors)
        if match:
            return meaning.format(*match.groups())
    return ""


def last(text: str) -> List[str]:
    """The last lines of a console that are not empty."""
    lines = [line.strip()[-_WIDTH:] for line in text.splitlines() if line.strip()]
    return lines[-_LINES:]


def quoted(lines: Sequence[str]) -> str:
    """Such lines as a message shows them; empty where there are none."""
    return ", ".join(map(repr, lines))


def toolstack_lines(errors: str) -> List[str]:
    """What xl says, line by line, without the places in its source."""
    lines = [re.sub(r"^(?:libxl|xl|xc): (?:error: )?", "", line.strip()) for line in errors.splitlines()]
    return [re.sub(r"^\S+\.c:\d+:\S+ ", "", line) for line in lines if line and not line.startswith("Parsing config")]


def toolstack_error(errors: str) -> str:
    """What xl says went wrong, in a sentence with what it means."""
    lines = [line.rstrip(".") for line in toolstack_lines(errors)]
    meaning = said(errors)
    return ("; ".join(lines[:3]) or "no message") + (f": {meaning}." if meaning else ".")
