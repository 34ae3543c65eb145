# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: xen.cfg, which xen.efi reads when the firmware or systemd-boot starts it.
# Source: docs/misc/efi.pandoc, and pre_parse, get_value, get_argv and efi_start in xen/common/efi/boot.c
# @ stable-4.17 to stable-4.22.

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass, replace
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line, line_edits
from ansible_collections.xen.stubdom.plugins.module_utils._boot.command_line import HYPERVISOR, Recipient
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import efi_boot
from ansible_collections.xen.stubdom.plugins.module_utils._boot.next_boot import NO_ENTRY, WAITS, NextBoot
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import ENCODING, MARK, Tree
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.files import Change
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner

# Below an EFI system partition the files are at most two directories down.
_DEPTHS = ("", "*/", "*/*/")

_IMAGE = re.compile(r"^xen(?!-syms)[^/]*\.efi$", re.IGNORECASE)

# Any control character ends a line there, a tab as well.
_CONTROL = r"\x00-\x1f\x7f"
# What Xen takes for blanks before an item and before a value: in Latin-1 the no-break space, too (xen/lib/ctype.c).
_BLANKS = r"[ \xa0]*"
# One line: a section, an item, or nothing of these. A section that is not closed ends the one before all the same, and
# begins none that has a name.
_LINE = re.compile(
    rf"(?:{_BLANKS}\[(?P<name>[^\]#{_CONTROL}]*)(?P<closed>\]?)"
    rf"|{_BLANKS}(?P<key>[A-Za-z]+)={_BLANKS}(?P<value>[^#{_CONTROL}]*))?"
    rf"[^{_CONTROL}]*(?P<end>\r\n|[{_CONTROL}]|\Z)"
)
_UNNAMED = "\0"
# How many files may lead to one another.
_MOST_CHAINED = 8
_FILE = re.compile(r"[^ ]+")


class Item(NamedTuple):
    """One key=value of the file; a file may have very many.

    :param start: where the line begins; the value is from *value_start* to *value_end*, up to a comment.
    :param ending: what ends the line; a last line that nothing ends is read by all releases, although those before
        df75f77092 say that they ignore it.
    """

    section: Optional[str]
    key: str
    start: int
    value_start: int
    value: str
    ending: str

    @property
    def value_end(self) -> int:
        return self.value_start + len(self.value)


@functools.lru_cache(maxsize=4)
def parse(text: str) -> Sequence[Item]:
    """Return the items of a file in order; the same text is asked for several times in one run."""
    items: List[Item] = []
    section: Optional[str] = None
    seen: Set[str] = set()
    for match in _LINE.finditer(text):
        name, closed, key, value, end = match.groups()
        if name is not None:
            # Of two sections of one name only the first is ever read.
            name = name if closed else _UNNAMED
            section = name if name not in seen else f"{name}{_UNNAMED}"
            seen.add(name)
        elif key is not None:
            items.append(Item(section, key, match.start(), match.start("value"), value, end))
    return items


def default_section(items: Sequence[Item]) -> Optional[str]:
    """Return the section that is started, None for whatever comes first in the file.

    A blank at the end belongs to the name: xen.efi then looks for a section that has one, too.
    """
    found = (item.value for item in items if (item.section, item.key) == ("global", "default"))
    return next(found, None) or None


def first(items: Sequence[Item], section: Optional[str], key: str) -> Optional[Item]:
    """Return the item that xen.efi uses: the first of its name, in the whole file where no section is chosen."""
    return next((item for item in items if item.key == key and section in (None, item.section)), None)


def _file_ends(value: str) -> int:
    """Return where the name of dom0's kernel ends in the value of its key (split_string)."""
    match = _FILE.match(value)
    return match.end() if match else 0


def options(text: str, section: Optional[str] = None, recipient: Recipient = HYPERVISOR) -> Optional[str]:
    """Return the options that a section passes, the default one where none is given; None where it starts nothing."""
    items = parse(text)
    section = section or default_section(items)
    kernel = first(items, section, "kernel")
    if kernel is None:
        return None
    if recipient is not HYPERVISOR:
        return kernel.value[_file_ends(kernel.value) :].strip()
    found = first(items, section, "options")
    return "" if found is None else found.value.strip()


