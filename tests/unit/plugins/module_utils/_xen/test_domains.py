# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of the answers of a host."""

from __future__ import annotations

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._xen import domains
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Domain

DOM0 = Domain(0, "Domain-0", 1024, 1, "r")
WITH_STUB = {
    "/local/domain/3/vm": "/vm/74d0eec1-fe6e-402b-84b5-077b0f288fe4",
    "/local/domain/3/image/device-model-domid": "4",
    "/local/domain/4/target": "3",
    "/local/domain/4/device-model/3/state": "running",
    "/libxl/3/type": "hvm",
    "/libxl/3/dm-version": "qemu_xen",
    "/libxl/4/type": "pv",
}


def test_a_guest_and_its_stub_domain() -> None:
    guest, stub = domains.guests([DOM0, Domain(3, "web", 256, 2, "b"), Domain(4, "web-dm", 136, 1, "")], WITH_STUB)
    assert guest == {
        "name": "web",
        "domid": 3,
        "memory_mib": 256,
        "vcpus": 2,
        "state": "blocked",
        "uuid": "74d0eec1-fe6e-402b-84b5-077b0f288fe4",
        "device_model": {"version": "qemu-xen", "domid": 4, "state": "running", "stub_domain": True},
        "stub_domain_of": None,
    }
    assert (stub["device_model"], stub["stub_domain_of"], stub["state"]) == (None, "web", "running")


@pytest.mark.parametrize(
    ("changed", "device_model"),
    [
        # A target that does not point back, and one that points elsewhere.
        ({"/local/domain/4/target": None}, {"domid": 4, "stub_domain": False}),
        ({"/local/domain/4/target": "7"}, {"domid": 4, "stub_domain": False}),
        # A device model in dom0 has no node that says so.
        ({"/local/domain/3/image/device-model-domid": None}, {"domid": 0, "stub_domain": False, "state": None}),
        ({"/local/domain/4/device-model/3/state": None}, {"stub_domain": True, "state": None}),
        ({"/libxl/3/dm-version": "qemu_xen_traditional"}, {"version": "qemu-xen-traditional"}),
    ],
)
def test_a_name_with_dm_proves_nothing(changed: dict[str, str | None], device_model: dict[str, object]) -> None:
    nodes = {path: value for path, value in {**WITH_STUB, **changed}.items() if value is not None}
    guest, stub = domains.guests([Domain(3, "web", 256, 2, "b"), Domain(4, "web-dm", 136, 1, "b")], nodes)
    assert device_model.items() <= guest["device_model"].items()
    assert (stub["stub_domain_of"] == "web") == guest["device_model"]["stub_domain"]


@pytest.mark.parametrize(
    ("letters", "word"),
    [("", "running"), ("r", "running"), ("b", "blocked"), ("p", "paused"), ("sd", "dying"), ("ps", "shutdown")],
)
def test_states_are_the_words_of_xl(letters: str, word: str) -> None:
    assert domains.state(letters) == word


# command line, autoballoon, release → fixed. "auto" looks for dom0_mem in the line, and older releases of xl know
# fewer forms of it.
@pytest.mark.parametrize(
    ("line", "autoballoon", "version", "fixed"),
    [
        ("placeholder dom0_mem=1G,max:1G", "off", (4, 20), True),
        ("placeholder dom0_mem=1G,max:1G", "auto", (4, 20), True),
        ("placeholder dom0_mem=1G,max:1G", "auto", (4, 9), True),
        ("placeholder dom0_mem=1G,max:1G", "on", (4, 20), False),
        ("placeholder dom0_mem=1G", "off", (4, 20), False),
        ("placeholder dom0_mem=1G,max:2G", "off", (4, 20), False),
        ("placeholder dom0_mem=10%,max:10%", "auto", (4, 20), True),
        ("placeholder dom0_mem=10%,max:10%", "auto", (4, 15), False),
        ("placeholder dom0_mem=0x100M,max:0x100M", "auto", (4, 20), False),
        ("placeholder dom0_mem=lots", "off", (4, 20), False),
        ("placeholder", "off", (4, 20), False),
    ],
)
def test_dom0_is_fixed_where_nothing_may_change_it(
    line: str, autoballoon: str, version: tuple[int, int], fixed: bool
) -> None:
    found = domains.memory(
        total_mib=4095, free_mib=2900, domains=[DOM0], command_line=line, version=version, autoballoon=autoballoon
    )
    assert found["dom0_fixed"] is fixed
    assert (found["total_mib"], found["free_mib"], found["dom0_mib"]) == (4095, 2900, 1024)


def test_the_most_that_dom0_may_have() -> None:
    def most(line: str) -> object:
        return domains.memory(
            total_mib=4000, free_mib=1, domains=[DOM0], command_line=line, version=(4, 20), autoballoon="off"
        )["dom0_max_mib"]

    assert [most(line) for line in ("dom0_mem=1G,max:2G", "dom0_mem=max:25%", "dom0_mem=1G", "")] == [
        2048,
        1000,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("content", "setting"),
    [(None, "auto"), (b'autoballoon="off"\n', "off"), (b"autoballoon=0\n", "off"), (b'autoballoon="1"\n', "on"),
     (b"autoballoon=perhaps\n", "auto"), (b'autoballoon="perhaps"\n', "auto")],
)  # fmt: skip
def test_autoballoon_in_all_its_spellings(content: bytes | None, setting: str) -> None:
    assert domains.autoballoon(content) == setting


def test_images_with_and_without_a_record() -> None:
    sizes = {"hvmloader": 9, "qemu-stubdom-linux-kernel": 5, "qemu-stubdom-linux-rootfs": 7, "pv-grub-x86_64.gz": 3}
    record = {"kind": "linux", "files": {"/b/qemu-stubdom-linux-kernel": "1", "/b/qemu-stubdom-linux-rootfs": "2"}}
    named = domains.images("/b", {**sizes, "linux.json": 1}, {"linux.json": record})
    assert named == [
        {"name": "linux", "path": "/b/qemu-stubdom-linux-kernel", "size": 12, "manifest": record},
        {"name": "pv-grub", "path": "/b/pv-grub-x86_64.gz", "size": 3, "manifest": None},
    ]
    # By hand there is no record; a record goes by the name of a file, an image by that of what is built.
    assert [image["manifest"] for image in domains.images("/b", sizes, {})] == [None, None]
    grub = {"kind": "pv-grub", "files": {"pv-grub-x86_64.gz": "1", "pv-grub.gz": "1"}}
    hello = {"kind": "custom-hello", "files": {"hello-stubdom.gz": "1"}}
    found = domains.images("/b", sizes, {"pv-grub-x86_64.json": grub, "hello-stubdom.json": hello})
    assert [(image["name"], image["manifest"]) for image in found] == [
        ("hello-stubdom", hello),
        ("linux", None),
        ("pv-grub", grub),
    ]


@pytest.mark.parametrize(
    ("word", "content", "version", "warned"),
    [
        ("dom0_mem=1G,max:1G", None, (4, 20), False),
        ("dom0_mem=-1G,max:-1G", None, (4, 15), True),
        ("dom0_mem=-1G,max:-1G", None, (4, 16), False),
        ("dom0_mem=-1G,max:-1G", b'autoballoon="off"\n', (4, 15), False),
        ("dom0_mem=1G,max:1G", b'autoballoon="on"\n', (4, 20), True),
    ],
)
def test_what_xl_would_take_from_dom0_is_said(
    word: str, content: bytes | None, version: tuple[int, int], warned: bool
) -> None:
    assert bool(domains.autoballoon_warnings(word, content, version)) == warned
