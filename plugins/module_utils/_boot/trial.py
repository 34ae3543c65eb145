# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: a boot line that is tried once, on a host that finds back by itself.
# GRUB forgets the choice of the trial entry before it starts it, so that every death leads to the default entry.

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot.grub_menu import Entry, Menu
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

ENTRY = "xen-stubdom-trial"
# A word of dom0's kernel, which tells that the trial runs, and a variable of GRUB, which tells that it was started.
MARK = "xen_stubdom_trial"

RECORD = "/var/lib/xen.stubdom/trial.json"
UNIT_NAME = f"{ENTRY}.service"
UNIT = f"/etc/systemd/system/{UNIT_NAME}"
UNIT_WANTED = f"/etc/systemd/system/sysinit.target.d/{ENTRY}.conf"

# File systems in which GRUB can overwrite a file where it lies; none of them has checksums over data or moves it.
WRITABLE = ("ext2", "fat", "jfs", "reiserfs", "xfs")

# dom0's kernel restarts the machine this many seconds after a panic; the initramfs of Debian does it instead of
# waiting in a shell (initramfs-tools, scripts/functions).
PANIC_SECONDS = 10
# The hypervisor restarts the machine when dom0 has not done so itself this long after it should have.
GRACE_SECONDS = 120
SHORTEST_TIMEOUT = 60

_FALSE = ("0", "no", "off", "false", "disable")
_HYPERVISOR_COMMAND = re.compile(
    r"^(?P<before>[ \t]*(?:multiboot2?|xen_hypervisor)[ \t]+(?P<path>\S+))(?P<words>[^\n]*)$", re.MULTILINE
)
_MODULE_COMMAND = re.compile(
    r"^(?P<before>[ \t]*(?:module2?|xen_module)[ \t]+(?:--nounzip[ \t]+)?\S+)(?P<words>[^\n]*)$", re.MULTILINE
)
# GRUB would print why it cannot load a file and wait in its menu for somebody to read it.
_OR_RESTART = 'if [ "$?" != 0 ]; then reboot; fi'


@dataclass(frozen=True)
class Record:
    """A trial under way, as it is kept on the host.

    :param token: tells this trial from others.
    :param words: by name of option, None for one that is taken away.
    :param old: the hypervisor's words of the default entry, when the trial was armed.
    :param new: the hypervisor's words of the trial entry.
    :param boot: identity of the boot in which the trial was armed.
    :param armed: when that was.
    :param timeout: seconds in which the trial has to be confirmed.
    """

    token: str
    words: Dict[str, Optional[str]]
    old: str
    new: str
    boot: str
    armed: str
    timeout: int

    def dump(self) -> bytes:
        return (json.dumps(asdict(self), indent=2, sort_keys=True) + "\n").encode()

    @property
    def asked(self) -> str:
        """The words that are tried, for sentences."""
        return asked(self.words)


def asked(words: Mapping[str, Optional[str]]) -> str:
    return ", ".join(f"no {name}" if word is None else word for name, word in sorted(words.items()))


def load(content: Optional[bytes]) -> Optional[Record]:
    """Read a record; one that was damaged counts as none, for what it speaks of is cleared all the same."""
    try:
        return Record(**json.loads(content or b""))
    except (ValueError, TypeError):
        return None


# What became of a trial.
NONE, WAITING, RUNNING, FAILED, SKIPPED = "none", "waiting", "running", "failed", "skipped"


def outcome(record: Optional[Record], *, boot: str, kernel_line: str, environment: Mapping[str, str]) -> str:
    """Tell what became of a trial from the boot that is running.

    :param boot: identity of that boot.
    :param kernel_line: the words of its kernel.
    :param environment: GRUB's environment block.
    """
    if record is None:
        return NONE
    if f"{MARK}={record.token}" in kernel_line.split():
        return RUNNING
    if record.boot == boot:
        return WAITING
    return FAILED if environment.get(MARK) == record.token else SKIPPED


def story(found: str, record: Optional[Record], environment: Mapping[str, str]) -> str:
    """Tell the same in sentences."""
    if record is None or found == NONE:
        return "No trial is under way."
    since = f"was armed at {record.armed}"
    if found == RUNNING:
        return f"The host came up with {record.asked}."
    if found == WAITING:
        return f"A trial of {record.asked} {since}, and the host has not been restarted since."
    if found == FAILED:
        return (
            f"The host did not come up with {record.asked}: GRUB started the trial entry, that boot ended before it was"
            " confirmed, and the default entry was booted afterwards."
        )
    reason = (
        "it cannot write its environment block, and kept to the old line"
        if environment.get("next_entry") == ENTRY
        else "another entry was chosen at its menu, or another loader or disk was booted"
    )
    return (
        f"{record.asked} was not tried: the trial {since}, the host was restarted,"
        f" but GRUB did not start the trial entry ({reason})."
    )


