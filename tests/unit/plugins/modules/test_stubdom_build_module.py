# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import ctypes
import functools
import multiprocessing
import os
import pwd
import re
import resource
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
import stubdom_tree
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._images import (
    account,
    bounds,
    build_job,
    build_status,
    kept,
    seal,
)
from ansible_collections.xen.stubdom.plugins.modules import stubdom_build
from open_directory import open_directory


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with open_directory(tmp_path.name) as path:
        yield path


class Builder:
    def __init__(self, place: Path) -> None:
        self.place = place
        self.work = place / "work"
        self.sources = stubdom_tree.make(place / "sources")
        self.compiler = "gcc (Debian 12.2.0-14) 12.2.0\n"

    def command(self, arguments: List[str], **_options: Any) -> Tuple[int, str, str]:
        assert arguments == ["gcc", "--version"]
        return 0, self.compiler, ""

    def run(self, *images: str, check: bool = False, step: str = "all", seen: Any = (), **more: Any) -> Dict[str, Any]:
        params = {
            "release": "4.17",
            "images": list(images),
            "sources": self.sources,
            "kernels": [],
            "work_directory": str(self.work),
            "user": None,
            "jobs": 2,
            "timeout": 60,
            **more,
        }
        internal = {"step": step, "seen": list(seen)}
        module = SimpleNamespace(params=params, check_mode=check, run_command=self.command, internal=internal)
        return stubdom_build.run(module)  # type: ignore[arg-type]

    @property
    def tree(self) -> Path:
        return next((self.work / "build" / "trees").iterdir())

    def made(self) -> List[str]:
        return (self.tree / "stubdom" / "made").read_text().split()


@pytest.fixture
def builder(place: Path) -> Builder:
    return Builder(place)


def test_a_build_in_four_steps(builder: Builder) -> None:
    steps = [builder.run("c", check=check) for check in (True, False, True, False)]
    assert [step["changed"] for step in steps] == [True, True, False, False]
    assert [step["built"] for step in steps] == [["c"], ["c"], [], []]
    image = steps[-1]["images"][0]
    assert Path(image["path"]).read_text() == "kernel\n"
    assert image["manifest"]["kind"] == "c"
    assert image["manifest"]["identity"] == image["identity"] == steps[0]["images"][0]["identity"]
    assert steps[0]["images"][0]["manifest"] == {
        **image["manifest"],
        "sha256": None,
        "built": None,
        "files": {"c-stubdom.gz": None},
    }
    assert image["manifest"]["sources"] == [
        {"name": "xen", "version": "xen", "sha256": "xen"},
        {"name": "mini-os", "version": "mini-os", "sha256": "mini-os"},
    ]
    assert not steps[0]["log"] and Path(steps[1]["log"]).is_file()
    assert list(steps[1]["stages"]) == ["sources", "configure", "headers", "newlib", "libraries", "image c"]


def test_check_mode_leaves_nothing_behind(builder: Builder) -> None:
    builder.run("c", check=True)
    assert not builder.work.exists()


def test_another_image_reuses_what_is_there(builder: Builder) -> None:
    builder.run("c")
    result = builder.run("c", "pv-grub")
    assert result["built"] == ["pv-grub"]
    assert builder.made().count("cross-newlib") == 1
    assert builder.made().count("c-stubdom") == 1


@pytest.mark.parametrize("what", ["source", "compiler", "release"])
def test_what_goes_in_decides(builder: Builder, what: str) -> None:
    before = builder.run("c")["images"][0]["identity"]
    more = {}
    if what == "source":
        builder.sources[0]["digest"] = "another"
    elif what == "compiler":
        builder.compiler = "gcc (Debian 14.2.0-19) 14.2.0\n"
    else:
        more["release"] = "4.16"
    result = builder.run("c", **more)
    assert result["built"] == ["c"]
    assert result["images"][0]["identity"] != before


def test_jobs_decide_nothing(builder: Builder) -> None:
    builder.run("c", jobs=1)
    assert not builder.run("c", jobs=7)["changed"]


