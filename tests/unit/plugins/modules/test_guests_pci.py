# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PCI devices of guests whose device model runs in a Linux stub domain: what that is told, and with which image.

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Dict

import pytest
import xen_host
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from xen_host import BOOT, Host

DEVICES = {"pci": ["00:1b.0,permissive=1"]}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    yield from xen_host.played(tmp_path, monkeypatch)


def image(host: Host, **more: Any) -> None:
    empty: Dict[str, Any] = {"sources": [], "compiler": None, "flags": None, "built": None, "sha256": None, "files": {}}
    words = {"kind": "linux", "xen": "4.20", "identity": "x", "memory_mib": 128, "command_line": "console=hvc0"}
    host.put(f"{BOOT}/linux.json", json.dumps({**empty, **words, **more}))


def run(host: Host, *, check: bool = False, **more: Any) -> Dict[str, Any]:
    given = {"name": "web", "type": "hvm", "memory": 256, "disks": [{"target": "/srv/web.img"}], **more}
    result = host.run({"allow_weaker_isolation": True, **given}, check=check)
    return {**result, **result["guests"][0], "changed": result["changed"]}


def test_the_stub_domain_is_told_of_devices(host: Host) -> None:
    image(host, pci=True)
    settings = run(host, options=DEVICES, stubdomain_cmdline="quiet")["settings"]
    assert settings["pci"] == DEVICES["pci"]
    assert settings["stubdomain_cmdline"] == "console=hvc0 stubdom.pci=yes quiet"
    assert not run(host, options=DEVICES, stubdomain_cmdline="quiet")["changed"]
    assert run(host, options={"pci": []})["settings"]["stubdomain_cmdline"] == "console=hvc0"


def test_an_image_of_ones_own_is_told_nothing(host: Host) -> None:
    image(host, pci=False)
    settings = run(host, options=DEVICES, stubdomain_ramdisk="/srv/own")["settings"]
    assert "stubdom.pci" not in settings.get("stubdomain_cmdline", "")


def test_an_image_without_the_driver(host: Host) -> None:
    image(host, pci=False)
    missing = "The image of the Linux stub domain has no driver for PCI devices, which web is given"
    with pytest.raises(UserError, match=missing):
        run(host, options=DEVICES, state="running")
    assert "has no driver for PCI devices" in str(run(host, options=DEVICES, state="running", check=True)["warnings"])


def test_a_device_in_restricted_mode(host: Host) -> None:
    image(host, pci=True)
    with pytest.raises(UserError, match="which a Linux stub domain drives in permissive mode only"):
        run(host, options={"pci": ["00:1b.0"]})


def test_a_host_without_an_iommu(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    image(host, pci=True)
    told = host.xl_info()[1]
    monkeypatch.setattr(host, "xl_info", lambda: (0, f"{told}virt_caps : pv hvm hap\n", ""))
    for check in (True, False):
        with pytest.raises(UserError, match="web is given PCI devices, and Xen has no IOMMU .* among hap hvm pv"):
            run(host, options=DEVICES, check=check)
    monkeypatch.setattr(host, "xl_info", lambda: (0, f"{told}virt_caps : pv hvm hvm_directio hap\n", ""))
    assert run(host, options=DEVICES)["changed"]
