# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Xen host in a tree of files, with a toolstack that is played, and guests that write on real terminals."""

from __future__ import annotations

import json
import os
import tty
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._guests import disks, guest_disk
from ansible_collections.xen.stubdom.plugins.module_utils._guests import domain as guest_domain
from ansible_collections.xen.stubdom.plugins.module_utils._xen import console, xl_cfg
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen
from ansible_collections.xen.stubdom.plugins.modules import guests

BOOT = "usr/lib/xen-4.20/boot"
GRUB = "usr/lib/grub-xen/grub-x86_64-xen.bin"
PROXY = "usr/lib/xen-4.20/bin/vchan-socket-proxy"
FILES = (
    GRUB,
    "usr/lib/grub-xen/grub-i386-xen_pvh.bin",
    f"{BOOT}/hvmloader",
    f"{BOOT}/qemu-stubdom-linux-kernel",
    f"{BOOT}/qemu-stubdom-linux-rootfs",
    PROXY,
    "srv/web.img",
)
Answer = tuple[int, str, str]


@dataclass
class Played:
    """A domain."""

    domid: int
    letters: str
    uuid: str
    memory: int = 256
    stub: int | None = None
    terminals: list[int] = field(default_factory=list)
    vcpus: int = 1
    weight: str = "256"
    cap: str = "0"
    pinned: list[str] = field(default_factory=lambda: ["all", "all"])
    # Whether the guest gives memory and processors back and takes them.
    follows: bool = True


