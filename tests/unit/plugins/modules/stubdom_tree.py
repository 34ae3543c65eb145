# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# A tree with the goals of Xen's stubdom/Makefile and nothing behind them, for tests of the engine that last no time.

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

CONFIGURE = """\
#!/bin/sh
echo "$@" >> configured
"""

# Each goal leaves a trace in `made`; FAIL names one that fails, SLEEP one that lasts.
MAKEFILE = """\
cross-newlib cross-zlib cross-libpci libxenguest lwip-x86_64:
\t@echo $@ >> made
\t@[ ! -e slow-$@ ] || sleep 60
c-stubdom:
\t@echo $@ >> made
\t@[ ! -e broken ] || { echo 'c/main.c:7:1: error: expected expression'; false; }
\tmkdir -p mini-os-x86_64-c
\tcp ../extras/mini-os/kernel mini-os-x86_64-c/mini-os.gz
pv-grub:
\t@echo $@ >> made
\tmkdir -p mini-os-x86_64-grub
\techo grub > mini-os-x86_64-grub/mini-os.gz
"""


def make(path: Path) -> List[Dict[str, Any]]:
    """Lay the tree out and return its sources as stubdom_source would."""
    xen, mini_os = path / "xen", path / "mini-os"
    for directory in (xen / "stubdom", xen / "tools" / "include", xen / "tools" / "libs" / "ctrl", mini_os):
        directory.mkdir(parents=True)
    (xen / "configure").write_text(CONFIGURE)
    (xen / "configure").chmod(0o755)
    (xen / "stubdom" / "Makefile").write_text(MAKEFILE)
    (xen / "tools" / "include" / "Makefile").write_text("all:\n")
    (xen / "tools" / "libs" / "ctrl" / "Makefile").write_text("_paths.h:\n\ttouch $@\n")
    (mini_os / "kernel").write_text("kernel\n")
    return [
        {"name": name, "kind": "directory", "origin": str(place), "path": str(place), "digest": name, "version": name}
        for name, place in (("xen", xen), ("mini-os", mini_os))
    ]
