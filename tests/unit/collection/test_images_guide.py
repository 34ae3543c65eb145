# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The guide to images from source says what the tables of releases and tarballs say.

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.xen.stubdom.plugins.module_utils._images import releases, tarballs

GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "images_from_source.md").read_text()


def test_every_release_is_listed_with_its_images() -> None:
    listed = {}
    for first, last, images in re.findall(r"^\| 4\.(\d+) to 4\.(\d+) \| (.*) \|$", GUIDE, re.MULTILINE):
        for minor in range(int(first), int(last) + 1):
            listed[(4, minor)] = tuple(re.findall(r"`([^`]+)`", images))
    assert listed == {row.version: row.images for row in releases.RELEASES}


def test_every_tarball_is_listed_with_its_checksum() -> None:
    listed = dict(re.findall(r"^\| `(\S+\.(?:tar\.\w+|tgz))` \| `([0-9a-f]{64}|-)` \|$", GUIDE, re.MULTILINE))
    assert listed == {one.file: one.sha256 or "-" for one in tarballs.TARBALLS.values()}
