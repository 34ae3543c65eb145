# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the guests that are asked for, as one list with defaults, and what is wrong
# with the list itself.

from __future__ import annotations

import grp
import os
import pwd
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Optional, Sequence, Set

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import config_files, disks, plan, spec, waiting

# What defaults cannot give: what a guest is known by.
_OWN = ("name", "uuid", "path")
_STUBBED = ("linux", "minios")
# A guest with GRUB 2 is of the type that the host is best for, which is found out on the host (guest_types.py).
_FLAVOUR_OF = {"pv": "grub2", "pvh": "grub2", "hvm": "linux"}
_TYPE_OF = {"legacy": "pv", "linux": "hvm", "minios": "hvm"}


@dataclass(frozen=True)
class Wanted:
    """A guest that is asked for.

    :param values: every parameter of spec.py.
    :param path: its configuration.
    :param given: the parameters that the guest or the defaults set.
    :param place: how many guests start before it, one after the other; None where its order does not matter.
    :param refusal: why it cannot be, as far as its parameters tell.
    """

    name: str
    state: str
    path: str
    values: Mapping[str, Any] = field(repr=False)
    given: FrozenSet[str] = frozenset()
    refusal: Optional[UserError] = None
    place: Optional[int] = None

    @property
    def written(self) -> bool:
        """Whether its configuration is to be written; one without a type or a flavour stays as it is."""
        return self.state != "absent" and self.values["flavour"] is not None

    @property
    def hvm(self) -> Optional[bool]:
        """Whether it is an HVM guest, None where that is not said."""
        flavour = self.values["flavour"]
        return None if flavour is None else flavour in _STUBBED

    @property
    def link(self) -> str:
        """The link by which the host starts the guest; its service takes links in the order of their names."""
        return config_files.link(self.path, self.place)


def read(params: Mapping[str, Any]) -> List[Wanted]:
    """The guests of the module's parameters, in order.

    :raises UserError: the defaults are wrong.
    """
    defaults = _defaults(params["defaults"])
    guests = [_wanted(given, defaults, params["directory"]) for given in params["guests"]]
    return _placed(_refuse_shared(guests))


def ordered(guests: Sequence[Wanted]) -> List[Wanted]:
    """The guests so that each comes behind those that it is to start after, else in the order of the list.

    :raises UserError: some are to start after each other.
    """
    names = {guest.name for guest in guests}
    done: Set[str] = set()
    left, found = list(guests), []
    while left:
        ready = next((guest for guest in left if {*guest.values["start_after"]} & names <= done), None)
        if ready is None:
            raise UserError(
                f"These guests are to start after each other: {', '.join(guest.name for guest in left)}.",
                "Correct start_after of one of them.",
            )
        left.remove(ready)
        done.add(ready.name)
        found.append(ready)
    return found


def _defaults(given: Mapping[str, Any]) -> Dict[str, Any]:
    known = {name: option for name, option in spec.argument_spec().items() if name not in _OWN}
    validated = ArgumentSpecValidator(known).validate(_set(given))
    if validated.error_messages:
        raise UserError(
            f"defaults cannot be those of guests: {'; '.join(validated.error_messages)}.",
            "Set defaults to parameters of guests, but for name, uuid and path.",
        )
    return dict(validated.validated_parameters)


def _wanted(given: Mapping[str, Any], defaults: Mapping[str, Any], directory: str) -> Wanted:
    given = {**_set(defaults), **_set(given)}
    values = spec.filled(given)
    name, state = str(values["name"]), values["state"]
    if values["type"] is None and values["flavour"] is not None:
        values["type"] = _TYPE_OF.get(values["flavour"])
    elif values["flavour"] is None and values["type"] is not None:
        values["flavour"] = _FLAVOUR_OF[values["type"]]
    path = values["path"] or os.path.join(directory, f"{name}.cfg")
    refusal = None
    try:
        plan.check_name(name)
        _check(values)
    except UserError as error:
        refusal = error
    return Wanted(name, state, path, values, frozenset(given), refusal)


