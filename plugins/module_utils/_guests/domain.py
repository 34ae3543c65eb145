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
from typing import Any, Callable, Collection, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, TypeVar

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import (
    diagnosis,
    disks,
    live,
    plan,
    record,
    virtualisation,
    waiting,
)
from ansible_collections.xen.stubdom.plugins.module_utils._guests.moved import Moved
from ansible_collections.xen.stubdom.plugins.module_utils._guests.saved import Saved
from ansible_collections.xen.stubdom.plugins.module_utils._xen import domains, xl_cfg
from ansible_collections.xen.stubdom.plugins.module_utils._xen.console import Console, new_lines, visible
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import PATIENCE, Domain, Xen

_Answer = TypeVar("_Answer")

# Whether the guest has written the text that it was to write when it was started; beside the record.
PROOF = "/libxl/{domid}/xen-stubdom-proof"
_AWAITED, _HEARD, _NOTHING = "awaited", "heard", "nothing"

# Beside the record of a guest that was paused because its state is to be so.
PAUSED = "/libxl/{domid}/xen-stubdom-paused"

# From before a guest is created until it is let go: the record of its configuration. Whoever finds a paused guest
# and this node finds a start that was interrupted.
STARTING = "/tool/xen-stubdom/starting/{key}"

# How much of a console is returned.
SHOWN = 4000

# How long the toolstack may take to say which terminal is the guest's, in seconds.
TTY_TIMEOUT = 15.0

# How long a guest may be paused by a toolstack that starts, saves or migrates it, in seconds.
PAUSED_TIMEOUT = 30.0

# How long a guest may take to follow a change, such as to give memory back, and how often that is looked at, in
# seconds.
LIVE_TIMEOUT = 30.0
LOOK = 0.5

# What the hypervisor logs at every start of an HVM guest (hvm_save and hvm_load, xen/common/hvm/save.c).
_NOISE = re.compile(r"HVM ?(?:d\d+(?:v\d+)? save|restore d\d+|\d+ restore)")
# How its lines name domains.
_DOMAIN = re.compile(r"\bd(?:om)?(\d{1,5})(?:v\d+)?\b")

# Keys that name files in dom0.
MADE_OF = ("kernel", "ramdisk", "stubdomain_kernel", "stubdomain_ramdisk", "firmware_override", "device_model_override")

# What libxl starts stub domains from, unless it is told otherwise (libxl__domain_build_info_setdefault).
_STUB_KERNELS = ("qemu-stubdom-linux-kernel", "ioemu-stubdom.gz")

ENDED = ("absent", "shutdown", "crashed")
# How often xl is given time to take away a domain that has ended, which it does not where on_poweroff is preserve.
_KEPT = 5


@dataclass(frozen=True)
class Listening:
    """A guest that was let go with its console open.

    :param before: the hypervisor's log from before its start.
    """

    domain: Domain
    console: Console
    before: str


class Taken(UserError):
    """Another program has started the guest before this one could."""


class Halted(BaseException):
    """This process is to end: what is half started is taken back."""


