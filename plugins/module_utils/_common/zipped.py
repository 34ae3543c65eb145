# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: a room and all rooms that it imports, as one program that stays on a host.

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import zipfile
from importlib.machinery import ModuleSpec
from typing import Dict, Iterator, List, Optional

# What this room is in: ours are the names that begin like its own.
_OURS = __name__[: __name__.index("module_utils")]


def program(room: str) -> bytes:
    """Return a zip application (zipapp of Python's library) that ends with the status which the room's main returns.

    Its files are those that this process runs with, as Ansible has sent them. Equal files give an equal program:
    nothing is compressed, as that differs from one release of zlib to another.

    :param room: the full name of a module with a function main, which imports nothing of Ansible's.
    """
    sources: Dict[str, str] = {"__main__": f"from {room} import main\n\nraise SystemExit(main())\n"}
    waiting: List[str] = [room]
    while waiting:
        name = waiting.pop()
        path = name.replace(".", "/")
        if path in sources or f"{path}/__init__" in sources:
            continue
        spec = _find(name)
        if spec is None:
            # A function or a class of a room that is in already.
            continue
        source = _source(spec, name)
        sources[path if spec.submodule_search_locations is None else f"{path}/__init__"] = source
        waiting += [name.rpartition(".")[0]] if "." in name else []
        waiting += _imported(source)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        for path in sorted(sources):
            # The earliest date that the format has.
            packed.writestr(zipfile.ZipInfo(f"{path}.py", (1980, 1, 1, 0, 0, 0)), sources[path])
    return content.getvalue()


def _find(name: str) -> Optional[ModuleSpec]:
    with contextlib.suppress(ModuleNotFoundError):
        return importlib.util.find_spec(name)
    return None


def _source(spec: ModuleSpec, name: str) -> str:
    # A package without a file of its own may have no loader that tells a source.
    read = getattr(spec.loader, "get_source", None)
    return (None if read is None else read(name)) or ""


def _imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_OURS):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
