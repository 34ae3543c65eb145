# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: packages
short_description: Name the packages of a host's distribution by what they are for
version_added: 0.1.0
description:
  - What one distribution calls C(squashfs-tools) another calls C(squashfs). This filter takes the names from the table
    that the modules of this collection take theirs from.
  - What is not known of a distribution, or is not in its own repositories, is left out. An unknown distribution has no
    packages at all.
author:
  - The xen.stubdom authors (@xen-stubdom)
positional: purposes
options:
  _input:
    description: The facts of the host, as C(ansible_facts) or as the module M(ansible.builtin.setup) returns them.
    type: dict
    required: true
  purposes:
    description: What the packages are for, for example V(busybox), V(qemu), V(squashfs) or V(xenstore).
    type: list
    elements: str
    required: true
  builds:
    description: >-
      What is to be built from source there: V(base), and names of images (V(hvmloader), V(pv-grub-x86_32)) or of what
      an older release needs besides (V(texinfo), V(libcrypto), V(libaio)).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show what a Linux stub domain is assembled from
  ansible.builtin.debug:
    msg: "{{ ansible_facts | xen.stubdom.packages(['busybox', 'qemu', 'squashfs']) }}"
    # On Debian: ['busybox-static', 'qemu-system-xen', 'squashfs-tools']
"""

RETURN = r"""
_value:
  description: Names of packages, in alphabetical order.
  type: list
  elements: str
"""

from typing import Any, Callable, Dict, List, Mapping, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._common import build_packages, distributions


def by_os_family(distribution: str, os_family: str) -> distributions.Distribution:
    """Return the row of a host by what Ansible calls its distribution and family, GENERIC where none is meant."""
    for row in distributions.DISTRIBUTIONS:
        if row.name == distribution:
            return row
    return next(
        (row for row in distributions.DISTRIBUTIONS if row.os_family and row.os_family == os_family),
        distributions.GENERIC,
    )


def packages(facts: Mapping[str, Any], purposes: Sequence[str], builds: Sequence[str] = ()) -> List[str]:
    """Return the packages of the distribution that the facts tell, as far as its own package manager has them."""
    name, family = (
        str(facts.get(fact) or facts.get(f"ansible_{fact}") or "") for fact in ("distribution", "os_family")
    )
    row = by_os_family(name, family)
    own = [purpose for purpose in purposes if purpose not in (*distributions.EITHER, *row.origins)]
    found = [row.packages.get(purpose, ()) for purpose in own]
    found += [build_packages.PACKAGES.get(row.key, {}).get(build, ()) for build in builds]
    return sorted({package for names in found for package in names if "{" not in package})


class FilterModule:
    """The filters of this file."""

    def filters(self) -> Dict[str, Callable[..., List[str]]]:
        return {"packages": packages}
