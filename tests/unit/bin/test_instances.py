# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Which hosts a scenario gets from molecule's create.yml and destroy.yml.

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import chroots
import instances
import pytest
import yaml
from errors import LabError
from instances import Instances

BOTH = ({"name": "bookworm"}, {"name": "trixie", "memory": 6144})


def test_described_by_molecule(tmp_path: Path) -> None:
    (tmp_path / "molecule.yml").write_text(yaml.safe_dump({"platforms": list(BOTH), "scenario": {"name": "xen_a"}}))
    environment = {
        "MOLECULE_FILE": str(tmp_path / "molecule.yml"),
        "MOLECULE_SCENARIO_NAME": "xen_a",
        "MOLECULE_EPHEMERAL_DIRECTORY": str(tmp_path),
    }
    assert Instances.described(environment) == Instances("xen_a", BOTH, tmp_path)
    assert Instances.described({**environment, "XEN_STUBDOM_OWNER": "7"}).owner == "7"


@pytest.mark.parametrize("scenario", ["xen_a", "xen_dom0_memory_with_a_name_that_does_not_end"])
def test_names_of_hosts(scenario: str) -> None:
    one, other = (Instances(scenario, BOTH, Path(directory)).name("bookworm") for directory in ("/a", "/b"))
    assert re.fullmatch(r"[a-z0-9-]{1,32}", one)
    assert "-bookworm-" in one
    assert one != other


class Lab:
    """Plays lab/xenlab."""

    def __init__(self, fails: str = "") -> None:
        self.calls: list[tuple[str, ...]] = []
        self.fails = fails

    def __call__(self, *words: str) -> str:
        self.calls.append(words)
        if words[0] == self.fails:
            raise LabError("No.", "Do.")
        names = [word for before, word in zip(words, words[1:]) if before == "--name"]
        return json.dumps({"xen_hosts": {"hosts": {name: {"ansible_port": 1} for name in names}}})


def inventory(directory: Path) -> dict[str, Any]:
    hosts: dict[str, Any] = json.loads((directory / "inventory" / "xen_hosts.json").read_text())["xen_hosts"]["hosts"]
    return hosts


def test_xen_hosts_are_fresh_and_named_after_their_releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    monkeypatch.setattr(instances, "xenlab", lab)
    Instances("xen_a", ({**BOTH[0], "efi": True}, BOTH[1]), tmp_path, "7").create()
    assert list(inventory(tmp_path)) == ["bookworm", "trixie"]
    assert all(one == {"ansible_port": 1, **instances.XEN_VARIABLES} for one in inventory(tmp_path).values())
    assert [call[0] for call in lab.calls] == ["down", "down", "up", "up", "inventory"]
    ups = {call[call.index("--release") + 1]: call for call in lab.calls if call[0] == "up"}
    assert ups["trixie"][-4:] == ("--memory", "6144", "--owner", "7")
    assert ups["bookworm"][-3:] == ("--efi", "--owner", "7")


def test_hardware_of_a_xen_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    monkeypatch.setattr(instances, "xenlab", lab)
    Instances("xen_a", ({"name": "trixie", "iommu": True, "efi": False},), tmp_path).create()
    assert [call[3:] for call in lab.calls if call[0] == "up"] == [("--release", "trixie", "--iommu")]


def test_two_hosts_of_one_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    monkeypatch.setattr(instances, "xenlab", lab)
    Instances("xen_a", tuple({"name": name, "release": "trixie"} for name in ("a", "b")), tmp_path).create()
    assert list(inventory(tmp_path)) == ["a", "b"]
    assert [call[call.index("--release") + 1] for call in lab.calls if call[0] == "up"] == ["trixie", "trixie"]
    assert len({call[2] for call in lab.calls if call[0] == "up"}) == 2


def test_without_an_owner_hosts_live_until_they_are_destroyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    monkeypatch.setattr(instances, "xenlab", lab)
    Instances("xen_a", BOTH, tmp_path).create()
    assert not any("--owner" in call for call in lab.calls)


def test_xen_hosts_are_ended_when_one_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(fails="up")
    monkeypatch.setattr(instances, "xenlab", lab)
    with pytest.raises(LabError):
        Instances("xen_a", BOTH, tmp_path).create()
    assert [call[0] for call in lab.calls[-2:]] == ["down", "down"]
    assert not (tmp_path / "inventory").exists()


def test_file_systems_are_fresh_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def make(_release: str, _packages: object, result: Path) -> None:
        (tmp_path / "etc").mkdir(exist_ok=True)
        subprocess.run(["tar", "--create", "--file", str(result), "--directory", str(tmp_path), "etc"], check=True)

    monkeypatch.setattr(chroots, "_make", make)
    killed, alive = (chroots.cache() / f"run-{owner}-x" for owner in (99999999, os.getpid()))
    for tree in (killed, alive):
        tree.mkdir(parents=True)
    plain = Instances("plain", BOTH, tmp_path)
    plain.create()
    directories = [Path(variables["ansible_host"]) for variables in inventory(tmp_path).values()]
    assert list(inventory(tmp_path)) == ["bookworm", "trixie"]
    assert (killed.exists(), alive.exists()) == (False, True)
    monkeypatch.setattr(chroots, "_make", lambda *_: pytest.fail("made twice"))
    (directories[0] / "etc" / "left").touch()
    plain.create()
    assert all((directory / "etc").is_dir() for directory in directories)
    assert not (directories[0] / "etc" / "left").exists()
    plain.destroy()
    assert not any(directory.exists() for directory in directories)
    assert alive.exists()


def test_scenarios_that_begin_together_remove_the_same_leftovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for number in range(400):
        directory = chroots.cache() / "run-99999999-x" / "trixie" / f"usr-{number}"
        directory.mkdir(parents=True)
        for name in "abcd":
            (directory / name).touch()
    program = "import sys; sys.path[:0] = sys.argv[1:]; import chroots; chroots.remove_leftovers()"
    paths = [str(Path(module.__file__ or "").parent) for module in (chroots, chroots.files)]
    together = [subprocess.Popen([sys.executable, "-c", program, *paths], stderr=subprocess.PIPE) for _ in range(4)]
    assert [(process.communicate()[1], process.returncode) for process in together] == [(b"", 0)] * 4
    assert not list(chroots.cache().glob("run-*"))


def test_nobody_waits_for_the_removal_of_a_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (chroots.cache() / "run-99999999-x" / "trixie").mkdir(parents=True)
    free = []

    def remove(_tree: Path) -> None:
        descriptor = chroots.files.lock(chroots.cache() / "removal.lock")
        free.append(descriptor is not None)
        if descriptor is not None:
            os.close(descriptor)

    monkeypatch.setattr(chroots.files, "remove", remove)
    chroots.remove_leftovers()
    assert free == [True]


def test_a_file_system_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(chroots.apt_sources, "mmdebstrap_words", lambda _: ([], []))
    monkeypatch.setattr(chroots, "tool", lambda name: name)

    def run(words: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(words, int(words[0] == "mmdebstrap"), "I: begin\nE: cannot reach it\n", "")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(LabError) as caught:
        Instances("plain", BOTH, tmp_path).create()
    assert str(caught.value) == "The bookworm file system could not be made.\nmmdebstrap printed: E: cannot reach it"
