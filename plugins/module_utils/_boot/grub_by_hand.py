# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: edits a menu of GRUB 2 that is kept by hand. Generating one would replace it.

from __future__ import annotations

import os
from typing import Iterator, List, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line, grub_menu, line_edits
from ansible_collections.xen.stubdom.plugins.module_utils._boot.command_line import HYPERVISOR, Recipient
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import HYPERVISOR as HYPERVISOR_FILE
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

BOOT_COMMANDS = ("multiboot", "multiboot2", "xen_hypervisor")
# The first of them in an entry loads dom0's kernel, the second its RAM disk (docs/misc/efi.pandoc and
# xen/arch/x86/setup.c @ stable-4.17: mod[0] is the kernel).
MODULE_COMMANDS = ("module", "module2", "xen_module")


def is_hypervisor(file: str) -> bool:
    """Whether a file that a menu loads is the hypervisor, going by its name."""
    return HYPERVISOR_FILE.match(os.path.basename(file)) is not None


def file(words: Sequence[str]) -> str:
    """Return what a command loads, which stands behind its own options; empty for nothing."""
    return next((word for word in words[1:] if not word.startswith("--")), "")


def arguments(words: Sequence[str]) -> List[str]:
    """Return what a command passes to the file that it loads; a word with a space in it gets quotes (lib/cmdline.c)."""
    at = 1
    while at < len(words) and words[at].startswith("--"):
        at += 1
    return [f'"{word}"' if " " in word else word for word in words[at + 1 :]]


def edit(
    path: str,
    text: str,
    name: str,
    option: Optional[str],
    recipient: Recipient = HYPERVISOR,
    within: Optional[Tuple[int, int]] = None,
) -> str:
    """Return the menu with *option* as the only one called *name* in every entry that starts a hypervisor.

    :param within: where the commands of the only entry are that is edited; None for all entries.
    :raises UserError: there is no such entry, or its options are not plain words.
    """
    changes: List[line_edits.Edit] = []
    found = list(_places(text, recipient))
    if within is not None:
        found = [(start, command) for start, command in found if within[0] <= start <= within[1]]
    if within is not None and not found:
        line = text.count("\n", 0, within[0]) + 1
        raise UserError(
            f"{path} line {line}: the entry that boots starts Xen by commands that are not in the entry itself.",
            "Nothing was changed. Set entries to all, or change the value by hand.",
        )
    if not found and option is not None:
        raise UserError(
            f"{path} was not written by grub-mkconfig, and has no entry that starts Xen.",
            "Add an entry with lines such as multiboot2 /boot/xen.gz and module2 /boot/vmlinuz, then run again.",
        )
    for start, command in found:
        end = command[-1].end
        given = text[start:end]
        if any(mark in given for mark in "'\"\\") and _passed(command, name, recipient) != command_line.find(
            given, name, recipient
        ):
            line = text.count("\n", 0, start) + 1
            raise UserError(
                f"{path} line {line}: the options of {recipient.subject} are quoted, which is not edited.",
                "Write them there without quotes, or change the value by hand.",
            )
        edits = line_edits.edits_behind(given, name, option, recipient)
        changes += [(start + first, start + last, new) for first, last, new in edits]
    return line_edits.apply_edits(text, changes)


def _passed(command: Sequence[grub_menu.Word], name: str, recipient: Recipient) -> List[str]:
    """Return the options called *name* as GRUB passes them, without its own quotes."""
    return command_line.find(" ".join(arguments([word.text for word in command])), name, recipient)


def _places(text: str, recipient: Recipient) -> Iterator[Tuple[int, Sequence[grub_menu.Word]]]:
    """Return where the options of each hypervisor, or of dom0's Linux, begin, and the command that has them."""
    awaited = False
    for command in _commands(text):
        first = text[command[0].start : command[0].end]
        if first in BOOT_COMMANDS:
            awaited = is_hypervisor(file([word.text for word in command]))
        if awaited and first in (BOOT_COMMANDS if recipient is HYPERVISOR else MODULE_COMMANDS):
            awaited = False
            loaded = next((word for word in command[1:] if not word.text.startswith("--")), None)
            if loaded is not None:
                yield loaded.end, command


def _commands(text: str) -> Iterator[List[grub_menu.Word]]:
    """Return the words of each command; a brace ends one."""
    command: List[grub_menu.Word] = []
    for word in grub_menu.words(grub_menu.without_returns(text)):
        if (word.first or word.brace) and command:
            yield command
            command = []
        if not word.brace:
            command.append(word)
    if command:
        yield command
