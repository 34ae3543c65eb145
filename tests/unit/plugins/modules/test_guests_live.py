# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Changes of guests that run, with a toolstack that is played: what is made while they run, and what waits for a
# restart.

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xen_host
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from xen_host import Host

LAN, WAN = ({"bridge": "lan", "mac": f"00:16:3e:00:00:0{number}"} for number in (1, 2))
CD = {"vdev": "hdc", "cdrom": True}
QEMU_CD = {**CD, "backendtype": "qdisk"}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    for found in xen_host.played(tmp_path, monkeypatch):
        for name in ("a.iso", "b.iso"):
            found.put(f"srv/{name}", "")
        yield found


def guest(**more: Any) -> dict[str, Any]:
    return {"name": "web", "type": "pv", "memory": 256, "maxmem": 512, "maxvcpus": 4, "state": "running", **more}


def one(host: Host, given: dict[str, Any], *, check: bool = False) -> dict[str, Any]:
    return host.run(given, check=check)["guests"][0]  # type: ignore[no-any-return]


# What the guest is started with, what is asked for then, which keys differ, and what makes the change.
LIVE: list[tuple[dict[str, Any], dict[str, Any], list[str], list[str]]] = [
    ({}, {"memory": 300}, ["memory"], ["mem-set 3 300m"]),
    ({}, {"memory": 512}, ["memory"], ["mem-set 3 512m"]),
    ({}, {"vcpus": 3}, ["vcpus"], ["vcpu-set --ignore-host 3 3"]),
    ({"vcpus": 4}, {}, ["vcpus"], ["vcpu-set --ignore-host 3 1"]),
    ({}, {"cpu_weight": 512}, ["cpu_weight"], ["sched-credit2 -d 3 -w 512"]),
    ({"cpu_weight": 512, "cap": 50}, {"cap": 60}, ["cap", "cpu_weight"],
     ["sched-credit2 -d 3 -c 60", "sched-credit2 -d 3 -w 256"]),
    ({}, {"cpus": "1-3,^2"}, ["cpus"], ["vcpu-pin 3 all 1-3,^2"]),
    ({"cpus": "1"}, {}, ["cpus"], ["vcpu-pin 3 all all"]),
    ({}, {"cpus_soft": "1"}, ["cpus_soft"], ["vcpu-pin 3 all all 1"]),
    ({}, {"nics": [LAN]}, ["vif"], ["network-attach 3 mac=00:16:3e:00:00:01 bridge=lan"]),
    ({"nics": [LAN, WAN]}, {"nics": [WAN]}, ["vif"], ["network-detach 3 0"]),
    ({"nics": [LAN]}, {}, ["vif"], ["network-detach 3 0"]),
    ({}, {"memory": 300, "vcpus": 2}, ["memory", "vcpus"], ["mem-set 3 300m", "vcpu-set --ignore-host 3 2"]),
]  # fmt: skip


def changes(host: Host) -> list[str]:
    """The commands that change something; those that only look have no more words than a domain."""
    looks = ("info", "list", "dmesg", "vcpu-list")
    return [call for call in host.calls if call.split()[0] not in looks and call != "sched-credit2 -d 3"]


@pytest.mark.parametrize(("first", "then", "keys", "commands"), LIVE)
def test_changed_while_it_runs_in_four_steps(
    host: Host, first: dict[str, Any], then: dict[str, Any], keys: list[str], commands: list[str]
) -> None:
    one(host, guest(**first))
    foreseen = one(host, guest(**then), check=True)
    assert changes(host) == [] and foreseen["actions"] == ["written", "changed"]
    made = one(host, guest(**then))
    assert sorted(changes(host)) == sorted(commands)
    for result in (foreseen, made):
        assert (result["changed"], result["changed_live"], result["restart_required"]) == (True, keys, [])
    assert made["actions"] == ["written", "changed"] and made["domid"] == 3
    for check in (True, False):
        again = one(host, guest(**then), check=check)
        assert (again["changed"], again["changed_live"], again["restart_required"]) == (False, [], [])
        assert changes(host) == []
    # And back.
    assert one(host, guest(**first))["restart_required"] == []


@pytest.mark.parametrize(
    ("first", "then", "required"),
    [
        ({}, {"memory": 513, "maxmem": 600}, ["maxmem", "memory"]),
        ({}, {"vcpus": 5, "maxvcpus": 5}, ["maxvcpus", "vcpus"]),
        ({}, {"kernel": "/srv/web.img"}, ["kernel"]),
        ({}, {"cpu_weight": 300, "pool": "other"}, ["cpu_weight", "pool"]),
        ({"nics": [LAN]}, {"nics": [WAN]}, ["vif"]),
        ({"nics": [LAN]}, {"nics": [{**LAN, "bridge": "wan"}]}, ["vif"]),
        ({}, {"disks": [{"target": "/srv/web.img"}]}, ["disk"]),
        ({}, {"memory": 300, "live": False}, ["memory"]),
    ],
)  # fmt: skip
def test_what_needs_a_restart(host: Host, first: dict[str, Any], then: dict[str, Any], required: list[str]) -> None:
    one(host, guest(**first))
    for check in (True, False):
        result = one(host, guest(**then), check=check)
        assert (result["restart_required"], result["changed_live"], result["domid"]) == (required, [], 3)
        assert changes(host) == []
    result = one(host, guest(**then, restart=True))
    assert (result["restart_required"], result["actions"]) == ([], ["restarted"])


