# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests of Xen hosts as hosts, by ansible-inventory itself and hosts that a stand-in of ssh plays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import real_play
import yaml
from ansible_collections.xen.stubdom.plugins.module_utils._guests import listing

INVENTORY = str(Path(sys.executable).parent / "ansible-inventory")

# Runs what a host is asked to do here, with that host's programs, and writes down how it was called.
SSH = """#!/bin/sh
here=$(dirname "$0")
echo "$@" >> "$here/calls"
while [ "$1" != -- ]; do shift; done
[ -d "$here/$2" ] || { echo "ssh: connect to host $2 port 22: Connection refused" >&2; exit 255; }
HERE=$here/$2 PATH=$here/$2/bin:$PATH exec sh -c "$3"
"""
PROGRAMS = {
    "xl": 'cat "$HERE/list"',
    "xenstore-ls": 'shift; for path; do grep "^$path/" "$HERE/nodes"; done',
    "ip": 'cat "$HERE/neighbours"',
    "sudo": 'shift; echo become >> "$HERE/../calls"; exec "$@"',
}
LIST = """\
Name                                        ID   Mem VCPUs\tState\tTime(s)
Domain-0                                     0  1024     1     r-----      30.1
web                                          1   512     2     -b----       1.0
files                                        2  1024     1     -b----       1.0
files-dm                                     3   160     1     -b----       1.0
by hand                                      4   128     1     --p---       1.0
"""
NODES = """\
/local/domain/0/backend/vif/1/0/mac = "00:16:3E:00:00:01"
/local/domain/0/backend/vif/2/0/mac = "00:16:3e:00:00:02"
/local/domain/0/backend/vif/2/0/ip = "192.0.2.20 192.0.2.21"
/local/domain/1/vm = "/vm/11111111-1111-1111-1111-111111111111"
/local/domain/1/attr/vif/0/ipv4/0 = "{{ lookup('pipe', 'id') }}"
/local/domain/1/attr/eth0/ip = "203.0.113.66"
/local/domain/2/image/device-model-domid = "3"
/local/domain/3/target = "2"
/libxl/1/type = "pvh"
/libxl/2/type = "hvm"
/libxl/2/dm-version = "qemu_xen"
/libxl/4/type = "hvm"
/libxl/4/dm-version = "qemu_xen"
/vm/11111111-1111-1111-1111-111111111111/image/kernel = "/usr/lib/grub-xen/grub-i386-xen_pvh.bin"
"""
NEIGHBOURS = """\
fe80::216:3eff:fe00:1 dev xenbr0 lladdr 00:16:3e:00:00:01 STALE
192.0.2.10 dev xenbr0 lladdr 00:16:3e:00:00:01 REACHABLE
192.0.2.11 dev xenbr0 FAILED
"""
STOPPED = """\
name = "old"
uuid = "{{ lookup('pipe', 'id') }}"
type = "pv"
kernel = "/usr/lib/xen/boot/pv-grub-x86_64.gz"
memory = 64
vif = [ "mac=00:16:3e:00:00:09,ip=192.0.2.90" ]
"""


def host(path: Path, name: str, **files: str) -> None:
    """Play a host: what its programs say, and the files of its guests."""
    (path / name / "bin").mkdir(parents=True)
    (path / name / "xen").mkdir()
    for program, text in PROGRAMS.items():
        (path / name / "bin" / program).write_text(f"#!/bin/sh\n{text}\n")
        (path / name / "bin" / program).chmod(0o755)
    said = {"list": LIST, "nodes": NODES, "neighbours": NEIGHBOURS, "xen/old.cfg": STOPPED, "xen/old.cfg.bak": STOPPED}
    for file, text in {**said, **files}.items():
        (path / name / file).write_text(text)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "ssh").write_text(SSH)
    (tmp_path / "ssh").chmod(0o755)
    host(tmp_path, "192.0.2.1")
    variables = {"ansible_ssh_executable": str(tmp_path / "ssh")}
    one = {"ansible_host": "{{ net }}.1", "ansible_port": 2222, "ansible_user": "root", "net": "192.0.2"}
    hosts = {"xen_hosts": {"hosts": {"xen1": one}, "vars": variables}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(hosts))
    return tmp_path


