# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: makes images of GRUB 2 for guests from the modules of the distribution.

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions, files, manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.distributions import Distribution
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.manifest import Manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner, last_line
from ansible_collections.xen.stubdom.plugins.module_utils._images.grub2 import image, program, recipe

# What grub-mkimage needs to know of the modules beside the modules themselves.
_CORE = ("kernel.img", "moddep.lst")


@dataclass(frozen=True)
class Parts:
    """What an image is made of.

    :param platform: what GRUB is built for.
    :param mkimage: the program that makes it.
    :param directory: the modules.
    :param modules: those that become part of it.
    """

    platform: str
    mkimage: str
    directory: str
    modules: Tuple[str, ...]

    @property
    def files(self) -> List[str]:
        names = [*_CORE, program.LOADER, *(f"{name}.mod" for name in self.modules)]
        return [self.mkimage, *(f"{self.directory}/{name}" for name in names)]


def find(row: Distribution, asked: Optional[Sequence[str]], *, root: str = "/") -> List[Parts]:
    """Find what images can be made of.

    :param asked: the platforms that are asked for; None for all that the host has modules of.
    :param root: where the host's files are; only tests give another one.
    :raises UserError: something is missing.
    """
    found = []
    for platform in image.PLATFORMS if asked is None else asked:
        remedy = f"Install {_package(platform, row)}."
        directories = distributions.paths("grub_modules", row, platform=image.modules(platform))
        directory = next((path for path in directories if os.path.isfile(_at(root, path, "kernel.img"))), None)
        if directory is None and asked is not None:
            raise UserError(f"GRUB 2 has no modules for {platform} here: no {' and no '.join(directories)}.", remedy)
        if directory is not None:
            found.append(Parts(platform, _mkimage(row, root), directory, _modules(platform, _at(root, directory))))
    # A host that boots by its BIOS has modules for that, which are no reason not to say that those for Xen are missing.
    if asked is None and all(image.on_cd(parts.platform) for parts in found):
        raise UserError(
            "GRUB 2 has no modules for Xen guests here.", f"Install {distributions.install_hint('grub_xen', row)}."
        )
    for parts in found:
        missing = next((path for path in parts.files if not os.path.isfile(_at(root, path))), None)
        if missing is not None:
            raise UserError(
                f"There is no {missing}, which is part of GRUB 2.", f"Install {_package(parts.platform, row)}."
            )
    return found


def _modules(platform: str, directory: str) -> Tuple[str, ...]:
    """Those that become part of an image."""
    if image.on_cd(platform):
        return recipe.CD_MODULES
    needs = files.read(f"{directory}/moddep.lst") or b""
    return tuple(recipe.modules(os.listdir(directory), needs.decode("ascii", "replace")))


def _package(platform: str, row: Distribution) -> str:
    return distributions.install_hint(image.PLATFORMS[platform].package, row)


def identity(parts: Parts, *, root: str = "/") -> str:
    """What is equal for two images if there is no need to make the second."""
    # Packages that are upgraded change sizes and times, so that no file has to be read to see it.
    status = {path: os.stat(_at(root, path)) for path in parts.files}
    return manifest.identity(
        recipe.RECIPE_NUMBER,
        _early(parts.platform),
        files.sha256(recipe.memdisk(b"")),
        parts.platform,
        [(path, found.st_size, found.st_mtime_ns) for path, found in status.items()],
    )


def make(parts: Parts, xen: str, run: Runner, *, root: str = "/") -> Tuple[Dict[str, bytes], Manifest]:
    """Return the image by its name of file, and its manifest.

    :param xen: release of Xen.
    :raises UserError: grub-mkimage failed.
    """
    loader = files.read(_at(root, parts.directory, program.LOADER)) or b""
    needed = sum(os.stat(_at(root, path)).st_size for path in parts.files)
    with files.scratch(2 * needed) as scratch:
        files.put(f"{scratch}/memdisk.tar", recipe.memdisk(loader))
        files.put(f"{scratch}/early.cfg", _early(parts.platform).encode())
        status, output, errors = run(
            recipe.command(parts.mkimage, parts.platform, _at(root, parts.directory), scratch, parts.modules)
        )
        made = files.read(f"{scratch}/image")
    if status != 0 or not made:
        raise UserError(
            f"grub-mkimage failed for {parts.platform}: {last_line(errors or output)}.",
            f"Install {_package(parts.platform, distributions.detect(root))} again.",
        )
    name = image.file_name(parts.platform)
    digest = files.sha256(made)
    return {name: made}, Manifest(
        kind=image.KIND,
        xen=xen,
        sources=_sources(parts, run),
        compiler=None,
        flags=None,
        built=manifest.now(),
        sha256=digest,
        identity=identity(parts, root=root),
        files={name: digest},
        more={"platform": parts.platform, "modules": list(parts.modules)},
    )


def _early(platform: str) -> str:
    return program.EARLY_ON_CD if image.on_cd(platform) else program.EARLY


def _mkimage(row: Distribution, root: str) -> str:
    candidates = distributions.paths("grub_mkimage", row)
    found = next((path for path in candidates if os.path.isfile(_at(root, path))), None)
    if found is None:
        raise UserError(
            f"There is no {' and no '.join(candidates)}, which makes images of GRUB 2.",
            f"Install {distributions.install_hint('grub_tools', row)}.",
        )
    return found


def _sources(parts: Parts, run: Runner) -> List[Dict[str, str]]:
    """Return the package of the modules, as far as the host's package manager knows it."""
    try:
        package = run(["dpkg-query", "--search", f"{parts.directory}/kernel.img"])[1].partition(":")[0]
        version = run(["dpkg-query", "--show", "--showformat=${Version}", package])[1].strip()
    except FileNotFoundError:
        package = version = ""
    return [{"name": package or "grub2", "version": version or "unknown"}]


def _at(root: str, *path: str) -> str:
    return os.path.join(root, *(part.lstrip("/") for part in path))
