# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the plan of a build from Xen source. What has to run in which order, with which
# remedies, and what identifies its result. It runs nothing itself.

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import manifest as _manifest
from ansible_collections.xen.stubdom.plugins.module_utils._images import configure, helpers, kernels, kinds, tarballs
from ansible_collections.xen.stubdom.plugins.module_utils._images import remedies as _remedies
from ansible_collections.xen.stubdom.plugins.module_utils._images.kernels import Kernel
from ansible_collections.xen.stubdom.plugins.module_utils._images.releases import Release


@dataclass(frozen=True)
class Input:
    """What goes into a build.

    :param sources: checksum or commit by name of source, as stubdom_source returns them.
    :param listed: the same sources in the form of the manifest; they decide nothing.
    :param compiler: major version of gcc, and the first line of `gcc --version`.
    """

    row: Release
    images: Tuple[str, ...]
    sources: Mapping[str, str]
    compiler: Tuple[int, str]
    kernels: Tuple[Kernel, ...] = ()
    listed: Tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True)
class Step:
    """One command of a stage, run in the tree.

    :param stale: glob patterns of what a former attempt at this stage may have left half-made. They are removed before
        the stage starts again.
    :param remedies: digest of what helps this image alone. Where it has changed, *stale* is removed as well: make would
        not make again what the source was unpacked for.
    """

    stage: str
    command: Tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    stale: Tuple[str, ...] = ()
    remedies: str = ""


