# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The playbook that undoes what was done on a host, with what records the calls of the collection's modules.

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List

import pytest
import real_play
import recorded
import yaml
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import hook

WEB = {"name": "web", "path": "/etc/xen/web.cfg", "managed": True, "state": "blocked"}
OFF = {"name": "off", "path": "/srv/off.cfg", "managed": True, "state": "absent"}
OTHER = {"name": "other", "path": "/etc/xen/other.cfg", "managed": False, "state": "blocked"}
HOST: Dict[str, Any] = {
    "toolstack": {"version": "4.20"},
    "firmware_directory": "/usr/lib/xen-4.20/boot",
    "images": [
        {"manifest": {"kind": "linux"}},
        {"manifest": {"kind": "pv-grub"}},
        {"manifest": {"kind": "custom-hello"}},
        {"manifest": None},
    ],
    "helpers": [{"manifest": None}, {"manifest": {"kind": "hvmloader"}}],
    "configurations": [
        {"name": "web", "path": "/etc/xen/web.cfg", "flavour": "linux"},
        {"name": "other", "path": "/etc/xen/other.cfg", "flavour": None},
    ],
}
LINE = {"boots_xen": True, "running": "1G", "configured": None, "effective": None, "memory_mib": 1024}
RESULTS: Dict[str, Dict[str, Any]] = {
    "xen_info": HOST,
    "guests_info": {"guests": [WEB, OFF, OTHER]},
    "guests": {"changed": True, "guests": [{"name": "web", "changed": True}, {"name": "off", "changed": True}]},
    "linux_stubdom": {"changed": True},
    "grub_image": {},
    "stubdom_install": {"changed": True},
    "boot_trial": {"trial_state": "none", "trial_summary": "None."},
    "guest_migrate": {},
    "boot_default": {"changed": True},
    "dom0_mem": {**LINE, "changed": True, "reboot_required": True, "reboot_reason": "It has to.", "expected_mib": None},
    "xl_conf": {"changed": True},
    "boot_option": {"changed": True},
}
DROP_IN = (
    "# Written by the Ansible collection xen.stubdom: options for all entries that start Xen.\n"
    'GRUB_CMDLINE_XEN="$GRUB_CMDLINE_XEN dom0_mem=1G,max:1G loglvl=all smt"\n'
    'GRUB_CMDLINE_LINUX_XEN_REPLACE="${GRUB_CMDLINE_LINUX_XEN_REPLACE:-$GRUB_CMDLINE_LINUX} console=tty0 console=hvc0"\n'  # noqa: E501
)


def play(path: Path, *words: str, **results: Dict[str, Any]) -> recorded.Played:
    for name in ("build", "images/0123", "guests"):
        (path / "work" / name).mkdir(parents=True, exist_ok=True)
    (path / "work" / "images" / "0123" / "image").touch()
    (path / "grub.d").mkdir()
    (path / "grub.d" / "zz-xen-stubdom.cfg").write_text(DROP_IN)
    # As extra variables: those of a play are stronger than those of its hosts.
    here = [
        f"retire_work_directory={path}/work",
        f"__retire_grub={path}/grub.d",
        f"__retire_note={path}/note",
        f"__retire_netboot={path}/service",
        "__retire_account=none-of-ours",
    ]
    # What holds for site.yml reboots nothing here.
    variables = {"dom0_memory_reboot": True, "dom0_memory_size": "2G"}
    options = [f"-e{one}" for one in here]
    return recorded.play(path, "retire", *options, *words, results={**RESULTS, **results}, **variables)


ALL = "-eretire_hosts=localhost"


def test_everything_is_taken_back(tmp_path: Path) -> None:
    played = play(tmp_path, ALL, "-eretire_guests=shutdown")
    assert played.status == 0, played.said
    asked = dict(played.calls)
    assert asked["guests"] == {
        "guests": [{"name": "web", "path": "/etc/xen/web.cfg"}, {"name": "off", "path": "/srv/off.cfg"}],
        "defaults": {"state": "absent", "stop": "graceful"},
    }
    assert [given["image"] for name, given in played.calls if name == "stubdom_install"] == [
        "pv-grub",
        "custom-hello",
        "hvmloader",
    ]
    assert {given["state"] for name, given in played.calls if "state" in given} == {"absent"}
    assert [(given["target"], given["name"]) for name, given in played.calls if name == "boot_option"] == [
        ("hypervisor", "loglvl"),
        ("hypervisor", "smt"),
        ("dom0_kernel", "console"),
    ]
    assert (
        "guest web, guest off, image linux, image pv-grub, image custom-hello, image hvmloader, the default entry, "
        "dom0_mem, loglvl, smt, console, xl.conf, the directories of builds taken back; a reboot needed"
    ) in played.said
    assert not (tmp_path / "work").exists()
    names = [name for name, _given in played.calls]
    # What guests need goes after them.
    assert names.index("guests") < names.index("linux_stubdom") < names.index("dom0_mem")


