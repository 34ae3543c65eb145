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
  gather_subset:
    description:
      - What to read. The versions, the features and the support window of the hypervisor are always read.
      - V(guests) reads the domains, xenstore and the configurations of guests.
      - V(checksums) compares images with their manifests, for RV(images[].altered), which V(all) does not, as all of
        their files have to be read.
      - V(history) reads from the host's journal what modules of this collection have changed on it. It is read only
        where it is named, as the others are what the host is now.
      - What is not read is missing from the result.
    type: list
    elements: str
    choices: [all, boot_line, memory, images, guests, checksums, history]
    default: [all]
  history_lines:
    description: How many changes V(history) reads at the most, the newest of them; up to 1000.
    type: int
    default: 100
  history_since:
    description: From when on V(history) reads changes, as C(journalctl --since) takes it, for example V(-7d).
    type: str
  directory:
    description: The directory with the configurations of guests. Those in its C(auto) are started with the host.
    type: path
    default: /etc/xen
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

- name: Read the guests only
  xen.stubdom.xen_info:
    gather_subset: [guests]
  register: host

- name: Show the guests that run with another configuration than their file has
  ansible.builtin.debug:
    msg: "{{ host.guests | selectattr('restart_required') | map(attribute='name') }}"

- name: Read what was changed on the host in the last week
  xen.stubdom.xen_info:
    gather_subset: [history]
    history_since: -7d
  register: host

- name: Compare the images of stub domains with what was installed
  xen.stubdom.xen_info:
    gather_subset: [images, checksums]
  register: host

- name: Show files of images that are missing or were changed since
  ansible.builtin.debug:
    msg: "{{ host.images | map(attribute='altered') | select | flatten }}"

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
    xsm:
      description: What C(xl getenforce) says of the security module FLASK; null where it says nothing known.
      type: str
      choices: [enforcing, permissive, disabled]
      sample: disabled
    updated:
      description: Whether a hypervisor was installed in C(/boot) since the host was started; null if not known.
      type: bool
      sample: false
support:
  description: Until when the Xen project publishes security fixes for the release that runs.
  type: dict
  returned: success
  contains:
    until: {description: The last day; null where that is not known., type: str, sample: '2030-03-05'}
    ended_before: {description: By when it was over for an old release; null for others., type: str, sample: null}
    source: {description: Where that is written; null without Xen., type: str, sample: SUPPORT.md of Xen 4.20}
toolstack:
  description: The toolstack.
  type: dict
  returned: success
  contains:
    version: {description: Release of libxl; null where it is not installed., type: str, sample: '4.20'}
