# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: one option of the hypervisor or of dom0's Linux, from what is asked for to what
# the next boot passes: observe → difference → apply → verify, the same for every loader and every option.

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line, line_edits, option_names
from ansible_collections.xen.stubdom.plugins.module_utils._boot.command_line import DOM0_KERNEL, HYPERVISOR, Recipient
from ansible_collections.xen.stubdom.plugins.module_utils._boot.host_facts import running_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import (
    for_recipient,
    generate,
    generated,
    restore,
)
from ansible_collections.xen.stubdom.plugins.module_utils._boot.next_boot import NextBoot
from ansible_collections.xen.stubdom.plugins.module_utils._boot.targets import Target
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import Tree
from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions, files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

# Options as they are written, NAME or NAME=VALUE.
Options = Sequence[str]


def equivalent(one: Options, other: Options) -> bool:
    """Whether two lists of options are the same to Xen and to Linux, which treat - and _ in names alike."""

    def plain(options: Options) -> List[str]:
        parts = (option.partition("=") for option in options)
        return [name.replace("-", "_") + equals + value for name, equals, value in parts]

    return plain(one) == plain(other)


@dataclass(frozen=True)
class DesiredOption:
    """What is asked for.

    :param name: name of the option.
    :param option: the option as it is written, or several of that name with a space between; None for no option of
        that name.
    :param same: whether two lists of options of that name mean the same to the recipient.
    """

    name: str
    option: Optional[str]
    same: Callable[[Options, Options], bool] = equivalent
    recipient: Recipient = HYPERVISOR

    @property
    def options(self) -> List[str]:
        return line_edits.words(self.option)

    def find(self, line: Optional[str]) -> List[str]:
        """Return the options of that name on a line."""
        return [] if line is None else command_line.find(line, self.name, self.recipient)

    def satisfied_by(self, found: Options) -> bool:
        """Whether there are exactly the options, in whatever spelling, that mean what is asked for."""
        if self.option is None or len(found) != len(self.options):
            return not found and self.option is None
        return self.same(found, self.options)


@dataclass(frozen=True)
class BootLine:
    """The options of one name, in the three states of the boot line.

    :param effective: None where the next boot starts no hypervisor, or that is not known.
    :param boots_xen: whether the next boot starts Xen; None where that is not known.
    :param reason: why *effective* is None, in one sentence.
    :param waits: as of NextBoot.
    :param running: None where no hypervisor runs or the files are those of another tree.
    """

    configured: Options
    effective: Optional[Options]
    running: Optional[Options]
    boots_xen: Optional[bool] = None
    reason: str = ""
    waits: str = ""


@dataclass(frozen=True)
class Observed:
    """What was read before a change.

    :param sources: contents of the loader's source files by path.
    :param next: what the next boot was going to start.
    :param generated: the configuration that was generated from the sources, by path; it is put back as it was.
    :param unchecked: what cannot be checked in another tree, in sentences.
    """

    sources: Mapping[str, bytes]
    next: NextBoot
    generated: Mapping[str, Optional[bytes]]
    boot_line: BootLine
    unchecked: Sequence[str]


@dataclass(frozen=True)
class Difference:
    """What has to change.

    :param stale: whether the generated configuration does not pass what is asked for.
    """

    changes: Sequence[files.Change]
    stale: bool

    @property
    def needed(self) -> bool:
        return bool(self.changes) or self.stale


def observe(desired: DesiredOption, target: Target) -> Observed:
    """Read the loader's files and the running hypervisor.

    :raises UserError: a file is not understood, or there is no hypervisor to pass an option to.
    """
    if desired.option is not None and target.generates and not target.loader.hypervisor_installed():
        raise UserError(
            "No hypervisor is installed on this host.",
            f"Install {distributions.install_hint('hypervisor')}, or set regenerate to false to change the files only.",
        )
    sources = target.loader.read()
    unchecked = [] if target.home else target.loader.unchecked(sources)
    boots = target.loader.next_boot()
    before = generated(target.loader) if target.generates else {}
    return Observed(sources, boots, before, _boot_line(desired, target, sources, boots), unchecked)


def _boot_line(desired: DesiredOption, target: Target, sources: Mapping[str, bytes], boots: NextBoot) -> BootLine:
    running = running_line(target.xen, target.root, desired.recipient)
    return BootLine(
        configured=desired.find(target.loader.configured(sources)),
        effective=None if boots.options is None else desired.find(boots.options),
        running=None if running is None else desired.find(running),
        boots_xen=boots.xen,
        reason=boots.reason,
        waits=boots.waits,
    )


def passes(desired: DesiredOption, boots: NextBoot) -> bool:
    """Whether the next boot passes what is asked for; where it starts no Xen, whether an entry for Xen would.

    A menu without an entry for Xen passes nothing, which is what no option asks for.
    """
    if boots.options is not None:
        return desired.satisfied_by(desired.find(boots.options))
    satisfied = [desired.satisfied_by(desired.find(line)) for line in boots.entries]
    return all(satisfied) if desired.option is None else any(satisfied)


def misplaced(desired: DesiredOption, target: Target, observed: Observed) -> List[str]:
    """Return warnings about options of the hypervisor that are set for dom0's Linux, or the other way about."""
    written: Dict[Recipient, Mapping[str, str]] = {}
    try:
        for recipient in (HYPERVISOR, DOM0_KERNEL):
            ours = recipient is desired.recipient
            loader = for_recipient(target.loader, recipient)
            written[recipient] = loader.written(observed.sources if ours else loader.read())
    except UserError:
        # What is not understood there does not matter here.
        pass
    warnings = [
        warning
        for where, line in written.get(DOM0_KERNEL, {}).items()
        for warning in option_names.linux_warnings(line, where, desired.name)
    ]
    if desired.recipient is DOM0_KERNEL:
        for where, line in written.get(HYPERVISOR, {}).items():
            warnings += option_names.hypervisor_line_warnings(line, where, desired.name)
    return warnings


