# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: a guest that runs moves to another host. A guest that runs on two hosts at once
# destroys its disks, and one that moves to a host where the disks are others does so, too: both are ruled out before
# anything happens.

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import time
from dataclasses import dataclass
from typing import Any, Iterator, List, Mapping, Optional, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions, files, manifest, place
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError, needs_root
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Answer, Runner, last_line
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import text
from ansible_collections.xen.stubdom.plugins.module_utils._guests import config_files, diagnosis, record, virtualisation
from ansible_collections.xen.stubdom.plugins.module_utils._guests.moved import Moved
from ansible_collections.xen.stubdom.plugins.module_utils._xen import domains
from ansible_collections.xen.stubdom.plugins.module_utils._xen.console import visible
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import PATIENCE, Domain, Xen

# It asks nobody, and ends when the other host has not answered for 45 seconds: xl then lets the guest go on here. xl
# itself must not be ended while it sends a guest.
SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15")
# The status of ssh when it is ssh itself that has failed (ssh(1)).
_SSH_FAILED = 255
# What xl and ssh take for a host, and nothing that a shell or ssh would take for something else.
_HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9_:\[][A-Za-z0-9_.:%\[\]-]*")

# From when on `xl info` tells of shadow paging (virt_caps; output_physinfo, tools/xl/xl_info.c).
_SAYS_SHADOW = (4, 13)

# Prints for each path what is there, as the kind and the name of a file. Both hosts run it.
_LOOK = """for path do
kind=none name=
if [ -b "$path" ]; then
kind=device number=$(printf %d:%d $(stat -L -c '0x%t 0x%T' "$path")) of=/sys/dev/block/$number
name=$(cat "$of/dm/uuid" "$of/wwid" "$of/device/wwid" 2>/dev/null | head -n 1)
[ -n "$name" ] || [ ! -e "$of/partition" ] ||
name="$(cat "$of/../wwid" "$of/../device/wwid" 2>/dev/null | head -n 1) $(cat "$of/partition")"
elif [ -f "$path" ]; then
kind=$(stat -L -f -c %T "$path") name=$(stat -L -c '%i %s' "$path")
fi
echo "$kind $name"
done"""
# File systems that several hosts can have, as GNU's and busybox's stat call them.
_SHARED = re.compile(r"(?:nfs|nfs4|ceph|ocfs2|gfs/gfs2|lustre|gpfs|cifs|smb2|panfs|v9fs|afs) ")
# Names of devices that no two devices have: logical volumes, multipath maps, and numbers that makers give.
_UNIQUE = re.compile(r"device (?:LVM-|mpath-|naa\.|eui\.|uuid\.)")

# Prints where libxl has its images, of the directories that are named, and the record of the Linux stub domain there.
_IMAGE = """for directory do
[ -f "$directory/hvmloader" ] || continue
echo "$directory"
[ -f "$directory/qemu-stubdom-linux-rootfs" ] && cat "$directory/linux.json"
exit
done"""

# The link that started a guest with its host, while the guest is away. xendomains does not see it (XENDOMAINS_AUTO/*),
# and the host from which the guest comes back finds it by the guest's name, of which it has a checksum.
_AWAY = ".migrated-{}."
_BACK = """[ ! -f "$4" ] || { echo "$4"; [ -n "$3" ] || rm -f -- "$4"; } || exit
cd -- "$1" 2>/dev/null || exit 0
for link in "$2"*; do
[ -L "$link" ] || continue
echo "$link"
[ -n "$3" ] || mv -- "$link" "${link#"$2"}" || exit
done"""


@dataclass(frozen=True)
class Other:
    """Another host.

    :param host: what xl and ssh call it.
    :param arguments: further ones of ssh.
    """

    host: str
    arguments: Sequence[str] = ()

    @property
    def ssh(self) -> List[str]:
        """The program that xl starts to speak to the host."""
        return [*SSH, *self.arguments]

    def runner(self, run: Runner) -> Runner:
        """Return what runs a program there."""

        def there(arguments: List[str], *, timeout: Optional[float] = None) -> Answer:
            status, output, errors = run([*self.ssh, self.host, shlex.join(arguments)], timeout=timeout)
            if status == _SSH_FAILED:
                raise UserError(
                    f"ssh does not reach {self.host} from here: {last_line(errors)}.",
                    "Let root of this host log in there with a key, as xl migrate does, and set to and ssh_arguments "
                    "as that needs it.",
                )
            return status, output, errors

        return there


