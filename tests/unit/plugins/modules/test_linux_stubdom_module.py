# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The module on a host of files of its own; mksquashfs and dpkg are played.

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Tuple

import pytest
import yaml
from ansible_collections.xen.stubdom.plugins.module_utils._common import files as _files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.modules import linux_stubdom

NOTHING = dict.fromkeys(("kernel", "kernel_modules", "kernel_release"))
MIB = 1 << 20
NAMES = ("linux.json", "qemu-stubdom-linux-kernel", "qemu-stubdom-linux-rootfs")


class Machine:
    """A host as the module sees it."""

    check_mode = False

    def __init__(self, host: Any) -> None:
        self.host = host
        self.params: Dict[str, Any] = {}
        self.calls: List[List[str]] = []
        self.mksquashfs_says = ""
        self.programs = {"mksquashfs", "dpkg-query"}
        self.directory = host.root / f"usr/lib/xen-{host.xen}/boot"
        host.put("proc/xen/capabilities", b"control_d\n")

    def run_command(self, arguments: List[str], **_options: Any) -> Tuple[int, str, str]:
        self.calls.append(arguments)
        if arguments == ["xl", "info"]:
            major, minor = self.host.xen.split(".")
            memory = "total_memory : 4095\nfree_memory : 2900\n"
            return 0, f"xen_major : {major}\nxen_minor : {minor}\nxen_version : {self.host.xen}.1\n{memory}", ""
        if arguments == ["systemctl", "daemon-reload"]:
            return 0, "", ""
        if arguments[0] not in self.programs:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), arguments[0])
        if arguments[:2] == ["dpkg-query", "--search"]:
            return 1, "busybox-static: /bin/busybox\n", "no path found\n"
        if arguments[0] == "dpkg-query":
            return 0, "busybox-static 1:1.37.0-6\n", ""
        if self.mksquashfs_says:
            return 1, "", self.mksquashfs_says
        tree = Path(arguments[1])
        lines = [
            f"{path.relative_to(tree)} {path.stat().st_mode & 0o777:o} "
            + (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "directory")
            for path in sorted(tree.rglob("*"))
        ]
        Path(arguments[2]).write_text("\n".join(lines))
        return 0, "", ""

    def installed(self) -> List[str]:
        return sorted(path.name for path in self.directory.iterdir() if path.name != "hvmloader")


@pytest.fixture
def machine(stubdom_host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    root = str(stubdom_host.root)
    monkeypatch.setattr(linux_stubdom, "ROOT", root)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=stubdom_host.release))
    (tmp_path / "lock").mkdir()
    monkeypatch.setattr(_files, "LOCK_DIRECTORIES", (str(tmp_path / "lock"),))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(_files, "SCRATCH_DIRECTORY", str(tmp_path / "scratch"))
    return Machine(stubdom_host)


def run(
    machine: Machine,
    *,
    check: bool = False,
    state: str = "present",
    directory: Any = None,
    renew: bool = False,
    **chosen: str,
) -> Dict[str, Any]:
    directory = str(directory or machine.directory)
    machine.params = {**NOTHING, "state": state, "firmware_directory": directory, "renew_with_packages": renew}
    machine.params.update(chosen)
    machine.check_mode = check
    return linux_stubdom.run(machine)  # type: ignore[arg-type]


def test_present_and_absent_in_four_steps(machine: Machine, tmp_path: Path) -> None:
    before = machine.host.tree()
    for state, names in (("present", list(NAMES)), ("absent", [])):
        steps = []
        for check in (True, False, True, False):
            steps.append(run(machine, check=check, state=state))
            if len(steps) == 1:
                assert machine.installed() == ([] if state == "present" else list(NAMES))
            else:
                assert machine.installed() == names
        assert [step["changed"] for step in steps] == [True, True, False, False]
        assert steps[0]["diff"] == steps[1]["diff"] != []
        assert [len(step["files"]) for step in steps] == [3, 3, 0, 0]
        assert steps[2]["diff"] == []
    assert machine.host.tree() == before
    assert [call[0] for call in machine.calls].count("mksquashfs") == 1
    assert list((tmp_path / "scratch").iterdir()) == []


