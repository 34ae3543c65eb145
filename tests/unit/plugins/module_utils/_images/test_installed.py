# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every change of the installer, stopped after each of its steps: what is there then, and what the next run does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common import files, manifest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._common.files import Change
from ansible_collections.xen.stubdom.plugins.module_utils._common.manifest import Manifest
from ansible_collections.xen.stubdom.plugins.module_utils._images import installed
from ansible_collections.xen.stubdom.plugins.module_utils._images.installed import Place

ONE_FILE = installed.one_file("/boot", "pv-grub-x86_64.gz")
TWO_FILES = Place("/boot", ("kernel", "rootfs"), "linux")

Tree = Dict[str, Optional[bytes]]


@pytest.fixture(params=[ONE_FILE, TWO_FILES], ids=["one file", "two files"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.param
    return found


def empty(place: Place) -> Tree:
    return dict.fromkeys(place.all)


def contents(place: Place, word: str) -> Dict[str, bytes]:
    return {file: f"{file} {word}".encode() for file in place.files}


def record(place: Place, word: str) -> Manifest:
    checksums = {file: files.sha256(content) for file, content in contents(place, word).items()}
    nothing: Dict[str, Any] = dict.fromkeys(("compiler", "flags", "built"))
    return Manifest(
        kind="k",
        xen="4.20",
        sources=[],
        identity=word,
        files=checksums,
        sha256=checksums[place.files[-1]],
        **nothing,
    )


def made(tree: Tree, changes: List[Change]) -> Tree:
    assert all(tree[change.path] == change.before for change in changes)
    return {**tree, **{change.path: change.after for change in changes}}


def prefixes(tree: Tree, changes: List[Change]) -> Iterator[Tree]:
    """What an interruption may leave: nothing made, the first change made, and so on, but not all of them."""
    for count in range(len(changes)):
        yield made(tree, changes[:count])


def install(place: Place, tree: Tree, word: str) -> List[Change]:
    return installed.install(place, tree, contents(place, word), record(place, word))


def with_images(place: Place, tree: Tree, *words: str) -> Tree:
    for word in words:
        tree = made(tree, install(place, tree, word))
    return tree


def foreign(place: Place) -> Tree:
    """Files that were there before us, without a manifest."""
    return {**empty(place), **{place.path_of(file): b"theirs " + file.encode() for file in place.files}}


def noted(place: Place, tree: Tree) -> Tree:
    """The same after a rollback."""
    there = {file: tree[place.path_of(file)] for file in place.files}
    sums = [f"{files.sha256(content)}  {file}\n" for file, content in there.items() if content is not None]
    return {**tree, place.rolled_back: "".join(sums).encode()}


def whole(place: Place, tree: Tree) -> Optional[str]:
    return installed.identity(place, tree)


def test_a_first_installation(place: Place) -> None:
    wanted = with_images(place, empty(place), "one")
    for left in prefixes(empty(place), install(place, empty(place), "one")):
        # What is there is never taken for whole, is completed by the next run, and is removed without a trace.
        assert whole(place, left) is None
        assert made(left, install(place, left, "one")) == wanted
        assert made(left, installed.remove(place, left)) == empty(place)
        # Another image meanwhile: the half of the first one is not worth keeping.
        assert made(left, install(place, left, "two")) == with_images(place, empty(place), "two")


def test_an_upgrade_saves_the_previous_image_first(place: Place) -> None:
    before = with_images(place, empty(place), "one")
    changes = install(place, before, "two")
    wanted = made(before, changes)
    first_new = next(number for number, change in enumerate(changes) if not change.path.endswith(".previous"))
    assert all(not change.path.endswith(".previous") for change in changes[first_new:])
    for number, left in enumerate(prefixes(before, changes)):
        assert whole(place, left) == ("one" if number <= first_new else None)
        assert made(left, install(place, left, "two")) == wanted
        assert whole(place, made(left, install(place, left, "three"))) == "three"
        assert made(left, installed.remove(place, left)) == empty(place)
        if number >= first_new:
            back = made(left, installed.roll_back(place, left))
            assert back == noted(place, before)


def test_a_third_image_keeps_the_second(place: Place) -> None:
    before = with_images(place, empty(place), "one", "two")
    changes = install(place, before, "three")
    for left in prefixes(before, changes):
        after = made(left, install(place, left, "three"))
        assert after == with_images(place, before, "three")
        assert whole(place, made(after, installed.roll_back(place, after))) == "two"
        assert made(left, installed.remove(place, left)) == empty(place)
        # While the previous image is being saved there is none; it is refused, and not believed.
        try:
            rolled = made(left, installed.roll_back(place, left))
        except UserError as error:
            assert whole(place, left) == "two" and "cannot be put back" in error.what
        else:
            assert whole(place, rolled) in ("one", "two")


def test_files_that_were_there_before_come_back(place: Place) -> None:
    before = foreign(place)
    wanted = with_images(place, before, "one")
    for left in prefixes(before, install(place, before, "one")):
        assert whole(place, left) is None
        assert made(left, install(place, left, "one")) == wanted
        assert made(left, installed.remove(place, left)) == before
    for undo in (installed.remove, installed.roll_back):
        for left in prefixes(wanted, undo(place, wanted)):
            assert whole(place, left) in (None, "one")
            assert made(left, installed.remove(place, left)) == before
            assert whole(place, made(left, install(place, left, "one"))) == "one"


def test_a_removal_removes_the_manifest_last(place: Place) -> None:
    for words in (("one",), ("one", "two")):
        before = with_images(place, empty(place), *words)
        changes = installed.remove(place, before)
        assert changes[-1].path == place.manifest
        assert made(before, changes) == empty(place)
        for number, left in enumerate(prefixes(before, changes)):
            assert (whole(place, left) is None) == (number > 0)
            assert made(left, installed.remove(place, left)) == empty(place)
            assert whole(place, made(left, install(place, left, "three"))) == "three"


def test_a_rollback(place: Place) -> None:
    before = with_images(place, empty(place), "one", "two")
    wanted = noted(place, with_images(place, empty(place), "one"))
    changes = installed.roll_back(place, before)
    assert made(before, changes) == wanted
    for left in prefixes(before, changes):
        assert made(left, installed.roll_back(place, left)) == wanted
        assert made(left, installed.remove(place, left)) == empty(place)
        assert whole(place, made(left, install(place, left, "two"))) == "two"
    assert installed.roll_back(place, wanted) == []
    with pytest.raises(UserError, match="There is no previous image"):
        installed.roll_back(place, with_images(place, empty(place), "one"))


def test_a_rollback_has_been_done_until_another_image_is_installed(place: Place) -> None:
    before = with_images(place, empty(place), "one", "two")
    before = made(before, installed.roll_back(place, before))
    changes = install(place, before, "two")
    wanted = made(before, changes)
    assert wanted == with_images(place, empty(place), "one", "two")
    assert whole(place, made(wanted, installed.roll_back(place, wanted))) == "one"
    for left in prefixes(before, changes):
        assert made(left, install(place, left, "two")) == wanted
        # Whatever of it was done, the image that was there before can be had.
        back = made(left, installed.roll_back(place, left))
        assert back == before
        assert installed.roll_back(place, back) == []
        assert made(left, installed.remove(place, left)) == empty(place)
    # The image that was put back is asked for itself, or somebody replaces it.
    assert whole(place, made(before, install(place, before, "one"))) == "one"
    replaced = {**before, place.path: b"another program's"}
    with pytest.raises(UserError, match="There is no previous image"):
        installed.roll_back(place, replaced)


def test_a_rollback_to_files_that_were_there_before_us_has_been_done(place: Place) -> None:
    wanted = with_images(place, foreign(place), "one")
    back = noted(place, foreign(place))
    for left in [*prefixes(wanted, installed.roll_back(place, wanted)), back]:
        assert made(left, installed.roll_back(place, left)) == back
    assert made(back, installed.remove(place, back)) == foreign(place)
    assert made(back, install(place, back, "one")) == wanted


def test_what_is_not_ours_stays(place: Place) -> None:
    assert installed.remove(place, foreign(place)) == []
    assert (
        installed.problem(place, foreign(place)) == f"There is no manifest {place.manifest} that describes the image."
    )


def test_an_alias_that_is_not_ours_stays() -> None:
    before = {**empty(ONE_FILE), "/boot/pv-grub.gz": b"theirs"}
    tree = with_images(ONE_FILE, before, "one", "two")
    assert tree["/boot/pv-grub.gz"] == b"theirs"
    assert len(installed.foreign_aliases(ONE_FILE, tree)) == 1
    # It goes away, ours is made, and is taken away again by the rollback to an image that had none.
    tree = with_images(ONE_FILE, {**tree, "/boot/pv-grub.gz": None}, "three")
    assert tree["/boot/pv-grub.gz"] == tree[ONE_FILE.path]
    changes = installed.roll_back(ONE_FILE, tree)
    for left in prefixes(tree, changes):
        assert made(left, installed.roll_back(ONE_FILE, left))["/boot/pv-grub.gz"] is None
    assert installed.remove(ONE_FILE, before) == []


@pytest.fixture
def real(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(files, "LOCK_DIRECTORIES", (str(tmp_path),))
    return Place(str(tmp_path), place.files, place.name)


def test_what_is_not_there_afterwards_is_put_back(real: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    before = installed.read(real)
    changes = install(real, before, "one")
    apply = files.apply
    calls: List[int] = []

    def overwritten(asked: List[Change], **options: Any) -> Dict[str, str]:
        result = apply(asked, **options)
        if not calls:
            Path(real.path_of(real.files[-1])).write_bytes(b"another program's")
        calls.append(1)
        return result

    monkeypatch.setattr(files, "apply", overwritten)
    with pytest.raises(UserError, match="is not what was just written there") as failed:
        installed.apply(real, before, changes)
    assert "put back" in failed.value.remedy
    assert installed.read(real) == before


def test_a_failure_after_the_files_were_written_puts_them_back(real: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    installed.apply(real, installed.read(real), install(real, installed.read(real), "one"))
    before = installed.read(real)
    changes = install(real, before, "two")
    apply, read = files.apply, files.read
    written: List[int] = []

    def noted(asked: List[Change], **options: Any) -> Dict[str, str]:
        result = apply(asked, **options)
        written.append(1)
        return result

    def failing(path: str) -> Optional[bytes]:
        if len(written) == 1 and path == real.path:
            written.append(1)
            raise UserError(f"Cannot read {path}: Input/output error.", "Replace the disk.")
        return read(path)

    monkeypatch.setattr(files, "apply", noted)
    monkeypatch.setattr(files, "read", failing)
    with pytest.raises(UserError, match="Input/output error"):
        installed.apply(real, before, changes)
    monkeypatch.undo()
    assert installed.read(real) == before
    assert manifest.parse(before[real.manifest]) is not None


def test_what_a_killed_run_has_left_goes_although_nothing_changes(real: Place) -> None:
    installed.apply(real, installed.read(real), install(real, installed.read(real), "one"))
    before = sorted(path.name for path in Path(real.directory).iterdir())
    for path in real.all:
        for ending in ("new", "old"):
            Path(real.directory, f".{Path(path).name}.xen-stubdom-{ending}").write_bytes(b"half")
    installed.apply(real, installed.read(real), [])
    assert sorted(path.name for path in Path(real.directory).iterdir()) == before
