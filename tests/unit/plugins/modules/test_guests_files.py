# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What the module guests makes of the configuration of one guest, on a tree of files with a hypervisor that is played.

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Dict

import pytest
import xen_host
import yaml
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import config_files, options, plan
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_keys
from ansible_collections.xen.stubdom.plugins.modules import guests
from xen_host import BOOT, GRUB, PROXY, Host

WHOLE = ("replace", "backup", "firmware_directory")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    yield from xen_host.played(tmp_path, monkeypatch)


def run(host: Host, *, check: bool = False, **params: Any) -> Dict[str, Any]:
    """Run the module on one guest; its result is that of the guest and that of the module."""
    whole = {key: params.pop(key) for key in WHOLE if key in params}
    given = {"name": "web", **params}
    if given.get("state") != "absent":
        given = {"type": "pv", "flavour": "grub2", "memory": 256, "disks": [{"target": "/srv/web.img"}], **given}
    result = host.run(given, check=check, **whole)
    return {**result, **result["guests"][0], "changed": result["changed"]}


def linux(**params: Any) -> Dict[str, Any]:
    return {"type": "hvm", "flavour": "linux", "state": "running", **params}


@pytest.mark.parametrize("params", [{}, linux(state="present"), {"autostart": True}, {"options": {"acpi": 1}}])
def test_present_and_absent_in_four_steps(host: Host, params: Dict[str, Any]) -> None:
    virgin = host.tree()
    steps = [run(host, check=check, **params) for check in (True, False, True, False)]
    assert [step["changed"] for step in steps] == [True, True, False, False]
    assert steps[0]["diff"] == steps[1]["diff"] != [] == steps[3]["diff"]
    assert steps[0]["settings"] == steps[3]["settings"]
    there = host.tree()
    assert there["etc/xen/web.cfg"].startswith(f"# {config_files.HEADER}\n")
    assert there.get("etc/xen/auto/web.cfg") == ("../web.cfg" if params.get("autostart") else None)
    steps = [run(host, check=check, state="absent") for check in (True, False, True, False)]
    assert [step["changed"] for step in steps] == [True, True, False, False]
    assert host.tree() == virgin


def test_autostart_is_taken_back(host: Host) -> None:
    run(host, autostart=True)
    assert run(host)["changed"]
    assert not (host.root / "etc/xen/auto/web.cfg").is_symlink()


def test_check_mode_writes_nothing(host: Host) -> None:
    before = host.tree()
    run(host, check=True, autostart=True)
    assert host.tree() == before


def test_memory_of_the_stub_domain_comes_from_its_record(host: Host) -> None:
    record = {
        **dict.fromkeys(("compiler", "flags", "built", "sha256")),
        "kind": "linux",
        "xen": "4.20",
        "identity": "1",
        "sources": [],
        "memory_mib": 160,
        "files": {"qemu-stubdom-linux-kernel": "1"},
    }
    host.put(f"{BOOT}/linux.json", json.dumps(record))
    assert run(host, **linux())["settings"]["stubdomain_memory"] == 160
    host.put(f"{BOOT}/linux.json", json.dumps({**record, "memory_mib": 128}))
    assert "stubdomain_memory" not in run(host, **linux())["settings"]


def test_a_damaged_record_matters_to_those_that_have_the_image(host: Host) -> None:
    host.put(f"{BOOT}/linux.json", "{")
    host.put("opt/rootfs", "070701")
    assert run(host, **linux(stubdomain_ramdisk="/opt/rootfs"))["changed"]
    assert run(host, name="other")["changed"]


def test_grub_is_where_the_distribution_puts_it(host: Host) -> None:
    (host.root / "usr/lib/grub-xen/grub-x86_64-xen.bin").unlink()
    host.put("usr/share/grub2/x86_64-xen/grub.xen", "")
    host.put("etc/os-release", "ID=opensuse-leap\n")
    for state in ("present", "running"):
        assert run(host, state=state)["settings"]["kernel"] == "/usr/share/grub2/x86_64-xen/grub.xen"


