# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Set

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._images import (
    build_plan,
    diagnosis,
    kernels,
    releases,
    remedies,
    tarballs,
)

GCC_12 = (12, "gcc (Debian 12.2.0-14) 12.2.0")
GCC_14 = (14, "gcc (Debian 14.2.0-19) 14.2.0")


def given(release: str, *images: str, compiler: Any = GCC_12, **sources: str) -> build_plan.Input:
    row = releases.refuse_impossible(release, images)
    names = ["xen", "mini-os", *(tarball.file for tarball in tarballs.needed(row, images))]
    if releases.needs_qemu(row, images):
        names.append("qemu-xen-traditional")
    own = tuple(
        kernels.Kernel(image.split("-", 1)[1], "/srv/kernel", "digest", False, ("main.c", "net.c"))
        for image in images
        if image.startswith("custom-")
    )
    return build_plan.Input(row, images, {**{name: name for name in names}, **sources}, compiler, own)


def plan(*arguments: Any, jobs: int = 2, **options: Any) -> build_plan.Plan:
    return build_plan.plan(given(*arguments, **options), jobs=jobs)


def goals(made: build_plan.Plan) -> List[str]:
    """The commands without what is the same in all of them."""
    same = {"make", "-j2", *build_plan.OFFLINE, "XEN_TARGET_ARCH=x86_64"}
    return [" ".join(word for word in step.command if word not in same) for step in made.steps]


@pytest.mark.parametrize(
    ("release", "images", "commands"),
    [
        (
            "4.8",
            ["pv-grub"],
            [
                "-C tools/include",
                "-C stubdom cross-newlib",
                "-C stubdom cross-zlib cross-libpci lwip-x86_64 libxc",
                "-C stubdom pv-grub",
            ],
        ),
        (
            "4.13",
            ["c"],
            [
                "-C tools/include",
                "-C tools/libs/toolcore include/_xentoolcore_list.h",
                "-C stubdom cross-newlib",
                "-C stubdom cross-zlib cross-libpci lwip-x86_64 libxc",
                "-C stubdom c-stubdom",
            ],
        ),
        (
            "4.17",
            ["c", "ioemu"],
            [
                "-C tools/include",
                "-C stubdom cross-newlib",
                "-C stubdom cross-zlib cross-libpci lwip-x86_64 libxenguest",
                "-C stubdom c-stubdom",
                "-C stubdom ioemu-stubdom",
            ],
        ),
        (
            "4.22",
            ["pv-grub-x86_32"],
            [
                "-C tools/include",
                "XEN_TARGET_ARCH=x86_32 -C stubdom cross-newlib",
                "XEN_TARGET_ARCH=x86_32 -C stubdom cross-zlib cross-libpci lwip-x86_32 libxenguest",
                "XEN_TARGET_ARCH=x86_32 -C stubdom pv-grub",
            ],
        ),
    ],
)
def test_the_order_of_commands(release: str, images: List[str], commands: List[str]) -> None:
    assert goals(plan(release, *images))[1:] == commands


@pytest.mark.parametrize(
    ("header", "among"),
    [
        ("-C tools/libs/toolcore include/_xentoolcore_list.h", {"4.10", "4.11", "4.12", "4.13", "4.14"}),
        ("-C tools/libs/ctrl _paths.h", {"4.15", "4.16"}),
    ],
)
def test_which_releases_make_a_header_too_late(header: str, among: Set[str]) -> None:
    """Others look for it where only the library's own directory would make it."""
    made = {row.name: goals(plan(row.name, "c")) for row in releases.RELEASES}
    assert {name for name, commands in made.items() if header in commands} == among
    for name in among:
        assert made[name].index(header) < made[name].index("-C stubdom cross-newlib")


def test_no_make_reaches_the_network_or_installs() -> None:
    for row in releases.RELEASES:
        for step in plan(row.name, *row.images).steps[1:]:
            assert set(build_plan.OFFLINE) <= set(step.command)
            assert not any("install" in word for word in step.command)


def test_each_step_is_a_stage_of_its_own() -> None:
    """A tree remembers by stage which command has been done."""
    for row in releases.RELEASES:
        made = plan(row.name, *row.images)
        assert len(made.stages) == len(made.steps)


@pytest.mark.parametrize(("compiler", "flags"), [(GCC_12, None), (GCC_14, " ".join(remedies._GCC_14))])
def test_flags_come_through_the_environment(compiler: Any, flags: Any) -> None:
    made = plan("4.17", "pv-grub", compiler=compiler)
    assert made.environment.get("CFLAGS") == flags
    assert not any(word.startswith("CFLAGS") for step in made.steps for word in step.command)


