# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every result that a test of a module sees is compared with the RETURN block of that module.

Programs are run by the method run_command of what the test gives instead of an AnsibleModule, where that has one.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule

sys.path.append(str(Path(__file__).resolve().parents[3] / "tools"))

import documented

PREFIX = "ansible_collections.xen.stubdom.plugins.modules."


# Reading a block takes longer than most tests do.
@functools.lru_cache(maxsize=None)
def returned_by(name: str) -> Dict[str, Any]:
    return dict(yaml.safe_load(sys.modules[name].RETURN) or {})


def compared(module: ModuleType, run: Callable[..., Dict[str, Any]]) -> Callable[..., Dict[str, Any]]:
    @functools.wraps(run)
    def wrapper(*arguments: Any, **options: Any) -> Dict[str, Any]:
        real = isinstance(arguments[0], AnsibleModule)
        program_runner = None if real else getattr(arguments[0], "run_command", None)
        with pytest.MonkeyPatch.context() as patched:
            if program_runner is not None:
                patched.setattr(module, "run_program", program_runner)
            result = run(*arguments, **options)
        assert documented.problems(returned_by(module.__name__), result) == [], module.__name__
        return result

    return wrapper


@pytest.fixture(autouse=True)
def results_are_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith(PREFIX) and hasattr(module, "run") and hasattr(module, "RETURN"):
            monkeypatch.setattr(module, "run", compared(module, module.run))
