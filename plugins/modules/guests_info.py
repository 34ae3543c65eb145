#!/usr/bin/python

# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: guests_info
short_description: Read the guests of a Xen host as parameters of the module guests
version_added: 0.1.0
description:
  - Reads every configuration of a guest, whoever wrote it, back into the parameters of M(xen.stubdom.guests), so that a
    host that was set up by hand or by another program can be taken over.
  - Files with names of copies are none, such as those that begin with a dot or end in C(~), C(.bak), C(.orig), C(.old),
    C(.dpkg-*), C(.rpm*) or C(.ucf-*).
author:
  - The xen.stubdom authors (@xen-stubdom)
extends_documentation_fragment:
  - xen.stubdom.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: It changes nothing.
  idempotent:
    support: full
  platform:
    support: full
    platforms: linux
options:
  directory:
    description: Where the configurations are.
    type: path
    default: /etc/xen
  firmware_directory:
    description: Where libxl looks for images. Without it, the known directory that holds C(hvmloader).
    type: path
  look_at_disks:
    description:
      - Whether to look at the disks of guests that have their boot loader (pygrub) or their kernel in dom0, and to
        propose how they can boot by themselves.
      - The disks are not mounted. C(grub-fstest) (Debian package C(grub-common)) reads raw images and block devices as
        a user that owns nothing, also while a guest runs, where it may see less than the guest has written.
    type: bool
    default: false
seealso:
  - module: xen.stubdom.guests
  - module: xen.stubdom.xen_info
"""

EXAMPLES = r"""
- name: Read the guests
  xen.stubdom.guests_info:
  register: there

- name: Show them as they are written in the list of the module guests
  ansible.builtin.debug:
    msg: "{{ there.guests | map(attribute='parameters') | to_nice_yaml }}"

- name: Look for a way out of pygrub
  xen.stubdom.guests_info:
    look_at_disks: true
  register: there

- name: Name the guests whose boot loader or device model runs in dom0
  ansible.builtin.debug:
    msg: "{{ there.guests | selectattr('boots', 'search', ' in dom0$') | map(attribute='name') }}"
"""

RETURN = r"""
guests:
  description: The guests that have a configuration, by the names of their files.
  type: list
  elements: dict
  returned: success
  contains:
    name: {description: Name., type: str, sample: web}
    path: {description: The configuration., type: str, sample: /etc/xen/web.cfg}
    managed: {description: Whether M(xen.stubdom.guests) has written it., type: bool, sample: false}
    state:
      description: The guest's state in the words of xl, or V(absent) where there is no such domain.
      type: str
      sample: blocked
    boots:
      description: What boots the guest, or is its device model, and where.
      type: str
      sample: pygrub in dom0
    parameters:
      description:
        - Its parameters for M(xen.stubdom.guests), but for those that are the default, C(state) among them.
        - The UUID of a guest that runs is among them also where the configuration gives none.
      type: dict
      sample: {name: web, type: pv, memory: 512, disks: [{target: /srv/guests/web.img, vdev: xvda}]}
    left_out:
      description: Keys of C(xl.cfg) that are not among the parameters, each with why.
      type: dict
      sample: {vcpu: options.vcpu is no key of xl.cfg}
    proposal:
      description:
        - How the guest can boot by itself, with O(look_at_disks=true), where dom0 has its boot loader or its kernel;
          null elsewhere.
      type: dict
      contains:
        parameters:
          description: The parameters for M(xen.stubdom.guests); empty where something has to be done before.
          type: dict
          sample: {name: web, type: pvh, flavour: grub2, memory: 512}
        why: {description: What was found., type: str, sample: Its menu is /boot/grub/grub.cfg on xvda.}
        loses:
          description: What the guest has now and will not have.
          type: list
          elements: str
          sample: [the boot loader in dom0 (bootloader pygrub)]
        blocked: {description: What has to be done before; empty where nothing has., type: str, sample: ""}
    refused:
      description: Why M(xen.stubdom.guests) would not take these parameters; empty where it would.
      type: str
      sample: ""
"""

import os
from dataclasses import asdict
from typing import Any, Dict, Mapping, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._common import masking
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._guests import (
    boot_loaders,
    config_files,
    disks,
    from_dom0,
    guest_disk,
    host,
    plan,
    reading,
    wanted,
)
from ansible_collections.xen.stubdom.plugins.module_utils._guests.host import Observed
from ansible_collections.xen.stubdom.plugins.module_utils._xen import domains, xl_cfg
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Domain, Xen


def run(module: AnsibleModule) -> Dict[str, Any]:
    directory = module.params["directory"]
    observed = host.observe(Xen(run_program), module.params["firmware_directory"])
    there = {row.name: row for row in observed.rows}
    found = []
    for path, content in config_files.found(directory):
        if masking.may_hold_secrets(content):
            module.no_log_values.update(config_files.secrets(content))
        name = config_files.guest_name(content) or ""
        described = _described(path, content, directory, observed, there.get(name))
        if module.params["look_at_disks"] and from_dom0.concerns(described["parameters"]):
            described["proposal"] = asdict(_proposed(described["parameters"], observed))
        found.append(described)
    return {"changed": False, "guests": found}


def _described(
    path: str, content: bytes, directory: str, observed: Observed, domain: Optional[Domain]
) -> Dict[str, Any]:
    shown: Dict[str, Any] = {
        "name": config_files.guest_name(content),
        "path": path,
        "managed": config_files.ours(content),
        "state": "absent" if domain is None else domains.state(domain.state),
        "boots": "",
        "parameters": {},
        "left_out": {},
        "refused": "",
        "proposal": None,
    }
    try:
        keys = xl_cfg.read(path, content)
    except UserError as error:
        return {**shown, "refused": str(error)}
    if "uuid" not in keys and domain is not None:
        uuid = domains.uuid(domains.nodes_of(observed.xen, [domain.domid]), domain.domid)
        keys.update({} if uuid is None else {"uuid": uuid})
    guest = reading.read(keys, observed.host)
    values = guest.parameters
    if path != os.path.join(directory, f"{shown['name']}.cfg"):
        values["path"] = path
    asked = wanted.read({"guests": [values], "defaults": {}, "directory": directory})[0]
    if config_files.leads_to(asked.link, path) and os.path.islink(asked.link):
        values["autostart"] = True
    return {
        **shown,
        "boots": guest.boots,
        "parameters": values,
        "left_out": guest.left_out,
        "refused": _refused(asked, observed),
    }


def _proposed(parameters: Mapping[str, Any], observed: Observed) -> from_dom0.Proposal:
    xen, directory = observed.xen, observed.host.firmware_directory
    listed = disks.named(parameters.get("disks") or (), hvm=False)
    legacy = {
        arch
        for arch, (_image, name, _capability) in boot_loaders.PV_GRUB.items()
        if directory and os.path.isfile(xen.path(f"{directory}/{name}"))
    }
    found = guest_disk.look(xen.run, listed)
    return from_dom0.propose({**parameters, "disks": listed}, found, observed.host, legacy=legacy)


def _refused(asked: wanted.Wanted, observed: Observed) -> str:
    try:
        if asked.refusal is not None:
            raise asked.refusal
        plan.plan(asked.values, observed.host)
    except UserError as error:
        return str(error)
    return ""


ARGUMENTS: Dict[str, Any] = {
    "directory": {"type": "path", "default": "/etc/xen"},
    "firmware_directory": {"type": "path"},
    "look_at_disks": {"type": "bool", "default": False},
}


def main() -> None:
    run_module(run, argument_spec=ARGUMENTS, supports_check_mode=True)


if __name__ == "__main__":
    main()
