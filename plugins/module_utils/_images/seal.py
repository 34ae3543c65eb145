# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what the commands of a build can reach: their own directory, and nothing else
# that they could change. A source's Makefile is a program that nobody here has read.

from __future__ import annotations

import os
import shutil
from typing import List, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner, last_line

# Seconds that a sealed command which does nothing may take.
_TRIAL = 30.0


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
