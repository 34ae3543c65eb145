# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk image of a lab host: a Debian Xen host, made by mmdebstrap from this machine's own apt configuration."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

HERE = Path(__file__).resolve().parent
RELEASES = ("bookworm", "trixie")
PACKAGES = (
    # the Xen host
    "linux-image-amd64", "xen-system-amd64", "qemu-system-xen", "grub-pc", "grub-xen-host",
    # what makes it a machine one can log in to
    "systemd-sysv", "udev", "kmod", "initramfs-tools", "zstd", "lz4", "procps", "openssh-server", "ca-certificates",
    "bridge-utils", "iproute2", "iputils-ping", "ethtool", "less", "python3", "python3-apt",
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
DISK_BYTES = 10 * 1024**3
PARTITION_START = 1024**2
SECTOR = 512
# Seen at the peak of a build, and then some: the tree of mmdebstrap in TMPDIR; in the cache the same tree and the file
# system made of it.
NEEDED_TEMPORARY = 1500 * 1024**2
NEEDED_CACHE = 3000 * 1024**2
# Settings of this machine's apt that the image's apt needs too, to reach and to accept the same package sources.
CARRIED_APT_OPTIONS = ("acquire::http::", "acquire::https::", "acquire::check-date", "acquire::check-valid-until")


class LabError(Exception):
    """Something the caller can do something about: the first line says what is wrong, the second what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}\n{remedy}")


# program: (Debian package, what it is for)
TOOLS = {
    "mmdebstrap": ("mmdebstrap", "makes the root file system of a lab host"),
    "mke2fs": ("e2fsprogs", "makes its file system"),
    "tar": ("tar", "unpacks it"),
    "unshare": ("util-linux", "lets an ordinary user do so"),
    "newuidmap": ("uidmap", "lets an ordinary user make files of other users"),
    "qemu-system-x86_64": ("qemu-system-x86", "runs the lab host"),
    "qemu-img": ("qemu-utils", "makes its disk"),
    "ssh": ("openssh-client", "enters it"),
    "ssh-keygen": ("openssh-client", "makes its key"),
}


def tool(name: str) -> str:
    """The path of a program; also looks where the PATH of an ordinary user on Debian does not."""
    found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        package, purpose = TOOLS[name]
        raise LabError(
            f"The program {name}, which {purpose}, is not installed.", f"Install the Debian package {package}."
        )
    return found


# ---- where things are -----------------------------------------------------------------------------------------------


def base_directory() -> Path:
    """Everything that is kept between two calls."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xen.stubdom"


def cache_directory() -> Path:
    """Images and saved states, by key."""
    return base_directory() / "lab"


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


# ---- progress -------------------------------------------------------------------------------------------------------


class Progress:
    """Says on stderr what is being done, how long it took last time, and how long it has taken now."""

    def __init__(self, record: Path) -> None:
        self._record = record

    def _durations(self) -> dict[str, float]:
        try:
            return {str(key): float(value) for key, value in json.loads(self._record.read_text()).items()}
        except (OSError, ValueError, AttributeError):
            return {}

    def say(self, text: str) -> None:
        """One line of plain news."""
        print(f"xenlab: {text}", file=sys.stderr, flush=True)

    @contextmanager
    def step(self, text: str, kind: str) -> Iterator[None]:
        """A step that takes a while; its duration is remembered under `kind`."""
        last = self._durations().get(kind)
        self.say(text + (f" (last time {last:.0f} s)" if last is not None else "") + " ...")
        start = time.monotonic()
        yield
        taken = time.monotonic() - start
        self.say(f"  done in {taken:.1f} s")
        self._record.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._record, json.dumps({**self._durations(), kind: round(taken, 1)}, indent=1).encode())


