# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab host with an IOMMU, and with a device for a guest: an NVMe disk, of which QEMU saves no state."""

from __future__ import annotations

from pathlib import Path

from qemu import Machine

# In the host's directory.
DISK = "nvme.raw"
DISK_MIB = 128
# MiB of code that QEMU has translated, after which it forgets all of it. It looks at each write to a page with such
# code (notdirty_write, accel/tcg/cputlb.c). With QEMU's own 1024 MiB such a host was busy with what Xen pushes on its
# stack, which is then at the top of low memory, most likely where something ran before Xen; with 16 MiB it was busy
# with translating.
CODE_MIB = 64


class IommuMachine(Machine):
    """Hardware with an IOMMU, and the NVMe disk at 0000:00:10.0.

    The IOMMU is of Intel's kind and the processor of AMD's. Xen has both kinds of IOMMU, but where it takes the page
    tables of a guest for the IOMMU as well (iommu=sharept), they are of the processor's kind.
    """

    def emulation(self) -> list[str]:
        name, accelerator, *rest = super().emulation()
        return [name, f"{accelerator},tb-size={CODE_MIB}", *rest]

    def arguments(self) -> list[str]:
        return [
            *super().arguments(),
            *("-device", "intel-iommu,intremap=on,caching-mode=on"),
            *("-drive", f"file={DISK},if=none,id=nvme,format=raw,cache=unsafe"),
            *("-device", "nvme,drive=nvme,serial=lab,addr=0x10"),
        ]


def prepare(directory: Path) -> None:
    """Makes an empty disk in the directory of a host that is not running."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / DISK).open("wb") as disk:
        disk.truncate(DISK_MIB << 20)


def remove(directory: Path) -> None:
    """Takes it away again."""
    (directory / DISK).unlink(missing_ok=True)
