# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the addresses of guests, as far as dom0 knows them.

from __future__ import annotations

import ipaddress
import re
from typing import Dict, Iterator, List, Sequence

# Where an address of a guest can be known from, each believed less than the one before: what the operator wrote as `ip`
# of a network interface; what dom0's dnsmasq has given its MAC address; whom dom0 has reached under that MAC address;
# what the guest itself writes into xenstore, as programs for guests of XenServer do.
SOURCES = ("configured", "leases", "neighbours", "guest")

# Where dnsmasq keeps its leases; the second one is that of our own server (netboot.py).
LEASES = ("/var/lib/misc/dnsmasq.leases", "/var/lib/misc/dnsmasq.xen-stubdom.leases")

MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z")


def usable(texts: Sequence[str]) -> Iterator[str]:
    """Yield those that are addresses by which another host can reach the guest, each once."""
    seen = set()
    for text in texts:
        try:
            found = ipaddress.ip_address(text.partition("/")[0])
        except ValueError:
            continue
        refused = found.is_link_local or found.is_loopback or found.is_multicast or found.is_unspecified
        if not refused and found not in seen:
            seen.add(found)
            yield str(found)


def parse_neighbours(output: str) -> Dict[str, List[str]]:
    """Read `ip neigh`, or /proc/net/arp where there is no such program."""
    found: Dict[str, List[str]] = {}
    for line in output.splitlines():
        words = line.split()
        mac = next((word.lower() for word in words if MAC.match(word.lower())), None)
        if mac is not None and "FAILED" not in words:
            found.setdefault(mac, []).append(words[0])
    return found


def parse_leases(output: str) -> Dict[str, List[str]]:
    """Read the leases of dnsmasq: expiry, MAC address, address, name, identity."""
    found: Dict[str, List[str]] = {}
    for line in output.splitlines():
        words = line.split()
        if len(words) >= 3 and MAC.match(words[1].lower()):
            found.setdefault(words[1].lower(), []).append(words[2])
    return found
