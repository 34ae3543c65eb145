# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a guest's parameters to xl.cfg, and what is refused on the way."""

from __future__ import annotations

import dataclasses
import gzip
from typing import Any

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import plan
from ansible_collections.xen.stubdom.plugins.module_utils._guests.model import Host
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import parts
from ansible_collections.xen.stubdom.plugins.module_utils._xen import xl_cfg

OVMF = "/usr/share/ovmf/OVMF.fd"
HOST = Host(
    version=(4, 20),
    firmware_directory="/usr/lib/xen-4.20/boot",
    capabilities=frozenset(["xen-3.0-x86_64", "hvm-3.0-x86_64"]),
)
DISK = {"target": "/srv/web.img", "vdev": "xvda", "format": "raw", "access": "rw"}
GRUB2 = {"name": "web", "type": "pv", "flavour": "grub2", "memory": 256, "vcpus": 1, "arch": "x86_64", "disks": [DISK]}
SPLASH = {
    "menu": None,
    "menu_entries": [{"title": "a", "kernel": "/k"}],
    "menu_splash": "/boot/s.xpm.gz",
    "menu_timeout": 5,
}
LEGACY = {**GRUB2, "flavour": "legacy", "menu": "(hd0,0)/boot/grub/menu.lst"}
LINUX = {**GRUB2, "type": "hvm", "flavour": "linux", "disks": [{**DISK, "vdev": "hda"}]}
MINIOS = {**LINUX, "flavour": "minios"}
DOM0 = {**LINUX, "flavour": "dom0", "allow_weaker_isolation": True}
PYGRUB = {**GRUB2, "flavour": "dom0", "allow_weaker_isolation": True, "options": {"bootloader": "pygrub"}}


def host(**changes: Any) -> Host:
    return dataclasses.replace(HOST, **changes)


