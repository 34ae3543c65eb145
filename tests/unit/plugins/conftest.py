# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian host with Xen, as far as its stub domain is made of its files."""

from __future__ import annotations

import gzip
import lzma
import os
import struct
from pathlib import Path
from typing import Iterable, Mapping, Optional

import pytest
from hypothesis import HealthCheck, settings

# No test asks a server by HTTPS, and each request would read all certificates of this machine.
os.environ["SSL_CERT_FILE"] = os.devnull

# No clock decides about a property: a busy machine is slow at all of them.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

LOADER = "/lib64/ld-linux-x86-64.so.2"
LIBRARIES = "lib/x86_64-linux-gnu"


def elf(
    needed: Iterable[str] = (),
    *,
    interpreter: Optional[str] = None,
    search: Optional[str] = None,
    takes: Optional[Mapping[str, Mapping[str, str]]] = None,
    kind: int = 2,
) -> bytes:
    """The least that is an x86-64 program: what it needs, and nothing that runs.

    :param takes: by library, the version of each function that is taken out of it.
    :param kind: what a symbol is said to be.
    """
    names = bytearray(b"\0")
    tags = []

    def name(text: str) -> int:
        names.extend(text.encode() + b"\0")
        return len(names) - len(text) - 1

    tags += [(1, name(library)) for library in needed]
    if search is not None:
        tags.append((29, name(search)))
    symbols, versions = [bytes(24)], [0]
    files = b""
    for number, (library, functions) in enumerate((takes or {}).items(), start=1):
        known = sorted(set(functions.values()))
        own = {version: 100 * number + place for place, version in enumerate(known)}
        last = number == len(takes or {})
        files += struct.pack("<HHIII", 1, len(known), name(library), 16, 0 if last else 16 + 16 * len(known))
        for version in known:
            files += struct.pack("<IHHII", 0, 0, own[version], name(version), 0 if version == known[-1] else 16)
        for function, version in functions.items():
            symbols.append(struct.pack("<IBBHQQ", name(function), 0x10 | kind, 0, 0, 0, 0))
            versions.append(own[version])
    path = b"" if interpreter is None else interpreter.encode() + b"\0"
    base = 0x400000
    content = bytearray(64 + 3 * 56)
    start = len(content)
    content += path

    def place(table: bytes) -> int:
        content.extend(table)
        return base + len(content) - len(table)

    if takes is not None:
        references = b"".join(struct.pack("<QQq", 0, number << 32 | 6, 0) for number in range(1, len(symbols)))
        tags += [(6, place(b"".join(symbols))), (7, place(references)), (8, len(references))]
        tags += [(0x6FFFFFF0, place(struct.pack(f"<{len(versions)}H", *versions)))]
        tags += [(0x6FFFFFFE, place(files)), (0x6FFFFFFF, len(takes))]
    tags += [(5, place(bytes(names))), (0, 0)]
    dynamic = b"".join(struct.pack("<qQ", *tag) for tag in tags)
    dynamic_at = place(dynamic) - base
    segments = [(1, 0, base, len(content)), (2, dynamic_at, base + dynamic_at, len(dynamic))]
    if interpreter is not None:
        segments.append((3, start, base + start, len(path)))
    content[:64] = struct.pack(
        "<4sBBB9xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 3, 62, 1, 0, 64, 0, 0, 64, 56, len(segments), 0, 0, 0
    )
    table = b"".join(
        struct.pack("<IIQQQQQQ", kind_, 4, offset, address, address, length, length, 1)
        for kind_, offset, address, length in segments
    )
    content[64 : 64 + len(table)] = table
    return bytes(content)


def kernel(
    init_size: int = 48 << 20, protocol: int = 0x20F, *, release: Optional[str] = None, packed: bytes = b""
) -> bytes:
    """A bzImage of one sector of setup code, as far as it is read.

    :param packed: the kernel itself.
    """
    image = bytearray(1024)
    image[0x1F1] = 1
    image[0x202:0x208] = b"HdrS" + struct.pack("<H", protocol)
    image[0x248:0x250] = struct.pack("<II", 0, len(packed))
    image[0x260:0x264] = struct.pack("<I", init_size)
    if release is not None:
        image[0x20E:0x210] = struct.pack("<H", 0x100)
        text = f"{release} (builder@host) #1 SMP".encode() + b"\0"
        image[0x300 : 0x300 + len(text)] = text
    return bytes(image) + packed


