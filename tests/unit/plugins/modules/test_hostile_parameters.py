# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every module with every kind of value for every option, through its real main and AnsibleModule.

The host is one without Xen, and nothing may be written or run on it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import socket
from pathlib import Path
from typing import Any, Iterator

import in_process
import pytest
import yaml
from ansible.module_utils import basic
from ansible_collections.xen.stubdom.plugins.module_utils._boot import trial
from ansible_collections.xen.stubdom.plugins.module_utils._common import files, process
from ansible_collections.xen.stubdom.plugins.module_utils._xen import toolstack, xl_cfg

MODULES = Path(__file__).resolve().parents[4] / "plugins" / "modules"
NAMES = sorted(path.stem for path in MODULES.glob("*.py"))

SCALARS: list[Any] = [
    None, True, 0, -1, 7, 10**30, 1.5, "", " ", "x", "../x", "/", "no\nsuch\n\nthing", "a\0b", "\ud800", "\x1b[31m",
    "'\"`$(x);{}\\", "%s{}", "9" * 30, "x" * 70000, "/" + "x" * 300,
    "/x" * 35000, [], {},
]  # fmt: skip
HOSTILE: list[Any] = [
    *SCALARS, [None], [0], [""], ["a\0b"], ["x\ny"], [[]], [{}], [{"name": None}], json.loads("[" * 400 + "]" * 400),
    {"": ""}, {"name": 1}, {"x": {"y": []}}, {"x": None}, {"a\nb": "c\0d"}, {"\ud800": "\ud800"},
]  # fmt: skip
# By the type of the option: Ansible itself turns down whatever else is given for it.
BY_TYPE: dict[str, list[Any]] = {
    "bool": [None, 7, "", "x", "\ud800", [], {}],
    "int": [None, True, 0, -1, 10**30, 1.5, "", "x", "a\0b", "x" * 70000, float("inf"), [], {}],
    "choice": [None, 0, "", "x", "no\nsuch\n\nthing", "\ud800", [], {}],
    "str": SCALARS,
    "path": SCALARS,
}

