# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that write files are asked for, in each state that a host may be in before."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ansible_collections.xen.stubdom.plugins.module_utils._boot import grub_menu, trial
from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions, files
from ansible_collections.xen.stubdom.plugins.module_utils._common import manifest as manifests
from ansible_collections.xen.stubdom.plugins.module_utils._common.manifest import Manifest
from ansible_collections.xen.stubdom.plugins.module_utils._images import (
    account,
    build_job,
    build_status,
    kept,
    releases,
    tarballs,
)
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch import http
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import kernel, needs, parts, upkeep
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux.parts import Part
from ansible_collections.xen.stubdom.plugins.modules import (  # noqa: F401 -- matrix.py finds them by name
    boot_default,
    boot_trial,
    dom0_mem,
    guests,
    linux_stubdom,
    stubdom_build,
    stubdom_install,
    stubdom_source,
    xl_conf,
)
from matrix import Scenario

XL_CONF = '# Global\n#autoballoon="auto"\nvif.default.script="vif-bridge"\n' * 30
HEADER = "# Managed by the Ansible collection xen.stubdom; changes are overwritten.\n"
GUEST = {
    "name": "web",
    "type": "pv",
    "flavour": "grub2",
    "memory": 256,
    "kernel": "{root}/grub.bin",
    "disks": [{"target": "{root}/disk.img"}],
    "autostart": True,
}
HOST = {"directory": "{root}/xen", "firmware_directory": "{root}/fw"}
GUESTS = {"guests": [GUEST], **HOST}
ABSENT = {"guests": [{"name": "web", "state": "absent"}], **HOST}
# Some are new, one is changed and one removed, in one transaction.
SEVERAL = {
    "guests": [GUEST, {**GUEST, "name": "db"}, {"name": "old", "state": "absent"}, {**GUEST, "name": "mail"}],
    **HOST,
}
PARTS: dict[str, tuple[bytes | str, int]] = {
    "grub.bin": ("g", 0o644),
    "disk.img": ("d", 0o644),
    "fw/hvmloader": ("h", 0o644),
}
OLD_GUEST: dict[str, tuple[bytes | str, int]] = {
    **PARTS,
    "xen/web.cfg": (HEADER + 'name = "web"\nmemory = 64\n', 0o600),
    "xen/auto/other.cfg": ("->../other.cfg", 0),
}
FIRST, SECOND, FOREIGN = b"A" * 30000, b"B" * 30000, b"the distribution's" * 2000


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def manifest(content: bytes, identity: str, **files: str) -> dict[str, Any]:
    return {
        "kind": "pv-grub",
        "xen": "4.20",
        "sources": [],
        "compiler": "gcc",
        "flags": "",
        "built": "2026-01-01T00:00:00Z",
        "sha256": digest(content),
        "identity": identity,
        "files": files,
    }


INSTALL = {
    "image": "pv-grub",
    "src": "{root}/src/image",
    "manifest": manifest(SECOND, "second"),
    "firmware_directory": "{root}/fw",
}
SOURCE: dict[str, tuple[bytes | str, int]] = {"src/image": (SECOND, 0o644), "fw/hvmloader": ("h", 0o644)}
NAMES = ("pv-grub-x86_64.gz", "pv-grub.gz")
OURS: dict[str, tuple[bytes | str, int]] = {
    **SOURCE,
    **{f"fw/{name}": (FIRST, 0o644) for name in NAMES},
    "fw/pv-grub-x86_64.json": (json.dumps(manifest(FIRST, "first", **dict.fromkeys(NAMES, digest(FIRST)))), 0o644),
}
PREVIOUS: dict[str, tuple[bytes | str, int]] = {
    "fw/pv-grub-x86_64.gz.previous": (SECOND, 0o644),
    "fw/pv-grub-x86_64.json.previous": (json.dumps(manifest(SECOND, "second", **{NAMES[0]: digest(SECOND)})), 0o644),
}
KERNEL, ROOTFS = "qemu-stubdom-linux-kernel", "qemu-stubdom-linux-rootfs"
LINUX = {"firmware_directory": "{root}/fw"}


def linux_manifest(content: bytes, identity: str) -> Manifest:
    files = {KERNEL: digest(content + b"kernel"), ROOTFS: digest(content)}
    return Manifest(
        kind="linux",
        xen="4.20",
        sources=[],
        compiler=None,
        flags=None,
        built="2026-01-01T00:00:00Z",
        sha256=digest(content),
        identity=identity,
        files=files,
    )


