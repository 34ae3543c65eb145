# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What bin/bench makes of its measurements, and the Xen that it plays. bin/test bench runs it as a whole."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import _bench
import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._xen import toolstack

CONFIGURATION = """\
name = "{name}"
uuid = "74d0eec1-fe6e-402b-84b5-077b0f288fe4"
type = "{kind}"
memory = 128
vif = [ "mac=00:16:3e:00:00:01,bridge=xenbr0" ]
"""


def way(name: str, *seconds: float, modules: int | None = None) -> _bench.Way:
    steady = [_bench.Measure(each, modules, each / 2, 100) for each in seconds]
    return _bench.Way(name, None, [], {}, [], _bench.Measure(9.0, modules, 1, 1), steady)  # type: ignore[arg-type]


def test_the_table_has_medians_and_ratios() -> None:
    found = {
        1: [way("role", 1.0, 9.0, 2.0, modules=3), way("plain", 4.0, modules=5)],
        50: [way("role", 3.0, modules=3), way("pyinfra", 1.5)],
    }
    assert _bench.table(found).splitlines() == [
        "guests      way  first s  steady s  modules  CPU s  MiB  ÷ role",
        "     1     role      9.0      2.00        3   1.00  100    1.00",
        "     1    plain      9.0      4.00        5   2.00  100    2.00",
        "    50     role      9.0      3.00        3   1.50  100    1.00",
        "    50  pyinfra      9.0      1.50        -   0.75  100    0.50",
        "role: 50 guests take 1.50 times what 1 take",
    ]


def test_each_guest_is_the_same_for_all_ways() -> None:
    listed = _bench.guest_list(300)
    for role, plain in zip(listed["pvgrub_guest_guests"], listed["guests"]):  # type: ignore[call-overload]
        assert (role["name"], role["disks"][0]["target"], role["nics"][0]["mac"]) == (
            plain["name"], plain["disk"], plain["mac"],
        )  # fmt: skip
    macs = {guest["mac"] for guest in listed["guests"]}  # type: ignore[attr-defined]
    assert len(macs) == 300


@pytest.fixture
def xen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("played_xen", _bench.BENCH / "played_xen.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "STATE", tmp_path / "state.json")
    monkeypatch.setattr(module, "TERMINAL", tmp_path / "terminal")
    (tmp_path / "terminal").write_text("/dev/pts/0")
    return module


def test_the_played_xen_says_what_the_toolstack_reads(
    xen: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(arguments: list[str], **_options: Any) -> tuple[int, str, str]:
        status = xen.main(arguments[0], arguments[1:])
        said = capsys.readouterr()
        return status, said.out, said.err

    host = toolstack.Xen(run)
    assert host.version() == (4, 20) and host.free_memory_mib() > 100000
    text = CONFIGURATION.format(name="web", kind="pv")
    assert host.dry_run(text.encode()) == [] and host.domid("web") is None
    (tmp_path / "web.cfg").write_text(text)
    assert host.xl("create", "-p", str(tmp_path / "web.cfg"))[0] == 0
    assert host.domains()[1:] == [toolstack.Domain(1, "web", 128, 1, "p")]
    host.xl("unpause", "1")
    assert host.domains()[1].state == "b"
    assert host.xl("create", str(tmp_path / "web.cfg"))[0] == 1
    assert host.read("/libxl/1/type") == "pv" and host.read("/none") is None
    host.write("/a", "b")
    assert host.nodes()["/a"] == "b"
    host.remove("/a")
    assert "/a" not in host.nodes()
    (tmp_path / "files.cfg").write_text(
        CONFIGURATION.format(name="files", kind="hvm") + "device_model_stubdomain_override = 1\n"
    )
    host.xl("create", str(tmp_path / "files.cfg"))
    assert [domain.name for domain in host.domains()] == ["Domain-0", "web", "files", "files-dm"]
    host.xl("destroy", "web")
    assert host.domid("web") is None and host.read("/libxl/1/type") is None
    assert host.xl("console", "files")[0] == 1
