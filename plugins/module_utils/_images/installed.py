# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the one installer of images. Contents in, changes out, and the one place that
# makes these changes.
#
# A run that is interrupted after any of the changes leaves a host that the next run completes, as long as the order
# holds: the previous image is saved first; a manifest is written before the files that it describes, and removed after
# them; a rollback is noted before the previous image is forgotten. So there is never a file of ours without a manifest
# beside it, and no mixture of two images passes for a whole one.

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import files, manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.files import AnyChange, Change
from ansible_collections.xen.stubdom.plugins.module_utils._common.manifest import Manifest
from ansible_collections.xen.stubdom.plugins.module_utils._images import helpers, kinds
from ansible_collections.xen.stubdom.plugins.module_utils._xen import firmware
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

PREVIOUS = ".previous"

# Xen's documentation speaks of pv-grub.gz (docs/misc/stubdom.txt), a file that no release ever installed.
ALIASES: Mapping[str, Tuple[str, ...]] = {"pv-grub-x86_64.gz": ("pv-grub.gz",)}


@dataclass(frozen=True)
class Place:
    """The files of an image in its directory.

    :param files: their names, the first being the one that a message names.
    :param name: the name of the manifest, without .json.
    :param mode: permission bits of the files.
    """

    directory: str
    files: Tuple[str, ...]
    name: str
    mode: int = 0o644

    @property
    def path(self) -> str:
        return self.path_of(self.files[0])

    @property
    def manifest(self) -> str:
        return manifest.path(self.directory, self.name)

    @property
    def previous_manifest(self) -> str:
        return self.manifest + PREVIOUS

    @property
    def rolled_back(self) -> str:
        """The checksums of the image that a rollback has put back: as long as they are right, it has been done."""
        return os.path.join(self.directory, f"{self.name}.rolled-back")

    @property
    def aliases(self) -> Tuple[str, ...]:
        return tuple(self.path_of(alias) for file in self.files for alias in ALIASES.get(file, ()))

    @property
    def written(self) -> Tuple[str, ...]:
        """What an installation writes, beside aliases and the previous image."""
        return (self.manifest, *(self.path_of(file) for file in self.files))

    @property
    def all(self) -> Tuple[str, ...]:
        return (
            *self.written,
            *self.aliases,
            self.previous_manifest,
            *(self.previous_of(file) for file in self.files),
            self.rolled_back,
        )

    def path_of(self, file: str) -> str:
        return os.path.join(self.directory, file)

    def previous_of(self, file: str) -> str:
        return self.path_of(file) + PREVIOUS


def one_file(directory: str, file: str, mode: int = 0o644) -> Place:
    """Return the place of an image that is one file."""
    return Place(directory, (file,), file[: -len(".gz")] if file.endswith(".gz") else file, mode)


def firmware_directory(xen: Xen, named: Optional[str]) -> str:
    """Return the firmware directory that the user names, or that of this host.

    :raises UserError: there is none.
    """
    if named is None:
        return firmware.directory(xen)
    if not os.path.isdir(named):
        raise UserError(
            f"There is no firmware directory {named}.",
            "Set firmware_directory to the directory that holds hvmloader, or leave it out to have it found.",
        )
    return named


def place_of(name: str, firmware_directory: Callable[[], str], helpers_directory: Optional[str]) -> Place:
    """Return where an image that is built from Xen source is installed.

    :param firmware_directory: finds the firmware directory, where it is needed.
    :param helpers_directory: the directory of the dom0 helper programs, None for the default one.
    :raises UserError: there is no such image.
    """
    image = kinds.find(name)
    if name not in kinds.HELPERS:
        return one_file(firmware_directory(), image.installed, image.mode)
    directory = helpers_directory or helpers.directory(firmware_directory())
    return one_file(directory, image.installed, image.mode)


Contents = Mapping[str, Optional[bytes]]


def read(place: Place) -> Dict[str, Optional[bytes]]:
    """Return the content of every file of the place."""
    return {path: files.read(path) for path in place.all}


def problem(place: Place, now: Contents) -> Optional[str]:
    """Say why the image is not there whole, in one sentence; None if it is."""
    if all(now[path] is None for path in place.written):
        return "There is no image yet."
    if now[place.manifest] is None:
        return f"There is no manifest {place.manifest} that describes the image."
    record = manifest.parse(now[place.manifest])
    if record is None:
        return f"The manifest {place.manifest} is damaged: {manifest.damage(now[place.manifest])}."
    path = _unlike(place, now, record, _owned_aliases(place, now))
    return None if path is None else f"{path} is not the file that the manifest {place.manifest} describes."


def reason_unchanged(state: str, place: Place, now: Contents) -> str:
    """Say why an image stays as it is that is to be rolled back or removed, in one sentence."""
    if state == "rollback":
        return "The previous image has been put back already."
    if any(now[place.path_of(file)] is not None for file in place.files):
        return f"{place.path} has no manifest: another program or administrator put it there, and it stays as it is."
    return "There is no image."


