# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CD that a kernel of dom0 is on: what GRUB's own reader finds there, and what a BIOS does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.assembled import Source
from ansible_collections.xen.stubdom.plugins.module_utils._guests import boot_disc, menus

SECTOR = 2048
MENU = b"menu of " + bytes(3000)
LOADER = bytes(range(256)) * 11 + b"end"


def source(path: Path, content: bytes) -> Source:
    path.write_bytes(content)
    return Source(str(path), len(content))


def disc(*files: Source, loader: bytes = LOADER) -> bytes:
    parts = boot_disc.parts(loader, MENU, *files)
    return b"".join(part if isinstance(part, bytes) else Path(part.path).read_bytes() for part in parts)


@pytest.mark.skipif(shutil.which("grub-fstest") is None, reason="it needs the tools of GRUB 2")
@pytest.mark.parametrize("sizes", [(1, 0), (2048, 2049), (5000, None), (1_000_000, 3)])
def test_grub_reads_the_files(tmp_path: Path, sizes: tuple[int, int | None]) -> None:
    files = [
        source(tmp_path / name, name.encode()[:1] * size)
        for name, size in zip(("kernel", "initrd"), sizes)
        if size is not None
    ]
    image = tmp_path / "disc.iso"
    image.write_bytes(disc(*files))
    listed = subprocess.run(["grub-fstest", image, "ls", "(loop0)/"], capture_output=True, text=True, check=True)
    assert sorted(listed.stdout.split()) == sorted(["menu.cfg", *(Path(file.path).name for file in files)])
    given = dict(zip((menus.CD_KERNEL, menus.CD_INITRD), files))
    for name, file in {**given, menus.CD_MENU: source(tmp_path / "menu", MENU)}.items():
        subprocess.run(["grub-fstest", image, "cmp", f"(loop0){name}", file.path], check=True)
    # Behind the end GRUB would read nothing, and take it for the file.
    assert image.stat().st_size % (16 * SECTOR) == 0


def test_a_bios_finds_the_loader_and_the_loader_itself(tmp_path: Path) -> None:
    content = disc(source(tmp_path / "kernel", b"kernel"))
    assert (
        content[16 * SECTOR :][:7] == b"\1CD001\1"
        and content[17 * SECTOR :][:30] == b"\0CD001\1EL TORITO SPECIFICATION"
    )
    catalog = int.from_bytes(content[17 * SECTOR + 0x47 :][:4], "little") * SECTOR
    words = [int.from_bytes(content[at : at + 2], "little") for at in range(catalog, catalog + 32, 2)]
    assert sum(words) & 0xFFFF == 0 and words[-1] == 0xAA55
    entry = content[catalog + 32 :]
    # No emulation; at the usual segment; 2 KiB of it.
    assert (entry[0], entry[1], entry[2:4], entry[6:8]) == (0x88, 0, b"\0\0", b"\4\0")
    place = int.from_bytes(entry[8:12], "little")
    loader = content[place * SECTOR :][: len(LOADER)]
    assert loader[:8] == LOADER[:8] and loader[64:] == LOADER[64:] and loader[24:64] == bytes(40)
    table = [int.from_bytes(loader[at : at + 4], "little") for at in range(8, 24, 4)]
    rest = LOADER[64:] + b"\0"
    total = sum(int.from_bytes(rest[n : n + 4], "little") for n in range(0, len(rest), 4))
    assert table == [16, place, len(LOADER), total & 0xFFFFFFFF]


def test_the_volume_says_how_long_it_is(tmp_path: Path) -> None:
    content = disc(source(tmp_path / "kernel", b"k" * 5000), source(tmp_path / "initrd", b"i"))
    assert int.from_bytes(content[16 * SECTOR + 80 :][:4], "little") * SECTOR == len(content)
    assert int.from_bytes(content[16 * SECTOR + 84 :][:4], "big") * SECTOR == len(content)


def test_a_file_that_is_too_long_is_refused() -> None:
    with pytest.raises(
        ValueError, match="/srv/initrd has 4294967296 bytes, and a file on a disc has 4294965248 at most"
    ):
        boot_disc.parts(LOADER, b"", Source("/boot/vmlinuz", 1), Source("/srv/initrd", 1 << 32))
