# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what differs from one distribution to another, one row each. A new distribution
# is a row here and a tree in the unit tests (tests/unit/plugins/module_utils/_common/fixtures/distributions).

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field, fields, replace
from typing import Dict, Mapping, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version, text

# How far a row can be trusted: seen on a running host; seen in files of that distribution; read in its build recipes
# or documentation; not known.
RUNNING, FILES, READ, UNKNOWN = "running", "files", "read", "unknown"

# What a host may have to be given, as a message names it where the package is not known.
PURPOSES: Mapping[str, str] = {
    "hypervisor": "the Xen hypervisor",
    "toolstack": "Xen's toolstack (xl)",
    "toolstack_programs": "the programs of Xen's toolstack",
    "xenstore": "the command line clients of xenstore",
    "grub_xen": "GRUB 2 for Xen guests",
    "grub_pc": "the modules of GRUB 2 for a BIOS (i386-pc)",
    "grub_tools": "the tools of GRUB 2",
    "boot_loader": "a boot loader such as GRUB 2",
    "qemu": "QEMU with support for Xen",
    "vga_roms": "the video ROMs of QEMU (SeaVGABIOS)",
    "network_roms": "the network ROMs of QEMU (iPXE)",
    "netboot": "dnsmasq and ethtool",
    "ovmf": "OVMF",
    "busybox": "a statically linked busybox",
    "squashfs": "the tools of squashfs (mksquashfs)",
    "zstd": "zstd",
    "kernel": "the kernel and its modules",
    "libc": "the C library",
    "compiler": "gcc",
    "python_headers": "the headers of Python 3, and setuptools",
    "yajl_headers": "the headers of yajl",
    "iasl": "the compiler of ACPI tables (iasl)",
    "update_extlinux": "update-extlinux",
}

# Purposes for which one of the packages is enough.
EITHER = ("boot_loader",)

# An os-release of the known distributions has less than 1 KiB.
_LONGEST = 1 << 16


@dataclass(frozen=True)
class Paths:
    """Where things lie. {version} is the release of Xen, as in 4.20.

    :param firmware: directories in which libxl looks for images; hvmloader lies in the right one.
    :param programs: directories of the toolstack's own programs.
    :param libxl: patterns of the toolstack's library, whose name tells the release.
    :param xenstore: the program xenstore.
    :param qemu: QEMU as libxl runs it, an ELF program.
    :param grub_pv: GRUB 2 as the kernel of a PV guest.
    :param grub_pvh: GRUB 2 as the kernel of a PVH guest.
    :param grub_modules: directories of GRUB 2's modules, by {platform}.
    :param grub_mkimage: the program that makes an image of them.
    :param roms: directories of QEMU's ROMs.
    :param libraries: directories of shared libraries.
    :param busybox: a busybox.
    :param ovmf: UEFI firmware.
    """

    firmware: Tuple[str, ...] = ()
    programs: Tuple[str, ...] = ()
    libxl: Tuple[str, ...] = ()
    xenstore: Tuple[str, ...] = ()
    qemu: Tuple[str, ...] = ()
    grub_pv: Tuple[str, ...] = ()
    grub_pvh: Tuple[str, ...] = ()
    grub_modules: Tuple[str, ...] = ()
    grub_mkimage: Tuple[str, ...] = ()
    roms: Tuple[str, ...] = ()
    libraries: Tuple[str, ...] = ()
    busybox: Tuple[str, ...] = ()
    ovmf: Tuple[str, ...] = ()


KINDS = tuple(kind.name for kind in fields(Paths))


@dataclass(frozen=True)
class GrubLayout:
    """How GRUB 2 is laid out.

    :param directory: where its configuration, grubenv and custom.cfg are.
    :param prefix: what the names of its programs begin with.
    :param generator: the program that generates the configuration.
    :param outputs: where the configuration is; the first one that exists, else the first one.
    :param names_output: whether the generator is told with -o where to write.
    """

    directory: str
    prefix: str
    generator: str
    outputs: Tuple[str, ...]
    names_output: bool = True


