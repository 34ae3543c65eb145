# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what becomes of the files of one image in the firmware directory when it is
# installed, rolled back or removed. Contents in, changes out.

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import manifest as _manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.files import Change, sha256

PREVIOUS = ".previous"

# Xen's documentation speaks of pv-grub.gz (docs/misc/stubdom.txt), a file that no release ever installed.
ALIASES: Dict[str, Tuple[str, ...]] = {"pv-grub-x86_64.gz": ("pv-grub.gz",)}


@dataclass(frozen=True)
class Place:
    """The files of an image in its directory.

    :param mode: permission bits of the image.
    """

    directory: str
    file: str
    mode: int = 0o644

    @property
    def name(self) -> str:
        return self.file[: -len(".gz")] if self.file.endswith(".gz") else self.file

    @property
    def path(self) -> str:
        return os.path.join(self.directory, self.file)

    @property
    def manifest(self) -> str:
        return _manifest.path(self.directory, self.name)

    @property
    def aliases(self) -> Tuple[str, ...]:
        return tuple(os.path.join(self.directory, alias) for alias in ALIASES.get(self.file, ()))

    @property
    def previous(self) -> str:
        return self.path + PREVIOUS

    @property
    def previous_manifest(self) -> str:
        return self.manifest + PREVIOUS

    @property
    def all(self) -> Tuple[str, ...]:
        return (self.path, self.manifest, *self.aliases, self.previous, self.previous_manifest)


Contents = Mapping[str, Optional[bytes]]


def record(content: Optional[bytes]) -> Optional[Dict[str, Any]]:
    """Return a manifest's content, None if there is none or it is no manifest."""
    found = _manifest.read(content)
    return found if found is not None and "identity" in found else None


def identity(place: Place, now: Contents) -> Optional[str]:
    """Return the identity of the image that is there, None if it is not there whole."""
    manifest, image = record(now[place.manifest]), now[place.path]
    if manifest is None or image is None or manifest.get("sha256") != sha256(image):
        return None
    if any(now[alias] != image for alias in _owned_aliases(place, now)):
        return None
    return str(manifest["identity"])


def install(place: Place, now: Contents, image: bytes, manifest: Mapping[str, Any]) -> List[Change]:
    """Put the image, its record and its aliases there; what was there becomes the previous one."""
    if sha256(image) != manifest.get("sha256"):
        raise UserError(
            f"The image for {place.path} has sha256 {sha256(image)}, its manifest says {manifest.get('sha256')}.",
            "Carry it anew from the builder.",
        )
    owned = _owned_aliases(place, now)
    recorded = {**manifest, "files": {place.file: manifest["sha256"]}}
    recorded["files"].update({os.path.basename(alias): manifest["sha256"] for alias in owned})
    after: Dict[str, Optional[bytes]] = {place.path: image, place.manifest: _manifest.render(recorded)}
    after.update(dict.fromkeys(owned, image))
    old = now[place.path]
    if old is not None and old != image:
        after[place.previous] = old
        after[place.previous_manifest] = now[place.manifest]
    return _changes(place, now, after)


def roll_back(place: Place, now: Contents) -> List[Change]:
    """Put the previous image in the place of this one.

    :raises UserError: there is none.
    """
    old = now[place.previous]
    if old is None:
        raise UserError(f"There is no previous image of {place.path}.", "Install the one that you want.")
    after: Dict[str, Optional[bytes]] = {
        place.path: old,
        place.manifest: now[place.previous_manifest],
        place.previous: None,
        place.previous_manifest: None,
    }
    # An image that was there before ours had no aliases of ours.
    ours = record(now[place.previous_manifest]) is not None
    after.update(dict.fromkeys(_owned_aliases(place, now), old if ours else None))
    return _changes(place, now, after)


def remove(place: Place, now: Contents) -> List[Change]:
    """Remove what we installed and only that; a file that was there before us comes back."""
    if record(now[place.manifest]) is None:
        return []
    foreign = now[place.previous] if record(now[place.previous_manifest]) is None else None
    after: Dict[str, Optional[bytes]] = dict.fromkeys((place.manifest, *_owned_aliases(place, now)))
    after.update({place.path: foreign, place.previous: None, place.previous_manifest: None})
    return _changes(place, now, after)


def foreign_aliases(place: Place, now: Contents) -> List[str]:
    """Return aliases that somebody else has put there; they stay as they are."""
    return [alias for alias in place.aliases if alias not in _owned_aliases(place, now)]


def _owned_aliases(place: Place, now: Contents) -> List[str]:
    recorded = (record(now[place.manifest]) or {}).get("files", {})
    return [alias for alias in place.aliases if now[alias] is None or os.path.basename(alias) in recorded]


def _changes(place: Place, now: Contents, after: Mapping[str, Optional[bytes]]) -> List[Change]:
    images = (place.path, place.previous)
    changes = [
        Change(path, now[path], content, mode=place.mode if path in images else 0o644)
        for path, content in after.items()
    ]
    return [change for change in changes if change.needed]
