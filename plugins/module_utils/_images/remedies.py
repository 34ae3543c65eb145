# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the xen.stubdom collection: known problems of building old source with new tools, and faults of PV-GRUB,
# and what helps: flags, wrappers and small edits of our own. A new problem is a new row.

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Mapping, Optional, Sequence, Tuple

from ansible_collections.xen.stubdom.plugins.module_utils._common.version import Version


@dataclass(frozen=True)
class Edit:
    """Replace what *pattern* matches in one file of the tree; a file or a match that is not there is no error."""

    path: str
    pattern: str
    replacement: str


@dataclass(frozen=True)
class Remedy:
    """What helps, and where it is needed.

    :param since: first release with the problem.
    :param until: last release with it; None is open.
    :param compiler: first major version of gcc that has it.
    :param image: the only image that has it; None is all.
    :param cflags: words for CFLAGS in the environment.
    :param headers: headers that nothing would make in time, each as a directory of the tree and a goal of its Makefile.
    """

    name: str
    since: Version = (4, 2)
    until: Optional[Version] = None
    compiler: int = 0
    image: Optional[str] = None
    cflags: Tuple[str, ...] = ()
    headers: Tuple[Tuple[str, str], ...] = ()
    edits: Tuple[Edit, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)


# gcc 14 made errors of these warnings. newlib 1.16, GRUB 0.97 and qemu-xen-traditional are full of them.
_GCC_14 = (
    "-Wno-error=incompatible-pointer-types",
    "-Wno-error=implicit-function-declaration",
    "-Wno-error=int-conversion",
    "-Wno-error=implicit-int",
)

# OCaml's configure takes no argument with "=" in it, so its flags come through a compiler of our own. Its run time is
# compiled three times, once under the name signals_asm.p.c.
_OCAML_CC = "stubdom/xen-stubdom-ocaml-cc"
_OCAML_CC_TEXT = f"""\
#!/bin/sh
here=${{0%/*}}
case "$*" in
    *signals_asm.*) set -- -include "$here/xen-stubdom-sigstksz.h" "$@" ;;
esac
exec gcc -std=gnu99 -fcommon {" ".join(_GCC_14)} "$@"
"""
_SIGSTKSZ = "stubdom/xen-stubdom-sigstksz.h"
_SIGSTKSZ_TEXT = """\
#define _GNU_SOURCE 1
#include <signal.h>
#undef SIGSTKSZ
#define SIGSTKSZ 65536
"""

# What the OCaml run time, compiled against the host's glibc, asks for by glibc's names. The bits are those of glibc's
# <ctype.h> on a little-endian machine.
_GLIBC_NAMES = r"""
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
int *__errno_location(void) { return &errno; }
static int xen_stubdom_in(int c, int first, int last) { return first <= c && c <= last; }
static unsigned short xen_stubdom_class(int c)
{
    int upper = xen_stubdom_in(c, 'A', 'Z'), lower = xen_stubdom_in(c, 'a', 'z'), digit = xen_stubdom_in(c, '0', '9');
    int alpha = upper || lower, hex = digit || xen_stubdom_in(c, 'A', 'F') || xen_stubdom_in(c, 'a', 'f');
    int blank = c == ' ' || c == '\t', print = xen_stubdom_in(c, ' ', '~'), graph = print && c != ' ';
    int space = c == ' ' || xen_stubdom_in(c, 9, 13), control = c < ' ' || c == 127, number = alpha || digit;
    return upper << 8 | lower << 9 | alpha << 10 | digit << 11 | hex << 12 | space << 13 | print << 14 | graph << 15
        | blank | control << 1 | (graph && !number) << 2 | number << 3;
}
const unsigned short **__ctype_b_loc(void)
{
    static unsigned short classes[384];
    static const unsigned short *at = classes + 128;
    int c;
    for (c = 0; c < 128; c++)
        classes[128 + c] = xen_stubdom_class(c);
    return &at;
}
#undef fcntl64
#undef stat64
int fcntl64(int descriptor, int command, long argument) { return fcntl(descriptor, command, argument); }
int stat64(const char *path, void *status) { errno = ENOSYS; return -1; }
int __isoc99_sscanf(const char *text, const char *format, ...)
{ va_list v; int n; va_start(v, format); n = vsscanf(text, format, v); va_end(v); return n; }
int __isoc23_sscanf(const char *text, const char *format, ...)
{ va_list v; int n; va_start(v, format); n = vsscanf(text, format, v); va_end(v); return n; }
"""

# Libraries of tools/libs up to 4.12 that a stub domain has (stubdom/Makefile), each with warnings of its own.
_LIBRARIES = ("toolcore", "toollog", "evtchn", "gnttab", "call", "foreignmemory", "devicemodel")