@dataclass(frozen=True)
class Distribution:
    """One family of distributions.

    :param key: its name in this code.
    :param name: its name for people; empty for the row that stands for all others.
    :param ids: what its members call themselves in os-release (ID, or in ID_LIKE of derivatives).
    :param os_family: Ansible's name for the family, in ansible_facts.os_family.
    :param proven: how far "toolstack", "grub" and "packages" can be trusted.
    :param packages: packages by purpose, see PURPOSES; {version} is the release of Xen.
    :param origins: where packages of a purpose come from, if not from the distribution's own repositories.
    :param release: VERSION_ID of the host, empty in the table.
    :param start: the command that starts a service.
    :param services: the services of the toolstack.
    :param xendomains: the settings of the service that starts guests with the host, where it reads any.
    :param package_manager: the program by which packages are upgraded.
    """

    key: str
    name: str
    ids: Tuple[str, ...]
    os_family: str = ""
    proven: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    paths: Paths = Paths()
    grub: Optional[GrubLayout] = None
    start: str = "systemctl start {service}"
    services: Tuple[str, ...] = ()
    xendomains: str = ""
    package_manager: str = ""
    release: str = ""

    @property
    def known(self) -> bool:
        """Whether the table tells anything about it."""
        return bool(self.packages)


_GRUB = GrubLayout("/boot/grub", "grub-", "grub-mkconfig", ("/boot/grub/grub.cfg",))
# grub-mkconfig knows where to write in the update-grub of Debian (/usr/sbin/update-grub).
_UPDATE_GRUB = replace(_GRUB, generator="update-grub", names_output=False)
# Before Fedora 34 and RHEL 9 the link leads to the EFI system partition
# (https://fedoraproject.org/wiki/Changes/UnifyGrubConfig).
_GRUB2 = GrubLayout(
    "/boot/grub2", "grub2-", "grub2-mkconfig", ("/boot/grub2/grub.cfg", "/etc/grub2-efi.cfg", "/etc/grub2.cfg")
)

# Debian 12 (Xen 4.17) and 13 (Xen 4.20), as running hosts. Paths: debian/rules of xen (prefix /usr/lib/xen-VERSION) and
# the packages' own lists of files; builds of pv-grub, ioemu, c and caml on both.
_DEBIAN = Distribution(
    key="debian",
    name="Debian",
    ids=("debian", "devuan"),
    os_family="Debian",
    package_manager="apt",
    proven={"toolstack": RUNNING, "grub": RUNNING, "packages": RUNNING},
    packages={
        "hypervisor": ("xen-system-amd64",),
        "toolstack": ("xen-utils-common",),
        "toolstack_programs": ("xen-utils-{version}",),
        "xenstore": ("xenstore-utils",),
        "grub_xen": ("grub-xen-host",),
        "grub_pc": ("grub-pc-bin",),
        "grub_tools": ("grub2-common",),
        "boot_loader": ("grub-pc", "grub-efi-amd64"),
        "qemu": ("qemu-system-xen",),
        "vga_roms": ("seabios",),
        "network_roms": ("ipxe-qemu",),
        "netboot": ("dnsmasq-base", "ethtool"),
        "busybox": ("busybox-static",),
        "squashfs": ("squashfs-tools",),
        "zstd": ("zstd",),
        "kernel": ("linux-image-amd64",),
        "libc": ("libc6",),
        "compiler": ("gcc",),
        "python_headers": ("python3-dev", "python3-setuptools"),
        "yajl_headers": ("libyajl-dev",),
        "iasl": ("acpica-tools",),
    },
    paths=Paths(
        firmware=("/usr/lib/xen-{version}/boot",),
        # /usr/bin has wrappers that run the program of the running hypervisor's release.
        programs=("/usr/lib/xen-{version}/bin", "/usr/bin"),
        libxl=("/usr/lib/x86_64-linux-gnu/libxenlight.so.*",),
        xenstore=("/usr/bin/xenstore",),
        # A package of its own: the QEMU of qemu-system-x86 is built without Xen.
        qemu=("/usr/libexec/xen-qemu-system-i386", "/usr/lib/xen-{version}/bin/qemu-system-i386"),
        grub_pv=("/usr/lib/grub-xen/grub-x86_64-xen.bin",),
        grub_pvh=("/usr/lib/grub-xen/grub-i386-xen_pvh.bin",),
        roms=("/usr/share/qemu", "/usr/share/seabios", "/usr/lib/ipxe/qemu"),
        libraries=("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"),
        busybox=("/bin/busybox",),
        ovmf=("/usr/share/ovmf/OVMF.fd",),
    ),
    grub=_UPDATE_GRUB,
    services=("xen",),
    xendomains="/etc/default/xendomains",
)  # fmt: skip

