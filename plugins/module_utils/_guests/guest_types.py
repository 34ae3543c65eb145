# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the type of a guest with GRUB 2 for which none is asked.
#
# GRUB 2 for PVH guests loads a kernel as it is, and Linux unpacks itself. GRUB 2 for PV guests has to unpack it, and
# knows gzip, xz and lzo (grub-core/loader/i386/xen_file.c @ 2.12), while the kernels of Debian 13, Fedora, Ubuntu and
# Arch are packed with zstd.

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._guests.boot_loaders import GRUB2_TYPES
from ansible_collections.xen.stubdom.plugins.module_utils._guests.model import Host
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg, xl_rules

# Among xen_caps where the hypervisor runs 64-bit guests in hardware virtualisation.
_HARDWARE = "hvm-3.0-x86_64"
# How the hypervisor keeps the memory of a PVH guest apart; told since 4.14 (output_physinfo, tools/xl/xl_info.c).
_PAGING = frozenset(("hap", "shadow"))
_TELLS_PAGING = (4, 14)


def typed(values: Mapping[str, Any], host: Host, before: Mapping[str, xl_cfg.Value]) -> Tuple[Dict[str, Any], str]:
    """Return the parameters of a guest with a type, and why it was chosen where it was.

    :param before: the keys of its configuration as it is, empty where there is none.
    """
    if values["type"] is not None:
        return dict(values), ""
    chosen, reason = _choose(values, host, before)
    return {**values, "type": chosen}, reason


def _choose(values: Mapping[str, Any], host: Host, before: Mapping[str, xl_cfg.Value]) -> Tuple[str, str]:
    if values.get("kernel"):
        return "pv", "A kernel is named, and it is taken for one of a PV guest."
    if "pci" in (values.get("options") or {}):
        return "pv", "Only PV guests of these types can have PCI devices of the host."
    why_not = _no_pvh(host)
    there = before.get("type", "pv") if before.get("name") == values["name"] else None
    if there in GRUB2_TYPES and (there == "pv" or why_not is None):
        return str(there), "The guest has a configuration with this type."
    if why_not is not None:
        return "pv", why_not
    return "pvh", "PVH guests boot kernels of every compression."


def _no_pvh(host: Host) -> Optional[str]:
    """Why no PVH guest can be started here, in a sentence; None where nothing is known against it."""
    if host.version is not None and host.version < xl_rules.since("type"):
        return "This release of Xen has no PVH guests."
    if host.capabilities and _HARDWARE not in host.capabilities:
        return "The hypervisor runs no PVH guests: the processor's virtualisation is missing or switched off."
    tells = host.version is not None and host.version >= _TELLS_PAGING and bool(host.virtualisation)
    if tells and not host.virtualisation & _PAGING:
        return "The hypervisor runs no PVH guests: it has neither hap nor shadow paging."
    if "pv" in host.grub2_types and "pvh" not in host.grub2_types:
        return "There is a GRUB 2 for PV guests on this host, and none for PVH guests."
    return None
