# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images import helpers
from ansible_collections.xen.stubdom.plugins.modules import stubdom_install

FILE = "pv-grub-x86_64.gz"


def manifest(content: str, **more: Any) -> Dict[str, Any]:
    digest = hashlib.sha256(content.encode()).hexdigest()
    return {
        "kind": "pv-grub",
        "xen": "4.17",
        "sources": [],
        "compiler": "gcc 12",
        "flags": "",
        "built": None,
        "identity": f"id-{content}",
        "sha256": digest,
        "files": {},
        "remedies": [],
        **more,
    }


class Host:
    def __init__(self, path: Path) -> None:
        self.boot = path / "boot"
        self.boot.mkdir()
        self.carried = path / "carried"
        self.warnings: List[str] = []

    def run(self, state: str = "present", content: str = "one", *, check: bool = False, **more: Any) -> Dict[str, Any]:
        self.carried.write_text(content)
        params = {
            "state": state,
            "image": "pv-grub",
            "src": str(self.carried),
            "manifest": manifest(content),
            "firmware_directory": str(self.boot),
            "helpers_directory": None,
            **more,
        }
        module = SimpleNamespace(params=params, check_mode=check, run_command=None)
        result = stubdom_install.run(module)  # type: ignore[arg-type]
        self.warnings += result.pop("warnings")
        return result

    def files(self) -> Dict[str, str]:
        return {path.name: path.read_text() for path in self.boot.iterdir()}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize("state", ["present", "absent"])
def test_four_steps(host: Host, state: str) -> None:
    if state == "absent":
        host.run()
    before, steps = host.files(), []
    for check in (True, False, True, False):
        steps.append(host.run(state, check=check))
        if len(steps) == 1:
            assert host.files() == before
    assert [step["changed"] for step in steps] == [True, True, False, False]
    assert set(host.files()) == (set() if state == "absent" else {FILE, "pv-grub-x86_64.json", "pv-grub.gz"})


def test_the_manifest_names_every_file_with_its_checksum(host: Host) -> None:
    host.run()
    manifest = json.loads(host.files()["pv-grub-x86_64.json"])
    assert manifest["files"] == dict.fromkeys((FILE, "pv-grub.gz"), manifest["sha256"])
    assert (host.boot / FILE).stat().st_mode & 0o777 == 0o644


def test_an_image_of_another_host_keeps_its_manifest(host: Host, tmp_path: Path) -> None:
    host.run()
    beside = host.files()["pv-grub-x86_64.json"]
    (tmp_path / "other").mkdir()
    other = Host(tmp_path / "other")
    given = {"manifest": json.loads(beside)}
    steps = [other.run(check=check, **given)["changed"] for check in (True, False, True, False)]
    assert steps == [True, True, False, False]
    assert other.files()["pv-grub-x86_64.json"] == beside
    assert not other.run()["changed"]


def test_what_is_there_needs_no_file(host: Host) -> None:
    host.run()
    assert not host.run(src=None)["missing"]
    with pytest.raises(UserError, match="There is no image None to install"):
        host.run(content="two", src=None)
    assert host.run(content="two", src=None, check=True)["missing"]


def test_a_damaged_image_is_installed_again(host: Host) -> None:
    host.run()
    (host.boot / FILE).write_text("on")
    result = host.run()
    assert result["changed"]
    assert host.files()[FILE] == "one"


def test_rollback_brings_the_previous_one_back(host: Host) -> None:
    host.run(content="one")
    host.run(content="two")
    assert host.files()[f"{FILE}.previous"] == "one"
    assert host.run("rollback", check=True)["changed"]
    result = host.run("rollback")
    assert result["identity"] == "id-one"
    assert host.files()["pv-grub.gz"] == host.files()[FILE] == "one"
    for check in (True, False):
        again = host.run("rollback", check=check)
        assert (again["changed"], again["identity"]) == (False, "id-one")
    assert host.run(content="two")["changed"]
    assert host.run("rollback")["identity"] == "id-one"


def test_a_rollback_without_a_previous_image_is_refused(host: Host) -> None:
    host.run()
    before = host.files()
    for check in (True, False):
        with pytest.raises(UserError, match="There is no previous image"):
            host.run("rollback", check=check)
    assert host.files() == before


@pytest.mark.parametrize("state", ["present", "absent", "rollback"])
def test_what_a_killed_run_has_left_goes_although_nothing_changes(host: Host, state: str) -> None:
    host.run()
    host.run(content="two")
    host.run(state, content="two")
    before = host.files()
    for name in (FILE, "pv-grub.gz", "pv-grub-x86_64.json", f"{FILE}.previous"):
        (host.boot / f".{name}.xen-stubdom-old").write_text("left")
    assert not host.run(state, content="two")["changed"]
    assert host.files() == before