# Ubuntu takes its Xen from Debian (universe), so that what is seen there is expected here; 22.04 has QEMU for Xen in
# qemu-system-x86-xen instead.
_UBUNTU = replace(
    _DEBIAN,
    key="ubuntu",
    name="Ubuntu",
    ids=("ubuntu",),
    proven={"toolstack": READ, "grub": READ, "packages": READ},
    packages={**_DEBIAN.packages, "kernel": ("linux-image-generic",)},
)

# Fedora, and RHEL's relatives with the packages of a third party (RHEL itself ships no hypervisor). Paths: Fedora's
# xen.spec (--libexecdir=/usr/libexec, with links from /usr/lib/xen and /usr/lib64/xen) and specs of xen 4.13 to 4.21
# that are like it (vchan-socket-proxy in /usr/bin). Builds: automation/build/fedora @ xen stable-4.20. Which QEMU libxl
# runs is not confirmed. No package with GRUB for Xen guests was found.
_FEDORA = Distribution(
    key="fedora",
    name="Fedora",
    ids=("fedora", "rhel", "centos", "rocky", "almalinux", "ol"),
    os_family="RedHat",
    package_manager="dnf",
    proven={"toolstack": READ, "grub": FILES, "packages": READ},
    packages={
        "hypervisor": ("xen",),
        "toolstack": ("xen-runtime",),
        "toolstack_programs": ("xen-runtime",),
        "xenstore": ("xen-runtime",),
        "grub_pc": ("grub2-pc-modules",),
        "grub_tools": ("grub2-tools",),
        "boot_loader": ("grub2-pc", "grub2-efi-x64"),
        "qemu": ("qemu-system-x86-core",),
        "vga_roms": ("seavgabios-bin",),
        "network_roms": ("ipxe-roms-qemu",),
        "netboot": ("dnsmasq", "ethtool"),
        "ovmf": ("edk2-ovmf-xen",),
        "busybox": ("busybox",),
        "squashfs": ("squashfs-tools",),
        "zstd": ("zstd",),
        "kernel": ("kernel",),
        "libc": ("glibc",),
        "compiler": ("gcc",),
        "python_headers": ("python3-devel", "python3-setuptools"),
        "yajl_headers": ("yajl-devel",),
        "iasl": ("acpica-tools",),
    },
    paths=Paths(
        firmware=("/usr/libexec/xen/boot", "/usr/lib/xen/boot", "/usr/lib64/xen/boot"),
        programs=("/usr/bin", "/usr/libexec/xen/bin", "/usr/lib/xen/bin"),
        libxl=("/usr/lib64/libxenlight.so.*",),
        xenstore=("/usr/bin/xenstore",),
        qemu=("/usr/libexec/xen/bin/qemu-system-i386", "/usr/lib/xen/bin/qemu-system-i386",
              "/usr/bin/qemu-system-i386"),
        roms=("/usr/share/qemu", "/usr/share/seavgabios", "/usr/share/ipxe/qemu"),
        libraries=("/lib64", "/usr/lib64"),
        busybox=("/usr/sbin/busybox", "/usr/bin/busybox"),
        ovmf=("/usr/share/edk2/xen/OVMF.fd",),
    ),
    grub=_GRUB2,
    services=("xenstored", "xenconsoled"),
    xendomains="/etc/sysconfig/xendomains",
)  # fmt: skip

