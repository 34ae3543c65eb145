# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the domains of a host, described from `xl list` and xenstore.

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Domain, Xen

# What one letter of `xl list` says (docs/man/xl.1.pod.in @ stable-4.20); a domain that waits for a processor has none.
STATES = {"d": "dying", "c": "crashed", "s": "shutdown", "p": "paused", "b": "blocked", "r": "running", "": "running"}
# Those in which a domain does nothing any more.
GONE = ("shutdown", "crashed", "dying")


def state(letters: str) -> str:
    """Return xl's word for the letters of a row of `xl list`."""
    return next(word for letter, word in STATES.items() if letter in letters)


def guests(domains: Sequence[Domain], nodes: Mapping[str, str]) -> List[Dict[str, Any]]:
    """Describe every domain but dom0.

    :param nodes: what xenstore holds, by full path.
    """
    names = {domain.domid: domain.name for domain in domains}
    ended = {domain.domid: state(domain.state) for domain in domains if state(domain.state) in GONE}
    return [
        {
            "name": domain.name,
            "domid": domain.domid,
            "memory_mib": domain.memory_mib,
            "vcpus": domain.vcpus,
            "state": state(domain.state),
            "uuid": uuid(nodes, domain.domid),
            "device_model": _as_it_is(device_model(nodes, domain.domid), ended),
            "stub_domain_of": names.get(served_by(nodes, domain.domid)),
        }
        for domain in domains
        if domain.domid != 0
    ]


def _as_it_is(model: Optional[Dict[str, Any]], ended: Mapping[int, str]) -> Optional[Dict[str, Any]]:
    """A stub domain that has ended leaves in xenstore that its device model runs."""
    if model is None or not model["stub_domain"] or model["domid"] not in ended:
        return model
    return {**model, "state": ended[model["domid"]]}


def uuid(nodes: Mapping[str, str], domid: int) -> Optional[str]:
    """The guest's identity, None where xenstore does not know the domain."""
    path = nodes.get(f"/local/domain/{domid}/vm", "")
    return _word(path[len("/vm/") :]) if path.startswith("/vm/") else None


def device_model(nodes: Mapping[str, str], domid: int) -> Optional[Dict[str, Any]]:
    """Say where the device model of a guest runs, None for a guest without one."""
    home = nodes.get(f"/local/domain/{domid}/image/device-model-domid")
    if nodes.get(f"/libxl/{domid}/type") != "hvm" and not home:
        return None
    where = _number(home) or 0
    return {
        "version": _word(nodes.get(f"/libxl/{domid}/dm-version", "").replace("_", "-")),
        "domid": where,
        "state": _word(nodes.get(f"/local/domain/{where}/device-model/{domid}/state")),
        "stub_domain": where != 0 and served_by(nodes, where) == domid,
    }


def served_by(nodes: Mapping[str, str], domid: int) -> int:
    """The guest that this domain is the stub domain of, -1 for none; both must point at each other."""
    target = _number(nodes.get(f"/local/domain/{domid}/target"))
    if target is not None and nodes.get(f"/local/domain/{target}/image/device-model-domid") == str(domid):
        return target
    return -1


# Domains write nodes of their own, and what they write there is not believed to be of any form or size.
_NUMBER = re.compile(r"[0-9]{1,5}")
_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def _number(value: Optional[str]) -> Optional[int]:
    """The number of a domain that a node holds, None for anything else."""
    return int(value) if value is not None and _NUMBER.fullmatch(value) else None


def _word(value: Optional[str]) -> Optional[str]:
    """The word that a node holds, None for anything else."""
    return value if value is not None and _WORD.fullmatch(value) else None


def nodes_of(xen: Xen, domids: Sequence[int]) -> Dict[str, str]:
    """The nodes of xenstore that describe these domains, and no others: what `uuid` and `device_model` read."""
    first = ("/local/domain/{}/vm", "/libxl/{}/type")
    nodes = xen.read_many([path.format(domid) for domid in domids for path in first])
    models = [domid for domid in domids if nodes.get(f"/libxl/{domid}/type", "hvm") == "hvm"]
    second = ("/libxl/{}/dm-version", "/local/domain/{}/image/device-model-domid")
    nodes.update(xen.read_many([path.format(domid) for domid in models for path in second]))
    for domid in models:
        where = _number(nodes.get(f"/local/domain/{domid}/image/device-model-domid")) or 0
        # What a stub domain can write is read alone.
        for path in (f"/local/domain/{where}/target", f"/local/domain/{where}/device-model/{domid}/state"):
            value = xen.read(path) if where or path.endswith("state") else None
            if value is not None:
                nodes[path] = value
    return nodes
