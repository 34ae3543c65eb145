# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Which scenarios are played, and on which hosts.

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import chroots
import image
import pytest
import scenarios
import yaml
from image import LabError
from scenarios import Scenario

BOTH = ({"name": "bookworm"}, {"name": "trixie"})
PLAIN, XEN_A, XEN_B = Scenario("plain", BOTH), Scenario("xen_a", BOTH), Scenario("xen_b", ({"name": "trixie"},))


def test_scenarios_are_found(tmp_path: Path) -> None:
    for name, content in (
        (".config/molecule/config.yml", "platforms: [{name: bookworm}, {name: trixie}]\n"),
        ("molecule/plain/molecule.yml", "scenario: {test_sequence: [converge]}\n"),
        ("molecule/xen_b/molecule.yml", "platforms: [{name: trixie, memory: 6144}]\n"),
        ("molecule/shared/tasks.yml", "[]\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert scenarios.read(tmp_path) == [PLAIN, Scenario("xen_b", ({"name": "trixie", "memory": 6144},))]


@pytest.mark.parametrize(
    ("tier", "asked", "wanted"),
    [
        ("chroot", [], [PLAIN]),
        ("xen", [], [XEN_A, XEN_B]),
        ("xen", ["xen_b"], [XEN_B]),
    ],
)
def test_choose(tier: str, asked: list[str], wanted: list[Scenario]) -> None:
    assert scenarios.choose([PLAIN, XEN_A, XEN_B], tier, asked) == wanted


@pytest.mark.parametrize(
    ("found", "tier", "asked"),
    [([PLAIN, XEN_A], "xen", ["plain"]), ([PLAIN], "chroot", ["plan"]), ([PLAIN], "xen", [])],
)
def test_to_play_nothing_is_an_error(found: list[Scenario], tier: str, asked: list[str]) -> None:
    with pytest.raises(LabError, match=f"The tier {tier} has no scenario"):
        scenarios.choose(found, tier, asked)


def test_a_scenario_without_hosts_is_an_error() -> None:
    with pytest.raises(LabError, match="No hosts are listed for the scenario xen_c"):
        scenarios.choose([XEN_A, Scenario("xen_c", ())], "xen", [])


@pytest.mark.parametrize("scenario", ["xen_a", "xen_dom0_memory_with_a_name_that_does_not_end"])
def test_names_of_hosts(scenario: str) -> None:
    name = scenarios.host_name(scenario, "bookworm", 4194304)
    assert re.fullmatch(r"[a-z0-9-]{1,32}", name)
    assert name.endswith("-bookworm-4194304")


def test_our_own_scenarios() -> None:
    found = scenarios.read()
    for scenario in found:
        directory = scenarios.REPOSITORY / "molecule" / scenario.name
        sequence = yaml.safe_load((directory / "molecule.yml").read_text())["scenario"]["test_sequence"]
        for step in sequence:
            playbook = {"check": "converge", "idempotence": "converge"}.get(step, step)
            assert (directory / f"{playbook}.yml").is_file(), (scenario.name, step)
        assert {"converge", "verify"} <= set(sequence), scenario.name
        assert {platform["name"] for platform in scenario.platforms} <= set(image.RELEASES)
        if not scenario.name.startswith("xen_") and "roles:" in (directory / "converge.yml").read_text():
            assert sequence.index("check") < sequence.index("converge"), "a role is to survive --check on a fresh host"
    directories = {path.name for path in (scenarios.REPOSITORY / "molecule").iterdir() if any(path.glob("*.yml"))}
    assert {scenario.name for scenario in found} == directories


def test_inventory() -> None:
    assert json.loads(scenarios.inventory({"trixie": {"ansible_host": "x"}})) == {
        "xen_hosts": {"hosts": {"trixie": {"ansible_host": "x"}}}
    }


XEN_ALONE = Scenario("xen_alone", ({"name": "trixie", "alone": True},))


class Stage:
    """Plays shell commands for scenarios, on hosts that are none; keeps what was played and how it began and ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, commands: dict[str, str]) -> None:
        self.commands = commands
        self.events: list[tuple[str, str]] = []
        monkeypatch.setattr(scenarios, "TIERS", {"xen": self.hosts})
        monkeypatch.setattr(scenarios, "play", self.play)
        monkeypatch.setattr(scenarios, "at_a_time", lambda: 2)
        monkeypatch.setattr(scenarios, "read", lambda: [Scenario(name, XEN_B.platforms) for name in commands])

    @contextmanager
    def hosts(self, scenario: Scenario) -> Iterator[scenarios.Hosts]:
        self.events.append(("begin", scenario.name))
        try:
            yield {"trixie": {}}
        finally:
            self.events.append(("end", scenario.name))

    def play(self, scenario: Scenario, _hosts: scenarios.Hosts, run: scenarios.Run, output: IO[bytes] | None) -> bool:
        return run(["sh", "-c", self.commands[scenario.name]], os.environ, output) == 0

    def names(self, event: str) -> list[str]:
        return [name for what, name in self.events if what == event]


@pytest.mark.parametrize(("gib", "number"), [(6, 1), (23, 2)])
def test_a_small_machine_plays_one_at_a_time(monkeypatch: pytest.MonkeyPatch, gib: int, number: int) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": gib << 18}.__getitem__)
    assert scenarios.at_a_time() == number


def test_two_are_played_at_a_time_and_each_is_shown_in_one_piece(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    meet = f"cd {tmp_path}; echo one; touch %s; until [ -e %s ]; do sleep 0.02; done; echo two"
    stage = Stage(monkeypatch, {"xen_a": meet % ("a", "b"), "xen_b": meet % ("b", "a")})
    assert scenarios.main(["xen"]) == 0
    assert sorted(stage.names("end")) == ["xen_a", "xen_b"]
    shown = capfd.readouterr().out
    assert shown.count("one\ntwo\nscenarios.py: xen_") == 2
    assert re.findall(r"^(xen_\w+) +\d+\.\d s$", shown, re.MULTILINE) == ["xen_a", "xen_b"]


def test_what_is_to_be_alone_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, {"xen_a": "true", "xen_alone": "sleep 0.2", "xen_b": "true"})
    rows = scenarios.Stage("xen").perform([XEN_A, XEN_ALONE, XEN_B])
    assert [row.split()[0] for row in rows] == ["xen_a", "xen_alone", "xen_b"]
    assert stage.events[:2] == [("begin", "xen_alone"), ("end", "xen_alone")]


def test_a_failing_scenario_ends_the_tier_and_the_one_beside_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(monkeypatch, {"xen_a": "echo never; sleep 60", "xen_b": "echo why; exit 2", "xen_c": "true"})
    begin = time.monotonic()
    assert scenarios.main(["xen"]) == 1
    assert time.monotonic() - begin < 30
    assert set(stage.names("begin")) - {"xen_c"} == set(stage.names("end")) - {"xen_c"} == {"xen_a", "xen_b"}
    out, err = capfd.readouterr()
    assert "why" in out
    assert "never" not in out
    assert "The scenario xen_b has failed" in err


def test_one_alone_is_shown_while_it_is_played(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Stage(monkeypatch, {"xen_a": "echo a word"})
    scenarios.main(["xen", "xen_a"])
    assert "a word\nscenarios.py: xen_a has ended" in capfd.readouterr().out


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


def test_xen_hosts_are_ended_and_named_after_their_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    monkeypatch.setattr(scenarios, "xenlab", lab)
    scenario = Scenario("xen_a", ({"name": "bookworm"}, {"name": "trixie", "memory": 6144}))
    with scenarios.xen_hosts(scenario) as hosts:
        assert hosts == {"bookworm": {"ansible_port": 1}, "trixie": {"ansible_port": 1}}
    ups = {call[call.index("--release") + 1]: call for call in lab.calls if call[0] == "up"}
    assert all("--owner" in call for call in ups.values())
    assert ups["trixie"][-2:] == ("--memory", "6144")
    assert "--memory" not in ups["bookworm"]
    assert [call[0] for call in lab.calls[-2:]] == ["down", "down"]


def test_xen_hosts_are_ended_when_one_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(fails="up")
    monkeypatch.setattr(scenarios, "xenlab", lab)
    with pytest.raises(LabError), scenarios.xen_hosts(XEN_A):
        pytest.fail("played without hosts")
    assert [call[0] for call in lab.calls].count("down") == 2


def test_file_systems_are_fresh_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def make(_release: str, result: Path) -> None:
        (tmp_path / "etc").mkdir(exist_ok=True)
        subprocess.run(["tar", "--create", "--file", str(result), "--directory", str(tmp_path), "etc"], check=True)

    monkeypatch.setattr(chroots, "_make", make)
    killed = chroots.cache() / "run-99999999-x"
    killed.mkdir(parents=True)
    with scenarios.file_systems(PLAIN) as hosts:
        directories = [Path(variables["ansible_host"]) for variables in hosts.values()]
        assert list(hosts) == ["bookworm", "trixie"]
        assert all((directory / "etc").is_dir() for directory in directories)
        assert not killed.exists()
    assert not any(directory.exists() for directory in directories)
    monkeypatch.setattr(chroots, "_make", lambda *_: pytest.fail("made twice"))
    with scenarios.file_systems(PLAIN):
        pass


def test_a_file_system_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(chroots, "debian_sources", lambda *_: [])
    monkeypatch.setattr(chroots, "tool", lambda name: name)

    def run(words: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(words, int(words[0] == "mmdebstrap"), "I: begin\nE: cannot reach it\n", "")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(LabError) as caught, scenarios.file_systems(PLAIN):
        pytest.fail("played without hosts")
    assert str(caught.value) == ("The bookworm file system could not be made.\nmmdebstrap said: E: cannot reach it")


def test_every_scenario_starts_without_a_past() -> None:
    directories = []

    def run(_command: Sequence[str], environment: Mapping[str, str], _output: IO[bytes] | None) -> int:
        assert not Path(environment["MOLECULE_EPHEMERAL_DIRECTORY"]).exists()
        assert json.loads(Path(environment["XEN_STUBDOM_INVENTORY"]).read_text())["xen_hosts"]["hosts"] == {
            "trixie": {}
        }
        directories.append(environment["MOLECULE_EPHEMERAL_DIRECTORY"])
        return len(directories) - 1

    assert [scenarios.play(PLAIN, {"trixie": {}}, run, None) for _ in range(2)] == [True, False]
    assert len(set(directories)) == 2
