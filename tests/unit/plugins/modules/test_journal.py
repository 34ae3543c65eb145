# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules write to the host's journal, and what xen_info reads of it."""

from __future__ import annotations

import io
import json
import syslog
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Dict, List, Optional

import in_process
import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common import files, module
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._xen import history

NAME = "xen.stubdom.guests"


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> List[Dict[str, str]]:
    lines: List[Dict[str, str]] = []
    names: List[str] = []
    # Ansible's own lines about the task have another identifier.
    monkeypatch.setattr(syslog, "openlog", lambda name, *_options: names.append(name))
    ours = "xen.stubdom"
    monkeypatch.setattr(
        syslog, "syslog", lambda *given: lines.append(json.loads(given[-1])) if names[-1] == ours else None
    )
    return lines


def test_a_change_is_written_once_and_only_when_it_is_made(tmp_path: Path, journal: List[Dict[str, str]]) -> None:
    path = tmp_path / "xl.conf"
    path.write_text('autoballoon="auto"\n')
    given = {"settings": {"autoballoon": "off"}, "path": str(path), "_ansible_target_log_info": "xen.stubdom.site"}
    written = []
    for check in (True, False, True, False):
        in_process.play(
            "xl_conf", {**given, "_ansible_check_mode": check, "_ansible_module_name": "xen.stubdom.xl_conf"}
        )
        written.append(len(journal))
    assert written == [0, 1, 1, 1]
    assert journal == [
        {
            "module": "xen.stubdom.xl_conf",
            "play": "xen.stubdom.site",
            "what": str(path),
            "from": 'autoballoon="auto"',
            "to": 'autoballoon="off"',
        }
    ]


def test_nothing_is_written_of_a_task_whose_log_is_unwanted(tmp_path: Path, journal: List[Dict[str, str]]) -> None:
    path = tmp_path / "xl.conf"
    given = {"settings": {"autoballoon": "off"}, "path": str(path), "_ansible_no_log": True}
    assert in_process.play("xl_conf", given)["changed"] is True
    assert journal == []


@pytest.mark.parametrize("fails", [False, True])
def test_what_could_not_be_removed_is_a_warning(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    monkeypatch.setattr(files, "stayed", [])

    def run(_module: Any) -> Dict[str, Any]:
        files.stayed.append("/var/tmp/xen.stubdom-1 could not be removed.")
        if fails:
            raise UserError("One guest failed.", "Correct it.")
        return {"changed": False}

    output = io.StringIO()
    with in_process.arguments_given({}), redirect_stdout(output), pytest.raises(SystemExit):
        module.run_module(run, argument_spec={})
    result = json.loads(output.getvalue())
    assert result.get("failed", False) is fails and "could not be removed" in json.dumps(result["warnings"])


LONG = "x" * 290
DIFF = {"after_header": "/etc/xen/web.cfg", "before": "", "after": f'vncpasswd = "sesame"\n{LONG} sesame\n'}
GUESTS = [{"name": "web", "actions": ["written", "started"]}, {"name": "mail", "actions": []}]


@pytest.mark.parametrize(
    ("result", "lines"),
    [
        ({"diff": [DIFF]}, [{"what": "/etc/xen/web.cfg", "to": f'vncpasswd = "********" | {LONG} ********'[:300]}]),
        ({"diff": [], "guests": GUESTS}, [{"what": "guest web", "to": "written, started"}]),
        (
            {"diff": {"after_header": "/f", "before": "a\nb\n", "after": "b\nc\nd\n"}, "identity": "1f"},
            [{"image": "1f", "what": "/f", "from": "a", "to": "c | d"}],
        ),
        ({"diff": [DIFF], "manifest": {"identity": "2e"}, "changed": False}, []),
        ({"manifest": None}, []),
    ],
)
@pytest.mark.parametrize("fails", [False, True])
def test_what_is_written_of_a_result(
    journal: List[Dict[str, str]], result: Dict[str, Any], lines: List[Dict[str, str]], fails: bool
) -> None:
    def run(_module: Any) -> Dict[str, Any]:
        if fails:
            raise UserError("One guest failed.", "Correct it.", {"changed": True, **result})
        return {"changed": True, **result}

    given = {"password": "sesame", "_ansible_module_name": NAME}
    with in_process.arguments_given(given), pytest.raises(SystemExit):
        module.run_module(run, argument_spec={"password": {"type": "str", "no_log": True}})
    assert journal == [{"module": NAME, **line} for line in lines]


def entry(message: Any, **fields: str) -> str:
    text = message if isinstance(message, (str, list)) else json.dumps(message)
    return json.dumps({"MESSAGE": text, "__REALTIME_TIMESTAMP": "1767268800999999", **fields}) + "\n"


NOTHING = dict.fromkeys(("module", "play", "what", "from", "to", "image"))


@pytest.mark.parametrize(
    ("line", "row"),
    [
        (
            entry({"module": NAME, "what": "guest web", "to": "started"}, _AUDIT_LOGINUID="0"),
            {**NOTHING, "user": "root", "module": NAME, "what": "guest web", "to": "started"},
        ),
        (entry({"what": "a\x1b[2J"}, _AUDIT_LOGINUID="4294967295"), {**NOTHING, "user": None, "what": "a\\x1b[2J"}),
        (entry({"what": {"a": 1}}), {**NOTHING, "user": None, "what": "{'a': 1}"}),
        (entry({"other": 1}), None),
        (entry("by hand"), None),
        (entry([1, 2]), None),
        ("{", None),
        ("[]", None),
    ],
)
def test_what_is_read_of_an_entry(line: str, row: Optional[Dict[str, Any]]) -> None:
    read = history.read(lambda _arguments, **_options: (0, line, ""), 5, None)
    assert read == ([] if row is None else [{"time": "2026-01-01T12:00:00Z", **row}])


def test_only_what_root_wrote_is_asked_for_and_not_more_than_that_many() -> None:
    asked: List[List[str]] = []

    def run(arguments: List[str], **_options: Any) -> Any:
        asked.append(arguments)
        return (0, "", "") if "--since=-7d" in arguments else (1, "", "Failed to parse timestamp: soon\n")

    assert history.read(run, 7, "-7d") == []
    assert {"_UID=0", "--identifier=xen.stubdom", "--lines=7"} <= set(asked[0])
    with pytest.raises(UserError, match="parse timestamp: soon.\nCorrect history_since"):
        history.read(run, 7, "soon")
    with pytest.raises(UserError, match="Set history_lines to 1 to 1000"):
        history.read(run, 1001, None)


def test_a_host_without_a_journal_has_no_history() -> None:
    def run(_arguments: List[str], **_options: Any) -> Any:
        raise FileNotFoundError

    assert history.read(run, 7, None) is None
