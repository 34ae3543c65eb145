# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
import subprocess
from pathlib import Path

import apt_sources
import pytest
from apt_sources import Source
from errors import LabError


@pytest.mark.parametrize("suite", ["stable", "oldstable", "bookworm"])
def test_a_suite_may_be_named_by_its_role(suite: str) -> None:
    source = Source("http://mirror.example/debian", suite, ("main",))
    assert apt_sources.for_release([source], "bookworm", "trixie")[0].suite == "trixie"


def test_a_machine_without_debian_sources_is_refused() -> None:
    with pytest.raises(LabError, match=r"no Debian package source for its own release \(noble\)"):
        apt_sources.for_release([Source("http://mirror.example/ubuntu", "noble", ("universe",))], "noble", "trixie")


def test_only_settings_that_reach_and_accept_sources_are_carried() -> None:
    dump = (
        'Acquire "";\nAcquire::http::Proxy "http://proxy.example:3128";\nAcquire::https::Proxy "";\n'
        'Acquire::Check-Date "false";\nAPT::Install-Recommends "1";\nAcquire::Languages:: "none";\n'
    )
    assert apt_sources.carried_options(dump) == [
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::Check-Date "false";',
    ]


ONE_LINE = """\
# the mirror
deb [arch=amd64 signed-by=/usr/share/keyrings/a.gpg Check-Date=no] http://mirror.example/debian bookworm main contrib #x
deb-src http://sources.example/debian bookworm main
deb http://mirror.example/debian bookworm-updates main
deb http://mirror.example/debian-security bookworm-security main
deb http://mirror.example/debian bookworm-backports main
deb http://vendor.example/apt vendor-bookworm main
deb http://flat.example/apt ./
"""
DEB822 = """\
# of the vendor

Types: deb deb-src
# a comment inside
URIs: http://mirror.example/debian http://second.example/debian/
Suites: bookworm bookworm-updates
Components: main
signed-by: /usr/share/keyrings/a.gpg
  /usr/share/keyrings/b.gpg

Types: deb
URIs: http://mirror.example/off
Suites: bookworm
Components: main
Enabled: no


Types: deb
URIs: http://mirror.example/inline
Suites: bookworm
Components: main
Trusted: yes
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
"""


def sources(directory: Path, *, one_line: str = "", deb822: str = "") -> list[Source]:
    """What apt lists with these files, and with nothing downloaded."""
    (directory / "lists").mkdir()
    (directory / "etc" / "sources.list.d").mkdir(parents=True)
    (directory / "etc" / "sources.list").write_text(one_line)
    (directory / "etc" / "sources.list.d" / "b.sources").write_text(deb822)
    (directory / "etc" / "sources.list.d" / "c.list.save").write_text("deb http://saved.example/debian bookworm main\n")
    options = {"Dir::Etc": directory / "etc", "Dir::State::lists": directory / "lists", "APT::Architecture": "amd64"}
    return apt_sources.machine_sources(*(f"--option={name}={value}" for name, value in options.items()))


def test_one_line_sources_become_those_of_another_release(tmp_path: Path) -> None:
    derived = apt_sources.for_release(sources(tmp_path, one_line=ONE_LINE), "bookworm", "trixie")
    assert [source.line() for source in derived] == [
        "deb [check-date=no signed-by=/usr/share/keyrings/a.gpg] http://mirror.example/debian trixie main",
        "deb http://mirror.example/debian trixie-updates main",
        "deb http://mirror.example/debian-security trixie-security main",
    ]


def test_deb822_sources_become_those_of_another_release(tmp_path: Path) -> None:
    derived = apt_sources.for_release(sources(tmp_path, deb822=DEB822), "bookworm", "trixie")
    keys = "[signed-by=/usr/share/keyrings/a.gpg,/usr/share/keyrings/b.gpg]"
    assert sorted(source.line() for source in derived) == [
        f"deb {keys} http://mirror.example/debian trixie main",
        f"deb {keys} http://mirror.example/debian trixie-updates main",
        f"deb {keys} http://second.example/debian trixie main",
        f"deb {keys} http://second.example/debian trixie-updates main",
        "deb [trusted=yes] http://mirror.example/inline trixie main",
    ]


def test_sources_are_read_from_all_files_of_apt(tmp_path: Path) -> None:
    found = sources(tmp_path, one_line="deb http://a.example/debian bookworm main\n", deb822=DEB822)
    assert {source.uri for source in found} == {
        "http://a.example/debian",
        "http://mirror.example/debian",
        "http://mirror.example/inline",
        "http://second.example/debian",
    }


def test_backports_come_from_where_the_release_comes_from() -> None:
    found = [
        Source("http://elsewhere.example/vendor", "bookworm", ("contrib",)),
        Source("http://security.example/debian", "bookworm-security", ("main",), "/other.gpg"),
        Source("http://mirror.example/debian", "bookworm", ("main",), "/key.gpg", ("check-date=no",)),
    ]
    assert apt_sources.backports(found, "bookworm").line() == (
        "deb [check-date=no signed-by=/key.gpg] http://mirror.example/debian bookworm-backports main"
    )


def test_backports_of_a_machine_without_debian() -> None:
    with pytest.raises(LabError, match="no Debian package source for its own release"):
        apt_sources.backports([Source("http://mirror.example/vendor", "unstable", ("main",))], "bookworm")


def test_sources_that_apt_does_not_understand_are_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=re.escape("sources.list")):
        sources(tmp_path, one_line="deb [nothing http://mirror.example/debian\n")


def test_this_machine_has_sources() -> None:
    if subprocess.run(["apt-get", "indextargets"], capture_output=True, check=False).stdout:
        assert all(source.components for source in apt_sources.machine_sources())
