# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the only writer promises: all or nothing, attributes kept, no leftovers."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.files import Change, Link, Permissions
from ansible_collections.xen.stubdom.plugins.module_utils._common.place import Place
from ansible_collections.xen.stubdom.plugins.module_utils._common.signals import Interrupted, interruptible


@pytest.fixture(autouse=True)
def own_lock_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOCK_DIRECTORIES", (str(tmp_path_factory.mktemp("lock")),))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_creates_replaces_and_removes(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"1")
    (tmp_path / "gone").write_bytes(b"2")
    files.apply(
        [
            Change(str(tmp_path / "new"), None, b"3", mode=0o600),
            Change(str(tmp_path / "old"), b"1", b"4"),
            Change(str(tmp_path / "gone"), b"2", None),
        ]
    )
    assert names(tmp_path) == ["new", "old"]
    assert (tmp_path / "new").read_bytes() == b"3"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
    assert (tmp_path / "old").read_bytes() == b"4"


def test_an_existing_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_bytes(b"1")
    real.chmod(0o640)
    (tmp_path / "link").symlink_to(real)
    files.apply([Change(str(tmp_path / "link"), b"1", b"2", mode=0o777)])
    assert (tmp_path / "link").is_symlink()
    assert real.read_bytes() == b"2"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_backup_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1")
    backups = files.apply([Change(str(path), b"1", b"2")], backup=True)
    assert Path(backups[str(path)]).read_bytes() == b"1"


def test_refuses_a_file_that_changed_meanwhile(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    second.write_bytes(b"theirs")
    with pytest.raises(UserError, match="changed by another program"):
        files.apply([Change(str(first), None, b"1"), Change(str(second), b"ours", b"2")])
    assert names(tmp_path) == ["second"]


@pytest.mark.parametrize("gone", ["directory/file", "file/file"])
def test_refuses_to_remove_what_went_with_its_directory(tmp_path: Path, gone: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="changed by another program"):
        files.apply([Change(str(tmp_path / "other"), None, b"1"), Change(str(tmp_path / gone), b"1", None)])
    files.apply([Change(str(tmp_path / gone), None, None)])
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("failing_call", [0, 1, 2])
def test_a_failure_half_way_puts_everything_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(name.encode())
    inodes = [(tmp_path / name).stat().st_ino for name in ("a", "b", "c")]
    calls = iter(range(10))
    real_sync = files._sync_directory

    def sync(at: Place) -> None:
        if next(calls) == failing_call:
            raise OSError(errno.EIO, os.strerror(errno.EIO), at.path)
        real_sync(at)

    monkeypatch.setattr(files, "_sync_directory", sync)
    with pytest.raises(UserError, match="Input/output error"):
        files.apply(
            [
                Change(str(tmp_path / "a"), b"a", b"1"),
                Change(str(tmp_path / "b"), b"b", None),
                Change(str(tmp_path / "c"), b"c", b"3"),
            ]
        )
    assert names(tmp_path) == ["a", "b", "c"]
    assert [(tmp_path / name).read_bytes() for name in ("a", "b", "c")] == [b"a", b"b", b"c"]
    assert [(tmp_path / name).stat().st_ino for name in ("a", "b", "c")] == inodes


def test_no_room_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        files.apply([Change(str(tmp_path / "directory" / "below" / "new"), None, b"1")])
    assert names(tmp_path) == []


def test_reverse_is_the_way_back(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1")
    changes = [Change(str(path), b"1", b"2"), Change(str(tmp_path / "new"), None, b"3")]
    files.apply(changes)
    files.apply(files.reverse(changes))
    assert names(tmp_path) == ["file"]
    assert path.read_bytes() == b"1"


def test_nothing_to_do_touches_nothing(tmp_path: Path) -> None:
    assert files.apply([Change(str(tmp_path / "none" / "x"), b"1", b"1")]) == {}


def test_difference_shows_text_and_sums_up_the_rest() -> None:
    text, binary = files.difference([Change("/t", b"a\n", b"b\n"), Change("/b", None, b"\0" * 8)])
    assert (text["before"], text["after"]) == ("a\n", "b\n")
    assert binary["before_header"] == "/b (absent)"
    assert binary["after"].startswith("8 bytes, sha256 ")


def test_a_megabyte_is_shown_whole() -> None:
    whole, longer = files.difference([Change("/a", None, b"x" * (1 << 20)), Change("/b", None, b"x" * ((1 << 20) + 1))])
    assert whole["after"] == "x" * (1 << 20)
    assert longer["after"].startswith("1048577 bytes, sha256 ")


def test_a_file_that_gets_other_permissions_says_which() -> None:
    found = Permissions(mode=0o644, owner=0, group=7)
    changes = [Change("/f", b"1", b"1", permissions=wanted, found=found) for wanted in (CLOSED, Permissions(0o644))]
    (shown,) = files.difference(changes)
    assert shown["before_header"] == "/f (mode 0644, owner 0, group 7)"
    assert shown["after_header"] == "/f (mode 0600, owner 0, group 7)"
    (shown,) = files.difference([Change("/f", b"1", b"2", permissions=found, found=found)])
    assert shown["before_header"] == shown["after_header"] == "/f"


CLOSED = Permissions(mode=0o600)


def test_permissions_are_put_back_with_the_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1")
    path.chmod(0o644)
    status = path.stat()
    found = Permissions(0o644, status.st_uid, status.st_gid)
    changes = [Change(str(path), b"1", b"1", permissions=CLOSED, found=found)]
    files.apply(changes)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    back = files.reverse(changes)
    assert back[0].needed
    files.apply(back)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("wanted", "given"),
    [(Permissions(owner=4711), (4711, -1)), (Permissions(group=4711), (-1, 4711)), (Permissions(0o600), None)],
)
def test_an_owner_without_a_group_leaves_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Permissions, given: object
) -> None:
    owners: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fchown", lambda _fd, uid, gid: owners.append((uid, gid)))
    files.apply([Change(str(tmp_path / "new"), None, b"1", permissions=wanted)])
    assert owners == ([given] if given else [])


