# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives every option of every module hostile values, as root on a Debian file system of its own without a network.

Whatever it is, the module ends in time and with two sentences, runs nothing of it, and changes no file of others.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import signal
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

NAME = "hostile inputs"
# What a shell that is given one of the values makes.
EXECUTED = "/tmp/executed"
TOUCH = f"touch {EXECUTED}"
# Seconds that a module may take.
PATIENCE = 60

VALUES: list[Any] = [
    None, True, False, 0, -1, 7, 10**30, -(2**63), 1.5, 1e308, float("inf"), float("nan"),
    "", " ", "\n", "\t", "x", "../x", "/", "//", "/..", ".", "..", "~", "-", "--", "-rf", "no\nsuch\n\nthing", "a\0b",
    "\ud800", "\udcff", "\x1b[31m", "\x9b31m", "\u202ex", "\ufeffx", "é", "%s%n{}", "{{ 7 * 7 }}", "yes", "null",
    "0x10", "010", "1e3", "2001-01-01", "x" * 255, "x" * 70000, "/" + "x" * 300, "/x" * 35000, "file:///etc/shadow",
    f"$({TOUCH})", f"`{TOUCH}`", f"; {TOUCH} #", f"| {TOUCH}", f"\n{TOUCH}\n", f"' ; {TOUCH} ; '", f'" ; {TOUCH} ; "',
    f"--upload-pack={TOUCH}", f"ext::sh -c '{TOUCH}'", f"'\"`$({TOUCH});{{}}\\",
    [], {}, [None], [0], [""], ["a\0b"], ["x\ny"], [[]], [{}], [{"name": None}], json.loads("[" * 400 + "]" * 400),
    {"": ""}, {"name": 1}, {"x": {"y": []}}, {"x": None}, {"a\nb": "c\0d"}, {"\ud800": "\ud800"},
]  # fmt: skip
# Their own files on this file system; all others belong to somebody else.
OURS = ("etc/default/grub", "etc/xen", "boot/grub")
OTHERS = ("etc", "root", "home", "boot", "usr/bin", "usr/sbin", "usr/lib/python3")
# They would wait for a network, or need a compiler, so they only say what they would do.
CHECKED = ("stubdom_build", "stubdom_source")


def specification(name: str) -> dict[str, Any]:
    """The options of a module, those of documentation fragments among them."""
    module: Any = importlib.import_module(f"ansible_collections.xen.stubdom.plugins.modules.{name}")
    found: list[dict[str, Any]] = []
    real, module.run_module = module.run_module, lambda _run, **given: found.append(given["argument_spec"])
    try:
        module.main()
    finally:
        module.run_module = real
    return found[0]


def cases(known: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a module is asked for, by option. `known` is the unit test, which has parameters that are valid."""
    valid = known.VALID[name]
    for option, found in specification(name).items():
        values = list(VALUES)
        if f"{name}.{option}" in known.FREE:
            values += [{"x": value} for value in VALUES]
            values += [{value: "x"} for value in VALUES if isinstance(value, str)]
        for suboption in found.get("options", {}):
            for value in VALUES:
                item = {**known.ITEMS.get(f"{name}.{option}", {}), suboption: value}
                values.append([item] if found["type"] == "list" else item)
        yield from ((option, {**valid, option: value}) for value in values)


def tried(system: Path, every: int) -> Iterator[tuple[str, list[str]]]:
    """Play all cases, or each Nth of them; yield what was tried and what was wrong."""
    known = importlib.import_module("test_hostile_parameters")
    number = 0
    for name in known.NAMES:
        chosen = []
        for option, parameters in cases(known, name):
            number += 1
            if number % every == 0:
                chosen.append((option, parameters))
        before = others(system)
        answers = list(played(system, name, [parameters for _option, parameters in chosen]))
        for number_here, (option, parameters) in enumerate(chosen):
            result = answers[number_here] if number_here < len(answers) else {"msg": "nothing\nit has ended"}
            wrong = [known.problem(result)] if known.problem(result) else []
            if result.get("executed"):
                wrong.append("executed")
            yield f"{name} {option}: {json.dumps(parameters)[:200]}", [str(one)[:300] for one in wrong]
        after = others(system)
        touched = sorted(path for path in before if before[path] != after.get(path))
        if touched:
            yield f"{name}", [f"files of others: {', '.join(touched)}"]


def others(system: Path) -> dict[str, tuple[int, ...]]:
    """The files that no module has to touch, with what changes when somebody does."""
    found: dict[str, tuple[int, ...]] = {}
    for top in OTHERS:
        for parent, _directories, names in os.walk(system / top):
            for name in names:
                path = os.path.relpath(os.path.join(parent, name), system)
                if not path.startswith(OURS):
                    status = os.lstat(system / path)
                    found[path] = (status.st_ino, status.st_mode, status.st_uid, status.st_size, status.st_ctime_ns)
    return found


def played(system: Path, name: str, asked: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The results of a module, which is played in a process of its own."""
    answers = system / "tmp" / "answers"
    answers.write_text("")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.chroot(system)
            os.chdir("/tmp")
            with open("/tmp/answers", "w", encoding="utf-8") as stream:
                for parameters in asked:
                    stream.write(json.dumps(play(name, parameters)) + "\n")
                    stream.flush()
            status = 0
        finally:
            os._exit(status)
    try:
        os.waitpid(child, 0)
    except KeyboardInterrupt:
        os.kill(child, signal.SIGKILL)
        raise
    yield from map(json.loads, answers.read_text().splitlines())


def play(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Run a module; what it prints, and whether it has run what it was given."""
    from ansible.module_utils import basic

    class Late(BaseException):
        pass

    def late(_number: int, _frame: object) -> None:
        raise Late

    module = importlib.import_module(f"ansible_collections.xen.stubdom.plugins.modules.{name}")
    arguments = {**parameters, "_ansible_check_mode": name in CHECKED}
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
    basic._ANSIBLE_PROFILE = "legacy"
    output = io.StringIO()
    signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    try:
        with redirect_stdout(output), suppress(SystemExit):
            module.main()
        result = json.loads(output.getvalue().strip().splitlines()[-1])
    except Late:
        result = {"msg": "hangs", "exception": "hangs"}
    except BaseException as error:
        result = {"msg": f"{error!r}: {output.getvalue()[-300:]}", "exception": "no answer"}
    finally:
        signal.alarm(0)
    found = os.path.exists(EXECUTED)
    with suppress(FileNotFoundError):
        os.unlink(EXECUTED)
    return {key: result[key] for key in ("msg", "failed", "exception", "traceback") if key in result} | {
        "executed": found
    }