def test_absent_leaves_what_is_not_ours(host: Host) -> None:
    (host.boot / FILE).write_text("the distribution's")
    (host.boot / "pv-grub.gz").write_text("somebody's")
    before = host.files()
    assert not host.run("absent")["changed"]
    host.run()
    assert host.files()["pv-grub.gz"] == "somebody's"
    assert any("stays as it is" in warning for warning in host.warnings)
    host.run("absent")
    assert host.files() == before


@pytest.mark.parametrize(("name", "mode"), [("hvmloader", 0o644), ("qemu-dm", 0o755)])
def test_helpers_have_a_directory_of_their_own(
    host: Host, monkeypatch: pytest.MonkeyPatch, name: str, mode: int
) -> None:
    monkeypatch.setattr(helpers, "qemu_dm", host.carried.read_text)
    (host.boot / "hvmloader").write_text("the distribution's")
    before = host.files()
    steps = [host.run(check=check, image=name) for check in (True, False, True, False)]
    assert [step["changed"] for step in steps] == [True, True, False, False]
    directory = host.boot / "helpers"
    assert steps[-1]["path"] == str(directory / name)
    assert {path.name for path in directory.iterdir()} == {name, f"{name}.json"}
    assert (directory / name).stat().st_mode & 0o777 == mode
    host.run(content="two", image=name)
    host.run("rollback", image=name)
    assert (directory / name).read_text() == "one"
    host.run("absent", image=name)
    assert host.files() == before and not directory.exists()


def test_helpers_go_where_they_are_told(host: Host, tmp_path: Path) -> None:
    elsewhere = tmp_path / "opt" / "helpers"
    # What lies in src is not read: dom0 runs this program as root.
    made = manifest(helpers.qemu_dm(), identity="id")
    assert host.run(image="qemu-dm", manifest=made, helpers_directory=str(elsewhere))["path"] == str(
        elsewhere / "qemu-dm"
    )
    assert host.files() == {}


def test_a_file_that_is_not_the_manifests_is_refused(host: Host) -> None:
    with pytest.raises(UserError, match="its manifest says beef"):
        host.run(manifest=manifest("one", sha256="beef"))
    assert host.files() == {}


@pytest.mark.parametrize(
    ("given", "how"),
    [
        ({}, "it has no kind"),
        ({"identity": "x"}, "it has no kind"),
        (manifest("one", files=None), "files is not a dictionary"),
        (manifest("one", memory_mib="abc"), "memory_mib is not a number"),
        (manifest("one", remedies=[[[[[[[[[]]]]]]]]]), "nested deeper"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_a_manifest_that_is_none_is_refused(host: Host, given: Dict[str, Any], how: str, check: bool) -> None:
    with pytest.raises(UserError, match=f"manifest is not the manifest of an image: .*{how}") as refused:
        host.run(manifest=given, check=check)
    assert "Set manifest to" in refused.value.remedy
    assert host.files() == {}


@pytest.mark.parametrize("content", ["null", "5", "[1]", "", "[" * 100_000, '{"kind": "pv-grub", "files": null}'])
def test_a_damaged_manifest_is_reported_and_not_believed(host: Host, content: str) -> None:
    host.run()
    record = host.boot / "pv-grub-x86_64.json"
    record.write_text(content)
    assert host.run(check=True)["missing"]
    assert all("pv-grub-x86_64.json is damaged: " in said for said in host.warnings) and host.warnings
    assert host.run()["identity"] == "id-one"
    # Nothing is worth keeping of what nobody knows.
    assert set(host.files()) == {FILE, "pv-grub-x86_64.json", "pv-grub.gz"}
    record.write_text(content)
    host.run("absent")
    assert host.files() == {}


def test_a_damaged_previous_image_is_not_put_back(host: Host) -> None:
    host.run(content="one")
    host.run(content="two")
    (host.boot / f"{FILE}.previous").write_text("on")
    before = host.files()
    with pytest.raises(UserError, match="cannot be put back"):
        host.run("rollback")
    (host.boot / "pv-grub-x86_64.json.previous").write_text("null")
    with pytest.raises(UserError, match="damaged: it is not a JSON object"):
        host.run("rollback")
    host.run("absent")
    assert host.files() == {} != before


def test_rollback_to_what_was_there_before_us(host: Host) -> None:
    (host.boot / FILE).write_text("the distribution's")
    before = host.files()
    host.run()
    host.run("rollback")
    assert not host.run("rollback")["changed"]
    assert {name: host.files()[name] for name in before} == before
    assert set(host.files()) - set(before) == {"pv-grub-x86_64.rolled-back"}
    host.run("absent")
    assert host.files() == before