# openSUSE and SLES. Paths and services: xen.spec of 4.18 (libexecdir /usr/lib; /usr/lib/xen/bin/qemu-system-i386 is a
# shell program that runs /usr/bin/qemu-system-i386). Builds: automation/build/suse @ xen stable-4.20.
_SUSE = Distribution(
    key="suse",
    name="openSUSE",
    ids=("opensuse", "suse", "sles", "opensuse-leap", "opensuse-tumbleweed"),
    os_family="Suse",
    package_manager="zypper",
    proven={"toolstack": READ, "grub": FILES, "packages": READ},
    packages={
        "hypervisor": ("xen",),
        "toolstack": ("xen-tools",),
        "toolstack_programs": ("xen-tools",),
        "xenstore": ("xen-tools",),
        "grub_xen": ("grub2-x86_64-xen",),
        "grub_pc": ("grub2-i386-pc",),
        "grub_tools": ("grub2",),
        "boot_loader": ("grub2-i386-pc", "grub2-x86_64-efi"),
        "qemu": ("qemu-x86",),
        "vga_roms": ("qemu-vgabios",),
        "network_roms": ("qemu-ipxe",),
        "netboot": ("dnsmasq", "ethtool"),
        "ovmf": ("qemu-ovmf-x86_64",),
        "busybox": ("busybox-static",),
        "squashfs": ("squashfs",),
        "zstd": ("zstd",),
        "kernel": ("kernel-default",),
        "libc": ("glibc",),
        "compiler": ("gcc",),
        "python_headers": ("python3-devel", "python3-setuptools"),
        "yajl_headers": ("libyajl-devel",),
        "iasl": ("acpica",),
    },
    paths=Paths(
        firmware=("/usr/lib/xen/boot",),
        programs=("/usr/bin", "/usr/lib/xen/bin"),
        libxl=("/usr/lib64/libxenlight.so.*",),
        xenstore=("/usr/bin/xenstore",),
        qemu=("/usr/bin/qemu-system-i386",),
        grub_pv=("/usr/share/grub2/x86_64-xen/grub.xen", "/usr/lib/grub2/x86_64-xen/grub.xen"),
        grub_modules=("/usr/share/grub2/{platform}", "/usr/lib/grub2/{platform}"),
        grub_mkimage=("/usr/bin/grub2-mkimage",),
        roms=("/usr/share/qemu",),
        libraries=("/lib64", "/usr/lib64"),
        busybox=("/usr/bin/busybox-static",),
        ovmf=("/usr/share/qemu/ovmf-x86_64-xen-4m.bin",),
    ),
    grub=_GRUB2,
    services=("xencommons",),
    xendomains="/etc/sysconfig/xendomains",
)  # fmt: skip