def test_identity_follows_what_goes_in() -> None:
    base = plan("4.17", "c", "pv-grub")
    assert plan("4.17", "c", "pv-grub", jobs=9).products == base.products
    for changed in (
        plan("4.16", "c", "pv-grub"),
        plan("4.17", "c", "pv-grub", compiler=GCC_14),
        plan("4.17", "c", "pv-grub", xen="another"),
        plan("4.17", "c", "pv-grub", **{"zlib-1.2.3.tar.gz": "another"}),
    ):
        assert changed.tree != base.tree
        assert all(a.identity != b.identity for a, b in zip(changed.products, base.products))
    grub = plan("4.17", "c", "pv-grub", **{"grub-0.97.tar.gz": "another"})
    assert grub.tree == base.tree
    assert grub.products[0].identity == base.products[0].identity
    assert grub.products[1].identity != base.products[1].identity


def test_a_set_of_images_shares_the_tree() -> None:
    alone, together = plan("4.17", "c"), plan("4.17", "c", "pv-grub", "ioemu", "caml")
    assert alone.tree == together.tree
    assert alone.products[0].identity == together.products[0].identity


def test_a_kernel_of_ones_own() -> None:
    made = plan("4.17", "custom-hello")
    assert made.products[0].file == "hello-stubdom.gz"
    assert made.products[0].path == "stubdom/mini-os-x86_64-custom-hello/mini-os.gz"
    assert made.steps[-1].command[-3:] == ("-f", "xen-stubdom-custom-hello.mk", "custom-hello-stubdom")
    assert "main.a: main.o net.o" in made.files["stubdom/custom-hello/Makefile"]
    assert "include Makefile" in made.files["stubdom/xen-stubdom-custom-hello.mk"]


@pytest.mark.parametrize(
    ("release", "first", "last"),
    [
        ("4.11", ["-C tools/include"], "-C tools/firmware/hvmloader ETHERBOOT_NICS=xen-stubdom-none all"),
        ("4.17", ["-C tools/include"], "-C tools/firmware/hvmloader all"),
    ],
)
def test_what_dom0_needs_beside_ioemu_needs_no_library(release: str, first: List[str], last: str) -> None:
    made = plan(release, "hvmloader", "qemu-dm")
    assert "--enable-rombios" in made.flags
    assert goals(made)[1:] == [
        *first,
        "-C tools/firmware subdir-all-rombios subdir-all-vgabios",
        last,
        "sh -n tools/xen-stubdom-qemu-dm",
    ]
    assert ("tools/firmware/etherboot/ipxe/src/bin/xen-stubdom-none.rom" in made.files) == (release == "4.11")


@pytest.mark.parametrize(("compiler", "flags"), [(GCC_12, ()), (GCC_14, remedies._GCC_14)])
def test_warnings_are_no_errors_in_firmware(compiler: Any, flags: Any) -> None:
    steps = plan("4.17", "hvmloader", compiler=compiler).steps[-2:]
    assert [step.environment for step in steps] == [{"APPEND_CFLAGS": " ".join(["-Wno-error", "-fno-pie", *flags])}] * 2


def test_helpers_share_the_tree_of_ioemu() -> None:
    alone, with_ioemu = plan("4.17", "hvmloader", "qemu-dm"), plan("4.17", "ioemu", "hvmloader", "qemu-dm")
    assert alone.tree == with_ioemu.tree
    assert alone.products == with_ioemu.products[1:]
    assert [product.sources for product in alone.products] == [("xen",), ()]


def test_our_own_program_depends_on_nothing_else() -> None:
    old, new = plan("4.2", "qemu-dm"), plan("4.20", "qemu-dm", compiler=GCC_14)
    assert old.products == new.products
    assert build_plan.manifest(given("4.20", "qemu-dm"), new, new.products[0])["compiler"] is None


LOG = """\
gcc -c one.c
one.c:1:2: warning: old style
make[1]: Entering directory '/x'
{}
make[1]: *** [Makefile:7: one.o] Error 1
make: *** [Makefile:9: all] Error 2
"""


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("one.c:5:9: error: expected ';'", None),
        ("one.c:5:9: fatal error: gnu/stubs-32.h: No such file or directory", "gcc-multilib"),
        ("minios.c:92:6: error: 'const struct file_ops' has no member named 'name'", "Config.mk names"),
        ("configure: error: Unable to find as86, please install as86", "bin86"),
        ("mini-os.c:(.text+0x10): undefined reference to `foo'", None),
        ("patch: write error : No space left on device", "Make room"),
    ],
)
def test_the_first_error_and_its_remedy(line: str, remedy: Any) -> None:
    failure = diagnosis.explain("newlib", LOG.format(line))
    assert failure.error == line or "No space" in line
    assert (failure.remedy is None) == (remedy is None)
    assert remedy is None or remedy in str(failure.remedy)


