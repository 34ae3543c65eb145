# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: an error that the user of a module can do something about.

from __future__ import annotations

import errno
import os
from types import MappingProxyType
from typing import Any, Mapping, Optional

# A longer sentence, which has a value in it that somebody did not mean, is cut in its middle.
_LONGEST = 4000


def printable(text: str) -> str:
    """Return *text* as one line: what does not print is shown by its escape, and what is very long is cut."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def needs_root(error: Optional[OSError] = None) -> Optional[str]:
    """Return the remedy where something failed only because this is not root; None where that is not why.

    :param error: what failed; None if it is known only that it failed.
    """
    if os.geteuid() == 0 or (error is not None and error.errno not in (errno.EACCES, errno.EPERM)):
        return None
    return f"This ran as the user with the number {os.geteuid()}, and needs root: set become to true for the task."


class UserError(Exception):
    """Something that was asked for cannot be done.

    :param what: what is wrong, with the offending value; one sentence.
    :param remedy: what the operator can do about it, with the name of the parameter; one sentence.
    :param details: return values of the module that are known all the same.
    """

    def __init__(self, what: str, remedy: str, details: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__(what, remedy)
        self.what = printable(what)
        self.remedy = printable(remedy)
        self.details = details

    def __str__(self) -> str:
        return f"{self.what}\n{self.remedy}"


class Several(UserError):
    """Errors of several things that were asked for at once.

    :param what: how many of how many, and what became of the others; one sentence.
    :param each: the errors, by the name of what each is about.
    """

    def __init__(
        self, what: str, each: Mapping[str, UserError], details: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        self.each = each
        only = next(iter(each.values()))
        remedy = only.remedy if len(each) == 1 else "Correct each of them."
        super().__init__(f"{what} {only.what}" if len(each) == 1 else what, remedy, details)

    def __str__(self) -> str:
        if len(self.each) == 1:
            return super().__str__()
        lines = (f"{printable(name)}: {error.what} {error.remedy}" for name, error in self.each.items())
        return "\n".join([self.what, *lines])
