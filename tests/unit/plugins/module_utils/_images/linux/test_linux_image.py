# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
from pathlib import Path
from typing import List, Optional, Tuple

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux import image, needs, parts
from ansible_collections.xen.stubdom.plugins.module_utils._images.linux.init import INIT


def names(archive: bytes) -> List[str]:
    """Names and permission bits of an archive, read the way the kernel does."""
    found = []
    at = 0
    while True:
        fields = [int(archive[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(13)]
        name = archive[at + 110 : at + 110 + fields[11] - 1].decode()
        if name == "TRAILER!!!":
            return found
        found.append(f"{fields[1]:06o} {name}")
        at += 110 + fields[11]
        at += -at % 4 + fields[6]
        at += -at % 4


def test_what_is_there_before_the_compressed_file_system() -> None:
    archive = image.archive(b"busybox", {"modules/loop.ko": b"m"}, "loop\n", b"squashfs")
    assert names(archive) == [
        "040755 bin",
        "100700 bin/busybox",
        "040755 dev",
        "020600 dev/console",
        "040755 host",
        "100644 host.squashfs",
        "100755 init",
        "120777 lib",
        "120777 lib64",
        "040755 modules",
        "100644 modules/loop.ko",
        "100644 modules/order",
        "040755 proc",
        "040755 run",
        "040755 sys",
    ]


def test_init_is_a_script() -> None:
    assert subprocess.run(["sh", "-n"], input=INIT, text=True, check=False, capture_output=True).stderr == ""
    assert INIT.startswith("#!/bin/busybox sh\n")


def test_init_loads_the_groups_that_are_planned() -> None:
    directories = re.findall(r"\bload (/\S+)$", INIT, re.MULTILINE)
    assert directories == ["/modules" if group == "start" else f"/host/modules/{group}" for group in needs.GROUPS]


def test_init_starts_the_programs_that_are_planned() -> None:
    for program in parts.PROGRAMS:
        assert re.search(rf"\b{program.name.split('/')[-1]}\b", INIT)


@pytest.mark.parametrize(
    ("netdev", "network"),
    [
        # As libxl writes it for model=rtl8139 (seen with Xen 4.20).
        ("-netdev\ntype=tap,id=net0,ifname=vif17.0-emu,br=xenbr0,script=no,downscript=no\n", "yes"),
        ("-net\nnone\n", ""),
    ],
)
def test_init_sees_whether_the_guest_has_a_network(tmp_path: Path, netdev: str, network: str) -> None:
    arguments = tmp_path / "arguments"
    arguments.write_text(f"-name\na guest\n{netdev}-machine\nxenfv\n")
    loop = INIT[INIT.index("set --\n") : INIT.index("done < /run/arguments")] + f"done < {arguments}\n"
    done = subprocess.run(
        ["sh", "-c", loop + 'printf "%s|" "$network" "$@"'], capture_output=True, text=True, check=True
    )
    assert done.stdout == "|".join([network, *arguments.read_text().splitlines(), ""])


@pytest.mark.parametrize(("debug", "port"), [("", "/dev/hvc4"), ("yes", "none")])
def test_the_guest_does_not_get_the_port_of_the_shell(tmp_path: Path, debug: str, port: str) -> None:
    arguments = tmp_path / "arguments"
    arguments.write_text("-serial\n/dev/hvc3\n-serial\n/dev/hvc4\n")
    loop = INIT[INIT.index("set --\n") : INIT.index("done < /run/arguments")] + f'done < {arguments}\necho "$@"'
    done = subprocess.run(["sh", "-c", f"debug={debug}\n{loop}"], capture_output=True, text=True, check=True)
    assert done.stdout == f"-serial /dev/hvc3 -serial {port}\n"


def test_a_shell_is_served_again_and_again_on_its_console(tmp_path: Path) -> None:
    master, slave = os.openpty()
    (tmp_path / "hvc4").symlink_to(os.ttyname(slave))
    script = f"usleep() {{ sleep 0.1; }}\n{functions('examine', 'examine', tmp_path)}examine"
    with subprocess.Popen(["sh", "-c", script], start_new_session=True) as process:
        try:
            for number in (6, 7):
                os.write(master, f"echo =$(({number} * 7))=; exit\n".encode())
                seen = b""
                while f"={number * 7}=".encode() not in seen:
                    assert select.select([master], [], [], 30)[0], seen
                    seen += os.read(master, 4096)
                assert b"stub domain:" in seen
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    os.close(master)
    os.close(slave)


def test_each_interface_has_an_address_of_its_own() -> None:
    """They meet on the bridges of dom0, those of other stub domains, too."""
    words = re.search(r'hw ether "(\$\(printf .*\))"$', INIT, re.MULTILINE)
    assert words is not None
    found = []
    for domid, number in ((1, 0), (1, 1), (2, 0), (256, 0), (32751, 3)):
        script = f"domid={domid} number={number}; echo {words[1]}"
        found.append(subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.strip())
    assert found[0] == "fe:ff:00:01:00:fe" and found[-1] == "fe:ff:7f:ef:03:fe"
    assert len(set(found)) == len(found)


def functions(first: str, last: str, directory: Path) -> str:
    """Some of init's functions, with the files that they use in a directory."""
    there = INIT[INIT.index(f"{first}() {{\n") :]
    there = there[: there.index("\n}\n", there.index(f"{last}() {{\n")) + 3]
    return there.replace("/run/", f"{directory}/").replace("/dev/hvc", f"{directory}/hvc")


# Busybox's reads whole blocks, and what it does not print is gone (coreutils/head.c: it reads through stdio).
GREEDY_HEAD = """head() {
    python3 -c 'import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[:int(sys.argv[1])])' "$2"
}
"""


@pytest.mark.parametrize("head", ["", GREEDY_HEAD])
@pytest.mark.parametrize("size", [0, 8581, 100_000])
def test_what_was_saved_of_the_devices_is_what_goes_on(tmp_path: Path, size: int, head: str) -> None:
    state = os.urandom(size)
    (tmp_path / "state").write_bytes(state)
    (tmp_path / "hvc1").touch()
    send = functions("send", "send", tmp_path) + "send"
    assert subprocess.run(["sh", "-c", send], check=False).returncode == 0
    (tmp_path / "hvc1").rename(tmp_path / "hvc2")
    receive = f'fail() {{ echo "$*"; exit 1; }}\n{functions("receive", "receive", tmp_path)}receive; cat <&5'
    assert subprocess.run(["sh", "-c", head + receive], check=True, capture_output=True).stdout == state


def test_of_what_is_typed_before_the_console_is_raw_nothing_is_missed(tmp_path: Path) -> None:
    """Linux sends back, and cuts into lines, as much as its buffer takes (N_TTY_BUF_SIZE)."""
    (tmp_path / "state").write_bytes(b"QEVM")
    (tmp_path / "hvc1").touch()
    subprocess.run(["sh", "-c", functions("send", "send", tmp_path) + "send"], check=True)
    sent = (tmp_path / "hvc1").read_bytes()
    assert sent[:4096] == b"\x04" * 4096
    # Dom0 has written all of the state when it has taken the last of this out of the ring.
    assert len(sent) - sent.index(b"QEVM") - 4 > 2 * 2048


@pytest.mark.parametrize(
    "typed", [b"", b"\x04" * 5000 + b" \n", b"\x04" * 5000 + b" 12; reboot\n", b"QEVM" * 3000 + b"\n"]
)
def test_what_is_not_of_a_stub_domain_is_not_started_with(tmp_path: Path, typed: bytes) -> None:
    (tmp_path / "hvc2").write_bytes(typed)
    receive = f'fail() {{ echo "$*"; exit 1; }}\n{functions("receive", "receive", tmp_path)}receive'
    done = subprocess.run(["sh", "-c", receive], check=False, capture_output=True, text=True)
    assert done.returncode == 1 and "not of a stub domain like this one" in done.stdout


SAVE = '{"execute":"xen-save-devices-state","id":3,"arguments":{"live":false,"filename":"/dev/fdset/1"}}'
FINE = '{"return": {}, "id": %d}'
EVENT = '{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}'


def answered(directory: Path, asked: List[str], told: List[str], *, sends: bool = True) -> Tuple[List[str], List[str]]:
    """What libxl gets for what it asks, and what QEMU is asked of that."""
    for name, lines in (("asked", asked), ("told", told)):
        (directory / name).write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    wanted = (("comes", "comes"), ("show_disk", "show_disk"), ("ask", "answer"))
    parts_of_init = "".join(functions(*names, directory) for names in wanted)
    for place, played in (("/sys/bus/xen/devices", "bus"), ("/sys/class/block", "class"), (' "/sys/bus/pci', ' "pci')):
        parts_of_init = parts_of_init.replace(place, f"{directory}/{played}" if place.startswith("/") else played)
    script = f"""
        cd {directory}
        ejected=
        send() {{ : > sent; {str(sends).lower()}; }}
        mknod() {{ echo "$*" >> nodes; }}
        mount() {{ echo "$*" >> mounts; }}
        usleep() {{ mv later/* pci/devices/; }}
        xenstore() {{ cat "xenstore/$2" 2> nothing; }}
        {parts_of_init}
        exec 3< told 4> to_qemu
        while read -r line; do answer "$line"; printf '%s\\n' "$answer"; done < asked"""
    done = subprocess.run(["sh", "-c", script], check=True, capture_output=True)
    return (
        done.stdout.decode().split("\r\n")[:-1],
        (directory / "to_qemu").read_bytes().decode().split("\r\n")[:-1],
    )


def test_libxl_is_answered_as_qemu_would_answer_it(tmp_path: Path) -> None:
    """libxl asks for the capabilities at each connection, QEMU once."""
    stop = '{"execute":"stop","id":2}'
    query = '{"execute":"query-pci","id":4,"arguments":{"id":"net0"}}'
    long = '{"return": [{"text": "a\\b %s", "id": "net0"}], "id": 4}' % ("x" * 5000)
    asked = ['{"execute":"qmp_capabilities","id":1}', stop, SAVE, query]
    got, qemu = answered(tmp_path, asked, [EVENT, FINE % 2, EVENT, EVENT, FINE % 3, long])
    assert got == [FINE % 1, FINE % 2, FINE % 3, long]
    assert qemu == asked[1:] and (tmp_path / "sent").exists()


def test_a_guest_goes_on_when_it_cannot_be_saved(tmp_path: Path) -> None:
    cannot = '{"error": {"class": "GenericError", "desc": "no"}, "id": 3}'
    assert answered(tmp_path, [SAVE], [cannot]) == ([cannot], [SAVE])
    assert not (tmp_path / "sent").exists()
    ((first, second), qemu) = answered(tmp_path, [SAVE, SAVE], [FINE % 3], sends=False)
    assert "dom0 does not read" in json.loads(first)["error"]["desc"]
    # Dom0 would append it, and the guest go on with the first.
    assert "once after a start" in json.loads(second)["error"]["desc"]
    assert [json.loads(each)["id"] for each in (first, second)] == [3, 3] and qemu == [SAVE]


EJECT = '{"execute":"eject","id":2,"arguments":{"id":"ide-5632"}}'
SETS = '{"execute":"query-fdsets","id":%d}'
INSERT = (
    '{"execute":"blockdev-change-medium","id":6,"arguments":'
    '{"id":"ide-5632","filename":"/dev/fdset/5632","format":"host_device"}}'
)


def drive(directory: Path, disk: Optional[str] = None) -> None:
    """The drive hdc, as the kernel of the stub domain has it."""
    for number, name in (("768", "xvda"), ("5632", disk)):
        device = directory / f"bus/vbd-{number}"
        device.mkdir(parents=True, exist_ok=True)
        if name:
            (device / "block" / name).mkdir(parents=True, exist_ok=True)
            (directory / "class" / name).mkdir(parents=True, exist_ok=True)
            (directory / "class" / name / "dev").write_text("202:32\n")


def offered(answer: str) -> List[Tuple[int, str]]:
    """The sets of files that libxl finds (query_fdsets_find_fdset, libxl_disk.c)."""
    return [(found["fdset-id"], found["fds"][0]["opaque"]) for found in json.loads(answer)["return"]]


def test_a_medium_is_changed_by_way_of_another_disk(tmp_path: Path) -> None:
    drive(tmp_path, "xvdc")
    got, qemu = answered(tmp_path, [EJECT, SETS % 3, SETS % 4, INSERT], [FINE % 2, FINE % 6])
    assert [got[0], got[3]] == [FINE % 2, FINE % 6]
    # Nothing is open that would have to be closed; then the new disk is there.
    assert offered(got[1]) == [] and (5632, "stub-devid:5632") in offered(got[2])
    assert [json.loads(line)["id"] for line in got] == [2, 3, 4, 6]
    assert qemu == [EJECT, INSERT.replace("/dev/fdset/5632", "/dev/xvdc")]
    assert (tmp_path / "nodes").read_text() == f"-m 666 {tmp_path}/empty/dev/xvdc b 202 32\n"


def test_a_medium_whose_disk_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    drive(tmp_path)
    got, _qemu = answered(tmp_path, [EJECT, SETS % 3, SETS % 4], [FINE % 2])
    assert [number for number, _name in offered(got[2])] == [768]


def test_a_drive_that_the_guest_has_locked_stays_as_it_is(tmp_path: Path) -> None:
    drive(tmp_path, "xvdc")
    locked = '{"error": {"class": "GenericError", "desc": "is locked"}, "id": 2}'
    got, _qemu = answered(tmp_path, [EJECT, SETS % 3], [locked])
    assert got[0] == locked and len(offered(got[1])) == 2


ADD = (
    '{"execute":"device_add","id":5,"arguments":{"driver":"xen-pci-passthrough","id":"pci-pt-00_10.0",'
    '"hostaddr":"0000:00:10.0","permissive":true}}'
)


@pytest.mark.parametrize("late", [False, True])
def test_qemu_sees_a_device_under_both_of_its_addresses(tmp_path: Path, late: bool) -> None:
    """As libxl names it in dom0, and as the frontend does here; xenstore is as Xen 4.20 and Linux 6.12 write it."""
    backend = tmp_path / "xenstore/backend"
    backend.mkdir(parents=True)
    (tmp_path / "xenstore/device/pci/0").mkdir(parents=True)
    (tmp_path / "xenstore/device/pci/0/backend").write_text("backend\n")
    for name, value in {"dev-0": "0000:00:1b.0", "vdev-0": "0000:00:00.00"}.items():
        (backend / name).write_text(f"{value}\n")
    for name, value in {"dev-1": "0000:00:10.0", "vdev-1": "0000:00:01.03"}.items():
        (backend / name).write_text(f"{value}\n")
    (tmp_path / "pci/devices").mkdir(parents=True)
    device = tmp_path / ("later" if late else "pci/devices") / "0000:00:01.3"
    device.mkdir(parents=True)
    (device / "config").touch()
    assert answered(tmp_path, [ADD], [FINE % 5]) == ([FINE % 5], [ADD])
    shown = f"{tmp_path}/empty/sys/bus/pci/devices"
    assert (tmp_path / "mounts").read_text().splitlines() == [
        f"-o bind pci/devices/0000:00:01.3 {shown}/{name}" for name in ("0000:00:01.3", "0000:00:10.0")
    ]


def test_a_device_that_xenstore_does_not_have_is_for_qemu_to_refuse(tmp_path: Path) -> None:
    refused = '{"error": {"class": "GenericError", "desc": "no such device"}, "id": 5}'
    assert answered(tmp_path, [ADD], [refused]) == ([refused], [ADD])
    assert not (tmp_path / "mounts").exists()


@pytest.mark.parametrize(
    ("counted", "said"),
    [(0, "QEMU ended with status 137"), (1, "QEMU was killed, as the memory of the stub domain is used up")],
)
def test_why_qemu_has_ended(tmp_path: Path, counted: int, said: str) -> None:
    (tmp_path / "vmstat").write_text(f"drop_slab 5\noom_kill {counted}\nkswapd 0\n")
    end = INIT[INIT.rindex("wait $qemu\n") :].replace("/proc/vmstat", f"{tmp_path}/vmstat")
    script = f'fail() {{ echo "$*"; exit; }}\nsh -c "kill -9 \\$\\$" & qemu=$!\n{end}'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [said]


@pytest.mark.parametrize(("told", "keeps"), [("console=hvc0 stubdom.pci=yes", True), ("stubdom.pci=yesterday", False)])
@pytest.mark.parametrize(
    ("words", "without_user"),
    [
        ("-run-with chroot=/run/empty,user=1000:1000", "-run-with chroot=/run/empty"),
        ("-chroot /run/empty -runas 1000:1000", "-chroot /run/empty"),
    ],
)
def test_qemu_stays_root_only_where_there_are_devices(
    tmp_path: Path, told: str, keeps: bool, words: str, without_user: str
) -> None:
    start = INIT.index("read -r give_up_root")
    (tmp_path / "give-up-root").write_text(f"{words}\n")
    script = INIT[start : INIT.index("\nfi\n", start) + 4].replace("/host/", f"{tmp_path}/")
    helper = next(line for line in INIT.splitlines() if line.startswith("has_word() "))
    script = f"words='{told}'\n{helper}\n{script}echo \"$give_up_root\""
    done = subprocess.run(
        ["sh", "-c", f"mknod() {{ :; }}\nmkdir() {{ :; }}\nmount() {{ :; }}\n{script}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == (without_user if keeps else words)


@pytest.mark.parametrize(
    ("kernel", "root", "mib"),
    [
        (55 << 20, 20 << 20, 113),  # QEMU takes more than unpacking did
        (55 << 20, 60 << 20, 175),  # while it is unpacked, the archive is there twice
        ((55 << 20) + 1, 20 << 20, 114),
    ],
)
def test_memory_is_what_the_larger_of_two_moments_takes(kernel: int, root: int, mib: int) -> None:
    assert image.memory_mib(kernel, root) == mib


def test_packages_out_of_dpkg() -> None:
    owners = (
        "diversion by dash from: /bin/sh\n"
        "libc6:amd64: /lib/x86_64-linux-gnu/libc.so.6\n"
        "xen-utils-4.20, xen-other: /usr/lib/xen-4.20/bin/vchan-socket-proxy\n"
        "busybox-static: /bin/busybox\n"
    )
    assert image.packages(owners) == ["busybox-static", "libc6", "xen-other", "xen-utils-4.20"]


@pytest.mark.parametrize("path", ["/usr/bin/busybox", "/bin/busybox"])
def test_both_names_of_a_file_on_a_merged_usr(path: str) -> None:
    assert image.spellings(path) == ("/bin/busybox", "/usr/bin/busybox")
