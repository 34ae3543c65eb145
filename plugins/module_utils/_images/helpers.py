# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the dom0 helper programs of the image ioemu (the rows are in releases.py):
# where they lie on a host, how they are recognised, and the program that serves the stub domain's consoles.

from __future__ import annotations

from types import MappingProxyType
from typing import Dict, Mapping, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._common import distributions
from ansible_collections.xen.stubdom.plugins.module_utils._common.distributions import Distribution
from ansible_collections.xen.stubdom.plugins.module_utils._common.requirement import Requirement
from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version, text

# Below the firmware directory, so that another release has its own; no file of the distribution's is in the way there.
DIRECTORY = "helpers"

# The name that rombios.c of hvmloader gives its BIOS is in the file only where it was compiled in.
MARK = b"ROMBIOS"

REMEDY = "Build it with the role xen.stubdom.stubdom_build, stubdom_build_images: [ioemu], stubdom_build_helpers: true"


def has_rombios(hvmloader: bytes) -> bool:
    """Whether ROMBIOS was compiled into an hvmloader."""
    return MARK in hvmloader


def directory(firmware_directory: str) -> str:
    """Return where our dom0 helper programs lie by default."""
    return f"{firmware_directory}/{DIRECTORY}"


def needs(
    firmware_directory: str,
    version: Optional[Version],
    *,
    row: Optional[Distribution] = None,
    ours: Optional[str] = None,
    named: Mapping[str, Optional[str]] = MappingProxyType({}),
) -> Dict[str, Requirement]:
    """Return what has to be there for a guest, by dom0 helper program.

    :param row: the host's distribution; without it, that of the host that this runs on.
    :param ours: our directory, where it is not the default one.
    :param named: paths that the user gives.
    """
    row = distributions.detect() if row is None else row
    ours = ours or directory(firmware_directory)
    loader, program = named.get("hvmloader"), named.get("qemu-dm")
    return {
        "hvmloader": Requirement(
            (loader,) if loader else (f"{ours}/hvmloader", f"{firmware_directory}/hvmloader"),
            "hvmloader with ROMBIOS",
            f"{REMEDY}, or name one with firmware_override: that of most distributions has none.",
            fits=has_rombios,
            key="firmware_override",
        ),
        "qemu-dm": Requirement(
            (program,) if program else (f"{ours}/qemu-dm", *distributions.programs("qemu-dm", row, version)),
            "the program in dom0 that serves the stub domain's consoles (qemu-dm)",
            f"{REMEDY}, or name one with device_model_override: most distributions ship none.",
            executable=True,
            key="device_model_override",
            own=None if program else _qemu(row, version),
        ),
    }


def _qemu(row: Distribution, version: Optional[Version]) -> Requirement:
    return Requirement(
        distributions.paths("qemu", row, version=text(version)),
        "QEMU for Xen, which our qemu-dm runs",
        f"Install {distributions.install_hint('qemu', row)}.",
        executable=True,
    )


# libxl starts the program for a stub domain with the arguments of qemu-xen-traditional, whatever the program is
# (libxl__build_device_model_args_old, libxl_dm.c @ stable-4.2 to 4.20). QEMU for Xen writes the word "running" that
# libxl waits for. A restored guest would need more (-loadvm), and is refused.
_QEMU_DM = """\
#!/bin/sh
# Made by the Ansible collection xen.stubdom: serves the consoles of a stub domain with the distribution's QEMU.
set -eu
domain='' name='' vnc='' unused=''
while [ $# -gt 0 ]; do
    case $1 in
        -d) domain=$2; shift ;;
        -domain-name) name=$2; shift ;;
        -vnc) vnc=$2; shift ;;
        -vncunused) unused=,to=99 ;;
        -nographic) ;;
        -M | -k) shift ;;
        -loadvm) echo "qemu-dm: a guest with this program in dom0 cannot be restored" >&2; exit 1 ;;
        *) echo "qemu-dm: $1 is left out" >&2 ;;
    esac
    shift
done
for qemu in {qemus}; do
    [ ! -x "$qemu" ] || exec "$qemu" -xen-domid "$domain" -xen-attach -machine xenpv -m 32 -name "$name" \\
        -nodefaults -no-user-config -no-shutdown -display none ${vnc:+-vnc "$vnc$unused"}
done
echo "qemu-dm: there is no QEMU for Xen; looked for {qemus}" >&2
exit 127
"""


def qemu_dm() -> str:
    """Return the program that serves a stub domain's consoles, whatever the host's distribution is."""
    return _QEMU_DM.replace("{qemus}", " ".join(distributions.paths("qemu", distributions.GENERIC, version="*")))
