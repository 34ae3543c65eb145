# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The package sources of this machine's apt, and those that follow from them for another Debian release."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from errors import LabError

# Settings of this machine's apt that the apt of an image needs too, to reach and to accept the same package sources.
CARRIED = ("acquire::http::", "acquire::https::", "acquire::check-date", "acquire::check-valid-until")
# Options of an entry (sources.list(5)) that decide the same for its source.
ENTRY_OPTIONS = ("trusted", "check-date", "check-valid-until", "allow-insecure", "allow-weak")


@dataclass(frozen=True)
class Source:
    """One package source; what a one-line entry of sources.list(5) contains."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""
    options: tuple[str, ...] = ()

    def line(self) -> str:
        """The one-line form, as sources.list and mmdebstrap take it."""
        options = [*self.options, *([f"signed-by={self.signed_by}"] if self.signed_by else [])]
        return " ".join(
            ["deb", *([f"[{' '.join(options)}]"] if options else []), self.uri, self.suite, *self.components]
        )


def machine_sources(*options: str) -> list[Source]:
    """All binary package sources of this machine, one for each component; options are options of apt-get."""
    # Without release info it lists what `apt-get update` would download, whether or not that ever ran.
    command = ["apt-get", *options, "indextargets", "--no-release-info", "--format"]
    listed = _apt(*command, "$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)\t$(SOURCESENTRY)", "Created-By: Packages")
    result = []
    for row in dict.fromkeys(listed.splitlines()):
        uri, suite, component, entry = row.split("\t")
        # A source without components leaves the variable as it is; it has no releases either.
        if not component.startswith("$("):
            signed_by, kept = _entry_options(entry)
            result.append(Source(uri.rstrip("/"), suite, (component,), signed_by, kept))
    return result


def _apt(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(
            f"This machine's apt could not list its package sources: {done.stderr.strip()}",
            "Correct /etc/apt/sources.list and the files in /etc/apt/sources.list.d.",
        )
    return done.stdout


def _entry_options(entry: str) -> tuple[str, tuple[str, ...]]:
    """Signed-by and the other options of an entry that apt names as FILE:NUMBER; it prints none of them itself."""
    name, _, number = entry.rpartition(":")
    text = Path(name).read_text(errors="replace")
    if name.endswith(".sources"):
        options = _paragraph(text, int(number))
    else:
        options = dict(_bracketed(text.splitlines()[int(number) - 1]))
    signed_by = options.get("signed-by", "")
    # A key that stands in the file itself cannot stand in a one-line entry.
    return (
        "" if "BEGIN PGP" in signed_by else ",".join(signed_by.replace(",", " ").split()),
        tuple(f"{key}={options[key]}" for key in ENTRY_OPTIONS if key in options),
    )


def _paragraph(text: str, number: int) -> dict[str, str]:
    """The fields of one paragraph of a deb822 file, which are headers as in a message; numbers begin with 1."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    paragraphs = [paragraph for paragraph in re.split(r"\n\s*\n", lines) if paragraph.strip()]
    fields = HeaderParser().parsestr(paragraphs[number - 1].lstrip("\n"))
    return {key.lower(): str(value) for key, value in fields.items()}


def _bracketed(line: str) -> Iterator[tuple[str, str]]:
    """The options of a one-line entry."""
    match = re.match(r"\s*deb\s+\[([^]]*)\]", line)
    for option in match[1].split() if match else ():
        key, _, value = option.partition("=")
        yield key.lower(), value


def of_own_release(sources: Sequence[Source], codename: str) -> list[Source]:
    """Those with the packages of this machine's own release; none is an error."""
    found = [source for source in sources if source.suite in _names(codename) and "main" in source.components]
    if not found:
        raise LabError(
            f"This machine's apt has no Debian package source for its own release ({codename}).",
            "Use a Debian machine, and check that /etc/apt/sources.list or sources.list.d names a Debian mirror.",
        )
    return found


def _names(codename: str) -> tuple[str, ...]:
    return (codename, "stable", "oldstable")


def for_release(sources: Sequence[Source], codename: str, release: str) -> list[Source]:
    """This machine's Debian sources, pointed at another release: the same mirrors and keys, other suites.

    Only the release itself, its updates and its security fixes count; backports and other vendors' sources do not.
    """
    of_own_release(sources, codename)
    pockets = {f"{name}{pocket}": pocket for name in _names(codename) for pocket in ("", "-updates", "-security")}
    return list(
        dict.fromkeys(
            Source(source.uri, release + pockets[source.suite], ("main",), source.signed_by, source.options)
            for source in sources
            if source.suite in pockets and "main" in source.components
        )
    )


def backports(sources: Sequence[Source], codename: str) -> Source:
    """The source of a release's backports: the mirror from which this machine gets the release itself."""
    source = of_own_release(sources, codename)[0]
    return Source(source.uri, f"{codename}-backports", ("main",), source.signed_by, source.options)


def machine_codename(os_release: Path = Path("/etc/os-release")) -> str:
    """The code name of this machine's own release, empty when it has none."""
    for line in os_release.read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "VERSION_CODENAME":
            return value.strip("\"'")
    return ""


def mmdebstrap_words(release: str) -> tuple[list[str], list[str]]:
    """What mmdebstrap needs to make a release from where this machine gets its packages: options, and sources."""
    sources = for_release(machine_sources(), machine_codename(), release)
    options = carried_options(_apt("apt-config", "dump"))
    return [f"--aptopt={option}" for option in options], [source.line() for source in sources]


def carried_options(dump: str) -> list[str]:
    """The lines of `apt-config dump` that decide whether a source can be reached and is accepted."""
    return [
        line for line in dump.splitlines() if line.lower().startswith(CARRIED) and not line.rstrip().endswith('"";')
    ]
