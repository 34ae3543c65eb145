# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what a guest keeps of a configuration that another program or administrator has
# written when this collection takes it over: its UUID, its MAC addresses, and the keys of xl.cfg that no parameter has.
# A comment in the new file names what was kept, so that the next run keeps it too.

from __future__ import annotations

from typing import Any, Collection, Dict, List, Mapping, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import options, reading
from ansible_collections.xen.stubdom.plugins.module_utils._guests.model import Host
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg, xl_devices

_KEPT = "Kept from the configuration that was here before: "
# What the comment calls the MAC addresses; the rest are keys of xl.cfg.
_MACS = "mac"
# What follows from others, and is not missed for itself.
_NO_LOSS = ("name", "uuid", "type", "flavour", "allow_weaker_isolation")


def header(kept: Collection[str]) -> List[str]:
    """The comment of a new file."""
    return [_KEPT + ", ".join(kept)] if kept else []


def kept_before(content: Optional[bytes]) -> Tuple[str, ...]:
    """What the comment of a file names."""
    lines = (content or b"").decode("latin-1").split("\n", 2)
    start = f"# {_KEPT}"
    return tuple(lines[1][len(start) :].split(", ")) if len(lines) > 1 and lines[1].startswith(start) else ()


def completed(
    values: Mapping[str, Any],
    there: Mapping[str, xl_cfg.Value],
    host: Host,
    *,
    only: Optional[Collection[str]] = None,
    uuid: Optional[str] = None,
) -> Tuple[Dict[str, Any], List[str]]:
    """A guest's parameters with what they do not set from the configuration that is there, and what that was.

    :param there: its keys.
    :param only: what may be kept; None for all that can be.
    :param uuid: that of the guest's domain, for a configuration without one.
    """
    found, kept = dict(values), []

    def may(what: str) -> bool:
        return only is None or what in only

    identity = there.get("uuid") or uuid
    if identity and values["uuid"] is None and may("uuid"):
        found["uuid"] = str(identity)
        kept.append("uuid")
    addresses = _addresses(there)
    nics = [
        {**nic, "mac": address} if address and not nic["mac"] and may(_MACS) else nic
        for nic, address in zip(values["nics"], addresses + [None] * len(values["nics"]))
    ]
    if nics != list(values["nics"]):
        found["nics"] = nics
        kept.append(_MACS)
    asked = dict(values["options"] or {})
    for key, value in there.items():
        if key not in options.MANAGED and key not in asked and may(key) and _fits(values, {key: value}, host):
            found["options"] = {**(found["options"] or {}), key: value}
            kept.append(key)
    return found, kept


def _addresses(there: Mapping[str, xl_cfg.Value]) -> List[Optional[str]]:
    """The MAC address of each network interface, None for one that has none."""
    devices = there.get("vif")
    texts = [str(device) for device in devices] if isinstance(devices, list) else []
    return [
        next((value.strip() for name, value in xl_devices.fields("vif", text) if name == "mac"), None) for text in texts
    ]


def _fits(values: Mapping[str, Any], asked: Mapping[str, Any], host: Host) -> bool:
    """Whether keys may stand in the options of the guest as it is to be."""
    try:
        options.validate(
            asked,
            name=values["name"],
            guest=values["type"],
            flavour=values["flavour"],
            version=host.version,
            weaker=bool(values["allow_weaker_isolation"]),
        )
    except UserError:
        return False
    return True


def same(there: Mapping[str, xl_cfg.Value], planned: Mapping[str, xl_cfg.Value], host: Host) -> bool:
    """Whether a guest that runs with one configuration needs no new start for the other; a UUID may be new in it."""
    before, after = ({**reading.read(keys, host).parameters, "uuid": None} for keys in (there, planned))
    return before == after


def dropped(
    there: Mapping[str, xl_cfg.Value], planned: Mapping[str, xl_cfg.Value], host: Host, given: Collection[str]
) -> Dict[str, Any]:
    """What a guest loses: what its configuration has now and the new one has not, and nobody has set otherwise.

    :param planned: the keys of the new configuration.
    :param given: the parameters that the list sets.
    :return: values by parameter, options as options.KEY, and keys without a parameter as they are.
    """
    before, after = reading.read(there, host), reading.read(planned, host)
    lost: Dict[str, Any] = {}
    for name, value in before.parameters.items():
        if name == "options":
            now = after.parameters.get("options", {})
            lost.update({f"options.{key}": value[key] for key in value if key not in now})
        elif name not in given and name not in _NO_LOSS and after.parameters.get(name) != value:
            lost[name] = value
    lost.update({key: there[key] for key in before.left_out if key in there and key not in planned})
    return lost
