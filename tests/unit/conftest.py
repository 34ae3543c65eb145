# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection can be imported under its own name, wherever the checkout lies."""

from __future__ import annotations

import atexit
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

# To compile a file of tests takes longer than to run it; bin/test says where pytest keeps what it has compiled.
if "XEN_STUBDOM_BYTECODE" in os.environ:
    sys.pycache_prefix = os.environ["XEN_STUBDOM_BYTECODE"]
    sys.dont_write_bytecode = False


def _importable() -> bool:
    try:
        return importlib.util.find_spec("ansible_collections.xen.stubdom") is not None
    except ModuleNotFoundError:
        return False


def _link() -> Path | None:
    """Where bin/test has this checkout as a collection, under the same path each time."""
    for name in os.environ.get("ANSIBLE_COLLECTIONS_PATH", "").split(os.pathsep):
        if Path(name, "ansible_collections", "xen", "stubdom").resolve() == REPOSITORY:
            return Path(name)
    return None


# ansible-test and pytest-ansible have seen to it. The latter alone is not enough: it serves only what is started
# in the root of the checkout, leaves a tree of links there, and costs every process a second.
if not _importable() and _link() is not None:
    sys.path.insert(0, str(_link()))
elif not _importable():
    directory = tempfile.TemporaryDirectory(prefix="xen-stubdom-")
    atexit.register(directory.cleanup)
    namespace = Path(directory.name) / "ansible_collections" / "xen"
    namespace.mkdir(parents=True)
    (namespace / "stubdom").symlink_to(REPOSITORY)
    sys.path.insert(0, directory.name)
