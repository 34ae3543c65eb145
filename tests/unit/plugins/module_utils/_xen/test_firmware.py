# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the firmware directory is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._xen import firmware
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen


def answering(info: str, root: Path, status: int = 0) -> Xen:
    return Xen(lambda _arguments, **_options: (status, info, ""), root=str(root))


INFO = "xen_major : 4\nxen_minor : 20\ntotal_memory : 4095\nfree_memory : 2900\n"


def test_the_firmware_directory_is_where_hvmloader_lies(tmp_path: Path) -> None:
    directory = tmp_path / "usr/lib/xen-4.20/boot"
    directory.mkdir(parents=True)
    (tmp_path / "proc/xen").mkdir(parents=True)
    (tmp_path / "proc/xen/capabilities").write_text("control_d\n")
    with pytest.raises(UserError, match="firmware directory cannot be found"):
        firmware.directory(answering(INFO, tmp_path))
    (directory / "hvmloader").touch()
    assert firmware.directory(answering(INFO, tmp_path)) == "/usr/lib/xen-4.20/boot"


def test_without_a_hypervisor_the_firmware_is_that_of_the_toolstack(tmp_path: Path) -> None:
    for name in ("usr/lib/x86_64-linux-gnu/libxenlight.so.4.17", "usr/lib/xen-4.17/boot/hvmloader"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert firmware.directory(answering("", tmp_path, 1)) == "/usr/lib/xen-4.17/boot"
