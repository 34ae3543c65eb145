# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: a file that has to be on a host.

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Callable, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

# Where a path of the host is found; another place than the path itself only in tests.
Locate = Callable[[str], str]


@dataclass(frozen=True)
class Requirement:
    """A file that has to be there.

    :param paths: one of them is enough.
    :param what: what it is, for the message.
    :param remedy: what to do without it.
    :param to_start: whether only a start needs it; else the configuration makes no sense without it.
    :param executable: whether it has to be a program.
    :param fits: whether it is what it has to be, by its content.
    :param key: the key of xl.cfg that names the path which was found.
    :param own: what the first of *paths* needs itself.
    :param unfit: why the file that is there cannot serve, as a sentence.
    """

    paths: Tuple[str, ...]
    what: str
    remedy: str
    to_start: bool = True
    executable: bool = False
    fits: Optional[Callable[[bytes], bool]] = None
    key: Optional[str] = None
    own: Optional[Requirement] = None
    unfit: Optional[str] = None


def satisfied(requirement: Requirement, path: str, locate: Locate = str) -> bool:
    """Whether a path is as it has to be."""
    found = locate(path)
    if not os.path.exists(found) or not os.access(found, os.X_OK if requirement.executable else os.R_OK):
        return False
    return requirement.fits is None or requirement.fits(files.read(found) or b"")


def satisfy(requirement: Requirement, locate: Locate = str) -> str:
    """Return the first path that is as it has to be.

    :raises UserError: none is, or it cannot serve.
    """
    path = next((path for path in requirement.paths if satisfied(requirement, path, locate)), None)
    if path is None:
        others = [path for path in requirement.paths if os.path.exists(locate(path))]
        if requirement.fits is not None and others:
            raise UserError(f"{others[0]} is not {requirement.what}.", requirement.remedy)
        raise UserError(f"There is no {' and no '.join(requirement.paths)}: {requirement.what}.", requirement.remedy)
    if requirement.unfit is not None:
        raise UserError(requirement.unfit, requirement.remedy)
    if requirement.own is not None and path == requirement.paths[0]:
        satisfy(requirement.own, locate)
    return path
