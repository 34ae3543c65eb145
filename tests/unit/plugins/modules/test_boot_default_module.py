# Copyright (c) The xen.stubdom authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The module on a tree of files of its own, with an update-grub that is played.

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import pytest
from ansible_collections.xen.stubdom.plugins.module_utils._boot import loaders, targets
from ansible_collections.xen.stubdom.plugins.module_utils._common.errors import UserError
from ansible_collections.xen.stubdom.plugins.module_utils._xen.toolstack import Xen
from ansible_collections.xen.stubdom.plugins.modules import boot_default
from efi_program import SYSTEMD_BOOT
from efi_variables import efivars, load_option, systemd_variables
from grub_head import HEAD

DROP_IN = "etc/default/grub.d/zz-xen-stubdom-default.cfg"
# As Debian has it, without what it says.
XEN_CFG = """if [ "$XEN_OVERRIDE_GRUB_DEFAULT" = "" ]; then XEN_OVERRIDE_GRUB_DEFAULT=1; fi
if [ "$XEN_OVERRIDE_GRUB_DEFAULT" = "1" ]; then GRUB_DEFAULT="Debian GNU/Linux, with Xen hypervisor"; fi
"""
ENTRIES = """menuentry 'Debian GNU/Linux' $menuentry_id_option 'gnulinux-simple-1' {
\tlinux /boot/vmlinuz quiet
}
menuentry 'Debian GNU/Linux, with Xen hypervisor' $menuentry_id_option 'xen-gnulinux-simple-1' {
\tmultiboot2 /boot/xen-4.17-amd64.gz placeholder
\tmodule2 /boot/vmlinuz placeholder
}
"""


