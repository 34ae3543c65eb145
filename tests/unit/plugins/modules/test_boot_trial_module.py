# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The module on a tree of files of its own, with GRUB's programs and boots that are played.

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot import grub_menu, trial, trial_entry, trial_watchdog
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import grub2
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.signals import Interrupted, interruptible
from ansible_collections.xen.stubdom.plugins.modules import boot_trial

MENU = (
    Path(__file__).parents[1] / "module_utils" / "_boot" / "fixtures" / "trial" / "debian-12" / "grub.cfg"
).read_text()
OPTIONS = {"dom0_mem": "1G,max:1G"}
ENTRY = "/boot/grub/custom.cfg"


def block(variables: Dict[str, str]) -> str:
    return "# GRUB Environment Block\n" + "".join(f"{name}={value}\n" for name, value in variables.items())


class Host:
    """A host as the module sees it."""

    check_mode = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self.params: Dict[str, Any] = {}
        self.filesystem = "ext2"
        self.layers = ""
        self.checks = True
        self.keeps_variables = True
        self.main_pid = 0
        self.running = "placeholder loglvl=all"
        self.put("/etc/default/grub", "GRUB_TIMEOUT=5\n")
        self.put("/boot/xen-4.17-amd64.gz", "")
        self.put("/boot/grub/grub.cfg", MENU)
        self.put("/boot/grub/grubenv", "# GRUB Environment Block\n")
        self.put("/usr/sbin/update-grub", "")
        self.put("/usr/sbin/xenwatchdogd", "")
        self.put("/run/systemd/system/x", "")
        self.put("/etc/systemd/system/x", "")
        self.put("/var/lib/x", "")
        self.boots("boot-1", "quiet")

    def put(self, path: str, text: str) -> None:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def text(self, path: str) -> Optional[str]:
        target = self.root / path.lstrip("/")
        return target.read_text() if target.exists() else None

    def tree(self) -> Dict[str, Optional[str]]:
        return {str(path): path.read_text() if path.is_file() else None for path in self.root.rglob("*")}

    def boots(self, identity: str, kernel_line: str) -> None:
        self.put("/proc/sys/kernel/random/boot_id", identity + "\n")
        self.put("/proc/cmdline", kernel_line + "\n")

    def variables(self) -> Dict[str, str]:
        return grub_menu.environment((self.text("/boot/grub/grubenv") or "").encode())

    def set_variables(self, variables: Dict[str, str]) -> None:
        self.put("/boot/grub/grubenv", block(variables))

    def grub_starts_the_trial(self) -> str:
        """What GRUB does with the entry: it forgets the choice, and writes down that it started it."""
        token = trial.load((self.text(trial.RECORD) or "").encode()).token  # type: ignore[union-attr]
        assert self.variables()["next_entry"] == trial_entry.ENTRY
        assert f"set {trial_entry.MARK}={token}" in (self.text(ENTRY) or "")
        self.set_variables({"next_entry": "", trial_entry.MARK: token})
        return f"quiet {trial_entry.MARK}={token}"

    def run_command(self, arguments: List[str], **_options: Any) -> Tuple[int, str, str]:
        tool, words = arguments[0], arguments[1:]
        if arguments == ["xl", "info"]:
            numbers = "xen_major : 4\nxen_minor : 20\ntotal_memory : 4095\nfree_memory : 2900\n"
            return 0, f"{numbers}xen_commandline : {self.running}\n", ""
        if tool == "grub-probe":
            return 0, (self.filesystem if words[0] == "--target=fs" else self.layers) + "\n", ""
        if tool == "grub-script-check":
            return (0, "", "") if self.checks else (1, "", "syntax error at line 4\n")
        if tool == "systemctl":
            return 0, f"{self.main_pid}\n", ""
        if tool == "grub-editenv":
            copy = Path(words[0])
            # The block itself is never without its content, whatever becomes of the program.
            assert copy.parent == self.root / "boot/grub" and copy.name != "grubenv"
            if self.keeps_variables:
                pairs = grub_menu.environment(copy.read_bytes())
                for word in words[2:]:
                    name, equals, value = word.partition("=")
                    pairs.pop(name, None)
                    if equals:
                        pairs[name] = value
                copy.write_text(block(pairs))
            return 0, "", ""
        raise AssertionError(f"not expected: {arguments}")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def run(host: Host, *, check: bool = False, **params: Any) -> Dict[str, Any]:
    host.params = {"state": "armed", "options": None, "timeout": 300, **params}
    host.check_mode = check
    return boot_trial.run(host, root=str(host.root))  # type: ignore[arg-type]


