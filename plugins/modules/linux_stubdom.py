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
  - Guests that run get the new image when they start the next time.
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
    description: Whether the image is to be there.
    type: str
    choices: [present, absent]
    default: present
  firmware_directory:
    description:
      - Where libxl looks for images.
      - Without it, the directory in which the toolstack's C(hvmloader) lies.
    type: path
seealso:
  - module: xen.stubdom.xen_info
"""

EXAMPLES = r"""
- name: Make the Linux stub domain of this host, or bring it up to date
  xen.stubdom.linux_stubdom:

- name: Take it away
  xen.stubdom.linux_stubdom:
    state: absent
"""

RETURN = r"""
firmware_directory:
  description: Where the image is.
  type: str
  returned: success
  sample: /usr/lib/xen-4.20/boot
files:
  description: Files that were written or removed.
  type: list
  elements: str
  returned: success
  sample: [/usr/lib/xen-4.20/boot/qemu-stubdom-linux-kernel]
manifest:
  description: What the image was made of; null when it is absent, and when it would be made in check mode.
  type: dict
  returned: success
  sample: {kind: linux, xen: "4.20", memory_mib: 112}
reason:
  description: Why the image was made, or why it was left as it is, in one sentence.
  type: str
  returned: success
  sample: The image is made of the files that are on this host now.
"""

import os
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions
from ansible_collections.xen.stubdom.plugins.module_utils._common import files as _files
from ansible_collections.xen.stubdom.plugins.module_utils._common import manifest as _manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner, last_line, runner
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import image, parts
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux.parts import (
    IMAGE,
    KERNEL,
    ROOT_FILE_SYSTEM,
    Part,
    Plan,
)
from ansible_collections.xen.stubdom.plugins.module_utils._xen import firmware
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

ROOT = "/"


def made_of(plan: Plan, xen: str) -> str:
    """Return the identity of the image that the plan gives."""
    return _manifest.identity(
        image.RECIPE,
        xen,
        [(part.name, part.path, *parts.size_and_time(part.path, root=ROOT)) for part in plan.all_parts()],
        dict(plan.orders),
    )


def observe(directory: str) -> Tuple[Dict[str, Optional[bytes]], Optional[_manifest.Manifest]]:
    """Return what the firmware directory holds of the image, by path, and its manifest."""
    paths = [*(os.path.join(directory, name) for name in (KERNEL, ROOT_FILE_SYSTEM)), _manifest.path(directory, IMAGE)]
    found = {path: _files.read(path) for path in paths}
    return found, _manifest.parse(found[paths[-1]])


def why_not(found: Dict[str, Optional[bytes]], manifest: Optional[_manifest.Manifest], identity: str) -> Optional[str]:
    """Say why the image has to be made, None if it has not."""
    if all(content is None for content in found.values()):
        return "There is no image yet."
    if manifest is None:
        return "No manifest tells what the image was made of."
    for path, content in found.items():
        name = os.path.basename(path)
        if name in (KERNEL, ROOT_FILE_SYSTEM) and (
            content is None or _files.sha256(content) != manifest.files.get(name)
        ):
            return f"{path} is not what was installed."
    if manifest.identity != identity:
        return "The files on this host are not those that the image was made of."
    return None


def content_of(part: Part, run: Runner, scratch: str) -> bytes:
    """Return the bytes of a part as they go into the image; modules are unpacked."""
    content = _files.read(_host_path(part.path)) or b""
    suffix = os.path.splitext(part.path)[1]
    if not part.name.startswith("modules/") or suffix == ".ko":
        return content
    if suffix in image.UNPACK:
        return image.UNPACK[suffix](content)
    unpacked = os.path.join(scratch, "module")
    status, _output, errors = command(run, [*image.UNPACK_WITH[suffix], _host_path(part.path), "-o", unpacked])
    if status != 0:
        raise UserError(f"{part.path} cannot be unpacked: {errors.strip()}", "Install the package of the kernel again.")
    return _files.read(unpacked) or b""


def command(run: Runner, arguments: List[str]) -> Tuple[int, str, str]:
    try:
        return run(arguments)
    except FileNotFoundError as error:
        raise UserError(
            f"There is no {arguments[0]} on this host.",
            f"Install {distributions.install_hint(image.PURPOSES[arguments[0]])}.",
        ) from error


def assemble(plan: Plan, run: Runner) -> bytes:
    """Return the root file system."""
    size = sum(os.stat(_host_path(part.path)).st_size for part in plan.parts)
    # Packed modules grow, and the compressed file system is at most as large as what goes in.
    with _files.scratch(3 * size) as scratch:
        tree = os.path.join(scratch, "tree")
        for part in plan.parts:
            _files.put(os.path.join(tree, part.name), content_of(part, run, scratch), mode=part.mode)
        for group, order in plan.orders.items():
            if group != "start":
                _files.put(os.path.join(tree, "modules", group, "order"), order.encode())
        compressed = os.path.join(scratch, image.COMPRESSED)
        status, output, errors = command(run, image.squash(tree, compressed))
        if status != 0:
            raise UserError(
                f"mksquashfs failed: {last_line(errors or output)}.",
                f"Look whether {os.path.dirname(scratch)} has room, and whether mksquashfs knows zstd.",
            )
        return image.archive(
            content_of(plan.busybox, run, scratch),
            {part.name: content_of(part, run, scratch) for part in plan.start},
            plan.orders["start"],
            _files.read(compressed) or b"",
        )


def sources(plan: Plan, run: Runner) -> List[Dict[str, str]]:
    """Return the packages that the parts come from, as far as the host's package manager tells."""
    paths = {spelling for part in plan.all_parts() for spelling in image.spellings(part.path)}
    try:
        owners = run(["dpkg-query", "--search", *sorted(paths)])[1]
        packages = image.packages(owners)
        versions = run(["dpkg-query", "--show", "--showformat=${Package} ${Version}\n", *packages])[1]
    except FileNotFoundError:
        return [{"name": "linux", "version": plan.release}]
    return [dict(zip(("name", "version"), line.split())) for line in sorted(set(versions.splitlines()))]


