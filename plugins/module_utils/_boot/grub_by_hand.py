# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: edits a menu of GRUB 2 that is kept by hand. Generating one would replace it.

from __future__ import annotations

import os
from typing import Iterator, List, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line, grub_menu
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import HYPERVISOR
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

BOOT_COMMANDS = ("multiboot", "multiboot2", "xen_hypervisor")


def edit(path: str, text: str, name: str, option: Optional[str]) -> str:
    """Return the menu with *option* as the only one called *name* in every command that starts a hypervisor.

    :raises UserError: there is no such command, or its options are not plain words.
    """
    changes: List[command_line.Edit] = []
    found = list(_places(text))
    if not found and option is not None:
        raise UserError(
            f"{path} was not written by grub-mkconfig, and has no entry that starts Xen.",
            "Add an entry with a line such as multiboot2 /boot/xen.gz, then run again.",
        )
    for start, end in found:
        given = text[start:end]
        if any(mark in given for mark in "'\"\\") and command_line.find(given, name):
            line = text.count("\n", 0, start) + 1
            raise UserError(
                f"{path} line {line}: the options of the hypervisor are quoted, which is not edited.",
                "Write them there without quotes, or change the value by hand.",
            )
        edits = command_line.edits(given, name, option)
        changes += [(start + first, start + last, new) for first, last, new in edits]
    return command_line.apply_edits(text, changes)


def _places(text: str) -> Iterator[Tuple[int, int]]:
    """Return where the options of each command that starts a hypervisor are: behind its file, up to the last word."""
    words = list(grub_menu.words(text))
    for at, word in enumerate(words):
        if not word.first or word.brace or text[word.start : word.end] not in BOOT_COMMANDS or at + 1 >= len(words):
            continue
        file = words[at + 1]
        if file.first or file.brace or not HYPERVISOR.match(os.path.basename(file.text)):
            continue
        last = file
        for following in words[at + 2 :]:
            if following.first or following.brace:
                break
            last = following
        yield file.end, last.end
