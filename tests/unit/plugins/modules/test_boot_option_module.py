# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The module on trees of files: a mounted image, where nothing is run.

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Tuple

import pytest
import yaml
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._xen import toolstack
from ansible_collections.xen.stubdom.plugins.modules import boot_option


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def read_only(arguments: List[str]) -> Tuple[int, str, str]:
        assert arguments[:2] == ["sh", "-n"], f"run for another tree: {arguments}"
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    monkeypatch.setattr(boot_option, "run_program", read_only)
    monkeypatch.setattr(boot_option, "Xen", lambda run: toolstack.Xen(run, root="/nowhere"))
    (tmp_path / "etc/default/grub.d").mkdir(parents=True)
    (tmp_path / "etc/default/grub").write_text('GRUB_TIMEOUT=5\nGRUB_CMDLINE_XEN="smt=0 loglvl=all"\n')
    (tmp_path / "etc/default/grub.d/xen.cfg").write_text("if true; then\n  GRUB_DEFAULT=xen\nfi\n")
    return tmp_path


def tree(root: Path) -> Dict[str, str]:
    return {str(path): path.read_text() for path in root.rglob("*") if path.is_file()}


def run(image: Path, *, check: bool = False, **params: Any) -> Dict[str, Any]:
    defaults = {
        "value": None,
        "values": None,
        "target": "hypervisor",
        "state": "present",
        "loader": "auto",
        "entries": "all",
        "regenerate": True,
        "backup": False,
    }
    module = SimpleNamespace(params={**defaults, "root": str(image), **params}, check_mode=check)
    return boot_option.run(module)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"name": "dom0_max_vcpus", "value": "2-4"}, ["dom0_max_vcpus=2-4"]),
        ({"name": "dom0_vcpus_pin"}, ["dom0_vcpus_pin"]),
        ({"name": "no-smt"}, ["no-smt"]),
        ({"name": "loglvl", "state": "absent"}, []),
    ],
)
def test_four_steps_in_an_image(image: Path, params: Dict[str, Any], words: list) -> None:
    before = tree(image)
    steps = []
    for check in (True, False, True, False):
        steps.append(run(image, check=check, **params))
        assert (tree(image) == before) == (len(steps) == 1)
    assert [step["changed"] for step in steps] == [True, True, False, False]
    for step in steps:
        assert step["configured"] == words
        assert step["running"] is None
        assert not step["reboot_required"]
        assert "another tree" in step["reboot_reason"]
        assert any("not generated" in sentence for sentence in step["unchecked"])


def test_absent_after_present_is_what_was(image: Path) -> None:
    before = tree(image)
    for name, value in (("dom0_max_vcpus", "2"), ("dom0_vcpus_pin", None), ("ucode", "scan")):
        run(image, name=name, value=value)
    for name in ("dom0_vcpus_pin", "dom0_max_vcpus", "ucode"):
        run(image, name=name, state="absent")
    assert tree(image) == before


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"name": "dom0_max_vcpus", "value": "many"}, "dom0_max_vcpus=many is not valid"),
        ({"name": "dom0_max_vcpus", "value": "4-2"}, "minimum above its maximum"),
        ({"name": "dom0_max_vcpus"}, "dom0_max_vcpus has no value"),
        ({"name": "dom0_vcpus_pin", "value": "maybe"}, "is not a boolean"),
        ({"name": "dom0_mem"}, "no value"),
        ({"name": "dom0-mem", "value": "1.5G"}, "not an amount"),
        ({"name": "x y"}, "not the name"),
        ({"name": "x", "value": "a b"}, "that a boot loader would interpret"),
    ],
)
def test_what_xen_does_not_understand_changes_nothing(image: Path, params: Dict[str, Any], message: str) -> None:
    before = tree(image)
    with pytest.raises(UserError, match=message):
        run(image, **params)
    assert tree(image) == before


def test_a_link_that_leads_out_of_the_image_is_refused(image: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "grub"
    outside.write_text("GRUB_TIMEOUT=1\n")
    (image / "etc/default/grub").unlink()
    (image / "etc/default/grub").symlink_to(outside)
    with pytest.raises(UserError, match="is outside of"):
        run(image, name="ucode", value="scan")
    assert outside.read_text() == "GRUB_TIMEOUT=1\n"


def test_a_program_in_an_image_is_not_run_and_that_is_said(image: Path) -> None:
    (image / "etc/default/grub.d/xen.cfg").write_text('GRUB_CMDLINE_XEN="$GRUB_CMDLINE_XEN $(touch /nowhere/ran)"\n')
    result = run(image, name="ucode", value="scan")
    assert result["configured"] == ["ucode=scan"]
    assert any("programs" in sentence for sentence in result["unchecked"])


@pytest.mark.parametrize(
    ("params", "warned"),
    [
        ({"name": "dom_mem", "value": "1G"}, "Is dom0_mem meant?"),
        ({"name": "quiet"}, "an option of Linux"),
        ({"name": "smt", "value": "off"}, "dom0_mem=512M in GRUB_CMDLINE_LINUX"),
        ({"name": "smt", "state": "absent"}, "dom0_mem=512M in GRUB_CMDLINE_LINUX"),
    ],
)
def test_an_option_that_nobody_reads_is_warned_about(image: Path, params: Dict[str, Any], warned: str) -> None:
    (image / "etc/default/grub").write_text('GRUB_CMDLINE_LINUX="rhgb quiet dom0_mem=512M"\n')
    assert any(warned in text for text in run(image, **params)["warnings"])
    (image / "etc/default/grub").write_text('GRUB_CMDLINE_LINUX="rhgb quiet"\n')
    assert run(image, name="smt", value="off")["warnings"] == []


def test_the_result_is_what_is_documented(image: Path) -> None:
    documented = set(yaml.safe_load(boot_option.RETURN))
    assert set(run(image, name="ucode", value="scan", backup=True)) - {"changed", "diff", "warnings"} == documented
