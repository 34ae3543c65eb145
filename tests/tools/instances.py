# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of one of molecule's scenarios: create.yml and destroy.yml in .config/molecule run this.

instances.py create     starts or unpacks them, and writes molecule's inventory
instances.py destroy    ends them; their logs stay until the scenario is played again

A scenario named xen_* has real Xen hosts in QEMU (lab/xenlab), any other has Debian file systems without Xen. Which
ones, and where the inventory belongs, is in the environment that molecule gives to its playbooks. XEN_STUBDOM_OWNER may
hold the number of a process with which Xen hosts end in any case.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "lab"), str(REPOSITORY / "tests" / "tools")]

import chroots
from errors import LabError
from files import key_of
from programs import end_as_by_ctrl_c

Variables = dict[str, Any]
Hosts = dict[str, Variables]
# The name of a scenario decides what its hosts are.
XEN = "xen_"
# Of every Xen host. Beside three others on two processors a reboot took up to 326 s of the 600 s that a real host is
# given, and there are slower machines.
XEN_VARIABLES: Variables = {"dom0_memory_reboot_timeout": 1800}


@dataclass(frozen=True)
class Instances:
    """The hosts of a scenario; `directory` is molecule's for this scenario, `owner` a process or nothing."""

    scenario: str
    platforms: tuple[Variables, ...]
    directory: Path
    owner: str = ""

    @classmethod
    def described(cls, environment: Mapping[str, str]) -> Instances:
        """As molecule describes them to its playbooks."""
        content = yaml.safe_load(Path(environment["MOLECULE_FILE"]).read_text())
        return cls(
            environment["MOLECULE_SCENARIO_NAME"],
            tuple(content["platforms"]),
            Path(environment["MOLECULE_EPHEMERAL_DIRECTORY"]),
            environment.get("XEN_STUBDOM_OWNER", ""),
        )

    @property
    def on_xen(self) -> bool:
        return self.scenario.startswith(XEN)

    @property
    def key(self) -> str:
        """Tells this checkout's hosts from those of others."""
        return key_of(str(self.directory))[:6]

    def name(self, platform: str) -> str:
        """A name that the lab takes (32 small letters, digits, hyphens)."""
        tail = f"-{platform}-{self.key}"
        return self.scenario.removeprefix(XEN).replace("_", "-")[: 32 - len(tail)] + tail

    def create(self) -> None:
        """Starts all of them, or none, and writes the inventory: all in the group xen_hosts."""
        self.destroy()
        hosts = self._started() if self.on_xen else self._unpacked()
        # Molecule hands the whole directory to Ansible, and writes a file of its own into it.
        path = self.directory / "inventory" / "xen_hosts.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"xen_hosts": {"hosts": hosts}}, indent=2))

    def destroy(self) -> None:
        """Ends them, or as many as there are."""
        if self.on_xen:
            for platform in self.platforms:
                xenlab("down", "--name", self.name(platform["name"]))
        else:
            chroots.remove(self.key)

    def _started(self) -> Hosts:
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(self._up, self.platforms))
            names = {platform["name"]: self.name(platform["name"]) for platform in self.platforms}
            words = [word for name in names.values() for word in ("--name", name)]
            hosts = yaml.safe_load(xenlab("inventory", *words))["xen_hosts"]["hosts"]
        except BaseException:
            self.destroy()
            raise
        return {platform: {**hosts[name], **XEN_VARIABLES} for platform, name in names.items()}

    def _up(self, platform: Variables) -> None:
        options = [word for key in ("memory", "cpus") if key in platform for word in (f"--{key}", str(platform[key]))]
        options += [f"--{key}" for key in ("efi", "iommu") if platform.get(key)]
        options += ["--owner", self.owner] if self.owner else []
        release = platform["release"] if "release" in platform else platform["name"]
        xenlab("up", "--name", self.name(platform["name"]), "--release", release, *options)

    def _unpacked(self) -> Hosts:
        trees = chroots.unpack([platform["name"] for platform in self.platforms], self.key, self.owner)
        return {
            release: {
                "ansible_connection": "community.general.chroot",
                "ansible_host": str(tree),
                "ansible_python_interpreter": "/usr/bin/python3",
            }
            for release, tree in trees.items()
        }


def xenlab(*words: str) -> str:
    """The output of a command of the lab."""
    command = [sys.executable, str(REPOSITORY / "lab" / "xenlab"), *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"xenlab {' '.join(words)} failed.", "Its messages stand above.")
    return done.stdout


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("create", "destroy"))
    asked = parser.parse_args(words)
    end_as_by_ctrl_c()
    try:
        instances = Instances.described(os.environ)
        if asked.action == "create":
            instances.create()
        else:
            instances.destroy()
    except LabError as error:
        print(f"instances.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
