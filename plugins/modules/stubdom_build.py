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
  - Builds images from the sources that M(xen.stubdom.stubdom_source) brought, in a directory of its own, as an
    unprivileged account. Nothing else on the builder is touched; M(xen.stubdom.stubdom_install) installs the result.
  - An image is identified by everything that goes into it. What was built once is not built again, and another set of
    images goes on with the C library and the libraries that are there.
  - Known problems of old sources with new compilers are cured on the way; RV(remedies) names what was needed.
  - While it runs, each stage is told on the operator's terminal with the time so far and, from the second time on, an
    estimate. When the operator interrupts the play or the connection is lost, the build stops on the builder. The next
    run goes on with the stage that was interrupted.
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
    description: What M(xen.stubdom.stubdom_source) returned as RV(xen.stubdom.stubdom_source#module:sources).
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
          - Directory on the builder with a C(Makefile) that makes C(main.a), or with C files, all of which go into it.
            C(minios.cfg) is Mini-OS's configuration, an empty one if there is none.
        type: path
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
  jobs:
    description: How many commands run at a time; the number of processors by default.
    type: int
  timeout:
    description: Seconds that the build may take.
    type: int
    default: 3600
  step:
    description:
      - What this call does. V(all) starts the build and waits for it. The others are what the action plugin of this
        module uses to show progress - V(start), V(watch) and V(stop).
    type: str
    choices: [all, start, watch, stop]
    default: all
  seen:
    description: The state and stage that the caller of O(step=watch) knows of.
    type: list
    elements: str
    default: []
seealso:
  - module: xen.stubdom.stubdom_source
  - module: xen.stubdom.stubdom_install
"""

EXAMPLES = r"""
- name: Bring the sources
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
      description: Its name, as in O(images).
      type: str
      sample: pv-grub
    file:
      description: Name under which it is installed.
      type: str
      sample: pv-grub-x86_64.gz
    path:
      description: Where it lies on the builder.
      type: str
      sample: /var/lib/xen.stubdom/images/0123456789abcdef/pv-grub-x86_64.gz
    identity:
      description: Checksum of everything that went in.
      type: str
      sample: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    manifest:
      description:
        - What is written beside it when it is installed. Where it is not built yet, its sha256 and its time are null.
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
  description: Names of the remedies that this release needs with this compiler.
  type: list
  elements: str
  returned: success
  sample: [gcc-14-errors]
status:
  description: What the build is doing now, for who waits for it.
  type: dict
  returned: when O(step) is V(start) or V(watch) and the build goes on
  sample: {state: running, stage: newlib, number: 4, stages: [sources, configure, headers, newlib]}
log:
  description: The build's log on the builder, null if nothing was built.
  type: str
  returned: success
  sample: /var/lib/xen.stubdom/jobs/0123456789abcdef/log
"""

import functools
import os
from typing import Any, Dict, List, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.module import run_module
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import run_program
from ansible_collections.xen.stubdom.plugins.module_utils._images import build_job, build_plan, fetch, releases
from ansible_collections.xen.stubdom.plugins.module_utils._images import sources as _sources
from ansible_collections.xen.stubdom.plugins.module_utils._images.build_job import Job


def kernels(params: Dict[str, Any], work: str) -> List[build_plan.Kernel]:
    """Look at the directories of the user's own kernels."""
    found = []
    for kernel in params["kernels"]:
        directory = kernel["directory"]
        if not os.path.isdir(directory):
            raise UserError(f"There is no directory {directory} with the kernel {kernel['name']}.", "Put it there.")
        makefile = os.path.isfile(os.path.join(directory, "Makefile"))
        sources = tuple(sorted(name for name in os.listdir(directory) if name.endswith(".c")))
        if not makefile and not sources:
            raise UserError(f"{directory} has neither a Makefile nor a C file.", "Put the kernel's source there.")
        digest = fetch.Store(work, keep=False).tree_digest(directory)
        found.append(build_plan.Kernel(kernel["name"], directory, digest, makefile, sources))
    asked = {name for name in params["images"] if releases.CUSTOM.match(name)}
    given = {kernel.image for kernel in found}
    if asked != given:
        raise UserError(
            f"Images and kernels do not match: {', '.join(sorted(asked ^ given))} is in only one of them.",
            "Give a kernel with its directory for each image custom-NAME.",
        )
    return found


def given(module: AnsibleModule) -> build_plan.Input:
    """Return everything that goes into the images."""
    params = module.params

    def run(arguments: List[str]) -> str:
        try:
            status, output, _errors = run_program(arguments)
        except OSError:
            status, output = 1, ""
        if status != 0:
            raise UserError(
                "gcc is not installed on the builder.", "Install what the role's README lists, then run again."
            )
        return str(output)

    row = releases.refuse_impossible(params["release"], params["images"])
    return build_plan.Input(
        row=row,
        images=tuple(dict.fromkeys(params["images"])),
        sources={source["name"]: source["digest"] for source in params["sources"]},
        compiler=build_job.compiler(run),
        kernels=tuple(kernels(params, params["work_directory"])),
        listed=tuple(
            _sources.listed(source["name"], source["kind"], source["version"], source["digest"])
            for source in params["sources"]
        ),
    )


def result(
    work: str, inputs: build_plan.Input, plan: build_plan.Plan, built: List[str], status: Optional[Dict[str, Any]]
) -> Dict[str, Any]:
    """Return what there is now."""
    images = []
    for product in plan.products:
        images.append(
            {
                "image": product.image,
                "file": product.file,
                "path": os.path.join(build_job.image_directory(work, product), product.file),
                "identity": product.identity,
                "manifest": build_job.finished(work, product) or build_plan.manifest(inputs, plan, product),
            }
        )
    return {
        "changed": bool(built),
        "images": images,
        "built": built,
        "stages": {} if status is None else status["seconds"],
        "log": None if status is None else status["log"],
        "remedies": list(plan.remedies),
        "diff": {
            "before_header": f"{work}/images",
            "after_header": f"{work}/images",
            "before": "".join(f"{one.file} {one.identity}\n" for one in plan.products if one.image not in built),
            "after": "".join(f"{one.file} {one.identity}\n" for one in plan.products),
        },
    }


def judged(status: Dict[str, Any]) -> None:
    """:raises UserError: the job did not end well."""
    if status["state"] in ("failed", "stopped"):
        what, _newline, remedy = str(status["message"]).partition("\n")
        raise UserError(what, remedy or "Run again; it goes on where it stopped.")


def run(module: AnsibleModule) -> Dict[str, Any]:
    params = module.params
    work: str = params["work_directory"]
    inputs = given(module)
    plan = build_plan.plan(inputs, jobs=params["jobs"] or os.cpu_count() or 1)
    directory = build_job.job_directory(work, plan)
    user = build_job.builder(work, params["user"])
    step: str = params["step"]

    if step == "stop":
        build_job.as_user(user, lambda: build_job.stop(directory))
        return result(work, inputs, plan, [], None)
    if step == "watch":
        status = build_job.as_user(user, lambda: build_job.watch(directory, seen=params["seen"]))
    else:
        missing = [product.image for product in plan.products if build_job.finished(work, product) is None]
        if module.check_mode or not missing:
            return result(work, inputs, plan, missing, None)
        build_job.prepare(work, user)
        wanted = build_plan.only(inputs, missing)
        job = Job(
            work,
            wanted,
            build_plan.plan(wanted, jobs=params["jobs"] or os.cpu_count() or 1),
            found(params),
            params["timeout"],
        )
        build_job.start(job, user)
        status = {"state": "running", "stage": "start", "stages": [], "seconds": {}, "log": job.log}
        while step == "all" and status["state"] == "running":
            seen = ["running", status["stage"]]
            status = build_job.as_user(user, functools.partial(build_job.watch, directory, seen=seen))
    judged(status)
    if status["state"] == "running":
        return {**result(work, inputs, plan, [], status), "status": status}
    return result(work, inputs, plan, status["images"], status)


def found(params: Dict[str, Any]) -> List[fetch.Found]:
    return build_job.found_from(params["sources"])


def main() -> None:
    run_module(
        run,
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
            "step": {"type": "str", "choices": ["all", "start", "watch", "stop"], "default": "all"},
            "seen": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )


if __name__ == "__main__":
    main()
