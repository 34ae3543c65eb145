# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files become the Linux stub domain of a host, and what is said when one is missing."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, List

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Answer
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import image, needs, parts

GOLDEN = Path(__file__).parents[1] / "fixtures" / "linux_stubdom"


def plan(host: Any, **chosen: str) -> parts.Plan:
    major, minor = host.xen.split(".")
    return parts.plan(parts.Choice(**chosen), (int(major), int(minor)), no_program, root=str(host.root))


def no_program(arguments: List[str], **_options: Any) -> Answer:
    raise FileNotFoundError(arguments[0])


@pytest.fixture(autouse=True)
def _running(stubdom_host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=stubdom_host.release))


def test_what_goes_in(stubdom_host: Any) -> None:
    planned = plan(stubdom_host)
    listing = image.listing("-", {part.name: part.path for part in planned.all_parts()})
    for group, order in planned.orders.items():
        listing += f"\nmodules of {group}, in this order:\n{order}"
    assert listing == (GOLDEN / f"xen-{stubdom_host.xen}.txt").read_text()


def test_a_library_that_is_named_and_never_used_is_a_stand_in(stubdom_host: Any) -> None:
    """Neither the library nor what it would bring has to be on the host."""
    planned = plan(stubdom_host)
    assert list(planned.stand_ins) == ["lib/libspice-server.so.1"]
    assert not [part for part in planned.parts if "spice" in part.name]


def test_a_library_is_taken_as_it_is_where_a_stand_in_might_not_do(
    stubdom_host: Any, make_elf: Callable[..., bytes]
) -> None:
    """Here another program takes a variable out of it."""
    spice = {"libspice-server.so.1": {"spice_version": "SPICE_SERVER_0.6.0"}}
    stubdom_host.library("libpcre2-8.so.0", ["libspice-server.so.1"], takes=spice, kind=1)
    with pytest.raises(UserError, match=r"libpcre2-8.so.0 needs the library libspice-server.so.1"):
        plan(stubdom_host)
    stubdom_host.library("libspice-server.so.1", ["libc.so.6"])
    planned = plan(stubdom_host)
    assert planned.stand_ins == {}
    assert "lib/libspice-server.so.1" in [part.name for part in planned.parts]


@pytest.mark.parametrize(
    ("help_text", "words"),
    [
        (b"-runas user     change to user id user", "-chroot /run/empty -runas "),
        (b"-run-with [async-teardown=on|off][,chroot=dir]", "-chroot /run/empty -runas "),
        (
            b"-run-with [async-teardown=on|off][,chroot=dir][user=username|uid:gid]",
            "-run-with chroot=/run/empty,user=",
        ),
    ],
)
def test_qemu_is_told_to_give_up_root_in_words_that_it_knows(stubdom_host: Any, help_text: bytes, words: str) -> None:
    qemu = stubdom_host.root / "usr/libexec/xen-qemu-system-i386"
    qemu.write_bytes(qemu.read_bytes() + help_text)
    assert plan(stubdom_host).give_up_root == words


def test_only_programs_and_libraries_are_executable(stubdom_host: Any) -> None:
    executable = {part.name.split("/")[0] for part in plan(stubdom_host).all_parts() if part.mode == 0o755}
    assert executable == {"bin", "lib", "lib64"}


@pytest.mark.parametrize(
    ("missing", "what", "package"),
    [
        ("usr/libexec/xen-qemu-system-i386", "xen-qemu is not on this host", "qemu-system-xen"),
        ("bin/busybox", "busybox is not on this host", "busybox-static"),
        ("usr/bin/xenstore", "xenstore is not on this host", "xenstore-utils"),
        ("usr/lib/xen-{xen}/bin/vchan-socket-proxy", "vchan-socket-proxy is not on this host", "xen-utils-{xen}"),
        ("usr/share/seabios/vgabios-stdvga.bin", "vgabios-stdvga.bin is not on this host", "seabios"),
        ("lib/x86_64-linux-gnu/libpcre2-8.so.0", "libglib-2.0.so.0 needs the library libpcre2-8.so.0", "package"),
        ("lib64/ld-linux-x86-64.so.2", "needs /lib64/ld-linux-x86-64.so.2", "libc6"),
        ("boot/vmlinuz-{release}", "no kernel /boot/vmlinuz-{release}", "linux-image-amd64"),
        ("lib/modules/{release}/modules.dep", "no /lib/modules/{release}/modules.dep", "reboot"),
    ],
)
def test_what_is_missing_is_named_with_its_package(stubdom_host: Any, missing: str, what: str, package: str) -> None:
    words = {"xen": stubdom_host.xen, "release": stubdom_host.release}
    (stubdom_host.root / missing.format(**words)).unlink()
    with pytest.raises(UserError) as refused:
        plan(stubdom_host)
    assert what.format(**words) in refused.value.what
    assert package.format(**words) in refused.value.remedy


