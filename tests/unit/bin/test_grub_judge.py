# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Menus of GRUB made by chance: the collection says what a model of GRUB says. GRUB itself: molecule/grub_menu."""

from __future__ import annotations

import dataclasses

import grub_judge
import grub_menus
import pytest

SEEDS = 150


def test_the_collection_says_what_boots() -> None:
    made = {f"seed {seed}": grub_menus.make(seed) for seed in range(SEEDS)}
    answers = {name: grub_judge.of_model(menu) for name, menu in made.items()}
    assert {None if answer is None else answer.words for answer in answers.values()} > {None}
    assert [
        found
        for name, menu in made.items()
        for found in [grub_judge.differences(name, menu, answers[name] or grub_judge.Answer(None))]
        if found
    ] == []


def test_a_difference_is_shown() -> None:
    made = next(menu for menu in map(grub_menus.make, range(SEEDS)) if menu.booted is not None)
    shown = grub_judge.differences("seed 7", made, grub_judge.Answer(("multiboot2", "/boot/xen.gz", "other=1")))
    assert shown.startswith("seed 7\nGRUB:       multiboot2 /boot/xen.gz other=1\nmodel:      ")
    assert made.files["grub.cfg"] in shown


def test_a_menu_is_the_same_for_the_same_seed() -> None:
    assert dataclasses.replace(grub_menus.make(3), booted=None) == dataclasses.replace(grub_menus.make(3), booted=None)


@pytest.mark.parametrize(
    ("text", "number", "rest"),
    [("1", 1, ""), ("0x1f>2", 31, ">2"), ("018", 1, "8"), ("09", 9, ""), ("x", None, "x"), (" 2 a", 2, " a"),
     ("0x", None, "")],
)  # fmt: skip
def test_numbers_are_read_as_grub_reads_them(text: str, number: int | None, rest: str) -> None:
    assert grub_menus.number_in(text) == (number, rest)