def linux_files(content: bytes, identity: str, ending: str = "") -> dict[str, tuple[bytes | str, int]]:
    return {
        f"fw/{KERNEL}{ending}": (content + b"kernel", 0o644),
        f"fw/{ROOTFS}{ending}": (content, 0o644),
        f"fw/linux.json{ending}": (linux_manifest(content, identity).render(), 0o644),
    }


class Assembly:
    """Has made an image already."""

    identity, most_bytes = "second", 0
    contents: dict[str, str] = {}  # noqa: RUF012 -- as the module reads it

    def __init__(self, *_arguments: object, **_options: object) -> None:
        pass

    def check(self) -> list[str]:
        return []

    def make(self) -> tuple[dict[str, bytes], Manifest]:
        return {KERNEL: SECOND + b"kernel", ROOTFS: SECOND}, linux_manifest(SECOND, self.identity)


def assembled() -> None:
    xen = SimpleNamespace(
        require_dom0=lambda: None,
        version=lambda: (4, 20),
        run=no_program,
        distribution=next(row for row in distributions.DISTRIBUTIONS if row.key == "debian"),
        path=lambda path: os.path.join(root(), path.lstrip("/")),
    )
    linux_stubdom.Xen = lambda *_arguments, **_options: xen
    parts.plan = lambda *_arguments, **_options: None
    upkeep.Assembly = Assembly


def no_program(arguments: list[str], **_options: object) -> tuple[int, str, str]:
    raise FileNotFoundError(arguments[0])


def root() -> str:
    return os.path.join(os.path.dirname(os.environ["FAULT_STATE"]), "root")


ROOTFS_PARTS = ("usr/bin/qemu", "lib/libc.so", "lib/modules/xen.ko")


def real_assembly() -> None:
    """linux_stubdom makes an image of the files below root; mksquashfs is played: what it packs is in its output."""
    assembled_by = upkeep.Assembly
    assembled()
    upkeep.Assembly = assembled_by
    linux_stubdom.ROOT = root()
    linux_stubdom.run_program = mksquashfs
    parts.plan = lambda *_arguments, **_options: parts.Plan(
        "6.1",
        Part("vmlinuz", "/boot/vmlinuz"),
        Part("bin/busybox", "/bin/busybox", 0o755),
        tuple(Part(name, "/" + name) for name in ROOTFS_PARTS),
        (),
        {"start": "", "later": "xen\n"},
        stand_ins={"lib/libspice-server.so.1": b"a library"},
        give_up_root="-run-with user=",
        chosen=parts.Choice(),
        evidence=needs.Evidence("".join(f"CONFIG_{option}=y\n" for option in needs.BUILT_IN), lambda: None),
    )
    kernel.header = lambda content: kernel.Header(len(content), None)
    manifests.now = lambda: "2026-01-01T00:00:00Z"
    files.SCRATCH_DIRECTORY = os.path.join(root(), "tmp")


def mksquashfs(arguments: list[str], **_options: object) -> tuple[int, str, str]:
    if arguments[0] != "mksquashfs":
        raise FileNotFoundError(arguments[0])
    tree, packed = Path(arguments[1]), Path(arguments[2])
    try:
        packed.write_bytes(b"".join(path.read_bytes() for path in sorted(tree.rglob("*")) if path.is_file()))
    except OSError as error:
        return 1, "", f"FATAL ERROR: {error.strerror}\n"
    return 0, "", ""


TREES = {"xen": {"directory": "{root}/xen"}, "mini_os": {"directory": "{root}/mini-os"}}
FETCHED = b"a library's source" * 2000
SOURCES = {
    "release": "4.17",
    "images": ["c"],
    "work_directory": "{root}/work",
    "checksums": {one.file: digest(FETCHED) for one in tarballs.needed(releases.find("4.17"), ["c"])},
    **TREES,
}


def one_account() -> None:
    """Who runs the module builds, as no other account is known where the faults are."""
    account.builder = lambda *_arguments: "builder"
    account.as_user = lambda _user, work: work()


def downloads() -> None:
    one_account()
    http._open = lambda *_arguments: (io.BytesIO(FETCHED), len(FETCHED))
    http.PAUSES = ()


