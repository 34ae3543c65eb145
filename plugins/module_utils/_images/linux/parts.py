# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: which of the host's files make up its Linux stub domain.
#
# The image is two files. The kernel is dom0's own. The root file system is an archive that the kernel unpacks into
# memory; it holds little more than a compressed, read-only file system (squashfs) with QEMU and what QEMU needs. Only
# what is used of that is unpacked, and can be dropped again: Debian 13's QEMU of 25 MB with 27 MB of libraries would
# not fit into the memory that libxl gives by default otherwise.

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, TypeVar

from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions
from ansible_collections.xen.stubdom.plugins.module_utils._common.distributions import Distribution
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version, text
from ansible_collections.xen.stubdom.plugins.module_utils._images import kinds
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import elf, stand_in

_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Wanted:
    """A file that has to be found on the host.

    :param name: where it is in the image.
    :param kind: which of a distribution's paths it is, or in which of its directories.
    :param purpose: what to install to get it.
    """

    name: str
    kind: str
    purpose: str

    def candidates(self, row: Distribution, version: Version) -> List[str]:
        """Return where it may be on a host."""
        found = distributions.paths(self.kind, row, version=text(version))
        inside = self.kind in ("programs", "roms")
        return [f"{path}/{self.name.partition('/')[2]}" if inside else path for path in found]


BUSYBOX = Wanted("bin/busybox", "busybox", "busybox")

PROGRAMS = (
    Wanted("bin/xen-qemu", "qemu", "qemu"),
    Wanted("bin/xenstore", "xenstore", "xenstore"),
    Wanted("bin/vchan-socket-proxy", "programs", "toolstack_programs"),
)

# What QEMU reads when it starts with the devices that xl.cfg can ask for (libxl_dm.c: vga, and models of vif). QEMU
# does not start if the file of a device is missing. The guest's BIOS comes from the toolstack's firmware.
ROMS = (
    Wanted("share/vgabios-stdvga.bin", "roms", "vga_roms"),
    Wanted("share/vgabios-cirrus.bin", "roms", "vga_roms"),
    Wanted("share/efi-rtl8139.rom", "roms", "network_roms"),
    Wanted("share/efi-e1000.rom", "roms", "network_roms"),
    Wanted("share/efi-e1000e.rom", "roms", "network_roms"),
    Wanted("share/efi-virtio.rom", "roms", "network_roms"),
)

# What QEMU's VNC does not start without (ui/vnc.c, init_keyboard_layout). An image without it is one without a screen.
KEYMAP = Wanted("share/keymaps/en-us", "roms", "qemu")

# Libraries that QEMU names and never calls here, so that a stand-in is enough.
# Spice: libxl gives a QEMU in a stub domain no screen (tools/libs/light/libxl_dm.c @ stable-4.22, is_stubdom), and QEMU
# makes a server of spice for -spice and for the graphics card qxl only (ui/spice-core.c, qemu_spice_add_interface). It
# brings 16 libraries that nothing else needs, OpenSSL and GStreamer among them: half of the image of Debian 13.
UNUSED = ("libspice-server.so.1",)

# How QEMU is told to give up all files and root, by what its own help says: from 9.0 on, and before (qemu-options.hx).
_GIVE_UP_ROOT = ((b"user=username|uid:gid", "-run-with chroot=/run/empty,user="), (b"", "-chroot /run/empty -runas "))

# Modules by group, in which order they are loaded; a module's own needs come before it. libxl waits 30 seconds for
# the stub domain, so that those which only a network interface needs are left out without one.
# unrestricted=1: the driver allows only what concerns the guest in ways that Debian's libraries do not use
# (libxendevicemodel first probes with DOMID_INVALID), and the stub domain itself is held by Xen to its guest.
MODULES: Mapping[str, Tuple[Tuple[str, str], ...]] = {
    "start": (("loop", ""), ("squashfs", "")),
    "base": (
        ("xen-evtchn", ""),
        ("xen-gntdev", ""),
        ("xen-gntalloc", ""),
        ("xen-privcmd", "unrestricted=1"),
        ("xen-blkfront", ""),
    ),
    "network": (("bridge", ""), ("xen-netfront", ""), ("tun", "")),
}


@dataclass(frozen=True)
class Part:
    """One file of the image.

    :param name: where it is in the image.
    :param path: where it is on the host, links resolved.
    :param mode: permission bits in the image.
    """

    name: str
    path: str
    mode: int = 0o644