# guest, host → the file but for its disk, name and identity.
@pytest.mark.parametrize(
    ("guest", "on", "text"),
    [
        (
            GRUB2,
            HOST,
            'type = "pv"\nkernel = "/usr/lib/grub-xen/grub-x86_64-xen.bin"\nmemory = 256\nvcpus = 1\n',
        ),
        (
            {**GRUB2, "type": "pvh", "maxmem": 512, "tsc_mode": "native"},
            HOST,
            'type = "pvh"\nkernel = "/usr/lib/grub-xen/grub-i386-xen_pvh.bin"\nmemory = 256\nmaxmem = 512\nvcpus = 1\n'
            'tsc_mode = "native"\n',
        ),
        (
            {**GRUB2, "kernel": "/opt/grub.xen", "on_poweroff": "preserve"},
            host(version=(4, 9)),
            'kernel = "/opt/grub.xen"\nmemory = 256\nvcpus = 1\non_poweroff = "preserve"\n',
        ),
        (
            {**GRUB2, "arch": "x86_32"},
            host(capabilities=frozenset(["xen-3.0-x86_32p"])),
            'type = "pv"\nkernel = "/usr/lib/grub-xen/grub-i386-xen.bin"\nmemory = 256\nvcpus = 1\n',
        ),
        (
            GRUB2,
            host(grub2=frozenset(["x86_64-xen", "i386-xen_pvh"])),
            'type = "pv"\nkernel = "/usr/lib/xen-4.20/boot/grub2-x86_64-xen.bin"\nmemory = 256\nvcpus = 1\n',
        ),
        (
            LEGACY,
            HOST,
            'type = "pv"\nkernel = "/usr/lib/xen-4.20/boot/pv-grub-x86_64.gz"\nextra = "(hd0,0)/boot/grub/menu.lst"\n'
            "memory = 256\nvcpus = 1\n",
        ),
        (
            {**LEGACY, "menu": "/grub/menu.lst", "menu_partition": 2},
            HOST,
            'type = "pv"\nkernel = "/usr/lib/xen-4.20/boot/pv-grub-x86_64.gz"\nextra = "(hd0,1)/grub/menu.lst"\n'
            "memory = 256\nvcpus = 1\n",
        ),
        (
            {**LEGACY, "menu": None, "menu_file": "/srv/menu.lst"},
            HOST,
            'type = "pv"\nkernel = "/usr/lib/xen-4.20/boot/pv-grub-x86_64.gz"\nramdisk = "/srv/menu.lst"\n'
            "memory = 256\nvcpus = 1\n",
        ),
        (
            {**LEGACY, "menu": None, "nics": [{"bridge": "xenbr0"}]},
            HOST,
            'type = "pv"\nkernel = "/usr/lib/xen-4.20/boot/pv-grub-x86_64.gz"\nmemory = 256\nvcpus = 1\n'
            'vif = [ "bridge=xenbr0" ]\n',
        ),
        (
            LINUX,
            HOST,
            'type = "hvm"\ndevice_model_version = "qemu-xen"\ndevice_model_stubdomain_override = 1\nserial = "pty"\n'
            "vnc = 0\nvkb_device = 0\n"
            "memory = 256\nvcpus = 1\n",
        ),
        (
            {**LINUX, "kernel": "/boot/vmlinuz", "ramdisk": "/boot/initrd", "cmdline": "console=ttyS0"},
            HOST,
            'type = "hvm"\ndevice_model_version = "qemu-xen"\ndevice_model_stubdomain_override = 1\nserial = "pty"\n'
            'boot = "d"\nvnc = 0\nvkb_device = 0\n'
            "memory = 256\nvcpus = 1\n",
        ),
        (
            {**LINUX, "boot": "c", "stubdomain_cmdline": "quiet"},
            host(stub_memory_mib=192, stub_command_line="console=hvc0"),
            'type = "hvm"\ndevice_model_version = "qemu-xen"\ndevice_model_stubdomain_override = 1\nserial = "pty"\n'
            'boot = "c"\nvnc = 0\nvkb_device = 0\n'
            'stubdomain_memory = 192\nstubdomain_cmdline = "console=hvc0 quiet"\nmemory = 256\nvcpus = 1\n',
        ),
        (
            LINUX,
            host(version=(4, 15), stub_memory_mib=110, stub_command_line="console=hvc0"),
            'type = "hvm"\ndevice_model_version = "qemu-xen"\ndevice_model_stubdomain_override = 1\nserial = "pty"\n'
            "vnc = 0\nvkb_device = 0\nstubdomain_memory = 110\n"
            "memory = 256\nvcpus = 1\n",
        ),
        (
            # What the installed image needs says nothing of another one, nor which cards that serves.
            {**LINUX, "stubdomain_ramdisk": "/opt/rootfs", "stubdomain_memory": 100, "vga": "qxl"},
            host(stub_memory_mib=110),
            'type = "hvm"\ndevice_model_version = "qemu-xen"\ndevice_model_stubdomain_override = 1\nserial = "pty"\n'
            'vnc = 0\nvkb_device = 0\nstubdomain_memory = 100\nstubdomain_ramdisk = "/opt/rootfs"\n'
            'memory = 256\nvcpus = 1\nvga = "qxl"\n',
        ),
        (
            MINIOS,
            host(version=(4, 9)),
            'builder = "hvm"\ndevice_model_version = "qemu-xen-traditional"\ndevice_model_stubdomain_override = 1\n'
            'serial = "pty"\nvnc = 0\nfirmware_override = "/usr/lib/xen-4.20/boot/helpers/hvmloader"\n'
            'device_model_override = "/usr/lib/xen-4.20/boot/helpers/qemu-dm"\nmemory = 256\nvcpus = 1\n',
        ),
        (
            {
                **MINIOS,
                "stubdomain_kernel": "/opt/ioemu.gz",
                "firmware_override": "/opt/hvmloader",
                "device_model_override": "/opt/qemu-dm",
                "vnc": True,
            },
            host(version=(4, 17)),
            'type = "hvm"\ndevice_model_version = "qemu-xen-traditional"\ndevice_model_stubdomain_override = 1\n'
            'serial = "pty"\nvnc = 1\nstubdomain_kernel = "/opt/ioemu.gz"\nfirmware_override = "/opt/hvmloader"\n'
            'device_model_override = "/opt/qemu-dm"\nmemory = 256\nvcpus = 1\n',
        ),
        (
            {**LINUX, "firmware": "bios"},
            HOST,
            'type = "hvm"\ndevice_model_version = "qemu-xen"\ndevice_model_stubdomain_override = 1\nserial = "pty"\n'
            'bios = "seabios"\nvnc = 0\nvkb_device = 0\nmemory = 256\nvcpus = 1\n',
        ),
        (
            {**LINUX, "firmware": "uefi"},
            HOST,
            'type = "hvm"\ndevice_model_version = "qemu-xen"\ndevice_model_stubdomain_override = 1\nserial = "pty"\n'
            f'bios = "ovmf"\nbios_path_override = "{OVMF}"\nvnc = 0\nvkb_device = 0\nmemory = 256\nvcpus = 1\n',
        ),
        # Before 4.8 libxl takes the file that it was built with.
        (
            {**DOM0, "firmware": "uefi"},
            host(version=(4, 7)),
            'builder = "hvm"\nbios = "ovmf"\nmemory = 256\nvcpus = 1\n',
        ),
        # As it was before it was taken over.
        (PYGRUB, HOST, 'type = "pv"\nmemory = 256\nvcpus = 1\nbootloader = "pygrub"\n'),
        (
            {**PYGRUB, "kernel": "/boot/vmlinuz", "options": {}},
            HOST,
            'type = "pv"\nkernel = "/boot/vmlinuz"\nmemory = 256\nvcpus = 1\n',
        ),
        (
            {
                **DOM0,
                "vnc": True,
                "serial": ["pty", "null"],
                "options": {"vnclisten": "127.0.0.1", "usbdevice": "tablet"},
            },
            HOST,
            'type = "hvm"\nserial = [\n    "pty",\n    "null",\n]\nvnc = 1\nmemory = 256\nvcpus = 1\n'
            'vnclisten = "127.0.0.1"\nusbdevice = "tablet"\n',
        ),
    ],
)
def test_a_guest_in_the_words_of_xl(guest: dict[str, Any], on: Host, text: str) -> None:
    keys = dict(plan.plan(guest, on).keys)
    assert (keys.pop("name"), keys.pop("uuid")) == ("web", plan.identity("web"))
    keys.pop("disk")
    assert xl_cfg.emit(keys).decode() == text