def built() -> None:
    """A build has just ended, and root takes its image."""
    one_account()
    account.prepare = lambda *_arguments: None
    build_job.compiler = lambda _run: (12, "gcc 12")
    build_job.start = lambda *_arguments: None
    ended = {"state": "done", "stage": "image c", "seconds": {}, "log": "log", "images": ["c"]}
    build_status.watch = lambda *_arguments, **_options: {**ended, "unsealed": None, "unbounded": None, "memory_mib": 1}
    kept._content = lambda *_arguments: FETCHED
    manifests.now = lambda: "2026-01-01T00:00:00Z"


BUILD = {
    "release": "4.17",
    "images": ["c"],
    "work_directory": "{root}/work",
    "sources": [
        {"name": name, "kind": "directory", "origin": "/x", "version": "1", "path": "/x", "digest": "0"}
        for name in ("xen", "mini-os")
    ],
}

GRUB = 'GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX=""\nGRUB_CMDLINE_XEN="loglvl=all"\n'
XEN_CFG = "[global]\ndefault=xen\n[xen]\noptions=loglvl=all\nkernel=vmlinuz\n"
MENU_LST = "default 0\ntitle Xen\nroot (hd0,0)\nkernel /boot/xen.gz loglvl=all\nmodule /boot/vmlinuz\n"


LINUX_FIRST = "default 0\ntitle Debian\nroot (hd0,0)\nkernel /boot/vmlinuz\n" + MENU_LST.replace("default 0\n", "")

MENU = Path(__file__).parents[1] / "unit/plugins/module_utils/_boot/fixtures/trial/debian-12/grub.cfg"
TRIAL = {"options": {"dom0_mem": "1G,max:1G"}}
BLOCK = "boot/grub/grubenv"
BLOCK_HEAD = "# GRUB Environment Block\n"
TRIAL_HOST: dict[str, tuple[bytes | str, int]] = {
    "etc/default/grub": ("GRUB_TIMEOUT=5\n", 0o644),
    "boot/xen-4.17-amd64.gz": ("", 0o644),
    "boot/grub/grub.cfg": (MENU.read_text(), 0o644),
    "boot/grub/custom.cfg": ("# ours\n", 0o600),
    BLOCK: (BLOCK_HEAD, 0o644),
    "usr/sbin/update-grub": ("", 0o755),
    "usr/sbin/xenwatchdogd": ("", 0o755),
    "run/systemd/system/x": ("", 0o644),
    "etc/systemd/system/x": ("", 0o644),
    "var/lib/x": ("", 0o644),
    "proc/sys/kernel/random/boot_id": ("boot-1\n", 0o644),
    "proc/cmdline": ("quiet\n", 0o644),
}


def on_a_host_with_grub() -> None:
    """boot_trial on the tree, with GRUB's programs played: their own calls are not tried."""
    boot_trial.run = functools.partial(boot_trial.run, root=root())
    boot_trial.run_program = grub_program
    trial.time = SimpleNamespace(gmtime=lambda: None, strftime=lambda *_: "2026-01-01T00:00:00Z")


def grub_program(arguments: list[str], **_options: object) -> tuple[int, str, str]:
    tool, words = arguments[0], arguments[1:]
    if tool == "xl":
        numbers = "xen_major : 4\nxen_minor : 20\ntotal_memory : 4095\nfree_memory : 2900\n"
        return 0, f"{numbers}xen_commandline : placeholder loglvl=all\n", ""
    if tool == "grub-probe":
        return 0, "ext2\n" if words[0] == "--target=fs" else "\n", ""
    if tool == "grub-editenv":
        block = Path(words[0])
        try:
            variables = dict(grub_menu.environment(block.read_bytes()))
            for word in words[2:]:
                name, equals, value = word.partition("=")
                variables.pop(name, None)
                if equals:
                    variables[name] = value
            # It empties the file before it writes.
            block.write_text(BLOCK_HEAD + "".join(f"{name}={value}\n" for name, value in variables.items()))
        except OSError as error:
            return 1, "", f"grub-editenv: {error.strerror}\n"
    return 0, "", ""


