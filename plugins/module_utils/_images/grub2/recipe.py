# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what an image of GRUB 2 is made of, and by which command.

from __future__ import annotations

import io
import tarfile
from typing import Dict, Iterable, List, Set

from ansible_collections.xen.stubdom.plugins.module_utils._images.grub2 import image, program

# To be raised when this code makes another image of the same modules.
RECIPE_NUMBER = 2

# What a menu of a guest may need, as far as the distribution has it: grub-mkconfig's menus load partition tables, file
# systems and packers by name, and one that is not there costs the guest ten seconds (grub_wait_after_message,
# grub-core/normal/menu.c). There is no driver for the network of a Xen guest in GRUB.
MODULES = (
    # scripts and menus
    "normal", "configfile", "memdisk", "tar", "test", "true", "echo", "sleep", "eval", "read", "regexp", "tr", "help",
    "minicmd", "ls", "cat", "loadenv", "search", "search_fs_file", "search_fs_uuid", "search_label", "probe", "halt",
    "reboot", "terminal", "keystatus", "date", "datetime", "gettext", "password", "password_pbkdf2", "blscfg",
    "increment", "syslinuxcfg", "legacycfg",
    # partition tables and volumes
    "part_msdos", "part_gpt", "part_bsd", "lvm", "diskfilter", "mdraid09", "mdraid1x", "raid5rec", "raid6rec",
    "cryptodisk", "luks", "luks2", "loopback", "gcry_rijndael", "gcry_sha1", "gcry_sha256", "gcry_sha512",
    # file systems
    "ext2", "xfs", "btrfs", "zstd", "f2fs", "fat", "exfat", "iso9660", "udf", "jfs", "reiserfs", "squash4", "zfs",
    # what is loaded
    "gzio", "xzio", "lzopio", "boot", "elf", "multiboot", "multiboot2",
    # pictures, as far as there is a frame buffer
    "all_video", "video", "video_fb", "font", "gfxterm", "gfxterm_background", "gfxmenu", "png", "jpeg",
)  # fmt: skip


# What starts one kernel from a CD, by a menu that is on it, too, and speaks on the guest's serial port and its screen.
CD_MODULES = (
    "normal", "echo", "sleep", "minicmd", "terminal", "serial", "biosdisk", "iso9660", "boot", "linux", "halt",
    "reboot",
)  # fmt: skip


def modules(there: Iterable[str], needs: str) -> List[str]:
    """The modules that become part of an image, with those that the loader of Linux needs.

    That loader comes with the program inside (program.LOADER), which loads and unloads it, so that no module is taken
    that would bring it: GRUB 2.12 unloads none that another one needs.

    :param there: names of files in the directory of the platform.
    :param needs: moddep.lst, a line for each module.
    """
    files = set(there)
    needed = {name: of.split() for name, _colon, of in (line.partition(":") for line in needs.splitlines())}

    def reached(name: str) -> Set[str]:
        found: Set[str] = set()
        waiting = [name]
        while waiting:
            new = set(needed.get(waiting.pop(), ())) - found
            found |= new
            waiting += new
        return found

    wanted = [name for name in MODULES if "linux" not in reached(name)]
    return [name for name in dict.fromkeys((*wanted, *needed.get("linux", ()))) if f"{name}.mod" in files]


def memdisk(loader: bytes) -> bytes:
    """The files inside an image, the same bytes every time.

    :param loader: the module that loads Linux.
    """
    content: Dict[str, bytes] = {
        "grub.cfg": program.PROGRAM.encode(),
        program.MENU: image.NO_MENU,
        program.LOADER: loader,
    }
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in content.items():
            # Without times and owners, which a new TarInfo has none of.
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return output.getvalue()


def command(program_path: str, platform: str, directory: str, scratch: str, chosen: Iterable[str]) -> List[str]:
    """Return the command that makes an image; one for a CD has nothing inside that could change.

    :param program_path: grub-mkimage.
    :param directory: the modules.
    :param scratch: where memdisk.tar and early.cfg are, and the image is to be.
    """
    return [
        program_path,
        f"--format={platform}",
        f"--directory={directory}",
        *(["--prefix=(cd)"] if image.on_cd(platform) else ["--prefix=(memdisk)", f"--memdisk={scratch}/memdisk.tar"]),
        f"--config={scratch}/early.cfg",
        f"--output={scratch}/image",
        *chosen,
    ]
