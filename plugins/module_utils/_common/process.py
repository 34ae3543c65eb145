# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the one way in which a module runs programs on a host.

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, List, Tuple

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

# Arguments → exit status, standard output, standard error. A program that is not there raises FileNotFoundError.
Runner = Callable[[List[str]], Tuple[int, str, str]]


def runner(module: AnsibleModule) -> Runner:
    """Return the runner of a module: no shell, no expansion of variables, messages in English."""

    def run(arguments: List[str]) -> Tuple[int, str, str]:
        return module.run_command(  # type: ignore[no-any-return]
            arguments, handle_exceptions=False, expand_user_and_vars=False, environ_update={"LC_ALL": "C"}
        )

    return run


def last_line(output: str) -> str:
    """Return the last line of a program's messages without its full stop, "no message" where there is none."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no message"]
    return lines[-1].rstrip(".")
