# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# fixtures/trial/CASE/grub.cfg is a generated menu, custom.cfg what a trial of a line adds to it.

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Dict, Optional

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot import (
    grub_menu,
    grub_script,
    trial,
    trial_entry,
    trial_watchdog,
)
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import LOADERS, grub2
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from hypothesis import given
from hypothesis import strategies as st

MENUS = Path(__file__).parent / "fixtures" / "trial"
MARK, ENTRY = trial_entry.MARK, trial_entry.ENTRY
TOKEN = "0123456789ab"
OPTIONS: Dict[str, Optional[str]] = {"dom0_mem": "dom0_mem=1G,max:1G"}
RECORD = trial.Record(
    TOKEN, OPTIONS, "loglvl=all", "loglvl=all dom0_mem=1G,max:1G watchdog", "boot-1", "2026-01-31", 300
)
HEAD = grub_menu.ENVIRONMENT
SAVED = "saved_entry=xen-gnulinux-simple-0002\n"


def chosen(**files: str) -> grub_script.Entry:
    host = grub_script.Host({f"/g/{name}": text for name, text in files.items()}.get, "/g", "pc")
    return grub_script.default_entry(grub_script.run("/g/grub.cfg", host), host)


def entry(case: str, options: Dict[str, Optional[str]] = OPTIONS) -> str:
    default = chosen(**{"grub.cfg": (MENUS / case / "grub.cfg").read_text(), "grubenv": HEAD + SAVED})
    return trial_entry.entry_text(default, options, TOKEN)


@pytest.mark.parametrize("case", sorted(path.name for path in MENUS.iterdir()))
def test_the_trial_entry_is_the_default_one_with_other_options(case: str) -> None:
    assert trial_entry.add_block(None, entry(case)).decode() == (MENUS / case / "custom.cfg").read_text()


@pytest.mark.parametrize("case", sorted(path.name for path in MENUS.iterdir()))
def test_grub_and_our_own_reader_read_it(case: str, tmp_path: Path) -> None:
    names = ("grub.cfg", "custom.cfg")
    found = chosen(
        grubenv=f"{HEAD}next_entry={ENTRY}\n{SAVED}", **{name: (MENUS / case / name).read_text() for name in names}
    )
    assert (found.identity, found.title) == (ENTRY, "Trial of dom0_mem=1G,max:1G")
    checker = shutil.which("grub-script-check")
    if checker is not None:
        subprocess.run([checker, str(MENUS / case / "custom.cfg")], check=True)


@pytest.mark.parametrize(
    ("line", "options", "wanted"),
    [
        ("loglvl=all", OPTIONS, "loglvl=all dom0_mem=1G,max:1G watchdog"),
        ("dom0_mem=2G loglvl=all", OPTIONS, "dom0_mem=1G,max:1G loglvl=all watchdog"),
        ("dom0_mem=2G loglvl=all", {"dom0_mem": None}, "loglvl=all watchdog"),
        ("a", {"dom0_vcpus_pin": "dom0_vcpus_pin", "smt": "smt=0"}, "a dom0_vcpus_pin smt=0 watchdog"),
        ("noreboot watchdog", OPTIONS, "watchdog dom0_mem=1G,max:1G"),
        ("noreboot=true watchdog=force", OPTIONS, "watchdog=force dom0_mem=1G,max:1G"),
        ("no-watchdog", OPTIONS, "dom0_mem=1G,max:1G watchdog"),
        ("watchdog=0", OPTIONS, "dom0_mem=1G,max:1G watchdog"),
        ("reboot=acpi,cold", OPTIONS, "reboot=acpi,cold dom0_mem=1G,max:1G watchdog"),
        ("reboot=no", OPTIONS, "dom0_mem=1G,max:1G watchdog"),
        ("a -- b", OPTIONS, "a dom0_mem=1G,max:1G watchdog -- b"),
    ],
)
def test_every_death_of_the_hypervisor_leads_to_a_restart(
    line: str, options: Dict[str, Optional[str]], wanted: str
) -> None:
    assert trial_entry.trial_line(line, options) == wanted


@pytest.mark.parametrize(
    ("options", "written"),
    [
        ({"dom0_mem": "1G"}, {"dom0_mem": "dom0_mem=1G"}),
        ({"dom0_vcpus_pin": True, "smt": 0}, {"dom0_vcpus_pin": "dom0_vcpus_pin", "smt": "smt=0"}),
        ({"dom0_mem": None}, {"dom0_mem": None}),
    ],
)
def test_options_as_they_are_written(options: Dict[str, object], written: Dict[str, Optional[str]]) -> None:
    assert trial.desired_options(options) == written


