# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: one boot with other Xen command line options, after which the host returns to
# its default entry unless the trial was confirmed: plan → observe → difference → apply.

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._boot import (
    grub_once,
    grub_script,
    line_edits,
    trial_entry,
    trial_watchdog,
)
from ansible_collections.xen.stubdom.plugins.module_utils._boot.host_facts import running_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import find, grub2
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import ENCODING, Tree
from ansible_collections.xen.stubdom.plugins.module_utils._boot.trial_grub import Grub
from ansible_collections.xen.stubdom.plugins.module_utils._common import files, signals
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

RECORD = "/var/lib/xen.stubdom/trial.json"
SHORTEST_TIMEOUT = 60

# File systems in which GRUB can overwrite a file in place; none of them has checksums over data or moves it.
WRITABLE = ("ext2", "fat", "jfs", "reiserfs", "xfs")

# Why another loader cannot select an entry for one boot, in a sentence each.
CANNOT_BOOT_ONCE: Mapping[str, str] = {
    "efi_cfg": ("xen.efi boots the default section of xen.cfg, and another section cannot be selected for one boot."),
    "extlinux": (
        "Only extlinux --once selects an entry for one boot, and update-extlinux writes the same options into every "
        "entry."
    ),
    "grub_legacy": (
        "GRUB 0.97 boots an entry once only where it was installed for that (grub-set-default, savedefault --once)."
    ),
}

# States of a trial.
NONE, WAITING, RUNNING, FAILED, SKIPPED = "none", "waiting", "running", "failed", "skipped"


@dataclass(frozen=True)
class Record:
    """A trial, as it is recorded on the host.

    :param token: identifies the trial.
    :param options: whole option by name, None for one that is removed.
    :param old: the hypervisor's options of the default entry, when the trial was armed.
    :param new: the hypervisor's options of the trial entry.
    :param boot: identity of the boot in which the trial was armed.
    :param armed: when that was.
    :param timeout: seconds in which the trial has to be confirmed.
    """

    token: str
    options: Dict[str, Optional[str]]
    old: str
    new: str
    boot: str
    armed: str
    timeout: int

    def dump(self) -> bytes:
        return (json.dumps(asdict(self), indent=2, sort_keys=True) + "\n").encode()

    def same_trial(self, other: Record) -> bool:
        """Whether the other record is of the same trial, whenever it was armed."""
        return replace(other, token=self.token, armed=self.armed) == self


def load(content: Optional[bytes]) -> Optional[Record]:
    """Read a record; a damaged one counts as none, as everything of its trial is removed all the same."""
    try:
        record = Record(**json.loads(content or b""))
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (record.token, record.old, record.new, record.boot, record.armed)
    options = record.options.values() if isinstance(record.options, dict) else (0,)
    whole = all(isinstance(text, str) for text in texts) and all(isinstance(one, (str, type(None))) for one in options)
    return record if whole and isinstance(record.timeout, int) else None


@dataclass(frozen=True)
class Observed:
    """What was read from a host before a change.

    :param grub: None where there is no generated menu.
    :param environment: the variables of GRUB's environment block.
    :param record: the earlier trial; None where there is none.
    :param state: what became of that trial.
    """

    tree: Tree
    run: Runner
    grub: Optional[Grub]
    environment: Mapping[str, str]
    record: Optional[Record]
    state: str


@dataclass(frozen=True)
class Difference:
    """What has to change.

    :param variables: what to set in GRUB's environment block, None for a variable to remove.
    """

    changes: List[files.Change]
    variables: Dict[str, Optional[str]]

    @property
    def needed(self) -> bool:
        return any(change.needed for change in self.changes) or bool(self.variables)


def desired_options(options: Optional[Mapping[str, Any]]) -> Dict[str, Optional[str]]:
    """Return the whole option for each name; true stands for a name without a value, None for no option.

    :raises UserError: there is none, or a boot loader would interpret a character of one.
    """
    if not options:
        raise UserError("The parameter options is empty.", "Name at least one Xen command line option in options.")
    rendered = {
        name: line_edits.render(name, None if value is None or value is True else str(value))
        for name, value in options.items()
    }
    return {name: None if options[name] is None else option for name, option in rendered.items()}