# Alpine. Paths and services: main/xen/APKBUILD (prefix /usr, OpenRC) and scripts/mkimg.xen.sh (xen-qemu) of aports.
# Builds: automation/build/alpine @ xen stable-4.20. With its C library (musl) no Linux stub domain was tried.
_ALPINE = Distribution(
    key="alpine",
    name="Alpine",
    ids=("alpine",),
    os_family="Alpine",
    package_manager="apk",
    proven={"toolstack": READ, "grub": FILES, "packages": READ},
    packages={
        "hypervisor": ("xen-hypervisor",),
        "toolstack": ("xen",),
        "toolstack_programs": ("xen",),
        "xenstore": ("xen",),
        "grub_xen": ("grub-xenhost",),
        "grub_pc": ("grub-bios",),
        "grub_tools": ("grub",),
        "netboot": ("dnsmasq", "ethtool"),
        "boot_loader": ("grub-bios", "grub-efi"),
        "qemu": ("xen-qemu",),
        "vga_roms": ("seabios",),
        "busybox": ("busybox-static",),
        "squashfs": ("squashfs-tools",),
        "zstd": ("zstd",),
        "kernel": ("linux-lts",),
        "libc": ("musl",),
        "compiler": ("gcc",),
        "python_headers": ("python3-dev", "py3-setuptools"),
        "yajl_headers": ("yajl-dev",),
        "iasl": ("iasl",),
        "update_extlinux": ("syslinux",),
    },
    paths=Paths(
        firmware=("/usr/lib/xen/boot",),
        programs=("/usr/bin", "/usr/lib/xen/bin"),
        libxl=("/usr/lib/libxenlight.so.*",),
        xenstore=("/usr/bin/xenstore",),
        qemu=("/usr/lib/xen/bin/qemu-system-i386",),
        grub_pv=("/usr/lib/grub-xen/grub-x86_64-xen.bin",),
        grub_pvh=("/usr/lib/grub-xen/grub-i386-xen_pvh.bin",),
        roms=("/usr/share/qemu-xen/qemu", "/usr/share/qemu", "/usr/share/seabios"),
        libraries=("/lib", "/usr/lib"),
        busybox=("/bin/busybox.static",),
    ),
    grub=_UPDATE_GRUB,
    start="rc-service {service} start",
    services=("xenstored", "xenconsoled"),
)  # fmt: skip

# Arch, whose Xen is in the AUR: PKGBUILDs of xen and xen-qemu 8.2 there (bindir /usr/lib/xen/bin, datadir
# /usr/share/qemu-xen). Builds: automation/build/archlinux @ xen stable-4.20.
_AUR = "the AUR"
_ARCH = Distribution(
    key="arch",
    name="Arch",
    ids=("arch", "archlinux"),
    os_family="Archlinux",
    package_manager="pacman",
    proven={"toolstack": READ, "grub": FILES, "packages": READ},
    packages={
        "hypervisor": ("xen",),
        "toolstack": ("xen",),
        "toolstack_programs": ("xen",),
        "xenstore": ("xen",),
        "grub_xen": ("grub-xen-git",),
        "grub_pc": ("grub",),
        "grub_tools": ("grub",),
        "netboot": ("dnsmasq", "ethtool"),
        "boot_loader": ("grub",),
        "qemu": ("xen-qemu",),
        "vga_roms": ("seabios",),
        "busybox": ("busybox",),
        "squashfs": ("squashfs-tools",),
        "zstd": ("zstd",),
        "kernel": ("linux",),
        "libc": ("glibc",),
        "compiler": ("gcc",),
        "python_headers": ("python", "python-setuptools"),
        "yajl_headers": ("yajl",),
        "iasl": ("acpica",),
    },
    origins=dict.fromkeys(("hypervisor", "toolstack", "toolstack_programs", "xenstore", "grub_xen", "qemu"), _AUR),
    paths=Paths(
        firmware=("/usr/lib/xen/boot",),
        programs=("/usr/bin", "/usr/lib/xen/bin"),
        libxl=("/usr/lib/libxenlight.so.*",),
        xenstore=("/usr/bin/xenstore",),
        qemu=("/usr/lib/xen/bin/qemu-system-i386",),
        roms=("/usr/share/qemu-xen/qemu", "/usr/share/qemu", "/usr/share/seabios"),
        libraries=("/usr/lib",),
        busybox=("/usr/bin/busybox",),
    ),
    grub=_GRUB,
    services=("xenstored", "xenconsoled"),
)

