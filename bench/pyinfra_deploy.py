# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same as bench/plain, in the words of pyinfra 3."""

import json
import os
from pathlib import Path

from pyinfra import host
from pyinfra.facts.server import Command
from pyinfra.operations import files, server

GUESTS = json.loads(Path(os.environ["BENCH_GUESTS"]).read_text())["guests"]
TEMPLATE = Path(os.environ["BENCH_TEMPLATE"])

for guest in GUESTS:
    files.template(
        name=f"Write the configuration of {guest['name']}",
        src=str(TEMPLATE),
        dest=f"/etc/xen/plain/{guest['name']}.cfg",
        mode="644",
        item=guest,
    )
RUNNING = {line.split()[0] for line in host.get_fact(Command, "xl list").splitlines()[1:]}
for guest in GUESTS:
    if guest["name"] not in RUNNING:
        server.shell(name=f"Start {guest['name']}", commands=[f"xl create /etc/xen/plain/{guest['name']}.cfg"])