def difference(desired: DesiredOption, target: Target, observed: Observed) -> Difference:
    """Return what has to change; an equivalent spelling in the files is kept.

    :raises UserError: a file is not understood, or would not give what was asked for.
    """
    configured = observed.boot_line.configured
    option = " ".join(configured) if configured and desired.satisfied_by(configured) else desired.option
    changes = target.loader.plan(observed.sources, desired.name, option)
    stale = not passes(desired, observed.next)
    return Difference(changes, stale and target.generates and target.loader.generates)


def predict(desired: DesiredOption, target: Target, observed: Observed, difference: Difference) -> BootLine:
    """Return the boot line as it would be after the difference was applied."""
    before = observed.boot_line
    if not difference.needed:
        return before
    configured = desired.options
    takes_effect = before.effective is not None and (target.generates or not target.loader.generates)
    return replace(before, configured=configured, effective=configured if takes_effect else before.effective)


def tidy(target: Target, observed: Observed) -> None:
    """Remove what a killed run has left beside the files that were read."""
    tree = Tree(target.root, foreign=not target.home)
    files.tidy([*map(tree.path, observed.sources), *observed.generated])


def apply(
    desired: DesiredOption, target: Target, observed: Observed, difference: Difference, *, backup: bool
) -> Dict[str, str]:
    """Write the files and generate the loader's configuration from them.

    :return: path of the copy by path of the file, empty without *backup*.
    :raises UserError: it cannot be done.
    """
    backups = files.apply(difference.changes, backup=backup)
    # No configuration is generated from files that do not give what was written to them.
    configured = desired.find(target.loader.configured(target.loader.read()))
    if (target.home or not observed.unchecked) and not desired.satisfied_by(configured):
        raise UserError(
            f"The boot loader's files give {_shown(desired, configured)} after {_shown(desired, [desired.option])} was "
            "written to them.",
            "They were restored. Look for another program that writes them, then run again.",
        )
    if target.generates and (difference.stale or not passes(desired, target.loader.next_boot())):
        backups.update(generate(target.loader, target.run, backup=backup))
    return backups


def verify(desired: DesiredOption, target: Target) -> BootLine:
    """Read again what the next boot passes.

    :raises UserError: it is not what is asked for.
    """
    boots = target.loader.next_boot()
    after = _boot_line(desired, target, target.loader.read(), boots)
    if not target.generates or passes(desired, boots):
        return after
    line = boots.line
    if line is None:
        raise UserError(
            "The generated loader configuration has no entry for Xen.",
            "Look whether /boot has a hypervisor and a kernel that can run under it, then run again.",
        )
    raise UserError(
        f"The loader passes '{line}' to {desired.recipient.subject}, with {_shown(desired, desired.find(line))} "
        f"instead of {_shown(desired, [desired.option])}.",
        "Look for what else changes these options: for GRUB 2 programs in /etc/grub.d, for extlinux overwrite=1 "
        "in its own file, for systemd-boot the options of the entry"
        + ("." if desired.recipient is HYPERVISOR else ", and whether the hypervisor's line has -- before such words."),
    )


@contextlib.contextmanager
def restored_on_error(target: Target, observed: Observed, difference: Difference) -> Iterator[None]:
    """Put back the files, and what was generated from them, byte by byte where applying or verifying fails."""
    try:
        yield
    except BaseException:
        restore(difference.changes, observed.generated)
        raise


def result(
    desired: DesiredOption,
    target: Target,
    observed: Observed,
    difference: Difference,
    boot_line: BootLine,
    backups: Optional[Mapping[str, str]],
) -> Dict[str, Any]:
    """Return the return values that the modules have in common.

    :param backups: path of the copy by path of the file; None where none were asked for.
    """
    return {
        "changed": difference.needed,
        "files": [change.path for change in difference.changes],
        "loader": target.loader.name,
        "root": target.root,
        "unchecked": list(observed.unchecked),
        "diff": files.difference(difference.changes),
        **({} if backups is None else {"backup_files": dict(backups)}),
        "boots_xen": boot_line.boots_xen,
        "boots_unattended": not boot_line.waits,
        **reboot(desired, boot_line, home=target.home),
    }


def _shown(desired: DesiredOption, options: Sequence[Optional[str]]) -> str:
    return " ".join(option for option in options if option is not None) or f"no {desired.name}"


def _subject(desired: DesiredOption) -> str:
    """Return who gets the options, as a sentence begins with it."""
    return desired.recipient.subject[0].upper() + desired.recipient.subject[1:]


def reboot(desired: DesiredOption, boot_line: BootLine, *, home: bool = True) -> Dict[str, Any]:
    """Return whether what runs differs from what the next boot passes, and why."""
    effective, running = boot_line.effective, boot_line.running
    if not home:
        reason = "These are the files of another tree, so there is no running value to compare with."
    elif running is None:
        reason = "Xen is not running here, so there is no running value to compare with."
    elif effective is None:
        reason = boot_line.reason
    elif desired.same(effective, running):
        reason = f"{_subject(desired)} already runs with {_shown(desired, running)}."
    else:
        reason = f"{_subject(desired)} runs with {_shown(desired, running)} and will get {_shown(desired, effective)}."
        return {"reboot_required": True, "reboot_reason": f"{reason} {boot_line.waits}".rstrip()}
    return {"reboot_required": False, "reboot_reason": reason}
