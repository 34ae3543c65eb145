# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the menu entry of a trial boot.
# GRUB clears the selection of the trial entry before it starts it, so that the boot after any failure takes the default
# entry.

from __future__ import annotations

import os
import re
from typing import List, Mapping, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line, line_edits
from ansible_collections.xen.stubdom.plugins.module_utils._boot.grub_script import Entry
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

ENTRY = "xen-stubdom-trial"
# An option of dom0's kernel, by which the running trial is recognised, and a variable of GRUB, set when it was started.
MARK = "xen_stubdom_trial"

# Seconds after a panic at which dom0's kernel restarts the machine; the initramfs of Debian does so too, instead of
# opening a shell (initramfs-tools, scripts/functions).
PANIC_SECONDS = 10
_FALSE = ("0", "no", "off", "false", "disable")
_HYPERVISOR_COMMAND = re.compile(
    r"^(?P<before>[ \t]*(?:multiboot2?|xen_hypervisor)[ \t]+(?P<path>\S+))(?P<options>[^\n]*)$", re.MULTILINE
)
_MODULE_COMMAND = re.compile(
    r"^(?P<before>[ \t]*(?:module2?|xen_module)[ \t]+(?:--nounzip[ \t]+)?\S+)(?P<options>[^\n]*)$", re.MULTILINE
)
# Where GRUB cannot load a file, it would print why and wait in its menu for a key.
_OR_RESTART = 'if [ "$?" != 0 ]; then reboot; fi'


def _hypervisor_commands(body: str) -> List[re.Match[str]]:
    return [
        match
        for match in _HYPERVISOR_COMMAND.finditer(body)
        if os.path.basename(match["path"]).startswith("xen") or "xen_hypervisor" in match["before"]
    ]


def with_options(line: str, options: Mapping[str, Optional[str]]) -> str:
    """Return *line* with the options set.

    :param options: whole option by name, None for one to remove.
    """
    for name, option in options.items():
        line = line_edits.apply_edits(line, line_edits.edits(line, name, option))
    return line


def trial_line(line: str, options: Mapping[str, Optional[str]]) -> str:
    """Return *line* with the options set, and with those that make the hypervisor restart after a failure."""
    line = with_options(line, options)
    for name in ("noreboot", "reboot", "watchdog"):
        if any(_prevents_restart(option) for option in command_line.find(line, name)):
            line = line_edits.remove(line, name)
    return line if command_line.find(line, "watchdog") else line_edits.put(line, "watchdog", None)


def _prevents_restart(option: str) -> bool:
    """Whether it keeps the hypervisor from restarting after a failure (docs/misc/xen-command-line.pandoc @ 4.20)."""
    name, _equals, value = option.partition("=")
    if name == "reboot":
        return any(part.startswith("n") for part in value.split(","))
    return name == "noreboot" or name == "no-watchdog" or (name == "watchdog" and value in _FALSE)


def shown(options: Mapping[str, Optional[str]]) -> str:
    """Return the options for titles and sentences."""
    return ", ".join(f"no {name}" if option is None else option for name, option in sorted(options.items()))


def entry_text(entry: Entry, options: Mapping[str, Optional[str]], token: str) -> str:
    """Return the trial entry: the default one with other options, guarded so that it starts once at most.

    :raises UserError: the default entry does not start a hypervisor, or is not understood.
    """
    trial = trial_body(entry.body, options, token)
    given = "".join(f" {word}" for word in entry.options)
    return (
        f"menuentry 'Trial of {shown(options)}'{given} --id {ENTRY} {{\n"
        "\tset next_entry=\n"
        f"\tset {MARK}={token}\n"
        f"\tif save_env next_entry {MARK}; then\n"
        f"{trial.strip(chr(10))}\n"
        "\telse\n"
        "\t# Without a saved environment the trial would be started at every boot.\n"
        f"{entry.body.strip(chr(10))}\n"
        "\tfi\n"
        "}\n"
    )


def trial_body(body: str, options: Mapping[str, Optional[str]], token: str) -> str:
    """Return the commands of an entry with other options, and with a restart where one of them fails.

    :raises UserError: as for entry_text.
    """
    commands = _hypervisor_commands(body)
    if not commands:
        raise UserError(
            "GRUB's default entry does not start a hypervisor, so there is no entry to make a trial of.",
            "Make the entry for Xen the default one (GRUB_DEFAULT in /etc/default/grub) and run update-grub.",
        )
    kernel_next = False
    lines: List[str] = []
    for line in body.split("\n"):
        hypervisor = next(iter(_hypervisor_commands(line)), None)
        module = _MODULE_COMMAND.match(line)
        if (hypervisor or module) and line.endswith("\\"):
            raise UserError(
                "GRUB's default entry cannot be copied: it has a command that continues in the next line.",
                "Generate the menu with grub-mkconfig, or set the value without a trial.",
            )
        if hypervisor:
            line = hypervisor["before"] + trial_line(hypervisor["options"], options)
            kernel_next = True
        elif module and kernel_next:
            kernel = line_edits.put(module["options"], "panic", str(PANIC_SECONDS))
            line = module["before"] + line_edits.put(kernel, MARK, token)
            kernel_next = False
        lines.append(line)
        if hypervisor or module:
            indent = line[: len(line) - len(line.lstrip())]
            lines.append(indent + _OR_RESTART)
    if kernel_next:
        raise UserError(
            "GRUB's default entry cannot be copied: it starts a hypervisor without a kernel for dom0.",
            "Generate the menu with grub-mkconfig, or set the value without a trial.",
        )
    return "\n".join(lines)


_BEGIN = "# BEGIN trial entry of the Ansible collection xen.stubdom, which removes it again"
_END = "# END trial entry of the Ansible collection xen.stubdom"
# What the file was before: absent, or without a newline at its end.
_NEW_FILE, _NO_NEWLINE = " (new file)", " (line ended)"
_BLOCK = re.compile(
    "(?P<newline>\n?)" + re.escape(_BEGIN) + r"(?P<note>[^\n]*)\n.*?" + re.escape(_END) + "\n", re.DOTALL
)


def add_block(content: Optional[bytes], entry: str) -> bytes:
    """Add the trial entry to the administrator's own part of the menu."""
    text = "" if content is None else content.decode("latin-1")
    note = _NEW_FILE if content is None else ""
    if text and not text.endswith("\n"):
        text += "\n"
        note = _NO_NEWLINE
    return (text + f"{_BEGIN}{note}\n{entry}{_END}\n").encode("latin-1")


def remove_block(content: Optional[bytes], path: str) -> Optional[bytes]:
    """Remove the trial entry and return what the file held without it, None for no file.

    :raises UserError: only a part of the entry is left.
    """
    if content is None:
        return None
    text = content.decode("latin-1")
    match = _BLOCK.search(text)
    if match is None:
        if _BEGIN in text or _END in text:
            raise UserError(
                f"{path} contains only a part of a trial entry.",
                "Delete that part and the comments with BEGIN and END around it, then run again.",
            )
        return content
    newline = "" if match["note"] == _NO_NEWLINE else match["newline"]
    rest = text[: match.start()] + newline + text[match.end() :]
    return None if match["note"] == _NEW_FILE and not rest else rest.encode("latin-1")
