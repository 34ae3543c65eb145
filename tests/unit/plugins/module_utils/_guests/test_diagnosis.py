# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known about the words of guests and of the toolstack."""

from __future__ import annotations

import re

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._guests import diagnosis

SHOWN = [
    ("error: not xen image.", "as PVH guest (type pvh) it starts"),
    ("grubdom> ", "PV-GRUB has found no menu"),
    ("grub> ", "no grub.cfg"),
    ("grub rescue> ", "no grub.cfg"),
    ("(initramfs) ", "root file system"),
    ("VFS: Unable to mount root fs on unknown-block(0,0)", "root file system"),
    ("[ 1.0] Kernel panic - not syncing: Attempted to kill init!", "kernel has stopped"),
    ("No bootable device.", "none of the guest's disks"),
    ("You are in emergency mode. After logging in", "file system or service"),
    ("(XEN) d3v0 Triple fault - invoking HVM shutdown action 1", "processor has failed"),
]

SAID = [
    ("failed to free memory for the domain", "not enough free memory"),
    ("libxl: error: x.c:1:y: script: Could not find bridge device nobr9", "the bridge nobr9 of a network"),
    (
        "xc: error: panic: xg_dom_core.c:689: xc_dom_find_loader: no loader found: Invalid kernel",
        "none that such a guest",
    ),
    (
        "libxl: error: libxl_dm.c:1:z: Domain 3:Stubdom 4 for 3 startup: startup timed out",
        "the stub domain was too slow",
    ),
    ("Domain 3:device model did not start: -9", "QEMU has not started"),
    ("libxl: error: x.c:1:y: domain 5 console tty: timed out", "xenconsoled in dom0"),
    ('libxl: error: Domain with name "web" already exists.', "another domain has its name"),
    ("script: ip link set vif3.0 up failed", "a script of /etc/xen/scripts"),
    ("Disk vdev=xvda failed to stat /dev/none: No such file or directory", "a file that it is made of"),
    ("libxl: error: libxl_create.c:1:v: cannot make domain: -3", "refuses to make such a domain"),
]


@pytest.mark.parametrize(("text", "meaning"), SHOWN)
def test_what_a_guest_shows_is_explained(text: str, meaning: str) -> None:
    assert meaning in diagnosis.shown(f"something\n{text}")


@pytest.mark.parametrize(("text", "meaning"), SAID)
def test_what_xl_says_is_explained(text: str, meaning: str) -> None:
    error = diagnosis.toolstack_error(f"Parsing config from /etc/xen/web.cfg\n{text}\n")
    assert meaning in error and error.endswith(".") and ".c:1" not in error and "Parsing" not in error


def test_every_row_has_an_example_and_what_is_not_known_is_not_explained() -> None:
    for rows, examples in ((diagnosis._SHOWN, SHOWN), (diagnosis._SAID, SAID)):
        for known, _meaning in rows:
            assert any(re.search(known, text) for text, _part in examples), known
    assert diagnosis.shown("web login:") == "" and diagnosis.toolstack_error("xl: no luck\n") == "no luck."
    assert diagnosis.toolstack_error("") == "no message."


def test_the_last_lines_are_shown_and_no_more() -> None:
    assert diagnosis.last("a\n\n" + "".join(f"line {number} {'x' * 300}\n" for number in range(9)))[-1] == "x" * 160
    assert len(diagnosis.last("a\n" * 99)) == 4 and diagnosis.last(" \n") == []
