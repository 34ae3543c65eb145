#!/usr/bin/env python3
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes plugins/module_utils/_xen/xl_keys.py from the source of xl and libxl in a copy of Xen's repository.

tests/tools/xl_keys.py DIRECTORY    DIRECTORY is a Git repository with the branches stable-4.2 and later
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

TABLE = Path(__file__).resolve().parents[2] / "plugins" / "module_utils" / "_xen" / "xl_keys.py"
# xl became the toolstack with this release.
FIRST = 2
# Where each release has a file, the newest place first.
PARSER = ("tools/xl/xl_parse.c", "tools/libxl/xl_cmdimpl.c")
TYPES = ("tools/libs/light/libxl_types.idl", "tools/libxl/libxl_types.idl")
DISKS = ("tools/libs/util/libxlu_disk_l.l", "tools/libxl/libxlu_disk_l.l")
PCI = ("tools/libs/util/libxlu_pci.c", "tools/libxl/libxlu_pci.c")
NAMES = ("xen/include/public/io/kbdif.h", "xen/include/public/io/sndif.h")
HEAD = """\
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the keys of xl.cfg, what each is read as, and the releases that read it.
#
# Written by tests/tools/xl_keys.py from xl's parse_config_data() and libxl's types in Xen's stable branches.

from __future__ import annotations

from typing import Mapping, Tuple

# The first and the last release that was looked at, as minor numbers of Xen 4.
OLDEST, NEWEST = {first}, {last}

# By key: the first and the last release that reads it, as what, and for which type of guest, "" for all. It is read as
# "bool", "int", "natural" (an int from 0 up), "string" or "list"; with two words it may be either. A key that came to
# be read in another way has a row for each.
KEYS: Mapping[str, Tuple[Tuple[int, int, str, str], ...]] = {{
{keys}}}

# By key: the words that it is compared with, and the first and last release that knows each. A list's elements are
# such words. KEY.FIELD stands for a field of a device.
WORDS: Mapping[str, Mapping[str, Tuple[int, int]]] = {{
{words}}}

# Keys whose words are compared letter by letter; others may be in small or capital letters.
EXACT: Tuple[str, ...] = (
{exact})

# By key that describes devices: the names of the fields of one, and the first and last release that knows each.
FIELDS: Mapping[str, Mapping[str, Tuple[int, int]]] = {{
{fields}}}
"""

KINDS = {
    "get_string": "string",
    "replace_string": "string",
    "get_long": "int",
    "get_bounded_long": "natural",
    "get_defbool": "bool",
    "get_list": "list",
    "get_list_as_string_list": "list",
}
GETTER = re.compile(rf'xlu_cfg_({"|".join(KINDS)})\s*\(\s*\w+\s*,\s*"([a-z0-9_]+)"')
# What a key is compared with need not be all that it takes: these take a path or a program too, or words of their own.
FREE = ("firmware", "bootloader", "cpuid", "device_model")
# A variable that holds the name of a field while it is compared.
FIELD = re.compile(r'(?:MATCH_OPTION\s*\(\s*|strcmp\s*\(\s*(?:p|key|option|token)\s*,\s*)("[^"]+"|XEN[A-Z_]+)')
REVERSED = re.compile(r'strcmp\s*\(\s*("[a-z-]+")\s*,\s*(?:token|option)\s*\)')


@dataclass
class Release:
    """What one release reads."""

    kinds: dict[str, set[str]] = field(default_factory=dict)
    guests: dict[str, set[str]] = field(default_factory=dict)
    words: dict[str, set[str]] = field(default_factory=dict)
    exact: set[str] = field(default_factory=set)
    fields: dict[str, set[str]] = field(default_factory=dict)


def functions(source: str) -> dict[str, str]:
    """Return the functions of a file in C by their names, in the layout that Xen's coding style asks for."""
    found = re.finditer(r"^[a-z][^;{}()#]*?\b(\w+)\s*\([^;{}]*?\)\s*\n\{\n(.*?)^\}", source, re.MULTILINE | re.DOTALL)
    return {match[1]: match[2] for match in found}


