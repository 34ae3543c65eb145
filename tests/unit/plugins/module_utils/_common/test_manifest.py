# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common import manifest as _manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.manifest import Manifest

MANIFEST = Manifest(
    kind="linux",
    xen="4.20",
    sources=[{"name": "busybox-static", "version": "1:1.37.0-6"}],
    compiler=None,
    flags=None,
    built="2026-01-31T12:00:00Z",
    sha256="ab",
    identity="cd",
    files={"kernel": "ef", "rootfs": "ab"},
    memory_mib=120,
    command_line="console=hvc0",
    more={"linux": "6.12"},
)

RENDERED = """\
{
  "built": "2026-01-31T12:00:00Z",
  "command_line": "console=hvc0",
  "compiler": null,
  "files": {
    "kernel": "ef",
    "rootfs": "ab"
  },
  "flags": null,
  "identity": "cd",
  "kind": "linux",
  "linux": "6.12",
  "memory_mib": 120,
  "sha256": "ab",
  "sources": [
    {
      "name": "busybox-static",
      "version": "1:1.37.0-6"
    }
  ],
  "xen": "4.20"
}
"""


def test_written_and_read_again() -> None:
    assert MANIFEST.render().decode() == RENDERED
    assert _manifest.parse(RENDERED.encode()) == MANIFEST


def test_what_the_image_does_not_decide_is_left_out() -> None:
    undecided = ("memory_mib", "command_line")
    plain = {key: value for key, value in json.loads(RENDERED).items() if key not in undecided}
    manifest = _manifest.parse(json.dumps(plain).encode())
    assert manifest is not None
    assert manifest.as_dict() == plain


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"kind": "linux"}', b"\xff"])
def test_a_missing_or_damaged_manifest_is_none(content: bytes) -> None:
    assert _manifest.parse(content) is None


def test_the_identity_depends_on_every_part() -> None:
    assert len({_manifest.identity(1, "a"), _manifest.identity(1, "b"), _manifest.identity(2, "a")}) == 3
    assert _manifest.identity(1, {"b": 1, "a": 2}) == _manifest.identity(1, {"a": 2, "b": 1})


def test_time_and_place() -> None:
    assert _manifest.now(0) == "1970-01-01T00:00:00Z"
    assert _manifest.path("/usr/lib/xen-4.20/boot", "linux") == "/usr/lib/xen-4.20/boot/linux.json"
