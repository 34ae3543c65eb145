# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the one edge between a module and Ansible.

from __future__ import annotations

import contextlib
import signal
import traceback
from typing import Any, Callable, Dict, Iterator

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError


class Interrupted(BaseException):
    """A signal that would end this process: what is half done is put back first."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Have the first signal that would end this process arrive as an exception, and ignore those after it.

    A lost connection sends SIGHUP. Without this, nothing would be put back then.
    """
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(number: int, _frame: object) -> None:
        for other in signals:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(signal.Signals(number).name)

    before = {number: signal.signal(number, interrupt) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_module(
    run: Callable[[AnsibleModule], Dict[str, Any]], *, writes_files: bool = False, **specification: Any
) -> None:
    """Run a module and end the process with its result.

    A result's "warnings" become Ansible's. A UserError ends the module with its two sentences, anything else with one
    sentence that says that the collection is at fault, and a traceback that Ansible shows with -vvv.

    :param run: does the work and returns the result.
    :param writes_files: whether it reads files in order to change them: others wait from the first read on.
    :param specification: the arguments of AnsibleModule.
    """
    module = AnsibleModule(**specification)
    try:
        alone = files.lock() if writes_files and not module.check_mode else contextlib.nullcontext()
        with interruptible(), alone:
            result = run(module)
    except UserError as error:
        module.fail_json(msg=str(error), **error.details)
    except Interrupted as error:
        module.fail_json(
            msg=f"The module was interrupted by {error}.\n"
            "Run it again: every file is as it was or as asked, and the next run goes on from there."
        )
    except Exception as error:
        module.fail_json(
            msg=f"The collection xen.stubdom has a fault: {type(error).__name__}: {error}.\n"
            "Report it with this message, the task, and the output of ansible-playbook -vvv.",
            exception=traceback.format_exc(),
        )
    for warning in result.pop("warnings", ()):
        module.warn(warning)
    module.exit_json(**result)
