#!/usr/bin/python
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: stubdom_source
short_description: Download and verify the sources of stub domains
version_added: 0.1.0
description:
  - Determines which sources the images of a release of Xen need, downloads the missing ones to the build host, and
    verifies each by its SHA-256 or commit before anything is unpacked.
  - With O(directory) nothing is downloaded. Files that are missing there are listed with their checksums and the
    addresses where they are published.
  - Sources that are present need no connection. Each of the others is named on the controller's terminal before its
    download. A branch of a remote repository is fetched once and not updated, so set a tag or a commit.
  - Downloads by HTTP use the proxy variables of the environment, the certificates of the build host, and credentials in
    the URL or in C(~/.netrc). A failed download is tried three times, and ends after 30 minutes or 1 GiB.
  - When run as root it works as O(user), so that the sources belong to the account that builds.
author:
  - The xen.stubdom authors (@xen-stubdom)
extends_documentation_fragment:
  - xen.stubdom.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    support: full
    platforms: linux
options:
  release:
    description: Release of Xen, for example V(4.17) or V(4.17.5).
    type: str
    required: true
  images:
    description:
      - The images to build; V(pv-grub), V(pv-grub-x86_32), V(ioemu), V(c), V(caml), V(custom-NAME).
      - V(hvmloader) and V(qemu-dm) are the dom0 helper programs of V(ioemu), an hvmloader with ROMBIOS and a program
        that serves the stub domain's consoles with the distribution's QEMU.
    type: list
    elements: str
    required: true
  work_directory:
    description:
      - Directory on the build host; an absolute path. It belongs to the account that runs the module.
      - Sources are below it in C(build), the only directory that the account that builds can write to.
    type: path
    default: /var/lib/xen.stubdom
  user:
    description:
      - The account that downloads and builds, which must do nothing else. By default this is V(xen-stubdom), a system
        account without a shell that is made when it is missing, and the account that runs the module if that is not
        root.
    type: str
  xen:
    description:
      - Source of Xen. The default is upstream's git repository, at the tag of O(release).
    type: dict
    suboptions: &tree
      tarball:
        description: Absolute path or URL (V(http), V(https), V(file)) of a tarball.
        type: str
      git:
        description: Absolute path or URL (V(http), V(https), V(git), V(ssh), V(file)) of a git repository.
        type: str
      revision:
        description: Tag, branch or commit of O(xen.git). The default is the one that O(release) was released with.
        type: str
      directory:
        description: Absolute path of a directory on the build host; it is copied and not changed.
        type: path
      package:
        description: Name of a source package of the build host's distribution, for example V(xen); for O(xen) only.
        type: str
      checksum:
        description: SHA-256 of the tarball, or commit that the revision has to be.
        type: str
  mini_os:
    description: Source of Mini-OS, for releases from 4.6 on. The default is the revision that O(release) names.
    type: dict
    suboptions: *tree
  qemu_traditional:
    description: Source of qemu-xen-traditional, for V(ioemu). The default is the revision that O(release) names.
    type: dict
    suboptions: *tree
  directory:
    description: Directory on the build host with the tarballs of the libraries. If it is set, nothing is downloaded.
    type: path
  mirror:
    description: Base URL of the tarballs of the libraries, in place of upstream's.
    type: str
  checksums:
    description: SHA-256 of tarballs by file name. They take precedence over the ones in this collection.
    type: dict
    default: {}
  allow_unverified:
    description: Whether to download sources for which no checksum is known.
    type: bool
    default: false
  timeout:
    description: Seconds without a byte after which a download attempt is given up; 1 to 3600.
    type: int
    default: 60
seealso:
  - module: xen.stubdom.stubdom_build
"""

EXAMPLES = r"""
- name: Download everything for PV-GRUB from upstream
  xen.stubdom.stubdom_source:
    release: "4.17"
    images: [pv-grub]

- name: Use sources that were copied to a build host without a network
  xen.stubdom.stubdom_source:
    release: "4.17"
    images: [pv-grub, ioemu]
    xen:
      tarball: /srv/sources/xen-4.17.7.tar.gz
    mini_os:
      git: file:///srv/sources/mini-os.git
    qemu_traditional:
      directory: /srv/sources/qemu-xen-traditional
    directory: /srv/sources
