# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: netboot
short_description: Configure dnsmasq for guests that boot from the network
version_added: 0.1.0
description:
  - Makes the files that C(dnsmasq) reads, for the role xen.stubdom.netboot_server.
  - PV-GRUB takes the path of its menu from DHCP option 150, for which C(dnsmasq) knows no text. This filter writes it
    as C(dnsmasq) and PV-GRUB both understand it.
author:
  - The xen.stubdom authors (@xen-stubdom)
options:
  _input:
    description:
      - The guests. Each has the keys V(name) and V(mac), and may have V(menu_entries), V(menu_timeout), V(boot_file)
        and V(address), see C(netboot_server_guests) of that role.
    type: list
    elements: dict
    required: true
  interface:
    description: The network interface that is served.
    type: str
    required: true
  first:
    description: The first IPv4 address that guests get.
    type: str
    required: true
  last:
    description: The last one.
    type: str
    required: true
  own:
    description:
      - The IPv4 addresses of the interface, each with the length of its prefix, for example V(192.0.2.1/24).
      - Without it they are not compared with the other parameters, and a prefix of 24 is taken.
    type: list
    elements: str
  lease:
    description: How long a guest may keep an address, in seconds, or with V(m), V(h), V(d) or V(w) behind the number.
    type: str
    default: 1h
  router:
    description: The default route that guests get. None when empty.
    type: str
    default: ""
  name_servers:
    description: The name servers that guests get.
    type: list
    elements: str
    default: []
  serve_all:
    description: Whether machines get an address that are not in the list.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show what dnsmasq would read
  ansible.builtin.debug:
    msg: "{{ guests | xen.stubdom.netboot(interface='xenbr0', first='192.0.2.100', last='192.0.2.199') }}"
  vars:
    guests:
      - name: mail
        mac: "00:16:3e:11:22:33"
        menu_entries:
          - title: Debian
            kernel: /debian/vmlinuz
            initrd: /debian/initrd.gz
"""

RETURN = r"""
_value:
  description: The files.
  type: dict
  contains:
    configuration:
      description: The configuration of C(dnsmasq).
      type: str
    menus:
      description: The texts of the menus, by their paths below C(/var/lib/xen.stubdom/netboot), which is served.
      type: dict
"""

from typing import Any, Callable, Dict, Mapping, Optional, Sequence

from ansible.errors import AnsibleFilterError
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import netboot as core


def netboot(
    guests: Sequence[Mapping[str, Any]],
    interface: str,
    first: str,
    last: str,
    own: Optional[Sequence[str]] = None,
    lease: str = "1h",
    router: str = "",
    name_servers: Sequence[str] = (),
    serve_all: bool = False,
) -> Dict[str, Any]:
    """Return what dnsmasq is to read."""
    server = core.Server(interface, first, last, own, lease, router, name_servers, serve_all)
    try:
        files = core.plan_files(server, guests)
    except UserError as error:
        raise AnsibleFilterError(f"{error.what} {error.remedy}") from None
    return {"configuration": files.configuration, "menus": dict(files.menus)}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> Dict[str, Callable[..., Dict[str, Any]]]:
        return {"netboot": netboot}