def test_another_config_that_is_not_this_guest_s(host: Host) -> None:
    host.put("etc/xen/web-old.cfg", 'name = "web-old"\n')
    host.put("etc/xen/web.cfg.123.2026-01-31@12:00:00~", 'name = "web"\n')
    host.put("etc/xen/program", "import os\nname = 'db'\n")
    assert run(host)["changed"]


def test_a_file_that_somebody_else_wrote_is_taken_over_only_if_told(host: Host) -> None:
    host.put("etc/xen/web.cfg", 'name = "web"\n')
    before = host.tree()
    for state in ("present", "absent"):
        with pytest.raises(UserError, match="web.cfg was not written by this module: the guest name web is taken"):
            run(host, state=state)
    assert host.tree() == before
    assert run(host, replace=True, backup=True)["backup_files"]
    assert run(host, state="absent")["changed"]


def domain(host: Host, uuid: str) -> None:
    host.there("web", uuid)


def without(host: Host, path: str) -> None:
    (host.root / path).unlink()


# What is wrong, what is asked for, the sentence.
@pytest.mark.parametrize(
    ("prepare", "params", "message"),
    [
        (lambda host: without(host, "srv/web.img"), {}, "no /srv/web.img: the disk xvda"),
        (lambda host: without(host, GRUB), {"state": "running"}, "GRUB 2 for guests of type pv"),
        (lambda host: host.put("etc/xen/other.cfg", 'name = "web"\n'), {}, "taken by another config.*other.cfg"),
        (lambda host: host.put("etc/xen/xm", "import os\nname = 'web'\n"), {}, "taken by another configuration: .*/xm"),
        (lambda host: without(host, f"{BOOT}/qemu-stubdom-linux-rootfs"), linux(), "image of the Linux stub domain"),
        (lambda host: without(host, PROXY), linux(), "vchan-socket-proxy, through which libxl talks"),
        (lambda host: without(host, f"{BOOT}/hvmloader"), linux(), "firmware directory cannot be found"),
        (lambda host: setattr(host, "line", "placeholder"), linux(), "memory of dom0 is not fixed"),
        (lambda host: host.put("etc/xen/xl.conf", 'autoballoon="on"\n'), linux(), "memory of dom0 is not fixed"),
        (lambda host: setattr(host, "free", 300), linux(), "needs 398 MiB of memory, and the host has 300 MiB free"),
        (lambda host: setattr(host, "free", 100), {"state": "running"}, "host has 100 MiB free"),
        (lambda host: domain(host, "of-another"), {"state": "running"}, "name web is taken: domain 3 has it"),
        (lambda host: host.put("proc/xen/capabilities", ""), {"state": "running"}, "does not run Xen"),
        (lambda host: host.put(f"{BOOT}/linux.json", "{"), linux(), "linux.json, the record of an image, is damaged"),
        (lambda host: None, linux(flavour="minios"), "no /usr/lib/xen-4.20/boot/ioemu-stubdom.gz"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_nothing_is_written(
    host: Host, prepare: Any, params: Dict[str, Any], message: str
) -> None:
    prepare(host)
    before = host.tree()
    with pytest.raises(UserError, match=message) as refused:
        run(host, **params)
    assert host.tree() == before
    assert len(str(refused.value).splitlines()) == 2


def test_a_mini_os_stub_domain_needs_an_hvmloader_with_rombios(host: Host) -> None:
    host.put(f"{BOOT}/ioemu-stubdom.gz", "")
    host.put("opt/qemu-dm", "")
    (host.root / "opt/qemu-dm").chmod(0o755)
    wanted = linux(flavour="minios", device_model_override="/opt/qemu-dm")
    with pytest.raises(UserError, match="hvmloader is not hvmloader with ROMBIOS"):
        run(host, **wanted)
    host.put("opt/hvmloader", "...ROMBIOS...")
    assert run(host, **wanted, firmware_override="/opt/hvmloader")["changed"]


HELPERS = f"{BOOT}/helpers"


def ioemu(host: Host, *left_out: str) -> None:
    """Put everything there that a Mini-OS stub domain needs, but for what is left out."""
    for path in (f"{BOOT}/ioemu-stubdom.gz", f"{HELPERS}/hvmloader", f"{HELPERS}/qemu-dm", QEMU):
        if path not in left_out:
            host.put(path, "ROMBIOS")
            (host.root / path).chmod(0o755)


QEMU = "usr/libexec/xen-qemu-system-i386"


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        (f"{BOOT}/ioemu-stubdom.gz", "the image of the Mini-OS stub domain"),
        (f"{HELPERS}/hvmloader", "is not hvmloader with ROMBIOS"),
        (f"{HELPERS}/qemu-dm", "the program in dom0 that serves the stub domain's consoles"),
        (QEMU, "QEMU for Xen, which our qemu-dm runs"),
    ],
)
def test_a_missing_piece_of_ioemu_is_named_with_what_makes_it(host: Host, piece: str, message: str) -> None:
    ioemu(host, piece)
    with pytest.raises(UserError, match=message) as refused:
        run(host, **linux(flavour="minios"))
    assert "qemu-system-xen" in refused.value.remedy if piece == QEMU else "[ioemu]" in refused.value.remedy
    ioemu(host)
    assert run(host, **linux(flavour="minios"))["settings"]["firmware_override"] == f"/{HELPERS}/hvmloader"


def record_of_ioemu(release: str) -> str:
    empty = dict.fromkeys(("compiler", "flags", "built", "sha256"))
    files = {"ioemu-stubdom.gz": None}
    return json.dumps({**empty, "kind": "ioemu", "xen": release, "identity": "1", "sources": [], "files": files})


def test_an_image_of_ioemu_for_another_release_starts_no_guest(host: Host) -> None:
    ioemu(host)
    host.put(f"{BOOT}/ioemu-stubdom.json", record_of_ioemu("4.17"))
    wanted = linux(flavour="minios")
    before = host.tree()
    with pytest.raises(
        UserError, match=f"/{BOOT}/ioemu-stubdom.gz is an image for Xen 4.17, and this host has Xen 4.20"
    ):
        run(host, **wanted)
    assert host.tree() == before and host.acts == []
    # What a play makes before it starts guests is not there in check mode, and configurations come before guests.
    assert any("an image for Xen 4.17" in warning for warning in run(host, check=True, **wanted)["warnings"])
    assert run(host, **{**wanted, "state": "present"})["changed"]
    host.put("opt/ioemu.gz", "")
    assert run(host, **wanted, stubdomain_kernel="/opt/ioemu.gz")["changed"]
    host.put(f"{BOOT}/ioemu-stubdom.json", record_of_ioemu("4.20"))
    assert run(host, **wanted)["changed"]


@pytest.mark.parametrize("record", ["", "{", record_of_ioemu("4.17").replace('"ioemu"', '"c"')])
def test_an_image_of_ioemu_of_which_no_release_is_known_is_taken(host: Host, record: str) -> None:
    ioemu(host)
    host.put(f"{BOOT}/ioemu-stubdom.json", record)
    assert run(host, **linux(flavour="minios"))["changed"]


def test_what_the_toolstack_has_itself_is_good_enough(host: Host) -> None:
    # Before anything is built, a configuration names what will be.
    assert run(host, type="hvm", flavour="minios")["settings"]["firmware_override"] == f"/{HELPERS}/hvmloader"
    ioemu(host, f"{HELPERS}/hvmloader", f"{HELPERS}/qemu-dm", QEMU)
    host.put(f"{BOOT}/hvmloader", "ROMBIOS")
    host.put("usr/lib/xen-4.20/bin/qemu-dm", "")
    (host.root / "usr/lib/xen-4.20/bin/qemu-dm").chmod(0o755)
    for state in ("present", "running"):
        settings = run(host, type="hvm", flavour="minios", state=state)["settings"]
        assert settings["firmware_override"] == f"/{BOOT}/hvmloader"
        assert settings["device_model_override"] == "/usr/lib/xen-4.20/bin/qemu-dm"


def test_a_host_without_xen_gets_its_files(host: Host) -> None:
    host.put("proc/xen/capabilities", "")
    assert run(host)["changed"]
    assert run(host, state="absent")["changed"]


def test_a_guest_that_is_there_is_not_forgotten(host: Host) -> None:
    run(host)
    domain(host, plan.identity("web"))
    result = run(host, state="running")
    assert (result["changed"], result["domid"], result["memory"]["free_mib"]) == (False, 3, 2900)
    with pytest.raises(UserError, match=r"web is still there as domain 3 \(blocked\)"):
        run(host, state="absent")
    assert (host.root / "etc/xen/web.cfg").exists()


def test_a_domain_that_only_has_its_name_is_left_when_the_guest_is_forgotten(host: Host) -> None:
    run(host)
    domain(host, "of-another")
    assert run(host, state="absent")["changed"]
    assert list(host.domains) == ["web"]


def test_the_result_is_what_is_documented(host: Host) -> None:
    documented = yaml.safe_load(guests.RETURN)
    result = host.run({"name": "web", "type": "pv", "memory": 256}, backup=True)
    assert set(result) - {"changed", "diff", "warnings"} == set(documented)
    assert set(result["guests"][0]) == set(documented["guests"]["contains"])
    assert run(host)["needed_mib"] == 258
    assert run(host)["grub_names"] == {"xvda": "(hd0)"}


def shown(host: Host) -> Dict[str, str]:
    """All that is below /etc/xen, with the links to directories."""
    paths = (host.root / "etc").rglob("*")
    return {
        str(path): os.readlink(path) if path.is_symlink() else path.read_text()
        for path in paths
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(
    ("wrong", "params", "message"),
    [
        ("auto elsewhere", {"autostart": True}, "auto is a link to .*, from where"),
        ("file", {"autostart": True}, "is a regular file, not a symbolic link"),
        ("file", {}, "is a regular file, not a symbolic link"),
        ("file", {"state": "absent"}, "is a regular file, not a symbolic link"),
        ("another's", {"autostart": True}, "web.cfg is a link to ../other.cfg, not to .*: it starts another guest"),
    ],
)
def test_an_autostart_that_cannot_be_is_refused_before_anything_is_changed(
    host: Host, there: bool, wrong: str, params: Dict[str, Any], message: str
) -> None:
    if there:
        run(host)
    host.put("etc/xen/other.cfg", 'name = "other"\n')
    auto = host.root / "etc/xen/auto"
    if wrong == "auto elsewhere":
        (host.root / "etc/other/autostarted").mkdir(parents=True)
        auto.symlink_to("../other/autostarted")
    else:
        auto.mkdir(exist_ok=True)
        (auto / "web.cfg").write_text("") if wrong == "file" else (auto / "web.cfg").symlink_to("../other.cfg")
    before = shown(host)
    for check in (True, False):
        with pytest.raises(UserError, match=message) as refused:
            run(host, check=check, memory=300, **params)
        assert len(str(refused.value).splitlines()) == 2
    assert shown(host) == before


def test_a_link_that_starts_another_guest_stays(host: Host) -> None:
    host.put("etc/xen/other.cfg", 'name = "other"\n')
    auto = host.root / "etc/xen/auto"
    auto.mkdir()
    (auto / "web.cfg").symlink_to("../other.cfg")
    assert not run(host)["autostart"]
    assert not run(host)["changed"]
    run(host, state="absent")
    assert os.readlink(auto / "web.cfg") == "../other.cfg"
    assert run(host, autostart=True, replace=True)["autostart"]
    assert os.readlink(auto / "web.cfg") == "../web.cfg"


def test_a_link_to_the_directory_beside_is_good(host: Host) -> None:
    (host.root / "etc/xen/real").mkdir(parents=True)
    (host.root / "etc/xen/auto").symlink_to("real")
    assert run(host, autostart=True)["autostart"]
    assert (host.root / "etc/xen/auto/web.cfg").samefile(host.root / "etc/xen/web.cfg")


def test_any_link_to_the_configuration_is_taken_back(host: Host) -> None:
    run(host)
    (host.root / "etc/xen/auto").mkdir()
    (host.root / "etc/xen/auto/web.cfg").symlink_to(host.root / "etc/xen/web.cfg")
    assert run(host)["changed"]
    assert not (host.root / "etc/xen/auto/web.cfg").is_symlink()


def test_an_autostart_that_is_not_there_afterwards(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    run(host)
    monkeypatch.setattr(files, "apply", lambda _changes, **_options: {})
    with pytest.raises(UserError, match="auto/web.cfg does not lead to"):
        run(host, autostart=True)


PASSWORDS = {
    "vncpasswd": 's3cr"et',
    "vfb": ["vnc=1,vncpasswd=0ther,vncunused=1"],
}


def test_a_password_is_in_a_file_of_its_owner_s_and_nowhere_else(host: Host) -> None:
    options = {"options": PASSWORDS, "allow_weaker_isolation": True}
    path = host.root / "etc/xen/web.cfg"
    assert run(host, **options)["changed"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert 'vncpasswd = "s3cr\\"et"' in path.read_text() and "0ther" in path.read_text()
    assert not run(host, **options)["changed"]
    path.chmod(0o640)
    result = run(host, check=True, **options)
    assert result["changed"] and "(mode 0600, " in result["diff"][0]["after_header"]
    assert path.stat().st_mode & 0o777 == 0o640
    run(host, **options)
    assert path.stat().st_mode & 0o777 == 0o600
    for secret in ("s3cr", "0ther"):
        assert secret not in json.dumps(result["settings"])
    # One that is asked for is the user's choice.
    run(host, **options, mode="0640")
    assert path.stat().st_mode & 0o777 == 0o640
    # What is still in the file when another one is asked for.
    host.no_log_values = set()
    run(host, check=True)
    assert {'s3cr"et', 's3cr\\"et', "0ther"} <= host.no_log_values


def test_a_password_in_a_file_that_is_taken_over_is_known(host: Host) -> None:
    host.put("etc/xen/web.cfg", "import os\nvncpasswd = 's3cret'\n")
    run(host, replace=True)
    assert "s3cret" in host.no_log_values


def test_mode_owner_and_group_of_the_file(host: Host) -> None:
    path = host.root / "etc/xen/web.cfg"
    uid, gid = os.geteuid(), os.getegid()
    wanted = {"mode": "0640", "owner": str(uid), "group": str(gid)}
    steps = [run(host, check=check, **wanted)["changed"] for check in (True, False, True, False)]
    assert steps == [True, True, False, False]
    assert path.stat().st_mode & 0o777 == 0o640
    steps = [run(host, check=check, mode=0o600)["changed"] for check in (True, False, True, False)]
    assert steps == [True, True, False, False]
    assert path.stat().st_mode & 0o777 == 0o600
    # Without the parameter the file keeps its own.
    assert run(host, memory=300)["changed"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_is_given_to_another_owner(host: Host) -> None:
    run(host)
    assert run(host, owner="4321", group="4322")["changed"]
    status = (host.root / "etc/xen/web.cfg").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (4321, 4322, 0o644)
    assert not run(host, owner="4321", group="4322")["changed"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"mode": 600}, "mode 600 is not"),
        ({"mode": "u=rw"}, "mode 'u=rw' is not"),
        ({"mode": "4755"}, "mode '4755' is not"),
        ({"mode": True}, "mode True is not"),
        ({"mode": [6]}, r"mode \[6\] is not"),
        ({"owner": "no one"}, "no user 'no one'"),
        ({"owner": str((1 << 32) - 1)}, "no user '4294967295'"),
        ({"group": "no such"}, "no group 'no such'"),
    ],
)
def test_permissions_that_are_none(host: Host, params: Dict[str, Any], message: str) -> None:
    before = host.tree()
    with pytest.raises(UserError, match=message):
        run(host, **params)
    assert host.tree() == before


@pytest.mark.parametrize("state", ["present", "absent"])
@pytest.mark.parametrize("name", ["../x", "a/b", "", "-a", "7", "Domain-0", "web\n", "web.cfg/", "x" * 5 + "\0"])
def test_a_name_that_is_none_is_refused_in_every_state(host: Host, name: str, state: str) -> None:
    victim = host.root / "etc/x.cfg"
    victim.write_text(f"# {config_files.HEADER}\n")
    with pytest.raises(UserError, match="is no name for a guest"):
        run(host, name=name, state=state, replace=True)
    assert victim.exists()


def stub(name: str) -> str:
    return f'name = "{name}"\ntype = "hvm"\ndevice_model_stubdomain_override = 1\n'


@pytest.mark.parametrize(
    ("other", "params", "message"),
    [
        (stub("web"), {"name": "web-dm"}, "guest name web-dm is taken"),
        ('name = "web-dm"\n', linux(state="present"), "stub domain of web will be called web-dm, and that is taken"),
        (stub("db"), {"name": "web-dm"}, None),
        ('name = "web-dm"\n', {}, None),
    ],
)
def test_a_name_that_a_stub_domain_has(host: Host, other: str, params: Dict[str, Any], message: str) -> None:
    host.put("etc/xen/other.cfg", other)
    if message is None:
        assert run(host, **params)["changed"]
        return
    with pytest.raises(UserError, match=message):
        run(host, **params)


@pytest.mark.parametrize("content", ["[" * 60000, "a = " + "[" * 60000 + "\n", "a = [" + "[1]," * 60000 + "]\n"])
def test_a_deeply_nested_file_beside_ours_is_no_guest(host: Host, content: str) -> None:
    host.put("etc/xen/deep", content)
    host.put("etc/xen/endless", "x" * (1 << 18) + "y")
    os.mkfifo(host.root / "etc/xen/fifo")
    assert run(host)["changed"]


@pytest.mark.parametrize("flavour", ["linux", "minios"])
@pytest.mark.parametrize("key", sorted(options.WEAKER))
def test_what_leads_past_the_stub_domain_has_to_be_allowed(host: Host, flavour: str, key: str) -> None:
    if flavour == "linux" and key == "sdl":
        pytest.skip("a Linux stub domain has no window")
    value: Any = {"usbdevice": "host:1234:5678", "pci": ["00:1b.0,permissive=1"], "channel": ["name=a"]}.get(key, ["x"])
    off: Any = []
    if "bool" in xl_keys.KEYS[key][-1][2] or key == "gfx_passthru":
        value, off = 1, 0
    wanted = {"type": "hvm", "flavour": flavour, "disks": [], "options": {key: value}}
    with pytest.raises(UserError, match=rf" options.{key} would weaken the isolation of the guest web: "):
        run(host, **wanted)
    assert run(host, **wanted, allow_weaker_isolation=True)["settings"][key] == value
    assert run(host, **{**wanted, "options": {key: off}})["settings"][key] == off
    if "hvm" not in xl_keys.KEYS[key][-1][3]:
        assert run(host, options={key: value}, replace=True)["changed"]


def test_an_emulated_pointer_is_no_hardware(host: Host) -> None:
    for value in ("tablet", ["tablet", "keyboard"]):
        run(host, type="hvm", flavour="linux", options={"usbdevice": value})
    with pytest.raises(UserError, match=r"options\.usbdevice would weaken"):
        run(host, type="hvm", flavour="linux", options={"usbdevice": ["tablet", "disk:/etc/shadow"]})


def test_xl_reads_a_configuration_before_it_is_written(host: Host) -> None:
    host.says = (0, "Parsing config from FILE\nFILE:5: warning: parameter `nx' is not a valid number\n")
    warning = f"xl says of {host.root}/etc/xen/web.cfg: line 5: warning: parameter `nx' is not a valid number"
    assert run(host, check=True)["warnings"] == [warning]
    assert run(host)["warnings"] == [warning]
    assert host.read_by_xl == [(host.root / "etc/xen/web.cfg").read_text()] * 2
    # Nothing is to be written, and nothing is asked.
    assert run(host)["warnings"] == run(host, state="absent")["warnings"] == []
    assert len(host.read_by_xl) == 2
    before = host.tree()
    host.says = (1, "Parsing config from FILE\nxl: maxvcpus < vcpus\n")
    for check in (True, False):
        with pytest.raises(UserError, match=" xl refuses the configuration of the guest: xl: maxvcpus < vcpus[.]"):
            run(host, check=check)
    assert host.tree() == before


def test_without_a_hypervisor_xl_is_not_asked(host: Host) -> None:
    host.put("proc/xen/capabilities", "")
    host.put("usr/lib/x86_64-linux-gnu/libxenlight.so.4.20", "")
    assert run(host)["changed"] and host.read_by_xl == []


def test_an_umask_changes_nothing(host: Host) -> None:
    before = os.umask(0o077)
    try:
        run(host, autostart=True)
    finally:
        os.umask(before)
    assert (host.root / "etc/xen/web.cfg").stat().st_mode & 0o777 == 0o644
    assert (host.root / "etc/xen/auto").stat().st_mode & 0o777 == 0o755


def test_the_host_starts_guests_in_the_order_of_the_list(host: Host) -> None:
    def links() -> dict[str, str]:
        return {path.name: os.readlink(path) for path in sorted((host.root / "etc/xen/auto").iterdir())}

    names = ("apps", "db", "mail", "web")
    after = {"web": ["apps"], "apps": ["db"]}
    plain = [{"name": name, "type": "pv", "memory": 64, "autostart": True} for name in names]
    listed = [{**one, "start_after": after.get(str(one["name"]), [])} for one in plain]
    steps = [host.run(*plain), host.run(*listed, check=True), host.run(*listed), host.run(*listed)]
    assert [step["changed"] for step in steps] == [True, True, True, False]
    # Those whose order does not matter keep their names.
    assert links() == {
        "000-db.cfg": "../db.cfg",
        "001-apps.cfg": "../apps.cfg",
        "002-web.cfg": "../web.cfg",
        "mail.cfg": "../mail.cfg",
    }
    assert steps[2]["guests"][3]["actions"] == ["linked", "unlinked"]
    assert all(guest["autostart"] for guest in steps[2]["guests"])
    # Who names a guest without its place finds how it is started, and every link goes with the guest.
    assert host.run({"name": "web"})["guests"][0]["autostart"]
    (host.root / "etc/xen/auto/007-web.cfg").symlink_to("../db.cfg")
    host.run({**listed[3], "start_after": [], "autostart": False}, {"name": "apps", "state": "absent"})
    assert sorted(links()) == ["000-db.cfg", "007-web.cfg", "mail.cfg"]
    host.run(*plain)
    assert sorted(links()) == ["007-web.cfg", "apps.cfg", "db.cfg", "mail.cfg", "web.cfg"]


@pytest.mark.parametrize(
    ("settings", "saves"),
    [
        ("XENDOMAINS_SAVE=/var/lib/xen/save\n", True),
        ('# XENDOMAINS_SAVE=""\nXENDOMAINS_SAVE="/save"\n', True),
        ('XENDOMAINS_SAVE=/save\nXENDOMAINS_SAVE=""\n', False),
        ("XENDOMAINS_SAVE=\nXENDOMAINS_RESTORE=true\n", False),
        ("XENDOMAINS_SAVE=''  # none\n", False),
        (None, False),
    ],
)
def test_a_host_that_would_save_guests_at_its_shutdown_is_warned_of(
    host: Host, settings: str | None, saves: bool
) -> None:
    if settings is not None:
        host.put("etc/default/xendomains", settings)
    hvm = {"name": "h", "type": "hvm", "memory": 64}
    for check in (True, False):
        result = host.run(hvm, {"name": "p", "type": "pv", "memory": 64}, check=check)
        assert result["saved_at_shutdown"] == ("/etc/default/xendomains" if saves else None)
        assert [": h. The role xen.stubdom.hvm_stubdom can" in text for text in result["warnings"]] == [True] * saves
    assert host.run({**hvm, "state": "absent"})["saved_at_shutdown"] is None