def test_files_that_are_not_as_written_are_put_back(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    before = machine.host.tree()
    apply, calls = _files.apply, []

    def overwritten(changes: Any, **options: Any) -> Dict[str, str]:
        result = apply(changes, **options)
        if not calls:
            (machine.directory / NAMES[2]).write_bytes(b"another program's")
        calls.append(changes)
        return result

    monkeypatch.setattr(_files, "apply", overwritten)
    with pytest.raises(UserError, match="qemu-stubdom-linux-rootfs is not what was just written there"):
        run(machine)
    assert len(calls) == 2 and machine.host.tree() == before


def test_what_is_installed(machine: Machine) -> None:
    result = run(machine)
    manifest = result["manifest"]
    kernel, root = (machine.directory / name for name in NAMES[1:])
    assert kernel.read_bytes() == (machine.host.root / f"boot/vmlinuz-{machine.host.release}").read_bytes()
    assert manifest["files"] == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (kernel, root)}
    assert manifest["sha256"] == manifest["files"][root.name]
    assert (manifest["kind"], manifest["xen"], manifest["linux"]) == ("linux", machine.host.xen, machine.host.release)
    assert manifest["sources"] == [{"name": "busybox-static", "version": "1:1.37.0-6"}]
    assert manifest["memory_mib"] > 0
    assert {path.stat().st_mode & 0o777 for path in machine.directory.iterdir() if path.name in NAMES} == {0o644}
    order = hashlib.sha256(b"llc\nstp\nbridge\nxen_netfront\ntun\n").hexdigest()
    # Modules go in unpacked, programs can be run, and what is loaded is listed.
    content = root.read_bytes().decode(errors="replace")
    for line in (
        f"modules/base/xen_evtchn.ko 644 {hashlib.sha256(b'xen-evtchn').hexdigest()}",
        "bin/xen-qemu 755 ",
        f"modules/network/order 644 {order}",
    ):
        assert line in content


def install_kernel(machine: Machine, make_kernel: Any, make_vmlinux: Any, **kernel: bool) -> str:
    """A second kernel, whose modules are those of the first."""
    packed = gzip.compress(make_vmlinux(**kernel))
    machine.host.put("boot/vmlinuz-6.15-other", make_kernel(release="6.15-other", packed=packed))
    shutil.copytree(machine.host.root / machine.host.modules, machine.host.root / "lib/modules/6.15-other")
    return "6.15-other"


def test_another_kernel_and_back(
    machine: Machine, make_kernel: Any, make_vmlinux: Any, make_configuration: Any
) -> None:
    release = install_kernel(machine, make_kernel, make_vmlinux)
    machine.host.put(f"boot/config-{release}", make_configuration().encode())
    assert run(machine)["manifest"]["kernel_chosen"] is False
    for chosen in ({"kernel_release": release}, {"kernel": f"/boot/vmlinuz-{release}"}):
        result = run(machine, **chosen)
        manifest = result["manifest"]
        assert result["changed"] and (manifest["linux"], manifest["kernel_chosen"]) == (release, True)
        assert manifest["contents"]["qemu-stubdom-linux-kernel"] == f"/boot/vmlinuz-{release}"
        assert result["warnings"] == [] and not run(machine, **chosen)["changed"]
    assert run(machine)["manifest"]["linux"] == machine.host.release
    # Also where it is the one that runs now, it is to stay.
    assert run(machine, kernel_release=machine.host.release)["manifest"]["kernel_chosen"] is True