def test_too_little_room_is_refused_and_enough_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=5 << 8, f_frsize=1 << 12))
    files.require_room("/srv", 5 << 20)
    with pytest.raises(UserError, match="/srv has 5 MiB free, and 7 MiB are needed"):
        files.require_room("/srv", 6 << 20)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_scratch_directory_is_gone_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(files, "SCRATCH_DIRECTORY", str(tmp_path))
    with pytest.raises(UserError, match=f"^Cannot write .*: {os.strerror(number)}"), files.scratch(1) as path:
        Path(path, "half").write_bytes(b"1")
        raise OSError(number, os.strerror(number))
    assert names(tmp_path) == []


def test_a_host_without_a_scratch_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SCRATCH_DIRECTORY", str(tmp_path / "none"))
    with pytest.raises(UserError, match="^Cannot write .*/none: No such file"), files.scratch(1):
        pytest.fail("went on")


@pytest.mark.parametrize("path", ["none", "file/below"])
def test_a_file_that_is_read_in_parts_has_to_be_there(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_bytes(b"12")
    with files.opened(str(tmp_path / "file")) as stream:
        assert stream.read(1) == b"1"
    with pytest.raises(UserError, match="There is no file"):
        files.opened(str(tmp_path / path))


def test_a_directory_is_refused_as_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a directory"):
        files.read(str(tmp_path))


def test_the_lock_is_waited_for_and_then_refused() -> None:
    path = str(Path(files.LOCK_DIRECTORIES[0]) / "xen.stubdom.lock")
    other = files.locked(path, timeout=0, busy=BUSY)
    with other, pytest.raises(UserError, match="Another run has held"), files.lock(timeout=0.2):
        pass


BUSY = UserError("It is busy.", "Wait.")


def test_a_lock_file_is_made_held_and_left(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with files.locked(str(path), timeout=0, busy=BUSY):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(UserError) as caught, files.locked(str(path), timeout=0, busy=BUSY):
            pass
        assert caught.value is BUSY
    with files.locked(str(path), timeout=0, busy=BUSY):
        pass
    assert names(tmp_path) == ["lock"]


def test_waiting_for_a_lock_can_be_given_up(tmp_path: Path) -> None:
    looks = iter(range(10))

    def meanwhile() -> None:
        if next(looks) == 2:
            raise RuntimeError("enough")

    path = str(tmp_path / "lock")
    with files.locked(path, timeout=0, busy=BUSY), pytest.raises(RuntimeError, match="enough"), files.locked(
        path, timeout=60, busy=BUSY, meanwhile=meanwhile
    ):
        pass


@pytest.mark.parametrize("planted", ["directory", "link"])
def test_what_is_no_lock_file_is_refused(tmp_path: Path, planted: str) -> None:
    path = tmp_path / "lock"
    if planted == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "other")
    with pytest.raises(UserError, match=f"Cannot open the lock file {path}"), files.locked(
        str(path), timeout=0, busy=BUSY
    ):
        pass
    assert names(tmp_path) == ["lock"]


def test_a_link_is_replaced_itself(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "link").symlink_to("theirs")
    with files.replacing(str(tmp_path / "link")) as stream:
        stream.write(b"ours")
    assert not (tmp_path / "link").is_symlink() and (tmp_path / "link").read_bytes() == b"ours"
    assert (tmp_path / "theirs").read_bytes() == b"theirs"


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with files.replacing(str(path), mode=0o640) as stream:
        stream.write(b"ne")
        assert path.read_bytes() == b"old"
        stream.write(b"w")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("exception", [ValueError, KeyboardInterrupt])
def test_a_file_that_is_not_finished_replaces_nothing(tmp_path: Path, exception: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(exception), files.replacing(str(path)) as stream:
        stream.write(b"ne")
        raise exception
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_relative_path_is_replaced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with files.replacing("file") as stream:
        stream.write(b"new")
    assert names(tmp_path) == ["file"]


def test_content_is_on_the_disk_before_it_takes_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def noted(*arguments: object, name: str = name, real: Callable[..., None] = real, **more: object) -> None:
            steps.append(name)
            real(*arguments, **more)

        monkeypatch.setattr(os, name, noted)
    with files.replacing(str(tmp_path / "file")) as stream:
        stream.write(b"new")
    files.apply([Change(str(tmp_path / "file"), b"new", b"newer")])
    # The second fsync of each is that of the directory.
    assert steps == ["fsync", "replace", "fsync"] * 2


def test_extended_attributes_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    given: dict[str, bytes] = {}

    def record(_path: str, name: str, value: bytes, **_options: bool) -> None:
        given[name] = value

    # Not every file system has any.
    monkeypatch.setattr(os, "listxattr", lambda _path, **_options: ["user.note"])
    monkeypatch.setattr(os, "getxattr", lambda _path, name, **_options: name.encode())
    monkeypatch.setattr(os, "setxattr", record)
    files.apply([Change(str(path), b"old", b"new")])
    assert path.read_bytes() == b"new"
    assert given == {"user.note": b"user.note"}


# The number that stands in entries that need none.
NONE = 0xFFFFFFFF
# An access list that lets another account read, too: type, permissions, number (posix_acl_xattr.h of Linux).
ACCESS_LIST = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry) for entry in ((1, 6, NONE), (2, 4, 1), (4, 4, NONE), (0x10, 4, NONE), (0x20, 4, NONE))
)
REAL_ATTRIBUTES = {
    "user.note": b"ours",
    "security.selinux": b"system_u:object_r:etc_t:s0\0",
    "system.posix_acl_access": ACCESS_LIST,
}


