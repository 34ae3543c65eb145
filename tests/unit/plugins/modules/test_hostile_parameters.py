# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every module with every kind of value for every option, through its real main and AnsibleModule.

The host is one without Xen, and nothing may be written or run on it.
"""

from __future__ import annotations

import importlib
import io
import json
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Iterator

import pytest
import yaml
from ansible.module_utils import basic
from ansible_collections.xen.stubdom.plugins.module_utils._common import files, process

MODULES = Path(__file__).resolve().parents[4] / "plugins" / "modules"
NAMES = sorted(path.stem for path in MODULES.glob("*.py"))

HOSTILE = [
    None, True, 0, -1, 7, 10**30, 1.5, "", " ", "x", "../x", "/", "no\nsuch\n\nthing", "a\0b", "\ud800", "\x1b[31m",
    "'\"`$(x);{}\\", "%s{}", "x" * 70000, [], [None], [0], [""], ["a\0b"], ["x\ny"], [[]], [{}], [{"name": None}],
    {}, {"": ""}, {"name": 1}, {"x": {"y": []}}, {"x": None}, {"a\nb": "c\0d"}, {"\ud800": "\ud800"},
]  # fmt: skip

# Parameters with which a module comes as far as it can on such a host.
VALID: dict[str, dict[str, Any]] = {
    "boot_default": {},
    "boot_option": {"name": "smt", "value": "off"},
    "boot_trial": {"options": {"smt": "off"}},
    "dom0_mem": {"size": "1G"},
    "guest": {"name": "web", "state": "shutdown"},
    "guest_config": {"name": "web", "type": "pv", "flavour": "grub2", "memory": 256},
    "linux_stubdom": {},
    "stubdom_build": {
        "release": "4.17",
        "images": ["c"],
        "sources": [
            {"name": "xen", "kind": "tarball", "origin": "/none", "version": "1", "path": "/none", "digest": "0"}
        ],
    },
    "stubdom_install": {"image": "pv-grub", "src": "/none", "manifest": {"kind": "pv-grub", "files": {}}},
    "stubdom_source": {"release": "4.17", "images": ["c"]},
    "xen_info": {},
    "xl_conf": {"settings": {"autoballoon": "off"}},
}


def play(name: str, parameters: dict[str, Any], *, verbosity: int = 0) -> dict[str, Any]:
    """Run a module as Ansible does, but in this process and in check mode."""
    module = importlib.import_module(f"ansible_collections.xen.stubdom.plugins.modules.{name}")
    arguments = {**parameters, "_ansible_check_mode": True, "_ansible_verbosity": verbosity}
    output = io.StringIO()
    with arguments_given(arguments), redirect_stdout(output), pytest.raises(SystemExit):
        module.main()
    return json.loads(output.getvalue())  # type: ignore[no-any-return]


@contextmanager
def arguments_given(arguments: dict[str, Any]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
        # Since ansible-core 2.19.
        patched.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        yield


@pytest.fixture(autouse=True)
def harmless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(arguments: list[str], **_options: Any) -> tuple[int, str, str]:
        assert all("\0" not in argument for argument in arguments)
        raise FileNotFoundError(arguments[0])

    def write(*_arguments: Any, **_options: Any) -> None:
        raise AssertionError("something is written in check mode")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(process, "run_program", run)
    for name in NAMES:
        module = importlib.import_module(f"ansible_collections.xen.stubdom.plugins.modules.{name}")
        if hasattr(module, "run_program"):
            monkeypatch.setattr(module, "run_program", run)
    monkeypatch.setattr(files, "apply", write)


def options(name: str) -> dict[str, Any]:
    source = (MODULES / f"{name}.py").read_text()
    start = source.index('"""', source.index("DOCUMENTATION")) + 3
    return yaml.safe_load(source[start : source.index('"""', start)]).get("options") or {}


def cases(name: str) -> Iterator[dict[str, Any]]:
    for option in options(name):
        for value in HOSTILE:
            yield {**VALID[name], option: value}
    for value in HOSTILE:
        yield {"no_such_option": value}
    yield {}


@pytest.mark.parametrize("name", NAMES)
def test_bad_values_end_in_two_sentences(name: str) -> None:
    wrong = []
    for parameters in cases(name):
        result = play(name, parameters)
        message = result.get("msg", "")
        if result.get("failed") and (
            "has a fault" in message or not message or len(message.splitlines()) > 2 or len(message) > 9000
        ):
            wrong.append((json.dumps(parameters)[:200], message[:200]))
        assert "exception" not in result and "traceback" not in result, (parameters, result)
    assert wrong == []


@pytest.mark.parametrize("name", NAMES)
def test_every_dictionary_says_what_is_in_it(name: str) -> None:
    """An option of dictionaries has suboptions, or is one whose keys are the user's own."""

    def problems(found: dict[str, Any], path: str) -> Iterator[str]:
        for key, option in found.items():
            if option.get("elements", option["type"]) == "dict" and f"{path}{key}" not in FREE:
                if not option.get("suboptions"):
                    yield f"{path}{key}"
                yield from problems(option.get("suboptions", {}), f"{path}{key}.")

    assert list(problems(options(name), f"{name}.")) == []


FREE = {
    "boot_trial.options", "guest_config.options", "stubdom_install.manifest", "stubdom_source.checksums",
    "xl_conf.settings",
}  # fmt: skip


@pytest.mark.parametrize(("verbosity", "shown"), [(0, False), (2, False), (3, True)])
def test_a_fault_of_ours_is_called_one(monkeypatch: pytest.MonkeyPatch, verbosity: int, shown: bool) -> None:
    xl_conf = importlib.import_module("ansible_collections.xen.stubdom.plugins.modules.xl_conf")

    def run(_module: Any) -> dict[str, Any]:
        raise KeyError("a\nb")

    monkeypatch.setattr(xl_conf, "run", run)
    result = play("xl_conf", VALID["xl_conf"], verbosity=verbosity)
    assert result["failed"] is True
    assert result["msg"] == (
        "The collection xen.stubdom has a fault: KeyError: 'a\\nb'.\n"
        "Report it with this task and the output of ansible-playbook -vvv."
    )
    assert ("traceback" in result) == shown
    assert not shown or result["traceback"][0] == "Traceback (most recent call last):"
    assert "exception" not in result
