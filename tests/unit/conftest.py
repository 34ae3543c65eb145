# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection can be imported under its own name, wherever the checkout lies."""

from __future__ import annotations

import atexit
import importlib.util
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def _importable() -> bool:
    try:
        return importlib.util.find_spec("ansible_collections.xen.stubdom") is not None
    except ModuleNotFoundError:
        return False


# ansible-test and pytest-ansible have seen to it. The latter alone is not enough: it serves only what is started
# in the root of the checkout, leaves a tree of links there, and costs every process a second.
if not _importable():
    directory = tempfile.TemporaryDirectory(prefix="xen-stubdom-")
    atexit.register(directory.cleanup)
    namespace = Path(directory.name) / "ansible_collections" / "xen"
    namespace.mkdir(parents=True)
    (namespace / "stubdom").symlink_to(REPOSITORY)
    sys.path.insert(0, directory.name)
