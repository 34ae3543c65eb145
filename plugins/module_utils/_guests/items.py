# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the guests of a list on a host, from what is asked for to what would change.
# All are planned and compared before anything is written, and all refusals come together.

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Set

from ansible_collections.xen.stubdom.plugins.module_utils._common import assembled, distributions, files, masking
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import Several, UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import (
    boot_disc,
    boot_loaders,
    config_files,
    disks,
    domain,
    guest_disk,
    guest_types,
    lives,
    menus,
    plan,
    screens,
    taking_over,
    virtualisation,
)
from ansible_collections.xen.stubdom.plugins.module_utils._guests.host import Observed
from ansible_collections.xen.stubdom.plugins.module_utils._guests.model import Menu, Plan
from ansible_collections.xen.stubdom.plugins.module_utils._guests.wanted import Wanted, permissions
from ansible_collections.xen.stubdom.plugins.module_utils._images.grub2 import image as grub2
from ansible_collections.xen.stubdom.plugins.module_utils._xen import domains, xl_cfg
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

_GRUB2_REMEDY = "Install it with the role xen.stubdom.stubdom_build (image grub2), or shorten menu_entries."

# States that need no Xen, and those in which a guest has to be startable.
_FILES_ONLY = ("present", "absent")
_STARTED = ("running", "paused", "restarted", "rebooted")
# Steps that need the memory of the whole guest.
_NEEDING = {"start", "restore"}


@dataclass
class Item:
    """A guest of the list, on this host.

    :param before: its configuration as it is.
    :param settings: the keys of its configuration as they are to be; empty where there is to be none.
    :param values: its parameters with the type that was chosen; empty where its configuration is not written.
    :param type_reason: why it has the type that it has, where none was asked for.
    :param changes: of its files.
    :param screen: dom0's side of its screen; None where its configuration stays as it is.
    :param steps: what its life needs, as `lives.steps` names it.
    :param deferred: whether its file goes only when its domain has gone.
    :param done: the steps that were taken.
    :param refusal: why nothing at all is done.
    :param failure: why this guest alone is not as asked for.
    :param warnings: what an earlier part of a play would make, in check mode.
    :param dropped: what the guest loses as its configuration is taken over.
    :param same: whether the configuration that is taken over means the same as the new one.
    :param away: whether the guest was moved to another host and has not come back.
    """

    wanted: Wanted
    guest: domain.Guest
    before: Optional[bytes] = None
    settings: Dict[str, xl_cfg.Value] = field(default_factory=dict)
    values: Dict[str, Any] = field(default_factory=dict)
    grub_names: Dict[str, str] = field(default_factory=dict)
    type_reason: str = ""
    changes: List[files.AnyChange] = field(default_factory=list)
    screen: Optional[screens.Screen] = None
    steps: List[str] = field(default_factory=list)
    deferred: bool = False
    done: List[str] = field(default_factory=list)
    refusal: Optional[UserError] = None
    failure: Optional[UserError] = None
    warnings: List[str] = field(default_factory=list)
    dropped: Dict[str, Any] = field(default_factory=dict)
    same: bool = False
    away: bool = False

    @property
    def name(self) -> str:
        return self.wanted.name

    @property
    def foreign(self) -> bool:
        """Whether another program or administrator has written its configuration."""
        return self.before is not None and not config_files.ours(self.before)

    @property
    def needed_mib(self) -> int:
        """Memory that the host has to have free to start the guest, its stub domain included."""
        return plan.memory_mib(self.settings) if self.settings and self.wanted.state != "absent" else 0

    @property
    def uuid(self) -> Optional[str]:
        """The identity that its domain has to have, None where its configuration gives none."""
        if self.wanted.state == "absent":
            found = config_files.settings_of(self.before).get("uuid", self.wanted.values["uuid"])
        else:
            found = self.settings.get("uuid")
        return None if found is None else str(found)

    @property
    def autostart(self) -> bool:
        """Whether the host is to start the guest; where its files stay as they are, whether it does."""
        if self.changes:
            return self.wanted.state != "absent" and bool(self.wanted.values["autostart"]) and not self.away
        return any(map(os.path.exists, config_files.links(self.wanted.path)))

    def written_names(self) -> List[str]:
        """What changes of its files are called in a result."""
        found = []
        for change in self.changes:
            if change.needed and (self.wanted.state != "absent" or self.failure is None):
                gone = change.after is None
                names = ("linked", "unlinked") if isinstance(change, files.Link) else ("written", "removed")
                found.append(names[gone])
        if self.screen is not None and self.screen.needed and (self.wanted.state != "absent" or self.failure is None):
            found.append("opened" if self.screen.wanted else "closed")
        return list(dict.fromkeys(found))

    @property
    def all_changes(self) -> List[files.AnyChange]:
        """Those of its screen, too."""
        return self.changes if self.screen is None else [*self.changes, *self.screen.changes]

    def prove(self) -> None:
        """Read back what was written.

        :raises UserError: it is not there as it was written.
        """
        if self.wanted.state != "absent":
            config_files.prove(self.wanted.path, self.settings)
            config_files.prove_autostart(self.wanted.link, self.wanted.path, wanted=self.autostart)


