# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that write files are asked for, in each state that a host may be in before."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ansible_collections.xen.stubdom.plugins.modules import (  # noqa: F401 -- matrix.py finds them by name
    dom0_mem,
    guest_config,
    stubdom_install,
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
    "path": "{root}/xen/web.cfg",
    "firmware_directory": "{root}/fw",
    "autostart": True,
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
GRUB = 'GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX=""\nGRUB_CMDLINE_XEN="loglvl=all"\n'
XEN_CFG = "[global]\ndefault=xen\n[xen]\noptions=loglvl=all\nkernel=vmlinuz\n"
MENU_LST = "default 0\ntitle Xen\nroot (hd0,0)\nkernel /boot/xen.gz loglvl=all\nmodule /boot/vmlinuz\n"


XL = {"settings": {"autoballoon": "off"}, "path": "{root}/xen/xl.conf"}
MEMORY = {"size": "1G", "root": "{root}"}

ALL = (
    Scenario("xl_conf changed, mode 0640", "xl_conf", XL, {"xen/xl.conf": (XL_CONF, 0o640)}),
    Scenario("xl_conf new, in new directories", "xl_conf", {**XL, "path": "{root}/a/b/xl.conf"}, {}),
    Scenario("xl_conf changed, with a copy", "xl_conf", {**XL, "backup": True}, {"xen/xl.conf": (XL_CONF, 0o644)}),
    Scenario("guest_config new, autostart", "guest_config", GUEST, PARTS),
    Scenario("guest_config changed, with a copy", "guest_config", {**GUEST, "backup": True}, OLD_GUEST),
    Scenario(
        "guest_config absent",
        "guest_config",
        {"name": "web", "state": "absent", "path": "{root}/xen/web.cfg"},
        {**OLD_GUEST, "xen/auto/web.cfg": ("->../web.cfg", 0)},
    ),
    Scenario(
        "guest_config without autostart",
        "guest_config",
        {**GUEST, "autostart": False},
        {**OLD_GUEST, "xen/auto/web.cfg": ("->../web.cfg", 0)},
    ),
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
    Scenario("dom0_mem grub2", "dom0_mem", MEMORY, {"etc/default/grub": (GRUB, 0o644), "etc/default/grub.d/": ("", 0)}),
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
