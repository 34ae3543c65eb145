# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Dict, Tuple

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images import releases, sources
from ansible_collections.xen.stubdom.plugins.module_utils._images.sources import Source, SourceOptions


def plan(release: str = "4.17", *images: str, trees: Any = None, **options: Any) -> Dict[str, Source]:
    given = {"xen": {}, "mini-os": {}, "qemu-xen-traditional": {}, **(trees or {})}
    row = releases.find(release)
    planned: Tuple[Source, ...] = sources.plan(release, row, images or ("c",), SourceOptions(given, **options))
    return {source.name: source for source in planned}


def test_upstream_is_verified_by_our_own_checksums() -> None:
    assert all(source.remote and source.checksum for source in plan().values())


def test_nothing_unverified_is_downloaded() -> None:
    """All that nothing verifies is named, with the parameter that would."""
    trees = {
        "xen": {"tarball": "https://example.org/xen.tar.gz"},
        "mini-os": {"git": "https://example.org/mini-os.git", "revision": "master"},
    }
    with pytest.raises(UserError) as refused:
        plan("4.11", "caml", trees=trees)
    for name, what in (("xen", "SHA-256"), ("mini-os", "commit"), ("ocaml-4.02.0.tar.gz", "SHA-256")):
        assert f"{name} from https://" in refused.value.what and f"(no {what} is known" in refused.value.what
    assert refused.value.remedy.startswith("Set what is missing in xen.checksum and mini_os.checksum and checksums,")
    allowed = plan("4.11", "caml", trees=trees, allow_unverified=True)
    assert allowed["xen"].checksum is None


def test_a_source_package_is_verified_by_apt() -> None:
    assert plan(trees={"xen": {"package": "xen"}})["xen"].revision == "4.17"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a b.tar",
        "http://example.org/a\nb.tar",
        "http://example.org/a\0.tar",
        "http://example.org/..",
        "http://example.org/",
        "http://example.org/.digests.json",
        "http://example.org:port/x.tar",
        "http://example.org:0/x.tar",
        "http://[::1/x.tar",
        "http:///x.tar",
        "ftp://example.org/x.tar",
        "gopher://example.org/x.tar",
        "http://example.org/\u00e9.tar",
        "http://example.org/\udc80.tar",
        "relative.tar",
        "file://relative.tar",
        "-x.tar",
        "",
    ],
)
def test_what_is_no_address_of_a_file(url: str) -> None:
    with pytest.raises(UserError) as refused:
        plan(trees={"xen": {"tarball": url}}, allow_unverified=True)
    assert refused.value.what and "xen.tarball" in refused.value.remedy


def test_one_source_in_two_ways() -> None:
    with pytest.raises(UserError, match="mini_os sets git and directory for one source"):
        plan(trees={"mini-os": {"git": "/srv/a", "directory": "/srv/b"}})


@pytest.mark.parametrize("package", ["-x", "../xen", "xen=4.17", "Xen", "x y"])
def test_names_of_packages(package: str) -> None:
    with pytest.raises(UserError):
        plan(trees={"xen": {"package": package}})


@pytest.mark.parametrize(
    "origin",
    [
        "https://example.org/x.git",
        "ssh://git@example.org/x.git",
        "git@example.org:x.git",
        "/srv/x.git",
        "file:///srv/x",
    ],
)
def test_places_of_repositories(origin: str) -> None:
    assert plan(trees={"mini-os": {"git": origin}})["mini-os"].origin == origin