def with_real_attributes(path: Path) -> None:
    path.write_bytes(b"old")
    try:
        for name, value in REAL_ATTRIBUTES.items():
            os.setxattr(path, name, value)
    except OSError as error:
        pytest.skip(f"{path} takes no {name}: {error.strerror}")


def test_real_attributes_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with_real_attributes(path)
    before = path.stat()
    files.apply([Change(str(path), b"old", b"new")], backup=True)
    assert len(list(tmp_path.iterdir())) == 2
    for one in tmp_path.iterdir():
        assert {name: os.getxattr(one, name) for name in os.listxattr(one)} == REAL_ATTRIBUTES
        after = one.stat()
        assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_what_is_to_be_closed_is_never_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    with_real_attributes(path)
    modes: list[int] = []

    def looking(name: str) -> None:
        real = getattr(os, name)

        def call(target: Any, *arguments: Any, **options: Any) -> Any:
            result = real(target, *arguments, **options)
            if isinstance(target, int):
                modes.append(os.fstat(target).st_mode & 0o777)
            return result

        monkeypatch.setattr(os, name, call)

    for name in ("chmod", "fchmod", "fchown", "setxattr"):
        looking(name)
    files.apply([Change(str(path), b"old", b"secret", permissions=Permissions(0o600))])
    assert set(modes) == {0o600}, [oct(mode) for mode in modes]
    assert os.getxattr(path, "security.selinux") == REAL_ATTRIBUTES["security.selinux"]
    # One that is only to have another mode that is open to its group keeps its access list.
    with_real_attributes(path)
    files.apply([Change(str(path), b"old", b"new", permissions=Permissions(0o640))])
    assert os.getxattr(path, "system.posix_acl_access") == ACCESS_LIST[:-8] + struct.pack("<HHI", 0x20, 0, NONE)


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_what_interrupts_puts_everything_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exception: type[BaseException]
) -> None:
    (tmp_path / "a").write_bytes(b"a")
    synced: list[str] = []

    def sync(at: Place) -> None:
        synced.append(at.path)
        if len(synced) == 2:
            raise exception

    monkeypatch.setattr(files, "_sync_directory", sync)
    with pytest.raises(exception):
        files.apply([Change(str(tmp_path / "a"), b"a", b"1"), Change(str(tmp_path / "b"), None, b"2")])
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"a"


