# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Guests that were set up by hand: what they are read as, and what becomes of them when they are taken over.

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xen_host
import yaml
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.masking import MASK
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen
from ansible_collections.xen.stubdom.plugins.modules import guests_info
from xen_host import Host

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
import documented

UUID = "2c474d2e-28ba-4730-a5ba-88de9d25652a"
PYGRUB = f"""\
# Made by hand.
name = 'web'
uuid = "{UUID}"
bootloader = '/usr/bin/pygrub'
memory = '1024'
vcpus = '2'
root = '/dev/xvda2 ro'
disk = [ 'file:/srv/web.img,xvda2,w' ]
vif = [ 'ip=192.0.2.10 ,mac=00:16:3E:AA:BB:CC,bridge=br0' ]
acpi = 1
vcpu = 3
"""
WEB = {"name": "web", "type": "pv", "memory": 512, "disks": [{"target": "/srv/web.img"}], "nics": [{"bridge": "br1"}]}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    stamps = itertools.count()
    monkeypatch.setattr(files, "_stamp", lambda: f"{next(stamps)}.2026-01-31@12:00:00~")
    yield from xen_host.played(tmp_path, monkeypatch)


def there(host: Host, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    monkeypatch.setattr(guests_info, "Xen", lambda run: Xen(host.run_command, root=str(host.root)))
    host.params = {"directory": str(host.root / "etc/xen"), "firmware_directory": None, "look_at_disks": False}
    result = guests_info.run(host)  # type: ignore[arg-type]
    assert documented.problems(yaml.safe_load(guests_info.RETURN), result) == []
    return list(result["guests"])


def settings(host: Host) -> dict[str, Any]:
    return xl_cfg.read("web.cfg", (host.root / "etc/xen/web.cfg").read_bytes())


def test_a_guest_that_was_set_up_by_hand_is_read_and_taken_over_as_it_is(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.put("etc/xen/web.cfg", PYGRUB)
    (host.root / "etc/xen/auto").mkdir()
    (host.root / "etc/xen/auto/web.cfg").symlink_to("../web.cfg")
    before = host.tree()
    (web,) = there(host, monkeypatch)
    assert (
        host.tree() == before
        and [call.split()[0] for call in host.calls if call.split()[0] not in ("info", "list")] == []
    )
    assert (web["boots"], web["managed"], web["state"], web["refused"]) == ("pygrub in dom0", False, "absent", "")
    assert list(web["left_out"]) == ["vcpu"]
    assert web["parameters"]["autostart"] is True and web["parameters"]["options"]["bootloader"] == "/usr/bin/pygrub"
    with pytest.raises(UserError, match="was not written by this module"):
        host.run(web["parameters"])
    steps = [host.run(web["parameters"], replace=True, check=check) for check in (True, False, True, False)]
    assert [step["changed"] for step in steps] == [True, True, False, False]
    # Only what xl has never read is gone.
    assert [step["guests"][0]["dropped"] for step in steps] == [{"vcpu": 3}, {"vcpu": 3}, {}, {}]
    assert settings(host)["uuid"] == UUID and "root=/dev/xvda2 ro" in settings(host)["extra"]
    (again,) = there(host, monkeypatch)
    assert again == {**web, "managed": True, "left_out": {}}


def test_a_guest_keeps_its_identity_and_what_no_parameter_has(host: Host) -> None:
    host.put("etc/xen/web.cfg", PYGRUB)
    steps = [host.run(WEB, replace=True, check=check) for check in (True, False, True, False)]
    assert [step["changed"] for step in steps] == [True, True, False, False]
    keys = settings(host)
    assert (keys["uuid"], keys["acpi"], keys["vif"]) == (UUID, 1, ["mac=00:16:3E:AA:BB:CC,bridge=br1"])
    assert "/grub-xen/" in keys["kernel"] and "bootloader" not in keys
    lost = {"vcpus": 2, "cmdline": "root=/dev/xvda2 ro", "options.bootloader": "/usr/bin/pygrub", "vcpu": 3}
    assert steps[0]["guests"][0]["dropped"] == steps[1]["guests"][0]["dropped"] == lost
    for step in steps[:2]:
        (warning,) = step["warnings"]
        assert (
            "vcpus (2), " in warning and "cmdline (root=/dev/xvda2 ro)" in warning and "a copy of the file" in warning
        )
    assert steps[3]["warnings"] == []
    # A copy is kept though nobody asked for one.
    (copy,) = steps[1]["backup_files"].values()
    assert Path(copy).read_text() == PYGRUB
    # Without replace, too, it stays as it is.
    assert not host.run(WEB)["changed"]


def test_what_the_list_says_wins_and_null_ends_what_was_kept(host: Host) -> None:
    host.put("etc/xen/web.cfg", PYGRUB)
    own = {**WEB, "uuid": "74d0eec1-fe6e-402b-84b5-077b0f288fe4", "nics": [{"mac": "00:16:3e:00:00:01"}], "vcpus": 1}
    result = host.run({**own, "options": {"acpi": 0}}, replace=True)
    keys = settings(host)
    assert (keys["uuid"][:8], keys["acpi"], keys["vif"], keys["vcpus"]) == ("74d0eec1", 0, ["mac=00:16:3e:00:00:01"], 1)
    assert "vcpus" not in result["guests"][0]["dropped"]
    host.put("etc/xen/web.cfg", PYGRUB)
    assert host.run(WEB, replace=True)["changed"] and settings(host)["acpi"] == 1
    assert host.run({**WEB, "options": {"acpi": None}})["changed"] and "acpi" not in settings(host)
    assert not host.run({**WEB, "options": {"acpi": None}})["changed"]
    # It was not forgotten for good that there was one: the rest is still kept.
    assert settings(host)["uuid"] == UUID


def test_a_guest_without_a_uuid_keeps_that_of_its_domain(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.put("etc/xen/web.cfg", "\n".join(line for line in PYGRUB.splitlines() if "uuid" not in line) + "\n")
    host.there("web", UUID)
    (web,) = there(host, monkeypatch)
    assert (web["parameters"]["uuid"], web["state"]) == (UUID, "blocked")
    result = host.run({**WEB, "state": "running"}, replace=True)
    assert result["guests"][0]["actions"] == ["written"] and settings(host)["uuid"] == UUID
    del host.domains["web"]
    assert not host.run(WEB, replace=True)["changed"]


def test_a_guest_that_runs_needs_no_new_start_for_being_taken_over(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.put("etc/xen/web.cfg", PYGRUB)
    host.there("web", UUID)
    host.nodes[f"/vm/{UUID}/start_time"] = "1000.00"
    os.utime(host.root / "etc/xen/web.cfg", (1, 1))
    (web,) = there(host, monkeypatch)
    asked = {**web["parameters"], "state": "running", "restart": True}
    results = [
        host.run({**asked, **more}, replace=True)["guests"][0] for more in ({}, {}, {"state": "present", "memory": 99})
    ]
    assert [result["actions"] for result in results] == [["written"], [], ["written"]]
    assert [result["restart_required"] for result in results] == [[], [], ["memory"]]


def test_a_guest_whose_file_was_changed_after_its_start_is_to_be_started_again(host: Host) -> None:
    host.put("etc/xen/web.cfg", PYGRUB)
    host.there("web", UUID)
    host.nodes[f"/vm/{UUID}/start_time"] = "1000.00"
    result = host.run(
        {**WEB, "flavour": "dom0", "allow_weaker_isolation": True, "options": {"bootloader": "x"}}, replace=True
    )
    assert result["guests"][0]["restart_required"] == ["unknown"]


def test_a_password_stays_in_the_file_and_is_shown_nowhere(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "name = 'web'\nbuilder = 'hvm'\nmemory = 512\nvncpasswd = 'geheim'\nspicepasswd = 'secret'\n"
    host.put("etc/xen/web.cfg", text)
    (web,) = there(host, monkeypatch)
    assert "geheim" not in str(web) and "geheim" in host.no_log_values
    assert set(web["left_out"]) == {"vncpasswd", "spicepasswd"}
    result = host.run(web["parameters"], replace=True)
    assert settings(host)["vncpasswd"] == "geheim"
    assert "geheim" not in str(result["guests"]) + str(result["warnings"])
    assert (host.root / "etc/xen/web.cfg").stat().st_mode & 0o777 == 0o600
    host.put("etc/xen/web.cfg", text)
    lost = host.run({**web["parameters"], "flavour": "linux"}, replace=True, check=True)
    assert lost["guests"][0]["dropped"]["vncpasswd"] == MASK and "geheim" not in str(lost["guests"]) + str(
        lost["warnings"]
    )


def test_copies_and_examples_of_configurations_are_no_guests(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("web.cfg~", ".web.cfg", "web.cfg.bak", "web.cfg.orig", "web.cfg.old", "web.cfg.dpkg-dist",
                 "web.cfg.rpmnew", "web.cfg.rpmsave", "web.cfg.ucf-dist", "xlexample.pvlinux"):  # fmt: skip
        host.put(f"etc/xen/{name}", PYGRUB)
    assert there(host, monkeypatch) == []


def test_what_cannot_be_read_or_taken_is_named(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.put("etc/xen/a-program", "import os\nname = 'old'\n")
    host.put("etc/xen/guest-b", "name = 'b'\nkernel = 'vmlinuz'\nmemory = 64\n")
    old, b = there(host, monkeypatch)
    assert (old["name"], old["parameters"]) == ("old", {})
    assert "a-program line 1: this is no setting that xl understands" in old["refused"]
    assert b["parameters"]["path"] == str(host.root / "etc/xen/guest-b")
    assert "kernel is 'vmlinuz', which is not an absolute path" in b["refused"]


def test_a_file_that_xl_does_not_understand_is_not_replaced_without_a_word(host: Host) -> None:
    host.put("etc/xen/web.cfg", "import os\nname = 'web'\nvcpus = 4\n")
    result = host.run(WEB, replace=True)
    assert "is nothing that xl understands" in result["warnings"][0] and len(result["backup_files"]) == 1


def test_removing_a_file_that_somebody_else_wrote_keeps_a_copy(host: Host) -> None:
    host.put("etc/xen/web.cfg", PYGRUB)
    result = host.run({"name": "web", "state": "absent"}, replace=True)
    assert not os.path.exists(host.root / "etc/xen/web.cfg")
    (copy,) = result["backup_files"].values()
    assert Path(copy).read_text() == PYGRUB
