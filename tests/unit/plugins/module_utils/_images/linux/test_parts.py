# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files become the Linux stub domain of a host, and what is said when one is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import image, parts

GOLDEN = Path(__file__).parents[1] / "fixtures" / "linux_stubdom"


def plan(host: Any) -> parts.Plan:
    major, minor = host.xen.split(".")
    return parts.plan(host.release, (int(major), int(minor)), root=str(host.root))


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


def test_a_module_that_is_built_in_is_not_needed(stubdom_host: Any) -> None:
    del stubdom_host.depends[f"kernel/fs/squashfs/squashfs.ko{stubdom_host.module_suffix}"]
    stubdom_host.write_depends()
    stubdom_host.put(f"{stubdom_host.modules}/modules.builtin", b"kernel/fs/squashfs/squashfs.ko\n")
    assert plan(stubdom_host).orders["start"] == "loop\n"


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
