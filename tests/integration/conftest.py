# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all scenarios have in common when pytest plays them."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts end with this process even when it is killed."""
    monkeypatch.setenv("XEN_STUBDOM_OWNER", str(os.getpid()))
