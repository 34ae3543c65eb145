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

import contextlib
import mmap
import os
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Set, Tuple, TypeVar

from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions, files
from ansible_collections.xen.stubdom.plugins.module_utils._common.distributions import Distribution
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner, attempt
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version, text
from ansible_collections.xen.stubdom.plugins.module_utils._images import kinds
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import elf, kernel, needs, stand_in

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

# The layouts of keyboards that QEMU's VNC knows. It does not start without the one that it is told to use, by default
# this one (ui/vnc.c, init_keyboard_layout). An image without it is one without a screen.
_KEYMAPS = "share/keymaps/"
KEYMAP = Wanted(f"{_KEYMAPS}en-us", "roms", "qemu")

# Libraries that QEMU names and never calls here, so that a stand-in is enough.
# Spice: libxl gives a QEMU in a stub domain no screen (tools/libs/light/libxl_dm.c @ stable-4.22, is_stubdom), and QEMU
# makes a server of spice for -spice and for the graphics card qxl only (ui/spice-core.c, qemu_spice_add_interface). It
# brings 16 libraries that nothing else needs, OpenSSL and GStreamer among them: half of the image of Debian 13.
UNUSED = ("libspice-server.so.1",)

# How QEMU is told to give up all files and root, by what its own help says: from 9.0 on, and before (qemu-options.hx).
_GIVE_UP_ROOT = ((b"user=username|uid:gid", "-run-with chroot=/run/empty,user="), (b"", "-chroot /run/empty -runas "))

# How a kernel begins that is packed by what no module of Python 3.8 unpacks (RFC 8878).
_ZSTD = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Choice:
    """The kernel that is asked for; where none is, it is the one that the host runs.

    :param release: of an installed kernel.
    :param kernel: the file of a kernel.
    :param modules: the directory of its modules, where it is another one than that of its release.
    """

    release: Optional[str] = None
    kernel: Optional[str] = None
    modules: Optional[str] = None

    def __bool__(self) -> bool:
        return self != Choice()


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
    :param chosen: what was asked for.
    :param evidence: how the kernel was configured.
    :param words: what the kernel's command line has to have, as it has drivers built in that others load.
    :param missing: drivers that only some guests need, and this kernel does not have.
    """

    release: str
    kernel: Part
    busybox: Part
    parts: Tuple[Part, ...]
    start: Tuple[Part, ...]
    orders: Mapping[str, str]
    stand_ins: Mapping[str, bytes]
    give_up_root: str
    chosen: Choice
    evidence: needs.Evidence
    words: Tuple[str, ...] = ()
    missing: Tuple[str, ...] = ()

    @property
    def pci(self) -> bool:
        """Whether a guest can have PCI devices of the host."""
        return "xen-pcifront" not in self.missing

    @property
    def keymaps(self) -> List[str]:
        """The layouts of keyboards that a guest's screen can have; none where a guest can have no screen."""
        return [part.name[len(_KEYMAPS) :] for part in self.parts if part.name.startswith(_KEYMAPS)]

    def all_parts(self) -> Tuple[Part, ...]:
        return (self.kernel, self.busybox, *self.start, *self.parts)


def plan(chosen: Choice, version: Version, run: Runner, *, root: str = "/") -> Plan:
    """Find everything on the host.

    :param chosen: the kernel that is to run in the stub domain.
    :param version: release of Xen.
    :param root: where the host's files are; only tests give another one.
    :raises UserError: something is missing.
    """
    host = _Host(root)
    linux = _kernel(host, chosen, run)
    busybox = _find(host, BUSYBOX, version, mode=0o755)
    if host.program(busybox.path).interpreter is not None:
        raise UserError(
            f"{busybox.path} needs libraries, and none are there when the stub domain starts.",
            f"Install one that is statically linked: {distributions.install_hint('busybox', host.distribution)}.",
        )
    programs = [_find(host, wanted, version, mode=0o755) for wanted in PROGRAMS]
    libraries, stand_ins = _libraries(host, programs)
    roms = [_find(host, wanted, version) for wanted in ROMS]
    usual = host.first(KEYMAP.candidates(host.distribution, version))
    if usual is not None:
        keymaps = os.path.dirname(usual)
        roms += [Part(_KEYMAPS + name, f"{keymaps}/{name}") for name in host.names(keymaps)]
    modules = _Modules(host, linux)
    groups: Dict[str, List[Part]] = {}
    orders: Dict[str, str] = {}
    for group in needs.GROUPS:
        groups[group], orders[group] = modules.group("modules" if group == "start" else f"modules/{group}", group)
    return Plan(
        release=linux.release,
        kernel=Part(kinds.LINUX_KERNEL, linux.path),
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
        chosen=chosen,
        evidence=linux.evidence,
        words=tuple(modules.words),
        missing=tuple(modules.missing),
    )


def size_and_time(path: str, *, root: str = "/") -> Tuple[int, int]:
    """Return what changes when a package replaces the file: size and time."""
    status = os.stat(os.path.join(root, path.lstrip("/")))
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class _Kernel:
    """A kernel of the host.

    :param modules: the directory of its modules.
    """

    release: str
    path: str
    modules: str
    evidence: needs.Evidence


