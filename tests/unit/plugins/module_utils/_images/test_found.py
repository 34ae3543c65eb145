# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the images in the firmware directory are described."""

from __future__ import annotations

from typing import Any, Dict

from ansible_collections.xen.stubdom.plugins.module_utils._common.manifest import Manifest
from ansible_collections.xen.stubdom.plugins.module_utils._images import found
from ansible_collections.xen.stubdom.plugins.module_utils._images.found import Record


def record(kind: str, *names: str) -> Record:
    nothing: Dict[str, Any] = dict.fromkeys(("compiler", "flags", "built", "sha256"))
    return Record(Manifest(kind=kind, xen="4.20", sources=[], identity="1", files=dict.fromkeys(names, "1"), **nothing))


def test_images_with_and_without_a_manifest() -> None:
    sizes = {"hvmloader": 9, "qemu-stubdom-linux-kernel": 5, "qemu-stubdom-linux-rootfs": 7, "pv-grub-x86_64.gz": 3}
    linux = record("linux", "/b/qemu-stubdom-linux-kernel", "/b/qemu-stubdom-linux-rootfs")
    named = found.describe("/b", {**sizes, "linux.json": 1}, {"linux.json": linux})
    assert named == [
        {"name": "linux", "path": "/b/qemu-stubdom-linux-kernel", "size": 12, **linux.as_dict()},
        {"name": "pv-grub", "path": "/b/pv-grub-x86_64.gz", "size": 3, "manifest": None, "manifest_error": None},
    ]
    # By hand there is no manifest; a manifest goes by the name of a file, an image by that of what is built.
    assert [image["manifest"] for image in found.describe("/b", sizes, {})] == [None, None]
    grub = record("pv-grub", "pv-grub-x86_64.gz", "pv-grub.gz")
    hello = record("custom-hello", "hello-stubdom.gz")
    described = found.describe("/b", sizes, {"pv-grub-x86_64.json": grub, "hello-stubdom.json": hello})
    assert [(image["name"], image["manifest"]) for image in described] == [
        ("hello-stubdom", hello.as_dict()["manifest"]),
        ("linux", None),
        ("pv-grub", grub.as_dict()["manifest"]),
    ]


def test_a_damaged_manifest_belongs_to_the_image_beside_it() -> None:
    damaged = Record(error="it is not JSON")
    files = ("pv-grub-x86_64.gz", "hello-stubdom.gz", "qemu-dm", "qemu-stubdom-linux-kernel")
    manifests = ("pv-grub-x86_64.json", "hello-stubdom.json", "qemu-dm.json", "linux.json", "xenstore.json", "x.json")
    described = found.describe("/b", dict.fromkeys((*files, *manifests), 1), dict.fromkeys(manifests, damaged))
    assert {image["name"]: image["manifest_error"] for image in described} == dict.fromkeys(
        ("pv-grub", "hello-stubdom", "qemu-dm", "linux"), "it is not JSON"
    )
    assert len(found.damaged(described)) == 4
