# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may stand in a guest's options."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._guests import options
from ansible_collections.xen.stubdom.plugins.module_utils._xen.xl_keys import KEYS


def validate(asked: dict[str, Any], flavour: str = "linux", *, weaker: bool = False) -> None:
    guest = "hvm" if flavour in ("linux", "minios") else "pv"
    options.validate(asked, name="web", guest=guest, flavour=flavour, version=(4, 20), weaker=weaker)


def test_every_key_that_is_named_is_one_of_xl() -> None:
    assert set(options.MANAGED) | set(options.WEAKER) <= set(KEYS)


@pytest.mark.parametrize(
    ("asked", "flavour", "message"),
    [
        ({"sdl": 1}, "linux", "options.sdl cannot work with the flavour linux: its screen is the parameter screen."),
        ({"sdl": 1}, "minios", None),
        ({"spice": True}, "linux", "options.spice cannot work with the flavour linux"),
        ({"spice": True}, "minios", "options.spice cannot work with the flavour minios"),
        ({"spice": False}, "linux", None),
        ({"vfb": ["vnc=1"]}, "linux", "options.vfb cannot work with the flavour linux"),
        ({"vfb": ["vnc=1"]}, "grub2", None),
        ({"vncdisplay": 1}, "linux", "options.vncdisplay cannot work"),
        ({"vncdisplay": 1}, "minios", None),
        (
            {"dm_restrict": 1},
            "linux",
            "options.dm_restrict cannot work with the flavour linux: they confine a QEMU in dom0",
        ),
        ({"device_model_user": "qemu"}, "minios", "options.device_model_user cannot work"),
        ({"pci": ["00:1b.0"]}, "linux", "options.pci has 00:1b.0, which a Linux stub domain drives in permissive mode"),
        ({"pci": ["00:1b.0,permissive=1"]}, "linux", None),
        ({"pci": ["00:1b.0"], "pci_permissive": True}, "linux", None),
        ({"pci": ["00:1b.0"]}, "minios", None),
        ({"pci": ["00:1b.0"]}, "grub2", None),
    ],
)
def test_what_contradicts_a_flavour_is_refused_whatever_is_allowed(
    asked: dict[str, Any], flavour: str, message: str | None
) -> None:
    if message is None:
        validate(asked, flavour, weaker=True)
        return
    with pytest.raises(UserError) as refused:
        validate(asked, flavour, weaker=True)
    assert message in str(refused.value) and refused.value.remedy.endswith(".")


@pytest.mark.parametrize("key", sorted(options.MANAGED))
def test_what_parameters_say_is_not_said_again(key: str) -> None:
    with pytest.raises(UserError, match=f"^options.{key} is not allowed") as refused:
        validate({key: 1})
    assert refused.value.remedy.endswith("leave the option out.")


def test_what_runs_in_dom0_may_be_named_where_it_does() -> None:
    for asked in ({"bootloader": "pygrub"}, {"vnclisten": "127.0.0.1"}, {"device_model_version": "qemu-xen"}):
        validate(asked, "dom0")
        for flavour in ("linux", "grub2"):
            with pytest.raises(UserError, match="is not allowed, as other parameters"):
                validate(asked, flavour)


def test_a_value_is_judged_with_its_place() -> None:
    with pytest.raises(UserError, match=r"^options\.acpi is 'yes', which xl ignores"):
        validate({"acpi": "yes"})
