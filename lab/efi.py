# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab host that UEFI firmware starts through xen.efi and its configuration, without any GRUB.

It is any lab host's disk with an EFI system partition beside it, on which lie the hypervisor, the kernel and the initrd
that the disk has in /boot. The hypervisor has the name that firmware looks for where it has no boot entry, as on
machines that know no other.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from disk import PARTITION_START
from errors import LabError
from image import Image
from programs import run
from qemu import Machine

# What it needs beside the lab's own packages.
PACKAGES = ("dosfstools", "mtools", "ovmf")
FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
SETTINGS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
# In the host's directory.
OWN_SETTINGS = "settings.fd"
PARTITION = "esp.raw"
PARTITION_MIB = 128
# What is taken from /boot, under the name that it gets on the partition.
BOOT_FILES = {"BOOTX64.EFI": r"xen-[0-9.]+-amd64\.efi", "vmlinuz": r"vmlinuz-.*", "initrd.img": r"initrd\.img-.*"}
CONFIGURATION = "BOOTX64.cfg"
XEN_CFG = """\
# Read by the hypervisor, which lies beside it under the same name.
[global]
default=debian

[debian]
options=com1=115200,8n1 console=com1 loglvl=all guest_loglvl=all
kernel=vmlinuz root=UUID={uuid} ro console=hvc0 net.ifnames=0 lsm=capability cryptomgr.notests quiet
ramdisk=initrd.img
"""


class EfiMachine(Machine):
    """Hardware with UEFI firmware, which boots from the EFI system partition."""

    def arguments(self) -> list[str]:
        return [
            *super().arguments(),
            *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={FIRMWARE}"),
            *("-drive", f"if=pflash,format=raw,unit=1,file={OWN_SETTINGS}"),
            *("-drive", f"file={PARTITION},if=none,id=esp,format=raw,cache=unsafe"),
            *("-device", "virtio-blk-pci,drive=esp,bootindex=1"),
        ]

    def emulation(self) -> list[str]:
        """By the clock: the firmware waits in loops, for as many instructions as its seconds have.

        From power-on to ssh a host took 398 s with them counted, and 128 s without.
        """
        return ["-accel", f"tcg,thread={'multi' if self.cpus == 1 else 'single'}"]


def prepare(image: Image, directory: Path) -> None:
    """Makes the firmware's settings and the EFI system partition in the directory of a host that is not running."""
    for path in (FIRMWARE, SETTINGS):
        if not path.exists():
            raise LabError(f"There is no {path}, which starts a host through EFI.", "Install the Debian package ovmf.")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / OWN_SETTINGS).write_bytes(SETTINGS.read_bytes())
    with tempfile.TemporaryDirectory(dir=directory) as files:
        _make_partition(image, Path(files), directory / PARTITION)


def remove(directory: Path) -> None:
    """Takes them away again."""
    for name in (OWN_SETTINGS, PARTITION):
        (directory / name).unlink(missing_ok=True)


def _make_partition(image: Image, files: Path, partition: Path) -> None:
    disk = f"{image.disk}?offset={PARTITION_START}"
    # /inode/mode/user/group/name/size/
    listed = [line.split("/")[5] for line in run("debugfs", "-R", "ls -p /boot", disk).splitlines() if "/" in line]
    uuid = re.search(r"Filesystem UUID:\s+(\S+)", run("debugfs", "-R", "show_super_stats -h", disk))
    for name, pattern in BOOT_FILES.items():
        found = next((entry for entry in listed if re.fullmatch(pattern, entry)), None)
        if found is None or uuid is None:
            raise LabError(f"The disk has no {pattern} in /boot.", f"Remove {image.directory} to have it made again.")
        run("debugfs", "-R", f'dump "/boot/{found}" "{files / name}"', disk)
    (files / CONFIGURATION).write_text(XEN_CFG.format(uuid=uuid[1] if uuid else ""))
    partition.unlink(missing_ok=True)
    with partition.open("wb") as stream:
        stream.truncate(PARTITION_MIB << 20)
    run("mkfs.fat", "-F", "32", "-n", "ESP", partition)
    run("mmd", "-i", partition, "::EFI", "::EFI/BOOT")
    run("mcopy", "-i", partition, *(files / name for name in (*BOOT_FILES, CONFIGURATION)), "::EFI/BOOT/")