def check_host(to: str) -> None:
    """:raises UserError: that is the name of no host."""
    if not _HOST.fullmatch(to):
        raise UserError(f"to is {to!r}, which is no host.", "Set to to a name or an address, as for xl migrate.")


@dataclass(frozen=True)
class Observed:
    """What there is of a guest on both hosts."""

    here: Optional[Domain]
    there: Optional[Domain]

    @property
    def moved(self) -> bool:
        """Whether nothing is left to do."""
        return self.here is None and self.there is not None and not _unfinished(self.there)


def _unfinished(domain: Domain) -> bool:
    return domains.state(domain.state) not in ("running", "blocked")


def _state(domain: Optional[Domain]) -> str:
    return "absent" if domain is None else domains.state(domain.state)


def observe(name: str, here: Xen, there: Xen) -> Observed:
    """Look for a guest on both hosts."""
    found = ({domain.name: domain for domain in xen.domains()} for xen in (here, there))
    return Observed(*(rows.get(name) for rows in found))


def check(name: str, found: Observed, here: Xen, there: Xen, other: Other, *, shared: bool) -> Domain:
    """Return the domain that can move.

    :param shared: whether the disks are known to be the same on both hosts.
    :raises UserError: it cannot.
    """
    if found.here is None:
        raise UserError(
            f"There is no guest {name} here, and on {other.host} it is {_state(found.there)}.",
            "Correct name or to, or start the guest.",
        )
    if found.there is not None:
        raise UserError(
            f"There is a guest {name} here ({_state(found.here)}), and one on {other.host} ({_state(found.there)}).",
            "Find out which is the right one: two that run at once destroy the disks.",
        )
    if _unfinished(found.here):
        raise UserError(
            f"The guest {name} is {_state(found.here)}, and only one that runs can be migrated.",
            "Let it run first, or start it on the other host instead.",
        )
    if here.version() > there.version():
        old, new = (".".join(map(str, xen.version())) for xen in (there, here))
        raise UserError(
            f"{other.host} runs Xen {old}, which takes no guests from Xen {new} here.",
            "Migrate it to a host with the same release or a newer one.",
        )
    _check_paging(name, found.here, here)
    _check_devices(name, found.here, here, there, other)
    if not shared:
        _check_disks(name, found.here, here, there, other)
    return found.here


def _check_paging(name: str, domain: Domain, here: Xen) -> None:
    """Seen with Debian's 4.20: xl fails to enable logdirty, as that hypervisor is built without shadow paging."""
    known = here.info().get("virt_caps", "").split()
    is_pv = here.read(f"/libxl/{domain.domid}/type") == "pv"
    if is_pv and "shadow" not in known and here.version() >= _SAYS_SHADOW:
        raise UserError(
            f"The guest {name} is a PV guest, and to migrate one the hypervisor needs shadow paging, which is "
            f"not among what this one has: {' '.join(known)}.",
            "Shut it down here and start it on the other host, or make a PVH guest of it.",
        )


def _check_devices(name: str, domain: Domain, here: Xen, there: Xen, other: Other) -> None:
    model = domains.device_model(domains.nodes_of(here, [domain.domid]), domain.domid)
    if model is not None and model["stub_domain"] and virtualisation.stub_flavour(model["version"]) == "linux":
        _check_stub_domain(name, _configuration(domain, here), here, there, other)
    if here.children(f"/libxl/{domain.domid}/device/pci"):
        raise UserError(f"The guest {name} has PCI devices of this host.", "Detach them first.")


def _configuration(domain: Domain, here: Xen) -> Mapping[str, Any]:
    """What libxl would build the guest from on the other host (b_info), by its own names.

    :raises UserError: xl does not say.
    """
    status, output, errors = here.xl("list", "-l", str(domain.domid), timeout=PATIENCE)
    with contextlib.suppress(ValueError, LookupError, TypeError):
        found = json.loads(output)[0]["config"]["b_info"]
        if status == 0 and isinstance(found, dict):
            return found
    raise UserError(
        f"`xl list -l` does not say what the guest {domain.name} is made of: {last_line(errors or output)}.",
        "Run again, or shut it down here and start it on the other host.",
    )


