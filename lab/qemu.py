# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hardware of a lab host, and the QEMU that plays it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import programs
from errors import LabError

MINIMUM = (10, 0)
# MiB of a host unless another amount is asked for. From 2816 MiB on QEMU puts what is above 2048 MiB behind a hole for
# PCI, and dom0's kernel then moves as many pages, one by one, at each boot.
MEMORY = 2560
# XSAVE under emulation corrupts dom0's programs as soon as an HVM guest runs; this model has none. RDTSCP is not
# intercepted in a way that Xen's instruction length decoder understands: PVH guests crash on it.
EMULATED_CPU = "Opteron_G3,+svm,+npt,+rdrand,-rdtscp"
# A busy host's time passes with its instructions, one in 2 ns, and an idle one's with this machine's. So the seconds
# that programs give each other are enough on a machine of any speed: libxl waits 30 s for a stub domain, which takes
# six billion instructions, 12 s, to start.
CLOCK = "shift=1,sleep=on"


@dataclass(frozen=True)
class Machine:
    """The hardware that QEMU emulates. memory in MiB, accelerator `tcg` or `kvm`."""

    memory: int
    cpus: int
    accelerator: str

    def arguments(self) -> list[str]:
        """The options that must be the same when a state is saved and when it is restored."""
        accelerator = [*self.emulation(), "-cpu", EMULATED_CPU]
        if self.accelerator == "kvm":
            accelerator = ["-accel", "kvm", "-cpu", "host"]
        return [
            *("-nodefaults", "-M", "q35", *accelerator, "-smp", str(self.cpus), "-m", str(self.memory)),
            *("-display", "none", "-vga", "none", "-rtc", "base=utc"),
        ]

    def emulation(self) -> list[str]:
        """How processors are emulated.

        One thread runs them all: with a thread for each, guests die in triple faults now and then.
        """
        return ["-accel", "tcg,thread=single", "-icount", CLOCK]


def command_line(machine: Machine, *, disk: str, port: int, state: str | None = None) -> list[str]:
    """QEMU's command line without the program. Files are relative to the host's directory.

    port is the one of this machine's loopback that leads to the host's ssh server; 0 lets the kernel choose a free one.
    """
    return [
        *machine.arguments(),
        *("-drive", f"file={disk},if=none,id=disk0,format=qcow2,cache=unsafe,discard=unmap"),
        *("-device", "virtio-blk-pci,drive=disk0"),
        # Else the first address that QEMU offers by DHCP is dom0's, and a guest that boots from the network takes it.
        *("-netdev", f"user,id=net0,dhcpstart=10.0.2.100,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:22"),
        *("-device", "e1000,netdev=net0,romfile="),
        *("-chardev", "file,id=serial0,path=serial.log,append=on", "-serial", "chardev:serial0"),
        *("-qmp", "unix:qmp.sock,server=on,wait=off"),
        *(("-loadvm", state) if state else ()),
    ]


def version() -> tuple[int, int]:
    """The version of the QEMU that would run the hosts; one that is too old is an error."""
    match = re.search(r"version (\d+)\.(\d+)", programs.run("qemu-system-x86_64", "--version"))
    found = (int(match[1]), int(match[2])) if match else (0, 0)
    if found < MINIMUM:
        raise LabError(
            f"QEMU {found[0]}.{found[1]} is too old: under its emulation the programs of a Xen host crash.",
            f"Install the package qemu-system-x86 {MINIMUM[0]} or newer (Debian 13, or backports of 12).",
        )
    return found
