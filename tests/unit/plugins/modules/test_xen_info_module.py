# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
import yaml
from ansible_collections.xen.stubdom.plugins.module_utils._boot import loaders, whole_line
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.manifest import Manifest
from ansible_collections.xen.stubdom.plugins.module_utils._images import freshness
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen
from ansible_collections.xen.stubdom.plugins.modules import xen_info

MANIFEST = Manifest(
    kind="linux",
    xen="4.20",
    sources=[],
    compiler=None,
    flags=None,
    built=None,
    sha256="1",
    identity="1",
    files={"qemu-stubdom-linux-kernel": "1"},
    memory_mib=128,
)
RECORD = MANIFEST.render()
HISTORY = ("time", "user", "module", "play", "what", "from", "to", "image")

ANSWERS = {
    ("xl", "info"): "xen_major : 4\nxen_minor : 20\nxen_version : 4.20.5-pre\nmachine : x86_64\ntotal_memory : 4095\n"
    "free_memory : 2900\nvirt_caps : pv hvm hap\nxen_caps : xen-3.0-x86_64 \n"
    "xen_commandline : placeholder dom0_mem=1G,max:1G\n",
    (
        "xl",
        "list",
    ): "Name ID Mem VCPUs State Time(s)\nDomain-0  0  1024  1  r-----  106.4\nweb  3  256  1  -b----  1.0\n",
    ("xl", "getenforce"): "Flask XSM Disabled\n",
    ("xenstore-ls", "-f", "/"): '/local/domain/3/vm = "/vm/74d0eec1"\n',
}


class Host:
    """A host as the module sees it, with the commands that it was asked to run."""

    check_mode = True

    def __init__(self, root: Path, *, xen: bool) -> None:
        self.root = root
        self.params: Dict[str, Any] = {
            "gather_subset": ["all"],
            "directory": "/etc/xen",
            "require": False,
            "firmware_directory": None,
            "helpers_directory": None,
            "xl_conf": "/etc/xen/xl.conf",
            "history_lines": 100,
            "history_since": None,
        }
        self.calls: List[Tuple[str, ...]] = []
        if xen:
            self.put("proc/xen/capabilities", "control_d\n")
            self.put("usr/lib/xen-4.20/boot/hvmloader", "")
            self.put("usr/lib/x86_64-linux-gnu/libxenlight.so.4.20", "")
            self.put("etc/xen/xl.conf", 'autoballoon="off"\n')

    def put(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def run_command(self, arguments: List[str], **_options: Any) -> Tuple[int, str, str]:
        self.calls.append(tuple(arguments))
        return 0, ANSWERS[tuple(arguments)], ""


def play(root: Path, monkeypatch: pytest.MonkeyPatch, *, xen: bool = True) -> Host:
    monkeypatch.setattr(xen_info, "Xen", lambda run: Xen(run, root=str(root)))
    monkeypatch.setattr(
        whole_line,
        "find",
        lambda name, run, root, foreign, running, top=root: loaders.find(name, run, root=str(top)),
    )
    return Host(root, xen=xen)


def test_one_read_of_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = play(tmp_path, monkeypatch)
    result = xen_info.run(host)  # type: ignore[arg-type]
    assert sorted(host.calls) == sorted(ANSWERS)
    assert result["running"] is True
    assert result["memory"]["dom0_fixed"] is True
    assert [guest["name"] for guest in result["guests"]] == ["web"]
    assert result["toolstack"] == {"version": "4.20"}
    assert result["hypervisor"]["xsm"] == "disabled"
    assert result["support"] == {"until": "2030-03-05", "ended_before": None, "source": "SUPPORT.md of Xen 4.20"}


@pytest.mark.parametrize("subset", xen_info.SUBSETS)
def test_only_what_is_asked_for_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subset: str) -> None:
    host = play(tmp_path, monkeypatch)
    host.params["gather_subset"] = [subset]
    result = xen_info.run(host)  # type: ignore[arg-type]
    keys = {
        "boot_line": {"boot_line"},
        "memory": {"memory"},
        "images": {"firmware_directory", "images", "helpers"},
        "guests": {"guests", "configurations"},
    }
    always = {"changed", "running", "hypervisor", "toolstack", "support", "warnings"}
    assert set(result) == always | keys[subset]
    asked = {call[:2] for call in host.calls}
    assert (("xenstore-ls", "-f") in asked) == (subset == "guests")
    assert (("xl", "list") in asked) == (subset in ("memory", "guests"))