# --- what is never done ----------------------------------------------------------------------------------------------


def fifo(path: Path) -> None:
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.mkdir()


def socket(path: Path) -> None:
    os.mknod(path, 0o600 | stat.S_IFSOCK)


@pytest.mark.parametrize("make", [fifo, directory, socket], ids=lambda make: make.__name__)
def test_what_is_no_regular_file_is_neither_read_nor_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "thing"
    make(path)
    before = path.lstat().st_ino
    for attempt in (
        lambda: files.read(str(path)),
        lambda: files.apply([Change(str(path), None, b"1")]),
        lambda: files.apply([Change(str(path), b"", None)]),
        lambda: files.link(str(path)),
        lambda: files.apply([Link(str(path), None, "target")]),
    ):
        with pytest.raises(UserError) as caught:
            attempt()
        assert len(str(caught.value).splitlines()) == 2
    assert path.lstat().st_ino == before
    assert names(tmp_path) == ["thing"]


def test_a_device_is_not_replaced() -> None:
    with pytest.raises(UserError, match="/dev/null is a device, not a regular file"):
        files.apply([Change("/dev/null", b"", b"1")])
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize("where", ["file", "directory"])
def test_a_link_of_another_account_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_bytes(b"secret")
    link = tmp_path / ("link" if where == "directory" else "file")
    link.symlink_to(tmp_path / "secret" if where == "directory" else tmp_path / "secret" / "file")
    path = str(link / "file" if where == "directory" else link)
    assert files.read(path) == b"secret"
    real = os.lstat

    def lstat(name: str, **more: int) -> os.stat_result:
        status = real(name, **more)
        if not stat.S_ISLNK(status.st_mode):
            return status
        return os.stat_result((*status[:4], 4711, *status[5:10]))

    monkeypatch.setattr(os, "lstat", lstat)
    for attempt in (
        lambda: files.read(path),
        lambda: files.apply([Change(path, b"secret", b"1")]),
        lambda: files.apply([Change(path, b"secret", None)]),
    ):
        with pytest.raises(UserError, match=r"a symbolic link of another account \(uid 4711\)"):
            attempt()
    assert (tmp_path / "secret" / "file").read_bytes() == b"secret"


@pytest.mark.parametrize("path", ["file", "../file", "", "/a\0b"])
def test_a_path_that_leads_somewhere_else_is_refused(path: str) -> None:
    with pytest.raises(UserError):
        files.apply([Change(path, None, b"1")])


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert files.read(str(tmp_path / "file"), longest=5) == b"12345"
    with pytest.raises(UserError, match="5 bytes, which is more than the 4"):
        files.read(str(tmp_path / "file"), longest=4)


# --- links, copies, leftovers, signals --------------------------------------------------------------------------------