def write_atomically(path: Path, content: bytes, mode: int = 0o644) -> None:
    """A reader sees the old content or the new one, never a part."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    os.chmod(file.name, mode)
    os.replace(file.name, path)


@contextmanager
def only_one(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Holds the lock file `path`; calls `waiting` first when another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


# ---- this machine's apt ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """One package source: what a one-line entry says."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""
    options: tuple[str, ...] = ()

    def line(self) -> str:
        """The one-line form, as sources.list and mmdebstrap take it."""
        options = [*self.options, *([f"signed-by={self.signed_by}"] if self.signed_by else [])]
        return " ".join(
            ["deb", *([f"[{' '.join(options)}]"] if options else []), self.uri, self.suite, *self.components]
        )


def parse_one_line(text: str) -> Iterator[Source]:
    """The binary sources of a file in the one-line format (sources.list(5))."""
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words or words[0] != "deb":
            continue
        rest = " ".join(words[1:])
        options: list[str] = []
        if rest.startswith("["):
            inside, _, rest = rest[1:].partition("]")
            options = inside.split()
        fields = rest.split()
        if len(fields) < 2:
            continue
        signed = "".join(option.partition("=")[2] for option in options if option.lower().startswith("signed-by="))
        kept = tuple(option for option in options if option.lower().startswith(("trusted=", "check-")))
        yield Source(fields[0], fields[1], tuple(fields[2:]), signed, kept)


def parse_deb822(text: str) -> Iterator[Source]:
    """The binary sources of a file in the deb822 format (sources.list(5)). A key written into the file is left out."""
    for paragraph in _paragraphs(text):
        if paragraph.get("enabled", "yes").lower() in ("no", "false", "0", "off", "without", "disable"):
            continue
        if "deb" not in paragraph.get("types", "").split():
            continue
        signed = paragraph.get("signed-by", "")
        if "BEGIN PGP" in signed:
            signed = ""
        kept = tuple(
            f"{key}={paragraph[key]}" for key in ("trusted", "check-date", "check-valid-until") if key in paragraph
        )
        for uri in paragraph.get("uris", "").split():
            for suite in paragraph.get("suites", "").split():
                yield Source(uri, suite, tuple(paragraph.get("components", "").split()), ",".join(signed.split()), kept)


def _paragraphs(text: str) -> Iterator[dict[str, str]]:
    fields: dict[str, str] = {}
    name = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield fields
            fields, name = {}, ""
        elif line[0] in " \t":
            if name:
                fields[name] += "\n" + line.strip()
        else:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()


def debian_sources(sources: Sequence[Source], codename: str, release: str) -> list[Source]:
    """This machine's Debian sources, pointed at another release: the same mirrors and keys, other suites.

    Only the release itself, its updates and its security fixes count; backports and other vendors' sources do not.
    """
    wanted = {
        f"{name}{pocket}": pocket
        for name in (codename, "stable", "oldstable")
        for pocket in ("", "-updates", "-security")
    }
    result = []
    for source in sources:
        if source.suite in wanted and "main" in source.components:
            derived = Source(source.uri, release + wanted[source.suite], ("main",), source.signed_by, source.options)
            if derived not in result:
                result.append(derived)
    if not any(source.suite == release for source in result):
        raise LabError(
            f"This machine's apt has no Debian package source for its own release ({codename}), "
            f"so there is none to take {release} from.",
            "Use a Debian machine, and see that /etc/apt/sources.list or sources.list.d names a Debian mirror.",
        )
    return result


def machine_sources(apt: Path = Path("/etc/apt")) -> list[Source]:
    """All binary package sources this machine knows."""
    result = []
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        if path.is_file() and path.suffix in (".list", ".sources"):
            parse = parse_deb822 if path.suffix == ".sources" else parse_one_line
            result += list(parse(path.read_text(errors="replace")))
    return result


def machine_codename(os_release: Path = Path("/etc/os-release")) -> str:
    """The code name of this machine's own release, empty when it has none."""
    for line in os_release.read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "VERSION_CODENAME":
            return value.strip("\"'")
    return ""


