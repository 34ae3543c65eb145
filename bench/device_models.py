# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One life of an HVM guest, measured. Runs on the Xen host, alone: device_models.py NAME

The guest says `bench N` again and again and reads its emulated disk in between, so that the time between two lines and
the processor time of the domains belong to what it reads. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path

# Seconds that a guest may be silent.
PATIENCE = 300
# What init of the stub domain says, at so many seconds after its kernel has begun (_images/linux/init.py).
STAGES = (("kernel", "Linux runs"), ("init", "starting QEMU"), ("qemu", "QEMU runs"))


def xl(*words: str) -> str:
    return subprocess.run(["xl", *words], check=True, capture_output=True, text=True).stdout


def node(path: str) -> str:
    asked = subprocess.run(["xenstore-read", path], capture_output=True, text=True, check=False)
    return asked.stdout.strip()


def domains(listed: str) -> dict[str, tuple[int, float]]:
    """MiB and seconds of processor time by name, of what `xl list` prints."""
    rows = [line.split() for line in listed.splitlines()[1:]]
    return {row[0]: (int(row[2]), float(row[5])) for row in rows}


def stages(log: str) -> dict[str, float]:
    """How long each stage of the stub domain took, by its log; nothing for a guest without one."""
    found = {}
    last = 0.0
    for name, said in STAGES:
        match = re.search(rf"stub domain: ([\d.]+) s: {said}", log)
        if match is None:
            return {}
        found[name], last = float(match[1]) - last, float(match[1])
    return found


def resident(words: re.Pattern[str], proc: Path = Path("/proc")) -> float:
    """MiB of dom0's memory that programs have whose command line has these words; what several share is divided."""
    total = 0
    for directory in proc.glob("[0-9]*"):
        try:
            if words.search((directory / "cmdline").read_text().replace("\0", " ")):
                rollup = (directory / "smaps_rollup").read_text()
                total += int(re.search(r"^Pss: +(\d+)", rollup, re.M)[1])  # type: ignore[index]
        except OSError:
            # It has just ended.
            continue
    return total / 1024


class Guest:
    """Listens to what the guest says."""

    def __init__(self, terminal: str) -> None:
        self._terminal = os.open(terminal, os.O_RDONLY | os.O_NOCTTY)
        self._heard = b""

    def number(self) -> int:
        """Wait for the next whole line, and return the number in it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            match = re.search(rb"bench (\d{4})[\r\n]", self._heard)
            if match:
                self._heard = self._heard[match.end() :]
                return int(match[1])
            ready, _, _ = select.select([self._terminal], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"the guest said nothing for {PATIENCE} seconds but {self._heard[-200:]!r}")
            self._heard += os.read(self._terminal, 4096)


def live(name: str) -> dict[str, float]:
    """Start the guest, and measure; it is there until `end`."""
    log = Path(f"/var/log/xen/qemu-dm-{name}.log")
    log.unlink(missing_ok=True)
    begin = time.monotonic()
    xl("create", f"/etc/xen/{name}.cfg")
    found = {"running": time.monotonic() - begin}
    domid = int(xl("domid", name))
    stub = int(node(f"/local/domain/{domid}/image/device-model-domid") or 0)
    guest = Guest(node(f"/local/domain/{stub}/device/console/3/tty" if stub else f"/local/domain/{domid}/serial/0/tty"))
    first = guest.number()
    found["word"] = time.monotonic() - begin
    if first != 0:
        raise ValueError(f"the first word that was heard of the guest is its number {first}")
    # What it reads first is in dom0's page cache then.
    guest.number()
    start, before = time.monotonic(), domains(xl("list"))
    guest.number()
    found["read"], after = time.monotonic() - start, domains(xl("list"))
    found["read_dom0"] = after["Domain-0"][1] - before["Domain-0"][1]
    # The device model, or the QEMU that serves the consoles of the stub domain with the proxy to it.
    found["dom0_mib"] = resident(re.compile(rf"-xen-domid ({domid}|{stub}) |vchan-socket-proxy {stub} "))
    if stub:
        found["domain_mib"] = after[f"{name}-dm"][0]
        found["read_stub"] = after[f"{name}-dm"][1] - before[f"{name}-dm"][1]
        found.update(stages(log.read_text(errors="replace")))
    return found


def end(name: str) -> None:
    subprocess.run(["xl", "destroy", name], capture_output=True, check=False)
    while len(domains(xl("list"))) > 1:
        time.sleep(0.5)


def main(name: str) -> int:
    try:
        found = live(name)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"{error} {getattr(error, 'stderr', '')}".strip(), file=sys.stderr)
        return 1
    finally:
        end(name)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