def wanted_words(options: Mapping[str, Any]) -> Dict[str, Optional[str]]:
    """Return the word for each option; true stands for a name alone, None for no word.

    :raises UserError: there is none, or a boot loader would take one for something else.
    """
    if not options:
        raise UserError("There is nothing to try: options is empty.", "Name at least one option of the hypervisor.")
    return {
        name: None if value is None else command_line.word(name, None if value is True else str(value))
        for name, value in options.items()
    }


def check_timeout(seconds: int) -> None:
    """:raises UserError: no host would be up and confirmed in that time."""
    if seconds < SHORTEST_TIMEOUT:
        raise UserError(
            f"A trial of {seconds} seconds would end before anybody could confirm it.",
            f"Give it {SHORTEST_TIMEOUT} seconds at least; a host takes that long from its init to an answer.",
        )


def hypervisor_words(body: str) -> Optional[str]:
    """Return the words that an entry passes to the hypervisor, None if it starts none."""
    lines = _hypervisor_commands(body)
    if not lines:
        return None
    return " ".join(command_line.configured_words(lines[0]["words"]))


def _hypervisor_commands(body: str) -> List[re.Match[str]]:
    return [
        match
        for match in _HYPERVISOR_COMMAND.finditer(body)
        if os.path.basename(match["path"]).startswith("xen") or "xen_hypervisor" in match["before"]
    ]


def put_words(line: str, words: Mapping[str, Optional[str]]) -> str:
    """Return *line* with the words put in."""
    for option, word in words.items():
        line = command_line.changed(line, command_line.edits(line, option, word))
    return line


def tried_line(line: str, words: Mapping[str, Optional[str]]) -> str:
    """Return *line* with the words put in, and with what makes the hypervisor restart when it dies."""
    line = put_words(line, words)
    for option in ("noreboot", "reboot", "watchdog"):
        if any(_keeps_dead(word) for word in command_line.setting(line, option)):
            line = command_line.remove(line, option)
    return line if command_line.setting(line, "watchdog") else command_line.put(line, "watchdog", None)


def _keeps_dead(word: str) -> bool:
    """Whether it makes the hypervisor wait for somebody (docs/misc/xen-command-line.pandoc @ 4.20)."""
    name, _equals, value = word.partition("=")
    if name == "reboot":
        return any(part.startswith("n") for part in value.split(","))
    return name == "noreboot" or name == "no-watchdog" or (name == "watchdog" and value in _FALSE)


def entry_text(menu: Menu, entry: Entry, words: Mapping[str, Optional[str]], token: str) -> str:
    """Return the trial entry: the default one with other words, guarded so that it starts once at most.

    :raises UserError: the default entry does not start a hypervisor, or is not understood.
    """
    body = menu.body(entry)
    tried = _tried_body(body, words, token)
    arguments = "".join(f" {menu.text[slice(*place)]}" for place in entry.arguments)
    return (
        f"menuentry 'Trial of {asked(words)}'{arguments} --id {ENTRY} {{\n"
        "\tset next_entry=\n"
        f"\tset {MARK}={token}\n"
        f"\tif save_env next_entry {MARK}; then\n"
        f"{tried.strip(chr(10))}\n"
        "\telse\n"
        "\t# What cannot be written down would be tried for ever.\n"
        f"{body.strip(chr(10))}\n"
        "\tfi\n"
        "}\n"
    )


def _tried_body(body: str, words: Mapping[str, Optional[str]], token: str) -> str:
    commands = _hypervisor_commands(body)
    if not commands:
        raise UserError(
            "GRUB's default entry does not start a hypervisor, so the next boot would not try anything.",
            "Make the entry for Xen the default one (GRUB_DEFAULT in /etc/default/grub) and run update-grub.",
        )
    kernel_next = False
    lines: List[str] = []
    for line in body.split("\n"):
        hypervisor = next(iter(_hypervisor_commands(line)), None)
        module = _MODULE_COMMAND.match(line)
        if (hypervisor or module) and line.endswith("\\"):
            raise UserError(
                "GRUB's default entry is not understood: a line of it goes on in the next one.",
                "Generate the menu with grub-mkconfig, or set the value without a trial.",
            )
        if hypervisor:
            line = hypervisor["before"] + tried_line(hypervisor["words"], words)
            kernel_next = True
        elif module and kernel_next:
            kernel = command_line.put(module["words"], "panic", str(PANIC_SECONDS))
            line = module["before"] + command_line.put(kernel, MARK, token)
            kernel_next = False
        lines.append(line)
        if hypervisor or module:
            indent = line[: len(line) - len(line.lstrip())]
            lines.append(indent + _OR_RESTART)
    if kernel_next:
        raise UserError(
            "GRUB's default entry is not understood: it starts a hypervisor without a kernel for dom0.",
            "Generate the menu with grub-mkconfig, or set the value without a trial.",
        )
    return "\n".join(lines)


