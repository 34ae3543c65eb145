# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The role stubdom_build puts the previous images of a host back: all that are asked for, or none.

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Dict, List

import pytest
import real_play
from ansible_collections.xen.stubdom.plugins.module_utils._common.manifest import Manifest

# By image: the name of its manifest, and its files.
IMAGES = {
    "linux": ("linux", ["qemu-stubdom-linux-kernel", "qemu-stubdom-linux-rootfs"]),
    "pv-grub": ("pv-grub-x86_64", ["pv-grub-x86_64.gz"]),
    "c": ("c-stubdom", ["c-stubdom.gz"]),
}


def put(directory: Path, image: str, which: str, ending: str = "") -> None:
    """Install an image as the modules do."""
    name, files = IMAGES[image]
    contents = {file: f"{which} {file}".encode() for file in files}
    digests = {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()}
    record = Manifest(
        kind=image, xen="4.20", sources=[], compiler=None, flags=None, built=None, sha256=None, identity=which,
        files=digests,
    )  # fmt: skip
    (directory / f"{name}.json{ending}").write_bytes(record.render())
    for file, content in contents.items():
        (directory / f"{file}{ending}").write_bytes(content)


def tree(directory: Path) -> Dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def play(path: Path, images: List[str], environment: Dict[str, str]) -> subprocess.CompletedProcess[str]:
    variables = {
        "stubdom_build_images": images,
        "stubdom_build_state": "rollback",
        "stubdom_build_firmware_directory": str(path / "fw"),
    }
    plays = [{"hosts": "localhost", "gather_facts": False, "roles": ["xen.stubdom.stubdom_build"], "vars": variables}]
    (path / "play.yml").write_text(json.dumps(plays))
    return subprocess.run(
        [real_play.PLAYBOOK, "play.yml"],
        cwd=path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("last", ["linux", "c"])
def test_one_image_without_a_previous_one_keeps_all_as_they_are(tmp_path: Path, last: str) -> None:
    directory, environment = tmp_path / "fw", real_play.environment(tmp_path)
    directory.mkdir()
    for image in IMAGES:
        put(directory, image, "new")
        if image != last:
            put(directory, image, "old", ".previous")
    before = tree(directory)
    done = play(tmp_path, [*(image for image in IMAGES if image != last), last], environment)
    said = done.stdout + done.stderr
    assert done.returncode == 2 and f"There is no previous image of {directory}/{IMAGES[last][1][0]}" in said, said
    assert tree(directory) == before


def test_all_are_put_back_once(tmp_path: Path) -> None:
    directory, environment = tmp_path / "fw", real_play.environment(tmp_path)
    directory.mkdir()
    for image in IMAGES:
        put(directory, image, "new")
        put(directory, image, "old", ".previous")
    done = play(tmp_path, list(IMAGES), environment)
    assert done.returncode == 0, done.stdout
    after = tree(directory)
    for _name, files in IMAGES.values():
        assert [after[file] for file in files] == [f"old {file}".encode() for file in files]
    # They are not exchanged again.
    done = play(tmp_path, list(IMAGES), environment)
    assert done.returncode == 0 and "changed=0" in done.stdout, done.stdout
    assert tree(directory) == after
