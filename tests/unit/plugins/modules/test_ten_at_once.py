# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ten runs of a module that change one file at the same time: all of them succeed, and no change is lost."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import in_process
import pytest

OPTIONS = [
    "loglvl",
    "guest_loglvl",
    "ucode",
    "smt",
    "iommu",
    "console",
    "dom0_max_vcpus",
    "sched",
    "noreboot",
    "watchdog",
]
XL_CONF = [
    "autoballoon", "claim_mode", "lockfile", "output_format", "vif.default.bridge", "vif.default.script",
    "vif.default.backend", "colo.default.proxyscript", "remus.default.netbufscript", "sched",
]  # fmt: skip


def together(module: str, each: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with multiprocessing.Manager() as manager:
        barrier = manager.Barrier(len(each))
        with ProcessPoolExecutor(len(each), mp_context=multiprocessing.get_context("fork")) as pool:
            return list(pool.map(_one, [barrier] * len(each), [module] * len(each), each))


def _one(barrier: Any, module: str, arguments: dict[str, Any]) -> dict[str, Any]:
    barrier.wait()
    return in_process.play(module, arguments)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    defaults = tmp_path / "etc" / "default"
    (defaults / "grub.d").mkdir(parents=True)
    (defaults / "grub").write_text("GRUB_TIMEOUT=5\n")
    return tmp_path


def test_ten_options_of_the_boot_line(tree: Path) -> None:
    each = [
        {"name": name, "value": "4" if name == "dom0_max_vcpus" else "x", "root": str(tree), "loader": "grub2"}
        for name in OPTIONS
    ]
    results = together("boot_option", each)
    assert [result.get("msg") for result in results] == [None] * 10
    assert all(result["changed"] for result in results)
    again = together("boot_option", each)
    assert [result["changed"] for result in again] == [False] * 10
    assert [result["configured"] for result in again] == [[f"{one['name']}={one['value']}"] for one in each]


def test_ten_settings_of_xl_conf(tmp_path: Path) -> None:
    path = tmp_path / "xl.conf"
    path.touch()
    each = [{"path": str(path), "settings": {name: "off"}} for name in XL_CONF]
    results = together("xl_conf", each)
    assert [result.get("msg") for result in results] == [None] * 10
    assert len(path.read_text().splitlines()) == 10
    assert [result["changed"] for result in together("xl_conf", each)] == [False] * 10
