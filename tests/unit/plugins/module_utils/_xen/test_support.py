# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a release of Xen is supported."""

from __future__ import annotations

from typing import Optional

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._xen import support


@pytest.mark.parametrize(
    ("minor", "until", "ended_before"),
    [
        (2, None, "2026-08-01"),
        (16, None, "2026-08-01"),
        (17, "2027-12-12", None),
        (18, "2028-11-16", None),
        (19, "2029-07-29", None),
        (20, "2030-03-05", None),
        (21, "2030-11-19", None),
        (22, "2031-07-30", None),
        # Newer than the table.
        (23, None, None),
    ],
)
def test_the_last_day_of_a_release(minor: int, until: Optional[str], ended_before: Optional[str]) -> None:
    found = support.window((4, minor))
    assert (found["until"], found["ended_before"]) == (until, ended_before)
    assert found["source"].startswith("SUPPORT.md of Xen")


def test_a_release_that_is_not_known_has_no_window() -> None:
    assert support.window((None, 20)) == {"until": None, "ended_before": None, "source": None}
