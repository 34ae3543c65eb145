# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what can be wrong with a host or a guest, a row each: how bad it is, how it is
# seen in the report, what is said of it, and what cures it.

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

CRITICAL, WARNING, NOTICE = "critical", "warning", "notice"
# The worst first.
SEVERITIES: Sequence[str] = (CRITICAL, WARNING, NOTICE)

# How long before its end a support window is worth a notice, in days.
SOON = 180

Facts = Mapping[str, Any]
# What a test says: nothing for no trouble, else the words of this case for the sentence of its row.
Test = Callable[[Facts, datetime.date], Optional[Mapping[str, Any]]]


@dataclass(frozen=True)
class Trouble:
    """A kind of trouble.

    :param title: what it is, for many hosts or guests at once.
    :param sentence: what is wrong with this one; {name} and the words of the test are put in.
    :param cure: what to do.
    :param play: the command that does it; empty where no playbook of this collection can.
    """

    key: str
    severity: str
    title: str
    sentence: str
    cure: str
    play: str
    test: Test


def _when(holds: Callable[[Facts], bool]) -> Test:
    """A test without words of its own."""
    return lambda facts, _today: {} if holds(facts) else None


def _there(facts: Facts) -> bool:
    """Whether the host has answered."""
    return facts["error"] is None


# ---- hosts


def _unreachable(host: Facts, _today: datetime.date) -> Optional[Dict[str, Any]]:
    return None if _there(host) else {"why": host["error"], "seen": host["seen"] or "never"}


def _unsupported(host: Facts, today: datetime.date) -> Optional[Dict[str, Any]]:
    window = host.get("support") or {}
    last = window.get("until") or window.get("ended_before")
    if last is None or datetime.date.fromisoformat(last) >= today:
        return None
    return {"release": host["release"], "date": last, "word": "on" if window.get("until") else "before"}


def _support_ends(host: Facts, today: datetime.date) -> Optional[Dict[str, Any]]:
    last = (host.get("support") or {}).get("until")
    if last is None:
        return None
    left = (datetime.date.fromisoformat(last) - today).days
    return {"release": host["release"], "date": last, "days": left} if 0 <= left <= SOON else None


def _outdated_images(host: Facts, _today: datetime.date) -> Optional[Dict[str, Any]]:
    found = [
        f"{image['name']} ({part['name']} {part['made_of']}, installed {part['installed']})"
        for image in host.get("images") or ()
        for part in (image["outdated"] or ())[:1]
    ]
    return {"images": ", ".join(found)} if found else None


def _damaged_images(host: Facts, _today: datetime.date) -> Optional[Dict[str, Any]]:
    found = [image["name"] for image in host.get("images") or () if image["manifest_error"]]
    return {"images": ", ".join(found)} if found else None


def _waiting(host: Facts, _today: datetime.date) -> Optional[Dict[str, Any]]:
    why = _next_boot(host).get("waits_because")
    return {"why": why} if why else None


def _altered_images(host: Facts, _today: datetime.date) -> Optional[Dict[str, Any]]:
    found = [path for image in host.get("images") or () for path in image.get("altered") or ()]
    return {"paths": ", ".join(found)} if found else None


def _unfixed(host: Facts, _today: datetime.date) -> Optional[Dict[str, Any]]:
    memory = host.get("memory") or {"dom0_fixed": True}
    if not host["running"] or memory["dom0_fixed"]:
        return None
    if memory["autoballoon"] == "off":
        return {"why": "Xen's command line sets no fixed amount of memory for dom0"}
    return {"why": "xl takes memory from dom0 when guests start"}


def _next_boot(host: Facts) -> Facts:
    return host.get("boot_line") or {}


def _other_options(host: Facts, _today: datetime.date) -> Optional[Dict[str, Any]]:
    line = _next_boot(host)
    return {"why": line["reboot_reason"]} if line.get("reboot_required") else None


# ---- guests


def _runs(guest: Facts) -> bool:
    return guest["domid"] is not None


def _place(place: str) -> Test:
    return _when(lambda guest: guest["place"] == place)


def _open_screens(guest: Facts, *, password: bool) -> Optional[Dict[str, Any]]:
    found = [one for one in guest["screens"] if one["password"] is password and not _loopback(one["listen"])]
    ports = ("" if one["port"] is None else f", port {one['port']}" for one in found)
    words = (f"{one['kind']} on {one['listen']}{port}" for one, port in zip(found, ports))
    return {"screens": ", ".join(words)} if found else None


def _loopback(listen: str) -> bool:
    try:
        return ipaddress.ip_address(listen.strip("[]")).is_loopback
    except ValueError:
        # Or a socket of dom0, which has an owner.
        return listen in ("localhost", "") or listen.startswith("/")


def _changed_keys(guest: Facts, _today: datetime.date) -> Optional[Dict[str, Any]]:
    keys = guest["restart_required"]
    known = [key for key in keys if key != "unknown"]
    return {"keys": ", ".join(known) or "its configuration file is younger than the domain"} if keys else None


