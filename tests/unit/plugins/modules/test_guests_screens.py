# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The screens of guests in dom0: the units of systemd, what it is told, and what is left when a guest has none.

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Dict, List

import pytest
import xen_host
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import Several, UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import screens, virtualisation
from xen_host import BOOT, PROXY, Host

UNITS = "etc/systemd/system"
NAME = "xen-stubdom-screen-web"
LINK = f"{UNITS}/sockets.target.wants/{NAME}.socket"


class Systemd:
    """systemd as far as sockets go."""

    def __init__(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = host
        self.words: List[str] = []
        self.deaf = False
        (host.root / "run/systemd/system").mkdir(parents=True)
        # A path of a socket is short, that of a test is not.
        monkeypatch.setattr(screens.Screen, "listens", lambda screen: self.path(screen.socket).exists())
        monkeypatch.setattr(host, "run_command", self.run(host.run_command))

    def path(self, listens: str) -> Path:
        return self.host.root / listens.lstrip("/")

    def run(self, others: Any) -> Any:
        def run(arguments: List[str], **options: Any) -> Any:
            if arguments[0] != "systemctl":
                return others(arguments, **options)
            self.words.append(" ".join(arguments[1:]))
            if self.deaf:
                return 1, "", "Job failed. See journalctl.\n"
            for word in arguments[2:]:
                unit = self.host.root / UNITS / word
                if arguments[1] == "restart":
                    lines = dict(line.partition("=")[::2] for line in unit.read_text().splitlines())
                    self.path(lines["ListenStream"]).parent.mkdir(parents=True, exist_ok=True)
                    self.path(lines["ListenStream"]).touch()
                # Of a unit whose file has gone it does not know any more that the socket goes with it.
                elif unit.exists():
                    name = word[len("xen-stubdom-screen-") : -len(".socket")].replace("\\x2b", "+")
                    self.path(virtualisation.SOCKET.format(name=name)).unlink(missing_ok=True)
            return 0, "", ""

        return run


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    yield from xen_host.played(tmp_path, monkeypatch)


@pytest.fixture
def systemd(host: Host, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    return Systemd(host, monkeypatch)


def run(host: Host, *, check: bool = False, **more: Any) -> Dict[str, Any]:
    given = {"name": "web", "type": "hvm", "memory": 256, "disks": [{"target": "/srv/web.img"}], **more}
    result = host.run(given if more.get("state") != "absent" else {"name": "web", **more}, check=check)
    return {**result, **result["guests"][0], "changed": result["changed"]}


def test_a_screen_comes_and_goes_with_its_guest(host: Host, systemd: Systemd) -> None:
    virgin = host.tree()
    steps = [run(host, check=check, screen=True) for check in (True, False, True, False)]
    assert [step["actions"] for step in steps] == [["written", "opened"]] * 2 + [[]] * 2
    assert [step["changed"] for step in steps] == [True, True, False, False]
    assert steps[0]["diff"] == steps[1]["diff"]
    assert systemd.words == ["daemon-reload", f"restart {NAME}.socket"]
    tree = host.tree()
    assert tree[LINK] == f"/{UNITS}/{NAME}.socket"
    listens, connects = tree[f"{UNITS}/{NAME}.socket"], tree[f"{UNITS}/{NAME}@.service"]
    assert "ListenStream=/run/xen-stubdom/web.vnc\nSocketMode=0600\nRemoveOnStop=yes\n" in listens
    assert f"exec /{PROXY} $$stub" in connects and " in web) " in connects
    systemd.words.clear()
    steps = [run(host, check=check, state="absent") for check in (True, False, True, False)]
    assert [step["actions"] for step in steps] == [["removed", "closed"]] * 2 + [[]] * 2
    assert host.tree() == virgin
    assert systemd.words == [f"stop {NAME}.socket {NAME}@*.service", "daemon-reload"]


def test_a_guest_that_asks_for_none_has_nothing(host: Host, systemd: Systemd) -> None:
    written = run(host)
    assert written["actions"] == ["written"] and systemd.words == []
    assert [path for path in host.tree() if "systemd" in path] == []
    assert "stubdomain_cmdline" not in written["settings"]
    # And one that had one has none then.
    run(host, screen=True)
    closed = run(host, screen=False)
    assert closed["actions"] == ["written", "closed"] and closed["settings"] == written["settings"]
    assert [path for path in host.tree() if "systemd" in path] == []


def test_the_stub_domain_is_told_and_given_memory(host: Host, systemd: Systemd) -> None:
    host.put(f"{BOOT}/linux.json", json.dumps({**xen_host_manifest(), "keymaps": ["en-us"]}))
    settings = run(host, screen=True, stubdomain_cmdline="quiet", vga="stdvga")["settings"]
    assert settings["stubdomain_cmdline"] == "console=hvc0 stubdom.screen=vnc quiet"
    assert settings["stubdomain_memory"] == 100 + 32
    with pytest.raises(Several, match="given 120 MiB, and its image needs 132 MiB with a screen"):
        run(host, screen=True, vga="stdvga", stubdomain_memory=120)


def test_a_keyboard_that_the_image_does_not_know(host: Host, systemd: Systemd) -> None:
    """Its QEMU would end as the guest is let go."""
    de = {"options": {"keymap": "de"}}
    assert run(host, screen=True, check=True, **de)["settings"]["keymap"] == "de"
    host.put(f"{BOOT}/linux.json", json.dumps({**xen_host_manifest(), "keymaps": ["en-us", "da"]}))
    with pytest.raises(Several, match="options.keymap of web is 'de', which is not among .*: da, en-us"):
        run(host, screen=True, **de)
    # Without a screen nobody asks for it, and another image may have it.
    assert run(host, **de)["changed"]
    host.put("srv/own", "")
    assert run(host, screen=True, stubdomain_ramdisk="/srv/own", **de)["changed"]
    host.put(f"{BOOT}/linux.json", json.dumps({**xen_host_manifest(), "keymaps": ["de", "en-us"]}))
    assert run(host, screen=True, **de)["changed"]


def xen_host_manifest() -> Dict[str, Any]:
    empty: Dict[str, Any] = {"sources": [], "compiler": None, "flags": None, "built": None, "sha256": None, "files": {}}
    words = {"kind": "linux", "xen": "4.20", "identity": "x", "memory_mib": 100, "command_line": "console=hvc0"}
    return {**empty, **words}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"vga": "none"}, "has screen, and vga is none"),
        ({"screen_owner": "a\nb"}, "which is no account"),
        ({"name": "w" * 87}, "too long for that of a socket"),
        ({"flavour": "minios"}, "screen is not supported with flavour minios"),
    ],
)
def test_a_screen_that_cannot_be(host: Host, systemd: Systemd, more: Dict[str, Any], message: str) -> None:
    with pytest.raises(Several, match=message):
        run(host, screen=True, **more)
    assert systemd.words == []


