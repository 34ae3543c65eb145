# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the only code that calls xl and xenstore, and reads what Xen shows in files.

from __future__ import annotations

import glob
import os
import re
import time
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence, TypeVar

from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions
from ansible_collections.xen.stubdom.plugins.module_utils._common.distributions import Distribution
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError, needs_root
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Answer, Runner, last_line
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version

CAPABILITIES = "/proc/xen/capabilities"
HYPERVISOR_TYPE = "/sys/hypervisor/type"
COMMAND_LINE = "/proc/cmdline"

# libxl carries the release of the toolstack in its name (tools/libs/light/Makefile, MAJOR).
_LIBXL_RELEASE = re.compile(r"\.so\.(4)\.(\d+)$")

# How often xl is asked whose answer cannot be right, and how long to wait before it is asked again, in seconds.
ATTEMPTS = 4
PAUSE = 0.5

# How long a question may take, in seconds: without xenstored, xl and xenstore's programs wait for ever.
PATIENCE = 120.0

# How many nodes of xenstore are read by one program: its arguments have room for many more.
_AT_ONCE = 2000

_CHECK_XENSTORED = "Check that xenstored runs."

_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True)
class Domain:
    """One row of `xl list`. Memory is in MiB; state is xl's six letters without the dashes."""

    domid: int
    name: str
    memory_mib: int
    vcpus: int
    state: str


