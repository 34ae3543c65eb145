#!/usr/bin/env python3
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody can do who has taken over a device model. Runs on a Xen host of the lab, as root.

attacker.py image ROOTFS OUTPUT      the image of a Linux stub domain, with this program in QEMU's place
attacker.py try OWN OTHER            tries, as QEMU in dom0 would: OWN is its guest, OTHER another HVM guest

In the stub domain it takes the number of the other guest from attack.other=N of the kernel's command line, and tries
twice: with QEMU's user and what QEMU has opened before it gives up root, then as root.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

# Linux include/uapi/xen/{privcmd,gntdev}.h, and xen/include/public @ stable-4.20.
HYPERCALL, MMAP_BATCH, MAP_GRANT = 0x305000, 0x205004, 0x184700
EVENT_CHANNEL_OP, SYSCTL, DOMCTL, DM_OP = 32, 35, 36, 41
PAUSE, UNPAUSE, READ_CONSOLE, ALLOC_UNBOUND, SET_ISA_IRQ_LEVEL = 3, 4, 1, 6, 9
DOMCTL_VERSION, SYSCTL_VERSION = 0x17, 0x15
INIT_MODULE = 175
XS_READ, XS_WRITE, XS_ERROR = 2, 11, 16
DOM0 = 0
C = ctypes.CDLL(None, use_errno=True)
ACCOUNT = 1000
PAGE = 4096
IN_STUB_DOMAIN = """#!/bin/busybox sh
export LD_LIBRARY_PATH=/attack/lib PYTHONHOME=/attack
exec /attack/python3 -S /attack/attacker.py stub
"""


class Held(NamedTuple):
    """What a device model has open."""

    privcmd: int
    gntdev: int
    xenbus: int


def opened() -> Held:
    return Held(*(os.open(f"/dev/xen/{name}", os.O_RDWR) for name in ("privcmd", "gntdev", "xenbus")))


