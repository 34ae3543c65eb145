# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
from pathlib import Path

import payload
import pytest


def test_the_boot_sector_is_what_was_assembled() -> None:
    # Checked once by hand with a disassembler; the same bytes were seen to run.
    expected = (
        "fa31c08ed8fc" "bafb03b080ee" "baf803b001ee" "baf903b000ee" "bafb03b003ee"
        "be4a7c" "ac84c07412" "88c4" "bafd03" "eca82074fb" "88e0baf803ee" "ebe9"
        "bafd03" "eca84074fb" "ba04b0b80020ef" "f4ebfd"
    )  # fmt: skip
    sector = payload.boot_sector("hi")
    code = bytes.fromhex(expected)
    assert sector[: len(code)].hex() == code.hex()
    assert sector[len(code) :].rstrip(b"\0") == b"hi\r\n".ljust(510 - len(code), b"\0") + b"\x55\xaa"
    assert len(sector) == 512
    assert int.from_bytes(code[31:33], "little") - 0x7C00 == len(code)


def test_a_guest_that_stays_does_not_power_off() -> None:
    power_off = bytes.fromhex("ba04b0b80020ef")
    assert power_off in payload.boot_sector("hi")
    assert power_off not in payload.boot_sector("hi", stay=True)


def test_a_guest_that_stays_says_its_line_again() -> None:
    sector = payload.boot_sector("hi", stay=True)
    message = sector.index(b"\xbe" + (0x7C00 + sector.index(b"hi\r\n")).to_bytes(2, "little"))
    keys = sector.index(b"\xf4\xe2\xfd") + 3
    # mov ah, 1; int 0x16; jz; xor ah, ah; int 0x16; mov ah, al; until it is empty; mov al, ah; mov dx, COM1; out; jmp
    asked, got = "b401cd1674", "30e4cd1688c4bafd03eca82074fb88e0baf803eeeb"
    last = keys + 28
    assert sector[keys:last].hex() == f"{asked}16{got}e4" and 6 + 0x16 == 28 == 0x100 - 0xE4
    jump = last + 4
    assert sector[last : last + 2] == b"\xfa\xe9"  # cli; jmp
    assert jump + int.from_bytes(sector[jump - 2 : jump], "little", signed=True) == message
    handler = bytes.fromhex("50b020e62058cf")
    assert sector[jump:].startswith(handler + b"hi")
    # mov [8 * 4], handler: the timer's interrupt
    assert b"\xc7\x06\x20\x00" + (0x7C00 + jump).to_bytes(2, "little") in sector[:message]
    assert "while" in payload.init_script("hi", stay=True)


def test_a_number_at_the_end_of_a_line_that_is_repeated_is_counted() -> None:
    sector = payload.boot_sector("n 09", stay=True)
    last = 0x7C00 + sector.index(b"n 09") + 3
    # mov di, last digit; inc byte [di]; cmp byte [di], '9' + 1; jb +6; mov byte [di], '0'; dec di; jmp back to the inc
    counting = b"\xbf" + last.to_bytes(2, "little") + bytes.fromhex("fe05803d3a7206c605304febf3")
    assert sector.index(b"\xec\xa8\x40\x74\xfb" + counting + b"\xfb\xb9")
    assert b"\xfe\x05" not in payload.boot_sector("n 09") + payload.boot_sector("n", stay=True)


def test_a_linux_counts_as_well() -> None:
    script = payload.init_script("it's up 098", stay=True).replace("/bin/busybox", "")
    script = script.replace("while :", "for _ in 1 2 3").replace("sleep", ":").partition("\n")[2]
    counted = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert counted == "it's up 099\nit's up 100\nit's up 101\n"


def test_a_guest_that_reads_does_so_instead_of_waiting() -> None:
    # Checked once by hand with a disassembler; the same bytes were seen to run.
    packet = "6a00" * 4 + "680010 6a00 6a40 6a10 89e6 "
    each = "51 b442 b280 cd13 72fe 59 83440840 83540a00"
    reading = bytes.fromhex(f"fb{packet}b90008{each}e2{0x100 - len(bytes.fromhex(each)) - 2:02x}83c410b401cd16")
    assert reading in payload.boot_sector("n 0", stay=True, mebibytes=64)
    assert b"\xf4\xe2\xfd" not in payload.boot_sector("n 0", stay=True, mebibytes=64)
    assert int.from_bytes(payload.reads(payload.MOST_MEBIBYTES)[20:22], "little") == payload.MOST_MEBIBYTES * 32


