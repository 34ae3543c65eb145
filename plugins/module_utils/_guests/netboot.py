# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the server from which guests boot, dnsmasq, as the files that it reads.
#
# Sources: stubdom/grub/mini-os.c and netboot/main.c of PV-GRUB (its menu through option 150); dnsmasq(8) 2.90, with
# which DHCP, option 150 and TFTP were seen, each asked for by a client.

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import addresses, menus, plan
from ansible_collections.xen.stubdom.plugins.module_utils._guests.boot_loaders import LONGEST_PATH

# The DHCP option by which PV-GRUB is told its menu, and copies it without looking at its length.
MENU_OPTION = 150
# What is served by TFTP, and where menus lie below it.
MENUS = "guests"
DIRECTORY = "/var/lib/xen.stubdom/netboot"
LEASES = addresses.LEASES[1]

_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}\Z")
_TIME = re.compile(r"(?:[1-9][0-9]{0,7}[mhdw]?|infinite)\Z")
# A name of a file for dnsmasq, in whose lines commas and quotes have a meaning. DHCP has 128 bytes for it.
_BOOT_FILE = re.compile(r"[A-Za-z0-9_./+-]{1,127}\Z")


@dataclass(frozen=True)
class Server:
    """What dnsmasq does, and where.

    :param interface: the only network interface that it serves.
    :param own: the IPv4 addresses of that interface, each as in 192.0.2.1/24; None where they are not known.
    :param first: the first address that guests get, :param last: the last one.
    :param lease: how long, as dnsmasq takes it: 3600, 45m, 12h, 7d or infinite.
    :param router: the default route that guests get; none where empty.
    :param name_servers: the name servers that guests get.
    :param serve_all: whether machines get an address that are not in the list of guests.
    """

    interface: str
    first: str
    last: str
    own: Optional[Sequence[str]] = None
    lease: str = "1h"
    router: str = ""
    name_servers: Sequence[str] = ()
    serve_all: bool = False


@dataclass(frozen=True)
class Files:
    """What dnsmasq is to read.

    :param configuration: the text of its configuration.
    :param menus: texts by their paths below DIRECTORY.
    """

    configuration: str
    menus: Mapping[str, str] = field(default_factory=dict)


def plan_files(server: Server, guests: Sequence[Mapping[str, Any]]) -> Files:
    """Return what dnsmasq is to read.

    :param guests: name and mac of each; as the list of the module guests has them, menu_entries and menu_timeout for
        PV-GRUB; boot_file for firmware that boots from the network; address.
    :raises UserError: a value cannot be served, or would be another line of the configuration.
    """
    network = _check_server(server)
    lines = [
        "port=0",
        f"interface={server.interface}",
        "bind-interfaces",
        "except-interface=lo",
        # Three seconds for each offer otherwise.
        "no-ping",
        f"dhcp-range={server.first},{server.last},{network.netmask},{server.lease}",
        # Without them dnsmasq names itself.
        f"dhcp-option=3{_comma(server.router)}",
        f"dhcp-option=6{_comma(*server.name_servers)}",
        f"dhcp-leasefile={LEASES}",
        "enable-tftp",
        f"tftp-root={DIRECTORY}",
    ]
    if not server.serve_all:
        lines += ["dhcp-ignore=tag:!known", "dhcp-authoritative"]
    found: Dict[str, str] = {}
    seen: Dict[str, str] = {}
    for guest in guests:
        name = guest["name"]
        plan.check_name(name)
        mac = _mac(guest)
        for what, value in (("name", name), ("MAC address", mac), ("address", guest.get("address"))):
            if value is not None and value in seen:
                raise UserError(
                    f"Two guests have the {what} {value}: {seen[value]} and {name}.",
                    f"Correct {'mac' if what == 'MAC address' else what} of one of them in netboot_server_guests.",
                )
            if value is not None:
                seen[value] = name
        tag = f"m{mac.replace(':', '')}"
        address = _address(guest, network)
        lines.append(f"dhcp-host={mac},set:{tag}{_comma(address)}")
        if guest.get("menu_entries"):
            path = f"{MENUS}/{name}.lst"
            found[path] = menus.legacy(guest["menu_entries"], int(guest.get("menu_timeout", 5)), (), root=_root)
            lines.append(f"dhcp-option=tag:{tag},{MENU_OPTION}{_comma(*quads(f'(nd)/{path}'))}")
        if guest.get("boot_file"):
            lines.append(f"dhcp-boot=tag:{tag},{_boot_file(guest)}")
    return Files("".join(f"{line}\n" for line in lines), found)


