# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Options of dom0's Linux on a host with GRUB 2, whose update-grub is played as 10_linux and 20_linux_xen work.

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot import loaders, targets
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import grub2
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen
from ansible_collections.xen.stubdom.plugins.modules import boot_option
from test_dom0_mem_module import DROP_IN
from test_dom0_mem_module import Host as XenHost

HIDE = {"name": "xen-pciback.hide", "value": "(04:00.0)"}
CONSOLES = {"name": "console", "values": ["tty0", "hvc0"]}


class Host(XenHost):
    def __init__(self, root: Path, *, xen: bool = True) -> None:
        super().__init__(root, xen=xen)
        self.put("proc/cmdline", "placeholder root=/dev/vda1 ro quiet\n")
        self.put("etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX=""\n')
        self.update_grub()

    def update_grub(self) -> None:
        loader = grub2.Grub2(self.run_command, root=str(self.root))
        sources = loader.read()

        def value(name: str) -> str:
            return grub2.KERNEL_VARIABLES.only(name).run(self.run_command, sources)

        linux, default = value("GRUB_CMDLINE_LINUX"), value("GRUB_CMDLINE_LINUX_DEFAULT")
        xen = value("GRUB_CMDLINE_LINUX_XEN_REPLACE") or linux
        xen_default = value("GRUB_CMDLINE_LINUX_XEN_REPLACE_DEFAULT") or default
        words = "" if self.grub_ignores_the_files else f"{xen} {xen_default}"
        self.put(
            "boot/grub/grub.cfg",
            f"### BEGIN /etc/grub.d/20_linux_xen ###\n{self.first_entries}menuentry 'Xen' {{\n"
            f"multiboot2 /boot/xen-4.17-amd64.gz placeholder {loader.configured(sources)} ${{xen_rm_opts}}\n"
            f"module2 /boot/vmlinuz placeholder root=/dev/vda1 ro {words}\nmodule2 --nounzip /boot/initrd.img\n}}\n"
            f"menuentry 'Linux' {{\nlinux /boot/vmlinuz root=/dev/vda1 ro {linux} {default}\n}}\n",
        )

    def linux_alone(self) -> str:
        return next(
            line for line in (self.root / "boot/grub/grub.cfg").read_text().splitlines() if line.startswith("linux ")
        )


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(boot_option, "Xen", lambda run: Xen(run, root=str(tmp_path)))
    monkeypatch.setattr(
        targets, "find", lambda name, run, root, foreign, running: loaders.find(name, run, root=str(tmp_path))
    )
    host = Host(tmp_path)
    monkeypatch.setattr(boot_option, "run_program", host.run_command)
    return host


def run(host: Host, *, check: bool = False, **params: Any) -> Dict[str, Any]:
    defaults = {"state": "present", "value": None, "values": None, "target": "dom0_kernel", "loader": "auto"}
    host.params = {**defaults, "root": "/", "regenerate": True, "backup": False, "entries": "all", **params}
    host.check_mode = check
    return boot_option.run(host)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (HIDE, ["xen-pciback.hide=(04:00.0)"]),
        (CONSOLES, ["console=tty0", "console=hvc0"]),
        ({"name": "nomodeset"}, ["nomodeset"]),
        ({"name": "8250.nr_uarts", "value": "4"}, ["8250.nr_uarts=4"]),
        ({"name": "quiet", "state": "absent"}, []),
    ],
)
def test_four_steps(host: Host, params: Dict[str, Any], words: List[str]) -> None:
    host.calls.clear()
    before = host.tree()
    steps = []
    for check in (True, False, True, False):
        steps.append(run(host, check=check, **params))
        assert (host.tree() == before) is (len(steps) == 1)
    assert [step["changed"] for step in steps] == [True, True, False, False]
    assert steps[0]["diff"] == steps[1]["diff"] != []
    for step in steps:
        assert (step["configured"], step["effective"]) == (words, words)
        assert step["running"] == (["quiet"] if params["name"] == "quiet" else [])
        assert step["boots_xen"]
        assert step["reboot_required"]
        assert step["reboot_reason"].startswith("Dom0's Linux runs with ")
    assert host.calls.count(["update-grub"]) == 1


def test_linux_without_xen_is_left_alone(host: Host) -> None:
    before = host.tree()
    alone = host.linux_alone()
    for params in (HIDE, CONSOLES, {"name": "nomodeset"}):
        assert run(host, **params)["warnings"] == []
        assert host.linux_alone() == alone
    for name in ("nomodeset", "console", "xen-pciback.hide"):
        run(host, name=name, state="absent")
    assert DROP_IN not in host.tree()
    assert {path: text.split() for path, text in host.tree().items()} == {k: v.split() for k, v in before.items()}


