# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: makes an entry for Xen the one that the boot loader starts by default.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Protocol, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._boot import replaced_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot.extlinux_default import ExtlinuxDefault
from ansible_collections.xen.stubdom.plugins.module_utils._boot.grub_default import GrubDefault
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import (
    Loader,
    generate,
    generated,
    grub_legacy,
    restore,
)
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders.efi_cfg import EfiCfg
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders.extlinux import Extlinux
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders.grub2 import Grub2
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders.grub_legacy import GrubLegacy
from ansible_collections.xen.stubdom.plugins.module_utils._boot.next_boot import NextBoot
from ansible_collections.xen.stubdom.plugins.module_utils._boot.systemd_default import SystemdDefault
from ansible_collections.xen.stubdom.plugins.module_utils._boot.targets import Target
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import ENCODING
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError


class DefaultEntry(Protocol):
    """What has to be known about a loader to make an entry its default one."""

    def boots(self) -> NextBoot:
        """Return what the default entry starts."""

    def entry(self) -> Optional[str]:
        """Return the name by which the loader's default leads to an entry for Xen, None where there is none."""

    def refusal(self) -> Optional[UserError]:
        """Return why the default entry is not changed, None where it is."""

    def warnings(self, *, replaced: bool) -> List[str]:
        """Return what else decides which entry starts, in sentences.

        :param replaced: whether the default entry is going to be another one.
        """

    def written(self) -> List[str]:
        """Return the paths of the files that are changed."""

    def present(self, entry: str) -> List[files.Change]:
        """Return the changes after which *entry* is the default one.

        :raises UserError: that cannot be done.
        """

    def absent(self) -> List[files.Change]:
        """Return the changes that take back those of `present`."""


class _LegacyDefault:
    """The default entry of GRUB 0.97: a number."""

    def __init__(self, loader: GrubLegacy) -> None:
        self._loader = loader

    def boots(self) -> NextBoot:
        return self._loader.next_boot()

    def entry(self) -> Optional[str]:
        numbers = (place.entry for _path, text in self._menu() for place in grub_legacy.places(text))
        return next((str(number) for number in numbers if number is not None), None)

    def refusal(self) -> None:
        """Return nothing: its menu can always be changed."""

    def warnings(self, *, replaced: bool) -> List[str]:
        return []

    def written(self) -> List[str]:
        return [self._loader.tree.path(path) for path, _text in self._menu()]

    def present(self, entry: str) -> List[files.Change]:
        found = []
        for path, before in self._menu():
            text = replaced_line.restore(before)
            line = grub_legacy.default_line(text)
            start, end = (line.start, line.end) if line else (0, 0)
            found.append((path, before, replaced_line.put(text, start, end, f"default {entry}")))
        return self._changes(found)

    def absent(self) -> List[files.Change]:
        return self._changes([(path, text, replaced_line.restore(text)) for path, text in self._menu()])

    def _menu(self) -> List[Any]:
        return [(path, content.decode(ENCODING)) for path, content in self._loader.read().items()]

    def _changes(self, found: Sequence[Any]) -> List[files.Change]:
        return self._loader.tree.changes(
            (path, before.encode(ENCODING), after.encode(ENCODING)) for path, before, after in found
        )


_DEFAULTS: Mapping[str, Callable[[Any], DefaultEntry]] = {
    Grub2.name: GrubDefault,
    EfiCfg.name: SystemdDefault,
    Extlinux.name: ExtlinuxDefault,
    GrubLegacy.name: _LegacyDefault,
}


def of(loader: Loader) -> DefaultEntry:
    """Return how the default entry of a loader is changed."""
    return _DEFAULTS[loader.name](loader)


@dataclass(frozen=True)
class Observed:
    """What was read before a change.

    :param boots: what the default entry started.
    :param entry: name of the entry for Xen in the menu as it was.
    :param generated: the configuration that is generated, by path; it is put back as it was.
    """

    boots: NextBoot
    entry: Optional[str]
    generated: Mapping[str, Optional[bytes]]
    unchecked: Sequence[str]
    warnings: Sequence[str]


@dataclass(frozen=True)
class Difference:
    """What has to change.

    :param entry: the entry that becomes the default one, None where none is to, or only a new menu tells its name.
    :param stale: whether the menu has to be generated again.
    """

    changes: Sequence[files.Change]
    entry: Optional[str]
    stale: bool

    @property
    def needed(self) -> bool:
        return bool(self.changes) or self.stale


