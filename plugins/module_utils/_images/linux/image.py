# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the root file system of the Linux stub domain, and the memory it needs.

from __future__ import annotations

import gzip
import lzma
from typing import Callable, List, Mapping, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import cpio
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux.init import INIT

MIB = 1024 * 1024

# To be raised when this code makes another image of the same files.
RECIPE_NUMBER = 4

COMPRESSED = "host.squashfs"
_DIRECTORIES = ("bin", "dev", "host", "modules", "proc", "run", "sys")
# Number of QEMU's user and group; any but root's.
ACCOUNT = 1000
# Programs name their loader /lib64/…, and the loader looks for libraries in /lib.
_LINKS = (("lib", "host/lib"), ("lib64", "host/lib64"))

# mksquashfs gives equal bytes for equal files when no times go in (its own are in seconds since 1970).
# zstd for QEMU of Debian 13 and its libraries, the whole archive: at level 3 10.8 MB, at 9 10.3 MB in the same time, at
# 15 9.8 MB in six times and at 19 9.7 MB in twelve times as much.
SQUASH = (
    "-noappend", "-quiet", "-no-progress", "-all-root", "-no-xattrs", "-no-exports", "-all-time", "0",
    "-mkfs-time", "0", "-root-mode", "755", "-comp", "zstd", "-Xcompression-level", "9",
)  # fmt: skip

# How a module's file may be packed. The stub domain gets it unpacked: it is packed again with all others, and insmod
# of busybox does not need to know.
UNPACK: Mapping[str, Callable[[bytes], bytes]] = {".ko": bytes, ".xz": lzma.decompress, ".gz": gzip.decompress}
# What no module of Python 3.8 unpacks.
UNPACK_WITH: Mapping[str, Sequence[str]] = {".zst": ("zstd", "-dqf")}
# What to install to get a program.
PURPOSES = {"mksquashfs": "squashfs", "zstd": "zstd"}
RECIPE = (RECIPE_NUMBER, INIT, SQUASH)

# Beside these two, QEMU and Linux of Debian 13 took 18 MiB of a stub domain for a guest with one disk, and 8 more with
# four network interfaces, which can come while it runs. The rest is for the files of QEMU that it works with. A guest
# with more disks or a screen is given more (_guests/device_models.py).
QEMU_BYTES = 38 * MIB

# Words that the kernel needs in the stub domain.
# console=hvc0: else the words of init go to the picture that the toolstack gives the stub domain (xen-fbfront.c).
# loglevel=1: nobody reads the console before init has seen to it, and a kernel that finds it full waits for ever
# (domU_write_console, drivers/tty/hvc/hvc_xen.c).
# cryptomgr.notests: nothing in the stub domain needs the kernel's ciphers, which it would try one by one.
# stubdom.save, stubdom.media: the guest can be saved, and its CDs changed (_guests/virtualisation.py).
_WORDS = ("console=hvc0", "loglevel=1", "cryptomgr.notests", "stubdom.save=yes", "stubdom.media=yes")
# What the kernel is not to do at its start; names that a kernel does not have do no harm. Seconds are those of the
# emulated lab with Linux 6.12, out of 9.9 until QEMU ran; the tests of ciphers took 1.1.
_NOT_CALLED = (
    # It would wait 30 seconds, as long as libxl does, for consoles that QEMU of Debian 13 does not serve, as it has no
    # file for console 2 (drivers/xen/xenbus/xenbus_probe_frontend.c; hw/char/xen_console.c, xen_console_device_create).
    "boot_wait_for_devices",
    # A test of a source of random numbers that only ciphers use (crypto/jitterentropy-kcapi.c): 0.3.
    "jent_mod_init",
    # They read what BPF knows of the kernel's types (net/bpf/bpf_dummy_struct_ops.c, net/ipv4/bpf_tcp_ca.c): 0.3.
    "bpf_dummy_struct_ops_init",
    "bpf_tcp_ca_kfunc_init",
)
# It reads the keys by which modules are signed (certs/system_keyring.c): 0.4, and 0.1 for each module. Those in the
# image are dom0's own, and no other is loaded after them.
_KEYS = "load_system_certificate_list"


def command_line(more: Sequence[str], *, keys: bool) -> str:
    """Return the words that the kernel of a stub domain is started with.

    :param more: further ones.
    :param keys: whether the kernel may refuse modules that it cannot prove to be signed.
    """
    not_called = _NOT_CALLED if keys else (*_NOT_CALLED, _KEYS)
    return " ".join((*_WORDS, f"initcall_blacklist={','.join(not_called)}", *more))


def archive(busybox: bytes, modules: Mapping[str, bytes], order: str, compressed: bytes) -> bytes:
    """Return the root file system as the kernel unpacks it.

    :param modules: by name in the image, those that are needed to mount the compressed file system.
    :param order: the lines of the list that init loads them by.
    :param compressed: the file system that holds everything else.
    """
    return cpio.archive(
        [
            *(cpio.directory(name) for name in _DIRECTORIES),
            *(cpio.link(name, target) for name, target in _LINKS),
            # The kernel opens it for init before devtmpfs is there.
            cpio.character_device("dev/console", 5, 1),
            cpio.file("init", INIT.encode(), 0o755),
            # Not for QEMU: nobody but root starts a shell here.
            cpio.file("bin/busybox", busybox, 0o700),
            cpio.file("modules/order", order.encode()),
            *(cpio.file(name, content) for name, content in modules.items()),
            cpio.file(COMPRESSED, compressed),
        ]
    )


def squash(directory: str, output: str) -> List[str]:
    """Return the command that makes the compressed file system of a directory."""
    return ["mksquashfs", directory, output, *SQUASH]


def memory_mib(kernel: int, root_file_system: int) -> int:
    """Return how much memory the stub domain needs.

    :param kernel: what the kernel takes.
    :param root_file_system: size of the archive; while it is unpacked it is there twice.
    """
    return -(-(kernel + root_file_system + max(root_file_system, QEMU_BYTES)) // MIB)


def listing(identity: str, contents: object) -> str:
    """Return what an image is made of, a line each, for people.

    :param contents: path by name, if it is as this collection writes it.
    """
    if not isinstance(contents, dict):
        contents = {}
    width = max((len(name) for name in contents), default=0)
    return "".join(
        [f"identity {identity}\n", *(f"{name.ljust(width)} from {path}\n" for name, path in sorted(contents.items()))]
    )


def spellings(path: str) -> Tuple[str, ...]:
    """Return how a package may name the file: with merged /usr the same file has two names."""
    plain = path[len("/usr") :] if path.startswith("/usr/") else path
    return (plain, "/usr" + plain)


def packages(owners: str) -> List[str]:
    """Read the packages out of `dpkg-query --search`, whose lines are `package, package: path`."""
    found = (line.partition(": ")[0] for line in owners.splitlines() if not line.startswith("diversion by "))
    return sorted({name.strip().partition(":")[0] for names in found for name in names.split(",")})
