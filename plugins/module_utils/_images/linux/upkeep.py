# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the Linux stub domain in its place: whether it is made of what is on the host
# now, and what has to be written so that it is.

from __future__ import annotations

from typing import List, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.files import Change
from ansible_collections.xen.stubdom.plugins.module_utils._common.manifest import Manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import text
from ansible_collections.xen.stubdom.plugins.module_utils._images import installed, kinds
from ansible_collections.xen.stubdom.plugins.module_utils._images.installed import Contents, Place
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import image, parts
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux.assembly import Assembly
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux.parts import Choice
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

IN_ORDER = "The image is made of the files that are on this host now."


def place(directory: str) -> Place:
    """Return the files of the image in the firmware directory."""
    return Place(directory, (kinds.LINUX_KERNEL, kinds.LINUX_ROOT_FILE_SYSTEM), kinds.LINUX)


def plan(xen: Xen, run: Runner, root: str, chosen: Choice) -> Assembly:
    """Return the image as it would be made now.

    :param chosen: the kernel that is asked for.

    :raises UserError: something is missing, or the host does not run Xen.
    """
    xen.require_dom0()
    return Assembly(parts.plan(chosen, xen.version(), run, root=root), text(xen.version()), run, root=root)


def outdated(of: Place, now: Contents, assembly: Assembly) -> Optional[str]:
    """Say why the image has to be made, in one sentence; None if it has not."""
    wrong = installed.problem(of, now)
    if wrong is None and installed.identity(of, now) != assembly.identity:
        wrong = "The files on this host are not those that the image was made of."
    return wrong


def require_room(of: Place, assembly: Assembly, changes: List[Change]) -> None:
    """:raises UserError: there is none for the image and what keeps the one before."""
    files.require_room(of.directory, assembly.most_bytes + sum(len(change.after or b"") for change in changes))


def make(of: Place, now: Contents, assembly: Assembly) -> Tuple[List[Change], Manifest]:
    """Make the image; return what has to be written, and the manifest.

    :raises UserError: it cannot be made.
    """
    contents, record = assembly.make()
    return installed.install(of, now, contents, record), record


def listing(record: Optional[Manifest]) -> str:
    """Return what an image is made of, a line each, as a difference shows it."""
    return "" if record is None else image.listing(record.identity, record.more.get("contents"))
