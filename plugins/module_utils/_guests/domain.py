# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: a guest as a domain of the running hypervisor, its start and its end.

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import Any, Dict, Iterator, List, Mapping, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._boot import memory
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import disks, plan
from ansible_collections.xen.stubdom.plugins.module_utils._xen import domains, xl_cfg
from ansible_collections.xen.stubdom.plugins.module_utils._xen.console import Console, new_lines, visible
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Domain, Xen

# What the configuration was that a domain was started with. The node goes with the domain.
RECORD = "/libxl/{domid}/xen-stubdom-config"

# Whether the guest has written the text that it was to write when it was started; beside the record.
PROOF = "/libxl/{domid}/xen-stubdom-proof"
_AWAITED, _HEARD = "awaited", "heard"

# From before a guest is created until it is let go: the checksum of its configuration. Whoever finds a paused guest and
# this node finds a start that was interrupted.
STARTING = "/tool/xen-stubdom/starting/{key}"

# How much of a console is returned.
SHOWN = 4000

# How long the toolstack may take to say which terminal is the guest's, in seconds.
TTY_TIMEOUT = 15.0

# How long a guest may be paused by a toolstack that starts, saves or migrates it, in seconds.
PAUSED_TIMEOUT = 30.0

# What the hypervisor logs at every start of an HVM guest (hvm_save and hvm_load, xen/common/hvm/save.c).
_NOISE = re.compile(r"HVM (?:d\d+(?:v\d+)? save|restore d\d+)")

# Keys that name files in dom0.
MADE_OF = ("kernel", "ramdisk", "stubdomain_kernel", "stubdomain_ramdisk", "firmware_override", "device_model_override")

_GONE = ("shutdown", "crashed", "dying")


