#!/usr/bin/python

# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: xen_info
short_description: Read everything about a Xen host at once
version_added: 0.1.0
description:
  - Reads the versions of hypervisor and toolstack, the Xen command line, the memory, the images in the firmware
    directory, and the guests with the places where their device models run.
  - On a machine that does not run Xen it returns what can be known there, and fails if O(require=true).
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
  require:
    description: Whether to fail on a machine that is not the control domain of a running hypervisor.
    type: bool
    default: false
  firmware_directory:
    description:
      - The directory in which libxl looks for images.
      - The default is the directory that holds the toolstack's C(hvmloader).
    type: path
  helpers_directory:
    description:
      - The directory of the dom0 helper programs of C(ioemu). The default is C(helpers) in the firmware directory.
    type: path
  xl_conf:
    description: Path of the toolstack's configuration file.
    type: path
    default: /etc/xen/xl.conf
seealso:
  - module: xen.stubdom.dom0_mem
  - module: xen.stubdom.xl_conf
"""

EXAMPLES = r"""
- name: Read the host
  xen.stubdom.xen_info:
  register: host

- name: Show the guests whose device model runs in a stub domain
  ansible.builtin.debug:
    msg: "{{ host.guests | map(attribute='stub_domain_of') | select }}"

- name: Stop where Xen does not run
  xen.stubdom.xen_info:
    require: true
"""

RETURN = r"""
running:
  description: Whether this machine is the control domain of a running hypervisor.
  type: bool
  returned: success
  sample: true
hypervisor:
  description: The running hypervisor; all of it null where there is none.
  type: dict
  returned: success
  contains:
    version: {description: Its full version., type: str, sample: 4.20.5-pre}
    major: {description: First number of the release., type: int, sample: 4}
    minor: {description: Second number of the release., type: int, sample: 20}
    arch: {description: Architecture of the host., type: str, sample: x86_64}
    capabilities: {description: Kinds of guests that it runs., type: list, elements: str, sample: [xen-3.0-x86_64]}
    virt_caps: {description: Features of the processors., type: list, elements: str, sample: [pv, hvm, hap]}
    command_line: {description: The options that it was started with., type: str, sample: placeholder loglvl=all}
toolstack:
  description: The toolstack.
  type: dict
  returned: success
  contains:
    version: {description: Release of libxl; null where it is not installed., type: str, sample: '4.20'}
