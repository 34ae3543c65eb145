# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/distributions.md is drawn from the trees that the unit tests read."""

from __future__ import annotations

import boot_trees


def test_the_table_is_up_to_date() -> None:
    """If it is not: tests/tools/boot_trees.py --write."""
    page = boot_trees.PAGE.read_text()
    assert boot_trees.placed(page, boot_trees.draw(boot_trees.TREES)) == page
    assert page.count("\n| ") > 15
