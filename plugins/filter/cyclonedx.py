# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: cyclonedx
short_description: Describe what images of stub domains are made of as CycloneDX
version_added: 0.1.0
description:
  - Returns a software bill of materials in CycloneDX 1.6 for the images of a host, from their manifests. Each image is
    a component that depends on the packages or sources that it was made of.
  - The same images give the same document, without a time of its own, so that a task that writes it changes nothing.
  - An image without a manifest is a component of which nothing but its name is known.
author:
  - The xen.stubdom authors (@xen-stubdom)
requirements:
  - the Python package C(cyclonedx-python-lib) on the control machine
positional: name
options:
  _input:
    description: The images, as RV(xen.stubdom.xen_info#module:images).
    type: list
    elements: dict
    required: true
  name:
    description: What the images belong to, for example the name of the host.
    type: str
    default: ''
seealso:
  - module: xen.stubdom.xen_info
"""

EXAMPLES = r"""
- name: Read the images of the host
  xen.stubdom.xen_info:
    gather_subset: [images]
  register: host

- name: Write what they are made of
  ansible.builtin.copy:
    content: "{{ host.images | xen.stubdom.cyclonedx(inventory_hostname) | to_nice_json }}"
    dest: "/srv/bom/{{ inventory_hostname }}.cdx.json"
    mode: "0644"
  delegate_to: localhost
"""

RETURN = r"""
_value:
  description: The document, see U(https://cyclonedx.org/docs/1.6/json/).
  type: dict
"""

from typing import Any, Callable, Dict

from ansible.errors import AnsibleFilterError
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.plugin_utils import bill_of_materials


def cyclonedx(images: Any, name: str = "") -> Dict[str, Any]:
    """Return the bill of materials of images."""
    if not isinstance(images, list):
        raise AnsibleFilterError(
            f"The filter cyclonedx needs the list of images and was given {type(images).__name__}.\n"
            "Give it what the module xen_info returns as images."
        )
    try:
        return bill_of_materials.describe(images, name)
    except UserError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """The filters of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"cyclonedx": cyclonedx}