@pytest.mark.parametrize(
    ("vdevs", "drive"),
    [([], "hda"), (["hda", "hdc"], "hdb"), (["xvda", "d1p0", "sda"], "hdc"), (["hda1", "xvde"], "hda")],
)
def test_a_kernel_of_dom0_is_on_a_cd_before_all_others(vdevs: list[str], drive: str) -> None:
    own = [{**DISK, "vdev": vdev} for vdev in vdevs] + [{**DISK, "vdev": "hdd", "cdrom": True}]
    planned = plan.plan({**LINUX, "kernel": "/boot/vmlinuz", "ramdisk": "/boot/initrd", "disks": own}, HOST)
    path = "/var/lib/xen.stubdom/guests/web.iso"
    written = planned.keys["disk"]
    assert isinstance(written, list) and len(written) == len(own) + 1
    assert written[-1] == f"format=raw,vdev={drive},access=ro,devtype=cdrom,backendtype=phy,target={path}"
    menu = planned.menu
    assert menu is not None and (menu.path, menu.kernel, menu.ramdisk) == (path, "/boot/vmlinuz", "/boot/initrd")
    # It is written before the guest starts, and is nothing that has to be there.
    assert path not in [named for need in planned.needs for named in need.paths]
    assert "/boot/vmlinuz" in [named for need in planned.needs for named in need.paths]


def test_a_uuid_belongs_to_a_name() -> None:
    assert plan.identity("web") == plan.identity("web") != plan.identity("db")
    assert plan.plan({**GRUB2, "uuid": "74d0eec1-fe6e-402b-84b5-077b0f288fe4"}, HOST).keys["uuid"][:8] == "74d0eec1"