def test_the_kernel_is_unpacked_so_that_no_start_has_to(machine: Machine, make_kernel: Any, make_vmlinux: Any) -> None:
    path = f"boot/vmlinuz-{machine.host.release}"
    for packed, installed in (
        (gzip.compress(make_vmlinux()), make_vmlinux()),
        # What cannot be unpacked here is left to libxl.
        (b"\x02\x21\x4c\x18", make_kernel(packed=b"\x02\x21\x4c\x18")),
    ):
        machine.host.put(path, make_kernel(packed=packed))
        manifest = run(machine)["manifest"]
        assert (machine.directory / NAMES[1]).read_bytes() == installed
        # What it takes while it starts is said by what it is packed in.
        assert manifest["memory_mib"] == -(-(86 * MIB + (machine.directory / NAMES[2]).stat().st_size) // MIB)


@pytest.mark.parametrize("required", ["", "MODULE_SIG_FORCE", "LOCK_DOWN_KERNEL_FORCE_INTEGRITY"])
def test_keys_are_read_only_where_modules_have_to_be_signed(
    machine: Machine, make_configuration: Any, required: str
) -> None:
    written = make_configuration() + (f"CONFIG_{required}=y\n" if required else "")
    machine.host.put(f"boot/config-{machine.host.release}", written.encode())
    words = run(machine)["manifest"]["command_line"].split()
    (not_called,) = (word for word in words if word.startswith("initcall_blacklist="))
    assert ("load_system_certificate_list" in not_called.split(",")) == (required == "")
    assert "boot_wait_for_devices" in not_called and "cryptomgr.notests" in words


@pytest.mark.parametrize("check", [True, False])
def test_a_kernel_that_cannot_run_the_stub_domain(
    machine: Machine, make_kernel: Any, make_vmlinux: Any, check: bool
) -> None:
    release = install_kernel(machine, make_kernel, make_vmlinux, pv=False)
    before = machine.host.tree()
    with pytest.raises(UserError, match="is built without CONFIG_XEN_PV"):
        run(machine, check=check, kernel_release=release)
    assert machine.host.tree() == before


def test_a_kernel_of_which_nothing_is_known(machine: Machine) -> None:
    (machine.host.root / f"boot/config-{machine.host.release}").unlink()
    result = run(machine)
    assert result["changed"] and len(result["warnings"]) == 1
    assert f"there is no /boot/config-{machine.host.release}" in result["warnings"][0]
    assert run(machine)["warnings"] == []


def test_equal_files_give_an_equal_image(machine: Machine) -> None:
    run(machine)
    first = {name: (machine.directory / name).read_bytes() for name in NAMES[1:]}
    run(machine, state="absent")
    before = os.umask(0o077)
    try:
        run(machine)
    finally:
        os.umask(before)
    assert {name: (machine.directory / name).read_bytes() for name in NAMES[1:]} == first


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("remove qemu-stubdom-linux-kernel", "is not the file that the manifest"),
        ("spoil qemu-stubdom-linux-rootfs", "is not the file that the manifest"),
        ("spoil linux.json", "is damaged: it is not JSON"),
        ("remove linux.json", "There is no manifest"),
        ("upgrade", "not those that the image was made of"),
    ],
)
def test_a_damaged_or_outdated_image_is_made_again(machine: Machine, damage: str, reason: str) -> None:
    run(machine)
    verb, _, name = damage.partition(" ")
    if verb == "remove":
        (machine.directory / name).unlink()
    elif verb == "spoil":
        (machine.directory / name).write_bytes(b"spoilt")
    else:
        os.utime(machine.host.root / "usr/libexec/xen-qemu-system-i386", (1, 1))
    result = run(machine)
    assert result["changed"]
    assert reason in result["reason"]
    assert not run(machine)["changed"]


def test_a_second_run_starts_no_program_but_xl(machine: Machine) -> None:
    run(machine)
    machine.calls.clear()
    run(machine)
    assert machine.calls == [["xl", "info"]]


def upgrade(machine: Machine) -> None:
    machine.host.put("bin/busybox", machine.host.root.joinpath("bin/busybox").read_bytes() + b"new")


def test_the_previous_image_is_put_back(machine: Machine) -> None:
    run(machine)
    before = machine.host.tree()
    upgrade(machine)
    saved = {f"{name}.previous" for name in NAMES}
    assert saved <= set(map(os.path.basename, run(machine, check=True)["files"]))
    result = run(machine)
    assert set(machine.installed()) == {*NAMES, *saved}
    assert result["manifest"] != run(machine, check=True, state="rollback")["manifest"]
    back = run(machine, state="rollback")
    assert back["changed"] and back["manifest"] and back["diff"]
    other = ("bin/busybox", f"usr/lib/xen-{machine.host.xen}/boot/linux.rolled-back")
    assert {path: content for path, content in machine.host.tree().items() if path not in other} == {
        path: content for path, content in before.items() if path not in other
    }
    for check in (True, False):
        again = run(machine, check=check, state="rollback")
        assert (again["changed"], again["manifest"]) == (False, back["manifest"])
        assert again["reason"] == "The previous image has been put back already."
    # The files of the host are what present makes the image of, again.
    assert run(machine)["reason"] == "The files on this host are not those that the image was made of."
    assert run(machine, state="absent")["changed"]
    assert machine.installed() == []


def test_files_that_were_there_before_come_back(machine: Machine) -> None:
    theirs = {name: name.encode() for name in NAMES[1:]}
    for name, content in theirs.items():
        (machine.directory / name).write_bytes(content)
    assert "has no manifest" in run(machine, state="absent")["reason"]
    run(machine)
    run(machine, state="absent")
    assert {name: (machine.directory / name).read_bytes() for name in machine.installed()} == theirs