@dataclass(frozen=True)
class Options:
    """Parameters of the module that are for all guests."""

    replace: bool
    backup: bool
    check_mode: bool


def plan_all(
    observed: Observed, guests: Sequence[Wanted], options: Options, hide: Callable[[Set[str]], None]
) -> List[Item]:
    """Compare every guest with the host.

    :param hide: takes passwords that no result may show.
    """
    if not options.check_mode and any(wanted.state not in _FILES_ONLY for wanted in guests):
        observed.xen.require_dom0()
    items = [Item(wanted, domain.Guest(observed.xen, wanted.name, {}, wanted.path)) for wanted in guests]
    own = {os.path.realpath(item.wanted.path) for item in items if item.wanted.refusal is None}
    taken: Dict[str, Dict[str, str]] = {}
    for item in items:
        item.refusal = item.wanted.refusal
        if item.refusal is not None:
            continue
        try:
            _read(item, hide)
            if item.wanted.written:
                directory = os.path.dirname(item.wanted.path)
                if directory not in taken:
                    taken[directory] = config_files.names(directory, own)
                _write(item, observed, taken[directory], options, hide)
            elif item.wanted.state == "absent":
                _remove(item, options)
            else:
                _leave(item, options)
        except UserError as error:
            item.refusal = error
        item.guest.settings = item.settings
    if observed.running:
        domain.observe(observed.xen, observed.rows, [item.guest for item in items if item.refusal is None])
        _live(items, observed, options)
    else:
        _live_without_xen(items)
    for item in items:
        item.deferred = item.wanted.state == "absent" and (bool(item.steps) or item.failure is not None)
    return items


def refuse(items: Sequence[Item]) -> None:
    """:raises UserError: some guests cannot be as asked for, each with why."""
    refused = {item.name: item.refusal for item in items if item.refusal is not None}
    if refused:
        verb = "cannot be configured; nothing was changed."
        raise Several(f"{len(refused)} of {len(items)} guest{'s' if len(items) > 1 else ''} {verb}", refused)


def saved_at_shutdown(items: Sequence[Item], observed: Observed) -> Optional[str]:
    """The settings by which the host would save guests at its shutdown that cannot be saved; None for none."""
    unsaved = [
        item.name
        for item in items
        if item.wanted.state in (*_STARTED, "present")
        and virtualisation.stubbed(item.settings)
        and not virtualisation.saves(item.settings)
    ]
    if observed.saving is None or not unsaved:
        return None
    items[0].warnings.append(
        f"{observed.saving} has the host save guests when it goes down (XENDOMAINS_SAVE), and the stub domains of some "
        f"cannot be saved: {', '.join(unsaved)}. The role xen.stubdom.hvm_stubdom can have all guests shut down "
        "instead."
    )
    return observed.saving


def memory(items: Sequence[Item], observed: Observed) -> Dict[str, Optional[int]]:
    """What the host has free, and what the guests need that are to be started, in MiB."""
    return {
        "free_mib": observed.memory["free_mib"],
        "needed_mib": sum(item.needed_mib for item in items if _NEEDING & set(item.steps)),
    }


def changes(items: Sequence[Item]) -> List[files.AnyChange]:
    """The changes of files that are made, or would be."""
    return [change for item in items for change in item.all_changes if not (item.deferred and item.failure)]


def write(items: Sequence[Item], options: Options, *, later: bool) -> Dict[str, str]:
    """Change the files of all guests in one transaction, and read back what was changed.

    :param later: whether these are the files that go only when their guests have ended.
    :return: path of the copy by path of the file.
    """
    ready = [item for item in items if item.deferred is later and not (later and item.failure)]
    # Of what another program or administrator has written a copy is kept in any case.
    taken_over = any(item.foreign and change.needed for item in ready for change in item.changes)
    backup = options.backup or taken_over
    shown = [item.screen for item in ready if item.screen is not None]
    with screens.changing(items[0].guest.xen, shown) if shown else contextlib.nullcontext():
        backups = files.apply([change for item in ready for change in item.all_changes], backup=backup)
    for item in ready:
        if any(change.needed for change in item.changes):
            item.prove()
            if item.same:
                item.guest.runs_with(item.settings, item.uuid)
    files.remove_if_empty(menus.DIRECTORY)
    return backups


