# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What dnsmasq is given to read, and what a client in the network of the guests gets from the servers that read it.

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Dict, List

import jinja2
import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import boot_loaders, netboot
from hypothesis import given
from hypothesis import strategies as st

SERVER = netboot.Server("xenbr0", "192.0.2.100", "192.0.2.199", ["198.51.100.7/30", "192.0.2.1/24"])
ENTRY = {"title": "Debian", "kernel": "/debian/vmlinuz", "initrd": "/debian/initrd.gz", "cmdline": "console=hvc0"}
MAIL = {"name": "mail", "mac": "00:16:3E:11:22:33", "menu_entries": [ENTRY]}
REPOSITORY = Path(__file__).resolve().parents[5]


def server(**changed: Any) -> netboot.Server:
    return netboot.Server(**{**SERVER.__dict__, **changed})


def test_what_dnsmasq_reads() -> None:
    guests = [MAIL, {"name": "old", "mac": "00:16:3e:00:00:01", "boot_file": "pxe/grub.0", "address": "192.0.2.50"}]
    files = netboot.plan_files(server(router="192.0.2.1", name_servers=("192.0.2.2", "192.0.2.3")), guests)
    assert files.configuration.splitlines() == [
        "port=0",
        "interface=xenbr0",
        "bind-interfaces",
        "except-interface=lo",
        "no-ping",
        "dhcp-range=192.0.2.100,192.0.2.199,255.255.255.0,1h",
        "dhcp-option=3,192.0.2.1",
        "dhcp-option=6,192.0.2.2,192.0.2.3",
        "dhcp-leasefile=/var/lib/misc/dnsmasq.xen-stubdom.leases",
        "enable-tftp",
        "tftp-root=/var/lib/xen.stubdom/netboot",
        "dhcp-ignore=tag:!known",
        "dhcp-authoritative",
        "dhcp-host=00:16:3e:11:22:33,set:m00163e112233",
        "dhcp-option=tag:m00163e112233,150,40.110.100.41,47.103.117.101,115.116.115.47,109.97.105.108,46.108.115.116",
        "dhcp-host=00:16:3e:00:00:01,set:m00163e000001,192.0.2.50",
        "dhcp-boot=tag:m00163e000001,pxe/grub.0",
    ]
    assert files.menus == {
        "guests/mail.lst": (
            "default 0\ntimeout 5\ntitle Debian\nroot (nd)\n"
            "kernel /debian/vmlinuz console=hvc0\ninitrd /debian/initrd.gz\n"
        )
    }


def test_others_are_served_only_where_that_is_asked_for() -> None:
    text = netboot.plan_files(server(serve_all=True), [MAIL]).configuration
    assert "dhcp-ignore" not in text and "dhcp-authoritative" not in text


def test_the_role_serves_and_removes_what_dnsmasq_is_told() -> None:
    role = REPOSITORY / "roles" / "netboot_server"
    assert f"__netboot_server_directory: {netboot.DIRECTORY}\n" in (role / "vars" / "main.yml").read_text()
    assert f"- {netboot.LEASES}\n" in (role / "tasks" / "absent.yml").read_text()


@given(st.text("abc/()-._", min_size=1, max_size=boot_loaders.LONGEST_PATH))
def test_a_path_comes_back_from_its_addresses(path: str) -> None:
    data = b"".join(bytes(int(byte) for byte in quad.split(".")) for quad in netboot.quads(path))
    assert data.rstrip(b"\0").decode() == path
    assert "0.0.0.0" not in netboot.quads(path)


