# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: from the keys of xl.cfg back to a guest's parameters, whoever wrote the file.
# It is the inverse of spec.py and of what each flavour writes; a test holds the two together.
# Sources: tools/xl/xl_parse.c and tools/libs/util/libxlu_disk_l.l @ stable-4.20.

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions, masking
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import (
    boot_loaders,
    device_models,
    disks,
    options,
    plan,
    spec,
    virtualisation,
)
from ansible_collections.xen.stubdom.plugins.module_utils._guests.model import STUB_MEMORY, Host
from ansible_collections.xen.stubdom.plugins.module_utils._images import helpers
from ansible_collections.xen.stubdom.plugins.module_utils._images.grub2 import image as grub2
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg, xl_rules


@dataclass
class Found:
    """A configuration as parameters.

    :param parameters: those that are not the default, in the order of the table.
    :param left_out: keys of xl.cfg that no parameter can hold, each with why.
    :param boots: what boots the guest or is its device model, and where.
    """

    parameters: Dict[str, Any]
    left_out: Dict[str, str] = field(default_factory=dict)
    boots: str = ""


def read(keys: Mapping[str, xl_cfg.Value], host: Host) -> Found:
    """Turn the keys of xl.cfg into a guest's parameters.

    :param host: what its files have by default, which needs no parameter.
    """
    guest = _Reading(dict(keys), host)
    guest.identity()
    _FLAVOURS[guest.values["flavour"]](guest)
    guest.rows()
    guest.rest()
    return guest.found()


class _Reading:
    """Takes one key after the other."""

    def __init__(self, left: Dict[str, xl_cfg.Value], host: Host) -> None:
        self.left, self.host = left, host
        self.values: Dict[str, Any] = {}
        self.left_out: Dict[str, str] = {}
        self.boots = ""

    def take(self, key: str, name: Optional[str] = None, *, default: Sequence[Any] = ()) -> None:
        """Make a key the value of the parameter *name*, unless it is what is written without one."""
        value = self.left.pop(key, None)
        if value is not None and value not in default:
            self.put(key, name or key, value)

    def put(self, key: str, name: str, value: Any) -> None:
        row = next(row for row in spec.GUEST if row.name == name)
        for what, wanted in (("type", row.whose.types), ("flavour", row.whose.flavours)):
            if self.values.get(what, wanted[0]) not in wanted:
                self.left_out[key] = f"A guest of the {what} {self.values[what]} has none: {row.whose.why}."
                return
        try:
            self.values[name] = _typed(row, value)
        except ValueError as error:
            self.left_out[key] = str(error)

    def identity(self) -> None:
        self.values["name"] = str(self.left.pop("name", ""))
        builder, kind = self.left.pop("builder", None), self.left.pop("type", None)
        if xl_rules.integer(self.left.get("pvh"), 0):
            # Xen 4.4 to 4.8 had another kind of that name.
            self.left_out["pvh"] = "The guests that Xen 4.4 to 4.8 called PVH are no more."
        self.left.pop("pvh", None)
        self.values["type"] = kind if kind in spec.TYPES else "hvm" if builder == "hvm" else "pv"
        self.take("uuid", default=(plan.identity(self.values["name"]),))
        self.values["flavour"] = self._flavour()

    def _flavour(self) -> str:
        kernel = os.path.basename(str(self.left.get("kernel") or ""))
        if self.values["type"] == "hvm":
            stubbed = bool(xl_rules.integer(self.left.pop("device_model_stubdomain_override", 0), 0))
            return virtualisation.stub_flavour(self.left.get("device_model_version")) if stubbed else "dom0"
        if self.left.get("bootloader"):
            return "dom0"
        return "legacy" if kernel in (file for _image, file, _capability in boot_loaders.PV_GRUB.values()) else "grub2"

    def words(self) -> None:
        """The options of a kernel: cmdline, or root and extra (parse_cmdline)."""
        cmdline, root, extra = (self.left.pop(key, None) for key in ("cmdline", "root", "extra"))
        if cmdline is None:
            cmdline = " ".join(filter(None, ("" if root is None else f"root={root}", str(extra or ""))))
        if cmdline:
            self.put("cmdline", "cmdline", cmdline)

    def firmware(self) -> None:
        known = device_models.BIOS[self.values["flavour"]]
        word = str(self.left.get("firmware") or self.left.get("bios") or "")
        asked = next((kind for kind, bios in known.items() if word in (kind, bios)), None)
        if asked is None:
            return
        self.left.pop("firmware", None)
        self.left.pop("bios", None)
        self.values["firmware"] = asked
        known_paths = (*distributions.paths("ovmf", self.host.distribution), f"{self.host.firmware_directory}/ovmf.bin")
        default = known_paths if asked == "uefi" else ()
        self.take("bios_path_override", default=default)

    def rows(self) -> None:
        """What takes the value of one key."""
        for row in spec.GUEST:
            if row.key is not None and row.key not in ("extra", "ramdisk"):
                self.take(row.key, row.name)
        if self.values["flavour"] == "linux" and "disks" in self.values:
            self.values["disks"] = disks.without_usual(self.values["disks"], self.host.version)

    def rest(self) -> None:
        """What has no parameter goes to the options, as far as it may stand there."""
        kept: Dict[str, Any] = {}
        for key, value in self.left.items():
            beside = {"pci_permissive": self.left["pci_permissive"]} if "pci_permissive" in self.left else {}
            if masking.secrets({key: value}):
                self.left_out[key] = "It holds a password, which is not shown."
                continue
            if key in options.MANAGED and not (self.values["flavour"] == "dom0" and key in options.IN_DOM0):
                self.left_out[key] = f"The flavour {self.values['flavour']} decides it."
                continue
            try:
                self._validate({key: value, **beside}, weaker=True)
            except UserError as error:
                self.left_out[key] = error.what
                continue
            kept[key] = value
        if kept:
            self.values["options"] = kept
        try:
            self._validate(kept, weaker=self.values["flavour"] == "dom0")
        except UserError:
            self.values["allow_weaker_isolation"] = True
        if self.values["flavour"] == "dom0":
            self.values["allow_weaker_isolation"] = True

    def _validate(self, asked: Mapping[str, Any], *, weaker: bool) -> None:
        options.validate(
            asked,
            name=self.values["name"],
            guest=self.values["type"],
            flavour=self.values["flavour"],
            version=self.host.version,
            weaker=weaker,
        )

    def found(self) -> Found:
        values = self.values
        usual = {"hvm": "linux"}.get(values["type"], "grub2")
        parameters = {
            row.name: values[row.name]
            for row in spec.GUEST
            if row.name in values and values[row.name] not in (row.default, [], {})
        }
        if parameters["flavour"] == usual:
            del parameters["flavour"]
        return Found(parameters, self.left_out, self.boots)