# Gentoo. Paths, services and packages: app-emulation/xen-tools-4.19.1 (libexecdir /usr/libexec; init programs of
# OpenRC). What a build needs is part of every Gentoo but for the tools of ACPI and of 16-bit code.
_GENTOO = Distribution(
    key="gentoo",
    name="Gentoo",
    ids=("gentoo",),
    os_family="Gentoo",
    package_manager="emerge",
    proven={"toolstack": READ, "grub": FILES, "packages": READ},
    packages={
        "hypervisor": ("app-emulation/xen",),
        "toolstack": ("app-emulation/xen-tools",),
        "toolstack_programs": ("app-emulation/xen-tools",),
        "xenstore": ("app-emulation/xen-tools",),
        "grub_pc": ("sys-boot/grub",),
        "grub_tools": ("sys-boot/grub",),
        "boot_loader": ("sys-boot/grub",),
        "qemu": ("app-emulation/xen-tools",),
        "vga_roms": ("sys-firmware/seabios",),
        "network_roms": ("sys-firmware/ipxe",),
        "netboot": ("net-dns/dnsmasq", "sys-apps/ethtool"),
        "busybox": ("sys-apps/busybox",),
        "squashfs": ("sys-fs/squashfs-tools",),
        "zstd": ("app-arch/zstd",),
        "kernel": ("sys-kernel/gentoo-kernel",),
        "libc": ("sys-libs/glibc",),
        "compiler": ("sys-devel/gcc",),
        "iasl": ("sys-power/iasl",),
    },
    paths=Paths(
        firmware=("/usr/libexec/xen/boot",),
        programs=("/usr/bin", "/usr/libexec/xen/bin"),
        libxl=("/usr/lib64/libxenlight.so.*",),
        xenstore=("/usr/bin/xenstore",),
        qemu=("/usr/libexec/xen/bin/qemu-system-i386",),
        roms=("/usr/share/qemu-xen/qemu", "/usr/share/qemu", "/usr/share/seabios"),
        libraries=("/lib64", "/usr/lib64"),
        busybox=("/bin/busybox",),
    ),
    grub=_GRUB,
    start="rc-service {service} start",
    services=("xencommons",),
)

# Known by name only, so that they are not taken for the distribution that they are derived from: their files lie
# elsewhere (NixOS), or are made by tools of their own (Qubes, XCP-ng).
_NAMED_ONLY = tuple(
    Distribution(key=key, name=name, ids=ids)
    for key, name, ids in (
        ("nixos", "NixOS", ("nixos",)),
        ("qubes", "Qubes OS", ("qubes",)),
        ("xcp-ng", "XCP-ng", ("xenenterprise", "xcp-ng")),
    )
)

DISTRIBUTIONS: Sequence[Distribution] = (
    _DEBIAN, _UBUNTU, _FEDORA, _SUSE, _ALPINE, _ARCH, _GENTOO, *_NAMED_ONLY,
)  # fmt: skip

# All others, and hosts on which Xen was built from its own source (m4/paths.m4 @ xen stable-4.22: libexecdir/xen, where
# libexecdir is PREFIX/lib or PREFIX/libexec).
GENERIC = Distribution(
    key="generic",
    name="",
    ids=(),
    paths=Paths(
        firmware=(
            "/usr/libexec/xen/boot",
            "/usr/lib/xen/boot",
            "/usr/lib64/xen/boot",
            "/usr/local/libexec/xen/boot",
            "/usr/local/lib/xen/boot",
        ),
        programs=(
            "/usr/bin",
            "/usr/libexec/xen/bin",
            "/usr/lib/xen/bin",
            "/usr/local/bin",
            "/usr/local/libexec/xen/bin",
            "/usr/local/lib/xen/bin",
        ),
        libxl=tuple(
            f"/usr/{directory}/libxenlight.so.*" for directory in ("lib/*", "lib", "lib64", "local/lib", "local/lib64")
        ),
        xenstore=("/usr/bin/xenstore", "/usr/local/bin/xenstore"),
        qemu=tuple(
            f"/usr/{directory}/xen/bin/qemu-system-i386"
            for directory in ("libexec", "lib", "local/libexec", "local/lib")
        ),
        grub_pv=("/usr/lib/grub-xen/grub-x86_64-xen.bin",),
        grub_pvh=("/usr/lib/grub-xen/grub-i386-xen_pvh.bin",),
        grub_modules=("/usr/lib/grub/{platform}", "/usr/local/lib/grub/{platform}"),
        grub_mkimage=("/usr/bin/grub-mkimage", "/usr/bin/grub2-mkimage"),
        roms=("/usr/share/qemu", "/usr/share/seabios", "/usr/share/qemu-xen/qemu", "/usr/local/share/qemu-xen/qemu"),
        libraries=("/lib64", "/usr/lib64", "/lib", "/usr/lib"),
        busybox=("/bin/busybox", "/usr/bin/busybox"),
    ),
)


