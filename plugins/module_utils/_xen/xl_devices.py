# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the fields of the devices that a guest's configuration describes.

from __future__ import annotations

from typing import Any, Iterator, List, Mapping, Tuple

# An element of these lists is one field; elsewhere commas separate fields.
_ONE_FIELD = ("smbios", "vnuma")


def macs(keys: Mapping[str, Any]) -> List[str]:
    """The MAC addresses of a guest's network interfaces, in small letters."""
    return [mac.lower() for mac in values("vif", "mac", keys)]


def nics(keys: Mapping[str, Any]) -> List[Tuple[int, str]]:
    """The network interfaces of a guest with their numbers: the given one (devid), or the place in the list."""
    devices = keys.get("vif")
    found = []
    for place, nic in enumerate(devices if isinstance(devices, (list, tuple)) else ()):
        given = dict(fields("vif", str(nic))).get("devid", "")
        found.append((int(given) if given.isdecimal() and given.isascii() else place, str(nic)))
    return found


def values(key: str, field: str, keys: Mapping[str, Any]) -> List[str]:
    """What a field is set to in each device that a key describes and that has it."""
    devices = keys.get(key)
    texts = [str(device) for device in devices] if isinstance(devices, (list, tuple)) else []
    return [value for device in texts for name, value in fields(key, device) if name == field and value]


def fields(key: str, device: str) -> Iterator[Tuple[str, str]]:
    """Yield the fields of a device and their values, as xl separates them; one without a value has an empty one."""
    rest = device
    while rest:
        # The target of a disk takes all that is left.
        whole = key in _ONE_FIELD or (key == "disk" and rest.lstrip().startswith("target="))
        part, rest = (rest, "") if whole else rest.partition(",")[::2]
        name, _sign, value = part.partition("=")
        yield name.strip(), value
