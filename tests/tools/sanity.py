# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-test wants to find before it runs on a checkout that lies anywhere."""

from __future__ import annotations

import fnmatch
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path


def left_out(galaxy: str) -> list[str]:
    """The patterns of build_ignore in galaxy.yml."""
    _before, _key, lines = galaxy.partition("\nbuild_ignore:\n")
    patterns = []
    for line in lines.splitlines():
        if line.startswith("  - "):
            patterns.append(line.removeprefix("  - ").strip("\"'"))
        elif not line.lstrip().startswith("#"):
            break
    return patterns


def packed(name: str, patterns: Sequence[str]) -> bool:
    """Whether a file is a part of the built collection: neither it nor a directory that it is in matches a pattern."""
    path = Path(name)
    ways = [str(way) for way in (path, *path.parents)]
    return not any(fnmatch.fnmatch(way, pattern) for way in ways for pattern in patterns)


def files(repository: Path) -> list[str]:
    """What git knows or would take, as far as it is there and users get it.

    Other programs than ansible-test check the rest, which runs on no host and is no part of what users install.
    """
    listed = subprocess.run(
        ["git", "-C", str(repository), "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        capture_output=True,
        text=True,
        check=True,
    )
    patterns = left_out((repository / "galaxy.yml").read_text())
    names = {name for name in listed.stdout.split("\0") if name and os.path.lexists(repository / name)}
    return sorted(name for name in names if packed(name, patterns))


def copy(repository: Path, names: Sequence[str], target: Path) -> None:
    """Makes `target` equal to these files of the repository; what is the same already is not written."""
    wanted = set(names)
    for name in wanted:
        source, copied = repository / name, target / name
        copied.parent.mkdir(parents=True, exist_ok=True)
        if not same(source, copied):
            shutil.copy2(source, copied, follow_symlinks=False)
    for path in sorted(target.rglob("*"), reverse=True):
        name = str(path.relative_to(target))
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif name not in wanted and not name.startswith("tests/output/"):
            path.unlink()


def same(source: Path, copied: Path) -> bool:
    if not copied.exists() or copied.is_symlink() or source.is_symlink():
        return False
    return (source.stat().st_mode, source.read_bytes()) == (copied.stat().st_mode, copied.read_bytes())


def tree(repository: Path, cache: Path) -> Path:
    """A copy of the checkout where ansible-test accepts it: in a directory ansible_collections/xen/stubdom."""
    target = cache / "ansible_collections" / "xen" / "stubdom"
    copy(repository, files(repository), target)
    return target


# ansible-test makes virtual environments with a get-pip.py that it fetches from a place few machines reach. The pip
# that Python contains does the same.
GET_PIP = """\
import ensurepip, os, runpy, sys
bundled = os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")
elsewhere = "/usr/share/python-wheels"
wheels = [
    os.path.join(directory, name)
    for directory in (bundled, elsewhere)
    if os.path.isdir(directory)
    for name in sorted(os.listdir(directory))
    if name.startswith("pip-") and name.endswith(".whl")
]
sys.path.insert(0, wheels[0])
sys.argv = ["pip", "install"] + [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
# The names under which the releases of ansible-test look for it.
GET_PIP_VERSIONS = ("21_3_1", "23_1_2", "24_2", "25_2")


def home(directory: Path) -> Path:
    """A home directory for ansible-test alone, with the stand-in for get-pip.py."""
    cache = directory / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for version in GET_PIP_VERSIONS:
        (cache / f"get_pip_{version}.py").write_text(GET_PIP)
    return directory


def interpreters(environment: dict[str, str]) -> list[str]:
    """Directories with Python interpreters that pyenv keeps: what it puts on the PATH are only stand-ins for them."""
    root = Path(environment.get("PYENV_ROOT") or Path(environment["HOME"]) / ".pyenv")
    return [str(directory) for directory in sorted(root.glob("versions/3.*/bin"))]


def environment(inherited: dict[str, str], directory: Path) -> dict[str, str]:
    """The environment of ansible-test: its own home, the caller's pip configuration, all interpreters there are."""
    configuration = inherited.get("XDG_CONFIG_HOME") or str(Path(inherited["HOME"]) / ".config")
    own, *rest = inherited["PATH"].split(":")
    path = [own, *interpreters(inherited), *(entry for entry in rest if not entry.endswith("/shims"))]
    result = {**inherited, "HOME": str(directory), "XDG_CONFIG_HOME": configuration, "PATH": ":".join(path)}
    # The copy lies where ansible-test finds it.
    del result["ANSIBLE_COLLECTIONS_PATH"]
    return result
