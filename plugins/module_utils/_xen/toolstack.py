# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the only code that calls xl and xenstore, and reads what Xen shows in files.

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions
from ansible_collections.xen.stubdom.plugins.module_utils._common.distributions import Distribution
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner, last_line
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version

CAPABILITIES = "/proc/xen/capabilities"
HYPERVISOR_TYPE = "/sys/hypervisor/type"

# libxl carries the release of the toolstack in its name (tools/libs/light/Makefile, MAJOR).
_LIBXL_RELEASE = re.compile(r"\.so\.(4)\.(\d+)$")


@dataclass(frozen=True)
class Domain:
    """One row of `xl list`. Memory is in MiB; state is xl's six letters without the dashes."""

    domid: int
    name: str
    memory_mib: int
    vcpus: int
    state: str


class Xen:
    """What the hypervisor and the toolstack of this host say.

    :param run: runs a command without a shell.
    :param root: where the kernel's own file systems are found; only tests give another one.
    """

    def __init__(self, run: Runner, *, root: str = "/") -> None:
        self._run = run
        self._root = root
        self._info: Optional[Dict[str, str]] = None

    @property
    def distribution(self) -> Distribution:
        """The distribution of this host."""
        return distributions.detect(self._root)

    def is_dom0(self) -> bool:
        """Whether this machine is the control domain of a running hypervisor."""
        return "control_d" in (self._file(CAPABILITIES) or "")

    def is_guest(self) -> bool:
        """Whether this machine is itself an unprivileged domain."""
        return (self._file(HYPERVISOR_TYPE) or "").strip() == "xen" and not self.is_dom0()

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
            f"This machine does not run under Xen: {CAPABILITIES} does not say control_d.",
            f"Install {distributions.install_hint('hypervisor', self.distribution)}, reboot into it, then run again.",
        )

    def info(self) -> Dict[str, str]:
        """Return `xl info` as a dictionary, read once.

        :raises UserError: xl is missing or does not get an answer.
        """
        if self._info is None:
            status, output, errors = self.xl("info")
            if status != 0:
                raise UserError(
                    f"`xl info` failed: {last_line(errors)}.",
                    f"Start {distributions.start_hint(self.distribution)}.",
                )
            self._info = parse_info(output)
        return self._info

    def command_line(self) -> str:
        """The words the running hypervisor was started with."""
        return self.info().get("xen_commandline", "")

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

        :raises UserError: xl cannot list them.
        """
        status, output, errors = self.xl("list")
        if status != 0:
            raise UserError(f"`xl list` failed: {last_line(errors)}.", "Look at `xl dmesg`.")
        return parse_list(output)

    def domid(self, name: str) -> Optional[int]:
        """Number of the domain called *name*, None if there is none."""
        return next((domain.domid for domain in self.domains() if domain.name == name), None)

    def read(self, path: str) -> Optional[str]:
        """Value of a xenstore node, None if there is no such node."""
        status, output, _errors = self._xenstore("read", path)
        return output.rstrip("\n") if status == 0 else None

    def ls(self, path: str) -> Dict[str, str]:
        """Every node at and below *path* with its value, in one call."""
        status, output, _errors = self._xenstore("ls", "-f", path)
        return parse_xenstore_ls(output) if status == 0 else {}

    def write(self, path: str, value: str) -> None:
        """Give a xenstore node a value.

        :raises UserError: xenstore does not take it.
        """
        status, _output, errors = self._xenstore("write", path, value)
        if status != 0:
            raise UserError(f"xenstore does not take {path}: {last_line(errors)}.", "Look whether xenstored runs.")

    def xl(self, *arguments: str) -> Tuple[int, str, str]:
        """Run xl.

        :raises UserError: there is no xl on this host.
        """
        try:
            return self._run(["xl", *arguments])
        except FileNotFoundError as error:
            raise UserError(
                "There is no xl on this host.",
                f"Install {distributions.install_hint('toolstack', self.distribution)}.",
            ) from error

    def dmesg(self) -> str:
        """The hypervisor's own log."""
        return self.xl("dmesg")[1]

    def toolstack_version(self) -> Optional[Version]:
        """Release of libxl: the running hypervisor's where several are installed, as xl wants; else the newest."""
        patterns = distributions.paths("libxl", self.distribution)
        paths = (path for pattern in patterns for path in glob.glob(self.path(pattern)))
        found = {(int(m[1]), int(m[2])) for m in map(_LIBXL_RELEASE.search, paths) if m}
        if len(found) > 1 and self.is_dom0() and self.version() in found:
            return self.version()
        return max(found, default=None)

    def _xenstore(self, command: str, *arguments: str) -> Tuple[int, str, str]:
        try:
            return self._run([f"xenstore-{command}", *arguments])
        except FileNotFoundError as error:
            raise UserError(
                f"There is no xenstore-{command} on this host.",
                f"Install {distributions.install_hint('xenstore', self.distribution)}.",
            ) from error

    def path(self, path: str) -> str:
        """Where a file of this host is found."""
        return os.path.join(self._root, path.lstrip("/"))

    def _file(self, path: str) -> Optional[str]:
        try:
            with open(self.path(path), encoding="ascii", errors="replace") as stream:
                return stream.read()
        except OSError:
            return None


def parse_info(output: str) -> Dict[str, str]:
    """Read the `key : value` lines of `xl info`."""
    return {
        key.strip(): value.strip()
        for key, colon, value in (line.partition(":") for line in output.splitlines())
        if colon
    }


_LIST_ROW = re.compile(
    r"^(?P<name>.+?)\s+(?P<domid>\d+)\s+(?P<memory>\d+)\s+(?P<vcpus>\d+)\s+(?P<state>[-a-z]{6})\s+[\d.]+$"
)


def parse_list(output: str) -> List[Domain]:
    """Read the table of `xl list`. A name may contain spaces, and "(null)" stands for one not yet given."""
    rows = (_LIST_ROW.match(line.rstrip()) for line in output.splitlines())
    return [
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


_NODE = re.compile(r'^(?P<path>/\S*) = "(?P<value>.*)"\s*(?:\([^()]*\))?$', re.DOTALL)


def parse_xenstore_ls(output: str) -> Dict[str, str]:
    """Read the lines of `xenstore-ls -f`: full path, then the value in quotes."""
    nodes = (_NODE.match(line) for line in output.splitlines())
    return {node["path"]: node["value"] for node in nodes if node}