def observe(present: bool, target: Target) -> Observed:
    """Read the loader's files and its menu."""
    default = of(target.loader)
    before = generated(target.loader) if target.generates else {}
    unchecked = [] if target.home else target.loader.unchecked(target.loader.read())
    boots = default.boots()
    warnings = default.warnings(replaced=present and not boots.xen)
    return Observed(boots, default.entry(), before, unchecked, warnings)


def difference(present: bool, target: Target, observed: Observed) -> Difference:
    """Return what has to change. Where Xen is the default already, whatever makes it so is left alone.

    :raises UserError: there is no entry for Xen, or it cannot be made the default one.
    """
    default = of(target.loader)
    generates = target.generates and target.loader.generates
    if not present:
        changes = default.absent()
        return Difference(changes, None, bool(changes) and generates)
    if observed.boots.xen:
        return Difference([], observed.entry, False)
    refusal = default.refusal()
    if refusal is not None:
        raise refusal
    if observed.entry is None:
        # The menu may be older than the hypervisor.
        unreadable = observed.boots.xen is None and any(observed.generated.values())
        if generates and target.loader.hypervisor_installed() and not unreadable:
            return Difference([], None, True)
        raise UserError(
            f"The menu of the loader {target.loader.name} has no entry for Xen that can be named. "
            f"{observed.boots.reason}".strip(),
            "Install the hypervisor and generate the menu, or add such an entry, then run again.",
        )
    return Difference(default.present(observed.entry), observed.entry, generates)


@dataclass(frozen=True)
class Applied:
    """What was done.

    :param backups: path of the copy by path of the file, empty without copies.
    """

    changes: Sequence[files.Change]
    entry: Optional[str]
    backups: Mapping[str, str]


def apply(present: bool, target: Target, observed: Observed, wanted: Difference, *, backup: bool) -> Applied:
    """Write the files and generate the menu from them; put back all of it byte by byte where Xen does not boot then.

    :raises UserError: it cannot be done.
    """
    made: List[files.Change] = []
    backups: Dict[str, str] = {}

    def write(changes: Sequence[files.Change]) -> None:
        backups.update(files.apply(changes, backup=backup))
        made.extend(changes)

    default = of(target.loader)
    entry = wanted.entry
    try:
        write(wanted.changes)
        if wanted.stale:
            backups.update(generate(target.loader, target.run, backup=backup))
        if present and entry is None and not default.boots().xen:
            entry = default.entry()
            if entry is None:
                raise UserError(
                    "The generated menu has no entry for Xen.",
                    "Look whether /boot has a hypervisor and a kernel that can run under it, then run again.",
                )
            write(default.present(entry))
            # What was there before is kept already.
            generate(target.loader, target.run)
        _verify(present, target, default)
    except BaseException:
        restore(made, observed.generated)
        raise
    return Applied(made, entry, backups)


def tidy(target: Target, observed: Observed) -> None:
    """Remove what a killed run has left, where nothing has to change."""
    files.tidy([*of(target.loader).written(), *observed.generated])


def _verify(present: bool, target: Target, default: DefaultEntry) -> None:
    """:raises UserError: the loader would not start Xen by default."""
    # Another tree's menu, or one that is not generated, is as it was, unless it is the file that was edited.
    if not present or (target.loader.generates and not target.generates):
        return
    boots = default.boots()
    if not boots.xen:
        raise UserError(
            f"The loader would not start Xen by default after the change. {boots.reason}".strip(),
            "The files were restored. Look for what else sets the default entry: for GRUB 2 files in "
            "/etc/default/grub.d and programs in /etc/grub.d, for extlinux overwrite=1 in its own file.",
        )


def result(
    target: Target, observed: Observed, wanted: Difference, applied: Optional[Applied], *, backup: bool
) -> Dict[str, Any]:
    """Return the return values of the module.

    :param applied: what was done, None where nothing was, as in check mode.
    """
    default = of(target.loader)
    changes = wanted.changes if applied is None else applied.changes
    boots_xen = default.boots().xen
    read_back = target.generates or not target.loader.generates
    if applied is None and wanted.needed and read_back:
        # Not yet so. What comes back without our changes, or of a new menu, is not known before.
        boots_xen = True if wanted.entry is not None else None
    return {
        "changed": wanted.needed,
        "entry": wanted.entry if applied is None else applied.entry,
        "boots_xen": boots_xen,
        "files": [change.path for change in changes],
        "loader": target.loader.name,
        "root": target.root,
        "unchecked": list(observed.unchecked),
        "diff": files.difference(changes),
        "warnings": list(observed.warnings),
        **({"backup_files": {} if applied is None else dict(applied.backups)} if backup else {}),
    }