# What the real grub-mkconfig makes entries of.
DEBIAN: dict[str, tuple[bytes | str, int]] = {
    "etc/default/grub": (GRUB, 0o644),
    "etc/default/grub.d/": ("", 0),
    "boot/grub/": ("", 0),
    "boot/xen-4.17-amd64.gz": ("a hypervisor\n", 0o644),
    "boot/vmlinuz-6.1.0-1-amd64": ("a kernel\n", 0o644),
    "boot/initrd.img-6.1.0-1-amd64": ("an initrd\n", 0o644),
    "boot/config-6.1.0-1-amd64": ("CONFIG_XEN_DOM0=y\n", 0o644),
}
# It would ask the disk below "/", which a directory does not have.
GRUB_PROBE = """\
#!/bin/sh
for word; do
  case "$word" in
    --target=device) echo /dev/vda1 ;;
    --target=fs) echo ext2 ;;
    --target=fs_uuid) echo 2f6e4f0a-0000-4000-8000-000000000001 ;;
    --target=drive) echo '(hd0,msdos1)' ;;
    --target=partmap) echo msdos ;;
  esac
done
"""


def with_grub_probe() -> None:
    path = Path(os.environ["FAULT_SYSTEM"], "usr/sbin/grub-probe")
    path.unlink()
    path.write_text(GRUB_PROBE)
    path.chmod(0o755)


XL = {"settings": {"autoballoon": "off"}, "path": "{root}/xen/xl.conf"}
MEMORY = {"size": "1G", "root": "{root}"}