def test_armed_in_four_steps(host: Host) -> None:
    before = host.tree()
    first = run(host, check=True, options=OPTIONS)
    assert host.tree() == before
    second = run(host, options=OPTIONS)
    after = host.tree()
    third = run(host, check=True, options=OPTIONS)
    fourth = run(host, options=OPTIONS)
    assert host.tree() == after
    assert [step["changed"] for step in (first, second, third, fourth)] == [True, True, False, False]
    assert [step["trial_state"] for step in (first, second, third, fourth)] == ["none", "none", "waiting", "waiting"]
    assert host.variables() == {"next_entry": trial_entry.ENTRY}
    assert host.text("/boot/grub/grub.cfg") == MENU
    for step in (first, second, third, fourth):
        assert step["old_options"] == "dom0_mem=2G,max:2G loglvl=all noreboot"
        assert step["new_options"] == "dom0_mem=1G,max:1G loglvl=all watchdog"
        assert step["armed"]


@pytest.mark.parametrize(("running", "started_by"), [("placeholder a", "grub2"), ("loglvl=all", "efi_cfg")])
def test_of_two_loaders_the_one_that_started_the_host_is_meant(host: Host, running: str, started_by: str) -> None:
    host.put("/proc/xen/capabilities", "control_d\n")
    host.put("/boot/efi/EFI/xen/xen.efi", "")
    host.put("/boot/efi/EFI/xen/xen.cfg", "options=loglvl=all\nkernel=vmlinuz\n")
    host.running = running
    before = host.tree()
    if started_by == "grub2":
        assert run(host, options=OPTIONS)["armed"]
        return
    with pytest.raises(UserError, match="boots with efi_cfg. .*another section cannot be selected for one boot"):
        run(host, options=OPTIONS)
    assert host.tree() == before


def test_absent_gives_back_what_was(host: Host) -> None:
    before = host.tree()
    run(host, options=OPTIONS)
    armed = host.tree()
    first = run(host, state="absent", check=True)
    assert host.tree() == armed
    steps = [first, *(run(host, state="absent", check=check) for check in (False, True, False))]
    assert host.tree() == before
    assert [step["changed"] for step in steps] == [True, True, False, False]
    assert [step["trial_state"] for step in steps] == ["waiting", "waiting", "none", "none"]


def test_a_trial_that_runs_is_confirmed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    before = host.tree()
    sent: List[Tuple[int, int]] = []

    def kill(process: int, number: int) -> None:
        sent.append((process, number))
        if number == signal.SIGCONT:
            raise ProcessLookupError

    monkeypatch.setattr(trial_watchdog.os, "kill", kill)
    run(host, options=OPTIONS)
    host.boots("boot-2", host.grub_starts_the_trial())
    host.main_pid = 4321
    result = run(host, state="absent")
    assert result["trial_state"] == "running"
    assert result["trial_summary"] == "The host came up with dom0_mem=1G,max:1G."
    assert sent == [(4321, signal.SIGUSR1), (4321, signal.SIGCONT)]
    host.boots("boot-1", "quiet")
    assert host.tree() == before


def test_a_watchdog_that_does_not_exit_is_an_error(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_watchdog.os, "kill", lambda _process, _number: None)
    monkeypatch.setattr(trial_watchdog, "STOP_SECONDS", 0)
    run(host, options=OPTIONS)
    host.boots("boot-2", host.grub_starts_the_trial())
    host.main_pid = 1
    with pytest.raises(UserError, match="process 1, does not exit, and will restart this host"):
        run(host, state="absent")
    assert host.text(trial.RECORD) is not None


def test_a_failed_trial_is_reported_and_removed(host: Host) -> None:
    before = host.tree()
    run(host, options=OPTIONS)
    host.grub_starts_the_trial()
    host.boots("boot-3", "quiet")
    result = run(host, state="absent")
    assert (result["trial_state"], result["changed"], result["armed"]) == ("failed", True, False)
    assert "did not come up with dom0_mem=1G,max:1G" in result["trial_summary"]
    assert result["old_options"] == "dom0_mem=2G,max:2G loglvl=all noreboot"
    host.boots("boot-1", "quiet")
    assert host.tree() == before