def _old_image(*, stub_domain: bool) -> Test:
    def test(guest: Facts, _today: datetime.date) -> Optional[Dict[str, Any]]:
        image = guest["image"] or {"outdated": False}
        found = image["outdated"] and (guest["place"] == "stub_domain") is stub_domain
        return {"path": image["path"], "written": image["written"]} if found else None

    return test


def _twice(guest: Facts, _today: datetime.date) -> Optional[Dict[str, Any]]:
    return {"hosts": ", ".join(guest["also_on"])} if guest["also_on"] else None


_SITE = "ansible-playbook xen.stubdom.site --tags {}"
_REBOOT = "ansible-playbook xen.stubdom.dom0_memory_rolling -e dom0_memory_reboot=true"

HOSTS: Tuple[Trouble, ...] = (
    Trouble(
        "unreachable",
        CRITICAL,
        "Hosts that did not answer",
        "{name} did not answer ({why}); last seen: {seen}.",
        "Check the host's console, its network and its SSH server.",
        "",
        _unreachable,
    ),
    Trouble(
        "xen_not_running",
        CRITICAL,
        "Hosts that do not run Xen",
        "{name} does not run Xen, so none of its guests runs.",
        "Set dom0_memory_default_entry to true so that its boot loader starts Xen, and dom0_memory_reboot_without_xen.",
        _SITE.format("dom0_memory"),
        _when(lambda host: _there(host) and not host["running"]),
    ),
    Trouble(
        "next_boot_without_xen",
        CRITICAL,
        "Hosts whose next boot does not start Xen",
        "{name} runs Xen, and its boot loader would start something else after a reboot.",
        "Set dom0_memory_default_entry to true.",
        _SITE.format("dom0_memory"),
        _when(lambda host: bool(host["running"]) and _next_boot(host).get("boots_xen") is False),
    ),
    Trouble(
        "waits_at_its_menu",
        CRITICAL,
        "Hosts that would not come back from a reboot by themselves",
        "{name}: {why}",
        "Set a time limit in the boot loader's configuration.",
        "",
        _waiting,
    ),
    Trouble(
        "unfixed_dom0_memory",
        CRITICAL,
        "Hosts whose dom0 memory is not fixed",
        "{name}: {why}.",
        "Set dom0_memory_size, and dom0_memory_reboot to true where the host may be rebooted.",
        _SITE.format("dom0_memory"),
        _unfixed,
    ),
    Trouble(
        "release_unsupported",
        CRITICAL,
        "Hosts whose release of Xen gets no security fixes",
        "{name} runs Xen {release}, whose security support ended {word} {date}.",
        "Upgrade Xen with the packages of the distribution.",
        "",
        _unsupported,
    ),
    Trouble(
        "next_boot_differs",
        WARNING,
        "Hosts that need a reboot for their Xen command line",
        "{name}: {why}",
        "Set dom0_memory_reboot to true, batch by batch.",
        _REBOOT,
        _other_options,
    ),
    Trouble(
        "hypervisor_updated",
        WARNING,
        "Hosts that need a reboot for an installed hypervisor",
        "{name}: a hypervisor was installed after the host was started.",
        "Reboot the host when its guests are shut down or moved.",
        f"{_REBOOT} -e dom0_memory_reboot_for_update=true",
        _when(lambda host: bool(host["running"]) and bool((host.get("hypervisor") or {}).get("updated"))),
    ),
    Trouble(
        "image_altered",
        CRITICAL,
        "Hosts with images that are not what was installed",
        "{name}: missing, or changed since: {paths}.",
        "Find out who changed them, then have the images installed again.",
        _SITE.format("stubdom_build"),
        _altered_images,
    ),
    Trouble(
        "image_outdated",
        WARNING,
        "Hosts with images older than what they were made of",
        "{name}: {images}.",
        "Have the images made again.",
        _SITE.format("stubdom_build"),
        _outdated_images,
    ),
    Trouble(
        "manifest_damaged",
        WARNING,
        "Hosts with images of which nothing is known",
        "{name}: the manifest of {images} is damaged.",
        "Have the images made again.",
        _SITE.format("stubdom_build"),
        _damaged_images,
    ),
    Trouble(
        "support_ends",
        NOTICE,
        "Hosts whose security support ends soon",
        "{name} runs Xen {release}, which gets security fixes until {date}, for {days} more days.",
        "Plan the upgrade of Xen.",
        "",
        _support_ends,
    ),
)

