#!/usr/bin/python

# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_config
short_description: Write the configuration of a Xen guest that boots or is served by a domain of its own
version_added: 0.1.0
description:
  - Writes C(/etc/xen/NAME.cfg) from typed parameters. What this release of Xen cannot do, or would ignore without a
    word, is refused before anything is written.
  - On a host that runs Xen, C(xl create --dryrun) reads what is to be written before it is. What xl refuses fails the
    task, and what it says to ignore is a warning.
  - A guest's UUID is made of its name, so that a domain can be told from another one that has taken the name.
  - It starts and ends nothing; see M(xen.stubdom.guest) for that.
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
options:
  name:
    description: Name of the guest.
    type: str
    required: true
  state:
    description: Whether the configuration is to be there.
    type: str
    choices: [present, absent]
    default: present
  type:
    description: Kind of guest. Required for V(present).
    type: str
    choices: [pv, pvh, hvm]
  flavour:
    description:
      - How a PV or PVH guest boots, V(grub2) with GRUB 2 for Xen or V(legacy) with PV-GRUB on Mini-OS (PV only).
      - Where the device model of an HVM guest runs, V(linux) in a Linux stub domain (Xen 4.14 and newer) or V(minios)
        in a Mini-OS one (up to Xen 4.20).
      - Required for V(present).
    type: str
    choices: [grub2, legacy, linux, minios]
  memory:
    description: Memory in MiB. Required for V(present).
    type: int
  maxmem:
    description: The most memory that the guest may balloon to, in MiB. Without it, O(memory).
    type: int
  vcpus:
    description: Virtual processors.
    type: int
    default: 1
  disks:
    description: The guest's disks.
    type: list
    elements: dict
    default: []
    suboptions:
      target:
        description: The file or block device in dom0. It has to exist.
        type: path
        required: true
      vdev:
        description:
          - The device that the guest sees, for example V(xvda), V(hda) or V(xvda1).
          - Without it, the next free one of V(xvda), V(xvdb) and so on; for HVM guests V(hda) to V(hdd), then V(xvde).
        type: str
      format:
        description: Format of the target.
        type: str
        choices: [raw, qcow2, qcow, vhd]
        default: raw
      access:
        description: Whether the guest may write to it.
        type: str
        choices: [rw, ro]
        default: rw
      cdrom:
        description: Whether it is a CD-ROM.
        type: bool
        default: false
      backendtype:
        description: What serves the disk. Without it, libxl chooses.
        type: str
        choices: [phy, qdisk, tap]
      script:
        description: Program that makes the target available.
        type: str
  nics:
    description: The guest's network interfaces.
    type: list
    elements: dict
    default: []
    suboptions:
      bridge:
        description: Bridge in dom0.
        type: str
      mac:
        description: MAC address. Without one, each start makes up another.
        type: str
      model:
        description: Emulated model, for HVM guests.
        type: str
      ip:
        description: Addresses that the interface may use.
        type: str
      script:
        description: Program that connects the interface.
        type: str
      vifname:
        description: Name of the interface in dom0.
        type: str
  kernel:
    description: The image to boot with. Without it, the one of O(flavour).
    type: path
  arch:
    description: Architecture of the guest's kernel, which PV-GRUB has to have too (V(legacy)).
    type: str
    choices: [x86_64, x86_32]
    default: x86_64
  menu:
    description:
      - Where PV-GRUB reads its menu (V(legacy)), for example V((hd0,0)/boot/grub/menu.lst) on a disk with partitions,
        V((hd0)/boot/grub/menu.lst) on one that is a file system, or V((nd)/guests/menu.lst) over the network.
      - Without O(menu) and O(menu_file) the path comes from DHCP, as option 150.
    type: str
  menu_file:
    description: A file in dom0 that is the menu of PV-GRUB (V(legacy)).
    type: path
  boot:
    description: Order in which an HVM guest tries to boot, for example V(cd).
    type: str
  serial:
    description: Where an HVM guest's serial port leads. A stub domain can serve V(pty) only.
    type: str
    default: pty
  vnc:
    description: Whether an HVM guest has a screen over VNC on dom0's loopback (V(minios)).
    type: bool
    default: false
  stubdomain_memory:
    description:
      - Memory of the stub domain in MiB. Without it, what its image is recorded to need, or else what libxl gives.
    type: int
  stubdomain_kernel:
    description: Kernel of the stub domain. Without it, the one in the firmware directory.
    type: path
  stubdomain_ramdisk:
    description: Root file system of the Linux stub domain. Without it, the one in the firmware directory.
    type: path
  stubdomain_cmdline:
    description: Words for the kernel of the Linux stub domain, after those that its image is recorded to need.
    type: str
  firmware_override:
    description: An hvmloader with ROMBIOS (V(minios)). Without it, the one that the image V(ioemu) brings.
    type: path
  device_model_override:
    description:
      - The program in dom0 that serves the stub domain's consoles (V(minios)). Without it, the one that the image
        V(ioemu) brings.
    type: path
  on_poweroff:
    description: What becomes of the guest when it powers off.
    type: str
    choices: [destroy, restart, rename-restart, preserve, coredump-destroy, coredump-restart]
  on_reboot:
    description: What becomes of the guest when it reboots.
    type: str
    choices: [destroy, restart, rename-restart, preserve, coredump-destroy, coredump-restart]
  on_crash:
    description: What becomes of the guest when it crashes.
    type: str
    choices: [destroy, restart, rename-restart, preserve, coredump-destroy, coredump-restart]
  uuid:
    description: Identity of the guest. Without it, one that is made of the name.
    type: str
  autostart:
    description: Whether the guest is started with the host, by a link in C(auto) beside the configuration.
    type: bool
    default: false
  options:
    description:
      - More keys of C(xl.cfg) as they are. Those that other parameters speak for are refused, and so is what the host's
        release of xl would ignore or refuse; a misspelt key is refused with the nearest name.
      - What cannot work with a flavour is refused with the reason, as C(spice) is for V(linux) and V(minios).
      - Passwords in it, such as C(vncpasswd), are masked in the result.
    type: dict
    default: {}
  allow_weaker_isolation:
    description:
      - Whether O(options) of an HVM guest may have keys that lead past its stub domain, as C(pci), C(usbdev),
        C(channel) and C(device_model_args) do. Without it, each is refused with what it would do.
    type: bool
    default: false
  firmware_directory:
    description: Where libxl looks for images. Without it, the known directory that holds C(hvmloader).
    type: path
  path:
    description: The configuration. Without it, C(/etc/xen/NAME.cfg).
    type: path
  mode:
    description:
      - Permission bits of the file, as an octal number in quotes.
      - Without it, a new file has V(0644) and one that is there keeps its own. A file that holds a password, such as
        C(vncpasswd) in O(options), has V(0600).
    type: raw
  owner:
    description: Owner of the file, a name or number. Without it, it stays; that of a new file is the remote user.
    type: str
  group:
    description: Group of the file, a name or number. Without it, it stays; that of a new file is the remote user's.
    type: str
  replace:
    description: Whether a file at O(path) that was not written by this module may be replaced or removed.
    type: bool
    default: false
  check_start:
    description:
      - Whether to check too that the guest can be started, that is the images, the free memory and, for a stub domain,
        that the memory of dom0 is fixed.
    type: bool
    default: false
  backup:
    description: Whether to keep a copy of the file if it is changed.
    type: bool
    default: false
