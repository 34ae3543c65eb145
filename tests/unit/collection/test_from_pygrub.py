# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The playbook that has guests boot by themselves, with what records the calls of the collection's modules.

from __future__ import annotations

from pathlib import Path
from typing import Any

import recorded

NEW = {"name": "web", "type": "pvh", "flavour": "grub2", "memory": 256}
PROPOSAL = {"parameters": NEW, "why": "Its menu is there.", "loses": ["pygrub"], "blocked": ""}


def guest(path: Path, name: str, **more: Any) -> dict[str, Any]:
    found = {"name": name, "path": f"{path}/{name}.cfg", "state": "blocked", "boots": "pygrub in dom0", **more}
    return {"proposal": {**PROPOSAL, "parameters": {**NEW, "name": name}}, **found}


def play(
    path: Path, *guests: dict[str, Any], named: str = "[]", failed: tuple[str, ...] = (), state: str = "present"
) -> recorded.Played:
    path.mkdir(exist_ok=True)
    made = [{"name": one["name"], "failed": one["name"] in failed} for one in guests]
    result = {"changed": True, "guests": made, **({"failed": True, "msg": "1 of 2 guests failed."} if failed else {})}
    return recorded.play(
        path,
        "from_pygrub",
        "-efrom_pygrub_hosts=localhost",
        f'-e{{"from_pygrub_guests": {named}, "from_pygrub_state": "{state}"}}',
        results={"guests_info": {"guests": [*guests]}, "guests": result},
    )


def written(path: Path, *names: str) -> None:
    for name in names:
        (path / f"{name}.cfg").write_text(f"name = '{name}'\n")


def asked(played: recorded.Played) -> list[Any]:
    return [given["guests"] for module, given in played.calls if module == "guests" and given]


def test_without_names_it_says_what_it_found(tmp_path: Path) -> None:
    played = play(tmp_path, guest(tmp_path, "web"), guest(tmp_path, "own", proposal=None))
    assert played.status == 0, played.said
    assert "would lose" in played.said and "Its menu is there." in played.said and "own" not in played.said
    assert [module for module, _given in played.calls] == ["guests_info"], played.said


def test_named_guests_are_changed_and_what_they_had_is_kept(tmp_path: Path) -> None:
    written(tmp_path, "web", "off")
    guests = (guest(tmp_path, "web"), guest(tmp_path, "off", state="absent"), guest(tmp_path, "other"))
    played = play(tmp_path, *guests, named='["web", "off"]')
    assert played.status == 0, played.said
    proved = {"state": "running", "restart": True, "says": "login:", "timeout": 300}
    assert asked(played) == [
        [{**NEW, **proved}, {**NEW, "name": "off", **proved}],
        # It did not run before.
        [{"name": "off", "path": f"{tmp_path}/off.cfg", "state": "stopped", "stop": "graceful"}],
    ]
    assert (tmp_path / "web.cfg.from_pygrub~").read_text() == "name = 'web'\n"
    assert not (tmp_path / "other.cfg.from_pygrub~").exists()


def test_a_guest_that_does_not_boot_gets_back_what_it_had(tmp_path: Path) -> None:
    written(tmp_path, "web", "db")
    played = play(tmp_path, guest(tmp_path, "web"), guest(tmp_path, "db"), named='["web", "db"]', failed=("web",))
    assert played.status == 2
    assert asked(played)[1] == [{"name": "web", "path": f"{tmp_path}/web.cfg", "state": "stopped", "stop": "force"}]
    assert (tmp_path / "web.cfg").read_text() == "name = 'web'\n"
    assert not (tmp_path / "web.cfg.from_pygrub~").exists() and (tmp_path / "db.cfg.from_pygrub~").exists()


def test_guests_get_back_what_they_had(tmp_path: Path) -> None:
    (tmp_path / "web.cfg.from_pygrub~").write_text("old\n")
    written(tmp_path, "web")
    guests = (guest(tmp_path, "web", proposal=None), guest(tmp_path, "db", proposal=None))
    played = play(tmp_path, *guests, named='["web", "db"]', state="absent")
    assert played.status == 0, played.said
    web = {"name": "web", "path": f"{tmp_path}/web.cfg"}
    assert asked(played) == [[{**web, "state": "stopped", "stop": "graceful"}], [{**web, "state": "running"}]]
    assert (tmp_path / "web.cfg").read_text() == "old\n" and not (tmp_path / "web.cfg.from_pygrub~").exists()


def test_what_cannot_be_changed_is_refused_and_nothing_is_done(tmp_path: Path) -> None:
    blocked = {**PROPOSAL, "parameters": {}, "blocked": "Install GRUB in the guest."}
    played = play(tmp_path, guest(tmp_path, "web", proposal=blocked), named='["web"]')
    assert played.status == 2 and "web cannot be changed yet. Install GRUB in the guest." in played.said
    played = play(tmp_path / "b", named='["none"]')
    assert played.status == 2 and "Correct from_pygrub_guests." in played.said
    assert not asked(played)


def test_a_guest_that_is_changed_already_stays_as_it_is(tmp_path: Path) -> None:
    played = play(tmp_path, guest(tmp_path, "web", proposal=None), named='["web"]')
    assert played.status == 0 and not asked(played)