def detect(root: str = "/") -> Distribution:
    """Return the row of a host, GENERIC where none is meant.

    :param root: where the host's files are.
    """
    said = _os_release(root)
    for name in (said.get("ID", ""), *said.get("ID_LIKE", "").split()):
        for row in DISTRIBUTIONS:
            if name.lower() in row.ids:
                return replace(row, release=said.get("VERSION_ID", ""))
    return GENERIC


def install_hint(purpose: str, row: Optional[Distribution] = None, *, version: Optional[Version] = None) -> str:
    """Return what to install, as it stands after "Install": the package of that host, else the thing itself.

    :param purpose: a key of PURPOSES.
    :param row: the host's row; without it, the row of the host that this runs on.
    :param version: the release of Xen, where packages are named after it.
    """
    row = detect() if row is None else row
    found = row.packages.get(purpose, ())
    names = [name.format(version=text(version, "VERSION")) for name in found]
    if not names:
        return PURPOSES[purpose]
    kind = "package" if len(names) == 1 or purpose in EITHER else "packages"
    origin = f" from {row.origins[purpose]}" if purpose in row.origins else ""
    last = f" {'or' if purpose in EITHER else 'and'} ".join(names[-2:])
    return f"the {kind} {', '.join([*names[:-2], last])}{origin}"


def start_hint(row: Optional[Distribution] = None) -> str:
    """Return what to start where the toolstack does not answer, as it stands after "Start"."""
    row = detect() if row is None else row
    commands = " and ".join(f"`{row.start.format(service=service)}`" for service in row.services)
    return f"the services of the toolstack ({commands or 'xenstored and xenconsoled'})"


def paths(kind: str, row: Distribution, **words: str) -> Tuple[str, ...]:
    """Return where something may lie on a host: where its distribution has it, then where Xen's own build puts it.

    On a host of an unknown distribution every place that is known to the table is looked at.

    :param kind: a field of Paths.
    :param words: what stands for {version} and the like.
    """
    rows = (row, GENERIC) if row.known else (*DISTRIBUTIONS, GENERIC)
    found: Tuple[str, ...] = tuple(path for one in rows for path in getattr(one.paths, kind))
    return tuple(dict.fromkeys(path.format(**words) for path in found))


def programs(name: str, row: Distribution, version: Optional[Version]) -> Tuple[str, ...]:
    """Return where a program of the toolstack's own may lie on a host."""
    return tuple(f"{directory}/{name}" for directory in paths("programs", row, version=text(version)))


def grub_layouts(row: Distribution) -> Tuple[GrubLayout, ...]:
    """Return how GRUB 2 may be laid out: the distribution's own way first."""
    rows = (row, *DISTRIBUTIONS)
    return tuple(dict.fromkeys(one.grub for one in rows if one.grub is not None))


def _os_release(root: str) -> Dict[str, str]:
    """Read the fields of os-release(5); none where there is no such file."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        content = _content(root, path)
        if content is not None:
            lines = (line.strip() for line in content.splitlines())
            pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
            return {name: _unquoted(value) for name, _equals, value in pairs}
    return {}


def _content(root: str, path: str) -> Optional[str]:
    """Return a small file of a tree, None where it is not one. A link to an absolute path stays in the tree."""
    found = os.path.join(root, path.lstrip("/"))
    try:
        if os.path.islink(found) and os.path.isabs(os.readlink(found)):
            found = os.path.join(root, os.readlink(found).lstrip("/"))
        if not stat.S_ISREG(os.stat(found).st_mode):
            return None
        with open(found, "rb") as stream:
            return stream.read(_LONGEST).decode("utf-8", "replace")
    except (OSError, ValueError):
        return None


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return value.replace("\\", "")