def look_again(xen: Xen, items: Sequence[Item]) -> None:
    """Find again what the life of each guest needs, after files were changed."""
    domain.observe(xen, xen.domains(), [item.guest for item in items])
    for item in items:
        if item.failure is None:
            item.steps = []
            find_steps(item)
            item.failure = item.failure or item.refusal


def _read(item: Item, hide: Callable[[Set[str]], None]) -> None:
    item.before = files.read(item.wanted.path, longest=xl_cfg.LONGEST)
    if item.before is not None and masking.may_hold_secrets(item.before):
        # The file may hold an older password than the parameters.
        hide(config_files.secrets(item.before))


def _write(
    item: Item,
    observed: Observed,
    taken: Mapping[str, str],
    options: Options,
    hide: Callable[[Set[str]], None],
) -> None:
    wanted = item.wanted
    foreign = item.foreign
    only = None if foreign and options.replace else taking_over.kept_before(item.before)
    there = config_files.settings_of(item.before)
    values, item.type_reason = guest_types.typed(wanted.values, observed.host, there)
    values, kept = taking_over.completed(
        values,
        there,
        observed.host,
        only=only,
        uuid=_domain_uuid(item, observed) if foreign and "uuid" not in there else None,
    )
    planned = plan.plan(values, observed.host)
    for need, error in observed.check_needs(planned, start=wanted.state in _STARTED):
        if not options.check_mode or not need.to_start:
            raise error
        item.warnings.append(f"{item.name}: {error.what} {error.remedy}")
    after = xl_cfg.emit(planned.keys, header=[config_files.HEADER, *taking_over.header(kept)])
    if not options.replace:
        kind = None if after == item.before else virtualisation.hvm(planned.keys)
        config_files.check_ours(wanted.path, item.name, item.before, hvm=kind)
    if foreign:
        item.dropped = taking_over.dropped(there, planned.keys, observed.host, wanted.given)
        item.same = taking_over.same(there, planned.keys, observed.host)
        _tell_dropped(item)
    config_files.check_names(item.name, planned.keys, taken)
    if after != item.before and observed.running:
        # What xl's own parser says, before anything is written.
        item.warnings += [f"xl says of {wanted.path}: {warning}" for warning in observed.xen.dry_run(after)]
    item.settings, item.grub_names, item.values = planned.keys, planned.grub_names, values
    menu = _menu(item, planned, observed, options, hide)
    mode = files.permissions(wanted.path)
    asked = permissions(wanted.values)
    if masking.secrets(planned.keys):
        asked = asked.closed(mode)
    linked = files.link(wanted.link)
    to = item.guest.moved.to()
    item.away = to is not None and all(row.name != item.name for row in observed.rows)
    link: Optional[str] = None
    if wanted.values["autostart"] and item.away:
        item.warnings.append(f"{item.name} was moved to {to}, so that this host does not start it with itself.")
    elif wanted.values["autostart"]:
        link = os.path.join("..", os.path.basename(wanted.path))
        config_files.check_autostart(wanted.link, linked, wanted.path, replace=options.replace)
    item.screen = screens.Screen(observed.xen, item.name, values if values["screen"] else None, observed.host.version)
    item.screen.require_systemd()
    item.changes = [
        files.Change(wanted.path, item.before, after, permissions=asked, found=mode),
        files.Link(wanted.link, linked, _link_after(item, linked, link)),
        *_former_links(item),
        *menu,
    ]


def _domain_uuid(item: Item, observed: Observed) -> Optional[str]:
    """The UUID of the domain that has the guest's name now, None where there is none."""
    domid = next((row.domid for row in observed.rows if row.name == item.name), None)
    return None if domid is None else domains.uuid(domains.nodes_of(observed.xen, [domid]), domid)


def _tell_dropped(item: Item) -> None:
    if not config_files.settings_of(item.before):
        item.warnings.append(
            f"{item.wanted.path} was written by another program or administrator, and is nothing that xl understands: "
            "what it says is not kept, but for a copy of the file."
        )
    if item.dropped:
        lost = ", ".join(f"{name} ({value})" for name, value in masking.masked(item.dropped).items())
        item.warnings.append(
            f"{item.wanted.path} was written by another program or administrator. It has settings that the guest "
            f"{item.name} no longer has then: {lost}. Set them in the list to keep them; a copy of the file is kept."
        )


