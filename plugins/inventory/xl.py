# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: xl
short_description: Guests of Xen hosts as hosts
version_added: 0.1.0
description:
  - Makes a host of each guest that runs on a Xen host or has a configuration there, with what is known of it in
    variables that begin with C(xl_), and in groups by state, type, flavour, Xen host and place of its device model.
  - It reaches the Xen hosts with the system's C(ssh), many at once, and runs one shell program on each, as root, that
    only reads. A host that cannot be reached is a warning, and its guests are missing.
  - A Xen host is reached as an inventory source that was read before says, by C(ansible_host), C(ansible_port),
    C(ansible_user), C(ansible_ssh_private_key_file), C(ansible_ssh_common_args), C(ansible_ssh_extra_args),
    C(ansible_ssh_executable) and C(ansible_become), which takes C(sudo); with C(ansible_connection=local) it is this
    machine. What no source says is left to the configuration of C(ssh). No password is asked for.
  - The name of a host is the guest's. Where guests of several Xen hosts have one name, or another source has a host of
    that name, it is C(GUEST.HOST).
  - The name of the file has to end in C(xl.yml) or C(xl.yaml).
author:
  - The xen.stubdom authors (@xen-stubdom)
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
notes:
  - Xen does not know the addresses of guests. See O(addresses) for where they are taken from.
