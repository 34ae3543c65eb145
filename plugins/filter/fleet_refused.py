# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_refused
short_description: Find what a policy refuses in a report on Xen hosts
version_added: 0.1.0
description:
  - Returns how many findings there are of each kind that a policy names, for example to fail a pipeline.
author:
  - The xen.stubdom authors (@xen-stubdom)
positional: policy
options:
  _input:
    description: A report of the filter P(xen.stubdom.fleet#filter).
    type: dict
    required: true
  policy:
    description: Names of kinds of findings, or V(critical), V(warning) and V(notice) for all of one severity.
    type: list
    elements: str
    required: true
seealso:
  - plugin: xen.stubdom.fleet
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Fail if a QEMU is root in dom0, or anything is critical
  ansible.builtin.assert:
    that: report | xen.stubdom.fleet_refused(['device_model_root_in_dom0', 'critical']) == {}
"""

RETURN = r"""
_value:
  description: The number of findings by kind; empty if the policy refuses none.
  type: dict
  sample: {device_model_root_in_dom0: 3}
"""

from typing import Any, Callable, Dict, Mapping, Sequence

from ansible.errors import AnsibleFilterError
from ansible_collections.xen.stubdom.plugins.plugin_utils import troubles


def refused(made: Mapping[str, Any], policy: Sequence[str]) -> Dict[str, int]:
    """Return the findings that a policy names."""
    names = [policy] if isinstance(policy, str) else list(policy)
    known = (*troubles.SEVERITIES, *troubles.BY_KEY)
    unknown = [str(name) for name in names if name not in known]
    if unknown:
        raise AnsibleFilterError(
            f"There are no findings called {', '.join(unknown)}.\n"
            f"Set policy (in the playbook, fleet_report_fail_on) to a list of these: {', '.join(known)}."
        )
    return {
        str(kind): count
        for kind, count in made["counts"].items()
        if kind in names or troubles.BY_KEY[kind].severity in names
    }


class FilterModule:
    """The filters of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"fleet_refused": refused}