class Host:
    """A host as the module sees it."""

    check_mode = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self.params: dict[str, Any] = {}
        self.no_log_values: set[str] = set()
        self.calls: list[str] = []
        self.nodes: dict[str, str] = {"/tool": ""}
        self.domains: dict[str, Played] = {}
        self.next = 3
        self.free = 2900
        self.release = 20
        self.line = "placeholder dom0_mem=1G,max:1G"
        self.dmesg = "(XEN) boot\n"
        # By guest: what it writes, and whether it ends then.
        self.words: dict[str, bytes] = {}
        self.dies: set[str] = set()
        self.fails: dict[str, str] = {}
        self.stub: str | None = None
        self.stub_state = "running"
        self.deaf = False
        # Of all guests that there ever were.
        self.terminals: list[int] = []
        # What xl says of a configuration, and what it was given to read.
        self.says = (0, "Parsing config from FILE\n")
        self.read_by_xl: list[str] = []
        for path in FILES:
            self.put(path, "")
            (root / path).chmod(0o755)
        self.put("etc/os-release", "ID=debian\n")
        self.put("proc/xen/capabilities", "control_d\n")
        self.put("etc/xen/xl.conf", 'autoballoon="off"\n')

    def put(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def tree(self) -> dict[str, str]:
        found = {str(path.relative_to(self.root)): path for path in self.root.rglob("*")}
        return {
            name: os.readlink(path) if path.is_symlink() else path.read_text()
            for name, path in found.items()
            if (path.is_file() or path.is_symlink()) and not name.startswith("lock/")
        }

    def run(self, *listed: dict[str, Any], check: bool = False, **params: Any) -> dict[str, Any]:
        """Run the module on a list of guests."""
        given = {"guests": json.loads(json.dumps(listed)), "directory": str(self.root / "etc/xen"), **params}
        validated = ArgumentSpecValidator(guests.ARGUMENTS).validate(given)
        assert validated.error_messages == []
        self.params, self.check_mode = validated.validated_parameters, check
        self.calls.clear()
        return guests.run(self)  # type: ignore[arg-type]

    @property
    def acts(self) -> list[str]:
        """The commands of xl that change something, without their arguments."""
        return [call.split()[0] for call in self.calls if call.split()[0] not in ("info", "list", "dmesg")]

    def run_command(self, arguments: list[str], **_options: Any) -> Answer:
        command, rest = arguments[0], arguments[1:]
        if arguments[:3] == ["xl", "create", "--dryrun"]:
            self.read_by_xl.append(Path(arguments[3]).read_text())
            return self.says[0], '{"name": "web"}', self.says[1].replace("FILE", arguments[3])
        if command == "xl":
            self.calls.append(" ".join(rest).replace(str(self.root), ""))
            return getattr(self, f"xl_{rest[0].replace('-', '_')}")(*rest[1:])  # type: ignore[no-any-return]
        if command == "xenstore-read":
            values = []
            for path in rest:
                if path not in self.nodes:
                    return 1, "".join(values), f"xenstore-read: couldn't read path {path}"
                values.append(self.nodes[path] + "\n")
            return 0, "".join(values), ""
        if command == "xenstore-ls":
            below = "".join(f'{path} = "{value}"\n' for path, value in self.nodes.items() if path.startswith(rest[1]))
            return (0, below, "") if below else (1, "", "xenstore-ls: xs_directory: No such file or directory")
        if command == "xenstore-rm":
            self.nodes.pop(rest[0], None)
            return 0, "", ""
        assert command == "xenstore-write" and len(rest[1]) < 4000, arguments
        self.nodes[rest[0]] = rest[1]
        return 0, "", ""

    def xl_info(self) -> Answer:
        memory = f"total_memory : 4095\nfree_memory : {self.free}\nxen_caps : xen-3.0-x86_64 hvm-3.0-x86_64\n"
        memory += "xen_scheduler : credit2\nnr_cpus : 4\n"
        return 0, f"xen_major : 4\nxen_minor : {self.release}\n{memory}xen_commandline : {self.line}\n", ""

    def xl_list(self) -> Answer:
        rows = "Name ID Mem VCPUs State Time(s)\nDomain-0  0  1024  1  r-----  106.4\n"
        for name, played in self.domains.items():
            rows += f"{name}  {played.domid}  {played.memory}  {played.vcpus}  {played.letters}  1.0\n"
            if played.stub is not None:
                rows += f"{name}-dm  {played.stub}  136  1  -b----  1.0\n"
        return 0, rows, ""

    def xl_dmesg(self) -> Answer:
        return 0, self.dmesg, ""

    def there(self, name: str, uuid: str, letters: str = "-b----") -> Played:
        """Have a domain run that this module has not started."""
        played = Played(self.next, letters, uuid)
        self.next += 1
        self.domains[name] = played
        self.nodes[f"/local/domain/{played.domid}/vm"] = f"/vm/{uuid}"
        self.nodes[f"/libxl/{played.domid}/type"] = "pv"
        return played

    def xl_create(self, *words: str) -> Answer:
        assert words[0] == "-p"
        settings = xl_cfg.read("", Path(words[1]).read_bytes())
        name = str(settings["name"])
        if name in self.fails:
            if settings.get("device_model_stubdomain_override"):
                # Seen with 4.20: the stub domain stays where QEMU cannot be started in it.
                if f"{name}-dm" in self.domains:
                    return 1, "", f'libxl: error: libxl.c:1:x: Domain with name "{name}-dm" already exists.\n'
                self.there(f"{name}-dm", f"of-{name}", "--p---")
                self.nodes[f"/vm/of-{name}/image/kernel"] = f"/{BOOT}/qemu-stubdom-linux-kernel"
            return 1, "", self.fails[name]
        if name in self.domains:
            return 1, "", f'libxl: error: libxl_create.c:1:x: Domain with name "{name}" already exists.\n'
        played = self.there(name, str(settings.get("uuid", "0")), "--p---")
        played.memory = int(str(settings.get("memory", 256)))
        played.vcpus = int(str(settings.get("vcpus", 1)))
        self.nodes[f"/local/domain/{played.domid}/memory/static-max"] = str(
            1024 * int(str(settings.get("maxmem", played.memory)))
        )
        for number in range(int(str(settings.get("maxvcpus", played.vcpus)))):
            self.nodes[f"/local/domain/{played.domid}/cpu/{number}/availability"] = "online"
        for place, _nic in enumerate(settings.get("vif", [])):  # type: ignore[arg-type]
            self.nodes[f"/libxl/{played.domid}/device/vif/{place}/state"] = "4"
        master, slave = os.openpty()
        tty.setraw(slave)
        played.terminals += [master, slave]
        self.terminals += [master, slave]
        terminal = os.ttyname(slave)
        domid = played.domid
        if settings.get("device_model_stubdomain_override"):
            played.stub = self.next
            self.next += 1
            home = str(played.stub) if self.stub is None else self.stub
            self.nodes.update(
                {
                    f"/libxl/{domid}/type": "hvm",
                    f"/libxl/{domid}/dm-version": "qemu_xen",
                    f"/local/domain/{domid}/image/device-model-domid": home,
                    f"/local/domain/{home}/target": str(domid),
                    f"/local/domain/{home}/device-model/{domid}/state": self.stub_state,
                    f"/local/domain/{home}/device/console/3/tty": terminal,
                }
            )
        else:
            self.nodes[f"/local/domain/{domid}/console/tty"] = terminal
        if self.deaf:
            self.nodes = {path: value for path, value in self.nodes.items() if not path.endswith("tty")}
        return 0, "", "Parsing config\n"

    def named(self, word: str) -> str:
        return (
            word if word in self.domains else next(name for name, one in self.domains.items() if one.domid == int(word))
        )

    def xl_unpause(self, word: str) -> Answer:
        name = self.named(word)
        played = self.domains[name]
        if played.terminals:
            os.write(played.terminals[0], self.words.get(name, f"hello from {name}\r\n".encode()))
        played.letters = "-b----"
        if name in self.dies:
            self.gone(name)
            domid = played.domid
            self.dmesg += f"(XEN) HVM d{domid}v0 save: CPU\n(XEN) HVM restore d{domid}: CPU 0\n"
            self.dmesg += f"(XEN) d{domid}v0 Triple fault\n(XEN) d99v0 Triple fault\n"
        return 0, "", ""

    def xl_pause(self, word: str) -> Answer:
        self.domains[self.named(word)].letters = "--p---"
        return 0, "", ""

    def xl_mem_set(self, word: str, amount: str) -> Answer:
        played = self.domains[self.named(word)]
        played.memory = int(amount.rstrip("m")) if played.follows else played.memory
        return 0, "", ""

    def xl_vcpu_set(self, option: str, word: str, count: str) -> Answer:
        played = self.domains[self.named(word)]
        assert option == "--ignore-host"
        played.vcpus = int(count) if played.follows else played.vcpus
        return 0, "", ""

    def xl_sched_credit2(self, *words: str) -> Answer:
        played = self.domains[self.named(words[1])]
        if words[2:]:
            setattr(played, {"-w": "weight", "-c": "cap"}[words[2]], words[3])
        rows = f"web {played.domid} {played.weight} {played.cap}\n"
        return 0, "" if words[2:] else f"Name ID Weight Cap\n{rows}", ""

    def xl_vcpu_pin(self, word: str, which: str, *pins: str) -> Answer:
        assert which == "all"
        played = self.domains[self.named(word)]
        if played.follows:
            played.pinned[: len(pins)] = [{"1-3,^2": "1,3", "0-3": "all"}.get(pin, pin) for pin in pins]
        return 0, "", ""

    def xl_vcpu_list(self, word: str) -> Answer:
        played = self.domains[self.named(word)]
        rows = "".join(f"web {played.domid} {n} 1 -b- 1.0 {' / '.join(played.pinned)}\n" for n in range(played.vcpus))
        return 0, f"Name ID VCPU CPU State Time(s) Affinity (Hard / Soft)\n{rows}", ""

    def xl_network_attach(self, word: str, *fields: str) -> Answer:
        there = [int(path.split("/")[5]) for path in self.nodes if path.startswith(f"/libxl/{word}/device/vif/")]
        self.nodes[f"/libxl/{word}/device/vif/{max([-1, *there]) + 1}/state"] = " ".join(fields)
        return 0, "", ""

    def xl_network_detach(self, word: str, number: str) -> Answer:
        if self.domains[self.named(word)].follows:
            self.nodes.pop(f"/libxl/{word}/device/vif/{number}/state")
        return 0, "", ""

    def xl_cd_insert(self, word: str, vdev: str, target: str) -> Answer:
        number, stub = disks.device(vdev).number, self.domains[self.named(word)].stub
        # As seen with Xen 4.20.
        params = (target or f"/run/xen/empty-cdrom.{word}") if stub else f"aio:{target}"
        self.nodes[f"/libxl/{stub or word}/device/vbd/{number}/params"] = params
        return 0, "", ""

    def xl_cd_eject(self, word: str, vdev: str) -> Answer:
        self.xl_cd_insert(word, vdev, "")
        return 0, "", ""

    def gone(self, name: str) -> None:
        domid = self.domains.pop(name).domid
        self.nodes = {
            path: value
            for path, value in self.nodes.items()
            if not path.startswith((f"/libxl/{domid}/", f"/local/domain/{domid}/"))
        }

    def xl_destroy(self, *words: str) -> Answer:
        self.gone(self.named(words[-1]))
        return 0, "", ""

    def paused(self, word: str) -> bool:
        """Whether a guest does nothing of what it is asked to do itself."""
        return "p" in self.domains[self.named(word)].letters

    def xl_shutdown(self, *words: str) -> Answer:
        return (0, "", "") if self.paused(words[-1]) else self.xl_destroy(*words)

    def xl_reboot(self, *words: str) -> Answer:
        if self.paused(words[-1]):
            return 0, "", ""
        name = self.named(words[-1])
        uuid = self.domains[name].uuid
        self.gone(name)
        self.there(name, uuid)
        return 0, "", ""

    def xl_save(self, word: str, path: str) -> Answer:
        name = self.named(word)
        if self.paused(word):
            return 1, "", "libxl: error: guest didn't acknowledge suspend, request cancelled\n"
        self.put(path.lstrip("/"), f"{name} {self.domains[name].uuid} {self.domains[name].memory}")
        self.gone(name)
        return 0, "", ""

    def xl_restore(self, *words: str) -> Answer:
        name, uuid, memory = (self.root / words[-1].lstrip("/")).read_text().split()
        self.there(name, uuid).memory = int(memory)
        return 0, "", ""


AnyHost = TypeVar("AnyHost", bound=Host)


def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[AnyHost] = Host) -> Iterator[AnyHost]:  # type: ignore[assignment]
    """A host for a fixture."""
    monkeypatch.setattr(guests, "Xen", lambda run: Xen(run, root=str(tmp_path)))
    # Whatever this machine has: what is on disks is a matter of test_guest_disk.py.
    monkeypatch.setattr(guest_disk, "PROGRAMS", ())
    monkeypatch.setattr(guest_domain, "TTY_TIMEOUT", 0.1)
    monkeypatch.setattr(guest_domain, "PAUSED_TIMEOUT", 0)
    monkeypatch.setattr(guest_domain, "LIVE_TIMEOUT", 0)
    monkeypatch.setattr(console, "LOOK", 0.1)
    (tmp_path / "lock").mkdir()
    monkeypatch.setattr(files, "LOCK_DIRECTORIES", (str(tmp_path / "lock"),))
    host = kind(tmp_path)
    yield host
    for descriptor in host.terminals:
        os.close(descriptor)
