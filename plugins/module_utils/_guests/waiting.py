# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what a guest can be waited for after its start, a row each.

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Protocol, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import addresses
from ansible_collections.xen.stubdom.plugins.module_utils._xen import domains, xl_cfg, xl_devices
from ansible_collections.xen.stubdom.plugins.module_utils._xen.console import (
    Pattern,
    Text,
    Until,
    check_pattern,
    visible,
)
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

# How often a condition is looked at that is not heard, and how long a connection may take, in seconds.
EVERY = 2.0
CONNECT = 2.0

# Where an address is looked for that is believed, after addresses.LEASES (addresses.SOURCES).
_NEIGHBOURS = "/proc/net/arp"

_LONGEST = 1 << 20

_NODE = re.compile(r"[A-Za-z0-9@_-]+(?:/[A-Za-z0-9@_-]+)*")


class Waiting(Protocol):
    """The guest that is waited for."""

    xen: Xen
    settings: Mapping[str, xl_cfg.Value]
    facts: Dict[str, Any]


@dataclass(frozen=True)
class Condition:
    """One thing that a guest can be waited for.

    :param wrong: what is wrong with a value as the end of a sentence, None where nothing is.
    :param until: what finds out whether it has come.
    :param missed: what the guest has not done, as a part of a sentence that takes the value.
    """

    wrong: Callable[[Any], Optional[str]]
    until: Callable[[Waiting, int, Any], Until]
    missed: str


class _Looked:
    """Something that is looked at again and again."""

    def __init__(self, look: Callable[[], bool]) -> None:
        self._look = look
        self._next = 0.0
        self._found = False

    def add(self, new: str) -> None:
        """What is written has nothing to do with it."""

    def found(self, *, last: bool = False) -> bool:
        now = time.monotonic()
        if not self._found and (last or now >= self._next):
            self._found = self._look()
            self._next = time.monotonic() + EVERY
        return self._found


def wanted(values: Mapping[str, Any]) -> Optional[Tuple[str, Any]]:
    """What a guest is waited for by its parameters: the name of the condition, and its value."""
    given = _given(values)
    if values["says"] is not None:
        given["says"] = values["says"]
    return next(iter(given.items()), None)


def _given(values: Mapping[str, Any]) -> Dict[str, Any]:
    """The conditions that wait_for sets."""
    return {
        name: value for name, value in (values["wait_for"] or {}).items() if value is not None and value is not False
    }


def check(values: Mapping[str, Any]) -> None:
    """:raises UserError: a guest cannot be waited for by these parameters."""
    given = _given(values)
    if values["wait_for"] is not None and len(given) != 1:
        raise UserError(
            f"wait_for has {len(given)} conditions: {', '.join(given) or 'none'}.",
            f"Set one of {', '.join(name for name in CONDITIONS if name != 'says')} in wait_for.",
        )
    if given and values["says"] is not None:
        raise UserError("Both says and wait_for are set, and one is waited for.", "Leave out says or wait_for.")
    found = wanted(values)
    if found is not None:
        name, value = found
        wrong = CONDITIONS[name].wrong(value)
        if wrong is not None:
            name = name if name == "says" else f"wait_for.{name}"
            raise UserError(f"{name} is {value!r}, {wrong}.", f"Correct {name}, or leave it out.")


def address(xen: Xen, domid: int, settings: Mapping[str, xl_cfg.Value]) -> Optional[str]:
    """The address of a guest as far as dom0 knows it; what the guest says of itself is not believed."""
    nodes = [f"/libxl/{domid}/device/vif/{number}/mac" for number in xen.children(f"/libxl/{domid}/device/vif")]
    macs = [value.lower() for value in xen.read_many(nodes).values()] or xl_devices.macs(settings)
    leases, neighbours = (
        addresses.parse_leases("\n".join(xen.text(path, _LONGEST) or "" for path in addresses.LEASES)),
        addresses.parse_neighbours(xen.text(_NEIGHBOURS, _LONGEST) or ""),
    )
    found: List[str] = [one for value in xl_devices.values("vif", "ip", settings) for one in value.split()]
    found += [one for known in (leases, neighbours) for mac in macs for one in known.get(mac, ())]
    return next(addresses.usable(found), None)


def _address(guest: Waiting, domid: int) -> Optional[str]:
    found = address(guest.xen, domid, guest.settings)
    guest.facts["address"] = found
    return found


def _answers(guest: Waiting, domid: int, port: int) -> bool:
    found = _address(guest, domid)
    if found is None:
        return False
    try:
        socket.create_connection((found, port), CONNECT).close()
    except OSError:
        return False
    return True


def _state(guest: Waiting, domid: int) -> str:
    letters = {row.domid: row.state for row in guest.xen.domains()}
    return domains.state(letters[domid]) if domid in letters else "absent"


def _wrong_text(value: Any) -> Optional[str]:
    seen = value.strip() and visible(value) == value
    return None if seen else "which is not a text that a guest can be seen to write"


CONDITIONS: Mapping[str, Condition] = {
    "says": Condition(_wrong_text, lambda _guest, _domid, text: Text(text), "did not say {!r}"),
    "pattern": Condition(check_pattern, lambda _guest, _domid, text: Pattern(text), "did not write a line like {!r}"),
    "state": Condition(
        lambda _value: None,
        lambda guest, domid, state: _Looked(lambda: _state(guest, domid) == state),
        "has not been {}",
    ),
    "node": Condition(
        lambda value: None if _NODE.fullmatch(value) else "which is no path below that of a domain in xenstore",
        lambda guest, domid, node: _Looked(lambda: bool(guest.xen.read(f"/local/domain/{domid}/{node}"))),
        "has had no xenstore node {}",
    ),
    "port": Condition(
        lambda value: None if 0 < value < 1 << 16 else "which is no TCP port",
        lambda guest, domid, port: _Looked(lambda: _answers(guest, domid, port)),
        "has not answered at TCP port {}",
    ),
    "address": Condition(
        lambda _value: None,
        lambda guest, domid, _value: _Looked(lambda: _address(guest, domid) is not None),
        "has got no address that dom0 knows",
    ),
}
