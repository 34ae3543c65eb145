# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clock of a host: a restored one believes that it is still the time at which it was saved."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence

# Seconds by which a host's clock may be late: by the time between sending a time and setting it, which grows with what
# else runs on this machine.
ERROR = 0.5
TRIES = 10


def set_on(ssh: Sequence[str]) -> bool:
    """Whether the host answers; its clock is then right by ERROR, if this machine is that quick at all."""
    remote = 'echo ready; while read now; do date -s "@$now" > /dev/null && echo set; done'
    options = ["-o", "ConnectTimeout=30", "-o", "BatchMode=yes"]
    process = subprocess.Popen(
        [ssh[0], *options, *ssh[1:], remote],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        if process.stdout.readline().strip() != "ready":
            return False
        for _ in range(TRIES):
            sent = time.time()
            process.stdin.write(f"{sent:.3f}\n")
            process.stdin.flush()
            if process.stdout.readline().strip() != "set":
                return False
            # The host's clock is late by some part of the time between.
            if time.time() - sent < ERROR:
                break
        return True
    except OSError:
        return False
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()
