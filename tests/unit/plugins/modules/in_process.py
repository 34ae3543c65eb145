# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# A module run as Ansible runs it, but in the process of the tests.

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import pytest
from ansible.module_utils import basic


@contextmanager
def arguments_given(arguments: dict[str, Any]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
        # Since ansible-core 2.19.
        patched.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        _as_on_a_host(patched)
        yield


def _as_on_a_host(patched: pytest.MonkeyPatch) -> None:
    """Take back what an import of Ansible's plugins does to modules in the same process, since ansible-core 2.19."""
    try:
        from ansible.module_utils import _internal
        from ansible.module_utils._internal._json import _profiles
    except ImportError:
        return
    patched.setattr(_internal, "is_controller", False)
    patched.setattr(_internal, "import_controller_module", lambda _name: None)
    # It keeps its first answer.
    patched.setattr(_profiles, "_string_encoding_check_enabled", lambda: False)


def play(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return what a module prints."""
    module = importlib.import_module(f"ansible_collections.xen.stubdom.plugins.modules.{name}")
    output = io.StringIO()
    with arguments_given(arguments), redirect_stdout(output), pytest.raises(SystemExit):
        module.main()
    return json.loads(output.getvalue())  # type: ignore[no-any-return]
