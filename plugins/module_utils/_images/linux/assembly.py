# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: makes the Linux stub domain of the files that a plan names.

from __future__ import annotations

import os
import zlib
from dataclasses import asdict
from functools import cached_property
from lzma import LZMAError
from typing import Dict, List, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions, files, manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.manifest import Manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner, last_line
from ansible_collections.xen.stubdom.plugins.module_utils._images import kinds
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import image, kernel, needs, parts
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux.parts import Part, Plan


class Assembly:
    """One image, before and while it is made.

    :param xen: release of Xen.
    :param root: where the host's files are; only tests give another one.
    """

    def __init__(self, plan: Plan, xen: str, run: Runner, *, root: str = "/") -> None:
        self.plan = plan
        self.xen = xen
        self._run = run
        self._root = root
        # Packages that are upgraded change sizes and times, so that no file has to be read to see it.
        self.identity = manifest.identity(
            image.RECIPE,
            xen,
            [(part.name, part.path, *parts.size_and_time(part.path, root=root)) for part in plan.all_parts()],
            dict(plan.orders),
            # What the host runs is no part of what was asked for.
            *([asdict(plan.chosen)] if plan.chosen else ()),
            *plan.words,
        )

    @property
    def contents(self) -> Dict[str, str]:
        """Path on the host by name in the image."""
        return {part.name: part.path for part in self.plan.all_parts()}

    @property
    def most_bytes(self) -> int:
        """What goes in is the upper bound of what comes out, but for the kernel, which is unpacked."""
        return self._size(self.plan.all_parts()) + self._header().init_size

    def check(self) -> List[str]:
        """Return warnings of what is not known of the kernel.

        :raises UserError: it cannot run the stub domain.
        """
        self._header()
        warning = needs.check(self.plan.release, self.plan.evidence)
        return [] if warning is None else [warning]

    @cached_property
    def _packed(self) -> bytes:
        """The kernel as the host has it."""
        return self._read(self.plan.kernel)

    def _header(self) -> kernel.Header:
        try:
            return kernel.header(self._packed)
        except ValueError as error:
            raise UserError(f"{self.plan.kernel.path} cannot be started by Xen: {error}.", needs.INSTEAD) from error

    def make(self) -> Tuple[Dict[str, bytes], Manifest]:
        """Return the files by name, and their manifest.

        :raises UserError: a program that is needed is missing or failed, or there is no room.
        """
        # libxl would unpack it at each start, which took 1.8 s of 14 on the emulated lab, and 54 MB of dom0's memory.
        linux = self.plan.evidence.unpacked or self._packed
        root_file_system = self._root_file_system()
        contents = {kinds.LINUX_KERNEL: linux, kinds.LINUX_ROOT_FILE_SYSTEM: root_file_system}
        checksums = {name: files.sha256(content) for name, content in contents.items()}
        return contents, Manifest(
            kind=kinds.LINUX,
            xen=self.xen,
            sources=self._sources(),
            compiler=None,
            flags=None,
            built=manifest.now(),
            sha256=checksums[kinds.LINUX_ROOT_FILE_SYSTEM],
            identity=self.identity,
            files=checksums,
            memory_mib=image.memory_mib(self._header().init_size, len(root_file_system)),
            command_line=image.command_line(self.plan.words, keys=self.plan.evidence.requires_signatures),
            more={
                "linux": self.plan.release,
                "kernel_chosen": bool(self.plan.chosen.release or self.plan.chosen.kernel),
                "contents": self.contents,
                "stand_ins": sorted(self.plan.stand_ins),
                "keymaps": self.plan.keymaps,
                "pci": self.plan.pci,
            },
        )

    def _root_file_system(self) -> bytes:
        # Packed modules grow, and the compressed file system is at most as large as what goes in.
        with files.scratch(3 * self._size(self.plan.parts)) as scratch:
            tree = os.path.join(scratch, "tree")
            # The modes of its directories are in the image.
            before = os.umask(0o022)
            try:
                self._lay_out(tree, scratch)
            finally:
                os.umask(before)
            compressed = os.path.join(scratch, image.COMPRESSED)
            status, output, errors = self._command(image.squash(tree, compressed))
            if status != 0:
                raise UserError(
                    f"mksquashfs failed: {last_line(errors or output)}.",
                    f"Check that {os.path.dirname(scratch)} has free space and that mksquashfs supports zstd.",
                )
            return image.archive(
                self._content(self.plan.busybox, scratch),
                {part.name: self._content(part, scratch) for part in self.plan.start},
                self.plan.orders["start"],
                files.read(compressed) or b"",
            )

    def _lay_out(self, tree: str, scratch: str) -> None:
        for part in self.plan.parts:
            files.put(os.path.join(tree, part.name), self._content(part, scratch), mode=part.mode)
        give_up_root = f"{self.plan.give_up_root}{image.ACCOUNT}:{image.ACCOUNT}\n"
        files.put(os.path.join(tree, "give-up-root"), give_up_root.encode())
        for name, content in self.plan.stand_ins.items():
            files.put(os.path.join(tree, name), content, mode=0o755)
        for group, order in self.plan.orders.items():
            if group != "start":
                files.put(os.path.join(tree, "modules", group, "order"), order.encode())

    def _content(self, part: Part, scratch: str) -> bytes:
        """Return the bytes of a part as they go into the image; modules are unpacked."""
        suffix = os.path.splitext(part.path)[1]
        if not part.name.startswith("modules/") or suffix == ".ko":
            return self._read(part)
        if suffix in image.UNPACK:
            try:
                return image.UNPACK[suffix](self._read(part))
            except (OSError, EOFError, LZMAError, zlib.error) as error:
                raise _damaged(part, str(error)) from error
        unpacked = os.path.join(scratch, "module")
        status, _output, errors = self._command(
            [*image.UNPACK_WITH[suffix], self._host_path(part.path), "-o", unpacked]
        )
        if status != 0:
            raise _damaged(part, last_line(errors))
        return files.read(unpacked) or b""

    def _sources(self) -> List[Dict[str, str]]:
        """Return the packages that the parts come from, as far as the host's package manager knows them."""
        paths = {spelling for part in self.plan.all_parts() for spelling in image.spellings(part.path)}
        try:
            owners = self._run(["dpkg-query", "--search", *sorted(paths)])[1]
            packages = image.packages(owners)
            versions = self._run(["dpkg-query", "--show", "--showformat=${Package} ${Version}\n", *packages])[1]
        except FileNotFoundError:
            return [{"name": "linux", "version": self.plan.release}]
        return [dict(zip(("name", "version"), line.split())) for line in sorted(set(versions.splitlines()))]

    def _command(self, arguments: List[str]) -> Tuple[int, str, str]:
        try:
            return self._run(arguments)
        except FileNotFoundError as error:
            package = distributions.install_hint(image.PURPOSES[arguments[0]], distributions.detect(self._root))
            raise UserError(f"There is no {arguments[0]} on this host.", f"Install {package}.") from error

    def _size(self, of: Tuple[Part, ...]) -> int:
        return sum(os.stat(self._host_path(part.path)).st_size for part in of)

    def _read(self, part: Part) -> bytes:
        return files.read(self._host_path(part.path)) or b""

    def _host_path(self, path: str) -> str:
        return os.path.join(self._root, path.lstrip("/"))


def _damaged(part: Part, why: str) -> UserError:
    return UserError(f"{part.path} cannot be unpacked: {why}.", "Install the package of the kernel again.")
