# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable

import files
import pytest
import qemu
from errors import LabError


def test_qemu_listens_on_loopback_only_and_chooses_its_port() -> None:
    words = qemu.command_line(qemu.Machine(4096, 1, "tcg"), disk="disk.qcow2", port=0)
    network = next(word for word in words if "hostfwd" in word)
    assert network == "user,id=net0,dhcpstart=10.0.2.100,hostfwd=tcp:127.0.0.1:0-10.0.2.15:22"
    assert not {"-no-reboot", "-loadvm"} & set(words)


def test_emulated_cpus_share_one_thread_and_count_time_by_instructions() -> None:
    for cpus in (1, 2):
        words = qemu.Machine(4096, cpus, "tcg").arguments()
        assert "tcg,thread=single" in words
        assert ("-icount", "shift=1,sleep=on") in zip(words, words[1:])
    assert "-icount" not in qemu.Machine(4096, 1, "kvm").arguments()


def test_a_state_of_other_hardware_is_another_state() -> None:
    keys = {
        files.key_of(qemu.Machine(*settings).arguments())
        for settings in ((4096, 1, "tcg"), (4096, 2, "tcg"), (2048, 1, "tcg"), (4096, 1, "kvm"))
    }
    assert len(keys) == 4


def test_too_old_a_qemu_is_refused(fake_qemu: Callable[[str], None]) -> None:
    fake_qemu("echo QEMU emulator version 7.2.1")
    with pytest.raises(LabError, match=r"QEMU 7\.2 is too old"):
        qemu.version()