def test_only_what_can_be_is_changed_and_the_rest_is_named(host: Host) -> None:
    one(host, guest())
    then = guest(memory=300, kernel="/srv/web.img")
    for check in (True, False):
        result = one(host, then, check=check)
        assert (result["restart_required"], result["changed_live"]) == (["kernel"], ["memory"])
    result = one(host, then)
    assert (result["changed"], result["restart_required"]) == (False, ["kernel"])
    # Back to the kernel that it runs with: there is nothing left.
    assert one(host, guest(memory=300))["restart_required"] == []
    # With a restart there is nothing to be changed before.
    assert one(host, guest(memory=310, kernel="/srv/web.img", restart=True))["actions"] == ["written", "restarted"]


@pytest.mark.parametrize(
    ("first", "then", "keys"),
    [
        ({}, {"memory": 300}, ["memory"]),
        ({}, {"memory": 128}, ["memory"]),
        ({}, {"vcpus": 2}, ["vcpus"]),
        ({}, {"cpus": "1-3,^2"}, ["cpus"]),
        ({}, {"cpus_soft": "1"}, ["cpus_soft"]),
        ({"nics": [LAN]}, {}, ["vif"]),
    ],
)
def test_a_guest_that_does_not_follow_is_named_and_tried_again(
    host: Host, first: dict[str, Any], then: dict[str, Any], keys: list[str]
) -> None:
    one(host, guest(**first))
    host.domains["web"].follows = False
    for _ in range(2):
        result = host.run(guest(**then))
        assert result["guests"][0]["restart_required"] == keys and result["guests"][0]["changed_live"] == []
        assert (
            "runs on without the change of " in result["warnings"][0] and "live set to false" in result["warnings"][0]
        )
    assert not result["changed"] and result["acted"] == []
    host.domains["web"].follows = True
    assert one(host, guest(**then))["changed_live"] == keys


