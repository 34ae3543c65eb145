# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: one word of the boot line from what is asked for to what the next boot passes.
# observe → difference → apply → prove, the same for every loader and every option.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._boot import command_line
from ansible_collections.xen.stubdom.plugins.module_utils._boot.loaders import Loader, find
from ansible_collections.xen.stubdom.plugins.module_utils._common import files
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import Runner
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen

Words = Sequence[str]


def spelled_alike(one: Words, other: Words) -> bool:
    """Whether two lists of words are the same to Xen, which takes - and _ in names for the same."""

    def plain(words: Words) -> List[str]:
        return [found.partition("=")[0].replace("-", "_") + "".join(found.partition("=")[1:]) for found in words]

    return plain(one) == plain(other)


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    :param option: name of the option.
    :param word: the whole word that is to set it; None for no word.
    :param same: whether two lists of words for this option mean the same to Xen.
    """

    option: str
    word: Optional[str]
    same: Callable[[Words, Words], bool] = spelled_alike

    def found_in(self, line: Optional[str]) -> List[str]:
        return [] if line is None else command_line.setting(line, self.option)

    def fulfilled(self, found: Words) -> bool:
        """Whether one word, in whatever spelling, says what is asked for."""
        if self.word is None or len(found) != 1:
            return not found and self.word is None
        return self.same(found, [self.word])


@dataclass(frozen=True)
class Outcome:
    """What became of a wish; words for its option as they are, or would be, afterwards.

    :param running: None where no hypervisor runs or another tree was worked on.
    :param effective: None where the loader has no entry for a hypervisor.
    """

    changed: bool
    configured: Words
    effective: Optional[Words]
    running: Optional[Words]
    result: Dict[str, Any]


def running_line(xen: Xen, root: str) -> Optional[str]:
    """Return the line that the hypervisor of these files was started with, None where none was."""
    return xen.command_line() if root == "/" and xen.is_dom0() else None


def loader(name: str, run: Runner, xen: Xen, root: str) -> Loader:
    """Return the loader that was asked for, or the one that starts the hypervisor of these files.

    :raises UserError: it cannot be found.
    """
    return find(name, run, root=root, foreign=root != "/", running=running_line(xen, root))


def change(
    wish: Wish, *, loader: Loader, xen: Xen, root: str, regenerate: bool, check_mode: bool, backup: bool
) -> Outcome:
    """Bring the word where it is asked for, or tell in check mode what that would change.

    :param root: the tree that the files are in; in another one than / nothing is run.
    :param regenerate: whether the loader's configuration is generated.
    :raises UserError: it cannot be done; the files are as they were.
    """
    home = root == "/"
    generate = regenerate and home
    if wish.word is not None and generate and not loader.hypervisor_installed():
        raise UserError(
            "No hypervisor is installed on this host.",
            "Install it (on Debian xen-system-amd64), or set regenerate to false to prepare the files only.",
        )
    sources = loader.read()
    configured = wish.found_in(loader.configured(sources))
    line = loader.effective()
    running = running_line(xen, root)

    spelled = configured[0] if wish.fulfilled(configured) and configured else wish.word
    changes = loader.plan(sources, wish.option, spelled)
    stale = generate and (line is None or not wish.fulfilled(wish.found_in(line)))
    if wish.word is None and line is None:
        stale = False
    changed = bool(changes) or stale

    backups: Dict[str, str] = {}
    unchecked = [] if home else loader.unchecked(sources)
    if changed and not check_mode:
        backups = files.apply(changes, backup=backup)
        try:
            sources = loader.read()
            configured = wish.found_in(loader.configured(sources))
            if (home or not unchecked) and not wish.fulfilled(configured):
                raise UserError(
                    "The files of the boot loader do not give what was written to them.", "They were put back."
                )
            if generate and (stale or not wish.fulfilled(wish.found_in(loader.effective()))):
                _make_effective(loader, wish)
        except BaseException:
            _put_back(loader, changes, line, generate=generate)
            raise
        line = loader.effective()
    elif changed:
        configured = [wish.word] if wish.word is not None else []
    # In check mode the next boot is told as it would be afterwards.
    predicted = check_mode and changed and line is not None and (generate or not loader.generates)
    effective = configured if predicted else None if line is None else wish.found_in(line)

    result: Dict[str, Any] = {
        "changed": changed,
        "files": [found.path for found in changes],
        "loader": loader.name,
        "root": root,
        "unchecked": unchecked,
        "diff": files.difference(changes),
        **({"backup_files": backups} if backup else {}),
        **reboot(wish, effective, None if running is None else wish.found_in(running), home=home),
    }
    return Outcome(changed, configured, effective, None if running is None else wish.found_in(running), result)


def reboot(wish: Wish, effective: Optional[Words], running: Optional[Words], *, home: bool = True) -> Dict[str, Any]:
    """Say whether the running hypervisor differs from what the next boot passes, and why."""

    def shown(found: Words) -> str:
        return " ".join(found) or f"no {wish.option}"

    if not home:
        reason = "These are the files of another tree, so there is no running value to compare with."
    elif running is None:
        reason = "Xen is not running here, so there is no running value to compare with."
    elif effective is None:
        reason = "The loader has no entry for Xen, so what the next boot passes is not known."
    elif wish.same(effective, running):
        reason = f"The hypervisor already runs with {shown(running)}."
    else:
        reason = f"The hypervisor runs with {shown(running)} and will get {shown(effective)}."
        return {"reboot_required": True, "reboot_reason": reason}
    return {"reboot_required": False, "reboot_reason": reason}


def report(run: Runner, xen: Xen, *, root: str = "/") -> Dict[str, Any]:
    """Return the whole hypervisor lines of a host, for whoever shows them; never fails on a host without them.

    :return: loader, configured, effective, running (each None where it is not known), reboot_required, reboot_reason.
    """
    found: Dict[str, Any] = {"loader": None, "configured": None, "effective": None, "running": None}
    reason = ""
    try:
        found["running"] = running_line(xen, root)
        loader = find("auto", run, root=root, foreign=root != "/", running=found["running"])
        found["loader"] = loader.name
        line = loader.effective()
        found["effective"] = None if line is None else " ".join(command_line.configured_words(line))
        found["configured"] = " ".join(command_line.configured_words(loader.configured(loader.read())))
    except UserError as error:
        reason = error.what
    effective = found["effective"]
    running = None if found["running"] is None else " ".join(command_line.configured_words(found["running"]))
    known = effective is not None and running is not None
    if not known:
        reason = reason or "Either Xen is not running here, or the loader has no entry for it."
    elif effective == running:
        reason = "The hypervisor runs with the words that the next boot passes."
    else:
        reason = f"The hypervisor runs with {running or 'no words'} and will get {effective or 'no words'}."
    return {**found, "reboot_required": known and effective != running, "reboot_reason": reason}


def _make_effective(loader: Loader, wish: Wish) -> None:
    """Generate the loader's configuration and read back what it passes."""
    loader.regenerate()
    line = loader.effective()
    if line is None:
        if wish.word is None:
            return
        raise UserError(
            "The generated loader configuration has no entry for Xen.",
            "Look whether /boot has a hypervisor and a kernel that can run under it, then run again.",
        )
    if not wish.fulfilled(wish.found_in(line)):
        raise UserError(
            f"The loader passes {line!r} to the hypervisor, which is not {wish.word or f'without {wish.option}'}.",
            "Look for what else decides about the line: for GRUB 2 programs in /etc/grub.d, for extlinux overwrite=1 "
            "in its own file, for systemd-boot the options of the entry.",
        )


def _put_back(loader: Loader, changes: Sequence[files.Change], line: Optional[str], *, generate: bool) -> None:
    """Leave the host as it was; *line* is what the next boot was going to pass."""
    files.apply(files.reverse(changes))
    if changes and generate and loader.effective() != line:
        loader.regenerate()
