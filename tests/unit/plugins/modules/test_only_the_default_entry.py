# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Menus that are edited themselves, and only their entry that boots. fixtures/only_default/CASE/input is a file tree,
# hypervisor and dom0_kernel are what the option of either makes of it.

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._xen import toolstack
from ansible_collections.xen.stubdom.plugins.modules import boot_option, dom0_mem
from efi_program import SYSTEMD_BOOT

FIXTURES = Path(__file__).parents[1] / "module_utils" / "_boot" / "fixtures" / "only_default"
CASES = sorted(path.name for path in FIXTURES.iterdir())
OPTIONS = {"hypervisor": ("dom0_max_vcpus", "2"), "dom0_kernel": ("console", "hvc0")}


@pytest.fixture(autouse=True)
def _no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(arguments: Any, **_options: Any) -> Any:
        raise AssertionError(arguments)

    for module in (boot_option, dom0_mem):
        monkeypatch.setattr(module, "run_program", refused)
        monkeypatch.setattr(module, "Xen", lambda run: toolstack.Xen(run, root="/nowhere"))


def tree(root: Path) -> Dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def run(root: Path, target: str = "hypervisor", *, check: bool = False, **params: Any) -> Dict[str, Any]:
    name, value = OPTIONS[target]
    defaults = {"name": name, "value": value, "values": None, "target": target, "state": "present", "loader": "auto"}
    given = {**defaults, "root": str(root), "regenerate": True, "backup": False, "entries": "default", **params}
    return boot_option.run(SimpleNamespace(params=given, check_mode=check))  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["hypervisor", "dom0_kernel"])
@pytest.mark.parametrize("case", CASES)
def test_four_steps(tmp_path: Path, case: str, target: str) -> None:
    shutil.copytree(FIXTURES / case / "input", tmp_path, dirs_exist_ok=True)
    for directory in tmp_path.glob("efi/loader"):
        (directory.parent / "EFI/systemd").mkdir()
        (directory.parent / "EFI/systemd/systemd-bootx64.efi").write_bytes(SYSTEMD_BOOT)
    before = tree(tmp_path)
    for state, wanted in (("present", {**before, **tree(FIXTURES / case / target)}), ("absent", before)):
        begin = tree(tmp_path)
        value = OPTIONS[target][1] if state == "present" else None
        steps = []
        for check in (True, False, True, False):
            steps.append(run(tmp_path, target, check=check, state=state, value=value))
            assert tree(tmp_path) == (begin if len(steps) == 1 else wanted)
        assert [step["changed"] for step in steps] == [True, True, False, False]
        words = ["=".join(OPTIONS[target])] if value else []
        assert all((step["configured"], step["effective"]) == (words, words) for step in steps[1:])


def test_dom0_mem_has_the_parameter_too(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "grub2" / "input", tmp_path, dirs_exist_ok=True)
    params = {"state": "present", "size": "1G", "min": None, "max": None, "value": None, "loader": "auto"}
    params.update(root=str(tmp_path), regenerate=True, backup=False, entries="default")
    dom0_mem.run(SimpleNamespace(params=params, check_mode=False))  # type: ignore[arg-type]
    assert (tmp_path / "boot/grub/grub.cfg").read_text().count("dom0_mem=1G,max:1G") == 1
    params["entries"] = "all"
    dom0_mem.run(SimpleNamespace(params=params, check_mode=False))  # type: ignore[arg-type]
    assert (tmp_path / "boot/grub/grub.cfg").read_text().count("dom0_mem=1G,max:1G") == 2


XEN = "multiboot2 /boot/xen.gz\nmodule2 /boot/vmlinuz"
SECTIONS = b"[global]\ndefault=xen\n[xen]\nkernel=vmlinuz\n"
LEGACY_DEBIAN = """default 0
### BEGIN AUTOMAGIC KERNELS LIST
## ## Start Default Options ##
# xenhopt=
## ## End Default Options ##
title Xen
kernel /boot/xen.gz
module /boot/vmlinuz
### END DEBIAN AUTOMAGIC KERNELS LIST
"""


@pytest.mark.parametrize(
    ("files", "message"),
    [
        # Which entry boots depends on what cannot be known.
        (
            {"boot/grub/grub.cfg": f"if keystatus --shift; then set default=1; fi\nmenuentry a {{\n{XEN}\n}}\n" * 2},
            "no entry is known that starts Xen at the next boot",
        ),
        # Linux boots.
        (
            {"boot/grub/grub.cfg": f"menuentry Linux {{\nlinux /vmlinuz\n}}\nmenuentry Xen {{\n{XEN}\n}}\n"},
            "The default entry of /boot/grub/grub.cfg is 'Linux'",
        ),
        # The entry runs what stands elsewhere.
        (
            {"boot/grub/grub.cfg": f"function go {{\n{XEN}\n}}\nmenuentry Xen {{\ngo\n}}\n"},
            "by commands that are not in the entry itself",
        ),
        # The entry is in a file of its own.
        (
            {
                "boot/grub/grub.cfg": f"set default=own\nsource $prefix/custom.cfg\nmenuentry Xen {{\n{XEN}\n}}\n",
                "boot/grub/custom.cfg": f"menuentry own {{\n{XEN}\n}}\n",
            },
            "is not in /boot/grub/grub.cfg but in /boot/grub/custom.cfg",
        ),
        # What defines it is in another file, or in no file.
        (
            {
                "boot/grub/grub.cfg": f"source $prefix/custom.cfg\ndefine\nmenuentry Xen {{\n{XEN}\n}}\n",
                "boot/grub/custom.cfg": f"function define {{\nmenuentry own {{\n{XEN}\n}}\n}}\n",
            },
            "is not in /boot/grub/grub.cfg but in other files",
        ),
        (
            {"boot/grub/grub.cfg": f"eval 'menuentry own {{ {XEN.splitlines()[0]}; }}'\nmenuentry Xen {{\n{XEN}\n}}\n"},
            "is not in /boot/grub/grub.cfg but in other files",
        ),
        # A program writes the menu.
        ({"etc/default/grub": "GRUB_TIMEOUT=5\n"}, "a program writes the menu of grub2"),
        ({"etc/update-extlinux.conf": "xen_opts=\n"}, "a program writes the menu of extlinux"),
        ({"boot/grub/menu.lst": LEGACY_DEBIAN}, "update-grub writes entry 0 of /boot/grub/menu.lst"),
        # Nothing says which image boots.
        (
            {
                "efi/EFI/a/xen.efi": "",
                "efi/EFI/a/xen.cfg": SECTIONS.decode(),
                "efi/EFI/b/xen.efi": "",
                "efi/EFI/b/xen.cfg": SECTIONS.decode(),
            },
            "which configuration of xen.efi boots is not known: /efi/EFI/a/xen.cfg and /efi/EFI/b/xen.cfg",
        ),
        (
            {"boot/extlinux.conf": "UI other.c32\nLABEL xen\nCOM32 mboot.c32\nAPPEND xen.gz --- vmlinuz\n"},
            "chooses an entry in a way that is not known here",
        ),
    ],
)
@pytest.mark.parametrize("state", ["present", "absent"])
def test_what_cannot_be_told_apart_is_refused(tmp_path: Path, files: Dict[str, str], message: str, state: str) -> None:
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    before = tree(tmp_path)
    with pytest.raises(UserError) as refused:
        run(tmp_path, state=state)
    assert message in refused.value.what
    assert "et entries to all" in refused.value.remedy
    assert tree(tmp_path) == before
