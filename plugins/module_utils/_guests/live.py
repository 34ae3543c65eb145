# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the changes of a configuration that Xen can make while the guest runs, a row
# each: which commands of xl make it, and what of the hypervisor shows that it was made. What another change would need
# a restart for is left to that.
# Sources: docs/man/xl.1.pod.in, tools/xl/xl_{mem,vcpu,sched,cdrom,nic}.c and tools/libs/light/libxl_{mem,domain,
# cdrom}.c @ stable-4.20.

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Callable, Dict, FrozenSet, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version
from ansible_collections.xen.stubdom.plugins.module_utils._guests import disks, record, virtualisation
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg, xl_rules
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Domain, Xen

# Words of xl; {} stands for the number of the domain.
Command = Tuple[str, ...]

# What xl calls the command for the scheduler of this name.
_SCHEDULERS = {"credit": "sched-credit", "credit2": "sched-credit2"}
_WEIGHT, _CAP = 256, 0
# Older ones refuse it ("doesn't work for stub domains", libxl_disk.c @ stable-4.19).
_CHANGES_MEDIA_OF_STUBS: Version = (4, 20)


@dataclass(frozen=True)
class Running:
    """A guest that runs, as far as changes of it depend on that.

    :param started: what is recorded of the configuration that it runs with.
    :param settings: the configuration that is asked for.
    :param most_mib: the memory that it was started to have at the most.
    :param most_vcpus: the same of its virtual processors.
    :param nics: the numbers of its network interfaces.
    :param version: the release of the toolstack.
    """

    domain: Domain
    started: record.Record
    settings: Mapping[str, xl_cfg.Value]
    most_mib: int
    most_vcpus: int
    nics: FrozenSet[str]
    scheduler: str
    version: Version

    @property
    def stubbed(self) -> bool:
        return virtualisation.stubbed(self.settings)

    @property
    def stub_changes_media(self) -> bool:
        """Whether the stub domain with which it was started, and the toolstack, change what lies in a CD-ROM drive."""
        key = "stubdomain_cmdline"
        return (
            self.version >= _CHANGES_MEDIA_OF_STUBS
            and virtualisation.changes_media(self.settings)
            and self.started.keys.get(key) == record.of(self.settings).keys[key]
        )


def may(differing: Sequence[str]) -> List[str]:
    """Which of these keys can be changed while a guest runs, as far as the key tells."""
    return [key for key in differing if key in _WAYS]


def look(xen: Xen, domain: Domain, started: str, settings: Mapping[str, xl_cfg.Value]) -> Running:
    """Read what changes depend on."""
    home = f"/local/domain/{domain.domid}"
    most = xen.read(f"{home}/memory/static-max") or ""
    return Running(
        domain=domain,
        started=record.read(started),
        settings=settings,
        most_mib=int(most) >> 10 if re.fullmatch(r"[0-9]{1,12}", most) else domain.memory_mib,
        most_vcpus=len(xen.children(f"{home}/cpu")) or domain.vcpus,
        nics=frozenset(xen.children(f"/libxl/{domain.domid}/device/vif")),
        scheduler=xen.info().get("xen_scheduler", ""),
        version=xen.version(),
    )


def commands(guest: Running, differing: Sequence[str]) -> Dict[str, List[Command]]:
    """What makes the changes that need no restart, by key of xl.cfg."""
    found = {key: _WAYS[key].commands(guest) for key in differing if key in _WAYS}
    return {key: words for key, words in found.items() if words is not None}


def is_made(xen: Xen, guest: Running, domain: Domain, key: str) -> bool:
    """Whether the hypervisor shows a change.

    :param guest: as it was before.
    :param domain: its row now.
    """
    return _WAYS[key].is_made(xen, guest, domain)


def nics_now(guest: Running, numbers: Set[str]) -> Dict[str, str]:
    """The checksums of the network interfaces that a guest has after a change, by the numbers that they have now."""
    kept = {number: checksum for number, checksum in guest.started.nics.items() if number in numbers}
    added = sorted(numbers - guest.nics, key=int)
    missing = Counter(record.of(guest.settings).nics.values()) - Counter(kept.values())
    return {**kept, **dict(zip(added, missing.elements()))}