# Parameters with which a module comes as far as it can on such a host.
VALID: dict[str, dict[str, Any]] = {
    "boot_default": {},
    "boot_option": {"name": "smt", "value": "off"},
    "boot_trial": {"options": {"smt": "off"}},
    "dom0_mem": {"size": "1G"},
    "grub_image": {},
    "guest_migrate": {"name": "web", "to": "xen2"},
    "guest_screenshot": {"name": "web", "dest": "/var/tmp/web.png"},
    "guests": {"guests": [{"name": "web", "type": "pv", "flavour": "grub2", "memory": 256}]},
    "guests_info": {},
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
    """Run a module in check mode."""
    return in_process.play(name, {**parameters, "_ansible_check_mode": True, "_ansible_verbosity": verbosity})


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
    # It is looked for in many places of the machine that the tests run on, for each set of parameters again.
    monkeypatch.setattr(toolstack.Xen, "toolstack_version", lambda _xen: None)


@functools.lru_cache(maxsize=None)
def options(name: str) -> dict[str, Any]:
    # The list of guests is documented apart from its module.
    paths = [MODULES / f"{name}.py", *([MODULES.parent / "doc_fragments" / "guest.py"] if name == "guests" else [])]
    found: dict[str, Any] = {}
    for path in paths:
        source = path.read_text()
        start = source.index('"""', source.index("DOCUMENTATION")) + 3
        found.update(yaml.safe_load(source[start : source.index('"""', start)]).get("options") or {})
    return found


def hostile(option: dict[str, Any]) -> list[Any]:
    return BY_TYPE.get("choice" if "choices" in option else option["type"], HOSTILE)


# What the suboptions of a list are tried with, beside the one that is tried.
ITEMS: dict[str, dict[str, Any]] = {
    "guests.guests": {"name": "web", "type": "pv", "flavour": "grub2", "memory": 256},
    "guests.guests.disks": {"target": "/none", "vdev": "xvda"},
    "guests.guests.nics": {"bridge": "xenbr0"},
}


def nested(path: str, found: dict[str, Any]) -> Iterator[Any]:
    """Values of an option that hold a hostile one further down."""
    if path in FREE:
        yield from ({"x": value} for value in HOSTILE)
        yield from ({key: "x"} for key in SCALARS if isinstance(key, str))
        yield from ({"vncpasswd": value} for value in HOSTILE)
    for suboption, inner in found.get("suboptions", {}).items():
        for value in [*hostile(inner), *nested(f"{path}.{suboption}", inner)]:
            item = {**ITEMS.get(path, {}), suboption: value}
            yield [item] if found["type"] == "list" else item


def cases(name: str) -> Iterator[dict[str, Any]]:
    for option, found in options(name).items():
        for value in [*hostile(found), *nested(f"{name}.{option}", found)]:
            yield {**VALID[name], option: value}
    for value in HOSTILE:
        yield {"no_such_option": value}
    yield {}


def problem(result: dict[str, Any]) -> str | None:
    """Why the result of a module is none that a user can do something with."""
    message = result.get("msg", "")
    if "exception" in result or "traceback" in result or "has a fault" in message:
        return f"traceback: {message}"
    bad = result.get("failed") and (not message or len(message.splitlines()) > 2 or len(message) > 9000)
    return f"message: {message}" if bad else None


@pytest.mark.parametrize("name", NAMES)
def test_bad_values_end_in_two_sentences(name: str) -> None:
    wrong = []
    for parameters in cases(name):
        found = problem(play(name, parameters))
        if found is not None:
            wrong.append((json.dumps(parameters)[:200], found[:200]))
    assert wrong == []


PATHS = [
    (name, option)
    for name in NAMES
    for option, found in options(name).items()
    if found["type"] == "path"
]  # fmt: skip


@pytest.mark.parametrize(("name", "option"), PATHS)
@pytest.mark.parametrize("path", ["relative", "../etc/shadow", "", " /x", "./x"])
def test_a_relative_path_is_refused_with_its_parameter(name: str, option: str, path: str) -> None:
    assert play(name, {**VALID[name], option: path})["msg"] == (
        f"{option} is {path!r}, which is not an absolute path.\nSet {option} to a path that starts with a slash."
    )


def test_a_relative_path_of_a_suboption_is_refused_too() -> None:
    result = play("guests", {"guests": [{**ITEMS["guests.guests"], "kernel": "grub.bin"}]})
    assert result["msg"].startswith("guests.kernel is 'grub.bin', which is not an absolute path.")
    result = play("guests", {"guests": [{**ITEMS["guests.guests"], "disks": [{"target": "web.img"}]}]})
    assert "disks.target is 'web.img', which is not an absolute path." in result["msg"]
    result = play("guests", {**VALID["guests"], "defaults": {"kernel": "grub.bin"}})
    assert "kernel is 'grub.bin', which is not an absolute path." in result["msg"]


SECRETS = {"vncpasswd": 's3cr"et', "vfb": ["vnc=1,vncpasswd=0ther"]}


@pytest.mark.parametrize(
    "wrong", [{}, {"memory": "x"}, {"type": "none"}, {"no_such_option": 1}, {"memory": 0}, {"name": "../x"}]
)
def test_a_password_is_in_no_result(wrong: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(basic.AnsibleModule, "log", lambda _module, *text, **more: logged.append(repr((text, more))))
    (tmp_path / "web.cfg").write_text('vncpasswd = "old3r"\n')
    guest = {**ITEMS["guests.guests"], "options": SECRETS, **wrong}
    for given in ({"guests": [guest]}, {"guests": [{**guest, "options": {}}], "defaults": {"options": SECRETS}}):
        parameters = {"replace": True, "directory": str(tmp_path), "_ansible_diff": True}
        result = play("guests", {**parameters, **given})
        assert bool(wrong) == bool(result.get("failed"))
    text = json.dumps(result) + "".join(logged)
    assert [secret for secret in ("s3cr", "0ther", "old3r") if secret in text] == []
    assert wrong or logged


CONTENTS: dict[str, bytes] = {
    "nothing": b"",
    "NUL": b"\0" * 5000,
    "no UTF-8": b'name = "\xff\xfe"\n',
    "lists without end": b"[" * 60000,
    "a value of lists without end": b"autoballoon = " + b"[" * 60000 + b"\n",
    "lists in lists": b"[" * 60000 + b"]" * 60000,
    "dictionaries in dictionaries": b'{"files":' * 30000 + b"1" + b"}" * 30000,
    "null": b"null",
    "a number": b"5",
    "an endless number": b'{"timeout": 1' + b"0" * 5000 + b"}",
    "a list": b"[1]",
    "an empty dictionary": b"{}",
    "wrong types": json.dumps(
        {"kind": 1, "xen": [], "files": None, "memory_mib": "abc", "command_line": 7, "sources": {}, "identity": {}}
    ).encode(),
    "NaN": b'{"memory_mib": NaN}',
    "open string": b'name = "' + b"x" * 100000 + b"\n",
    "many strings": b'name = "' + b"\\'" * 60000 + b"\n",
    "very long": b"#" * (5 << 20) + b"\n",
    "a trial without options": json.dumps(
        {"token": "1", "options": None, "old": 1, "new": "", "boot": [], "armed": "", "timeout": "x"}
    ).encode(),
    "a trial of numbers": json.dumps(
        {"token": "1", "options": {"smt": 1}, "old": "", "new": "", "boot": "", "armed": "", "timeout": 1}
    ).encode(),
}  # fmt: skip
KINDS = ["directory", "fifo", "device", "dangling", "socket"]


def make(path: Path, kind: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "dangling":
        path.symlink_to("nothing")
    elif kind == "socket":
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as listening, contextlib.chdir(path.parent):
            listening.bind(path.name)
    else:
        path.write_bytes(CONTENTS[kind])


BOOT = "usr/lib/xen-4.20/boot"
CONFIGURED = {"directory": "@/etc/xen"}
REMOVED = {"guests": [{"name": "web", "state": "absent"}]}
STARTED = {"guests": [{"name": "web", "state": "running"}]}
# A file that a module reads, the module, and its parameters; @ is the directory that stands for the host.
READERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "xl.conf": ("etc/xen/xl.conf", "xl_conf", {"path": "@/etc/xen/xl.conf"}),
    "xl.conf of xen_info": ("etc/xen/xl.conf", "xen_info", {}),
    "a manifest of xen_info": (f"{BOOT}/linux.json", "xen_info", {"firmware_directory": f"/{BOOT}"}),
    "a manifest of a helper": (f"{BOOT}/helpers/qemu-dm.json", "xen_info", {"firmware_directory": f"/{BOOT}"}),
    "a manifest of guests": (f"{BOOT}/linux.json", "guests", {**CONFIGURED, "firmware_directory": f"/{BOOT}"}),
    "the configuration": ("etc/xen/web.cfg", "guests", {**CONFIGURED, "replace": True}),
    "the configuration to remove": ("etc/xen/web.cfg", "guests", {**CONFIGURED, **REMOVED, "replace": True}),
    "another configuration": ("etc/xen/other", "guests", CONFIGURED),
    "the configuration of a guest": ("etc/xen/web.cfg", "guests", {**CONFIGURED, **STARTED}),
    "a configuration of guests_info": ("etc/xen/web.cfg", "guests_info", CONFIGURED),
    "a trial": ("trial.json", "boot_trial", {"state": "absent", "options": None}),
}  # fmt: skip
# Where what is damaged belongs to something else, and the module goes on.
GOES_ON = {
    "xl.conf of xen_info", "a manifest of xen_info", "a manifest of a helper", "a manifest of guests",
    "another configuration", "a configuration of guests_info",
}  # fmt: skip


@pytest.mark.parametrize("kind", [*CONTENTS, *KINDS])
@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_file_is_no_traceback_and_no_endless_wait(
    reader: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, name, parameters = READERS[reader]
    module = importlib.import_module(f"ansible_collections.xen.stubdom.plugins.modules.{name}")
    if hasattr(module, "Xen"):
        monkeypatch.setattr(module, "Xen", lambda run: toolstack.Xen(run, root=str(tmp_path)))
    monkeypatch.setattr(trial, "RECORD", str(tmp_path / "trial.json"))
    for there in ("hvmloader", "qemu-stubdom-linux-kernel", "qemu-stubdom-linux-rootfs", "helpers/qemu-dm"):
        (tmp_path / BOOT / there).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / BOOT / there).write_text("")
        (tmp_path / BOOT / there).chmod(0o755)
    make(tmp_path / place, kind)
    given = json.loads(json.dumps({**VALID[name], **parameters}).replace("@", str(tmp_path)))
    result = play(name, given)
    assert problem(result) is None
    refused = reader.startswith("xl.conf") and (kind in KINDS or len(CONTENTS[kind]) > xl_cfg.LONGEST)
    if reader in GOES_ON and not refused:
        assert not result.get("failed"), result["msg"]
    if reader == "a manifest of xen_info" and kind not in KINDS:
        image = next(image for image in result["images"] if image["name"] == "linux")
        assert image["manifest"] is None and image["manifest_error"]
        assert "qemu-stubdom-linux-kernel is damaged" in json.dumps(result["warnings"])


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
    "boot_trial.options", "guests.defaults", "guests.guests.options", "stubdom_install.manifest",
    "stubdom_source.checksums", "xl_conf.settings",
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
