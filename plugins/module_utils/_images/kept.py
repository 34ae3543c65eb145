# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: the finished images that root keeps, images/IDENTITY/ in the work directory.
# The account that builds cannot write there. What it has made is read once; from then on root's copy is what counts.

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
from typing import Any, Dict, Iterable, List, Optional

from ansible_collections.xen.stubdom.plugins.module_utils._common import files, place
from ansible_collections.xen.stubdom.plugins.module_utils._common import manifest as _manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.place import Place
from ansible_collections.xen.stubdom.plugins.module_utils._images import account, build_plan, helpers, records
from ansible_collections.xen.stubdom.plugins.module_utils._images.build_plan import Input, Plan, Product

# The largest image, ioemu with debug information, has about 20 MiB.
_LONGEST = 256 << 20


def directory(work: str, product: Product) -> str:
    """Return where a finished image lies; the account that builds has a directory of that name of its own."""
    return os.path.join(work, "images", product.identity[:16])


def finished(work: str, product: Product) -> Optional[Dict[str, Any]]:
    """Return the manifest of an image that is built already."""
    manifest = records.read(os.path.join(directory(work, product), "manifest.json"))
    if manifest is None or manifest.get("identity") != product.identity:
        return None
    return manifest


def missing(work: str, plan: Plan) -> List[str]:
    """Return the images of a plan that are not built yet."""
    return [product.image for product in plan.products if finished(work, product) is None]


def describe(given: Input, product: Product, content: Optional[bytes] = None) -> Dict[str, Any]:
    """Return the manifest of an image; without *content*, what is known before it is built."""
    plan = build_plan.plan(build_plan.only(given, [product.image]), jobs=1)
    if content is None:
        return build_plan.manifest(given, plan, product)
    return build_plan.manifest(given, plan, product, sha256=files.sha256(content), built=_manifest.now())


def keep(work: str, given: Input, products: Iterable[Product], user: str) -> None:
    """Copy images that *user* has made, each with its manifest, all of it or nothing.

    :raises UserError: what it made is no regular file of its own.
    """
    for product in products:
        if finished(work, product) is None:
            _write(directory(work, product), product, given, _content(work, product, user))


def _content(work: str, product: Product, user: str) -> bytes:
    if product.image == "qemu-dm":
        # dom0 runs it as root, and there is nothing to compile.
        return helpers.qemu_dm().encode()
    path = os.path.join(directory(account.workshop(work), product), product.file)
    try:
        with contextlib.ExitStack() as opened:
            found = opened.enter_context(place.find(work))
            descriptor = found.directory
            below = os.path.relpath(os.path.dirname(path), work).split("/")
            for name in (found.name, *below):
                flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(name, flags, dir_fd=descriptor)
                opened.callback(os.close, descriptor)
            image = place.open_regular(Place(path, descriptor, product.file), longest=_LONGEST)
            stream = opened.enter_context(os.fdopen(image, "rb"))
            # A hard link could be a file of another account.
            if os.fstat(image).st_uid != pwd.getpwnam(user).pw_uid:
                raise UserError(
                    f"The image {path} does not belong to {user}, who built it.",
                    "Find out which program puts files there, then run again.",
                )
            content = stream.read(_LONGEST + 1)
    except OSError as error:
        raise UserError(
            f"Cannot read the image {path} that was built: {error.strerror}.",
            "A build has to leave a regular file there. Run again; if it happens again, remove the directory.",
        ) from error
    if len(content) > _LONGEST:
        raise UserError(f"The image {path} has more than {_LONGEST >> 20} MiB.", "Make it smaller.")
    return content


def _write(target: str, product: Product, given: Input, content: bytes) -> None:
    temporary = f"{target}.new"
    with files.lock("xen.stubdom-images"):
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            with files.replacing(os.path.join(temporary, product.file)) as stream:
                stream.write(content)
            records.write(os.path.join(temporary, "manifest.json"), describe(given, product, content))
            shutil.rmtree(target, ignore_errors=True)
            os.rename(temporary, target)
        except OSError as error:
            raise UserError(
                f"Cannot write {target}: {error.strerror}.",
                "Correct the permissions of that directory, or set work_directory to another one.",
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