def identity(place: Place, now: Contents) -> Optional[str]:
    """Return the identity of the image that is there, None if it is not there whole."""
    record = manifest.parse(now[place.manifest])
    return record.identity if record is not None and problem(place, now) is None else None


def damaged_manifests(place: Place, now: Contents) -> List[str]:
    """Report manifests that are damaged, in sentences."""
    damaged = {path: manifest.damage(now[path]) for path in (place.manifest, place.previous_manifest)}
    return [f"The manifest {path} is damaged: {how}." for path, how in damaged.items() if how is not None]


def foreign_aliases(place: Place, now: Contents) -> List[str]:
    """Report aliases that are not ours and stay as they are, in sentences."""
    foreign = (alias for alias in place.aliases if alias not in _owned_aliases(place, now))
    return [f"{alias} was put there by another program or administrator and stays as it is." for alias in foreign]


def save(place: Place, now: Contents) -> List[Change]:
    """Keep the image that is there as the previous one.

    Files that are not what their manifest describes are not kept: an interrupted run left them so, and has saved the
    previous image already. Files without a manifest were put there by another program or administrator.
    """
    if now[place.manifest] is not None and problem(place, now) is not None:
        return []
    if all(now[place.path_of(file)] is None for file in place.files):
        return []
    saved = [_change(place, now, place.previous_of(file), now[place.path_of(file)]) for file in place.files]
    record = _change(place, now, place.previous_manifest, now[place.manifest])
    return _needed([record, *saved] if record.after is not None else [*saved, record])


def install(place: Place, now: Contents, contents: Mapping[str, bytes], record: Manifest) -> List[Change]:
    """Save the previous image, then write the manifest, the files and the aliases.

    :param contents: by name of file.
    :raises UserError: a file is not the one that the manifest describes.
    """
    for file, content in contents.items():
        expected = record.files.get(file, record.sha256)
        digest = files.sha256(content)
        if digest != expected:
            raise UserError(
                f"The image for {place.path_of(file)} has SHA-256 {digest}, its manifest says {expected}: the copy is"
                " damaged.",
                "Copy the image from the build host again.",
            )
    owned = _owned_aliases(place, now)
    described = {file: files.sha256(content) for file, content in contents.items()}
    described.update({os.path.basename(alias): described[place.files[0]] for alias in owned})
    rendered = manifest.render({**record.as_dict(), "files": described})
    return _needed(
        [
            *save(place, now),
            _change(place, now, place.rolled_back, None),
            _change(place, now, place.manifest, rendered),
            *(_change(place, now, place.path_of(file), contents[file]) for file in place.files),
            *(_change(place, now, alias, contents[place.files[0]]) for alias in owned),
        ]
    )


def rolled_back(place: Place, now: Contents) -> bool:
    """Whether the image that is there is one that a rollback has put back."""
    there = {file: now[place.path_of(file)] for file in place.files}
    return now[place.rolled_back] is not None and now[place.rolled_back] == _note(there)


def roll_back(place: Place, now: Contents) -> List[Change]:
    """Put the previous image in the place of this one; none is needed if that was done already.

    :raises UserError: there is none, or it is damaged.
    """
    there = {file: now[place.path_of(file)] for file in place.files}
    saved = {file: now[place.previous_of(file)] for file in place.files}
    note = _change(place, now, place.rolled_back, _note(saved))
    forget = [_change(place, now, path, None) for path in _forget(place)]
    copies = all(now[place.previous_of(file)] in (None, now[place.path_of(file)]) for file in place.files)
    record = manifest.parse(now[place.previous_manifest])
    same = now[place.previous_manifest] == now[place.manifest]
    if rolled_back(place, now):
        return _needed(forget)
    if copies and same and record is not None and _unlike(place, now, record) is None:
        # An earlier run was interrupted when only this was left to do.
        return _needed([_change(place, now, place.rolled_back, _note(there)), *forget])
    if all(content is None for content in saved.values()):
        raise UserError(
            f"There is no previous image of {place.path}.", "Install the image that you want with state present."
        )
    if now[place.previous_manifest] is None:
        return _bring_back(place, now, note)
    wrong = problem(place, _previous(place, now))
    if wrong is not None or record is None:
        raise UserError(
            f"The previous image of {place.path} cannot be put back. {wrong}",
            "Install the image that you want with state present.",
        )
    main = now[place.previous_of(place.files[0])]
    return _needed(
        [
            # While the manifest that is replaced says that they are ours.
            *(
                _change(place, now, alias, main if os.path.basename(alias) in record.files else None)
                for alias in _owned_aliases(place, now)
            ),
            _change(place, now, place.manifest, now[place.previous_manifest]),
            *(_change(place, now, place.path_of(file), now[place.previous_of(file)]) for file in place.files),
            note,
            *forget,
        ]
    )