@pytest.mark.parametrize(("started", "updated"), [(0, True), (1 << 40, False), (None, None)])
def test_whether_a_hypervisor_was_installed_since_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: int | None, updated: bool | None
) -> None:
    host = play(tmp_path, monkeypatch)
    host.put("proc/stat", "cpu 1 2\n" + ("" if started is None else f"btime {started}\n"))
    host.put("boot/xen-4.20-amd64.gz", "")
    host.put("boot/xen-unrelated.cfg", "")
    assert xen_info.run(host)["hypervisor"]["updated"] is updated  # type: ignore[arg-type]


def test_an_image_that_is_older_than_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = play(tmp_path, monkeypatch)
    sources = [{"name": name, "version": "1"} for name in ("busybox-static", "qemu-system-xen", "gone", "removed")]
    made = replace(MANIFEST, sources=sources, xen="4.17", more={"linux": "6.1.0"})
    boot = "usr/lib/xen-4.20/boot"
    host.put(f"{boot}/qemu-stubdom-linux-kernel", "")
    host.put(f"{boot}/linux.json", made.render().decode())
    monkeypatch.setattr(freshness.os, "uname", lambda: os.uname_result(("Linux", "h", "6.1.0", "", "x86_64")))
    status = "Package: {}\nStatus: install ok {}\nConffiles:\n /etc/a 1\nVersion: {}\nDescription: it\n Version: 9\n"
    rows = (("busybox-static", "installed", 1), ("qemu-system-xen", "installed", 2), ("removed", "config-files", 3))
    host.put("var/lib/dpkg/status", "\n".join(status.format(*row) for row in rows))
    (image,) = xen_info.run(host)["images"]  # type: ignore[arg-type]
    assert image["outdated"] == [
        {"name": "xen", "made_of": "4.17", "installed": "4.20"},
        {"name": "qemu-system-xen", "made_of": "1", "installed": "2"},
    ]
    monkeypatch.setattr(freshness.os, "uname", lambda: os.uname_result(("Linux", "h", "6.1.1", "", "x86_64")))
    (image,) = xen_info.run(host)["images"]  # type: ignore[arg-type]
    newer = {"name": "linux", "made_of": "6.1.0", "installed": "6.1.1"}
    assert newer in image["outdated"] and image["manifest"]["linux"] == "6.1.0"
    # One that was chosen is not to be the one that the host runs.
    chosen = replace(made, more={"linux": "6.1.0", "kernel_chosen": True})
    host.put(f"{boot}/linux.json", chosen.render().decode())
    (image,) = xen_info.run(host)["images"]  # type: ignore[arg-type]
    assert newer not in image["outdated"] and image["manifest"]["kernel_chosen"]


def described(result: Dict[str, Any], documented: Dict[str, Any]) -> None:
    """Compare the keys of a result with its documentation, all the way down."""
    assert set(result) == set(documented)
    for name, entry in documented.items():
        if "contains" in entry:
            for item in result[name] if isinstance(result[name], list) else [result[name]]:
                if item is not None:
                    described(item, entry["contains"])


@pytest.mark.parametrize("xen", [True, False])
def test_the_result_is_what_is_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xen: bool) -> None:
    host = play(tmp_path, monkeypatch, xen=xen)
    host.params["gather_subset"] = ["all", "checksums", "history"]
    monkeypatch.setattr(xen_info.history, "read", lambda *_given: [dict.fromkeys(HISTORY)])
    result = xen_info.run(host)  # type: ignore[arg-type]
    assert not result.pop("changed") and not result.pop("warnings")
    described(result, yaml.safe_load(xen_info.RETURN))


def test_images_that_are_not_what_was_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = play(tmp_path, monkeypatch)
    files = {"qemu-stubdom-linux-kernel": "k", "qemu-stubdom-linux-rootfs": "r"}
    boot = "usr/lib/xen-4.20/boot"
    for name, content in files.items():
        host.put(f"{boot}/{name}", content)
    digests = {name: hashlib.sha256(content.encode()).hexdigest() for name, content in files.items()}
    host.put(f"{boot}/linux.json", replace(MANIFEST, files=digests).render().decode())

    def altered(*asked: str) -> Any:
        host.params["gather_subset"] = [*asked]
        (image,) = xen_info.run(host)["images"]  # type: ignore[arg-type]
        return image.get("altered", "not asked for")

    assert altered("all") == "not asked for"
    assert altered("checksums") == altered("all", "checksums") == []
    host.put(f"{boot}/qemu-stubdom-linux-rootfs", "R")
    assert altered("images", "checksums") == [f"/{boot}/qemu-stubdom-linux-rootfs"]
    (tmp_path / boot / "qemu-stubdom-linux-rootfs").unlink()
    os.mkfifo(tmp_path / boot / "qemu-stubdom-linux-rootfs")
    assert altered("checksums") == [f"/{boot}/qemu-stubdom-linux-rootfs"]
    # An image of one file whose checksum is recorded for the whole.
    record = replace(MANIFEST, sha256=digests["qemu-stubdom-linux-kernel"], files={"qemu-stubdom-linux-kernel": None})
    host.put(f"{boot}/linux.json", record.render().decode())
    assert altered("checksums") == []
    host.put(f"{boot}/linux.json", "{")
    assert altered("checksums") is None


