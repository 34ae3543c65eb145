# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: dom0's side of the screen of a guest with a Linux stub domain. systemd listens
# on a unix socket for as long as the guest is configured, and starts for whoever connects a proxy to the stub domain
# of that moment. Sources: systemd.socket(5), systemd.exec(5); tools/vchan/vchan-socket-proxy.c @ stable-4.20.

from __future__ import annotations

import contextlib
import os
import stat
from typing import Any, Iterator, List, Mapping, Optional, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions, files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import attempt
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version
from ansible_collections.xen.stubdom.plugins.module_utils._guests.virtualisation import SOCKET
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

UNITS = "/etc/systemd/system"
SYSTEMD = "/run/systemd/system"
_HEADER = "# Managed by the Ansible collection xen.stubdom; changes are overwritten.\n"

_LISTENS = """[Unit]
Description=Screen of the Xen guest {name}

[Socket]
ListenStream={socket}
SocketMode={mode}
{account}RemoveOnStop=yes
Accept=yes
# A vchan has one end in dom0.
MaxConnections=1

[Install]
WantedBy=sockets.target
"""

# The proxy believes the stub domain as little as it can: an account of its own, a root directory with programs alone,
# no network. What it needs of dom0 belongs to root, so that it may pass over the owners of what it sees.
# It asks the stub domain for a vchan that nobody has used before.
# privcmd, hypercall: it asks the hypervisor whether the stub domain is still there, and goes on without an answer;
# /dev/null gives none. xenstore-watch ends with the stub domain; the vchan of a domain that was destroyed does not.
_CONNECTS = """[Unit]
Description=Connection to the screen of the Xen guest {name}
CollectMode=inactive-or-failed

[Service]
ExecStart=-/bin/sh -ec ' \\
    for id in $$(xenstore-list /local/domain); do \\
        case $$(xenstore-read /local/domain/$$id/name) in {name}) guest=$$id ;; esac; \\
    done; \\
    stub=$$(xenstore-read /local/domain/$$guest/image/device-model-domid); \\
    [ $$stub -gt 0 ]; \\
    model=/local/domain/$$stub/device-model/$$guest; \\
    xenstore-rm $$model/vnc-vchan 2> /dev/null || :; \\
    tries=40; \\
    until xenstore-exists $$model/vnc-vchan/ring-ref; do \\
        tries=$$((tries - 1)); [ $$tries -gt 0 ]; \\
        xenstore-write $$model/vnc-viewer $$INVOCATION_ID; sleep 0.5; \\
    done; \\
    {{ xenstore-watch -n 2 /local/domain/$$stub/target; kill $$$$; }} < /dev/null > /dev/null & \\
    exec {proxy} $$stub $$model/vnc-vchan -'
StandardInput=socket
StandardError=journal
DynamicUser=yes
CapabilityBoundingSet=CAP_DAC_OVERRIDE
AmbientCapabilities=CAP_DAC_OVERRIDE
RuntimeDirectory=xen-stubdom/{name}.root
RootDirectory=/run/xen-stubdom/{name}.root
MountAPIVFS=no
InaccessiblePaths=/proc /sys
BindReadOnlyPaths=/usr -/bin -/sbin -/lib -/lib64 -/etc/ld.so.cache
BindPaths=/dev/null /dev/xen/evtchn /dev/xen/gntdev /dev/null:/dev/xen/privcmd /dev/null:/dev/xen/hypercall
BindPaths=/run/xenstored /run/xenstored:/var/run/xenstored
DevicePolicy=closed
DeviceAllow=/dev/xen/evtchn rw
DeviceAllow=/dev/xen/gntdev rw
PrivateNetwork=yes
ProtectClock=yes
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
MemoryDenyWriteExecute=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
MemoryMax=64M
TasksMax=16
"""


def unit(name: str) -> str:
    """The name of the units of a guest, without their kinds; + is no letter of such names (systemd-escape(1))."""
    return "xen-stubdom-screen-" + name.replace("+", "\\x2b")


class Screen:
    """The units of a guest.

    :param values: the guest's parameters, None where it is to have no screen.
    """

    def __init__(
        self, xen: Xen, name: str, values: Optional[Mapping[str, Any]] = None, version: Optional[Version] = None
    ) -> None:
        self._xen = xen
        self._name = name
        self.wanted = values is not None
        self.socket = SOCKET.format(name=name)
        contents = (None, None) if values is None else self._contents(values, version)
        at = xen.path(os.path.join(UNITS, unit(name)))
        links = xen.path(os.path.join(UNITS, "sockets.target.wants", f"{unit(name)}.socket"))
        units = [
            files.Change(at + ending, files.read(at + ending), after)
            for ending, after in zip((".socket", "@.service"), contents)
        ]
        # As `systemctl enable` makes it.
        target = f"{UNITS}/{unit(name)}.socket" if self.wanted else None
        self.changes: List[files.AnyChange] = [*units, files.Link(links, files.link(links), target)]
        # What an interrupted run has left is done, too.
        left = self.systemd() and self.listens() != self.wanted
        self.needed = left or any(change.needed for change in self.changes)
        self.failure: Optional[UserError] = None

    def _contents(self, values: Mapping[str, Any], version: Optional[Version]) -> Sequence[Optional[bytes]]:
        paths = distributions.programs("vchan-socket-proxy", self._xen.distribution, version)
        proxy = next((path for path in paths if os.path.isfile(self._xen.path(path))), paths[0])
        owner, group = values.get("screen_owner"), values.get("screen_group")
        account = (f"SocketUser={owner}\n" if owner else "") + (f"SocketGroup={group}\n" if group else "")
        words = {"name": self._name, "socket": self.socket, "account": account, "proxy": proxy}
        mode = "0660" if group else "0600"
        return [(_HEADER + text.format(mode=mode, **words)).encode() for text in (_LISTENS, _CONNECTS)]

    def require_systemd(self) -> None:
        """:raises UserError: nobody would listen."""
        if self.wanted and self._xen.is_dom0() and not self.systemd():
            raise UserError(
                f"The guest {self._name} has screen, for which systemd listens in dom0, and it does not run there.",
                "Leave out screen.",
            )

    def listens(self) -> bool:
        """Whether the socket is there."""
        try:
            return stat.S_ISSOCK(os.stat(self._xen.path(self.socket)).st_mode)
        except OSError:
            return False

    def tell(self) -> None:
        """Have systemd listen, or not any more, and take down what it does not do."""
        listens = f"{unit(self._name)}.socket"
        # Without a screen who looks is cut off, too.
        words = ["restart", listens] if self.wanted else ["stop", listens, f"{unit(self._name)}@*.service"]
        status, _output, why = attempt(self._xen.run, ["systemctl", *words])
        if status != 0 or self.listens() != self.wanted:
            self.failure = UserError(
                f"`systemctl {words[0]}` has not {'opened' if self.wanted else 'closed'} {self.socket}: {why}.",
                f"Look at `systemctl status '{listens}'`.",
            )

    def systemd(self) -> bool:
        """Whether it runs on this host."""
        return os.path.isdir(self._xen.path(SYSTEMD))


@contextlib.contextmanager
def changing(xen: Xen, screens: Sequence[Screen]) -> Iterator[None]:
    """Have systemd do what its files say, which are changed meanwhile.

    It stops what it has files of: without them it leaves the socket behind.
    """
    there = [screen for screen in screens if screen.needed and screen.systemd()]
    for screen in there:
        if not screen.wanted:
            screen.tell()
    yield
    if there:
        attempt(xen.run, ["systemctl", "daemon-reload"])
    for screen in there:
        if screen.wanted:
            screen.tell()
