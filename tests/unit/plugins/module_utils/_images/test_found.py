# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the images in the firmware directory are described."""

from __future__ import annotations

from ansible_collections.xen.stubdom.plugins.module_utils._images import found


def test_images_with_and_without_a_record() -> None:
    sizes = {"hvmloader": 9, "qemu-stubdom-linux-kernel": 5, "qemu-stubdom-linux-rootfs": 7, "pv-grub-x86_64.gz": 3}
    record = {"kind": "linux", "files": {"/b/qemu-stubdom-linux-kernel": "1", "/b/qemu-stubdom-linux-rootfs": "2"}}
    named = found.images("/b", {**sizes, "linux.json": 1}, {"linux.json": record})
    assert named == [
        {"name": "linux", "path": "/b/qemu-stubdom-linux-kernel", "size": 12, "manifest": record},
        {"name": "pv-grub", "path": "/b/pv-grub-x86_64.gz", "size": 3, "manifest": None},
    ]
    # By hand there is no record; a record goes by the name of a file, an image by that of what is built.
    assert [image["manifest"] for image in found.images("/b", sizes, {})] == [None, None]
    grub = {"kind": "pv-grub", "files": {"pv-grub-x86_64.gz": "1", "pv-grub.gz": "1"}}
    hello = {"kind": "custom-hello", "files": {"hello-stubdom.gz": "1"}}
    described = found.images("/b", sizes, {"pv-grub-x86_64.json": grub, "hello-stubdom.json": hello})
    assert [(image["name"], image["manifest"]) for image in described] == [
        ("hello-stubdom", hello),
        ("linux", None),
        ("pv-grub", grub),
    ]
