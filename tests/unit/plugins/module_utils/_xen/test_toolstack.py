# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the words of xl and xenstore are read."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._xen import toolstack
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import (
    Domain,
    Xen,
    parse_list,
    parse_xenstore_ls,
)

INFO = """\
host                   : lab
xen_major              : 4
xen_minor              : 20
xen_version            : 4.20.0
xen_commandline        : placeholder dom0_mem=1G,max:1G com1=115200,8n1 console=com1:x
total_memory           : 4095
free_memory            : 2900
"""

LIST = """\
Name                                        ID   Mem VCPUs\tState\tTime(s)
Domain-0                                     0  1024     1     r-----      30.1
a guest with spaces                         12   256     2     -b----       1.0
(null)                                      13    28     1     --p---       0.0
"""

LS = """\
/local/domain/5/image = ""
/local/domain/5/image/device-model-domid = "6"
/local/domain/5/name = "say \\"hello\\""
"""


def answering(*answers: tuple[int, str, str]) -> Xen:
    remaining = iter(answers)
    return Xen(lambda _arguments, **_options: next(remaining))


def test_info_is_read_once_and_keeps_colons_in_values() -> None:
    xen = answering((0, INFO, ""))
    assert xen.command_line() == "placeholder dom0_mem=1G,max:1G com1=115200,8n1 console=com1:x"
    assert xen.version() == (4, 20)
    assert xen.total_memory_mib() == 4095


def test_list_knows_names_with_spaces_and_none() -> None:
    assert parse_list(LIST) == [
        Domain(0, "Domain-0", 1024, 1, "r"),
        Domain(12, "a guest with spaces", 256, 2, "b"),
        Domain(13, "(null)", 28, 1, "p"),
    ]


WITHOUT_DOM0 = "".join(line for line in LIST.splitlines(True) if "Domain-0" not in line)


@pytest.mark.parametrize(
    "answer", ["", LIST.splitlines(True)[0], WITHOUT_DOM0, LIST + "web        5   25", LIST + "xl: error\n"]
)
def test_a_list_that_cannot_be_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.setattr(toolstack, "PAUSE", 0)
    assert len(answering((0, answer, ""), (0, answer, ""), (0, LIST, "")).domains()) == 3
    with pytest.raises(UserError, match="`xl list` gave 4 answers that cannot be right: .* is "):
        answering(*[(0, answer, "")] * 4).domains()


@pytest.mark.parametrize("key", ["xen_major", "xen_minor", "total_memory", "free_memory"])
def test_an_info_without_its_keys_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setattr(toolstack, "PAUSE", 0)
    answer = INFO.replace(key, "other")
    assert answering((0, answer, ""), (0, INFO, "")).free_memory_mib() == 2900
    with pytest.raises(UserError, match=f"`xl info` gave 4 answers that cannot be right: {key} is missing"):
        answering(*[(0, answer, "")] * 4).version()


def test_questions_end_after_a_time_and_deeds_do_not() -> None:
    asked: dict[str, Optional[float]] = {}

    def run(arguments: list[str], *, timeout: Optional[float] = None) -> tuple[int, str, str]:
        asked[arguments[0] if arguments[0] != "xl" else arguments[1]] = timeout
        return 0, {"info": INFO, "list": LIST, "/": LS}.get(arguments[-1], ""), ""

    xen = Xen(run)
    for question in (xen.info, xen.domains, xen.dmesg, lambda: xen.read("/tool"), xen.nodes):
        question()
    xen.xl("create", "web.cfg")
    assert asked.pop("create") is None
    assert set(asked) == {"info", "list", "dmesg", "xenstore-read", "xenstore-ls"}
    assert None not in asked.values()


@pytest.mark.parametrize(
    ("status", "answer", "names"),
    [
        (0, LS, ["image", "name"]),
        # Below is another node whose name begins alike.
        (0, LS + '/local/domain/55/other = ""\n', ["image", "name"]),
        (0, "", []),
        (1, "", []),
    ],
)
def test_what_is_below_a_node(status: int, answer: str, names: list[str]) -> None:
    asked = []

    def run(arguments: list[str], *, timeout: Optional[float] = None) -> tuple[int, str, str]:
        asked.append(arguments)
        return status, answer, "xenstore-ls: xs_directory (/a): No such file or directory\n" if status else ""

    assert Xen(run).children("/local/domain/5") == names
    assert asked == [["xenstore-ls", "-f", "/local/domain/5"]]


@pytest.mark.parametrize("errors", ["xenstore-ls: xs_open: Connection refused\n", ""])
def test_what_xenstore_cannot_say_is_not_nothing(errors: str) -> None:
    with pytest.raises(UserError, match="`xenstore-ls` failed"):
        answering((1, LS, errors)).children("/local/domain/5")


def test_xenstore_ls_gives_full_paths() -> None:
    assert parse_xenstore_ls(LS) == {
        "/local/domain/5/image": "",
        "/local/domain/5/image/device-model-domid": "6",
        "/local/domain/5/name": 'say \\"hello\\"',
    }


def test_a_missing_node_is_none() -> None:
    assert answering((1, "", "xenstore-read: couldn't read path x\n")).read("x") is None


