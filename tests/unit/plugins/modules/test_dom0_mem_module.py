# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The module on a tree of files of its own, with a hypervisor and an update-grub that are played.

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
import yaml
from ansible_collections.xen.stubdom.plugins.module_utils._boot import loaders, targets
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen
from ansible_collections.xen.stubdom.plugins.modules import dom0_mem

DROP_IN = "etc/default/grub.d/zz-xen-stubdom.cfg"


class Host:
    """A host as the module sees it."""

    check_mode = False

    def __init__(self, root: Path, *, xen: bool = True) -> None:
        self.root = root
        self.params: Dict[str, Any] = {}
        self.running = "placeholder loglvl=all"
        self.update_grub_fails = False
        self.grub_ignores_the_files = False
        self.first_entries = ""
        self.calls: List[List[str]] = []
        self.put("etc/default/grub", "GRUB_TIMEOUT=5\n")
        self.put("etc/default/grub.d/xen.cfg", 'GRUB_CMDLINE_XEN_DEFAULT="loglvl=all"\n')
        self.put("boot/xen-4.17-amd64.gz", "")
        self.put("usr/sbin/update-grub", "")
        self.put("proc/xen/capabilities", "control_d\n" if xen else "")
        self.update_grub()
        self.calls.clear()

    def put(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def tree(self) -> Dict[str, str]:
        return {str(path): path.read_text() for path in self.root.rglob("*") if path.is_file()}

    def update_grub(self) -> None:
        loader = loaders.find("auto", self.run_command, root=str(self.root))
        words = "" if self.grub_ignores_the_files else loader.configured(loader.read())
        self.put(
            "boot/grub/grub.cfg",
            f"### BEGIN /etc/grub.d/20_linux_xen ###\n{self.first_entries}menuentry 'Xen' {{\n"
            f"multiboot2 /boot/xen-4.17-amd64.gz placeholder {words} ${{xen_rm_opts}}\n}}\n",
        )

    def run_command(self, arguments: List[str], **_options: Any) -> Tuple[int, str, str]:
        self.calls.append(arguments)
        if arguments[0] == "sh":
            done = subprocess.run(arguments, capture_output=True, text=True, check=False)
            return done.returncode, done.stdout, done.stderr
        if arguments == ["update-grub"]:
            if self.update_grub_fails:
                return 1, "", "grub-probe: error: no such device.\n"
            self.update_grub()
            return 0, "", ""
        if arguments == ["xl", "info"]:
            memory = "total_memory : 4095\nfree_memory : 2900\n"
            return 0, f"xen_major : 4\nxen_minor : 17\n{memory}xen_commandline : {self.running}\n", ""
        if arguments == ["xl", "list"]:
            return 0, "Name ID Mem VCPUs State Time(s)\nDomain-0  0  1024  1  r-----  106.4\n", ""
        raise AssertionError(f"not expected: {arguments}")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return play(tmp_path, monkeypatch)


def play(host_root: Path, monkeypatch: pytest.MonkeyPatch, *, xen: bool = True) -> Host:
    monkeypatch.setattr(dom0_mem, "Xen", lambda run: Xen(run, root=str(host_root)))
    monkeypatch.setattr(
        targets, "find", lambda name, run, root, foreign, running: loaders.find(name, run, root=str(host_root))
    )
    return Host(host_root, xen=xen)


def run(host: Host, *, check: bool = False, **params: Any) -> Dict[str, Any]:
    defaults = {"state": "present", "size": None, "min": None, "max": None, "value": None, "entries": "all"}
    host.params = {**defaults, "loader": "auto", "root": "/", "regenerate": True, "backup": False, **params}
    host.check_mode = check
    return dom0_mem.run(host)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("params", "value"),
    [
        ({"size": "1G"}, "1G,max:1G"),
        ({"size": "1024M", "max": "2G"}, "1G,max:2G"),
        ({"value": "1024M,max:0x100000"}, "1024M,max:0x100000"),
    ],
)
def test_present_in_four_steps(host: Host, params: Dict[str, Any], value: str) -> None:
    before = host.tree()
    first = run(host, check=True, **params)
    assert host.tree() == before
    assert ["update-grub"] not in host.calls
    second = run(host, **params)
    after = host.tree()
    third = run(host, check=True, **params)
    fourth = run(host, **params)
    assert host.tree() == after
    assert [step["changed"] for step in (first, second, third, fourth)] == [True, True, False, False]
    assert first["diff"] == second["diff"] != []
    for step in (first, second, third, fourth):
        assert (step["configured"], step["effective"], step["running"]) == (value, value, None)
        assert step["reboot_required"]
        assert value in step["reboot_reason"]
    assert host.calls.count(["update-grub"]) == 1


