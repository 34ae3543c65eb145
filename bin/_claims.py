# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the demonstration claims, and where each claim is read from: never from a module of the collection.

A claim is a command that runs on the host and the answer that is expected: what the hypervisor and xenstore report, and
what the guests themselves print.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase

# What docs/example/demo/inventory/group_vars/xen_hosts.yml asks for; a test compares the two.
DOM0_SIZE = "1G"
DOM0_MIB = 1024
# What xl shows is rounded, and leaves out some pages that the hypervisor keeps.
DOM0_SLACK_MIB = 16
GRUB = "web1"
HVM = "hvm1"
SAYS = {
    GRUB: "web1: this is the userspace of a guest that GRUB has booted",
    HVM: "hvm1: this is the boot sector of an HVM guest",
}
DISKS = {GRUB: "/var/lib/xen/images/web1.img", HVM: "/var/lib/xen/images/hvm1.img"}

# Shell fragments, each one word of a command below.
GRUB_ID = f"$(xl domid {GRUB})"
HVM_ID = f"$(xl domid {HVM})"
MODEL_ID = f"$(xenstore-read /local/domain/{HVM_ID}/image/device-model-domid)"


@dataclass(frozen=True)
class Claim:
    """What is claimed, the command that finds out, the answer that is expected, and how the two are compared."""

    claim: str
    source: str
    expected: str
    holds: Callable[[str, str], bool] = str.__eq__


@dataclass(frozen=True)
class Finding:
    """A claim and what was seen."""

    claim: str
    expected: str
    seen: str
    source: str
    ok: bool


def near(seen: str, expected: str) -> bool:
    """Whether an amount in MiB is the expected one."""
    return seen.isdigit() and abs(int(seen) - int(expected.split()[0])) <= DOM0_SLACK_MIB


def listen(guest: str) -> str:
    """A command that prints a guest's line as soon as the guest does, which repeats it every few seconds."""
    return f"timeout 60 xl console {guest} < /dev/null | grep -a -m1 -oF '{SAYS[guest]}'"


CLAIMS = (
    Claim("the host runs Xen", "cat /sys/hypervisor/type", "xen"),
    Claim(
        "the hypervisor was started with a fixed memory for dom0",
        "xl info xen_commandline | tr ' ' '\\n' | grep ^dom0_mem",
        f"dom0_mem={DOM0_SIZE},max:{DOM0_SIZE}",
    ),
    Claim("dom0 has that memory (MiB)", "xl list 0 | awk 'END { print $3 }'", f"{DOM0_MIB}", near),
    Claim("xl takes none of it away", "grep ^autoballoon /etc/xen/xl.conf", 'autoballoon="off"'),
    Claim(
        "the first guest was started by GRUB 2 for Xen",
        f'xl list -l {GRUB} | sed -n \'s#.*"kernel": ".*/\\(.*\\)".*#\\1#p\'',
        # i386-xen_pvh for a PVH guest, x86_64-xen for a PV guest
        "grub-*-xen*.bin",
        fnmatchcase,
    ),
    Claim("the first guest runs its own kernel up to userspace", listen(GRUB), SAYS[GRUB]),
    Claim(
        "the device model of the HVM guest is a domain of its own",
        f"xl domname {MODEL_ID}",
        f"{HVM}-dm",
    ),
    Claim(
        "that domain says that the device model runs",
        f"xenstore-read /local/domain/{MODEL_ID}/device-model/{HVM_ID}/state",
        "running",
    ),
    Claim(
        "no QEMU in dom0 is the device model of the HVM guest",
        f'xl domid {HVM} > /dev/null && pgrep -fc -- "-xen-domid {HVM_ID} "',
        "0",
    ),
    Claim("the HVM guest runs from its disk", listen(HVM), SAYS[HVM]),
)
# What must be the same before and after the second run: (what, command).
LASTING = (
    ("the host was not rebooted", "cat /proc/sys/kernel/random/boot_id"),
    ("the first guest is the same domain", f"xl domid {GRUB}"),
    ("the HVM guest is the same domain", f"xl domid {HVM}"),
)


def check(ask: Callable[[str], str], claims: Sequence[Claim] = CLAIMS) -> Iterator[Finding]:
    """Asks the host, claim by claim; `ask` runs a command there and gives what it prints."""
    for claim in claims:
        seen = ask(claim.source).strip()
        yield Finding(claim.claim, claim.expected, seen, claim.source, claim.holds(seen, claim.expected))


def lasting(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Finding]:
    """Compares the output of LASTING's commands before the second run and after it."""
    for what, command in LASTING:
        seen = after[command]
        yield Finding(f"second run: {what}", before[command], seen, command, bool(seen) and seen == before[command])


def unchanged(changed: int) -> Finding:
    """What Ansible counted in the second run."""
    return Finding("second run: nothing changed", "0", str(changed), "ansible-playbook's own recap", changed == 0)


def table(findings: Sequence[Finding]) -> str:
    """The findings for the terminal, three lines each."""
    lines = []
    for finding in findings:
        lines.append(f"{'proved' if finding.ok else 'FAILED'}  {finding.claim}")
        lines.append(
            f"        {finding.seen or '(nothing)'}" + ("" if finding.ok else f"   expected: {finding.expected}")
        )
        lines.append(f"        from: {finding.source}")
    return "\n".join(lines)


def report(
    findings: Sequence[Finding], changed: int | None, modules: int, seconds: Mapping[str, float]
) -> dict[str, object]:
    """The same as data: build/demo/report.json."""
    return {
        "ok": bool(findings) and changed == 0 and all(finding.ok for finding in findings),
        "claims": [asdict(finding) for finding in findings],
        "second_run": {"changed": changed, "module_executions": modules},
        "seconds": {stage: round(taken, 1) for stage, taken in seconds.items()},
    }