seealso:
  - module: xen.stubdom.guest
  - module: xen.stubdom.xen_info
"""

EXAMPLES = r"""
- name: Define a PV guest that boots with GRUB 2 from its own disk
  xen.stubdom.guest_config:
    name: web
    type: pv
    flavour: grub2
    memory: 512
    disks:
      - target: /srv/guests/web.img
        vdev: xvda
    nics:
      - bridge: xenbr0

- name: Define an HVM guest whose QEMU runs in a stub domain
  xen.stubdom.guest_config:
    name: files
    type: hvm
    flavour: linux
    memory: 1024
    disks:
      - target: /srv/guests/files.img
        vdev: hda

- name: Forget a guest
  xen.stubdom.guest_config:
    name: web
    state: absent
"""

RETURN = r"""
path:
  description: The configuration.
  type: str
  returned: success
  sample: /etc/xen/web.cfg
settings:
  description: The keys of the configuration, passwords masked; empty with O(state=absent).
  type: dict
  returned: success
  sample: {name: web, type: pv, memory: 512}
grub_names:
  description: What legacy PV-GRUB calls each disk.
  type: dict
  returned: success
  sample: {xvda: (hd0)}
needed_mib:
  description: Memory that the host has to have free to start the guest, in MiB, its stub domain included.
  type: int
  returned: success
  sample: 514
differs:
  description: Whether the configuration was not as asked for, which is what C(changed) is made of.
  type: bool
  returned: success
  sample: true
free_mib:
  description: Memory that no domain has, in MiB; null without O(check_start=true).
  type: int
  returned: success
  sample: 2900
domid:
  description: Number of the guest's domain; null where there is none, and without O(check_start=true).
  type: int
  returned: success
  sample: 3
autostart:
  description: Whether the guest is started with the host.
  type: bool
  returned: success
  sample: false
backup_files:
  description: Copies of the file before the change, by file.
  type: dict
  returned: when O(backup=true)
  sample: {/etc/xen/web.cfg: /etc/xen/web.cfg.1234.2026-01-31@12:00:00~}