@pytest.mark.parametrize("options", [{}, {"a b": "1"}, {"a": "1;reboot"}, {"a": "$b"}, {"a": "b'"}])
def test_options_that_grub_would_run_are_refused(options: Dict[str, object]) -> None:
    with pytest.raises(UserError):
        trial.desired_options(options)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("\tlinux /boot/vmlinuz\n", "does not start a hypervisor"),
        ("\tmultiboot2 /boot/xen.gz a\n", "without a kernel for dom0"),
        ("\tmultiboot2 /boot/memtest\n", "does not start a hypervisor"),
        ("\tmultiboot2 /boot/xen.gz a \\\n b\n\tmodule2 /boot/vmlinuz\n", "continues in the next line"),
    ],
)
def test_an_entry_that_cannot_be_tried_is_refused(body: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        trial_entry.entry_text(chosen(**{"grub.cfg": f"menuentry 'a' {{\n{body}}}\n"}), OPTIONS, TOKEN)


def test_options_of_the_default_entry_are_those_of_the_trial() -> None:
    text = """
        set default=x
        menuentry "it's --class" --users "a b" --class=c $menuentry_id_option 'x' --unrestricted --hotkey x argument {
        multiboot2 /boot/xen.gz
        module2 /boot/vmlinuz
        }
    """
    trial = trial_entry.entry_text(chosen(**{"grub.cfg": text}), OPTIONS, TOKEN)
    title = "menuentry 'Trial of dom0_mem=1G,max:1G'"
    assert trial.startswith(f'{title} --users "a b" --class=c --unrestricted --hotkey x --id {ENTRY} {{\n')


@given(st.one_of(st.none(), st.binary(max_size=80)))
def test_what_was_in_the_file_comes_back(content: Optional[bytes]) -> None:
    with_block = trial_entry.add_block(content, entry("debian-12"))
    assert trial_entry.remove_block(with_block, "custom.cfg") == content
    assert trial_entry.remove_block(content, "custom.cfg") == content


def test_what_others_add_behind_it_stays() -> None:
    with_block = trial_entry.add_block(None, entry("debian-12"))
    assert trial_entry.remove_block(with_block + b"set a=b\n", "custom.cfg") == b"set a=b\n"
    assert trial_entry.remove_block(b"a\n" + with_block + b"b\n", "custom.cfg") == b"a\nb\n"


def test_every_other_loader_has_a_reason() -> None:
    assert {*trial.CANNOT_BOOT_ONCE, grub2.Grub2.name} == {*LOADERS}
    assert all(sentence.endswith(".") for sentence in trial.CANNOT_BOOT_ONCE.values())


def test_half_a_block_is_refused() -> None:
    half = trial_entry.add_block(None, entry("debian-12")).rpartition(b"# END")[0]
    with pytest.raises(UserError, match="custom.cfg contains only a part of a trial entry"):
        trial_entry.remove_block(half, "custom.cfg")


@pytest.mark.parametrize(
    ("boot", "kernel_line", "environment", "wanted", "told"),
    [
        ("boot-1", "quiet", {"next_entry": ENTRY}, trial.WAITING, "has not been restarted since"),
        ("boot-2", f"quiet {MARK}={TOKEN}", {MARK: TOKEN}, trial.RUNNING, "came up with dom0_mem=1G"),
        ("boot-3", "quiet", {MARK: TOKEN, "next_entry": ""}, trial.FAILED, "did not come up with dom0_mem=1G"),
        ("boot-3", f"quiet {MARK}=other", {MARK: TOKEN}, trial.FAILED, "did not come up"),
        ("boot-2", "quiet", {"next_entry": ""}, trial.SKIPPED, "another entry was selected"),
        ("boot-2", "quiet", {MARK: "other"}, trial.SKIPPED, "another entry was selected"),
        ("boot-2", "quiet", {"next_entry": ENTRY}, trial.SKIPPED, "cannot write its environment block"),
    ],
)
def test_what_became_of_a_trial(
    boot: str, kernel_line: str, environment: Dict[str, str], wanted: str, told: str
) -> None:
    found = trial.state_of(RECORD, boot=boot, kernel_line=kernel_line, environment=environment)
    assert found == wanted
    assert told in trial.summary(found, RECORD, environment)


def test_no_record_is_no_trial() -> None:
    assert trial.state_of(None, boot="b", kernel_line=f"{MARK}={TOKEN}", environment={}) == trial.NONE
    assert trial.summary(trial.NONE, None, {}) == "No trial was armed."


def test_records_come_back() -> None:
    assert trial.load(RECORD.dump()) == RECORD
    for damaged in (None, b"", b"{", b"[]", b"{}", b"\xff"):
        assert trial.load(damaged) is None
    assert trial_entry.shown({"dom0_mem": None, "smt": "smt=0"}) == "no dom0_mem, smt=0"


def test_systemd_restarts_the_host_and_the_hypervisor_does_when_systemd_cannot() -> None:
    unit = trial_watchdog.unit_files(TOKEN, 200, "/usr/sbin/xenwatchdogd")[trial_watchdog.UNIT].decode().splitlines()
    for line in (
        f"ConditionKernelCommandLine={MARK}={TOKEN}",
        "RuntimeMaxSec=200",
        "FailureAction=reboot",
        "ExecStart=/usr/sbin/xenwatchdogd 320 319",
    ):
        assert line in unit
    without = trial_watchdog.unit_files(TOKEN, 200, None)[trial_watchdog.UNIT].decode()
    assert "xenwatchdogd" not in without
    assert "RuntimeMaxSec=200" in without


@pytest.mark.parametrize(
    ("systemd", "watchdog", "count"), [(True, True, 6), (True, False, 5), (False, True, 4), (False, False, 4)]
)
def test_what_is_covered_is_said(systemd: bool, watchdog: bool, count: int) -> None:
    covered, not_covered = trial_watchdog.covered(systemd=systemd, watchdog=watchdog)
    assert len(covered) == count
    assert len(covered) + len(not_covered) == 8
