# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the table of a guest's parameters, each in one row and nowhere else but in the
# documentation of the module guests. The argument spec of that module is made from it, and so are the keys of xl.cfg
# that take a value as it is.
# Sources: docs/man/xl.cfg.5.pod.in, xl-disk-configuration.5.pod.in and xl-network-configuration.5.pod.in @ stable-4.22.
# Which release reads which key and which field is in _xen/xl_keys.py.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

TYPES = ("pv", "pvh", "hvm")
FLAVOURS = ("grub2", "legacy", "linux", "minios", "dom0")
STATES = ("present", "running", "stopped", "paused", "restarted", "rebooted", "saved", "absent")
_ENDS = ("destroy", "restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart", "soft-reset")


@dataclass(frozen=True)
class Whose:
    """The guests that have a parameter.

    :param types: kinds of guests.
    :param flavours: flavours.
    :param why: why others cannot have it, as the rest of a sentence.
    """

    types: Tuple[str, ...] = TYPES
    flavours: Tuple[str, ...] = FLAVOURS
    why: str = ""


_EVERY = Whose()


@dataclass(frozen=True)
class Parameter:
    """One parameter of a guest, or one field of a disk or network interface.

    :param default: what is used where nobody gives a value; None for nothing.
    :param options: the fields of each element of a list.
    :param key: the key of xl.cfg, or the field of a disk or network interface, that takes the value; None where code
        decides.
    :param whose: the guests that it is for.
    :param no_log: whether no result may show the value.
    :param words: what is written for each value of a field, instead of KEY=VALUE.
    """

    name: str
    type: str = "str"
    default: Any = None
    choices: Tuple[str, ...] = ()
    elements: Optional[str] = None
    options: Tuple[Parameter, ...] = ()
    required: bool = False
    key: Optional[str] = None
    whose: Whose = _EVERY
    words: Optional[Mapping[Any, str]] = None
    no_log: bool = False


_HVM = Whose(types=("hvm",), why="it is hardware of HVM guests")
_NOT_MINIOS = Whose(
    flavours=("grub2", "legacy", "linux", "dom0"),
    why="QEMU would look for the file in the stub domain, where it is not",
)
_LEGACY = Whose(flavours=("legacy",), why="only PV-GRUB on Mini-OS reads it")
_LINUX = Whose(flavours=("linux",), why="only a Linux stub domain has it")
_MINIOS = Whose(types=("hvm",), flavours=("minios", "dom0"), why="only qemu-xen-traditional in Mini-OS uses it")
_STUBBED = Whose(flavours=("linux", "minios"), why="only a stub domain has it")
_QEMU_XEN = Whose(flavours=("linux", "dom0"), why="only qemu-xen starts such a firmware")
_KERNELS = Whose(flavours=("grub2", "linux", "dom0"), why="only GRUB 2 and other kernels use it")
_NOT_PV = Whose(types=("pvh", "hvm"), why="the timers of a PV guest are the hypervisor's")
_TIMERS = (
    "delay_for_missed_ticks",
    "no_delay_for_missed_ticks",
    "no_missed_ticks_pending",
    "one_missed_tick_pending",
)
_MENUS = Whose(flavours=("grub2", "legacy"), why="the firmware of an HVM guest reads no menu")
_BITS = Whose(types=("pv", "pvh"), why="an HVM guest runs any kernel")

# In the order in which the fields are written; the target takes all the rest of the text.
DISK = (
    Parameter("format", default="raw", choices=("raw", "qcow2", "qcow", "vhd", "qed"), key="format"),
    Parameter("vdev", key="vdev"),
    Parameter("access", default="rw", choices=("rw", "ro"), key="access"),
    Parameter("cdrom", "bool", default=False, words={True: "devtype=cdrom"}),
    Parameter("backendtype", choices=("phy", "qdisk", "tap"), key="backendtype"),
    Parameter("backend", key="backend"),
    Parameter("script", key="script"),
    Parameter("discard", "bool", words={True: "discard", False: "no-discard"}),
    Parameter("direct_io_safe", "bool", words={True: "direct-io-safe"}),
    Parameter("target", key="target"),
)

