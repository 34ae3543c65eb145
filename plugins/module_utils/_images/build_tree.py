# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: Xen's tree as a build works in it: every source in its place, the edits and
# files of the plan on top, and a record of how far it got.

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images import records, releases
from ansible_collections.xen.stubdom.plugins.module_utils._images.build_plan import Plan, Step
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch import archive
from ansible_collections.xen.stubdom.plugins.module_utils._images.fetch.store import LocalSource
from ansible_collections.xen.stubdom.plugins.module_utils._images.kernels import Kernel
from ansible_collections.xen.stubdom.plugins.module_utils._images.remedies import Edit

_RECORD = ".xen-stubdom.json"


class Tree:
    """Xen's tree at *path*."""

    def __init__(self, path: str) -> None:
        self.path = path

    # --- sources ----------------------------------------------------------------------------------------------------

    def place(self, sources: Mapping[str, LocalSource], kernels: Sequence[Kernel], plan: Plan) -> None:
        """Put every source in its place, and the edits and files of the plan on top.

        :raises UserError: one cannot be unpacked, or is no source of Xen.
        """
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        if not os.path.isfile(os.path.join(self.path, _RECORD)):
            archive.unpack(sources["xen"], self.path)
            if not os.path.isfile(os.path.join(self.path, "stubdom", "Makefile")):
                raise UserError(
                    f"{sources['xen'].path} is no source of Xen: it has no stubdom/Makefile.",
                    "Set xen to the top of Xen's source tree.",
                )
            self._save(self._state())
        state = self._state()
        for found in sources.values():
            self._place(found, state)
        self._save(state)
        for kernel in kernels:
            self._place_kernel(kernel)
        for path, content in plan.files.items():
            _write(os.path.join(self.path, path), content)
        for path in dict.fromkeys(edit.path for edit in plan.edits):
            apply(os.path.join(self.path, path), [edit for edit in plan.edits if edit.path == path])

    def _place(self, found: LocalSource, state: Dict[str, Any]) -> None:
        name = found.source.name
        if name == "xen" or state["placed"].get(name) == found.digest:
            return
        if name in releases.PLACES:
            target = os.path.join(self.path, releases.PLACES[name])
            os.makedirs(os.path.dirname(target), exist_ok=True)
            archive.unpack(found, target)
        else:
            with open(found.path, "rb") as source, files.replacing(
                os.path.join(self.path, "stubdom", name)
            ) as target_file:
                shutil.copyfileobj(source, target_file)
        state["placed"][name] = found.digest

    def _place_kernel(self, kernel: Kernel) -> None:
        target = os.path.join(self.path, "stubdom", kernel.image)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(kernel.directory, target, symlinks=True)
        config = os.path.join(target, "minios.cfg")
        if not os.path.exists(config):
            _write(config, "")

    # --- stages -----------------------------------------------------------------------------------------------------

    def is_done(self, step: Step) -> bool:
        """Whether the stage was done by the same command."""
        return bool(self._state()["done"].get(step.stage) == _without_jobs(step.command))

    def begin(self, step: Step) -> None:
        """Record that a stage begins; what an unfinished attempt, or one with other remedies, left is removed."""
        state = self._state()
        if step.stage in state["begun"] or state["remedies"].get(step.stage, "") != step.remedies:
            for pattern in step.stale:
                _remove(os.path.join(self.path, pattern))
        state["begun"] = sorted({*state["begun"], step.stage})
        state["done"].pop(step.stage, None)
        self._save(state)

    def finish(self, step: Step) -> None:
        """Record that a stage is done."""
        state = self._state()
        state["begun"] = [stage for stage in state["begun"] if stage != step.stage]
        state["done"][step.stage] = _without_jobs(step.command)
        state["remedies"][step.stage] = step.remedies
        self._save(state)

    def _state(self) -> Dict[str, Any]:
        """Return the tree's record.

        It has the commands by stage that are done and the remedies they were done with, digests of the sources that are
        in place, and the stages that were begun and not done, whatever else was built since.
        """
        nothing: Dict[str, Any] = {"done": {}, "placed": {}, "begun": [], "remedies": {}}
        return {**nothing, **(records.read(os.path.join(self.path, _RECORD)) or {})}

    def _save(self, state: Mapping[str, Any]) -> None:
        records.write(os.path.join(self.path, _RECORD), state)


def apply(path: str, edits: Sequence[Edit]) -> None:
    """Make all edits of one file.

    They begin with what upstream wrote, which is kept beside it, whatever an older version of this collection made of
    it.
    """
    if not os.path.isfile(path):
        return
    original = f"{path}.xen-stubdom-original"
    if not os.path.exists(original):
        with open(path, "rb") as source, files.replacing(original) as target:
            shutil.copyfileobj(source, target)
    with open(original, encoding="utf-8", errors="surrogateescape", newline="") as stream:
        text = stream.read()
    for edit in edits:
        text = re.sub(edit.pattern, edit.replacement, text)
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
        before = stream.read()
    if text != before:
        with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            stream.write(text)


def _without_jobs(command: Sequence[str]) -> List[str]:
    return [word for word in command if not re.match(r"-j\d+$", word)]


def _write(path: str, content: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with contextlib.suppress(OSError), open(path, encoding="utf-8") as stream:
        if stream.read() == content:
            # A new time of the file would have make build again what depends on it.
            return
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(content)
    os.chmod(path, 0o755 if content.startswith("#!") else 0o644)


def _remove(pattern: str) -> None:
    for path in glob.glob(pattern):
        path = path.rstrip("/")
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
