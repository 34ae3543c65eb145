# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the record in xenstore of the configuration that a guest runs with, as
# checksums (a configuration may hold passwords), and in which keys its configuration is another one by now.

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg, xl_devices
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Domain, Xen

# What the configuration is that a domain runs with (`Record`). The node goes with the domain.
RECORD = "/libxl/{domid}/xen-stubdom-config"

# The same of the last domain of a guest that was recorded, behind its number. It stays when the domain goes, as that is
# what xl makes the next one from when the guest reboots, whatever its file is by then.
_LATEST = "/tool/xen-stubdom/latest/{key}"
# What xl writes when it begins to watch a domain. It goes on in one log after it has made a domain again, and begins
# another one for each `xl create` (create_domain, tools/xl/xl_vmcontrol.c @ stable-4.20; seen on 4.20).
_WATCHED = re.compile(r"^Waiting for domain .* \(domid ([0-9]+)\) to die", re.M)
# The second is that of a guest that has come by a migration.
_LOGS = ("/var/log/xen/xl-{name}.log", "/var/log/xen/xl-{name}--incoming.log")
_LONGEST_LOG = 1 << 20

# The lock of a guest: who starts, ends or moves it holds it.
LOCK = "xen.stubdom-guest-{key}"

# What a key of xl.cfg is called that differs, where it is not known which.
UNKNOWN = "unknown"
# xenstore takes values of up to 4096 bytes, the path included.
_LONGEST = 3000
_CHECKSUM = 8

# A disk as its fields.
Disk = List[Tuple[str, str]]
_NAME = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class Record:
    """Checksums of a configuration.

    :param whole: of all of it.
    :param keys: by key; empty where they were too many.
    :param nics: by number, as libxl counts them.
    :param disks: by name, without what lies in a CD-ROM drive.
    :param media: of what lies in a CD-ROM drive, by name.
    """

    whole: str
    keys: Mapping[str, str] = field(default_factory=dict)
    nics: Mapping[str, str] = field(default_factory=dict)
    disks: Mapping[str, str] = field(default_factory=dict)
    media: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """What is written; of a very large configuration only a part, from which less can be told."""
        keys = [f"{key}:{checksum}" for key, checksum in sorted(self.keys.items())]
        devices = [
            f"{kind}/{name}:{checksum}"
            for kind, named in (("nics", self.nics), ("disks", self.disks), ("media", self.media))
            for name, checksum in sorted(named.items())
        ]
        texts = (" ".join([self.whole, *keys, *devices]), " ".join([self.whole, *keys]), self.whole)
        return next(text for text in texts if len(text) <= _LONGEST)


def key(name: str) -> str:
    """A guest's name for paths, of which xenstore does not take every letter."""
    return files.sha256(name.encode())[:32]


def of(settings: Mapping[str, xl_cfg.Value]) -> Record:
    """What is recorded of a configuration."""
    texts = {key: json.dumps(_plain(value)) for key, value in settings.items()}
    keys = {key: _checksum(text) for key, text in texts.items()}
    found: Dict[str, Dict[str, str]] = {"disks": {}, "media": {}}
    for name, disk in disks(settings).items():
        medium = [part for part in disk if part[0] == "target"] if is_cdrom(disk) else []
        found["disks"][name] = _checksum(json.dumps([part for part in disk if part not in medium]))
        if is_cdrom(disk):
            found["media"][name] = _checksum(json.dumps(medium))
    numbered = {str(number): _checksum(nic) for number, nic in nics(settings).items()}
    return Record(_whole(keys), keys, numbered, **found)


def read(text: str) -> Record:
    """What `Record.text` has written."""
    whole, *parts = text.split(" ")
    found: Dict[str, Dict[str, str]] = {"keys": {}, "nics": {}, "disks": {}, "media": {}}
    for part in parts:
        name, _colon, checksum = part.rpartition(":")
        kind, _slash, device = name.rpartition("/")
        found.get(kind or "keys", {})[device] = checksum
    return Record(whole, **found)


def write(xen: Xen, name: str, domid: int, text: str) -> None:
    """Take down what a domain of a guest runs with."""
    xen.write(RECORD.format(domid=domid), text)
    xen.write(_LATEST.format(key=key(name)), f"{domid} {text}")


def forget(xen: Xen, name: str) -> None:
    """Have no record any more of what a guest ran with that has ended."""
    xen.remove(_LATEST.format(key=key(name)))


