# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How domains are described."""

from __future__ import annotations

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._xen import domains
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Domain

DOM0 = Domain(0, "Domain-0", 1024, 1, "r")
WITH_STUB = {
    "/local/domain/3/vm": "/vm/74d0eec1-fe6e-402b-84b5-077b0f288fe4",
    "/local/domain/3/image/device-model-domid": "4",
    "/local/domain/4/target": "3",
    "/local/domain/4/device-model/3/state": "running",
    "/libxl/3/type": "hvm",
    "/libxl/3/dm-version": "qemu_xen",
    "/libxl/4/type": "pv",
}


def test_a_guest_and_its_stub_domain() -> None:
    guest, stub = domains.guests([DOM0, Domain(3, "web", 256, 2, "b"), Domain(4, "web-dm", 136, 1, "")], WITH_STUB)
    assert guest == {
        "name": "web",
        "domid": 3,
        "memory_mib": 256,
        "vcpus": 2,
        "state": "blocked",
        "uuid": "74d0eec1-fe6e-402b-84b5-077b0f288fe4",
        "device_model": {"version": "qemu-xen", "domid": 4, "state": "running", "stub_domain": True},
        "stub_domain_of": None,
    }
    assert (stub["device_model"], stub["stub_domain_of"], stub["state"]) == (None, "web", "running")


@pytest.mark.parametrize(("letters", "state"), [("s", "shutdown"), ("c", "crashed"), ("pd", "dying"), ("b", "running")])
def test_a_stub_domain_that_has_ended_does_not_serve_its_guest(letters: str, state: str) -> None:
    """Xenstore keeps what its device model has said."""
    rows = [DOM0, Domain(3, "web", 256, 2, "b"), Domain(4, "web-dm", 136, 1, letters)]
    assert domains.guests(rows, WITH_STUB)[0]["device_model"]["state"] == state


@pytest.mark.parametrize(
    ("changed", "device_model"),
    [
        # A target that does not point back, and one that points elsewhere.
        ({"/local/domain/4/target": None}, {"domid": 4, "stub_domain": False}),
        ({"/local/domain/4/target": "7"}, {"domid": 4, "stub_domain": False}),
        # A device model in dom0 has no node that says so.
        ({"/local/domain/3/image/device-model-domid": None}, {"domid": 0, "stub_domain": False, "state": None}),
        ({"/local/domain/4/device-model/3/state": None}, {"stub_domain": True, "state": None}),
        ({"/libxl/3/dm-version": "qemu_xen_traditional"}, {"version": "qemu-xen-traditional"}),
    ],
)
def test_a_name_with_dm_proves_nothing(changed: dict[str, str | None], device_model: dict[str, object]) -> None:
    nodes = {path: value for path, value in {**WITH_STUB, **changed}.items() if value is not None}
    there = [Domain(1, "first", 64, 1, "b"), Domain(3, "web", 256, 2, "b"), Domain(4, "web-dm", 136, 1, "b")]
    _first, guest, stub = domains.guests(there, nodes)
    assert device_model.items() <= guest["device_model"].items()
    assert stub["stub_domain_of"] == ("web" if guest["device_model"]["stub_domain"] else None)


@pytest.mark.parametrize(
    ("letters", "word"),
    [("", "running"), ("r", "running"), ("b", "blocked"), ("p", "paused"), ("sd", "dying"), ("ps", "shutdown")],
)
def test_states_are_the_words_of_xl(letters: str, word: str) -> None:
    assert domains.state(letters) == word


HOSTILE = (
    *("", "x", "4x", "-4", "4 ", "\u00b2", "\u0664", "9" * 5000, "4.0"),
    *("\\x00", "\x1b[31m", "a\u202eb", "running\n", "/vm/"),
)


@pytest.mark.parametrize("path", WITH_STUB)
@pytest.mark.parametrize("value", HOSTILE)
def test_no_value_in_xenstore_is_believed(path: str, value: str) -> None:
    rows = [DOM0, Domain(3, "web", 256, 2, "b"), Domain(4, "web-dm", 136, 1, "b")]
    found = domains.guests(rows, {**WITH_STUB, path: value})
    for text in [found[0]["uuid"], *(found[0]["device_model"] or {}).values()]:
        assert not isinstance(text, str) or (text.isascii() and text.isprintable() and len(text) <= 64)
    model = found[0]["device_model"]
    assert model is None or not model["stub_domain"] or path not in ("/local/domain/4/target",)
