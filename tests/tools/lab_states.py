# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes what the Xen hosts of all scenarios start from, where the cache does not have it: images and saved states."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "lab")]

import accelerator
import files
import image
import qemu
import states
from errors import LabError
from programs import end_as_by_ctrl_c
from progress import Progress


def main() -> int:
    end_as_by_ctrl_c()
    progress = Progress("lab_states.py", files.cache_directory() / "durations.json")
    try:
        for release in image.RELEASES:
            made = image.ensure(release, progress)
            # A host of the default size; molecule.yml may ask for another one.
            states.saved(made, qemu.Machine(qemu.MEMORY, 1, accelerator.choose(made, progress)), progress)
    except LabError as error:
        print(f"lab_states.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