def edit(
    path: str,
    text: str,
    name: str,
    option: Optional[str],
    chosen: Optional[str] = None,
    recipient: Recipient = HYPERVISOR,
    *,
    default_only: bool = False,
) -> str:
    """Return the file with *option* in every section that starts a kernel, as the sections are entries of one menu.

    Those of dom0's Linux stand behind the name of its file. For the hypervisor, a section without the key options gets
    one. Where no section is the default, only the file as a whole does: xen.efi uses the first key of that name, and a
    new one in some section could precede it.

    :param chosen: the section that the loader's line selects.
    :param default_only: whether only the section that boots is edited.
    :raises UserError: xen.efi would not read what is written.
    """
    items = parse(text)
    boots = chosen or default_section(items)
    whole = boots is None
    sections: List[Optional[str]] = [boots] if whole or default_only else []
    if not default_only:
        sections += [item.section for item in items if item.key == "kernel" and item.section not in (None, _UNNAMED)]
    if not any(item.key == "kernel" for item in items):
        chain = next((item for item in items if item.key == "chain"), None)
        line = text.count("\n", 0, chain.start) + 1 if chain else 0
        where = f"{path} line {line} refers to another file (chain=)" if chain else f"{path} starts no kernel"
        raise UserError(f"{where}.", "Nothing was changed. Add a section with kernel= for dom0's kernel to this file.")
    newline = "\r\n" if "\r\n" in text else "\n"
    firsts: Dict[Tuple[Optional[str], str], Item] = {}
    for item in items:
        firsts.setdefault((item.section, item.key), item)
        firsts.setdefault((None, item.key), item)
    edits: Dict[int, line_edits.Edit] = {}
    for section in dict.fromkeys(sections):
        found, kernel = firsts.get((section, "options")), firsts.get((section, "kernel"))
        if recipient is not HYPERVISOR:
            if kernel is not None:
                behind = _file_ends(kernel.value)
                changes = line_edits.edits_behind(kernel.value[behind:], name, option, recipient)
                _put(edits, kernel.value_start + behind, changes)
        elif found is not None:
            _change(text, found, name, option, edits, newline)
        elif option is not None and kernel is not None and (section is None or not whole):
            edits[kernel.start] = (kernel.start, kernel.start, f"{MARK}{newline}options={option}{newline}")
    return line_edits.apply_edits(text, list(edits.values()))


def _change(
    text: str, item: Item, name: str, option: Optional[str], edits: Dict[int, line_edits.Edit], newline: str
) -> None:
    changes = line_edits.edits(item.value, name, option)
    if not changes:
        return
    added = f"{MARK}{newline}"
    alone = text.startswith(item.ending, item.value_end) and not line_edits.apply_edits(item.value, changes)
    if alone and text.endswith(added, 0, item.start):
        edits[item.start] = (item.start - len(added), item.value_end + len(item.ending), "")
        return
    _put(edits, item.value_start, changes)


def _put(edits: Dict[int, line_edits.Edit], at: int, changes: Sequence[line_edits.Edit]) -> None:
    """Add edits of a text that begins at a position of the file; one place is edited once."""
    for start, end, new in changes:
        edits[at + start] = (at + start, at + end, new)


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


@dataclass(frozen=True)
class Line:
    """What a boot manager passes to xen.efi: IMAGE [-cfg=FILE] [SECTION] -- OPTIONS (get_argv and efi_start).

    :param section: the section of the configuration.
    :param configuration: the file, beside the image.
    :param appended: options that follow those of the configuration.
    """

    section: Optional[str] = None
    configuration: Optional[str] = None
    appended: Sequence[str] = ()


def line(text: str) -> Line:
    """Read such a line; its first word is taken for the name of the image, whatever it is."""
    words = text.split()
    end = words.index(command_line.END) if command_line.END in words else len(words)
    section: Optional[str] = None
    configuration: Optional[str] = None
    given = iter(words[1:end])
    for word in given:
        if word[0] not in "-/":
            section = word
        elif word[1:].startswith("cfg="):
            configuration = word[5:]
        elif word[1:] == "cfg":
            configuration = next(given, configuration)
    return Line(section, configuration, tuple(words[end + 1 :]))


@dataclass(frozen=True)
class Candidate:
    """A configuration that xen.efi may read.

    :param path: of the file; of the image where the configuration is inside it.
    :param recipient: whose options are meant.
    """

    path: str
    text: str
    unified: bool
    line: Line = Line()
    recipient: Recipient = HYPERVISOR

    @property
    def passed(self) -> Optional[str]:
        """What it passes to the recipient, None where it starts nothing."""
        found = options(self.text, self.line.section)
        if found is None:
            return None
        line = " ".join([found, *self.line.appended]).strip()
        if self.recipient is HYPERVISOR:
            return line
        own = options(self.text, self.line.section, self.recipient) or ""
        return f"{own} {command_line.for_linux(line)}".strip()

    @property
    def words(self) -> Optional[Sequence[str]]:
        passed = self.passed
        return None if passed is None else command_line.options(passed, self.recipient)


