# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Every row of the table of distributions, with a tree of that distribution: what is found where, what messages name.

from __future__ import annotations

import ast
import glob
import os
import re
from pathlib import Path
from typing import Any, Dict, Optional

import pytest
import yaml
from ansible_collections.xen.stubdom.plugins.filter.packages import by_os_family
from ansible_collections.xen.stubdom.plugins.filter.packages import packages as filtered
from ansible_collections.xen.stubdom.plugins.module_utils._common import build_packages, distributions

FIXTURES = Path(__file__).parent / "fixtures" / "distributions"
ROWS = {row.key: row for row in distributions.DISTRIBUTIONS}
INSIDE = {"firmware": "hvmloader", "programs": "vchan-socket-proxy", "grub_modules": "kernel.img"}


def fixture(key: str) -> Dict[str, Any]:
    return dict(yaml.safe_load((FIXTURES / f"{key}.yml").read_text(encoding="utf-8")))


def tree(root: Path, key: str) -> Path:
    described = fixture(key)
    for path in ("/etc/os-release", *described["files"]):
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(described["os_release"] if path == "/etc/os-release" else "")
    return root


def first(root: Path, kind: str, row: distributions.Distribution, version: str) -> Optional[str]:
    for path in distributions.paths(kind, row, version=version, platform="x86_64-xen"):
        for there in glob.glob(str(root) + path):
            if os.path.exists(f"{there}/{INSIDE[kind]}" if kind in INSIDE else there):
                return there[len(str(root)) :]
    return None


def test_every_row_has_a_tree_and_every_tree_a_row() -> None:
    assert {path.stem for path in FIXTURES.iterdir()} == set(ROWS)


@pytest.mark.parametrize("key", ROWS)
def test_a_host_is_recognised_with_its_release(key: str, tmp_path: Path) -> None:
    row = distributions.detect(str(tree(tmp_path, key)))
    assert row.key == key
    assert row.release == "" if key == "arch" else row.release[0].isdigit()


@pytest.mark.parametrize("key", ROWS)
def test_everything_is_found_where_the_distribution_has_it(key: str, tmp_path: Path) -> None:
    row, described = distributions.detect(str(tree(tmp_path, key))), fixture(key)
    version = described.get("version", "4.20")
    found = {kind: first(tmp_path, kind, row, version) for kind in distributions.KINDS}
    assert {kind: path for kind, path in found.items() if path} == described["found"]
    layouts = distributions.grub_layouts(row)
    present = [one for one in layouts if glob.glob(f"{tmp_path}/usr/*bin/{one.generator}")]
    assert [one.generator for one in present[:1]] == ([described["grub"]] if described["grub"] else [])


@pytest.mark.parametrize("key", ROWS)
def test_an_unknown_distribution_finds_it_too(key: str, tmp_path: Path) -> None:
    tree(tmp_path, key)
    found = fixture(key)
    for kind in found["found"]:
        assert first(tmp_path, kind, distributions.GENERIC, found.get("version", "4.20")) is not None, kind


