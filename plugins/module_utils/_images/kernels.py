# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: Mini-OS kernels of the user's own, and the Makefiles that add them to Xen's
# tree.

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images import kinds
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch.digests import Digests
from ansible_collections.xen.stubdom.plugins.module_utils._images.releases import Release


@dataclass(frozen=True)
class Kernel:
    """A Mini-OS kernel of the user's own: the files of its directory, and their checksum.

    :param makefile: whether the directory has a Makefile that makes main.a; else all its *.c go into it.
    :param sources: names of its *.c files.
    """

    name: str
    directory: str
    digest: str
    makefile: bool
    sources: Tuple[str, ...] = ()

    @property
    def image(self) -> str:
        return f"custom-{self.name}"


def find(given: Sequence[Mapping[str, Any]], images: Sequence[str]) -> List[Kernel]:
    """Read the directories of the user's own kernels, one for each image custom-NAME.

    :raises UserError: one is missing, or there is nothing to build in it.
    """
    found = []
    for kernel in given:
        name, directory = kernel["name"], kernel["directory"]
        if not os.path.isdir(directory):
            raise UserError(
                f"The directory {directory} of the kernel {name} does not exist.", "Correct directory in kernels."
            )
        digest = Digests().tree(directory)
        makefile = os.path.isfile(os.path.join(directory, "Makefile"))
        sources = tuple(sorted(name for name in os.listdir(directory) if name.endswith(".c")))
        if not makefile and not sources:
            raise UserError(
                f"{directory} has neither a Makefile nor a C file.",
                f"Put the source of the kernel {name} there, or correct directory in kernels.",
            )
        found.append(Kernel(name, directory, digest, makefile, sources))
    asked = {name for name in images if kinds.CUSTOM.match(name)}
    unmatched = asked ^ {kernel.image for kernel in found}
    if unmatched:
        raise UserError(
            f"Only one of images and kernels has {', '.join(sorted(unmatched))}.",
            "Set in kernels the name and directory of each image custom-NAME.",
        )
    return found


def files(row: Release, kernels: Sequence[Kernel]) -> Dict[str, str]:
    """Return the Makefiles to write, by their paths in the tree."""
    return {**{makefile_path(kernel): makefile(row, kernel) for kernel in kernels}, **_own_makefiles(kernels)}


def makefile_path(kernel: Kernel) -> str:
    """Return where the Makefile of a kernel lies in the tree."""
    return f"stubdom/xen-stubdom-{kernel.image}.mk"


def makefile(row: Release, kernel: Kernel) -> str:
    """Return a Makefile that adds one stub domain to those of stubdom/Makefile, in the manner of its rules for c."""
    name = kernel.image
    library = "libxc" if row.version < (4, 15) else "libxenguest"
    # The configuration of a kernel became a file of flags in 4.8 (rule c-minios-config.mk).
    config = f"{name}-minios-config.mk" if row.version >= (4, 8) else ""
    flags = f" $(shell cat {config})" if config else ""
    settings = f'MINIOS_CONFIG="$(CURDIR)/{name}/minios.cfg"'
    rules = [
        "include Makefile",
        f"OURS := mini-os-$(XEN_TARGET_ARCH)-{name}",
        "$(OURS):",
        "\tcd $(MINI_OS) && find . -type d -exec mkdir -p $(CURDIR)/$@/{} ';'",
    ]
    if config:
        rules += [
            f"{config}: {name}/minios.cfg",
            f'\t{settings} CONFIG_FILE="$(CURDIR)/$@" $(MAKE) DESTDIR= -C $(MINI_OS) config',
        ]
    rules += [
        f".PHONY: {name} {name}-stubdom",
        f"{name}: $(CROSS_ROOT) {config}".rstrip(),
        f'\tCPPFLAGS="$(TARGET_CPPFLAGS){flags}" CFLAGS="$(TARGET_CFLAGS)" $(MAKE) DESTDIR= -C {name} '
        "LWIPDIR=$(CURDIR)/lwip-$(XEN_TARGET_ARCH) main.a",
        f"{name}-stubdom: $(OURS) lwip-$(XEN_TARGET_ARCH) {library} {name}",
        f'\tDEF_CPPFLAGS="$(TARGET_CPPFLAGS)" DEF_CFLAGS="$(TARGET_CFLAGS)" DEF_LDFLAGS="$(TARGET_LDFLAGS)" {settings} '
        "$(MAKE) DESTDIR= -C $(MINI_OS) OBJ_DIR=$(CURDIR)/$(OURS) LWIPDIR=$(CURDIR)/lwip-$(XEN_TARGET_ARCH) "
        f"APP_OBJS=$(CURDIR)/{name}/main.a",
    ]
    return "\n".join(rules) + "\n"


def _own_makefiles(kernels: Sequence[Kernel]) -> Dict[str, str]:
    files = {}
    for kernel in kernels:
        if not kernel.makefile:
            objects = " ".join(re.sub(r"\.c$", ".o", source) for source in kernel.sources)
            files[f"stubdom/{kernel.image}/Makefile"] = (
                "XEN_ROOT = $(CURDIR)/../..\ninclude $(XEN_ROOT)/Config.mk\n"
                f"main.a: {objects}\n\trm -f $@\n\t$(AR) cr $@ $^\n"
            )
    return files