def carried_apt_options(dump: str) -> list[str]:
    """The lines of `apt-config dump` that decide whether a source can be reached and is accepted."""
    return [
        line
        for line in dump.splitlines()
        if line.lower().startswith(CARRIED_APT_OPTIONS) and not line.rstrip().endswith('"";')
    ]


# ---- recipe ---------------------------------------------------------------------------------------------------------


def recipe(release: str, setup: bytes) -> dict[str, object]:
    """Everything that decides what an image is like, apart from the state of the package archive."""
    return {
        "release": release,
        "packages": PACKAGES,
        "excluded": EXCLUDED,
        "setup": hashlib.sha256(setup).hexdigest(),
        "mke2fs": MKE2FS,
        "disk": [DISK_BYTES, PARTITION_START],
    }


def key_of(content: object) -> str:
    """A short name that differs whenever the content does."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def image_key(release: str) -> str:
    """The directory name of a release's image in the cache."""
    return f"{release}-{key_of(recipe(release, (HERE / 'setup.sh').read_bytes()))}"


def check_room(directory: Path, needed: int, free: int) -> None:
    """Refuses to begin what could not be finished. Sizes in bytes."""
    if free < needed:
        raise LabError(
            f"There is no room for the lab image: {directory} has {free / 1e9:.1f} GB free, "
            f"{needed / 1e9:.1f} GB are needed.",
            "Free some space there, or point XDG_CACHE_HOME and TMPDIR at a larger file system.",
        )


def boot_sectors(boot: bytes, core: bytes, disk_id: str, sectors: int) -> bytes:
    """The first sectors of the disk: GRUB's boot code, a table of one active Linux partition, GRUB's core image.

    boot is GRUB's boot.img, which loads the sector after it; core is what grub-mkimage made, which is to fit before the
    partition. sectors is the size of the partition.
    """
    first = PARTITION_START // SECTOR
    entry = bytes([0x80, 0xFE, 0xFF, 0xFF, 0x83, 0xFE, 0xFF, 0xFF])
    entry += first.to_bytes(4, "little") + sectors.to_bytes(4, "little")
    sector = boot[:440] + int(disk_id, 16).to_bytes(4, "little") + b"\0\0" + entry + bytes(48) + b"\x55\xaa"
    if len(sector) != SECTOR or len(core) > PARTITION_START - SECTOR:
        raise ValueError("GRUB's images do not fit before the partition")
    return sector + core


# ---- building -------------------------------------------------------------------------------------------------------


def end_as_by_ctrl_c() -> None:
    """Being told to end, or losing the terminal, cleans up as Ctrl-C does, except for what the caller has ignored.

    A shell ignores Ctrl-C for what it runs in the background, and nohup the loss of the terminal.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)


def die_with_parent() -> None:
    """To run in a new child, which must not go on alone when this process is killed (prctl(2), PR_SET_PDEATHSIG)."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)


def ensure(release: str, progress: Progress) -> Image:
    """The image of a release; made first when the cache does not have it."""
    image = Image(release, cache_directory() / image_key(release))
    if image.disk.exists():
        return image
    needed = ["mmdebstrap", "mke2fs", "tar", "ssh-keygen", *(["unshare", "newuidmap"] if os.geteuid() else [])]
    for name in needed:
        tool(name)
    lock = image.directory.with_name(image.directory.name + ".lock")
    with only_one(lock, lambda: progress.say(f"another xenlab is making the {release} image; waiting for it")):
        if not image.disk.exists():
            _build(image, progress)
    return image


def _as_root(script: str, **variables: str) -> list[str]:
    """A command that runs a shell script as root, or as a user who may make files of any owner."""
    assignments = "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
    shell = ["sh", "-euc", "PATH=$PATH:/usr/sbin:/sbin\n" + assignments + script]
    if os.geteuid() == 0:
        return shell
    return [tool("unshare"), "--user", "--map-root-user", "--map-auto", "--mount", "--kill-child", "--", *shell]