@pytest.mark.parametrize(
    ("guest", "on", "message"),
    [
        ({**GRUB2, "name": "a b"}, HOST, "is no name for a guest"),
        ({**GRUB2, "name": "12"}, HOST, "is no name for a guest"),
        ({**GRUB2, "name": "../web"}, HOST, "is no name for a guest"),
        ({**GRUB2, "name": "Domain-0"}, HOST, "is no name for a guest"),
        ({**GRUB2, "type": "hvm"}, HOST, "flavour grub2 is not for guests of type hvm"),
        ({**LEGACY, "type": "pvh"}, HOST, "flavour legacy is not for guests of type pvh"),
        ({**LINUX, "type": "pv"}, HOST, "flavour linux is not for guests of type pv"),
        ({**GRUB2, "type": "pvh"}, host(version=(4, 9)), "Xen 4.9 has no PVH guests"),
        ({**GRUB2, "memory": 0}, HOST, "has no memory"),
        ({**GRUB2, "maxmem": 128}, HOST, "above its maxmem of 128"),
        ({**GRUB2, "disks": [DISK, DISK]}, HOST, "Two disks are xvda"),
        ({**GRUB2, "disks": [{**DISK, "vdev": "c:"}]}, HOST, "'c:' is no name of a virtual disk"),
        ({**GRUB2, "menu": "(hd0)/menu.lst"}, HOST, "menu is not supported with flavour grub2: only PV-GRUB"),
        ({**GRUB2, "options": {"memory": 512}}, HOST, "options.memory is not allowed"),
        ({**GRUB2, "options": {"device_model_version": "x"}}, HOST, "options.device_model_version is not allowed"),
        ({**GRUB2, "options": {"cpu_wieght": 512}}, HOST, r"options\.cpu_wieght is no key of xl\.cfg"),
        ({**GRUB2, "maxvcpus": 2, "vcpus": 4}, HOST, "4 vCPUs, which is above its maxvcpus of 2"),
        ({**GRUB2, "options": {"firmware": "pvgrub64"}}, HOST, "options.firmware is not allowed"),
        (
            {**GRUB2, "timer_mode": "no_missed_ticks_pending"},
            HOST,
            "timer_mode is not supported with type pv: the timers",
        ),
        ({**GRUB2, "uuid": "not-a-uuid"}, HOST, "'not-a-uuid' is none that xl can read"),
        (
            {**GRUB2, "nics": [{"mac": "00:16:3e:00:00:0a"}, {"mac": "00:16:3E:00:00:0A"}]},
            HOST,
            "Two network interfaces",
        ),
        ({**GRUB2, "nics": [{"vifname": "a-name-of-16-chr"}]}, HOST, "no name that Linux takes for an interface"),
        ({**GRUB2, "arch": "x86_32"}, HOST, "runs no PV guests with a kernel for x86_32"),
        ({**GRUB2, "options": {"vkb_device": 0}}, HOST, "means nothing to a guest of type pv"),
        # legacy
        (LEGACY, host(firmware_directory=None), "firmware directory cannot be found"),
        ({**LEGACY, "arch": "x86_32"}, HOST, "runs no PV guests with a kernel for x86_32"),
        ({**LEGACY, "menu_file": "/srv/menu.lst"}, HOST, "has both menu and menu_file"),
        ({**LEGACY, "menu": None}, HOST, "has no menu"),
        ({**LEGACY, "menu": "boot/grub/menu.lst"}, HOST, "no path that PV-GRUB can read"),
        ({**LEGACY, "menu": "/menu.lst", "menu_disk": "xvdb"}, HOST, "xvdb is none of the guest's disks"),
        ({**LEGACY, "menu_partition": 1}, HOST, "names its own place, and menu_disk or menu_partition another one"),
        ({**LEGACY, **SPLASH}, HOST, "menu_splash of web is for a screen, and the guest has none"),
        ({**LEGACY, **SPLASH, "options": {"vfb": []}}, HOST, "the guest has none"),
        ({**LEGACY, "menu": "(hd0,0)/a b"}, HOST, "no path that PV-GRUB can read"),
        ({**LEGACY, "menu": "(hd0,0)/" + "x" * 88}, HOST, "has 96 bytes, and PV-GRUB has room for 95"),
        ({**LEGACY, "menu": "(hd0,0)/" + "ü" * 44}, HOST, "has 96 bytes"),
        ({**LEGACY, "menu": "(nd)/menu.lst"}, HOST, "comes over the network, and the guest has none"),
        ({**LEGACY, "menu": "(hd1)/menu.lst"}, HOST, r"none of the guest's disks: xvda is \(hd0\)"),
        ({**LEGACY, "disks": [{**DISK, "vdev": "xvda1"}]}, HOST, r"xvda1 is a partition and is \(hd0\) itself"),
        # linux
        (LINUX, host(version=(4, 13)), "Xen 4.13 has no flavour linux"),
        ({**MINIOS, "kernel": "/boot/vmlinuz"}, HOST, "kernel is not supported with flavour minios: QEMU would look"),
        ({**LINUX, "kernel": "/k", "firmware": "uefi"}, HOST, "it is a BIOS that starts a kernel of dom0"),
        ({**LINUX, "kernel": "/k", "boot": "c"}, HOST, "boot is c, and the guest has a kernel of dom0"),
        ({**LINUX, "kernel": "/k", "cmdline": "a 'b'"}, HOST, "GRUB 2 puts a backslash before each quote"),
        ({**LINUX, "kernel": "/k", "cmdline": "a  b"}, HOST, "cmdline is 'a  b', and it has blanks that a boot loader"),
        (
            {**LINUX, "disks": [{**DISK, "vdev": "hdc", "cdrom": True, "backendtype": "phy"}]},
            host(version=(4, 18)),
            "The CD-ROM drive hdc has the backendtype phy, and Xen 4.18 has a QEMU in dom0",
        ),
        ({**LINUX, "cmdline": "quiet"}, HOST, "cmdline is not supported with type hvm and no kernel: nothing would"),
        ({**LINUX, "ramdisk": "/i"}, HOST, "ramdisk is not supported with type hvm and no kernel: nothing would"),
        (
            {**LINUX, "kernel": "/k", "disks": [{**DISK, "vdev": vdev} for vdev in ("hda", "xvdb", "hdc", "hdd")]},
            HOST,
            "the guest's disks leave none free of hda to hdd",
        ),
        (
            {**LINUX, "kernel": "/k", "disks": [{**DISK, "vdev": "hda", "cdrom": True}]},
            HOST,
            "leave none free of hda to hdd that comes before its own CD-ROM drives",
        ),
        ({**LINUX, "boot": "network"}, HOST, "boot order 'network' is none that QEMU can follow"),
        ({**LINUX, "boot": "cc"}, HOST, "boot order 'cc' is none that QEMU can follow"),
        ({**LINUX, "options": {"vkb_device": 0}}, host(version=(4, 12)), "Xen 4.12 has no flavour linux"),
        ({**LINUX, "options": {"bios": "rombios"}}, HOST, "options.bios is not allowed"),
        ({**LINUX, "bios_path_override": "/x.fd"}, HOST, "xl does not know what kind of firmware that is"),
        ({**LINUX, "serial": ["pty", "pty"]}, HOST, "would have to open in itself"),
        ({**LINUX, "vnc": True}, HOST, "vnc is not supported with flavour linux"),
        ({**LINUX, "serial": "file:/tmp/x"}, HOST, "would have to open in itself"),
        ({**LINUX, "nics": [{}, {"model": "pcnet"}]}, HOST, "is a pcnet, whose boot ROM is not in the image"),
        ({**LINUX, "nics": [{"model": "i82559er"}]}, HOST, "is a i82559er, whose boot ROM is not in the image"),
        ({**LINUX, "nics": [{}] * 5}, HOST, "serves 4 network interfaces"),
        ({**LINUX, "disks": [{**DISK, "vdev": f"d{n}p0"} for n in range(27)]}, HOST, "serves 26 disks"),
        ({**LINUX, "stubdomain_memory": 128}, host(stub_memory_mib=160), "given 128 MiB, and its image needs 160"),
        (
            {**LINUX, "stubdomain_memory": 111, "disks": [{**DISK, "vdev": f"xvd{n}"} for n in "abc"]},
            host(stub_memory_mib=110),
            "given 111 MiB, and its image needs 112 MiB for this guest",
        ),
        ({**LINUX, "vga": "qxl"}, HOST, "is qxl, and the image of the Linux stub domain is without the library"),
        ({**LINUX, "stubdomain_cmdline": "quiet"}, host(version=(4, 15)), "4.15 does not know stubdomain_cmdline"),
        (
            {**LINUX, "screen": True},
            host(version=(4, 15)),
            "has screen, and xl of Xen 4.15 cannot tell the stub domain",
        ),
        ({**LINUX, "debug": True}, host(version=(4, 15)), "has debug, and xl of Xen 4.15 cannot tell the stub domain"),
        ({**LINUX, "firmware_override": "/x"}, HOST, "firmware_override is not supported with flavour linux"),
        # minios
        (MINIOS, host(version=(4, 21)), "Xen 4.21 has no flavour minios"),
        ({**MINIOS, "kernel": "/boot/vmlinuz"}, HOST, "kernel is not supported with flavour minios"),
        ({**MINIOS, "firmware": "uefi"}, HOST, "firmware is uefi, which the flavour minios cannot start"),
        ({**MINIOS, "bios_path_override": "/x.fd"}, HOST, "bios_path_override is not supported with flavour minios"),
        ({**MINIOS, "stubdomain_kernel": "/x"}, host(version=(4, 13)), "4.13 does not know stubdomain_kernel"),
        ({**MINIOS, "stubdomain_cmdline": "x"}, HOST, "stubdomain_cmdline is not supported with flavour minios"),
        # dom0
        ({**LINUX, "flavour": "dom0"}, HOST, "The device model of the guest web would run in dom0"),
        ({**GRUB2, "flavour": "dom0"}, HOST, "The boot loader of the guest web would run in dom0"),
        ({**PYGRUB, "options": {}}, HOST, "has neither a kernel nor a boot loader in dom0"),
        ({**DOM0, "stubdomain_memory": 200}, HOST, "stubdomain_memory is not supported with flavour dom0"),
        ({**PYGRUB, "boot": "c"}, HOST, "boot is not supported with type pv"),
    ],
)
def test_what_cannot_work_is_refused(guest: dict[str, Any], on: Host, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        plan.plan(guest, on)
    assert refused.value.remedy.endswith(".")


# Models of network cards by the boot ROM that QEMU reads for them, which are all that have one (romfile in hw/net/*.c
# and hw/virtio/virtio-net-pci.c @ v10.0; models of the eepro100: tests/qtest/eepro100-test.c).
MODELS = {
    "e1000.rom": ["e1000", "e1000-82544gc", "e1000-82545em"],
    "e1000e.rom": ["e1000e"],
    "rtl8139.rom": ["rtl8139"],
    "virtio.rom": ["virtio-net-pci", "virtio-net-pci-transitional", "virtio-net-pci-non-transitional"],
    "ne2k_pci.rom": ["ne2k_pci"],
    "pcnet.rom": ["pcnet"],
    "vmxnet3.rom": ["vmxnet3"],
    "eepro100.rom": [
        *("i82550", "i82551", "i82557a", "i82557b", "i82557c", "i82558a", "i82558b", "i82559a", "i82559b"),
        *("i82559c", "i82559er", "i82562", "i82801"),
    ],
    "": ["igb", "tulip"],
}


def test_a_network_card_is_taken_if_the_image_has_its_boot_rom() -> None:
    has = {wanted.name.rpartition("-")[2] for wanted in parts.ROMS if wanted.purpose == "network_roms"}
    assert has < set(MODELS)
    for rom, models in MODELS.items():
        for model in models:
            guest = {**LINUX, "nics": [{"model": model}]}
            if rom in {*has, ""}:
                assert plan.plan(guest, HOST).keys["vif"] == [f"model={model}"]
            else:
                with pytest.raises(UserError, match=f"is a {model}, whose boot ROM is not in the image") as refused:
                    plan.plan(guest, HOST)
                named = refused.value.remedy.partition(", or ")[0].removeprefix("Set model to ").replace(" or ", ", ")
                assert sorted(named.split(", ")) == sorted(MODELS[each][0] for each in has)


def test_a_uefi_firmware_is_known_by_its_content() -> None:
    for guest, paths in (
        ({**LINUX, "firmware": "uefi"}, (OVMF,)),
        ({**LINUX, "firmware": "uefi", "bios_path_override": "/opt/OVMF.fd"}, ("/opt/OVMF.fd",)),
    ):
        planned = plan.plan(guest, HOST)
        need = next(need for need in planned.needs if need.key == "bios_path_override")
        assert need.paths[:1] == paths and planned.keys["bios_path_override"] == paths[0]
        assert need.fits is not None and not need.fits(b"without Xen")
    on = host(distribution=next(row for row in distributions.DISTRIBUTIONS if row.key == "fedora"))
    needs = plan.plan({**LINUX, "firmware": "uefi"}, on).needs
    assert "install the package edk2-ovmf-xen, or set" in next(n.remedy for n in needs if n.key == "bios_path_override")
    assert not any(need.fits for need in plan.plan({**LINUX, "firmware": "bios"}, HOST).needs)


def test_a_null_among_the_options_is_left_out() -> None:
    assert "acpi" not in plan.plan({**GRUB2, "options": {"acpi": None}}, HOST).keys


def test_a_picture_behind_the_menu_has_a_screen() -> None:
    screen = "vnclisten=127.0.0.1,vncpasswd=x"
    entries = [{"title": "a", "kernel": "/k", "disk": "xvda", "partition": 1, "cmdline": None, "initrd": None}]
    planned = plan.plan({**LEGACY, **SPLASH, "menu_entries": entries, "options": {"vfb": [screen]}}, HOST)
    assert planned.keys["vfb"] == [screen]
    assert planned.menu is not None and "splashimage (hd0,0)/boot/s.xpm.gz\n" in planned.menu.text


def test_the_longest_menu_path_that_fits() -> None:
    assert len(plan.plan({**LEGACY, "menu": "(hd0,0)/" + "x" * 87}, HOST).keys["extra"]) == 95


@pytest.mark.parametrize(
    ("guest", "paths"),
    [
        (GRUB2, ["/usr/lib/grub-xen/grub-x86_64-xen.bin"]),
        (LEGACY, ["/usr/lib/xen-4.20/boot/pv-grub-x86_64.gz"]),
        (
            LINUX,
            [
                "/usr/lib/xen-4.20/boot/qemu-stubdom-linux-kernel",
                "/usr/lib/xen-4.20/boot/qemu-stubdom-linux-rootfs",
                "/usr/lib/xen-4.20/bin/vchan-socket-proxy",
            ],
        ),
        (
            MINIOS,
            [
                "/usr/lib/xen-4.20/boot/ioemu-stubdom.gz",
                "/usr/lib/xen-4.20/boot/helpers/hvmloader",
                "/usr/lib/xen-4.20/boot/helpers/qemu-dm",
            ],
        ),
    ],
)
def test_what_has_to_be_there(guest: dict[str, Any], paths: list[str]) -> None:
    needs = plan.plan(guest, HOST).needs
    assert [need.paths[0] for need in needs if need.to_start] == paths
    assert [need.paths[0] for need in needs if not need.to_start] == ["/srv/web.img"]


MEMORY = {"total_mib": 4095, "free_mib": 1000, "dom0_mib": 1024, "dom0_fixed": True, "autoballoon": "auto"}


# libxl's own sum for a domain, in MiB.
def unfit(guest: dict[str, Any], content: bytes) -> list[bool]:
    """Whether files of the user's own are refused for what is in them."""
    return [not need.fits(content) for need in plan.plan(guest, HOST).needs if need.fits is not None]


def test_a_kernel_and_a_root_file_system_of_ones_own_are_looked_at(
    make_kernel: Any, make_vmlinux: Any, make_elf: Any
) -> None:
    own = {**LINUX, "stubdomain_kernel": "/srv/kernel"}
    good, other = (gzip.compress(make_vmlinux(pv=pv)) for pv in (True, False))
    assert [unfit(own, content) for content in (make_kernel(packed=good), make_kernel(), make_elf())] == [[False]] * 3
    assert [unfit(own, content) for content in (make_kernel(packed=other), b"", b"070701")] == [[True]] * 3
    own = {**LINUX, "stubdomain_ramdisk": "/srv/rootfs"}
    assert [unfit(own, content) for content in (b"070701", gzip.compress(b""), b"hsqs")] == [[False], [False], [True]]
    # Linux can mount it.
    assert unfit({**own, "stubdomain_cmdline": "root=/dev/ram0"}, b"hsqs") == []


@pytest.mark.parametrize(
    ("guest", "on", "mib"),
    [
        (GRUB2, HOST, 258),
        ({**GRUB2, "type": "pvh"}, HOST, 262),  # 1 MiB per vCPU, 8 KiB per MiB, 2 MiB
        (LINUX, HOST, 398),  # and 128 MiB for the stub domain, 8 MiB of video memory
        ({**LINUX, "videoram": 16}, host(stub_memory_mib=192), 470),
        ({**LINUX, "vga": "stdvga"}, HOST, 406),
        ({**LINUX, "options": {"stdvga": 1}}, HOST, 406),
        ({**LINUX, "vga": "qxl", "stubdomain_ramdisk": "/opt/rootfs"}, HOST, 518),
        ({**LINUX, "vga": "none"}, HOST, 390),
        (DOM0, HOST, 262),  # no stub domain, and the video memory is a part of the guest's
        (MINIOS, HOST, 294),
    ],
)
def test_how_much_memory_a_guest_needs(guest: dict[str, Any], on: Host, mib: int) -> None:
    keys = plan.plan(guest, on).keys
    assert plan.memory_mib(keys) == mib
    plan.refuse_memory("web", mib, {**MEMORY, "free_mib": mib})
    plan.refuse_memory("web", mib, {**MEMORY, "free_mib": 0}, mib)
    with pytest.raises(UserError, match=f"needs {mib} MiB of memory, and the host has {mib - 1} MiB free"):
        plan.refuse_memory("web", mib, {**MEMORY, "free_mib": mib - 1})


@pytest.mark.parametrize(
    ("autoballoon", "fixed", "dom0_mib", "starts"),
    [("auto", False, 385, True), ("on", False, 385, True), ("auto", False, 384, False), ("off", False, 385, False),
     ("auto", True, 385, False)],
)  # fmt: skip
def test_what_xl_takes_from_dom0_counts(autoballoon: str, fixed: bool, dom0_mib: int, starts: bool) -> None:
    memory = {**MEMORY, "free_mib": 1, "dom0_mib": dom0_mib, "dom0_fixed": fixed, "autoballoon": autoballoon}
    if starts:
        plan.refuse_memory("web", 258, memory)
        return
    with pytest.raises(UserError, match="needs 258 MiB of memory, and the host has 1 MiB free"):
        plan.refuse_memory("web", 258, memory)


def test_only_a_stub_domain_needs_a_dom0_of_fixed_memory() -> None:
    loose = {**MEMORY, "dom0_fixed": False}
    plan.refuse_unfixed(plan.plan(GRUB2, HOST).keys, loose)
    with pytest.raises(UserError, match="memory of dom0 is not fixed"):
        plan.refuse_unfixed(plan.plan(LINUX, HOST).keys, loose)


def test_a_domain_of_that_name_is_the_guest_or_a_namesake() -> None:
    own = plan.identity("web")
    plan.refuse_namesake("web", own, None, None)
    plan.refuse_namesake("web", own, 3, own)
    plan.refuse_namesake("web", None, 3, "another")
    for foreign in ("another", None):
        with pytest.raises(UserError, match="domain 3 has it and comes from elsewhere"):
            plan.refuse_namesake("web", own, 3, foreign)
