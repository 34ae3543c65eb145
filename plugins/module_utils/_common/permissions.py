# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: who may read and write a file that a module makes.

from __future__ import annotations

import grp
import os
import pwd
import re
from dataclasses import dataclass, replace
from typing import Any, Callable, Mapping, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError


@dataclass(frozen=True)
class Permissions:
    """Permission bits, owner and group of a file; None where they are not asked for."""

    mode: Optional[int] = None
    owner: Optional[int] = None
    group: Optional[int] = None

    def satisfied_by(self, found: Permissions) -> bool:
        """Whether a file that has *found* is as asked for."""
        pairs = ((self.mode, found.mode), (self.owner, found.owner), (self.group, found.group))
        return all(wanted in (None, there) for wanted, there in pairs)

    def closed(self, found: Optional[Permissions]) -> Permissions:
        """The same, but for its owner only where no mode is asked for and the file is, or would be, open to others."""
        stays_closed = found is not None and found.mode is not None and not found.mode & 0o077
        return self if self.mode is not None or stays_closed else replace(self, mode=0o600)


# The number that chown(2) takes for none; all below it can be those of accounts.
_NONE = (1 << 32) - 1

# What leaves a file as it is.
UNCHANGED = Permissions()


def read(path: str) -> Optional[Permissions]:
    """The permissions of a file, None where there is none; a symbolic link is followed."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Permissions(status.st_mode & 0o777, status.st_uid, status.st_gid)


def asked_for(params: Mapping[str, Any]) -> Permissions:
    """Read the parameters mode, owner and group.

    :raises UserError: one of them is none, and which.
    """
    return Permissions(
        _mode(params["mode"]),
        _number("owner", "user", params["owner"], lambda name: pwd.getpwnam(name).pw_uid),
        _number("group", "group", params["group"], lambda name: grp.getgrnam(name).gr_gid),
    )


def _mode(value: Any) -> Optional[int]:
    if value is None:
        return None
    if isinstance(value, str) and re.match(r"(0o?)?[0-7]{3}\Z", value):
        return int(value[-3:], 8)
    # YAML reads 0600 as a number in octal; 600 is one too, and a mistake.
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 0o777:
        return value
    raise UserError(
        f"The mode {value!r} is not a file's permission bits in octal.",
        'Set mode to an octal number in quotes, for example "0600".',
    )


def _number(option: str, whose: str, name: Optional[str], look_up: Callable[[str], int]) -> Optional[int]:
    """Return the number of a user or group, which may be given as such."""
    if name is None:
        return None
    try:
        number = int(name) if name.isdecimal() else look_up(name)
    except (KeyError, ValueError):
        number = _NONE
    if number >= _NONE:
        raise UserError(
            f"There is no {whose} {name!r} on this host.",
            f"Set {option} to the name or number of a {whose} of this host.",
        )
    return number