def _memory(guest: Running) -> Optional[List[Command]]:
    wanted = xl_rules.integer(guest.settings.get("memory"), 0)
    return [("mem-set", "{}", f"{wanted}m")] if 0 < wanted <= guest.most_mib else None


def _memory_is_made(_xen: Xen, guest: Running, domain: Domain) -> bool:
    wanted = xl_rules.integer(guest.settings.get("memory"), 0)
    # A guest has a little more or less than it was given, by its kind.
    slack = min(8, abs(wanted - guest.domain.memory_mib) // 2)
    return abs(domain.memory_mib - wanted) <= slack


def _vcpus(guest: Running) -> Optional[List[Command]]:
    wanted = _wanted_vcpus(guest)
    # QEMU takes its part in that, and the one in a stub domain is not asked.
    if guest.stubbed or not 0 < wanted <= guest.most_vcpus:
        return None
    # At a start xl does not look how many processors the host has.
    return [("vcpu-set", "--ignore-host", "{}", str(wanted))]


def _wanted_vcpus(guest: Running) -> int:
    return xl_rules.integer(guest.settings.get("vcpus"), 1)


def _vcpus_are_made(_xen: Xen, guest: Running, domain: Domain) -> bool:
    return domain.vcpus == _wanted_vcpus(guest)


def _scheduling(key: str, option: str, default: int) -> _Way:
    def words(guest: Running) -> Optional[List[Command]]:
        command = _SCHEDULERS.get(guest.scheduler)
        # Another pool may have another scheduler.
        if command is None or "pool" in guest.settings:
            return None
        return [(command, "-d", "{}", option, str(guest.settings.get(key, default)))]

    def is_made(xen: Xen, guest: Running, domain: Domain) -> bool:
        _status, output, _errors = xen.xl(_SCHEDULERS[guest.scheduler], "-d", str(domain.domid))
        columns = output.split()[-2:]
        return len(columns) == 2 and columns[option == "-c"] == str(guest.settings.get(key, default))

    return _Way(words, is_made)


def _pinned(guest: Running) -> Optional[List[Command]]:
    hard, soft = _processors(guest.settings.get("cpus")), _processors(guest.settings.get("cpus_soft"))
    if hard is None or soft is None:
        return None
    # Without the last word xl leaves alone what it does not name, and releases before 4.5 have no such word.
    older = "cpus_soft" not in guest.settings and "cpus_soft" not in guest.started.keys
    return [("vcpu-pin", "{}", "all", hard, *(() if older else (soft,)))]


def _processors(value: Optional[xl_cfg.Value]) -> Optional[str]:
    """Processors as xl takes them for all virtual ones; None for a list, which has some for each."""
    return None if isinstance(value, (list, tuple)) else "all" if value is None else str(value)


def _pinned_is_made(xen: Xen, guest: Running, domain: Domain) -> bool:
    _status, output, _errors = xen.xl("vcpu-list", str(domain.domid))
    rows = [row.rsplit(" / ", 1) for row in output.splitlines()[1:]]
    total = xl_rules.integer(xen.info().get("nr_cpus"), 0)
    wanted = [_numbers(str(guest.settings.get(key, "all")), total) for key in ("cpus", "cpus_soft")]
    pairs = [(part.split()[-1], want) for row in rows for part, want in zip(row, wanted)]
    return bool(pairs) and all(want is None or _numbers(there, total) == want for there, want in pairs)


def _numbers(text: str, total: int) -> Optional[Set[int]]:
    """The processors that a text names for xl; None where it does so by nodes, which are not known here."""
    found: Set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\^?)(?:(\d{1,5})(?:-(\d{1,5}))?|(all))", part.strip())
        if match is None:
            return None
        named = set(range(total)) if match[4] else set(range(int(match[2]), int(match[3] or match[2]) + 1))
        found = found - named if match[1] else found | named
    return found