class Xen:
    """The hypervisor and the toolstack of this host.

    :param run: runs a program.
    :param root: where the kernel's own file systems are found; only tests give another one.
    """

    def __init__(self, run: Runner, *, root: str = "/") -> None:
        self.run = run
        self._root = root
        self._info: Optional[Dict[str, str]] = None

    @property
    def distribution(self) -> Distribution:
        """The distribution of this host."""
        return distributions.detect(self._root)

    def is_dom0(self) -> bool:
        """Whether this machine is the control domain of a running hypervisor."""
        return "control_d" in (self.text(CAPABILITIES) or "")

    def is_guest(self) -> bool:
        """Whether this machine is itself an unprivileged domain."""
        return (self.text(HYPERVISOR_TYPE) or "").strip() == "xen" and not self.is_dom0()

    def require_dom0(self) -> None:
        """:raises UserError: this machine does not run Xen with us in control."""
        if self.is_dom0():
            return
        if self.is_guest():
            raise UserError(
                "This machine is a guest of Xen, not its control domain (dom0).",
                "Run this against the Xen host itself.",
            )
        raise UserError(
            f"This host does not run Xen: {CAPABILITIES} does not contain control_d.",
            f"Install {distributions.install_hint('hypervisor', self.distribution)}, reboot into it, then run again.",
        )

    def info(self) -> Dict[str, str]:
        """Return `xl info` as a dictionary, read once.

        :raises UserError: xl is missing, fails or gives no complete answer.
        """
        if self._info is None:
            remedy = f"Start {distributions.start_hint(self.distribution)}."
            self._info = self._ask(["xl", "info"], parse_info, remedy)
        return self._info

    def command_line(self) -> str:
        """The command line that the running hypervisor was started with."""
        return self.info().get("xen_commandline", "")

    def dom0_command_line(self) -> str:
        """The command line that the Linux of this domain was started with."""
        return (self.text(COMMAND_LINE) or "").strip()

    def version(self) -> Version:
        """Release of the running hypervisor, as in (4, 20)."""
        info = self.info()
        return int(info["xen_major"]), int(info["xen_minor"])

    def total_memory_mib(self) -> int:
        """Memory of the whole host in MiB."""
        return int(self.info()["total_memory"])

    def free_memory_mib(self) -> int:
        """Memory that no domain has, in MiB."""
        return int(self.info()["free_memory"])

    def domains(self) -> List[Domain]:
        """Every domain, dom0 and stub domains among them.

        :raises UserError: xl is missing, fails or gives no complete answer.
        """
        return self._ask(["xl", "list"], parse_list, "Look at `xl dmesg`.")

    def domid(self, name: str) -> Optional[int]:
        """Number of the domain called *name*, None if there is none."""
        return next((domain.domid for domain in self.domains() if domain.name == name), None)

    def _ask(self, arguments: List[str], parse: Callable[[str], _Parsed], remedy: str) -> _Parsed:
        """Return the answer of a program; one that cannot be right is no answer, and is asked for again."""
        command, problem = " ".join(arguments), ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE)
            status, output, errors = self._program(arguments, timeout=PATIENCE)
            if status != 0:
                raise _failed(command, errors, remedy)
            try:
                return parse(output)
            except ValueError as error:
                problem = str(error)
        raise UserError(
            f"`{command}` gave {ATTEMPTS} answers that cannot be right: {problem}.",
            f"Run `{command}` by hand on this host, and run again when it is complete.",
        )

    def _program(self, arguments: List[str], *, timeout: Optional[float] = None) -> Answer:
        try:
            return self.run(arguments, timeout=timeout)
        except FileNotFoundError as error:
            purpose = "toolstack" if arguments[0] == "xl" else "xenstore"
            raise UserError(
                f"There is no {arguments[0]} on this host, or this user may not look where it is."
                if needs_root()
                else f"There is no {arguments[0]} on this host.",
                needs_root() or f"Install {distributions.install_hint(purpose, self.distribution)}.",
            ) from error

    def read(self, path: str) -> Optional[str]:
        """Value of a xenstore node, None if there is no such node."""
        status, output, _errors = self._program(["xenstore-read", path], timeout=PATIENCE)
        return output.rstrip("\n") if status == 0 else None

    def read_many(self, paths: Sequence[str]) -> Dict[str, str]:
        """Values of xenstore nodes by path, in as few calls as can be; a node that is not there is left out.

        xenstore-read prints a line for each, made printable, and ends at the first that is not there (perform and
        sanitise_value, xenstore_client.c @ stable-4.2 ... stable-4.22).

        :raises UserError: it fails otherwise.
        """
        found: Dict[str, str] = {}
        left = list(paths)
        while left:
            part = left[:_AT_ONCE]
            status, output, errors = self._program(["xenstore-read", *part], timeout=PATIENCE)
            lines = output.split("\n")[:-1]
            read = len(lines)
            if read > len(part) or (status == 0) != (read == len(part)):
                raise UserError(f"`xenstore-read` printed {read} values for {len(part)} nodes.", "Run again.")
            if status != 0 and f"couldn't read path {part[read]}" not in errors:
                raise _failed("xenstore-read", errors, _CHECK_XENSTORED)
            found.update(zip(part, lines))
            left = left[read + (status != 0) :]
        return found

    def children(self, path: str) -> List[str]:
        """The names of the nodes below one; none where it is not there.

        :raises UserError: xenstore-ls fails for another reason, of which it prints the text of errno (err(3)).
        """
        status, output, errors = self._program(["xenstore-ls", "-f", path], timeout=PATIENCE)
        if status != 0 and "No such file or directory" not in errors:
            raise _failed("xenstore-ls", errors, _CHECK_XENSTORED)
        names = re.findall(rf"^{path}/([^/ ]+)", output, re.MULTILINE)
        return list(dict.fromkeys(names)) if status == 0 else []

    def nodes(self) -> Dict[str, str]:
        """Every node of xenstore with its value, by full path, in one call.

        :raises UserError: xenstore's program is missing, fails or gives no complete answer.
        """
        return self._ask(["xenstore-ls", "-f", "/"], parse_xenstore_ls, _CHECK_XENSTORED)

    def write(self, path: str, value: str) -> None:
        """Give a xenstore node a value.

        :raises UserError: xenstore does not accept it.
        """
        status, _output, errors = self._program(["xenstore-write", path, value], timeout=PATIENCE)
        if status != 0:
            raise UserError(f"xenstore does not accept {path}: {last_line(errors)}.", needs_root() or _CHECK_XENSTORED)

    def remove(self, path: str) -> None:
        """Remove a xenstore node; one that is not there is none."""
        self._program(["xenstore-rm", path], timeout=PATIENCE)

    def xl(self, *arguments: str, timeout: Optional[float] = None) -> Answer:
        """Run xl.

        :param timeout: seconds after which it is killed; None waits as long as it takes.
        :raises UserError: there is no xl on this host, or it did not end in time.
        """
        return self._program(["xl", *arguments], timeout=timeout)

    def dry_run(self, content: bytes) -> List[str]:
        """Have xl read a guest's configuration as for a start, and start nothing.

        It tells what xl's parser refuses and much of what it ignores, but neither an unknown key nor what libxl finds
        wrong later, such as a firmware that the device model cannot start. Seen with 4.20; needs a running hypervisor.

        :param content: the file, which need not be written yet: xl reads it from memory.
        :return: what xl ignores in it or advises against, in its own words.
        :raises UserError: xl refuses it.
        """
        descriptor = os.memfd_create("guest")
        try:
            with open(descriptor, "wb", closefd=False) as stream:
                stream.write(content)
            path = f"/proc/{os.getpid()}/fd/{descriptor}"
            status, _output, errors = self.xl("create", "--dryrun", path, timeout=PATIENCE)
        finally:
            os.close(descriptor)
        lines = [line.replace(f"{path}:", "line ", 1) for line in errors.splitlines()]
        said = [line for line in lines if line and not line.startswith("Parsing config")]
        if status != 0:
            raise UserError(
                f"xl refuses the configuration of the guest: {'; '.join(said)}.",
                needs_root() or "Correct the parameter or the key of options that it names.",
            )
        return said

    def dmesg(self) -> str:
        """The hypervisor's own log."""
        return self.xl("dmesg", timeout=PATIENCE)[1]

    def toolstack_version(self) -> Optional[Version]:
        """Release of libxl: the running hypervisor's where several are installed, as xl wants; else the newest."""
        patterns = distributions.paths("libxl", self.distribution)
        paths = (path for pattern in patterns for path in glob.glob(self.path(pattern)))
        found = {(int(m[1]), int(m[2])) for m in map(_LIBXL_RELEASE.search, paths) if m}
        if len(found) > 1 and self.is_dom0() and self.version() in found:
            return self.version()
        return max(found, default=None)

    def path(self, path: str) -> str:
        """Where a file of this host is found."""
        return os.path.join(self._root, path.lstrip("/"))

    def text(self, path: str, longest: int = -1) -> Optional[str]:
        """The first characters of a file of this host, all by default; None where it cannot be read."""
        try:
            with open(self.path(path), encoding="ascii", errors="replace") as stream:
                return stream.read(longest)
        except OSError:
            return None


