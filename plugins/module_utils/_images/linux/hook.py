# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what has the package manager of a host renew the Linux stub domain: its hook, a
# unit of systemd that the hook starts and does not wait for, and the program of that unit with its parameters.

from __future__ import annotations

import os
from typing import List, Optional, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._common import files, zipped
from ansible_collections.xen.stubdom.plugins.module_utils._common.distributions import Distribution
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import attempt
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import renewal
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux.parts import Choice
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

PROGRAM = "/usr/local/lib/xen.stubdom/renew-linux-stubdom.pyz"
PARAMETERS = "/etc/xen.stubdom/renew-linux-stubdom.json"
UNIT = f"/etc/systemd/system/{renewal.BY}"
WANTED = f"/etc/systemd/system/multi-user.target.wants/{renewal.BY}"
# Not the one that Ansible has found, which may be python3.11 and gone with the next release of the distribution.
PYTHON = "/usr/bin/python3"
SYSTEMD = "/run/systemd/system"

# By package manager: what it reads to run a command when packages were upgraded, and the line, with {command}.
# apt: once at the end of each of its runs, when dpkg has configured all packages, or has failed; apt fails where the
# command does (pkgDPkgPM::Go, apt-pkg/deb/dpkgpm.cc @ 3.1). dpkg by itself does not run it.
HOOKS = {"apt": ("/etc/apt/apt.conf.d/90xen-stubdom", 'DPkg::Post-Invoke {{ "{command}"; }};\n')}

_HEADER = "Written by the Ansible collection xen.stubdom; changes are overwritten.\n"
# The status of a hook is apt's. restart, as a renewal that runs may have read files from before this run; it puts back
# what is half done.
_COMMAND = f"/bin/systemctl restart --no-block {renewal.BY} > /dev/null 2>&1 || :"
# Also at each boot: unless another is asked for, the kernel in the image is the one that the host runs, and that is
# another one then. After the guests that start with the host: they need not wait, and none starts between two files
# that are replaced.
# -I -S: no path of a user's and no package is looked at for what the program imports.
_UNIT = """\
[Unit]
Description=Renew the Linux stub domain where its packages were upgraded
After={services} xendomains.service

[Service]
Type=oneshot
ExecStart={python} -I -S {program} {parameters}
TimeoutStartSec=1h
Nice=10
NoNewPrivileges=yes
PrivateNetwork=yes
PrivateTmp=yes
ProtectHome=yes
RestrictAddressFamilies=AF_UNIX

[Install]
WantedBy=multi-user.target
"""

# ProtectHome and PrivateTmp in it (systemd.exec(5)).
_HIDDEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")


class Hook:
    """The files that have the package manager renew the image.

    :param wanted: whether they are to be there.
    :param firmware_directory: what the module was given.
    :param chosen: the kernel that it was given.
    :raises UserError: they cannot do what they are for on this host.
    """

    def __init__(self, xen: Xen, *, wanted: bool, firmware_directory: Optional[str], chosen: Choice) -> None:
        self._xen = xen
        self._chosen = chosen
        row = xen.distribution
        # A host may have become another one.
        contents = dict.fromkeys((PROGRAM, PARAMETERS, UNIT, *(path for path, _line in HOOKS.values())))
        if wanted:
            self._require(row)
            path, line = HOOKS[row.package_manager]
            services = " ".join(f"{name}.service" for name in row.services)
            words = {"python": PYTHON, "program": PROGRAM, "parameters": PARAMETERS, "services": services}
            contents[PROGRAM] = zipped.program(renewal.__name__)
            contents[PARAMETERS] = renewal.parameters(firmware_directory, chosen)
            contents[UNIT] = f"# {_HEADER}{_UNIT.format(**words)}".encode()
            contents[path] = f"// {_HEADER}{line.format(command=_COMMAND)}".encode()
        link = xen.path(WANTED)
        changes: List[files.AnyChange] = [self._change(path, content) for path, content in contents.items()]
        # As `systemctl enable` makes it.
        changes.append(files.Link(link, files.link(link), UNIT if wanted else None))
        # What starts something is written last and removed first.
        self.all: Sequence[files.AnyChange] = changes if wanted else changes[::-1]
        self.changes: Sequence[files.AnyChange] = [change for change in self.all if change.needed]

    def settle(self) -> None:
        """Have systemd read its files again, when the changes were made, and remove directories that are empty then."""
        if self.changes:
            for path in (PROGRAM, PARAMETERS):
                files.remove_if_empty(os.path.dirname(self._xen.path(path)))
            if self._systemd():
                attempt(self._xen.run, ["systemctl", "daemon-reload"])

    def _change(self, path: str, after: Optional[bytes]) -> files.Change:
        path = self._xen.path(path)
        # Root's, as root runs them.
        own = files.Permissions(0o644, os.geteuid(), os.getegid())
        return files.Change(path, files.read(path), after, permissions=own, found=files.permissions(path))

    def _require(self, row: Distribution) -> None:
        remedy = "Leave out renew_with_packages, and run this again whenever packages were upgraded."
        if row.package_manager not in HOOKS:
            raise UserError(
                f"The image is renewed by {' and '.join(HOOKS)} only, and "
                + (
                    f"{row.name} has {row.package_manager or 'another package manager'}."
                    if row.name
                    else "this host is of no distribution that is known here."
                ),
                remedy,
            )
        if not self._systemd():
            raise UserError("The image is renewed by a unit of systemd, which does not run on this host.", remedy)
        if not os.path.isfile(self._xen.path(PYTHON)):
            raise UserError(f"There is no {PYTHON}, which runs the program that renews the image.", remedy)
        for path in (PROGRAM, PARAMETERS, UNIT, HOOKS[row.package_manager][0]):
            self._require_closed(path)
        for path in filter(None, (self._chosen.kernel, self._chosen.modules)):
            if os.path.realpath(self._xen.path(path)).startswith(tuple(map(self._xen.path, _HIDDEN))):
                raise UserError(
                    f"The unit that renews the image does not see {path}, as {', '.join(_HIDDEN)} are hidden from it.",
                    "Put it elsewhere, below /srv for example, or leave out renew_with_packages.",
                )
            self._require_closed(path)

    def _require_closed(self, path: str) -> None:
        """:raises UserError: another account than root's could put a file of its own there, which root would run."""
        top = os.path.realpath(self._xen.path("/"))
        directory = os.path.dirname(os.path.realpath(self._xen.path(path)))
        while True:
            if os.path.isdir(directory):
                status = os.stat(directory)
                if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
                    raise UserError(
                        f"{directory}, which {path} is in, can be written to by others than root.",
                        f"Run `chown root {directory}` and `chmod go-w {directory}`, or leave out renew_with_packages.",
                    )
            if directory in (top, "/"):
                return
            directory = os.path.dirname(directory)

    def _systemd(self) -> bool:
        return os.path.isdir(self._xen.path(SYSTEMD))
