# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the report on many hosts, made of what xen_info returns of each.

from __future__ import annotations

import datetime
import re
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError, printable
from ansible_collections.xen.stubdom.plugins.plugin_utils import troubles

# To be raised when a report of before cannot be compared any more.
FORMAT = 1

# What is kept of a host, beside its name, its guests and its troubles.
_HOST = (
    "running",
    "hypervisor",
    "toolstack",
    "support",
    "boot_line",
    "memory",
    "images",
    "firmware_directory",
    "history",
)
# What of a guest is compared with the report before, and what of a host.
_COMPARED_GUEST = ("state", "type", "boot", "place", "flavour", "memory_mib", "vcpus", "config", "autostart", "uuid")
_COMPARED_HOST = ("running", "release")


def report(answers: Mapping[str, Any], *, now: datetime.datetime, previous: Optional[Any] = None) -> Dict[str, Any]:
    """Make the report.

    :param answers: by host, what the module xen_info has returned, or what Ansible says of a host without an answer.
    :param previous: the report before, None for none.
    :raises UserError: *previous* is no report.
    """
    before = _checked(previous)
    known = {host["name"]: host for host in before["hosts"]}
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    hosts: List[Dict[str, Any]] = []
    guests: List[Dict[str, Any]] = []
    for name, answer in sorted(answers.items()):
        shown = _printable(answer)
        host = _host(str(name), shown, stamp)
        if host["error"] is not None and host["name"] in known:
            # The last that is known of it, with the day on which it was.
            host = {**known[host["name"]], "error": host["error"], "running": None}
            guests += [guest for guest in before["guests"] if guest["host"] == host["name"]]
        elif host["error"] is None:
            guests += _guests(host["name"], shown)
        hosts.append(host)
    _find_twins(guests)
    made: Dict[str, Any] = {
        "format": FORMAT,
        "generated": stamp,
        "hosts": [_judged(host, troubles.HOSTS, now) for host in hosts],
        "guests": _judged_guests(guests, hosts, now),
        "changes": [] if previous is None else list(_changes(before, hosts, guests)),
        "previous": before["generated"],
    }
    made["counts"] = {row["kind"]: len(row["of"]) for row in groups(made)}
    return made


def _checked(previous: Optional[Any]) -> Mapping[str, Any]:
    if previous is None:
        return {"hosts": [], "guests": [], "generated": None}
    if not isinstance(previous, Mapping) or previous.get("format") != FORMAT:
        raise UserError(
            "The report before is none of this filter's, or was made by another version of it.",
            "Set previous to the JSON of a report, or leave it out.",
        )
    return previous


def _printable(value: Any) -> Any:
    """What hosts and guests say, without what does something to a terminal, to the direction of a text, or in Jinja."""
    if isinstance(value, Mapping):
        return {_printable(str(key)): _printable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printable(inner) for inner in value]
    if not isinstance(value, str):
        return value
    return re.sub(r"\{(?=[{%#])", "{ ", printable(str(value)))


def _host(name: str, answer: Any, stamp: str) -> Dict[str, Any]:
    error = _error(answer)
    facts = answer if error is None else {}
    about = facts.get("hypervisor") or {}
    release = None if about.get("major") is None else f"{about['major']}.{about['minor']}"
    return {
        "name": printable(name),
        "error": error,
        "seen": stamp if error is None else None,
        "release": release,
        **{key: facts.get(key) for key in _HOST},
    }


def _error(answer: Any) -> Optional[str]:
    """Why there are no facts of a host, None where there are."""
    if not isinstance(answer, Mapping) or not answer:
        return "no answer"
    if answer.get("unreachable") or answer.get("failed") or "running" not in answer:
        return str(answer.get("msg") or "no answer").strip().rstrip(".")
    return None


def _guests(host: str, answer: Mapping[str, Any]) -> Iterator[Dict[str, Any]]:
    """The guests that run on a host or have a configuration there; stub domains are part of theirs."""
    domains = answer.get("guests") or []
    stubs = {domain["stub_domain_of"]: domain for domain in domains if domain["stub_domain_of"] is not None}
    files = {one["name"]: one for one in reversed(answer.get("configurations") or [])}
    for domain in domains:
        if domain["stub_domain_of"] is None:
            yield _running(host, domain, stubs.get(domain["name"]), files.pop(domain["name"], None))
    for one in files.values():
        yield _stopped(host, one)


def _running(
    host: str, domain: Mapping[str, Any], stub: Optional[Mapping[str, Any]], one: Optional[Mapping[str, Any]]
) -> Dict[str, Any]:
    model = domain["device_model"]
    same = ("name", "domid", "uuid", "state", "type", "memory_mib", "vcpus", "boot", "started", "image", "screens")
    return {
        "host": host,
        **{key: domain[key] for key in same},
        # A guest that waits for something to do runs, too.
        "state": "running" if domain["state"] == "blocked" else domain["state"],
        "place": "none" if model is None else model["place"],
        "flavour": None if model is None else model["flavour"],
        "device_model_state": None if model is None else model["state"],
        "stub_domain": None if stub is None else {key: stub[key] for key in ("name", "domid", "memory_mib")},
        "config": domain["config"],
        "wanted_place": None if one is None else one["device_model"],
        "autostart": domain["autostart"],
        "restart_required": domain["restart_required"],
        "cannot_save": domain["cannot_save"],
        "also_on": [],
    }