def _check_stub_domain(name: str, keys: Mapping[str, Any], here: Xen, there: Xen, other: Other) -> None:
    """A stub domain is started there from what the other host has, and gets the state of the devices."""
    begin = f"The guest {name} has its device model in a Linux stub domain, "
    if not virtualisation.saves(keys):
        raise UserError(
            f"{begin}which was started from an image that cannot hand it over.",
            "Have the role xen.stubdom.stubdom_build make the image (linux) and restart the guest, or shut it down "
            "here and start it on the other host.",
        )
    kernel = keys.get("stubdomain_kernel")
    if kernel and there.run(["sh", "-c", '[ -f "$1" ]', "sh", str(kernel)], timeout=PATIENCE)[0] != 0:
        raise UserError(f"{begin}and its kernel {kernel} is not on {other.host}.", "Copy it there.")
    # As here: a fleet has one distribution, and libxl's own directory is behind that of each.
    candidates = distributions.paths("firmware", here.distribution, version=text(there.version()))
    output = there.run(["sh", "-c", _IMAGE, "sh", *candidates], timeout=PATIENCE)[1]
    directory, _line_break, content = output.partition("\n")
    image = manifest.parse(content.encode())
    if image is None or not virtualisation.saves({"stubdomain_cmdline": image.command_line or ""}):
        raise UserError(
            f"{begin}and {other.host} has no image that could take it over"
            f"{f' in {directory}' if directory else ': none of ' + ', '.join(candidates) + ' holds hvmloader'}.",
            "Have the role xen.stubdom.stubdom_build make the image (linux) there.",
        )


def _disks(domain: Domain, here: Xen) -> Iterator[str]:
    """The paths that the disks of a guest are made of; those on a server by their names there are none.

    :raises UserError: it is not known of one.
    """
    base = f"/libxl/{domain.domid}/device/vbd"
    for number in here.children(base):
        backend = here.read(f"{base}/{number}/backend")
        params = here.read(f"{backend}/params") if backend else None
        if params is None:
            raise UserError(
                f"Xenstore does not say what disk {number} of the guest {domain.name} is made of.",
                "Run again, or detach the disk with xl block-detach.",
            )
        # An empty drive has none, and what qemu reads has the format in front: aio:/srv/web.img.
        path = params if params.startswith("/") else params.partition(":")[2]
        if path.startswith("/"):
            yield path


def _check_disks(name: str, domain: Domain, here: Xen, there: Xen, other: Other) -> None:
    paths = [*dict.fromkeys(_disks(domain, here))]
    if not paths:
        return
    answers = [xen.run(["sh", "-c", _LOOK, "sh", *paths], timeout=PATIENCE) for xen in (here, there)]
    # A name has no line break in it: what is there is printed by stat and the kernel.
    ours, theirs = (output.splitlines() for _status, output, _errors in answers)
    if {len(ours), len(theirs)} != {len(paths)}:
        raise UserError(
            f"{other.host} does not say what the disks of the guest {name} are there: {last_line(answers[1][2])}.",
            "Run again, or set shared to true if they are known to be the same on both hosts.",
        )
    for path, mine, its in zip(paths, ours, theirs):
        if its.startswith("none"):
            raise UserError(
                f"The disk {path} of the guest {name} is not there on {other.host}.",
                "Make the storage available there under the same path, or shut the guest down instead.",
            )
        if mine != its or not (_SHARED.match(mine) or _UNIQUE.match(mine)):
            raise UserError(
                f"It is not known whether {path} is the same disk on {other.host}: here it is {mine.strip()!r}, there "
                f"{its.strip()!r}.",
                "Set shared to true if it is known to be the same, as with DRBD; else the guest would destroy another "
                "disk there.",
            )


def migrate(domain: Domain, here: Xen, there: Xen, other: Other, directory: str) -> float:
    """Move the guest, and return the seconds that it took.

    :param directory: the configurations of guests.
    :raises UserError: it has not moved; why, and where it is.
    """
    with files.lock(record.LOCK.format(key=record.key(domain.name))):
        return _migrate(domain, here, there, other, directory)


