# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any, List, Optional

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


def test_a_missing_manifest_is_none() -> None:
    assert (_manifest.parse(None), _manifest.damage(None), _manifest.damage(RENDERED.encode())) == (None, None, None)


def changed(**entries: Any) -> bytes:
    return json.dumps({**json.loads(RENDERED), **entries}).encode()


def nested(depth: int) -> List[Any]:
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize(
    ("content", "how"),
    [
        (b"", "it is not JSON"),
        (b"{", "it is not JSON"),
        (b"\xff", "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b"1" * 10_000, "it is not"),
        (b" " * (1 << 20) + b"{}", "it is larger than 1 MiB"),
        (b"null", "it is not a JSON object"),
        (b"5", "it is not a JSON object"),
        (b"[1]", "it is not a JSON object"),
        (b"{}", "it has no kind"),
        (b'{"kind": "linux"}', "it has no xen"),
        (changed(files=None), "files is not a dictionary of checksums by name of file"),
        (changed(files={"": "1"}), "files is not a dictionary of checksums by name of file"),
        (changed(files={"a": {}}), "files is not a dictionary of checksums by name of file"),
        (changed(memory_mib="abc"), "memory_mib is not a number of MiB"),
        (changed(memory_mib=True), "memory_mib is not a number of MiB"),
        (changed(memory_mib=-1), "memory_mib is not a number of MiB"),
        (changed(memory_mib=10**30), "memory_mib is not a number of MiB"),
        (changed(memory_mib=1.5), "memory_mib is not a number of MiB"),
        (changed(kind=5), "kind is not a line of text"),
        (changed(identity=""), "identity is not a line of text"),
        (changed(command_line="a\nb"), "command_line is not a line of text"),
        (changed(sources=[None]), "sources is not a list of dictionaries of text"),
        (changed(sources=[{"name": None}]), "sources is not a list of dictionaries of text"),
        (changed(sha256=[]), "sha256 is not text or null"),
        (changed(linux=nested(6)), None),
        (changed(linux=nested(7)), "it is nested deeper than 8 levels"),
        (changed(linux=nested(500)), "it is nested deeper than 8 levels"),
        (changed(linux=float("nan")), "it holds what JSON cannot"),
        (changed(linux="\ud800"), "it holds what JSON cannot"),
    ],
)
def test_a_damaged_manifest_is_not_believed(content: bytes, how: Optional[str]) -> None:
    said = _manifest.damage(content)
    assert said == how or (how is not None and (said or "").startswith(how))
    assert (_manifest.parse(content) is None) == (how is not None)


def test_the_identity_depends_on_every_part() -> None:
    assert len({_manifest.identity(1, "a"), _manifest.identity(1, "b"), _manifest.identity(2, "a")}) == 3
    assert _manifest.identity(1, {"b": 1, "a": 2}) == _manifest.identity(1, {"a": 2, "b": 1})


def test_time_and_place() -> None:
    assert _manifest.now(0) == "1970-01-01T00:00:00Z"
    assert _manifest.path("/usr/lib/xen-4.20/boot", "linux") == "/usr/lib/xen-4.20/boot/linux.json"