def plan(grub: Grub, options: Mapping[str, Optional[str]], timeout: int) -> Record:
    """Return the trial that is asked for.

    :raises UserError: it could not be confirmed in time, or there would be nothing to return to.
    """
    if timeout < SHORTEST_TIMEOUT:
        raise UserError(
            f"The timeout of {timeout} seconds would expire before the trial could be confirmed.",
            f"Set timeout to at least {SHORTEST_TIMEOUT} seconds.",
        )
    entry, place = grub.default_entry()
    default = grub2.passed(entry, place, grub.host)
    if entry.asks:
        raise UserError(grub2.ASKS.format(title=entry.title), "Set the value without a trial, at the host's console.")
    if default is not None and default.options is None:
        raise UserError(
            f"There is no trial of GRUB's default entry. {default.reason}", "Set the value without a trial."
        )
    old = "" if default is None or default.options is None else default.options
    boot = _text(grub.tree, "/proc/sys/kernel/random/boot_id")
    token = hashlib.sha256(f"{boot} {old} {sorted(options.items())}".encode()).hexdigest()[:12]
    text = trial_entry.entry_text(entry, options, token)
    if trial_entry.with_options(old, options) == old:
        raise UserError(
            f"GRUB's default entry already has {trial_entry.shown(options)}, so there is nothing to return to.",
            "Reboot without a trial, or set the old value first.",
        )
    _require_writable(grub)
    top = _require_selectable(grub, entry, text)
    # As it will be run: outside of the submenu that the default entry may stand in.
    trial = grub2.passed(replace(entry, body=trial_entry.trial_body(entry.body, options, token)), top, grub.host)
    new = "" if trial is None or trial.options is None else trial.options
    if new != trial_entry.trial_line(old, options):
        raise UserError(
            f"GRUB's default entry cannot be copied: the copy would pass '{new}' to the hypervisor.",
            "Write the options of that entry as plain words, outside of a submenu, or set the value without a trial.",
        )
    armed = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Record(token, dict(options), old, new, boot, armed, timeout)


def require_grub(run: Runner, tree: Tree) -> Grub:
    """Return GRUB 2 of a host that boots with it.

    :raises UserError: the host boots with a loader that cannot select an entry for one boot only.
    """
    running = running_line(Xen(run, root=tree.root), "/")
    loader = find("auto", run, root=tree.root, running=running)
    found = _grub(run, tree)
    if loader.name != grub2.Grub2.name or found is None:
        raise UserError(
            f"A trial boot needs GRUB 2 with a generated menu, and this host boots with {loader.name}. "
            f"{CANNOT_BOOT_ONCE.get(loader.name, 'Its menu was never generated.')}",
            "Set the value without a trial, with access to the host's console.",
        )
    return found


def _grub(run: Runner, tree: Tree) -> Optional[Grub]:
    """Return GRUB 2 of a host, None where it has no menu."""
    try:
        return Grub(tree, run, *grub2.Grub2(run, root=tree.root).menu())
    except grub2.NoMenu:
        return None


def _require_writable(grub: Grub) -> None:
    """:raises UserError: GRUB could not clear the selection of the trial entry."""
    where = grub.tree.path(grub.directory)
    filesystem = grub.tool("probe", "--target=fs", where)
    layers = grub.tool("probe", "--target=abstraction", where)
    if filesystem not in WRITABLE or layers:
        raise UserError(
            f"GRUB cannot write to {grub.directory} ({', '.join([filesystem, *layers.split()])}), so it would start "
            "the trial entry at every boot.",
            f"Put {grub.directory} on a plain partition with {' or '.join(WRITABLE)}, or do without a trial.",
        )


