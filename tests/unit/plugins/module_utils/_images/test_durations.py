# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

from ansible_collections.xen.stubdom.plugins.module_utils._images.durations import Durations


def test_an_estimate_needs_every_stage_of_the_same_release(tmp_path: Path) -> None:
    durations = Durations(str(tmp_path), "4.17")
    assert durations.estimate(["a"]) is None
    durations.record("a", 1.04)
    durations.record("b", 2.5)
    assert durations.estimate(["a", "b"]) == 3.5
    assert durations.estimate(["a", "c"]) is None
    assert Durations(str(tmp_path), "4.18").estimate(["a"]) is None