def test_a_change_that_xl_refuses_is_named(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    one(host, guest())
    monkeypatch.setattr(host, "xl_vcpu_set", lambda *_words: (1, "", "libxl: error: libxl_domain.c:1:x: no luck\n"))
    result = host.run(guest(vcpus=2, memory=300))
    assert result["guests"][0]["changed_live"] == ["memory"] and result["guests"][0]["restart_required"] == ["vcpus"]
    assert "`xl vcpu-set` failed: no luck." in result["warnings"][0]


def test_memory_that_the_host_does_not_have_is_refused(host: Host) -> None:
    one(host, guest(maxmem=9000))
    host.free = 100
    before = host.tree()
    message = "needs 644 MiB of additional memory, and the host has 100 MiB"
    assert message in host.run(guest(maxmem=9000, memory=899), check=True)["warnings"][0]
    with pytest.raises(UserError, match=message):
        host.run(guest(maxmem=9000, memory=899))
    assert host.tree() == before and changes(host) == []


def test_a_medium_is_changed_where_qemu_runs_in_dom0(host: Host) -> None:
    text = (
        'name = "web"\nuuid = "5b0cf0f4-6b0b-5d3e-9d0f-3b6d2a1a7c11"\ntype = "hvm"\nmemory = 256\nserial = "pty"\n'
        'disk = [ "format=raw,vdev=hda,access=rw,target=/srv/web.img", '
        '"format=raw,vdev=hdc,access=ro,devtype=cdrom,target=/srv/a.iso" ]\n'
    )
    host.put("etc/xen/web.cfg", text)
    asked = {"name": "web", "state": "running"}
    host.nodes["/libxl/3/type"] = "hvm"
    real = host.xl_create

    def create(*words: str) -> xen_host.Answer:
        answer = real(*words)
        home = f"/local/domain/{host.domains['web'].domid}"
        host.nodes[f"{home}/serial/0/tty"] = host.nodes[f"{home}/console/tty"]
        return answer

    host.xl_create = create  # type: ignore[method-assign]
    one(host, asked)
    for iso, command in (("/srv/b.iso", "cd-insert 3 hdc /srv/b.iso"), ("", "cd-eject 3 hdc")):
        host.put("etc/xen/web.cfg", text.replace("/srv/a.iso", iso) if iso else text.replace(",target=/srv/a.iso", ""))
        result = one(host, asked)
        assert (changes(host), result["changed_live"], result["restart_required"]) == ([command], ["disk"], [])
        assert not one(host, asked)["changed"]
    host.put("etc/xen/web.cfg", text.replace("/srv/web.img", "/srv/b.iso"))
    assert one(host, asked)["restart_required"] == ["disk"]
    # xl would take what is inserted for a plain file.
    for unusual in ("format=qcow2,vdev=hdc", "format=raw,vdev=hdc,backend=files", "vdev=hdc,script=block-nbd"):
        host.put("etc/xen/web.cfg", text.replace("format=raw,vdev=hdc", unusual))
        assert one(host, {**asked, "state": "restarted", "stop": "force"})["restart_required"] == []
        host.put("etc/xen/web.cfg", text.replace("format=raw,vdev=hdc", unusual).replace("/srv/a.iso", "/srv/b.iso"))
        assert one(host, asked)["restart_required"] == ["disk"] and changes(host) == []


def with_cd(target: str | None = None, **more: Any) -> dict[str, Any]:
    disks = [{**CD, **({"target": target} if target else {})}]
    return guest(**{"type": "hvm", "stubdomain_cmdline": "stubdom.media=yes", "disks": disks, **more})


def test_a_medium_is_changed_where_qemu_runs_in_a_stub_domain(host: Host) -> None:
    one(host, with_cd())
    for target, command in (
        ("/srv/a.iso", "cd-insert 3 hdc /srv/a.iso"),
        ("/srv/b.iso", "cd-insert 3 hdc /srv/b.iso"),
        (None, "cd-eject 3 hdc"),
    ):
        foreseen = one(host, with_cd(target), check=True)
        assert changes(host) == [] and foreseen["changed_live"] == ["disk"]
        result = one(host, with_cd(target))
        assert (changes(host), result["changed_live"], result["restart_required"]) == ([command], ["disk"], [])
        assert not one(host, with_cd(target))["changed"]


@pytest.mark.parametrize(
    ("release", "first", "then", "required"),
    [
        (19, {}, {}, ["disk"]),
        # An image of another collection, of the user's own, and one that has come after the guest.
        (20, {"stubdomain_cmdline": "quiet"}, {"stubdomain_cmdline": "quiet"}, ["disk"]),
        (20, {"stubdomain_ramdisk": "/srv/own"}, {"stubdomain_ramdisk": "/srv/own"}, ["disk"]),
        (20, {"stubdomain_cmdline": "quiet"}, {}, ["disk", "stubdomain_cmdline"]),
        # A QEMU in dom0 does not give back the disk of an empty drive.
        (20, {"disks": [QEMU_CD]}, {"disks": [{**QEMU_CD, "target": "/srv/a.iso"}]}, ["disk"]),
    ],
)
def test_a_medium_that_a_stub_domain_cannot_change_waits_for_a_restart(
    host: Host, release: int, first: dict[str, Any], then: dict[str, Any], required: list[str]
) -> None:
    host.release = release
    host.put("srv/own", "070701")
    (host.root / "usr/lib/xen-4.19").symlink_to("xen-4.20")
    one(host, with_cd(**first))
    result = one(host, with_cd("/srv/a.iso", **then))
    assert (changes(host), result["restart_required"]) == ([], required)


def test_a_medium_that_the_guest_holds_is_named(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    one(host, with_cd())
    monkeypatch.setattr(host, "xl_cd_insert", lambda *_words: (1, "", "libxl: error: x.c:1:y: is locked\n"))
    result = host.run(with_cd("/srv/a.iso"))
    assert result["guests"][0]["restart_required"] == ["disk"] and "`xl cd-insert` failed: " in result["warnings"][0]


@pytest.mark.parametrize("then", [{"nics": [LAN]}, {"vcpus": 2}, {"disks": [{**CD, "target": "/srv/a.iso"}]}])
def test_a_guest_with_a_stub_domain_keeps_its_hardware(host: Host, then: dict[str, Any]) -> None:
    hvm = {"type": "hvm", "disks": [CD]}
    one(host, guest(**hvm))
    result = one(host, guest(**{**hvm, **then}))
    assert len(result["restart_required"]) == 1 and result["changed_live"] == [] and changes(host) == []
    assert one(host, guest(**hvm, memory=300))["changed_live"] == ["memory"]


def test_interfaces_that_were_attached_are_known_by_their_numbers(host: Host) -> None:
    one(host, guest(nics=[LAN]))
    one(host, guest(nics=[LAN, WAN]))
    assert one(host, guest(nics=[WAN]))["changed_live"] == ["vif"]
    assert changes(host) == ["network-detach 3 0"]
    one(host, guest(nics=[]))
    assert changes(host) == ["network-detach 3 1"]
    assert one(host, guest(nics=[LAN]))["restart_required"] == []
