# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: what images of stub domains are made of, as CycloneDX has it.

from __future__ import annotations

import json
import uuid
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.xen.stubdom.plugins.module_utils._common import manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError

try:
    from cyclonedx import model
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
except ImportError:
    INSTALLED = False
else:
    INSTALLED = True

# Names of properties are prefixed with a namespace of their own (CycloneDX, property taxonomy).
_OURS = "xen.stubdom:"
_PROPERTIES = ("kind", "compiler", "flags", "built", "identity", "linux", "memory_mib", "command_line")


def describe(images: Sequence[Mapping[str, Any]], name: str = "") -> Dict[str, Any]:
    """Return a bill of materials in CycloneDX 1.6, the same for the same images.

    :param images: as xen_info returns them; those without a manifest are components of which nothing is known.
    :param name: of what the images belong to, for example a host.
    :raises UserError: the library is not installed, or an image is not described.
    """
    if not INSTALLED:
        raise UserError(
            "The Python package cyclonedx-python-lib is not installed on the control machine.",
            "Install it where ansible-core is installed, for example with `pip install cyclonedx-python-lib`.",
        )
    known = [_checked(image) for image in images]
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([name, known], sort_keys=True)))
    parts: Dict[str, Any] = {}
    made = []
    for image in known:
        component = _image(image)
        sources = [_source(source, parts) for source in (image["manifest"] or {}).get("sources", ())]
        bom.components.add(component)
        bom.register_dependency(component, sources)
        made.append(component)
    bom.components.update(parts.values())
    if name:
        host = Component(name=name, type=ComponentType.PLATFORM, bom_ref=f"host:{name}")
        bom.metadata.component = host
        bom.register_dependency(host, made)
    document: Dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    # A time of its own would make another document of each run.
    document["metadata"].pop("timestamp", None)
    return document


def _checked(image: object) -> Dict[str, Any]:
    """:raises UserError: it is no image with a manifest or without one."""
    try:
        if not isinstance(image, dict) or not isinstance(image["name"], str):
            raise ValueError("it is not an image")
        found = image["manifest"]
        return {"name": image["name"], "manifest": None if found is None else manifest.from_dict(found).as_dict()}
    except (KeyError, ValueError) as error:
        why = f"it has no {error.args[0]}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"The list of images has an item that cannot be described: {why}.",
            "Give the filter the images as the module xen.stubdom.xen_info returns them.",
        ) from None


def _hashes(digest: object) -> List[Any]:
    return [model.HashType(alg=model.HashAlgorithm.SHA_256, content=str(digest))] if digest else []


def _image(image: Mapping[str, Any]) -> Any:
    record = image["manifest"] or {}
    values = [(name, record.get(name)) for name in _PROPERTIES]
    component = Component(
        # What libxl loads into a domain, as firmware into a machine.
        type=ComponentType.FIRMWARE,
        name=image["name"],
        version=record.get("xen"),
        bom_ref=f"image:{image['name']}",
        properties=[model.Property(name=_OURS + name, value=str(value)) for name, value in values if value is not None],
        hashes=_hashes(record.get("sha256")),
    )
    for file, digest in record.get("files", {}).items():
        component.components.add(
            Component(
                type=ComponentType.FILE,
                name=file,
                bom_ref=f"image:{image['name']}:{file}",
                hashes=_hashes(digest or record["sha256"]),
            )
        )
    return component


def _source(source: Mapping[str, str], parts: Dict[str, Any]) -> Any:
    """Return the component of a source, one for all images that have it."""
    version = source.get("version") or source.get("commit")
    key = "source:" + ":".join(filter(None, (source.get("name"), version, source.get("sha256"))))
    if key not in parts:
        parts[key] = Component(
            type=ComponentType.LIBRARY,
            name=source.get("name", "unknown"),
            version=version,
            bom_ref=key,
            hashes=_hashes(source.get("sha256")),
        )
    return parts[key]
