#!/usr/bin/python
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: stubdom_source
short_description: Bring the sources of stub domains to a builder
version_added: 0.1.0
description:
  - Finds out which sources the images of a release of Xen need, brings the ones that are not there, and proves each by
    its SHA-256 or commit before anything is unpacked.
  - With O(directory) nothing is downloaded. A file that is missing there is named with its checksum and its place
    upstream.
  - What is there already costs no connection. What is not is told on the operator's terminal before it is downloaded. A
    branch of a remote repository is asked for once, so give a tag or a commit.
  - As root it works as O(user), so that the sources belong to the account that builds.
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
    description: Where sources, trees and images are kept on the builder.
    type: path
    default: /var/lib/xen.stubdom
  user:
    description:
      - The account that builds. The default is the owner of O(work_directory), V(nobody) for a new one, and whoever
        runs the module where that is not root.
    type: str
  xen:
    description:
      - Where Xen's source comes from. The default is upstream's git repository, at the tag of O(release).
    type: dict
    suboptions: &tree
      tarball:
        description: Path or URL of a tarball.
        type: str
      git:
        description: Path or URL of a git repository.
        type: str
      revision:
        description: Tag, branch or commit. The default is what O(release) was made with.
        type: str
      directory:
        description: Path of a directory on the builder; it is copied and stays as it is.
        type: path
      package:
        description: Name of a source package of the builder's distribution, for example V(xen).
        type: str
      checksum:
        description: SHA-256 of the tarball, or commit of the revision.
        type: str
  mini_os:
    description: Where Mini-OS comes from, for releases from 4.6 on. The default is the revision that O(release) names.
    type: dict
    suboptions: *tree
  qemu_traditional:
    description: Where qemu-xen-traditional comes from, for V(ioemu). The default is the revision that O(release) names.
    type: dict
    suboptions: *tree
  directory:
    description: Directory on the builder with the tarballs of the libraries. With it nothing is downloaded.
    type: path
  mirror:
    description: Base URL of the tarballs of the libraries, in place of upstream's.
    type: str
  checksums:
    description: SHA-256 of tarballs by file name; they come before the ones this collection knows.
    type: dict
    default: {}
  allow_unverified:
    description: Whether what is downloaded may lack a checksum.
    type: bool
    default: false
  timeout:
    description: Seconds without a byte after which a download is given up.
    type: int
    default: 60
  step:
    description:
      - What this call does. V(all) brings everything that is not there. The others are what the action plugin of this
        module uses to show progress - V(look) brings nothing, V(bring) only the source O(only).
    type: str
    choices: [all, look, bring]
    default: all
  only:
    description: Name of the source that O(step=bring) brings.
    type: str
seealso:
  - module: xen.stubdom.stubdom_build
"""

EXAMPLES = r"""
- name: Bring everything for PV-GRUB from upstream
  xen.stubdom.stubdom_source:
    release: "4.17"
    images: [pv-grub]

- name: Use what was carried to a builder without a network
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
  returned: success; in check mode and with O(step=look) only those that are there
  sample:
    - name: zlib-1.2.3.tar.gz
      kind: file
      origin: https://xenbits.xen.org/xen-extfiles/zlib-1.2.3.tar.gz
      path: /var/lib/xen.stubdom/sources/zlib-1.2.3.tar.gz
      digest: 1795c7d067a43174113fdf03447532f373e1c6c57c08d61d9e4e9be5e244b05e
      version: 1.2.3
brought:
  description: Names of the sources that were (in check mode and with O(step=look) would be) downloaded.
  type: list
  elements: str
  returned: success
  sample: [zlib-1.2.3.tar.gz]
"""

import os
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._images import build_job, fetch, releases, sources

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


def shown(found: fetch.Found) -> Dict[str, Any]:
    need = found.need
    return {
        "name": need.name,
        "kind": need.kind,
        "origin": need.origin,
        "revision": need.revision,
        "upstream": need.upstream,
        "path": found.path,
        "digest": found.digest,
        "version": sources.version(need, found.digest),
    }


def run(module: AnsibleModule) -> Dict[str, Any]:
    params = module.params
    row = releases.refuse_impossible(params["release"], params["images"])
    needs = sources.plan(
        params["release"],
        row,
        params["images"],
        sources.Wishes(
            trees={
                "xen": params["xen"] or {},
                "mini-os": params["mini_os"] or {},
                "qemu-xen-traditional": params["qemu_traditional"] or {},
            },
            directory=params["directory"],
            mirror=params["mirror"],
            checksums=params["checksums"],
            allow_unverified=params["allow_unverified"],
        ),
    )
    work: str = params["work_directory"]
    user = build_job.builder(work, params["user"])
    if not module.check_mode:
        build_job.prepare(work, user)

    def look_and_bring() -> Dict[str, Any]:
        store = fetch.Store(work, timeout=params["timeout"], keep=not module.check_mode)
        found, wanted = store.look(needs)
        if params["step"] == "bring":
            wanted = [need for need in wanted if need.name == params["only"]]
        if not module.check_mode and params["step"] != "look":
            found += [store.bring(need) for need in wanted]
        order = [need.name for need in needs]
        return {
            "sources": sorted((shown(one) for one in found), key=lambda one: order.index(one["name"])),
            "brought": [need.name for need in wanted],
            "from": {need.name: need.origin for need in wanted},
        }

    result = build_job.as_user(user, look_and_bring) if os.path.isdir(work) else look_and_bring()
    origins = result.pop("from")
    return {
        "changed": bool(origins),
        **result,
        "diff": {
            "before_header": f"{work}/sources",
            "after_header": f"{work}/sources",
            "before": "",
            "after": "".join(f"{name} from {origin}\n" for name, origin in origins.items()),
        },
    }


def main() -> None:
    run_module(
        run,
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
            "step": {"type": "str", "choices": ["all", "look", "bring"], "default": "all"},
            "only": {"type": "str"},
        },
        required_if=[("step", "bring", ("only",))],
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
