# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: how it says no.

from __future__ import annotations


class Refusal(Exception):
    """Something that was asked for cannot be done, and nothing was changed.

    :param what: what is wrong, with the offending value; one sentence.
    :param remedy: what the operator can do about it; one sentence.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}\n{self.remedy}"
