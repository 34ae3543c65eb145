# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What the attributes mean; every module says for itself how far it has them."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
  diff_mode:
    description: Shows what has changed, or would change in C(check_mode), when in diff mode.
  idempotent:
    description: When run twice in a row with the same parameters, the second run changes nothing.
  platform:
    description: Target operating systems that the module can run on.
"""
