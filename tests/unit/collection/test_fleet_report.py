# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The playbook that reports on many hosts, with this machine, which is no Xen host, and one that does not answer.

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import real_play

REPORT = real_play.REPOSITORY / "playbooks" / "fleet_report.yml"


def play(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [real_play.PLAYBOOK, "--inventory=hosts.json", *words, str(REPORT)],
        cwd=path,
        env={**real_play.below(path), "PWD": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_report_before_and_after(tmp_path: Path) -> None:
    real_play.environment(tmp_path)
    silent = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_common_args": "-F none -o ConnectTimeout=2"}
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (tmp_path / "hosts.json").write_text(json.dumps({"xen_hosts": {"hosts": {"here": here, "silent": silent}}}))
    done = play(tmp_path, "-e", json.dumps({"fleet_report_query": "hosts[?error].name"}))
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"msg": [\n        "silent"\n    ]' in done.stdout
    files = {path.name: path for path in (tmp_path / "fleet_report").iterdir()}
    assert set(files) == {"report.html", "report.json", "report.csv"}
    # They tell where hosts can be attacked.
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
    assert files["report.html"].read_text().startswith("<!doctype html>")
    made = json.loads(files["report.json"].read_text())
    assert made["counts"] == {"unreachable": 1, "xen_not_running": 1}
    assert made["previous"] is None and [host["name"] for host in made["hosts"]] == ["here", "silent"]

    before = files["report.json"].read_bytes()
    policy = json.dumps({"fleet_report_fail_on": ["critical"]})
    done = play(tmp_path, "--tags", "table", "-e", policy)
    assert done.returncode != 0
    assert "fleet_report_fail_on refuses: {'unreachable': 1, 'xen_not_running': 1}" in done.stdout + done.stderr
    assert "silent  no answer" in done.stdout
    assert files["report.json"].read_bytes() == before