def test_a_failure_says_stage_error_and_log(builder: Builder) -> None:
    broken = Path(builder.sources[0]["path"]) / "stubdom" / "broken"
    broken.touch()
    with pytest.raises(UserError) as refused:
        builder.run("c")
    assert refused.value.what == "Stage 'image c' failed: c/main.c:7:1: error: expected expression"
    assert "does not know the cause" in refused.value.remedy
    log, *context = refused.value.shown
    assert re.fullmatch("Log: /.*/log", log) and "    c/main.c:7:1: error: expected expression" in context
    assert str(refused.value).split("\n") == [refused.value.what, refused.value.remedy, log, *context]
    assert list((builder.work / "images").glob("*")) == [] if (builder.work / "images").exists() else True
    (builder.tree / "stubdom" / "broken").unlink()
    assert builder.run("c")["built"] == ["c"]
    assert builder.made().count("cross-newlib") == 1


def wait_for(builder: Builder, stage: str) -> Dict[str, Any]:
    result = builder.run("c", step="start")
    until = time.monotonic() + 20
    while result["_internal"]["stage"] != stage:
        assert time.monotonic() < until
        result = builder.run("c", step="watch", seen=["running", result["_internal"]["stage"]])
    return result["_internal"]


def living(group: int) -> List[int]:
    """Processes of a group that run; where nobody waits for orphans, they stay listed after their end."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if path.read_text(errors="replace").rpartition(")")[2].split()[2] == str(group):
                found.append(int(path.parent.name))
    return [pid for pid in found if build_status.alive(pid)]


def slow(builder: Builder) -> None:
    (Path(builder.sources[0]["path"]) / "stubdom" / "slow-cross-newlib").touch()


def test_stop_ends_it_and_the_next_run_goes_on(builder: Builder) -> None:
    slow(builder)
    group = None
    status = wait_for(builder, "newlib")
    until = time.monotonic() + 10
    while group is None and time.monotonic() < until:
        group = builder.run("c", step="watch")["_internal"].get("group")
    builder.run("c", step="stop")
    assert group is not None and living(group) == []
    until = time.monotonic() + 10
    while build_status.alive(status["pid"]) and time.monotonic() < until:
        time.sleep(0.05)
    assert not build_status.alive(status["pid"])
    with pytest.raises(UserError, match="The build was stopped"):
        builder.run("c", step="watch")
    (builder.tree / "stubdom" / "slow-cross-newlib").unlink()
    assert builder.run("c")["built"] == ["c"]
    assert builder.made().count("cross-newlib") == 2


def test_it_stops_when_nobody_watches(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_status, "SILENCE", 1.0)
    slow(builder)
    status = wait_for(builder, "newlib")
    until = time.monotonic() + 20
    while build_status.alive(status["pid"]) and time.monotonic() < until:
        time.sleep(0.1)
    with pytest.raises(UserError, match="No play has watched"):
        builder.run("c", step="watch")


def test_it_stops_when_the_time_is_up(builder: Builder) -> None:
    slow(builder)
    # newlib lasts a minute; a busy machine does not come as far.
    with pytest.raises(UserError, match="not done after 1 seconds, in stage '(sources|configure|headers|newlib)'"):
        builder.run("c", timeout=1)


def test_root_does_not_build(builder: Builder) -> None:
    if os.geteuid() != 0:
        with pytest.raises(UserError, match="cannot build as root"):
            builder.run("c", user="root")
        return
    with pytest.raises(UserError, match="not run as root"):
        builder.run("c", user="root")
    builder.run("c")
    owners = {path.lstat().st_uid for path in (builder.work / "build").rglob("*")}
    assert owners == {pwd.getpwnam("xen-stubdom").pw_uid}
    records = [builder.work, *(builder.work / "images").rglob("*")]
    assert {path.lstat().st_uid for path in records} == {0}
    assert len(records) == 4


@pytest.fixture
def builder_account(builder: Builder) -> pwd.struct_passwd:
    """The account that builds, which only root can have another one of."""
    if os.geteuid() != 0:
        pytest.skip("only root builds as another account")
    account.prepare(str(builder.work), account.ACCOUNT)
    return pwd.getpwnam(account.ACCOUNT)


def test_the_account_cannot_write_what_root_believes(builder: Builder, builder_account: pwd.struct_passwd) -> None:
    image = Path(builder.run("c", "pv-grub")["images"][0]["path"])
    assert builder_account.pw_shell == "/usr/sbin/nologin"

    def attack() -> List[str]:
        done = []
        for path in (image, image.with_name("manifest.json"), builder.work / "trial.json", image.parent / "more"):
            with contextlib.suppress(OSError), path.open("w"):
                done.append(str(path))
        return done

    assert account.as_user(account.ACCOUNT, attack) == []
    # What it has in its own directory decides nothing.
    (builder.work / "build" / "images" / image.parent.name / image.name).write_text("planted")
    assert not builder.run("c")["changed"]
    assert image.read_text() == "kernel\n"


@pytest.mark.parametrize("what", ["link", "hard link", "directory", "FIFO", "link above"])
def test_root_reads_only_what_the_account_has_built(
    builder: Builder, builder_account: pwd.struct_passwd, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    secret = builder.place / "secret"
    secret.write_text("secret\n")
    keep = kept.keep

    def plant(image: Path) -> None:
        image.unlink()
        if what == "link":
            image.symlink_to(secret)
        elif what == "hard link":
            os.link(secret, image)
        elif what == "directory":
            image.mkdir()
        elif what == "FIFO":
            os.mkfifo(image)
        else:
            image.parent.rmdir()
            image.parent.symlink_to(builder.place)

    def keep_planted(*arguments: Any) -> None:
        for image in (builder.work / "build" / "images").glob("*/c-stubdom.gz"):
            # It may be asked for again.
            if stat.S_ISREG(image.lstat().st_mode) and image.stat().st_nlink == 1:
                plant(image)
        keep(*arguments)

    monkeypatch.setattr(kept, "keep", keep_planted)
    with pytest.raises(UserError, match="c-stubdom.gz"):
        builder.run("c")
    assert not (builder.work / "images").exists()


@pytest.mark.parametrize("how", ["owner", "mode", "build"])
def test_a_directory_of_others_is_refused(builder: Builder, builder_account: pwd.struct_passwd, how: str) -> None:
    theirs = builder.work / "build" if how == "build" else builder.work
    if how == "mode":
        theirs.chmod(0o777)
    else:
        os.chown(theirs, 65534, 65534)
    with pytest.raises(UserError, match=f"The directory {theirs} (belongs to the account|is open to others)"):
        builder.run("c")


def test_nobody_does_not_build(builder: Builder, builder_account: pwd.struct_passwd) -> None:
    with pytest.raises(UserError, match="shared with other services"):
        builder.run("c", user="nobody")


def test_no_compiler(builder: Builder) -> None:
    builder.command = lambda *_arguments, **_options: (127, "", "not found")  # type: ignore[method-assign]
    with pytest.raises(UserError, match="`gcc --version` failed on the build host: not found"):
        builder.run("c")

    def absent(*_arguments: Any, **_options: Any) -> Tuple[int, str, str]:
        raise FileNotFoundError(2, "No such file or directory")

    builder.command = absent  # type: ignore[method-assign]
    with pytest.raises(UserError, match="`gcc --version` failed on the build host: No such file or directory"):
        builder.run("c")


@pytest.mark.parametrize(
    ("parameters", "what"),
    [
        ({"jobs": 0}, "0 jobs are not possible"),
        ({"timeout": 0}, "The timeout 0 is not possible"),
        ({"sources": []}, "sources has no xen and no mini-os"),
        ({"work_directory": "here"}, "The path 'here' is not absolute"),
    ],
)
def test_impossible_parameters(builder: Builder, parameters: Dict[str, Any], what: str) -> None:
    with pytest.raises(UserError, match=what):
        builder.run("c", **parameters)


@pytest.mark.parametrize("more", [{"name": "../x"}, {"kind": "git", "digest": "--output=/tmp/x"}])
def test_sources_of_another_making(builder: Builder, more: Dict[str, str]) -> None:
    builder.sources.append({**builder.sources[0], **more})
    with pytest.raises(UserError) as refused:
        builder.run("c")
    assert refused.value.remedy == "Set sources to the return value sources of stubdom_source."


def test_a_kernel_of_ones_own_has_to_be_given(builder: Builder, place: Path) -> None:
    with pytest.raises(UserError, match="Only one of images and kernels has custom-hello"):
        builder.run("custom-hello")
    empty = place / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="neither a Makefile nor a C file"):
        builder.run("custom-hello", kernels=[{"name": "hello", "directory": str(empty)}])


# What a Makefile may try, as a command of the shell that succeeds where it gets what it wants.
ATTACKS = {
    "network": "bash -c 'echo > /dev/tcp/127.0.0.1/{port}'",
    "files of the system": "echo > /etc/xen-stubdom-attack",
    "files of another account": "echo planted > {place}/theirs",
    "shared memory": "echo > /dev/shm/{unique}",
    "/tmp": "echo > /tmp/{unique}",
    "a service's socket": "test -S {socket}",
    "what root has tried": "echo > {work}/trial.json",
    "finished images": "mkdir -p {work}/images/planted",
    "secrets": "cat /etc/shadow > /dev/null",
    "more privileges": "grep -q 'NoNewPrivs:.0' /proc/self/status",
    "another process": "kill -0 $(sed -n 's/.*\"pid\": \\([0-9]*\\).*/\\1/p' {work}/build/jobs/*/status.json)",
    "a process that stays": "setsid sleep {seconds} > /dev/null 2>&1 &",
}
# Refused to an account that is not root whether it is sealed or not.
ALWAYS_REFUSED = {"files of the system", "what root has tried", "finished images", "secrets"}


def running(argument: str) -> List[int]:
    """Processes that were started with this argument."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if argument.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("sealed", [True, False])