"""

import os
from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._common import files, masking, permissions
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._guests import model, plan
from ansible_collections.xen.stubdom.plugins.module_utils._guests.config_files import (
    HEADER,
    check_autostart,
    check_gone,
    check_place,
    leads_to,
    prove,
    prove_autostart,
    secrets,
)
from ansible_collections.xen.stubdom.plugins.module_utils._guests.host import check_needs, check_start, observe_host
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


def run(module: AnsibleModule) -> Dict[str, Any]:
    params = module.params
    xen = Xen(run_program)
    name: str = params["name"]
    present = params["state"] == "present"
    plan.check_name(name)
    path: str = params["path"] or f"/etc/xen/{name}.cfg"
    if present and params["check_start"]:
        xen.require_dom0()
    before = files.read(path, longest=xl_cfg.LONGEST)
    # The file may hold an older password than the parameters.
    module.no_log_values.update(secrets(before))
    planned = model.Plan()
    if present:
        planned = plan.plan(params, observe_host(xen, params["firmware_directory"]))
        check_needs(xen, planned, start=params["check_start"])
    check_place(path, name, before, planned if present else None, replace=params["replace"])
    found: Dict[str, Any] = {"free_mib": None, "domid": None}
    if present and params["check_start"]:
        found = check_start(xen, planned)
    if not present:
        check_gone(xen, name, before, path)

    after = xl_cfg.emit(planned.keys, header=[HEADER]) if present else None
    # What xl's own parser says, before anything is written.
    warnings = xen.dry_run(after) if after is not None and after != before and xen.is_dom0() else []
    link = os.path.join(os.path.dirname(path), "auto", os.path.basename(path))
    wanted = os.path.join("..", os.path.basename(path)) if present and params["autostart"] else None
    linked = files.link(link)
    if wanted is not None:
        check_autostart(link, linked, path, replace=params["replace"])
    elif linked is not None and not leads_to(link, path):
        # It starts another guest, and is none of ours.
        wanted = linked
    there = permissions.read(path)
    asked = permissions.asked_for(params)
    if masking.secrets(planned.keys):
        asked = asked.closed(there)
    change = files.Change(path, before, after, permissions=asked, found=there)
    changes: List[files.AnyChange] = [change, files.Link(link, linked, wanted)]
    # xendomains never finds a link to a file that is not there.
    changes = changes if present else changes[::-1]
    backups: Dict[str, str] = {}
    if not module.check_mode:
        backups = files.apply(changes, backup=params["backup"])
        if present:
            prove(path, planned)
            prove_autostart(link, path, wanted=params["autostart"])
    differs = any(change.needed for change in changes)
    result: Dict[str, Any] = {
        "changed": differs,
        "differs": differs,
        "path": path,
        "settings": masking.masked(planned.keys),
        "grub_names": planned.grub_names,
        "needed_mib": plan.memory_mib(planned.keys) if present else 0,
        "autostart": present and params["autostart"],
        **found,
        "warnings": [f"xl says of {path}: {warning}" for warning in warnings],
        "diff": files.difference(changes),
    }
    if params["backup"]:
        result["backup_files"] = backups
    return result


ENDS = ["destroy", "restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart"]

ARGUMENTS: Dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "type": {"type": "str", "choices": ["pv", "pvh", "hvm"]},
    "flavour": {"type": "str", "choices": ["grub2", "legacy", "linux", "minios"]},
    "memory": {"type": "int"},
    "maxmem": {"type": "int"},
    "vcpus": {"type": "int", "default": 1},
    "disks": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "target": {"type": "path", "required": True},
            "vdev": {"type": "str"},
            "format": {"type": "str", "choices": ["raw", "qcow2", "qcow", "vhd"], "default": "raw"},
            "access": {"type": "str", "choices": ["rw", "ro"], "default": "rw"},
            "cdrom": {"type": "bool", "default": False},
            "backendtype": {"type": "str", "choices": ["phy", "qdisk", "tap"]},
            "script": {"type": "str"},
        },
    },
    "nics": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {key: {"type": "str"} for key in ("bridge", "mac", "model", "ip", "script", "vifname")},
    },
    "kernel": {"type": "path"},
    "arch": {"type": "str", "choices": ["x86_64", "x86_32"], "default": "x86_64"},
    "menu": {"type": "str"},
    "menu_file": {"type": "path"},
    "boot": {"type": "str"},
    "serial": {"type": "str", "default": "pty"},
    "vnc": {"type": "bool", "default": False},
    "stubdomain_memory": {"type": "int"},
    "stubdomain_kernel": {"type": "path"},
    "stubdomain_ramdisk": {"type": "path"},
    "stubdomain_cmdline": {"type": "str"},
    "firmware_override": {"type": "path"},
    "device_model_override": {"type": "path"},
    "on_poweroff": {"type": "str", "choices": ENDS},
    "on_reboot": {"type": "str", "choices": ENDS},
    "on_crash": {"type": "str", "choices": ENDS},
    "uuid": {"type": "str"},
    "autostart": {"type": "bool", "default": False},
    "options": {"type": "dict", "default": {}},
    "allow_weaker_isolation": {"type": "bool", "default": False},
    "firmware_directory": {"type": "path"},
    "path": {"type": "path"},
    "mode": {"type": "raw"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "replace": {"type": "bool", "default": False},
    "check_start": {"type": "bool", "default": False},
    "backup": {"type": "bool", "default": False},
}


def main() -> None:
    run_module(
        run,
        writes_files=True,
        argument_spec=ARGUMENTS,
        required_if=[("state", "present", ("type", "flavour", "memory"))],
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