def inventory(path: Path, *, fails: str = "", environment: dict[str, str] | None = None, **options: Any) -> Any:
    """Return what ansible-inventory lists, and what it says besides."""
    found = {"plugin": "xen.stubdom.xl", "directory": f"{path}/192.0.2.1/xen", **options}
    (path / "guests.xl.yml").write_text(yaml.safe_dump(found))
    variables = environment or real_play.environment(path / "environment")
    done = subprocess.run(
        [INVENTORY, "-i", "hosts.yml", "-i", "guests.xl.yml", "--list"],
        cwd=path,
        env={**variables, "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = " ".join(done.stderr.split())
    if fails:
        assert done.returncode != 0 and fails in said
        return None
    assert done.returncode == 0, done.stderr
    return plain(json.loads(done.stdout)), said


def plain(value: Any) -> Any:
    """What ansible-inventory lists, without its mark of text that is no template."""
    if isinstance(value, dict):
        return (
            value["__ansible_unsafe"] if set(value) == {"__ansible_unsafe"} else {k: plain(v) for k, v in value.items()}
        )
    return [plain(item) for item in value] if isinstance(value, list) else value


def test_guests_with_their_variables_and_groups(path: Path) -> None:
    listed, said = inventory(path)
    assert "WARNING" not in said
    variables = listed["_meta"]["hostvars"]
    assert sorted(variables) == ["by hand", "files", "old", "web", "xen1"]
    web = variables["web"]
    assert web["ansible_host"] == "192.0.2.10"
    assert web["xl_addresses"] == {
        "configured": [],
        "leases": [],
        "neighbours": ["192.0.2.10"],
        "guest": ["203.0.113.66"],
    }
    assert {key: web[f"xl_{key}"] for key in ("state", "type", "flavour", "device_model", "host", "domid", "macs")} == {
        "state": "running", "type": "pvh", "flavour": "grub2", "device_model": "none", "host": "xen1", "domid": 1,
        "macs": ["00:16:3e:00:00:01"],
    }  # fmt: skip
    files = variables["files"]
    assert (files["ansible_host"], files["xl_flavour"], files["xl_device_model"]) == (
        "192.0.2.20",
        "linux",
        "stub_domain",
    )
    assert (variables["by hand"]["xl_device_model"], variables["by hand"]["xl_state"]) == ("dom0", "paused")
    old = variables["old"]
    assert (old["xl_state"], old["xl_flavour"], old["ansible_host"]) == ("stopped", "legacy", "192.0.2.90")
    assert old["xl_config"].endswith("/xen/old.cfg") and old["xl_domid"] is None
    # A template that a file holds is none for Ansible.
    assert old["xl_uuid"] == "{{ lookup('pipe', 'id') }}"
    groups = {group: listed[group]["hosts"] for group in listed if group.startswith("xl_")}
    assert groups == {
        "xl_guests": ["by hand", "files", "old", "web"],
        "xl_host_xen1": ["by hand", "files", "old", "web"],
        "xl_state_running": ["files", "web"],
        "xl_state_paused": ["by hand"],
        "xl_state_stopped": ["old"],
        "xl_type_pv": ["old"],
        "xl_type_pvh": ["web"],
        "xl_type_hvm": ["by hand", "files"],
        "xl_flavour_grub2": ["web"],
        "xl_flavour_legacy": ["old"],
        "xl_flavour_linux": ["files"],
        "xl_device_model_none": ["old", "web"],
        "xl_device_model_dom0": ["by hand"],
        "xl_device_model_stub_domain": ["files"],
    }
    (call,) = (path / "calls").read_text().splitlines()
    assert "-o BatchMode=yes" in call and "-p 2222 -l root -- 192.0.2.1 sh -s -- " in call


def test_what_a_guest_says_counts_only_where_it_is_asked_for(path: Path) -> None:
    listed, _said = inventory(path, addresses=["guest"], stopped=False)
    variables = listed["_meta"]["hostvars"]
    assert variables["web"]["ansible_host"] == "203.0.113.66"
    assert "ansible_host" not in variables["files"] and "old" not in variables


def test_groups_and_variables_of_one_s_own(path: Path) -> None:
    listed, _said = inventory(
        path,
        group_prefix="lab_",
        compose={"ansible_user": "'admin'"},
        groups={"unprotected": "xl_device_model == 'dom0'"},
        keyed_groups=[{"key": "xl_vcpus | string", "prefix": "vcpus"}],
    )
    assert listed["unprotected"]["hosts"] == ["by hand"]
    assert listed["vcpus_2"]["hosts"] == ["web"] and "lab_type_pv" in listed
    assert listed["_meta"]["hostvars"]["web"]["ansible_user"] == "admin"


def test_a_condition_selects_guests(path: Path) -> None:
    environment = real_play.environment(path / "environment")
    listed, _said = inventory(path, environment=environment, filter="state == 'stopped' && host == 'xen1'")
    assert "old" in listed["_meta"]["hostvars"] and not {"web", "files"} & set(listed["_meta"]["hostvars"])
    wrong = "nothing is called stat; state is similar. Correct it behind the mark >>> in: >>>stat == 'stopped' && host"
    inventory(path, environment=environment, filter="stat == 'stopped' && host", fails=wrong)


def test_guests_of_one_name_are_told_apart(path: Path) -> None:
    host(path, "xen2", list=LIST.replace("web ", "xen1"), nodes=NODES)
    listed, _said = inventory(path, hosts=["xen1", "xen2"])
    # The second host is in no other source: ssh itself is asked, and has no such host.
    assert "xen1.xen2" not in listed["_meta"]["hostvars"]
    known = yaml.safe_load((path / "hosts.yml").read_text())
    known["xen_hosts"]["hosts"]["xen2"] = {"ansible_become": True}
    (path / "hosts.yml").write_text(yaml.safe_dump(known))
    listed, _said = inventory(path, environment=real_play.environment(path / "again"))
    variables = listed["_meta"]["hostvars"]
    assert {"web", "xen1", "xen1.xen2", "files.xen1", "files.xen2", "old.xen1"} <= set(variables)
    assert "xl_host" not in variables["xen1"] and variables["xen1.xen2"]["xl_host"] == "xen2"
    assert "become" in (path / "calls").read_text().splitlines()


def test_a_host_that_does_not_answer(path: Path) -> None:
    known = yaml.safe_load((path / "hosts.yml").read_text())
    known["xen_hosts"]["hosts"]["gone"] = {}
    (path / "hosts.yml").write_text(yaml.safe_dump(known))
    listed, said = inventory(path)
    assert (
        "The guests of the Xen host gone are not known: ssh: connect to host gone port 22: Connection refused" in said
    )
    assert "web" in listed["_meta"]["hostvars"]
    environment = real_play.environment(path / "again")
    inventory(path, environment=environment, unreachable="fail", fails="The guests of the Xen host gone are not known")


def test_nothing_to_ask_is_an_error(path: Path) -> None:
    environment = real_play.environment(path / "environment")
    inventory(path, environment=environment, host_groups=["none"], fails="There is no group none. Correct host_groups")
    (path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"db": {}}}}))
    inventory(path, environment=environment, fails="There is no Xen host to ask for guests")