boot_line:
  description: The hypervisor's whole command line in its three states, each null where it cannot be known.
  type: dict
  returned: success
  contains:
    loader: {description: The boot loader., type: str, sample: grub2}
    configured: {description: Options in the loader's source files., type: str, sample: loglvl=all}
    effective: {description: Options that the next boot will pass., type: str, sample: loglvl=all}
    running: {description: Options that the hypervisor was started with., type: str, sample: placeholder loglvl=all}
    boots_xen: {description: Whether the next boot starts Xen., type: bool, sample: true}
    reboot_required: {description: Whether the next boot passes other options., type: bool, sample: false}
    reboot_reason:
      description: Why a reboot is required, or why it is not, in one sentence.
      type: str
      sample: The hypervisor runs with the words that the next boot passes.
memory:
  description: Memory in MiB; all of it null where Xen does not run.
  type: dict
  returned: success
  contains:
    total_mib: {description: Memory of the whole host., type: int, sample: 4095}
    free_mib: {description: Memory that no domain has., type: int, sample: 2900}
    dom0_mib: {description: Memory that dom0 has., type: int, sample: 1024}
    dom0_max_mib: {description: Maximum that dom0 may have; null for no limit., type: int, sample: 1024}
    dom0_fixed:
      description: Whether dom0 was started with the maximum that it may have and xl takes no memory from it.
      type: bool
      sample: true
    autoballoon: {description: 'Setting of C(xl.conf): V(on), V(off) or V(auto).', type: str, sample: 'off'}
firmware_directory:
  description: The directory in which libxl looks for images; null if it was not found.
  type: str
  returned: success
  sample: /usr/lib/xen-4.20/boot
images:
  description: The images in the firmware directory.
  type: list
  elements: dict
  returned: success
  contains:
    name: {description: Name of the image., type: str, sample: pv-grub}
    path: {description: Its first file., type: str, sample: /usr/lib/xen-4.20/boot/pv-grub-x86_64.gz}
    size: {description: Bytes of all its files., type: int, sample: 284864}
    manifest:
      description: What the image was made of; null if it has no manifest, or a damaged one.
      type: dict
      sample: null
    manifest_error:
      description: How the manifest is damaged; null if it is not, or there is none.
      type: str
      sample: null
helpers:
  description:
    - The dom0 helper programs of the image C(ioemu), which are C(hvmloader) with ROMBIOS and C(qemu-dm), the program
      that serves the stub domain's consoles.
  type: list
  elements: dict
  returned: success
  contains:
    name: {description: Name of the program., type: str, sample: hvmloader}
    path:
      description: Its path; null if there is none, or only an hvmloader without ROMBIOS.
      type: str
      sample: /usr/lib/xen-4.17/boot/helpers/hvmloader
    manifest:
      description: What the image was made of; null if it has no manifest, or a damaged one.
      type: dict
      sample: null
    manifest_error:
      description: How the manifest is damaged; null if it is not, or there is none.
      type: str
      sample: null
guests:
  description: Every domain but dom0, stub domains among them.
  type: list
  elements: dict
  returned: success
  contains:
    name: {description: Name., type: str, sample: web}
    domid: {description: Number., type: int, sample: 3}
    memory_mib: {description: Memory in MiB., type: int, sample: 256}
    vcpus: {description: Virtual processors., type: int, sample: 1}
    state:
      description: The state, as xl names it.
      type: str
      choices: [running, blocked, paused, shutdown, crashed, dying]
      sample: blocked
    uuid:
      description: UUID; null if xenstore does not know the guest.
      type: str
      sample: 74d0eec1-fe6e-402b-84b5-077b0f288fe4
    device_model:
      description: Where the guest's device model runs; null for a guest without one.
      type: dict
      contains:
        version: {description: Version of the device model., type: str, sample: qemu-xen}
        domid: {description: Number of the domain in which it runs., type: int, sample: 4}
        state: {description: Its state in xenstore., type: str, sample: running}
        stub_domain: {description: Whether that domain is a stub domain of this guest., type: bool, sample: true}
      sample: {version: qemu-xen, domid: 4, state: running, stub_domain: true}
    stub_domain_of:
      description: Name of the guest that this is the stub domain of; null for others.
      type: str
      sample: null
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._boot import change, memory
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import text
from ansible_collections.xen.stubdom.plugins.module_utils._images import found
from ansible_collections.xen.stubdom.plugins.module_utils._xen import domains, firmware
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


def hypervisor(xen: Xen, running: bool) -> Dict[str, Any]:
    info = xen.info() if running else {}
    version = xen.version() if running else (None, None)
    return {
        "version": info.get("xen_version"),
        "major": version[0],
        "minor": version[1],
        "arch": info.get("machine"),
        "capabilities": info.get("xen_caps", "").split(),
        "virt_caps": info.get("virt_caps", "").split(),
        "command_line": info.get("xen_commandline"),
    }


def run(module: AnsibleModule) -> Dict[str, Any]:
    xen = Xen(run_program)
    running = xen.is_dom0()
    if module.params["require"]:
        xen.require_dom0()
    directory = firmware.find(xen, module.params["firmware_directory"])
    version = xen.toolstack_version()
    rows = xen.domains() if running else []
    images = found.images(xen, directory)
    helpers = found.helpers(xen, directory, module.params["helpers_directory"])
    return {
        "changed": False,
        "running": running,
        "hypervisor": hypervisor(xen, running),
        "toolstack": {"version": None if version is None else text(version)},
        "boot_line": change.report(run_program, xen),
        "memory": memory.observe(xen, rows, xl_conf=module.params["xl_conf"]),
        "firmware_directory": directory,
        "images": images,
        "helpers": helpers,
        "guests": domains.observe_guests(xen, rows),
        "warnings": found.damaged([*images, *helpers]),
    }


def main() -> None:
    run_module(
        run,
        argument_spec={
            "require": {"type": "bool", "default": False},
            "firmware_directory": {"type": "path"},
            "helpers_directory": {"type": "path"},
            "xl_conf": {"type": "path", "default": "/etc/xen/xl.conf"},
        },
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