def _build(image: Image, progress: Progress) -> None:
    cache = image.directory.parent
    check_room(cache, NEEDED_CACHE, shutil.disk_usage(cache).free)
    temporary = Path(tempfile.gettempdir())
    check_room(temporary, NEEDED_TEMPORARY, shutil.disk_usage(temporary).free)
    sources = debian_sources(machine_sources(), machine_codename(), image.release)
    # What an interrupted build has left; nobody else can be at work on this key while we hold its lock.
    partial = image.directory.with_name(image.directory.name + ".partial")
    _remove(partial)
    partial.mkdir(mode=0o755)
    try:
        log = partial / "build.log"
        with log.open("wb") as output:
            try:
                with progress.step(f"making the {image.release} image from Debian packages", f"image {image.release}"):
                    _make_disk(partial, image.release, sources, output)
            except subprocess.CalledProcessError as error:
                kept = cache / "build.log"
                shutil.copyfile(log, kept)
                raise LabError(
                    f"The {image.release} image could not be made: {Path(error.cmd[0]).name} ended with status "
                    f"{error.returncode}.",
                    f"Its last words were: {_last_words(log)} (all of them are in {kept}).",
                ) from None
        log.unlink()
        partial.rename(image.directory)
    except BaseException:
        _remove(partial)
        raise


def _remove(partial: Path) -> None:
    """Removes a tree whose files may belong to the other users of the namespace it was made in."""
    if partial.exists():
        subprocess.run(_as_root('rm -rf "$tree"', tree=str(partial)), check=True)


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("E:", "W:", "mke2fs:"))] or lines
    return " / ".join(telling[-3:]) or "none"


def _make_disk(directory: Path, release: str, sources: Sequence[Source], output: BinaryIO) -> None:
    root_uuid = str(uuid.uuid4())
    disk_id = f"{uuid.uuid4().int & 0xFFFFFFFF:08x}"
    key = directory / "id_ed25519"
    subprocess.run(
        [tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "xenlab", "-f", str(key)],
        check=True,
        stdout=output,
    )
    options = carried_apt_options(
        subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
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
        *(f"--aptopt={option}" for option in options),
        *(f"--dpkgopt=path-exclude={path}" for path in EXCLUDED),
        f"--essential-hook=upload {shlex.quote(str(HERE / 'setup.sh'))} /root/setup.sh",
        "--essential-hook=" + setup % (root_uuid, disk_id, "before"),
        f"--customize-hook=upload {shlex.quote(str(key) + '.pub')} /root/authorized_keys",
        "--customize-hook=" + setup % (root_uuid, disk_id, "after"),
        release,
        "-",
        *(source.line() for source in sources),
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
        size=f"{(DISK_BYTES - PARTITION_START) // 1024}k",
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
    partition = directory / "partition"
    boot = directory / "boot.img"
    core = directory / "core.img"
    sectors = partition.stat().st_size // SECTOR
    head = boot_sectors(boot.read_bytes(), core.read_bytes(), disk_id, sectors)
    _prepend(partition, head, directory / "disk.raw")
    for part in (partition, boot, core):
        part.unlink()


def _prepend(partition: Path, head: bytes, disk: Path) -> None:
    """Writes the disk: the head, then at PARTITION_START the partition, holes kept as holes. Sizes in bytes."""
    with partition.open("rb") as source, disk.open("wb") as target:
        target.write(head)
        size = os.fstat(source.fileno()).st_size
        offset = 0
        while offset < size:
            try:
                start = os.lseek(source.fileno(), offset, os.SEEK_DATA)
            except OSError:
                break
            offset = os.lseek(source.fileno(), start, os.SEEK_HOLE)
            source.seek(start)
            target.seek(PARTITION_START + start)
            left = offset - start
            while left:
                piece = source.read(min(left, 1 << 22))
                target.write(piece)
                left -= len(piece)
        target.truncate(PARTITION_START + size)
