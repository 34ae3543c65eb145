# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: a guest as a domain of the running hypervisor, its start and its end.

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, TypeVar

from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import disks, record, virtualisation
from ansible_collections.xen.stubdom.plugins.module_utils._guests.saved import Saved
from ansible_collections.xen.stubdom.plugins.module_utils._xen import domains, xl_cfg
from ansible_collections.xen.stubdom.plugins.module_utils._xen.console import Console, new_lines, visible
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Domain, Xen

_Answer = TypeVar("_Answer")

# Whether the guest has written the text that it was to write when it was started; beside the record.
PROOF = "/libxl/{domid}/xen-stubdom-proof"
_AWAITED, _HEARD, _NOTHING = "awaited", "heard", "nothing"

# Beside the record of a guest that was paused because its state is to be so.
PAUSED = "/libxl/{domid}/xen-stubdom-paused"

# From before a guest is created until it is let go: the fingerprint of its configuration. Whoever finds a paused guest
# and this node finds a start that was interrupted.
STARTING = "/tool/xen-stubdom/starting/{key}"

# How much of a console is returned.
SHOWN = 4000

# How long the toolstack may take to say which terminal is the guest's, in seconds.
TTY_TIMEOUT = 15.0

# How long a guest may be paused by a toolstack that starts, saves or migrates it, in seconds.
PAUSED_TIMEOUT = 30.0

# What the hypervisor logs at every start of an HVM guest (hvm_save and hvm_load, xen/common/hvm/save.c).
_NOISE = re.compile(r"HVM (?:d\d+(?:v\d+)? save|restore d\d+)")
# How its lines name domains.
_DOMAIN = re.compile(r"\bd(?:om)?(\d{1,5})(?:v\d+)?\b")

# Keys that name files in dom0.
MADE_OF = ("kernel", "ramdisk", "stubdomain_kernel", "stubdomain_ramdisk", "firmware_override", "device_model_override")

_GONE = ("shutdown", "crashed", "dying")
ENDED = ("absent", "shutdown", "crashed")

# What a guest shows that waits for somebody, and what that means.
_KNOWN: Sequence[Tuple[str, str]] = (
    (r"grubdom>", "PV-GRUB has found no menu where menu says"),
    (r"grub(?: rescue)?>", "GRUB has found no grub.cfg on the guest's disks"),
    (r"\(initramfs\)", "the guest's kernel has not found its root file system"),
    (r"Kernel panic", "the guest's kernel has stopped"),
    (r"No bootable device", "none of the guest's disks has a boot loader"),
    (r"Triple fault", "the guest's processor has failed while it handled an error"),
)


@dataclass(frozen=True)
class Listening:
    """A guest that was let go with its console open.

    :param before: the hypervisor's log from before its start.
    """

    domain: Domain
    console: Console
    before: str


class Halted(BaseException):
    """This process is to end: what is half started is taken back."""


def observe(xen: Xen, rows: Sequence[Domain], guests: Sequence[Guest]) -> None:
    """Look at all these guests at once.

    :param rows: every domain.
    """
    by_name = {row.name: row for row in rows}
    there = [(guest, by_name[guest.name]) for guest in guests if guest.name in by_name]
    domids = [domain.domid for _guest, domain in there]
    nodes = domains.nodes_of(xen, domids)
    nodes.update(xen.read_many([path.format(domid=domid) for domid in domids for path in (record.RECORD, PROOF)]))
    unrecorded = [domid for domid in domids if record.RECORD.format(domid=domid) not in nodes]
    nodes.update(xen.read_many([f"/vm/{domains.uuid(nodes, domid)}/start_time" for domid in unrecorded]))
    for guest in guests:
        guest.take(by_name.get(guest.name), nodes)