def vmlinux(*, pv: bool = True, configuration: Optional[str] = None) -> bytes:
    """A program with the notes of a kernel, and with its configuration in it."""

    def note(kind: int, content: bytes, owner: bytes = b"Xen\0") -> bytes:
        padding = -len(content) % 4
        return struct.pack("<III", len(owner), len(content), kind) + owner + content + bytes(padding)

    # Guest system, release of Xen, where a PVH domain starts, and where a PV domain does.
    notes = note(6, b"linux\0") + note(5, b"xen-3.0\0") + note(18, bytes(8)) + note(3, b"id", b"GNU\0")
    notes += note(1, bytes(8)) if pv else b""
    held = b"" if configuration is None else b"IKCFG_ST" + gzip.compress(configuration.encode()) + b"IKCFG_ED"
    header = struct.pack("<4sBBB9xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(notes), len(notes), 4) + notes + held


# What needs.py has of the kernel, as Debian's configuration says it.
BUILT_IN = (
    *("XEN_PV", "BLK_DEV_INITRD", "BINFMT_SCRIPT", "PROC_FS", "SYSFS", "DEVTMPFS", "SQUASHFS_ZSTD"),
    *("HVC_XEN", "HVC_XEN_FRONTEND", "UNIX", "INET", "MULTIUSER"),
)


def configuration(*without: str) -> str:
    lines = (f"CONFIG_{name}=y\n" for name in BUILT_IN if name not in without)
    return f"# Linux\n{''.join(lines)}CONFIG_XEN_GNTDEV=m\n# CONFIG_EMBEDDED is not set\n"


class StubdomHost:
    """The files of a host."""

    def __init__(self, root: Path, *, release: str, xen: str, module_suffix: str, ipxe: str) -> None:
        self.root = root
        self.release = release
        self.xen = xen
        self.modules = f"lib/modules/{release}"
        self.module_suffix = module_suffix
        self.put("etc/os-release", b"ID=debian\n")
        self.put(f"boot/vmlinuz-{release}", kernel())
        self.put(f"boot/config-{release}", configuration().encode())
        self.put("bin/busybox", elf())
        self.put(LOADER.lstrip("/"), elf())
        self.put(
            "usr/libexec/xen-qemu-system-i386",
            elf(
                ["libglib-2.0.so.0", "libspice-server.so.1", "libc.so.6"],
                interpreter=LOADER,
                takes={"libspice-server.so.1": {"spice_server_new": "SPICE_SERVER_0.6.0"}},
            ),
        )
        self.put("usr/bin/xenstore", elf(["libxenstore.so.4", "libc.so.6"], interpreter=LOADER))
        self.put(
            f"usr/lib/xen-{xen}/bin/vchan-socket-proxy", elf(["libxenvchan.so.1", "libc.so.6"], interpreter=LOADER)
        )
        self.put(f"usr/lib/xen-{xen}/boot/hvmloader", b"")
        self.library("libc.so.6", ["ld-linux-x86-64.so.2"], interpreter=LOADER)
        self.library("libglib-2.0.so.0", ["libpcre2-8.so.0", "libc.so.6"])
        self.library("libpcre2-8.so.0", ["libc.so.6"])
        self.library("libxenstore.so.4", ["libc.so.6"])
        self.library("libxenvchan.so.1", ["libxenstore.so.4", "libxenother.so.1"], search="$ORIGIN/xen")
        self.put(f"{LIBRARIES}/xen/libxenother.so.1", elf(["libc.so.6"]))
        for name in ("stdvga", "cirrus", "qxl"):
            self.put(f"usr/share/seabios/vgabios-{name}.bin", name.encode())
        for name in ("de", "en-us"):
            self.put(f"usr/share/qemu/keymaps/{name}", b"keys")
        for name in ("rtl8139", "e1000", "e1000e", "virtio"):
            self.put(f"{ipxe}/efi-{name}.rom", name.encode())
        drivers = {
            "drivers/block/loop": [],
            "fs/squashfs/squashfs": [],
            "drivers/xen/xen-evtchn": [],
            "drivers/xen/xen-gntdev": [],
            "drivers/xen/xen-gntalloc": [],
            "drivers/xen/xen-privcmd": [],
            "drivers/block/xen-blkfront": [],
            "drivers/pci/xen-pcifront": [],
            "drivers/net/xen-netfront": [],
            "drivers/net/tun": [],
            "net/llc/llc": [],
            "net/802/stp": ["net/llc/llc"],
            "net/bridge/bridge": ["net/802/stp", "net/llc/llc"],
        }
        self.put(f"{self.modules}/modules.builtin", b"kernel/drivers/tty/hvc/hvc_xen.ko\n")
        self.depends = {
            f"kernel/{driver}.ko{module_suffix}": [f"kernel/{other}.ko{module_suffix}" for other in others]
            for driver, others in drivers.items()
        }
        for driver in self.depends:
            content = os.path.basename(driver).split(".")[0].encode()
            self.put(f"{self.modules}/{driver}", lzma.compress(content) if module_suffix == ".xz" else content)
        self.write_depends()

    def put(self, path: str, content: bytes) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(content)

    def library(self, name: str, needed: Iterable[str], **more: str) -> None:
        self.put(f"{LIBRARIES}/{name}", elf(needed, **more))

    def write_depends(self) -> None:
        lines = [f"{path}:{''.join(' ' + other for other in others)}\n" for path, others in self.depends.items()]
        self.put(f"{self.modules}/modules.dep", "".join(lines).encode())

    def tree(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}


ROWS = {
    "bookworm": {"release": "6.1.0-1-amd64", "xen": "4.17", "module_suffix": "", "ipxe": "usr/lib/ipxe/qemu"},
    "trixie": {"release": "6.12.1+deb13-amd64", "xen": "4.20", "module_suffix": ".xz", "ipxe": "usr/share/qemu"},
}


@pytest.fixture(params=sorted(ROWS))
def stubdom_host(request: pytest.FixtureRequest, tmp_path: Path) -> StubdomHost:
    return StubdomHost(tmp_path / "host", **ROWS[request.param])


@pytest.fixture
def make_elf():  # type: ignore[no-untyped-def]
    return elf


@pytest.fixture
def make_configuration():  # type: ignore[no-untyped-def]
    return configuration


@pytest.fixture
def make_vmlinux():  # type: ignore[no-untyped-def]
    return vmlinux


@pytest.fixture
def make_kernel():  # type: ignore[no-untyped-def]
    return kernel
