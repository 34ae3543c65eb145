# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file on a guest's disk as PV-GRUB names it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.xen.stubdom.plugins.filter.menu_path import FilterModule
from ansible_collections.xen.stubdom.plugins.module_utils._guests import boot_loaders

menu_path = FilterModule().filters()["menu_path"]

DISKS = [{"target": "/srv/b.img", "vdev": "xvdb"}, {"target": "/srv/a.img", "vdev": "xvda"}]


@pytest.mark.parametrize(
    ("disks", "asked", "path"),
    [
        (DISKS, {"disk": "xvda", "partition": 1}, "(hd0,0)/m"),
        (DISKS, {"disk": "xvdb", "partition": "2"}, "(hd1,1)/m"),
        # The first of the list, which PV-GRUB counts as the second.
        (DISKS, {}, "(hd1)/m"),
        (["sda", "xvda"], {"disk": "xvda"}, "(hd1)/m"),
        (["xvda1", "xvda2"], {"disk": "xvda2"}, "(hd1)/m"),
        ([{"target": "/x"}, {"target": "/y"}], {"disk": "xvdb", "partition": 1}, "(hd1,0)/m"),
    ],
)
def test_disks_and_partitions_as_pv_grub_counts_them(disks: Any, asked: dict[str, Any], path: str) -> None:
    assert menu_path(disks, "/m", **asked) == path


def test_the_path_is_one_that_the_module_takes() -> None:
    menu = menu_path(DISKS, "/boot/grub/menu.lst", disk="xvdb", partition=2)
    boot_loaders._check_menu(menu, {"name": "web", "disks": DISKS})


@pytest.mark.parametrize(
    ("disks", "path", "asked", "message"),
    [
        (DISKS, "/m", {"disk": "xvdc"}, "xvdc is none of the guest's disks: they are xvdb, xvda. Name one of the "),
        ([], "/m", {}, "The first disk is none of the guest's disks: there are none."),
        (["xvda1"], "/m", {"partition": 1}, "There is no partition 1 on xvda1"),
        (["xvda"], "/m", {"partition": 0}, "Count partitions from 1"),
        (["xvda"], "boot/m", {}, "'boot/m' is no path"),
        (["xvda"], "/a b", {}, "'/a b' is no path"),
        (["c:"], "/m", {}, "'c:' is no name of a virtual disk."),
    ],
)
def test_what_cannot_be_named(disks: Any, path: str, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError) as failed:
        menu_path(disks, path, **asked)
    assert message in str(failed.value)
