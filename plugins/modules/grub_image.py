#!/usr/bin/python
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: grub_image
short_description: Make GRUB 2 for the guests of a Xen host from the host's own packages
version_added: 0.1.0
description:
  - Makes images of GRUB 2 that PV and PVH guests boot as their kernel, and one that starts a kernel of dom0 for an HVM
    guest, with C(grub-mkimage) and the modules of the distribution. Nothing is compiled or fetched.
  - An image for PV and PVH guests searches all disks of its guest, partitions and logical volumes among them, for a
    menu of GRUB 2 (C(/boot/grub/grub.cfg), C(/grub/grub.cfg), C(/boot/grub2/grub.cfg), C(/grub2/grub.cfg)), then for
    one of extlinux or syslinux, then for entries of the Boot Loader Specification (C(loader/entries)). It knows the
    command C(blscfg), which Fedora and its relatives have in their menus.
  - The images are installed in the firmware directory as C(grub2-PLATFORM.bin), with a manifest C(grub2-PLATFORM.json)
    beside each. M(xen.stubdom.guests) takes them for guests of the flavour V(grub2) in place of the distribution's own,
    and the one for HVM guests where such a guest has a kernel of dom0.
  - An image is made again when a module of the distribution, or this module's way of making it, has changed. Equal
    files give an equal image.
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
  - C(grub-mkimage), and the modules of GRUB 2 for Xen guests; Debian has them in the packages C(grub-common) and
    C(grub-xen-bin), and those for HVM guests in C(grub-pc-bin)
options:
  state:
    description:
      - Whether the images should exist.
      - V(rollback) puts the previous image of each platform back, or of none if one of them has no previous one. Until
        V(present) makes another one, that has been done, and nothing changes any more.
      - V(absent) removes the images that this module has installed. Files that were there before are put back.
    type: str
    choices: [present, rollback, absent]
    default: present
  platforms:
    description:
      - What the images are for, V(i386-xen_pvh) for PVH guests, V(x86_64-xen) for 64-bit PV guests, V(i386-xen) for
        32-bit PV guests and V(i386-pc-eltorito) for HVM guests.
      - The default is each that the host has modules for; with V(rollback) and V(absent), each that is installed.
        Modules for HVM guests alone, which a host has that boots by its BIOS, are not enough for V(present).
    type: list
    elements: str
    choices: [i386-xen_pvh, x86_64-xen, i386-xen, i386-pc-eltorito]
  firmware_directory:
    description:
      - The directory of the images.
      - The default is the directory that holds the toolstack's C(hvmloader).
    type: path
seealso:
  - module: xen.stubdom.guests
"""

EXAMPLES = r"""
- name: Make GRUB 2 for guests, or update it
  xen.stubdom.grub_image:

- name: Put the previous image for PVH guests back
  xen.stubdom.grub_image:
    state: rollback
    platforms: [i386-xen_pvh]

- name: Remove all
  xen.stubdom.grub_image:
    state: absent
"""

RETURN = r"""
firmware_directory:
  description: The directory of the images.
  type: str
  returned: success
  sample: /usr/lib/xen-4.20/boot
files:
  description: Files that were written or removed; in check mode, those that would be.
  type: list
  elements: str
  returned: success
  sample: [/usr/lib/xen-4.20/boot/grub2-i386-xen_pvh.bin]
images:
  description: The images, in the order of O(platforms).
  type: list
  elements: dict
  returned: success
  contains:
    platform:
      description: What the image is for.
      type: str
      sample: i386-xen_pvh
    path:
      description: Its file.
      type: str
      sample: /usr/lib/xen-4.20/boot/grub2-i386-xen_pvh.bin
    identity:
      description: What is equal for two images if there is no need to make the second; null without an image of ours.
      type: str
      sample: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    reason:
      description: Why the image was changed, or why it was left as it is, in one sentence.
      type: str
      sample: The image is made of the modules that are on this host now.