def refused(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def hypercall(held: Held, number: int, *arguments: int) -> int:
    return _ioctl(held.privcmd, HYPERCALL, _buffer(struct.pack("6Q", number, *arguments, *[0] * (5 - len(arguments)))))


def _buffer(content: bytes, size: int = 0) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(content, max(size, len(content)))


def _ioctl(descriptor: int, request: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
    result = C.ioctl(descriptor, ctypes.c_ulong(request), buffer)
    if result < 0:
        raise refused(ctypes.get_errno())
    return int(result)


def memory(held: Held, domid: int, frame: int) -> None:
    """Read and write a page of a domain."""
    window = mmap.mmap(held.privcmd, PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(window))
    frames, errors = (ctypes.c_uint64 * 1)(frame), (ctypes.c_int * 1)()
    where = ctypes.addressof(frames), ctypes.addressof(errors)
    _ioctl(held.privcmd, MMAP_BATCH, _buffer(struct.pack("IHxxQQQ", 1, domid, start, *where)))
    if errors[0]:
        raise refused(-errors[0])
    first = window[0]
    window[0] = first


def control(held: Held, command: int, domid: int) -> None:
    """A command of libxl's, such as the end of a domain."""
    buffer = _buffer(struct.pack("IIH6x", command, DOMCTL_VERSION, domid), 256)
    hypercall(held, DOMCTL, ctypes.addressof(buffer))


def pause(held: Held, domid: int) -> None:
    control(held, PAUSE, domid)
    control(held, UNPAUSE, domid)


def log_of_the_hypervisor(held: Held) -> None:
    text = _buffer(b"", PAGE)
    operation = struct.pack("IIBBHIQI4x", READ_CONSOLE, SYSCTL_VERSION, 0, 0, 0, 0, ctypes.addressof(text), PAGE)
    buffer = _buffer(operation, 256)
    hypercall(held, SYSCTL, ctypes.addressof(buffer))


def interrupt(held: Held, domid: int) -> None:
    """What a device model does when a device of the guest has something to say."""
    operation = _buffer(struct.pack("IIBB", SET_ISA_IRQ_LEVEL, 0, 12, 0), 64)
    there = _buffer(struct.pack("QQ", ctypes.addressof(operation), 64))
    hypercall(held, DM_OP, domid, 1, ctypes.addressof(there))


def event_channel(held: Held, domid: int) -> None:
    """Offer an event channel in the name of another domain."""
    operation = _buffer(struct.pack("HHI", domid, DOM0, 0))
    hypercall(held, EVENT_CHANNEL_OP, ALLOC_UNBOUND, ctypes.addressof(operation))


def grants(held: Held, domid: int) -> None:
    """Map one of the pages that a domain has granted to another one."""
    failure = refused(errno.ENOENT)
    for reference in range(64):
        content = _buffer(struct.pack("IIQII", 1, 0, 0, domid, reference))
        _ioctl(held.gntdev, MAP_GRANT, content)
        try:
            mmap.mmap(held.gntdev, PAGE, offset=struct.unpack_from("Q", content, 8)[0])
        except OSError as error:
            failure = error
        else:
            return
    raise failure


def xenstore(held: Held, operation: int, *words: str) -> bytes:
    """xen/include/public/io/xs_wire.h."""
    content = "\0".join(words).encode() + (b"\0" if operation == XS_READ else b"")
    os.write(held.xenbus, struct.pack("4I", operation, 1, 0, len(content)))
    os.write(held.xenbus, content)
    kind, _request, _transaction, length = struct.unpack("4I", _read(held.xenbus, 16))
    answer = _read(held.xenbus, length)
    if kind == XS_ERROR:
        raise refused(getattr(errno, answer.rstrip(b"\0").decode()))
    return answer


def _read(descriptor: int, length: int) -> bytes:
    content = b""
    while len(content) < length:
        content += os.read(descriptor, length - len(content))
    return content


def rewrite(held: Held, path: str, value: str | None = None) -> None:
    """Write a node, by default what is in it."""
    xenstore(held, XS_WRITE, path, xenstore(held, XS_READ, path).decode() if value is None else value)


def program() -> None:
    subprocess.run(["/bin/busybox", "true"], check=True)


def kernel() -> None:
    """Load nothing into the kernel, which it says of only to those who may load something."""
    C.syscall(INIT_MODULE, b"", 0, b"")
    if ctypes.get_errno() != errno.ENOEXEC:
        raise refused(ctypes.get_errno())


def other_process() -> None:
    """Read the memory of process 1."""
    with open("/proc/1/mem", "rb") as memory_of, open("/proc/1/maps", encoding="ascii") as maps:
        memory_of.seek(int(maps.readline().split("-")[0], 16))
        memory_of.read(1)


def attempts(held: Held, own: int, other: int) -> dict[str, Callable[[], object]]:
    return {
        "memory of its guest": lambda: memory(held, own, 0x100),
        "interrupts of its guest": lambda: interrupt(held, own),
        "memory of another guest": lambda: memory(held, other, 0x100),
        "interrupts of another guest": lambda: interrupt(held, other),
        "pages that another guest shares with dom0": lambda: grants(held, other),
        "event channels in the name of another guest": lambda: event_channel(held, other),
        "pause another guest": lambda: pause(held, other),
        "log of the hypervisor": lambda: log_of_the_hypervisor(held),
        "xenstore: read another guest's nodes": lambda: xenstore(held, XS_READ, f"/local/domain/{other}/name"),
        "xenstore: write another guest's nodes": lambda: rewrite(held, f"/local/domain/{other}/name"),
        "start a program": program,
        "load code into the kernel": kernel,
        "memory of process 1": other_process,
    }


def of_a_stub_domain(held: Held, own: int, other: int, stub: int) -> dict[str, Callable[[], object]]:
    """What is no attempt in dom0."""
    return {
        **attempts(held, own, other),
        "memory of dom0": lambda: memory(held, DOM0, 0x1000),
        "xenstore: which file the disk is": lambda: rewrite(held, f"/local/domain/0/backend/vbd/{stub}/51712/params"),
        "xenstore: which guest it is for": lambda: rewrite(held, f"/local/domain/{stub}/target", str(other)),
    }


def report(who: str, tried: Mapping[str, Callable[[], object]]) -> None:
    for what, attempt in tried.items():
        try:
            attempt()
            result = "done"
        except (OSError, subprocess.SubprocessError) as error:
            result = f"refused: {error}"
        print(f"attack: {who}: {what}: {result}", flush=True)


def stub_domain() -> None:
    held = opened()
    words = Path("/proc/cmdline").read_text(encoding="ascii").split()
    other = next(int(word.split("=")[1]) for word in words if word.startswith("attack.other="))
    own, stub = (int(xenstore(held, XS_READ, path)) for path in ("target", "domid"))
    if os.fork() == 0:
        # As QEMU's -run-with chroot=/run/empty,user=1000:1000 (os-posix.c).
        os.chroot("/run/empty")
        os.chdir("/")
        os.setgroups([])
        os.setgid(ACCOUNT)
        os.setuid(ACCOUNT)
        report("user", of_a_stub_domain(held, own, other, stub))
        os._exit(0)
    os.wait()
    report("root", of_a_stub_domain(held, own, other, stub))
    time.sleep(60)


def image(root_file_system: Path, output: Path) -> None:
    """Append what Linux unpacks over the image: this program, Python, and a word that starts them as QEMU."""
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        library = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"
        skipped = shutil.ignore_patterns(
            "test*", "__pycache__", "config-*", "ensurepip", "idlelib", "lib2to3", "pydoc*"
        )
        shutil.copytree(f"/usr/{library}", top / "attack" / library, ignore=skipped, ignore_dangling_symlinks=True)
        shutil.copy(os.path.realpath(sys.executable), top / "attack/python3")
        shutil.copy(__file__, top / "attack/attacker.py")
        programs = [top / "attack/python3", *(top / "attack" / library / "lib-dynload").glob("_ctypes.*")]
        for program in programs:
            for line in subprocess.run(
                ["ldd", program], capture_output=True, text=True, check=True
            ).stdout.splitlines():
                if "=> /" in line:
                    (top / "attack/lib").mkdir(exist_ok=True)
                    shutil.copy(line.split()[2], top / "attack/lib")
        (top / "bin").mkdir()
        (top / "bin/xen-qemu").write_text(IN_STUB_DOMAIN, encoding="ascii")
        (top / "bin/xen-qemu").chmod(0o755)
        names = "\n".join(str(path.relative_to(top)) for path in sorted(top.rglob("*"))).encode()
        packed = subprocess.run(
            ["busybox", "cpio", "-o", "-H", "newc"], input=names, cwd=top, capture_output=True, check=True
        ).stdout
    whole = root_file_system.read_bytes()
    output.write_bytes(whole + bytes(-len(whole) % 4) + packed)


def main(arguments: Sequence[str]) -> None:
    what, rest = (arguments[0], arguments[1:]) if arguments else ("", ())
    if what == "stub":
        stub_domain()
    elif what == "image" and len(rest) == 2:
        image(Path(rest[0]), Path(rest[1]))
    elif what == "try" and len(rest) == 2:
        report("dom0", attempts(opened(), int(rest[0]), int(rest[1])))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
