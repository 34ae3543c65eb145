# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# A tree of each distribution as an installation has it: which loader is found there, which entry boots, and what
# becomes of the tree when dom0_mem is set. What is expected is written by hand; docs/distributions.md is drawn of it.

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
import yaml
from ansible_collections.xen.stubdom.plugins.module_utils._boot import grub_script
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import Loader, find
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders.grub2 import Grub2
from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions, files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from efi_program import SYSTEMD_BOOT, XEN, program
from grub_head import HEAD

TREES = {path.stem: path for path in (Path(__file__).parent / "fixtures" / "distributions").glob("*.yml")}


def run(arguments: List[str]) -> Tuple[int, str, str]:
    done = subprocess.run(arguments, capture_output=True, check=False, cwd="/")
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def plant(root: Path, key: str) -> Dict[str, Any]:
    """Lay out a tree and return its description. A first line %HEAD DEFAULT% or %IMAGE% stands for what it says, and
    %SYSTEMD% for systemd-boot."""
    described: Dict[str, Any] = yaml.safe_load(TREES[key].read_text())
    release = "".join(f"{name}={value}\n" for name, value in described["os_release"].items())
    texts = {"etc/os-release": release, **dict.fromkeys(described.get("programs", ()), "#!/bin/sh\n")}
    for path, text in {**texts, **described["files"]}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        kind, _mark, rest = text.partition("%IMAGE%\n")
        if "%HEAD " in text:
            before, _mark, tail = text.partition("%HEAD ")
            default, _mark, after = tail.partition("%\n")
            text = before + HEAD % default + after
        image = program({".text": XEN, ".config": rest.encode(), ".kernel": b"k"})
        content = SYSTEMD_BOOT if text == "%SYSTEMD%" else text.encode()
        (root / path).write_bytes(image if rest and not kind else content)
    for path, target in described.get("links", {}).items():
        (root / path).symlink_to(target)
    if described.get("efi"):
        (root / "sys/firmware/efi").mkdir(parents=True)
    return described


def found(root: Path, described: Dict[str, Any]) -> Loader:
    return find("auto", run, root=str(root), foreign=described.get("foreign", False))


def contents(root: Path) -> Dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


KNOWN = [key for key in TREES if "refused" not in yaml.safe_load(TREES[key].read_text())["expected"]]


def test_every_row_has_a_tree() -> None:
    ids = {yaml.safe_load(path.read_text())["os_release"]["ID"] for path in TREES.values()}
    assert [row.key for row in distributions.DISTRIBUTIONS if not ids & {*row.ids}] == []


@pytest.mark.parametrize("key", sorted(KNOWN))
def test_what_boots(tmp_path: Path, key: str) -> None:
    described = plant(tmp_path, key)
    loader, expected = found(tmp_path, described), described["expected"]
    boots = loader.next_boot()
    assert (loader.name, boots.options) == (expected["loader"], expected["boots"])
    assert boots.xen is (expected["boots"] is not None)
    assert loader.configured(loader.read()) == expected["configured"]
    if expected["boots"] is None:
        assert f"'{expected['entry']}'" in boots.reason
        assert list(boots.entries) == [expected["others"]]
    if isinstance(loader, Grub2):
        path, host = loader.menu()
        assert grub_script.default_entry(grub_script.run(path, host), host).title == expected["entry"]


@pytest.mark.parametrize("key", sorted(KNOWN))
def test_what_a_change_does(tmp_path: Path, key: str) -> None:
    described = plant(tmp_path, key)
    before = contents(tmp_path)
    loader, expected = found(tmp_path, described), described["expected"]
    if "refusal" in expected:
        with pytest.raises(UserError, match=expected["refusal"]):
            loader.plan(loader.read(), "dom0_mem", "dom0_mem=1G,max:1G")
        return
    files.apply(loader.plan(loader.read(), "dom0_mem", "dom0_mem=1G,max:1G"))
    assert contents(tmp_path) == {**before, **{path: text.encode() for path, text in expected["changes"].items()}}
    assert loader.plan(loader.read(), "dom0_mem", "dom0_mem=1G,max:1G") == []
    files.apply(loader.plan(loader.read(), "dom0_mem", None))
    if "dom0_mem" not in expected["configured"]:
        assert contents(tmp_path) == before


@pytest.mark.parametrize("key", sorted(set(TREES) - set(KNOWN)))
def test_what_is_not_known_is_named(tmp_path: Path, key: str) -> None:
    described = plant(tmp_path, key)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=described["expected"]["refused"]) as caught:
        found(tmp_path, described)
    assert len(str(caught.value).splitlines()) == 2
    assert "Install" not in str(caught.value)
    assert contents(tmp_path) == before
