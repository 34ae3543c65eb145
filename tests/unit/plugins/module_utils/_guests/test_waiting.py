# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import List

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._guests import waiting


def test_something_is_looked_at_now_and_then_and_not_again_when_it_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    now, answers, looks = [100], [False, False, True], list[int]()

    def look() -> bool:
        looks.append(now[0])
        return answers[len(looks) - 1]

    monkeypatch.setattr(waiting, "EVERY", 10)
    monkeypatch.setattr(waiting.time, "monotonic", lambda: now[0])
    looked = waiting._Looked(look)
    found: List[bool] = []
    for passed in (0, 1, 10, 1):
        now[0] += passed
        found.append(looked.found())
    # The last time, whenever that is.
    found += [looked.found(last=True), looked.found(last=True)]
    now[0] += 10
    found.append(looked.found())
    assert found == [False] * 4 + [True] * 3
    assert looks == [100, 111, 112]
