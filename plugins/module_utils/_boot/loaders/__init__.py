# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the table of boot loaders. A new loader is one module and one row.

from __future__ import annotations

import copy
from typing import Dict, List, Mapping, Optional, Protocol, Sequence, Tuple, Type

from ansible_collections.xen.stubdom.plugins.module_utils._boot.command_line import Recipient
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders.efi_cfg import EfiCfg
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders.extlinux import Extlinux
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders.grub2 import Grub2
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders.grub_legacy import GrubLegacy
from ansible_collections.xen.stubdom.plugins.module_utils._boot.next_boot import NextBoot
from ansible_collections.xen.stubdom.plugins.module_utils._boot.tree import Tree
from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions, files, signals
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.files import AnyChange, Change
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner, last_line


class Loader(Protocol):
    """What a boot loader has to be able to do. *sources* are the contents of its files by path, in their order.

    :cvar name: its key in LOADERS.
    :cvar recipient: whose options are meant: the hypervisor's, or those of dom0's Linux in the entries that start Xen.
    :cvar default_only: whether only the entry that the next boot starts is edited, and not all those that start Xen.
    :cvar first_option: what it passes before all other options, so that the running options identify it.
    """

    name: str
    recipient: Recipient
    default_only: bool
    first_option: Optional[str]

    def __init__(self, run: Runner, *, root: str = "/", foreign: bool = False) -> None: ...

    @property
    def generates(self) -> bool:
        """Whether a program generates the effective configuration from the source files; else they are it."""

    def present(self) -> bool:
        """Whether this host boots with it."""

    def hypervisor_installed(self) -> bool:
        """Whether there is a hypervisor that it could boot."""

    def read(self) -> Dict[str, bytes]:
        """Return its source files."""

    def plan(self, sources: Mapping[str, bytes], name: str, option: Optional[str]) -> List[Change]:
        """Return the changes after which *option* is the only one called *name*; None removes all of them.

        :param option: the option, or several of that name with a space between them.
        :raises UserError: a file is not understood, or would not give what was asked for.
        """

    def configured(self, sources: Mapping[str, bytes]) -> str:
        """Return the options as the loader's own tool would read them from *sources*."""

    def written(self, sources: Mapping[str, bytes]) -> Dict[str, str]:
        """Return the options as far as they can be read without a shell, by the file or the variable they are in."""

    def elsewhere(self, sources: Mapping[str, bytes], changes: Sequence[Change], name: str) -> List[str]:
        """Return what *changes* of options called *name* have to do with entries without Xen, in sentences."""

    def next_boot(self) -> NextBoot:
        """Return what the next boot starts, and the options that it passes."""

    def output(self) -> Optional[str]:
        """Return where the file that the generator writes is found, None where nothing is generated."""

    def generator(self) -> List[str]:
        """Return the command that generates the effective configuration, empty where *generates* is false.

        :raises UserError: it is not installed.
        """

    def unchecked(self, sources: Mapping[str, bytes]) -> List[str]:
        """Return what cannot be checked in a tree that is not the running host's, in sentences."""


LOADERS: Mapping[str, Type[Loader]] = {loader.name: loader for loader in (Grub2, EfiCfg, Extlinux, GrubLegacy)}


# A program that edits a loader's files by a parser of its own, whatever loader that is, and whose it is. XCP-ng's knows
# the menu of its installer only.
_MANAGED: Sequence[Tuple[str, str]] = (("/opt/xensource/libexec/xen-cmdline", "XCP-ng's or XenServer's own tools"),)
# What belongs to loaders that are not supported: a file, and whose it is.
_OTHERS: Sequence[Tuple[str, str]] = (
    ("/boot/efi/EFI/xenserver/grub*.cfg", "XCP-ng's or XenServer's own loader"),
    ("/boot/boot.scr", "U-Boot"),
    ("/boot/boot.scr.uimg", "U-Boot"),
    ("/boot/*/boot.scr", "U-Boot"),
    ("/boot/uEnv.txt", "U-Boot"),
    ("/boot/*/uEnv.txt", "U-Boot"),
    ("/boot.scr", "U-Boot"),
    ("/uEnv.txt", "U-Boot"),
    ("/boot/loader.conf", "FreeBSD's loader"),
    ("/boot/loader/loader.conf", "systemd-boot without an entry for xen.efi"),
    ("/boot/efi/loader/loader.conf", "systemd-boot without an entry for xen.efi"),
    ("/efi/loader/loader.conf", "systemd-boot without an entry for xen.efi"),
    ("/boot.cfg", "NetBSD's loader"),
    ("/boot/pxelinux.cfg", "pxelinux"),
    ("/tftpboot/pxelinux.cfg", "pxelinux"),
    ("/srv/tftp/pxelinux.cfg", "pxelinux"),
    ("/var/lib/tftpboot/pxelinux.cfg", "pxelinux"),
    ("/boot/efi/EFI/refind/refind.conf", "rEFInd"),
    ("/efi/EFI/refind/refind.conf", "rEFInd"),
    ("/boot/EFI/refind/refind.conf", "rEFInd"),
    ("/boot/limine*.c*", "Limine"),
    ("/etc/lilo.conf", "LILO"),
)
_KNOWN = "GRUB 2 (grub2), xen.efi (efi_cfg), extlinux and syslinux (extlinux), and GRUB 0.97 (grub_legacy)"


