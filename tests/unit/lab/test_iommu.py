# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import iommu
import qemu
from qemu import Machine


def test_the_iommu_is_there_before_any_device_that_is_behind_it() -> None:
    machine = iommu.IommuMachine(2560, 1, "tcg")
    words = qemu.command_line(machine, disk="disk.qcow2", port=0)
    assert words[: len(machine.arguments())] == machine.arguments()
    own = Machine(2560, 1, "tcg").arguments()
    assert [word.replace(",tb-size=64", "") for word in machine.arguments()[: len(own)]] == own
    devices = [word.partition(",")[0] for before, word in zip(words, words[1:]) if before == "-device"]
    assert devices == ["intel-iommu", "nvme", "virtio-blk-pci", "e1000"]


def test_code_that_ran_before_xen_is_forgotten() -> None:
    words = iommu.IommuMachine(2560, 1, "tcg").arguments()
    assert ("-accel", "tcg,thread=single,tb-size=64", "-icount") in zip(words, words[1:], words[2:])
    assert not any("tb-size" in word for word in iommu.IommuMachine(2560, 1, "kvm").arguments())


def test_each_host_has_an_empty_disk_to_give_away(tmp_path: Path) -> None:
    iommu.prepare(tmp_path / "host")
    (tmp_path / "host" / iommu.DISK).write_bytes(b"of the host before")
    iommu.prepare(tmp_path / "host")
    status = (tmp_path / "host" / iommu.DISK).stat()
    assert (status.st_size, status.st_blocks) == (iommu.DISK_MIB << 20, 0)
    (tmp_path / "host" / "serial.log").touch()
    iommu.remove(tmp_path / "host")
    assert [path.name for path in (tmp_path / "host").iterdir()] == ["serial.log"]