def test_links_are_part_of_the_whole(tmp_path: Path) -> None:
    path, link = tmp_path / "web.cfg", tmp_path / "auto" / "web.cfg"
    made = [Change(str(path), None, b"1"), Link(str(link), None, "../web.cfg")]
    files.apply(made)
    assert link.read_bytes() == b"1"
    assert files.link(str(link)) == "../web.cfg"
    assert "link to ../web.cfg" in files.difference(made)[1]["after"]
    with pytest.raises(UserError, match="changed by another program"):
        files.apply([Change(str(path), b"1", b"2"), Link(str(link), "../other.cfg", None)])
    assert path.read_bytes() == b"1"
    files.apply(files.reverse(made))
    assert names(tmp_path) == ["auto"]
    assert files.link(str(link)) is None


def test_what_is_beside_a_file_for_a_moment_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """xendomains starts whatever has a visible name in its directory, and is run while a run was killed, too."""
    found: set[str] = set()

    def look(*_arguments: Any) -> None:
        found.update(names(tmp_path))
        raise KeyboardInterrupt

    (tmp_path / "old").write_bytes(b"1")
    (tmp_path / "gone").symlink_to("old")
    for step in ("_rename", "_sync_directory"):
        for change in (Change(str(tmp_path / "old"), b"1", b"2"), Link(str(tmp_path / "new"), None, "old"),
                       Link(str(tmp_path / "gone"), "old", None)):  # fmt: skip
            with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
                patched.setattr(files, step, look)
                files.apply([change])
    assert {name for name in found if not name.startswith(".")} == {"old", "gone", "new"}
    assert len(found) > 3


def test_a_new_file_and_its_directories_have_their_modes_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        files.apply([Change(str(tmp_path / "a" / "b"), None, b"1", mode=0o644)])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o644


def test_a_new_file_can_be_read_by_all_unless_said_otherwise(tmp_path: Path) -> None:
    files.apply([Change(str(tmp_path / "changed"), None, b"1")])
    files.put(str(tmp_path / "put"), b"1")
    with files.replacing(str(tmp_path / "replaced")) as stream:
        stream.write(b"1")
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names(tmp_path)] == [0o644] * 3


LEFT = ("xen-stubdom-new", "xen-stubdom-old", "generated.xen-stubdom-new", "generated.xen-stubdom-new.new")


@pytest.mark.parametrize("ending", LEFT)
@pytest.mark.parametrize("path", ["there/file", "link"])
def test_what_a_killed_run_has_left_is_removed(tmp_path: Path, path: str, ending: str) -> None:
    """Whether or not the next one changes the file, and beside the file, not beside a link that leads to it."""
    directory = tmp_path / "there"
    directory.mkdir()
    (tmp_path / "link").symlink_to("there/file")
    (directory / "file").write_bytes(b"1")
    for content in (b"1", b"2"):
        (directory / f".file.{ending}").write_bytes(b"half")
        files.apply([Change(str(tmp_path / path), b"1", content)])
        assert names(directory) == ["file"]


@pytest.mark.parametrize("ending", LEFT)
def test_what_a_killed_run_has_left_of_a_link_is_removed(tmp_path: Path, ending: str) -> None:
    (tmp_path / "link").symlink_to("nowhere/file")
    for target in ("nowhere/file", "elsewhere"):
        (tmp_path / f".link.{ending}").write_bytes(b"half")
        files.apply([Link(str(tmp_path / "link"), "nowhere/file", target)])
        assert names(tmp_path) == ["link"]


def test_another_program_is_given_a_copy_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1")
    path.chmod(0o600)
    with files.beside(str(path), filled=True) as copy:
        assert (Path(copy).read_bytes(), stat.S_IMODE(os.stat(copy).st_mode)) == (b"1", 0o600)
        assert len(names(tmp_path)) == 2
    with files.beside(str(tmp_path / "none"), filled=True) as copy:
        assert not Path(copy).exists()
    assert names(tmp_path) == ["file"]


# No process has a number like it (pid_max of proc(5) is at most 2^22).
ENDED = 1 << 22


def test_what_a_killed_writer_has_left_is_removed_and_what_another_one_writes_is_not(tmp_path: Path) -> None:
    for process in (ENDED, os.getppid()):
        (tmp_path / f".file.{process}.xen-stubdom-new").write_bytes(b"half")
    with files.replacing(str(tmp_path / "file")) as stream:
        stream.write(b"1")
    assert names(tmp_path) == [f".file.{os.getppid()}.xen-stubdom-new", "file"]