def _failed(command: str, errors: str, remedy: str) -> UserError:
    return UserError(f"`{command}` failed: {last_line(errors)}.", needs_root() or remedy)


# The numbers in `xl info` that every release gives and that are needed here.
_NUMBERS = ("xen_major", "xen_minor", "total_memory", "free_memory")


def parse_info(output: str) -> Dict[str, str]:
    """Read the `key : value` lines of `xl info`.

    :raises ValueError: a number that it always gives is not there.
    """
    info = {
        key.strip(): value.strip()
        for key, colon, value in (line.partition(":") for line in output.splitlines())
        if colon
    }
    missing = [key for key in _NUMBERS if not info.get(key, "").isdecimal()]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    return info


_LIST_ROW = re.compile(
    r"^(?P<name>.+?)\s+(?P<domid>\d+)\s+(?P<memory>\d+)\s+(?P<vcpus>\d+)\s+(?P<state>[-a-z]{6})\s+[\d.]+$"
)


_LIST_HEADER = re.compile(r"^Name\s+ID\s")


def parse_list(output: str) -> List[Domain]:
    """Read the table of `xl list`. A name may contain spaces, and "(null)" stands for one not yet given.

    :raises ValueError: a line is no row, or dom0 is missing.
    """
    lines = [line.rstrip() for line in output.splitlines() if line.strip() and not _LIST_HEADER.match(line)]
    rows = [_LIST_ROW.match(line) for line in lines]
    domains = [
        Domain(
            domid=int(row["domid"]),
            name=row["name"],
            memory_mib=int(row["memory"]),
            vcpus=int(row["vcpus"]),
            state=row["state"].replace("-", ""),
        )
        for row in rows
        if row
    ]
    malformed = [line for line, row in zip(lines, rows) if not row]
    if malformed:
        raise ValueError(f"{malformed[0]!r} is no row of its table")
    if all(domain.domid != 0 for domain in domains):
        raise ValueError("Domain-0 is missing")
    return domains


_NODE = re.compile(r'^(?P<path>/\S*) = "(?P<value>.*)"\s*(?:\([^()]*\))?$', re.DOTALL)


def parse_xenstore_ls(output: str) -> Dict[str, str]:
    """Read the lines of `xenstore-ls -f`: full path, then the value in quotes.

    :raises ValueError: there is no node at all.
    """
    nodes = {
        node["path"]: node["value"] for node in (_NODE.match(line) for line in output.splitlines()) if node is not None
    }
    if not nodes:
        raise ValueError("there is no node in it")
    return nodes
