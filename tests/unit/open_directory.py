# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# A directory in which an unprivileged account can work, whoever runs the tests; pytest's own are closed to others.

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def open_directory(name: str) -> Iterator[Path]:
    """Give an empty directory, which is gone afterwards; not in /tmp, of which a sealed build has its own."""
    parent = Path("/var/cache") if os.geteuid() == 0 else Path.home() / ".cache"
    path = parent / f"xen-stubdom-{os.getpid()}-{name}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o755, parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
