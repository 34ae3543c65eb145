# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: which option is asked for. Values of some of the hypervisor's are validated.
# An option that is not in the table is written as it is given. Sources: xen/arch/x86/dom0_build.c,
# xen/arch/arm/domain_build.c and parse_bool in xen/common/kernel.c @ stable-4.17.

from __future__ import annotations

import re
from typing import Callable, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot import (
    command_line,
    dom0_mem,
    dom0_mem_checks,
    line_edits,
    option_names,
)
from ansible_collections.xen.stubdom.plugins.module_utils._boot.change import DesiredOption, Options, equivalent
from ansible_collections.xen.stubdom.plugins.module_utils._boot.command_line import HYPERVISOR, Recipient
from ansible_collections.xen.stubdom.plugins.module_utils._boot.host_facts import HostFacts
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

# Value and facts → warnings.
Validate = Callable[[Optional[str], HostFacts], List[str]]

_VCPUS = re.compile(r"^(?:(?P<low>[0-9]+)(?:(?P<range>-)(?P<high>[0-9]*))?|-(?P<only>[0-9]+))$", re.ASCII)
_BOOLEANS = ("", "yes", "on", "true", "enable", "1", "no", "off", "false", "disable", "0")


def _validate_memory(value: Optional[str], facts: HostFacts) -> List[str]:
    if value is None:
        raise UserError("The option dom0_mem has no value.", "Set value, for example to 2G,max:2G, or state to absent.")
    return dom0_mem_checks.validate(dom0_mem.parse(value, arm=facts.arm), facts)


def _validate_vcpus(value: Optional[str], facts: HostFacts) -> List[str]:
    match = _VCPUS.match(value or "")
    if match is None or (facts.arm and match["low"] != value):
        forms = "a number" if facts.arm else "N, N-, -M or N-M with whole numbers"
        shown = "The option dom0_max_vcpus has no value" if value is None else f"dom0_max_vcpus={value} is not valid"
        raise UserError(f"{shown}.", f"Set value to {forms}.")
    low, high = int(match["low"] or 1), int(match["only"] or match["high"] or 0)
    if high and low > high:
        raise UserError(
            f"dom0_max_vcpus={value} has a minimum above its maximum, and Xen would use the maximum for both.",
            "Write the lower number first in value.",
        )
    warnings = []
    if match["low"] and low == 0:
        warnings.append(f"dom0_max_vcpus={value}: Xen reads 0 as 1.")
    if facts.processors is not None and low > facts.processors:
        warnings.append(f"dom0_max_vcpus={value} is more than the {facts.processors} processors of the host.")
    return warnings


def _validate_boolean(value: Optional[str], facts: HostFacts) -> List[str]:
    if value is not None and value not in _BOOLEANS:
        raise UserError(
            f"dom0_vcpus_pin={value} is not a boolean.",
            "Leave value out, or set it to yes, on, true, enable, 1, no, off, false, disable or 0.",
        )
    return []


VALIDATED: Mapping[str, Validate] = {
    dom0_mem.OPTION: _validate_memory,
    "dom0_max_vcpus": _validate_vcpus,
    "dom0_vcpus_pin": _validate_boolean,
}
EQUIVALENT: Mapping[str, Callable[[Options, Options], bool]] = {dom0_mem.OPTION: dom0_mem.same_options}


def plan(
    name: str,
    values: Sequence[Optional[str]],
    present: bool,
    facts: HostFacts,
    recipient: Recipient = HYPERVISOR,
) -> Tuple[DesiredOption, List[str]]:
    """Return the option that is asked for, and warnings about its name and value.

    :param values: one for each time that the option is set, None for an option without a value.
    :raises UserError: it would not be understood.
    """
    if not present:
        values = [None]
    if not values:
        raise UserError("The parameter values is empty.", "List at least one value, or set state to absent.")
    option = " ".join(line_edits.render(name, value, recipient) for value in values)
    if recipient is not HYPERVISOR:
        if not present:
            return DesiredOption(name, None, recipient=recipient), []
        return DesiredOption(name, option, recipient=recipient), option_names.kernel_warnings(name)
    key = command_line.name_of(name)
    same = EQUIVALENT.get(key, equivalent)
    if not present:
        return DesiredOption(name, None, same), []
    if key in VALIDATED and len(values) > 1:
        raise UserError(
            f"The option {name} is set {len(values)} times, and the hypervisor uses the last one.",
            "Set value, or one element of values.",
        )
    warnings = VALIDATED[key](values[0], facts) if key in VALIDATED else []
    return DesiredOption(name, option, same), [*warnings, *option_names.hypervisor_warnings(name, facts.version)]
