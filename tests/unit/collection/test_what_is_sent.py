# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible sends of this collection for each task: a module, and all that it imports."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from test_words import REPOSITORY, reached

MODULES = sorted(path.stem for path in REPOSITORY.glob("plugins/modules/*.py") if path.stem != "__init__")

# The most that the files of this collection may take in what is sent, in bytes as they are compressed there. Ansible's
# own part comes on top. Who needs more should first look whether an import is for one small thing in a large room.
# That a program of a host's own writes the same lines to the journal, and which package manager a host has, took 500 of
# each.
MOST = {
    # Every boot loader; that some of them may wait for somebody took 400, all places in which syslinux has options 600,
    # and 400 that how a line is changed is a room of its own, which saves guests and guests_info 1,300. That a xenstore
    # which does not answer is no empty one took 100 of all that look at it.
    "dom0_mem": 135_500,
    # The whole life of a guest in one execution: what is changed and waited for while it runs took 8,000, the menus
    # that are written for guests 3,000, reading what others have written, so that nothing of it is lost, 12,000, and
    # looking at disks before a start 7,000, most of it taken from what was sent without a use. What starts leave that
    # fail or are killed, guests that are paused, and records of saved ones took 2,000, of which 1,300 were saved.
    # Screens, the most of it the text of units of systemd, took 4,500, that a stub domain may be saved 100. Those that
    # a killed start leaves, and shares of processors that are refused when a domain is built already, took 700,
    # network interfaces whose boot ROM the image of a stub domain has not 300, media that a stub domain changes, and
    # who serves its drives, 900. Whether Xen starts a kernel of the user's own for a stub domain, and that one is told
    # of PCI devices, took 2,900; that a guest is not started which was moved to another host, 1,100, that its stub
    # domain may end as it is let go, and keyboards that an image does not know, 500; what guests that have rebooted
    # by themselves run with, 900; PCI devices without an IOMMU, 100; stub domains that have ended, 100; and
    # a shell in them, and the memory that their disks take, 400. A kernel of dom0 on a CD took 6,500, and records
    # that are damaged, and drives that old releases serve otherwise, 400.
    "guests": 179_800,
    # Of that, 600; of the last but one, 500; of the last three, 2,200.
    "guests_info": 136_500,
    # The library that takes the place of one which is never used: 3,500; what saves and restores a guest, 1,100; what
    # renews the image without a run of Ansible, 7,300; what changes media, 500. A kernel that is chosen, and whether
    # one has what the stub domain needs, read from four kinds of evidence: 6,900; why its start leaves out what it
    # does, 700; PCI devices, 800; QEMU that was killed for want of memory, 100; a shell for whoever examines a
    # stub domain, and disks without buffers, 500.
    "linux_stubdom": 88_900,
    # What releases up to 4.16 need where compilers are new and wget and as86 missing took 450, and that the log of a
    # failed stage is shown by lines 100. What mends PV-GRUB, in trees where it was built before as well, took 850.
    "stubdom_build": 101_300,
    "stubdom_install": 51_000,
    "stubdom_source": 53_000,
    # Every boot loader, and the configurations of guests whoever wrote them; screens on sockets of dom0
    # took 400, whether images are what was installed and hosts come back by themselves 1,300; what
    # shares of processors there are 100, media that a stub domain changes 100, the lock of a guest 100, what
    # guests that have rebooted by themselves run with, 800, stub domains that have ended, 200, and
    # the word for a shell in one, 200.
    "xen_info": 159_400,
    "xl_conf": 25_000,
}
MOST_OF_OTHERS = 133_000

# Rooms that only some modules have a use for.
ONLY_FOR = {
    "_images/releases": {"stubdom_build", "stubdom_source"},
    "_boot/option_table": {"boot_default", "boot_option", "boot_trial", "dom0_mem"},
    "_xen/xl_keys": {name for name in MODULES if name.startswith("guest")},
}


def sent(module: str) -> dict[str, int]:
    """The files of ours that go with a module, and what each takes when it is compressed."""
    files = reached(REPOSITORY / "plugins" / "modules" / f"{module}.py")
    return {str(path.relative_to(REPOSITORY / "plugins")): compressed(path) for path in files}


def compressed(path: Path) -> int:
    packer = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -15)
    return len(packer.compress(path.read_bytes()) + packer.flush())


@pytest.mark.parametrize("module", MODULES)
def test_what_is_sent_with_a_module_is_small(module: str) -> None:
    files = sent(module)
    total, most = sum(files.values()), MOST.get(module, MOST_OF_OTHERS)
    large = sorted(files.items(), key=lambda item: -item[1])
    assert total <= most, f"{total} bytes, {most} at the most: {large}"
    # A figure that nothing comes near to holds nothing.
    assert module not in MOST or total > 0.85 * most


@pytest.mark.parametrize("room", sorted(ONLY_FOR))
def test_a_room_is_sent_only_with_those_that_need_it(room: str) -> None:
    assert {module for module in MODULES if f"module_utils/{room}.py" in sent(module)} <= ONLY_FOR[room]


def test_every_figure_is_for_a_module() -> None:
    assert set(MOST) <= set(MODULES)
