#!/usr/bin/env python3
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes plugins/module_utils/_boot/option_table.py from the documentation and source in a copy of Xen's repository.

tests/tools/option_table.py DIRECTORY    DIRECTORY is a Git repository with the branches stable-4.2 and later
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

TABLE = Path(__file__).resolve().parents[2] / "plugins" / "module_utils" / "_boot" / "option_table.py"
# Releases before it do not document their options.
FIRST = 2
ENDINGS = (".pandoc", ".markdown")
HEAD = """\
# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the options of Xen's command line, and the releases that know them.
#
# Written by tests/tools/option_table.py from docs/misc/xen-command-line and the *_param() of Xen's stable branches.

from __future__ import annotations

from typing import Mapping, Tuple

# The first and the last release that was looked at, as minor numbers of Xen 4.
OLDEST, NEWEST = {first}, {last}

# First and last release that knows an option, by its name with _ for -.
OPTIONS: Mapping[str, Tuple[int, int]] = {{
{rows}}}
"""


def names(text: str) -> Iterator[str]:
    """Yield the names in the headings of a page, each with _ for -."""
    details = text.partition("\n## Parameter details")[2]
    for heading in re.findall(r"^### +(.+)$", details, re.MULTILINE):
        plain = heading.replace("\\", "").partition(" (")[0].partition("[")[0].strip()
        for name in expanded(plain):
            if re.fullmatch(r"[A-Za-z0-9_.-]+", name):
                yield name.replace("-", "_")
            else:
                print(f"not understood: {heading}", file=sys.stderr)


def expanded(heading: str) -> list[str]:
    """Write out `a_{b,c}` and `a, b`, also where one is inside of the other."""
    inner = re.search(r"\{([^{}]*)\}", heading)
    if inner:
        rest = heading[: inner.start()], heading[inner.end() :]
        return [name for one in inner[1].split(",") for name in expanded(f"{rest[0]}{one}{rest[1]}")]
    first, blank, endings = heading.partition(" ")
    if blank and first.endswith("_"):
        return [first + ending.strip() for ending in endings.split(",")]
    return [name.strip() for name in re.split(r",| / ", heading) if name.strip()]


# Names that end in [ take an index, which the table leaves out.
PARAMETER = re.compile(r'(?:boolean|integer|size|string|custom)(?:_runtime)?(?:_only)?_param\("([A-Za-z0-9_.-]+)\[?"')


def known(repository: Path) -> dict[int, set[str]]:
    """Return the options by release."""

    def page(minor: int) -> str | None:
        for ending in ENDINGS:
            where = f"stable-4.{minor}:docs/misc/xen-command-line{ending}"
            done = subprocess.run(["git", "-C", repository, "show", where], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return done.stdout
        return None

    def parsed(minor: int) -> set[str]:
        """Return what the source parses: not all of it was documented at once."""
        command = ["git", "-C", str(repository), "grep", "-hE", r"_param\(\"", f"stable-4.{minor}", "--", "xen"]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return {name.replace("-", "_") for name in PARAMETER.findall(lines)}

    pages = ((minor, page(minor)) for minor in range(FIRST, 1000))
    found = takewhile(lambda found: found[1] is not None, pages)
    return {minor: set(names(text)) | parsed(minor) for minor, text in found if text}


def main() -> None:
    found = known(Path(sys.argv[1]))
    rows = []
    for name in sorted(set().union(*found.values())):
        releases = [minor for minor, options in found.items() if name in options]
        rows.append(f'    "{name}": ({releases[0]}, {releases[-1]}),\n')
    TABLE.write_text(HEAD.format(first=min(found), last=max(found), rows="".join(rows)))


if __name__ == "__main__":
    main()
