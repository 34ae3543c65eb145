#!/usr/bin/python

# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: linux_stubdom
short_description: Assemble the Linux stub domain of a Xen host from the host's own packages
version_added: 0.1.0
description:
  - Assembles the image of a stub domain in which QEMU runs as the device model of HVM guests.
  - It is installed where libxl looks for it, as C(qemu-stubdom-linux-kernel) and C(qemu-stubdom-linux-rootfs), with a
    manifest C(linux.json) beside.
  - The kernel is the one that the host runs. QEMU, its libraries, the clients of xenstore, busybox and the kernel's
    modules are taken from the host as they are; nothing is compiled or fetched.
  - The image is made again when one of those files, or this module's way of making it, has changed. Equal files give
    an equal image.
  - The image that was there before is kept, as C(FILE.previous), for O(state=rollback).
  - Running guests get the new image when they start the next time.
author:
  - The xen.stubdom authors (@xen-stubdom)
extends_documentation_fragment:
  - xen.stubdom.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    support: full
    platforms: linux
requirements:
  - QEMU for Xen, xenstore's clients, a static busybox, boot ROMs and mksquashfs on the host; Debian has
    them in the packages C(qemu-system-xen), C(xenstore-utils), C(busybox-static), C(seabios), C(ipxe-qemu) and
    C(squashfs-tools)
  - an x86-64 host
options:
  state:
    description:
      - Whether the image should exist.
      - V(rollback) puts the previous image back, once; the next run with V(present) makes the image again.
      - V(absent) removes the image that this module has installed. Files that were there before are put back.
    type: str
    choices: [present, rollback, absent]
    default: present
  firmware_directory:
    description:
      - The directory in which libxl looks for images.
      - The default is the directory that holds the toolstack's C(hvmloader).
    type: path
seealso:
  - module: xen.stubdom.xen_info
"""

EXAMPLES = r"""
- name: Install the Linux stub domain of this host, or update it
  xen.stubdom.linux_stubdom:

- name: Put the previous image back
  xen.stubdom.linux_stubdom:
    state: rollback

- name: Remove it
  xen.stubdom.linux_stubdom:
    state: absent
"""

RETURN = r"""
firmware_directory:
  description: The directory of the image.
  type: str
  returned: success
  sample: /usr/lib/xen-4.20/boot
files:
  description: Files that were written or removed; in check mode, those that would be.
  type: list
  elements: str
  returned: success
  sample: [/usr/lib/xen-4.20/boot/qemu-stubdom-linux-kernel]
manifest:
  description:
    - What the image was made of.
    - It is null when there is none, when it would be made in check mode, and when files without a manifest were put
      back.
  type: dict
  returned: success
  sample: {kind: linux, xen: "4.20", memory_mib: 112}
reason:
  description: Why the image was changed, or why it was left as it is, in one sentence.
  type: str
  returned: success
  sample: The image is made of the files that are on this host now.
"""

import os
from typing import Any, Dict, List, Optional, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._common import files, manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.manifest import Manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import text
from ansible_collections.xen.stubdom.plugins.module_utils._images import installed
from ansible_collections.xen.stubdom.plugins.module_utils._images.installed import Contents, Place
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import image, parts
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux.assembly import Assembly
from ansible_collections.xen.stubdom.plugins.module_utils._xen import firmware
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

ROOT = "/"

# What becomes of the image: the files that change, the manifest and the listing of what is there then, and why.
Result = Tuple[List[str], Optional[Manifest], str, str]


def firmware_directory(xen: Xen, named: Optional[str]) -> str:
    if named is None:
        return firmware.directory(xen)
    if not os.path.isdir(named):
        raise UserError(
            f"There is no firmware directory {named}.",
            "Set firmware_directory to the directory that holds hvmloader, or leave it out to have it found.",
        )
    return named


def present(place: Place, now: Contents, assembly: Assembly, check_mode: bool) -> Result:
    reason = installed.problem(place, now)
    if reason is None and installed.identity(place, now) != assembly.identity:
        reason = "The files on this host are not those that the image was made of."
    listing = image.listing(assembly.identity, assembly.contents)
    if reason is None:
        reason = "The image is made of the files that are on this host now."
        return [], manifest.parse(now[place.manifest]), reason, listing
    saved = installed.save(place, now)
    files.require_room(place.directory, assembly.most_bytes + sum(len(change.after or b"") for change in saved))
    if check_mode:
        written = [place.manifest, *(place.path_of(file) for file in place.files)]
        return [*(change.path for change in saved), *written], None, reason, listing
    contents, record = assembly.make()
    changes = installed.install(place, now, contents, record)
    installed.apply(changes)
    return [change.path for change in changes], record, reason, listing


def absent(place: Place, now: Contents, check_mode: bool) -> Result:
    changes = installed.remove(place, now)
    if not check_mode:
        installed.apply(changes)
    if changes:
        reason = "The image was installed, and state is absent."
    elif any(now[place.path_of(file)] is not None for file in place.files):
        reason = f"{place.path} has no manifest: another program or administrator put it there, and it stays as it is."
    else:
        reason = "There is no image."
    return [change.path for change in changes], None, reason, ""


def rollback(place: Place, now: Contents, check_mode: bool) -> Result:
    changes = installed.roll_back(place, now)
    if not check_mode:
        installed.apply(changes)
    record = manifest.parse(now[place.previous_manifest])
    return [change.path for change in changes], record, "The previous image was asked for.", described(record)


def described(record: Optional[Manifest]) -> str:
    return "" if record is None else image.listing(record.identity, record.more.get("contents"))


def run(module: AnsibleModule) -> Dict[str, Any]:
    state, check_mode = module.params["state"], module.check_mode
    xen = Xen(run_program, root=ROOT)
    directory = firmware_directory(xen, module.params["firmware_directory"])
    place = Place(directory, (parts.KERNEL, parts.ROOT_FILE_SYSTEM), parts.IMAGE)
    if state == "present":
        xen.require_dom0()
        plan = parts.plan(os.uname().release, xen.version(), root=ROOT)
        assembly = Assembly(plan, text(xen.version()), run_program, root=ROOT)
    now = installed.read(place)
    if state == "present":
        changed, record, reason, listing = present(place, now, assembly, check_mode)
    else:
        changed, record, reason, listing = (absent if state == "absent" else rollback)(place, now, check_mode)
    diff = {
        "before_header": place.manifest,
        "after_header": place.manifest,
        "before": described(manifest.parse(now[place.manifest])),
        "after": listing,
    }
    return {
        "changed": bool(changed),
        "firmware_directory": directory,
        "files": changed,
        "manifest": None if record is None else record.as_dict(),
        "reason": reason,
        "diff": [diff] if changed else [],
        "warnings": installed.damaged_manifests(place, now),
    }


def main() -> None:
    run_module(
        run,
        writes_files=True,
        argument_spec={
            "state": {"type": "str", "choices": ["present", "rollback", "absent"], "default": "present"},
            "firmware_directory": {"type": "path"},
        },
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