"""

RETURN = r"""
sources:
  description: The sources, in the form in which M(xen.stubdom.stubdom_build) takes them.
  type: list
  elements: dict
  returned: success; in check mode only those that are present
  sample:
    - name: zlib-1.2.3.tar.gz
      kind: file
      origin: https://xenbits.xen.org/xen-extfiles/zlib-1.2.3.tar.gz
      path: /var/lib/xen.stubdom/build/sources/zlib-1.2.3.tar.gz
      digest: 1795c7d067a43174113fdf03447532f373e1c6c57c08d61d9e4e9be5e244b05e
      version: 1.2.3
downloaded:
  description: Names of the sources that were (in check mode would be) downloaded.
  type: list
  elements: str
  returned: success
  sample: [zlib-1.2.3.tar.gz]
"""

import os
from typing import Any, Dict

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import InternalModule, run_module
from ansible_collections.xen.stubdom.plugins.module_utils._images import account, releases, sources
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch.store import LocalSource, Store

_TREE: Dict[str, Any] = {
    "type": "dict",
    "options": {
        "tarball": {"type": "str"},
        "git": {"type": "str"},
        "revision": {"type": "str"},
        "directory": {"type": "path"},
        "package": {"type": "str"},
        "checksum": {"type": "str"},
    },
}


def described(found: LocalSource) -> Dict[str, Any]:
    """Return a source in the form of RETURN."""
    source = found.source
    return {
        "name": source.name,
        "kind": source.kind,
        "origin": source.shown,
        "revision": source.revision,
        "upstream": source.upstream,
        "path": found.path,
        "digest": found.digest,
        "version": sources.version(source, found.digest),
    }


def run(module: InternalModule) -> Dict[str, Any]:
    """Download what is missing.

    The action plugin calls this with the step "find", and then for each missing source with the step "download", so
    that it can name each on the terminal.
    """
    params = module.params
    step = module.internal.get("step", "all")
    workshop = account.workshop(params["work_directory"])
    if not 1 <= params["timeout"] <= 3600:
        raise UserError(f"The timeout {params['timeout']} is not possible.", "Set timeout to 1 to 3600 seconds.")
    row = releases.refuse_impossible(params["release"], params["images"])
    options = sources.SourceOptions(
        trees={name: params[parameter] or {} for name, parameter in sources.PARAMETERS.items()},
        directory=params["directory"],
        mirror=params["mirror"],
        checksums=params["checksums"],
        allow_unverified=params["allow_unverified"],
    )
    planned = sources.plan(params["release"], row, params["images"], options)
    user = account.builder(params["work_directory"], params["user"])
    if not module.check_mode:
        account.prepare(params["work_directory"], user)

    def find_and_download() -> Dict[str, Any]:
        store = Store(workshop, timeout=params["timeout"], keep=not module.check_mode)
        here, missing = store.find(planned)
        if step == "download":
            missing = [source for source in missing if source.name == module.internal["source"]]
        if not module.check_mode and step != "find":
            here += [store.fetch(source) for source in missing]
        order = [source.name for source in planned]
        return {
            "sources": sorted((described(found) for found in here), key=lambda one: order.index(one["name"])),
            "missing": [[source.name, source.shown] for source in missing],
        }

    result = account.as_user(user, find_and_download) if os.path.isdir(workshop) else find_and_download()
    missing = result["missing"]
    return {
        # Its action plugin says so, when all is downloaded.
        "changed": bool(missing) and step != "find",
        "sources": result["sources"],
        "downloaded": [name for name, _origin in missing],
        "diff": {
            "before_header": f"{workshop}/sources",
            "after_header": f"{workshop}/sources",
            "before": "",
            "after": "".join(f"{name} from {origin}\n" for name, origin in missing),
        },
    }


def main() -> None:
    run_module(
        run,
        internal=True,
        argument_spec={
            "release": {"type": "str", "required": True},
            "images": {"type": "list", "elements": "str", "required": True},
            "work_directory": {"type": "path", "default": "/var/lib/xen.stubdom"},
            "user": {"type": "str"},
            "xen": _TREE,
            "mini_os": _TREE,
            "qemu_traditional": _TREE,
            "directory": {"type": "path"},
            "mirror": {"type": "str"},
            "checksums": {"type": "dict", "default": {}},
            "allow_unverified": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
