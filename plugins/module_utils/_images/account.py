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

from ansible_collections.xen.stubdom.plugins.module_utils._common import files, place
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.process import attempt, run_program

Result = TypeVar("Result")

# Builds where nothing else is said. It does nothing else, so no other service can reach its files.
ACCOUNT = "xen-stubdom"


class ChildTraceback(Exception):
    """The traceback of another process, as the cause of an error."""


def builder(directory: str, user: Optional[str]) -> str:
    """Return the account that builds: the one that runs the module or, where that is root, the one that is asked for.

    :param directory: the work directory.
    :raises UserError: there is no such account, it is root or shared with others, or the directory is another's.
    """
    if not os.path.isabs(directory):
        raise UserError(f"The path {directory!r} is not absolute.", "Begin work_directory with a slash.")
    if os.geteuid() != 0:
        mine = pwd.getpwuid(os.geteuid()).pw_name
        if user not in (None, mine):
            raise UserError(f"{mine} cannot build as {user}.", "Set become to true for this task, or leave out user.")
        return mine
    _require_root(directory)
    user = user or ACCOUNT
    try:
        account = pwd.getpwnam(user)
    except (KeyError, ValueError) as error:
        if user == ACCOUNT and not os.path.isdir(workshop(directory)):
            return user  # prepare() makes it
        raise UserError(
            f"The account {user!r} does not exist on the build host.", "Create it, or set user to another one."
        ) from error
    if account.pw_uid == 0:
        raise UserError(
            f"The account {user!r} is root, and Xen's Makefiles are not run as root.",
            "Set user to an unprivileged account.",
        )
    if user == "nobody":
        raise UserError(
            "The account 'nobody' is shared with other services, which could change what is built.",
            "Set user to an account that does nothing else, or leave it out.",
        )
    return user


def workshop(directory: str) -> str:
    """Return the part of a work directory that belongs to the account that builds; the rest is root's."""
    return os.path.join(directory, "build")


def prepare(directory: str, user: str) -> None:
    """Make the work directory, the account, and the part of the directory that belongs to it.

    :raises UserError: it belongs to another account, or cannot be made.
    """
    account = _account(user) if os.geteuid() == 0 else None
    try:
        with contextlib.ExitStack() as opened:
            found = opened.enter_context(place.find(workshop(directory), made=lambda _found: None))
            with contextlib.suppress(FileExistsError):
                os.mkdir(found.name, 0o700, dir_fd=found.directory)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(found.name, flags, dir_fd=found.directory)
            opened.callback(os.close, descriptor)
            if account is not None:
                _require_root(directory)
                owner = os.fstat(descriptor).st_uid
                if owner not in (0, account.pw_uid):
                    raise UserError(
                        f"The directory {workshop(directory)} belongs to the account with the number {owner}, not "
                        f"{user}.",
                        "Set work_directory to another directory, or remove this one.",
                    )
                os.fchown(descriptor, account.pw_uid, account.pw_gid)
            os.fchmod(descriptor, 0o750)
    except OSError as error:
        raise UserError(
            f"Cannot make the directory {workshop(directory)}: {error.strerror}.",
            "Set work_directory to another path.",
        ) from error


def _require_root(directory: str) -> None:
    """:raises UserError: the directory is there, and another account than root can write to it."""
    if not os.path.isdir(directory):
        return
    status = os.stat(directory)
    if status.st_uid != 0 or status.st_mode & 0o022:
        whose = f"belongs to the account with the number {status.st_uid}" if status.st_uid else "is open to others"
        raise UserError(
            f"The directory {directory} {whose}, who could change what is installed from it.",
            "Set work_directory to another directory, or give this one to root, with mode 0755.",
        )


def _account(user: str) -> pwd.struct_passwd:
    """Return an account, which is made if it is ours.

    :raises UserError: it cannot be made.
    """
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    # Two `useradd` at once both make it, with different numbers.
    with files.lock("xen.stubdom-account"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(user)
        status, _output, reason = attempt(run_program, [*command, "--shell", "/usr/sbin/nologin", user])
        if status == 0:
            return pwd.getpwnam(user)
    raise UserError(
        f"`useradd` could not make the account {user} that builds (status {status}): {reason}.",
        "Make a system account, and set user to its name.",
    )


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
