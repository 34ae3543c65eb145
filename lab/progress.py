# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is being done, how long it took last time, and how long it has taken now."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import files


class Progress:
    """News of one program on stderr. `seconds` has the steps of this run, `record` the last time of each step."""

    def __init__(self, program: str, record: Path | None = None) -> None:
        self._program = program
        self._record = record
        self.seconds: dict[str, float] = {}

    def _last(self) -> dict[str, float]:
        try:
            content = json.loads(self._record.read_text()) if self._record else {}
            return {str(key): float(value) for key, value in content.items()}
        except (OSError, ValueError, AttributeError):
            return {}

    def say(self, text: str) -> None:
        """One line."""
        print(f"{self._program}: {text}", file=sys.stderr, flush=True)

    @contextmanager
    def step(self, text: str, kind: str) -> Iterator[None]:
        """A step that takes a while; its duration is kept under `kind`, in the record only if the step succeeds."""
        last = self._last().get(kind)
        self.say(text + (f" (last time {last:.0f} s)" if last is not None else "") + " ...")
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[kind] = time.monotonic() - start
        self.say(f"  done in {self.seconds[kind]:.1f} s")
        if self._record:
            self._record.parent.mkdir(parents=True, exist_ok=True)
            files.write(
                self._record, json.dumps({**self._last(), kind: round(self.seconds[kind], 1)}, indent=1).encode()
            )
