# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Callable, List

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import image, parts
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux.init import INIT


def names(archive: bytes) -> List[str]:
    """Names and permission bits of an archive, read the way the kernel does."""
    found = []
    at = 0
    while True:
        fields = [int(archive[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(13)]
        name = archive[at + 110 : at + 110 + fields[11] - 1].decode()
        if name == "TRAILER!!!":
            return found
        found.append(f"{fields[1]:06o} {name}")
        at += 110 + fields[11]
        at += -at % 4 + fields[6]
        at += -at % 4


def test_what_is_there_before_the_compressed_file_system() -> None:
    archive = image.archive(b"busybox", {"modules/loop.ko": b"m"}, "loop\n", b"squashfs")
    assert names(archive) == [
        "040755 bin",
        "100700 bin/busybox",
        "040755 dev",
        "020600 dev/console",
        "040755 host",
        "100644 host.squashfs",
        "100755 init",
        "120777 lib",
        "120777 lib64",
        "040755 modules",
        "100644 modules/loop.ko",
        "100644 modules/order",
        "040755 proc",
        "040755 run",
        "040755 sys",
    ]


def test_init_is_a_script() -> None:
    assert subprocess.run(["sh", "-n"], input=INIT, text=True, check=False, capture_output=True).stderr == ""
    assert INIT.startswith("#!/bin/busybox sh\n")


def test_init_loads_the_groups_that_are_planned() -> None:
    directories = re.findall(r"^ *load (\S+)$", INIT, re.MULTILINE)
    assert directories == ["/modules" if group == "start" else f"/host/modules/{group}" for group in parts.MODULES]


def test_init_starts_the_programs_that_are_planned() -> None:
    for program in parts.PROGRAMS:
        assert re.search(rf"\b{program.name.split('/')[-1]}\b", INIT)


@pytest.mark.parametrize(
    ("netdev", "network"),
    [
        # As libxl writes it for model=rtl8139 (seen with Xen 4.20).
        ("-netdev\ntype=tap,id=net0,ifname=vif17.0-emu,br=xenbr0,script=no,downscript=no\n", "yes"),
        ("-net\nnone\n", ""),
    ],
)
def test_init_sees_whether_the_guest_has_a_network(tmp_path: Path, netdev: str, network: str) -> None:
    arguments = tmp_path / "arguments"
    arguments.write_text(f"-name\na guest\n{netdev}-machine\nxenfv\n")
    loop = INIT[INIT.index("set --\n") : INIT.index("done < /run/arguments")] + f"done < {arguments}\n"
    done = subprocess.run(
        ["sh", "-c", loop + 'printf "%s|" "$network" "$@"'], capture_output=True, text=True, check=True
    )
    assert done.stdout == "|".join([network, *arguments.read_text().splitlines(), ""])


def test_each_interface_has_an_address_of_its_own() -> None:
    """They meet on the bridges of dom0, those of other stub domains, too."""
    words = re.search(r'hw ether "(\$\(printf .*\))"$', INIT, re.MULTILINE)
    assert words is not None
    found = []
    for domid, number in ((1, 0), (1, 1), (2, 0), (256, 0), (32751, 3)):
        script = f"domid={domid} number={number}; echo {words[1]}"
        found.append(subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.strip())
    assert found[0] == "fe:ff:00:01:00:fe" and found[-1] == "fe:ff:7f:ef:03:fe"
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("content", [b"", b"\0" * 4096])
def test_a_kernel_that_does_not_say_what_it_takes(content: bytes) -> None:
    with pytest.raises(ValueError, match="no bzImage"):
        image.kernel_bytes(content)


@pytest.mark.parametrize(
    ("kernel", "root", "mib"),
    [
        (55 << 20, 20 << 20, 123),  # QEMU takes more than unpacking did
        (55 << 20, 60 << 20, 175),  # while it is unpacked, the archive is there twice
        ((55 << 20) + 1, 20 << 20, 124),
    ],
)
def test_memory_is_what_the_larger_of_two_moments_takes(kernel: int, root: int, mib: int) -> None:
    assert image.memory_mib(kernel, root) == mib


def test_a_kernel_that_is_too_old(make_kernel: Callable[..., bytes]) -> None:
    with pytest.raises(ValueError, match="no bzImage"):
        image.kernel_bytes(make_kernel(protocol=0x209))
    assert image.kernel_bytes(make_kernel(init_size=123456)) == 123456


def test_packages_out_of_dpkg() -> None:
    owners = (
        "diversion by dash from: /bin/sh\n"
        "libc6:amd64: /lib/x86_64-linux-gnu/libc.so.6\n"
        "xen-utils-4.20, xen-other: /usr/lib/xen-4.20/bin/vchan-socket-proxy\n"
        "busybox-static: /bin/busybox\n"
    )
    assert image.packages(owners) == ["busybox-static", "libc6", "xen-other", "xen-utils-4.20"]


@pytest.mark.parametrize("path", ["/usr/bin/busybox", "/bin/busybox"])
def test_both_names_of_a_file_on_a_merged_usr(path: str) -> None:
    assert image.spellings(path) == ("/bin/busybox", "/usr/bin/busybox")