def test_a_scratch_directory_is_gone_when_a_signal_comes_as_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SCRATCH_DIRECTORY", str(tmp_path))
    make = files.tempfile.mkdtemp

    def mkdtemp(**options: str) -> str:
        path = make(**options)
        os.kill(os.getpid(), signal.SIGHUP)
        return path

    monkeypatch.setattr(files.tempfile, "mkdtemp", mkdtemp)
    with pytest.raises(Interrupted), interruptible(), files.scratch(1):
        pytest.fail("went on")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_has_left_in_the_scratch_directory_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SCRATCH_DIRECTORY", str(tmp_path))
    others = [f"xen.stubdom-{os.getppid()}.x", "xen.stubdom-x", f"{ENDED}.x"]
    for name in (f"xen.stubdom-{ENDED}.x", *others):
        (tmp_path / name / "tree").mkdir(parents=True)
    (tmp_path / f"xen.stubdom-{ENDED}.link").symlink_to("/")
    monkeypatch.setattr(files, "stayed", [])
    files.sweep_scratch()
    assert names(tmp_path) == sorted([*others, f"xen.stubdom-{ENDED}.link"]) and files.stayed == []


def test_a_scratch_directory_that_cannot_be_removed_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SCRATCH_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(files, "stayed", [])
    monkeypatch.setattr(files.shutil, "rmtree", lambda *_arguments, **_options: None)
    left = tmp_path / f"xen.stubdom-{ENDED}.x"
    left.mkdir()
    files.sweep_scratch()
    assert files.stayed == [f"{left} could not be removed. The next run that needs such a directory tries it again."]


def test_the_owner_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1")
    owners: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fchown", lambda _fd, uid, gid: owners.append((uid, gid)))
    files.apply([Change(str(path), b"1", b"2")])
    status = path.stat()
    assert owners == [(status.st_uid, status.st_gid)]


def test_a_signal_waits_until_everything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def handler(_number: int, _frame: object) -> None:
        seen.append((tmp_path / "b").exists())

    real = os.replace

    def replace(*arguments: str, **more: int) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        real(*arguments, **more)

    before = signal.signal(signal.SIGHUP, handler)
    monkeypatch.setattr(os, "replace", replace)
    try:
        files.apply([Change(str(tmp_path / "a"), None, b"1"), Change(str(tmp_path / "b"), None, b"2")])
    finally:
        signal.signal(signal.SIGHUP, before)
    assert seen and all(seen)


def test_whoever_holds_the_lock_goes_on() -> None:
    with files.lock(), files.lock(timeout=0):
        pass


def test_the_lock_is_where_no_other_account_can_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_to_all, own = tmp_path / "open", tmp_path / "own"
    open_to_all.mkdir()
    open_to_all.chmod(0o1777)
    own.mkdir()
    own.chmod(0o755)
    monkeypatch.setattr(files, "LOCK_DIRECTORIES", (str(open_to_all), str(own)))
    with files.lock():
        assert names(open_to_all) == []
        assert names(own) == ["xen.stubdom.lock"]
    monkeypatch.setattr(files, "LOCK_DIRECTORIES", (str(open_to_all),))
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(open_to_all))
    with files.lock():
        (made,) = open_to_all.iterdir()
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
    made.chmod(0o777)
    with pytest.raises(UserError, match="open to others"), files.lock():
        pass


@pytest.mark.parametrize(("owner", "account", "there"), [(0, 7, True), (7, 7, True), (1, 7, False), (1, 0, False)])
def test_the_lock_is_in_a_directory_of_root_or_of_this_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, account: int, there: bool
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
    monkeypatch.setattr(files, "LOCK_DIRECTORIES", (str(first), str(second)))
    monkeypatch.setattr(files.os, "geteuid", lambda: account)
    real = os.stat

    def owned(path: str, **options: Any) -> os.stat_result:
        fields = list(real(path, **options))
        fields[stat.ST_UID] = owner if path == str(first) else account
        return os.stat_result(fields)

    monkeypatch.setattr(files.os, "stat", owned)
    found = files._lock_directory()
    monkeypatch.undo()
    assert found == str(first if there else second)


