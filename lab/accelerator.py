# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether hosts can run with KVM on this machine, or have to be emulated."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import files
import qemu
import states
import watcher
from image import Image
from progress import Progress


def choose(image: Image, progress: Progress) -> str:
    """`kvm` where Xen was seen to boot under it, else `tcg`. The answer is remembered with the image."""
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        reason = "/dev/kvm cannot be used"
    elif not {"svm", "vmx"} & set(flags[1].split() if flags else ()):
        reason = "this machine's processor offers no hardware virtualisation to guests of KVM"
    else:
        asked = files.key_of([os.uname().release, qemu.version(), flags[1] if flags else ""])
        record = image.directory / f"kvm-{asked}"
        if not record.exists():
            with progress.step("trying whether Xen boots under KVM", "kvm probe"):
                files.write(record, b"kvm" if _boots_under_kvm(image) else b"tcg")
        if record.read_bytes() == b"kvm":
            progress.say("runs with KVM")
            return "kvm"
        reason = "Xen did not boot under KVM here"
    progress.say(f"runs emulated: {reason}")
    return "tcg"


def _boots_under_kvm(image: Image, timeout: float = 60) -> bool:
    with states.scratch(image.directory / "kvm-probe.tmp") as directory:
        states.overlay(image, directory / "disk.qcow2")
        machine = qemu.Machine(memory=2048, cpus=1, accelerator="kvm")
        with watcher.Starting(directory, qemu.command_line(machine, disk="disk.qcow2", port=0), None):
            end = time.monotonic() + timeout
            while time.monotonic() < end and watcher.is_running(directory):
                log = directory / "serial.log"
                # The banner alone comes before Xen has run any guest code; dom0's first messages come after.
                text = log.read_bytes() if log.exists() else b""
                if b"(XEN) Xen version" in text and b"Linux version" in text and b"HVM: " in text:
                    return True
                time.sleep(0.3)
    return False