def test_absent_gives_back_what_was(host: Host) -> None:
    before = host.tree()
    run(host, size="1G")
    steps = [run(host, state="absent", check=check) for check in (True, False, True, False)]
    assert [step["changed"] for step in steps] == [True, True, False, False]
    assert re.sub(" +", " ", str(host.tree())) == re.sub(" +", " ", str(before))
    assert steps[-1]["configured"] is None
    assert not steps[-1]["reboot_required"]


def test_absent_ignores_the_parameters_of_a_value(host: Host) -> None:
    assert not run(host, state="absent", size="2048", value="lots", min="x", max="y")["changed"]


def test_another_spelling_is_no_change(host: Host) -> None:
    host.put("etc/default/grub.d/xen.cfg", 'GRUB_CMDLINE_XEN="dom0_mem=max:1048576,1024M"\n')
    host.update_grub()
    assert not run(host, size="1G")["changed"]


def test_running_as_asked_needs_no_reboot(host: Host) -> None:
    host.running = "placeholder dom0_mem=1024M,max:1024M"
    result = run(host, size="1G")
    assert result["changed"]
    assert not result["reboot_required"]
    assert (result["memory_mib"], result["expected_mib"]) == (1024, 1024)


def test_a_stale_configuration_is_generated_anew(host: Host) -> None:
    host.put(DROP_IN, 'GRUB_CMDLINE_XEN="dom0_mem=1G,max:1G"\n')
    result = run(host, size="1G")
    assert result["changed"]
    assert result["files"] == []
    assert result["effective"] == "1G,max:1G"


def test_a_host_on_which_xen_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(play(tmp_path, monkeypatch, xen=False), size="1G")
    assert result["running"] is None
    assert not result["reboot_required"]
    assert "not running" in result["reboot_reason"]


def test_a_host_without_xen_is_refused_unless_only_files_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = play(tmp_path, monkeypatch, xen=False)
    (tmp_path / "boot/xen-4.17-amd64.gz").unlink()
    before = host.tree()
    with pytest.raises(UserError, match="No hypervisor is installed"):
        run(host, size="1G")
    assert host.tree() == before
    assert run(host, size="1G", regenerate=False)["configured"] == "1G,max:1G"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"size": "lots"}, "'lots' is not an amount"),
        ({"size": "1024"}, "no unit.*\\nAdd the unit to size: write 1024M for MiB"),
        ({}, "Neither size nor value is set"),
        ({"value": "1G", "size": "1G", "max": "2G"}, "value and size, max exclude each other"),
        ({"size": "8G"}, "the host has 4095 MiB"),
        ({"size": "2G", "min": "3G"}, "min 3G is above the max 2G"),
        ({"size": "64M"}, "which dom0 needs at least"),
    ],
)
def test_bad_sizes_change_nothing(host: Host, params: Dict[str, Any], message: str) -> None:
    before = host.tree()
    with pytest.raises(UserError, match=message):
        run(host, **params)
    assert host.tree() == before


@pytest.mark.parametrize("failure", ["update_grub_fails", "grub_ignores_the_files"])
def test_a_failure_puts_the_files_back(host: Host, failure: str) -> None:
    setattr(host, failure, True)
    with pytest.raises(UserError) as refused:
        run(host, size="1G")
    assert not (host.root / DROP_IN).exists()
    assert "dom0_mem" not in (host.root / "boot/grub/grub.cfg").read_text()
    assert len(str(refused.value).splitlines()) == 2


BY_HAND = """\
# kept by hand; do not run update-grub on this host
set timeout=0
set default=0
menuentry "Xen with hand-picked options" {
  multiboot2 /boot/xen.gz dom0_mem=2000M,max:2000M com1=115200,8n1 console=com1 ucode=scan
  module2 /boot/vmlinuz root=/dev/sda1 ro console=hvc0 xen-pciback.hide=(03:00.0)
}
menuentry "Linux" { linux /boot/vmlinuz dom0_mem=4G
}
"""


