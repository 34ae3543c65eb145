# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk image of a lab host: a Debian Xen host, made by mmdebstrap from this machine's own apt configuration."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import apt_sources
import disk
import files
from errors import LabError
from programs import die_with_parent, tool
from progress import Progress

HERE = Path(__file__).resolve().parent
RELEASES = ("bookworm", "trixie")
PACKAGES = (
    # the Xen host
    "linux-image-amd64", "xen-system-amd64", "qemu-system-xen", "grub-pc", "grub-xen-host",
    # what makes it a machine one can log in to
    "systemd-sysv", "udev", "kmod", "initramfs-tools", "zstd", "lz4", "procps", "openssh-server", "ca-certificates",
    "bridge-utils", "iproute2", "iputils-ping", "ethtool", "less", "python3", "python3-apt",
    # for the network of guests
    "dnsmasq-base",
    # for making guests
    "busybox-static", "e2fsprogs", "squashfs-tools", "cpio",
)  # fmt: skip
# Files nobody looks at in a lab; half of the time of an image is spent writing files.
EXCLUDED = (
    "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/lintian/*",
    "/lib/modules/*/kernel/sound/*", "/usr/lib/modules/*/kernel/sound/*",
    "/lib/modules/*/kernel/drivers/gpu/*", "/usr/lib/modules/*/kernel/drivers/gpu/*",
    "/lib/modules/*/kernel/drivers/media/*", "/usr/lib/modules/*/kernel/drivers/media/*",
    "/lib/modules/*/kernel/drivers/infiniband/*", "/usr/lib/modules/*/kernel/drivers/infiniband/*",
    "/lib/modules/*/kernel/drivers/net/wireless/*", "/usr/lib/modules/*/kernel/drivers/net/wireless/*",
)  # fmt: skip
# GRUB 2.06 (Debian 12) cannot read a file system with the newer features that e2fsprogs of Debian 13 makes by default.
MKE2FS = ("-q", "-F", "-t", "ext4", "-O", "^metadata_csum_seed,^orphan_file", "-E", "root_owner=0:0")
# Seen at the peak of a build, and then some: the tree of mmdebstrap in TMPDIR; in the cache the same tree and the file
# system made of it.
NEEDED_TEMPORARY = 1500 * 1024**2
NEEDED_CACHE = 3000 * 1024**2


@dataclass(frozen=True)
class Image:
    """A finished image in the cache."""

    release: str
    directory: Path

    @property
    def disk(self) -> Path:
        """The raw disk, never written to once it is there."""
        return self.directory / "disk.raw"

    @property
    def ssh_key(self) -> Path:
        """The private key that opens every host made from this image."""
        return self.directory / "id_ed25519"


def recipe(release: str, setup: bytes) -> dict[str, object]:
    """Everything that decides what an image is like, apart from the state of the package archive."""
    return {
        "release": release,
        "packages": PACKAGES,
        "excluded": EXCLUDED,
        "setup": hashlib.sha256(setup).hexdigest(),
        "mke2fs": MKE2FS,
        "disk": [disk.BYTES, disk.PARTITION_START],
    }


def image_key(release: str) -> str:
    """The directory name of a release's image in the cache."""
    return f"{release}-{files.key_of(recipe(release, (HERE / 'setup.sh').read_bytes()))}"


def check_room(directory: Path, needed: int, free: int) -> None:
    """Refuses to begin what could not be finished. Sizes in bytes."""
    if free < needed:
        raise LabError(
            f"There is no room for the lab image: {directory} has {free / 1e9:.1f} GB free, "
            f"{needed / 1e9:.1f} GB are needed.",
            "Free some space there, or point XDG_CACHE_HOME and TMPDIR at a larger file system.",
        )


def ensure(release: str, progress: Progress) -> Image:
    """The image of a release; made first when the cache does not have it."""
    image = Image(release, files.cache_directory() / image_key(release))
    files.made_once(
        image.directory,
        lambda: progress.say(f"another xenlab is making the {release} image; waiting for it"),
        lambda partial: _build(partial, release, progress),
        remove=_remove,
    )
    return image


def _as_root(script: str, **variables: str) -> list[str]:
    """A command that runs a shell script as root, or as a user who may make files of any owner."""
    assignments = "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
    shell = ["sh", "-euc", "PATH=$PATH:/usr/sbin:/sbin\n" + assignments + script]
    if os.geteuid() == 0:
        return shell
    return [tool("unshare"), "--user", "--map-root-user", "--map-auto", "--mount", "--kill-child", "--", *shell]


