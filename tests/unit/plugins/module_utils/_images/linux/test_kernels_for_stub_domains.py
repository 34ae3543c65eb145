# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the file of a kernel says, and which kernels are refused."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import struct
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import kernel, needs

SIZE = struct.pack("<I", 1)
PACKED = {
    "gzip": gzip.compress,
    "bzip2": lambda content: bz2.compress(content) + SIZE,
    "xz": lambda content: lzma.compress(content) + SIZE,
    "lzma": lambda content: lzma.compress(content, lzma.FORMAT_ALONE) + SIZE,
}


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"\x7fELF".ljust(4096, b"\0")])
def test_what_is_no_kernel(content: bytes) -> None:
    with pytest.raises(ValueError, match="no bzImage"):
        kernel.header(content)
    assert kernel.startable(content) is content.startswith(b"\x7fELF")


def test_a_header(make_kernel: Callable[..., bytes]) -> None:
    with pytest.raises(ValueError, match="no bzImage"):
        kernel.header(make_kernel(protocol=0x209))
    assert kernel.header(make_kernel(init_size=123456)) == kernel.Header(123456, None)
    assert kernel.header(make_kernel(release="6.12.1-lts")).release == "6.12.1-lts"
    # It names a directory.
    assert kernel.header(make_kernel(release="../../srv")).release is None


@pytest.mark.parametrize("pv", [True, False])
@pytest.mark.parametrize("packer", sorted(PACKED))
def test_whether_xen_can_start_a_kernel(
    make_kernel: Callable[..., bytes], make_vmlinux: Callable[..., bytes], packer: str, pv: bool
) -> None:
    unpacked = make_vmlinux(pv=pv)
    bzimage = make_kernel(packed=PACKED[packer](unpacked)) + b"a signature"
    assert kernel.unpack(kernel.payload(bzimage)) == unpacked
    assert kernel.starts_as_pv(unpacked) is kernel.startable(bzimage) is pv


def test_what_cannot_be_read_is_not_known(
    make_kernel: Callable[..., bytes], make_vmlinux: Callable[..., bytes]
) -> None:
    for packed in (b"", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\0", b"\x1f\x8b\x08\0"):
        assert not kernel.unpack(packed) and kernel.startable(make_kernel(packed=packed))
    whole = make_vmlinux()
    assert kernel.starts_as_pv(whole[:60]) is kernel.starts_as_pv(whole[:130]) is None
    assert kernel.starts_as_pv(b"text") is None


@pytest.mark.parametrize("content", [b"070701", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0"])
def test_archives(content: bytes) -> None:
    assert kernel.unpackable(content)
    assert not kernel.unpackable(b"\0" + content)


def evidence(written: Any = None, unpacked: Any = None) -> needs.Evidence:
    return needs.Evidence(written, lambda: unpacked)


def test_a_kernel_that_has_all(make_configuration: Callable[..., str], make_vmlinux: Callable[..., bytes]) -> None:
    for known in (
        evidence(make_configuration()),
        evidence(unpacked=make_vmlinux(configuration=make_configuration())),
        # Its file is better evidence than what was written of it.
        evidence(make_configuration("XEN_PV"), make_vmlinux()),
    ):
        assert needs.check("6.12", known) is None


@pytest.mark.parametrize("option", sorted(needs.BUILT_IN))
def test_a_kernel_without_what_the_stub_domain_needs(
    make_configuration: Callable[..., str], make_vmlinux: Callable[..., bytes], option: str
) -> None:
    without = make_configuration(option)
    for text in (without, f"{without}CONFIG_{option}=m\n", f"{without}# CONFIG_{option} is not set\n"):
        held = make_vmlinux(pv=option != "XEN_PV", configuration=text)
        for known in (evidence(text), evidence(unpacked=held)):
            with pytest.raises(UserError, match=rf"Linux 6.12 cannot run .* CONFIG_{option} \(") as refused:
                needs.check("6.12", known)
            assert "kernel_release" in refused.value.remedy


def test_a_kernel_that_is_not_for_pv_domains_whatever_was_written(
    make_configuration: Callable[..., str], make_vmlinux: Callable[..., bytes]
) -> None:
    with pytest.raises(UserError, match="CONFIG_XEN_PV"):
        needs.check("6.12", evidence(make_configuration(), make_vmlinux(pv=False)))


def test_what_is_not_known_is_no_reason_to_refuse(make_vmlinux: Callable[..., bytes]) -> None:
    for unpacked in (None, make_vmlinux(), make_vmlinux() + b"IKCFG_ST" + b"damaged"):
        warning = needs.check("6.12", evidence(unpacked=unpacked))
        assert warning is not None and "CONFIG_DEVTMPFS" in warning and "/boot/config-6.12" in warning
        assert ("CONFIG_XEN_PV" in warning) is (unpacked is None)


def test_the_guide_names_what_is_needed() -> None:
    guide = (Path(__file__).parents[6] / "roles/stubdom_build/README.md").read_text()
    rows = {row.split("|")[1].strip().split(":")[0]: row for row in guide.splitlines() if "BLK_DEV" in row}
    named = {what: re.findall(r"`(?:CONFIG_)?([A-Z0-9_]{3,})`", row.split("|")[1]) for what, row in rows.items()}
    assert named == {
        "built in": [option for option in needs.BUILT_IN if option != "XEN_PV"],
        "built in or as modules": [row.option for row in needs.MODULES.values()],
    }