NIC = (
    Parameter("mac", key="mac"),
    Parameter("bridge", key="bridge"),
    Parameter("model", key="model"),
    Parameter("ip", key="ip"),
    Parameter("script", key="script"),
    Parameter("vifname", key="vifname"),
    Parameter("type", choices=("vif", "ioemu"), key="type"),
    Parameter("backend", key="backend"),
    Parameter("rate", key="rate"),
    Parameter("gatewaydev", key="gatewaydev"),
    Parameter("devid", "int", key="devid"),
    Parameter("mtu", "int", key="mtu"),
    # xl ignores trusted=0, with no more than a line on stderr (parse_nic_config, xl_parse.c @ stable-4.20).
    Parameter("trusted", "bool", words={True: "trusted", False: "untrusted"}),
)

# What a guest can be waited for; the rows of waiting.py.
WAIT_FOR = (
    Parameter("pattern"),
    Parameter("state", choices=("running", "blocked", "shutdown", "crashed", "absent")),
    Parameter("node"),
    Parameter("port", "int"),
    Parameter("address", "bool"),
)

# One entry of a menu that is written for the guest. Paths are on the guest's disk.
MENU_ENTRY = (
    Parameter("title", required=True),
    Parameter("kernel", required=True),
    Parameter("cmdline"),
    Parameter("initrd"),
    Parameter("disk"),
    Parameter("partition", "int"),
)

# In the order in which keys are written.
GUEST = (
    Parameter("name", required=True),
    Parameter("state", default="present", choices=STATES),
    Parameter("type", choices=TYPES),
    Parameter("flavour", choices=FLAVOURS),
    Parameter("uuid"),
    Parameter("kernel", "path", whose=_NOT_MINIOS),
    Parameter("arch", default="x86_64", choices=("x86_64", "x86_32"), whose=_BITS),
    Parameter("menu", whose=_LEGACY),
    Parameter("menu_disk", whose=_LEGACY),
    Parameter("menu_partition", "int", whose=_LEGACY),
    Parameter("menu_file", "path", whose=_LEGACY),
    Parameter("menu_entries", "list", default=(), elements="dict", options=MENU_ENTRY, whose=_MENUS),
    Parameter("menu_timeout", "int", default=3, whose=_MENUS),
    Parameter("menu_fallback", whose=_MENUS),
    Parameter("menu_password", whose=_MENUS, no_log=True),
    Parameter("menu_splash", whose=_LEGACY),
    Parameter("look_at_disks", "bool", default=True),
    Parameter("cmdline", key="extra", whose=_KERNELS),
    Parameter("ramdisk", "path", key="ramdisk", whose=_KERNELS),
    Parameter("boot", whose=_HVM),
    Parameter("firmware", choices=("bios", "uefi"), whose=_HVM),
    Parameter("bios_path_override", "path", key="bios_path_override", whose=_QEMU_XEN),
    Parameter("serial", "raw", whose=_HVM),
    Parameter("vnc", "bool", whose=_MINIOS),
    Parameter("screen", "bool", whose=_LINUX),
    Parameter("screen_owner", whose=_LINUX),
    Parameter("screen_group", whose=_LINUX),
    Parameter("debug", "bool", whose=_LINUX),
    Parameter("stubdomain_memory", "int", whose=_STUBBED),
    Parameter("stubdomain_kernel", "path", whose=_STUBBED),
    Parameter("stubdomain_ramdisk", "path", whose=_LINUX),
    Parameter("stubdomain_cmdline", whose=_LINUX),
    Parameter("firmware_override", "path", whose=_MINIOS),
    Parameter("device_model_override", "path", whose=_MINIOS),
    Parameter("memory", "int", key="memory"),
    Parameter("maxmem", "int", key="maxmem"),
    Parameter("vcpus", "int", default=1, key="vcpus"),
    Parameter("maxvcpus", "int", key="maxvcpus"),
    Parameter("cpu_weight", "int", key="cpu_weight"),
    Parameter("cap", "int", key="cap"),
    Parameter("cpus", "raw", key="cpus"),
    Parameter("cpus_soft", "raw", key="cpus_soft"),
    Parameter("pool", key="pool"),
    Parameter("seclabel", key="seclabel"),
    Parameter("disks", "list", default=(), elements="dict", options=DISK, key="disk"),
    Parameter("nics", "list", default=(), elements="dict", options=NIC, key="vif"),
    Parameter("vga", choices=("cirrus", "stdvga", "qxl", "none"), key="vga", whose=_HVM),
    Parameter("videoram", "int", key="videoram", whose=_HVM),
    Parameter("hpet", "bool", key="hpet", whose=_HVM),
    Parameter("viridian", "list", elements="str", key="viridian", whose=_HVM),
    Parameter("smbios", "list", elements="str", key="smbios", whose=_HVM),
    Parameter("smbios_firmware", "path", key="smbios_firmware", whose=_HVM),
    Parameter("tsc_mode", choices=("default", "always_emulate", "native", "native_paravirt"), key="tsc_mode"),
    Parameter("timer_mode", choices=_TIMERS, key="timer_mode", whose=_NOT_PV),
    Parameter("localtime", "bool", key="localtime"),
    Parameter("rtc_timeoffset", "int", key="rtc_timeoffset"),
    Parameter("on_poweroff", choices=_ENDS, key="on_poweroff"),
    Parameter("on_reboot", choices=_ENDS, key="on_reboot"),
    Parameter("on_crash", choices=_ENDS, key="on_crash"),
    Parameter("options", "dict", default={}),
    Parameter("allow_weaker_isolation", "bool", default=False),
    Parameter("autostart", "bool", default=False),
    Parameter("path", "path"),
    Parameter("mode", "raw"),
    Parameter("owner"),
    Parameter("group"),
    Parameter("says"),
    Parameter("wait_for", "dict", options=WAIT_FOR),
    Parameter("timeout", "int", default=120),
    Parameter("live", "bool", default=True),
    Parameter("restart", "bool", default=False),
    Parameter("stop", choices=("graceful", "force")),
    Parameter("stop_timeout", "int", default=120),
    Parameter("start_after", "list", default=(), elements="str"),
    Parameter("start_delay", "int", default=0),
)


