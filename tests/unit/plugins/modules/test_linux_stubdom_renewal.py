# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Linux stub domain renewed by the package manager: what the module writes for that, and the program it starts."""

from __future__ import annotations

import ast
import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import syslog
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions, files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import hook, renewal
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux.parts import Choice
from ansible_collections.xen.stubdom.plugins.module_utils._xen import history
from test_linux_stubdom_module import NAMES, Machine, install_kernel, machine, run, upgrade

__all__ = ["machine"]

APT = "etc/apt/apt.conf.d/90xen-stubdom"
PROGRAM, PARAMETERS, UNIT, WANTED = (
    path.lstrip("/") for path in (hook.PROGRAM, hook.PARAMETERS, hook.UNIT, hook.WANTED)
)
HOOK = {PROGRAM, PARAMETERS, UNIT, WANTED, APT}


@pytest.fixture
def host(machine: Machine) -> Machine:
    """A host on which an image can be renewed."""
    machine.host.put("usr/bin/python3", b"")
    (machine.host.root / "run/systemd/system").mkdir(parents=True)
    for directory in (machine.host.root, *machine.host.root.rglob("*")):
        if directory.is_dir():
            directory.chmod(0o755)
    return machine


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> List[str]:
    lines: List[str] = []
    monkeypatch.setattr(syslog, "openlog", lambda *_given: None)
    monkeypatch.setattr(syslog, "syslog", lines.append)
    return lines


def there(host: Machine) -> set[str]:
    return {path for path in HOOK if os.path.lexists(host.host.root / path)}


# ---- what the module writes


def test_the_hook_comes_and_goes_in_four_steps(host: Machine) -> None:
    run(host)
    before = host.host.tree()
    # The image is there already, and stays as it is.
    for given, wanted in (({"renew": True}, HOOK), ({}, set()), ({"renew": True}, HOOK)):
        steps = []
        for check in (True, False, True, False):
            calls = len(host.calls)
            old = there(host)
            steps.append(run(host, check=check, **given))
            assert there(host) == (old if check else wanted)
            reloads = [call for call in host.calls[calls:] if call[0] == "systemctl"]
            assert reloads == ([["systemctl", "daemon-reload"]] if len(steps) == 2 else [])
        assert [step["changed"] for step in steps] == [True, True, False, False]
        assert [len(step["files"]) for step in steps] == [5, 5, 0, 0]
        assert steps[0]["diff"] == steps[1]["diff"] and len(steps[0]["diff"]) == 5
        assert {step["reason"] for step in steps} == {"The image is made of the files that are on this host now."}
        if not wanted:
            assert host.host.tree() == before
            assert not (host.host.root / PROGRAM).parent.exists() and not (host.host.root / PARAMETERS).parent.exists()
    for check in (True, False, True, False):
        result = run(host, check=check, state="absent", renew=True)
    assert not result["changed"] and there(host) == set() and host.installed() == []


def test_image_and_hook_in_one_run(host: Machine) -> None:
    result = run(host, renew=True)
    assert len(result["files"]) == 8 and there(host) == HOOK and set(host.installed()) == set(NAMES)
    assert result["files"][-2:] == [str(host.host.root / path) for path in (APT, WANTED)]


def test_a_rollback_leaves_the_hook_as_it_is(host: Machine) -> None:
    run(host, renew=True)
    upgrade(host)
    run(host, renew=True)
    run(host, state="rollback")
    assert there(host) == HOOK


def test_what_is_written_is_roots_and_stays_so(host: Machine) -> None:
    run(host, renew=True)
    for path in HOOK - {WANTED}:
        assert (host.host.root / path).stat().st_mode & 0o777 == 0o644
    assert os.readlink(host.host.root / WANTED) == hook.UNIT
    (host.host.root / PROGRAM).chmod(0o666)
    assert run(host, renew=True)["files"] == [str(host.host.root / PROGRAM)]
    assert (host.host.root / PROGRAM).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("failing_call", range(8))
