# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# A task that lacks become says so, instead of what the missing privilege looks like.

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.xen.stubdom.plugins.module_utils._common import errors
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen
from ansible_collections.xen.stubdom.plugins.modules import guests, xen_info, xl_conf

NOBODY = 65534
REMEDY = f"This ran as the user with the number {NOBODY}, and needs root: set become to true for the task."
DENIED = (
    "xc: error: Could not obtain handle on privileged command interface (13 = Permission denied): Internal error\n"
    "libxl: error: libxl.c:102:libxl_ctx_alloc: cannot open libxc handle: Permission denied\n"
    "cannot init xl context\n"
)


class Module:
    check_mode = False

    def __init__(self, xl: Callable[[], Tuple[int, str, str]], **params: Any) -> None:
        self.params = params
        self.no_log_values: set[str] = set()
        self._xl = xl

    def run_command(self, arguments: List[str], **_options: Any) -> Tuple[int, str, str]:
        return self._xl()


def denied() -> Tuple[int, str, str]:
    return 1, "", DENIED


def missing() -> Tuple[int, str, str]:
    raise FileNotFoundError("xl")


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A host that everybody may read, looked at by an account that may do no more."""
    if os.geteuid() != 0:
        pytest.skip("only root becomes another user")
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    for path, text in {
        "etc/os-release": "ID=debian\n",
        "etc/xen/xl.conf": "",
        "etc/xen/web.cfg": 'name = "web"\n',
        "proc/xen/capabilities": "control_d\n",
    }.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text)
    os.chmod(directory, 0o755)
    for module in (guests, xen_info):
        monkeypatch.setattr(module, "Xen", lambda run: Xen(run, root=str(directory)))
    os.seteuid(NOBODY)
    try:
        yield directory
    finally:
        os.seteuid(0)
        shutil.rmtree(directory)


def xen_info_parameters(_root: Path) -> Dict[str, Any]:
    directories = {"directory": "/etc/xen", "firmware_directory": None, "helpers_directory": None}
    return {"gather_subset": ["all"], "require": True, "xl_conf": "/etc/xen/xl.conf", **directories}


def guests_parameters(root: Path) -> Dict[str, Any]:
    given = {"guests": [{"name": "web", "state": "stopped"}], "directory": str(root / "etc/xen")}
    return dict(ArgumentSpecValidator(guests.ARGUMENTS).validate(given).validated_parameters)


@pytest.mark.parametrize("xl", [denied, missing])
@pytest.mark.parametrize(("module", "parameters"), [(xen_info, xen_info_parameters), (guests, guests_parameters)])
def test_a_toolstack_that_does_not_answer_this_user(
    root: Path, module: Any, parameters: Callable[[Path], Dict[str, Any]], xl: Callable[[], Tuple[int, str, str]]
) -> None:
    with pytest.raises(UserError) as refused:
        module.run(Module(xl, **parameters(root)))
    assert refused.value.remedy == REMEDY


@pytest.mark.parametrize("readable", [True, False])
def test_a_file_that_this_user_may_not_write_or_read(root: Path, readable: bool) -> None:
    path = root / "etc/xen/xl.conf"
    if not readable:
        os.seteuid(0)
        path.chmod(0o600)
        os.seteuid(NOBODY)
    parameters = {"path": str(path), "settings": {"autoballoon": "off"}, "state": "present", "backup": False}
    with pytest.raises(UserError, match=f"^Cannot {'open' if readable else 'read'} .*: Permission denied") as refused:
        xl_conf.run(SimpleNamespace(params=parameters, check_mode=False))  # type: ignore[arg-type]
    assert refused.value.remedy == REMEDY


def test_root_is_told_what_is_wrong_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert errors.needs_root() is None
    monkeypatch.setattr(os, "geteuid", lambda: 5)
    assert errors.needs_root(FileNotFoundError(2, "x")) is None
    assert errors.needs_root(PermissionError(13, "x")) == REMEDY.replace(str(NOBODY), "5")