def test_an_image_that_knows_no_screens(host: Host, systemd: Systemd) -> None:
    host.put(f"{BOOT}/linux.json", json.dumps(xen_host_manifest()))
    with pytest.raises(UserError, match="The image of the Linux stub domain has no screen, which web asks for"):
        run(host, screen=True, state="running")
    # It is what an earlier task of the play makes.
    assert "has no screen" in str(run(host, screen=True, state="running", check=True)["warnings"])


def test_no_screen_without_systemd(host: Host) -> None:
    with pytest.raises(UserError, match="for which systemd listens in dom0"):
        run(host, screen=True)


def test_who_may_look(host: Host, systemd: Systemd) -> None:
    run(host, screen=True)
    systemd.words.clear()
    assert run(host, screen=True, screen_owner="ann", screen_group="staff")["actions"] == ["opened"]
    listens = host.tree()[f"{UNITS}/{NAME}.socket"]
    assert "SocketMode=0660\nSocketUser=ann\nSocketGroup=staff\n" in listens
    assert systemd.words == ["daemon-reload", f"restart {NAME}.socket"]


def test_what_an_interrupted_run_has_left_is_done(host: Host, systemd: Systemd) -> None:
    run(host, screen=True)
    systemd.path("/run/xen-stubdom/web.vnc").unlink()
    assert run(host, screen=True, check=True)["actions"] == ["opened"]
    assert run(host, screen=True)["actions"] == ["opened"]
    assert not run(host, screen=True)["changed"]