@pytest.mark.parametrize(
    ("changed", "guests", "message"),
    [
        ({"interface": "br0\ndhcp-script=/x"}, [], "netboot_server_interface is 'br0\\ndhcp-script=/x'. Set "),
        (
            {"lease": "1h,static"},
            [],
            "netboot_server_lease_time is '1h,static'. Set netboot_server_lease_time to a nu",
        ),
        ({"first": ""}, [], "netboot_server_first is '', which is no IPv4 address. Correct netboot_server_first."),
        ({"last": "2001:db8::1"}, [], "netboot_server_last is '2001:db8::1', which is no IPv4 address."),
        ({"first": "192.0.2.199", "last": "192.0.2.100"}, [], "netboot_server_first is 192.0.2.199, which is behind"),
        ({"last": "192.0.3.1"}, [], "xenbr0 has no address in a network with 192.0.2.100 and 192.0.3.1: it has 198.51"),
        ({"own": []}, [], "it has none. Correct netboot_server_first and netboot_server_last, or give the interface"),
        ({"router": "x"}, [], "netboot_server_router is 'x', which is no IPv4 address."),
        ({"name_servers": ["x"]}, [], "netboot_server_name_servers is 'x', which is no IPv4 address."),
        ({}, [{**MAIL, "mac": "x"}], "mac of the guest mail is 'x', which is no MAC address. Correct mac in netboot_"),
        ({}, [{**MAIL, "name": "../x"}], "'../x' is no name for a guest."),
        ({}, [{**MAIL, "address": "198.51.100.5"}], "which is not in the network 192.0.2.0/24. Correct address in "),
        ({}, [{**MAIL, "boot_file": "a,b"}], "boot_file of the guest mail is 'a,b'. Set boot_file to a path below"),
        ({}, [MAIL, MAIL], "Two guests have the name mail: mail and mail. Correct name of one of them in netboot_"),
        (
            {},
            [MAIL, {**MAIL, "name": "m"}],
            "Two guests have the MAC address 00:16:3e:11:22:33: mail and m. Correct mac",
        ),
        ({}, [{**MAIL, "menu_entries": [{**ENTRY, "partition": 1}]}], "this kernel comes from the TFTP server. Leave"),
        ({}, [{**MAIL, "menu_entries": [{**ENTRY, "title": "a\nkernel /x"}]}], "it is not one line of printable text"),
        ({}, [{**MAIL, "name": "m" * 80}], "has 96 bytes, and PV-GRUB has room for 95. Give the guest a shorter name."),
    ],
)
def test_what_cannot_be_served(changed: Dict[str, Any], guests: List[Dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError) as refused:
        netboot.plan_files(server(**changed), guests)
    assert message in f"{refused.value.what} {refused.value.remedy}"


# ---- real servers, asked by a client in another network namespace


class Network:
    """Two network namespaces with a cable between them: serving has br-test, asking has eth-test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.serving, self.asking = (f"stubdom-{what}-{os.getpid()}" for what in ("serving", "asking"))
        self._ip("netns", "add", self.serving)
        self._ip("netns", "add", self.asking)
        cable = ("type", "veth", "peer", "name", "eth-test", "netns", self.asking)
        self._ip("link", "add", "br-test", "netns", self.serving, *cable)
        self._ip("-n", self.serving, "address", "add", "192.0.2.1/24", "dev", "br-test")
        self._ip("-n", self.serving, "link", "set", "br-test", "up")
        # Servers listen on an interface whose other end is up.
        self._ip("-n", self.asking, "link", "set", "eth-test", "up")
        self._ip("-n", self.asking, "address", "add", "192.0.2.9/24", "dev", "eth-test")
        self.script = path / "show"
        self.script.write_text('#!/bin/sh\n[ "$1" != bound ] || env\n')
        self.script.chmod(0o755)

    def _ip(self, *words: str) -> str:
        return subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=30).stdout

    def serve(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["ip", "netns", "exec", self.serving, *command], cwd=self.path)

    def ask(self, mac: str) -> Dict[str, str]:
        """What DHCP gives a client, by the names of udhcpc; nothing where nobody answers."""
        for words in (("down",), ("address", mac), ("up",)):
            self._ip("-n", self.asking, "link", "set", "eth-test", *words)
        client = ["busybox", "udhcpc", "-f", "-q", "-n", "-i", "eth-test", "-s", str(self.script), "-O", "150"]
        answer = subprocess.run(
            ["ip", "netns", "exec", self.asking, *client, "-t", "3", "-T", "1"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        return dict(line.split("=", 1) for line in answer.stdout.splitlines() if "=" in line)

    def delay(self) -> int:
        """Milliseconds for which the server sends to a neighbour that it has not heard of lately, and asks nothing."""
        found = re.search(r"\bdelay_probe (\d+)", self._ip("-n", self.serving, "ntable", "show", "dev", "br-test"))
        assert found is not None
        return int(found[1])

    def set_delay(self, milliseconds: int) -> None:
        change = ("ntable", "change", "name", "arp_cache", "dev", "br-test", "delay_probe", str(milliseconds))
        self._ip("-n", self.serving, *change)

    def fetch(self, path: str) -> str:
        client = ["busybox", "tftp", "-g", "-r", path, "-l", "fetched", "192.0.2.1"]
        subprocess.run(
            ["ip", "netns", "exec", self.asking, *client], cwd=self.path, check=True, capture_output=True, timeout=30
        )
        return (self.path / "fetched").read_text()

    def end(self) -> None:
        for name in (self.serving, self.asking):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True, timeout=30)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    if os.geteuid() != 0:
        pytest.skip("only root makes networks")
    made = Network(tmp_path)
    yield made
    made.end()


@contextlib.contextmanager
def running(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> Iterator[None]:
    try:
        until = time.monotonic() + 20
        while not ready() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        assert process.poll() is None
        yield
    finally:
        process.terminate()
        process.wait(20)


def test_a_guest_gets_its_menu_and_nobody_else_an_answer(network: Network, tmp_path: Path) -> None:
    served = tmp_path / "served"
    files = netboot.plan_files(server(interface="br-test", lease="1h"), [MAIL])
    for name, text in files.menus.items():
        (served / name).parent.mkdir(parents=True, exist_ok=True)
        (served / name).write_text(text)
    text = files.configuration.replace(netboot.DIRECTORY, str(served)).replace(netboot.LEASES, str(tmp_path / "leases"))
    (tmp_path / "conf").write_text(text)
    log = tmp_path / "log"
    # An account of its own could not come into the directory of this test.
    process = network.serve(
        "dnsmasq", "--keep-in-foreground", "--user=root", "--conf-file=conf", f"--log-facility={log}"
    )
    with running(process, lambda: log.exists() and "started" in log.read_text()):
        answer = network.ask("00:16:3e:11:22:33")
        assert bytes.fromhex(answer["opt150"]).rstrip(b"\0") == b"(nd)/guests/mail.lst"
        assert answer["siaddr"] == "192.0.2.1"
        assert "router" not in answer and "dns" not in answer
        assert network.fetch("/guests/mail.lst") == files.menus["guests/mail.lst"]
        assert network.ask("00:16:3e:11:22:34") == {}


def service(key: str) -> List[List[str]]:
    """The commands that the service has under a key."""
    template = REPOSITORY / "roles" / "netboot_server" / "templates" / "xen-stubdom-netboot.service.j2"
    variables = {"netboot_server_interface": "br-test", "netboot_server_checksum_offload": True}
    lines = jinja2.Environment().from_string(template.read_text()).render(variables).splitlines()
    return [shlex.split(line.partition("=")[2].lstrip("-")) for line in lines if line.startswith(f"{key}=")]


@pytest.mark.parametrize(
    ("before", "written_down", "after"), [(5000, True, 5000), (1500, True, 1500), (1500, False, 5000)]
)
def test_a_guest_that_answers_no_arp_is_sent_to_for_as_long_as_it_loads(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, written_down: bool, after: int
) -> None:
    """What was there before is there again; Linux's default where an older service did not write it down."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    network.set_delay(before)
    for command in service("ExecStartPre"):
        assert network.serve(*command).wait(30) == 0
    assert network.delay() == 3_600_000
    if not written_down:
        (tmp_path / "former").unlink()
    for command in service("ExecStopPost"):
        assert network.serve(*command).wait(30) == 0
    assert network.delay() == after


@pytest.mark.parametrize(
    ("language", "command"),
    [
        ("json", ("kea-dhcp4", "-c", "conf")),
        ("text", ("dhcpd", "-f", "-q", "-cf", "conf", "-lf", "leases", "-pf", "pid", "br-test")),
    ],
)
def test_the_servers_of_the_guide_give_the_same_answer(
    network: Network, tmp_path: Path, language: str, command: tuple[str, ...]
) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]}")
    guide = (REPOSITORY / "docs" / "netboot.md").read_text()
    found = re.search(rf"```{language}\n(.*?)```", guide, re.DOTALL)
    assert found is not None
    text = found[1].replace("xenbr0", "br-test")
    if language == "json":
        changed = json.loads(text)
        changed["Dhcp4"]["lease-database"] = {"type": "memfile", "persist": False}
        text = json.dumps(changed)
    (tmp_path / "conf").write_text(text)
    (tmp_path / "leases").touch()
    start = time.monotonic()
    with running(network.serve(*command), lambda: time.monotonic() - start > 2):
        answer = network.ask("00:16:3e:11:22:33")
        assert bytes.fromhex(answer["opt150"]).rstrip(b"\0") == b"(nd)/guests/mail.lst"
        assert answer["siaddr"] == "192.0.2.1"