class Guest:
    """A guest on this host.

    :param settings: the keys of its configuration.
    :param digest: the checksum of its configuration, None where there is none.
    """

    def __init__(
        self, xen: Xen, name: str, settings: Mapping[str, xl_cfg.Value], digest: Optional[str], config: str
    ) -> None:
        self.xen = xen
        self.name = name
        self.settings = settings
        self.digest = digest
        self.config = config
        self._listened = 0.0
        # Of a name, as xenstore does not take every letter in a path.
        self.key = files.sha256(name.encode())[:32]
        # Whether an earlier run has not heard what it waited for.
        self.unproved = False
        self.facts: Dict[str, Any] = {
            "state": "absent",
            "domid": None,
            "device_model": None,
            "said": None,
            "console": "",
            "hypervisor_log": [],
            "restart_required": False,
            "seconds": None,
        }

    def observe(self) -> Optional[Domain]:
        """Look for the domain, and take down what is known about it."""
        domain = next((domain for domain in self.xen.domains() if domain.name == self.name), None)
        self.facts["state"] = "absent" if domain is None else domains.state(domain.state)
        self.facts["domid"] = None if domain is None else domain.domid
        return domain

    def look_inside(self, domain: Domain) -> None:
        """Ask xenstore where the device model runs, and with which configuration the guest was started."""
        nodes = self.xen.nodes()
        self.facts["device_model"] = domains.device_model(nodes, domain.domid)
        self.unproved = nodes.get(PROOF.format(domid=domain.domid)) == _AWAITED
        recorded = nodes.get(RECORD.format(domid=domain.domid))
        if recorded is not None:
            self.facts["restart_required"] = recorded != self.digest
            return
        # Started by somebody else, such as the host's own service at boot: the file may be younger than the domain.
        started = nodes.get(f"/vm/{domains.uuid(nodes, domain.domid)}/start_time", "")
        if re.match(r"\d+(\.\d+)?\Z", started) and os.path.exists(self.config):
            self.facts["restart_required"] = os.stat(self.config).st_mtime > float(started)

    def interrupted_start(self) -> Optional[str]:
        """Return the checksum of the configuration that an interrupted start was made with; None if there is none."""
        return self.xen.read(STARTING.format(key=self.key)) if self.facts["state"] == "paused" else None

    def require_no_pause(self) -> None:
        """:raises UserError: somebody has paused the guest, and does not let it go by himself."""
        deadline = time.monotonic() + PAUSED_TIMEOUT
        while self.facts["state"] == "paused":
            if time.monotonic() > deadline:
                raise UserError(
                    f"The guest {self.name} is paused, and not by a start that was interrupted: it is left alone.",
                    f"Let it go with `xl unpause {self.name}`, or end it with state destroyed.",
                    self.facts,
                )
            time.sleep(1)
            self.observe()

    def start(self, says: Optional[str], timeout: int) -> None:
        """Start the guest paused, look at it, let it go and listen."""
        before = self.xen.dmesg()
        self.xen.write(STARTING.format(key=self.key), self.digest or "")
        with self._taken_back(before):
            begin = time.monotonic()
            status, _output, errors = self.xen.xl("create", "-p", self.config)
            self.facts["seconds"] = round(time.monotonic() - begin, 1)
            if status != 0:
                raise UserError(
                    f"`xl create {self.config}` failed: {toolstack_error(errors)}",
                    "Nothing was left running; look at "
                    f"/var/log/xen/qemu-dm-{self.name}.log and xl-{self.name}.log there.",
                )
        self._release(before, self.digest or "", says, timeout)

    def go_on(self, digest: str, says: Optional[str], timeout: int) -> None:
        """Look at a guest that an interrupted start has left paused, let it go and listen.

        :param digest: of the configuration that it was created with.
        """
        self._release(self.xen.dmesg(), digest, says, timeout)

    def _release(self, before: str, digest: str, says: Optional[str], timeout: int) -> None:
        with self._taken_back(before):
            domain = self.observe()
            if domain is None:
                raise UserError(f"xl has created no domain {self.name}.", f"Look at /var/log/xen/xl-{self.name}.log.")
            self.look_inside(domain)
            self.xen.write(RECORD.format(domid=domain.domid), digest)
            self.facts["restart_required"] = digest != (self.digest or "")
            self.require_stub_domain()
            console = Console(self._tty(domain.domid))
            if says is not None:
                self.xen.write(PROOF.format(domid=domain.domid), _AWAITED)
        try:
            self.xen.xl("unpause", str(domain.domid))
            self.xen.remove(STARTING.format(key=self.key))
            self._hear(domain, console, says, timeout)
        finally:
            console.close()
            self._log(before)

    @contextlib.contextmanager
    def _taken_back(self, before: str) -> Iterator[None]:
        """Leave no guest that was created and not let go, whatever happens: a signal, too."""
        try:
            yield
        except BaseException as error:
            if self.observe() is not None:
                self.xen.xl("destroy", self.name)
                self.observe()
            self.xen.remove(STARTING.format(key=self.key))
            if not isinstance(error, UserError):
                raise
            self._log(before)
            raise UserError(error.what, error.remedy, self.facts) from error

    def prove(self, domain: Domain, says: str, timeout: int) -> None:
        """Listen to a guest that runs, and that an earlier run has not heard say what it was to say."""
        before = self.xen.dmesg()
        console = Console(self._tty(domain.domid))
        try:
            self._hear(domain, console, says, timeout)
        finally:
            console.close()
            self._log(before)

    def _hear(self, domain: Domain, console: Console, says: Optional[str], timeout: int) -> None:
        if says is not None:
            begin = time.monotonic()
            self.facts["said"] = console.listen(says, timeout, lambda: self._terminal(domain.domid))
            self._listened = time.monotonic() - begin
        self.facts["console"] = console.heard[-SHOWN:]
        present = self.observe()
        if self.facts["said"] and present is not None and present.domid == domain.domid:
            self.xen.write(PROOF.format(domid=domain.domid), _HEARD)

    def require_words(self, says: Optional[str]) -> None:
        """:raises Failure: the guest did not say what it was to say."""
        if says is None or self.facts["said"]:
            return
        alive = self.facts["state"] not in ("absent", *_GONE)
        end = (
            f"within {self._listened:.0f} seconds" if alive else f"before it ended, within {self._listened:.0f} seconds"
        )
        words = repr(last(self.facts["console"]) or "none")
        words += f", the hypervisor's {self.facts['hypervisor_log'][-1]!r}" if self.facts["hypervisor_log"] else ""
        raise UserError(
            f"The guest {self.name} did not say {says!r} {end}; its last words were {words}.",
            f"It was left running, and the next run listens again: look at it with `xl console {self.name}`, raise "
            "timeout, or have it start again after state destroyed."
            if alive
            else f"Look at /var/log/xen/xl-{self.name}.log and `xl dmesg`.",
            self.facts,
        )

    def require_stub_domain(self) -> None:
        """:raises UserError: the device model is not where the configuration says."""
        model = self.facts["device_model"]
        if not plan.stubbed(self.settings):
            return
        if model is None or not model["stub_domain"]:
            raise UserError(
                f"The device model of {self.name} does not run in a stub domain, as its configuration asks for.",
                f"Look at /var/log/xen/xl-{self.name}.log.",
            )
        if model["state"] != "running":
            raise UserError(
                f"The stub domain of {self.name} is there, but its device model says {model['state'] or 'nothing'}.",
                f"Look at /var/log/xen/qemu-dm-{self.name}.log.",
            )

    def end(self, how: str, timeout: int) -> None:
        """Shut the guest down or destroy it, and wait until it and its stub domain have gone."""
        domain = self.observe()
        if domain is None:
            return
        self.look_inside(domain)
        model = self.facts["device_model"] or {"domid": 0}
        # -F: a guest without Xen's drivers is sent the power button instead.
        words = ("shutdown", "-F") if how == "shutdown" else ("destroy",)
        if self.facts["state"] not in _GONE or how == "destroyed":
            status, _output, errors = self.xen.xl(*words, str(domain.domid))
            if status != 0:
                raise UserError(
                    f"`xl {words[0]} {self.name}` failed: {toolstack_error(errors)}", "Look at `xl list`.", self.facts
                )
        begin = time.monotonic()
        while True:
            left = {other.domid: domains.state(other.state) for other in self.xen.domains()}
            if domain.domid not in left and (not model["domid"] or model["domid"] not in left):
                break
            if how == "shutdown" and left.get(domain.domid) in ("shutdown", "crashed"):
                break
            waited = time.monotonic() - begin
            if waited > timeout:
                raise UserError(
                    f"The guest {self.name} has not ended within {waited:.0f} seconds of `xl {words[0]}`.",
                    "Raise timeout, or end it at once with state destroyed.",
                    self.facts,
                )
            time.sleep(1)
        self.observe()
        self.facts["device_model"] = None

    def _terminal(self, domid: int) -> Optional[str]:
        """Return the terminal that a guest has now, empty for none at the moment; None after the guest's end."""
        states = {domain.domid: domains.state(domain.state) for domain in self.xen.domains()}
        if states.get(domid, "dying") in _GONE:
            return None
        return self.xen.read(self._tty_path(domid)) or ""

    def _tty_path(self, domid: int) -> str:
        if plan.stubbed(self.settings):
            # Consoles 0 to 2 of a stub domain are its log, save and restore; then come the guest's serial ports.
            return f"/local/domain/{self.facts['device_model']['domid']}/device/console/3/tty"
        if plan.hvm(self.settings):
            return f"/local/domain/{domid}/serial/0/tty"
        return f"/local/domain/{domid}/console/tty"

    def _tty(self, domid: int) -> str:
        """Return the terminal that the guest's console or serial port leads to."""
        path = self._tty_path(domid)
        deadline = time.monotonic() + TTY_TIMEOUT
        while True:
            tty = self.xen.read(path)
            if tty:
                return tty
            if time.monotonic() > deadline:
                raise UserError(
                    f"xenstore names no terminal for {self.name} ({path}).",
                    'Look whether xenconsoled runs; an HVM guest needs serial = "pty".',
                )
            time.sleep(0.2)

    def _log(self, before: str) -> None:
        self.facts["hypervisor_log"] = [
            line
            # Guests write to this log as well.
            for line in visible(new_lines(before, self.xen.dmesg())).splitlines()
            if line.strip() and not _NOISE.search(line)
        ]