def test_a_new_trial_takes_the_place_of_one_that_died(host: Host) -> None:
    run(host, options=OPTIONS)
    host.grub_starts_the_trial()
    host.boots("boot-3", "quiet")
    result = run(host, options={"dom0_mem": "3G"})
    assert result["trial_state"] == "failed"
    assert host.variables() == {"next_entry": trial_entry.ENTRY}
    assert (host.text(ENTRY) or "").count("menuentry") == 1
    assert "dom0_mem=3G" in (host.text(ENTRY) or "")


def test_what_the_administrator_put_into_the_menu_stays(host: Host) -> None:
    host.put(ENTRY, "# mine")
    run(host, options=OPTIONS)
    assert (host.text(ENTRY) or "").startswith("# mine\n# BEGIN")
    run(host, state="absent")
    assert host.text(ENTRY) == "# mine"


def test_a_trial_that_nobody_could_confirm_is_refused(host: Host) -> None:
    before = host.tree()
    with pytest.raises(UserError, match="The timeout of 59 seconds would expire before"):
        run(host, options=OPTIONS, timeout=59)
    assert host.tree() == before
    assert run(host, options=OPTIONS, timeout=60)["changed"]


def test_without_systemd_less_is_covered(host: Host) -> None:
    full = run(host, check=True, options=OPTIONS)
    (host.root / "run/systemd/system/x").unlink()
    (host.root / "run/systemd/system").rmdir()
    result = run(host, options=OPTIONS)
    assert host.text(trial_watchdog.UNIT) is None
    assert set(full["covered"]) - set(result["covered"]) == {
        "dom0 is up but cannot be reached",
        "dom0 hangs after its init has started",
    }


def menu(old: str, new: str) -> Callable[[Host], None]:
    assert old in MENU
    return lambda host: host.put("/boot/grub/grub.cfg", MENU.replace(old, new))


def attributes(**values: Any) -> Callable[[Host], None]:
    return lambda host: host.__dict__.update(values)


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (attributes(layers="diskfilter lvm"), OPTIONS, r"GRUB cannot write to /boot/grub \(ext2, diskfilter, lvm\)"),
        (attributes(filesystem="btrfs"), OPTIONS, r"GRUB cannot write to /boot/grub \(btrfs\)"),
        (attributes(checks=False), OPTIONS, "grub-script-check .* failed: syntax error at line 4"),
        (attributes(keeps_variables=False), OPTIONS, "does not keep what is written to it"),
        (menu("save_env next_entry", "true"), OPTIONS, "does not clear the entry"),
        (
            lambda host: host.put("/boot/grub/grub.cfg", MENU + "set timeout=-1\n"),
            OPTIONS,
            "GRUB would wait at its menu",
        ),
        (menu("/custom.cfg", "/other.cfg"), OPTIONS, "does not include /boot/grub/custom.cfg"),
        # GRUB then starts the first one, which is a Linux.
        (menu('with Xen hypervisor"', 'with nothing"'), OPTIONS, "does not start a hypervisor"),
        (menu('set default="${next_entry}"', "true"), OPTIONS, "does not start the entry that is selected"),
        (
            lambda host: host.put(
                "/boot/grub/grub.cfg",
                "source $prefix/custom.cfg\n" + MENU.replace("Debian GNU/Linux, with Xen hypervisor", "1", 1),
            ),
            OPTIONS,
            "would have another default entry",
        ),
        (
            lambda host: host.put(
                "/boot/grub/grub.cfg", "set words=dom0_mem=2G\n" + MENU.replace("dom0_mem=2G,max:2G", "${words}")
            ),
            OPTIONS,
            "the copy would pass 'dom0_mem=2G loglvl=all dom0_mem=1G,max:1G watchdog'",
        ),
        (menu("\tmultiboot2\t/boot/xen", "\tchainloader\t/xen.efi\n\tmultiboot2\t/boot/xen"), OPTIONS, "from its own"),
        (menu("\tmultiboot2\t/boot/xen", "if a; then\nmultiboot2 /boot/xen\nfi\n#"), OPTIONS, "on a condition"),
        (
            menu('set default="Debian GNU/Linux, with Xen hypervisor', 'set default="0'),
            OPTIONS,
            "not start a hypervisor",
        ),
        (lambda host: (host.root / "boot/grub/grub.cfg").unlink(), OPTIONS, "needs GRUB 2 with a generated menu"),
        (attributes(), {"dom0_mem": "2G,max:2G"}, "already has dom0_mem=2G,max:2G"),
        (attributes(), {"smt": None}, "already has no smt"),
        (attributes(), {"dom0_mem": "1G;reboot"}, "that a boot loader would interpret"),
        (attributes(), {"smt'; reboot #": None}, "not the name of a Xen command line option"),
        (attributes(), {}, "options is empty"),
    ],
)
def test_what_cannot_come_back_is_not_armed(
    host: Host, spoil: Callable[[Host], Any], options: Dict[str, Any], message: str
) -> None:
    spoil(host)
    before = host.tree()
    with pytest.raises(UserError, match=message):
        run(host, options=options)
    assert host.tree() == before


