# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: in what an image is older than what it was made of.

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version, text
from ansible_collections.xen.stubdom.plugins.module_utils._images import kinds
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

# dpkg's own list, in paragraphs (dpkg-query reads the same file, at the cost of a process).
STATUS = "/var/lib/dpkg/status"


def observe(xen: Xen, images: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """Return images, each with what is newer on this host than what it was made of."""
    release = xen.toolstack_version()
    packages = installed(xen) if any(_assembled(image) for image in images) else {}
    return [{**image, "outdated": outdated(image, packages, os.uname().release, release)} for image in images]


def installed(xen: Xen) -> Dict[str, str]:
    """The versions of the packages that are installed; none where they are not dpkg's."""
    try:
        with open(xen.path(STATUS), encoding="utf-8", errors="replace") as stream:
            return parse(stream.read())
    except OSError:
        return {}


def parse(status: str) -> Dict[str, str]:
    """Read dpkg's list of packages."""
    found = {}
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed") and {"Package", "Version"} <= fields.keys():
            found[fields["Package"]] = fields["Version"]
    return found


def outdated(
    image: Mapping[str, Any], packages: Mapping[str, str], kernel: str, release: Optional[Version]
) -> Optional[List[Dict[str, str]]]:
    """What an image was made of and is another one by now, None where nothing is known of how it was made.

    :param kernel: the release of the Linux that this host runs.
    :param release: the toolstack's.
    """
    record = image["manifest"]
    if record is None:
        return None
    compared = [("xen", record["xen"], None if release is None else text(release))]
    if _assembled(image):
        # A kernel that was chosen need not be the one that the host runs.
        compared += [] if record.get("kernel_chosen") else [("linux", str(record.get("linux")), kernel)]
        compared += [
            (source["name"], source.get("version", ""), packages.get(source["name"])) for source in record["sources"]
        ]
    return [
        {"name": name, "made_of": old, "installed": new}
        for name, old, new in compared
        if new is not None and new != old
    ]


def _assembled(image: Mapping[str, Any]) -> bool:
    return image["manifest"] is not None and image["manifest"]["kind"] == kinds.LINUX
