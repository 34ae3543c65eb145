# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ten runs of a module that change one file at the same time: all of them succeed, and no change is lost."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import in_process
import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot import loaders, targets
from ansible_collections.xen.stubdom.plugins.module_utils._common import files

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


# What grub-mkconfig does, as far as two at once matter: it writes a file beside the menu, and copies it in parts.
UPDATE_GRUB = """\
#!/bin/sh
set -e
cd {root}/boot/grub
test ! -e grub.cfg.new || {{ echo 'grub.cfg.new file attached.' >&2; exit 1; }}
for file in {root}/etc/default/grub {root}/etc/default/grub.d/*.cfg; do
  test ! -e "$file" || . "$file"
done
cat > grub.cfg.new << END
### BEGIN /etc/grub.d/20_linux_xen ###
menuentry "Xen" {{
multiboot2 /boot/xen-4.17-amd64.gz placeholder $GRUB_CMDLINE_XEN $GRUB_CMDLINE_XEN_DEFAULT
}}
END
: > grub.cfg
sleep 0.1
cat grub.cfg.new >> grub.cfg
rm grub.cfg.new
"""


def test_ten_generations_of_the_menu(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("boot/grub", "bin", "usr/sbin"):
        (tree / name).mkdir(parents=True)
    (tree / "boot/xen-4.17-amd64.gz").touch()
    (tree / "usr/sbin/update-grub").touch()
    program = tree / "bin/update-grub"
    program.write_text(UPDATE_GRUB.format(root=tree))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(
        targets, "find", lambda name, run, root, foreign, running: loaders.find(name, run, root=str(tree))
    )
    monkeypatch.setattr(files, "LOCK_DIRECTORIES", (str(tree / "bin"),))
    each = [{"name": name, "value": "4" if name == "dom0_max_vcpus" else "x", "loader": "grub2"} for name in OPTIONS]
    results = together("boot_option", each)
    assert [result.get("msg") for result in results] == [None] * 10
    menu = (tree / "boot/grub/grub.cfg").read_text()
    for one in each:
        assert f"{one['name']}={one['value']}" in menu
    assert list((tree / "boot/grub").iterdir()) == [tree / "boot/grub/grub.cfg"]


def test_ten_guests(tmp_path: Path) -> None:
    for name in ("grub.bin", "disk.img", "fw/hvmloader"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    guest = {"type": "pv", "flavour": "grub2", "memory": 64, "kernel": str(tmp_path / "grub.bin"), "autostart": True}
    host = {"directory": str(tmp_path / "xen"), "firmware_directory": str(tmp_path / "fw")}
    each = [{"guests": [{**guest, "name": f"guest{number}"}], **host} for number in range(10)]
    results = together("guests", each)
    assert [result.get("msg") for result in results] == [None] * 10
    assert len(list((tmp_path / "xen").glob("*.cfg"))) == len(list((tmp_path / "xen/auto").iterdir())) == 10
    assert [result["changed"] for result in together("guests", each)] == [False] * 10
    # One guest in ten lists is written once.
    one = [{"guests": [{**guest, "name": "one"}], **host}] * 10
    results = together("guests", one)
    assert [result.get("msg") for result in results] == [None] * 10
    assert [result["changed"] for result in together("guests", one)] == [False] * 10


def test_ten_settings_of_xl_conf(tmp_path: Path) -> None:
    path = tmp_path / "xl.conf"
    path.touch()
    each = [{"path": str(path), "settings": {name: "off"}} for name in XL_CONF]
    results = together("xl_conf", each)
    assert [result.get("msg") for result in results] == [None] * 10
    assert len(path.read_text().splitlines()) == 10
    assert [result["changed"] for result in together("xl_conf", each)] == [False] * 10