@pytest.mark.parametrize("planted", ["file", "link", "another account's", 0o701, 0o710, 0o702, 0o720])
def test_a_lock_directory_that_is_not_ours_alone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: object
) -> None:
    monkeypatch.setattr(files, "LOCK_DIRECTORIES", ())
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(tmp_path))
    path = tmp_path / f"xen.stubdom-{os.geteuid()}"
    if planted == "file":
        path.touch(mode=0o600)
    elif planted == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.mkdir()
        path.chmod(planted if isinstance(planted, int) else 0o700)
    if planted == "another account's":
        real = os.lstat
        monkeypatch.setattr(os, "lstat", lambda name: os.stat_result((*real(name)[:4], 4711, *real(name)[5:10])))
    with pytest.raises(UserError, match="belongs to another account or is open to others"), files.lock():
        pass


@pytest.mark.parametrize(("enabled", "status", "given"), [(1, 0, True), (1, -1, False), (0, 0, False)])
def test_a_new_file_gets_the_context_of_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enabled: int, status: int, given: bool
) -> None:
    """Else it would have the context of its directory, under which a service may not read it."""
    library = SimpleNamespace(
        is_selinux_enabled=lambda: enabled, matchpathcon=lambda path, _kind: [status, f"of {path}"]
    )
    monkeypatch.setitem(sys.modules, "ansible.module_utils.compat.selinux", library)
    monkeypatch.setattr("ansible.module_utils.compat.selinux", library, raising=False)
    contexts: list[tuple[str, bytes]] = []
    monkeypatch.setattr(os, "setxattr", lambda _descriptor, name, value: contexts.append((name, value)))
    monkeypatch.setattr(os, "listxattr", lambda _path, **_options: [])
    path = tmp_path / "file"
    files.apply([Change(str(path), None, b"1")])
    assert contexts == ([("security.selinux", f"of {path}\0".encode())] if given else [])
    # One that there is keeps its own.
    files.apply([Change(str(path), b"1", b"2")])
    assert len(contexts) == given


WITHOUT_LIBSELINUX = """
import sys
# None makes the import fail, as it does by itself without the library.
sys.modules["ansible.module_utils.compat.selinux"] = None
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
files.LOCK_DIRECTORIES = (sys.argv[1],)
files.apply([files.Change(sys.argv[1] + "/file", None, b"1")])
"""


def test_a_host_without_libselinux_can_have_new_files(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", WITHOUT_LIBSELINUX, str(tmp_path)], env=environment, check=True)
    assert (tmp_path / "file").read_bytes() == b"1"


def test_the_permissions_of_a_file_are_its_bits_and_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert files.permissions(str(path)) is None
    assert files.permissions(str(tmp_path / "file" / "below")) is None
    path.write_text("")
    path.chmod(0o640)
    assert files.permissions(str(path)) == files.Permissions(0o640, os.getuid(), os.getgid())


@pytest.mark.parametrize(
    ("asked", "found", "mode"),
    [
        (None, None, 0o600),
        (None, 0o644, 0o600),
        (None, 0o601, 0o600),
        # What is closed may be closed even more.
        (None, 0o600, None),
        (None, 0o400, None),
        (0o644, 0o600, 0o644),
        (0o640, None, 0o640),
    ],
)
def test_what_is_secret_is_closed_unless_a_mode_is_asked_for(
    asked: int | None, found: int | None, mode: int | None
) -> None:
    there = None if found is None else files.Permissions(found, 0, 0)
    assert files.Permissions(asked).closed(there) == files.Permissions(mode)


def test_the_same_content_is_no_change_whoever_made_it() -> None:
    assert not Change("/file", b"same", bytes(bytearray(b"same"))).needed
    assert not Link("/link", "to/where", "/".join(("to", "where"))).needed
    assert Change("/file", b"same", b"other").needed and Link("/link", "a", "b").needed


def test_more_files_than_a_process_may_have_open(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = len(os.listdir("/proc/self/fd")) + 20
    paths = [tmp_path / str(number) / "file" for number in range(50)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        files.apply([files.Change(str(path), None, b"new") for path in paths])
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (few, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert {path.read_text() for path in paths} == {"new"}


@pytest.mark.parametrize(("written", "left"), [("new", 1), ("old", 0)])
def test_a_copy_is_kept_of_what_another_program_has_changed(tmp_path: Path, written: str, left: int) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with files.kept(str(path)) as copy:
        path.write_text(written)
    copies = [one for one in tmp_path.iterdir() if one != path]
    assert [str(one) for one in copies] == [copy] * left
    assert all(one.read_text() == "old" for one in copies)