def test_a_screen_that_does_not_open_fails_its_guest_alone(host: Host, systemd: Systemd) -> None:
    systemd.deaf = True
    with pytest.raises(Several) as failed:
        run(host, screen=True)
    assert "`systemctl restart` has not opened /run/xen-stubdom/web.vnc: Job failed" in str(failed.value)
    systemd.deaf = False
    assert run(host, screen=True)["actions"] == ["opened"]


def test_a_name_that_is_none_for_a_unit(host: Host, systemd: Systemd) -> None:
    host.run({"name": "a+b", "type": "hvm", "memory": 64, "screen": True})
    assert f"{UNITS}/xen-stubdom-screen-a\\x2bb.socket" in host.tree()
    assert systemd.path("/run/xen-stubdom/a+b.vnc").exists()


def test_whether_a_socket_is_there(host: Host) -> None:
    found = screens.Screen(host_xen(host), "web")
    assert not found.listens()
    host.put("run/xen-stubdom/web.vnc", "no socket")
    assert not found.listens()


def host_xen(host: Host) -> Any:
    from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

    return Xen(host.run_command, root=str(host.root))


VCHAN = "/local/domain/8/device-model/7/vnc-vchan"


@pytest.mark.parametrize(
    ("nodes", "answers", "runs"),
    [
        ({}, True, f"proxy 8 {VCHAN} - fresh"),
        # What the viewer before has used is not used again.
        ({f"{VCHAN}/ring-ref": "old"}, True, f"proxy 8 {VCHAN} - fresh"),
        ({f"{VCHAN}/ring-ref": "old"}, False, None),
        ({"/local/domain/7/image/device-model-domid": None}, True, None),
        ({"/local/domain/7/image/device-model-domid": "0"}, True, None),
        ({"/local/domain/7/name": "webb"}, True, None),
    ],
)
def test_a_connection_leads_to_the_stub_domain_of_the_moment(
    tmp_path: Path, host: Host, systemd: Systemd, nodes: Dict[str, Any], answers: bool, runs: Any
) -> None:
    run(host, screen=True)
    unit = host.tree()[f"{UNITS}/{NAME}@.service"]
    words = unit.split("ExecStart=-/bin/sh -ec '")[1].split("'\nStandardInput")[0]
    words = words.replace("\\\n", "").replace("$$", "$")
    known = {
        "/local/domain/0/name": "Domain-0",
        "/local/domain/7/name": "web",
        "/local/domain/8/name": "web-dm",
        "/local/domain/7/image/device-model-domid": "8",
        "/local/domain/8/device-model/7/state": "running",
        **nodes,
    }
    store = tmp_path / "store"
    for path, value in known.items():
        if value is not None:
            (store / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            (store / path.lstrip("/")).write_text(value)
    programs = tmp_path / "programs"
    programs.mkdir()
    ring = f"{store}{VCHAN}/ring-ref"
    answer = f'[ "$2" != one ] || {{ mkdir -p "{store}{VCHAN}"; echo fresh > "{ring}"; }}' if answers else ":"
    for name, text in {
        "xenstore-list": f'ls "{store}$1"',
        "xenstore-read": f'cat "{store}$1"',
        "xenstore-exists": f'[ -e "{store}$1" ]',
        "xenstore-rm": f'rm -r "{store}$1"',
        "xenstore-write": answer,
        "xenstore-watch": "exec /bin/sleep 5",
        "sleep": ":",
        "proxy": f'echo "proxy $* $(cat "{ring}")"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    shell = shutil.which("dash") or "sh"
    done = subprocess.run(
        [shell, "-ec", words.replace(f"/{PROXY}", "proxy")],
        env={"PATH": f"{programs}:/usr/bin:/bin", "INVOCATION_ID": "one"}, capture_output=True, text=True, check=False,
        timeout=20,
    )  # fmt: skip
    assert (done.stdout.strip() or None) == runs and (done.returncode == 0) == (runs is not None)