def argument_spec(rows: Sequence[Parameter] = GUEST) -> Dict[str, Any]:
    """What Ansible checks of a guest. Defaults are filled in later, as other parameters can give them, too."""
    spec: Dict[str, Any] = {}
    for row in rows:
        option: Dict[str, Any] = {"type": row.type}
        if row.required:
            option["required"] = True
        if row.no_log:
            option["no_log"] = True
        if row.choices:
            option["choices"] = list(row.choices)
        if row.elements is not None:
            option["elements"] = row.elements
        if row.options:
            option["options"] = argument_spec(row.options)
        spec[row.name] = option
    return spec


def filled(given: Mapping[str, Any], rows: Sequence[Parameter] = GUEST) -> Dict[str, Any]:
    """Every parameter with its value: the one that is given, or the default."""
    values: Dict[str, Any] = {}
    for row in rows:
        value = given.get(row.name)
        if value is None:
            value = row.default
        if row.options and row.type == "list":
            value = [filled(item, row.options) for item in value or ()]
        values[row.name] = value
    return values


def refuse_foreign(guest: Mapping[str, Any]) -> None:
    """:raises UserError: a parameter is given that guests of this kind or flavour do not have."""
    for row in GUEST:
        value = guest.get(row.name)
        if value is None or value in (row.default, "", False, []):
            continue
        for what, wanted in (("type", row.whose.types), ("flavour", row.whose.flavours)):
            if guest[what] not in wanted:
                raise UserError(
                    f"{row.name} is not supported with {what} {guest[what]}: {row.whose.why}.", f"Leave out {row.name}."
                )


def keys(guest: Mapping[str, Any]) -> Dict[str, Any]:
    """The keys of xl.cfg whose value is that of one parameter.

    :raises UserError: a value would end the field that it stands in.
    """
    found: Dict[str, Any] = {}
    for row in GUEST:
        value = guest.get(row.name)
        if row.key is None or value in (None, "", [], ()):
            continue
        if row.options:
            value = [_fields(item, row) for item in value]
        found[row.key] = int(value) if isinstance(value, bool) else value
    return found


def _fields(item: Mapping[str, Any], parent: Parameter) -> str:
    """Write a disk or a network interface as xl reads it."""
    written: List[str] = []
    for row in parent.options:
        value = item.get(row.name)
        if row.words is not None and value is not None:
            written += [row.words[value]] if value in row.words else []
        elif row.key is not None and value not in (None, ""):
            if row.name != "target" and "," in str(value):
                raise UserError(
                    f"{parent.name}.{row.name} is {value!r}: a comma separates fields for xl.",
                    f"Set {row.name} to a value without a comma.",
                )
            written.append(f"{row.key}={value}")
    return ",".join(written)