@dataclass(frozen=True)
class Chosen:
    """What the next boot starts, as far as it is known.

    :param candidate: the configuration that it reads; None where it starts no Xen, or that is not known.
    :param xen: whether it starts Xen; None where that is not known.
    :param reason: why there is no candidate.
    :param waits: as of NextBoot.
    """

    candidate: Optional[Candidate]
    xen: Optional[bool]
    reason: str = ""
    waits: str = ""


_SECONDS = "set it to some seconds."
_REMEDY = "Remove the ones that are not used, or their boot entries, then run again."


class EfiCfg:
    """xen.efi with its configuration.

    :param run: runs a command without a shell.
    :param root: where the files are found.
    :param foreign: whether that is another tree than this host's.
    """

    name = "efi_cfg"
    generates = False
    recipient: Recipient = HYPERVISOR
    default_only = False
    first_option: Optional[str] = None

    def __init__(self, run: Runner, *, root: str = "/", foreign: bool = False) -> None:
        self.tree = Tree(root, foreign=foreign)
        self._looked: Dict[str, Tuple[bool, Optional[bytes]]] = {}

    def present(self) -> bool:
        return bool(self._candidates())

    def hypervisor_installed(self) -> bool:
        return bool(self._images())

    def read(self) -> Dict[str, bytes]:
        return self.tree.contents([one.path for one in self._used() if not one.unified])

    def plan(self, sources: Mapping[str, bytes], name: str, option: Optional[str]) -> List[Change]:
        used = self._used()
        if not used:
            raise UserError(
                "xen.efi has no configuration file beside it.",
                "Write xen.cfg with kernel= for dom0's kernel first, then run again.",
            )
        wanted = line_edits.words(option)
        inside = [
            one for one in used if one.unified and command_line.find(one.passed or "", name, self.recipient) != wanted
        ]
        changes: Dict[str, Change] = {}
        for one in used:
            if not one.unified and one.path in sources:
                before = sources[one.path]
                text = edit(
                    one.path,
                    before.decode(ENCODING),
                    name,
                    option,
                    one.line.section,
                    self.recipient,
                    default_only=self.default_only,
                )
                after = text.encode(ENCODING)
                if after != before:
                    changes[one.path] = Change(self.tree.path(one.path), before, after)
        chosen = self._chosen()
        if (changes or inside) and (chosen is None or chosen.xen is None) and self._disagree(used):
            raise UserError(self._several(used), f"Nothing was changed. {_REMEDY}")
        if inside:
            raise UserError(
                f"The configuration is inside the image {inside[0].path}, in its section .config, and xen.efi reads no "
                "file then.",
                "Nothing was changed. Build the image again with the option in that section (objcopy), and sign it "
                "again where Secure Boot verifies it; on NixOS that is its option virtualisation.xen.boot.params.",
            )
        return list(changes.values())

    def configured(self, sources: Mapping[str, bytes]) -> str:
        for one in self._used():
            text = one.text if one.unified else sources.get(one.path, b"").decode(ENCODING)
            found = options(text, one.line.section, self.recipient)
            if found is not None:
                return found
        return ""

    def written(self, sources: Mapping[str, bytes]) -> Dict[str, str]:
        return {path: self.configured({path: content}) for path, content in sources.items()}

    def elsewhere(self, sources: Mapping[str, bytes], changes: Sequence[Change], name: str) -> List[str]:
        """Return nothing: xen.efi starts nothing but Xen."""
        return []

    def next_boot(self, *, once: bool = True) -> NextBoot:
        """Return what boots.

        :param once: whether what is selected for the next start alone counts.
        """
        candidates = self._candidates()
        lines = tuple(one.passed for one in candidates if one.passed is not None)
        chosen = self._chosen(once=once)
        if chosen is None:
            if not lines:
                return NO_ENTRY
            if self._disagree(candidates):
                return NextBoot(None, None, self._several(candidates), lines)
            return NextBoot(lines[0], True, entries=lines)
        if chosen.candidate is None:
            return NextBoot(None, chosen.xen, chosen.reason, lines, chosen.waits)
        passed = chosen.candidate.passed
        if passed is None:
            reason = f"{chosen.candidate.path} has no kernel= in the section that boots, so xen.efi starts nothing."
            return NextBoot(None, False, reason, lines, chosen.waits)
        entries = (passed, *(line for line in lines if line != passed))
        return NextBoot(passed, True, "", entries, chosen.waits)

    def output(self) -> Optional[str]:
        """Return nothing: no program generates the file."""
        return None

    def generator(self) -> List[str]:
        """Return no command: xen.efi reads the file itself."""
        return []

    def unchecked(self, sources: Mapping[str, bytes]) -> List[str]:
        return ["Whether the firmware passes options of its own to xen.efi was not checked."]

    @staticmethod
    def _disagree(candidates: Sequence[Candidate]) -> bool:
        words = [one.words for one in candidates if one.words is not None]
        return any(one != words[0] for one in words)

    @staticmethod
    def _several(candidates: Sequence[Candidate]) -> str:
        paths = " and ".join(dict.fromkeys(one.path for one in candidates if one.words is not None))
        return f"Several configurations of xen.efi differ, and which of them boots is not known here: {paths}."

    def _used(self) -> List[Candidate]:
        """Return what a change is made in: what boots and what agrees with it, else whatever may boot.

        :raises UserError: only what boots is to be changed, and what that is is not known.
        """
        candidates, chosen = self._candidates(), self._chosen()
        if chosen is None or chosen.candidate is None:
            if self.default_only and len(candidates) > 1:
                paths = " and ".join(dict.fromkeys(one.path for one in candidates))
                raise UserError(
                    "The parameter entries is default, but which configuration of xen.efi boots is not known: "
                    f"{paths}.",
                    "Nothing was changed. Set entries to all.",
                )
            return candidates
        boots = chosen.candidate
        if self.default_only:
            return [boots]
        same = [one for one in candidates if one.words == boots.words and not one.unified and one.path != boots.path]
        return [boots, *same]

    def _programs(self) -> List[str]:
        found = (
            path
            for partition in efi_boot.PARTITIONS
            for depth in _DEPTHS
            for path in self.tree.glob(f"{partition}/{depth}*.[eE][fF][iI]")
            if self.tree.is_file(path)
        )
        # One partition may be found below several names.
        files = {os.path.realpath(self.tree.path(path)): path for path in reversed(list(dict.fromkeys(found)))}
        return sorted(files.values(), key=list(files.values())[::-1].index)

    def _images(self) -> List[str]:
        return [path for path in self._programs() if self._is_image(path)]

    def _is_image(self, path: str) -> bool:
        """Whether a program is Xen: by its content, or its name, or a configuration for Xen that has its name.

        The firmware of some machines starts EFI/BOOT/BOOTX64.efi only, and Xen that shim starts has the name of shim.
        """
        if _IMAGE.match(os.path.basename(path)):
            return True
        says_so, inside = self._look_inside(path)
        if says_so:
            return True
        if inside is not None:
            return options(inside.decode(ENCODING)) is not None
        found = self._configuration(path, Line())
        return found is not None and options(found.text) is not None

    def _look_inside(self, path: str) -> Tuple[bool, Optional[bytes]]:
        """Return whether a program says that it is Xen, and the configuration inside it; each is read once.

        A program has megabytes, is asked for many times in one run, and is never changed in it.
        """
        if path not in self._looked:
            with self.tree.open(path) as file:
                self._looked[path] = efi_boot.is_xen(file), efi_boot.inside(file)
        return self._looked[path]

    def _configuration(self, image: str, given: Line) -> Optional[Candidate]:
        """Return what an image reads as its configuration, None where there is nothing."""
        directory, name = os.path.split(image)
        _says_so, inside = self._look_inside(image)
        if inside is not None:
            return self._chained(Candidate(image, inside.decode(ENCODING), True, given, self.recipient), directory)
        names = configuration_names(name) if given.configuration is None else [given.configuration]
        for one in names:
            path = efi_boot.find(self.tree, directory, one)
            if path is not None:
                found = Candidate(path, self.tree.text(path) or "", False, given, self.recipient)
                return self._chained(found, directory)
        return None

    def _chained(self, found: Candidate, directory: str) -> Candidate:
        """Return the file that another one leads to, which has no kernel itself; the first one says which section."""
        for _number in range(_MOST_CHAINED):
            items = parse(found.text)
            section = found.line.section or default_section(items)
            chain = first(items, "global", "chain")
            if chain is None or first(items, section, "kernel") is not None:
                break
            path = efi_boot.find(self.tree, directory, chain.value)
            if path is None:
                break
            line = replace(found.line, section=section)
            found = Candidate(path, self.tree.text(path) or "", False, line, self.recipient)
        return found

    def _candidates(self) -> List[Candidate]:
        """Return every configuration that an image may read, those of boot managers' entries first."""
        found: Dict[Tuple[str, Line], Candidate] = {}
        entries = [
            (entry, partition)
            for partition in efi_boot.PARTITIONS
            for menu in [efi_boot.systemd_boot(self.tree, partition)]
            for entry in (menu.entries.values() if menu else ())
        ]
        entries += [
            (entry, partition)
            for entry in efi_boot.firmware_entries(self.tree)
            for partition in efi_boot.places(self.tree, entry)
        ]
        started = [
            (path, line(entry.options))
            for entry, partition in entries
            for path in [self._image_of(entry, partition)]
            if path is not None
        ]
        known = {os.path.realpath(self.tree.path(path)) for path, _line in started}
        alone = [path for path in self._images() if os.path.realpath(self.tree.path(path)) not in known]
        for image, given in [*started, *((path, Line()) for path in alone)]:
            one = self._configuration(image, given)
            if one is not None:
                found.setdefault((os.path.realpath(self.tree.path(one.path)), given), one)
        return list(found.values())

    def _image_of(self, entry: efi_boot.Entry, partition: str) -> Optional[str]:
        """Return the path of the image that an entry starts; None where that is no Xen."""
        for place in (partition, *efi_boot.PARTITIONS):
            path = None if entry.file is None else efi_boot.find(self.tree, place, entry.file)
            if path is not None:
                return path if self._is_image(path) else None
        return None

    def systemd_boot(self, *, once: bool = True) -> Optional[Tuple[str, efi_boot.SystemdBoot]]:
        """Return the partition and the menu of systemd-boot where that is what starts this host, else None.

        :param once: whether what is selected for the next start alone counts.
        """
        program = efi_boot.first_program(self.tree, once=once)
        # A configuration of systemd-boot may be left over beside another loader, whatever names both have.
        if program is None:
            partitions = [one for one in efi_boot.PARTITIONS if self._has_systemd_boot(f"{one}/EFI/*")]
        else:
            started = program[2] is not None and efi_boot.is_systemd_boot(self.tree, program[2])
            partitions = [program[1]] if started else []
        for partition in partitions:
            menu = efi_boot.systemd_boot(self.tree, partition, once=once)
            if menu is not None:
                return partition, menu
        return None

    def _has_systemd_boot(self, directory: str) -> bool:
        programs = self.tree.glob(f"{directory}/*.[eE][fF][iI]")
        return any(efi_boot.is_systemd_boot(self.tree, path) for path in programs)

    def starts_xen(self, entry: efi_boot.Entry, partition: str) -> bool:
        """Whether an entry starts Xen with a configuration."""
        path = self._image_of(entry, partition)
        found = None if path is None else self._configuration(path, line(entry.options))
        return found is not None and found.passed is not None

    def _chosen(self, *, once: bool = True) -> Optional[Chosen]:
        """Return what the next boot starts; None where neither the firmware nor systemd-boot tells."""
        menu, program = self.systemd_boot(once=once), efi_boot.first_program(self.tree, once=once)
        if menu is not None:
            removable = efi_boot.find(self.tree, menu[0], efi_boot.REMOVABLE)
            # Where shim is there, it starts what lies beside it.
            if program is None and removable is not None and not self._has_systemd_boot(os.path.dirname(removable)):
                return Chosen(None, None, f"Whether the firmware starts {removable} or systemd-boot is not known here.")
            return self._of_menu(*menu)
        if program is None:
            return None
        entry, _partition, path = program
        if path is None:
            return Chosen(
                None, None, f"The firmware starts {entry.name} first, from a partition that is not mounted here."
            )
        if self._is_image(path):
            return self._start(path, entry, f"The firmware starts {entry.name}")
        return Chosen(None, None, f"The firmware starts {path} first, and what that starts is not known here.")

    def _of_menu(self, partition: str, menu: efi_boot.SystemdBoot) -> Chosen:
        if menu.default is None:
            return Chosen(None, None, menu.reason)
        path = self._image_of(menu.default, partition)
        if path is None and not menu.default.linux:
            return Chosen(
                None, None, f"systemd-boot starts {menu.default.name}, and what that starts is not known here."
            )
        if path is None:
            return Chosen(
                None,
                False,
                f"The default entry of systemd-boot is {menu.default.name}, which does not start Xen: after a reboot "
                f"this host would run without it. Set default in {partition}/loader/loader.conf to an entry for Xen.",
            )
        chosen = self._start(path, menu.default, f"systemd-boot starts {menu.default.name}")
        where = efi_boot.systemd_boot_waits(self.tree, partition)
        return replace(chosen, waits=where and WAITS.format(file=where, loader="systemd-boot", remedy=_SECONDS))

    def _start(self, image: str, entry: efi_boot.Entry, what: str) -> Chosen:
        found = self._configuration(image, line(entry.options))
        if found is None:
            return Chosen(None, False, f"{what}, and {image} finds no configuration.")
        return Chosen(found, True)