def test_a_menu_that_is_kept_by_hand_is_edited_and_never_generated(host: Host) -> None:
    for name in ("etc/default/grub", "etc/default/grub.d/xen.cfg"):
        (host.root / name).unlink()
    host.put("boot/grub/grub.cfg", BY_HAND)
    before = host.tree()
    steps = [run(host, size="1G", check=check, backup=True) for check in (True, False, True, False)]
    assert [step["changed"] for step in steps] == [True, True, False, False]
    assert [step["effective"] for step in steps] == ["1G,max:1G"] * 4
    assert (host.root / "boot/grub/grub.cfg").read_text() == BY_HAND.replace("2000M,max:2000M", "1G,max:1G")
    assert steps[1]["files"] == list(steps[1]["backup_files"]) == [str(host.root / "boot/grub/grub.cfg")]
    run(host, value="2000M,max:2000M")
    assert {path: text for path, text in host.tree().items() if "@" not in path} == before
    assert ["update-grub"] not in host.calls
    host.put("boot/grub/grub.cfg", BY_HAND.replace("default=0", "default=1"))
    assert "does not start Xen" in run(host, size="1G")["reboot_reason"]
    host.put("boot/grub/grub.cfg", 'menuentry "Linux" { linux /boot/vmlinuz\n}\n')
    with pytest.raises(UserError, match="was not written by grub-mkconfig, and has no entry that starts Xen"):
        run(host, size="1G")


def test_a_host_whose_default_entry_is_linux_is_configured_but_not_to_be_rebooted(host: Host) -> None:
    host.first_entries = "menuentry 'Debian GNU/Linux' { linux /boot/vmlinuz\n}\n"
    host.update_grub()
    first, second = run(host, size="1G"), run(host, size="1G")
    assert [first["changed"], second["changed"]] == [True, False]
    for result in (first, second):
        assert (result["configured"], result["effective"], result["boots_xen"]) == ("1G,max:1G", None, False)
        assert not result["reboot_required"]
        assert "'Debian GNU/Linux', which does not start Xen" in result["reboot_reason"]
        assert "GRUB_DEFAULT" in result["reboot_reason"]


def test_an_entry_of_the_administrator_before_the_default_one_decides_nothing(host: Host) -> None:
    host.first_entries = "set default=1\nmenuentry 'Maintenance' { multiboot2 /boot/xen.gz dom0_mem=2G\n}\n"
    host.update_grub()
    assert run(host, size="1G")["effective"] == "1G,max:1G"
    # The menu that a failure leaves is the old one, byte by byte.
    before = (host.root / "boot/grub/grub.cfg").read_bytes()
    host.grub_ignores_the_files = True
    with pytest.raises(UserError):
        run(host, size="3G")
    assert (host.root / "boot/grub/grub.cfg").read_bytes() == before


def test_the_menu_is_kept_before_it_is_generated(host: Host) -> None:
    menu = host.root / "boot/grub/grub.cfg"
    before = menu.read_bytes()
    kept = run(host, size="1G", backup=True)["backup_files"]
    assert list(kept) == [str(menu)]
    assert Path(kept[str(menu)]).read_bytes() == before != menu.read_bytes()
    assert run(host, size="1G", backup=True)["backup_files"] == {}
    Path(kept[str(menu)]).unlink()
    host.update_grub_fails = True
    with pytest.raises(UserError, match="no such device"):
        run(host, size="2G", backup=True)
    assert list(menu.parent.iterdir()) == [menu]


def test_a_file_that_grub_cannot_source(host: Host) -> None:
    host.put("etc/default/grub", 'GRUB_TIMEOUT="5\n')
    before = host.tree()
    with pytest.raises(UserError, match="tool cannot source its configuration: .*etc/default/grub"):
        run(host, size="1G")
    assert host.tree() == before


def test_the_result_is_what_is_documented(host: Host) -> None:
    result = run(host, size="1G", backup=True)
    documented = set(yaml.safe_load(dom0_mem.RETURN))
    assert set(result) - {"changed", "diff", "warnings"} == documented


@pytest.mark.parametrize("params", [{"size": "1G"}, {"state": "absent"}])
def test_dom0_mem_among_the_options_of_linux_is_warned_about(host: Host, params: Dict[str, Any]) -> None:
    host.put("etc/default/grub", 'GRUB_CMDLINE_LINUX="rhgb quiet dom0_mem=512M,max:512M"\n')
    (warning,) = [text for text in run(host, **params)["warnings"] if "Linux" in text]
    assert warning.startswith("dom0_mem=512M,max:512M in GRUB_CMDLINE_LINUX ")