def _nics(guest: Running) -> Optional[List[Command]]:
    wanted = record.nics(guest.settings)
    checksums = record.of(guest.settings).nics
    # In the stub domain nothing would serve what the guest sees as hardware.
    if (
        guest.stubbed
        or ("vif" in guest.started.keys and not guest.started.nics)
        or set(guest.started.nics) - guest.nics
    ):
        return None
    gone, new = Counter(guest.started.nics.values()), Counter(checksums.values())
    gone, new = gone - new, new - gone
    if bool(gone) == bool(new):
        # An interface that is another one afterwards would lose its connections.
        return None
    found: List[Command] = []
    for number, checksum in guest.started.nics.items():
        if gone[checksum] > 0:
            gone[checksum] -= 1
            found.append(("network-detach", "{}", number))
    for place, nic in wanted.items():
        if new[checksums[str(place)]] > 0:
            new[checksums[str(place)]] -= 1
            found.append(("network-attach", "{}", *(part.strip() for part in nic.split(",") if part.strip())))
    return found


def _nics_are_made(xen: Xen, guest: Running, domain: Domain) -> bool:
    return len(xen.children(f"/libxl/{domain.domid}/device/vif")) == len(record.nics(guest.settings))


def _media(guest: Running) -> Optional[List[Command]]:
    new = record.of(guest.settings)
    # xl changes what QEMU reads; a guest without it has no such drive.
    if not virtualisation.hvm(guest.settings) or not new.media or guest.started.disks != new.disks:
        return None
    if guest.stubbed and not guest.stub_changes_media:
        return None
    found: List[Command] = []
    for name, checksum in new.media.items():
        if guest.started.media.get(name) != checksum:
            target = _target(guest, name)
            # What xl inserts is a plain file or device of dom0 (cd_insert, xl_cdrom.c).
            fields = dict(record.disks(guest.settings)[name])
            if fields.get("format", "raw") != "raw" or {"script", "backend"} & fields.keys():
                return None
            # A QEMU in dom0 never gives back the disk of an empty drive (seen with 4.20).
            if guest.stubbed and fields.get("backendtype") != "phy":
                return None
            found.append(("cd-insert", "{}", name, target) if target else ("cd-eject", "{}", name))
    return found


def _media_are_made(xen: Xen, guest: Running, domain: Domain) -> bool:
    reader = domain.domid
    if guest.stubbed:
        reader = int(xen.read(f"/local/domain/{domain.domid}/image/device-model-domid") or 0)
    for name in record.of(guest.settings).media:
        # What the backend reads, with how it does so in front of it.
        there = xen.read(f"/libxl/{reader}/device/vbd/{disks.device(name).number}/params") or ""
        there = there.rpartition(":")[2]
        # For an empty drive of a stub domain libxl makes an empty file (LIBXL_STUBDOM_EMPTY_CDROM, libxl_internal.h).
        there = "" if re.search(r"/empty-cdrom\.\d+\Z", there) else there
        if there != _target(guest, name).rpartition(":")[2]:
            return False
    return True


def _target(guest: Running, name: str) -> str:
    return dict(record.disks(guest.settings)[name]).get("target", "")


@dataclass(frozen=True)
class _Way:
    """How a key of xl.cfg is changed.

    :param commands: what makes the change; None where it cannot be made.
    :param is_made: whether it was made; takes the guest as it was before, and its row now.
    """

    commands: Callable[[Running], Optional[List[Command]]]
    is_made: Callable[[Xen, Running, Domain], bool]


_PINNED = _Way(_pinned, _pinned_is_made)
_WAYS: Mapping[str, _Way] = {
    "memory": _Way(_memory, _memory_is_made),
    "vcpus": _Way(_vcpus, _vcpus_are_made),
    "cpu_weight": _scheduling("cpu_weight", "-w", _WEIGHT),
    "cap": _scheduling("cap", "-c", _CAP),
    "cpus": _PINNED,
    "cpus_soft": _PINNED,
    "vif": _Way(_nics, _nics_are_made),
    "disk": _Way(_media, _media_are_made),
}