_BEGIN = "# BEGIN trial entry of the Ansible collection xen.stubdom, which takes it away again"
_END = "# END trial entry of the Ansible collection xen.stubdom"
# What was there before: nothing at all, or a last line without an end.
_NEW_FILE, _NO_NEWLINE = " (new file)", " (line ended)"
_BLOCK = re.compile(
    "(?P<newline>\n?)" + re.escape(_BEGIN) + r"(?P<note>[^\n]*)\n.*?" + re.escape(_END) + "\n", re.DOTALL
)


def put_block(content: Optional[bytes], entry: str) -> bytes:
    """Add the trial entry to the administrator's own part of the menu."""
    text = "" if content is None else content.decode("latin-1")
    note = _NEW_FILE if content is None else ""
    if text and not text.endswith("\n"):
        text += "\n"
        note = _NO_NEWLINE
    return (text + f"{_BEGIN}{note}\n{entry}{_END}\n").encode("latin-1")


def take_block(content: Optional[bytes], path: str) -> Optional[bytes]:
    """Take the trial entry away and give back what was there before it, None for no file.

    :raises UserError: only a part of it is left.
    """
    if content is None:
        return None
    text = content.decode("latin-1")
    match = _BLOCK.search(text)
    if match is None:
        if _BEGIN in text or _END in text:
            raise UserError(
                f"{path} holds a part of a trial entry only.",
                "Delete that entry and the comments with BEGIN and END around it, then run again.",
            )
        return content
    newline = "" if match["note"] == _NO_NEWLINE else match["newline"]
    rest = text[: match.start()] + newline + text[match.end() :]
    return None if match["note"] == _NEW_FILE and not rest else rest.encode("latin-1")


def unit_files(token: str, timeout: int, watchdog: Optional[str]) -> Dict[str, bytes]:
    """Return what makes systemd restart the host when nobody confirms the trial in time.

    :param watchdog: path of xenwatchdogd; with it the hypervisor restarts the host when dom0 cannot.
    """
    lines = ["Type=exec", "ExecStart=/bin/sleep infinity"]
    if watchdog is not None:
        hard = timeout + GRACE_SECONDS
        # The daemon tells the hypervisor to restart the host after so many seconds; stopped, it cannot say otherwise.
        # It has forked before it does so, hence the wait. Ended by systemd it leaves 300 seconds (xenwatchdogd.c).
        lines = [
            "Type=forking",
            "ExecStartPre=-modprobe xen-privcmd",
            f"ExecStart={watchdog} {hard} {hard - 1}",
            "ExecStartPost=sleep 5",
            'ExecStartPost=-/bin/sh -c "kill -STOP ${MAINPID}"',
        ]
    body = "\n".join(lines)
    unit = f"""\
# Written by the Ansible collection xen.stubdom for a trial of a boot line, which takes it away again.
[Unit]
Description=Return to the old boot line unless the new one is confirmed
DefaultDependencies=no
ConditionKernelCommandLine={MARK}={token}
Conflicts=shutdown.target
Before=shutdown.target
FailureAction=reboot

[Service]
{body}
RuntimeMaxSec={timeout}
# Sent by who confirms.
SuccessExitStatus=SIGUSR1
"""
    wanted = f"""\
# Written by the Ansible collection xen.stubdom for a trial of a boot line, which takes it away again.
[Unit]
Wants={UNIT_NAME}
"""
    return {UNIT: unit.encode(), UNIT_WANTED: wanted.encode()}


def covered(*, systemd: bool, watchdog: bool) -> Tuple[List[str], List[str]]:
    """Return which deaths of the trial boot lead back to the old line, and which would need somebody."""
    yes = [
        "GRUB cannot load a file of the entry",
        "the hypervisor panics or, where its processors have a watchdog, hangs",
        "dom0's kernel panics, cannot be started, or has no memory left",
        "the host is reset or loses power",
    ]
    no = ["the firmware or GRUB hangs", "dom0's kernel hangs without a panic before its init starts"]
    late = "dom0 is up but cannot be reached"
    hang = "dom0 hangs after its init has started"
    (yes if systemd else no).append(late)
    (yes if systemd and watchdog else no).append(hang)
    return yes, no