def _migrate(domain: Domain, here: Xen, there: Xen, other: Other, directory: str) -> float:
    begin, name, auto = time.monotonic(), domain.name, os.path.join(directory, "auto")
    for path, content in config_files.found(auto):
        if config_files.guest_name(content) == name:
            _rename(path, f"{_away(name)}{os.path.basename(path)}")
    note = Moved(name, here.path(""))
    note.note(other.host)
    recorded = here.read(record.RECORD.format(domid=domain.domid))
    status, output, errors = here.xl("migrate", "-s", shlex.join(other.ssh), str(domain.domid), other.host)
    seconds = time.monotonic() - begin
    found = observe(name, here, there)
    if found.moved:
        record.forget(here, name)
        if found.there is not None and recorded is not None:
            record.write(there, name, found.there.domid, recorded)
        return seconds
    why = _reason(errors or output) if status else "xl reported no error"
    words = _last_words(name, there) if re.search(r"[Dd]evice model|[Ss]tubdom", errors) else ""
    what = f"The guest {name} has not moved to {other.host}: {why}.{words} It is {_state(found.here)} here, and "
    if found.here is None or found.there is not None or _unfinished(found.here):
        # Nothing starts it with this host, either.
        raise UserError(
            f"{what}{_state(found.there)} there.",
            "Look at both hosts before anything is let go or started: two that run at once destroy the disks.",
        )
    note.note(None)
    for link in _put_aside(name, auto):
        _rename(os.path.join(auto, link), link[len(_away(name)) :])
    raise UserError(f"{what}absent there.", "Correct that and run again; the guest goes on here.")


def _last_words(name: str, there: Xen) -> str:
    """What its stub domain has said there, where it has the name of a guest that is still coming (libxl_dm.c)."""
    log = f"/var/log/xen/qemu-dm-{name}--incoming.log"
    output = there.run(["sh", "-c", 'tail -c 4096 -- "$1"', "sh", log], timeout=PATIENCE)[1]
    words = diagnosis.quoted(diagnosis.last(visible(output)))
    return f" Its stub domain's last words there were {words}." if words else ""


def _put_aside(name: str, auto: str) -> List[str]:
    with contextlib.suppress(FileNotFoundError):
        return [link for link in os.listdir(auto) if link.startswith(_away(name))]
    return []


def _reason(said: str) -> str:
    """What of xl's messages tells why: the first that is wrong, as what follows from it comes behind; not what it is
    doing, not that it goes on here, and not that it asks QEMU once more."""
    told = [
        line
        for line in said.splitlines()
        if re.search(r"error|fail|denied|refused|cannot|not ", line, re.I)
        and not re.search(r"resuming at sender|qmp_ev_fd_callback", line)
    ]
    return last_line(told[0] if told else said)


def _away(name: str) -> str:
    return _AWAY.format(files.sha256(name.encode())[:16])


def _rename(path: str, new: str) -> None:
    try:
        with place.find(path, follow=False) as found:
            os.rename(found.name, new, src_dir_fd=found.directory, dst_dir_fd=found.directory)
    except OSError as error:
        raise UserError(
            f"Cannot rename {path}, which starts the guest with this host: {error.strerror}.",
            needs_root(error) or "Correct the permissions there.",
        ) from error


def start_there(name: str, there: Xen, other: Other, directory: str, *, check_mode: bool) -> bool:
    """Have the other host start the guest with itself again, if it did before the guest left it.

    :return: whether there was anything to do.
    :raises UserError: it did, and does not now.
    """
    auto = os.path.join(directory, "auto")
    words = [auto, _away(name), "check" if check_mode else "", Moved(name).path]
    arguments = ["sh", "-c", _BACK, "sh", *words]
    status, links, errors = there.run(arguments, timeout=PATIENCE)
    if status != 0:
        raise UserError(
            f"The guest {name} has moved to {other.host}, which will not start it with itself as it did before: "
            f"{last_line(errors)}.",
            f"Rename the link {_away(name)}* in {auto} there: leave out that beginning.",
        )
    return bool(links)