def _host_path(path: str) -> str:
    return os.path.join(ROOT, path.lstrip("/"))


def make(plan: Plan, xen: str, identity: str, run: Runner) -> Tuple[bytes, bytes, _manifest.Manifest]:
    """Return kernel, root file system and manifest."""
    kernel = _files.read(_host_path(plan.kernel.path)) or b""
    try:
        kernel_bytes = image.kernel_bytes(kernel)
    except ValueError as error:
        raise UserError(
            f"{plan.kernel.path} cannot be started by Xen: {error}.", "Use the kernel of the distribution."
        ) from error
    root = assemble(plan, run)
    checksum = _files.sha256(root)
    return (
        kernel,
        root,
        _manifest.Manifest(
            kind=IMAGE,
            xen=xen,
            sources=sources(plan, run),
            compiler=None,
            flags=None,
            built=_manifest.now(),
            sha256=checksum,
            identity=identity,
            files={KERNEL: _files.sha256(kernel), ROOT_FILE_SYSTEM: checksum},
            memory_mib=image.memory_mib(kernel_bytes, len(root)),
            command_line=image.COMMAND_LINE,
            more={"linux": plan.release, "contents": {part.name: part.path for part in plan.all_parts()}},
        ),
    )


def difference(
    found: Dict[str, Optional[bytes]], plan: Optional[Plan], identity: Optional[str]
) -> List[Dict[str, str]]:
    """Show what the image is made of, before and after."""
    manifest = _manifest.parse(list(found.values())[-1])
    path = list(found)[-1]
    before = "" if manifest is None else image.listing(manifest.identity, manifest.more.get("contents", {}))
    after = ""
    if plan is not None and identity is not None:
        after = image.listing(identity, {part.name: part.path for part in plan.all_parts()})
    return [{"before_header": path, "after_header": path, "before": before, "after": after}]


def result(
    directory: str,
    changed: bool,
    files: Sequence[str],
    reason: str,
    diff: List[Dict[str, str]],
    manifest: Optional[_manifest.Manifest],
) -> Dict[str, Any]:
    return {
        "changed": changed,
        "firmware_directory": directory,
        "files": list(files),
        "manifest": None if manifest is None else manifest.as_dict(),
        "reason": reason,
        "diff": diff,
    }


def absent(directory: str, check_mode: bool) -> Dict[str, Any]:
    found = observe(directory)[0]
    changes = [_files.Change(path, content, None) for path, content in found.items() if content is not None]
    if not check_mode:
        _files.apply(changes)
    reason = "The image is not wanted." if changes else "There is no image."
    return result(
        directory,
        bool(changes),
        [c.path for c in changes],
        reason,
        difference(found, None, None) if changes else [],
        None,
    )


def present(directory: str, xen: Xen, run: Runner, check_mode: bool) -> Dict[str, Any]:
    version = xen.version()
    name = f"{version[0]}.{version[1]}"
    plan = parts.plan(os.uname().release, version, root=ROOT)
    identity = made_of(plan, name)
    found, manifest = observe(directory)
    reason = why_not(found, manifest, identity)
    if reason is None:
        return result(directory, False, [], "The image is made of the files that are on this host now.", [], manifest)

    diff = difference(found, plan, identity)
    # What goes in is the upper bound of what comes out.
    _files.require_room(directory, sum(os.stat(_host_path(part.path)).st_size for part in plan.all_parts()))
    if check_mode:
        return result(directory, True, list(found), reason, diff, None)

    kernel, root, made = make(plan, name, identity, run)
    changes = [
        _files.Change(path, before, after, mode=_manifest.MODE)
        for (path, before), after in zip(found.items(), (kernel, root, made.render()))
    ]
    _files.apply(changes)
    now, installed = observe(directory)
    wrong = why_not(now, installed, identity)
    if wrong is not None:
        _files.apply(_files.reverse(changes))
        raise UserError(f"After it was installed: {wrong}", "The files were put back; look for what else writes there.")
    return result(directory, True, [change.path for change in changes if change.needed], reason, diff, installed)


def run(module: AnsibleModule) -> Dict[str, Any]:
    run_command = runner(module)
    xen = Xen(run_command, root=ROOT)
    directory = module.params["firmware_directory"]
    if directory is None:
        directory = firmware.directory(xen)
    elif not os.path.isdir(directory):
        raise UserError(
            f"There is no firmware directory {directory}.",
            "Name the one in which hvmloader lies, or leave firmware_directory out to have it found.",
        )
    if module.params["state"] == "absent":
        return absent(directory, module.check_mode)
    xen.require_dom0()
    return present(directory, xen, run_command, module.check_mode)


def main() -> None:
    run_module(
        run,
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "firmware_directory": {"type": "path"},
        },
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