boot_line:
  description: The hypervisor's whole command line in its three states, each null where it cannot be known.
  type: dict
  returned: success, when O(gather_subset) has boot_line
  contains:
    loader: {description: The boot loader., type: str, sample: grub2}
    configured: {description: Options in the loader's source files., type: str, sample: loglvl=all}
    effective: {description: Options that the next boot will pass., type: str, sample: loglvl=all}
    running: {description: Options that the hypervisor was started with., type: str, sample: placeholder loglvl=all}
    boots_xen: {description: Whether the next boot starts Xen., type: bool, sample: true}
    waits_because:
      description: Why the loader waits until somebody chooses an entry, in one sentence; empty where it does not.
      type: str
      sample: ''
    reboot_required: {description: Whether the next boot passes other options., type: bool, sample: false}
    reboot_reason:
      description: Why a reboot is required, or why it is not, in one sentence.
      type: str
      sample: The hypervisor runs with the words that the next boot passes.
memory:
  description: Memory in MiB; all of it null where Xen does not run.
  type: dict
  returned: success, when O(gather_subset) has memory
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
  returned: success, when O(gather_subset) has images
  sample: /usr/lib/xen-4.20/boot
images:
  description: The images in the firmware directory.
  type: list
  elements: dict
  returned: success, when O(gather_subset) has images or checksums
  contains:
    name: {description: Name of the image., type: str, sample: pv-grub}
    path: {description: Its first file., type: str, sample: /usr/lib/xen-4.20/boot/pv-grub-x86_64.gz}
    size: {description: Bytes of all its files., type: int, sample: 284864}
    outdated:
      description:
        - What it was made of and is another version on this host by now, which are packages, dom0's Linux and the
          release of Xen.
        - It is null if the image has no manifest, or a damaged one.
      type: list
      elements: dict
      contains:
        name: {description: What is another version., type: str, sample: qemu-system-xen}
        made_of: {description: The version in the image., type: str, sample: '1:10.0.2'}
        installed: {description: The version on this host., type: str, sample: '1:10.0.3'}
      sample: []
    manifest:
      description: What the image was made of; null if it has no manifest, or a damaged one.
      type: dict
      sample: null
    manifest_error:
      description: How the manifest is damaged; null if it is not, or there is none.
      type: str
      sample: null
    altered:
      description:
        - Its files that are missing, or have another content than the manifest records. With O(gather_subset=checksums)
          only.
        - It is null if the image has no manifest, or a damaged one.
      type: list
      elements: str
      returned: when O(gather_subset) has checksums
      sample: []
helpers:
  description:
    - The dom0 helper programs of the image C(ioemu), which are C(hvmloader) with ROMBIOS and C(qemu-dm), the program
      that serves the stub domain's consoles.
  type: list
  elements: dict
  returned: success, when O(gather_subset) has images
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
  returned: success, when O(gather_subset) has guests
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
        state:
          description: Its state in xenstore, or that of its stub domain where this has ended.
          type: str
          sample: running
        stub_domain: {description: Whether that domain is a stub domain of this guest., type: bool, sample: true}
        place:
          description: Where it runs; in dom0 as root or as another user.
          type: str
          choices: [stub_domain, dom0_root, dom0_user, unknown]
          sample: stub_domain
        flavour: {description: Kind of the stub domain; null for none., type: str, choices: [linux, minios]}
      sample: {version: qemu-xen, domid: 4, state: running, stub_domain: true, place: stub_domain, flavour: linux}
    stub_domain_of:
      description: Name of the guest that this is the stub domain of; null for others.
      type: str
      sample: null
    type: {description: Its type; null where it is not known., type: str, choices: [pv, pvh, hvm], sample: hvm}
    config:
      description: The file in O(directory) that describes it; null if none does.
      type: str
      sample: /etc/xen/web.cfg
    boot:
      description:
        - How it boots. V(pvgrub_legacy) and V(pvgrub_grub2) are PV-GRUB, V(pygrub) and V(bootloader) programs that dom0
          runs, V(kernel) is a kernel in dom0, V(firmware) the guest's own BIOS or UEFI.
        - It is null where that is not known.
      type: str
      choices: [pvgrub_legacy, pvgrub_grub2, pygrub, bootloader, kernel, firmware]
      sample: firmware
    started: {description: When it was started; null where it is not known., type: str, sample: '2026-01-01T12:00:00Z'}
    restart_required:
      description: Keys of its configuration that it does not run with, or V(unknown) where it is not known which.
      type: list
      elements: str
      sample: [memory]
    image:
      description: The image that the guest, or its stub domain, was started from; null where there is none in dom0.
      type: dict
      contains:
        path: {description: Its first file., type: str, sample: /usr/lib/xen-4.20/boot/qemu-stubdom-linux-kernel}
        written: {description: When it was written., type: str, sample: '2026-01-01T10:00:00Z'}
        outdated: {description: Whether it was written after the start., type: bool, sample: false}
      sample: null
    autostart:
      description: Its position among those that are started with the host; null if it is not started with it.
      type: int
      sample: 1
    screens:
      description: The screens that a program can connect to.
      type: list
      elements: dict
      contains:
        kind: {description: The protocol., type: str, choices: [vnc, spice], sample: vnc}
        listen: {description: 'The address, or the path of a socket.', type: str, sample: 127.0.0.1}
        port: {description: The port; null where it is not known., type: int, sample: 5900}
        password: {description: Whether it asks for a password., type: bool, sample: false}
      sample: []
    cannot_save:
      description: Why it can neither be saved nor migrated; null where nothing is known that forbids it.
      type: str
      sample: null
configurations:
  description: The configurations of guests in O(directory), whether or not the guests run.
  type: list
  elements: dict
  returned: success, when O(gather_subset) has guests
  contains:
    name: {description: The name that it gives., type: str, sample: web}
    path: {description: The file., type: str, sample: /etc/xen/web.cfg}
    type: {description: Type of the guest., type: str, choices: [pv, pvh, hvm], sample: hvm}
    memory_mib: {description: Memory in MiB; null where it is not set., type: int, sample: 256}
    vcpus: {description: Virtual processors; null where it is no number., type: int, sample: 1}
    boot: {description: 'How the guest boots, as in RV(guests[].boot); may be null.', type: str, sample: firmware}
    device_model:
      description: Where its device model is to run.
      type: str
      choices: [none, stub_domain, dom0_root, dom0_user]
      sample: stub_domain
    flavour: {description: Kind of the stub domain; null for none., type: str, choices: [linux, minios], sample: linux}
    autostart: {description: 'As in RV(guests[].autostart); may be null.', type: int, sample: 1}
    screens:
      description: As in RV(guests[].screens).
      type: list
      elements: dict
      contains:
        kind: {description: The protocol., type: str, choices: [vnc, spice], sample: vnc}
        listen: {description: 'The address, or the path of a socket.', type: str, sample: 127.0.0.1}
        port: {description: The port; null where it is not known., type: int, sample: null}
        password: {description: Whether it asks for a password., type: bool, sample: false}
      sample: []
    cannot_save: {description: 'As in RV(guests[].cannot_save); may be null.', type: str, sample: null}
history:
  description:
    - What modules of this collection have changed on the host, the newest first; null where the host has no journal of
      systemd. It is what C(journalctl -t xen.stubdom) shows of root.
    - Check mode, and tasks with C(no_log), leave nothing in it. Passwords are masked.
  type: list
  elements: dict
  returned: success, when O(gather_subset) has history
  contains:
    time: {description: When it was changed., type: str, sample: '2026-01-01T12:00:00Z'}
    user: {description: Who had logged in; null where the host does not note it., type: str, sample: admin}
    module: {description: The module., type: str, sample: xen.stubdom.xl_conf}
    play:
      description: The play, or what else C(ANSIBLE_TARGET_LOG_INFO) was set to; may be null.
      type: str
      sample: xen.stubdom.site
    what: {description: The file or guest., type: str, sample: /etc/xen/xl.conf}
    from: {description: Lines that went; null for none., type: str, sample: 'autoballoon="auto"'}
    to: {description: Lines that came or what was done; null for none., type: str, sample: 'autoballoon="off"'}
    image: {description: Identity of the image that it is about; null for none., type: str, sample: null}
"""

import glob
import os
import re
from typing import Any, Dict, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._boot import memory, whole_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import HYPERVISOR
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import text
from ansible_collections.xen.stubdom.plugins.module_utils._guests import record, survey
from ansible_collections.xen.stubdom.plugins.module_utils._images import found, freshness, intact
from ansible_collections.xen.stubdom.plugins.module_utils._xen import domains, firmware, history, support
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

SUBSETS = ("boot_line", "memory", "images", "guests")

# What `xl getenforce` prints (main_getenforce, tools/xl/xl_flask.c).
_XSM = {"Enforcing": "enforcing", "Permissive": "permissive", "Flask XSM Disabled": "disabled"}


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
        "xsm": _XSM.get(xen.xl("getenforce")[1].strip()) if running else None,
        "updated": updated(xen) if running else None,
    }


def updated(xen: Xen) -> Optional[bool]:
    """Whether a hypervisor was put into /boot since the start of this host, None where the start is not known.

    Package managers keep the time of the file's content, so that the time counts at which it came into its directory.
    """
    try:
        with open(xen.path("/proc/stat"), encoding="ascii", errors="replace") as stream:
            started = re.search(r"^btime (\d+)$", stream.read(), re.MULTILINE)
        paths = [path for path in glob.glob(xen.path("/boot/xen*")) if HYPERVISOR.match(os.path.basename(path))]
        return None if started is None else any(os.stat(path).st_ctime > int(started[1]) for path in paths)
    except OSError:
        return None


def run(module: AnsibleModule) -> Dict[str, Any]:
    asked = set(module.params["gather_subset"])
    subsets = set(SUBSETS) if "all" in asked else asked
    xen = Xen(run_program)
    running = xen.is_dom0()
    if module.params["require"]:
        xen.require_dom0()
    version = xen.toolstack_version()
    about = hypervisor(xen, running)
    result: Dict[str, Any] = {
        "changed": False,
        "running": running,
        "hypervisor": about,
        "toolstack": {"version": None if version is None else text(version)},
        "support": support.window((about["major"], about["minor"])),
        "warnings": [],
    }
    rows = xen.domains() if running and subsets & {"memory", "guests"} else []
    if "boot_line" in subsets:
        result["boot_line"] = whole_line.report(run_program, xen)
    if "memory" in subsets:
        result["memory"] = memory.observe(xen, rows, xl_conf=module.params["xl_conf"])
    if subsets & {"images", "checksums"}:
        directory = firmware.find(xen, module.params["firmware_directory"])
        images = freshness.observe(xen, found.images(xen, directory))
        if "checksums" in asked:
            images = intact.observe(xen, directory, images)
        helpers = found.helpers(xen, directory, module.params["helpers_directory"])
        result.update(firmware_directory=directory, images=images, helpers=helpers)
        result["warnings"] = found.damaged([*images, *helpers])
    if "guests" in subsets:
        nodes = xen.nodes() if rows else {}
        nodes.update(record.carried(xen, rows, nodes))
        read = survey.observe(xen, rows, nodes, module.params["directory"])
        result["guests"] = survey.guests(domains.guests(rows, nodes), nodes, read)
        result["configurations"] = survey.configurations(read)
    if "history" in asked:
        result["history"] = history.read(run_program, module.params["history_lines"], module.params["history_since"])
    return result


def main() -> None:
    run_module(
        run,
        argument_spec={
            "gather_subset": {
                "type": "list",
                "elements": "str",
                "choices": ["all", *SUBSETS, "checksums", "history"],
                "default": ["all"],
            },
            "history_lines": {"type": "int", "default": 100},
            "history_since": {"type": "str"},
            "directory": {"type": "path", "default": "/etc/xen"},
            "require": {"type": "bool", "default": False},
            "firmware_directory": {"type": "path"},
            "helpers_directory": {"type": "path"},
            "xl_conf": {"type": "path", "default": "/etc/xen/xl.conf"},
        },
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