options:
  plugin:
    description: Name of this plugin.
    type: str
    required: true
    choices: [xen.stubdom.xl]
  hosts:
    description:
      - Xen hosts, by the names that an inventory source read before has for them, or that C(ssh) can reach.
      - Without it and O(host_groups), the hosts of the group C(xen_hosts).
    type: list
    elements: str
    default: []
  host_groups:
    description: Groups of Xen hosts that an inventory source read before has.
    type: list
    elements: str
    default: []
  directory:
    description: Directory with the configurations of guests on the Xen hosts.
    type: str
    default: /etc/xen
  stopped:
    description: Whether guests that do not run are hosts too.
    type: bool
    default: true
  addresses:
    description:
      - Where C(ansible_host) of a guest is taken from; the first address of the first source that has one counts.
      - V(configured) is the C(ip) of a network interface, V(leases) what the C(dnsmasq) of dom0 has given the guest's
        MAC address, V(neighbours) the addresses that dom0 itself has spoken with under that MAC address.
      - V(guest) is what the guest writes into xenstore about itself, as the guest tools of XenServer do. Name it only
        where you trust the guests, as one can name any address, and a play would be run there.
      - Loopback and link-local addresses are left out. Without an address, a guest has no C(ansible_host).
    type: list
    elements: str
    choices: [configured, leases, neighbours, guest]
    default: [configured, leases, neighbours]
  filter:
    description:
      - A condition in JMESPath that guests have to fulfil to be hosts, such as C(type == 'hvm' && state == 'running').
      - It sees what is in the variables of a guest, without the C(xl_) before their names, and C(host), its Xen host.
      - It needs the Python package C(jmespath) on the control machine. U(https://jmespath.org) describes the language.
    type: str
  group_prefix:
    description: What the names of this plugin's own groups begin with.
    type: str
    default: xl_
  forks:
    description: How many Xen hosts are asked at once.
    type: int
    default: 50
  timeout:
    description: How long a Xen host may take to answer, in seconds.
    type: int
    default: 30
  unreachable:
    description: Whether a Xen host that gives no answer is a warning or ends the run.
    type: str
    choices: [warn, fail]
    default: warn
seealso:
  - module: xen.stubdom.xen_info
"""

EXAMPLES = r"""
# guests.xl.yml, beside hosts.yml with the group xen_hosts:
plugin: xen.stubdom.xl

# Other groups, and an address that a name server knows:
# plugin: xen.stubdom.xl
# host_groups: [xen_hosts]
# stopped: false
# filter: device_model == 'dom0' && memory_mib > `1024`
# compose:
#   ansible_host: inventory_hostname ~ '.example.org'
# keyed_groups:
#   - key: xl_memory_mib | string
#     prefix: memory
# groups:
#   unprotected: xl_device_model == 'dom0'
# cache: true
# cache_plugin: ansible.builtin.jsonfile
# cache_connection: ~/.cache/xl
"""

import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Mapping, Tuple

from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.utils.unsafe_proxy import wrap_var
from ansible.utils.vars import combine_vars
from ansible.vars.plugins import get_vars_from_inventory_sources
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError, printable
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import last_line
from ansible_collections.xen.stubdom.plugins.module_utils._guests import listing
from ansible_collections.xen.stubdom.plugins.plugin_utils.query import Query


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):  # type: ignore[misc]
    """Guests of Xen hosts as hosts."""

    NAME = "xen.stubdom.xl"

    def verify_file(self, path: str) -> bool:
        return bool(super().verify_file(path)) and path.endswith(("xl.yml", "xl.yaml"))

    def parse(self, inventory: InventoryData, loader: DataLoader, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path)
        self._read_config_data(path)
        key = self.get_cache_key(path)
        kept = self.get_option("cache")
        try:
            found = self._cache[key] if cache and kept else None
        except KeyError:
            found = None
        if found is None:
            found = self._ask()
            if kept:
                self._cache[key] = found
        self._fill(found)

    def _ask(self) -> Dict[str, List[Dict[str, Any]]]:
        """Return the guests by Xen host."""
        names = self._hosts()
        if not names:
            raise AnsibleParserError(
                "There is no Xen host to ask for guests. Name some in hosts or host_groups, and the inventory source "
                "that has them before this one."
            )
        commands = [self._command(name) for name in names]
        timeout = self.get_option("timeout")
        found: Dict[str, List[Dict[str, Any]]] = {}
        with ThreadPoolExecutor(max_workers=max(1, self.get_option("forks"))) as pool:
            answers = pool.map(lambda command: _answer(command, timeout), commands)
            for name, answer in zip(names, answers):
                if isinstance(answer, Exception):
                    text = f"The guests of the Xen host {name} are not known: {printable(str(answer))}"
                    if self.get_option("unreachable") == "fail":
                        raise AnsibleParserError(text)
                    self.display.warning(text)
                else:
                    found[name] = answer
        return found

    def _hosts(self) -> List[str]:
        named = list(self.get_option("hosts"))
        groups = self.get_option("host_groups")
        for group in groups or ([] if named else ["xen_hosts"]):
            if group in self.inventory.groups:
                named += [host.name for host in self.inventory.groups[group].get_hosts()]
            elif groups:
                raise AnsibleParserError(
                    f"There is no group {group}. Correct host_groups, or name the inventory source that has it first."
                )
        return list(dict.fromkeys(named))

    def _command(self, name: str) -> List[str]:
        """The program that runs a shell on a host, by the variables that the inventory has of it."""
        values: Dict[str, Any] = {}
        host = self.inventory.hosts.get(name)
        if host is not None:
            sources = getattr(self.inventory, "processed_sources", [])
            groups = list(host.get_groups())
            values = combine_vars(values, get_vars_from_inventory_sources(self.loader, sources, groups, "all"))
            for group in sorted(groups, key=lambda group: (group.depth, group.priority, group.name)):
                values = combine_vars(values, group.get_vars())
            values = combine_vars(values, get_vars_from_inventory_sources(self.loader, sources, [host], "all"))
            values = combine_vars(values, host.get_vars())
        self.templar.available_variables = {**values, "inventory_hostname": name}

        def value(*names: str) -> str:
            given = next((values[one] for one in names if values.get(one) is not None), "")
            return str(self.templar.template(given))

        become = value("ansible_become").lower() in ("true", "yes", "1")
        shell = [*(("sudo", "-n") if become else ()), "sh", "-s", "--", self.get_option("directory")]
        if value("ansible_connection") == "local":
            return shell
        command = [value("ansible_ssh_executable") or "ssh", "-T", "-o", "BatchMode=yes"]
        command += ["-o", f"ConnectTimeout={self.get_option('timeout')}"]
        for arguments in ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args"):
            command += shlex.split(value(arguments))
        for option, names in (
            ("-p", ("ansible_port", "ansible_ssh_port")),
            ("-l", ("ansible_user", "ansible_ssh_user")),
            ("-i", ("ansible_ssh_private_key_file", "ansible_private_key_file")),
        ):
            given = value(*names)
            if given:
                command += [option, given]
        return [*command, "--", value("ansible_host", "ansible_ssh_host") or name, shlex.join(shell)]

    def _fill(self, found: Mapping[str, List[Dict[str, Any]]]) -> None:
        stopped = self.get_option("stopped")
        shown = [
            (host, guest) for host, guests in found.items() for guest in guests if stopped or guest["domid"] is not None
        ]
        shown = self._selected(shown)
        names = [*self.inventory.hosts, *(guest["name"] for _host, guest in shown)]
        for host, guest in shown:
            name = guest["name"] if names.count(guest["name"]) == 1 else f"{guest['name']}.{host}"
            self._add(name, host, guest)

    def _selected(self, shown: List[Tuple[str, Dict[str, Any]]]) -> List[Tuple[str, Dict[str, Any]]]:
        """Return the guests that fulfil the condition, all without one."""
        condition = self.get_option("filter")
        if condition is None:
            return shown
        try:
            question = Query(condition)
            found = [(host, guest) for host, guest in shown if question.ask({**guest, "host": host})]
            if not found:
                question.check_names([{**guest, "host": host} for host, guest in shown])
            return found
        except UserError as error:
            raise AnsibleParserError(f"The option filter cannot be used. {error}") from None

    def _add(self, name: str, host: str, guest: Mapping[str, Any]) -> None:
        self.inventory.add_host(name)
        values = {f"xl_{key}": value for key, value in guest.items()}
        values["xl_host"] = host
        address = listing.address(guest, self.get_option("addresses"))
        if address is not None:
            values["ansible_host"] = address
        for key, value in values.items():
            # What is read from a host is text, and no template.
            self.inventory.set_variable(name, key, wrap_var(value))
        prefix = self.get_option("group_prefix")
        for key, value in (
            ("guests", ""),
            ("host", host),
            *((key, guest[key]) for key in ("state", "type", "flavour", "device_model")),
        ):
            if value is not None:
                group = self._sanitize_group_name(f"{prefix}{key}{'_' if value else ''}{value}")
                self.inventory.add_child(self.inventory.add_group(group), name)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), values, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), values, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), values, name, strict=strict)


def _answer(command: List[str], timeout: int) -> List[Dict[str, Any]] | Exception:
    """Return the guests of a host, or the error why they are not known."""
    try:
        asked = listing.PROGRAM.encode()
        done = subprocess.run(command, input=asked, capture_output=True, timeout=timeout, check=False)
        if done.returncode != 0:
            raise ValueError(last_line(done.stderr.decode(errors="replace")) or f"status {done.returncode}")
        return listing.described(done.stdout)
    except subprocess.TimeoutExpired:
        return TimeoutError(f"no answer in {timeout} seconds")
    except (OSError, ValueError) as error:
        return error
