# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what the commands of a build can reach: their own directory, and nothing else
# that they could change. A source's Makefile is a program that nobody here has read.

from __future__ import annotations

import os
import resource
import shutil
from typing import List, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner, last_line

# Seconds that a sealed command which does nothing may take.
_TRIAL = 30.0

# What one process or file of a build may have, against a build that runs away.
LIMITS = (
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_FSIZE, 4 << 30),
    (resource.RLIMIT_AS, 8 << 30),
    (resource.RLIMIT_NPROC, 4096),
)

# What a build leaves free of its file system, in bytes.
RESERVE = 256 << 20


def words(workshop: str) -> List[str]:
    """Return the command line before a command that is to be sealed.

    It has namespaces of its own (bwrap(1)): no network, no process but its own, all of which end with it; no System V
    objects of others; every file read-only but those below *workshop*; an empty /tmp and /run, so that no service's
    socket is there; no privileges to gain from a set-user-ID program.

    :param workshop: the directory that it may write to.
    """
    # A build may have a PATH of its own.
    program = shutil.which("bwrap", path=os.pathsep.join([os.environ.get("PATH", ""), os.defpath])) or "bwrap"
    empty = [word for path in ("/tmp", "/var/tmp", "/run") for word in ("--tmpfs", path)]
    return [
        program,
        "--unshare-all",
        "--die-with-parent",
        *("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"),
        *empty,
        *("--bind", workshop, workshop),
        "--",
    ]


def refusal(run: Runner, workshop: str) -> Optional[str]:
    """Return why this host cannot seal a command, None where it can. It is asked as the account that builds.

    A kernel may know no user namespaces or refuse them to ordinary accounts (sysctl user.max_user_namespaces; AppArmor
    of Ubuntu), and refuses them in a chroot (EPERM of user_namespaces(7)).
    """
    try:
        status, output, errors = run([*words(workshop), "true"], timeout=_TRIAL)
    except FileNotFoundError:
        return "there is no bwrap"
    except UserError as error:
        return error.what.rstrip(".")
    return None if status == 0 else last_line(errors or output)


def limit() -> None:
    """Limit this process and all that it starts."""
    for what, most in LIMITS:
        hard = resource.getrlimit(what)[1]
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (value, value))


def require_room(workshop: str) -> None:
    """:raises UserError: the file system of *workshop* is nearly full."""
    status = os.statvfs(workshop)
    left = status.f_bavail * status.f_frsize
    if left < RESERVE:
        raise UserError(
            f"The build was stopped as the file system of {workshop} has {left >> 20} MiB left.",
            f"Free {RESERVE >> 20} MiB and what the build needs, or set work_directory to another file system.",
        )
