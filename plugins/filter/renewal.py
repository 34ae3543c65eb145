# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: renewal
short_description: Find the guests whose device models have to be renewed
version_added: 0.1.0
description:
  - Returns which guests of a host run a stub domain whose image was replaced since, in the order in which the host
    starts them, as the module M(xen.stubdom.guests) takes them; and what else has to run in the end.
author:
  - The xen.stubdom authors (@xen-stubdom)
positional: noted
options:
  _input:
    description: RV(xen.stubdom.xen_info#module:guests) of the module M(xen.stubdom.xen_info).
    type: list
    elements: dict
    required: true
  noted:
    description: C(restart) of an earlier run that has not reached its end.
    type: list
    elements: dict
    default: []
  described:
    description:
      - Guests as the module M(xen.stubdom.guests) takes them. What they say about how they are stopped and waited for
        is returned with those of the same name.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Restart the guests with an old image
  xen.stubdom.guests:
    guests: "{{ (host.guests | xen.stubdom.renewal).restart }}"
"""

RETURN = r"""
_value:
  description:
    - C(restart) has the guests, with their states, C(running) the names of all guests that run, or are to run again.
      C(saved) has the names of those that could be saved and go on instead. C(refused) says in sentences what keeps
      guests from being restarted.
  type: dict
  sample:
    restart: [{name: web, path: /etc/xen/web.cfg, state: restarted}]
    running: [web, mail]
    saved: [web]
    refused: []
"""

from typing import Any, Callable, Dict, List, Mapping, Sequence

# How a guest is ended and waited for; everything else is in its file.
_WAITING = ("says", "wait_for", "timeout", "stop", "stop_timeout", "start_delay")
_RUNS = ("running", "blocked")


def renewal(
    guests: Sequence[Mapping[str, Any]],
    noted: Sequence[Mapping[str, Any]] = (),
    described: Sequence[Mapping[str, Any]] = (),
) -> Dict[str, Any]:
    """Return what is left to do on a host, and whether it can be done."""
    own = [guest for guest in guests if guest["stub_domain_of"] is None]
    alive = [guest for guest in own if guest["state"] in _RUNS]
    names = {guest["name"] for guest in alive}
    there = {guest["name"] for guest in own}
    # One without a domain may have been saved, and goes on then.
    lost = [
        {**guest, "state": "restarted" if guest["name"] in there else "running"}
        for guest in noted
        if guest["name"] not in names
    ]
    given = {guest["name"]: guest for guest in described}
    # Those first that an earlier run has shut down.
    outdated = sorted(filter(_outdated, alive), key=_place)
    restart = [*lost]
    for guest in outdated:
        waiting = {key: value for key, value in given.get(guest["name"], {}).items() if key in _WAITING}
        restart.append({"name": guest["name"], "path": guest["config"], "state": "restarted", **waiting})
    expected = {guest["name"] for guest in lost}
    return {
        "restart": restart,
        "running": [*(guest["name"] for guest in alive), *(guest["name"] for guest in lost)],
        "saved": [guest["name"] for guest in outdated if guest["cannot_save"] is None],
        "refused": [reason for guest in own if guest["name"] not in expected for reason in _refused(guest)],
    }


def _outdated(guest: Mapping[str, Any]) -> bool:
    model, image = guest["device_model"], guest["image"]
    return bool(model and model["stub_domain"] and image and image["outdated"])


def _place(guest: Mapping[str, Any]) -> Any:
    """Those that are not started with the host come last."""
    number = guest["autostart"]
    return (number is None, number or 0, guest["name"])


def _refused(guest: Mapping[str, Any]) -> List[str]:
    name, state, model = guest["name"], guest["state"], guest["device_model"]
    if state not in (*_RUNS, "paused"):
        return [f"The guest {name} is {state}."]
    if model is not None and model["state"] != "running" and state != "paused":
        return [f"The device model of {name} does not report that it runs."]
    if state in _RUNS and _outdated(guest) and guest["config"] is None:
        return [f"The guest {name} has no configuration file, so that it could not be started again."]
    return []


class FilterModule:
    """The filters of this file."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"renewal": renewal}
