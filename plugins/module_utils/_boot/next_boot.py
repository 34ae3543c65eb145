# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what a boot loader starts when nobody chooses anything else.

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence


@dataclass(frozen=True)
class NextBoot:
    """What the next boot starts.

    :param options: the options that it passes to the hypervisor; None where it starts none, or that is not known.
    :param xen: whether it starts Xen; None where that is not known.
    :param reason: why there are no options, in one sentence; empty where there are.
    :param entries: the options of every entry that starts Xen, in their order.
    :param waits: why nothing of that starts until somebody presses a key, in one sentence; empty where it does.
    """

    options: Optional[str]
    xen: Optional[bool]
    reason: str = ""
    entries: Sequence[str] = ()
    waits: str = ""

    @property
    def line(self) -> Optional[str]:
        """The options that it passes or, where it starts no Xen, those of the first entry that would; None for none."""
        return self.options if self.options is not None else next(iter(self.entries), None)


WAITS = "{file} has no time limit, so {loader} waits at its menu until somebody chooses an entry: {remedy}"
NO_ENTRY = NextBoot(None, False, "The loader has no entry for Xen, so what the next boot passes is not known.")


def from_entries(chosen: Optional[str], entries: Sequence[str], *, title: str, file: str, remedy: str) -> NextBoot:
    """Return what boots from a menu whose default entry is known.

    :param chosen: the options of the default entry; None where it does not start Xen.
    :param entries: the options of all entries that start Xen.
    :param title: the default entry.
    :param remedy: how to make another entry the default one, in one sentence.
    """
    if chosen is not None:
        return NextBoot(chosen, True, entries=tuple(entries))
    if not entries:
        return NO_ENTRY
    return NextBoot(
        None,
        False,
        f"The default entry of {file} is '{title}', which does not start Xen: after a reboot this host would run "
        f"without it. {remedy}",
        tuple(entries),
    )
