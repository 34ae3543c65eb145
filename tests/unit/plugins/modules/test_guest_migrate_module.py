# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Guests that move between two hosts that are played: the shell is a real one, ssh and xl are not.

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.manifest import Manifest
from ansible_collections.xen.stubdom.plugins.module_utils._guests import migration, record
from ansible_collections.xen.stubdom.plugins.module_utils._guests.moved import Moved
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen
from ansible_collections.xen.stubdom.plugins.modules import guest_migrate
from xen_host import Answer, Host

SSH = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15"]
SENT = (
    "migration target: Ready to receive domain.\n"
    "Saving to migration stream new xl format (info 0x3/0x0/1422)\n"
    "migration sender: Target has acknowledged transfer.\n"
    "Migration successful.\n"
)


class Pair(Host):
    """A host with another one beside it."""

    def __init__(self, root: Path, other: Host) -> None:
        super().__init__(root)
        self.other = other
        self.ssh: Answer | None = None
        self.virt_caps = "pv hvm hap shadow"
        # What xl list -l says.
        self.described: Answer = (0, "", "")
        # What xl migrate does: it works, it says why not, or leaves the guest in these states here and there.
        self.outcome: str | tuple[str, str] = ""

    def run_command(self, arguments: list[str], **options: Any) -> Answer:
        if arguments[0] == "ssh":
            assert arguments[: len(SSH)] == SSH and arguments[-2] == "xen2"
            if self.ssh is not None:
                return self.ssh
            return self._played(self.other, shlex.split(arguments[-1]))
        return self._played(self, arguments)

    @staticmethod
    def _played(host: Host, arguments: list[str]) -> Answer:
        if arguments[0] != "sh":
            return Host.run_command(host, arguments)
        there = [str(host.root) + word if word.startswith("/") else word for word in arguments]
        done = subprocess.run(there, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def xl_info(self) -> Answer:
        status, output, errors = super().xl_info()
        return status, f"{output}virt_caps : {self.virt_caps}\n", errors

    def xl_list(self, *words: str) -> Answer:
        if words:
            return self.described
        return super().xl_list()

    def xl_migrate(self, *words: str) -> Answer:
        assert words[0] == "-s" and words[-1] == "xen2" and shlex.split(words[1])[: len(SSH)] == SSH
        name = self.named(words[2])
        if self.outcome == "":
            uuid = self.domains[name].uuid
            self.gone(name)
            self.other.there(name, uuid)
            return 0, "", SENT
        if isinstance(self.outcome, str):
            return 1, "", self.outcome
        here, there = self.outcome
        self.domains[name].letters = here
        self.other.there(name, self.domains[name].uuid, there)
        return 1, "", "** Migration failed during final handshake **\nDomain state is now undefined !\n"

    def migrate(self, *, check: bool = False, **params: Any) -> dict[str, Any]:
        self.params = {
            "name": "web", "to": "xen2", "ssh_arguments": [], "shared": False, "directory": str(self.root / "etc/xen"),
        }  # fmt: skip
        self.params.update(params)
        self.check_mode = check
        return guest_migrate.run(self)  # type: ignore[arg-type]

    def has_disk(self, params: str) -> None:
        node = f"/libxl/{self.domains['web'].domid}/device/vbd/{51712 + 16 * self.next}"
        self.next += 1
        self.nodes[f"{node}/backend"] = node.replace("/libxl", "/local/domain/0/backend")
        self.nodes[f"{self.nodes[f'{node}/backend']}/params"] = params


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    roots = [tmp_path / "here", tmp_path / "there"]
    pair = Pair(roots[0], Host(roots[1]))
    pair.there("web", "11-22")
    monkeypatch.setattr(guest_migrate, "Xen", lambda run: Xen(run, root=str(roots[0])))
    monkeypatch.setattr(guest_migrate, "run_program", pair.run_command)
    # The directory of the other host has the same path: the root is put in front of it.
    start = migration.start_there
    monkeypatch.setattr(
        migration,
        "start_there",
        lambda name, there, other, directory, **options: start(
            name, there, other, directory[len(str(roots[0])) :], **options
        ),
    )
    yield pair


def autostarted(host: Host, *names: str) -> None:
    host.put("etc/xen/web.cfg", 'name = "web"\n')
    for name in names:
        host.put(f"etc/xen/auto/{name}", "")
        (host.root / "etc/xen/auto" / name).unlink()
        (host.root / "etc/xen/auto" / name).symlink_to("../web.cfg")


def started(host: Host) -> list[str]:
    """What xendomains sees."""
    return sorted(path.name for path in (host.root / "etc/xen/auto").glob("[!.]*"))


def test_a_guest_moves_and_comes_back(here: Pair) -> None:
    autostarted(here, "010-web.cfg")
    here.put("etc/xen/auto/db.cfg", 'name = "db"\n')
    steps = [here.migrate(check=check) for check in (True, False, True, False)]
    assert [step["changed"] for step in steps] == [True, True, False, False]
    assert [step["seconds"] is None for step in steps] == [True, False, True, True]
    assert list(here.domains) == [] and list(here.other.domains) == ["web"]
    # The host would start it a second time else.
    assert started(here) == ["db.cfg"]

    here.domains, here.other.domains = here.other.domains, here.domains
    here.nodes, here.other.nodes = here.other.nodes, here.nodes
    (here.root / "etc").rename(here.root / "etc.first")
    (here.other.root / "etc").rename(here.root / "etc")
    (here.root / "etc.first").rename(here.other.root / "etc")
    assert here.migrate()["changed"]
    assert started(here.other) == ["010-web.cfg", "db.cfg"]
    assert (here.other.root / "etc/xen/auto/010-web.cfg").readlink() == Path("../web.cfg")


def test_the_record_of_its_configuration_goes_with_the_guest(here: Pair) -> None:
    """By it the module guests tells there what has changed since the guest was started."""
    node = record.RECORD.format(domid=here.domains["web"].domid)
    here.nodes[node] = "aabb memory:ccdd"
    here.migrate()
    node = record.RECORD.format(domid=here.other.domains["web"].domid)
    assert here.other.nodes[node] == "aabb memory:ccdd"


def test_this_host_notes_where_the_guest_went_and_the_other_one_that_it_came(here: Pair) -> None:
    Moved("web", str(here.other.root)).note("xen1")
    here.migrate(check=True)
    assert Moved("web", str(here.root)).to() is None and Moved("web", str(here.other.root)).to() == "xen1"
    here.migrate()
    assert Moved("web", str(here.root)).to() == "xen2" and Moved("web", str(here.other.root)).to() is None
    # A run that was killed before it had told the other host.
    Moved("web", str(here.other.root)).note("xen1")
    assert [here.migrate(check=check)["changed"] for check in (True, False, True, False)] == [True, True, False, False]


def test_a_guest_that_is_being_migrated_is_left_alone_by_other_runs(
    here: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    move, held = here.xl_migrate, []

    def watched(*words: str) -> Answer:
        held.extend(files._held)
        return move(*words)

    monkeypatch.setattr(here, "xl_migrate", watched)
    here.migrate()
    assert held == [record.LOCK.format(key=record.key("web"))]


def test_a_guest_without_a_record_gets_none(here: Pair) -> None:
    here.migrate()
    assert record.RECORD.format(domid=here.other.domains["web"].domid) not in here.other.nodes


def test_ssh_has_the_arguments_that_are_given_as_they_are(here: Pair) -> None:
    here.migrate(ssh_arguments=["-p", "22 22", "-i", "/root/a;b"])
    assert any("-p '22 22' -i '/root/a;b' 3 xen2" in call for call in here.calls if call.startswith("migrate"))


@pytest.mark.parametrize("to", ["-oProxyCommand=x", "", "xen2; reboot", "$(x)", "a b", "root@-x", "xen2\n"])
def test_what_is_no_host(here: Pair, to: str) -> None:
    with pytest.raises(UserError, match="which is no host"):
        here.migrate(to=to)
    assert here.calls == []


def refused(here: Pair, *, what: str, **params: Any) -> UserError:
    """What is refused, in check mode, too, with nothing done."""
    before = here.tree()
    for check in (True, False):
        with pytest.raises(UserError, match=what) as error:
            here.migrate(check=check, **params)
    assert here.acts == [] and here.tree() == before
    return error.value


def test_ssh_that_does_not_reach_the_host(here: Pair) -> None:
    here.ssh = (255, "", "root@xen2: Permission denied (publickey).\n")
    assert "with a key" in refused(here, what=r"does not reach xen2 from here: .*\(publickey\)").remedy


def test_a_guest_that_is_nowhere(here: Pair) -> None:
    refused(here, name="db", what="There is no guest db here, and on xen2 it is absent")


def test_a_guest_that_is_on_both(here: Pair) -> None:
    here.other.there("web", "11-22")
    refused(here, what=r"here \(blocked\), and one on xen2 \(blocked\)")


def test_a_guest_that_does_not_run_there(here: Pair) -> None:
    here.gone("web")
    here.other.there("web", "11-22", "--p---")
    refused(here, what="There is no guest web here, and on xen2 it is paused")


def test_a_guest_that_is_paused(here: Pair) -> None:
    here.domains["web"].letters = "--p---"
    refused(here, what="web is paused, and only one that runs")


def test_an_older_release(here: Pair) -> None:
    here.other.release = 17
    refused(here, what="xen2 runs Xen 4.17, which takes no guests from Xen 4.20")


def test_a_pv_guest_where_the_hypervisor_has_no_shadow_paging(here: Pair) -> None:
    here.virt_caps = "pv hvm hap gnttab-v1"
    error = refused(here, what=r"web is a PV guest, and .* needs shadow paging, .* has: pv hvm hap gnttab-v1\.")
    assert "PVH" in error.remedy
    here.nodes[f"/libxl/{here.domains['web'].domid}/type"] = "pvh"
    assert here.migrate(check=True)["changed"]
    # Older ones say nothing of it.
    here.nodes[f"/libxl/{here.domains['web'].domid}/type"] = "pv"
    here.release = 12
    assert here.migrate()["changed"]


def test_a_newer_release(here: Pair) -> None:
    here.other.release = 21
    assert here.migrate()["changed"]


WORDS = "console=hvc0 stubdom.save=yes"
BOOT = "usr/lib/xen-4.20/boot"


def is_stubbed(here: Pair, **built_from: str) -> None:
    """The guest has its device model in a Linux stub domain, and the other host has an image."""
    domid = here.domains["web"].domid
    here.nodes.update(
        {
            f"/libxl/{domid}/type": "hvm",
            f"/libxl/{domid}/dm-version": "qemu_xen",
            f"/local/domain/{domid}/image/device-model-domid": "9",
            "/local/domain/9/target": str(domid),
        }
    )
    described = [{"domid": domid, "config": {"b_info": {"stubdomain_cmdline": WORDS, **built_from}}}]
    here.described = (0, json.dumps(described), "")
    has_image(here.other, WORDS)


def has_image(host: Host, words: str | None) -> None:
    image = Manifest("linux", "4.20", [], None, None, None, None, "0", {}, command_line=words)
    host.put(f"{BOOT}/linux.json", image.render().decode())
    for name in ("hvmloader", "qemu-stubdom-linux-rootfs"):
        host.put(f"{BOOT}/{name}", "")


def test_a_guest_moves_with_its_linux_stub_domain(here: Pair) -> None:
    is_stubbed(here)
    assert [here.migrate(check=check)["changed"] for check in (True, False, True, False)] == [True, True, False, False]


def test_a_linux_stub_domain_that_cannot_hand_over(here: Pair) -> None:
    for built_from in ({"stubdomain_cmdline": "console=hvc0"}, {"stubdomain_ramdisk": "/srv/own"}):
        is_stubbed(here, **built_from)
        refused(here, what="in a Linux stub domain, which was started from an image that cannot hand it over")


@pytest.mark.parametrize("missing", ["linux.json", "qemu-stubdom-linux-rootfs"])
def test_an_image_that_is_not_on_the_other_host(here: Pair, missing: str) -> None:
    is_stubbed(here)
    (here.other.root / BOOT / missing).unlink()
    refused(here, what=f"xen2 has no image that could take it over in .*/{BOOT}")


def test_an_image_of_the_other_host_that_cannot_take_over(here: Pair) -> None:
    is_stubbed(here)
    for words in (None, "console=hvc0"):
        has_image(here.other, words)
        refused(here, what="xen2 has no image that could take it over")


def test_another_host_without_a_firmware_directory(here: Pair) -> None:
    is_stubbed(here)
    (here.other.root / BOOT / "hvmloader").unlink()
    refused(here, what=f"could take it over: none of /{BOOT}, .* holds hvmloader")


def test_a_kernel_of_the_operator(here: Pair) -> None:
    is_stubbed(here, stubdomain_kernel="/srv/kernel")
    refused(here, what="its kernel /srv/kernel is not on xen2")
    here.other.put("srv/kernel", "")
    assert here.migrate()["changed"]


@pytest.mark.parametrize(
    "described", [(1, "", "no memory\n"), (0, "", ""), (0, "[]", ""), (0, "[{}]", ""), (0, '{"config": 1}', "")]
)
def test_xl_that_does_not_say_what_the_guest_is_made_of(here: Pair, described: Answer) -> None:
    is_stubbed(here)
    here.described = described
    refused(here, what="`xl list -l` does not say what the guest web is made of")


def test_a_device_of_the_host(here: Pair) -> None:
    here.nodes[f"/libxl/{here.domains['web'].domid}/device/pci/0/state"] = "4"
    refused(here, what="has PCI devices")


# ---- disks


def kind_of(path: Path) -> str:
    return subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("missing", ["backend", "params"])
def test_a_disk_of_which_xenstore_says_nothing(here: Pair, missing: str) -> None:
    here.has_disk("/srv/web.img")
    (number,) = (path.split("/")[-2] for path in here.nodes if path.endswith("/backend"))
    here.nodes = {path: value for path, value in here.nodes.items() if not path.endswith(f"/{missing}")}
    # Something of the disk is left.
    here.nodes[f"/libxl/{here.domains['web'].domid}/device/vbd/{number}/frontend"] = "/local/domain/1/device/vbd"
    with pytest.raises(UserError, match=f"Xenstore does not say what disk {number} of the guest web is made of"):
        here.migrate()
    assert "web" in here.domains and not here.other.domains


def test_a_disk_on_a_file_system_that_both_have(here: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    here.has_disk("aio:/srv/web.img")
    refused(here, what=f"whether /srv/web.img is the same disk on xen2: here it is '{kind_of(here.root)} ")
    (here.other.root / "srv/web.img").unlink()
    refused(here, what="The disk /srv/web.img of the guest web is not there on xen2")
    # As a network file system has it.
    (here.other.root / "srv/web.img").hardlink_to(here.root / "srv/web.img")
    monkeypatch.setattr(migration, "_SHARED", re.compile(re.escape(kind_of(here.root)) + " "))
    assert here.migrate()["changed"]


def test_other_disks_of_one_name(here: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    here.has_disk("/srv/web.img")
    monkeypatch.setattr(migration, "_SHARED", re.compile(re.escape(kind_of(here.root)) + " "))
    refused(here, what="It is not known whether")


def test_disks_that_are_known_to_be_the_same(here: Pair) -> None:
    here.has_disk("/srv/web.img")
    assert here.migrate(shared=True)["changed"]


def test_disks_that_have_no_path(here: Pair) -> None:
    for params in ("", "rbd:pool/web", "aio:"):
        here.has_disk(params)
    assert here.migrate()["changed"]


@pytest.mark.parametrize(
    ("line", "same"),
    [
        ("device LVM-aBcD", True),
        ("device mpath-3600140", True),
        ("device naa.5000c500a1b2 2", True),
        ("device eui.0025385", True),
        ("nfs 1234 4096", True),
        ("gfs/gfs2 1234 4096", True),
        ("device ", False),
        ("device t10.ATA     QEMU HARDDISK QM00001", False),
        ("ext2/ext3 1234 4096", False),
        ("xfs 1234 4096", False),
        ("fuseblk 1234 4096", False),
    ],
)
def test_what_proves_that_a_disk_is_the_same(line: str, same: bool) -> None:
    assert bool(migration._SHARED.match(line) or migration._UNIQUE.match(line)) == same


def test_a_host_that_cannot_say(here: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    here.has_disk("/srv/web.img")
    monkeypatch.setattr(migration, "_LOOK", "exit 1")
    refused(here, what="xen2 does not say what the disks of the guest web are there")


# ---- failures


def test_xl_that_fails_leaves_the_guest_and_its_start_here(here: Pair) -> None:
    autostarted(here, "web.cfg")
    here.outcome = (
        "migration target: Ready to receive domain.\n"
        "libxl: error: libxl_qmp.c:1401:qmp_ev_fd_callback: Domain 6:received POLLHUP|POLLERR from QMP socket\n"
        "libxl: error: libxl_create.c:1243:initiate_domain_create: Domain 12:out of memory\n"
        "libxl: error: libxl_domain.c:1060:domain_destroy_cb: Domain 5:Destruction of domain failed\n"
        "Migration failed, resuming at sender.\n"
    )
    with pytest.raises(UserError, match="out of memory. It is blocked here, and absent there") as error:
        here.migrate()
    assert "goes on here" in error.value.remedy
    assert Moved("web", str(here.root)).to() is None
    assert started(here) == ["web.cfg"] and list(here.domains) == ["web"]
    here.outcome = ""
    assert here.migrate()["changed"]


def test_what_the_stub_domain_said_on_the_other_host(here: Pair) -> None:
    is_stubbed(here)
    here.other.put("var/log/xen/qemu-dm-web--incoming.log", "Linux\n\x07Kernel panic - not syncing: no init\n")
    here.outcome = "libxl: error: libxl_dm.c:2:x: Domain 12:device model did not start: -9\n"
    with pytest.raises(UserError, match="last words there were 'Linux', 'Kernel panic - not syncing: no init'. It is"):
        here.migrate()
    # Where no stub domain was made they are those of an earlier one.
    here.outcome = "libxl: error: libxl_create.c:1243:initiate_domain_create: Domain 12:out of memory\n"
    with pytest.raises(UserError, match="out of memory. It is blocked here"):
        here.migrate()


@pytest.mark.parametrize("states", [("---s--", "-b----"), ("---s--", "--p---"), ("-b----", "--p---")])
def test_a_guest_that_may_be_on_both_is_started_by_no_host(here: Pair, states: tuple[str, str]) -> None:
    autostarted(here, "web.cfg")
    here.outcome = states
    with pytest.raises(UserError, match="has not moved to xen2") as error:
        here.migrate()
    assert "two that run at once destroy the disks" in error.value.remedy
    assert Moved("web", str(here.root)).to() == "xen2"
    assert started(here) == []


def test_a_host_that_is_not_reached_any_more(here: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    autostarted(here, "web.cfg")
    move = here.xl_migrate

    def cut(*words: str) -> Answer:
        answer = move(*words)
        here.ssh = (255, "", "Connection timed out\n")
        return answer

    monkeypatch.setattr(here, "xl_migrate", cut)
    with pytest.raises(UserError, match="ssh does not reach xen2"):
        here.migrate()
    # It has moved.
    assert started(here) == []
    here.ssh = None
    assert not here.migrate()["changed"]


def test_a_run_that_was_killed_before_the_other_host_was_told(here: Pair) -> None:
    here.gone("web")
    here.other.there("web", "11-22")
    autostarted(here.other, "web.cfg")
    auto = here.other.root / "etc/xen/auto"
    (auto / "web.cfg").rename(auto / f"{migration._away('web')}web.cfg")
    assert here.migrate(check=True)["changed"] and started(here.other) == []
    assert here.migrate()["changed"] and started(here.other) == ["web.cfg"]
    assert not here.migrate(check=True)["changed"] and not here.migrate()["changed"]