@pytest.mark.parametrize(("guests", "stays"), [("shutdown", False), ("keep", True)])
def test_what_renews_an_image_goes_from_a_host_without_a_toolstack(tmp_path: Path, guests: str, stays: bool) -> None:
    renews = tmp_path / "90xen-stubdom"
    renews.touch()
    host = {**HOST, "firmware_directory": None, "images": []}
    words = (f"-eretire_guests={guests}", f'-e{{"__retire_renews": ["{renews}"]}}')
    played = play(tmp_path, ALL, *words, xen_info=host)
    assert played.status == 0, played.said
    assert renews.exists() == stays and ("the renewal of images, " in played.said) != stays
    assert "linux_stubdom" not in [name for name, _given in played.calls]


def test_the_files_that_renew_an_image_are_those_of_the_module() -> None:
    play_ = yaml.safe_load((real_play.REPOSITORY / "playbooks" / "retire.yml").read_text())[0]
    there = {path for path, _line in hook.HOOKS.values()} | {hook.UNIT, hook.WANTED, hook.PARAMETERS}
    assert set(play_["vars"]["__retire_renews"]) == {*there, os.path.dirname(hook.PROGRAM)}


def test_a_host_without_anything_of_ours_stays_as_it_is(tmp_path: Path) -> None:
    nothing = {name: {"changed": False} for name in ("linux_stubdom", "boot_default", "xl_conf")}
    line = {**RESULTS["dom0_mem"], "changed": False, "reboot_required": False}
    host = {**HOST, "images": [], "helpers": [], "configurations": []}
    played = play(
        tmp_path, ALL, "--check", f"-eretire_work_directory={tmp_path}/none", f"-e__retire_grub={tmp_path}",
        **nothing, dom0_mem=line, xen_info=host, guests_info={"guests": [OTHER]},
    )  # fmt: skip
    assert played.status == 0, played.said
    assert "localhost: nothing would be taken back; nothing needed" in played.said
    assert not {"guests", "stubdom_install", "boot_option"} & {name for name, _given in played.calls}


@pytest.mark.parametrize(
    ("words", "results", "wanted"),
    [
        ([ALL], {}, "runs guests whose configuration is this collection's: web. Nothing was changed."),
        ([ALL, "-eretire_guests=yes"], {}, "Set retire_guests to refuse, shutdown or keep."),
        ([ALL, "-edom0_memory_reboot=true"], {}, "this playbook reboots no host. Leave out dom0_memory_reboot, and"),
        (
            [ALL, "-eretire_guests=shutdown"],
            {"guests_info": {"guests": [{**WEB, "managed": False}]}},
            "Guests that others have configured on localhost need a stub domain: web. Nothing was changed.",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, words: List[str], results: Dict[str, Any], wanted: str) -> None:
    played = play(tmp_path, *words, **results)
    assert played.status == 2 and wanted in played.said
    assert {name for name, _given in played.calls} <= {"xen_info", "guests_info"}


def test_guests_that_are_kept_keep_their_images(tmp_path: Path) -> None:
    menu = tmp_path / "work" / "guests" / "web.bin"
    menu.parent.mkdir(parents=True)
    menu.touch()
    played = play(tmp_path, ALL, "-eretire_guests=keep")
    assert played.status == 0, played.said
    assert sorted(path.name for path in (tmp_path / "work").rglob("*")) == ["guests", "web.bin"]
    assert not {"guests", "linux_stubdom", "grub_image", "stubdom_install"} & {name for name, _given in played.calls}
    assert "dom0_mem" in {name for name, _given in played.calls}


def test_without_a_name_no_host_is_touched(tmp_path: Path) -> None:
    assert play(tmp_path).calls == []