def _in_grub(path: str, old: str, new: str) -> Edit:
    """Change a line of GRUB 0.97, which make unpacks and patches."""
    return Edit(
        "stubdom/Makefile",
        rf"(?m)^(grub-upstream:.*\n(?:\t.*\n)*\tdone\n)(?!(?:\t.*\n)*\tsed .*/{re.escape(path)}\n)",
        rf"\1\tsed -i 's/{old}/{new}/' $@/{path}\n",
    )


REMEDIES: Tuple[Remedy, ...] = (
    Remedy("gcc-14-errors", compiler=14, cflags=_GCC_14),
    # Mini-OS's linker script puts .note.GNU-stack in one section with Xen's notes. The linker that comes with gcc 14
    # (binutils 2.44 of Debian 13) then makes no section of notes of it, and Xen finds no kernel: "Invalid kernel".
    Remedy(
        "notes-of-their-own",
        compiler=14,
        edits=tuple(
            Edit(f"extras/mini-os/arch/x86/minios-{name}", r"\*\(\.note\.\*\)", "*(.note.Xen*)")
            for name in ("x86.lds.S", "x86_64.lds", "x86_32.lds")
        ),
    ),
    # What newer compilers learned to warn of is an error there: gcc 8's -Wstringop-truncation in libxc of 4.4, gcc 12's
    # -Waddress in Mini-OS up to 4.6, gcc 13's -Wenum-int-mismatch in libxc up to 4.14.
    Remedy(
        "warnings-are-no-errors",
        until=(4, 14),
        compiler=8,
        edits=tuple(
            Edit(path, r"(?<=\s)-Werror(?=\s)", "")
            for path in (
                "extras/mini-os/minios.mk",
                "tools/libs/libs.mk",
                "tools/libxc/Makefile",
                "tools/xenstore/Makefile",
                *(f"tools/libs/{name}/Makefile" for name in _LIBRARIES),
            )
        ),
    ),
    # GRUB 0.97 copies the four bytes of the address that an ARP request asks for into a long, and compares all of the
    # long with its own address (await_reply, netboot/main.c). Where a long has eight bytes the other four are what was
    # on the stack, and no request is answered: Linux takes such a guest for gone after eight seconds, in the middle of
    # a file. PV-GRUB for 32 bits, whose long has four bytes, has no fault. Of the other longs that hold an address
    # (netmask, and those of udp_transmit, default_netmask and inet_aton) all eight bytes are set.
    Remedy(
        "answers-to-arp",
        image="pv-grub",
        edits=(_in_grub("netboot/main.c", "unsigned long tmp;", "unsigned int tmp;"),),
    ),
    # Blocks of TFTP have numbers of 16 bits. 0 comes after 65535, and GRUB 0.97 waits for 65536 (buf_fill,
    # netboot/fsys_tftp.c): a file of more than 65535 blocks of 1432 bytes, 94 MB, never comes to its end.
    *(
        Remedy(
            "files-of-many-blocks",
            image=image,
            edits=(
                _in_grub(
                    "netboot/fsys_tftp.c",
                    "block != prevblock + (unsigned short) 1",
                    "block != (unsigned short) (prevblock + 1)",
                ),
            ),
        )
        for image in ("pv-grub", "pv-grub-x86_32")
    ),
    # The example asks for Mini-OS's tests, which have an app_main of their own; 4.5 took that out.
    Remedy("c-without-tests", until=(4, 4), image="c", edits=(Edit("stubdom/c/minios.cfg", r"CONFIG_TEST=y\n", ""),)),
    # Up to 4.4 the stacks of threads begin eight bytes off the boundary that the System V ABI for x86-64 wants at a
    # call, and code that moves pairs of words by SSE ends in a general protection fault (Mini-OS, 5bcf79d1e0).
    Remedy(
        "stacks-of-threads",
        until=(4, 4),
        edits=(
            Edit(
                "extras/mini-os/arch/x86/sched.c",
                r"(thread->sp = \(unsigned long\)thread->stack \+ STACK_SIZE);",
                r"\1 - sizeof(unsigned long);",
            ),
        ),
    ),
    # Up to 4.4 make takes qemu-xen-traditional from where Config.mk says; 4.5 looks for it in tools/ first. Up to 4.3
    # every stub domain waits for links to it, which only ioemu has a use for.
    Remedy(
        "qemu-in-the-tree",
        until=(4, 4),
        edits=(
            Edit("Config.mk", r"(CONFIG_QEMU \?=) \$\(QEMU_REMOTE\)", r"\1 $(XEN_ROOT)/tools/qemu-xen-traditional"),
            Edit("stubdom/Makefile", r"(?m)^(mk-headers-.*:) ioemu/linkfarm\.stamp$", r"\1"),
            Edit("stubdom/Makefile", r"(?m)^ioemu: (?=cross-zlib )", "ioemu: ioemu/linkfarm.stamp "),
        ),
    ),
    # The other libraries include this header from tools/libs/toolcore, and stubdom/ makes one in a directory of its
    # own; from 4.15 on it lies in tools/include.
    Remedy(
        "header-of-toolcore",
        since=(4, 10),
        until=(4, 14),
        headers=(("tools/libs/toolcore", "include/_xentoolcore_list.h"),),
    ),
    # libxenguest includes a header of libxenctrl, which includes this one beside it. Only make in that directory makes
    # it, and stubdom/ has a copy of libxenctrl of its own (tools/libs/guest/Makefile @ RELEASE-4.16.7).
    Remedy("header-of-paths", since=(4, 15), until=(4, 16), headers=(("tools/libs/ctrl", "_paths.h"),)),
    # xen/tools/gen-cpuid.py, which makes a header of libxc, is for Python 2 up to 4.10.
    Remedy(
        "python-3-libxc",
        since=(4, 7),
        until=(4, 10),
        edits=tuple(
            Edit("xen/tools/gen-cpuid.py", pattern, replacement)
            for pattern, replacement in (
                (r"\b([01])L\b", r"\1"),
                (r"except (\w+), (\w+):", r"except \1 as \2:"),
                (r"\bStandardError\b", "Exception"),
                (r"\.iteritems\(\)", ".items()"),
                (r"\bxrange\(", "range("),
                (r"([\w.]+\.keys\(\)) \+ \[", r"list(\1) + ["),
                (r"(?m)print >>sys\.stderr, (.*), e$", r"print(\1, e, file=sys.stderr)"),
            )
        ),
    ),
    # tools/configure runs Python 2 one-liners (m4/python_devel.m4 @ RELEASE-4.12.4).
    Remedy(
        "python-3-configure",
        until=(4, 12),
        edits=(
            Edit("tools/configure", r'print (distutils\.sysconfig\.get_config_var\("VERSION"\))', r"print(\1)"),
            Edit("tools/include/xen-foreign/mkchecker.py", r"(\w+)\.has_key\((\w+)\)", r"\2 in \1"),
            Edit(
                "tools/include/xen-foreign/mkheader.py",
                r"integers = inttypes\[arch\]\.keys\(\);\n.*cmp\(len\(b\),len\(a\)\)\);",
                "integers = sorted(inttypes[arch], key=len, reverse=True)",
            ),
        ),
    ),
    # gcc 10 has -fno-common; glibc 2.34 has no constant SIGSTKSZ; the run time asks for names of the host's glibc; make
    # does not know that caml needs OCaml, and from 4.8 on a file of flags, first.
    Remedy(
        "ocaml",
        until=(4, 18),
        image="caml",
        edits=(
            Edit("stubdom/caml/main-caml.c", r"int \*__errno_location;\n", _GLIBC_NAMES),
            Edit("stubdom/caml/main-caml.c", r"void \*__ctype_b_loc;\n|    __errno_location = &errno;\n", ""),
            Edit("stubdom/Makefile", r'-cc "\$\(CC\) ([^"]*)"', r'-cc "$(CURDIR)/xen-stubdom-ocaml-cc \1"'),
            Edit(
                "stubdom/Makefile",
                r"(?m)^caml: \$\(CROSS_ROOT\)$(?=\n.*caml-minios-config\.mk)",
                r"caml: $(CROSS_ROOT) caml-minios-config.mk",
            ),
            Edit("stubdom/Makefile", r"(?m)^caml: \$\(CROSS_ROOT\)(?! cross)", r"caml: $(CROSS_ROOT) cross-ocaml"),
        ),
        files={_OCAML_CC: _OCAML_CC_TEXT, _SIGSTKSZ: _SIGSTKSZ_TEXT},
    ),
    # 66c4f0c47f changed the version only: ocaml.patch is for OCaml 3.11, and -no-tk is gone from 4.02.
    Remedy(
        "ocaml-4.02",
        since=(4, 11),
        until=(4, 18),
        image="caml",
        edits=(
            Edit("stubdom/ocaml.patch", r"(?s)\A.+\Z", ""),
            Edit("stubdom/Makefile", r" -no-tk\b", ""),
        ),
    ),
)


def choose(version: Version, compiler: int, images: Sequence[str]) -> Tuple[Remedy, ...]:
    """Return the remedies for these images of a release, with this major version of gcc."""
    return tuple(
        remedy
        for remedy in REMEDIES
        if remedy.since <= version
        and (remedy.until is None or version <= remedy.until)
        and compiler >= remedy.compiler
        and (remedy.image is None or remedy.image in images)
    )
