# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.xen.stubdom.plugins.module_utils._guests import addresses

MAC = "00:16:3e:00:00:0a"


def test_leases() -> None:
    text = f"1767225600 {MAC.upper()} 192.0.2.7 web 01:{MAC}\n1767225601 {MAC} 192.0.2.8 * *\n"
    assert addresses.parse_leases(text) == {MAC: ["192.0.2.7", "192.0.2.8"]}


def test_a_file_that_is_just_being_written() -> None:
    for text in ("", "\n", "1767225600", f"1767225600 {MAC}", "duid 00:01:00:01:2d:65:14:9c:00:16:3e:00:00:0a"):
        assert addresses.parse_leases(text) == {}
    head = "IP address       HW type     Flags       HW address            Mask     Device\n"
    for text in ("", head, f"{head}192.0.2.7", f"{head}192.0.2.7 0x1 0x2"):
        assert addresses.parse_neighbours(text) == {}


def test_neighbours() -> None:
    text = f"IP address HW type Flags HW address Mask Device\n192.0.2.7 0x1 0x2 {MAC.upper()} * xenbr0\n"
    assert addresses.parse_neighbours(text) == {MAC: ["192.0.2.7"]}


def test_what_an_address_is_that_another_host_can_use() -> None:
    said = [
        "no address",
        "",
        "169.254.1.1",
        "127.0.0.1",
        "fe80::1",
        "224.0.0.1",
        "0.0.0.0",
        "192.0.2.7/24",
        "192.0.2.7",
    ]
    assert list(addresses.usable([*said, "2001:DB8::1"])) == ["192.0.2.7", "2001:db8::1"]