def test_a_failure_half_way_leaves_neither_image_nor_hook(
    host: Machine, monkeypatch: pytest.MonkeyPatch, failing_call: int
) -> None:
    before, sync, calls = host.host.tree(), files._sync_directory, iter(range(100))

    def failing(at: Any) -> None:
        if next(calls) == failing_call:
            raise OSError(errno.EIO, os.strerror(errno.EIO), at.path)
        sync(at)

    monkeypatch.setattr(files, "_sync_directory", failing)
    with pytest.raises(UserError, match="Input/output error"):
        run(host, renew=True)
    assert host.host.tree() == before and there(host) == set()
    assert run(host, renew=True)["changed"] and there(host) == HOOK


def test_files_that_are_not_as_written_take_the_hook_with_them(host: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    before, apply = host.host.tree(), files.apply

    def overwritten(changes: Any, **options: Any) -> Dict[str, str]:
        result = apply(changes, **options)
        monkeypatch.setattr(files, "apply", apply)
        (host.directory / NAMES[2]).write_bytes(b"another program's")
        return result

    monkeypatch.setattr(files, "apply", overwritten)
    with pytest.raises(UserError, match="is not what was just written there"):
        run(host, renew=True)
    assert host.host.tree() == before and there(host) == set()


def test_the_parameters_are_those_of_the_task(host: Machine) -> None:
    run(host, renew=True)
    given = {"firmware_directory": str(host.directory), "kernel": None, "modules": None, "release": None}
    assert json.loads((host.host.root / PARAMETERS).read_text()) == given


def test_the_unit_runs_the_program_and_apt_starts_the_unit(host: Machine) -> None:
    run(host, renew=True)
    unit, line = ((host.host.root / path).read_text() for path in (UNIT, APT))
    assert f"\nExecStart=/usr/bin/python3 -I -S /{PROGRAM} /{PARAMETERS}\n" in unit
    assert "\nAfter=xen.service xendomains.service\n" in unit and "\nWantedBy=multi-user.target\n" in unit
    assert f"/bin/systemctl restart --no-block {os.path.basename(UNIT)} " in line


@pytest.mark.skipif(shutil.which("apt-config") is None, reason="there is no apt")
def test_apt_reads_the_hook_and_the_hook_never_fails(host: Machine) -> None:
    run(host, renew=True)
    words = ["apt-config", "--config-file", str(host.host.root / APT), "dump", "--format", "%v%n", "DPkg::Post-Invoke"]
    read = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    commands = [command for command in read if renewal.BY in command]
    assert len(commands) == 1
    # As apt runs it, with and without what it starts.
    for systemctl in ("/nowhere/systemctl", "/bin/false", "/bin/true"):
        command = commands[0].replace("/bin/systemctl", systemctl)
        done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


OTHERS = [row for row in distributions.DISTRIBUTIONS if row.package_manager not in hook.HOOKS]


@pytest.mark.parametrize("row", OTHERS, ids=lambda row: row.key)
def test_other_package_managers_are_refused_in_words(host: Machine, row: distributions.Distribution) -> None:
    with pytest.raises(UserError, match=f"^The image is renewed by apt only, and {row.name} has [a-z ]+\\.\nLeave out"):
        refused(host, f"ID={row.ids[0]}\n")


def test_an_unknown_distribution_is_refused(host: Machine) -> None:
    with pytest.raises(UserError, match="apt only, and this host is of no distribution that is known here"):
        refused(host, "ID=own\n")


def refused(host: Machine, os_release: str) -> None:
    host.host.put("etc/os-release", os_release.encode())
    before = host.host.tree()
    try:
        xen = renewal.Xen(host.run_command, root=str(host.host.root))
        hook.Hook(xen, wanted=True, firmware_directory=None, chosen=Choice())
    finally:
        assert host.host.tree() == before


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("missing", "message"),
    [("run/systemd/system", "by a unit of systemd, which does not run"), ("usr/bin/python3", "no /usr/bin/python3")],
)
def test_what_it_needs_is_required_before_anything_is_changed(
    host: Machine, missing: str, message: str, check: bool
) -> None:
    path = host.host.root / missing
    path.rmdir() if path.is_dir() else path.unlink()
    before = host.host.tree()
    with pytest.raises(UserError, match=message):
        run(host, check=check, renew=True)
    assert host.host.tree() == before
    # Without it, it can be taken back.
    assert run(host, state="absent")["changed"] is False