@dataclass(frozen=True)
class Plan:
    """Everything that goes in.

    :param release: release of the Linux kernel.
    :param kernel: its file on the host.
    :param busybox: the one program that runs before the compressed file system is there.
    :param parts: what goes into the compressed file system.
    :param start: modules that are needed to mount it.
    :param orders: by group of modules, the lines that init reads: name and parameters.
    :param stand_ins: libraries that are made, by name in the image.
    :param give_up_root: words for QEMU, before the numbers of user and group.
    """

    release: str
    kernel: Part
    busybox: Part
    parts: Tuple[Part, ...]
    start: Tuple[Part, ...]
    orders: Mapping[str, str]
    stand_ins: Mapping[str, bytes]
    give_up_root: str

    @property
    def screen(self) -> bool:
        """Whether a guest can have a screen."""
        return any(part.name == KEYMAP.name for part in self.parts)

    def all_parts(self) -> Tuple[Part, ...]:
        return (self.kernel, self.busybox, *self.start, *self.parts)


def plan(release: str, version: Version, *, root: str = "/") -> Plan:
    """Find everything on the host.

    :param release: release of the kernel that is to run in the stub domain.
    :param version: release of Xen.
    :param root: where the host's files are; only tests give another one.
    :raises UserError: something is missing.
    """
    host = _Host(root)
    kernel = _kernel(host, release)
    busybox = _find(host, BUSYBOX, version, mode=0o755)
    if host.program(busybox.path).interpreter is not None:
        raise UserError(
            f"{busybox.path} needs libraries, and none are there when the stub domain starts.",
            f"Install one that is statically linked: {distributions.install_hint('busybox', host.distribution)}.",
        )
    programs = [_find(host, wanted, version, mode=0o755) for wanted in PROGRAMS]
    libraries, stand_ins = _libraries(host, programs)
    roms = [_find(host, wanted, version) for wanted in ROMS]
    keymap = host.first(KEYMAP.candidates(host.distribution, version))
    roms += [] if keymap is None else [Part(KEYMAP.name, keymap)]
    modules = _Modules(host, release)
    groups: Dict[str, List[Part]] = {}
    orders: Dict[str, str] = {}
    loaded: List[str] = []
    for group, wanted_modules in MODULES.items():
        directory = "modules" if group == "start" else f"modules/{group}"
        groups[group], orders[group] = modules.group(directory, wanted_modules, loaded)
    return Plan(
        release=release,
        kernel=kernel,
        busybox=busybox,
        parts=(
            *programs,
            *libraries,
            *roms,
            *(part for group, found in groups.items() if group != "start" for part in found),
        ),
        start=tuple(groups["start"]),
        orders=orders,
        stand_ins=stand_ins,
        give_up_root=next(words for told, words in _GIVE_UP_ROOT if host.contains(programs[0].path, told)),
    )


def size_and_time(path: str, *, root: str = "/") -> Tuple[int, int]:
    """Return what changes when a package replaces the file: size and time."""
    status = os.stat(os.path.join(root, path.lstrip("/")))
    return status.st_size, status.st_mtime_ns


def _kernel(host: _Host, release: str) -> Part:
    path = host.first((f"/boot/vmlinuz-{release}", f"/lib/modules/{release}/vmlinuz"))
    if path is None:
        raise UserError(
            f"There is no kernel /boot/vmlinuz-{release}.",
            f"Install {distributions.install_hint('kernel', host.distribution)} again, "
            "or reboot into the kernel that is installed.",
        )
    return Part(kinds.LINUX_KERNEL, path)


def _find(host: _Host, wanted: Wanted, version: Version, *, mode: int = 0o644) -> Part:
    candidates = wanted.candidates(host.distribution, version)
    path = host.first(candidates)
    if path is None:
        raise UserError(
            f"{os.path.basename(wanted.name)} is not on this host: there is no {' and no '.join(candidates)}.",
            f"Install {distributions.install_hint(wanted.purpose, host.distribution, version=version)}.",
        )
    return Part(wanted.name, path, mode)