def _require_selectable(grub: Grub, default: grub_script.Entry, text: str) -> grub_script.Menu:
    """Return the menu of the next start, in which the trial entry is selected.

    :param default: the default entry without the trial.
    :raises UserError: GRUB would not find the entry, not start it, start it at every boot, or another one after it.
    """
    custom = trial_entry.remove_block(grub.tree.read(grub.custom), grub.custom)
    host = grub_once.reading(grub.host, {grub.custom: trial_entry.add_block(custom, text).decode(ENCODING)})
    selected = grub_once.selecting(host, trial_entry.ENTRY)
    menu = grub_script.run(grub.path, selected)
    if not any(entry.identity == trial_entry.ENTRY for entry in menu.entries):
        raise UserError(
            f"GRUB's menu does not include {grub.custom}, which would contain the trial entry.",
            "Restore /etc/grub.d/41_custom and run update-grub, then run this again.",
        )
    if grub_script.default_entry(menu, selected).identity != trial_entry.ENTRY:
        raise UserError(
            "GRUB's menu does not start the entry that is selected for one boot.",
            "Generate it with grub-mkconfig; /etc/grub.d/00_header writes that part.",
        )
    if not any(one.words[0] == "save_env" and "next_entry" in one.words and one.certain for one in menu.commands):
        raise UserError(
            "GRUB's menu does not clear the entry that was selected for one boot.",
            "Generate it with grub-mkconfig; /etc/grub.d/00_header writes that part.",
        )
    if not grub_script.counts_down(menu):
        raise UserError(
            "GRUB would wait at its menu until somebody chooses an entry: its timeout is no number of seconds.",
            "Set GRUB_TIMEOUT in /etc/default/grub to some seconds and run update-grub, then run this again.",
        )
    afterwards = grub_once.selecting(host, None)
    if grub_script.default_entry(grub_script.run(grub.path, afterwards), afterwards) != default:
        raise UserError(
            f"With one entry more in {grub.custom} GRUB's menu would have another default entry.",
            "Set GRUB_DEFAULT in /etc/default/grub to the identity of an entry, not to a number, then run update-grub.",
        )
    return menu


def observe(run: Runner, tree: Tree) -> Observed:
    """Read what is left of an earlier trial, and what became of it."""
    found = _grub(run, tree)
    environment = found.environment() if found is not None else {}
    record = load(tree.read(RECORD))
    state = state_of(
        record,
        boot=_text(tree, "/proc/sys/kernel/random/boot_id"),
        kernel_line=_text(tree, "/proc/cmdline"),
        environment=environment,
    )
    return Observed(tree, run, found, environment, record, state)


def state_of(record: Optional[Record], *, boot: str, kernel_line: str, environment: Mapping[str, str]) -> str:
    """Return what became of a trial.

    :param boot: identity of the running boot.
    :param kernel_line: the options of its kernel.
    :param environment: the variables of GRUB's environment block.
    """
    if record is None:
        return NONE
    if f"{trial_entry.MARK}={record.token}" in kernel_line.split():
        return RUNNING
    if record.boot == boot:
        return WAITING
    return FAILED if environment.get(trial_entry.MARK) == record.token else SKIPPED


def summary(state: str, record: Optional[Record], environment: Mapping[str, str]) -> str:
    """Return the state of a trial as a sentence."""
    if record is None or state == NONE:
        return "No trial was armed."
    options = trial_entry.shown(record.options)
    if state == RUNNING:
        return f"The host came up with {options}."
    if state == WAITING:
        return f"A trial of {options} was armed at {record.armed}, and the host has not been restarted since."
    if state == FAILED:
        return (
            f"The host did not come up with {options}: GRUB started the trial entry, that boot ended before it was "
            "confirmed, and the default entry was booted afterwards."
        )
    reason = (
        "it cannot write its environment block, and started the default entry"
        if environment.get("next_entry") == trial_entry.ENTRY
        else "another entry was selected in its menu, or another loader or disk was booted"
    )
    return (
        f"{options} was not tried: the trial was armed at {record.armed} and the host was restarted, "
        f"but GRUB did not start the trial entry ({reason})."
    )


