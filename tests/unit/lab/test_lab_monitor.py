# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import monitor

USERNET = """\
Hub -1 (net0):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[ESTABLISHED]   17       127.0.0.1 39999       10.0.2.15    22     0     0
  TCP[HOST_FORWARD]  12       127.0.0.1 41729       10.0.2.15    22     0     0
"""


def test_the_port_is_the_one_qemu_listens_on() -> None:
    assert monitor.forwarded_port(USERNET) == 41729
