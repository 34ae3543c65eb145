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
  - The kernel is the one that the host runs, unless O(kernel_release) or O(kernel) names another. QEMU, its libraries,
    the clients of xenstore, busybox and the kernel's modules are taken from the host as they are; nothing is compiled
    or fetched.
  - A library that QEMU names and never uses in a stub domain, that of spice, is left out with all that it needs. In its
    place is one that this module makes, whose functions end the program that calls them; RV(manifest) names it as
    C(stand_ins). The graphics card C(qxl) needs spice.
  - The kernel is installed unpacked where its file and the programs of the host allow that, so that libxl does not
    unpack it at each start of a guest. That takes some 60 MB of disk.
  - The kernel is looked at before anything is installed. Whether Xen can start it as a PV domain is read from its file,
    what it has built in from its configuration (C(/boot/config-RELEASE), C(config) in the directory of its modules, or
    in the kernel itself), and its drivers from that directory. A kernel without something that the stub domain needs is
    refused, by the name of the option in its configuration. What nothing is known of is a warning.
  - QEMU gives up root, all capabilities and all files but the guest's disks when it has opened what it needs.
  - A guest with it can be saved and restored.
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
      - V(rollback) puts the previous image back. Until V(present) makes another one, that has been done, and nothing
        changes any more.
      - V(absent) removes the image that this module has installed. Files that were there before are put back.
    type: str
    choices: [present, rollback, absent]
    default: present
  firmware_directory:
    description:
      - The directory in which libxl looks for images.
      - The default is the directory that holds the toolstack's C(hvmloader).
    type: path
  kernel_release:
    description:
      - The release of the kernel, as C(uname -r) says it of one that is installed on the host.
      - The default is the one that the host runs.
    type: str
  kernel:
    description:
      - The file of a kernel of your own, a bzImage.
    type: path
  kernel_modules:
    description:
      - The directory of the kernel's modules, with C(modules.dep) and C(modules.builtin), as C(make modules_install)
        makes it.
      - The default is C(/lib/modules/RELEASE).
    type: path
  renew_with_packages:
    description:
      - Whether the host renews the image by itself after one of the packages was upgraded that it is made of, and after
        it was booted with another kernel. A kernel that O(kernel_release) or O(kernel) names stays the same.
      - The package manager starts a unit of systemd, C(xen-stubdom-renew.service), and does not wait for it. Its
        program is this module's own code, and needs no Ansible on the host. It does what O(state=present) would, and
        the image that was there before is kept in the same way.
      - It renews an image that is as this module has installed it. One that O(state=rollback) has put back stays until
        O(state=present) makes another, one that was altered by hand stays, and none is installed where there is none.
      - Where a renewal fails, the image stays as it was, and the journal says why C(journalctl -u xen-stubdom-renew).
      - V(false) and O(state=absent) remove the unit, its program and what the package manager reads;
        O(state=rollback) leaves them as they are.
      - This needs systemd, and the package manager of Debian and Ubuntu, apt. What C(dpkg) installs without apt is seen
        after the next run of apt that installs something.
    type: bool
    default: false
seealso:
  - module: xen.stubdom.xen_info
"""

EXAMPLES = r"""
- name: Install the Linux stub domain of this host, or update it
  xen.stubdom.linux_stubdom:

- name: Install it, and have apt renew it after its packages were upgraded
  xen.stubdom.linux_stubdom:
    renew_with_packages: true

- name: Make it of another kernel that is installed on the host
  xen.stubdom.linux_stubdom:
    kernel_release: 6.12.90+deb13-amd64

- name: Make it of a kernel of your own
  xen.stubdom.linux_stubdom:
    kernel: /srv/linux/vmlinuz
    kernel_modules: /srv/linux/lib/modules/6.12.90-stubdom

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
    - C(linux) in it is the release of the kernel, and C(kernel_chosen) whether one was asked for.
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

from typing import Any, Dict, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._common import files, manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._images import installed
from ansible_collections.xen.stubdom.plugins.module_utils._images.installed import Contents, Place
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import image, upkeep
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux.hook import Hook
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux.parts import Choice
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

ROOT = "/"


def reason_of(state: str, place: Place, now: Contents, *, changed: bool) -> str:
    """Say why the image is changed, or stays, where it is not made."""
    if changed:
        return "The previous image was asked for." if state == "rollback" else "The image was installed by this module."
    return installed.reason_unchanged(state, place, now)


def hook_of(module: AnsibleModule, xen: Xen, chosen: Choice) -> Optional[Hook]:
    """Return what has the package manager renew the image; a rollback is one of the image alone."""
    given = module.params
    if given["state"] == "rollback":
        return None
    wanted = given["state"] == "present" and given["renew_with_packages"]
    return Hook(xen, wanted=wanted, firmware_directory=given["firmware_directory"], chosen=chosen)


def run(module: AnsibleModule) -> Dict[str, Any]:
    given = module.params
    state = given["state"]
    chosen = Choice(release=given["kernel_release"], kernel=given["kernel"], modules=given["kernel_modules"])
    xen = Xen(run_program, root=ROOT)
    # Plan
    directory = installed.firmware_directory(xen, given["firmware_directory"])
    place = upkeep.place(directory)
    assembly = upkeep.plan(xen, run_program, ROOT, chosen) if state == "present" else None
    # Observe
    now = installed.read(place)
    record = manifest.parse(now[place.manifest])
    before = upkeep.listing(record)
    # Difference
    hook = hook_of(module, xen, chosen)
    doubts = []
    if assembly is not None:
        changes = installed.save(place, now)
        after = image.listing(assembly.identity, assembly.contents)
        wrong = upkeep.outdated(place, now, assembly)
        reason = wrong or upkeep.IN_ORDER
        paths = [*(c.path for c in changes), *place.written] if wrong else []
        if paths:
            doubts = assembly.check()
            upkeep.require_room(place, assembly, changes)
            record = None
    else:
        changes = (installed.remove if state == "absent" else installed.roll_back)(place, now)
        paths = [c.path for c in changes]
        reason = reason_of(state, place, now, changed=bool(changes))
        source = place.previous_manifest if changes else place.manifest
        record = manifest.parse(now[source]) if state == "rollback" else None
        after = upkeep.listing(record)
    # Apply and verify
    if not module.check_mode:
        if paths and assembly is not None:
            changes, record = upkeep.make(place, now, assembly)
            paths = [c.path for c in changes]
        # The hook is before the image: an older program would make an older one again.
        installed.apply(place, now, changes if paths else [], () if hook is None else hook.all)
        if hook is not None:
            hook.settle()
        files.sweep_scratch()
    diff = {"before_header": place.manifest, "after_header": place.manifest, "before": before, "after": after}
    others = [] if hook is None else hook.changes
    return {
        "changed": bool(paths or others),
        "firmware_directory": directory,
        "files": [*paths, *(change.path for change in others)],
        "manifest": None if record is None else record.as_dict(),
        "reason": reason,
        "diff": [*([diff] if paths else []), *files.difference(others)],
        "warnings": [*doubts, *installed.damaged_manifests(place, now)],
    }


def main() -> None:
    run_module(
        run,
        writes_files=True,
        argument_spec={
            "state": {"type": "str", "choices": ["present", "rollback", "absent"], "default": "present"},
            "firmware_directory": {"type": "path"},
            "kernel_release": {"type": "str"},
            "kernel": {"type": "path"},
            "kernel_modules": {"type": "path"},
            "renew_with_packages": {"type": "bool", "default": False},
        },
        mutually_exclusive=[("kernel", "kernel_release")],
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
