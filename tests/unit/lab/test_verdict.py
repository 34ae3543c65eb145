# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
import verdict

TRIPLE = "(XEN) d7v0 Triple fault - invoking HVM shutdown action 1"
TIMED = "(XEN) [   61.204511] d12v1 Triple fault - invoking HVM shutdown action 1"
LENGTH = "(XEN) SVM Insn len emulation failed (1): d5v0 64bit @ 0010:ffffffff81a3c5d1 -> 0f 01 f9"
BANNER = "(XEN) Xen version 4.20.5-pre (Debian 4.20.5) (pkg-xen-devel@lists.debian.org) (x86_64-linux-gnu-gcc)"


@pytest.mark.parametrize(
    ("log", "killed"),
    [
        pytest.param(TRIPLE, [7], id="triple fault"),
        pytest.param(TIMED, [12], id="with the time before it"),
        pytest.param(LENGTH, [5], id="an instruction's length"),
        pytest.param(f"{TRIPLE}\r\n{TRIPLE}\r\n{LENGTH}\r\n", [7, 5], id="each domain once"),
        pytest.param(f"{TRIPLE}\n{BANNER}\n{LENGTH}", [5], id="none of an earlier hypervisor"),
        pytest.param("", [], id="nothing"),
        pytest.param("d7v0 Triple fault - said by the guest", [], id="a guest's own words"),
        pytest.param("(d7) (XEN) d7v0 Triple fault - ", [], id="a guest's words in the hypervisor's log"),
        pytest.param("(XEN) Domain 7 (vcpu#0) crashed on cpu#0:", [], id="a crash that may be the guest's own"),
    ],
)
def test_who_was_killed_by_the_emulation(log: str, killed: list[int]) -> None:
    assert [death.domid for death in verdict.deaths(log)] == killed


def test_the_line_is_kept_as_the_proof() -> None:
    assert next(verdict.deaths(TRIPLE + "\r\n")).line == TRIPLE


def test_a_guest_that_was_started_again_has_another_number() -> None:
    log = "Waiting for domain a (domid 3) to die [pid 911]\nDone. Exiting now\nWaiting for domain a (domid 9) to die\n"
    assert verdict.domain_numbers(log) == [3, 9]