@pytest.mark.parametrize("path", ["usr/local/lib", "usr/local/lib/xen.stubdom", "etc/xen.stubdom", "usr"])
def test_a_directory_that_others_may_write_to_is_refused(host: Machine, path: str) -> None:
    (host.host.root / path).mkdir(parents=True, exist_ok=True)
    (host.host.root / path).chmod(0o775)
    with pytest.raises(UserError, match=f"/{path}, which /.* is in, can be written to by others than root"):
        run(host, renew=True)
    assert there(host) == set() and host.installed() == []


# ---- the program as a file


def test_the_program_needs_no_ansible(host: Machine) -> None:
    run(host, renew=True)
    with zipfile.ZipFile(host.host.root / PROGRAM) as program:
        for name in program.namelist():
            for node in ast.parse(program.read(name)).body:
                assert not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ansible.")), name
    # Another Python than this one, which could find Ansible: nothing but its own library.
    words = [sys.executable, "-I", "-S", "-c", "import sys; sys.exit('ansible' in sys.modules)"]
    assert subprocess.run(words, check=False).returncode == 0
    (host.host.root / PARAMETERS).write_text("{}")
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(host.host.root / PROGRAM), str(host.host.root / PARAMETERS)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    assert "is not as Ansible has written it" in done.stdout


def test_equal_code_gives_an_equal_program(host: Machine) -> None:
    run(host, renew=True)
    first = (host.host.root / PROGRAM).read_bytes()
    run(host)
    run(host, renew=True)
    assert (host.host.root / PROGRAM).read_bytes() == first


# ---- the program at work


def renew(host: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tuple[int, str]:
    """Run it as the unit does; return its status and what it says."""
    monkeypatch.setattr(renewal, "ROOT", str(host.host.root))
    monkeypatch.setattr(renewal, "run_program", host.run_command)
    monkeypatch.setattr(sys, "argv", ["program", str(host.host.root / PARAMETERS)])
    capsys.readouterr()
    status = renewal.main()
    return status, capsys.readouterr().out


def image(host: Machine) -> Dict[str, bytes]:
    return {path.name: path.read_bytes() for path in host.directory.iterdir()}


IN_ORDER = (0, "<6>The image is made of the files that are on this host now.\n")


def test_it_renews_as_the_module_would_and_once(
    host: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], journal: List[str]
) -> None:
    monkeypatch.setattr(renewal.manifest, "now", lambda: "2026-01-01T00:00:00Z")
    run(host, renew=True)
    first = image(host)
    host.calls.clear()
    assert renew(host, monkeypatch, capsys) == IN_ORDER
    assert image(host) == first and journal == [] and {call[0] for call in host.calls} == {"xl"}
    upgrade(host)
    status, said = renew(host, monkeypatch, capsys)
    assert status == 0 and said.startswith(f"<5>The Linux stub domain in {host.directory} was made again, with ")
    renewed = image(host)
    assert {name: renewed[f"{name}.previous"] for name in NAMES} == {name: first[name] for name in NAMES}
    assert renew(host, monkeypatch, capsys) == IN_ORDER
    # The module has nothing to do, and makes the same image where there is none.
    assert run(host, renew=True)["changed"] is False
    assert image(host) == renewed
    run(host, state="absent")
    run(host, renew=True)
    assert {name: renewed[name] for name in NAMES} == {name: image(host)[name] for name in NAMES}
    (line,) = map(json.loads, journal)
    assert line["what"] == str(host.directory / "linux.json")
    assert (line["module"], line["play"]) == ("xen.stubdom.linux_stubdom", "xen-stubdom-renew.service")
    assert line["image"] == json.loads(renewed["linux.json"])["identity"] and line["from"] != line["to"]


def test_xen_info_reads_its_line(
    host: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], journal: List[str]
) -> None:
    run(host, renew=True)
    upgrade(host)
    renew(host, monkeypatch, capsys)
    entry = json.dumps({"MESSAGE": journal[0], "__REALTIME_TIMESTAMP": "1767268800999999"})
    read = history.read(lambda _arguments, **_options: (0, entry, ""), 5, None)
    assert read is not None and (read[0]["play"], read[0]["user"]) == ("xen-stubdom-renew.service", None)