def remove(place: Place, now: Contents) -> List[Change]:
    """Remove what we installed and only that; files that were there before us are put back."""
    saved = any(now[place.previous_of(file)] is not None for file in place.files)
    if now[place.manifest] is None:
        # What is there is not ours, but what an interrupted run saved of it, or left of an image of ours, is.
        copies = all(now[place.previous_of(file)] in (None, now[place.path_of(file)]) for file in place.files)
        ours = now[place.previous_manifest] is not None or copies
        forget = [_change(place, now, path, None) for path in _forget(place)] if ours else []
        return _needed([*forget, _change(place, now, place.rolled_back, None)])
    if saved and now[place.previous_manifest] is None:
        return _bring_back(place, now, _change(place, now, place.rolled_back, None))
    return _needed(
        [
            *(_change(place, now, place.path_of(file), None) for file in place.files),
            *(_change(place, now, alias, None) for alias in _owned_aliases(place, now)),
            *(_change(place, now, path, None) for path in (*_forget(place), place.rolled_back)),
            _change(place, now, place.manifest, None),
        ]
    )


def apply(place: Place, now: Contents, changes: List[Change], others: Sequence[AnyChange] = ()) -> None:
    """Make the changes, remove what a killed run has left beside any file of the place, and read again.

    :param now: what was read before.
    :param others: changes of other files, which are made before these, all of them or none.
    :raises UserError: they could not be made, or are not there afterwards; the files are as they were.
    """
    changed = {change.path for change in changes}
    same = (_change(place, now, path, now[path]) for path in place.all if path not in changed)
    files.apply([*others, *changes, *same])
    try:
        found = {change.path: files.read(change.path) for change in changes}
    except BaseException:
        files.apply(files.reverse([*others, *changes]))
        raise
    wrong = next((change.path for change in changes if found[change.path] != change.after), None)
    if wrong is not None:
        back = [Change(c.path, found[c.path], c.before, mode=c.mode) for c in reversed(changes)]
        files.apply([*back, *files.reverse(others)])
        raise UserError(
            f"{wrong} is not what was just written there.",
            "The files were put back; find out which other program writes there, then run again.",
        )


def _bring_back(place: Place, now: Contents, note: Change) -> List[Change]:
    """Put back the files that were there before us, which had no manifest and no aliases.

    :param note: that this is a rollback, or that there is none any more.
    """
    return _needed(
        [
            *(_change(place, now, place.path_of(file), now[place.previous_of(file)]) for file in place.files),
            *(_change(place, now, alias, None) for alias in _owned_aliases(place, now)),
            _change(place, now, place.manifest, None),
            note,
            *(_change(place, now, path, None) for path in _forget(place)),
        ]
    )


def _note(contents: Mapping[str, Optional[bytes]]) -> Optional[bytes]:
    """Return the note that an image has been put back, in the form of sha256sum; None where no image is there."""
    sums = [f"{files.sha256(content)}  {file}\n" for file, content in contents.items() if content is not None]
    return "".join(sums).encode() or None


def _forget(place: Place) -> Tuple[str, ...]:
    """Return the files of the previous image in the order in which they are removed."""
    return (*(place.previous_of(file) for file in place.files), place.previous_manifest)


def _previous(place: Place, now: Contents) -> Contents:
    """Return the contents as they would be with the previous image in the place of this one."""
    moved = {place.path_of(file): now[place.previous_of(file)] for file in place.files}
    main = now[place.previous_of(place.files[0])]
    return {**now, **moved, **dict.fromkeys(place.aliases, main), place.manifest: now[place.previous_manifest]}


def _unlike(place: Place, now: Contents, record: Manifest, aliases: Sequence[str] = ()) -> Optional[str]:
    """Return the first file or alias that is not as the manifest describes it."""
    for path in (*(place.path_of(file) for file in place.files), *aliases):
        content = now[path]
        if content is None or record.files.get(os.path.basename(path)) != files.sha256(content):
            return path
    return None


def _owned_aliases(place: Place, now: Contents) -> List[str]:
    """Return the aliases that are ours, or are not there; beside a damaged manifest, copies of the image are ours."""
    record = manifest.parse(now[place.manifest])
    recorded = record.files if record is not None else {}
    damaged = record is None and now[place.manifest] is not None
    return [
        alias
        for alias in place.aliases
        if now[alias] is None or os.path.basename(alias) in recorded or (damaged and now[alias] == now[place.path])
    ]


def _change(place: Place, now: Contents, path: str, after: Optional[bytes]) -> Change:
    records = (place.manifest, place.previous_manifest, place.rolled_back)
    return Change(path, now[path], after, mode=manifest.MODE if path in records else place.mode)


def _needed(changes: List[Change]) -> List[Change]:
    return [change for change in changes if change.needed]