def test_a_kernel_without_a_needed_module(stubdom_host: Any) -> None:
    del stubdom_host.depends[f"kernel/drivers/xen/xen-gntalloc.ko{stubdom_host.module_suffix}"]
    stubdom_host.write_depends()
    with pytest.raises(UserError, match="has no module xen-gntalloc, and it is not built in"):
        plan(stubdom_host)


def test_a_module_that_only_some_guests_need_may_be_missing(stubdom_host: Any) -> None:
    assert plan(stubdom_host).pci
    del stubdom_host.depends[f"kernel/drivers/pci/xen-pcifront.ko{stubdom_host.module_suffix}"]
    stubdom_host.write_depends()
    planned = plan(stubdom_host)
    assert not planned.pci and planned.orders["pci"] == ""


def test_a_module_that_is_built_in_is_not_needed(stubdom_host: Any) -> None:
    del stubdom_host.depends[f"kernel/fs/squashfs/squashfs.ko{stubdom_host.module_suffix}"]
    stubdom_host.write_depends()
    stubdom_host.put(f"{stubdom_host.modules}/modules.builtin", b"kernel/fs/squashfs/squashfs.ko\n")
    assert plan(stubdom_host).orders["start"] == "loop\n"


def another(host: Any, release: str, content: bytes, *, modules: str = "", name: str = "") -> None:
    """Install a second kernel, with the modules of the first."""
    host.put(name or f"boot/vmlinuz-{release}", content)
    shutil.copytree(host.root / host.modules, host.root / (modules or f"lib/modules/{release}"))


def test_another_kernel_that_is_installed(stubdom_host: Any, make_kernel: Callable[..., bytes]) -> None:
    another(stubdom_host, "6.15-other", make_kernel(release="6.15-other"))
    planned = plan(stubdom_host, release="6.15-other")
    assert (planned.release, planned.kernel.path) == ("6.15-other", "/boot/vmlinuz-6.15-other")
    assert all(part.path.startswith("/lib/modules/6.15-other/") for part in planned.start)
    assert plan(stubdom_host).release == stubdom_host.release


