# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images import configure, kinds, releases, tarballs

# Xen's own words (stubdom/configure.ac of each branch): which images there are, whatever they build without a flag.
MATRIX = """
release  pv-grub  ioemu  c    caml
4.2      yes       yes     yes   yes
4.3      yes       yes     yes  yes
4.4      yes       yes     yes  yes
4.5      yes       yes     yes  yes
4.6      yes       yes     yes  yes
4.7      yes       yes     yes  yes
4.8      yes       yes     yes  yes
4.9      yes       yes     yes  yes
4.10     yes       yes     yes  yes
4.11     yes       yes     yes  yes
4.12     yes       yes     yes  yes
4.13     yes       yes     yes  yes
4.14     yes       yes     yes  yes
4.15     yes       yes     yes  yes
4.16     yes      yes    yes  yes
4.17     yes      yes    yes  yes
4.18     yes      yes    yes  yes
4.19     yes      yes    yes  no
4.20     yes      yes    yes  no
4.21     yes      no     yes  no
4.22     yes      no     yes  no
"""
ROWS = [line.split() for line in MATRIX.split("\n")[2:-1]]
KINDS = ["pv-grub", "ioemu", "c", "caml"]
CELLS = [(row[0], kind, word) for row in ROWS for kind, word in zip(KINDS, row[1:])]


@pytest.mark.parametrize(("release", "kind", "word"), CELLS)
def test_the_table_says_what_xen_can_build(release, kind, word):
    if word == "no":
        with pytest.raises(UserError, match=f"Xen {release} cannot build {kind}") as refused:
            releases.refuse_impossible(release, [kind])
        assert refused.value.remedy
        return
    assert kind in releases.refuse_impossible(release, [kind]).images


def test_every_release_of_the_matrix_has_one_row():
    assert [row.name for row in releases.RELEASES] == [row[0] for row in ROWS]


@pytest.mark.parametrize("row", releases.RELEASES, ids=lambda row: row.name)
def test_a_row_proves_what_it_names(row):
    assert row.point.startswith(f"{row.name}.")
    for pin in (row.xen, row.mini_os, row.qemu):
        assert pin is None or re.fullmatch(r"[0-9a-f]{40}", pin.commit)
    assert (row.mini_os is None) == (row.version < (4, 6))
    assert (row.qemu is None) == ("ioemu" not in row.images)
    assert (row.ocaml is None) == ("caml" not in row.images)
    assert set(row.images) <= set(kinds.IMAGES)


@pytest.mark.parametrize(
    ("release", "images", "what", "remedy"),
    [
        ("4.21", ["ioemu"], "4.20 was the last release with it", "Linux stub domain"),
        ("4.19.2", ["pv-grub", "caml"], "4.18 was the last release with it", "4.18 or older"),
        (
            "4.23",
            ["pv-grub"],
            "newer than what this collection knows",
            "PV-GRUB of that release runs on newer hypervisors",
        ),
        ("4.1", ["pv-grub"], "older than what this collection knows", "4.2 or newer"),
        ("4.19.0", ["pv-grub"], "does not link", "4.19.1"),
        ("4.17", ["grub"], "There is no image 'grub'", "pv-grub"),
        ("4.21", ["hvmloader"], "cannot build hvmloader (4.20 was the last release with it", "Linux stub"),
        ("4.17", ["custom-Ä"], "There is no image 'custom-Ä'", "custom-NAME"),
        ("4.21", ["ioemu", "caml"], "ioemu (4.20 was the last release with it); caml (4.18", "4.18 or older"),
        ("seventeen", ["c"], "'seventeen' is not a release", "4.17.5"),
    ],
)
def test_what_cannot_be_built_is_refused_with_what_to_use(release, images, what, remedy):
    with pytest.raises(UserError) as refused:
        releases.refuse_impossible(release, images)
    assert what in refused.value.what
    assert remedy in refused.value.remedy


