# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What users install is what git has, without what only those need who work on the collection.

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import sanity

REPOSITORY = Path(__file__).resolve().parents[2]
# What tools leave in a checkout.
STRAY = (
    ".ansible/collections/x", ".cache/x", ".mypy_cache/x", ".pytest_cache/x", ".ruff_cache/x", ".hypothesis/x",
    ".venv/bin/python", "build/demo/report.json", "changelogs/.plugin-cache.yaml", "collections/ansible_collections/x",
    "plugins/modules/__pycache__/dom0_mem.cpython-311.pyc", "tests/output/x", "tests/integration/inventory",
    "xen-stubdom-0.0.9.tar.gz",
)  # fmt: skip
ROOMS = {
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "COPYING",
    "LICENSES",
    "README.md",
    "REUSE.toml",
    "SECURITY.md",
    "changelogs",
    "docs",
    "meta",
    "playbooks",
    "plugins",
    "roles",
}


def build(ansible: Callable[..., str], source: Path, target: Path) -> set[str]:
    ansible("ansible-galaxy", "collection", "build", "--output-path", str(target), directory=source)
    (archive,) = target.glob("xen-stubdom-*.tar.gz")
    with tarfile.open(archive) as packed:
        return {member.name for member in packed.getmembers() if not member.isdir()}


@pytest.fixture
def wanted() -> set[str]:
    return set(sanity.files(REPOSITORY)) - {"galaxy.yml"} | {"FILES.json", "MANIFEST.json"}


def test_nothing_stray_is_packed(ansible: Callable[..., str], tmp_path: Path, wanted: set[str]) -> None:
    checkout = tmp_path / "checkout"
    sanity.copy(REPOSITORY, sanity.files(REPOSITORY), checkout)
    for name in STRAY:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("stray\n")
    assert build(ansible, checkout, tmp_path) == wanted
    assert {name.partition("/")[0] for name in wanted} <= ROOMS | {"FILES.json", "MANIFEST.json"}


def test_nothing_stray_is_packed_from_here(ansible: Callable[..., str], tmp_path: Path, wanted: set[str]) -> None:
    assert build(ansible, REPOSITORY, tmp_path) == wanted


def test_the_built_collection_can_be_installed(ansible: Callable[..., str], tmp_path: Path) -> None:
    build(ansible, REPOSITORY, tmp_path)
    (archive,) = tmp_path.glob("xen-stubdom-*.tar.gz")
    ansible(
        "ansible-galaxy",
        "collection",
        "install",
        "--offline",
        "--force",
        "-p",
        str(tmp_path / "installed"),
        str(archive),
    )
    installed = tmp_path / "installed" / "ansible_collections" / "xen" / "stubdom"
    assert (installed / "roles" / "dom0_memory" / "tasks" / "main.yml").is_file()