def test_a_makefile_reaches_nothing_but_its_own_directory(
    builder: Builder, builder_account: pwd.struct_passwd, monkeypatch: pytest.MonkeyPatch, sealed: bool
) -> None:
    refusal = account.as_user(account.ACCOUNT, lambda: seal.refusal(run_program, str(builder.work / "build")))
    if refusal:
        pytest.skip(f"this machine cannot seal a build: {refusal}")
    if not sealed:
        monkeypatch.setattr(seal, "refusal", lambda *_arguments: "there is no bwrap")
    # An account with the same number may have run this test before.
    unique = f"xen-stubdom-{os.getpid()}-{time.monotonic_ns()}"
    theirs = builder.place / "theirs"
    theirs.touch()
    theirs.chmod(0o666)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as service:
        address = f"/run/{unique}"
        service.bind(address)
        values = {
            "port": server.getsockname()[1],
            "place": builder.place,
            "unique": unique,
            "socket": address,
            "work": builder.work,
            "seconds": f"600.{time.monotonic_ns()}",
        }
        script = "".join(
            f'( {command.format(**values)} ) 2> /dev/null && echo "{name}" >> ../got\n'
            for name, command in ATTACKS.items()
        )
        source = Path(builder.sources[0]["path"]) / "stubdom"
        (source / "attack").write_text(script + "true\n")
        makefile = source / "Makefile"
        makefile.write_text(makefile.read_text().replace("c-stubdom:\n", "c-stubdom:\n\tsh attack\n"))
        result = builder.run("c")
        os.unlink(address)
    left = [path for path in (Path("/dev/shm") / unique, Path("/tmp") / unique) if path.exists()]
    for path in left:
        path.unlink()
    got = set((builder.tree / "got").read_text().splitlines())
    staying = running(values["seconds"])
    for process in staying:
        os.kill(process, signal.SIGKILL)
    assert result["sealed"] is sealed
    assert theirs.read_text() == ("" if sealed else "planted\n")
    if sealed:
        # Its own /tmp, /dev/shm and processes, which are gone.
        assert got == {"shared memory", "/tmp", "a process that stays"}
        assert (left, staying, result["warnings"]) == ([], [], [])
    else:
        assert got == set(ATTACKS) - ALWAYS_REFUSED
        assert (len(left), len(staying)) == (2, 1)
        assert result["warnings"] == [
            "The build was not sealed: there is no bwrap. Its commands could use the network, read what everybody can, "
            "and leave processes of their account behind."
        ]


