# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every scenario in molecule/ as a test: pytest tests/integration -k xen_lab

pytest-ansible finds the scenarios and runs `molecule test` for each. Plain pytest does not collect this directory.
"""

from __future__ import annotations

import os
from typing import Any

import pytest


def test_scenario(molecule_scenario: Any) -> None:
    if not molecule_scenario.name.startswith("xen_") and os.geteuid() != 0:
        pytest.skip("chroot(2) is for root alone")
    assert molecule_scenario.test().returncode == 0