"""

import os
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._common import files, manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import text
from ansible_collections.xen.stubdom.plugins.module_utils._images import installed
from ansible_collections.xen.stubdom.plugins.module_utils._images.grub2 import assembly, image
from ansible_collections.xen.stubdom.plugins.module_utils._images.grub2.assembly import Parts
from ansible_collections.xen.stubdom.plugins.module_utils._images.installed import Contents, Place
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

ROOT = "/"


@dataclass
class Job:
    """One image, and what happens to it.

    :param parts: what it is made of, None where it is not made.
    """

    platform: str
    place: Place
    now: Contents
    parts: Optional[Parts]
    changes: List[files.Change]
    reason: str
    paths: List[str]


def to_make(directory: str, parts: Parts) -> Job:
    """Compare an image with what it would be made of now."""
    place = image_place(directory, parts.platform)
    now = installed.read(place)
    wrong = installed.problem(place, now)
    if wrong is None and installed.identity(place, now) != assembly.identity(parts, root=ROOT):
        wrong = "The modules on this host are not those that the image was made of."
    reason = wrong or "The image is made of the modules that are on this host now."
    changes = installed.save(place, now) if wrong else []
    paths = [*(change.path for change in changes), *place.written] if wrong else []
    return Job(parts.platform, place, now, parts, changes, reason, paths)


def to_undo(directory: str, platform: str, state: str) -> Job:
    """Compare an image with what it is without this module, or was before."""
    place = image_place(directory, platform)
    now = installed.read(place)
    changes = (installed.remove if state == "absent" else installed.roll_back)(place, now)
    if changes:
        reason = "The previous image was asked for." if state == "rollback" else "The image was made by this module."
    else:
        reason = installed.reason_unchanged(state, place, now)
    return Job(platform, place, now, None, changes, reason, [change.path for change in changes])


def image_place(directory: str, platform: str) -> Place:
    file = image.file_name(platform)
    return Place(directory, (file,), os.path.splitext(file)[0])


def jobs(xen: Xen, directory: str, state: str, asked: Optional[Sequence[str]]) -> List[Job]:
    if state == "present":
        return [to_make(directory, parts) for parts in assembly.find(xen.distribution, asked, root=ROOT)]
    platforms = asked
    if platforms is None:
        places = {platform: image_place(directory, platform) for platform in image.PLATFORMS}
        platforms = [name for name, place in places.items() if any(map(os.path.lexists, place.all))]
    return [to_undo(directory, platform, state) for platform in platforms]


def apply(job: Job, release: str) -> None:
    if job.parts is not None and job.paths:
        contents, record = assembly.make(job.parts, release, run_program, root=ROOT)
        job.changes = installed.install(job.place, job.now, contents, record)
        job.paths = [change.path for change in job.changes]
    installed.apply(job.place, job.now, job.changes)
    job.now = installed.read(job.place)


def described(job: Job, *, made: bool) -> Dict[str, Any]:
    identity = installed.identity(job.place, job.now)
    if job.parts is not None and not made:
        identity = assembly.identity(job.parts, root=ROOT)
    return {"platform": job.platform, "path": job.place.path, "identity": identity, "reason": job.reason}


def difference(job: Job) -> Dict[str, str]:
    """What an image is made of before and after, as people read it."""
    before = manifest.parse(job.now[job.place.manifest])
    after = None
    if job.parts is not None:
        after = [assembly.identity(job.parts, root=ROOT), *job.parts.modules]
    else:
        left = next((change.after for change in job.changes if change.path == job.place.manifest), None)
        record = manifest.parse(left)
        after = None if record is None else [record.identity, *record.more.get("modules", [])]
    return {
        "before_header": job.place.manifest,
        "after_header": job.place.manifest,
        "before": "" if before is None else _lines([before.identity, *before.more.get("modules", [])]),
        "after": "" if after is None else _lines(after),
    }


def _lines(words: Sequence[Any]) -> str:
    return "".join(f"{word}\n" for word in words)


def run(module: AnsibleModule) -> Dict[str, Any]:
    state = module.params["state"]
    xen = Xen(run_program, root=ROOT)
    # Plan
    directory = installed.firmware_directory(xen, module.params["firmware_directory"])
    release = text(xen.version() if xen.is_dom0() else xen.toolstack_version(), "unknown")
    # Observe, difference
    planned = jobs(xen, directory, state, module.params["platforms"])
    changed = any(job.paths for job in planned)
    warnings = [said for job in planned for said in installed.damaged_manifests(job.place, job.now)]
    diff = [difference(job) for job in planned if job.paths]
    # Apply and verify
    if not module.check_mode:
        for job in planned:
            apply(job, release)
        files.sweep_scratch()
    return {
        "changed": changed,
        "firmware_directory": directory,
        "files": [path for job in planned for path in job.paths],
        "images": [described(job, made=not module.check_mode) for job in planned],
        "diff": diff,
        "warnings": warnings,
    }


def main() -> None:
    run_module(
        run,
        writes_files=True,
        argument_spec={
            "state": {"type": "str", "choices": ["present", "rollback", "absent"], "default": "present"},
            "platforms": {"type": "list", "elements": "str", "choices": list(image.PLATFORMS)},
            "firmware_directory": {"type": "path"},
        },
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