def reached(bodies: Mapping[str, str], start: str) -> dict[str, str]:
    """Return a function and all that it calls, of those that there are."""
    found: dict[str, str] = {}
    ahead = [start]
    while ahead:
        name = ahead.pop()
        if name in bodies and name not in found:
            found[name] = bodies[name]
            ahead += re.findall(r"\b(\w+)\s*\(", bodies[name])
    return found


def spelled_out(body: str) -> str:
    """Write out the calls of a macro that puts a key together (parse_extra_args)."""
    for macro in re.finditer(r"#define (\w+)\((\w+)\)((?:.*\\\n)*.*\n)", body):
        name, parameter, text = macro.groups()
        for call in re.findall(rf"^ *{name}\((\w*)\);", body, re.MULTILINE):
            body += re.sub(rf'"#{parameter}\b', f'{call}"', text.replace("\\\n", "\n"))
        body = body.replace(macro[0], "")
    return body


def blocks(body: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield each key that is read, as what, for which type of guest, and the source from there to the next key."""
    getters = list(GETTER.finditer(body))
    for number, getter in enumerate(getters):
        others = (other.start() for other in getters[number + 1 :] if other[2] != getter[2])
        yield getter[2], KINDS[getter[1]], guest(body, getter.start()), body[getter.start() : next(others, len(body))]


BRANCH = re.compile(r"if \(\w+->type == LIBXL_DOMAIN_TYPE_(\w+)\) \{|case LIBXL_DOMAIN_TYPE_(\w+):|\{|\}")


def guest(body: str, place: int) -> str:
    """Return the type of guest for which the code there is run, an empty text for all types."""
    inside: list[str] = [""]
    for match in BRANCH.finditer(body, 0, place):
        if match[0] == "}":
            inside.pop()
        elif match[2]:
            inside[-1] = match[2].lower()
        else:
            inside.append((match[1] or "").lower() or inside[-1])
    return inside[-1]


def enumerations(types: str) -> dict[str, set[str]]:
    """Return the words of each enumeration of libxl."""
    found = re.finditer(r'^libxl_(\w+) = Enumeration\("\w+", \[(.*?)^\s*\]', types, re.MULTILINE | re.DOTALL)
    return {match[1]: set(re.findall(r'\(\s*-?\w+,\s*"(\w+)"', match[2])) for match in found}


def words_of(block: str, known: Mapping[str, set[str]], ends: set[str]) -> set[str]:
    """Return the words that a key's value is compared with."""
    found = set(re.findall(r'\bstrn?(?:case)?cmp\s*\(\s*buf\s*,\s*"([^"]+)"', block))
    for name in re.findall(r"libxl_(\w+)_from_string\s*\(\s*buf\b", block):
        found |= known[name] - {"unknown", "invalid"}
    return found | (ends if "parse_action_on_shutdown" in block else set())


def fields_of(text: str, named: Mapping[str, str]) -> set[str]:
    """Return the names of fields that a device's text is compared with."""
    found = FIELD.findall(text) + REVERSED.findall(text)
    return {name.strip('"') if name.startswith('"') else named[name] for name in found}


def release(read: Mapping[str, str]) -> Release:
    """Return what a release reads.

    :param read: the text of its files, by the name of the constant that says where they are.
    """
    found = Release()
    bodies = functions(read["PARSER"])
    known = enumerations(read["TYPES"])
    table = re.search(r"action_on_shutdown_names\[\] = \{(.*?)^\};", read["PARSER"], re.MULTILINE | re.DOTALL)
    ends = set(re.findall(r'"([a-z-]+)"', table[1] if table else ""))
    named = dict(re.findall(r'^#define\s+(XEN\w+)\s+"([^"]+)"', read["NAMES"], re.MULTILINE))
    for body in reached(bodies, "parse_config_data").values():
        for key, kind, only, block in blocks(spelled_out(body)):
            found.kinds.setdefault(key, set()).add(kind)
            found.guests.setdefault(key, set()).add(only)
            if kind in ("string", "list") and key not in FREE:
                found.words.setdefault(key, set()).update(words_of(block, known, ends))
                if not re.search(r"libxl_\w+_from_string\s*\(\s*buf\b", block):
                    found.exact.add(key)
            if kind == "list" and key not in FREE:
                # A function that reads keys of its own comes by itself.
                helpers = [name for name in re.findall(r"\b(parse_\w+)\s*\(", block) if name in bodies]
                helpers = [name for name in helpers if not GETTER.search(bodies[name])]
                text = "".join([block, *(part for name in helpers for part in reached(bodies, name).values())])
                found.fields.setdefault(key, set()).update(fields_of(text, named))
            if "libxl_smbios_type_from_string" in block:
                found.fields["smbios"] = known["smbios_type"]
    rules = read["DISKS"].partition("%%")[2]
    found.fields["disk"] = set(re.findall(r"^([a-z][a-z_-]*)(?:=\S*|,\?)\s+\{", rules, re.MULTILINE))
    for setter in re.finditer(r"^static void set(\w+)\(.*?^\}", read["DISKS"], re.MULTILINE | re.DOTALL):
        if setter[1] in found.fields["disk"]:
            found.words[f"disk.{setter[1]}"] = set(re.findall(r'strcmp\(str,\s*"(\w+)"\)', setter[0]))
    found.fields["pci"] = set(re.findall(r'strcmp\(\s*(?:optkey|key), "(\w+)"', read["PCI"]))
    return found


def releases(repository: Path) -> dict[int, Release]:
    """Return what each release reads, by its minor number."""

    def show(minor: int, places: Iterable[str]) -> Iterator[str]:
        for place in places:
            where = f"stable-4.{minor}:{place}"
            done = subprocess.run(["git", "-C", repository, "show", where], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                yield done.stdout

    def first(minor: int, places: Iterable[str]) -> str:
        return next(show(minor, places), "")

    minors = takewhile(lambda minor: first(minor, PARSER), range(FIRST, 1000))
    return {
        minor: release(
            {
                "PARSER": first(minor, PARSER),
                "TYPES": first(minor, TYPES),
                "DISKS": first(minor, DISKS),
                "PCI": first(minor, PCI),
                "NAMES": "".join(show(minor, NAMES)),
            }
        )
        for minor in minors
    }


def spans(key: str, by_release: Mapping[int, Release]) -> Iterator[str]:
    """Yield from which to which release a key is read in the same way, and what that way is."""
    found: list[tuple[int, int, str, str]] = []
    for minor, one in by_release.items():
        if key in one.kinds:
            only = one.guests[key]
            way = " ".join(sorted(one.kinds[key])), only.copy().pop() if len(only) == 1 else ""
            if found and found[-1][1:] == (minor - 1, *way):
                found[-1] = (found[-1][0], minor, *way)
            else:
                found.append((minor, minor, *way))
    for first, last, kinds, guests in found:
        yield f'({first}, {last}, "{kinds}", "{guests}")'


def rows(by_release: Mapping[int, Mapping[str, set[str]]]) -> str:
    """Return the rows of a table of words by key."""
    text = ""
    for key in sorted({key for found in by_release.values() for key in found}):
        having = {minor: found.get(key, set()) for minor, found in by_release.items()}
        names = sorted(set().union(*having.values()))
        if names:
            text += f'    "{key}": {{\n'
            for name in names:
                minors = [minor for minor, found in having.items() if name in found]
                text += f'        "{name}": ({minors[0]}, {minors[-1]}),\n'
            text += "    },\n"
    return text


def main() -> None:
    found = releases(Path(sys.argv[1]))
    keys = ""
    for key in sorted({key for one in found.values() for key in one.kinds}):
        read = list(spans(key, found))
        keys += f'    "{key}": ({", ".join(read)}{"," if len(read) == 1 else ""}),\n'
    words = {key for one in found.values() for key, named in one.words.items() if named}
    exact = set().union(*(one.exact for one in found.values()))
    TABLE.write_text(
        HEAD.format(
            first=min(found),
            last=max(found),
            keys=keys,
            words=rows({minor: one.words for minor, one in found.items()}),
            exact="".join(f'    "{key}",\n' for key in sorted(exact & words)),
            fields=rows({minor: one.fields for minor, one in found.items()}),
        )
    )


if __name__ == "__main__":
    main()