ALL = (
    Scenario("xl_conf changed, mode 0640", "xl_conf", XL, {"xen/xl.conf": (XL_CONF, 0o640)}),
    Scenario("xl_conf new, in new directories", "xl_conf", {**XL, "path": "{root}/a/b/xl.conf"}, {}),
    Scenario("xl_conf changed, with a copy", "xl_conf", {**XL, "backup": True}, {"xen/xl.conf": (XL_CONF, 0o644)}),
    Scenario("guests new, autostart", "guests", GUESTS, PARTS),
    Scenario("guests changed, with a copy", "guests", {**GUESTS, "backup": True}, OLD_GUEST),
    Scenario("guests absent", "guests", ABSENT, {**OLD_GUEST, "xen/auto/web.cfg": ("->../web.cfg", 0)}),
    Scenario(
        "guests without autostart",
        "guests",
        {**GUESTS, "guests": [{**GUEST, "autostart": False}]},
        {**OLD_GUEST, "xen/auto/web.cfg": ("->../web.cfg", 0)},
    ),
    Scenario("guests absent, without autostart", "guests", ABSENT, OLD_GUEST),
    Scenario("guests, several", "guests", SEVERAL, {**OLD_GUEST, "xen/old.cfg": (HEADER + 'name = "old"\n', 0o644)}),
    Scenario("stubdom_install new", "stubdom_install", INSTALL, SOURCE),
    Scenario(
        "stubdom_install over a foreign image",
        "stubdom_install",
        INSTALL,
        {**SOURCE, "fw/pv-grub-x86_64.gz": (FOREIGN, 0o600)},
    ),
    Scenario("stubdom_install over an older image", "stubdom_install", INSTALL, OURS),
    Scenario(
        "stubdom_install absent, a foreign image before",
        "stubdom_install",
        {"image": "pv-grub", "state": "absent", "firmware_directory": "{root}/fw"},
        {**OURS, "fw/pv-grub-x86_64.gz.previous": (FOREIGN, 0o644)},
    ),
    Scenario(
        "stubdom_install rollback",
        "stubdom_install",
        {"image": "pv-grub", "state": "rollback", "firmware_directory": "{root}/fw"},
        {**OURS, **PREVIOUS},
    ),
    Scenario(
        "stubdom_install rollback to a foreign image",
        "stubdom_install",
        {"image": "pv-grub", "state": "rollback", "firmware_directory": "{root}/fw"},
        {**OURS, "fw/pv-grub-x86_64.gz.previous": (FOREIGN, 0o644)},
    ),
    Scenario("linux_stubdom new", "linux_stubdom", LINUX, {"fw/hvmloader": ("h", 0o644)}, assembled),
    Scenario(
        "linux_stubdom over a foreign image",
        "linux_stubdom",
        LINUX,
        {f"fw/{KERNEL}": (FOREIGN, 0o600), f"fw/{ROOTFS}": (FOREIGN, 0o600)},
        assembled,
    ),
    Scenario("linux_stubdom over an older image", "linux_stubdom", LINUX, linux_files(FIRST, "first"), assembled),
    Scenario(
        "linux_stubdom renewed with its packages",
        "linux_stubdom",
        {**LINUX, "renew_with_packages": True},
        {
            **linux_files(FIRST, "first"),
            "run/systemd/system/": ("", 0),
            "usr/bin/python3": ("", 0o755),
        },
        assembled,
    ),
    Scenario(
        "linux_stubdom absent, a foreign image before",
        "linux_stubdom",
        {**LINUX, "state": "absent"},
        {
            **linux_files(FIRST, "first"),
            f"fw/{KERNEL}.previous": (FOREIGN, 0o644),
            f"fw/{ROOTFS}.previous": (FOREIGN, 0o644),
        },
    ),
    Scenario(
        "linux_stubdom rollback",
        "linux_stubdom",
        {**LINUX, "state": "rollback"},
        {**linux_files(FIRST, "first"), **linux_files(SECOND, "second", ".previous")},
    ),
    Scenario(
        "linux_stubdom assembled of the host's files",
        "linux_stubdom",
        LINUX,
        {
            "fw/hvmloader": ("h", 0o644),
            "tmp/": ("", 0),
            **{name: (name * 5000, 0o644) for name in ("boot/vmlinuz", "bin/busybox", *ROOTFS_PARTS)},
        },
        real_assembly,
    ),
    Scenario(
        "stubdom_source downloads",
        "stubdom_source",
        SOURCES,
        {"xen/Config.mk": ("xen", 0o644), "mini-os/Config.mk": ("mini-os", 0o644)},
        downloads,
        records=("work/build/digests.json",),
        resumes=True,
    ),
    Scenario("stubdom_build keeps an image", "stubdom_build", BUILD, {"work/build/": ("", 0)}, built),
    Scenario("boot_trial armed", "boot_trial", TRIAL, TRIAL_HOST, on_a_host_with_grub, programs=True),
    Scenario(
        "boot_trial absent",
        "boot_trial",
        {"state": "absent"},
        TRIAL_HOST,
        on_a_host_with_grub,
        programs=True,
        before=(("boot_trial", TRIAL),),
    ),
    Scenario("dom0_mem grub2", "dom0_mem", MEMORY, {"etc/default/grub": (GRUB, 0o644), "etc/default/grub.d/": ("", 0)}),
    Scenario(
        "dom0_mem, the real grub-mkconfig",
        "dom0_mem",
        {"size": "1G"},
        DEBIAN,
        with_grub_probe,
        programs=True,
        before=(("dom0_mem", {"size": "2G"}),),
        parts=("boot", "etc/default"),
    ),
    Scenario(
        "boot_default, the real grub-mkconfig",
        "boot_default",
        {},
        DEBIAN,
        with_grub_probe,
        programs=True,
        before=(("dom0_mem", {"size": "2G"}),),
        parts=("boot", "etc/default"),
    ),
    Scenario(
        "boot_default grub_legacy, with a copy",
        "boot_default",
        {"root": "{root}", "loader": "grub_legacy", "backup": True},
        {"boot/grub/menu.lst": (LINUX_FIRST, 0o600), "boot/xen.gz": ("", 0o644)},
    ),
    Scenario(
        "boot_default absent, grub_legacy",
        "boot_default",
        {"root": "{root}", "loader": "grub_legacy", "state": "absent"},
        {"boot/grub/menu.lst": (LINUX_FIRST, 0o600), "boot/xen.gz": ("", 0o644)},
        before=(("boot_default", {"root": "{root}", "loader": "grub_legacy"}),),
    ),
    Scenario(
        "dom0_mem extlinux",
        "dom0_mem",
        {**MEMORY, "loader": "extlinux"},
        {"etc/update-extlinux.conf": ("default=lts\nxen_opts=loglvl=all\n", 0o644)},
    ),
    Scenario(
        "dom0_mem efi_cfg",
        "dom0_mem",
        {**MEMORY, "loader": "efi_cfg"},
        {
            "boot/efi/EFI/debian/xen.cfg": (XEN_CFG, 0o700),
            "boot/efi/EFI/debian/xen.efi": ("MZ", 0o700),
        },
    ),
    Scenario(
        "dom0_mem grub_legacy, with a copy",
        "dom0_mem",
        {**MEMORY, "loader": "grub_legacy", "backup": True},
        {"boot/grub/menu.lst": (MENU_LST, 0o644), "boot/xen.gz": ("", 0o644)},
    ),
)
