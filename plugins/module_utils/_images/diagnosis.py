# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what the log of a failed stage means, and what to do about it.

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common import build_packages
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError, printable

# Text in the log of a failed stage → what to do about it, for problems that the build cannot solve itself. In it,
# {install} stands for what this host's distribution has for the purpose beside it.
KNOWN: Tuple[Tuple[str, str, str], ...] = (
    (r"Unable to find as86|Unable to find ld86", "The ROM BIOS needs as86 and ld86: install {install}.", "hvmloader"),
    (r"Could not find lzma, needed to build rombios", "Install {install}.", "hvmloader"),
    (r"Unable to find iasl", "configure needs iasl: install {install}.", "base"),
    (r"Python development headers|python development library", "Install {install}.", "python_headers"),
    (r"Could not find libcrypto", "Releases up to 4.7 need libcrypto: install {install}.", "libcrypto"),
    (r"Could not find libaio", "Xen 4.4 needs libaio: install {install}.", "libaio"),
    (
        r"SyntaxError: (?:invalid decimal literal|Missing parentheses|multiple exception types)",
        "This script of Xen is for Python 2: set release to 4.13 or newer; an image runs on hosts of other releases.",
        "",
    ),
    (
        r"No module named '?distutils",
        "setuptools has distutils for newer Pythons: install {install}.",
        "python_headers",
    ),
    (r"cannot find (?:yajl|libyajl)|yajl/yajl_version\.h", "Install {install}.", "yajl_headers"),
    (r"Unable to find (\S+), please install", "Install the program that configure names.", ""),
    (
        r"No package '(\S+)' found|Package requirements \((\S+)",
        "Install the development package that configure names.",
        "",
    ),
    (
        r"C compiler cannot create executables|gnu/stubs-32\.h|bits/libc-header-start\.h",
        "A 32-bit image needs 32-bit headers: install {install}.",
        "pv-grub-x86_32",
    ),
    (r"makeinfo.*(?:not found|missing)", "Releases up to 4.11 run makeinfo: install {install}.", "texinfo"),
    (
        r"no member named|has no member",
        "This Mini-OS does not belong to this Xen: set mini_os to the revision that Xen's Config.mk names.",
        "",
    ),
    (r"No space left on device", "Make room: one tree needs about 1 GB in the work directory.", ""),
    (
        r"Cannot allocate memory|virtual memory exhausted|Killed signal",
        "Add memory to the build host, or set jobs to a smaller number.",
        "",
    ),
    (
        r"unexpected end of file|not in gzip format",
        "A tarball is damaged: remove it from the directory of sources and run again.",
        "",
    ),
)


def known(log: str) -> Optional[str]:
    """Return what helps against the problem that *log* shows, None if we do not know it."""
    for pattern, remedy, purpose in KNOWN:
        if re.search(pattern, log):
            return remedy.format(install=build_packages.install_hint(purpose)) if purpose else remedy
    return None


_FIRST_ERRORS = (
    re.compile(
        r"^\S.*?: (?:fatal )?error: |undefined reference to|multiple definition of"
        r"|^ld: (?!warning: |NOTE: |.*: in function )|^/usr/bin/ld: .*error"
    ),
    re.compile(r"^configure: error:|^.*: error: "),
    re.compile(r"FAILED at|Only garbage was found in the patch"),
    # With several jobs make's own words may come long after those of the program that failed.
    re.compile(r"not in gzip format|not a bzip2 file|unexpected end of file|does not look like a tar archive"),
    re.compile(r"\*\*\* |^make.*: (?:.*: )?No such file"),
    re.compile(r"rror"),
)


class FailedStage(UserError):
    """A stage failed.

    :param shown: lines below the two sentences, such as those of the log.
    """

    def __init__(self, what: str, remedy: str, shown: Sequence[str]) -> None:
        super().__init__(what, remedy)
        self.shown = tuple(map(printable, shown))

    def __str__(self) -> str:
        return "\n".join((super().__str__(), *self.shown))


@dataclass(frozen=True)
class Failure:
    """Why a stage failed.

    :param error: the first line that is an error.
    :param context: that line with ten lines before and after it.
    :param remedy: what to do, if it is a problem that we know.
    """

    stage: str
    error: str
    context: Tuple[str, ...]
    remedy: Optional[str]

    def as_user_error(self, log: str) -> FailedStage:
        """Return the failure as a message: what failed, what to do, where to look."""
        shown = [f"Log: {log}", *(f"    {line}" for line in self.context)]
        remedy = self.remedy or "This collection does not know the cause; the log has the whole output."
        return FailedStage(f"Stage {self.stage!r} failed: {self.error}", remedy, shown)


def explain(stage: str, log: str) -> Failure:
    """Find the cause in the log of a failed stage."""
    lines = log.splitlines()
    at = next(
        (number for pattern in _FIRST_ERRORS for number, line in enumerate(lines) if pattern.search(line)),
        max(len(lines) - 1, 0),
    )
    return Failure(
        stage=stage,
        error=lines[at].strip() if lines else "no output",
        context=tuple(lines[max(at - 10, 0) : at + 11]),
        remedy=known(log),
    )
