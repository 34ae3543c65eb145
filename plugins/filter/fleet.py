# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet
short_description: Make one report of what xen_info returns of many hosts
version_added: 0.1.0
description:
  - Joins the domains and the configurations of every host to its guests, and looks for what needs attention.
  - A host that has not answered is in the report, with what the report before knows of it.
author:
  - The xen.stubdom authors (@xen-stubdom)
positional: previous
options:
  _input:
    description:
      - What M(xen.stubdom.xen_info) has returned, by host; for a host without an answer, what Ansible registers there.
    type: dict
    required: true
  previous:
    description: The report before. It adds what has changed since, and what is known of hosts without an answer.
    type: dict
  now:
    description: The time of the report in ISO 8601, UTC. The default is the time of this machine.
    type: str
seealso:
  - plugin: xen.stubdom.fleet_view
    plugin_type: filter
  - plugin: xen.stubdom.query
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Make a report of all hosts
  ansible.builtin.set_fact:
    report: "{{ dict(names | zip(names | map('extract', hostvars, 'info'))) | xen.stubdom.fleet }}"
  vars:
    names: "{{ groups.xen_hosts }}"
"""

RETURN = r"""
_value:
  description: The report.
  type: dict
  contains:
    format: {description: The number of this form., type: int, sample: 1}
    generated: {description: When it was made., type: str, sample: '2026-01-01T12:00:00Z'}
    previous: {description: When the report before was made; null for none., type: str}
    counts: {description: 'How many findings of each kind there are, by its name.', type: dict, sample: {pygrub: 3}}
    hosts:
      description:
        - Every host, with RV(ignore:name), RV(ignore:error) (why it has not answered, else null), RV(ignore:seen) (when
          it has last answered), RV(ignore:release), RV(ignore:troubles) and what M(xen.stubdom.xen_info) returns.
      type: list
      elements: dict
    guests:
      description: Every guest, with its host, its troubles, and whether that is only what was known of it before.
      type: list
      elements: dict
    changes:
      description: What has changed since the report before, by host and guest.
      type: list
      elements: dict
"""

import datetime
from typing import Any, Callable, Dict, Mapping, Optional

from ansible.errors import AnsibleFilterError
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.plugin_utils import fleet


def make(answers: Mapping[str, Any], previous: Optional[Any] = None, now: Optional[str] = None) -> Dict[str, Any]:
    """Make the report."""
    if not isinstance(answers, Mapping):
        raise AnsibleFilterError(
            "fleet takes a dictionary of what xen_info has returned, by host.\nGive it dict(hosts | zip(results))."
        )
    try:
        utc = datetime.timezone.utc
        moment = datetime.datetime.now(utc) if now is None else datetime.datetime.strptime(now, "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        raise AnsibleFilterError(
            f"{now!r} is no time in ISO 8601, UTC.\nSet now to one such as 2026-01-01T12:00:00Z, or leave it out."
        ) from None
    try:
        return fleet.report(answers, now=moment, previous=previous or None)
    except UserError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """The filters of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"fleet": make}
