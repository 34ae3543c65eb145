# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands in bin/ need on this machine: Debian packages, and Python packages in a cache of their own.

A command names what it is going to do, by keys of NEEDS, and gets the environment in which its programs run:

    environment = _machine.prepare("demo", "ansible", "lab")
    subprocess.run(["ansible-playbook", ...], env=environment)
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.dont_write_bytecode = sys.pycache_prefix is None
REPOSITORY = Path(__file__).resolve().parent.parent
REQUIREMENTS = REPOSITORY / "requirements"
sys.path.insert(0, str(REPOSITORY / "lab"))

import apt_sources
import efi
import files
import programs
import qemu
from errors import LabError
from progress import Progress


@dataclass(frozen=True)
class Need:
    """Debian packages, and a file in requirements/ without its ending."""

    packages: tuple[str, ...] = ()
    requirements: str = ""


# What an ordinary user needs and root does not.
UNPRIVILEGED = ("unshare", "newuidmap")
TOOL_PACKAGES = {package for name, (package, _) in programs.TOOLS.items() if os.geteuid() or name not in UNPRIVILEGED}
LAB_PACKAGES = tuple(sorted(TOOL_PACKAGES - set(efi.PACKAGES)))
QEMU_PACKAGES = {"qemu-system-x86", "qemu-utils"}
BACKPORTS_FILE = "/etc/apt/sources.list.d/xen-stubdom-backports.list"
UNIT_PACKAGES = (
    "bubblewrap", "busybox", "bzip2", "ca-certificates", "dnsmasq-base", "e2fsprogs", "gcc", "git", "grub-common",
    "iproute2", "libc6-dev", "make",
)  # fmt: skip
NEEDS = {
    "ansible": Need(("ca-certificates", "openssh-client"), "ansible"),
    "unit": Need(UNIT_PACKAGES, "unit"),
    "mutation": Need(UNIT_PACKAGES, "mutation"),
    "check": Need(("ca-certificates", "git", "shellcheck"), "check"),
    "molecule": Need(("ca-certificates", "openssh-client"), "molecule"),
    "chroot": Need(("mmdebstrap", "tar")),
    "pyinfra": Need(("openssh-client",), "pyinfra"),
    "lab": Need(LAB_PACKAGES),
    # xen_efi makes an image of several with objcopy.
    "efi": Need((*efi.PACKAGES, "binutils")),
}