def _kernel(host: _Host, chosen: Choice, run: Runner) -> _Kernel:
    """:raises UserError: it is not there, or not what it is called."""
    for name, path in (("kernel", chosen.kernel), ("kernel_modules", chosen.modules)):
        if path is not None and not os.path.exists(host.path(path)):
            raise UserError(f"{name} is {path}, which is not there.", f"Correct {name}.")
    release = chosen.release or (os.uname().release if chosen.kernel is None else host.release(chosen.kernel))
    if release is None or not kernel.RELEASE.match(release):
        raise UserError(
            f"{chosen.kernel} is no Linux kernel that says its release."
            if release is None
            else f"kernel_release is {release!r}, which is no release of Linux.",
            "Set kernel to a bzImage, or kernel_release to what `uname -r` says of an installed kernel.",
        )
    path = chosen.kernel or _installed(host, release)
    if path is None:
        others = ", ".join(host.names("/lib/modules")) or "none"
        raise UserError(
            f"There is no kernel /boot/vmlinuz-{release}.",
            f"Set kernel_release to one that is installed (modules are there of {others})."
            if chosen
            else f"Install {distributions.install_hint('kernel', host.distribution)} again, reboot into the kernel "
            "that is installed, or name one with kernel_release.",
        )
    own = host.release(path)
    if own not in (None, release):
        raise UserError(
            f"{path} is Linux {own}, and not {release}.", "Install its package again, or name another kernel."
        )
    modules = chosen.modules or f"/lib/modules/{release}"
    beside = f"{os.path.dirname(path)}/config-{release}"
    written = filter(None, map(host.text, (beside, f"/boot/config-{release}", f"{modules}/config")))
    evidence = needs.Evidence(next(written, None), lambda: _unpacked(host, path, run))
    return _Kernel(release, path, modules, evidence)


def _installed(host: _Host, release: str) -> Optional[str]:
    """Where a kernel is installed, also under a name without its release, as /boot/vmlinuz-lts of Alpine."""
    named = host.first((f"/boot/vmlinuz-{release}", f"/lib/modules/{release}/vmlinuz"))
    others = (f"/boot/{name}" for name in host.names("/boot") if name.startswith(("vmlinuz", "kernel", "bzImage")))
    return named or next((path for path in others if host.release(path) == release), None)


def _unpacked(host: _Host, path: str, run: Runner) -> Optional[bytes]:
    """The kernel as it runs, None where that cannot be had."""
    packed = kernel.payload(files.read(host.path(path)) or b"")
    if not packed.startswith(_ZSTD):
        return kernel.unpack(packed)
    with files.scratch(8 * len(packed)) as scratch:
        source, target = os.path.join(scratch, "packed"), os.path.join(scratch, "unpacked")
        # Its size stands behind it (size_append, scripts/Makefile.lib), which zstd would take for another one.
        files.put(source, packed[:-4])
        return files.read(target) if attempt(run, ["zstd", "-dqf", source, "-o", target])[0] == 0 else None


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

    def __init__(self, host: _Host, linux: _Kernel) -> None:
        self._linux = linux
        self._directory = linux.modules
        self._loaded: Set[str] = set()
        self.words: List[str] = []
        self.missing: List[str] = []
        depends = host.text(f"{self._directory}/modules.dep")
        # A kernel may have all of them built in.
        if depends is None and any(self._configured(row.option) != "y" for row in needs.MODULES.values()):
            raise UserError(
                f"There is no {self._directory}/modules.dep.",
                f"Install the modules of Linux {linux.release} again, reboot into the kernel that is installed, or "
                "name a kernel with kernel, and the directory of its modules with kernel_modules.",
            )
        # path of a module: paths of those it needs, the one needed first being the last of the line
        self._needs: Dict[str, List[str]] = {}
        for line in (depends or "").splitlines():
            path, _colon, others = line.partition(":")
            self._needs[path] = others.split()[::-1]
        self._paths = {module_name(path): path for path in self._needs}
        built_in = (host.text(f"{self._directory}/modules.builtin") or "").splitlines()
        self._built_in = {module_name(path) for path in built_in}

    def group(self, directory: str, group: str) -> Tuple[List[Part], str]:
        """Return the files of a group and the lines that say in which order they are loaded."""
        parts = []
        order = ""
        for name, row in needs.MODULES.items():
            if row.group != group:
                continue
            plain = name.replace("-", "_")
            path = self._paths.get(plain)
            if plain in self._built_in or (path is None and self._configured(row.option) == "y"):
                self.words += [f"{plain}.{row.parameters}"] if row.parameters else []
                continue
            if path is None and row.optional:
                self.missing.append(name)
                continue
            if path is None:
                raise UserError(
                    f"Linux {self._linux.release} has no module {name}, and it is not built in (CONFIG_{row.option}).",
                    f"Install all modules of this kernel below {self._directory}, or use one that has it, such as the "
                    "distribution's own: kernel_release names another one.",
                )
            for step in (*self._needs[path], path):
                own = module_name(step)
                if own in self._loaded:
                    continue
                self._loaded.add(own)
                parts.append(Part(f"{directory}/{own}.ko", f"{self._directory}/{step}"))
                order += f"{own} {row.parameters if step == path else ''}".rstrip() + "\n"
        return parts, order

    def _configured(self, option: str) -> Optional[str]:
        return (self._linux.evidence.options or {}).get(option)


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

    def names(self, directory: str) -> List[str]:
        with contextlib.suppress(OSError):
            return sorted(os.listdir(self.path(directory)))
        return []

    def release(self, path: str) -> Optional[str]:
        """The release of a kernel by its file, None where that does not say so."""
        try:
            with open(self.path(path), "rb") as stream:
                return kernel.header(stream.read(kernel.HEAD)).release
        except (OSError, ValueError):
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
