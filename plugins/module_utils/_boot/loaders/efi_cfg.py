# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: xen.cfg, which xen.efi reads when the firmware or systemd-boot starts it.
# Source: docs/misc/efi.pandoc, and pre_parse, get_value and efi_start in xen/common/efi/boot.c @ stable-4.17.

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Set

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot.next_boot import NO_ENTRY, NextBoot
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import ENCODING, MARK, Tree
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.files import Change
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner

# Where EFI system partitions are mounted; below them the files are at most two directories down.
PARTITIONS = ("/boot/efi", "/efi", "/boot", "/esp")
_DEPTHS = ("", "*/", "*/*/")

_IMAGE = re.compile(r"^xen(?!-syms)[^/]*\.efi$", re.IGNORECASE)
_ENTRIES = ("loader/entries/*.conf",)

# Any control character ends a line there, a tab as well.
_LINE = re.compile(r"(?P<text>[^\x00-\x1f\x7f]*)(?P<end>\r\n|[\x00-\x1f\x7f]|$)")
_ITEM = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z]+)=(?P<space> *)(?P<value>[^#]*)")
_SECTION = re.compile(r"^ *\[(?P<name>[^\]#]*)\]")


@dataclass(frozen=True)
class Item:
    """One key=value of the file.

    :param line: number of its line.
    :param start: where the line begins; the value is from *value_start* to *value_end*, up to a comment.
    :param ending: what ends the line; xen.efi ignores a last line that nothing ends.
    """

    section: Optional[str]
    key: str
    line: int
    start: int
    value_start: int
    value_end: int
    value: str
    ending: str


def parse(text: str) -> List[Item]:
    """Return the items of a file in order."""
    items: List[Item] = []
    section: Optional[str] = None
    seen: Set[str] = set()
    at, number = 0, 1
    while at < len(text):
        match = _LINE.match(text, at)
        if match is None:
            break
        line, start = match["text"], at
        at = match.end()
        header, item = _SECTION.match(line), _ITEM.match(line)
        if header:
            # Of two sections of one name only the first is ever read.
            section = header["name"] if header["name"] not in seen else f"{header['name']}\0"
            seen.add(header["name"])
        elif item:
            value_start = start + item.start("value")
            items.append(
                Item(
                    section,
                    item["key"],
                    number,
                    start,
                    value_start,
                    value_start + len(item["value"]),
                    item["value"],
                    match["end"],
                )
            )
        number += match["end"].count("\n")
    return items


def read(text: str) -> List[Item]:
    """Return the items that xen.efi sees."""
    return [item for item in parse(text) if item.ending]


def default_section(items: Sequence[Item]) -> Optional[str]:
    """Return the section that is started, None for whatever comes first in the file."""
    found = (item.value for item in items if (item.section, item.key) == ("global", "default"))
    return next((value.strip() for value in found), None)


def first(items: Sequence[Item], section: Optional[str], key: str) -> Optional[Item]:
    """Return the item that xen.efi uses: the first of its name, in the whole file where no section is chosen."""
    return next((item for item in items if item.key == key and section in (None, item.section)), None)


def options(text: str) -> Optional[str]:
    """Return the options that the default section passes, None where it starts nothing."""
    items = read(text)
    section = default_section(items)
    if first(items, section, "kernel") is None:
        return None
    found = first(items, section, "options")
    return "" if found is None else found.value.strip()


def edit(path: str, text: str, name: str, option: Optional[str]) -> str:
    """Return the file with *option* in every section that starts a kernel, as the sections are entries of one menu.

    A section without the key options gets one. Where no section is the default, only the file as a whole does: xen.efi
    uses the first key of that name, and a new one in some section could precede it.

    :raises UserError: xen.efi would not read what is written.
    """
    every = parse(text)
    if option is not None and every and not every[-1].ending:
        raise UserError(
            f"{path} line {every[-1].line}: the last line has no newline at its end, so xen.efi ignores it.",
            "Nothing was changed. Add the newline if xen.efi is to use that line, or delete the line; then run again.",
        )
    items = read(text)
    sections: List[Optional[str]] = [None] if default_section(items) is None else []
    sections += [item.section for item in items if item.key == "kernel" and item.section is not None]
    if not any(item.key == "kernel" for item in items):
        chain = next((item for item in items if item.key == "chain"), None)
        where = f"{path} line {chain.line} refers to another file (chain=)" if chain else f"{path} starts no kernel"
        raise UserError(f"{where}.", "Nothing was changed. Add a section with kernel= for dom0's kernel to this file.")
    newline = "\r\n" if "\r\n" in text else "\n"
    edits: Dict[int, command_line.Edit] = {}
    for section in sections:
        found, kernel = first(items, section, "options"), first(items, section, "kernel")
        if found is not None:
            _change(text, found, name, option, edits, newline)
        elif option is not None and kernel is not None and (section is None or None not in sections):
            edits[kernel.start] = (kernel.start, kernel.start, f"{MARK}{newline}options={option}{newline}")
    return command_line.apply_edits(text, list(edits.values()))


def _change(
    text: str, item: Item, name: str, option: Optional[str], edits: Dict[int, command_line.Edit], newline: str
) -> None:
    changes = command_line.edits(item.value, name, option)
    if not changes:
        return
    added = f"{MARK}{newline}"
    alone = text.startswith(item.ending, item.value_end) and not command_line.apply_edits(item.value, changes)
    if alone and text[: item.start].endswith(added):
        edits[item.start] = (item.start - len(added), item.value_end + len(item.ending), "")
        return
    for start, end, new in changes:
        place = item.value_start + start
        edits[place] = (place, item.value_start + end, new)


def configuration_names(image: str) -> List[str]:
    """Return the names under which xen.efi looks for its configuration, in order (point_tail)."""
    found: List[str] = []
    stem = image
    while True:
        place = max(stem.rfind(mark) for mark in ".-_")
        if place < 0:
            return found
        stem = stem[:place]
        found.append(f"{stem}.cfg")


class EfiCfg:
    """xen.efi with its configuration file.

    :param run: runs a command without a shell.
    :param root: where the files are found.
    :param foreign: whether that is another tree than this host's.
    """

    name = "efi_cfg"
    generates = False
    first_option: Optional[str] = None
    cannot_boot_once: Optional[str] = (
        "xen.efi boots the default section of xen.cfg, and another section cannot be selected for one boot."
    )

    def __init__(self, run: Runner, *, root: str = "/", foreign: bool = False) -> None:
        self._tree = Tree(root, foreign=foreign)

    def present(self) -> bool:
        return bool(self._configurations())

    def hypervisor_installed(self) -> bool:
        return bool(self._images())

    def read(self) -> Dict[str, bytes]:
        return self._tree.contents(self._configurations())

    def plan(self, sources: Mapping[str, bytes], name: str, option: Optional[str]) -> List[Change]:
        if not sources:
            raise UserError(
                "xen.efi has no configuration file beside it.",
                "Write xen.cfg with kernel= for dom0's kernel first, then run again.",
            )
        changes = []
        for path, content in sources.items():
            after = edit(path, content.decode(ENCODING), name, option).encode(ENCODING)
            if after != content:
                changes.append(Change(self._tree.path(path), content, after))
        return changes

    def configured(self, sources: Mapping[str, bytes]) -> str:
        lines = (options(content.decode(ENCODING)) for content in sources.values())
        return next((line for line in lines if line is not None), "")

    def next_boot(self) -> NextBoot:
        sources = self.read()
        lines = [options(content.decode(ENCODING)) for content in sources.values()]
        line = next((line for line in lines if line is not None), None)
        if line is None:
            return NO_ENTRY
        passed = " ".join([line, *self._appended()]).strip()
        return NextBoot(passed, True, entries=(passed,))

    def output(self) -> Optional[str]:
        """Return nothing: no program generates the file."""
        return None

    def output_option(self) -> Optional[str]:
        return None

    def generator(self) -> List[str]:
        """Return no command: xen.efi reads the file itself."""
        return []

    def unchecked(self, sources: Mapping[str, bytes]) -> List[str]:
        return ["Whether the firmware passes options of its own to xen.efi was not checked."]

    def _images(self) -> List[str]:
        found = (
            path
            for partition in PARTITIONS
            for depth in _DEPTHS
            for path in self._tree.glob(f"{partition}/{depth}*.[eE][fF][iI]")
        )
        return [path for path in dict.fromkeys(found) if _IMAGE.match(os.path.basename(path))]

    def _configurations(self) -> List[str]:
        found: List[str] = []
        for image in self._images():
            directory, name = os.path.split(image)
            candidates = (os.path.join(directory, candidate) for candidate in configuration_names(name))
            used = next((path for path in candidates if self._tree.is_file(path)), None)
            if used and used not in found:
                found.append(used)
        return found

    def _appended(self) -> List[str]:
        """Return what an entry of systemd-boot adds: xen.efi appends the options after -- to those of xen.cfg."""
        images = {os.path.basename(path).lower() for path in self._images()}
        added: List[str] = []
        for partition in PARTITIONS:
            for pattern in _ENTRIES:
                for path in self._tree.glob(f"{partition}/{pattern}"):
                    text = (self._tree.read(path) or b"").decode(ENCODING)
                    fields = dict(line.split(None, 1) for line in text.splitlines() if len(line.split(None, 1)) == 2)
                    passed = fields.get("options", "").split()
                    image = fields.get("efi", "").strip().rpartition("/")[2].lower()
                    if image in images and command_line.END in passed:
                        added += passed[passed.index(command_line.END) + 1 :]
        return added
