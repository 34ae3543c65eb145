# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# bin/docs builds a site with the guides and the reference.

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "bin")]

import _docs


def listed() -> list[str]:
    text = (REPOSITORY / "docs" / "docsite" / "rst" / "guides.rst").read_text()
    return re.findall(r"^- ``docs/(\w+)\.md``$", text, re.MULTILINE)


def test_every_guide_is_listed() -> None:
    assert sorted(listed()) == sorted(path.stem for path in REPOSITORY.glob("docs/*.md"))


@pytest.mark.usefixtures("ansible")
def test_the_site_has_the_guides_and_the_reference(tmp_path: Path) -> None:
    first = _docs.build(dict(os.environ), tmp_path / "site")
    pages = first.parent / "collections" / "xen" / "stubdom"
    assert 'href="docsite/guides.html"' in (pages / "index.html").read_text()
    index = (pages / "docsite" / "guides.html").read_text()
    for name in listed():
        assert f'href="guides/{name}.html"' in index
        assert (pages / "docsite" / "guides" / f"{name}.html").is_file()
    for path in REPOSITORY.glob("plugins/modules/[!_]*.py"):
        assert (pages / f"{path.stem}_module.html").is_file()
    for path in REPOSITORY.glob("roles/*/tasks"):
        assert (pages / f"{path.parent.name}_role.html").is_file()


def test_links_of_guides_lead_to_where_things_are_on_the_site(tmp_path: Path) -> None:
    guide = tmp_path / "docs" / "one.md"
    text = "[a](two.md#b) [r](../roles/r/README.md) [s](../SECURITY.md#x) [w](https://example.org) [h](#here)"
    assert _docs.on_the_site(text, guide, tmp_path, "https://git.example.org/c") == (
        "[a](two.md#b) [r](../../r_role.rst) [s](https://git.example.org/c/blob/main/SECURITY.md#x) "
        "[w](https://example.org) [h](#here)"
    )
