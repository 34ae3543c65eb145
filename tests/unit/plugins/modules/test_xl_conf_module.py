# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.modules import xl_conf

TEXT = '# how xl behaves\n#autoballoon="auto"\nvif.default.script="vif-bridge"\n'


def run(path: Path, state: str, *, check: bool = False, **settings: Any) -> Dict[str, Any]:
    params = {"settings": settings, "state": state, "path": str(path), "backup": False}
    return xl_conf.run(SimpleNamespace(params=params, check_mode=check))  # type: ignore[arg-type]


def test_present_and_absent_in_four_steps(tmp_path: Path) -> None:
    path = tmp_path / "xl.conf"
    path.write_text(TEXT)
    for state, before, after in (
        ("present", TEXT, TEXT.replace('="auto"\n', '="auto"\nautoballoon="off"\n')),
        ("absent", None, TEXT),
    ):
        before = before or path.read_text()
        steps = []
        for check in (True, False, True, False):
            steps.append(run(path, state, check=check, autoballoon="off"))
            assert path.read_text() == (before if len(steps) == 1 else after)
        assert [step["changed"] for step in steps] == [True, True, False, False]
        assert ("autoballoon" in steps[-1]["settings"]) == (state == "present")


def test_a_missing_value_and_a_broken_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "xl.conf"
    path.write_text("autoballoon=off\n")
    with pytest.raises(UserError, match="has no value"):
        run(path, "present", autoballoon=None)
    with pytest.raises(UserError, match="xl.conf line 1"):
        run(path, "present", autoballoon="off")
    assert path.read_text() == "autoballoon=off\n"