class Host:
    """A host as the module sees it."""

    check_mode = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self.params: Dict[str, Any] = {}
        self.entries = ENTRIES
        self.ignored = False
        self.calls: List[List[str]] = []
        self.put("etc/default/grub", "GRUB_DEFAULT=0\nGRUB_TIMEOUT=5\n")
        self.put("etc/default/grub.d/xen.cfg", XEN_CFG.replace("=1", "=0", 1))
        self.put("boot/xen-4.17-amd64.gz", "")
        self.put("usr/sbin/update-grub", "")
        self.update_grub()

    def only(self, tree: Optional[Path] = None) -> None:
        """Have nothing but the files of a tree."""
        shutil.rmtree(self.root)
        self.root.mkdir()
        if tree is not None:
            shutil.copytree(tree, self.root, dirs_exist_ok=True)
        for directory in self.root.glob("*/loader"):
            program = directory.parent / "EFI/systemd/systemd-bootx64.efi"
            program.parent.mkdir(parents=True)
            program.write_bytes(SYSTEMD_BOOT)

    def put(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def tree(self) -> Dict[str, bytes]:
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def update_grub(self) -> None:
        files = [self.root / "etc/default/grub", *sorted(self.root.glob("etc/default/grub.d/*.cfg"))]
        script = "".join(f". {path}\n" for path in files if path.exists())
        shown = subprocess.run(
            ["sh", "-c", f'{script}printf %s "$GRUB_DEFAULT"'], capture_output=True, text=True, check=True
        )
        default = {"saved": "${saved_entry}"}.get(shown.stdout, shown.stdout)
        default = "0" if self.ignored else default
        self.put("boot/grub/grub.cfg", f"### BEGIN /etc/grub.d/00_header ###\n{HEAD % default}{self.entries}")

    def run_command(self, arguments: List[str], **_options: Any) -> Tuple[int, str, str]:
        self.calls.append(arguments)
        if arguments == ["update-grub"]:
            self.update_grub()
            return 0, "", ""
        raise AssertionError(f"not expected: {arguments}")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(boot_default, "Xen", lambda run: Xen(run, root=str(tmp_path)))
    monkeypatch.setattr(
        targets, "find", lambda name, run, root, foreign, running: loaders.find(name, run, root=str(tmp_path))
    )
    return Host(tmp_path)


def run(host: Host, *, check: bool = False, **params: Any) -> Dict[str, Any]:
    host.params = {"state": "present", "loader": "auto", "root": "/", "regenerate": True, "backup": False, **params}
    host.check_mode = check
    return boot_default.run(host)  # type: ignore[arg-type]


def four_steps(host: Host, entry: str) -> None:
    """Present and absent, each in check mode, then done, then twice more; what was before is there again."""
    before = host.tree()
    for state, wanted in (("present", True), ("absent", False)):
        start = host.tree()
        first = run(host, check=True, state=state)
        assert host.tree() == start
        steps = [first, run(host, state=state), run(host, check=True, state=state), run(host, state=state)]
        assert [step["changed"] for step in steps] == [True, True, False, False]
        assert first["diff"] == steps[1]["diff"] != []
        assert [step["boots_xen"] for step in steps[1:]] == [wanted] * 3
        if wanted:
            assert [step["entry"] for step in steps] == [entry] * 4
    assert host.tree() == before


def test_four_steps_of_grub_with_files_that_are_read_last(host: Host) -> None:
    four_steps(host, "xen-gnulinux-simple-1")
    run(host)
    assert (host.root / DROP_IN).read_text().splitlines()[1] == "GRUB_DEFAULT='xen-gnulinux-simple-1'"


@pytest.mark.parametrize("text", ["GRUB_DEFAULT=0\n", "GRUB_DEFAULT=saved\nGRUB_TIMEOUT=1", ""])
def test_four_steps_of_grub_with_one_file(host: Host, text: str) -> None:
    (host.root / "etc/default/grub.d/xen.cfg").unlink()
    (host.root / "etc/default/grub.d").rmdir()
    host.put("etc/default/grub", text)
    host.update_grub()
    if text:
        four_steps(host, "xen-gnulinux-simple-1")
    else:
        assert run(host)["boots_xen"] is True


def test_an_entry_in_a_submenu_without_an_identity(host: Host) -> None:
    host.entries = "menuentry 'Linux' { linux /vmlinuz }\nsubmenu 'More > of it' {\nmenuentry 'With Xen' {\n"
    host.entries += "multiboot2 /boot/xen-4.17-amd64.gz placeholder\n}\n}\n"
    host.update_grub()
    four_steps(host, "More >> of it>With Xen")


def test_an_entry_of_the_administrator_is_the_last_choice(host: Host) -> None:
    own = "menuentry 'Maintenance' { multiboot2 /boot/xen-4.17-amd64.gz dom0_mem=2G }\n"
    host.entries = own + ENTRIES
    host.put("etc/default/grub", "GRUB_DEFAULT=1\n")
    host.update_grub()
    four_steps(host, "xen-gnulinux-simple-1")
    host.entries = own + "menuentry 'Linux' { linux /vmlinuz }\n"
    host.update_grub()
    assert run(host)["entry"] == "Maintenance"


def test_two_entries_of_one_name(host: Host) -> None:
    host.entries = "menuentry 'Same' { linux /vmlinuz }\nmenuentry 'Same' { multiboot2 /xen.gz placeholder }\n"
    host.entries += "menuentry 'Other' { multiboot2 /xen.gz placeholder }\n"
    host.update_grub()
    assert run(host)["entry"] == "Other"


def test_nothing_is_changed_where_xen_is_the_default(host: Host) -> None:
    host.put("etc/default/grub.d/xen.cfg", XEN_CFG)
    host.update_grub()
    before = host.tree()
    result = run(host)
    assert (result["changed"], result["boots_xen"], result["files"]) == (False, True, [])
    assert host.tree() == before


def test_a_menu_that_is_older_than_the_hypervisor(host: Host) -> None:
    host.entries = "menuentry 'Linux' { linux /vmlinuz }\n"
    host.update_grub()
    host.entries = ENTRIES
    result = run(host)
    assert (result["changed"], result["entry"], result["boots_xen"]) == (True, "xen-gnulinux-simple-1", True)


@pytest.mark.parametrize("entries", [ENTRIES, "menuentry 'Linux' { linux /vmlinuz }\n"])
def test_all_is_put_back_where_xen_would_not_start(host: Host, entries: str) -> None:
    host.entries, host.ignored = entries, True
    host.update_grub()
    host.put("boot/grub/grub.cfg", (host.root / "boot/grub/grub.cfg").read_text() + "# as it was\n")
    before = host.tree()
    with pytest.raises(UserError, match="would not start Xen by default|has no entry for Xen"):
        run(host)
    assert host.tree() == before


def test_the_next_start_alone_and_saved_entries_are_told(host: Host) -> None:
    host.put("boot/grub/grubenv", "# GRUB Environment Block\nnext_entry=gnulinux-simple-1\nsaved_entry=0\n####")
    host.put("etc/default/grub", "GRUB_DEFAULT=saved\n")
    host.update_grub()
    result = run(host, check=True)
    assert [
        word for text in result["warnings"] for word in ("next start alone", "GRUB_DEFAULT=saved") if word in text
    ] == [
        "next start alone",
        "GRUB_DEFAULT=saved",
    ]
    assert "is replaced" in result["warnings"][1]
    assert run(host)["warnings"] == result["warnings"]
    assert run(host)["boots_xen"] is True
    # What was selected once is empty after that start.
    host.put("boot/grub/grubenv", "# GRUB Environment Block\nsaved_entry=xen-gnulinux-simple-1\nnext_entry=\n####")
    run(host, state="absent")
    assert "may change it at any time" in run(host)["warnings"][0]


def test_without_a_new_menu_nothing_is_claimed(host: Host) -> None:
    result = run(host, regenerate=False)
    assert (result["changed"], result["boots_xen"]) == (True, False)
    assert run(host, regenerate=False)["changed"] is False


def test_a_backup_is_named(host: Host) -> None:
    (host.root / "etc/default/grub.d/xen.cfg").unlink()
    (host.root / "etc/default/grub.d").rmdir()
    menu = (host.root / "boot/grub/grub.cfg").read_bytes()
    kept = run(host, backup=True)["backup_files"]
    assert list(kept) == [str(host.root / path) for path in ("etc/default/grub", "boot/grub/grub.cfg")]
    assert Path(kept[str(host.root / "boot/grub/grub.cfg")]).read_bytes() == menu


@pytest.mark.parametrize("line", ["if true; then\n", "GRUB_TIMEOUT=5\\"])
def test_a_line_at_the_end_that_would_not_be_read(host: Host, line: str) -> None:
    (host.root / "etc/default/grub.d/xen.cfg").unlink()
    (host.root / "etc/default/grub.d").rmdir()
    host.put("etc/default/grub", line)
    before = host.tree()
    with pytest.raises(UserError, match="/etc/default/grub ends"):
        run(host)
    assert host.tree() == before


BY_HAND = {
    "with a line": "set timeout=5\n  set default=0\n" + ENTRIES.replace("$menuentry_id_option", "--id"),
    "as generated": HEAD % "0" + ENTRIES,
    "without a line": ENTRIES.replace("$menuentry_id_option", "--id"),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_four_steps_of_a_menu_that_is_kept_by_hand(host: Host, case: str) -> None:
    (host.root / "boot/grub/grub.cfg").write_bytes(BY_HAND[case].encode())
    four_steps(host, "xen-gnulinux-simple-1")
    assert ["update-grub"] not in host.calls


def test_a_menu_kept_by_hand_that_chooses_in_a_way_of_its_own(host: Host) -> None:
    host.put("boot/grub/grub.cfg", f"set default=1\n{ENTRIES}set 'default=0'\n")
    before = host.tree()
    with pytest.raises(UserError, match="decides alone which entry"):
        run(host)
    assert host.tree() == before


@pytest.mark.parametrize("default", ["default 0\n", "timeout 5\ndefault\tsaved\n", "", "default 0\r\n"])
def test_four_steps_of_grub_legacy(host: Host, default: str) -> None:
    for path in ("etc/default/grub", "boot/grub/grub.cfg", "usr/sbin/update-grub"):
        (host.root / path).unlink()
    menu = f"{default}title Linux\nkernel /vmlinuz\n\ntitle Xen\nkernel /boot/xen.gz\nmodule /vmlinuz\n"
    (host.root / "boot/grub/menu.lst").write_bytes(menu.encode())
    four_steps(host, "1")


FIXTURES = Path(__file__).parents[1] / "module_utils" / "_boot" / "fixtures" / "default_entry"
GOLDEN = sorted(path.name for path in FIXTURES.iterdir())
GOLDEN_ENTRIES = {"extlinux": "xen", "systemd": "xen.conf", "grub2": "Xen", "grub": "1"}


@pytest.mark.parametrize("case", GOLDEN)
def test_golden_trees(tmp_path: Path, host: Host, case: str) -> None:
    """fixtures/default_entry/CASE/input is what stands on the host, and present what becomes of it."""
    host.only(FIXTURES / case / "input")
    four_steps(host, GOLDEN_ENTRIES[case.split("-")[0]])
    run(host)
    wanted = {
        str(path.relative_to(FIXTURES / case / "present")): path.read_bytes()
        for path in (FIXTURES / case / "present").rglob("*")
        if path.is_file()
    }
    assert {path: content for path, content in host.tree().items() if path in wanted} == wanted
    assert host.calls == []


ALPINE = """# Generated by update-extlinux 6.04_pre1
DEFAULT menu.c32
PROMPT 0
TIMEOUT 30
LABEL xen-virt
{xen-virt}  MENU LABEL Xen + Linux 6.6.1-0-virt
  COM32 mboot.c32
  APPEND xen.gz  --- vmlinuz-virt root=UUID=1 --- initramfs-virt

LABEL xen-lts
{xen-lts}  MENU LABEL Xen + Linux 6.6.1-0-lts
  COM32 mboot.c32
  APPEND xen.gz  --- vmlinuz-lts root=UUID=1 --- initramfs-lts

LABEL lts
{lts}  MENU LABEL Linux 6.6.1-0-lts
  LINUX vmlinuz-lts

"""
UPDATE_EXTLINUX_CONF = "overwrite=1\ndefault=lts\nxen_opts=\n"


def alpine(host: Host, configuration: str = UPDATE_EXTLINUX_CONF, *, followed: bool = True) -> None:
    """Alpine, with an update-extlinux that is played."""

    def update_extlinux(arguments: List[str], **_options: Any) -> Tuple[int, str, str]:
        host.calls.append(arguments)
        script = f'. {host.root}/etc/update-extlinux.conf; printf %s "$default"'
        shown = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
        default = shown if followed else "lts"
        marks = {label: "  MENU DEFAULT\n" if label == default else "" for label in ("xen-virt", "xen-lts", "lts")}
        host.put("boot/extlinux.conf", ALPINE.format_map(marks))
        return 0, "", ""

    host.run_command = update_extlinux  # type: ignore[method-assign]
    host.only()
    host.put("etc/update-extlinux.conf", configuration)
    host.put("boot/xen.gz", "")
    host.put("sbin/update-extlinux", "")
    update_extlinux(["update-extlinux"])


@pytest.mark.parametrize("configuration", [UPDATE_EXTLINUX_CONF, "default='lts'", "default=lts # for us\n\n"])
def test_four_steps_of_alpine(host: Host, configuration: str) -> None:
    alpine(host, configuration)
    # The entry with the kernel that started without Xen.
    four_steps(host, "xen-lts")
    assert run(host)["files"] == [str(host.root / "etc/update-extlinux.conf")]
    assert (host.root / "etc/update-extlinux.conf").read_text().splitlines()[-1] == "default='xen-lts'"


def test_alpine_is_put_back_where_xen_would_not_start(host: Host) -> None:
    alpine(host, followed=False)
    before = host.tree()
    with pytest.raises(UserError, match="would not start Xen by default"):
        run(host)
    assert host.tree() == before


def test_a_menu_that_chooses_in_a_way_of_its_own(host: Host) -> None:
    host.only(FIXTURES / "extlinux-ui" / "input")
    menu = host.root / "boot/syslinux/syslinux.cfg"
    text = menu.read_text()
    for line in ("UI ifcpu.c32", "UI menu.c32 other.cfg", "UI menu.c32\nMENU SAVE"):
        menu.write_text(text.replace("UI menu.c32", line))
        before = host.tree()
        with pytest.raises(UserError, match="decides alone which entry starts") as raised:
            run(host)
        assert "Make 'xen' the default there by hand" in raised.value.remedy
        assert host.tree() == before
        assert run(host, state="absent")["changed"] is False


def plant(host: Host, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (host.root / name).parent.mkdir(parents=True, exist_ok=True)
        (host.root / name).write_bytes(content)


def set_variable(host: Host, name: str, value: str) -> None:
    plant(host, systemd_variables({name: value}))


def test_a_choice_in_the_firmware_wins_over_loader_conf(host: Host) -> None:
    host.only(FIXTURES / "systemd-boot" / "input")
    set_variable(host, "LoaderEntryDefault", "linux.conf")
    before = host.tree()
    with pytest.raises(UserError, match="LoaderEntryDefault decides") as raised:
        run(host)
    assert "bootctl set-default xen.conf" in raised.value.remedy
    assert host.tree() == before
    set_variable(host, "LoaderEntryDefault", "XEN.conf")
    result = run(host)
    assert (result["changed"], result["boots_xen"]) == (False, True)
    assert "LoaderEntryDefault" in result["warnings"][0]
    # One that matches nothing decides nothing.
    set_variable(host, "LoaderEntryDefault", "gone.conf")
    assert run(host)["changed"] is True


def test_what_starts_once_is_said_and_is_not_the_default(host: Host) -> None:
    host.only(FIXTURES / "systemd-boot" / "input")
    set_variable(host, "LoaderEntryOneShot", "xen.conf")
    result = run(host)
    assert (result["changed"], result["boots_xen"]) == (True, True)
    assert result["warnings"] == ["systemd-boot starts 'xen.conf' next (LoaderEntryOneShot)."]


def test_the_entries_of_the_firmware_are_not_changed(host: Host) -> None:
    host.only(FIXTURES / "systemd-boot" / "input")
    (host.root / "efi/loader/loader.conf").unlink()
    (host.root / "efi/loader/entries/xen.conf").unlink()
    (host.root / "efi/EFI/debian").mkdir()
    (host.root / "efi/EFI/debian/grubx64.efi").write_text("MZ")
    options = {1: load_option("/EFI/debian/grubx64.efi"), 2: load_option("/EFI/xen/xen.efi")}
    plant(host, efivars([1, 2], options))
    before = host.tree()
    with pytest.raises(UserError, match="does not change its boot entries") as raised:
        run(host)
    assert "efibootmgr" in raised.value.remedy
    assert host.tree() == before
    assert run(host, state="absent")["changed"] is False
    # Once is not by default.
    plant(host, efivars([1, 2], {}, following=2))
    with pytest.raises(UserError, match="does not change its boot entries"):
        run(host)
    assert run(host, state="absent")["warnings"] == ["The firmware starts Boot0002 next (BootNext)."]


def test_a_mounted_image_gets_the_files_and_nothing_of_it_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot_default, "Xen", lambda run: Xen(run, root="/nowhere"))
    image = Host(tmp_path)
    before = image.tree()
    image.calls.clear()
    steps = [run(image, root=str(tmp_path), check=check) for check in (True, False, True, False)]
    assert [step["changed"] for step in steps] == [True, True, False, False]
    # The menu of the image is as it was.
    assert [step["boots_xen"] for step in steps] == [False] * 4
    assert any("not generated" in sentence for sentence in steps[0]["unchecked"])
    assert run(image, root=str(tmp_path), state="absent")["changed"]
    assert image.tree() == before
    assert image.calls == []