GUESTS: Tuple[Trouble, ...] = (
    Trouble(
        "crashed", CRITICAL, "Guests that have crashed",
        "{name} has crashed and is still there.", "Look at `xl dmesg`, and set state to restarted.",
        _SITE.format("pvgrub_guest,hvm_stubdom"),
        _when(lambda guest: guest["state"] == "crashed"),
    ),
    Trouble(
        "device_model_lost", CRITICAL, "HVM guests without a device model",
        "{name} runs, and its device model does not report that it runs.",
        "Look at /var/log/xen/qemu-dm-NAME.log, and set state to restarted.", _SITE.format("hvm_stubdom"),
        _when(lambda guest: _runs(guest) and guest["type"] == "hvm" and guest["device_model_state"] != "running"),
    ),
    Trouble(
        "screen_open", CRITICAL, "Guests whose screen everybody can use",
        "{name} shows its screen without a password: {screens}.",
        "Add the guest to hvm_stubdom_guests, with replace: true, which keeps its screen on loopback, and restart it.",
        _SITE.format("hvm_stubdom"),
        lambda guest, _today: _open_screens(guest, password=False),
    ),
    Trouble(
        # The UUID of a guest of this collection is made of its name: it may be two guests of one name.
        "runs_twice", WARNING, "Guests that run on two hosts",
        "{name} runs with one UUID here and on {hosts}: if it is one guest, both write to its disks.",
        "Destroy one of the two if it is one guest, or set another uuid for one of two.", "", _twice,
    ),
    Trouble(
        "device_model_root_in_dom0", WARNING, "HVM guests whose QEMU is root in dom0",
        "{name}: whoever breaks out of its device model is root in dom0.",
        "Add the guest to hvm_stubdom_guests, with replace: true, and restart it.", _SITE.format("hvm_stubdom"),
        _place("dom0_root"),
    ),
    Trouble(
        "pygrub", WARNING, "Guests still on pygrub",
        "{name}: dom0 reads the guest's file systems to find its kernel.",
        "Add the guest to pvgrub_guest_guests, with replace: true, and restart it.", _SITE.format("pvgrub_guest"),
        _when(lambda guest: guest["boot"] in ("pygrub", "bootloader")),
    ),
    Trouble(
        "restart_required", WARNING, "Guests that do not run with their configuration",
        "{name} runs with other values than its file has: {keys}.",
        "Set state to restarted for the guest.", _SITE.format("pvgrub_guest,hvm_stubdom"), _changed_keys,
    ),
    Trouble(
        "old_image_in_use", WARNING, "Guests that run with an image that was replaced since",
        "{name} was started before {path} was written ({written}).",
        "Set state to restarted for the guest.", _SITE.format("pvgrub_guest,hvm_stubdom"),
        _old_image(stub_domain=False),
    ),
    Trouble(
        "old_device_model", WARNING, "HVM guests whose stub domain runs an image that was replaced since",
        "{name}: its stub domain was started before {path} was written ({written}).",
        "Have such guests restarted in their order, batch by batch.",
        "ansible-playbook xen.stubdom.renew_device_models", _old_image(stub_domain=True),
    ),
    Trouble(
        "no_configuration", WARNING, "Guests that run without a configuration file",
        "{name} runs, and no file in /etc/xen describes it: it is lost when it ends.",
        "Describe the guest in pvgrub_guest_guests or hvm_stubdom_guests.", _SITE.format("pvgrub_guest,hvm_stubdom"),
        _when(lambda guest: _runs(guest) and guest["config"] is None),
    ),
    Trouble(
        "screen_exposed", NOTICE, "Guests whose screen listens on the network",
        "{name} shows its screen to who knows the password: {screens}.",
        "Add the guest to hvm_stubdom_guests, with replace: true, which keeps its screen on loopback, and restart it.",
        _SITE.format("hvm_stubdom"),
        lambda guest, _today: _open_screens(guest, password=True),
    ),
    Trouble(
        "device_model_in_dom0", NOTICE, "HVM guests whose QEMU runs in dom0 without root",
        "{name}: its device model is an unprivileged process in dom0.",
        "Add the guest to hvm_stubdom_guests, with replace: true, and restart it.", _SITE.format("hvm_stubdom"),
        _place("dom0_user"),
    ),
    Trouble(
        "kernel_in_dom0", NOTICE, "Guests whose kernel is a file of dom0",
        "{name} cannot update its own kernel.",
        "Add the guest to pvgrub_guest_guests, with replace: true, and restart it.", _SITE.format("pvgrub_guest"),
        _when(lambda guest: guest["boot"] == "kernel"),
    ),
    Trouble(
        "not_autostarted", NOTICE, "Guests that are not started with their host",
        "{name} runs, and would not run after a reboot of its host.",
        "Set autostart to true for the guest.", _SITE.format("pvgrub_guest,hvm_stubdom"),
        _when(lambda guest: _runs(guest) and guest["config"] is not None and guest["autostart"] is None),
    ),
    Trouble(
        "paused", NOTICE, "Guests that are paused",
        "{name} is paused.", "Let it go with `xl unpause`, or leave it.", "",
        _when(lambda guest: guest["state"] == "paused"),
    ),
)  # fmt: skip

BY_KEY: Mapping[str, Trouble] = {trouble.key: trouble for trouble in (*HOSTS, *GUESTS)}


def find(facts: Facts, rows: Sequence[Trouble], today: datetime.date) -> List[Dict[str, str]]:
    """Return the troubles of a host or a guest.

    :return: kind, severity and sentence of each.
    """
    found = []
    for row in rows:
        words = row.test(facts, today)
        if words is not None:
            sentence = row.sentence.format(name=facts["name"], **words)
            found.append({"kind": row.key, "severity": row.severity, "sentence": sentence})
    return found
