# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `bin/bench stubdom` reads on the host, and makes of it. Only the command itself shows that it measures."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import _bench
import _bench_stubdom
import device_models
import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import init
from errors import LabError

XL_LIST = """\
Name                                        ID   Mem VCPUs\tState\tTime(s)
Domain-0                                     0  1024     1     r-----      71.5
linux                                        7    64     1     -b----       1.2
linux-dm                                     8    96     1     -b----       9.0
"""
LOG = """\
stub domain: 7.83 s: Linux runs
stub domain: 10.03 s: starting QEMU for domain 7: -xen-domid 7
stub domain: 15.10 s: QEMU runs; user 1000,capabilities 0000000000000000, 32000 of 90000 kB available
"""


def test_what_the_host_says_is_read() -> None:
    assert device_models.domains(XL_LIST)["linux-dm"] == (96, 9.0)
    found = device_models.stages(LOG)
    assert {name: round(seconds, 2) for name, seconds in found.items()} == {"kernel": 7.83, "init": 2.2, "qemu": 5.07}
    assert device_models.stages("qemu: started") == {}
    assert all(f'say "{said}' in init.INIT for _name, said in device_models.STAGES)


def test_memory_is_that_of_the_programs_that_are_asked_for(tmp_path: Path) -> None:
    for pid, words, kib in ((10, "qemu\0-xen-domid\x008\0-x", 2048), (11, "qemu\0-xen-domid\x0088\0-x", 1024)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cmdline").write_text(words)
        (tmp_path / str(pid) / "smaps_rollup").write_text(f"0-1 [rollup]\nRss:  9999 kB\nPss:  {kib} kB\n")
    (tmp_path / "12").mkdir()
    assert device_models.resident(re.compile("-xen-domid (7|8) "), tmp_path) == 2.0


def test_a_guest_is_heard_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_models, "PATIENCE", 10)
    ours, theirs = os.openpty()
    os.write(ours, b"SeaBIOS\nbench 0000\r\nbench 00")
    guest = device_models.Guest(os.ttyname(theirs))
    assert guest.number() == 0
    os.write(ours, b"01\r\n")
    assert guest.number() == 1
    monkeypatch.setattr(device_models, "PATIENCE", 0)
    with pytest.raises(TimeoutError, match="said nothing"):
        guest.number()


def test_the_table_has_medians_and_ratios() -> None:
    stub = {"kernel": 8.0, "init": 2.0, "qemu": 5.0, "word": 30.0, "domain_mib": 96, "dom0_mib": 20, "read": 4.0}
    lives = {
        "dom0": [{"running": each, "word": 9.0, "dom0_mib": 40, "read": 2.0, "read_dom0": 2.0} for each in (6, 99, 7)],
        "linux": [_bench_stubdom.whole({**stub, "running": 21.0, "read_dom0": 0.5, "read_stub": 1.5})],
    }
    assert _bench_stubdom.table(lives, 64).splitlines() == [
        "                                        dom0  linux  ÷ dom0",
        "xl create, until the guest runs, s       7.0   21.0    3.00",
        "  of it the stub domain's kernel           -    8.0       -",
        "  of it the stub domain's init             -    2.0       -",
        "  of it QEMU                               -    5.0       -",
        "  of it outside the stub domain            -    6.0       -",
        "until the guest's first word, s          9.0   30.0    3.33",
        "memory of the stub domain, MiB             -     96       -",
        "memory of programs in dom0, MiB           40     20    0.50",
        "image, MiB                                 -      -       -",
        "to read 64 MiB of the emulated disk, s   2.0    4.0    2.00",
        "  processor time of dom0, s              2.0    0.5    0.25",
        "  processor time of the stub domain, s     -    1.5       -",
    ]


@pytest.mark.parametrize(("deaths", "answers", "measured"), [([0, 1, 1], [1, 0], True), ([0, 0], [1], False)])
def test_only_a_guest_that_the_emulation_killed_is_started_again(
    monkeypatch: pytest.MonkeyPatch, deaths: list[int], answers: list[int], measured: bool
) -> None:
    def ask(_host: object, command: str, program: Path) -> subprocess.CompletedProcess[str]:
        assert program.is_file() and command == "python3 - dom0"
        return subprocess.CompletedProcess([], answers.pop(0), json.dumps({"running": 1.0}), "it failed")

    monkeypatch.setattr(_bench_stubdom, "ask", ask)
    monkeypatch.setattr(_bench_stubdom, "killed", lambda _host: deaths.pop(0))
    host = SimpleNamespace()
    if measured:
        assert _bench_stubdom.life(host, "dom0") == {"running": 1.0}  # type: ignore[arg-type]
    else:
        with pytest.raises(LabError, match="it failed"):
            _bench_stubdom.life(host, "dom0")  # type: ignore[arg-type]


def test_it_is_measured_by_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(_bench_stubdom, "measure", lambda *words: f"measured {words}")
    assert _bench.main(["stubdom", "--repeat", "2", "--read", "16"]) == 0
    assert capsys.readouterr().out == "measured ('trixie', 2, 16)\n"