def test_a_damaged_tarball_is_found_behind_the_words_of_other_jobs() -> None:
    noise = [f"ln -sf {number}" for number in range(40)]
    log = ["gzip: stdin: not in gzip format", *noise, "make: *** [Makefile:93: newlib-1.16.0] Error 2"]
    failure = diagnosis.explain("newlib", "\n".join(log))
    assert failure.error == log[0] and failure.context[0] == log[0]
    assert "tarball is damaged" in str(failure.remedy)


def test_what_a_linker_warns_of_is_no_error() -> None:
    log = [
        "ld: warning: app.lds contains output sections; did you forget -T?",
        "ld: NOTE: This behaviour is deprecated and will be removed in a future version of the linker",
        "ld: test.o: in function `app_main':",
        "test.c:542: multiple definition of `app_main'; main.o:main.c:187: first defined here",
    ]
    assert diagnosis.explain("image c", "\n".join(log)).error == log[3]


def test_ten_lines_around_the_error() -> None:
    lines = [f"line {number}" for number in range(100)]
    lines[50] = "a.c:1:1: error: here"
    failure = diagnosis.explain("newlib", "\n".join(lines))
    assert failure.context == tuple(lines[40:61])
    assert diagnosis.explain("newlib", "").error == "no output"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('print distutils.sysconfig.get_config_var("VERSION")', 'print(distutils.sysconfig.get_config_var("VERSION"))'),
        (
            'print(distutils.sysconfig.get_config_var("VERSION"))',
            'print(distutils.sysconfig.get_config_var("VERSION"))',
        ),
    ],
)
def test_edits_are_made_once(before: str, after: str) -> None:
    edit = next(one for one in remedy("python-3-configure").edits if one.path == "tools/configure")
    assert re.sub(edit.pattern, edit.replacement, before) == after


def remedy(name: str) -> remedies.Remedy:
    return next(one for one in remedies.REMEDIES if one.name == name)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("CFLAGS   += -Werror -Wmissing-prototypes\n", "CFLAGS   +=  -Wmissing-prototypes\n"),
        ("CFLAGS += -Werror\n", "CFLAGS += \n"),
        ("CFLAGS += -Werror=address\n", "CFLAGS += -Werror=address\n"),
    ],
)
def test_a_warning_is_no_error(before: str, after: str) -> None:
    for edit in remedy("warnings-are-no-errors").edits:
        assert re.sub(edit.pattern, edit.replacement, before) == after


@pytest.mark.parametrize(
    ("release", "path"),
    [("4.12", "tools/libs/evtchn/Makefile"), ("4.13", "tools/libs/libs.mk"), ("4.14", "tools/libxc/Makefile")],
)
def test_where_a_warning_would_be_an_error(release: str, path: str) -> None:
    """gcc 13 warns of libxc up to 4.14, whose headers have a number where its functions take an enum."""
    edits = plan(release, "c", compiler=GCC_14).edits
    assert path in [edit.path for edit in edits if "-Werror" in edit.pattern]


def test_the_example_in_c_has_one_main() -> None:
    """Two strong app_main do not link; which remedies a release needs is told by its row."""
    (edit,) = remedy("c-without-tests").edits
    assert re.sub(edit.pattern, edit.replacement, "CONFIG_TEST=y\n") == ""
    assert [
        release
        for release in ("4.2", "4.4", "4.5", "4.17")
        if "c-without-tests" in [one.name for one in remedies.choose(releases.find(release).version, 12, ["c"])]
    ] == ["4.2", "4.4"]


def test_threads_of_old_releases_begin_on_aligned_stacks() -> None:
    (edit,) = remedy("stacks-of-threads").edits
    line = "    thread->sp = (unsigned long)thread->stack + STACK_SIZE;\n"
    assert re.sub(edit.pattern, edit.replacement, line) == line.replace(";", " - sizeof(unsigned long);")