def test_running_as_asked_needs_no_reboot(host: Host) -> None:
    host.put("proc/cmdline", "placeholder root=/dev/vda1 ro console=tty0 console=hvc0 -- single\n")
    result = run(host, **CONSOLES)
    assert result["changed"]
    assert not result["reboot_required"]
    assert result["reboot_reason"] == "Dom0's Linux already runs with console=tty0 console=hvc0."


@pytest.mark.parametrize("fault", ["update_grub_fails", "grub_ignores_the_files"])
def test_a_failure_puts_the_files_back(host: Host, fault: str) -> None:
    before = host.tree()
    setattr(host, fault, True)
    with pytest.raises(UserError):
        run(host, **CONSOLES)
    assert host.tree() == before


def test_what_the_loader_passes_instead_is_said(host: Host) -> None:
    host.grub_ignores_the_files = True
    with pytest.raises(UserError, match="to dom0's Linux, with no console instead of console=tty0 console=hvc0"):
        run(host, **CONSOLES)


def test_an_entry_without_a_kernel_is_said(host: Host) -> None:
    menu = "### BEGIN /etc/grub.d/20_linux_xen ###\nmenuentry 'Xen' {\nmultiboot2 /boot/xen.gz placeholder\n}\n"
    host.put("boot/grub/grub.cfg", menu)
    result = run(host, check=True, **HIDE)
    assert (result["effective"], result["boots_xen"], result["reboot_required"]) == (None, True, False)
    assert result["reboot_reason"] == "GRUB's entry 'Xen' has no module for dom0's Linux."


@pytest.mark.parametrize(
    ("linux", "params", "warned"),
    [
        # What Linux without Xen has stays.
        ("console=ttyS0", CONSOLES, "GRUB_CMDLINE_LINUX keeps console=ttyS0 for Linux without Xen"),
        # Only there it can be removed.
        ("console=ttyS0", {"name": "console", "state": "absent"}, "gets no console any more either"),
        # What is there already is not set anew.
        ("console=tty0 console=hvc0", CONSOLES, "gets console=tty0 console=hvc0, too: it is in GRUB_CMDLINE_LINUX"),
        ("", {"name": "dom0_mem", "value": "1G"}, "dom0_mem is an option of the hypervisor, and Linux ignores it"),
        ("dom0_mem=1G", HIDE, "dom0_mem=1G in GRUB_CMDLINE_LINUX goes to Linux, which ignores it"),
    ],
)
def test_warnings(host: Host, linux: str, params: Dict[str, Any], warned: str) -> None:
    host.put("etc/default/grub", f'GRUB_CMDLINE_LINUX="{linux} rootdelay=5"\n')
    host.update_grub()
    alone = host.linux_alone()
    first = run(host, check=True, **params)["warnings"]
    assert any(warned in text for text in first)
    result = run(host, **params)
    assert result["warnings"] == first
    assert (host.linux_alone() == alone) is (params.get("state") != "absent")
    assert "rootdelay=5" in (host.root / "boot/grub/grub.cfg").read_text().split("module2")[1]


def test_an_option_of_linux_on_the_line_of_the_hypervisor_is_warned_about(host: Host) -> None:
    host.put("etc/default/grub.d/xen.cfg", 'GRUB_CMDLINE_XEN="xen-pciback.hide=(04:00.0) console=com1"\n')
    host.update_grub()
    (warning,) = run(host, **HIDE)["warnings"]
    assert warning.startswith("xen-pciback.hide=(04:00.0) in GRUB_CMDLINE_XEN goes to the hypervisor, which ignores it")
    assert run(host, **CONSOLES)["warnings"] == []


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"name": "a b"}, "'a b' is not the name of an option of Linux"),
        ({"name": "console", "value": "tty0 quiet"}, "that a boot loader would interpret"),
        ({"name": "console", "values": []}, "values is empty"),
        ({"name": "dom0_mem", "values": ["1G", "2G"], "target": "hypervisor"}, "is set 2 times"),
    ],
)
def test_refusals_change_nothing(host: Host, params: Dict[str, Any], message: str) -> None:
    before = host.tree()
    with pytest.raises(UserError, match=message) as refused:
        run(host, **params)
    assert len(str(refused.value).splitlines()) == 2
    assert host.tree() == before


def test_several_values_for_the_hypervisor(host: Host) -> None:
    params = {"target": "hypervisor", "name": "ivrs_ioapic[4]", "values": ["00:14.0", "00:15.0"]}
    steps = [run(host, **params) for _time in range(2)]
    assert [step["changed"] for step in steps] == [True, False]
    assert steps[1]["effective"] == ["ivrs_ioapic[4]=00:14.0", "ivrs_ioapic[4]=00:15.0"]


def test_a_program_that_sets_the_options_of_linux_is_not_copied(host: Host) -> None:
    host.put("etc/default/grub", 'GRUB_CMDLINE_LINUX="$(echo console=ttyS0)"\n')
    host.update_grub()
    result = run(host, **CONSOLES)
    assert result["effective"] == ["console=tty0", "console=hvc0"]
    assert "=ttyS0" in host.linux_alone()
