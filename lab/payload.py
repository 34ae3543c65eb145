#!/usr/bin/env python3
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tiny test guests boot. Runs on the Xen host: they are made of the host's own kernel and busybox.

payload.py hvm --say LINE OUTPUT    a disk whose boot sector writes LINE to the serial port and powers off
payload.py linux --say LINE OUTPUT  a disk with grub.cfg and a stock Linux that writes LINE to the console and ends
payload.py ramdisk --say LINE OUTPUT    what xl.cfg calls ramdisk, for that Linux without a disk or a boot loader
payload.py kernel --say LINE OUTPUT a kernel for HVM guests that writes LINE, its command line and the first line of
                                    its initrd to the serial port, and powers off
"""

from __future__ import annotations

import argparse
import gzip
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SECTOR = 512
LOAD_ADDRESS = 0x7C00
PARTITION_START = 1024 * 1024

COM1 = 0x3F8
# Where hvmloader puts the ACPI registers of the emulated PIIX4; the second one is PM1a control, in which SLP_EN with
# sleep type 0 is "soft off" (QEMU hw/acpi/core.c, acpi_pm1_cnt_write).
PM1A_CONTROL = 0xB004
SLP_EN = 0x2000

# A guest that stays alive repeats its line after so many seconds, so that one who listens late gets it too.
INTERVAL = 3
# The timer, as the BIOS sets it, interrupts 18.2 times a second.
TICKS = INTERVAL * 182 // 10
# 32 KiB, which a BIOS reads with one command.
SECTORS_AT_ONCE = 64
# What the number of its commands reaches.
MOST_MEBIBYTES = 0xFFFF * SECTORS_AT_ONCE * SECTOR // 1024 // 1024


def reads(mebibytes: int) -> bytes:
    """What reads so much from the beginning of the first disk, by the BIOS; it reads no further after an error."""
    # A disk address packet on the stack (EDD): push 0 four times, where it begins; push 0x1000, push 0, where to;
    # push SECTORS_AT_ONCE; push its length. mov si, sp; mov cx, how often
    code = b"\x6a\x00" * 4 + b"\x68\x00\x10\x6a\x00" + bytes([0x6A, SECTORS_AT_ONCE, 0x6A, 0x10])
    code += b"\x89\xe6\xb9" + (mebibytes * 1024 * 1024 // SECTOR // SECTORS_AT_ONCE).to_bytes(2, "little")
    # push cx; mov ah, 0x42; mov dl, 0x80; int 0x13; jc to itself; pop cx
    each = b"\x51\xb4\x42\xb2\x80\xcd\x13\x72\xfe\x59"
    # add word [si + 8], SECTORS_AT_ONCE; adc word [si + 10], 0; loop back to the push; add sp, 16
    each += bytes([0x83, 0x44, 0x08, SECTORS_AT_ONCE]) + b"\x83\x54\x0a\x00"
    return code + each + bytes([0xE2, -len(each) - 2 & 0xFF]) + b"\x83\xc4\x10"


# push ds; pop es; mov ax, 0x0301; mov bx, LOAD_ADDRESS; mov cx, 1; mov dx, 0x80; int 0x13: one sector, the first.
WRITES_ITSELF = b"\x1e\x07\xb8\x01\x03\xbb\x00\x7c\xb9\x01\x00\xba\x80\x00\xcd\x13"


def boot_sector(line: str, stay: bool = False, mebibytes: int = 0, write: bool = False) -> bytes:
    """The 512 bytes that write `line` to COM1 at 115200 8n1, then power off, or repeat it if `stay` is set.

    A number at the end of a line that is repeated is counted up, in the guest's memory. What is typed meanwhile stands
    before the next line. With `mebibytes` it does not wait between its lines but reads so much of its disk. With
    `write` it writes itself to its disk after each line, with the number that it has come to.

    Raises ValueError for a line that is not ASCII or does not fit.
    """
    code = bytearray()

    def out(port: int, value: int) -> bytes:
        # mov dx, port; mov al, value; out dx, al
        return bytes([0xBA, port & 0xFF, port >> 8, 0xB0, value, 0xEE])

    code += b"\xfa"  # cli
    code += b"\x31\xc0\x8e\xd8\xfc"  # xor ax, ax; mov ds, ax; cld
    if stay:
        code += b"\x8e\xd0\xbc\x00\x7c"  # mov ss, ax; mov sp, LOAD_ADDRESS
        code += b"\xc7\x06\x20\x00\x00\x00\x89\x06\x22\x00"  # mov [8 * 4], handler (below); mov [8 * 4 + 2], ax
        handler_reference = len(code) - 6
    code += out(COM1 + 3, 0x80)  # line control: the divisor shows in the first two registers
    code += out(COM1, 1)  # 115200 baud
    code += out(COM1 + 1, 0)
    code += out(COM1 + 3, 0x03)  # eight bits, no parity, one stop bit
    beginning = len(code)
    code += b"\xbe\x00\x00"  # mov si, message (address filled in below)
    message_reference = len(code) - 2
    following = len(code)
    code += b"\xac\x84\xc0"  # lodsb; test al, al
    code += b"\x74\x00"  # jz finished (distance filled in below)
    finished_reference = len(code) - 1
    code += b"\x88\xc4"  # mov ah, al
    code += b"\xba\xfd\x03"  # mov dx, COM1 + 5 (line status)
    code += b"\xec\xa8\x20\x74\xfb"  # in al, dx; test al, transmitter holding register empty; jz back to the in
    code += b"\x88\xe0\xba\xf8\x03\xee"  # mov al, ah; mov dx, COM1; out dx, al
    code += bytes([0xEB, (following - len(code) - 2) & 0xFF])  # jmp following
    code[finished_reference] = len(code) - finished_reference - 1
    code += b"\xba\xfd\x03"  # mov dx, COM1 + 5
    code += b"\xec\xa8\x40\x74\xfb"  # in al, dx; test al, transmitter empty; jz back to the in
    digits = len(line) - len(line.rstrip("0123456789")) if stay else 0
    if digits:
        code += b"\xbf\x00\x00"  # mov di, the last digit (address filled in below)
        digit_reference = len(code) - 2
        code += b"\xfe\x05\x80\x3d\x3a\x72\x06"  # inc byte [di]; cmp byte [di], '9' + 1; jb over the next three
        code += b"\xc6\x05\x30\x4f\xeb\xf3"  # mov byte [di], '0'; dec di; jmp back to the inc
    if stay:
        # sti; mov cx, TICKS; hlt; loop back to the hlt: the timer ends each hlt
        wait = bytes([0xB9, TICKS & 0xFF, TICKS >> 8, 0xF4, 0xE2, 0xFD])
        code += b"\xfb" + (WRITES_ITSELF if write else b"") + (reads(mebibytes) if mebibytes else wait)
        # What was typed goes where the line goes. mov ah, 1; int 0x16; jz over the rest: no key is waiting
        code += b"\xb4\x01\xcd\x16\x74\x16"
        code += b"\x30\xe4\xcd\x16\x88\xc4"  # xor ah, ah; int 0x16; mov ah, al
        code += b"\xba\xfd\x03\xec\xa8\x20\x74\xfb"  # as above: until the transmitter holding register is empty
        code += b"\x88\xe0\xba\xf8\x03\xee\xeb\xe4"  # mov al, ah; mov dx, COM1; out dx, al; jmp back to the first
        code += b"\xfa\xe9" + ((beginning - len(code) - 4) & 0xFFFF).to_bytes(2, "little")  # cli; jmp beginning
        # The BIOS's own handler looks for a keyboard each time, which the device model has to answer.
        code[handler_reference : handler_reference + 2] = (LOAD_ADDRESS + len(code)).to_bytes(2, "little")
        code += b"\x50\xb0\x20\xe6\x20\x58\xcf"  # push ax; mov al, 0x20; out 0x20, al; pop ax; iret
    else:
        # mov dx, PM1A_CONTROL; mov ax, SLP_EN; out dx, ax
        code += bytes([0xBA, PM1A_CONTROL & 0xFF, PM1A_CONTROL >> 8, 0xB8, SLP_EN & 0xFF, SLP_EN >> 8, 0xEF])
        code += b"\xf4\xeb\xfd"  # hlt; jmp back to the hlt
    code[message_reference : message_reference + 2] = (LOAD_ADDRESS + len(code)).to_bytes(2, "little")
    code += line.encode("ascii")
    if digits:
        code[digit_reference : digit_reference + 2] = (LOAD_ADDRESS + len(code) - 1).to_bytes(2, "little")
    code += b"\r\n\0"
    if len(code) > 440:
        raise ValueError(f"the line is {len(code) - 440} bytes too long for a boot sector")
    return bytes(code).ljust(SECTOR - 2, b"\0") + b"\x55\xaa"


# Where a kernel is loaded that does not say it can be elsewhere, and room for its stack.
KERNEL_ADDRESS = 0x100000
STACK_ADDRESS = 0x90000

# What writes a text at ESI to COM1, up to its end or that of its line. lodsb; test al, al; jz to the ret;
# cmp al, newline; je to the ret; mov ah, al; mov dx, COM1 + 5; in al, dx; test al, transmitter holding register empty;
# jz back to the in; mov al, ah; mov dl, COM1; out dx, al; jmp to the lodsb; ret
WRITES_TEXT = bytes.fromhex("ac 84c0 7416 3c0a 7412 88c4 66bafd03 ec a820 74fb 88e0 b2f8 ee ebe5 c3")


def kernel_image(line: str) -> bytes:
    """A kernel that is started as Linux is, by the 32-bit boot protocol (Linux Documentation/arch/x86/boot.rst).

    Raises ValueError for a line that is not ASCII.
    """
    code = bytearray(b"\xeb" + bytes([len(WRITES_TEXT)]) + WRITES_TEXT)  # jmp over it
    code += b"\xbc" + STACK_ADDRESS.to_bytes(4, "little") + b"\xfc\x89\xf3"  # mov esp, ...; cld; mov ebx, esi
    call = 5
    # cmd_line_ptr and ramdisk_image of struct boot_params, between texts of this kernel's own.
    texts = (line + " ", 0x228, " ", 0x218, "\r\n")
    # mov esi, a text; or mov esi, [ebx + field]
    length = len(code) + sum(call + (5 if isinstance(text, str) else 6) for text in texts)
    power_off = b"\x66\xba\xfd\x03\xec\xa8\x40\x74\xfb"  # mov dx, COM1 + 5; in al, dx; until all is transmitted
    # mov dx, PM1A_CONTROL; mov ax, SLP_EN; out dx, ax; hlt; jmp back to the hlt
    power_off += b"\x66\xba" + PM1A_CONTROL.to_bytes(2, "little") + b"\x66\xb8" + SLP_EN.to_bytes(2, "little")
    power_off += b"\x66\xef\xf4\xeb\xfd"
    own = b""
    for text in texts:
        if isinstance(text, str):
            code += b"\xbe" + (KERNEL_ADDRESS + length + len(power_off) + len(own)).to_bytes(4, "little")
            own += text.encode("ascii") + b"\0"
        else:
            code += b"\x8b\xb3" + text.to_bytes(4, "little")
        code += b"\xe8" + ((2 - len(code) - call) & 0xFFFFFFFF).to_bytes(4, "little")
    code += power_off + own
    setup = bytearray(2 * SECTOR)
    fields = {
        0x1F1: b"\1",  # setup_sects
        0x1F4: (-(-len(code) // 16)).to_bytes(4, "little"),  # syssize
        0x1FE: b"\x55\xaa",
        0x200: b"\xeb\x66HdrS\x0c\x02",  # a jump over the header, its magic, its version
        0x211: b"\1",  # loadflags: above 1 MiB
        0x214: KERNEL_ADDRESS.to_bytes(4, "little"),  # code32_start
        0x22C: (0x37FFFFFF).to_bytes(4, "little"),  # initrd_addr_max
        0x230: KERNEL_ADDRESS.to_bytes(4, "little"),  # kernel_alignment
        0x238: (0x7FF).to_bytes(4, "little"),  # cmdline_size
        0x258: KERNEL_ADDRESS.to_bytes(8, "little"),  # pref_address
        0x260: (1 << 16).to_bytes(4, "little"),  # init_size
    }
    for place, value in fields.items():
        setup[place : place + len(value)] = value
    return bytes(setup + code)


def partition_table(sectors: int) -> bytes:
    """A first sector without code: one active Linux partition of so many sectors at PARTITION_START."""
    entry = b"\x80\xfe\xff\xff\x83\xfe\xff\xff"
    entry += (PARTITION_START // SECTOR).to_bytes(4, "little") + sectors.to_bytes(4, "little")
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"


class Entry(NamedTuple):
    """One file of a cpio archive; device is (major, minor) of a character device."""

    name: str
    mode: int
    content: bytes = b""
    device: Sequence[int] = (0, 0)


def cpio(entries: Sequence[Entry]) -> bytes:
    """An archive in the newc format (Linux driver-api/early-userspace/buffer-format.rst), all owned by root."""
    archive = bytearray()
    for number, entry in enumerate([*entries, Entry("TRAILER!!!", 0)], 1):
        name = entry.name.encode() + b"\0"
        # inode, mode, uid, gid, links, mtime, size, device, device of a special file, length of the name, checksum
        fields = [number, entry.mode, 0, 0, 1, 0, len(entry.content), 0, 0, *entry.device, len(name), 0]
        archive += b"070701" + b"".join(b"%08x" % field for field in fields) + name
        archive += bytes(-len(archive) % 4) + entry.content
        archive += bytes(-len(archive) % 4)
    return bytes(archive)


def init_script(line: str, stay: bool = False) -> str:
    """What process 1 of the Linux guest does."""
    say = f"/bin/busybox printf '%s\\n' {shlex.quote(line)}"
    text = line.rstrip("0123456789")
    if stay and text != line:
        width, first = len(line) - len(text), int(line[len(text) :])
        say = f"n=$((${{n:-{first}}} + 1))\n/bin/busybox printf '%s%0{width}d\\n' {shlex.quote(text)} $n"
    if stay:
        return f"#!/bin/busybox sh\nwhile :; do\n{say}\n/bin/busybox sleep {INTERVAL}\ndone\n"
    return f"#!/bin/busybox sh\n{say}\n/bin/busybox poweroff -f\n"


def initramfs(line: str, busybox: bytes, stay: bool = False) -> bytes:
    """A root file system in memory: busybox, a console and the init that prints the line."""
    return cpio(
        [
            Entry("bin", 0o40755),
            Entry("bin/busybox", 0o100755, busybox),
            Entry("dev", 0o40755),
            Entry("dev/console", 0o20600, device=(5, 1)),
            Entry("init", 0o100755, init_script(line, stay).encode()),
            # What Linux runs when the toolstack asks for a shutdown (poweroff_cmd, kernel/reboot.c).
            Entry("sbin", 0o40755),
            Entry("sbin/poweroff", 0o100755, b"#!/bin/busybox sh\nexec /bin/busybox poweroff -f\n"),
        ]
    )


def packed_initramfs(line: str, stay: bool) -> bytes:
    """The same with the busybox of this machine, packed."""
    return gzip.compress(initramfs(line, Path("/bin/busybox").read_bytes(), stay), 1, mtime=0)


GRUB_CFG = """\
set default=0
set timeout=0
menuentry 'payload' {
    linux /boot/vmlinuz console=hvc0 quiet panic=1
    initrd /boot/initrd.img
}
"""


def write_hvm(output: Path, line: str, stay: bool, mebibytes: int = 0, write: bool = False) -> None:
    """Writes the HVM disk: 1 MiB, of which the first sector counts; or so many, where the guest reads them."""
    with output.open("wb") as disk:
        disk.write(boot_sector(line, stay, mebibytes, write))
        if output.is_file():
            disk.truncate(1024 * 1024)
        # A file without holes.
        for _ in range(mebibytes):
            disk.write(bytes(1024 * 1024))


def make_file_system(image: Path, filesystem: str, root: Path, mebibytes: int) -> None:
    """Makes a file system with the files of `root` in it, silently."""
    # Where there is no file, mke2fs reports that it creates one, even with -q (misc/util.c, check_plausibility).
    image.touch()
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", filesystem, "-d", str(root), str(image), f"{mebibytes}M"],
        check=True, env={**os.environ, "PATH": path},
    )  # fmt: skip


def write_linux(output: Path, line: str, stay: bool, kernel: bytes, filesystem: str, partitioned: bool) -> None:
    """Writes a Linux disk: a file system with grub.cfg, kernel and initramfs, on the bare disk or in a partition."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "root"
        grub = root / "boot" / "grub"
        grub.mkdir(parents=True)
        (root / "boot" / "vmlinuz").write_bytes(kernel)
        (grub / "grub.cfg").write_text(GRUB_CFG)
        (root / "boot" / "initrd.img").write_bytes(packed_initramfs(line, stay))
        used = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        mebibytes = used // 1024 // 1024 + 16
        image = Path(name) / "file-system"
        make_file_system(image, filesystem, root, mebibytes)
        with output.open("wb") as disk:
            if partitioned:
                disk.write(partition_table(mebibytes * 1024 * 1024 // SECTOR))
                disk.seek(PARTITION_START)
            disk.write(image.read_bytes())


def main(arguments: Sequence[str]) -> int:
    """Writes the file that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("hvm", "linux", "ramdisk", "kernel"))
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="the file to write")
    parser.add_argument("--say", required=True, metavar="LINE", help="what the guest prints")
    parser.add_argument(
        "--stay",
        action="store_true",
        help="the guest repeats its line, and counts up a number at its end, instead of powering off",
    )
    parser.add_argument(
        "--read",
        type=int,
        choices=range(1, MOST_MEBIBYTES + 1),
        default=0,
        metavar="MIB",
        help="hvm: read so much of the disk between two lines, with --stay",
    )
    parser.add_argument(
        "--write", action="store_true", help="hvm: write the number to the disk after each line, with --stay"
    )
    parser.add_argument("--partitioned", action="store_true", help="linux: put the file system in a partition")
    parser.add_argument(
        "--filesystem",
        choices=("ext2", "ext4"),
        default="ext4",
        help="linux: kind of file system (default: %(default)s)",
    )
    parser.add_argument(
        "--kernel",
        type=Path,
        default=Path("/boot/vmlinuz-" + os.uname().release),
        help="linux: default is the running one",
    )
    asked = parser.parse_args(arguments)
    try:
        if asked.kind == "hvm":
            write_hvm(asked.output, asked.say, asked.stay, asked.read, asked.write)
        elif asked.kind == "kernel":
            asked.output.write_bytes(kernel_image(asked.say))
        elif asked.kind == "ramdisk":
            asked.output.write_bytes(packed_initramfs(asked.say, asked.stay))
        else:
            kernel = asked.kernel.read_bytes()
            write_linux(asked.output, asked.say, asked.stay, kernel, asked.filesystem, asked.partitioned)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"payload.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
