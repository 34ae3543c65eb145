#!/usr/bin/python
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: stubdom_build
short_description: Build stub domains from Xen source
version_added: 0.1.0
description:
  - Builds images from the sources that M(xen.stubdom.stubdom_source) returned, in a directory of its own, as an
    unprivileged account, which can write to C(build) in O(work_directory) only. M(xen.stubdom.stubdom_install) installs
    the result.
  - An image is identified by everything that it is built from. It is built again only when something of that changes,
    and another set of images uses the C library and the libraries that are built already.
  - Known problems of old sources with new compilers are worked around; RV(remedies) lists the workarounds in use.
  - While it runs, each stage is shown on the controller's terminal with the elapsed time and, from the second build on,
    an estimate of the remaining time. When the play is interrupted or the connection is lost, the build stops on the
    build host. The next run continues with the stage that was interrupted.
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
  sources:
    description: The return value RV(xen.stubdom.stubdom_source#module:sources) of M(xen.stubdom.stubdom_source).
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the source.
        type: str
        required: true
      kind:
        description: Kind of the source.
        type: str
        choices: [file, tarball, git, directory, package]
        required: true
      origin:
        description: Where it was fetched from.
        type: str
        required: true
      revision:
        description: Revision of a git repository.
        type: str
      upstream:
        description: Where it is published.
        type: str
      path:
        description: Where it lies on the build host.
        type: str
        required: true
      digest:
        description: Its SHA-256 or commit.
        type: str
        required: true
      version:
        description: Its version.
        type: str
        required: true
  kernels:
    description:
      - Mini-OS kernels of your own, one for each image V(custom-NAME).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The NAME of V(custom-NAME).
        type: str
        required: true
      directory:
        description:
          - Directory on the build host with a C(Makefile) that makes C(main.a), or with C files that are all linked.
            C(minios.cfg) in it is Mini-OS's configuration; without it, the configuration is empty.
        type: path
        required: true
  work_directory:
    description:
      - Directory on the build host for finished images; an absolute path. It belongs to whoever runs the module.
      - Sources and trees are below it in C(build), the only directory that the account that builds can write to.
    type: path
    default: /var/lib/xen.stubdom
  user:
    description:
      - The account that builds, which must do nothing else. By default this is V(xen-stubdom), a system account without
        a shell that is made when it is missing, and the account that runs the module if that is not root.
    type: str
  jobs:
    description: Number of commands that make runs at a time. The default is the number of processors.
    type: int
  timeout:
    description: Seconds that the build may take; at least 1.
    type: int
    default: 3600
seealso:
  - module: xen.stubdom.stubdom_source
  - module: xen.stubdom.stubdom_install
"""

EXAMPLES = r"""
- name: Download the sources
  xen.stubdom.stubdom_source:
    release: "4.17"
    images: [pv-grub]
  register: source

- name: Build PV-GRUB
  xen.stubdom.stubdom_build:
    release: "4.17"
    images: [pv-grub]
    sources: "{{ source.sources }}"
"""

RETURN = r"""
images:
  description: The images, in the order of O(images).
  type: list
  elements: dict
  returned: success
  contains:
    image:
      description: Name of the image, as in O(images).
      type: str
      sample: pv-grub
    file:
      description: File name under which it is installed.
      type: str
      sample: pv-grub-x86_64.gz
    path:
      description: Path of the image on the build host.
      type: str
      sample: /var/lib/xen.stubdom/images/0123456789abcdef/pv-grub-x86_64.gz
    identity:
      description: SHA-256 over everything that it is built from.
      type: str
      sample: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    manifest:
      description:
        - Its manifest, which is installed beside it. Before it is built, sha256 and built are null.
      type: dict
      sample: {kind: pv-grub, xen: "4.17"}
built:
  description: Images that were (in check mode would be) built.
  type: list
  elements: str
  returned: success
  sample: [pv-grub]
stages:
  description: Seconds of each stage that ran.
  type: dict
  returned: success
  sample: {configure: 8.5, newlib: 61.0, libraries: 14.2, image pv-grub: 12.0}
remedies:
  description: Names of the workarounds that this release needs with this compiler.
  type: list
  elements: str
  returned: success
  sample: [gcc-14-errors]
sealed:
  description:
    - Whether the commands of the build had no network, no process of others, nothing to write to but the directory of
      the account, and no way to leave a process behind. It takes C(bwrap) of the package bubblewrap and a kernel with
      user namespaces, which are not to be had in a chroot. Where this is false, a warning says why.
    - It is null if nothing was built.
  type: bool
  returned: success
  sample: true
memory_mib:
  description:
    - Memory that all commands of the build together could use, in MiB. That is what was available when it began, less
      256 MiB, and not counting swap. A build that needs more is ended.
    - systemd sets this limit or, where it does not run, the module itself in a control group. It is null if nothing was
      built, and where there is neither, such as in a chroot; a warning says why.
  type: int
  returned: success
  sample: 1536
log:
  description: Path of the build's log on the build host, null if nothing was built.
  type: str
  returned: success
  sample: /var/lib/xen.stubdom/build/jobs/0123456789abcdef/log
"""

import os
from typing import Any, Dict, List, Optional, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import INTERNAL, InternalModule, run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._images import (
    account,
    build_job,
    build_plan,
    build_status,
    kept,
    kernels,
    releases,
    sources,
)


def inputs(module: InternalModule) -> build_plan.Input:
    """Return everything that the images are built from."""
    params = module.params
    if not 1 <= params["timeout"] <= 10**7:
        raise UserError(f"The timeout {params['timeout']} is not possible.", "Set timeout to 1 second or more.")
    if params["jobs"] is not None and not 1 <= params["jobs"] <= 1024:
        raise UserError(f"{params['jobs']} jobs are not possible.", "Set jobs to 1 to 1024, or leave it out.")
    row = releases.refuse_impossible(params["release"], params["images"])
    sources.require_trees(row, params["images"], [source["name"] for source in params["sources"]])
    return build_plan.Input(
        row=row,
        images=tuple(dict.fromkeys(params["images"])),
        sources={source["name"]: source["digest"] for source in params["sources"]},
        compiler=build_job.compiler(run_program),
        kernels=tuple(kernels.find(params["kernels"], params["images"])),
        listed=tuple(
            sources.listed(source["name"], source["kind"], source["version"], source["digest"])
            for source in params["sources"]
        ),
    )


def result(
    work: str, given: build_plan.Input, plan: build_plan.Plan, built: List[str], status: Optional[Dict[str, Any]] = None
) -> Dict[str, Any]:
    """Return what is there now, in the form of RETURN."""
    images = []
    for product in plan.products:
        images.append(
            {
                "image": product.image,
                "file": product.file,
                "path": os.path.join(kept.directory(work, product), product.file),
                "identity": product.identity,
                "manifest": kept.finished(work, product) or kept.describe(given, product),
            }
        )
    return {
        "changed": bool(built),
        "images": images,
        "built": built,
        "stages": {} if status is None else status["seconds"],
        "log": None if status is None else status["log"],
        "sealed": None,
        "memory_mib": None,
        "remedies": list(plan.remedies),
        "diff": {
            "before_header": f"{work}/images",
            "after_header": f"{work}/images",
            "before": "".join(f"{one.file} {one.identity}\n" for one in plan.products if one.image not in built),
            "after": "".join(f"{one.file} {one.identity}\n" for one in plan.products),
        },
    }


def sealing(status: Dict[str, Any]) -> Dict[str, Any]:
    """Return what the result says of a build that was carried out."""
    unsealed, unbounded = status["unsealed"], status["unbounded"]
    warnings = []
    if unsealed is not None:
        warnings.append(
            f"The build was not sealed: {unsealed}. Its commands could use the network, read what everybody can, and "
            "leave processes of their account behind."
        )
    if unbounded is not None:
        warnings.append(
            f"The build was not limited in all: {unbounded}. Its commands together could use all memory of this "
            "machine."
        )
    return {"sealed": unsealed is None, "memory_mib": status["memory_mib"], "warnings": warnings}


def run(module: InternalModule) -> Dict[str, Any]:
    """Build what is missing.

    The action plugin calls this with the step "start", then "watch" until the build ends, and "stop" if the play is
    interrupted.
    """
    params = module.params
    step = module.internal.get("step", "all")
    jobs: int = params["jobs"] or os.cpu_count() or 1
    work: str = params["work_directory"]
    user = account.builder(work, params["user"])
    given = inputs(module)
    plan = build_plan.plan(given, jobs=jobs)
    workshop = account.workshop(work)
    directory = build_job.job_directory(workshop, plan)

    def watch(seen: Sequence[Any]) -> Dict[str, Any]:
        status = account.as_user(user, lambda: build_status.watch(directory, seen=seen))
        # Each image as soon as it is there, so that a build that fails later leaves it to the next one.
        made = [product for product in plan.products if product.image in status.get("images", ())]
        kept.keep(work, given, made, user)
        return status

    if step == "stop":
        account.as_user(user, lambda: build_status.stop(directory))
        return result(work, given, plan, [])
    if step == "watch":
        status = watch(module.internal["seen"])
    else:
        missing = kept.missing(work, plan)
        if module.check_mode or not missing:
            return result(work, given, plan, missing)
        account.prepare(work, user)
        wanted = build_plan.only(given, missing)
        found = build_job.sources_from(params["sources"])
        job = build_job.Job(workshop, wanted, build_plan.plan(wanted, jobs=jobs), found, params["timeout"])
        build_job.start(job, user)
        status = build_status.starting(job.log)
        while step == "all" and status["state"] == "running":
            status = watch(["running", status["stage"]])
    build_status.require_success(status)
    if status["state"] == "running":
        return {**result(work, given, plan, [], status), INTERNAL: status}
    missing = kept.missing(work, plan)
    if missing:
        raise UserError(f"Another run's build has ended, without {', '.join(missing)}.", "Run again.")
    return {**result(work, given, plan, status["images"], status), **sealing(status)}


def main() -> None:
    run_module(
        run,
        internal=True,
        argument_spec={
            "release": {"type": "str", "required": True},
            "images": {"type": "list", "elements": "str", "required": True},
            "sources": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "kind": {
                        "type": "str",
                        "choices": ["file", "tarball", "git", "directory", "package"],
                        "required": True,
                    },
                    "origin": {"type": "str", "required": True},
                    "revision": {"type": "str"},
                    "upstream": {"type": "str"},
                    "path": {"type": "str", "required": True},
                    "digest": {"type": "str", "required": True},
                    "version": {"type": "str", "required": True},
                },
            },
            "kernels": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "directory": {"type": "path", "required": True},
                },
            },
            "work_directory": {"type": "path", "default": "/var/lib/xen.stubdom"},
            "user": {"type": "str"},
            "jobs": {"type": "int"},
            "timeout": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