def difference(observed: Observed, record: Optional[Record]) -> Difference:
    """Return what has to change.

    :param record: the trial that is asked for, None for none.
    :raises UserError: custom.cfg contains only a part of a trial entry.
    """
    tree, found = observed.tree, observed.grub
    wanted: Dict[str, Optional[bytes]] = dict.fromkeys((RECORD, trial_watchdog.UNIT, trial_watchdog.UNIT_WANTED))
    if found is not None:
        wanted[found.custom] = trial_entry.remove_block(tree.read(found.custom), found.custom)
    if record is not None and found is not None:
        entry, _menu = found.default_entry()
        text = trial_entry.entry_text(entry, record.options, record.token)
        wanted[found.custom] = trial_entry.add_block(wanted[found.custom], text)
        wanted[RECORD] = record.dump()
        if trial_watchdog.has_systemd(tree):
            program = trial_watchdog.program(tree)
            wanted.update(trial_watchdog.unit_files(record.token, record.timeout, program))
    changes = [files.Change(tree.path(path), tree.read(path), content) for path, content in wanted.items()]
    return Difference(changes, _variables(observed.environment, record))


def _variables(environment: Mapping[str, str], record: Optional[Record]) -> Dict[str, Optional[str]]:
    changes: Dict[str, Optional[str]] = {}
    if trial_entry.MARK in environment:
        changes[trial_entry.MARK] = None
    selected = environment.get("next_entry")
    if record is not None and selected != trial_entry.ENTRY:
        changes["next_entry"] = trial_entry.ENTRY
    elif record is None and (selected == trial_entry.ENTRY or (trial_entry.MARK in environment and selected == "")):
        # GRUB clears the variable and does not remove it.
        changes["next_entry"] = None
    return changes


def apply(observed: Observed, difference: Difference, record: Optional[Record]) -> None:
    """Arm the trial, or remove everything of an earlier one; what a killed run has left goes in any case.

    The entry exists before it is selected and as long as it is selected, because GRUB boots the first entry of its menu
    in place of one that it cannot find. Signals wait, so that one is not done without the other.

    :raises UserError: it cannot be done.
    """
    if difference.needed and observed.state == RUNNING:
        trial_watchdog.stop(observed.tree, observed.run)
    try:
        with signals.undisturbed():
            if observed.grub is not None:
                files.tidy([observed.grub.block])
            if observed.grub is not None and record is None:
                _deselect(observed.grub, observed, difference)
            else:
                files.apply(difference.changes)
                if observed.grub is not None and difference.needed:
                    _select(observed.grub, difference)
    finally:
        for path in (RECORD, trial_watchdog.UNIT_WANTED):
            files.remove_if_empty(os.path.dirname(observed.tree.path(path)))


def _deselect(grub: Grub, observed: Observed, difference: Difference) -> None:
    """Select no entry any more, then remove it; select it again where it cannot be removed."""
    grub.set_environment(difference.variables)
    try:
        files.apply(difference.changes)
    except BaseException:
        with contextlib.suppress(UserError):
            grub.set_environment({name: observed.environment.get(name) for name in difference.variables})
        raise


def _select(grub: Grub, difference: Difference) -> None:
    """Select the trial entry for the next boot, and verify that; undo everything where it fails."""
    try:
        grub.tool("script-check", grub.tree.path(grub.custom))
        grub.set_environment(difference.variables)
        if grub.environment().get("next_entry") != trial_entry.ENTRY:
            raise UserError(
                "GRUB's environment block does not keep what is written to it.",
                f"Look at {grub.block} and at the file system that it is on.",
            )
    except BaseException as error:
        try:
            try:
                grub.set_environment({"next_entry": None})
            finally:
                files.apply(files.reverse(difference.changes))
        except UserError as stuck:
            raise UserError(
                f"The trial could not be armed, and what was written for it could not be taken back: {stuck.what}",
                "Correct this, then run again with state absent before the host is restarted.",
            ) from error
        raise


def _text(tree: Tree, path: str) -> str:
    return (tree.text(path) or "").strip()