class Guest:
    """A guest on this host.

    :param settings: the keys of its configuration; empty where there is none.
    """

    def __init__(self, xen: Xen, name: str, settings: Mapping[str, xl_cfg.Value], config: str) -> None:
        self.xen = xen
        self.name = name
        self.settings = settings
        self.config = config
        self.saved = Saved(name, xen.path(""))
        self.halt = threading.Event()
        self._listened = 0.0
        # Of a name, as xenstore does not take every letter in a path.
        self.key = files.sha256(name.encode())[:32]
        # Whether an earlier run has not heard what it waited for.
        self.unproved = False
        self.uuid: Optional[str] = None
        # The last one that the guest had.
        self._domid: Optional[int] = None
        self.facts: Dict[str, Any] = {
            "state": "absent",
            "domid": None,
            "device_model": None,
            "said": None,
            "console": "",
            "hypervisor_log": [],
            "restart_required": [],
            "seconds": None,
        }

    def observe(self) -> Optional[Domain]:
        """Look for the domain, and take down its state."""
        domain = next((domain for domain in self.xen.domains() if domain.name == self.name), None)
        self._found(domain)
        return domain

    def _found(self, domain: Optional[Domain]) -> None:
        self.facts["state"] = "absent" if domain is None else domains.state(domain.state)
        self.facts["domid"] = None if domain is None else domain.domid
        self._domid = self._domid if domain is None else domain.domid

    def look_inside(self, domain: Domain) -> None:
        """Ask xenstore where the device model runs, and with which configuration the guest was started."""
        observe(self.xen, [domain], [self])

    def take(self, domain: Optional[Domain], nodes: Mapping[str, str]) -> None:
        """Take down what xenstore knows about the domain."""
        self._found(domain)
        if domain is None:
            self.facts["restart_required"] = []
            self.uuid = None
            return
        self.uuid = domains.uuid(nodes, domain.domid)
        self.facts["device_model"] = domains.device_model(nodes, domain.domid)
        self.unproved = nodes.get(PROOF.format(domid=domain.domid)) == _AWAITED
        self.facts["restart_required"] = self._differs(domain, nodes) if self.settings else []

    def _differs(self, domain: Domain, nodes: Mapping[str, str]) -> List[str]:
        written = os.stat(self.config).st_mtime if os.path.exists(self.config) else 0.0
        return record.restart_required(domain.domid, self.uuid, nodes, self.settings, written)

    def interrupted_start(self) -> Optional[str]:
        """Return the fingerprint of what an interrupted start was made with; None if there is none."""
        return self.xen.read(STARTING.format(key=self.key)) if self.facts["state"] == "paused" else None

    def paused_by_us(self) -> bool:
        """Whether the guest is paused because its state was to be so."""
        return self.facts["state"] == "paused" and self.xen.read(PAUSED.format(domid=self.facts["domid"])) is not None

    def has_run(self) -> bool:
        """Whether the guest is there and has run, which one that is being started or restored has not."""
        state = self.facts["state"]
        return state != "absent" and (state != "paused" or self.paused_by_us())

    def require_no_pause(self) -> None:
        """:raises UserError: another program or administrator has paused the guest, and does not let it go."""
        deadline = time.monotonic() + PAUSED_TIMEOUT
        while self.facts["state"] == "paused":
            if time.monotonic() > deadline:
                raise UserError(
                    f"The guest {self.name} is paused, and not by a start that was interrupted: it is left alone.",
                    f"Let it go with `xl unpause {self.name}`, or end it with state stopped and stop force.",
                )
            time.sleep(1)
            self.observe()

    def pause(self) -> None:
        """Pause a guest that runs."""
        self._xl("pause", str(self.facts["domid"]))
        self.xen.write(PAUSED.format(domid=self.facts["domid"]), "1")
        self.observe()

    def unpause(self) -> None:
        """Let a guest go that `pause` has stopped."""
        self._xl("unpause", str(self.facts["domid"]))
        self.xen.remove(PAUSED.format(domid=self.facts["domid"]))
        self.observe()

    def save(self) -> None:
        """Write the guest's memory to a file, and end it.

        :raises UserError: xl cannot, and the guest runs on.
        """
        with self.saved.written() as path:
            self._xl("save", str(self.facts["domid"]), path)
        self.observe()

    def restore(self) -> None:
        """Have the guest go on where it was saved."""
        with self.saved.read() as path:
            self._xl("restore", path)
        domain = self.observe()
        if domain is None:
            raise UserError(
                f"The guest {self.name} went on and has ended already.", f"Look at /var/log/xen/xl-{self.name}.log."
            )
        # With the configuration that it was saved with; which that was the file does not say.
        self.look_inside(domain)

    def reboot(self, timeout: int) -> None:
        """Ask the guest to reboot, and wait until it has a new domain.

        :raises UserError: it does not in time.
        """
        old = self.facts["domid"]
        recorded = self.xen.read(record.RECORD.format(domid=old))
        self._xl("reboot", "-F", str(old))

        def rebooted() -> Optional[Domain]:
            domain = self.observe()
            there = domain is not None and domain.domid != old and self.facts["state"] not in _GONE
            return domain if there else None

        domain = self._wait(
            rebooted,
            timeout,
            "rebooted within {:.0f} seconds of `xl reboot`",
            "Raise stop_timeout, or use state restarted, which starts it with its configuration again.",
        )
        if recorded is not None:
            # xl starts it with what it was started with the first time, whatever the file is by now.
            self.xen.write(record.RECORD.format(domid=domain.domid), recorded)
        self.look_inside(domain)

    def _xl(self, *words: str) -> None:
        status, _output, errors = self.xen.xl(*words)
        if status != 0:
            raise UserError(
                f"`xl {words[0]} {self.name}` failed: {toolstack_error(errors)}",
                f"Look at `xl list` and /var/log/xen/xl-{self.name}.log.",
            )

    def _wait(self, done: Callable[[], Optional[_Answer]], timeout: int, what: str, remedy: str) -> _Answer:
        """Ask every second until there is an answer.

        :param what: what the guest has not done; it takes the seconds that were waited.
        :raises UserError: there is none in time.
        """
        begin = time.monotonic()
        while True:
            answer = done()
            if answer is not None:
                return answer
            waited = time.monotonic() - begin
            self._may_go_on()
            if waited > timeout:
                raise UserError(f"The guest {self.name} has not {what.format(waited)}.", remedy)
            time.sleep(1)

    def _may_go_on(self) -> None:
        if self.halt.is_set():
            raise Halted

    def start(self, *, awaited: bool, paused: bool = False) -> Listening:
        """Start the guest paused, look at it, and let it go with its console open.

        :param awaited: whether it is to be listened to until it writes a text.
        :param paused: whether it is to stay paused.
        """
        before = self.xen.dmesg()
        started_with = record.fingerprint(self.settings)
        self.xen.write(STARTING.format(key=self.key), started_with)
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
        return self._release(before, started_with, awaited=awaited, paused=paused)

    def go_on(self, started_with: str, *, awaited: bool) -> Listening:
        """Look at a guest that an interrupted start has left paused, and let it go with its console open.

        :param started_with: the record of the configuration that it was created with.
        """
        return self._release(self.xen.dmesg(), started_with, awaited=awaited, paused=False)

    def _release(self, before: str, started_with: str, *, awaited: bool, paused: bool) -> Listening:
        with self._taken_back(before):
            domain = self.observe()
            if domain is None:
                raise UserError(f"xl has created no domain {self.name}.", f"Look at /var/log/xen/xl-{self.name}.log.")
            self.look_inside(domain)
            self.xen.write(record.RECORD.format(domid=domain.domid), started_with)
            self.facts["restart_required"] = record.differing(started_with, self.settings)
            self.require_stub_domain()
            console = Console(self._tty(domain.domid))
            self.xen.write(PROOF.format(domid=domain.domid), _AWAITED if awaited else _NOTHING)
        try:
            if paused:
                self.xen.write(PAUSED.format(domid=domain.domid), "1")
            else:
                self.xen.xl("unpause", str(domain.domid))
            self.xen.remove(STARTING.format(key=self.key))
        except BaseException:
            console.close()
            raise
        return Listening(domain, console, before)

    def listen(self) -> Listening:
        """Open the console of a guest that runs, and that an earlier run has not heard say what it was to say."""
        domain = self.observe()
        if domain is None:
            raise UserError(f"The guest {self.name} has ended.", f"Look at /var/log/xen/xl-{self.name}.log.")
        return Listening(domain, Console(self._tty(domain.domid)), self.xen.dmesg())

    def hear(self, listening: Listening, says: Optional[str], timeout: int) -> None:
        """Listen until the guest has written a text, and leave its console to others.

        :raises UserError: it has not written it.
        """
        domain, console = listening.domain, listening.console
        try:
            if says is not None:
                begin = time.monotonic()
                self.facts["said"] = console.listen(says, timeout, lambda: self._terminal(domain.domid))
                self._listened = time.monotonic() - begin
            self.facts["console"] = console.heard[-SHOWN:]
            present = self.observe()
            if self.facts["said"] and present is not None and present.domid == domain.domid:
                self.xen.write(PROOF.format(domid=domain.domid), _HEARD)
        finally:
            console.close()
            self._log(listening.before)
        self.require_words(says)

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
            if isinstance(error, UserError):
                self._log(before)
            raise

    def require_words(self, says: Optional[str]) -> None:
        """:raises UserError: the guest did not say what it was to say."""
        if says is None or self.facts["said"]:
            return
        alive = self.facts["state"] not in ("absent", *_GONE)
        when = f"within {self._listened:.0f} seconds"
        end = when if alive else f"before it ended, {when}"
        final = last(self.facts["console"])
        words = f"its last words were {final!r}" if final else "it wrote nothing"
        log = self.facts["hypervisor_log"][-1] if self.facts["hypervisor_log"] else ""
        words += f", the hypervisor's {log!r}" if log else ""
        meaning = next((f": {meaning}" for known, meaning in _KNOWN if re.search(known, f"{final} {log}")), "")
        raise UserError(
            f"The guest {self.name} did not say {says!r} {end}; {words}{meaning}.",
            f"It was left running, and the next run listens again: look at it with `xl console {self.name}`, raise "
            "timeout, or have it start again with state restarted."
            if alive
            else f"Look at /var/log/xen/xl-{self.name}.log and `xl dmesg`.",
        )

    def require_stub_domain(self) -> None:
        """:raises UserError: the device model is not where the configuration says."""
        model = self.facts["device_model"]
        if not virtualisation.stubbed(self.settings):
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

    def end(self, timeout: int, *, force: bool) -> None:
        """Shut the guest down or destroy it, and wait until it and its stub domain have gone.

        :param timeout: seconds.
        :raises UserError: xl cannot, or the guest is still there then.
        """
        domain = self.observe()
        if domain is None:
            return
        self.look_inside(domain)
        model = self.facts["device_model"] or {"domid": 0}
        # -F: a guest without Xen's drivers is sent the power button instead.
        words = ("destroy",) if force else ("shutdown", "-F")
        if self.facts["state"] not in _GONE or force:
            self._xl(*words, str(domain.domid))

        def ended() -> Optional[bool]:
            left = {other.domid: domains.state(other.state) for other in self.xen.domains()}
            gone = domain.domid not in left and (not model["domid"] or model["domid"] not in left)
            return gone or (not force and left.get(domain.domid) in ("shutdown", "crashed")) or None

        self._wait(
            ended,
            timeout,
            f"ended within {{:.0f}} seconds of `xl {words[0]}`",
            "Raise stop_timeout, or end it at once with stop force.",
        )
        self.observe()
        self.facts.update(device_model=None, restart_required=[])

    def _terminal(self, domid: int) -> Optional[str]:
        """Return the terminal that a guest has now, empty for none at the moment; None after the guest's end."""
        self._may_go_on()
        states = {domain.domid: domains.state(domain.state) for domain in self.xen.domains()}
        if states.get(domid, "dying") in _GONE:
            return None
        return self.xen.read(self._tty_path(domid)) or ""

    def _tty_path(self, domid: int) -> str:
        if virtualisation.stubbed(self.settings):
            # Consoles 0 to 2 of a stub domain are its log, save and restore; then come the guest's serial ports.
            return f"/local/domain/{self.facts['device_model']['domid']}/device/console/3/tty"
        if virtualisation.hvm(self.settings):
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
            if line.strip() and not _NOISE.search(line) and self._of_this(line)
        ]

    def _of_this(self, line: str) -> bool:
        """Whether a line of the log is not about another domain only; others may start at the same time."""
        model = self.facts["device_model"] or {}
        own = {self._domid, model.get("domid") or None}
        named = {int(number) for number in _DOMAIN.findall(line)}
        return not named or not own - {None} or bool(named & own)


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