def test_an_image_that_was_rolled_back_stays_until_the_module_makes_another(
    host: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(host, renew=True)
    upgrade(host)
    assert renew(host, monkeypatch, capsys)[0] == 0
    run(host, state="rollback")
    back = image(host)
    # Also after the next upgrade: what was wrong may be in an image that is made of it, too.
    for _time in range(2):
        status, said = renew(host, monkeypatch, capsys)
        assert status == 0 and "was put back by a rollback, and stays until Ansible makes another" in said
        assert image(host) == back
        upgrade(host)
    run(host, renew=True)
    upgrade(host)
    assert "was made again" in renew(host, monkeypatch, capsys)[1]


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({"qemu-stubdom-linux-rootfs": b"another"}, "rootfs is not the file that the manifest"),
        ({"linux.json": b"{}"}, "is damaged: it has no kind"),
        ({"linux.json": None}, "There is no manifest"),
        (dict.fromkeys(NAMES), "There is no image yet"),
    ],
)
def test_an_image_that_is_not_as_it_was_installed_stays(
    host: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoilt: Dict[str, Any],
    message: str,
) -> None:
    run(host, renew=True)
    upgrade(host)
    for name, content in spoilt.items():
        (host.directory / name).unlink() if content is None else (host.directory / name).write_bytes(content)
    before = image(host)
    status, said = renew(host, monkeypatch, capsys)
    assert status == 0 and said.startswith("<4>The Linux stub domain in ") and message in said
    assert image(host) == before


def test_a_renewal_that_fails_leaves_the_image_and_says_so(
    host: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], journal: List[str]
) -> None:
    run(host, renew=True)
    upgrade(host)
    before = image(host)
    host.mksquashfs_says = "FATAL ERROR: write failed"
    status, said = renew(host, monkeypatch, capsys)
    assert status == 1 and said.startswith("<3>The Linux stub domain is as it was. mksquashfs failed: FATAL ERROR")
    assert said.count("\n") == 1 and image(host) == before and journal == []
    # The next run of apt, or the next boot, tries it again.
    host.mksquashfs_says = ""
    assert renew(host, monkeypatch, capsys)[0] == 0
    assert image(host) != before