@pytest.mark.parametrize("key", ROWS)
def test_messages_name_what_the_host_has(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row, described = distributions.detect(str(tree(tmp_path, key))), fixture(key)
    monkeypatch.setattr(distributions, "detect", lambda: row)
    hints = {
        purpose: (
            build_packages.install_hint(purpose)
            if purpose in build_packages.BUILDS
            else distributions.install_hint(purpose, row, version=(4, 20))
        )
        for purpose in described["hints"]
    }
    assert hints == described["hints"]
    assert distributions.start_hint(row) == described["start"]


@pytest.mark.parametrize("row", [*distributions.DISTRIBUTIONS, distributions.GENERIC], ids=lambda row: row.key)
def test_rows_are_complete_and_use_known_words(
    row: distributions.Distribution, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(row.packages) <= set(distributions.PURPOSES)
    assert set(row.origins) <= set(row.packages)
    assert set(build_packages.PACKAGES.get(row.key, {})) <= set(build_packages.BUILDS)
    assert set(row.proven.values()) <= {distributions.RUNNING, distributions.FILES, distributions.READ}
    assert row.known == bool(row.proven) == bool(row.grub)
    if row.known:
        assert set(row.proven) == {"toolstack", "grub", "packages"}
        assert row.os_family and row.paths.firmware and row.paths.programs and row.paths.libxl and row.services
    monkeypatch.setattr(distributions, "detect", lambda: row)
    for purpose in (*distributions.PURPOSES, *build_packages.BUILDS):
        assert "{" not in build_packages.install_hint(purpose)


def test_every_name_means_one_row() -> None:
    names = [name for row in distributions.DISTRIBUTIONS for name in row.ids]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("os_release", "key"),
    [
        ("ID=linuxmint\nID_LIKE='ubuntu debian'\n", "ubuntu"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "fedora"),
        ("ID=opensuse-tumbleweed\n", "suse"),
        ("ID=endeavouros\nID_LIKE=arch\n", "arch"),
        ("# ID=debian\nID=\\debian\n", "debian"),
        ("ID=Debian\n", "debian"),
        ("ID=haiku\n", "generic"),
        ("ID_LIKE\n=\n\n", "generic"),
        ("\0\udcff" * 9, "generic"),
        ("X=" + "x" * (1 << 20) + "\nID=debian\n", "generic"),
    ],
)
def test_derivatives_and_strange_files(os_release: str, key: str, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_bytes(os_release.encode("utf-8", "surrogateescape"))
    assert distributions.detect(str(tmp_path)).key == key


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    assert distributions.detect(str(tmp_path)) is distributions.GENERIC
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/os-release")
    assert distributions.detect(str(tmp_path)) is distributions.GENERIC


def test_links_of_another_tree_stay_in_it(tmp_path: Path) -> None:
    for directory in ("etc", "usr/lib"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "etc/os-release").symlink_to("/usr/lib/os-release")
    assert distributions.detect(str(tmp_path)) is distributions.GENERIC
    (tmp_path / "usr/lib/os-release").write_text("ID=alpine\n")
    assert distributions.detect(str(tmp_path)).key == "alpine"


def test_packages_are_those_that_the_package_manager_has() -> None:
    arch = {"distribution": "Archlinux", "os_family": "Archlinux"}
    assert filtered(arch, ["xenstore", "squashfs", "boot_loader"]) == ["squashfs-tools"]
    facts = {"distribution": "Debian", "os_family": "Debian"}
    assert filtered(facts, ["toolstack_programs", "qemu"], ["texinfo", "ioemu"]) == ["qemu-system-xen", "texinfo"]
    assert filtered({}, list(distributions.PURPOSES), ["base"]) == []


@pytest.mark.parametrize(
    ("distribution", "os_family", "key"),
    [
        ("Debian", "Debian", "debian"),
        ("Ubuntu", "Debian", "ubuntu"),
        ("Linux Mint", "Debian", "debian"),
        ("openSUSE Leap", "Suse", "suse"),
        ("Rocky", "RedHat", "fedora"),
        ("Archlinux", "Archlinux", "arch"),
        ("XCP-ng", "RedHat", "xcp-ng"),
        ("FreeBSD", "FreeBSD", "generic"),
        ("", "", "generic"),
    ],
)
def test_ansible_names_lead_to_rows(distribution: str, os_family: str, key: str) -> None:
    assert by_os_family(distribution, os_family).key == key


# What only somebody who adds a distribution would write: its name, and packages that are called so by a packager only.
# Files in the format of Debian (source packages) and of Alpine (update-extlinux.conf) are named after them, and so are
# the boot loader of XCP-ng and the images that NixOS makes for firmware to start.
_NAMESAKES = {"Debian", "Ubuntu", "Alpine", "NixOS", "XCP-ng"}


def words_of(row: distributions.Distribution) -> set[str]:
    builds = build_packages.PACKAGES.get(row.key, {})
    builds = build_packages.PACKAGES.get(row.key, {})
    packages = {name for names in (*row.packages.values(), *builds.values()) for name in names}
    return {row.name, *(name for name in packages if "-" in name or "/" in name)} - _NAMESAKES


def strings(path: Path) -> list[str]:
    """What a program or a file of a role says, without comments and documentation."""
    if path.suffix == ".yml":
        return path.read_text(encoding="utf-8").splitlines() if path.parent.name in ("tasks", "vars") else []
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        documentation = isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in (
            "DOCUMENTATION", "EXAMPLES", "RETURN"
        )  # fmt: skip
        if not documentation:
            docstrings = {
                id(one.body[0].value)
                for one in ast.walk(node)
                if isinstance(one, (ast.FunctionDef, ast.ClassDef)) and isinstance(one.body[0], ast.Expr)
            }
            found += [
                one.value
                for one in ast.walk(node)
                if isinstance(one, ast.Constant) and isinstance(one.value, str) and id(one) not in docstrings
            ]
    return found


def test_a_new_distribution_is_one_file_of_the_product() -> None:
    repository = Path(__file__).resolve().parents[5]
    words = set().union(*(words_of(row) for row in distributions.DISTRIBUTIONS))
    word = re.compile("|".join(rf"(?<![\w/-]){re.escape(one)}(?![\w-])" for one in sorted(words)))
    naming = {
        str(path.relative_to(repository)): hits
        for path in [*repository.glob("plugins/[afm]*/**/*.py"), *repository.glob("roles/*/*/*.yml")]
        for hits in [[line for line in strings(path) if word.search(line) and not line.lstrip().startswith("#")]]
        if hits
    }
    known = {f"plugins/module_utils/_common/{name}.py" for name in ("distributions", "build_packages")}
    assert set(naming) <= known, {path: lines for path, lines in naming.items() if path not in known}