def _grub2(guest: _Reading) -> None:
    kind = guest.values["type"]
    guest.boots = f"kernel {guest.left.get('kernel', '(none)')} from dom0"
    if re.match(r"(?:pv)?grub", os.path.basename(str(guest.left.get("kernel") or ""))):
        guest.boots = "GRUB 2 for Xen in the guest"
    for platform, row in grub2.PLATFORMS.items():
        if row.guest == kind and guest.left.get("kernel") in boot_loaders.grub2_paths(kind, platform, guest.host):
            del guest.left["kernel"]
            guest.values["arch"] = row.arch[0]
    guest.take("kernel")
    guest.words()
    guest.take("ramdisk")


def _legacy(guest: _Reading) -> None:
    guest.boots = "PV-GRUB in the guest"
    kernel = str(guest.left.pop("kernel"))
    arch = next(arch for arch, row in boot_loaders.PV_GRUB.items() if row[1] == os.path.basename(kernel))
    guest.values["arch"] = arch
    if os.path.dirname(kernel) != guest.host.firmware_directory:
        guest.put("kernel", "kernel", kernel)
    for key, name in (("extra", "menu"), ("ramdisk", "menu_file")):
        guest.take(key, name)


def _stubbed(guest: _Reading) -> None:
    guest.left.pop("device_model_version", None)
    guest.take("serial", default=("pty", ["pty"]))
    guest.take("boot")
    guest.firmware()
    guest.take("stubdomain_kernel")


