# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import image
import pytest

ONE_LINE = """\
# the mirror
deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg] http://mirror.example/debian bookworm main contrib # comment
deb-src http://mirror.example/debian bookworm main
deb http://mirror.example/debian bookworm-updates main
deb http://mirror.example/debian-security bookworm-security main
deb http://mirror.example/debian bookworm-backports main
deb http://vendor.example/apt vendor-bookworm main
"""
DEB822 = """\
Types: deb deb-src
# a comment inside
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/a.gpg

Types: deb
URIs: http://mirror.example/off
Suites: bookworm
Components: main
Enabled: no

Types: deb
URIs: http://mirror.example/inline
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
"""


def test_one_line_sources_become_those_of_another_release() -> None:
    derived = image.debian_sources(list(image.parse_one_line(ONE_LINE)), "bookworm", "trixie")
    assert [source.line() for source in derived] == [
        "deb [signed-by=/usr/share/keyrings/a.gpg] http://mirror.example/debian trixie main",
        "deb http://mirror.example/debian trixie-updates main",
        "deb http://mirror.example/debian-security trixie-security main",
    ]


def test_deb822_sources_become_those_of_another_release() -> None:
    derived = image.debian_sources(list(image.parse_deb822(DEB822)), "bookworm", "trixie")
    assert [source.line() for source in derived] == [
        "deb [signed-by=/usr/share/keyrings/a.gpg] http://mirror.example/debian trixie main",
        "deb [signed-by=/usr/share/keyrings/a.gpg] http://mirror.example/debian trixie-updates main",
        "deb http://mirror.example/inline trixie main",
    ]


@pytest.mark.parametrize("suite", ["stable", "oldstable", "bookworm"])
def test_a_suite_may_be_named_by_its_role(suite: str) -> None:
    source = image.Source("http://mirror.example/debian", suite, ("main",))
    assert image.debian_sources([source], "bookworm", "trixie")[0].suite == "trixie"


def test_sources_are_read_from_all_files_of_apt(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb http://a.example/debian bookworm main\n")
    (tmp_path / "sources.list.d" / "b.sources").write_text(DEB822)
    (tmp_path / "sources.list.d" / "c.list.save").write_text("deb http://c.example/debian bookworm main\n")
    assert {source.uri for source in image.machine_sources(tmp_path)} == {
        "http://a.example/debian",
        "http://mirror.example/debian",
        "http://mirror.example/inline",
    }


def test_a_machine_without_debian_sources_is_told_so() -> None:
    with pytest.raises(image.LabError, match=r"no Debian package source for its own release \(noble\)"):
        image.debian_sources([image.Source("http://mirror.example/ubuntu", "noble", ("universe",))], "noble", "trixie")


def test_only_settings_that_reach_and_accept_sources_are_carried() -> None:
    dump = (
        'Acquire "";\nAcquire::http::Proxy "http://proxy.example:3128";\nAcquire::https::Proxy "";\n'
        'Acquire::Check-Date "false";\nAPT::Install-Recommends "1";\nAcquire::Languages:: "none";\n'
    )
    assert image.carried_apt_options(dump) == [
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::Check-Date "false";',
    ]


def test_the_key_follows_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    base = image.key_of(image.recipe("trixie", b"setup"))
    assert base == image.key_of(image.recipe("trixie", b"setup"))
    assert base != image.key_of(image.recipe("bookworm", b"setup"))
    assert base != image.key_of(image.recipe("trixie", b"another setup"))
    monkeypatch.setattr(image, "PACKAGES", (*image.PACKAGES, "another"))
    assert base != image.key_of(image.recipe("trixie", b"setup"))


def test_the_first_sectors_hold_code_table_and_core() -> None:
    head = image.boot_sectors(b"\xaa" * 512, b"core", "0a0b0c0d", 1000)
    assert head[:440] == b"\xaa" * 440
    assert head[440:444] == bytes.fromhex("0d0c0b0a")
    entry = head[446:462]
    assert (entry[0], entry[4]) == (0x80, 0x83)
    assert int.from_bytes(entry[8:12], "little") == 2048
    assert int.from_bytes(entry[12:16], "little") == 1000
    assert head[510:] == b"\x55\xaacore"


def test_a_core_image_that_would_reach_into_the_partition_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        image.boot_sectors(bytes(512), bytes(image.PARTITION_START), "0", 1)


def test_holes_stay_holes_when_the_disk_is_written(tmp_path: Path) -> None:
    partition = tmp_path / "partition"
    with partition.open("wb") as file:
        file.write(b"first")
        file.seek(8 << 20)
        file.write(b"last")
        file.truncate(64 << 20)
    disk = tmp_path / "disk"
    image._prepend(partition, b"head", disk)
    content = disk.read_bytes()
    assert content[:4] == b"head"
    assert content[image.PARTITION_START :] == partition.read_bytes()
    assert disk.stat().st_blocks * 512 < 4 << 20


def test_no_room_is_one_sentence_and_a_remedy() -> None:
    with pytest.raises(image.LabError) as caught:
        image.check_room(Path("/cache"), 3_000_000_000, 1_200_000_000)
    assert str(caught.value).splitlines() == [
        "There is no room for the lab image: /cache has 1.2 GB free, 3.0 GB are needed.",
        "Free some space there, or point XDG_CACHE_HOME and TMPDIR at a larger file system.",
    ]


def test_no_room_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(image, "tool", lambda name: name)
    monkeypatch.setattr(image, "NEEDED_CACHE", 1 << 62)
    with pytest.raises(image.LabError, match="no room"):
        image.ensure("trixie", image.Progress(tmp_path / "durations"))
    assert [path.suffix for path in image.cache_directory().iterdir()] == [".lock"]


@pytest.mark.parametrize("name", sorted(image.TOOLS))
def test_a_missing_tool_names_its_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image.shutil, "which", lambda *_, **__: None)
    with pytest.raises(image.LabError) as caught:
        image.tool(name)
    first, second = str(caught.value).splitlines()
    assert name in first
    assert second == f"Install the Debian package {image.TOOLS[name][0]}."


