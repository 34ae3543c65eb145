# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the report as one HTML page that needs nothing else.
#
# What hosts and guests say is put in by Markup.format, which escapes it, or as JSON, in which no character of HTML is
# left. A content security policy names the one script and the one style sheet, so that nothing else could run.

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional
from urllib.parse import quote

from ansible_collections.xen.stubdom.plugins.plugin_utils import fleet, troubles
from markupsafe import Markup

_HERE = Path(__file__).parent

# How many sentences a kind of trouble shows at once; the table of guests has them all.
_SHOWN = 12

# How many changes of a host are shown; the JSON beside the page has those that were read.
_LAST = 20

# The parts of a host's memory, in the order of the picture, as people read them.
_MEMORY = {"dom0": "dom0", "stub_domains": "stub domains", "guests": "guests", "xen": "Xen", "free": "free"}

# What the table of guests needs; the rest is in the JSON beside the page.
_GUEST = (
    "host", "name", "domid", "state", "type", "memory_mib", "vcpus", "boot", "started", "image", "screens", "place",
    "flavour", "stub_domain", "config", "autostart", "restart_required", "cannot_save", "stale",
)  # fmt: skip

_PAGE = Markup("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#attention">Skip to what needs attention</a>
<header>
<div class="head"><h1>Xen hosts</h1><p>Report of <time datetime="{generated}">{generated}</time></p></div>
<ul class="tiles" aria-label="Summary">{tiles}</ul>
</header>
<div class="bar">
<nav aria-label="Sections">{nav}</nav>
<label class="search">Search <input id="q" type="search" placeholder="host, guest, state …" autocomplete="off"></label>
</div>
<main>
<section id="attention" aria-labelledby="attention-title"><h2 id="attention-title">Needs attention</h2>
{attention}</section>
<section id="hosts" aria-labelledby="hosts-title"><h2 id="hosts-title">Hosts</h2>
{hosts}</section>
<section id="guests" aria-labelledby="guests-title"><h2 id="guests-title">Guests</h2>
<form id="filters" aria-label="Filter guests"></form>
<p id="count" role="status"></p>
<div class="scroll"><table id="guest-table"><caption class="hidden">Guests</caption>
<thead></thead><tbody></tbody></table></div>
<p><button id="more" type="button" hidden>Show more guests</button></p>
<noscript><p>This table needs JavaScript. The JSON and CSV files beside this page have the same guests.</p></noscript>
</section>
{changes}
{history}
</main>
<footer><p>Made by the playbook <code>xen.stubdom.fleet_report</code>. Memory in MiB, times in UTC.</p></footer>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
""")


def render(made: Mapping[str, Any]) -> str:
    """Return the page of a report."""
    style, script = (Markup((_HERE / f"page.{kind}").read_text(encoding="utf-8")) for kind in ("css", "js"))
    data = json_for_html({"guests": [_compact(guest) for guest in made["guests"]], "troubles": _titles()})
    # The block with the data is none of those that run, and needs no permission.
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'"
    found = fleet.groups(made)
    sections = {"attention": "Attention", "hosts": "Hosts", "guests": "Guests"}
    if made["previous"] is not None:
        sections["changes"] = "Changes"
    if any(host.get("history") for host in made["hosts"]):
        sections["history"] = "History"
    return str(
        _PAGE.format(
            policy=policy,
            title=f"Xen hosts, {made['generated']}",
            style=style,
            generated=made["generated"],
            tiles=_tiles(made, found),
            nav=_join(Markup('<a href="#{}">{}</a>').format(*item) for item in sections.items()),
            attention=_attention(found),
            hosts=_hosts(made),
            changes=_changes(made),
            history=_history(made),
            data=data,
            script=script,
        )
    )


def json_for_html(value: Any) -> Markup:
    """JSON in which no character of HTML is left, so that it can end no element and open no comment."""
    text = json.dumps(value, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _join(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def _compact(guest: Mapping[str, Any]) -> Dict[str, Any]:
    """What the table of guests needs, without what is empty."""
    kept = {key: guest[key] for key in _GUEST if guest[key] not in (None, [], False)}
    return {**kept, "troubles": [[one["kind"], one["sentence"]] for one in guest["troubles"]]}


def _titles() -> Dict[str, Any]:
    return {key: [row.severity, row.title, row.cure, row.play] for key, row in troubles.BY_KEY.items()}


def _tiles(made: Mapping[str, Any], found: List[Dict[str, Any]]) -> Markup:
    hosts, guests = made["hosts"], made["guests"]
    silent = sum(host["error"] is not None for host in hosts)
    running = [guest for guest in guests if guest["domid"] is not None and not guest["stale"]]
    emulated = [guest for guest in running if guest["type"] == "hvm"]
    own = sum(guest["place"] == "stub_domain" for guest in emulated)
    count = {word: sum(len(row["of"]) for row in found if row["severity"] == word) for word in troubles.SEVERITIES}
    rows = [
        ("hosts", len(hosts), f"{silent} without an answer" if silent else "all answer", "critical" if silent else ""),
        ("guests run", len(running), f"of {len(guests)}", ""),
        ("device models in stub domains", own, f"of {len(emulated)} HVM guests", ""),
        *((word, count[word], "found", word if count[word] else "") for word in troubles.SEVERITIES),
    ]
    return _join(
        Markup('<li class="{}"><b>{}</b> <span>{}</span> <small>{}</small></li>').format(tone, number, what, more)
        for what, number, more, tone in rows
    )


def _badge(severity: str, text: Optional[str] = None) -> Markup:
    return Markup('<span class="badge {}">{}</span>').format(severity, text or severity)


def _attention(found: List[Dict[str, Any]]) -> Markup:
    if not found:
        return Markup('<p class="fine">Nothing found that needs attention.</p>')
    return _join(_group(row) for row in found)


def _group(row: Mapping[str, Any]) -> Markup:
    hosts = len({one["host"] for one in row["of"]})
    about_guests = row["of"][0]["guest"] is not None
    count = _plural(hosts, "host")
    if about_guests:
        count = f"{_plural(len(row['of']), 'guest')} on {count}"
    items = _join(Markup("<li>{}</li>").format(_link(one)) for one in row["of"][:_SHOWN])
    more = Markup("")
    if about_guests:
        more = Markup('<p><a href="#guests?trouble={}">Show them in the table of guests</a></p>').format(row["kind"])
    elif len(row["of"]) > _SHOWN:
        more = Markup("<p>{}</p>").format(f"And {len(row['of']) - _SHOWN} more in the table of hosts.")
    play = Markup("<pre><code>{}</code></pre>").format(row["play"]) if row["play"] else Markup("")
    return Markup(
        '<details class="trouble {severity}" id="trouble-{kind}"{open}><summary>{badge} <b>{title}</b> '
        '<span class="count">{count}</span></summary><p>{cure}</p>{play}<ul>{items}</ul>{more}</details>'
    ).format(
        severity=row["severity"],
        kind=row["kind"],
        open=Markup(" open") if row["severity"] == troubles.CRITICAL else "",
        badge=_badge(row["severity"]),
        title=row["title"],
        count=count,
        cure=row["cure"],
        play=play,
        items=items,
        more=more,
    )


def _plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _link(one: Mapping[str, Any]) -> Markup:
    """What is said of a host or a guest, as a link to it."""
    host = quote(one["host"], safe="")
    if one["guest"] is None:
        return Markup('<a href="#host={}">{}</a>').format(host, one["sentence"])
    target = f"guests?open={host}%20{quote(one['guest'], safe='')}"
    return Markup('<a href="#{}">{}</a> <span class="on">on {}</span>').format(target, one["sentence"], one["host"])


_COLUMNS = ("Host", "Findings", "Xen", "Fixes until", "Next boot", "Memory", "Guests", "Seen")


def _hosts(made: Mapping[str, Any]) -> Markup:
    if not made["hosts"]:
        return Markup("<p>There are no hosts in this report.</p>")
    memory = fleet.memory(made)
    counts: Dict[str, List[int]] = {}
    for guest in made["guests"]:
        count = counts.setdefault(guest["host"], [0, 0, 0])
        count[0] += guest["domid"] is not None
        count[1] += 1
        count[2] += bool(guest["troubles"])
    head = _join(
        Markup('<th scope="col" aria-sort="none"><button type="button">{}</button></th>').format(column)
        for column in _COLUMNS
    )
    rows = _join(_host(host, memory.get(host["name"]), counts.get(host["name"], [0, 0, 0])) for host in made["hosts"])
    legend = _join(
        Markup('<li><svg viewBox="0 0 10 10" aria-hidden="true"><rect width="10" height="10" class="{}"/></svg>{}</li>')
        .format(part.replace("_", "-"), word)
        for part, word in _MEMORY.items()
    )  # fmt: skip
    return Markup(
        '<ul class="legend" aria-label="Colours of memory">{}</ul><div class="scroll"><table id="host-table">'
        '<caption class="hidden">Hosts</caption><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(legend, head, rows)


def _host(host: Mapping[str, Any], memory: Optional[Mapping[str, int]], guests: List[int]) -> Markup:
    worst = [troubles.SEVERITIES.index(one["severity"]) for one in host["troubles"]]
    badges = _join(
        Markup('<a class="badge {}" href="#trouble-{}" title="{}">{}</a> ').format(
            one["severity"], one["kind"], one["sentence"], one["kind"].replace("_", " ")
        )
        for one in host["troubles"]
    )
    support = host.get("support") or {}
    until, ended = support.get("until"), support.get("ended_before")
    line = host.get("boot_line") or {}
    boots = {True: "Xen", False: "not Xen", None: ""}[line.get("boots_xen")]
    cells = [
        (host["name"], Markup("<b>{}</b>").format(host["name"])),
        (min(worst, default=9), badges or Markup('<span class="fine">none</span>')),
        (host["release"] or "", (host.get("hypervisor") or {}).get("version") or "not running"),
        (until or ended or "", until or (f"ended before {ended}" if ended else "not known")),
        (boots, f"{boots}, other options" if line.get("reboot_required") else boots),
        (sum((memory or {}).values()), _memory(memory)),
        (guests[1], _guests(host["name"], *guests)),
        (host["seen"] or "", "now" if host["error"] is None else host["seen"] or "never"),
    ]
    tds = _join(
        Markup('<td data-label="{}" data-sort="{}">{}</td>').format(label, key, text)
        for label, (key, text) in zip(_COLUMNS, cells)
    )
    return Markup('<tr data-host="{}"{}>{}</tr>').format(
        host["name"], Markup(' class="stale"') if host["error"] is not None else "", tds
    )


def _guests(host: str, running: int, there: int, troubled: int) -> Markup:
    """How many guests a host has, as a link to them."""
    words = f"{running} of {there} run" + (f", {troubled} with findings" if troubled else "")
    return Markup('<a href="#guests?host={}">{}</a>').format(quote(host, safe=""), words) if there else Markup("none")


def _memory(parts: Optional[Mapping[str, int]]) -> Markup:
    """A picture of who has the memory of a host."""
    if not parts:
        return Markup("")
    total = sum(parts.values())
    words = ", ".join(f"{word} {parts[part]}" for part, word in _MEMORY.items() if parts[part])
    bars, at = [], 0.0
    for part, word in _MEMORY.items():
        width = 100 * parts[part] / total
        bars.append(
            Markup('<rect x="{:.2f}" width="{:.2f}" height="10" class="{}"><title>{}</title></rect>').format(
                at, width, part.replace("_", "-"), f"{word}: {parts[part]} MiB"
            )
        )
        at += width
    return Markup(
        '<svg class="memory" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
        "<small>{}</small>"
    ).format(f"Memory in MiB: {words}", _join(bars), f"{parts['free']} of {total} free")


def _changes(made: Mapping[str, Any]) -> Markup:
    if made["previous"] is None:
        return Markup("")
    columns = ("Host", "Guest", "What", "Before", "Now")
    rows = [
        (one["host"], one["guest"] or "", _word(one["what"]), _word(one["before"]), _word(one["after"]))
        for one in made["changes"]
    ]
    table = _table("Changes", columns, rows)
    return Markup(
        '<section id="changes" aria-labelledby="changes-title"><h2 id="changes-title">Changes since {}</h2>{}</section>'
    ).format(made["previous"], table if made["changes"] else Markup('<p class="fine">Nothing has changed.</p>'))


def _history(made: Mapping[str, Any]) -> Markup:
    """What the collection itself has changed on each host."""
    columns = ("When", "What", "From", "To", "Module", "Play", "Image")
    hosts = _join(
        Markup(
            '<details class="history"><summary><b>{}</b> <span class="count">{}</span></summary>{}</details>'
        ).format(
            host["name"],
            f"last change {host['history'][0]['time']}",
            _table(
                f"History of {host['name']}",
                columns,
                [
                    (one["time"], one["what"], one["from"] or "", one["to"] or "", one["module"] or "",
                     " by ".join(filter(None, (one["play"], one["user"]))), (one["image"] or "")[:12])
                    for one in host["history"][:_LAST]
                ],
            ),
        )
        for host in made["hosts"]
        if host.get("history")
    )  # fmt: skip
    if not hosts:
        return Markup("")
    return Markup(
        '<section id="history" aria-labelledby="history-title"><h2 id="history-title">What was changed by this '
        "collection</h2>{}</section>"
    ).format(hosts)


def _table(caption: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Markup:
    head = _join(Markup('<th scope="col">{}</th>').format(column) for column in columns)
    body = _join(
        Markup("<tr>{}</tr>").format(
            _join(Markup('<td data-label="{}">{}</td>').format(column, cell) for column, cell in zip(columns, row))
        )
        for row in rows
    )
    return Markup(
        '<div class="scroll"><table><caption class="hidden">{}</caption><thead><tr>{}</tr></thead><tbody>{}</tbody>'
        "</table></div>"
    ).format(caption, head, body)


def _word(value: Any) -> str:
    """A value of the report as people read it."""
    return {None: "", True: "yes", False: "no"}.get(value, str(value).replace("_", " "))
