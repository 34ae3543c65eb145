# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what there is to say of the guests of a host, whoever has set them up: how each
# boots, where its device model runs, who can see its screen, and in what it is not as configured.

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import files, manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import config_files, record, virtualisation
from ansible_collections.xen.stubdom.plugins.module_utils._xen import domains, xl_cfg, xl_devices
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Domain, Xen

Keys = Mapping[str, xl_cfg.Value]

# How a guest boots, by the key that decides and what its value's file name begins with; the first row that fits.
_BOOT: Sequence[Tuple[str, str, str]] = (
    ("bootloader", r"pygrub", "pygrub"),
    ("bootloader", r".", "bootloader"),
    ("firmware", r"pvgrub", "pvgrub_grub2"),
    ("kernel", r"pv-grub", "pvgrub_legacy"),
    ("kernel", r"(?:pv)?grub", "pvgrub_grub2"),
    # What xl's own boot loaders leave in dom0 for as long as the guest starts (libxl_bootloader.c).
    ("kernel", r"boot_kernel\.|bootloader\.", "pygrub"),
    ("kernel", r".", "kernel"),
)

# Why libxl cannot save a guest, and so not migrate it either; the first row that fits.
_CANNOT_SAVE: Sequence[Tuple[str, str]] = (
    ("linux", "Its device model runs in a Linux stub domain, whose image cannot save."),
    ("pci", "It has PCI devices of the host."),
    ("nomigrate", "Its configuration has nomigrate=1."),
)
# The node of the process that is a guest's device model in dom0 (libxl_dm.c, spawn->pidpath).
_PROCESS = "/local/domain/{domid}/image/device-model-pid"
_UID = re.compile(r"^Uid:\s+\d+\s+(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Configuration:
    """A file that describes a guest.

    :param real: its path without links.
    :param written: when it was, in seconds since 1970.
    """

    path: str
    real: str
    name: str
    keys: Keys
    written: float


@dataclass(frozen=True)
class Files:
    """What the files of a host say of its guests.

    :param autostart: the configurations that the host's own service starts, as real paths, in its order.
    :param written: when the files of images were written, in seconds since 1970, by path.
    :param users: the user as whom a guest's device model runs in dom0, by the guest's number.
    """

    configurations: Sequence[Configuration] = ()
    autostart: Sequence[str] = ()
    written: Mapping[str, float] = field(default_factory=dict)
    users: Mapping[int, int] = field(default_factory=dict)


# ---- what is read


def observe(xen: Xen, rows: Sequence[Domain], nodes: Mapping[str, str], directory: str) -> Files:
    """Read the files that say something of the guests of a host.

    :param directory: the configurations of guests.
    """
    kernels = {nodes.get(path, "") for domain in rows for path in _image_nodes(nodes, domain.domid)} - {""}
    written = {path: _written(xen.path(path)) for path in kernels}
    return Files(
        configurations=_configurations(xen, directory),
        autostart=_autostart(xen, directory),
        written={path: found for path, found in written.items() if found is not None},
        users={
            domain.domid: uid
            for domain in rows
            for uid in [_user(xen, nodes.get(_PROCESS.format(domid=domain.domid), ""))]
            if uid is not None
        },
    )


def _configurations(xen: Xen, directory: str) -> List[Configuration]:
    found = []
    for name in _names(xen.path(directory)):
        path = os.path.join(directory, name)
        written = _written(xen.path(path))
        if not config_files.may_be_guest(name) or written is None:
            continue
        try:
            content = files.read(xen.path(path), longest=xl_cfg.LONGEST) or b""
        except UserError:
            continue
        guest = config_files.guest_name(content)
        if guest is not None:
            found.append(
                Configuration(path, os.path.realpath(xen.path(path)), guest, config_files.settings_of(content), written)
            )
    return found


def _autostart(xen: Xen, directory: str) -> List[str]:
    """The configurations that /etc/xen/auto leads to, in the order in which xendomains starts them."""
    auto = os.path.join(directory, "auto")
    links = [os.path.join(xen.path(auto), name) for name in _names(xen.path(auto)) if config_files.may_be_guest(name)]
    return [os.path.realpath(link) for link in links]


def _names(directory: str) -> List[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _written(path: str) -> Optional[float]:
    try:
        return os.stat(path).st_mtime if os.path.isfile(path) else None
    except OSError:
        return None


def _user(xen: Xen, process: str) -> Optional[int]:
    """The user as whom a process runs, None where it is not there."""
    if not re.fullmatch(r"[0-9]{1,10}", process):
        return None
    try:
        with open(xen.path(f"/proc/{process}/status"), encoding="ascii", errors="replace") as stream:
            match = _UID.search(stream.read())
    except OSError:
        return None
    return None if match is None else int(match[1])


def _image_nodes(nodes: Mapping[str, str], domid: int) -> List[str]:
    uuid = domains.uuid(nodes, domid)
    return [] if uuid is None else [f"/vm/{uuid}/image/{file}" for file in ("kernel", "ramdisk")]


# ---- what it means


def configurations(found: Files) -> List[Dict[str, Any]]:
    """Describe the configurations of guests."""
    return [
        {
            "name": one.name,
            "path": one.path,
            "type": _type(one.keys),
            "memory_mib": _number(one.keys.get("memory")),
            "vcpus": _number(one.keys.get("vcpus", 1)),
            "boot": boot(one.keys),
            "device_model": place(one.keys),
            "flavour": flavour(one.keys),
            "autostart": _position(one.real, found.autostart),
            "screens": screens(one.keys),
            "cannot_save": cannot_save(one.keys, flavour(one.keys)),
        }
        for one in found.configurations
    ]


def guests(described: Sequence[Mapping[str, Any]], nodes: Mapping[str, str], found: Files) -> List[Dict[str, Any]]:
    """Describe the domains of a host.

    :param described: what `domains.guests` says of them.
    """
    by_name: Dict[str, Configuration] = {}
    for one in found.configurations:
        by_name.setdefault(one.name, one)
    return [_guest(domain, nodes, found, by_name.get(domain["name"])) for domain in described]


def _guest(
    domain: Mapping[str, Any],
    nodes: Mapping[str, str],
    found: Files,
    configuration: Optional[Configuration],
) -> Dict[str, Any]:
    domid, uuid, model = domain["domid"], domain["uuid"], domain["device_model"]
    if domain["stub_domain_of"] is not None:
        configuration = None
    keys: Keys = {} if configuration is None else configuration.keys
    kind = nodes.get(f"/libxl/{domid}/type")
    started = record.started(uuid, nodes)
    # The one who builds a domain writes this, before the domain runs.
    running_with = {"kernel": nodes.get(f"/vm/{uuid}/image/kernel", "")}
    now = None if model is None else _flavour_of(model)
    differing: List[str] = []
    if configuration is not None and keys:
        differing = record.restart_required(domid, uuid, nodes, keys, configuration.written)
    return {
        **domain,
        "type": kind if kind in ("pv", "pvh", "hvm") else _type(keys) if keys else None,
        "config": None if configuration is None else configuration.path,
        "boot": "firmware" if kind == "hvm" else boot(keys or running_with),
        "started": None if started is None else manifest.now(started),
        "restart_required": differing,
        "image": _image(domain, nodes, found),
        "device_model": None if model is None else {**model, "place": _place(domid, model, found), "flavour": now},
        "autostart": None if configuration is None else _position(configuration.real, found.autostart),
        "screens": _screens(domid, nodes, keys) if kind == "hvm" or keys else [],
        "cannot_save": cannot_save(keys, now),
    }


def _image(domain: Mapping[str, Any], nodes: Mapping[str, str], found: Files) -> Optional[Dict[str, Any]]:
    """The image that a guest, or its stub domain, was started from, and whether it was replaced since."""
    model = domain["device_model"]
    runs = model["domid"] if model is not None and model["stub_domain"] else domain["domid"]
    started = record.started(domains.uuid(nodes, runs), nodes)
    paths = [nodes[node] for node in _image_nodes(nodes, runs) if nodes.get(node) in found.written]
    if not paths or started is None:
        return None
    changed = max(found.written[path] for path in paths)
    return {"path": paths[0], "written": manifest.now(changed), "outdated": changed > started}


def boot(keys: Keys) -> Optional[str]:
    """How a guest boots, None where that is not known."""
    for key, pattern, answer in _BOOT:
        if re.match(pattern, os.path.basename(str(keys.get(key) or ""))):
            return answer
    return "firmware" if virtualisation.hvm(keys) else None


def place(keys: Keys) -> str:
    """Where the device model of a guest is to run."""
    if not virtualisation.hvm(keys):
        return "none"
    if virtualisation.stubbed(keys):
        return "stub_domain"
    user = str(keys.get("device_model_user") or "root")
    return "dom0_root" if user == "root" and keys.get("dm_restrict") not in (1, "1") else "dom0_user"


def flavour(keys: Keys) -> Optional[str]:
    """The kind of the stub domain that a guest's device model is to run in, None for none."""
    if not virtualisation.stubbed(keys):
        return None
    return virtualisation.stub_flavour(keys.get("device_model_version"))


def _flavour_of(model: Mapping[str, Any]) -> Optional[str]:
    if not model["stub_domain"]:
        return None
    # libxl has said which, in all releases (store_libxl_entry and dm-version, libxl_create.c).
    return virtualisation.stub_flavour(model["version"] or "")


def _place(domid: int, model: Mapping[str, Any], found: Files) -> str:
    if model["stub_domain"]:
        return "stub_domain"
    if model["domid"] != 0 or domid not in found.users:
        return "unknown"
    return "dom0_user" if found.users[domid] else "dom0_root"


def screens(keys: Keys) -> List[Dict[str, Any]]:
    """The screens of a guest that a program can connect to; never their passwords.

    VNC is on for an HVM guest, and for each element of vfb, unless it is switched off, and listens on loopback
    (libxl__device_vfb_setdefault, libxl__domain_build_info_setdefault); Spice listens everywhere.
    """
    found: List[Dict[str, Any]] = []
    devices = [dict(xl_devices.fields("vfb", device)) for device in _list(keys.get("vfb"))]
    if virtualisation.screen(keys):
        listen = virtualisation.SOCKET.format(name=keys.get("name"))
        found.append({"kind": "vnc", "listen": listen, "port": None, "password": False})
    if virtualisation.hvm(keys):
        devices.append({key: str(value) for key, value in keys.items()})
        if keys.get("spice") in (1, "1"):
            ticket = keys.get("spicedisable_ticketing") not in (1, "1") and bool(keys.get("spicepasswd"))
            found.append(
                {
                    "kind": "spice",
                    "listen": str(keys.get("spicehost") or "0.0.0.0"),
                    "port": _number(keys.get("spiceport")),
                    "password": ticket,
                }
            )
    for device in devices:
        if device.get("vnc", "1").strip() != "0":
            listen = device.get("vnclisten", "").strip() or "127.0.0.1"
            found.append(
                {
                    "kind": "vnc",
                    "listen": listen.rpartition(":")[0] if re.search(r"[^:]:\d+\Z", listen) else listen,
                    "port": None,
                    "password": bool(device.get("vncpasswd")),
                }
            )
    return found


def _screens(domid: int, nodes: Mapping[str, str], keys: Keys) -> List[Dict[str, Any]]:
    """The screens of a guest that runs: what the toolstack has written, else what its configuration says."""
    where = f"/local/domain/{domid}/console/vnc-"
    port = nodes.get(f"{where}port", "")
    found = screens(keys)
    if not re.fullmatch(r"[0-9]{1,5}", port):
        return found
    configured: Dict[str, Any] = next((one for one in found if one["kind"] == "vnc"), {"password": False})
    listen = nodes.get(f"{where}listen", "")
    vnc = {
        "kind": "vnc",
        "listen": listen if re.fullmatch(r"[0-9A-Za-z.:%-]{1,64}", listen) else configured.get("listen", "127.0.0.1"),
        "port": int(port),
        "password": bool(nodes.get(f"{where}pass")) or configured["password"],
    }
    return [*(one for one in found if one["kind"] != "vnc"), vnc]


def cannot_save(keys: Keys, now: Optional[str]) -> Optional[str]:
    """Why a guest can neither be saved nor migrated, None where nothing is known that forbids it."""
    facts = {
        "linux": now == "linux" and not virtualisation.saves(keys),
        "pci": bool(_list(keys.get("pci"))),
        "nomigrate": keys.get("nomigrate") in (1, "1"),
    }
    return next((why for what, why in _CANNOT_SAVE if facts[what]), None)


def _type(keys: Keys) -> str:
    kind = "hvm" if virtualisation.hvm(keys) else str(keys.get("type") or "pv")
    return kind if kind in ("pv", "pvh", "hvm") else "pv"


def _position(path: str, order: Sequence[str]) -> Optional[int]:
    return order.index(path) + 1 if path in order else None


def _list(value: Any) -> List[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, (list, tuple)) else []


def _number(value: Any) -> Optional[int]:
    return int(value) if re.fullmatch(r"[0-9]{1,9}", str(value)) else None
