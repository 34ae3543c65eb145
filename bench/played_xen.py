#!/usr/bin/python3 -IS
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays xl and xenstore's programs on a host without Xen, under whose names it is called.

Guests do nothing, and are there at once. The state is in one file, which is read and written under a lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
import time
import tty
from pathlib import Path
from typing import Any

STATE = Path("/var/lib/played-xen.json")
TERMINAL = Path("/run/played-terminal")
MEMORY = 1 << 20
DOM0 = 1024
STUB = 136


def main(program: str, words: list[str]) -> int:
    if (program, words) == ("xl", ["terminal"]):
        return keep_terminal()
    with STATE.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        state = json.loads(text or '{"domains": {}, "nodes": {"/tool": ""}, "next": 1}')
        status = PROGRAMS[program](state, words)
        changed = json.dumps(state)
        if changed != text:
            file.truncate(0)
            file.write(changed)
    return status


def keep_terminal() -> int:
    """Hold a terminal open as long as the host is there."""
    _master, slave = os.openpty()
    tty.setraw(slave)
    TERMINAL.write_text(os.ttyname(slave))
    while True:
        time.sleep(3600)


def xl(state: dict[str, Any], words: list[str]) -> int:
    command, *rest = words
    domains = state["domains"]
    if command == "info":
        free = (
            MEMORY - DOM0 - sum(domain["memory"] + STUB * (domain["stub"] is not None) for domain in domains.values())
        )
        for name, value in (
            ("xen_major", 4),
            ("xen_minor", 20),
            ("xen_caps", "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64"),
            ("xen_commandline", f"placeholder dom0_mem={DOM0}M,max:{DOM0}M"),
            ("total_memory", MEMORY),
            ("free_memory", free),
        ):
            print(f"{name:22} : {value}")
    elif command == "list":
        print("Name                                        ID   Mem VCPUs\tState\tTime(s)")
        print(row("Domain-0", 0, DOM0, "r-----"))
        for name, domain in domains.items():
            print(row(name, domain["domid"], domain["memory"], domain["letters"]))
            if domain["stub"] is not None:
                print(row(f"{name}-dm", domain["stub"], STUB, "-b----"))
    elif command == "create":
        return create(state, rest)
    elif command in ("pause", "unpause"):
        domains[named(state, rest[-1])]["letters"] = "--p---" if command == "pause" else "-b----"
    elif command in ("shutdown", "destroy"):
        name = named(state, rest[-1])
        domid = domains.pop(name)["domid"]
        ended = (f"/libxl/{domid}/", f"/local/domain/{domid}/")
        state["nodes"] = {path: value for path, value in state["nodes"].items() if not path.startswith(ended)}
    elif command != "dmesg":
        print(f"xl {command} is not played", file=sys.stderr)
        return 1
    return 0


def row(name: str, domid: int, memory: int, letters: str) -> str:
    return f"{name:40} {domid:5} {memory:5} {1:5}     {letters} {1.0:8.1f}"


def create(state: dict[str, Any], words: list[str]) -> int:
    # The processes of a played host are not in its /proc, which is put together (host.sh).
    path = re.sub(r"^/proc/(?=\d)", "/.proc/", words[-1]) if Path("/.proc").is_dir() else words[-1]
    text = Path(path).read_text()
    print(f"Parsing config from {words[-1]}", file=sys.stderr)
    if "-n" in words or "--dryrun" in words:
        print("{}")
        return 0
    found = dict(re.findall(r'^(\w+) *= *"?([^"\n]*)"?', text, re.MULTILINE))
    name = found["name"]
    if name in state["domains"]:
        print(f"libxl: error: domain {name} exists", file=sys.stderr)
        return 1
    domid, state["next"] = state["next"], state["next"] + 1
    stub = None
    nodes = state["nodes"]
    uuid = found.get("uuid", f"00000000-0000-0000-0000-{domid:012}")
    terminal = TERMINAL.read_text()
    nodes[f"/local/domain/{domid}/vm"] = f"/vm/{uuid}"
    nodes[f"/local/domain/{domid}/name"] = name
    nodes[f"/vm/{uuid}/start_time"] = f"{time.time():.2f}"
    nodes[f"/libxl/{domid}/type"] = found.get("type", "pv")
    nodes[f"/local/domain/{domid}/console/tty"] = terminal
    if found.get("device_model_stubdomain_override") == "1":
        stub, state["next"] = state["next"], state["next"] + 1
        nodes[f"/libxl/{domid}/dm-version"] = "qemu_xen"
        nodes[f"/local/domain/{domid}/image/device-model-domid"] = str(stub)
        nodes[f"/local/domain/{stub}/target"] = str(domid)
        nodes[f"/local/domain/{stub}/device-model/{domid}/state"] = "running"
        nodes[f"/local/domain/{stub}/device/console/3/tty"] = terminal
    for number, mac in enumerate(re.findall(r"mac=([0-9a-fA-F:]{17})", text)):
        nodes[f"/local/domain/0/backend/vif/{domid}/{number}/mac"] = mac
    letters = "--p---" if "-p" in words else "-b----"
    state["domains"][name] = {"domid": domid, "memory": int(found["memory"]), "letters": letters, "stub": stub}
    return 0


def named(state: dict[str, Any], word: str) -> str:
    return next(str(name) for name, domain in state["domains"].items() if word in (name, str(domain["domid"])))


def xenstore_ls(state: dict[str, Any], words: list[str]) -> int:
    nodes = sorted(state["nodes"].items())
    for top in (word.rstrip("/") for word in words if word.startswith("/")):
        for path, value in nodes:
            if path == top or path.startswith(f"{top}/"):
                print(f'{path} = "{value}"')
    return 0


def xenstore_read(state: dict[str, Any], words: list[str]) -> int:
    for path in words:
        if path not in state["nodes"]:
            print(f"xenstore-read: couldn't read path {path}", file=sys.stderr)
            return 1
        print(state["nodes"][path])
    return 0


def xenstore_write(state: dict[str, Any], words: list[str]) -> int:
    state["nodes"].update(zip(words[::2], words[1::2]))
    return 0


def xenstore_rm(state: dict[str, Any], words: list[str]) -> int:
    for path in words:
        state["nodes"].pop(path, None)
    return 0


PROGRAMS = {
    "xl": xl,
    "xenstore-ls": xenstore_ls,
    "xenstore-read": xenstore_read,
    "xenstore-write": xenstore_write,
    "xenstore-rm": xenstore_rm,
}

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[0]).name, sys.argv[1:]))
