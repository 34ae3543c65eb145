#!/usr/bin/env python3
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays lab/efi.yml on a Xen host that UEFI firmware starts through xen.efi and its xen.cfg, without any GRUB.

efi.py [--release trixie] [--memory 2048]

The host is a lab host's disk with an EFI system partition beside it, on which lie the hypervisor, the kernel and the
initrd that the disk has in /boot. It is gone afterwards; the exit status is that of the playbook.
Needs the Debian packages ovmf, dosfstools and mtools beside those of the lab.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from image import Image, LabError, Progress, base_directory, ensure
from machine import (
    Machine,
    Starting,
    connect,
    forwarded_port,
    qemu_arguments,
    qemu_version,
    scratch,
    ssh_options,
    wait_for_ssh,
)

FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
SETTINGS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
# The first partition of a lab host's disk.
FIRST_PARTITION = 1024 * 1024
# The firmware and the hypervisor write much and slowly to an emulated serial port.
BOOT_TIMEOUT = 1800
PARTITION_MIB = 128
# What is taken from /boot, under the name that it gets on the partition.
FILES = {"xen.efi": r"xen-[0-9.]+-amd64\.efi", "vmlinuz": r"vmlinuz-.*", "initrd.img": r"initrd\.img-.*"}

# The firmware's own shell runs this; there is no boot entry in its settings.
STARTUP = "fs0:\r\ncd \\EFI\\xen\r\nxen.efi\r\n"
XEN_CFG = """[global]
default=debian

[debian]
options=com1=115200,8n1 console=com1 loglvl=all
kernel=vmlinuz root=UUID={uuid} ro console=hvc0 net.ifnames=0 quiet
ramdisk=initrd.img
"""


def program(*words: str | Path) -> str:
    """Runs a program of this machine and returns what it says."""
    try:
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise LabError(
            f"The program {words[0]} is not installed.", "Install the Debian packages e2fsprogs, dosfstools and mtools."
        ) from error
    except subprocess.CalledProcessError as error:
        raise LabError(f"{words[0]} failed: {error.stderr.strip()}.", "See that there is room on the disk.") from error
    return done.stdout


def make_partition(image: Image, directory: Path) -> Path:
    """An EFI system partition with what the disk has in /boot."""
    disk = f"{image.disk}?offset={FIRST_PARTITION}"
    listed = [line.split("/")[5] for line in program("debugfs", "-R", "ls -p /boot", disk).splitlines() if "/" in line]
    uuid = re.search(r"Filesystem UUID:\s+(\S+)", program("debugfs", "-R", "show_super_stats -h", disk))
    for name, pattern in FILES.items():
        found = next((entry for entry in listed if re.fullmatch(pattern, entry)), None)
        if found is None or uuid is None:
            raise LabError(f"The disk has no {pattern} in /boot.", "Remove the image from the cache and build it anew.")
        program("debugfs", "-R", f"dump /boot/{found} {directory / name}", disk)
    (directory / "xen.cfg").write_text(XEN_CFG.format(uuid=uuid[1] if uuid else ""))
    (directory / "startup.nsh").write_text(STARTUP)
    partition = directory / "esp.raw"
    with partition.open("wb") as stream:
        stream.truncate(PARTITION_MIB << 20)
    program("mkfs.fat", "-F", "32", "-n", "ESP", partition)
    program("mmd", "-i", partition, "::EFI", "::EFI/xen")
    program("mcopy", "-i", partition, *(directory / name for name in (*FILES, "xen.cfg")), "::EFI/xen/")
    program("mcopy", "-i", partition, directory / "startup.nsh", "::")
    return partition


def play(image: Image, directory: Path, machine: Machine, progress: Progress) -> int:
    """Starts the host, plays the playbook on it and ends it."""
    for path in (FIRMWARE, SETTINGS):
        if not path.exists():
            raise LabError(f"There is no {path}.", "Install the Debian package ovmf.")
    partition = make_partition(image, directory)
    (directory / "settings.fd").write_bytes(SETTINGS.read_bytes())
    disk = directory / "disk.qcow2"
    program("qemu-img", "create", "-q", "-f", "qcow2", "-b", image.disk, "-F", "raw", disk)
    arguments = [
        *qemu_arguments(machine, disk=disk.name, port=0),
        *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={FIRMWARE}"),
        *("-drive", "if=pflash,format=raw,unit=1,file=settings.fd"),
        *("-drive", f"file={partition.name},if=none,id=esp,format=raw,cache=unsafe"),
        *("-device", "virtio-blk-pci,drive=esp,bootindex=1"),
    ]
    with Starting(directory, arguments, None):
        with connect(directory) as monitor:
            port = forwarded_port(monitor.words("info usernet"))
        with progress.step(f"starting Debian {image.release} through xen.efi", f"efi {image.release}"):
            wait_for_ssh(directory, image.ssh_key, port, BOOT_TIMEOUT)
        hosts = {
            "efi": {
                "ansible_host": "127.0.0.1",
                "ansible_port": port,
                "ansible_user": "root",
                "ansible_python_interpreter": "/usr/bin/python3",
                "ansible_ssh_common_args": " ".join(ssh_options(directory, image.ssh_key)),
            }
        }
        inventory = directory / "hosts.json"
        inventory.write_text(json.dumps({"xen_hosts": {"hosts": hosts}}))
        playbook = Path(__file__).with_name("efi.yml")
        return subprocess.run(["ansible-playbook", "-i", inventory, playbook], check=False).returncode


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", default="trixie", choices=["bookworm", "trixie"])
    parser.add_argument("--memory", type=int, default=2048, help="of the host in MiB (default: %(default)s)")
    asked = parser.parse_args(words)
    try:
        qemu_version()
        progress = Progress(base_directory() / "lab" / "durations.json")
        image = ensure(asked.release, progress)
        with scratch(base_directory() / f"efi-{os.getpid()}") as directory:
            return play(image, directory, Machine(asked.memory, 1, "tcg"), progress)
    except LabError as error:
        print(f"efi.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