def observe(xen: Xen, rows: Sequence[Domain], guests: Sequence[Guest]) -> None:
    """Look at all these guests at once.

    :param rows: every domain.
    """
    starting = {*xen.children(os.path.dirname(STARTING))}
    by_name = {row.name: row for row in rows}
    there = [(guest, by_name[guest.name]) for guest in guests if guest.name in by_name]
    domids = [domain.domid for _guest, domain in there]
    nodes = domains.nodes_of(xen, domids)
    nodes.update(xen.read_many([path.format(domid=domid) for domid in domids for path in (record.RECORD, PROOF)]))
    if any(record.RECORD.format(domid=domid) not in nodes for domid in domids):
        nodes.update(record.latest(xen))
        nodes.update(record.carried(xen, [domain for _guest, domain in there], nodes))
    unrecorded = [domid for domid in domids if record.RECORD.format(domid=domid) not in nodes]
    nodes.update(xen.read_many([f"/vm/{domains.uuid(nodes, domid)}/start_time" for domid in unrecorded]))
    for guest in guests:
        guest.starting = guest.key in starting
        guest.take(by_name.get(guest.name), nodes)
        guest.find_left_stub_domain(by_name)


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
        self.moved = Moved(name, xen.path(""))
        self.halt = threading.Event()
        self._listened = 0.0
        self.key = record.key(name)
        # Whether it is being started, or an earlier run was killed as it was.
        self.starting = False
        # The number of a stub domain that is there without the guest.
        self.left_stub_domain: Optional[int] = None
        # Whether an earlier run has not heard what it waited for.
        self.unproved = False
        self.uuid: Optional[str] = None
        # What it was started with, where that is recorded, and its row of `xl list`.
        self.recorded: Optional[str] = None
        self.row: Optional[Domain] = None
        # What changes it while it runs, by key of xl.cfg.
        self.changes: Dict[str, List[live.Command]] = {}
        # The last one that the guest had.
        self._domid: Optional[int] = None
        self.facts: Dict[str, Any] = {
            "state": "absent",
            "domid": None,
            "device_model": None,
            "said": None,
            "address": None,
            "console": "",
            "hypervisor_log": [],
            "toolstack_log": [],
            "restart_required": [],
            "changed_live": [],
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
        self.row = domain

    def look_inside(self, domain: Domain) -> None:
        """Ask xenstore where the device model runs, and with which configuration the guest was started."""
        observe(self.xen, [domain], [self])

    def take(self, domain: Optional[Domain], nodes: Mapping[str, str]) -> None:
        """Take down what xenstore knows about the domain."""
        self._found(domain)
        self.recorded = None
        if domain is None:
            self.facts["restart_required"] = []
            self.uuid = None
            return
        self.recorded = nodes.get(record.RECORD.format(domid=domain.domid))
        self.uuid = domains.uuid(nodes, domain.domid)
        self.facts["device_model"] = domains.device_model(nodes, domain.domid)
        self.unproved = nodes.get(PROOF.format(domid=domain.domid)) == _AWAITED
        self.facts["restart_required"] = self._differs(domain, nodes) if self.settings else []

    def _differs(self, domain: Domain, nodes: Mapping[str, str]) -> List[str]:
        written = os.stat(self.config).st_mtime if os.path.exists(self.config) else 0.0
        return record.restart_required(domain.domid, self.uuid, nodes, self.settings, written)

    def runs_with(self, settings: Mapping[str, xl_cfg.Value], uuid: Optional[str]) -> None:
        """Record that the guest's domain, which another program started, runs with this configuration.

        Nothing is recorded of a domain that is another one, or that was started with an older configuration.
        """
        if self.facts["domid"] is not None and self.uuid == uuid and not self.facts["restart_required"]:
            record.write(self.xen, self.name, self.facts["domid"], record.of(settings).text)

    def interrupted_start(self) -> Optional[str]:
        """Return the record of what an interrupted start was made with; None if there is none."""
        if not self.starting or self.facts["state"] != "paused" or self.paused_by_us():
            return None
        return self.xen.read(STARTING.format(key=self.key))

    def forget_start(self) -> None:
        """Take it down that a start has ended, which a run that was killed has not."""
        self.xen.remove(STARTING.format(key=self.key))

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
        with self.saved.written(self.recorded) as path:
            self._xl("save", str(self.facts["domid"]), path)
        record.forget(self.xen, self.name)
        self.observe()

    def restore(self) -> None:
        """Have the guest go on where it was saved, and find what of it can be changed then."""
        recorded = self.saved.record()
        with self.saved.read() as path:
            self._xl("restore", path)
        domain = self.observe()
        if domain is None:
            raise UserError(
                f"The guest {self.name} went on and has ended already.", f"Look at /var/log/xen/xl-{self.name}.log."
            )
        # With the configuration that it was saved with, whatever the file is by now.
        if recorded is not None:
            record.write(self.xen, self.name, domain.domid, recorded)
        self.look_inside(domain)
        self.find_changes()

    def reboot(self, timeout: int) -> None:
        """Ask the guest to reboot, and wait until it has a new domain.

        :raises UserError: it does not in time.
        """
        old = self.facts["domid"]
        recorded = self.xen.read(record.RECORD.format(domid=old))
        self._xl("reboot", "-F", str(old))

        def rebooted() -> Optional[Domain]:
            domain = self.observe()
            # xl makes the new domain paused, as any.
            there = domain is not None and domain.domid != old and self.facts["state"] not in (*domains.GONE, "paused")
            return domain if there else None

        domain = self._wait(
            rebooted,
            timeout,
            "rebooted within {:.0f} seconds of `xl reboot`",
            "Raise stop_timeout, or use state restarted, which starts it with its configuration again.",
        )
        if recorded is not None:
            # xl starts it with what it was started with the first time, whatever the file is by now.
            record.write(self.xen, self.name, domain.domid, recorded)
        self.look_inside(domain)

    def foresee_restore(self) -> Dict[str, List[live.Command]]:
        """Find which keys will differ when the guest goes on where it was saved, and may be changed then."""
        recorded = self.saved.record()
        required = [] if recorded is None else record.differing(recorded, self.settings)
        self.facts["restart_required"] = required
        self.changes = {key: [] for key in live.may(required)}
        return self.changes

    def find_changes(self) -> Dict[str, List[live.Command]]:
        """Find which of the keys that differ can be changed while the guest runs, and how."""
        required = self.facts["restart_required"]
        self.changes = {}
        if self.row is not None and self.recorded is not None and live.may(required):
            self.changes = live.commands(live.look(self.xen, self.row, self.recorded, self.settings), required)
        return self.changes

    @property
    def growth_mib(self) -> int:
        """The memory that the host has to have for these changes."""
        wanted = plan.memory_mib(self.settings) if "memory" in self.changes else 0
        return max(0, wanted - self.row.memory_mib) if self.row is not None and wanted else 0

    def change(self) -> List[str]:
        """Change the guest while it runs, and take down what was changed.

        :return: what could not be, in sentences.
        """
        row, recorded = self.row, self.recorded
        if row is None or recorded is None:
            return []
        before = live.look(self.xen, row, recorded, self.settings)
        now = before.started
        said = []
        for key, commands in self.changes.items():
            problem = self._change(before, key, commands)
            if problem is not None:
                said.append(
                    f"The guest {self.name} runs on without the change of {key}: {problem} It needs a restart for "
                    "that; with live set to false this is not tried."
                )
                continue
            numbers = {*self.xen.children(f"/libxl/{row.domid}/device/vif")} if key == "vif" else before.nics
            nics = live.nics_now(before, {*numbers}) if key == "vif" else now.nics
            now = record.changed(now, self.settings, key, nics)
            record.write(self.xen, self.name, row.domid, now.text)
            self.facts["changed_live"].append(key)
        domain = self.observe()
        if domain is not None:
            self.look_inside(domain)
        return said

    def _change(self, before: live.Running, key: str, commands: Sequence[live.Command]) -> Optional[str]:
        """Make one change; return why it could not be made, None where it was."""
        for command in commands:
            words = [word.format(before.domain.domid) if word == "{}" else word for word in command]
            status, _output, errors = self.xen.xl(*words, timeout=PATIENCE)
            if status != 0:
                return f"`xl {command[0]}` failed: {diagnosis.toolstack_error(errors)}"
        deadline = time.monotonic() + LIVE_TIMEOUT
        while True:
            domain = next((row for row in self.xen.domains() if row.domid == before.domain.domid), None)
            if domain is None:
                return "it has ended."
            if live.is_made(self.xen, before, domain, key):
                return None
            self._may_go_on()
            if time.monotonic() > deadline:
                return f"{LIVE_TIMEOUT:.0f} seconds after `xl {commands[-1][0]}` the hypervisor does not show it."
            time.sleep(LOOK)

    def _xl(self, *words: str) -> None:
        status, _output, errors = self.xen.xl(*words)
        if status != 0:
            raise UserError(
                f"`xl {words[0]} {self.name}` failed: {diagnosis.toolstack_error(errors)}",
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
        made_with = record.of(self.settings).text
        interrupted = self.starting
        self.remove_left_stub_domain()
        self.xen.write(STARTING.format(key=self.key), made_with)
        try:
            self._create(before)
        except Taken:
            # xl creates one guest at a time: what has the name now is whole.
            if not interrupted:
                self.forget_start()
                raise
            # It was still being created for a run that was killed.
            self._xl("destroy", self.name)
            self._create(before)
        return self._release(before, made_with, awaited=awaited, paused=paused)

    def _create(self, before: str) -> None:
        """Have xl create the guest's domain, paused.

        :raises Taken: there is one of that name by now, which is another program's.
        """
        begin = time.monotonic()
        with self._taken_back(before):
            status, _output, errors = self.xen.xl("create", "-p", self.config)
            self.facts["seconds"] = round(time.monotonic() - begin, 1)
            if status == 0:
                return
            self.facts["toolstack_log"] = diagnosis.toolstack_lines(visible(errors))
            why = f"`xl create {self.config}` failed: {diagnosis.toolstack_error(errors)}"
            why += self._last_words() if "evice model" in errors else ""
            # libxl__domain_rename, libxl.c
            if re.search(rf'with name "{re.escape(self.name)}" already exists', errors):
                raise Taken(why, "Another program has started it meanwhile: run again to compare it.")
            logs = f"/var/log/xen/qemu-dm-{self.name}.log and xl-{self.name}.log there"
            raise UserError(why, f"Nothing was left running; look at {logs}.")

    def _last_words(self) -> str:
        log = self.xen.text(f"/var/log/xen/qemu-dm-{self.name}.log", 1 << 16) or ""
        words = diagnosis.quoted(diagnosis.last(visible(log)))
        return f" QEMU's last words were {words}." if words else ""

    def find_left_stub_domain(self, by_name: Mapping[str, Domain]) -> None:
        """Take down the stub domain whose guest has gone: xl leaves it where QEMU cannot be started in it, and where xl
        was killed before it had told xenstore that the two belong together (libxl__spawn_stub_dm, libxl_dm.c)."""
        row = by_name.get(f"{self.name}-dm")
        self.left_stub_domain = None
        if row is None or self.name in by_name or not self._may_be_stubbed():
            return
        home = f"/local/domain/{row.domid}"
        if self.xen.read(f"{home}/target") in {str(other.domid) for other in by_name.values()}:
            return
        kernel = self.xen.read(f"{self.xen.read(f'{home}/vm')}/image/kernel") or ""
        known = kernel == self.settings.get("stubdomain_kernel") or os.path.basename(kernel) in _STUB_KERNELS
        # Until it has its kernel, nothing but its name tells what it is.
        if known or (self.starting and not kernel):
            self.left_stub_domain = row.domid

    def remove_left_stub_domain(self) -> None:
        """Take away a stub domain whose guest has gone."""
        if not self._may_be_stubbed():
            return
        self.find_left_stub_domain({row.name: row for row in self.xen.domains()})
        if self.left_stub_domain is not None:
            self.xen.xl("destroy", str(self.left_stub_domain))
            self.left_stub_domain = None

    def sweep(self) -> None:
        """The same, and take it down that the start which has left it is over."""
        self.remove_left_stub_domain()
        self.forget_start()

    def _may_be_stubbed(self) -> bool:
        # There are no settings where the guest is to be absent.
        return not self.settings or virtualisation.stubbed(self.settings)

    def go_on(self, made_with: str, *, awaited: bool) -> Listening:
        """Look at a guest that an interrupted start has left paused, and let it go with its console open.

        :param made_with: the record of the configuration that it was created with.
        """
        return self._release(self.xen.dmesg(), made_with, awaited=awaited, paused=False)

    def _release(self, before: str, made_with: str, *, awaited: bool, paused: bool) -> Listening:
        with self._taken_back(before):
            domain = self.observe()
            if domain is None:
                raise UserError(f"xl has created no domain {self.name}.", f"Look at /var/log/xen/xl-{self.name}.log.")
            self.look_inside(domain)
            record.write(self.xen, self.name, domain.domid, made_with)
            self.facts["restart_required"] = record.differing(made_with, self.settings)
            self.require_stub_domain()
            console = Console(self._tty(domain.domid))
            self.xen.write(PROOF.format(domid=domain.domid), _AWAITED if awaited else _NOTHING)
        try:
            if paused:
                self.xen.write(PAUSED.format(domid=domain.domid), "1")
            else:
                self.xen.xl("unpause", str(domain.domid))
                self._require_living_stub_domain(domain.domid, before)
            self.forget_start()
        except BaseException:
            console.close()
            raise
        return Listening(domain, console, before)

    def _require_living_stub_domain(self, domid: int, before: str) -> None:
        """Take a guest back whose QEMU has said that it runs and has ended. Seen with 4.17: `xl unpause` leaves the
        guest paused then, and reports no error."""
        if self._stub_domain_has_ended(self._rows(), domid):
            with self._taken_back(before):
                raise UserError(
                    f"The stub domain of {self.name} has ended as the guest was let go.{self._last_words()}",
                    f"Nothing was left running; look at /var/log/xen/qemu-dm-{self.name}.log.",
                )

    def _rows(self) -> Dict[int, Domain]:
        return {row.domid: row for row in self.xen.domains()}

    def _stub_domain_has_ended(self, rows: Mapping[int, Domain], domid: int) -> bool:
        """Whether it has, and the domain of the guest that it was made for has not."""
        model = self.facts["device_model"]
        if model is None or not model["stub_domain"]:
            return False
        return self._has_gone(rows, model["domid"]) and not self._has_gone(rows, domid)

    @staticmethod
    def _has_gone(rows: Mapping[int, Domain], domid: int) -> bool:
        return domid not in rows or domains.state(rows[domid].state) in domains.GONE

    def listen(self) -> Listening:
        """Open the console of a guest that runs, and that an earlier run has not heard say what it was to say."""
        domain = self.observe()
        if domain is None:
            raise UserError(f"The guest {self.name} has ended.", f"Look at /var/log/xen/xl-{self.name}.log.")
        return Listening(domain, Console(self._tty(domain.domid)), self.xen.dmesg())

    def hear(self, listening: Listening, awaited: Optional[Tuple[str, Any]], timeout: int) -> None:
        """Listen until what is waited for has come, and leave the guest's console to others.

        :param awaited: the name of a condition of waiting.py, and its value.
        :raises UserError: it has not come.
        """
        domain, console = listening.domain, listening.console
        try:
            if awaited is not None:
                begin = time.monotonic()
                until = waiting.CONDITIONS[awaited[0]].until(self, domain.domid, awaited[1])
                self.facts["said"] = console.listen(until, timeout, lambda: self._terminal(domain.domid))
                self._listened = time.monotonic() - begin
            self.facts["console"] = console.heard[-SHOWN:]
            present = self.observe()
            if self.facts["said"] and present is not None and present.domid == domain.domid:
                self.xen.write(PROOF.format(domid=domain.domid), _HEARD)
        finally:
            console.close()
            self._log(listening.before)
        self._require_awaited(awaited, domain.domid)

    @contextlib.contextmanager
    def _taken_back(self, before: str) -> Iterator[None]:
        """Leave no guest that was created and not let go, whatever happens: a signal, too."""
        try:
            yield
        except Taken:
            raise
        except BaseException as error:
            if self.observe() is not None:
                self.xen.xl("destroy", self.name)
                self.observe()
            self.remove_left_stub_domain()
            self.forget_start()
            record.forget(self.xen, self.name)
            if isinstance(error, UserError):
                self._log(before)
            raise

    def _require_awaited(self, awaited: Optional[Tuple[str, Any]], domid: int) -> None:
        """:raises UserError: what the guest was waited for has not come."""
        if awaited is None or self.facts["said"]:
            return
        before, model = "", ""
        if self._stub_domain_has_ended(self._rows(), domid):
            before, model = "before its stub domain ended, ", self._last_words()
            logs = f"/var/log/xen/qemu-dm-{self.name}.log"
            remedy = f"Look at {logs}, and have the guest start again with state restarted."
        elif self.facts["state"] in ("absent", *domains.GONE):
            before = "before it ended, "
            remedy = f"Look at /var/log/xen/xl-{self.name}.log and `xl dmesg`."
        else:
            remedy = (
                f"It was left running, and the next run waits again: look at it with `xl console {self.name}`, raise "
                "timeout, or have it start again with state restarted."
            )
        final = diagnosis.last(self.facts["console"])
        words = f"its last words were {diagnosis.quoted(final)}" if final else "it wrote nothing"
        log = self.facts["hypervisor_log"][-1] if self.facts["hypervisor_log"] else ""
        words += f", the hypervisor's {log!r}" if log else ""
        meaning = diagnosis.shown("\n".join([*final, log]))
        missed = waiting.CONDITIONS[awaited[0]].missed.format(awaited[1])
        raise UserError(
            f"The guest {self.name} {missed} {before}within {self._listened:.0f} seconds; {words}"
            f"{': ' if meaning else ''}{meaning}.{model}",
            remedy,
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

    def end(self, timeout: int, *, force: bool, again: bool = False) -> None:
        """Shut the guest down or destroy it, and wait until it and its stub domain have gone.

        :param timeout: seconds.
        :param again: whether it is started afterwards.
        :raises UserError: xl cannot, or the guest is still there then.
        """
        domain = self.observe()
        if domain is None:
            return
        self.look_inside(domain)
        model = self.facts["device_model"] or {"domid": 0}
        # -F: a guest without Xen's drivers is sent the power button instead.
        words = ("destroy",) if force else ("shutdown", "-F")
        if self.facts["state"] not in domains.GONE or force:
            self._xl(*words, str(domain.domid))

        kept = 0

        def ended() -> Optional[bool]:
            nonlocal kept
            left = {other.domid: domains.state(other.state) for other in self.xen.domains()}
            gone = domain.domid not in left and (not model["domid"] or model["domid"] not in left)
            over = left.get(domain.domid) in ("shutdown", "crashed")
            kept += over
            if again and over and kept == _KEPT:
                self.xen.xl("destroy", str(domain.domid))
            return gone or (over and not force and not again) or None

        self._wait(
            ended,
            timeout,
            f"ended within {{:.0f}} seconds of `xl {words[0]}`",
            "Raise stop_timeout, or end it at once with stop force.",
        )
        if self.starting:
            self.remove_left_stub_domain()
        self.forget_start()
        record.forget(self.xen, self.name)
        self.observe()
        self.facts.update(device_model=None, restart_required=[])

    def _terminal(self, domid: int) -> Optional[str]:
        """Return the terminal that a guest has now, empty for none at the moment; None after the guest's end."""
        self._may_go_on()
        rows = self._rows()
        if self._has_gone(rows, domid) or self._stub_domain_has_ended(rows, domid):
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


def require_files(xen: Xen, guest: Guest, made: Collection[str] = ()) -> None:
    """:raises UserError: a file that the configuration names is not there.

    :param made: paths that are written before the guest starts.
    """
    wanted = guest.settings.get("disk", [])
    named = [disks.target(disk) for disk in wanted if isinstance(disk, str)] if isinstance(wanted, list) else []
    named += [str(guest.settings[key]) for key in MADE_OF if key in guest.settings]
    for path in named:
        if path is not None and path not in made and not os.path.exists(xen.path(path)):
            raise UserError(
                f"{path} does not exist, and the guest {guest.name} is made of it.",
                f"Make it, or correct {guest.config}.",
            )