def _menu(
    item: Item, planned: Plan, observed: Observed, options: Options, hide: Callable[[Set[str]], None]
) -> List[files.AnyChange]:
    """The file that holds the guest's menu. One that is no longer asked for goes with the guest, which may still have
    been started from it and read it again when it reboots."""
    menu = planned.menu
    if menu is None:
        return []
    content = menu.text.encode()
    try:
        if menu.kernel is not None:
            return [_disc(item, menu, observed)]
        if menu.image is not None:
            content = _with_menu(item, menu, observed)
    except UserError as error:
        if not options.check_mode:
            raise
        item.warnings.append(f"{item.name}: {error.what} {error.remedy}")
        return []
    before, mode = files.read(menu.path), files.permissions(menu.path)
    hide(set(menus.passwords(before or b"")))
    asked = files.UNCHANGED.closed(mode) if item.values["menu_password"] else files.UNCHANGED
    return [files.Change(menu.path, before, content, permissions=asked, found=mode)]


def _with_menu(item: Item, menu: Menu, observed: Observed) -> bytes:
    """:raises UserError: there is no image of GRUB 2 for the menu, or no room in it."""
    path = str(menu.image)
    base = files.read(observed.xen.path(path))
    if base is None:
        raise UserError(f"There is no {path}, which the menu of {item.name} is put in.", _GRUB2_REMEDY)
    try:
        return grub2.with_menu(base, menu.text)
    except ValueError as why:
        raise UserError(f"The menu of {item.name} cannot be put in {path}: {why}.", _GRUB2_REMEDY) from why


def _disc(item: Item, menu: Menu, observed: Observed) -> files.AnyChange:
    """The change of a CD with a kernel of dom0. It is for root alone, as a ramdisk may hold secrets.

    :raises UserError: there is no GRUB 2 for it, no such file, or none that has room there.
    """
    loader = files.read(observed.xen.path(str(menu.image)))
    if loader is None:
        modules = distributions.install_hint("grub_pc", observed.host.distribution)
        raise UserError(
            f"There is no {menu.image}, which starts the kernel of {item.name}.",
            f"Install {modules}, then the image grub2 with the role xen.stubdom.stubdom_build.",
        )
    given = [assembled.source(observed.xen.path(path)) for path in (menu.kernel, menu.ramdisk) if path]
    try:
        return assembled.change(menu.path, boot_disc.parts(loader, menu.text.encode(), *given), mode=0o600)
    except ValueError as why:
        raise UserError(f"{why}.", "Make it smaller, or have the guest boot from its own disk.") from why


def _remove(item: Item, options: Options) -> None:
    if not options.replace:
        config_files.check_ours(item.wanted.path, item.name, item.before, hvm=item.wanted.hvm, removed=True)
    linked = files.link(item.wanted.link)
    # xendomains never finds a link to a file that is not there.
    item.changes = [
        files.Link(item.wanted.link, linked, _link_after(item, linked, None)),
        *_former_links(item),
        files.Change(item.wanted.path, item.before, None),
    ]
    for path in (menus.path(item.name, ending) for ending in menus.ENDINGS):
        item.changes.append(files.Change(path, files.read(path), None))
    item.changes.append(assembled.change(menus.path(item.name, menus.CD), None))
    item.screen = screens.Screen(item.guest.xen, item.name)


def _link_after(item: Item, linked: Optional[str], link: Optional[str]) -> Optional[str]:
    if link is None and linked is not None and not config_files.leads_to(item.wanted.link, item.wanted.path):
        # It starts another guest, and is none of ours.
        return linked
    return link


def _former_links(item: Item) -> List[files.AnyChange]:
    """Remove the links of another place in the order: xendomains would find the guest twice."""
    paths = config_files.links(item.wanted.path)
    return [files.Link(path, files.link(path), None) for path in paths if path != item.wanted.link]


def _leave(item: Item, options: Options) -> None:
    """Read a configuration that stays as it is, whoever wrote it."""
    path = item.wanted.path
    if item.before is None:
        if item.wanted.state in ("stopped", "present", "saved"):
            return
        error = UserError(
            f"There is no configuration {path} for the guest {item.name}.",
            "Set type and memory to have it written, or set path to the file that there is.",
        )
        if not options.check_mode:
            raise error
        item.warnings.append(f"{item.name}: {error.what} {error.remedy}")
        return
    item.settings = xl_cfg.read(path, item.before)
    if item.settings.get("name") != item.name:
        raise UserError(
            f"{path} is the configuration of {item.settings.get('name')!r}, not of {item.name!r}.",
            "Set path to the configuration of this guest.",
        )