def toolstack_error(errors: str) -> str:
    """Return what xl says went wrong, without the places in its source."""
    lines = [
        re.sub(r"^(?:libxl|xl|xc): (?:error: )?", "", line.strip()) for line in errors.splitlines() if line.strip()
    ]
    lines = [re.sub(r"^\S+\.c:\d+:\S+ ", "", line) for line in lines if not line.startswith("Parsing config")]
    return "; ".join(line.rstrip(".") for line in lines[:3]) + "." if lines else "no message."


def last(text: str) -> str:
    """Return the last line that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def load(xen: Xen, name: str, path: str, *, needed: bool) -> Guest:
    """Read the configuration.

    :raises UserError: there is none although it is needed, or it is another guest's.
    """
    content = files.read(path)
    plan.check_name(name)
    if content is None and needed:
        raise UserError(
            f"There is no configuration {path} for the guest {name}.",
            "Write it with the module xen.stubdom.guest_config.",
        )
    settings = xl_cfg.read(path, content) if content is not None else {}
    if content is not None and settings.get("name") != name:
        raise UserError(f"{path} is the configuration of {settings.get('name')!r}, not of {name!r}.", "Correct config.")
    return Guest(xen, name, settings, None if content is None else files.sha256(content), path)


def require_files(xen: Xen, guest: Guest) -> None:
    """:raises UserError: a file that the configuration names is not there."""
    wanted = guest.settings.get("disk", [])
    named = [disks.target(disk) for disk in wanted if isinstance(disk, str)] if isinstance(wanted, list) else []
    named += [str(guest.settings[key]) for key in MADE_OF if key in guest.settings]
    for path in named:
        if path is not None and not os.path.exists(xen.path(path)):
            raise UserError(
                f"{path} does not exist, and the guest {guest.name} is made of it.",
                f"Make it, or correct {guest.config}.",
            )


def refuse_namesake(xen: Xen, guest: Guest) -> None:
    """:raises UserError: another domain has the guest's name, or the guest cannot be started."""
    if not guest.settings:
        # In check mode, where an earlier task would have written the configuration.
        return
    rows: List[Domain] = xen.domains()
    plan.refuse_start(guest.settings, memory.observe(xen, rows), domains.observe_guests(xen, rows))