def test_a_disk_that_is_read_has_something_to_read(tmp_path: Path) -> None:
    assert payload.main(["hvm", "--stay", "--say", "n 0", "--read", "2", str(tmp_path / "disk")]) == 0
    status = (tmp_path / "disk").stat()
    assert status.st_size >= 2 << 20 and status.st_blocks * 512 >= 2 << 20


def test_a_guest_that_writes_does_so_after_it_has_counted() -> None:
    # Checked once by hand with a disassembler; the same bytes were seen to run.
    writing = bytes.fromhex("fb 1e07 b80103 bb007c b90100 ba8000 cd13 b9")
    assert b"\xeb\xf3" + writing in payload.boot_sector("n 0", stay=True, write=True)
    assert writing not in payload.boot_sector("n 0", stay=True)


@pytest.mark.parametrize("line", ["x" * 400, "not ASCII: \u00e9"])
def test_lines_a_boot_sector_cannot_say(line: str) -> None:
    with pytest.raises(ValueError):
        payload.boot_sector(line)


def test_a_kernel_finds_its_texts_and_what_writes_them() -> None:
    kernel = payload.kernel_image("direct has booted:")
    assert (kernel[0x1F1], kernel[0x1FE:0x200], kernel[0x202:0x206], kernel[0x211]) == (1, b"\x55\xaa", b"HdrS", 1)
    code = kernel[2 * payload.SECTOR :]
    assert int.from_bytes(kernel[0x1F4:0x1F8], "little") * 16 >= len(code)
    assert code[2:].startswith(payload.WRITES_TEXT) and code[1] == len(payload.WRITES_TEXT)
    said = []
    at = code.index(b"\x89\xf3") + 2
    while code[at] in (0xBE, 0x8B):
        if code[at] == 0xBE:
            place = int.from_bytes(code[at + 1 : at + 5], "little") - payload.KERNEL_ADDRESS
            said.append(code[place:].split(b"\0")[0].decode())
            at += 5
        else:
            said.append(hex(int.from_bytes(code[at + 2 : at + 6], "little")))
            at += 6
        assert code[at] == 0xE8
        at += 5
        assert (at + int.from_bytes(code[at - 4 : at], "little", signed=True)) == 2
    # The fields of struct boot_params: cmd_line_ptr, and ramdisk_image.
    assert said == ["direct has booted: ", "0x228", " ", "0x218", "\r\n"]
    with pytest.raises(ValueError, match="ascii"):
        payload.kernel_image("é")


def test_a_cpio_archive_is_aligned_and_ends() -> None:
    archive = payload.cpio([payload.Entry("init", 0o100755, b"12345")])
    assert archive[:6] == b"070701"
    assert int(archive[14:22], 16) == 0o100755
    assert int(archive[54:62], 16) == 5
    assert archive[110:115] == b"init\0"
    assert archive[116:121] == b"12345"
    assert archive[124:130] == b"070701"
    assert b"TRAILER!!!\0" in archive
    assert len(archive) % 4 == 0


def test_the_line_survives_the_shell() -> None:
    assert "printf '%s\\n' 'it'\"'\"'s $HOME'" in payload.init_script("it's $HOME")


def test_the_partition_begins_at_one_mebibyte() -> None:
    sector = payload.partition_table(100)
    assert len(sector) == 512
    assert int.from_bytes(sector[454:458], "little") == 2048


def test_a_file_system_is_made_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    mke2fs = tmp_path / "mke2fs"
    mke2fs.write_text(f"#!/bin/sh\n[ -e {tmp_path}/image ] || echo Creating regular file\necho $* > {tmp_path}/words\n")
    mke2fs.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    payload.make_file_system(tmp_path / "image", "ext3", tmp_path / "root", 20)
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "words").read_text() == f"-q -F -t ext3 -d {tmp_path}/root {tmp_path}/image 20M\n"