def _build(directory: Path, release: str, progress: Progress) -> None:
    for name in ["mmdebstrap", "mke2fs", "tar", "ssh-keygen", *(["unshare", "newuidmap"] if os.geteuid() else [])]:
        tool(name)
    cache = directory.parent
    check_room(cache, NEEDED_CACHE, shutil.disk_usage(cache).free)
    temporary = Path(tempfile.gettempdir())
    check_room(temporary, NEEDED_TEMPORARY, shutil.disk_usage(temporary).free)
    apt_options, sources = apt_sources.mmdebstrap_words(release)
    directory.mkdir(mode=0o755)
    log = directory / "build.log"
    with log.open("wb") as output:
        try:
            with progress.step(f"making the {release} image from Debian packages", f"image {release}"):
                _make_disk(directory, release, apt_options, sources, output)
        except subprocess.CalledProcessError as error:
            kept = cache / "build.log"
            shutil.copyfile(log, kept)
            raise LabError(
                f"The {release} image could not be made: {Path(error.cmd[0]).name} ended with status "
                f"{error.returncode}.",
                f"It ended with: {_last_lines(log)} (the whole output is in {kept}).",
            ) from None
    log.unlink()


def _remove(partial: Path) -> None:
    """Removes a tree whose files may belong to the other users of the namespace it was made in."""
    if partial.exists():
        subprocess.run(_as_root('rm -rf "$tree"', tree=str(partial)), check=True)


def _last_lines(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("E:", "W:", "mke2fs:"))] or lines
    return " / ".join(telling[-3:]) or "none"


def _make_disk(directory: Path, release: str, apt_options: list[str], sources: list[str], output: BinaryIO) -> None:
    root_uuid = str(uuid.uuid4())
    disk_id = f"{uuid.uuid4().int & 0xFFFFFFFF:08x}"
    key = directory / "id_ed25519"
    subprocess.run(
        [tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "xenlab", "-f", str(key)],
        check=True,
        stdout=output,
    )
    setup = 'chroot "$1" env ROOT_UUID=%s DISK_ID=%s sh /root/setup.sh %s'
    bootstrap = [
        tool("mmdebstrap"),
        "--variant=minbase",
        f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
        "--architectures=amd64",
        "--format=tar",
        # It would empty /etc/machine-id.
        "--skip=cleanup/reproducible",
        f"--include={','.join(PACKAGES)}",
        *apt_options,
        *(f"--dpkgopt=path-exclude={path}" for path in EXCLUDED),
        f"--essential-hook=upload {shlex.quote(str(HERE / 'setup.sh'))} /root/setup.sh",
        "--essential-hook=" + setup % (root_uuid, disk_id, "before"),
        f"--customize-hook=upload {shlex.quote(str(key) + '.pub')} /root/authorized_keys",
        "--customize-hook=" + setup % (root_uuid, disk_id, "after"),
        release,
        "-",
        *sources,
    ]
    assemble = _as_root(
        """
        mkdir "$tree/root"
        tar --extract --numeric-owner --directory "$tree/root" --exclude './dev/*'
        cp "$tree/root/boot/grub/i386-pc/boot.img" "$tree/root/boot/grub/i386-pc/core.img" "$tree"
        mke2fs $options -U "$uuid" -d "$tree/root" "$tree/partition" "$size"
        rm -rf "$tree/root"
        chmod 644 "$tree/partition" "$tree/boot.img" "$tree/core.img"
        """,
        tree=str(directory),
        options=" ".join(MKE2FS),
        uuid=root_uuid,
        size=f"{(disk.BYTES - disk.PARTITION_START) // 1024}k",
    )
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    maker = subprocess.Popen(
        bootstrap, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=output,
        env=environment, preexec_fn=die_with_parent,  # noqa: PLW1509 -- there is one thread
    )  # fmt: skip
    assembler = subprocess.Popen(
        assemble,
        stdin=maker.stdout,
        stdout=output,
        stderr=output,
        env=environment,
        preexec_fn=die_with_parent,  # noqa: PLW1509 -- there is one thread
    )
    assert maker.stdout is not None
    maker.stdout.close()
    for process, command in ((maker, bootstrap), (assembler, assemble)):
        if process.wait() != 0:
            assembler.terminate()
            assembler.wait()
            raise subprocess.CalledProcessError(process.returncode, command)
    partition, boot, core = (directory / name for name in ("partition", "boot.img", "core.img"))
    sectors = partition.stat().st_size // disk.SECTOR
    head = disk.boot_sectors(boot.read_bytes(), core.read_bytes(), disk_id, sectors)
    disk.write(directory / "disk.raw", head, partition)
    for part in (partition, boot, core):
        part.unlink()
