# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: questions in JMESPath, and where in one the mistake is.

from __future__ import annotations

import difflib
import re
from typing import Any, Iterator, List, Mapping, Optional, Set

from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

try:
    import jmespath
    from jmespath import exceptions
except ImportError:
    jmespath = None


class Query:
    """A question that can be put to any data.

    :param expression: in JMESPath.
    :raises UserError: there is no jmespath here, or the expression is none.
    """

    def __init__(self, expression: str) -> None:
        if jmespath is None:
            raise UserError(
                "The Python package jmespath is not installed on the control machine.",
                "Install it where ansible-core is installed, for example with `pip install jmespath`.",
            )
        self.expression = str(expression)
        try:
            self._compiled = jmespath.compile(self.expression)
        except exceptions.EmptyExpressionError as error:
            raise UserError(
                "The expression is empty.", "Write one; https://jmespath.org has the language and examples."
            ) from error
        except exceptions.LexerError as error:
            raise self._wrong(error.lexer_position, str(error.message)) from error
        except exceptions.ParseError as error:
            token = error.token_value or ""
            what = "the expression ends too early" if token == "" else f"{token!r} is not expected"
            raise self._wrong(error.lex_position, what) from error

    def ask(self, data: Any) -> Any:
        """Return the answer.

        :raises UserError: the expression does not fit to the data.
        """
        native = plain(data)
        try:
            answer = self._compiled.search(native)
        except exceptions.UnknownFunctionError as error:
            name = re.search(r"(\w+)\(\)", str(error))
            raise self._wrong(self._find(name[1] if name else "", "("), "there is no such function") from error
        except exceptions.ArityError as error:
            raise self._wrong(self._find(error.function_name, "("), str(error)) from error
        except exceptions.JMESPathTypeError as error:
            what = f"{error.function_name}() does not take {error.actual_type}: {error.current_value!r:.60}"
            raise self._wrong(self._find(error.function_name, "("), what) from error
        except exceptions.JMESPathError as error:
            raise self._wrong(0, str(error)) from error
        if answer in (None, [], {}):
            self._check_names(native)
        return answer

    def check_names(self, data: Any) -> None:
        """:raises UserError: a name in the expression is none in the data, and written almost as one that is."""
        self._check_names(plain(data))

    def _check_names(self, native: Any) -> None:
        known = set(_keys(native))
        for name in dict.fromkeys(_fields(self._compiled.parsed)):
            near = [] if name in known else difflib.get_close_matches(name, known, 1, 0.75)
            if near:
                raise self._wrong(self._find(name), f"nothing is called {name}; {near[0]} is similar")

    def _find(self, name: str, after: str = "") -> int:
        match = re.search(rf"\b{re.escape(name)}\b(?={re.escape(after)})", self.expression)
        return match.start() if match else 0

    def _wrong(self, position: Optional[int], what: str) -> UserError:
        at = len(self.expression) if position is None else max(0, min(position, len(self.expression)))
        # Ansible shows an error on one line, so that no line below could point to the place.
        marked = f"{self.expression[:at]}>>>{self.expression[at:]}"
        return UserError(
            f"The expression is wrong at character {at + 1}: {what}.", f"Correct it behind the mark >>> in: {marked}"
        )


def plain(value: Any) -> Any:
    """A value in Python's own types: jmespath knows no others, and those of Ansible are derived from them."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    return str(value)


def _keys(data: Any) -> Iterator[str]:
    """All keys in the data."""
    left: List[Any] = [data]
    seen: Set[str] = set()
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield from (key for key in value if key not in seen)
            seen.update(value)
        left += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _fields(node: Any) -> Iterator[str]:
    """The names of keys in an expression, in their order."""
    if node.get("type") == "field":
        yield str(node["value"])
    for child in node.get("children", ()):
        if isinstance(child, dict):
            yield from _fields(child)
