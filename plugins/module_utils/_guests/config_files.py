# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the configuration files of guests in /etc/xen, and the names that they give.

from __future__ import annotations

import contextlib
import os
import re
from typing import Dict, Iterator, List, Mapping, Optional, Set, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import files, masking
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError, needs_root
from ansible_collections.xen.stubdom.plugins.module_utils._guests import virtualisation
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg

HEADER = "Managed by the Ansible collection xen.stubdom; changes are overwritten."

_NAME = re.compile(rb"^[ \t]*name[ \t]*=[ \t]*([\"'])(?P<name>[^\"'\n]+)\1", re.MULTILINE)


def ours(content: bytes) -> bool:
    """Whether this collection has written a file."""
    return content.startswith(f"# {HEADER}\n".encode())


def check_ours(path: str, name: str, before: Optional[bytes], *, hvm: Optional[bool], removed: bool = False) -> None:
    """Refuse to take a file away from another program or administrator, or from a guest of another kind.

    Two lists that have one name, as those of two roles, would else undo each other's work at every run.

    :param hvm: whether an HVM guest is meant, None where the kind does not matter.
    :param removed: whether the file is to be removed.
    """
    if before is None:
        return
    if not ours(before):
        raise UserError(
            f"{path} was not written by this module: the guest name {name} is taken by another configuration.",
            "Set another name for the guest, or set replace to true to take the file over.",
        )
    there = {} if hvm is None else settings_of(before)
    if there and virtualisation.hvm(there) != hvm:
        kinds = ["an HVM guest" if kind else "a PV or PVH guest" for kind in (virtualisation.hvm(there), hvm)]
        raise UserError(
            f"{path} is the configuration of {kinds[0]} called {name}, and {kinds[1]} is "
            f"{'to be absent' if removed else 'asked for'}.",
            "Take the guest out of one of the two lists, or set replace to true to remove it all the same."
            if removed
            else "Set another name for one of the two, or set replace to true to make one of the other.",
        )


def check_names(name: str, keys: Mapping[str, xl_cfg.Value], taken: Mapping[str, str]) -> None:
    """Refuse what would give two domains one name.

    :param taken: the names that other configurations give, with their files.
    """
    for domain in domain_names(name, keys):
        if domain in taken:
            what = "The guest name" if domain == name else f"The stub domain of {name} will be called"
            raise UserError(
                f"{what} {domain}{'' if domain == name else ', and that'} is taken by another configuration: "
                f"{taken[domain]}.",
                "Set another name for the guest, or remove that file.",
            )


def secrets(content: Optional[bytes]) -> Set[str]:
    """The passwords in a file."""
    try:
        return masking.secrets(xl_cfg.read("", content))
    except UserError:
        return masking.secrets_of_text(content or b"")


def settings_of(content: Optional[bytes]) -> Dict[str, xl_cfg.Value]:
    """What a file sets, as far as xl would understand it."""
    try:
        return xl_cfg.read("", content)
    except UserError:
        return {}


def prove(path: str, keys: Mapping[str, xl_cfg.Value]) -> None:
    """Read the file back the way xl does."""
    if xl_cfg.read(path, files.read(path)) != keys:
        raise UserError(f"{path} does not say what was written to it.", "Look whether something else writes that file.")


def leads_to(link: str, path: str) -> bool:
    """Whether a link leads to a configuration, which may be missing."""
    return os.path.realpath(link) == os.path.realpath(path)


def link(path: str, place: Optional[int]) -> str:
    """The link by which the host starts a guest: xendomains goes through `auto` in the order of names.

    :param place: where the guest stands in an order; None where that does not matter.
    """
    name = os.path.basename(path)
    return os.path.join(os.path.dirname(path), "auto", name if place is None else f"{place:03}-{name}")


def links(path: str) -> List[str]:
    """The links of ours by which the host starts a guest, whatever its place in an order was."""
    directory, name = os.path.split(link(path, None))
    own = re.compile(rf"(?:[0-9]{{3}}-)?{re.escape(name)}")
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        there = [os.path.join(directory, entry) for entry in sorted(os.listdir(directory)) if own.fullmatch(entry)]
        return [entry for entry in there if os.path.islink(entry) and leads_to(entry, path)]
    return []


def check_autostart(link: str, linked: Optional[str], path: str, *, replace: bool) -> None:
    """Refuse a link that the host would not start this guest by, or that starts another one."""
    directory = os.path.dirname(link)
    parent = os.path.dirname(os.path.realpath(directory))
    if parent != os.path.realpath(os.path.dirname(path)):
        raise UserError(
            f"{directory} is a link to {os.path.realpath(directory)}, from where ../{os.path.basename(path)} is not "
            f"{path}.",
            "Make it a directory, or leave out autostart.",
        )
    if linked is not None and not replace and not leads_to(link, path):
        raise UserError(
            f"{link} is a link to {linked}, not to {path}: it starts another guest.",
            "Remove it, leave out autostart, or set replace to true to take it over.",
        )


def prove_autostart(link: str, path: str, *, wanted: bool) -> None:
    """Look whether the host starts the guest, as xendomains does."""
    found = os.path.exists(link) and os.path.samefile(link, path)
    if found != wanted:
        raise UserError(
            f"{link} {'does not lead' if wanted else 'still leads'} to {path}.",
            "Look whether something else writes there.",
        )


# What editors and package managers keep beside a file, what a killed run of this collection may leave, and Xen's own
# examples (tools/examples/Makefile).
_NO_GUEST = re.compile(r"\A\.|\Axlexample\.|~\Z|\.(bak|orig|old|dpkg-\w+|rpm\w+|ucf-\w+)\Z")


def may_be_guest(file: str) -> bool:
    """Whether a file of that name may be a guest's configuration, and no copy or example of one."""
    return not _NO_GUEST.search(file)


def found(directory: str) -> Iterator[Tuple[str, bytes]]:
    """Yield the files of a directory that give a guest's name, and their contents.

    :raises UserError: the directory cannot be read.
    """
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        remedy = needs_root(error) or "Correct directory."
        raise UserError(f"The directory {directory} cannot be read: {error.strerror}.", remedy) from error
    for entry in entries:
        if may_be_guest(entry.name) and entry.is_file() and entry.stat().st_size <= xl_cfg.LONGEST:
            content = _content(entry.path)
            if guest_name(content) is not None:
                yield entry.path, content


def names(directory: str, own: Set[str]) -> Dict[str, str]:
    """The names of guests and stub domains that the configurations of a directory give, with their files.

    :param own: real paths of those that are left out.
    """
    taken: Dict[str, str] = {}
    for path, content in found(directory):
        if os.path.realpath(path) not in own:
            for name in domain_names(guest_name(content) or "", settings_of(content)):
                taken.setdefault(name, path)
    return taken


def domain_names(name: str, keys: Mapping[str, xl_cfg.Value]) -> List[str]:
    """The names of the domains that a guest becomes (libxl__stub_dm_name, libxl_dm.c)."""
    return [name, f"{name}-dm"] if virtualisation.stubbed(keys) else [name]


def _content(path: str) -> bytes:
    """What a file holds; nothing where it cannot be read, and is no configuration."""
    try:
        return files.read(path, longest=xl_cfg.LONGEST) or b""
    except UserError:
        return b""


def guest_name(content: bytes) -> Optional[str]:
    """The name that a configuration gives, as far as it is one; xm's were programs."""
    try:
        name = xl_cfg.read("", content).get("name")
    except UserError:
        match = _NAME.search(content)
        name = match["name"].decode("latin-1") if match else None
    return name if isinstance(name, str) else None