def latest(xen: Xen) -> Dict[str, str]:
    """What `carried` reads of xenstore, by full path."""
    directory = os.path.dirname(_LATEST)
    return xen.read_many([f"{directory}/{child}" for child in xen.children(directory)])


def carried(xen: Xen, rows: Sequence[Domain], nodes: Mapping[str, str]) -> Dict[str, str]:
    """The records of domains that have none of their own, as xl has made them when their guests rebooted.

    :param rows: the domains.
    :param nodes: xenstore, by full path.
    :return: each by the path of a record of the domain's own.
    """
    found = {}
    for row in rows:
        of, _space, text = nodes.get(_LATEST.format(key=key(row.name)), "").partition(" ")
        for log in _LOGS if text and RECORD.format(domid=row.domid) not in nodes else ():
            watched = _WATCHED.findall(xen.text(log.format(name=row.name), _LONGEST_LOG) or "")
            if watched and watched[-1] == str(row.domid) and of in watched:
                found[RECORD.format(domid=row.domid)] = text
    return found


def changed(old: Record, settings: Mapping[str, xl_cfg.Value], key: str, nics: Mapping[str, str]) -> Record:
    """A record after a key of the configuration has been changed while the guest runs.

    :param nics: the checksums of its network interfaces by the numbers that they have.
    """
    new = of(settings)
    keys = {name: checksum for name, checksum in old.keys.items() if name != key}
    if key in new.keys:
        keys[key] = new.keys[key]
    disks_of = new if key == "disk" else old
    return Record(_whole(keys), keys, nics, disks_of.disks, disks_of.media)


def differing(recorded: str, settings: Mapping[str, xl_cfg.Value]) -> List[str]:
    """The keys in which a configuration is not the recorded one."""
    old, new = read(recorded), of(settings)
    if not old.keys:
        return [] if old.whole == new.whole else [UNKNOWN]
    return sorted(key for key in {*old.keys, *new.keys} if old.keys.get(key) != new.keys.get(key))


def restart_required(
    domid: int, uuid: Optional[str], nodes: Mapping[str, str], settings: Mapping[str, xl_cfg.Value], written: float
) -> List[str]:
    """The keys in which the configuration of a domain is not the one that it was started with.

    :param nodes: xenstore, by full path.
    :param settings: the configuration as it is now.
    :param written: when that was written, in seconds since 1970.
    """
    recorded = nodes.get(RECORD.format(domid=domid))
    if recorded is not None:
        return differing(recorded, settings)
    # Started by another program, such as the host's own service at boot: the file may be younger than the domain.
    start = started(uuid, nodes)
    return [UNKNOWN] if start is not None and written > start else []


def started(uuid: Optional[str], nodes: Mapping[str, str]) -> Optional[float]:
    """When the domain was started, in seconds since 1970; None where xenstore does not have it."""
    found = nodes.get(f"/vm/{uuid}/start_time", "")
    return float(found) if re.match(r"[0-9]{1,12}(\.[0-9]{1,9})?\Z", found) else None


def nics(settings: Mapping[str, xl_cfg.Value]) -> Dict[int, str]:
    """The network interfaces of a configuration by their numbers."""
    return dict(xl_devices.nics(settings))


def disks(settings: Mapping[str, xl_cfg.Value]) -> Dict[str, Disk]:
    """The disks of a configuration as their fields, by the names that the guest sees; an older form has none."""
    found = {}
    for disk in _elements(settings, "disk"):
        fields = list(xl_devices.fields("disk", disk))
        name = dict(fields).get("vdev", "")
        if _NAME.fullmatch(name):
            found[name] = fields
    return found


def is_cdrom(disk: Disk) -> bool:
    """Whether a disk is a CD-ROM drive."""
    return ("devtype", "cdrom") in disk or ("cdrom", "") in disk


def _elements(settings: Mapping[str, xl_cfg.Value], key: str) -> List[str]:
    value = settings.get(key)
    return [str(element) for element in value] if isinstance(value, (list, tuple)) else []


def _whole(keys: Mapping[str, str]) -> str:
    return files.sha256(json.dumps(sorted(keys.items())).encode())


def _checksum(text: str) -> str:
    return files.sha256(text.encode())[:_CHECKSUM]


def _plain(value: Any) -> Any:
    """A value as it is read from a file again."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, bool) else value