def _linux(guest: _Reading) -> None:
    guest.boots = "QEMU in a Linux stub domain"
    _stubbed(guest)
    for key in ("vnc", "vkb_device"):
        if guest.left.get(key) in (0, "0"):
            del guest.left[key]
    listed = guest.left.get("disk")
    given = listed if isinstance(listed, list) else ()
    needed = device_models.image_memory_mib(guest.host, guest.left.get("stubdomain_ramdisk"), given)
    needed = needed or STUB_MEMORY["linux"]
    words, own = str(guest.left.pop("stubdomain_cmdline", "")), guest.host.stub_command_line or ""
    if own and (words + " ").startswith(own + " "):
        words = words[len(own) :].strip()
    for word, name in ((virtualisation.SCREEN, "screen"), (virtualisation.PCI, ""), (virtualisation.DEBUG, "debug")):
        if (words + " ").startswith(word + " ") and (name or guest.left.get("pci")):
            words = words[len(word) :].strip()
            if name:
                guest.values[name] = True
    if "screen" in guest.values:
        needed += device_models.screen_mib(guest.left)
    if "debug" in guest.values and guest.values.get("serial") == virtualisation.DEBUG_SERIAL:
        del guest.values["serial"]
    guest.take("stubdomain_memory", default=(needed,))
    guest.take("stubdomain_ramdisk")
    if words:
        guest.values["stubdomain_cmdline"] = words


def _minios(guest: _Reading) -> None:
    guest.boots = "QEMU in a Mini-OS stub domain"
    _stubbed(guest)
    guest.take("vnc", default=(0, "0"))
    guest.take("stubdomain_memory")
    directory = guest.host.firmware_directory or ""
    for need in helpers.needs(directory, guest.host.version, row=guest.host.distribution).values():
        guest.take(str(need.key), default=need.paths)


def _dom0(guest: _Reading) -> None:
    if guest.values["type"] != "hvm":
        guest.boots = f"{os.path.basename(str(guest.left['bootloader']))} in dom0"
        guest.take("kernel")
    else:
        guest.boots = "QEMU in dom0"
        if os.path.basename(str(guest.left.get("kernel") or "")) == "hvmloader":
            # xl takes it for the firmware, and ignores it.
            del guest.left["kernel"]
        for key in ("kernel", "serial", "boot", "vnc", "firmware_override", "device_model_override"):
            guest.take(key)
        guest.firmware()
    guest.words()
    guest.take("ramdisk")


_FLAVOURS: Mapping[str, Callable[[_Reading], None]] = {
    "grub2": _grub2,
    "legacy": _legacy,
    "linux": _linux,
    "minios": _minios,
    "dom0": _dom0,
}


def _typed(row: spec.Parameter, value: xl_cfg.Value) -> Any:
    """A value of xl.cfg as a parameter's type has it.

    :raises ValueError: it is none that the parameter can have, and why.
    """
    if row.options:
        if not isinstance(value, list):
            raise ValueError(f"It is {value!r}, and no list.")
        return [_device(row, str(item)) for item in value]
    if row.type == "raw":
        return value
    if row.type == "list":
        if not isinstance(value, list):
            # "a value of true (1) is equivalent to the list [ "defaults" ]" (xl.cfg.5)
            return ["defaults"] if xl_rules.integer(value, 0) else []
        return [str(item) for item in value]
    if isinstance(value, list):
        raise ValueError("It is a list.")
    return _single(row, value)


def _single(row: spec.Parameter, value: Any) -> Any:
    if row.type in ("int", "bool"):
        number = xl_rules.integer(value, -1 << 40)
        if number == -1 << 40:
            raise ValueError(f"It is {value!r}, which xl takes for no number.")
        return bool(number) if row.type == "bool" else number
    text = str(value)
    if row.choices and text not in row.choices:
        # The names of xl's numbers are in their order.
        number = xl_rules.integer(value, -1)
        if not 0 <= number < len(row.choices):
            raise ValueError(f"It is {value!r}, and one of {', '.join(row.choices)} is known.")
        return row.choices[number]
    return text