def test_progress_says_how_long_it_took_last_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    progress = image.Progress(tmp_path / "durations.json")
    for _ in range(2):
        with progress.step("working", "work"):
            pass
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "xenlab: working ..."
    assert lines[2] == "xenlab: working (last time 0 s) ..."


def test_an_atomic_write_leaves_one_file(tmp_path: Path) -> None:
    image.write_atomically(tmp_path / "file", b"content", 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert os.stat(tmp_path / "file").st_mode & 0o777 == 0o600


# Says what becomes of it; a shell's job in the background has Ctrl-C ignored.
WAITS = """
import signal, sys, time
sys.path.insert(0, {lab!r})
import signal
import subprocess
import sys

import image
signal.signal(signal.SIGINT, {ctrl_c})
signal.signal(signal.SIGHUP, {hang_up})
image.end_as_by_ctrl_c()
try:
    print("waits", flush=True)
    time.sleep({seconds})
    print("went on")
except KeyboardInterrupt:
    print("cleaned up")
"""


@pytest.mark.parametrize(
    ("ctrl_c", "hang_up", "sent", "end"),
    [
        ("signal.default_int_handler", "signal.SIG_DFL", signal.SIGINT, "cleaned up"),
        ("signal.default_int_handler", "signal.SIG_DFL", signal.SIGTERM, "cleaned up"),
        ("signal.default_int_handler", "signal.SIG_DFL", signal.SIGHUP, "cleaned up"),
        ("signal.SIG_IGN", "signal.SIG_DFL", signal.SIGTERM, "cleaned up"),
        ("signal.SIG_IGN", "signal.SIG_DFL", signal.SIGINT, "went on"),
        ("signal.default_int_handler", "signal.SIG_IGN", signal.SIGHUP, "went on"),
    ],
)
def test_what_ends_a_command(ctrl_c: str, hang_up: str, sent: signal.Signals, end: str) -> None:
    seconds = 0.2 if end == "went on" else 5
    program = WAITS.format(lab=str(image.HERE), ctrl_c=ctrl_c, hang_up=hang_up, seconds=seconds)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "waits\n"
        running.send_signal(sent)
        assert running.stdout.read() == f"{end}\n"
