# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the table of xl's keys is read from a parser in C."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import xl_keys

PARSER = """\
static const char *action_on_shutdown_names[] = {
    [LIBXL_ACTION_ON_SHUTDOWN_DESTROY] = "destroy",
};

int parse_nic(libxl_device_nic *nic, char *token)
{
    if (MATCH_OPTION("mac", token, oparg)) {
    } else if (!strcmp("trusted", token)) {
    }
    return 0;
}

static void parse_keyboard(const XLU_Config *config)
{
    if (!xlu_cfg_get_list (config, "vkb", &vkbs, 0, 0)) {
        if (MATCH_OPTION(XENKBD_FIELD_WIDTH, token, oparg)) {
        }
    }
}

int main_cpupoolcreate(int argc, char **argv)
{
    xlu_cfg_get_list(config, "nodes", &nodes, 0, 0);
}

void parse_config_data(const char *source,
                       int length)
{
    xlu_cfg_get_defbool(config, "acpi", &acpi, 0);
    if (c_info->type == LIBXL_DOMAIN_TYPE_HVM) {
        if (!xlu_cfg_get_string (config, "vga", &buf, 0)) {
            if (!strcmp(buf, "stdvga")) {
            }
        }
    }
    switch (b_info->type) {
    case LIBXL_DOMAIN_TYPE_PV:
        xlu_cfg_get_long(config, "slack", &l, 0);
        break;
    }
    if (!xlu_cfg_get_long(config, "tsc_mode", &l, 1)) {
    } else if (!xlu_cfg_get_string(config, "tsc_mode", &buf, 0)) {
        libxl_tsc_mode_from_string(buf, &mode);
    }
    if (xlu_cfg_get_string (config, "on_crash", &buf, 0))
        parse_action_on_shutdown(buf, &action);
    if (!xlu_cfg_get_list (config, "vif", &nics, 0, 0)) {
        parse_nic(nic, p);
    }
    parse_keyboard(config);
#define parse_extra_args(type)                                       \\
    e = xlu_cfg_get_list_as_string_list(config, "args"#type, &x, 0); \\
    done();

    parse_extra_args();

    parse_extra_args(_pv);

#undef parse_extra_args
}
"""
TYPES = """\
libxl_tsc_mode = Enumeration("tsc_mode", [
    (0, "default"),
    (1, "native"),
    ])
"""
DISKS = """\
static void setformat(DiskParseContext *dpc, const char *str) {
    if      (!strcmp(str,""))       DSET(dpc,format,FORMAT,str,RAW);
    else if (!strcmp(str,"raw"))    DSET(dpc,format,FORMAT,str,RAW);
}
%%
format=[^,]*,?\t{ STRIP(','); setformat(DPC, FROMEQUALS); }
discard,?\t{ libxl_defbool_set(&DPC->disk->discard_enable, true); }
target=.*\t{ STRIP(','); SAVESTRING("target", pdev_path, FROMEQUALS); }
"""
READ = {
    "PARSER": PARSER,
    "TYPES": TYPES,
    "DISKS": DISKS,
    "PCI": 'if ( !strcmp(optkey, "seize") ) {',
    "NAMES": '#define XENKBD_FIELD_WIDTH "width"\n',
}


def test_a_parser_is_read() -> None:
    found = xl_keys.release(READ)
    assert found.kinds == {
        "acpi": {"bool"},
        "args": {"list"},
        "args_pv": {"list"},
        "on_crash": {"string"},
        "slack": {"int"},
        "tsc_mode": {"int", "string"},
        "vga": {"string"},
        "vif": {"list"},
        "vkb": {"list"},
    }
    assert {key: types for key, types in found.guests.items() if types != {""}} == {"vga": {"hvm"}, "slack": {"pv"}}
    assert {key: words for key, words in found.words.items() if words} == {
        "disk.format": {"raw"},
        "on_crash": {"destroy"},
        "tsc_mode": {"default", "native"},
        "vga": {"stdvga"},
    }
    assert "vga" in found.exact and "tsc_mode" not in found.exact
    assert {key: fields for key, fields in found.fields.items() if fields} == {
        "disk": {"format", "discard", "target"},
        "pci": {"seize"},
        "vif": {"mac", "trusted"},
        "vkb": {"width"},
    }


def test_a_key_that_is_read_in_another_way_has_another_row() -> None:
    def release(kind: str) -> xl_keys.Release:
        return xl_keys.Release(kinds={"a": {kind}}, guests={"a": {"hvm", ""} if kind == "bool" else {"hvm"}})

    found = {2: release("int"), 3: release("int"), 4: release("bool"), 5: xl_keys.Release(), 6: release("bool")}
    assert list(xl_keys.spans("a", found)) == ['(2, 3, "int", "hvm")', '(4, 4, "bool", "")', '(6, 6, "bool", "")']


def test_the_table_is_written_from_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@y", *words], cwd=tmp_path, check=True)

    repository = {
        "tools/libxl/xl_cmdimpl.c": PARSER,
        "tools/libxl/libxl_types.idl": TYPES,
        "tools/libxl/libxlu_disk_l.l": DISKS,
        "xen/include/public/io/kbdif.h": READ["NAMES"],
    }
    for place, text in repository.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(text)
    git("init", "--quiet", "--initial-branch=stable-4.2")
    git("add", ".")
    git("commit", "--quiet", "--message", "x")
    git("checkout", "--quiet", "-b", "stable-4.3")
    (tmp_path / "tools/libxl/xl_cmdimpl.c").write_text(PARSER.replace('"slack"', '"slate"'))
    git("commit", "--quiet", "--all", "--message", "y")
    monkeypatch.setattr(xl_keys, "TABLE", tmp_path / "table.py")
    monkeypatch.setattr("sys.argv", ["xl_keys.py", str(tmp_path)])
    xl_keys.main()
    table: dict[str, object] = {}
    exec((tmp_path / "table.py").read_text(), table)
    assert (table["OLDEST"], table["NEWEST"]) == (2, 3)
    keys = table["KEYS"]
    assert isinstance(keys, dict)
    assert keys["slack"] == ((2, 2, "int", "pv"),) and keys["slate"] == ((3, 3, "int", "pv"),)
    assert keys["tsc_mode"] == ((2, 3, "int string", ""),)
