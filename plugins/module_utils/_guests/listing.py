# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the guests of a host, from what it runs and from the files that describe them.

from __future__ import annotations

import os
import re
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.process import last_line
from ansible_collections.xen.stubdom.plugins.module_utils._guests import addresses, config_files, virtualisation
from ansible_collections.xen.stubdom.plugins.module_utils._xen import domains, toolstack, xl_cfg, xl_devices, xl_rules
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Domain

# Prints parts, each with a line before it: what it is, its length in bytes, its name. Reads only.
PROGRAM = r"""
LC_ALL=C PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; export LC_ALL PATH
part() { printf '%s %s %s\n%s\n' "$1" "${#3}" "$2" "$3"; }
rows=$(xl list 2>&1) && part list xl "$rows" || part error xl "$rows"
part nodes xenstore "$(xenstore-ls -f /local/domain /libxl /vm 2>/dev/null)"
part neighbours ip "$(ip neigh show 2>/dev/null || cat /proc/net/arp 2>/dev/null)"
part leases dnsmasq "$(cat /var/lib/misc/dnsmasq.leases /var/lib/misc/dnsmasq.*.leases 2>/dev/null)"
for file in "$1"/*; do
    [ -f "$file" ] && [ "$(wc -c < "$file")" -le 262144 ] && part file "$file" "$(cat "$file")"
done
exit 0
"""
# A host answers with less.
LONGEST = 1 << 26

_ATTRIBUTE = re.compile(r"/local/domain/(\d+)/attr/(?:vif/\d+/ipv[46]/\d+|eth\d+/ip)\Z")
_BACKEND = re.compile(r"/local/domain/\d+/backend/vif/(\d+)/\d+/(mac|ip)\Z")


def guests(
    rows: Sequence[Domain],
    nodes: Mapping[str, str],
    configurations: Mapping[str, bytes],
    neighbours: Mapping[str, Sequence[str]],
    leases: Mapping[str, Sequence[str]],
) -> List[Dict[str, Any]]:
    """Describe the guests that run on a host or have a configuration there, by name; stub domains are none.

    :param rows: its domains.
    :param nodes: its xenstore, by full path.
    :param configurations: files of its directory of guests, by path.
    :param neighbours: the addresses that dom0 knows of a MAC address.
    :param leases: the addresses that dom0's DHCP server has given a MAC address.
    """
    found: Dict[str, Dict[str, Any]] = {}
    for path, content in sorted(configurations.items()):
        name = config_files.guest_name(content) if config_files.may_be_guest(os.path.basename(path)) else None
        if name is not None:
            found.setdefault(name, _configured(name, path, config_files.settings_of(content)))
    for domain in domains.guests(rows, nodes):
        if domain["stub_domain_of"] is None:
            known = found.get(domain["name"], {"config": None, "flavour": None, "macs": [], "configured": []})
            found[domain["name"]] = {**known, **_running(domain, nodes, known)}
    for guest in found.values():
        known_from = {
            "configured": guest.pop("configured"),
            "leases": [address for mac in guest["macs"] for address in leases.get(mac, ())],
            "neighbours": [address for mac in guest["macs"] for address in neighbours.get(mac, ())],
            "guest": _own_words(guest["domid"], nodes),
        }
        guest["addresses"] = {source: list(addresses.usable(known_from[source])) for source in addresses.SOURCES}
    return [found[name] for name in sorted(found)]


def address(guest: Mapping[str, Any], sources: Sequence[str]) -> Optional[str]:
    """The first address of a guest by the sources in their order, None where none has one."""
    return next((one for source in sources for one in guest["addresses"][source]), None)


def _configured(name: str, path: str, keys: Mapping[str, xl_cfg.Value]) -> Dict[str, Any]:
    kind = "hvm" if virtualisation.hvm(keys) else str(keys.get("type") or "pv")
    place = ("stub_domain" if virtualisation.stubbed(keys) else "dom0") if kind == "hvm" else "none"
    return {
        "name": name,
        "config": path,
        "state": "stopped",
        "domid": None,
        "uuid": str(keys["uuid"]) if "uuid" in keys else None,
        "type": kind,
        "memory_mib": xl_rules.integer(keys.get("memory"), 0) or None,
        "vcpus": xl_rules.integer(keys.get("vcpus"), 1),
        "device_model": place,
        "flavour": _flavour(kind, place, keys.get("device_model_version"), keys),
        "macs": xl_devices.macs(keys),
        "configured": [one for value in xl_devices.values("vif", "ip", keys) for one in value.split()],
    }


