# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# When the module guests looks at disks, and what becomes of what it finds; what it finds is in test_guest_disk.py.

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xen_host
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import guest_disk
from ansible_collections.xen.stubdom.plugins.module_utils._guests.guest_disk import Found, Kernel, Volume
from xen_host import Host

MENU = ("loop0", "/boot/grub/grub.cfg")
ZSTD, XZ = Kernel("/boot/new", "zstd", 64), Kernel("/boot/old", "xz", 64)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    yield from xen_host.played(tmp_path, monkeypatch)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The disks that were looked at, each time; their kernels are packed with zstd."""
    return shows(monkeypatch, ZSTD)


def shows(monkeypatch: pytest.MonkeyPatch, *kernels: Kernel) -> list[list[str]]:
    seen: list[list[str]] = []

    def look(_run: Any, disks: Any, **_more: Any) -> Found:
        seen.append([disk["vdev"] for disk in disks])
        return Found(["xvda"], True, [Volume("loop0", "ext*", True)], {MENU: ""}, {MENU: [*kernels]})

    monkeypatch.setattr(guest_disk, "look", look)
    return seen


def run(host: Host, *, check: bool = False, **params: Any) -> dict[str, Any]:
    given = {"name": "web", "type": "pv", "memory": 256, "disks": [{"target": "/srv/web.img"}], "state": "running"}
    result = host.run({**given, **params}, check=check)
    return {**result, **result["guests"][0], "changed": result["changed"]}


def test_a_guest_that_cannot_boot_is_refused_and_nothing_is_changed(host: Host, looks: list[list[str]]) -> None:
    before = host.tree()
    with pytest.raises(UserError, match="packed with zstd") as refused:
        run(host)
    assert "Set type to pvh" in str(refused.value)
    assert host.tree() == before and looks == [["xvda"]]
    assert not [call for call in host.calls if call.startswith("xl create ") and "--dryrun" not in call]


def test_check_mode_says_it(host: Host, looks: list[list[str]]) -> None:
    assert "packed with zstd" in str(run(host, check=True)["warnings"])


def test_a_warning_does_not_keep_it_from_starting(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    shows(monkeypatch, ZSTD, XZ)
    result = run(host)
    assert result["actions"] == ["written", "started"]
    assert "Others in its menu can be loaded" in str(result["warnings"])


@pytest.mark.parametrize(
    "params",
    [
        {"look_at_disks": False},
        {"state": "present"},
        {"kernel": "/srv/web.img"},
        {"flavour": "dom0", "options": {"bootloader": "pygrub"}, "allow_weaker_isolation": True},
    ],
)
def test_disks_are_not_looked_at(host: Host, looks: list[list[str]], params: dict[str, Any]) -> None:
    run(host, **params)
    # Another kernel is none of what is known of GRUB; that is no matter of the disks.
    assert looks == [] or "kernel" in params


def test_the_disks_of_a_running_guest_are_left_alone(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = shows(monkeypatch, XZ)
    run(host)
    assert len(seen) == 1
    assert not run(host)["changed"] and len(seen) == 1
