# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what modules of it have changed on a host, read from the host's journal.

from __future__ import annotations

import json
import pwd
from datetime import datetime, timezone
from typing import Any, Dict, Iterator, List, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError, printable
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import NOT_FOUND, Runner, attempt

# More would make a page of many hosts slow.
MOST = 1000
# What _common/module.py writes.
_KEYS = ("module", "play", "what", "from", "to", "image")


def read(run: Runner, lines: int, since: Optional[str]) -> Optional[List[Dict[str, Any]]]:
    """The last changes, the newest first; None where the host has no systemd's journal.

    :param lines: how many at the most.
    :param since: as journalctl takes it, None for all that the journal still has.
    :raises UserError: the number is not possible, or journalctl refuses.
    """
    if not 1 <= lines <= MOST:
        raise UserError(f"{lines} lines of history are not possible.", f"Set history_lines to 1 to {MOST}.")
    # Any account can write under that identifier, but the journal itself notes whose process it was.
    command = ["journalctl", "--quiet", "--output=json", "--reverse", f"--lines={lines}"]
    command += ["--identifier=xen.stubdom", *([] if since is None else [f"--since={since}"]), "_UID=0"]
    status, output, why = attempt(run, command)
    if status == NOT_FOUND:
        return None
    if status != 0:
        raise UserError(f"journalctl cannot read the history: {why}.", "Correct history_since, or leave it out.")
    return [row for line in output.splitlines() for row in _row(line)]


def _row(line: str) -> Iterator[Dict[str, Any]]:
    """What one entry of the journal tells, nothing where it is none of ours."""
    try:
        entry = json.loads(line)
        said = json.loads(entry["MESSAGE"])
        when = datetime.fromtimestamp(int(entry["__REALTIME_TIMESTAMP"]) // 1_000_000, timezone.utc)
        texts = {key: printable(str(said[key])) if key in said else None for key in _KEYS}
    except (ValueError, KeyError, TypeError):
        return
    if texts["what"] is not None:
        yield {"time": when.strftime("%Y-%m-%dT%H:%M:%SZ"), "user": _user(entry.get("_AUDIT_LOGINUID")), **texts}


def _user(number: Any) -> Optional[str]:
    """Who has logged in to the session of the change, None where the host does not note that."""
    try:
        return pwd.getpwuid(int(number)).pw_name
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
