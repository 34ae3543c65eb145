# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the site of the documentation in build/docs: the guides of docs/, and the reference of all modules and roles.

The reference is what antsibull-docs makes of the collection. The guides are put where docs/docsite/rst/guides.rst lists
them. A broken link inside the site is an error.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import _machine
from _machine import REPOSITORY
from errors import LabError

COLLECTION = "xen.stubdom"
# Below the sources of the site: where the list of guides expects them.
GUIDES = Path("collections", *COLLECTION.split("."), "docsite", "guides")
# What sphinx-init writes and we want otherwise: guides are Markdown, and nothing is looked up in the network.
SETTINGS = """
extensions.append("myst_parser")
extensions.remove("sphinx.ext.intersphinx")
intersphinx_mapping = {}
myst_heading_anchors = 3
nitpicky = False
# Roles and modules of ansible-core are on a site of their own.
suppress_warnings = ["ref.ref", "ref.any", "config.cache"]
"""
LINK = re.compile(r"(\]\()(?!https?://|#)([^)#\s]+)((?:#[^)]*)?\))")


def on_the_site(text: str, guide: Path, repository: Path, source: str) -> str:
    """The text of a guide with the links of the site: other guides lie beside it, all else in the repository."""

    def link(match: re.Match[str]) -> str:
        target = (guide.parent / match[2]).resolve()
        if target.suffix == ".md" and target.parent == guide.parent:
            return match[0]
        role = re.fullmatch(r"roles/(\w+)/README\.md", str(target.relative_to(repository)))
        if role:
            return f"{match[1]}../../{role[1]}_role.rst)"
        return f"{match[1]}{source}/blob/main/{target.relative_to(repository)}{match[3]}"

    return LINK.sub(link, text)


def run(command: Sequence[str], environment: dict[str, str]) -> None:
    done = subprocess.run(
        command, env=environment, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        print(done.stdout, file=sys.stderr)
        raise LabError(f"{command[0]} ended with status {done.returncode}.", "What it said stands above.")


def build(environment: dict[str, str], target: Path) -> Path:
    """Builds the site below `target` and returns its first page."""
    shutil.rmtree(target, ignore_errors=True)
    # antsibull-docs wants its directories to be its user's alone.
    (target / "rst").mkdir(mode=0o755, parents=True)
    run(
        [
            *("antsibull-docs", "sphinx-init", "--use-current", "--dest-dir", str(target), "--lenient"),
            *("--project", COLLECTION, "--copyright", "The xen.stubdom authors", "--title", COLLECTION, COLLECTION),
        ],
        environment,
    )
    configuration = target / "conf.py"
    configuration.write_text(configuration.read_text() + SETTINGS)
    sources = target / "rst"
    sources.chmod(0o755)
    run(
        [
            *("antsibull-docs", "--config-file", str(target / "antsibull-docs.cfg"), "collection", "--use-current"),
            *("--fail-on-error", "--cleanup", "everything", "--dest-dir", str(sources), COLLECTION),
        ],
        environment,
    )
    (sources / GUIDES).mkdir()
    source = re.search(r"^repository: (\S+)$", (REPOSITORY / "galaxy.yml").read_text(), re.MULTILINE)
    assert source is not None
    for guide in sorted((REPOSITORY / "docs").glob("*.md")):
        (sources / GUIDES / guide.name).write_text(on_the_site(guide.read_text(), guide, REPOSITORY, source[1]))
    # antsibull-docs refuses a list of pages that it does not know itself.
    contents = sources / GUIDES.with_suffix(".rst")
    names = re.findall(r"``docs/(\w+)\.md``", contents.read_text())
    toctree = ["", ".. toctree::", "   :maxdepth: 1", "", *(f"   {GUIDES.name}/{name}" for name in names)]
    contents.write_text(contents.read_text() + "\n".join(toctree) + "\n")
    html = target / "html"
    run(["sphinx-build", "-q", "-W", "--keep-going", "-c", str(target), str(sources), str(html)], environment)
    return html / "index.html"


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="bin/docs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(words)
    try:
        print(build(_machine.prepare("bin/docs", "check"), REPOSITORY / "build" / "docs").relative_to(REPOSITORY))
    except LabError as error:
        print(f"bin/docs: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
