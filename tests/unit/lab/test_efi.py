# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import efi
import pytest
from errors import LabError
from image import Image
from qemu import Machine


def test_hardware_with_firmware_is_other_hardware() -> None:
    plain, other = Machine(2048, 1, "kvm").arguments(), efi.EfiMachine(2048, 1, "kvm").arguments()
    assert other[: len(plain)] == plain
    assert [word for word in other if "bootindex" in word] == ["virtio-blk-pci,drive=esp,bootindex=1"]


def test_the_firmware_goes_by_the_clock() -> None:
    for cpus, threads in ((1, "multi"), (2, "single")):
        words = efi.EfiMachine(2048, cpus, "tcg").arguments()
        assert f"tcg,thread={threads}" in words
        assert "-icount" not in words


def test_a_machine_without_the_firmware_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efi, "FIRMWARE", tmp_path / "missing.fd")
    with pytest.raises(LabError, match="Install the Debian package ovmf"):
        efi.prepare(Image("trixie", tmp_path), tmp_path / "host")
    assert not (tmp_path / "host").exists()


def test_nothing_of_it_stays(tmp_path: Path) -> None:
    for name in (efi.OWN_SETTINGS, efi.PARTITION, "serial.log"):
        (tmp_path / name).touch()
    efi.remove(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["serial.log"]
