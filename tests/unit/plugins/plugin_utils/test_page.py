# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import fleets
from ansible_collections.xen.stubdom.plugins.filter.fleet import make
from ansible_collections.xen.stubdom.plugins.plugin_utils import page, troubles

VOID = {"meta", "input", "br", "hr", "link", "img"}


class Page(HTMLParser):
    """A page as a browser reads it: its elements, its texts, and whether each element ends where it should."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: List[Tuple[str, Dict[str, Optional[str]]]] = []
        self.texts: List[Tuple[str, str]] = []
        self.open: List[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def all(self, tag: str, **attributes: str) -> List[Dict[str, Optional[str]]]:
        return [found for name, found in self.elements if name == tag and attributes.items() <= found.items()]

    def text(self, tag: str) -> List[str]:
        return [text for name, text in self.texts if name == tag]


def rendered(answers: Dict[str, Any], **more: Any) -> str:
    return page.render(make(answers, now="2026-11-29T12:00:00Z", **more))


def data_of(found: Page) -> Any:
    return json.loads(found.text("script")[0])


def test_the_page_of_a_fleet_with_every_trouble() -> None:
    text = rendered(fleets.troubled())
    found = Page(text)
    assert {one["id"] for one in found.all("details")} == {f"trouble-{key}" for key in troubles.BY_KEY}
    assert [one["class"] for one in found.all("details")] == sorted(
        (str(one["class"]) for one in found.all("details")),
        key=lambda name: [f"trouble {severity}" for severity in troubles.SEVERITIES].index(name),
    )
    plays = [row.play for row in troubles.BY_KEY.values() if row.play]
    assert sorted(word for word in found.text("code") if word.startswith("ansible")) == sorted(plays)
    hosts = {one["data-host"] for one in found.all("tr") if "data-host" in one}
    assert hosts == set(fleets.troubled())
    assert len(data_of(found)["guests"]) == 18


def test_it_needs_nothing_else_and_runs_nothing_else() -> None:
    text = rendered(fleets.troubled())
    found = Page(text)
    loading = ("src", "srcset", "action", "formaction", "data", "poster", "background", "style")
    for tag, attributes in found.elements:
        assert not any(name in attributes or name.startswith("on") for name in loading), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert attributes.get("href", "#").startswith("#"), attributes  # type: ignore[union-attr]
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|WebSocket", text)
    (policy,) = found.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert str(policy["content"]).startswith("default-src 'none'")
    for tag, index in (("style", 0), ("script", 1)):
        digest = base64.b64encode(hashlib.sha256(found.text(tag)[index].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in str(policy["content"])


def test_the_script_makes_no_html_of_a_string() -> None:
    script = (Path(page.__file__).parent / "page.js").read_text()
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "DOMParser"):
        assert way not in script


def test_what_hosts_and_guests_say_is_text() -> None:
    evil = fleets.HOSTILE
    guest = fleets.emulated(evil, 3, "dom0_root", config=evil, cannot_save=evil, screens=[fleets.screen(listen=evil)])
    line = fleets.boot_line(reboot_required=True, reboot_reason=evil)
    image = fleets.image(name=evil, outdated=[{"name": evil, "made_of": evil, "installed": evil}])
    version = fleets.hypervisor(version=evil)
    answers = {
        evil: fleets.host(guests=[guest], boot_line=line, images=[image], hypervisor=version),
        "silent": {"unreachable": True, "msg": evil},
    }
    plain = Page(rendered(fleets.troubled()))
    before = make({evil: fleets.host()}, now="2026-11-28T12:00:00Z")
    found = Page(rendered(answers, previous=before))
    assert {name for name, _attributes in found.elements} == {name for name, _attributes in plain.elements}
    assert len(found.all("script")) == 2 and len(found.all("style")) == 1 and len(found.all("title")) >= 1
    # It is all there, as people read it.
    assert any("<script>alert(1)</script>" in text for text in found.text("b"))
    assert data_of(found)["guests"][0]["name"].startswith("<script>alert(1)</script>")
    assert "<script>alert" not in rendered(answers, previous=before)


def test_everything_can_be_used_without_a_mouse_and_without_eyes() -> None:
    found = Page(rendered(fleets.troubled(), previous=make({}, now="2026-11-28T12:00:00Z")))
    assert found.all("html")[0]["lang"] == "en" and found.all("main") and found.all("nav")[0]["aria-label"]
    names = {one["id"] for _tag, one in found.elements if "id" in one}
    assert len(names) == len([one for _tag, one in found.elements if "id" in one])
    for _tag, one in found.elements:
        assert set((one.get("aria-labelledby") or "").split()) <= names
    for table in range(len(found.all("table"))):
        assert found.text("caption")[table]
    # What is drawn is said as well.
    for picture in found.all("svg"):
        assert picture.get("aria-hidden") == "true" or str(picture["aria-label"]).startswith("Memory in MiB: dom0 ")
    targets = {str(one["href"])[1:] for one in found.all("a") if not re.search(r"[?=]", str(one["href"]))}
    assert targets <= names


def test_changes_are_shown_only_where_there_is_a_report_before() -> None:
    assert "changes" not in {one.get("id") for one in Page(rendered(fleets.troubled())).all("section")}
    before = make({"a": fleets.host(guests=[fleets.domain("web", 3)])}, now="2026-11-28T12:00:00Z")
    found = Page(rendered({"a": fleets.host(guests=[fleets.domain("web", 3, state="paused")])}, previous=before))
    assert "changes" in {one.get("id") for one in found.all("section")}
    assert {"running", "paused"} <= set(found.text("td"))


def test_ten_thousand_guests_are_a_page_of_ten_megabytes_at_the_most() -> None:
    # A tenth of them, as the page grows with its guests.
    text = rendered(fleets.large(10, 100))
    assert len(text.encode()) < 1_000_000
    assert len(data_of(Page(text))["guests"]) == 1010


def test_the_history_of_a_host_is_on_the_page_and_only_where_there_is_one() -> None:
    row = {"time": "2026-11-28T09:00:00Z", "user": "admin", "module": "xen.stubdom.xl_conf", "play": "xen.stubdom.site"}
    changes = [
        {**row, "what": f"file {number}", "from": fleets.HOSTILE, "to": None, "image": None} for number in range(30)
    ]
    answers = {"a": fleets.host(history=changes), "b": fleets.host(history=[]), "c": fleets.host(history=None)}
    read = Page(rendered({**answers, "d": fleets.host()}))
    assert len(read.all("details", **{"class": "history"})) == 1
    cells = read.text("td")
    assert "file 0" in cells and "file 19" in cells and "file 20" not in cells
    assert "xen.stubdom.site by admin" in cells
    assert "History" in read.text("a")
    assert "History" not in Page(rendered({"b": answers["b"]})).text("a")
