# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._guests import listing

HVM = 'name = "appliance"\ntype = "hvm"\nmemory = 64\n'
STUB = "device_model_stubdomain_override = 1\n"


@pytest.mark.parametrize(
    ("text", "place", "flavour"),
    [
        (HVM, "dom0", None),
        (HVM + STUB + 'device_model_version = "qemu-xen"\n', "stub_domain", "linux"),
        (HVM + STUB + 'device_model_version = "qemu-xen-traditional"\n', "stub_domain", "minios"),
        # What libxl takes where it is not told (libxl__domain_build_info_setdefault @ stable-4.20).
        (HVM + STUB, "stub_domain", "minios"),
        ('name = "web"\nkernel = "/usr/lib/xen/boot/pv-grub-x86_64.gz"\n', "none", "legacy"),
    ],
)
def test_where_the_device_model_of_a_guest_that_does_not_run_would_be(text: str, place: str, flavour: str) -> None:
    (guest,) = listing.guests([], {}, {"/etc/xen/a.cfg": text.encode()}, {}, {})
    assert (guest["device_model"], guest["flavour"]) == (place, flavour)
