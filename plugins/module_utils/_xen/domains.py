# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what was read from a host, put into the form that modules and roles work with.

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line as _boot_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot import dom0_mem
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images import releases
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Domain

# What one letter of `xl list` says (docs/man/xl.1.pod.in @ stable-4.20); a domain that waits for a processor has none.
STATES = {"d": "dying", "c": "crashed", "s": "shutdown", "p": "paused", "b": "blocked", "r": "running", "": "running"}

# autoballoon="auto" is off where the hypervisor's line matches this (tools/xl/xl.c, tools/libxl/xl.c), by the first
# release with the rule, the newest first.
_SIZE = r"-?[0-9]+[bBkKmMgGtT]?"
_AUTO_OFF: Sequence[Tuple[Tuple[int, int], str]] = (
    ((4, 16), rf"(^| )dom0_mem=((|min:|max:)({_SIZE}|({_SIZE}\+)?[0-9]{{1,2}}%),?)+($| )"),
    ((0, 0), r"(^| )dom0_mem=((|min:|max:)[0-9]+[bBkKmMgG]?,?)+($| )"),
)
# Before 4.3 it was a number; both are still read.
_AUTOBALLOON = {"on": "on", "off": "off", "auto": "auto", 1: "on", 0: "off", "1": "on", "0": "off"}

# The files that images go by, in the firmware directory: the names that libxl, the stub domains' own makefiles and
# xenstored's service look for.
IMAGES: Mapping[str, Sequence[str]] = {
    "linux": ("qemu-stubdom-linux-kernel", "qemu-stubdom-linux-rootfs"),
    **{name: (image.installed,) for name, image in releases.IMAGES.items()},
    "xenstore": ("xenstore-stubdom.gz",),
    "xenstorepvh": ("xenstorepvh-stubdom.gz",),
    "vtpm": ("vtpm-stubdom.gz",),
    "vtpmmgr": ("vtpmmgr-stubdom.gz",),
}


def state(letters: str) -> str:
    """Return xl's word for the letters of a row of `xl list`."""
    return next(word for letter, word in STATES.items() if letter in letters)


def guests(domains: Sequence[Domain], nodes: Mapping[str, str]) -> List[Dict[str, Any]]:
    """Describe every domain but dom0.

    :param nodes: what xenstore holds, by full path.
    """
    names = {domain.domid: domain.name for domain in domains}
    return [
        {
            "name": domain.name,
            "domid": domain.domid,
            "memory_mib": domain.memory_mib,
            "vcpus": domain.vcpus,
            "state": state(domain.state),
            "uuid": uuid(nodes, domain.domid),
            "device_model": device_model(nodes, domain.domid),
            "stub_domain_of": names.get(served_by(nodes, domain.domid)),
        }
        for domain in domains
        if domain.domid != 0
    ]


def uuid(nodes: Mapping[str, str], domid: int) -> Optional[str]:
    """The guest's identity, None where xenstore does not know the domain."""
    path = nodes.get(f"/local/domain/{domid}/vm", "")
    return path[len("/vm/") :] if path.startswith("/vm/") else None


def device_model(nodes: Mapping[str, str], domid: int) -> Optional[Dict[str, Any]]:
    """Say where the device model of a guest runs, None for a guest without one."""
    home = nodes.get(f"/local/domain/{domid}/image/device-model-domid")
    if nodes.get(f"/libxl/{domid}/type") != "hvm" and not home:
        return None
    where = int(home or 0)
    return {
        "version": nodes.get(f"/libxl/{domid}/dm-version", "").replace("_", "-") or None,
        "domid": where,
        "state": nodes.get(f"/local/domain/{where}/device-model/{domid}/state"),
        "stub_domain": where != 0 and served_by(nodes, where) == domid,
    }


def served_by(nodes: Mapping[str, str], domid: int) -> int:
    """The guest that this domain is the stub domain of, -1 for none; both must point at each other."""
    target = nodes.get(f"/local/domain/{domid}/target", "")
    if target.isdigit() and nodes.get(f"/local/domain/{target}/image/device-model-domid") == str(domid):
        return int(target)
    return -1


def memory(
    *,
    total_mib: int,
    free_mib: int,
    domains: Sequence[Domain],
    command_line: str,
    version: Tuple[int, int],
    autoballoon: str,
) -> Dict[str, Any]:
    """Describe the host's memory and say whether dom0's part of it is fixed."""
    values = _boot_line.values(command_line, dom0_mem.OPTION)
    try:
        limits = dom0_mem.merge(values) or dom0_mem.Dom0Mem()
    except UserError:
        limits = dom0_mem.Dom0Mem()
    maximum = None if limits.maximum is None else limits.maximum.resolve(total_mib * dom0_mem.MIB)
    return {
        "total_mib": total_mib,
        "free_mib": free_mib,
        "dom0_mib": next((domain.memory_mib for domain in domains if domain.domid == 0), None),
        "dom0_max_mib": None if maximum is None else maximum // dom0_mem.MIB,
        "dom0_fixed": limits.fixed and not balloons(autoballoon, command_line, version),
        "autoballoon": autoballoon,
    }


def autoballoon(content: Optional[bytes]) -> str:
    """Return what xl.conf says, which is auto by default and where xl could not read it."""
    try:
        value = xl_cfg.read("xl.conf", content).get("autoballoon", "auto")
    except UserError:
        return "auto"
    return _AUTOBALLOON.get(value, "auto") if isinstance(value, (str, int)) else "auto"


def balloons(setting: str, command_line: str, version: Tuple[int, int]) -> bool:
    """Whether xl takes memory from dom0 when a guest starts."""
    if setting != "auto":
        return setting == "on"
    pattern = next(pattern for first, pattern in _AUTO_OFF if version >= first)
    return re.search(pattern, command_line) is None


def autoballoon_warnings(word: str, content: Optional[bytes], version: Tuple[int, int]) -> List[str]:
    """Say where xl would take memory from dom0 although *word* sets it."""
    setting = autoballoon(content)
    if not balloons(setting, word, version):
        return []
    cause = "" if setting == "on" else f", as xl of Xen {version[0]}.{version[1]} does not look for {word}"
    return [
        f'xl.conf has autoballoon="{setting}", so that xl takes memory from dom0 for each guest{cause}; '
        "set it to off with xen.stubdom.xl_conf."
    ]


def images(directory: str, sizes: Mapping[str, int], manifests: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """Describe the images of a firmware directory.

    :param sizes: bytes by name of file in it.
    :param manifests: content by name of those files that are manifests.
    """
    files = {name: names for name, names in IMAGES.items() if names[0] in sizes}
    records = {}
    for file, manifest in manifests.items():
        own = [path.rsplit("/", 1)[-1] for path in manifest.get("files", {})]
        # A manifest lies beside its image under the image's name in the directory; images are called as they are built.
        name = next((known for known, names in IMAGES.items() if names[0] in own), file[: -len(".json")])
        files[name], records[name] = own, manifest
    return [
        {
            "name": name,
            "path": f"{directory}/{names[0]}" if names else None,
            "size": sum(sizes.get(file, 0) for file in names),
            "manifest": records.get(name),
        }
        for name, names in sorted(files.items())
    ]
