# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any, Dict

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.xen.stubdom.plugins.filter.cyclonedx import cyclonedx
from ansible_collections.xen.stubdom.plugins.plugin_utils import bill_of_materials
from cyclonedx.model.bom import Bom

NEWLIB = {"name": "newlib", "version": "1.16.0", "sha256": "d" * 64}


def image(name: str, **other: Any) -> Dict[str, Any]:
    record = {
        "kind": name,
        "xen": "4.17.7",
        "sources": [{"name": "xen", "version": "4.17.7", "sha256": "a" * 64}, NEWLIB],
        "compiler": "gcc (Debian 12.2.0) 12.2.0",
        "flags": "-O2 <&>",
        "built": "2026-11-29T12:00:00Z",
        "sha256": "b" * 64,
        "identity": "c" * 64,
        "files": {f"{name}.gz": None, f"{name}-more": "e" * 64},
        **other,
    }
    return {"name": name, "path": f"/usr/lib/xen/boot/{name}.gz", "manifest": record}


def read(document: Dict[str, Any]) -> Bom:
    """What the library's own reader makes of a document that has been written and read."""
    bom = Bom.from_json(json.loads(json.dumps(document)))
    assert bom.validate()
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    return bom


BARE = {"name": "vtpm", "path": "/usr/lib/xen/boot/vtpm-stubdom.gz", "manifest": None}


def test_images_depend_on_what_they_were_made_of() -> None:
    found = cyclonedx([image("pv-grub"), image("c"), BARE], "xen1")
    read(found)
    by_ref = {one["bom-ref"]: one for one in found["components"]}
    assert [one["name"] for one in found["components"] if one["type"] == "firmware"] == ["c", "pv-grub", "vtpm"]
    made = by_ref["image:pv-grub"]
    assert made["hashes"] == [{"alg": "SHA-256", "content": "b" * 64}] and made["version"] == "4.17.7"
    files = {one["name"]: one["hashes"][0]["content"][0] for one in made["components"]}
    assert files == {"pv-grub.gz": "b", "pv-grub-more": "e"}
    assert {"name": "xen.stubdom:flags", "value": "-O2 <&>"} in made["properties"]
    depends = {one["ref"]: one.get("dependsOn", []) for one in found["dependencies"]}
    assert depends["host:xen1"] == ["image:c", "image:pv-grub", "image:vtpm"]
    assert [by_ref[ref]["name"] for ref in depends["image:c"]] == ["newlib", "xen"]
    # One for both images.
    assert sum(one["name"] == "newlib" for one in found["components"]) == 1
    assert depends["image:vtpm"] == [] and set(by_ref["image:vtpm"]) == {"bom-ref", "name", "type"}


def test_the_same_images_give_the_same_document() -> None:
    assert cyclonedx([image("c"), BARE]) == cyclonedx([image("c"), BARE])
    assert cyclonedx([image("c")])["serialNumber"] != cyclonedx([image("c", xen="4.18")])["serialNumber"]
    assert len(read(cyclonedx([])).components) == 0


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"name": "c"}, "was given dict"),
        (["c"], "it is not an image"),
        ([{"name": "c"}], "it has no manifest"),
        ([image("c", files=5)], "files is not"),
        ([{"name": "c", "manifest": {}}], "it has no kind"),
    ],
)
def test_what_cannot_be_described_is_refused(given: Any, why: str) -> None:
    with pytest.raises(AnsibleFilterError, match=why) as raised:
        cyclonedx(given)
    assert len(str(raised.value).splitlines()) == 2


def test_without_the_library_its_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bill_of_materials, "INSTALLED", False)
    with pytest.raises(AnsibleFilterError, match="cyclonedx-python-lib is not installed on the control machine"):
        cyclonedx([])
