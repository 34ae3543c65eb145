# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import hosts
import pytest
import yaml
from errors import LabError


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "qemu: -netdev user: Could not set up host forwarding rule 'tcp:127.0.0.1:22-:22'",
            "Port 22 of this machine is in use.",
        ),
        ("cannot set up guest memory", "QEMU did not start: cannot set up guest memory."),
    ],
)
def test_why_qemu_did_not_start(words: str, sentence: str) -> None:
    assert str(hosts.not_started(words, 22)).splitlines()[0] == sentence


@pytest.mark.parametrize("name", ["", "../x", "Lab", "a b", "-x", "x" * 64])
def test_names_that_are_no_names(name: str) -> None:
    with pytest.raises(LabError, match="cannot be the name of a host"):
        hosts.directory_of(name)


def test_the_inventory_of_no_host_has_the_group() -> None:
    assert hosts.inventory([]) == "---\nxen_hosts:\n  hosts: {}\n"


def test_the_inventory_holds_what_ansible_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "with space"))
    host = hosts.Host("one", "trixie", 4096, 1, "tcg", 2222, "/keys/id", None, 0.0)
    variables = yaml.safe_load(hosts.inventory([host]))["xen_hosts"]["hosts"]["one"]
    assert variables["ansible_host"] == "127.0.0.1"
    assert variables["ansible_port"] == 2222
    assert variables["ansible_user"] == "root"
    assert variables["ansible_ssh_private_key_file"] == "/keys/id"
    assert f"'UserKnownHostsFile=\"{tmp_path}/with space" in variables["ansible_ssh_common_args"]


def test_a_host_that_is_not_up_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(LabError) as caught:
        hosts.get("gone")
    assert str(caught.value).splitlines() == ["No lab host named gone is up.", "Start it with: xenlab up --name gone"]