@pytest.mark.parametrize(
    ("release", "images", "files"),
    [
        ("4.17", ["c"], "newlib zlib pciutils lwip"),
        ("4.17", ["custom-hello"], "newlib zlib pciutils lwip"),
        ("4.17", ["pv-grub", "pv-grub-x86_32"], "newlib zlib pciutils lwip polarssl grub"),
        ("4.2", ["pv-grub"], "newlib zlib pciutils lwip grub"),
        ("4.10", ["caml"], "newlib zlib pciutils lwip ocaml-3.11.0"),
        ("4.11", ["caml"], "newlib zlib pciutils lwip ocaml-4.02.0"),
    ],
)
def test_only_the_tarballs_that_are_needed(release, images, files):
    found = tarballs.needed(releases.find(release), images)
    assert [tarball.file.split(".tar")[0] for tarball in found] == [
        tarballs.TARBALLS[key].file.split(".tar")[0] for key in files.split()
    ]


@pytest.mark.parametrize("tarball", tarballs.TARBALLS.values(), ids=lambda tarball: tarball.file)
def test_checksums_are_checksums(tarball):
    assert tarball.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", tarball.sha256)
    assert tarball.upstream.startswith("https://")


@pytest.mark.parametrize(
    ("release", "images", "needed"),
    [
        ("4.2", ["c", "pv-grub"], False),
        ("4.3", ["pv-grub", "ioemu"], True),
        ("4.20", ["ioemu"], True),
        ("4.22", ["pv-grub"], False),
    ],
)
def test_when_qemu_is_needed(release, images, needed):
    assert releases.needs_qemu(releases.find(release), images) is needed


@pytest.mark.parametrize(
    ("release", "images", "present", "absent"),
    [
        ("4.2", ["pv-grub"], ["AS86=/bin/false"], ["--enable-pv-grub", "--disable-xen", "WGET=/bin/false"]),
        ("4.3", ["pv-grub"], ["--enable-pv-grub", "--disable-ioemu-stubdom"], ["--disable-qemu-traditional"]),
        ("4.6", ["c"], ["AS86=/bin/false", "LD86=/bin/false", "BCC=/bin/false", "WGET=/bin/false"], []),
        ("4.6", ["ioemu", "hvmloader"], ["WGET=/bin/false"], ["AS86=/bin/false", "LD86=/bin/false", "BCC=/bin/false"]),
        ("4.12", ["c"], ["WGET=/bin/false"], ["AS86=/bin/false"]),
        ("4.13", ["c"], [], ["WGET=/bin/false"]),
        ("4.14", ["c"], ["--disable-qemu-traditional"], ["--disable-xenstorepvh-stubdom"]),
        ("4.15", ["c"], ["--disable-xenstorepvh-stubdom"], []),
        ("4.17", ["ioemu"], ["--enable-qemu-traditional", "--disable-rombios"], ["--enable-ioemu-stubdom"]),
        ("4.17", ["ioemu", "hvmloader"], ["--enable-rombios", "--disable-ipxe"], ["--disable-rombios"]),
        ("4.18", ["caml"], ["--enable-caml-stubdom"], []),
        ("4.22", ["pv-grub"], ["--enable-pv-grub"], ["--disable-caml-stubdom", "--disable-qemu-traditional"]),
    ],
)
def test_flags_of_configure(release, images, present, absent):
    flags = configure.arguments(releases.find(release), images)
    assert set(present) <= set(flags)
    assert not set(absent) & set(flags)
    assert "--disable-tools" not in flags


def test_names_of_products():
    assert kinds.IMAGES["pv-grub-x86_32"].installed == "pv-grub-x86_32.gz"
    assert kinds.IMAGES["pv-grub"].product == "stubdom/mini-os-x86_64-grub/mini-os.gz"
    assert kinds.IMAGES["ioemu"].installed == "ioemu-stubdom.gz"