def test_a_failing_xl_is_named_with_its_last_word() -> None:
    with pytest.raises(UserError, match="cannot open xenstore"):
        answering((1, "", "libxl: error\ncannot open xenstore\n")).info()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "does not run Xen"),
        ({"sys/hypervisor/type": "xen\n"}, "is a guest of Xen"),
        ({"proc/xen/capabilities": "", "sys/hypervisor/type": "xen\n"}, "is a guest of Xen"),
    ],
)
def test_a_machine_that_is_not_dom0_is_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        Xen(lambda _arguments, **_options: (0, "", ""), root=str(tmp_path)).require_dom0()


def test_dom0_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "proc/xen").mkdir(parents=True)
    (tmp_path / "proc/xen/capabilities").write_text("control_d\n")
    Xen(lambda _arguments, **_options: (0, "", ""), root=str(tmp_path)).require_dom0()


@pytest.mark.parametrize(
    ("libraries", "dom0", "version"),
    [
        ([], False, None),
        (
            ["usr/lib/x86_64-linux-gnu/libxenlight.so.4.17", "usr/lib/x86_64-linux-gnu/libxenlight.so.4.17.0"],
            False,
            (4, 17),
        ),
        (["usr/lib/libxenlight.so.4.9", "usr/lib64/libxenlight.so.4.21"], False, (4, 21)),
        (["usr/lib/libxenlight.so.4.20", "usr/lib64/libxenlight.so.4.21"], True, (4, 20)),
    ],
)
def test_the_toolstack_is_as_new_as_its_library(
    tmp_path: Path, libraries: list[str], dom0: bool, version: tuple[int, int] | None
) -> None:
    for name in [*libraries, *(["proc/xen/capabilities"] if dom0 else [])]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("control_d\n")
    assert Xen(lambda _arguments, **_options: (0, INFO, ""), root=str(tmp_path)).toolstack_version() == version


def test_a_host_without_xenstore_is_told_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text("ID=debian\nVERSION_ID=13\n")

    def run(_arguments: list[str], **_options: object) -> tuple[int, str, str]:
        raise FileNotFoundError

    for program, ask, package in (
        ("xenstore-read", lambda xen: xen.read("/tool"), "xenstore-utils"),
        ("xl", lambda xen: xen.xl("list"), "xen-utils-common"),
    ):
        with pytest.raises(UserError, match=f"no {program} on this host") as failed:
            ask(Xen(run, root=str(tmp_path)))
        assert failed.value.remedy == f"Install the package {package}."


def test_a_dry_run_gives_xl_the_text_and_keeps_no_file() -> None:
    asked: list[list[str]] = []
    said = "Parsing config from FILE\nFILE:2: warning: parameter `acpi' is not a valid number\nWARNING: old\n"

    def run(arguments: list[str], *, timeout: Optional[float] = None) -> tuple[int, str, str]:
        assert timeout == toolstack.PATIENCE and Path(arguments[-1]).read_bytes() == b'name = "web"\n'
        asked.append(arguments)
        return 0, "{}", said.replace("FILE", arguments[-1])

    assert Xen(run).dry_run(b'name = "web"\n') == [
        "line 2: warning: parameter `acpi' is not a valid number",
        "WARNING: old",
    ]
    assert asked[0][:3] == ["xl", "create", "--dryrun"] and not Path(asked[0][3]).exists()


def test_what_xl_refuses_in_a_dry_run_is_an_error_with_its_words() -> None:
    xen = answering((1, "", "Parsing config from /proc/1/fd/4\nFailed to parse UUID: zz\n"))
    with pytest.raises(UserError, match=r"^xl refuses the configuration of the guest: Failed to parse UUID: zz\."):
        xen.dry_run(b"")


# More than one program is asked for.
MANY = [f"/many/{number}" for number in range(2100)]
NODES = {"/a": "1", "/b": "", "/d": "x y", **dict.fromkeys(MANY, "1")}


def xenstore_read(arguments: list[str], **_options: object) -> tuple[int, str, str]:
    output = ""
    for path in arguments[1:]:
        if path not in NODES:
            return 1, output, f"xenstore-read: couldn't read path {path}\n"
        output += NODES[path] + "\n"
    return 0, output, ""


@pytest.mark.parametrize(
    ("paths", "calls"),
    [
        ([], 0),
        (["/a"], 1),
        (["/a", "/b", "/d"], 1),
        (["/a", "/c", "/b", "/d"], 2),
        (["/c", "/e"], 2),
        (["/a", "/c"], 1),
        (MANY, 2),
    ],
)
def test_many_nodes_are_read_in_few_calls(paths: list[str], calls: int) -> None:
    made = []

    def run(arguments: list[str], **options: object) -> tuple[int, str, str]:
        made.append(arguments)
        return xenstore_read(arguments, **options)

    assert Xen(run).read_many(paths) == {path: NODES[path] for path in paths if path in NODES}
    assert len(made) == calls


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((1, "", "xenstore-read: couldn't end transaction\n"), "failed: xenstore-read: couldn't end transaction"),
        ((1, "1\n", "xenstore-read: couldn't read path /a\n"), "failed: "),
        ((0, "1\n", ""), "printed 1 values for 2 nodes"),
        ((0, "1\n2\n3\n", ""), "printed 3 values for 2 nodes"),
        ((1, "1\n2\n", ""), "printed 2 values for 2 nodes"),
    ],
)
def test_an_answer_of_xenstore_that_cannot_be(answer: tuple[int, str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Xen(lambda _arguments, **_options: answer).read_many(["/a", "/b"])
