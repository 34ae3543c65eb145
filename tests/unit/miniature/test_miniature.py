# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# From what a server and a repository on loopback give to images with a kernel in them, by the same code that builds the
# real thing, with this machine's compiler. The tree is tests/miniature; that its kernel boots is shown on the lab.

from __future__ import annotations

import functools
import gzip
import http.server
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._images import build_plan, helpers
from ansible_collections.xen.stubdom.plugins.module_utils._images import remedies as _remedies
from ansible_collections.xen.stubdom.plugins.modules import stubdom_build, stubdom_source

REPOSITORY = Path(__file__).resolve().parents[3]
MINIATURE = REPOSITORY / "tests" / "miniature"
sys.path.insert(0, str(MINIATURE))

import pack
from open_directory import open_directory

RELEASE = "4.17.5"
GUIDE = REPOSITORY / "docs" / "custom_stub_domain.md"


@pytest.fixture(scope="module")
def upstream() -> Iterator[pack.Packed]:
    with open_directory("upstream") as path:
        yield pack.pack(path / RELEASE, RELEASE)


@pytest.fixture(scope="module")
def served(upstream: pack.Packed) -> Iterator[str]:
    """The address at which a web server has all of it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(Path(upstream.extfiles).parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class Builder:
    def __init__(self, work: Path, upstream: pack.Packed, served: str) -> None:
        self.work = work
        self.gcc = "gcc"
        minor = upstream.release.split(".")[1]
        self.options: Dict[str, Any] = {
            "xen": {"tarball": f"{served}/release/{Path(upstream.tarball).name}"},
            "mini_os": {"git": f"file://{upstream.git}/mini-os.git", "revision": f"xen-RELEASE-4.{minor}.0"},
            "qemu_traditional": {
                "git": f"file://{upstream.git}/qemu-xen-traditional.git",
                "revision": f"xen-4.{minor}.0",
            },
            "mirror": f"{served}/extfiles",
            "checksums": upstream.checksums,
        }

    def download(self, *images: str) -> List[Dict[str, Any]]:
        params = {
            "release": RELEASE,
            "images": list(images),
            "work_directory": str(self.work),
            "user": None,
            "directory": None,
            "allow_unverified": False,
            "timeout": 5,
            **self.options,
        }
        result = stubdom_source.run(SimpleNamespace(params=params, check_mode=False, internal={}))  # type: ignore[arg-type]
        return list(result["sources"])

    def command(self, arguments: List[str], **_options: Any) -> Tuple[int, str, str]:
        done = subprocess.run([self.gcc, *arguments[1:]], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def build(self, *images: str, kernels: Tuple[Dict[str, str], ...] = ()) -> Dict[str, Any]:
        params = {
            "release": RELEASE,
            "images": list(images),
            "sources": self.download(*images),
            "kernels": list(kernels),
            "work_directory": str(self.work),
            "user": None,
            "jobs": 2,
            "timeout": 300,
        }
        module = SimpleNamespace(params=params, check_mode=False, internal={})
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(stubdom_build, "run_program", self.command)
            return stubdom_build.run(module)  # type: ignore[arg-type]


@pytest.fixture
def builder(upstream: pack.Packed, served: str) -> Iterator[Builder]:
    with open_directory("builder") as path:
        yield Builder(path / "work", upstream, served)


@pytest.fixture
def gcc_14(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have the builder's gcc be one that makes errors of what gcc 14 makes errors of."""
    directory = builder.work.parent / "gcc-14"
    shutil.copytree(MINIATURE / "gcc-14", directory)
    builder.gcc = str(directory / "gcc")
    first_of_all(directory, monkeypatch)
    return str(directory)


