# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# A host that takes its playbook from a repository and runs it on itself, by the command of docs/scale.md.

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PLAYBOOK = """\
- name: Show what this host is
  hosts: xen_hosts
  gather_facts: false
  tasks:
    - name: Read the host
      xen.stubdom.xen_info:
        gather_subset: [images]
      register: found

    - name: Say whether it runs Xen
      ansible.builtin.debug:
        msg: "pulled, and Xen runs: {{ found.running }}"
"""


def test_a_host_runs_the_collection_on_itself(
    ansible: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = re.search(r"^ansible-pull .*$", (REPOSITORY / "docs" / "scale.md").read_text(), re.MULTILINE)
    assert command is not None
    repository, host = tmp_path / "xen.git", socket.gethostname()
    repository.mkdir()
    (repository / "site.yml").write_text(PLAYBOOK)
    here = f"{host} ansible_connection=local ansible_python_interpreter={sys.executable}"
    (repository / "inventory").write_text(f"[xen_hosts]\n{here}\nother ansible_host=192.0.2.1\n")
    for words in ("init -q", "add .", "-c user.name=a -c user.email=a@example.org commit -q -m a"):
        subprocess.run(["git", *words.split()], cwd=repository, check=True)
    monkeypatch.setenv("ANSIBLE_HOME", str(tmp_path / "ansible"))
    text = command[0].replace("https://git.example.org/xen.git", str(repository)).replace("$(hostname)", host)
    words = [*shlex.split(text), "--directory", str(tmp_path / "pulled")]
    said = ansible(*words, directory=tmp_path)
    # It runs on no other host, and no more than once on this one.
    assert said.count("pulled, and Xen runs:") == 1 and "other" not in said
    assert (tmp_path / "pulled" / "site.yml").exists()
    ansible(*words, directory=tmp_path)