def _set(given: Mapping[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _check(values: Mapping[str, Any]) -> None:
    for row in spec.GUEST:
        value = values[row.name]
        if row.type == "path" and value is not None and not value.startswith("/"):
            raise UserError(
                f"{row.name} is {value!r}, which is not an absolute path.",
                f"Set {row.name} to a path that starts with a slash.",
            )
    if values["type"] is None and values["flavour"] == "dom0":
        raise UserError("The flavour dom0 is for guests of any type.", "Set type to pv, pvh or hvm.")
    waiting.check(values)


def _refuse_shared(guests: Sequence[Wanted]) -> List[Wanted]:
    """Refuse what two guests of the list cannot both have."""
    there = [guest for guest in guests if guest.state != "absent"]
    names = Counter(guest.name for guest in guests)
    ordered([guest for guest in guests if guest.refusal is None])
    paths = Counter(guest.path for guest in there)
    stub_domains = {f"{guest.name}-dm" for guest in there if guest.values["flavour"] in _STUBBED}
    macs = Counter(mac for guest in there for mac in {*_macs(guest)})
    targets = Counter(target for guest in there for target in {*_written(guest)})
    found = []
    for guest in guests:
        refusal = guest.refusal
        shared = next((mac for mac in _macs(guest) if macs[mac] > 1), None)
        disk = next((target for target in _written(guest) if targets[target] > 1), None)
        if refusal is not None:
            pass
        elif names[guest.name] > 1:
            refusal = UserError(f"Two guests are called {guest.name}.", "Set another name for one of them.")
        elif set(guest.values["start_after"]) - set(names):
            unknown = sorted(set(guest.values["start_after"]) - set(names))[0]
            refusal = UserError(
                f"start_after names {unknown!r}, which is no guest of this list.", "Correct start_after."
            )
        elif guest.state == "absent":
            pass
        elif paths[guest.path] > 1:
            refusal = UserError(f"Two guests have the configuration {guest.path}.", "Set another path for one of them.")
        elif guest.name in stub_domains:
            refusal = UserError(
                f"{guest.name} is what the stub domain of {guest.name[: -len('-dm')]} will be called.",
                "Set another name for the guest.",
            )
        elif shared is not None:
            refusal = UserError(
                f"The MAC address {shared} is another guest's, too.", "Set another mac for one of them."
            )
        elif disk is not None:
            refusal = UserError(
                f"The disk {disk} is another guest's, too, and both are to run and would write to it.",
                "Set another target for one of them, or the access ro for both, or let one of them be stopped.",
            )
        found.append(guest if refusal is guest.refusal else replace(guest, refusal=refusal))
    return found


def _placed(guests: Sequence[Wanted]) -> List[Wanted]:
    """Give the guests a place that are to start before or after others of the list."""
    before = {guest.name: [*guest.values["start_after"]] for guest in guests}
    named = {name for names in before.values() for name in names}
    places: Dict[str, int] = {}
    for guest in ordered([guest for guest in guests if guest.refusal is None]):
        places[guest.name] = max((places.get(name, 0) + 1 for name in before[guest.name]), default=0)
    return [
        replace(guest, place=places.get(guest.name)) if before[guest.name] or guest.name in named else guest
        for guest in guests
    ]


def _written(guest: Wanted) -> List[str]:
    runs = guest.state in ("running", "paused", "restarted", "rebooted")
    return disks.written(guest.values["disks"]) if runs else []


def _macs(guest: Wanted) -> List[str]:
    return [nic["mac"].lower() for nic in guest.values["nics"] if nic["mac"]]


# The number that chown(2) takes for none; all below it can be those of accounts.
_NO_NUMBER = (1 << 32) - 1


def permissions(params: Mapping[str, Any]) -> files.Permissions:
    """Read the parameters mode, owner and group.

    :raises UserError: one of them is none, and which.
    """
    return files.Permissions(
        _mode(params["mode"]),
        _number("owner", "user", params["owner"], lambda name: pwd.getpwnam(name).pw_uid),
        _number("group", "group", params["group"], lambda name: grp.getgrnam(name).gr_gid),
    )


def _mode(value: Any) -> Optional[int]:
    if value is None:
        return None
    if isinstance(value, str) and re.match(r"(0o?)?[0-7]{3}\Z", value):
        return int(value[-3:], 8)
    # YAML reads 0600 as a number in octal; 600 is one too, and a mistake.
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 0o777:
        return value
    raise UserError(
        f"The mode {value!r} is not a file's permission bits in octal.",
        'Set mode to an octal number in quotes, for example "0600".',
    )


def _number(option: str, whose: str, name: Optional[str], look_up: Callable[[str], int]) -> Optional[int]:
    """Return the number of a user or group, which may be given as such."""
    if name is None:
        return None
    try:
        number = int(name) if name.isdecimal() else look_up(name)
    except (KeyError, ValueError):
        number = _NO_NUMBER
    if number >= _NO_NUMBER:
        raise UserError(
            f"There is no {whose} {name!r} on this host.",
            f"Set {option} to the name or number of a {whose} of this host.",
        )
    return number