def _root(entry: Mapping[str, Any]) -> str:
    """The TFTP server that PV-GRUB has the menu from."""
    for name in ("disk", "partition"):
        if entry.get(name) is not None:
            raise UserError(
                f"menu_entries.{name} is {entry[name]!r}, and this kernel comes from the TFTP server.",
                f"Leave out {name} in menu_entries.",
            )
    return "(nd)"


def quads(path: str) -> List[str]:
    """Return a path as dnsmasq takes option 150, whose type is a list of addresses there.

    PV-GRUB leaves out the NULs at the end, with which the last one is filled.

    :raises UserError: PV-GRUB cannot take it.
    """
    data = path.encode()
    if len(data) > LONGEST_PATH:
        raise UserError(
            f"The path {path} has {len(data)} bytes, and PV-GRUB has room for {LONGEST_PATH}.",
            "Give the guest a shorter name.",
        )
    data += b"\0" * (-len(data) % 4)
    return [".".join(str(byte) for byte in data[at : at + 4]) for at in range(0, len(data), 4)]


def _check_server(server: Server) -> ipaddress.IPv4Network:
    for name, value, pattern, hint in (
        ("interface", server.interface, _INTERFACE, "the name of a network interface, such as xenbr0"),
        ("lease_time", server.lease, _TIME, "a number of seconds, or one with m, h, d or w, such as 12h"),
    ):
        if not pattern.match(value):
            raise UserError(f"netboot_server_{name} is {value!r}.", f"Set netboot_server_{name} to {hint}.")
    first, last = (_ipv4(f"netboot_server_{name}", getattr(server, name)) for name in ("first", "last"))
    networks = [ipaddress.IPv4Interface(one).network for one in server.own or ()]
    if server.own is None:
        # Nothing is known of a host that check mode has not configured yet.
        networks = [ipaddress.IPv4Network(f"{first}/24", strict=False)]
    network = next((one for one in networks if first in one and last in one), None)
    if network is None:
        raise UserError(
            f"{server.interface} has no address in a network with {first} and {last}: "
            f"it has {', '.join(server.own or ()) or 'none'}.",
            "Correct netboot_server_first and netboot_server_last, or give the interface an address in that network.",
        )
    if first > last:
        raise UserError(
            f"netboot_server_first is {first}, which is behind netboot_server_last, {last}.", "Exchange the two."
        )
    if server.router:
        _ipv4("netboot_server_router", server.router)
    for one in server.name_servers:
        _ipv4("netboot_server_name_servers", one)
    return network


def _ipv4(name: str, value: Any) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address(str(value))
    except ValueError:
        raise UserError(f"{name} is {value!r}, which is no IPv4 address.", f"Correct {name}.") from None


def _mac(guest: Mapping[str, Any]) -> str:
    mac = str(guest["mac"]).lower()
    if not addresses.MAC.match(mac):
        raise UserError(
            f"mac of the guest {guest['name']} is {guest['mac']!r}, which is no MAC address.",
            "Correct mac in netboot_server_guests; the guest's network interface needs the same one.",
        )
    return mac


def _address(guest: Mapping[str, Any], network: ipaddress.IPv4Network) -> str:
    asked = guest.get("address")
    if asked is None:
        return ""
    address = _ipv4(f"address of the guest {guest['name']}", asked)
    if address not in network:
        raise UserError(
            f"address of the guest {guest['name']} is {address}, which is not in the network {network}.",
            "Correct address in netboot_server_guests.",
        )
    return str(address)


def _boot_file(guest: Mapping[str, Any]) -> str:
    if not _BOOT_FILE.match(str(guest["boot_file"])):
        raise UserError(
            f"boot_file of the guest {guest['name']} is {guest['boot_file']!r}.",
            f"Set boot_file to a path below {DIRECTORY}, of up to 127 letters, digits and . _ / + -.",
        )
    return str(guest["boot_file"])


def _comma(*values: str) -> str:
    return "".join(f",{value}" for value in values if value)