def test_a_build_does_not_fill_the_file_system(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "RESERVE", 1 << 60)
    with pytest.raises(UserError, match=r"The build was stopped as the file system of .*/build has \d+ MiB left"):
        builder.run("c")


def test_a_command_of_a_build_has_limits(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "LIMITS", ((resource.RLIMIT_FSIZE, 4096),))
    makefile = Path(builder.sources[0]["path"]) / "stubdom" / "Makefile"
    makefile.write_text(makefile.read_text().replace("c-stubdom:\n", "c-stubdom:\n\thead -c 5000 /dev/zero > big\n"))
    with pytest.raises(UserError, match="Stage 'image c' failed"):
        builder.run("c")
    assert (builder.tree / "stubdom" / "big").stat().st_size == 4096


# What a Makefile may do without end, the limit that ends it, and the words for that.
RUNS_AWAY = {
    "memory": ("head -c 600M /dev/zero | tail -n 1 > big", "more than the 150 MiB of memory that were available"),
    "processes": ("for one in $$(seq 60); do sleep 20 & done; wait", "more than 40 processes"),
}


def ending_as_systemd_does(enter: Callable[[], bounds.Bounds]) -> bounds.Bounds:
    """Enter a group all of whose processes get SIGTERM as soon as the kernel has ended one for its memory.

    That is what systemd does with a scope (OOMPolicy, systemd.scope(5)).
    """
    entered, job = enter(), os.getpid()
    if os.fork() != 0:
        return entered
    while build_status.alive(job):
        if entered.events()["memory"]:
            for process in Path(bounds._group(bounds.MEMORY), "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGTERM if int(process) != os.getpid() else 0)
            break
        time.sleep(0.01)
    os._exit(0)


@pytest.mark.parametrize("systemd", [False, True])
@pytest.mark.parametrize("what", RUNS_AWAY)
def test_a_build_that_runs_away_is_ended(
    builder: Builder, monkeypatch: pytest.MonkeyPatch, what: str, systemd: bool
) -> None:
    if os.geteuid() != 0 or not os.access(bounds.CGROUPS, os.W_OK):
        pytest.skip("this machine gives no control groups")
    command, words = RUNS_AWAY[what]
    monkeypatch.setattr(bounds, "available", lambda: 150 << 20)
    monkeypatch.setattr(bounds, "PROCESSES", 40)
    if systemd:
        monkeypatch.setattr(bounds, "enter", functools.partial(ending_as_systemd_does, bounds.enter))
    makefile = Path(builder.sources[0]["path"]) / "stubdom" / "Makefile"
    makefile.write_text(makefile.read_text().replace("pv-grub:\n", f"pv-grub:\n\t{command}\n"))
    first = builder.run("c")
    assert first["memory_mib"] == 150, first["warnings"]
    with pytest.raises(UserError) as ended:
        builder.run("pv-grub")
    assert ended.value.what.startswith("Stage 'image pv-grub' was ended: its commands ") and words in ended.value.what
    assert ended.value.remedy.startswith("Set jobs to a smaller number, or build on a machine with more memory.")


def test_a_build_that_is_ended_by_a_signal_says_so(builder: Builder) -> None:
    slow(builder)
    status = wait_for(builder, "newlib")
    os.kill(status["pid"], signal.SIGTERM)
    with pytest.raises(UserError) as ended:
        for _look in range(2):
            builder.run("c", step="watch", seen=["running", "newlib"])
    assert ended.value.what == "The build was ended by SIGTERM in stage 'newlib'."
    assert ended.value.remedy == "Run again; it continues with the stage that was interrupted."
    (builder.tree / "stubdom" / "slow-cross-newlib").unlink()
    assert builder.run("c")["built"] == ["c"]


@pytest.mark.parametrize("sealed", [True, False])
def test_the_kernel_ends_commands_of_a_build_before_others(
    builder: Builder, monkeypatch: pytest.MonkeyPatch, sealed: bool
) -> None:
    if not sealed:
        monkeypatch.setattr(seal, "refusal", lambda *_arguments: "there is no bwrap")
    makefile = Path(builder.sources[0]["path"]) / "stubdom" / "Makefile"
    command = "cat /proc/self/oom_score_adj > ../../score"
    makefile.write_text(makefile.read_text().replace("c-stubdom:\n", f"c-stubdom:\n\t{command}\n"))
    builder.run("c")
    assert (builder.tree.parent / "score").read_text() == "1000\n"


def test_a_build_says_that_it_could_not_be_limited(
    builder: Builder, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "CGROUPS", str(place / "none"))
    monkeypatch.setattr(bounds, "SYSTEMD", str(place / "none"))
    result = builder.run("c")
    assert result["memory_mib"] is None
    assert re.search(
        r"The build was not limited in all: /.*: No such file or directory\. Its commands together could use all",
        " ".join(result["warnings"]),
    )


def test_a_limit_that_is_not_there_is_not_believed(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose systemd was given no controller."""
    monkeypatch.setattr(bounds, "SYSTEMD", "/")
    monkeypatch.setattr(bounds, "ask_systemd", lambda *_arguments: None)
    result = builder.run("c")
    assert result["memory_mib"] is None
    assert "The build was not limited in all: " in " ".join(result["warnings"])


def test_what_systemd_is_asked_for() -> None:
    words = bounds.scope("one.scope", {"memory": 1 << 30, "pids": 9})
    assert words[:2] == ["systemd-run", "--scope"]
    assert {"--unit=one.scope", "--property=MemoryMax=1073741824", "--property=TasksMax=9"} < set(words)


# systemd-run as it is where systemd has no time, or no such property.
SYSTEMD_RUN = {
    "exec sleep 60": "systemd made no scope for it within 0 seconds",
    "echo 'Unknown assignment: TasksMax=4096.' >&2; exit 1": (
        "systemd made no scope for it (Unknown assignment: TasksMax=4096)"
    ),
}


@pytest.mark.parametrize("program", SYSTEMD_RUN)
def test_systemd_that_makes_no_scope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    fake = tmp_path / "systemd-run"
    fake.write_text(f"#!/bin/sh\n{program}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(bounds, "SYSTEMD", "/")
    monkeypatch.setattr(bounds, "_PATIENCE", 0.2)
    entered = bounds.enter()
    assert (entered.memory_mib, entered.refusal) == (None, SYSTEMD_RUN[program])


def where_nothing_in_tmp_can_be_run(work: Callable[[], Any]) -> Any:
    """Do *work* in a process with a /tmp like that of a hardened host, and with a umask that closes all to others."""
    forking = multiprocessing.get_context("fork")
    reading, writing = forking.Pipe(duplex=False)

    def inside() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(0x20000) != 0:  # CLONE_NEWNS
            writing.send(None)
            return
        for words in (["--make-rprivate", "/"], ["-t", "tmpfs", "-o", "noexec", "tmpfs", "/tmp"]):
            subprocess.run(["mount", *words], check=True)
        os.umask(0o077)
        writing.send(work())

    child = forking.Process(target=inside)
    child.start()
    writing.close()
    try:
        return reading.recv()
    finally:
        child.join()


def test_a_build_with_a_closed_umask_where_nothing_in_tmp_can_be_run(builder: Builder) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root mounts file systems")
    results = where_nothing_in_tmp_can_be_run(lambda: [builder.run("c", "pv-grub") for _time in range(2)])
    if results is None:
        pytest.skip("this machine gives no mount namespace")
    assert [result["built"] for result in results] == [["c", "pv-grub"], []]
    # Whoever installs it, and whoever looks at it, can read it.
    for image in results[0]["images"]:
        path = Path(image["path"])
        modes = [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent, path.parent.parent, builder.work)]
        assert modes == [0o644, 0o755, 0o755, 0o755]


def test_the_end_of_another_build_is_not_taken_for_that_of_ones_own(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs that build other images of one tree see the status of both."""
    builder.run("c")
    monkeypatch.setattr(build_job, "start", lambda *_arguments: None)
    with pytest.raises(UserError) as refused:
        builder.run("c", "pv-grub")
    assert refused.value.what == "Another run's build has ended, without pv-grub."


def test_a_work_directory_behind_a_link(builder: Builder) -> None:
    (builder.place / "disk").mkdir()
    (builder.place / "link").symlink_to(builder.place / "disk")
    builder.work = builder.place / "link" / "work"
    assert builder.run("c")["built"] == ["c"]