def _running(domain: Mapping[str, Any], nodes: Mapping[str, str], known: Mapping[str, Any]) -> Dict[str, Any]:
    domid = domain["domid"]
    model = domain["device_model"]
    kind = nodes.get(f"/libxl/{domid}/type") or known.get("type")
    place = "none" if model is None else "stub_domain" if model["stub_domain"] else "dom0"
    state = {"blocked": "running"}.get(domain["state"], domain["state"])
    started = {"kernel": nodes.get(f"/vm/{domain['uuid']}/image/kernel", "")}
    flavour = _flavour("pv" if model is None else "hvm", place, (model or {}).get("version") or "", started)
    # The backend is dom0's, or that of a domain which dom0 trusts; what the guest says of itself stands elsewhere.
    vifs: Dict[str, List[str]] = {"mac": [], "ip": []}
    for number, what, value in _backend(nodes):
        if number == domid:
            vifs[what].append(value)
    return {
        "name": domain["name"],
        "state": state,
        "domid": domid,
        "uuid": domain["uuid"],
        "type": kind if kind in ("pv", "pvh", "hvm") else None,
        "memory_mib": domain["memory_mib"],
        "vcpus": domain["vcpus"],
        "device_model": place,
        "flavour": flavour or (known["flavour"] if model is None else None),
        "macs": [mac.lower() for mac in vifs["mac"] if addresses.MAC.match(mac.lower())] or known["macs"],
        "configured": [one for value in vifs["ip"] for one in value.split()] or known["configured"],
    }


def _flavour(kind: str, place: str, version: Optional[xl_cfg.Value], keys: Mapping[str, xl_cfg.Value]) -> Optional[str]:
    """The flavour that a guest has, None where none of this collection's is."""
    if kind == "hvm":
        if place != "stub_domain":
            return None
        return virtualisation.stub_flavour(version)
    kernel = os.path.basename(str(keys.get("kernel") or ""))
    if re.match(r"pv-grub-", kernel):
        return "legacy"
    return "grub2" if re.match(r"(?:pv)?grub", kernel) else None


def _backend(nodes: Mapping[str, str]) -> Iterator[Tuple[int, str, str]]:
    for path, value in nodes.items():
        match = _BACKEND.match(path)
        if match:
            yield int(match[1]), match[2], value


def _own_words(domid: Optional[int], nodes: Mapping[str, str]) -> List[str]:
    matches = ((_ATTRIBUTE.match(path), value) for path, value in nodes.items())
    return [value for match, value in matches if match and int(match[1]) == domid]


def parts(output: bytes) -> Iterator[Tuple[str, str, bytes]]:
    """Read what PROGRAM prints: what each part is, its name and its bytes.

    :raises ValueError: it is nothing that PROGRAM prints.
    """
    at = 0
    while at < len(output):
        line, newline, _rest = output[at : at + 5000].partition(b"\n")
        words = line.decode(errors="surrogateescape").split(" ", 2)
        if not newline or len(words) != 3 or not words[1].isdecimal():
            raise ValueError("the answer cannot be understood; does something print a text when a shell starts?")
        begin = at + len(line) + 1
        at = begin + int(words[1]) + 1
        yield words[0], words[2], output[begin : at - 1]


def described(output: bytes) -> List[Dict[str, Any]]:
    """Return the guests that an answer describes.

    :raises ValueError: it describes none, and why.
    """
    if len(output) > LONGEST:
        raise ValueError(f"the answer has {len(output)} bytes")
    found: Dict[str, str] = {}
    files: Dict[str, bytes] = {}
    for what, name, content in parts(output):
        if what == "file":
            files[name] = content + b"\n"
        else:
            found[what] = content.decode(errors="replace")
    if "list" not in found:
        raise ValueError(f"`xl list` failed: {last_line(found.get('error', ''))}")
    try:
        rows = toolstack.parse_list(found["list"])
    except ValueError as error:
        raise ValueError(f"`xl list` gave an answer that cannot be right: {error}") from error
    try:
        nodes = toolstack.parse_xenstore_ls(found.get("nodes", ""))
    except ValueError:
        nodes = {}
    neighbours = addresses.parse_neighbours(found.get("neighbours", ""))
    leases = addresses.parse_leases(found.get("leases", ""))
    return guests(rows, nodes, files, neighbours, leases)
