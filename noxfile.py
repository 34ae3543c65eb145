# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests under the names that other collections use. Each session calls bin/test, which installs what it needs.

nox                                         lint, unit, sanity and docs
nox -s unit -- tests/unit/lab               some of the tests of a session
nox -s integration -- xen_dom0_memory       one molecule scenario
"""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "unit", "sanity", "docs"]


def run(session: nox.Session, *tiers: str) -> None:
    session.run("bin/test", *tiers, external=True)


def tier(session: nox.Session, name: str) -> None:
    """Runs a tier, or the parts of it that stand after two hyphens."""
    run(session, *(f"{name}/{part}" for part in session.posargs or [""]))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types and licences of all programs, roles and playbooks."""
    tier(session, "lint")


@nox.session
def unit(session: nox.Session) -> None:
    """Test the core, the modules and the tools by themselves."""
    tier(session, "unit")


@nox.session
def sanity(session: nox.Session) -> None:
    """Run ansible-test sanity."""
    tier(session, "sanity")


@nox.session
def docs(session: nox.Session) -> None:
    """Check the documentation, the changelog and the built collection."""
    tier(session, "docs")


@nox.session
def integration(session: nox.Session) -> None:
    """Run the molecule scenarios: those that are named, or all of them."""
    named = [f"{'xen' if name.startswith('xen_') else 'chroot'}/{name}" for name in session.posargs]
    run(session, *(named or ["chroot", "xen"]))