@pytest.mark.parametrize("state", ["armed", "absent"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_menu_that_cannot_be_read_is_not_taken_for_none(
    host: Host, monkeypatch: pytest.MonkeyPatch, state: str, number: int
) -> None:
    if state == "absent":
        run(host, options=OPTIONS)
        assert host.variables()["next_entry"] == trial_entry.ENTRY
    before, real, calls = host.tree(), grub2.Grub2.menu, []

    def menu(self: grub2.Grub2) -> Any:
        calls.append(self)
        if len(calls) == number:
            raise UserError("Cannot read grub.cfg: Input/output error.", "Look.")
        return real(self)

    monkeypatch.setattr(grub2.Grub2, "menu", menu)
    given: Dict[str, Any] = {"options": OPTIONS} if state == "armed" else {"state": "absent"}
    if state == "absent" and number == 2:
        assert run(host, **given)["changed"] and len(calls) == 1
        return
    with pytest.raises(UserError, match="Cannot read grub.cfg"):
        run(host, **given)
    assert host.tree() == before


@pytest.mark.parametrize("state", ["armed", "absent"])
def test_what_a_killed_run_has_left_goes_although_nothing_changes(host: Host, state: str) -> None:
    options = OPTIONS if state == "armed" else None
    run(host, options=OPTIONS)
    run(host, state=state, options=options)
    before = host.tree()
    for path in (ENTRY, trial.RECORD, trial_watchdog.UNIT, trial_watchdog.UNIT_WANTED):
        host.put(str(Path(path).with_name(f".{Path(path).name}.xen-stubdom-old")), "left")
    assert not run(host, state=state, options=options)["changed"]
    assert host.tree() == before


def test_an_entry_that_cannot_be_removed_stays_selected(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    run(host, options=OPTIONS)
    before = host.tree()

    def full(*_arguments: object, **_options: object) -> None:
        raise UserError("Cannot write custom.cfg: No space left on device.", "Make room.")

    monkeypatch.setattr(files, "apply", full)
    with pytest.raises(UserError, match="No space left"):
        run(host, state="absent")
    assert host.tree() == before


def test_a_trial_that_can_neither_be_armed_nor_taken_back_is_said(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = files.apply, []

    def apply(changes: Any, **options: Any) -> Any:
        calls.extend(change for change in changes if change.needed and change.path.endswith("custom.cfg"))
        if len(calls) == 2:
            raise UserError("Cannot write custom.cfg: No space left on device.", "Make room.")
        return real(changes, **options)

    monkeypatch.setattr(files, "apply", apply)
    host.keeps_variables = False
    with pytest.raises(UserError, match="could not be taken back: Cannot write custom.cfg") as failed:
        run(host, options=OPTIONS)
    assert "state absent" in failed.value.remedy


def test_a_signal_waits_until_the_entry_is_selected(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    real = host.run_command

    def run_command(arguments: List[str], **options: Any) -> Tuple[int, str, str]:
        if arguments[0] == "grub-script-check":
            os.kill(os.getpid(), signal.SIGHUP)
        return real(arguments, **options)

    monkeypatch.setattr(host, "run_command", run_command)
    with pytest.raises(Interrupted), interruptible():
        run(host, options=OPTIONS)
    assert run(host, check=True, options=OPTIONS)["changed"] is False
