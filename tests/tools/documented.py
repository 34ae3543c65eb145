# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares what a module has returned with its RETURN block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# What Ansible knows of every module, or takes out of the result. An underscore begins what is for an action plugin.
COMMON = {"changed", "diff", "failed", "invocation", "msg", "warnings", "deprecations", "exception", "ansible_facts"}
TYPES: dict[str, tuple[type[Any], ...]] = {
    "bool": (bool,),
    "complex": (dict,),
    "dict": (dict,),
    "float": (float, int),
    "int": (int,),
    "list": (list, tuple),
    "path": (str,),
    "raw": (object,),
    "str": (str,),
}


def problems(documented: Mapping[str, Any], result: Mapping[str, Any]) -> list[str]:
    """What is wrong with the result of a module that has not failed; documented is the parsed RETURN block."""
    shown = {key: value for key, value in result.items() if key not in COMMON and not key.startswith("_")}
    return list(_compare(documented, shown, "", False))


def _compare(documented: Mapping[str, Any], result: Mapping[str, Any], where: str, null: bool) -> Iterator[str]:
    for key in result:
        if key not in documented:
            yield f"{where}{key} is returned and not documented"
    for key, described in documented.items():
        if key in result:
            yield from _compare_value(described, result[key], f"{where}{key}", null)
        elif str(described.get("returned", "always")) in ("always", "success"):
            yield f"{where}{key} is documented and not returned"


def _compare_value(described: Mapping[str, Any], value: Any, where: str, null: bool) -> Iterator[str]:
    # What the description of a dictionary promises of null is true of all that is in it.
    null = null or "null" in str(described.get("description", ""))
    if value is None:
        if not null:
            yield f"{where} is null, and its description does not say when"
        return
    kind = str(described["type"])
    if not isinstance(value, TYPES[kind]) or (kind in ("int", "float") and isinstance(value, bool)):
        yield f"{where} is no {kind}: {value!r}"
        return
    if kind == "list":
        of_each = {**described, "type": described.get("elements", "raw")}
        for number, element in enumerate(value):
            yield from _compare_value(of_each, element, f"{where}[{number}]", null)
    elif "contains" in described:
        yield from _compare(described["contains"], value, f"{where}.", null)
