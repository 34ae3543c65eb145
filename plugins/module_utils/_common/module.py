# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the one edge between a module and Ansible.

from __future__ import annotations

import contextlib
import json
import re
import sys
import traceback
from typing import Any, Callable, Dict, Iterator, Mapping, NoReturn, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.parameters import remove_values
from ansible_collections.xen.stubdom.plugins.module_utils._common import files, journal, masking
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError, printable
from ansible_collections.xen.stubdom.plugins.module_utils._common.signals import Interrupted, interruptible

# Under this name the action plugin of a module passes what is no parameter of a user's.
INTERNAL = "_internal"

# Lists and dictionaries in each other. What is deeper is no parameter, and Ansible's own code would fail of it.
_DEEPEST = 32
# PATH_MAX of Linux, without the NUL behind it.
_LONGEST_PATH = 4095
# Ansible's own code cannot encode a surrogate; no path or program takes NUL.
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_SEE = "Compare the task with the module's documentation, which ansible-doc shows."


class _Module(AnsibleModule):  # type: ignore[misc]
    # Of lines; others are in values.
    ends = 1

    def _load_params(self) -> None:
        super()._load_params()
        # Ansible takes null for a value: for it, "memory: null" is there when it is required, and is no default.
        given: Dict[str, Any] = self.params  # type: ignore[has-type]
        self.params = {name: value for name, value in given.items() if value is not None}
        for name, value in self.params.items():
            if _deeper(value, _DEEPEST):
                raise TypeError(f"{name} is nested deeper than {_DEEPEST} levels")
        # Before anything can fail, as a failure shows the parameters, too.
        self.no_log_values.update(masking.secrets(self.params))

    def fail_json(self, msg: str, **result: Any) -> NoReturn:
        """End the module, with the values in Ansible's own messages about parameters in one line, too."""
        super().fail_json("\n".join(map(printable, str(msg).split("\n", self.ends))), **result)
        raise AssertionError("not reached")

    def _log_invocation(self) -> None:
        # Called when the parameters are known.
        for name, value in self.params.items():
            text = next(filter(_UNUSABLE.search, _texts(value)), None)
            if text is not None:
                self.fail_json(
                    f"The parameter {name} has a character that neither a path nor a file of text can hold: {text!r}.\n"
                    f"Give {name} without it."
                )
        for name, path in _paths(self.params, self.argument_spec):
            if not path.startswith("/"):
                self.fail_json(
                    f"{name} is {path!r}, which is not an absolute path.\n"
                    f"Set {name} to a path that starts with a slash."
                )
            if len(path) > _LONGEST_PATH:
                self.fail_json(
                    f"{name} has {len(path)} characters, which is longer than a path can be.\n"
                    f"Set {name} to one of up to {_LONGEST_PATH}."
                )
        super()._log_invocation()


def _deeper(value: Any, levels: int) -> bool:
    """Whether a value has more than that many levels of lists and dictionaries."""
    level = [value]
    for _level in range(levels + 1):
        inner = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, (dict, list)))
        level = [item for items in inner for item in items]
    return bool(level)


def _paths(values: Mapping[str, Any], specification: Mapping[str, Any], where: str = "") -> Iterator[Tuple[str, str]]:
    """Every parameter that is a path, and what it is."""
    for name, option in specification.items():
        value, full = values.get(name), where + name
        for item in value if isinstance(value, list) else [value]:
            if option.get("type") == "path" and isinstance(item, str):
                yield full, item
            elif "options" in option and isinstance(item, dict):
                yield from _paths(item, option["options"], f"{full}.")


def _texts(value: Any) -> Iterator[str]:
    """Every string in a parameter, whatever it is made of."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)


class InternalModule(_Module):
    """A module whose action plugin calls it in several steps.

    What the plugin passes as INTERNAL is taken out before parameters are validated, so that it is no parameter of the
    module: it needs no documentation, and the action plugin refuses it from a user.
    """

    internal: Mapping[str, Any] = {}

    def _load_params(self) -> None:
        super()._load_params()
        self.internal = self.params.pop(INTERNAL, None) or {}


def run_module(
    run: Callable[[Any], Dict[str, Any]], *, writes_files: bool = False, internal: bool = False, **specification: Any
) -> None:
    """Run a module and end the process with its result.

    A result's "warnings" become Ansible's. A UserError ends the module with its two sentences. Anything else ends it
    with the sentence that the collection has a fault and what to report; its traceback is in the result with -vvv.

    :param run: does the work and returns the result.
    :param writes_files: whether it reads files in order to change them: others wait from the first read on.
    :param internal: whether the module is an InternalModule.
    :param specification: the arguments of AnsibleModule.
    """
    try:
        module = (InternalModule if internal else _Module)(**specification)
    except (TypeError, AttributeError, OverflowError) as error:
        # AnsibleModule's own, for example where an option with suboptions is a list of something else, or a number is
        # infinite.
        message = f"The parameters are not of the types of this module: {error}.\n{_SEE}"
        sys.stdout.write(json.dumps({"failed": True, "msg": message}) + "\n")
        raise SystemExit(1) from error
    # A module fails after its handlers: inside of them Ansible adds a traceback of its own to a user's error.
    try:
        alone = files.lock() if writes_files and not module.check_mode else contextlib.nullcontext()
        with interruptible(), alone:
            result = run(module)
        failure = None
    except UserError as error:
        failure = {"msg": str(error), **error.details}
        module.ends = str(error).count("\n")
    except Interrupted as error:
        failure = {
            "msg": f"The module was interrupted by {error}.\n"
            "Run it again: every file is as it was or as asked, and the next run goes on from there."
        }
    except Exception as error:
        failure = _fault(error, with_traceback=module._verbosity >= 3)
    for warning in files.stayed:
        module.warn(warning)
    _record(module, result if failure is None else failure)
    if failure is not None:
        module.fail_json(**failure)
    for warning in result.pop("warnings", ()):
        module.warn(warning)
    module.exit_json(**result)


def _record(module: Any, result: Mapping[str, Any]) -> None:
    """Write what was changed to the host's journal."""
    if not result.get("changed") or module.check_mode or module.no_log:
        return
    for row in journal.rows(result, module=module._name, play=module._target_log_info):
        # Before a text is cut, as a part of a secret is none of those that are known.
        journal.write(remove_values(row, module.no_log_values))


def _fault(error: Exception, *, with_traceback: bool) -> Dict[str, Any]:
    message = printable(f"The collection xen.stubdom has a fault: {type(error).__name__}: {error}")
    failure: Dict[str, Any] = {"msg": f"{message}.\nReport it with this task and the output of ansible-playbook -vvv."}
    if with_traceback:
        # Not as "exception": ansible-core up to 2.18 shows a part of that always, 2.19 and newer never with -vvv.
        failure["traceback"] = traceback.format_exc().splitlines()
    return failure