def find(name: str, run: Runner, *, root: str = "/", foreign: bool = False, running: Optional[str] = None) -> Loader:
    """Return the loader of this host, or the named one.

    Of several, the one with an entry for a hypervisor is used, and of those the one that started it.

    :param name: a key of LOADERS, or auto.
    :param root: where the files are found.
    :param foreign: whether that is another tree than this host's, such as an image's; nothing of it is run then.
    :param running: the options that the hypervisor was started with, None where they are not known.
    :raises UserError: the host has none that is supported, or two with an entry for a hypervisor.
    """
    tree = Tree(root, foreign=foreign)
    managed = next(((path, whose) for path, whose in _MANAGED if tree.is_file(path)), None)
    if managed is not None:
        raise UserError(
            f"The boot loader {f'of {root}' if foreign else 'of this host'} is not known: {managed[0]} belongs to "
            f"{managed[1]}, which keep its configuration.",
            "Change the options of Xen with that program.",
        )
    rows = [loader for key, loader in LOADERS.items() if name in (key, "auto")]
    candidates: Sequence[Loader] = [loader(run, root=root, foreign=foreign) for loader in rows]
    present = [loader for loader in candidates if loader.present()]
    if len(present) > 1:
        booting = [loader for loader in present if loader.next_boot().entries]
        if len(booting) > 1 and running is not None:
            first = (running.split() or [""])[0]
            known = {loader.first_option for loader in booting} - {None}
            booting = [loader for loader in booting if loader.first_option == (first if first in known else None)]
        if len(booting) > 1:
            raise UserError(
                f"More than one boot loader has an entry for a hypervisor: {', '.join(one.name for one in booting)}.",
                "Set loader to the one that starts this host.",
            )
        present = booting or present
    if present:
        return present[0]
    other = next(((path, whose) for pattern, whose in _OTHERS for path in tree.glob(pattern)), None)
    if other is not None:
        raise UserError(
            f"No supported boot loader was found {f'in {root}' if foreign else 'on this host'}: {other[0]} belongs to "
            f"{other[1]}.",
            f"Change the options of Xen there by hand. The loaders that are supported are {_KNOWN}.",
        )
    raise UserError(
        f"No boot loader was found {f'in {root}' if foreign else 'on this host'} "
        f"(looked for: {', '.join(LOADERS) if name == 'auto' else name}).",
        f"Install {distributions.install_hint('boot_loader', distributions.detect(root))}, then run again.",
    )


def for_recipient(loader: Loader, recipient: Recipient) -> Loader:
    """Return a loader for the options of another recipient."""
    twin = copy.copy(loader)
    twin.recipient = recipient
    return twin


# Which entries are edited where the loader's menu is edited itself.
ALL_ENTRIES, DEFAULT_ENTRY = "all", "default"


def for_entries(loader: Loader, entries: str) -> Loader:
    """Return a loader that edits all entries for Xen, or only the one that the next boot starts.

    :param entries: ALL_ENTRIES or DEFAULT_ENTRY.
    :raises UserError: the entries cannot be told apart, or the next boot starts no Xen, or that is not known.
    """
    if entries == ALL_ENTRIES:
        return loader
    if loader.generates:
        raise UserError(
            f"The parameter entries is {entries}, but a program writes the menu of {loader.name} from options that all "
            "entries for Xen have in common.",
            f"Set entries to {ALL_ENTRIES}.",
        )
    boots = loader.next_boot()
    if boots.options is None:
        raise UserError(
            f"The parameter entries is {entries}, but no entry is known that starts Xen at the next boot. "
            f"{boots.reason}",
            f"Make an entry for Xen the default one first, or set entries to {ALL_ENTRIES}.",
        )
    twin = copy.copy(loader)
    twin.default_only = True
    return twin


def generated(loader: Loader) -> Dict[str, Optional[bytes]]:
    """Return the configuration that the generator has written, by path, to be put back as it is."""
    output = loader.output()
    return {} if output is None else {output: files.read(output)}


def restore(changes: Sequence[AnyChange], configuration: Mapping[str, Optional[bytes]]) -> None:
    """Take changes back, and put back what was generated from the files, byte by byte.

    :param configuration: as `generated` returned it before.
    """
    with signals.undisturbed():
        files.apply(files.reverse(changes))
        files.apply([Change(path, files.read(path), old) for path, old in configuration.items()])


def generate(loader: Loader, run: Runner, *, backup: bool = False) -> Dict[str, str]:
    """Generate the effective configuration of a loader; the only code that does.

    Programs such as update-grub write their file in place, so that a host is left without a menu where they are
    interrupted. They are told another name where they take one, and the result takes the place of the old file in one
    step.

    :param backup: keep a copy of the configuration that is replaced.
    :return: path of the copy by path of the file, empty without *backup*.
    :raises UserError: the program is not installed or fails.
    """
    command = loader.generator()
    output = loader.output()
    if not command:
        return {}
    old = None if output is None else files.read(output)
    if output is None or output not in command:
        if output is None or old is None or not backup:
            _run(command, run)
            return {}
        with files.kept(output) as copy:
            _run(command, run)
        return {} if files.read(output) == old else {output: copy}
    with files.beside(output) as temporary:
        _run([temporary if word == output else word for word in command], run)
        new = files.read(temporary)
    if not new:
        raise UserError(
            f"`{' '.join(command)}` wrote nothing.",
            "Run that command by hand and correct its cause, or set regenerate to false.",
        )
    return files.apply([Change(output, old, new)], backup=backup)


def _run(command: Sequence[str], run: Runner) -> None:
    status, _output, errors = run(list(command))
    if status != 0:
        raise UserError(
            f"`{' '.join(command)}` failed: {last_line(errors)}.",
            "Run that command by hand and correct its cause, or set regenerate to false.",
        )
