# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the report as a table for a terminal, and as CSV.

from __future__ import annotations

import csv
import io
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.xen.stubdom.plugins.plugin_utils import fleet, troubles

_GUEST_COLUMNS = (
    "host", "name", "state", "type", "memory_mib", "vcpus", "boot", "place", "flavour", "autostart", "config",
    "cannot_save",
)  # fmt: skip
# What a program for tables would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t")


def as_csv(made: Mapping[str, Any]) -> str:
    """The guests, a line each, in the form of RFC 4180."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow([*_GUEST_COLUMNS, "restart_required", "findings"])
    for guest in made["guests"]:
        kinds = " ".join(one["kind"] for one in guest["troubles"])
        row = [*(guest[key] for key in _GUEST_COLUMNS), " ".join(guest["restart_required"]), kinds]
        writer.writerow(["" if value is None else _plain(str(value)) for value in row])
    return stream.getvalue()


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def as_table(made: Mapping[str, Any]) -> str:
    """The hosts, a line each, and the kinds of trouble below."""
    nothing = dict.fromkeys(troubles.SEVERITIES, 0)
    per_host: Dict[str, Dict[str, int]] = {host["name"]: dict(nothing) for host in made["hosts"]}
    for one in (*made["hosts"], *made["guests"]):
        for trouble in one["troubles"]:
            per_host[one.get("host") or one["name"]][trouble["severity"]] += 1
    guests: Dict[str, List[Mapping[str, Any]]] = {}
    for guest in made["guests"]:
        guests.setdefault(guest["host"], []).append(guest)
    memory = fleet.memory(made)
    rows = [["HOST", "XEN", "NEXT BOOT", "DOM0", "FREE", "GUESTS", "ISOLATED", *(map(str.upper, troubles.SEVERITIES))]]
    for host in made["hosts"]:
        rows.append([host["name"], *_host(host, guests.get(host["name"], []), memory.get(host["name"]))])
        rows[-1] += [str(per_host[host["name"]][word]) for word in troubles.SEVERITIES]
    kinds = [
        [row["severity"], str(len(row["of"])), row["kind"], row["title"], row["play"] or row["cure"]]
        for row in fleet.groups(made)
    ]
    return "\n".join([*_aligned(rows), *([""] if kinds else []), *_aligned(kinds)])


def _host(host: Mapping[str, Any], guests: Sequence[Mapping[str, Any]], memory: Any) -> List[str]:
    emulated = [guest for guest in guests if guest["type"] == "hvm" and guest["domid"] is not None]
    own = sum(guest["place"] == "stub_domain" for guest in emulated)
    if host["error"] is not None:
        return ["no answer", "", "", "", f"{len(guests)} known", ""]
    line = host["boot_line"] or {}
    boots = {True: "Xen", False: "NOT XEN", None: "?"}[line.get("boots_xen")]
    return [
        host["release"] or "not running",
        boots + (", differs" if line.get("reboot_required") else ""),
        "" if memory is None else f"{memory['dom0']} MiB",
        "" if memory is None else f"{memory['free']} MiB",
        f"{sum(guest['domid'] is not None for guest in guests)}/{len(guests)}",
        f"{own}/{len(emulated)}",
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> List[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