@dataclass(frozen=True)
class Product:
    """An image that the plan makes.

    :param kind: kind of the manifest: the image's name without its architecture.
    :param path: where it lies in the tree when it is done.
    :param identity: what went in. The same identity is the same image.
    :param sources: names of the sources it is made from.
    """

    image: str
    kind: str
    path: str
    file: str
    identity: str
    sources: Tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Everything a builder has to do.

    :param tree: identity of the tree that all images of these sources share.
    :param edits: small edits of the unpacked source.
    :param files: files of our own in the tree, by path.
    """

    tree: str
    environment: Mapping[str, str]
    edits: Tuple[_remedies.Edit, ...]
    files: Mapping[str, str]
    steps: Tuple[Step, ...]
    products: Tuple[Product, ...]
    remedies: Tuple[str, ...]
    flags: Tuple[str, ...]

    @property
    def stages(self) -> Tuple[str, ...]:
        return tuple(dict.fromkeys(step.stage for step in self.steps))


# Programs that Xen's Makefiles would use to reach the network; all sources are in place before the first make. They
# have to be on make's command line, as config/Tools.mk assigns FETCHER.
OFFLINE = ("FETCHER=/bin/false", "WGET=/bin/false", "GIT=/bin/false")

# Names of the sources that every image of a release is made from.
_SHARED = ("xen", "mini-os", *(tarballs.TARBALLS[key].file for key in tarballs.COMMON))


def plan(given: Input, *, jobs: int) -> Plan:
    """Return what to do for *given*; *jobs* changes nothing of the result."""
    row = given.row
    remedies = _remedies.choose(row.version, given.compiler[0], given.images)
    environment = _environment(remedies)
    tree = _digest(
        {
            "release": row.name,
            "sources": {name: given.sources[name] for name in sorted(given.sources) if name in _SHARED},
            "compiler": given.compiler,
            "environment": environment,
            "remedies": [asdict(remedy) for remedy in remedies if remedy.image is None],
        }
    )
    products = tuple(_product(given, name, tree) for name in given.images)
    flags = configure.arguments(row, given.images)
    files = kernels.files(row, given.kernels)
    files.update(_helper_files(row, given.images))
    for remedy in remedies:
        files.update(remedy.files)
    return Plan(
        tree=tree,
        environment=environment,
        edits=tuple(edit for remedy in remedies for edit in remedy.edits),
        files=files,
        steps=tuple(_steps(given, flags, jobs, environment, remedies)),
        products=products,
        remedies=tuple(dict.fromkeys(remedy.name for remedy in remedies)),
        flags=flags,
    )


def only(given: Input, images: Sequence[str]) -> Input:
    """Return the same input for some of its images."""
    return Input(
        row=given.row,
        images=tuple(name for name in given.images if name in images),
        sources=given.sources,
        compiler=given.compiler,
        kernels=tuple(kernel for kernel in given.kernels if kernel.image in images),
        listed=given.listed,
    )


def _environment(remedies: Sequence[_remedies.Remedy]) -> Dict[str, str]:
    # Hardening flags of a distribution in CFLAGS break Mini-OS, and CFLAGS on make's command line would defeat every +=
    # of stubdom/Makefile. So the environment has none but ours.
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C",
        "PYTHON": "/usr/bin/python3",
    }
    flags = [flag for remedy in remedies for flag in remedy.cflags]
    if flags:
        environment["CFLAGS"] = " ".join(dict.fromkeys(flags))
    return environment


def _product(given: Input, name: str, tree: str) -> Product:
    image = kinds.find(name)
    if name == "qemu-dm":
        # It is all ours.
        identity = _digest({"image": name, "text": helpers.qemu_dm()})
        return Product(name, name, image.product, image.installed, identity, ())
    own = [tarball.file for tarball in tarballs.needed(given.row, [name])]
    if name == "ioemu":
        own.append("qemu-xen-traditional")
    wanted = ("xen",) if name in kinds.HELPERS else (*_SHARED, *own)
    sources = tuple(source for source in given.sources if source in wanted)
    kernel = next((kernel for kernel in given.kernels if kernel.image == name), None)
    identity = _digest(
        {
            "tree": tree,
            "image": name,
            "sources": {source: given.sources[source] for source in sources},
            "kernel": None if kernel is None else kernel.digest,
            "remedies": _own_remedies(given, name),
        }
    )
    return Product(
        image=name,
        kind=re.sub("-x86_32$", "", name),
        path=image.product,
        file=image.installed,
        identity=identity,
        sources=sources,
    )


def _own_remedies(given: Input, image: str) -> List[Dict[str, Any]]:
    """What helps this image alone."""
    remedies = _remedies.choose(given.row.version, given.compiler[0], [image])
    return [asdict(remedy) for remedy in remedies if remedy.image is not None]


def _steps(
    given: Input,
    flags: Tuple[str, ...],
    jobs: int,
    environment: Mapping[str, str],
    remedies: Sequence[_remedies.Remedy],
) -> List[Step]:
    row = given.row
    steps = [Step("configure", ("./configure", "--prefix=/usr", *flags))]
    # tools/include makes the headers that stubdom/ links to; only in 4.6 to 4.8 stubdom/Makefile asks for them itself.
    steps.append(Step("headers", ("make", f"-j{jobs}", *OFFLINE, "-C", "tools/include")))
    mini_os = [name for name in given.images if name not in kinds.HELPERS]
    for directory, goal in (header for remedy in remedies if mini_os for header in remedy.headers):
        steps.append(Step(f"headers {directory}", ("make", *OFFLINE, "-C", directory, goal)))
    for arch in dict.fromkeys(kinds.find(name).arch for name in mini_os):
        steps += _foundation(row, arch, jobs)
    for name in mini_os:
        steps.append(_image_step(name, given, jobs))
    for name in given.images:
        if name in kinds.HELPERS:
            steps += _helper_steps(name, row, jobs, environment)
    return steps


def _make(arch: str, jobs: int, *goals: str) -> Tuple[str, ...]:
    return ("make", f"-j{jobs}", *OFFLINE, f"XEN_TARGET_ARCH={arch}", "-C", "stubdom", *goals)


def _foundation(row: Release, arch: str, jobs: int) -> List[Step]:
    """The C library and what stands on it, shared by all images of an architecture."""
    suffix = "" if arch == "x86_64" else f" {arch}"
    gnu = {"x86_64": "x86_64", "x86_32": "i686"}[arch]
    libraries = ["cross-zlib", "cross-libpci", f"lwip-{arch}", "libxc" if row.version < (4, 15) else "libxenguest"]
    stale = [f"stubdom/{name}-{arch}" for name in ("zlib", "pciutils", "lwip", "libxc", "libs")]
    return [
        Step(
            f"newlib{suffix}",
            _make(arch, jobs, "cross-newlib"),
            stale=("stubdom/newlib-1.16.0", f"stubdom/newlib-{arch}", f"stubdom/cross-root-{gnu}"),
        ),
        Step(f"libraries{suffix}", _make(arch, jobs, *libraries), stale=tuple(stale)),
    ]


# What an image makes beside its own mini-os-ARCH-…; a half-made one is begun again.
_STALE: Dict[str, Tuple[str, ...]] = {
    "pv-grub": ("stubdom/grub-upstream", "stubdom/grub-x86_64", "stubdom/polarssl-x86_64"),
    "pv-grub-x86_32": ("stubdom/grub-upstream", "stubdom/grub-x86_32", "stubdom/polarssl-x86_32"),
    "caml": ("stubdom/ocaml-*/", "stubdom/caml/*.o"),
    # config-host.mak keeps the compiler's flags of the first attempt, whatever they are now.
    "ioemu": ("stubdom/ioemu/config-host.mak", "stubdom/ioemu/i386-stubdom"),
}


def _image_step(name: str, given: Input, jobs: int) -> Step:
    image = kinds.find(name)
    command = _make(image.arch, jobs if image.parallel else 1, image.target)
    kernel = next((kernel for kernel in given.kernels if kernel.image == name), None)
    if kernel is not None:
        command = (*command[:-1], "-f", kernels.makefile_path(kernel).split("/", 1)[1], command[-1])
    stale = (f"stubdom/mini-os-{image.arch}-{image.directory}", *_STALE.get(name, ()))
    own = _own_remedies(given, name)
    return Step(f"image {name}", command, stale=stale, remedies=_digest(own) if own else "")


# --- dom0 helper programs --------------------------------------------------------------------------------------------

_FIRMWARE = "tools/firmware"
# Up to 4.11 the BIOS has to have a network boot ROM in it, whose source would be downloaded. hvmloader takes a file
# without the signature of a ROM for none (scan_option_rom, tools/firmware/hvmloader/optionroms.c).
_NO_ROM = "xen-stubdom-none"
_LAST_WITH_ROM = (4, 11)


def _helper_files(row: Release, images: Sequence[str]) -> Dict[str, str]:
    files = {}
    if "qemu-dm" in images:
        files[kinds.HELPERS["qemu-dm"].product] = helpers.qemu_dm()
    if "hvmloader" in images and row.version <= _LAST_WITH_ROM:
        files[f"{_FIRMWARE}/etherboot/ipxe/src/bin/{_NO_ROM}.rom"] = "There is no network boot ROM.\n"
    return files


def _helper_steps(name: str, row: Release, jobs: int, environment: Mapping[str, str]) -> List[Step]:
    if name == "qemu-dm":
        return [Step(f"image {name}", ("sh", "-n", kinds.find(name).product))]
    make = ("make", f"-j{jobs}", *OFFLINE, "-C")
    # tools/firmware/Rules.mk takes no CFLAGS from outside. Warnings of newer compilers are errors there, and up to 4.4
    # it does not know of compilers that make position-independent code by themselves.
    flags = {"APPEND_CFLAGS": " ".join(["-Wno-error", "-fno-pie", *environment.get("CFLAGS", "").split()])}
    rom = (f"ETHERBOOT_NICS={_NO_ROM}",) if row.version <= _LAST_WITH_ROM else ()
    # By directories: the goal of tools/firmware itself would make, and download, all other firmware too.
    return [
        Step(
            "rombios",
            (*make, _FIRMWARE, "subdir-all-rombios", "subdir-all-vgabios"),
            environment=flags,
            stale=(f"{_FIRMWARE}/rombios/BIOS-bochs-*", f"{_FIRMWARE}/vgabios/*.bin"),
        ),
        Step(
            f"image {name}",
            (*make, f"{_FIRMWARE}/hvmloader", *rom, kinds.find(name).target),
            environment=flags,
            stale=tuple(f"{_FIRMWARE}/hvmloader/{left}" for left in ("hvmloader", "*.o", "roms.inc")),
        ),
    ]


# --- identity and manifest -------------------------------------------------------------------------------------------


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=list).encode()).hexdigest()


def manifest(
    given: Input, made: Plan, product: Product, *, sha256: Optional[str] = None, built: Optional[str] = None
) -> Dict[str, Any]:
    """Return what is written beside the image; without *sha256*, what is known before it is built."""
    return _manifest.Manifest(
        kind=product.kind,
        xen=given.row.name,
        sources=[source for source in given.listed if source["name"] in product.sources],
        compiler=given.compiler[1] if product.sources else None,
        flags=made.environment.get("CFLAGS") if product.sources else None,
        built=built,
        sha256=sha256,
        identity=product.identity,
        files={product.file: sha256},
        more={"remedies": list(made.remedies)},
    ).as_dict()
