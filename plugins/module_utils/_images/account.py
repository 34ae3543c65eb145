# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the unprivileged account that downloads and builds, and its work directory.

from __future__ import annotations

import contextlib
import json
import os
import pwd
import traceback
from typing import Callable, Optional, TypeVar

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

Result = TypeVar("Result")


class ChildTraceback(Exception):
    """The traceback of another process, as the cause of an error."""


def builder(directory: str, user: Optional[str]) -> str:
    """Return the account that builds in *directory*.

    It is whoever runs the module, unless that is root: then the one that is asked for, or who owns the directory, or
    nobody.

    :raises UserError: there is no such account, or it is root.
    """
    if not os.path.isabs(directory):
        raise UserError(f"The path {directory!r} is not absolute.", "Begin work_directory with a slash.")
    if os.geteuid() != 0:
        mine = pwd.getpwuid(os.geteuid()).pw_name
        if user not in (None, mine):
            raise UserError(f"{mine} cannot build as {user}.", "Set become to true for this task, or leave out user.")
        return mine
    if user is None and os.path.isdir(directory) and os.stat(directory).st_uid != 0:
        with contextlib.suppress(KeyError):
            user = pwd.getpwuid(os.stat(directory).st_uid).pw_name
    user = user or "nobody"
    try:
        account = pwd.getpwnam(user)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"The account {user!r} does not exist on the build host.", "Create it, or set user to another one."
        ) from error
    if account.pw_uid == 0:
        raise UserError(
            f"The account {user!r} is root, and Xen's Makefiles are not run as root.",
            "Set user to an unprivileged account.",
        )
    return user


def prepare(directory: str, user: str) -> None:
    """Make the work directory, owned by the account that builds in it.

    :raises UserError: it belongs to another account, or cannot be made.
    """
    if os.path.isdir(directory):
        owner = os.stat(directory).st_uid
        if os.geteuid() == 0 and owner != pwd.getpwnam(user).pw_uid:
            raise UserError(
                f"The directory {directory} belongs to the account with the number {owner}, not to {user}.",
                "Set work_directory to another directory, or remove this one.",
            )
        return
    try:
        os.makedirs(directory, mode=0o755)
    except OSError as error:
        raise UserError(
            f"Cannot make the directory {directory}: {error.strerror}.", "Set work_directory to another path."
        ) from error
    if os.geteuid() == 0:
        account = pwd.getpwnam(user)
        os.chown(directory, account.pw_uid, account.pw_gid)


def become(user: str) -> None:
    """Give up root for good."""
    if os.geteuid() == 0:
        account = pwd.getpwnam(user)
        os.initgroups(user, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        os.environ["HOME"] = account.pw_dir
    os.umask(0o022)


def as_user(user: str, work: Callable[[], Result]) -> Result:
    """Run *work* in a child that is *user*, and return its result, which JSON can carry.

    :raises UserError: the one that it raised.
    """
    if os.geteuid() != 0:
        return work()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w", encoding="utf-8") as stream:
            try:
                become(user)
                json.dump({"result": work()}, stream)
            except UserError as error:
                json.dump({"error": [error.what, error.remedy]}, stream)
            except BaseException as error:
                json.dump({"fault": [repr(error), traceback.format_exc()]}, stream)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as stream:
        answer = json.loads(stream.read() or '{"fault": ["the child process ended without a result", ""]}')
    os.waitpid(child, 0)
    if "error" in answer:
        raise UserError(answer["error"][0], answer["error"][1])
    if "fault" in answer:
        raise fault(*answer["fault"])
    return answer["result"]  # type: ignore[no-any-return]


def fault(what: str, trace: str) -> RuntimeError:
    """Return an error of another process as one of this process, whose traceback shows that of the other."""
    error = RuntimeError(what)
    error.__cause__ = ChildTraceback(trace)
    return error
