# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the one edge between a module and Ansible.

from __future__ import annotations

import traceback
from typing import Any, Callable, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError


def run_module(run: Callable[[AnsibleModule], Dict[str, Any]], **specification: Any) -> None:
    """Run a module and end the process with its result.

    A result's "warnings" become Ansible's. A UserError ends the module with its two sentences, anything else with one
    sentence that says that the collection is at fault, and a traceback that Ansible shows with -vvv.

    :param run: does the work and returns the result.
    :param specification: the arguments of AnsibleModule.
    """
    module = AnsibleModule(**specification)
    try:
        result = run(module)
    except UserError as error:
        module.fail_json(msg=str(error), **error.details)
    except Exception as error:
        module.fail_json(
            msg=f"The collection xen.stubdom has a fault: {type(error).__name__}: {error}.\n"
            "Report it with this message, the task, and the output of ansible-playbook -vvv.",
            exception=traceback.format_exc(),
        )
    for warning in result.pop("warnings", ()):
        module.warn(warning)
    module.exit_json(**result)
