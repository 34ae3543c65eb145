# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Which scenarios are played, and on which hosts.

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import image
import pytest
import scenarios
import yaml
from errors import LabError
from scenarios import Scenario

BOTH = ({"name": "bookworm"}, {"name": "trixie"})
LONG = Scenario("xen_guests", ({"name": "trixie"},))
PLAIN, XEN_A, XEN_B = Scenario("plain", BOTH), Scenario("xen_a", BOTH), Scenario("xen_b", ({"name": "trixie"},))


def test_scenarios_are_found(tmp_path: Path) -> None:
    for name, content in (
        (".config/molecule/config.yml", "platforms: [{name: bookworm}, {name: trixie}]\n"),
        ("molecule/plain/molecule.yml", "scenario: {test_sequence: [converge]}\n"),
        (
            "molecule/xen_b/molecule.yml",
            "platforms: [{name: trixie, memory: 6144}]\nscenario: {test_sequence: [create, converge]}\n",
        ),
        ("molecule/shared/tasks.yml", "[]\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert scenarios.read(tmp_path) == [
        Scenario("plain", BOTH, 1),
        Scenario("xen_b", ({"name": "trixie", "memory": 6144},), 2),
    ]


@pytest.mark.parametrize(
    ("tier", "asked", "wanted"),
    [
        ("chroot", [], [PLAIN]),
        ("xen", [], [XEN_A, XEN_B]),
        ("xen", ["xen_b"], [XEN_B]),
        ("xen", ["xen_guests", "xen_a"], [LONG, XEN_A]),
    ],
)
def test_choose(tier: str, asked: list[str], wanted: list[Scenario]) -> None:
    assert scenarios.choose([PLAIN, LONG, XEN_A, XEN_B], tier, asked) == wanted


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


def test_our_own_scenarios() -> None:
    found = scenarios.read()
    for scenario in found:
        directory = scenarios.REPOSITORY / "molecule" / scenario.name
        sequence = yaml.safe_load((directory / "molecule.yml").read_text())["scenario"]["test_sequence"]
        assert sequence[:2] == ["destroy", "create"], scenario.name
        assert sequence[-1] == "destroy", scenario.name
        for step in sequence[2:-1]:
            playbook = {"check": "converge", "idempotence": "converge"}.get(step, step)
            assert (directory / f"{playbook}.yml").is_file(), (scenario.name, step)
        assert {"converge", "verify"} <= set(sequence), scenario.name
        assert {platform.get("release", platform["name"]) for platform in scenario.platforms} <= set(image.RELEASES)
        if not scenario.name.startswith("xen_") and "roles:" in (directory / "converge.yml").read_text():
            assert sequence.index("check") < sequence.index("converge"), "a role is to survive --check on a fresh host"
    directories = {path.name for path in (scenarios.REPOSITORY / "molecule").iterdir() if any(path.glob("*.yml"))}
    assert {scenario.name for scenario in found} == directories >= scenarios.BY_NAME


class Stage:
    """Plays shell commands for scenarios; keeps what was played and how it began and ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, commands: dict[str, str]) -> None:
        self.commands = commands
        self.events: list[tuple[str, str]] = []
        monkeypatch.setattr(scenarios, "play", self.play)
        monkeypatch.setattr(scenarios, "at_a_time", lambda: 2)
        monkeypatch.setattr(scenarios, "read", lambda: [Scenario(name, XEN_B.platforms) for name in commands])

    def play(
        self, scenario: Scenario, run: scenarios.Run, output: IO[bytes] | None
    ) -> tuple[bool, scenarios.Durations, scenarios.Durations]:
        self.events.append(("begin", scenario.name))
        status = run(["sh", "-c", self.commands[scenario.name]], os.environ, output)
        self.events.append(("end", scenario.name))
        return status == 0, [("converge", 1.4)], [("Reboot", 1.3), *[("Wait", 0.1)] * scenarios.SHOWN]

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
    assert re.findall(r"^(xen_\w+) +\d+\.\d s  converge 1\n +1\.3 s  Reboot$", shown, re.MULTILINE) == [
        "xen_a",
        "xen_b",
    ]
    assert shown.count("0.1 s  Wait") == 2 * (scenarios.SHOWN - 1)


def test_what_has_the_most_to_do_begins_first(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, {})
    stage.commands = {"xen_one": "true", "xen_steps": "true", "xen_hosts": "true"}
    monkeypatch.setattr(scenarios, "at_a_time", lambda: 1)
    one = [Scenario("xen_one", XEN_B.platforms, 3), Scenario("xen_steps", XEN_B.platforms, 5)]
    scenarios.Stage("xen").perform([*one, Scenario("xen_hosts", BOTH, 3)])
    assert stage.names("begin") == ["xen_hosts", "xen_steps", "xen_one"]


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


def test_every_scenario_starts_without_a_past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    directories = []

    def run(_command: Sequence[str], environment: Mapping[str, str], _output: IO[bytes] | None) -> int:
        directory = Path(environment["MOLECULE_EPHEMERAL_DIRECTORY"])
        assert not list(directory.iterdir())
        assert environment["XEN_STUBDOM_OWNER"] == str(os.getpid())
        (directory / "state.yml").touch()
        Path(environment["XEN_STUBDOM_EVENTS"]).write_text('{"event": "playbook", "name": "create.yml", "time": 1}\n')
        directories.append(directory)
        return len(directories) - 1

    played = [scenarios.play(PLAIN, run, None) for _ in range(2)]
    assert [passed for passed, _, _ in played] == [True, False]
    assert [[step for step, _ in steps] for _, steps, _ in played] == [["create"], ["create"]]
    assert len(set(directories)) == 1


def test_durations() -> None:
    names = ["destroy", "create", "converge", "converge", "converge", "verify", "destroy"]
    events: list[dict[str, Any]] = []
    inner = {"event": "playbook", "name": "dom0_memory_rolling.yml", "time": 1.0}
    for number, name in enumerate(names):
        events += [{"event": "playbook", "name": f"{name}.yml", "time": 10.0 * number}, inner]
        # A playbook may have several plays, and one play more that is only looked at.
        for check in (number == 2, number == 2):
            events.append({"event": "play", "name": "x", "check": check, "time": 10.0 * number + 1})
        events.append({"event": "stats", "hosts": {}, "time": 10.0 * number + 2})
    assert scenarios.durations(events, 65.0) == [
        ("destroy", 10), ("create", 10), ("check", 10), ("converge", 10), ("idempotence", 10), ("verify", 10),
        ("destroy", 5),
    ]  # fmt: skip


def test_the_longest_tasks_come_first() -> None:
    events = [
        {"event": "playbook", "name": "converge.yml", "time": 0.0},
        {"event": "task", "name": "Read", "time": 1.0},
        {"event": "result", "host": "a", "time": 1.5},
        {"event": "task", "name": "Reboot", "time": 2.0},
        {"event": "task", "name": "Read", "time": 7.0},
        {"event": "stats", "hosts": {}, "time": 9.0},
        {"event": "task", "name": "Cut off", "time": 30.0},
    ]
    assert scenarios.tasks(events) == [("Reboot", 5.0), ("Read", 3.0)]