def test_a_package_that_is_half_there(
    host: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(host, renew=True)
    before = image(host)
    (host.host.root / "lib/x86_64-linux-gnu/libpcre2-8.so.0").unlink()
    status, said = renew(host, monkeypatch, capsys)
    assert status == 1 and "needs the library libpcre2-8.so.0" in said and image(host) == before


def test_a_later_run_of_apt_interrupts_it(
    host: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(host, renew=True)
    upgrade(host)
    before, run_command = image(host), host.run_command

    def asked_to_end(arguments: List[str], **options: Any) -> Tuple[int, str, str]:
        if arguments[0] == "mksquashfs":
            os.kill(os.getpid(), signal.SIGTERM)
        return run_command(arguments, **options)

    monkeypatch.setattr(host, "run_command", asked_to_end)
    assert renew(host, monkeypatch, capsys) == (
        0,
        "<5>Interrupted by SIGTERM: the Linux stub domain is as it was, or a whole new one.\n",
    )
    assert image(host) == before and list((tmp_path / "scratch").iterdir()) == []
    monkeypatch.setattr(host, "run_command", run_command)
    assert "was made again" in renew(host, monkeypatch, capsys)[1]


def test_a_change_stands_in_the_journal_whenever_it_is_interrupted(
    host: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], journal: List[str]
) -> None:
    run(host, renew=True)
    upgrade(host)
    rename = files._rename

    def asked_to_end(*given: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        rename(*given)

    monkeypatch.setattr(files, "_rename", asked_to_end)
    assert renew(host, monkeypatch, capsys)[1].startswith("<5>Interrupted by SIGTERM: ")
    monkeypatch.setattr(files, "_rename", rename)
    assert len(journal) == 1 and renew(host, monkeypatch, capsys) == IN_ORDER


def test_a_host_that_does_not_run_xen_now(
    host: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(host, renew=True)
    upgrade(host)
    before = image(host)
    host.host.put("proc/xen/capabilities", b"")
    host.calls.clear()
    status, said = renew(host, monkeypatch, capsys)
    assert status == 0 and "does not run Xen now" in said and image(host) == before and host.calls == []


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "null", '{"firmware_directory": "boot"}', "[" * 50_000])
def test_parameters_that_the_module_has_not_written(
    host: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    run(host, renew=True)
    (host.host.root / PARAMETERS).write_text(content)
    status, said = renew(host, monkeypatch, capsys)
    assert status == 1 and said.startswith("<3>") and "is not as Ansible has written it" in said


def test_the_firmware_directory_is_looked_for_where_the_task_names_none(
    host: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(host, renew=True)
    (host.host.root / PARAMETERS).write_bytes(renewal.parameters(None, Choice()))
    monkeypatch.setattr(renewal.installed.firmware, "directory", lambda _xen: str(host.directory))
    assert renew(host, monkeypatch, capsys) == IN_ORDER


def test_what_stays_of_a_killed_run_is_said(
    host: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(host, renew=True)
    monkeypatch.setattr(files, "stayed", ["/var/tmp/x could not be removed."])
    assert renew(host, monkeypatch, capsys)[1].splitlines()[0] == "<4>/var/tmp/x could not be removed."


def test_a_kernel_that_was_chosen_stays(
    host: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make_kernel: Any,
    make_vmlinux: Any,
) -> None:
    release = install_kernel(host, make_kernel, make_vmlinux)
    (host.host.root / "boot/config-6.15-other").write_bytes(
        (host.host.root / f"boot/config-{host.host.release}").read_bytes()
    )
    for chosen in ({"kernel_release": release}, {"kernel": f"/boot/vmlinuz-{release}"}):
        run(host, renew=True, **chosen)
        assert renew(host, monkeypatch, capsys) == IN_ORDER
        upgrade(host)
        assert "was made again" in renew(host, monkeypatch, capsys)[1]
        assert json.loads((host.directory / NAMES[0]).read_text())["linux"] == release
    before = image(host)
    (host.host.root / f"boot/vmlinuz-{release}").unlink()
    status, said = renew(host, monkeypatch, capsys)
    assert status == 1 and said.startswith("<3>The Linux stub domain is as it was. kernel is") and image(host) == before


def test_a_doubt_about_the_kernel_is_said(
    host: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(host, renew=True)
    (host.host.root / f"boot/config-{host.host.release}").unlink()
    upgrade(host)
    status, said = renew(host, monkeypatch, capsys)
    assert status == 0 and said.startswith("<4>") and "was made again" in said and "CONFIG_XEN_PV" in said


def test_a_kernel_that_the_unit_does_not_see(host: Machine, make_kernel: Any) -> None:
    before = host.host.tree()
    host.host.put("home/admin/bzImage", make_kernel(release=host.host.release))
    with pytest.raises(UserError, match="does not see /home/admin/bzImage, as /home/, "):
        run(host, renew=True, kernel="/home/admin/bzImage")
    (host.host.root / "home/admin/bzImage").unlink()
    assert host.host.tree() == before


def test_a_kernel_that_another_account_can_replace(host: Machine, make_kernel: Any) -> None:
    host.host.put("srv/linux/bzImage", make_kernel(release=host.host.release))
    (host.host.root / "srv/linux").chmod(0o777)
    with pytest.raises(UserError, match="srv/linux, which /srv/linux/bzImage is in, can be written to by others"):
        run(host, renew=True, kernel="/srv/linux/bzImage")
    assert run(host, kernel="/srv/linux/bzImage")["changed"]


def test_the_hook_is_one_command_of_a_shell() -> None:
    assert '"' not in hook.HOOKS["apt"][1].format(command="")[len('DPkg::Post-Invoke { "') : -len('"; };\n')]
    assert shlex.split(hook._COMMAND)[0] == "/bin/systemctl"