def test_images_and_what_is_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = play(tmp_path, monkeypatch)
    boot = tmp_path / "srv/images"
    boot.mkdir(parents=True)
    for name in ("qemu-stubdom-linux-kernel", "qemu-stubdom-linux-rootfs", "broken.json", "list.json"):
        (boot / name).write_text("[]" if name == "list.json" else "{")
    (boot / "linux.json").write_bytes(RECORD)
    host.params["firmware_directory"] = "/srv/images"
    found = xen_info.run(host)["images"]  # type: ignore[arg-type]
    assert [(image["name"], image["manifest"]["kind"]) for image in found] == [("linux", "linux")]


@pytest.mark.parametrize("content", [b"null", b"5", b"[1]", b"", b"[" * 100_000, RECORD.replace(b": 128", b': "abc"')])
def test_a_damaged_manifest_is_reported_and_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    host = play(tmp_path, monkeypatch)
    boot = tmp_path / "usr/lib/xen-4.20/boot"
    for name in ("qemu-stubdom-linux-kernel", "qemu-stubdom-linux-rootfs", "linux.json"):
        (boot / name).write_bytes(content)
    # A file of another program, without an image.
    (boot / "other.json").write_bytes(content)
    result = xen_info.run(host)  # type: ignore[arg-type]
    assert [(image["name"], image["manifest"]) for image in result["images"]] == [("linux", None)]
    assert result["images"][0]["manifest_error"]
    assert len(result["warnings"]) == 1 and "qemu-stubdom-linux-kernel is damaged: " in result["warnings"][0]


def test_which_helpers_of_ioemu_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = play(tmp_path, monkeypatch)

    def there() -> Dict[str, Any]:
        return {one["name"]: one["path"] for one in xen_info.run(host)["helpers"]}  # type: ignore[arg-type]

    # The distribution's hvmloader is there, without ROMBIOS.
    assert there() == {"hvmloader": None, "qemu-dm": None}
    host.put("usr/lib/xen-4.20/bin/qemu-dm", "")
    (tmp_path / "usr/lib/xen-4.20/bin/qemu-dm").chmod(0o755)
    host.put("usr/lib/xen-4.20/boot/hvmloader", "...ROMBIOS...")
    assert there() == {"hvmloader": "/usr/lib/xen-4.20/boot/hvmloader", "qemu-dm": "/usr/lib/xen-4.20/bin/qemu-dm"}
    ours = "usr/lib/xen-4.20/boot/helpers"
    host.put(f"{ours}/hvmloader", "ROMBIOS")
    host.put(f"{ours}/hvmloader.json", replace(MANIFEST, kind="hvmloader").render().decode())
    assert there()["hvmloader"] == f"/{ours}/hvmloader"
    assert xen_info.run(host)["helpers"][0]["manifest"]["kind"] == "hvmloader"  # type: ignore[arg-type]
    host.put(f"{ours}/hvmloader.json", "null")
    result = xen_info.run(host)  # type: ignore[arg-type]
    assert result["helpers"][0]["manifest"] is None
    assert [f"/{ours}/hvmloader is damaged: it is not a JSON object" in said for said in result["warnings"]] == [True]
    host.put("opt/helpers/hvmloader", "ROMBIOS")
    host.params["helpers_directory"] = "/opt/helpers"
    assert there()["hvmloader"] == "/opt/helpers/hvmloader"


def test_a_machine_without_xen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = play(tmp_path, monkeypatch, xen=False)
    result = xen_info.run(host)  # type: ignore[arg-type]
    assert host.calls == []
    assert result["running"] is False
    assert result["memory"]["dom0_fixed"] is False
    assert (result["guests"], result["images"], result["firmware_directory"]) == ([], [], None)
    host.params["require"] = True
    with pytest.raises(UserError, match="does not run Xen"):
        xen_info.run(host)  # type: ignore[arg-type]