def _device(parent: spec.Parameter, text: str) -> Dict[str, Any]:
    """A disk or a network interface in the fields of its table, but for defaults."""
    fields = list(_disk_fields(text)) if parent.key == "disk" else list(_nic_fields(text))
    found: Dict[str, Any] = {}
    for name, value in fields:
        row = next((row for row in parent.options if name in (row.key, *_words(row))), None)
        if row is None:
            raise ValueError(f"{text!r} has {name}, for which there is no parameter.")
        written = f"{name}={value}" if value else name
        if row.words is not None:
            known = [word for word, spelt in row.words.items() if spelt == written]
            if not known:
                raise ValueError(f"{text!r} has {written}, for which there is no parameter.")
            found[row.name] = known[0]
        else:
            found[row.name] = _single(row, value)
    if found.get("cdrom"):
        # xlu_disk_parse: it is read only, and empty without a target.
        found.pop("access", None)
    return {
        row.name: found[row.name]
        for row in parent.options
        if row.name in found and found[row.name] not in (row.default, "")
    }


def _words(row: spec.Parameter) -> Tuple[str, ...]:
    """The names of a field that is written in words."""
    return tuple(word.partition("=")[0] for word in (row.words or {}).values())


def _nic_fields(text: str) -> List[Tuple[str, str]]:
    pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    # "the netdev parameter is deprecated, please use gatewaydev instead"; accel is ignored.
    return [
        ({"netdev": "gatewaydev"}.get(name.strip(), name.strip()), value.strip())
        for name, _sign, value in pairs
        if name.strip() != "accel"
    ]


_NAMED = re.compile(r"(?P<name>[a-z][-a-z0-9_]*)=(?P<value>[^,]*),?")
_FLAG = re.compile(r"(?P<name>cdrom|direct-io-safe|discard|no-discard|colo|no-colo|trusted|untrusted)(?:,|\Z)")
_TARGET = re.compile(r"target=(?P<value>.*)\Z", re.DOTALL)
# Of former times: a format, a program, or nothing at all.
_PREFIX = re.compile(r"(?:(?P<format>raw|qcow2?|vhd)|(?P<script>iscsi|e?nbd|drbd)|tapdisk|tap2?|aio|ioemu|file|phy):")
_POSITION = re.compile(r"(?P<value>[^=,]*)(?:,|\Z)")


def _disk_fields(text: str) -> List[Tuple[str, str]]:
    """The fields of a disk, whether they are named or known by their place: target, format, vdev, access."""
    found: List[Tuple[str, str]] = []
    places = ["target", "format", "vdev", "access"]
    rest = text
    while rest.strip(" \t\n"):
        rest = rest.lstrip(" \t\n")
        match = _TARGET.match(rest)
        if match:
            return [*found, ("target", match["value"].rstrip(","))]
        prefix = _PREFIX.match(rest) if places[:1] == ["target"] else None
        if prefix:
            # The format has no place of its own then.
            places = [place for place in places if place != "format"]
            found += [("format", prefix["format"])] if prefix["format"] else []
            found += [("script", f"block-{prefix['script']}")] if prefix["script"] else []
            rest = rest[prefix.end() :]
        match = _FLAG.match(rest) or _NAMED.match(rest)
        if match:
            value = match.groupdict().get("value", "")
            found += _pair(match["name"], value)
            if match["name"] in places:
                places.remove(match["name"])
        else:
            match = _POSITION.match(rest)
            if match is None or not places:
                raise ValueError(f"{text!r} is no disk that xl understands.")
            if places[:1] == ["format"] and ("target", "") in found and ":" in match["value"]:
                # An empty drive: ,hdc:cdrom
                places.remove("format")
            name, value = places.pop(0), match["value"]
            if name == "vdev" and ":" in value:
                value, _colon, kind = value.rpartition(":")
                found += _pair("devtype", kind)
            found += _pair(name, value)
        rest = rest[match.end() :]
    return found


def _pair(name: str, value: str) -> List[Tuple[str, str]]:
    """A field as the table has it."""
    if name == "cdrom" or (name, value) == ("devtype", "cdrom"):
        return [("devtype", "cdrom")]
    if (name, value) in (("devtype", "disk"), ("format", "empty"), ("format", "")):
        return []
    if name == "access":
        value = {"r": "ro", "w": "rw", "": "rw"}.get(value, value)
    return [(name, value)]