def test_a_kernel_whose_file_has_another_name(
    stubdom_host: Any, make_kernel: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Alpine names it."""
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release="6.12.1-0-lts"))
    another(stubdom_host, "6.12.1-0-lts", make_kernel(release="6.12.1-0-lts"), name="boot/vmlinuz-lts")
    assert plan(stubdom_host).kernel.path == "/boot/vmlinuz-lts"


def test_a_kernel_of_ones_own(stubdom_host: Any, make_kernel: Callable[..., bytes]) -> None:
    own = {"kernel": "/srv/linux/bzImage", "modules": "/srv/linux/modules"}
    another(
        stubdom_host, "6.15-own", make_kernel(release="6.15-own"), name="srv/linux/bzImage", modules="srv/linux/modules"
    )
    planned = plan(stubdom_host, **own)
    assert (planned.release, planned.kernel.path) == ("6.15-own", own["kernel"])
    assert all(part.path.startswith("/srv/linux/modules/kernel/") for part in planned.start)
    with pytest.raises(UserError, match=r"no /lib/modules/6.15-own/modules.dep"):
        plan(stubdom_host, kernel=own["kernel"])


@pytest.mark.parametrize("held", [True, False])
def test_a_kernel_without_modules(
    stubdom_host: Any, make_kernel: Callable[..., bytes], make_vmlinux: Callable[..., bytes], held: bool
) -> None:
    """What its drivers would be loaded with is said on its command line."""
    text = "".join(f"CONFIG_{row.option}=y\n" for row in needs.MODULES.values())
    packed = gzip.compress(make_vmlinux(configuration=text if held else None))
    stubdom_host.put("srv/linux/bzImage", make_kernel(release="6.15-own", packed=packed))
    if not held:
        stubdom_host.put("srv/linux/config-6.15-own", text.encode())
    planned = plan(stubdom_host, kernel="/srv/linux/bzImage")
    assert set(planned.orders.values()) == {""} and planned.start == ()
    assert planned.words == ("xen_privcmd.unrestricted=1", "xen_blkfront.feature_persistent=0")


def test_a_kernel_that_is_packed_by_zstd(
    stubdom_host: Any, make_kernel: Callable[..., bytes], make_vmlinux: Callable[..., bytes], tmp_path: Path
) -> None:
    packed = b"\x28\xb5\x2f\xfd" + b"packed" + b"size"
    stubdom_host.put(f"boot/vmlinuz-{stubdom_host.release}", make_kernel(packed=packed))
    # A host without zstd.
    assert plan(stubdom_host).evidence.starts_as_pv is None

    def zstd(arguments: List[str], **_options: Any) -> Answer:
        assert arguments[:2] == ["zstd", "-dqf"] and Path(arguments[2]).read_bytes() == packed[:-4]
        Path(arguments[4]).write_bytes(make_vmlinux(pv=False))
        return 0, "", ""

    version = tuple(map(int, stubdom_host.xen.split(".")))
    planned = parts.plan(parts.Choice(), version, zstd, root=str(stubdom_host.root))
    assert planned.evidence.starts_as_pv is False


@pytest.mark.parametrize(
    ("chosen", "what", "remedy"),
    [
        ({"release": "6.99"}, "There is no kernel /boot/vmlinuz-6.99", "modules are there of {release}"),
        ({"release": "../6.1"}, "kernel_release is '../6.1', which is no release", "uname -r"),
        ({"kernel": "/srv/none"}, "kernel is /srv/none, which is not there", "Correct kernel."),
        ({"kernel": "/bin/busybox"}, "/bin/busybox is no Linux kernel", "bzImage"),
        (
            {"kernel": "/bin/busybox", "modules": "/srv"},
            "kernel_modules is /srv, which is not there",
            "Correct kernel_modules.",
        ),
        ({"release": "6.15"}, "/boot/vmlinuz-6.15 is Linux 6.16, and not 6.15", "name another"),
    ],
)
def test_a_choice_that_is_none(
    stubdom_host: Any, make_kernel: Callable[..., bytes], chosen: dict[str, str], what: str, remedy: str
) -> None:
    stubdom_host.put("boot/vmlinuz-6.15", make_kernel(release="6.16"))
    with pytest.raises(UserError) as refused:
        plan(stubdom_host, **chosen)
    assert what in refused.value.what and remedy.format(release=stubdom_host.release) in refused.value.remedy


def test_a_busybox_with_libraries(stubdom_host: Any, make_elf: Callable[..., bytes]) -> None:
    stubdom_host.put("bin/busybox", make_elf(["libc.so.6"], interpreter="/lib64/ld-linux-x86-64.so.2"))
    with pytest.raises(UserError, match="/bin/busybox needs libraries") as refused:
        plan(stubdom_host)
    assert "busybox-static" in refused.value.remedy


def test_a_program_that_is_none(stubdom_host: Any) -> None:
    stubdom_host.put("usr/bin/xenstore", b"#!/bin/sh\nexec false\n".ljust(100))
    with pytest.raises(UserError, match="/usr/bin/xenstore cannot be read as a program"):
        plan(stubdom_host)


@pytest.mark.parametrize(
    ("path", "name"),
    [("kernel/drivers/xen/xen-evtchn.ko.xz", "xen_evtchn"), ("a/loop.ko", "loop"), ("x/8021q.ko.zst", "8021q")],
)
def test_name_of_a_module(path: str, name: str) -> None:
    assert parts.module_name(path) == name
