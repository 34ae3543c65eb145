# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
import states
from errors import LabError


@pytest.mark.parametrize("name", ["", "booted", "two words", "1", "a;quit"])
def test_states_that_cannot_be_named_so(name: str) -> None:
    with pytest.raises(LabError, match="cannot be the name of a saved state"):
        states.check_name(name)