def _stopped(host: str, one: Mapping[str, Any]) -> Dict[str, Any]:
    same = ("name", "type", "memory_mib", "vcpus", "boot", "screens", "flavour", "autostart", "cannot_save")
    return {
        "host": host,
        "domid": None,
        "uuid": None,
        "state": "stopped",
        "started": None,
        "image": None,
        **{key: one[key] for key in same},
        "place": one["device_model"],
        "device_model_state": None,
        "stub_domain": None,
        "config": one["path"],
        "wanted_place": one["device_model"],
        "restart_required": [],
        "also_on": [],
    }


def _find_twins(guests: Sequence[Dict[str, Any]]) -> None:
    """Note on which other hosts a guest runs with the same identity."""
    by_uuid: Dict[str, List[Dict[str, Any]]] = {}
    for guest in guests:
        # One that is being migrated is paused on one of the two hosts.
        if guest["uuid"] is not None and guest["state"] == "running":
            by_uuid.setdefault(guest["uuid"], []).append(guest)
    for twins in by_uuid.values():
        for guest in twins:
            guest["also_on"] = [other["host"] for other in twins if other["host"] != guest["host"]]


def _judged(facts: Dict[str, Any], rows: Sequence[troubles.Trouble], now: datetime.datetime) -> Dict[str, Any]:
    return {**facts, "troubles": troubles.find(facts, rows, now.date())}


def _judged_guests(
    guests: Sequence[Dict[str, Any]], hosts: Sequence[Mapping[str, Any]], now: datetime.datetime
) -> List[Dict[str, Any]]:
    """What was once known of the guests of a host that does not answer is not held against them."""
    silent = {host["name"] for host in hosts if host["error"] is not None}
    return [
        {**_judged(guest, () if guest["host"] in silent else troubles.GUESTS, now), "stale": guest["host"] in silent}
        for guest in guests
    ]


def groups(made: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """The troubles of a report by kind, the worst first, each with those who have it."""
    found: Dict[str, List[Dict[str, Any]]] = {}
    for host in made["hosts"]:
        for trouble in host["troubles"]:
            found.setdefault(trouble["kind"], []).append({"host": host["name"], "guest": None, **trouble})
    for guest in made["guests"]:
        for trouble in guest["troubles"]:
            found.setdefault(trouble["kind"], []).append({"host": guest["host"], "guest": guest["name"], **trouble})
    rows = [
        {
            "kind": key,
            "severity": row.severity,
            "title": row.title,
            "cure": row.cure,
            "play": row.play,
            "of": found[key],
        }
        for key, row in troubles.BY_KEY.items()
        if key in found
    ]
    return sorted(rows, key=lambda row: troubles.SEVERITIES.index(row["severity"]))


def memory(made: Mapping[str, Any]) -> Dict[str, Dict[str, int]]:
    """Who has the memory of each host, in MiB: dom0, stub domains, guests, free, and the hypervisor itself."""
    sums = {host["name"]: {"stub_domains": 0, "guests": 0} for host in made["hosts"]}
    for guest in made["guests"]:
        if guest["domid"] is not None and guest["host"] in sums:
            sums[guest["host"]]["guests"] += guest["memory_mib"] or 0
            sums[guest["host"]]["stub_domains"] += (guest["stub_domain"] or {"memory_mib": 0})["memory_mib"]
    found = {}
    for host in made["hosts"]:
        about = host.get("memory") or {}
        if about.get("total_mib"):
            parts = {"dom0": about["dom0_mib"] or 0, **sums[host["name"]], "free": about["free_mib"] or 0}
            found[host["name"]] = {**parts, "xen": max(0, about["total_mib"] - sum(parts.values()))}
    return found


def _changes(
    before: Mapping[str, Any], hosts: Sequence[Mapping[str, Any]], guests: Sequence[Mapping[str, Any]]
) -> Iterator[Dict[str, Any]]:
    """What differs from the report before, by host and guest."""
    old_hosts = {host["name"]: host for host in before["hosts"]}
    new_hosts = {host["name"]: host for host in hosts}
    for name in sorted({*old_hosts, *new_hosts}):
        yield from _difference(name, None, old_hosts.get(name), new_hosts.get(name), _COMPARED_HOST)
    silent = {host["name"] for host in hosts if host["error"] is not None}
    old_guests = _by_place(before["guests"])
    new_guests = _by_place(guests)
    for host, name in sorted({*old_guests, *new_guests}):
        if host in new_hosts and host not in silent:
            key = (host, name)
            yield from _difference(host, name, old_guests.get(key), new_guests.get(key), _COMPARED_GUEST)


def _by_place(guests: Sequence[Mapping[str, Any]]) -> Dict[Tuple[str, str], Mapping[str, Any]]:
    return {(guest["host"], guest["name"]): guest for guest in guests}


def _difference(
    host: str,
    guest: Optional[str],
    old: Optional[Mapping[str, Any]],
    new: Optional[Mapping[str, Any]],
    keys: Sequence[str],
) -> Iterator[Dict[str, Any]]:
    place = {"host": host, "guest": guest}
    if old is None or new is None:
        yield {**place, "what": "new" if old is None else "gone", "before": None, "after": None}
        return
    if (old.get("error") is None) != (new.get("error") is None):
        words = ["answers" if one.get("error") is None else "does not answer" for one in (old, new)]
        yield {**place, "what": "reachable", "before": words[0], "after": words[1]}
        return
    for key in keys:
        # A guest that does not run has no UUID but that of its file.
        if old.get(key) != new.get(key) and not (key == "uuid" and None in (old.get(key), new.get(key))):
            yield {**place, "what": key, "before": old.get(key), "after": new.get(key)}