@pytest.fixture
def as86(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the builder find the assembler that a ROM BIOS needs; the miniature's only asks whether there is one."""
    directory = builder.work.parent / "bin86"
    directory.mkdir()
    (directory / "as86").symlink_to("/bin/true")
    first_of_all(directory, monkeypatch)


def first_of_all(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have builds look for programs in *directory* first."""
    environment = build_plan._environment

    def before_all_others(remedies: Any) -> Dict[str, str]:
        made = environment(remedies)
        return {**made, "PATH": f"{directory}:{made['PATH']}"}

    monkeypatch.setattr(build_plan, "_environment", before_all_others)


def spoken(result: Dict[str, Any]) -> Dict[str, bytes]:
    """What the program in each image says, out of the kernel itself."""
    found = {}
    for image in result["images"]:
        kernel = gzip.decompress(Path(image["path"]).read_bytes())
        assert kernel[:4] == b"\x7fELF" and b"xen-3.0\0" in kernel
        words = re.search(rb"The miniature speaks: [a-z-]+|Hello from [a-z ]+", kernel)
        found[image["image"]] = words[0] if words else b""
    return found


def hello(builder: Builder) -> Dict[str, str]:
    """The worked example of docs/custom_stub_domain.md, where the builder's account can read it."""
    directory = builder.work.parent / "hello"
    shutil.copytree(GUIDE.with_suffix("") / "hello", directory)
    return {"name": "hello", "directory": str(directory)}


def test_the_same_release_is_packed_the_same(upstream: pack.Packed, tmp_path: Path) -> None:
    again = pack.pack(tmp_path / "again", RELEASE)
    assert (again.checksums, again.commits) == (upstream.checksums, upstream.commits)


def test_from_the_servers_to_images_once(builder: Builder) -> None:
    kernel = hello(builder)
    images = ("pv-grub", "ioemu", "c", "custom-hello")
    result = builder.build(*images, kernels=(kernel,))
    assert result["built"] == list(images)
    assert spoken(result) == {
        "pv-grub": b"The miniature speaks: pv-grub",
        "ioemu": b"The miniature speaks: ioemu",
        "c": b"The miniature speaks: c",
        "custom-hello": b"Hello from a stub domain of my own",
    }
    assert result["images"][-1]["file"] == "hello-stubdom.gz"
    again = builder.build(*images, kernels=(kernel,))
    assert not again["changed"] and again["images"] == result["images"]


def test_what_dom0_needs_beside_ioemu(builder: Builder, as86: None) -> None:
    loader, program = (Path(image["path"]).read_bytes() for image in builder.build("hvmloader", "qemu-dm")["images"])
    assert b"ROMBIOS" in loader and b"a rombios" in loader and b"a vgabios" in loader
    assert program == helpers.qemu_dm().encode()
    # ioemu afterwards finds the same tree, and they find theirs done.
    result = builder.build("ioemu", "hvmloader", "qemu-dm")
    assert result["built"] == ["ioemu"]
    assert len(list((builder.work / "build" / "trees").iterdir())) == 1


def test_a_rom_bios_without_its_assembler_says_what_to_install(builder: Builder, monkeypatch: Any) -> None:
    programs = builder.work.parent / "programs"
    programs.mkdir()
    for name in ("sh", "sed", "grep", "tr", "mkdir", "rm", "gcc", "python3"):
        (programs / name).symlink_to(str(shutil.which(name)))
    environment = build_plan._environment
    monkeypatch.setattr(build_plan, "_environment", lambda remedies: {**environment(remedies), "PATH": str(programs)})
    with pytest.raises(UserError, match="Stage 'configure' failed: .*Unable to find as86") as refused:
        builder.build("hvmloader")
    assert "bin86" in refused.value.remedy


def test_another_image_reuses_the_tree(builder: Builder) -> None:
    builder.build("c")
    result = builder.build("c", "pv-grub")
    assert result["built"] == ["pv-grub"]
    assert "newlib" not in result["stages"]


def test_a_new_compiler_needs_what_helps_against_it(
    builder: Builder, gcc_14: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_remedies, "REMEDIES", ())
    with pytest.raises(UserError, match="Stage 'newlib' failed: .*return type defaults to .int.") as refused:
        builder.build("pv-grub")
    assert "makedoc.c" in str(refused.value) and "Log: " in str(refused.value)


def test_a_new_compiler_is_helped(builder: Builder, gcc_14: str) -> None:
    result = builder.build("pv-grub", "ioemu")
    assert "gcc-14-errors" in result["remedies"]
    assert list(spoken(result).values()) == [b"The miniature speaks: pv-grub", b"The miniature speaks: ioemu"]


def of_grub(builder: Builder, expression: str) -> bool:
    """What the source that PV-GRUB was made of says, if there was something else on its stack before."""
    (tree,) = (builder.work / "build" / "trees").iterdir()
    program = builder.work.parent / "program"
    program.with_suffix(".c").write_text(
        "int arp_asks_for(const char *asked, unsigned own);\n"
        "int tftp_is_next(unsigned short block, unsigned short prevblock);\n"
        f"int main(void) {{ return {expression}; }}\n"
    )
    sources = (tree / "stubdom" / "grub-upstream" / "netboot").glob("*.c")
    command = ["gcc", "-ftrivial-auto-var-init=pattern", "-o", program, program.with_suffix(".c"), *sources]
    subprocess.run(command, check=True)
    return subprocess.run([program], check=False).returncode == 1


ASKED = r'arp_asks_for("\300\0\002\017", 0x0f0200c0)'


def without(name: str) -> Tuple[_remedies.Remedy, ...]:
    return tuple(remedy for remedy in _remedies.REMEDIES if remedy.name != name)


def test_pv_grub_answers_to_arp_and_counts_blocks_as_tftp_does(builder: Builder) -> None:
    assert {"answers-to-arp", "files-of-many-blocks"} <= set(builder.build("pv-grub")["remedies"])
    assert of_grub(builder, ASKED)
    assert of_grub(builder, "tftp_is_next(0, 65535) && tftp_is_next(2, 1) && !tftp_is_next(1, 65535)")


def test_a_tree_of_an_older_collection_gets_what_this_one_mends(builder: Builder) -> None:
    """GRUB was unpacked and compiled there, and make sees no reason to do it again."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_remedies, "REMEDIES", without("answers-to-arp"))
        before = builder.build("pv-grub", "c")
    assert not of_grub(builder, ASKED)
    after = builder.build("pv-grub", "c")
    assert after["built"] == ["pv-grub"] and of_grub(builder, ASKED)
    kernels = [gzip.decompress(Path(made["images"][0]["path"]).read_bytes()) for made in (before, after)]
    assert kernels[0] != kernels[1]


def test_ocaml_is_helped_by_several_jobs_too(builder: Builder) -> None:
    assert spoken(builder.build("caml"))["caml"] == b"The miniature speaks: caml"


def test_ocaml_fails_without_help(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_remedies, "REMEDIES", ())
    with pytest.raises(UserError, match="Stage 'image caml' failed: .*Hunk #1 FAILED at"):
        builder.build("caml")


def test_edits_of_a_tree_can_be_made_twice(tmp_path: Path) -> None:
    pack.copy_tree(MINIATURE / "xen", tmp_path / "xen", RELEASE)
    for remedy in _remedies.REMEDIES:
        for edit in remedy.edits:
            path = tmp_path / "xen" / edit.path
            if path.exists():
                once = re.sub(edit.pattern, edit.replacement, path.read_text())
                assert re.sub(edit.pattern, edit.replacement, once) == once, edit
                path.write_text(once)


def test_configure_refuses_what_a_release_does_not_know(tmp_path: Path) -> None:
    pack.copy_tree(MINIATURE / "xen", tmp_path / "xen", "4.22.0")
    for flag, status in {"--enable-pv-grub": 0, "--enable-qemu-traditional": 1, "--enable-caml-stubdom": 1}.items():
        done = subprocess.run(["./configure", flag], cwd=tmp_path / "xen", capture_output=True, text=True, check=False)
        assert done.returncode == status, (flag, done.stderr)


def test_the_guide_shows_the_program_that_is_built() -> None:
    shown = re.search(r"^```c\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    program = (GUIDE.with_suffix("") / "hello" / "main.c").read_text()
    assert shown is not None and program.endswith(f"\n\n{shown[1]}")


def test_what_a_failed_attempt_left_in_the_tree_does_not_stay(builder: Builder) -> None:
    # The compiler of the first attempt was broken, which QEMU's configuration in the tree does not forget; nothing that
    # identifies the tree has changed since. Another image was built in between.
    gcc = builder.work.parent / "gcc"
    gcc.write_text(
        '#!/bin/sh\ncase "$*" in *vnc.c*) echo "vnc.c:1:1: error: broken" >&2; exit 1 ;; esac\nexec gcc "$@"\n'
    )
    gcc.chmod(0o755)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(build_plan, "_make", with_compiler(gcc))
        with pytest.raises(UserError, match=r"Stage 'image ioemu' failed: vnc.c:1:1: error: broken"):
            builder.build("ioemu")
    tree = next((builder.work / "build" / "trees").iterdir())
    kept = tree / "stubdom" / "ioemu" / "config-host.mak"
    assert str(gcc) in kept.read_text()
    gcc.unlink()
    builder.build("c")
    assert builder.build("ioemu")["built"] == ["ioemu"]
    assert list((builder.work / "build" / "trees").iterdir()) == [tree]
    assert str(gcc) not in kept.read_text()


def with_compiler(gcc: Path) -> Any:
    """Have QEMU, and nothing else, be compiled by *gcc*."""
    make = build_plan._make

    def changed(arch: str, jobs: int, *goals: str) -> Tuple[str, ...]:
        return (*make(arch, jobs, *goals), *([f"CC={gcc}"] if goals == ("ioemu-stubdom",) else []))

    return changed


def test_flags_of_a_first_attempt_do_not_stay(builder: Builder, gcc_14: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # newlib and GRUB are let through, QEMU is not: its configuration keeps the flags that were not enough.
    name = "ansible_collections.xen.stubdom.plugins.module_utils._images.build_plan._environment"
    helped = build_plan._environment
    some = "-Wno-error=incompatible-pointer-types -Wno-error=implicit-int"
    monkeypatch.setattr(name, lambda remedies: {**helped(remedies), "CFLAGS": some})
    with pytest.raises(UserError, match="Stage 'image ioemu' failed: .*networking_set_addr"):
        builder.build("ioemu")
    tree = next((builder.work / "build" / "trees").iterdir())
    assert some in (tree / "stubdom" / "ioemu" / "config-host.mak").read_text()
    monkeypatch.setattr(name, helped)
    assert builder.build("ioemu")["built"] == ["ioemu"]


def test_characters_have_the_classes_that_glibc_gives_them(tmp_path: Path) -> None:
    """OCaml's run time was compiled against glibc's <ctype.h> and meets ours in a stub domain."""
    ours = re.sub(r"__(ctype_b_loc|errno_location|isoc)|(fcntl|stat)64", r"our_\1\2", _remedies._GLIBC_NAMES)
    program = f"""
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
{ours}
int main(void)
{{
    int c;
    for (c = -128; c < 256; c++)
        if ((*our_ctype_b_loc())[c] != (*__ctype_b_loc())[c])
            printf("%d: %x is not %x\\n", c, (*our_ctype_b_loc())[c], (*__ctype_b_loc())[c]);
    return 0;
}}
"""
    (tmp_path / "classes.c").write_text(program)
    subprocess.run(["gcc", "-w", "-o", tmp_path / "classes", tmp_path / "classes.c"], check=True)
    assert subprocess.run([tmp_path / "classes"], check=True, capture_output=True, text=True).stdout == ""