@pytest.mark.parametrize(
    "content", [b"null", b"5", b"[1]", b"", b"[" * 100_000, b'{"kind": "linux"}', b'{"memory_mib": "abc"}']
)
def test_a_damaged_manifest_is_reported_and_not_believed(machine: Machine, content: bytes) -> None:
    run(machine)
    (machine.directory / "linux.json").write_bytes(content)
    for state in ("present", "absent"):
        result = run(machine, check=True, state=state)
        assert len(result["warnings"]) == 1 and "linux.json is damaged: " in result["warnings"][0]
        assert result["changed"]
    assert run(machine, state="absent")["changed"]
    assert machine.installed() == []


@pytest.mark.parametrize("check", [True, False])
def test_no_room_in_the_firmware_directory(machine: Machine, monkeypatch: pytest.MonkeyPatch, check: bool) -> None:
    before = machine.host.tree()
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=1, f_frsize=4096))
    with pytest.raises(UserError, match="has 0 MiB free, and 49 MiB are needed"):
        run(machine, check=check)
    assert machine.host.tree() == before


def test_the_disk_becomes_full_while_it_is_assembled(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = machine.host.tree()

    def full(path: str, content: bytes, **_mode: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(_files, "put", full)
    with pytest.raises(UserError, match=r"Cannot write .*scratch: No space left on device"):
        run(machine)
    assert machine.host.tree() == before
    assert list((tmp_path / "scratch").iterdir()) == []


def test_mksquashfs_fails(machine: Machine) -> None:
    before = machine.host.tree()
    machine.mksquashfs_says = "Write failed because No space left on device\nFATAL ERROR: write failed"
    with pytest.raises(UserError, match="mksquashfs failed: FATAL ERROR: write failed"):
        run(machine)
    assert machine.host.tree() == before


@pytest.mark.parametrize("failing_call", range(6))
def test_a_failure_half_way_leaves_the_old_image(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, failing_call: int
) -> None:
    run(machine)
    os.utime(machine.host.root / "usr/libexec/xen-qemu-system-i386", (1, 1))
    upgrade(machine)
    machine.host.put(f"boot/vmlinuz-{machine.host.release}", b"\0" * 0x202 + kernel_tail(machine))
    before = machine.host.tree()
    calls = iter(range(10))
    sync = _files._sync_directory

    def failing(path: str) -> None:
        if next(calls) == failing_call:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        sync(path)

    monkeypatch.setattr(_files, "_sync_directory", failing)
    with pytest.raises(UserError, match="Input/output error"):
        run(machine)
    assert machine.host.tree() == before


def kernel_tail(machine: Machine) -> bytes:
    content: bytes = (machine.host.root / f"boot/vmlinuz-{machine.host.release}").read_bytes()
    return content[0x202:] + b"another"


def test_no_mksquashfs(machine: Machine) -> None:
    machine.programs = set()
    with pytest.raises(UserError, match="There is no mksquashfs on this host") as refused:
        run(machine)
    assert "squashfs-tools" in refused.value.remedy
    assert machine.installed() == []


def test_a_host_without_dpkg(machine: Machine) -> None:
    machine.programs = {"mksquashfs"}
    assert run(machine)["manifest"]["sources"] == [{"name": "linux", "version": machine.host.release}]


def test_a_firmware_directory_that_is_not_there(machine: Machine) -> None:
    with pytest.raises(UserError, match="There is no firmware directory /nowhere"):
        run(machine, directory="/nowhere")


def test_a_firmware_directory_that_cannot_be_found(machine: Machine) -> None:
    (machine.directory / "hvmloader").unlink()
    machine.params = {**NOTHING, "state": "present", "firmware_directory": None, "renew_with_packages": False}
    with pytest.raises(UserError, match="The firmware directory cannot be found"):
        linux_stubdom.run(machine)  # type: ignore[arg-type]


def test_a_host_without_xen(machine: Machine) -> None:
    machine.host.put("proc/xen/capabilities", b"")
    with pytest.raises(UserError, match="does not run Xen"):
        run(machine)
    assert run(machine, state="absent")["changed"] is False


def test_a_kernel_that_xen_cannot_start(machine: Machine) -> None:
    machine.host.put(f"boot/vmlinuz-{machine.host.release}", b"MZ")
    with pytest.raises(UserError, match="cannot be started by Xen"):
        run(machine)
    assert machine.installed() == []


def test_the_result_is_what_is_documented(machine: Machine) -> None:
    assert set(run(machine)) - {"changed", "diff", "warnings"} == set(yaml.safe_load(linux_stubdom.RETURN))
