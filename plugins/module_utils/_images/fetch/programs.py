# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: runs the programs that fetch, and gives up on one that hangs.

from __future__ import annotations

import os
import select
import signal
import subprocess
from typing import IO, Mapping, Optional, Sequence, Tuple, cast

# The status of a program that was ended because it printed nothing, the one of timeout(1).
SILENT = 124


def run(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    directory: Optional[str] = None,
    silence: Optional[float] = None,
) -> Tuple[int, str]:
    """Run a program and return its status and everything that it printed.

    :param silence: seconds without output after which the program is killed, with all that it started.
    :raises FileNotFoundError: there is no such program.
    """
    process = subprocess.Popen(
        list(arguments),
        cwd=directory,
        env={**environment, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    printed = bytearray()
    with cast(IO[bytes], process.stdout) as stream:
        while select.select([stream], [], [], silence)[0]:
            block = os.read(stream.fileno(), 1 << 16)
            if not block:
                return process.wait(), printed.decode("utf-8", "replace")
            printed += block
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return SILENT, printed.decode("utf-8", "replace")
