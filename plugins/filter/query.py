# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: query
short_description: Put a question in JMESPath to a report or to any other data
version_added: 0.1.0
description:
  - Returns what an expression in JMESPath selects of the data.
  - An error shows the place in the expression at which it is wrong. A question without an answer, in which a name is
    written almost as one that is in the data, is an error too.
author:
  - The xen.stubdom authors (@xen-stubdom)
requirements:
  - the Python package C(jmespath) on the control machine
positional: expression
options:
  _input:
    description: The data, for example a report of the filter P(xen.stubdom.fleet#filter).
    type: raw
    required: true
  expression:
    description: The question, see U(https://jmespath.org).
    type: str
    required: true
seealso:
  - plugin: xen.stubdom.fleet
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the HVM guests whose QEMU is root in dom0
  ansible.builtin.debug:
    msg: "{{ report | xen.stubdom.query(question) }}"
  vars:
    question: >-
      guests[?place == 'dom0_root'].{host: host, guest: name}
"""

RETURN = r"""
_value:
  description: The answer; null where nothing was found.
  type: raw
"""

from typing import Any, Callable, Dict

from ansible.errors import AnsibleFilterError
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.plugin_utils.query import Query


def ask(data: Any, expression: str) -> Any:
    """Return the answer to a question."""
    try:
        return Query(expression).ask(data)
    except UserError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """The filters of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"query": ask}