def _libraries(host: _Host, programs: Iterable[Part]) -> Tuple[List[Part], Dict[str, bytes]]:
    """Find the dynamic loader and every library that the programs need, and those need in turn.

    :return: them, and stand-ins for those that nobody uses.
    """
    found: Dict[str, Part] = {}
    unused: Dict[str, List[elf.Imports]] = {}
    waiting = [part.path for part in programs]
    while waiting:
        path = waiting.pop()
        program = host.program(path)
        if program.interpreter is not None and program.interpreter not in found:
            loader = host.first((program.interpreter,))
            if loader is None:
                raise UserError(
                    f"{path} needs {program.interpreter}, which is not on this host.",
                    f"Install {distributions.install_hint('libc', host.distribution)}.",
                )
            found[program.interpreter] = Part(program.interpreter.lstrip("/"), loader, 0o755)
        own = [place.replace("$ORIGIN", os.path.dirname(path)) for place in program.search if place]
        places = (*own, *distributions.paths("libraries", host.distribution))
        for name in program.needed:
            imports = host.imports(path, name) if name in UNUSED else None
            if imports is not None:
                unused.setdefault(f"lib/{name}", []).append(imports)
                continue
            if name in found or any(name == os.path.basename(interpreter) for interpreter in found):
                continue
            library = host.first([f"{place}/{name}" for place in places])
            if library is None:
                raise UserError(
                    f"{path} needs the library {name}, which is in none of {', '.join(places)}.",
                    "Install the package that has it, or repair the package of the program.",
                )
            found[name] = Part(f"lib/{name}", library, 0o755)
            waiting.append(library)
    libraries = sorted(found.values(), key=lambda part: part.name)
    real = {part.name for part in libraries}
    made = {name: stand_in.library(os.path.basename(name), each) for name, each in sorted(unused.items())}
    return libraries, {name: content for name, content in made.items() if name not in real}


class _Modules:
    """The modules of one kernel, as depmod describes them."""

    def __init__(self, host: _Host, release: str) -> None:
        self._host = host
        self._release = release
        self._directory = f"/lib/modules/{release}"
        depends = host.text(f"{self._directory}/modules.dep")
        if depends is None:
            raise UserError(
                f"There is no {self._directory}/modules.dep.",
                f"Install the modules of Linux {release} again, or reboot into the kernel that is installed.",
            )
        # path of a module: paths of those it needs, the one needed first being the last of the line
        self._needs: Dict[str, List[str]] = {}
        for line in depends.splitlines():
            path, _colon, needs = line.partition(":")
            self._needs[path] = needs.split()[::-1]
        self._paths = {module_name(path): path for path in self._needs}
        built_in = (host.text(f"{self._directory}/modules.builtin") or "").splitlines()
        self._built_in = {module_name(path) for path in built_in}

    def group(self, directory: str, wanted: Sequence[Tuple[str, str]], loaded: List[str]) -> Tuple[List[Part], str]:
        """Return the files of a group and the lines that say in which order they are loaded.

        :param loaded: modules of earlier groups; those of this one are added.
        """
        parts = []
        order = ""
        for name, parameters in wanted:
            plain = name.replace("-", "_")
            if plain in self._built_in:
                continue
            if plain not in self._paths:
                raise UserError(
                    f"Linux {self._release} has no module {name}, and it is not built in.",
                    "Use a kernel that has it, such as the distribution's own.",
                )
            path = self._paths[plain]
            for step in (*self._needs[path], path):
                own = module_name(step)
                if own in loaded:
                    continue
                loaded.append(own)
                parts.append(Part(f"{directory}/{own}.ko", f"{self._directory}/{step}"))
                order += f"{own} {parameters if step == path else ''}".rstrip() + "\n"
        return parts, order


def module_name(path: str) -> str:
    """Return the name under which the kernel knows the module of a file, compressed or not."""
    return os.path.basename(path).split(".", 1)[0].replace("-", "_")


class _Host:
    """The host's files below a directory."""

    def __init__(self, root: str) -> None:
        self._root = root
        self.distribution = distributions.detect(root)

    def path(self, path: str) -> str:
        return os.path.join(self._root, path.lstrip("/"))

    def first(self, candidates: Iterable[str]) -> Optional[str]:
        """Return the first that is a file."""
        return next((path for path in candidates if os.path.isfile(self.path(path))), None)

    def text(self, path: str) -> Optional[str]:
        try:
            with open(self.path(path), encoding="utf-8") as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def program(self, path: str) -> elf.Program:
        return self._read(path, elf.read)

    def imports(self, path: str, library: str) -> Optional[elf.Imports]:
        return self._read(path, lambda content: elf.imports(content, library))

    def contains(self, path: str, content: bytes) -> bool:
        return self._read(path, lambda program: program.find(content) >= 0)

    def _read(self, path: str, reader: Callable[[elf.Content], _Read]) -> _Read:
        try:
            descriptor = os.open(self.path(path), os.O_RDONLY | os.O_CLOEXEC)
            try:
                with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content:
                    return reader(content)
            finally:
                os.close(descriptor)
        except ValueError as error:
            raise UserError(f"{path} cannot be read as a program: {error}.", "Install its package again.") from error
