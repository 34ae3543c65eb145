# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of apt, which is played."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch.apt import Apt
from ansible_collections.xen.stubdom.plugins.module_utils._images.sources import Source

APT_GET = """\
#!/bin/sh
echo "$*" >> "$LOG"
case "$*" in
indextargets*)
    echo "http://packages.example.org/|trixie|main|/usr/share/keyrings/debian.gpg"
    echo "http://other.example.org/|trixie|main|"
    ;;
*" source "*)
    [ ! -e "$LOG.refuses" ] || { echo "E: xen cannot be authenticated"; exit 100; }
    touch xen_4.20.orig.tar.xz
    ;;
esac
"""
SOURCE = Source("xen", "package", "xen", None, None, "")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "apt-get").write_text(APT_GET)
    (tmp_path / "bin" / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def test_apt_verifies_what_it_downloads(tmp_path: Path, log: Path) -> None:
    apt = Apt(str(tmp_path / "work"), 5.0)
    apt.fetch(SOURCE)
    assert str(apt.fetched(SOURCE)).endswith("/xen_4.20.orig.tar.xz")
    asked = log.read_text() + (tmp_path / "work" / "apt" / "sources.list").read_text()
    assert "deb-src [signed-by=/usr/share/keyrings/debian.gpg] http://packages.example.org/ trixie main\n" in asked
    for permission in ("unauthenticated", "insecure", "trusted", "force-yes", "verify=", "no-check"):
        assert permission not in asked.lower()


def test_what_apt_refuses_is_not_kept(tmp_path: Path, log: Path) -> None:
    log.with_name("log.refuses").touch()
    apt = Apt(str(tmp_path / "work"), 5.0)
    with pytest.raises(UserError, match="`apt-get source --download-only xen` failed: .* cannot be authenticated"):
        apt.fetch(SOURCE)
    assert apt.fetched(SOURCE) is None