def prepare(command: str, *needs: str) -> dict[str, str]:
    """Installs what is missing, after saying so, and returns the environment that has it all on its PATH."""
    wanted = [NEEDS[need] for need in needs]
    packages = {package for need in wanted for package in need.packages}
    install(command, missing(sorted(packages - QEMU_PACKAGES)))
    if packages & QEMU_PACKAGES:
        install_qemu(command)
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    environment["ANSIBLE_COLLECTIONS_PATH"] = str(collections_path())
    paths = [str(virtual_environment(command, need.requirements) / "bin") for need in wanted if need.requirements]
    environment["PATH"] = ":".join([*paths, os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    return environment


def progress(command: str) -> Progress:
    """News of a command, with one record of durations for all of them."""
    return Progress(command, files.base_directory() / "preparations.json")


# ---- Debian packages ------------------------------------------------------------------------------------------------


def lab(environment: Mapping[str, str], *words: str) -> None:
    """Runs a command of lab/xenlab."""
    command = [sys.executable, str(REPOSITORY / "lab" / "xenlab"), *words]
    if subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode != 0:
        raise LabError(f"xenlab {words[0]} failed.", "Its messages stand above.")


def as_root(command: Sequence[str]) -> list[str]:
    """The command as root runs it."""
    if os.geteuid() == 0:
        return list(command)
    sudo = shutil.which("sudo")
    if sudo is None:
        raise LabError(
            f"Only root may do this, and there is no sudo: {' '.join(command)}", "Run it as root, or install sudo."
        )
    return [sudo, *command]


def missing(packages: Sequence[str]) -> list[str]:
    """Those of the packages that are not installed."""
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n", *packages]
    answer = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    installed = {name for status, name in (line.split() for line in answer.splitlines()) if status == "installed"}
    return [package for package in packages if package not in installed]


def install(command: str, packages: Sequence[str], *options: str) -> None:
    """Installs packages from the sources this machine's apt knows, after any other command of bin/ that does so."""
    if not packages:
        return
    said = progress(command)
    lock = files.base_directory() / "apt.lock"
    with files.only_one(lock, lambda: said.say("waits for another command that installs packages")):
        _install(said, packages, *options)


def _install(said: Progress, packages: Sequence[str], *options: str) -> None:
    with said.step(f"installs the Debian packages {' '.join(packages)}", " ".join(packages)):
        apt_get("update")
        apt_get("--no-install-recommends", *options, "install", *packages)


def apt_get(*words: str) -> None:
    # What installs updates by itself may hold the lock. In seconds.
    options = ("-q", "-y", "-o", "DPkg::Lock::Timeout=600")
    done = subprocess.run(
        as_root(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *options, *words]),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        telling = [line for line in done.stdout.splitlines() if line.startswith("E:")] or done.stdout.splitlines()
        raise LabError(f"Debian packages could not be installed: {' '.join(words)}.", " / ".join(telling[-3:]))


def candidate(policy: str) -> tuple[int, int]:
    """The version that `apt-cache policy PACKAGE` names as the one to be installed."""
    match = re.search(r"Candidate: (?:\d+:)?(\d+)\.(\d+)", policy)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def install_qemu(command: str) -> None:
    """Installs a QEMU that is new enough for the lab; the one of Debian 12 is not, that of its backports is."""
    if not missing(sorted(QEMU_PACKAGES)):
        try:
            qemu.version()
            return
        except LabError as error:
            progress(command).say(str(error).splitlines()[0])
    apt_get("update")
    policy = subprocess.run(["apt-cache", "policy", "qemu-system-x86"], capture_output=True, text=True, check=True)
    options = []
    if candidate(policy.stdout) < qemu.MINIMUM:
        codename, sources = apt_sources.machine_codename(), apt_sources.machine_sources()
        suite = f"{codename}-backports"
        options = ["--target-release", suite]
        if not any(source.suite == suite for source in sources):
            progress(command).say(f"adds {BACKPORTS_FILE}, as the QEMU of {codename} is too old for the lab")
            line = apt_sources.backports(sources, codename).line()
            subprocess.run(
                as_root(["tee", BACKPORTS_FILE]), input=f"{line}\n", text=True, stdout=subprocess.DEVNULL, check=True
            )
    install(command, sorted(QEMU_PACKAGES), *options)
    qemu.version()


# ---- Python packages ------------------------------------------------------------------------------------------------


def wanted_packages(name: str) -> list[str]:
    """The lines of a file in requirements/ and of those that it includes."""
    lines = [line.strip() for line in (REQUIREMENTS / f"{name}.txt").read_text().splitlines()]
    result: list[str] = []
    for line in lines:
        if line.startswith("-r "):
            result += wanted_packages(line.removeprefix("-r ").removesuffix(".txt"))
        elif line and not line.startswith("#"):
            result.append(line)
    return result


def virtual_environment(command: str, name: str) -> Path:
    """The virtual environment with the packages of a file in requirements/; made when the cache does not have it."""
    constraints = REQUIREMENTS / "constraints.txt"
    key = files.key_of([platform.python_version(), wanted_packages(name), constraints.read_text()])
    directory = files.base_directory() / f"venv-{name}-{key}"
    finished = directory / "finished"
    if finished.exists():
        return directory
    busy = f"another program installs the Python packages of requirements/{name}.txt; waiting for it"
    with files.only_one(directory.with_suffix(".lock"), lambda: progress(command).say(busy)):
        if finished.exists():
            return directory
        # What an interrupted run has left.
        shutil.rmtree(directory, ignore_errors=True)
        news = f"installs the Python packages of requirements/{name}.txt into {directory}"
        with progress(command).step(news, f"requirements/{name}.txt"):
            _pip([sys.executable, "-m", "venv", str(directory)], name)
            _pip(
                [
                    *(str(directory / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"),
                    *(
                        "--no-compile",
                        "--requirement",
                        str(REQUIREMENTS / f"{name}.txt"),
                        "--constraint",
                        str(constraints),
                    ),
                ],
                name,
            )
            # Else every process compiles pytest and Ansible for itself where Python writes no bytecode. The collections
            # that the package ansible brings are ten times as much, and are seldom imported.
            compiling = ["-m", "compileall", "-q", "-x", "ansible_collections", str(directory / "lib")]
            subprocess.run([str(directory / "bin/python"), *compiling], stdout=subprocess.DEVNULL, check=False)
        finished.touch()
    return directory


def _pip(words: Sequence[str], name: str) -> None:
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        telling = [line for line in done.stdout.splitlines() if "ERROR" in line] or done.stdout.splitlines()
        raise LabError(
            f"The Python packages of requirements/{name}.txt could not be installed.",
            "pip printed: " + " / ".join(telling[-3:]),
        )


def collections_path() -> Path:
    """A directory in which Ansible finds this checkout as the collection xen.stubdom."""
    base = files.base_directory() / "collections" / files.key_of(str(REPOSITORY))
    link = base / "ansible_collections" / "xen" / "stubdom"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(REPOSITORY)
    return base