def test_a_cache_answers_in_place_of_the_hosts(path: Path) -> None:
    environment = real_play.environment(path / "environment")
    cache = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(path / "cache")}
    first, _said = inventory(path, environment=environment, **cache)
    again, _said = inventory(path, environment=environment, **cache)
    assert first == again and len((path / "calls").read_text().splitlines()) == 1


def test_a_variable_may_stand_in_a_file_of_its_group(path: Path) -> None:
    known = yaml.safe_load((path / "hosts.yml").read_text())
    known["xen_hosts"]["hosts"]["xen1"] = {}
    (path / "hosts.yml").write_text(yaml.safe_dump(known))
    (path / "group_vars").mkdir()
    (path / "group_vars" / "xen_hosts.yml").write_text("ansible_host: 192.0.2.1\n")
    listed, _said = inventory(path)
    assert "web" in listed["_meta"]["hostvars"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (b"Welcome to xen1!\n", "does something print a text when a shell starts"),
        (b"list 3", "cannot be understood"),
        (b"error 9 xl\nno access\n", "`xl list` failed: no access"),
        (b"list 3 xl\nfoo\n", "cannot be right"),
        (b"", "`xl list` failed"),
    ],
)
def test_an_answer_that_is_none(output: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        listing.described(output)


def test_files_are_read_whole_whatever_is_in_them() -> None:
    text = "list 9 x\nfile 3 /etc/xen/a b\n\n"
    output = f"file {len(text)} /etc/xen/a b.cfg\n{text}\n".encode()
    assert list(listing.parts(output)) == [("file", "/etc/xen/a b.cfg", text.encode())]