def test_both_pv_grubs_are_mended_where_they_are_wrong() -> None:
    """A long of 32 bits has room for an address and for nothing else."""
    mended = {
        images: [name for name in plan("4.17", *images).remedies if name in ("answers-to-arp", "files-of-many-blocks")]
        for images in (("pv-grub",), ("pv-grub-x86_32",), ("pv-grub", "pv-grub-x86_32"), ("c",))
    }
    assert list(mended.values()) == [
        ["answers-to-arp", "files-of-many-blocks"],
        ["files-of-many-blocks"],
        ["answers-to-arp", "files-of-many-blocks"],
        [],
    ]


# Of stubdom/Makefile up to 4.3, in words of our own.
LINKS = """
XEN_ROOT = .
CONFIG_QEMU ?= $(QEMU_REMOTE)
ioemu/linkfarm.stamp:
\t@echo links of $(CONFIG_QEMU)
mk-headers-x86_64: ioemu/linkfarm.stamp
\t@echo headers
cross-zlib: mk-headers-x86_64
ioemu: cross-zlib cross-libpci
\t@echo ioemu
cross-libpci:
"""


def test_old_releases_want_qemu_for_ioemu_alone(tmp_path: Path) -> None:
    def made(*goals: str) -> List[str]:
        done = subprocess.run(["make", *goals], cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout.splitlines()

    text = LINKS
    for edit in remedy("qemu-in-the-tree").edits:
        text = re.sub(edit.pattern, edit.replacement, text)
    (tmp_path / "Makefile").write_text(text)
    assert made("cross-zlib") == ["headers"]
    assert sorted(made("ioemu")) == ["headers", "ioemu", "links of ./tools/qemu-xen-traditional"]


def test_the_header_maker_runs_with_python_3() -> None:
    """mkheader.py sorts the names of a table by their lengths, the longest first."""
    text = "integers = inttypes[arch].keys();\nintegers.sort(lambda a, b: cmp(len(b),len(a)));\n"
    for edit in remedy("python-3-configure").edits:
        if edit.path.endswith("mkheader.py"):
            text = re.sub(edit.pattern, edit.replacement, text)
    names: Dict[str, Any] = {"inttypes": {"arm32": {"long": "", "unsigned long": "", "uint64_t": ""}}, "arch": "arm32"}
    exec(text, names)
    assert names["integers"] == ["unsigned long", "uint64_t", "long"]


# What gen-cpuid.py has of Python 2, in words of our own.
PYTHON_2 = """
import sys
names = {7: "first", 8: "second"}
words = []
try:
    bitmap = 0L
    for one in sorted(names.keys() + [ 40 + (x % 8) for x in (1, 2) ]):
        bitmap |= 1L << one
    for word in xrange(2):
        words.append((bitmap >> (32 * word)) & ((1L << 32) - 1))
    for number, name in names.iteritems():
        names[number] = name.upper()
    open("/nowhere")
except StandardError, e:
    print >>sys.stderr, "%s:" % (sys.argv[0],), e
"""


def test_the_maker_of_features_runs_with_python_3(capsys: pytest.CaptureFixture[str]) -> None:
    text = PYTHON_2
    for edit in remedy("python-3-libxc").edits:
        text = re.sub(edit.pattern, edit.replacement, text)
    names: Dict[str, Any] = {}
    exec(text, names)
    assert names["words"] == [0x180, 0x600]
    assert names["names"] == {7: "FIRST", 8: "SECOND"}
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("release", "config"), [("4.4", ""), ("4.8", "caml-minios-config.mk: caml/minios.cfg\n\ttouch $@\n")]
)
def test_make_learns_what_caml_needs(release: str, config: str) -> None:
    use = "\t$(MAKE) -C $@ $(shell cat caml-minios-config.mk)\n" if config else "\t$(MAKE) -C $@\n"
    makefile = f"{config}.PHONY: caml\ncaml: $(CROSS_ROOT)\n{use}"
    row = releases.find(release)
    for remedy in remedies.choose(row.version, 12, ["caml"]):
        for edit in remedy.edits:
            if edit.path == "stubdom/Makefile":
                makefile = re.sub(edit.pattern, edit.replacement, makefile)
    needs = makefile.split("\ncaml: ")[1].splitlines()[0]
    assert needs.split() == ["$(CROSS_ROOT)", "cross-ocaml", *(["caml-minios-config.mk"] if config else [])]


def test_ocaml_is_made_by_one_command_at_a_time() -> None:
    made = plan("4.17", "c", "caml", jobs=4)
    jobs = {step.stage: next(word for word in step.command if word.startswith("-j")) for step in made.steps[-2:]}
    assert jobs == {"image c": "-j4", "image caml": "-j1"}
