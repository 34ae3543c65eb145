# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_view
short_description: Show a report on Xen hosts as a page, as CSV or as a table
version_added: 0.1.0
description:
  - Takes a report of the filter P(xen.stubdom.fleet#filter), and returns it as text.
author:
  - The xen.stubdom authors (@xen-stubdom)
positional: form
options:
  _input:
    description: The report.
    type: dict
    required: true
  form:
    description:
      - V(html) is one page that needs nothing else. It opens from a disk, without a network.
      - V(csv) has the guests, a line each.
      - V(table) is for a terminal and has the hosts, a line each, and what was found.
    type: str
    choices: [html, csv, table]
    required: true
seealso:
  - plugin: xen.stubdom.fleet
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the hosts on the terminal
  ansible.builtin.debug:
    msg: "{{ (report | xen.stubdom.fleet_view('table')).splitlines() }}"
"""

RETURN = r"""
_value:
  description: The text.
  type: str
"""

from typing import Any, Callable, Dict, Mapping

from ansible.errors import AnsibleFilterError
from ansible_collections.xen.stubdom.plugins.plugin_utils import fleet, page, views

FORMS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "html": page.render,
    "csv": views.as_csv,
    "table": views.as_table,
}


def view(made: Any, form: str) -> str:
    """Return a report as text."""
    if form not in FORMS:
        raise AnsibleFilterError(f"There is no form {form!r} of a report.\nSet form to one of {', '.join(FORMS)}.")
    if not isinstance(made, Mapping) or made.get("format") != fleet.FORMAT:
        raise AnsibleFilterError("fleet_view takes a report.\nMake one with the filter xen.stubdom.fleet.")
    return FORMS[form](made)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"fleet_view": view}