def _live_without_xen(items: Sequence[Item]) -> None:
    """Say in check mode what would happen on a host that runs Xen."""
    for item in items:
        if item.refusal is None and item.wanted.state not in _FILES_ONLY:
            item.warnings.append(
                f"{item.name} can be {item.wanted.state} only on a host that runs Xen, which this one does not yet."
            )
            item.steps = lives.steps(item.guest, item.wanted)


def _live(items: Sequence[Item], observed: Observed, options: Options) -> None:
    """Find what the life of every guest needs, and whether the host has the memory for all of it."""
    for item in items:
        if item.refusal is None:
            find_steps(item)
    freed = sum(_domain_mib(item, observed) for item in items if lives.ENDING & set(item.steps))
    starting = [item for item in items if item.refusal is None and _NEEDING & set(item.steps)]
    for item in starting:
        for error in _unstartable(item, observed, freed):
            if not options.check_mode:
                item.refusal = error
                break
            item.warnings.append(f"{item.name}: {error.what} {error.remedy}")
    growing = [item for item in items if item.refusal is None and "change" in item.steps and item.guest.growth_mib]
    for item in growing:
        try:
            plan.refuse_memory(item.name, item.guest.growth_mib, observed.memory, freed, more=True)
        except UserError as lack:
            if not options.check_mode:
                item.refusal = lack
            item.warnings.append(f"{item.name}: {lack.what} {lack.remedy}")
    together = sum(item.needed_mib for item in starting) + sum(item.guest.growth_mib for item in growing)
    available = plan.available_mib(observed.memory, freed)
    needing = [*starting, *growing]
    if together > available and not any(item.refusal for item in needing) and not options.check_mode:
        error = UserError(
            f"The guests to be started{' or given more' if growing else ''} need {together} MiB together, and the host "
            f"has {available} MiB for them.",
            "Give them less memory, end other guests, or give dom0 less with the role xen.stubdom.dom0_memory.",
        )
        for item in needing:
            item.refusal = item.refusal or error


def find_steps(item: Item) -> None:
    """Take down what the life of a guest that was just looked at needs, or why it cannot be."""
    guest, wanted = item.guest, item.wanted
    try:
        if wanted.state not in _FILES_ONLY:
            plan.refuse_namesake(item.name, item.uuid, guest.facts["domid"], guest.uuid)
        elif wanted.state == "absent" and _is_another(item):
            return
    except UserError as error:
        item.refusal = error
        return
    try:
        item.steps = lives.steps(guest, wanted)
    except UserError as error:
        item.failure = error


def _is_another(item: Item) -> bool:
    """Whether the domain of that name is not the guest that the configuration describes."""
    there = item.guest.facts["domid"] is not None
    return there and (item.before is None or item.guest.uuid != (item.uuid or item.guest.uuid))


def _unstartable(item: Item, observed: Observed, freed: int) -> Iterator[UserError]:
    checks: List[Callable[[], None]] = [
        lambda: plan.refuse_unfixed(item.settings, observed.memory),
        lambda: plan.refuse_memory(item.name, item.needed_mib, observed.memory, freed),
        lambda: domain.require_files(observed.xen, item.guest, {change.path for change in item.changes}),
        lambda: _look(item, observed),
    ]
    for check in checks:
        try:
            check()
        except UserError as error:
            yield error


def _look(item: Item, observed: Observed) -> None:
    """:raises UserError: what is on the guest's disks cannot boot."""
    boots = item.guest.facts["domid"] is None and "start" in item.steps
    if not boots or not item.values or not item.values["look_at_disks"]:
        return
    if item.values["flavour"] not in guest_disk.FLAVOURS:
        return
    named = disks.named(item.values["disks"], hvm=False)
    guest = {**item.values, "disks": named, "menu": item.settings.get("extra")}
    found = guest_disk.look(observed.xen.run, guest["disks"], **guest_disk.wanted(guest))
    if found is not None:
        ours = item.settings["kernel"] in boot_loaders.our_grub2(observed.host)
        item.warnings += guest_disk.refuse(guest, found, ours=ours)


def _domain_mib(item: Item, observed: Observed) -> int:
    """What the guest's domain and its stub domain have now."""
    model_of = item.guest.facts["device_model"] or {}
    own = {item.guest.facts["domid"], model_of.get("domid")} - {None, 0}
    return sum(row.memory_mib for row in observed.rows if row.domid in own)
