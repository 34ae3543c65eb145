# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the program that renews the Linux stub domain after its packages were upgraded,
# without a run of Ansible. It is what the module linux_stubdom does for an image that is there, by the same code.

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Any, Dict, Optional, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import files, journal, manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner, run_program
from ansible_collections.xen.stubdom.plugins.module_utils._common.signals import Interrupted, interruptible, undisturbed
from ansible_collections.xen.stubdom.plugins.module_utils._images import installed
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import upkeep
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux.parts import Choice
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

# Stands in the journal beside each change, where that of a module has the play.
BY = "xen-stubdom-renew.service"
ROOT = "/"
# Of the file with the parameters, in bytes.
_LONGEST = 1 << 16
# systemd takes these off a line and gives it that priority (sd-daemon(3)).
_ERROR, _WARNING, _NOTICE, _INFO = "<3>", "<4>", "<5>", "<6>"


def parameters(firmware_directory: Any, chosen: Choice) -> bytes:
    """Return the file that the program reads."""
    return (json.dumps({"firmware_directory": firmware_directory, **asdict(chosen)}, indent=1) + "\n").encode()


def main() -> int:
    """Renew the image and say what became of it, for the journal; return the status of the process."""
    try:
        with interruptible(), files.lock():
            priority, said = _renew(**_read(sys.argv[1]), run=run_program)
    except UserError as error:
        priority, said = _ERROR, f"The Linux stub domain is as it was. {error.what} {error.remedy}"
    except Interrupted as error:
        priority, said = _NOTICE, f"Interrupted by {error}: the Linux stub domain is as it was, or a whole new one."
    lines = [*(f"{_WARNING}{warning}" for warning in files.stayed), f"{priority}{said}"]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 1 if priority == _ERROR else 0


def _read(path: str) -> Dict[str, Any]:
    """:raises UserError: the parameters are not those that the module has written."""
    try:
        found = json.loads(files.read(path, longest=_LONGEST) or b"")
        given = {name: found[name] for name in ("firmware_directory", "kernel", "modules", "release")}
    except (ValueError, KeyError, TypeError, RecursionError):
        given = {"": 0}
    # A release is looked at where it is used.
    if all(
        value is None or (isinstance(value, str) and (name == "release" or os.path.isabs(value)))
        for name, value in given.items()
    ):
        return given
    raise UserError(
        f"{path} is not as Ansible has written it.", "Run the task with renew_with_packages again, which writes it."
    )


def _renew(firmware_directory: Optional[str], run: Runner, **chosen: Optional[str]) -> Tuple[str, str]:
    """Do it, and return the priority of what there is to say, and what it is.

    :param chosen: the kernel that was asked for.
    :raises UserError: it cannot be done; the image is as it was.
    """
    xen = Xen(run, root=ROOT)
    if not xen.is_dom0():
        return _INFO, "This host does not run Xen now, so that the Linux stub domain stays as it is."
    directory = installed.firmware_directory(xen, firmware_directory)
    place = upkeep.place(directory)
    now = installed.read(place)
    record = manifest.parse(now[place.manifest])
    # Only an image of ours that nobody has touched is renewed. Whatever else is there, somebody wants it like that.
    if installed.rolled_back(place, now):
        back = "was put back by a rollback, and stays until Ansible makes another."
        return _NOTICE, f"The Linux stub domain in {directory} {back}"
    wrong = installed.problem(place, now)
    if wrong is not None or record is None:
        return _WARNING, f"The Linux stub domain in {directory} is not renewed. {wrong}"
    assembly = upkeep.plan(xen, run, ROOT, Choice(**chosen))
    if upkeep.outdated(place, now, assembly) is None:
        return _INFO, upkeep.IN_ORDER
    doubts = assembly.check()
    upkeep.require_room(place, assembly, installed.save(place, now))
    changes, made = upkeep.make(place, now, assembly)
    diff = {"after_header": place.manifest, "before": upkeep.listing(record), "after": upkeep.listing(made)}
    rows = journal.rows({"diff": diff, "manifest": made.as_dict()}, module="xen.stubdom.linux_stubdom", play=BY)
    # What is changed stands in the journal, too.
    with undisturbed():
        installed.apply(place, now, changes)
        for row in rows:
            journal.write(row)
    newer = ", ".join(" ".join(source.values()) for source in made.sources if source not in record.sources)
    again = f"was made again, with {newer or 'other files'}. Guests get it at their next start."
    return (_WARNING if doubts else _NOTICE), " ".join((f"The Linux stub domain in {directory} {again}", *doubts))
